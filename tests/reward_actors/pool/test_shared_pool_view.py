"""What a job sees of a pool it shares, and that it asks again where the pool took it for dead; no Ray."""

import asyncio
from types import SimpleNamespace

from sharing import picture, queries, settings

from envs.environment import OnlineEnvironment
from envs.taxonomy import TAXONOMY
from envs.types import Failed, Gated, Prompt, Scored
from reward_actors.pool.pool import CLIENT_GONE
from reward_actors.pool.shared.client import PoolView, SharedPool
from reward_actors.pool.shared.host import Scores
from reward_actors.pool.stats import Counts, PoolStats


class Host:
    """Answers its first call as a pool that has given its client up: some queries are lost."""

    def __init__(self, *lost):
        self.lost, self.asked = lost, []
        self.score_for = SimpleNamespace(remote=self._score)

    async def _score(self, client, asked, priority):
        self.asked.append([query.degradation["sigma"] for query in asked])
        lost, self.lost = self.lost, ()
        answers = [Failed(CLIENT_GONE) if i in lost else Scored(sigma) for i, sigma in enumerate(self.asked[-1])]
        return Scores(tuple(answers), f"quota {len(self.asked)}", Counts(asked=len(asked)))


def sharing(host, environment=None):
    pool = SharedPool(settings(pool="shared"), environment)
    pool._host = host
    return pool


def test_what_the_pool_dropped_while_the_job_was_stopped_is_asked_again():
    host = Host(1, 3)
    pool = sharing(host)
    answers = asyncio.run(pool.score(queries(picture(1), 4)))
    assert [answer.reward for answer in answers] == host.asked[0]
    assert host.asked[1] == [host.asked[0][1], host.asked[0][3]]
    assert pool.stats().asked == 6


def test_what_the_gate_turns_away_never_leaves_the_job():
    host, prompt = Host(), Prompt("picture", picture(1))
    pool = sharing(host, OnlineEnvironment([prompt], TAXONOMY))
    verdicts = asyncio.run(pool.judge(prompt, ["haze, perhaps", "[T-blur][K-sigma][V-1.20]"], priority=3))
    assert [type(verdict) for verdict in verdicts] == [Gated, Scored]
    assert (verdicts[1].reward, host.asked) == (1.2, [[1.2]])


def test_a_job_that_has_left_asks_for_nothing_more():
    host = Host(0, 1)
    pool = sharing(host)
    pool._closed = True
    assert asyncio.run(pool.score(queries(picture(1), 2))) == [Failed(CLIENT_GONE)] * 2
    assert len(host.asked) == 1


def test_counts_go_on_where_another_quota_begins_and_what_comes_late_changes_nothing():
    view = PoolView()
    view.count("a", Counts(asked=9, scored=5))
    view.count("a", Counts(asked=9, scored=3))
    view.count("b", Counts(asked=2, memo_hits=2))
    assert (view.stats().asked, view.stats().scored, view.stats().memo_hits) == (11, 5, 2)


def test_sums_go_on_where_another_pool_takes_over_and_all_else_is_the_present_pool_s():
    view = PoolView()
    view.update(PoolStats(asked=99, actors=4, restarts=2, image_steps=100, busy={"reward-0": 3.0, "left": 1.0}))
    view.change_pool()
    assert (view.stats().restarts, view.stats().busy) == (2, {"reward-0": 3.0, "left": 1.0})
    view.update(PoolStats(asked=1, actors=1, image_steps=7, busy={"reward-0": 0.5, "reward-1": 0.5}))
    now = view.stats()
    assert (now.asked, now.actors, now.restarts, now.image_steps) == (0, 1, 2, 107)
    assert now.busy == {"reward-0": 3.5, "reward-1": 0.5, "left": 1.0}
    view.change_pool()
    view.update(PoolStats(image_steps=1))
    assert view.stats().image_steps == 108
