"""What becomes of queries whose actors die, hang or refuse them: a real dispatcher and real replicas, but no Ray."""

import asyncio
import time

import pytest
from pools import Fake, Fakes

from configs import UserError
from envs.types import Failed, RewardQuery, Scored
from reward_actors.pool import replicas as replica_sets
from reward_actors.pool.batches import RejectedQueryError
from reward_actors.pool.dispatcher import Dispatcher
from reward_actors.pool.queue import QueryState, QueuedQuery
from reward_actors.pool.replica import ReplicaState

TIMEOUT = 0.4


@pytest.fixture
def with_dispatcher(monkeypatch):
    """Runs `work(dispatcher)` on a dispatcher of fakes; what `make(number)` makes is the n-th to be started."""

    def run(work, actors=1, make=lambda number: Fake(), rows=4, timeout=TIMEOUT):
        fakes = Fakes(make, rows)

        async def scene():
            dispatcher = Dispatcher(fakes, timeout)
            dispatcher.started = fakes.started
            await dispatcher.replicas.resize(actors)
            await asyncio.sleep(0.01)  # all are listened to
            try:
                return await asyncio.wait_for(work(dispatcher), 20)
            finally:
                await dispatcher.close()

        monkeypatch.setattr(replica_sets, "BACK_OFF_SECONDS", (0.0, 0.0))
        return asyncio.run(scene())

    return run


def ask(dispatcher, *samples):
    """Items about `samples`, put into the queue together."""
    loop = asyncio.get_running_loop()
    items = [QueuedQuery(RewardQuery(f"{i}", sample), loop.create_future()) for i, sample in enumerate(samples)]
    for item in items:
        dispatcher.put(item)
    return items


async def answers(items):
    return await asyncio.gather(*(item.result for item in items))


def test_when_a_node_dies_with_its_idle_actors_the_query_that_was_there_is_not_to_blame(with_dispatcher):
    async def work(dispatcher):
        items = ask(dispatcher, event := asyncio.Event())
        await asyncio.sleep(0.02)
        lost = list(dispatcher.started)
        for actor in lost:
            actor.dead = True
        for actor in lost:  # each is noticed by itself, while those before it are asked again
            actor.die()
            await asyncio.sleep(0.005)
        event.set()
        return await answers(items), items[0].attempts, dispatcher.replicas.restarts

    assert with_dispatcher(work, actors=6) == ([Scored(1.0)], 0, 6)


def test_a_query_that_kills_while_it_is_unpacked_is_found_out(with_dispatcher):
    async def work(dispatcher):
        found = await answers(ask(dispatcher, "fine", "poison", "fine"))
        await asyncio.sleep(0.02)
        return found, dispatcher.replicas.restarts

    (first, second, third), restarts = with_dispatcher(work)
    assert (first, third) == (Scored(1.0), Scored(1.0))
    assert second.reason.startswith("it ended 2 actors")
    assert restarts == 3  # once in company, twice alone


def test_an_idle_actor_that_dies_is_started_anew(with_dispatcher):
    async def work(dispatcher):
        dispatcher.started[0].die()
        await asyncio.sleep(0.05)
        return len(dispatcher.started), dispatcher.replicas.replicas[0].state

    assert with_dispatcher(work) == (2, ReplicaState.READY)


def test_after_a_query_that_could_not_be_sent_the_next_answers_are_heard(with_dispatcher):
    async def work(dispatcher):
        lost = await answers(ask(dispatcher, "large"))
        await asyncio.sleep(1.5 * TIMEOUT)
        began = time.monotonic()
        found = await answers(ask(dispatcher, "fine"))
        return lost, found, time.monotonic() - began, dispatcher.replicas.restarts

    (lost,), found, seconds, restarts = with_dispatcher(work)
    assert isinstance(lost, Failed)
    assert found == [Scored(1.0)]
    assert seconds < TIMEOUT
    assert restarts == 0


def test_a_hang_is_noticed_after_one_deadline_even_if_it_begins_with_the_query(with_dispatcher):
    """One actor answers and takes no step, the other does not even answer."""

    async def work(dispatcher):
        dispatcher.started[1].asleep = True
        ask(dispatcher, asyncio.Event(), asyncio.Event())
        began, noticed = time.monotonic(), []
        while len(noticed) < 2:
            await asyncio.sleep(0.01)
            noticed += [time.monotonic() - began] * (len(dispatcher.started) - 2 - len(noticed))
        return noticed

    first, second = with_dispatcher(work, actors=2, timeout=1.0)
    assert 1.0 <= first <= second < 1.4


def test_an_actor_that_steps_on_is_given_all_the_time_it_needs(with_dispatcher):
    async def work(dispatcher):
        items = ask(dispatcher, event := asyncio.Event())
        for _ in range(8):
            await asyncio.sleep(0.4 * TIMEOUT)
            dispatcher.started[0].count += 1
        event.set()
        return await answers(items), dispatcher.replicas.restarts

    assert with_dispatcher(work) == ([Scored(1.0)], 0)


def test_a_query_that_is_asked_again_waits_from_then_on(with_dispatcher):
    async def work(dispatcher):
        (item,) = ask(dispatcher, asyncio.Event())
        await asyncio.sleep(0.1)
        before = item.since
        dispatcher.started[0].die()
        while item.state is not QueryState.ISOLATED:
            await asyncio.sleep(0.001)
        return item.since - before

    assert with_dispatcher(work) >= 0.1


def test_restarts_count_only_as_long_as_nothing_is_restored_between_them(with_dispatcher, monkeypatch, capsys):
    monkeypatch.setattr(replica_sets, "MAX_RESTARTS", 2)

    found = []

    async def work(dispatcher):
        for _ in range(5):
            dispatcher.started[-1].die()
            found.extend(await answers(ask(dispatcher, "fine")))
        await answers(ask(dispatcher, "poison"))  # kills three
        await asyncio.sleep(0.02)
        await answers(ask(dispatcher, "fine"))

    with pytest.raises(UserError, match="no reward actor is left.*Put that right"):
        with_dispatcher(work)
    assert found == [Scored(1.0)] * 5
    assert "reward actor reward-0 is given up after 2 starts without a restoration" in capsys.readouterr().out


def test_a_lone_actor_with_another_prior_is_not_let_in(with_dispatcher, monkeypatch):
    monkeypatch.setattr(replica_sets, "MAX_RESTARTS", 1)

    async def work(dispatcher):
        dispatcher.started[0].die()
        await answers(ask(dispatcher, "fine"))

    with pytest.raises(UserError, match="reward-0 loaded another prior.*start the job anew"):
        with_dispatcher(work, make=lambda number: Fake(f"prior {number}"))


def test_actors_that_left_are_counted_together(with_dispatcher):
    async def work(dispatcher):
        for actors in (3, 1, 3, 1):
            await dispatcher.replicas.resize(actors)
            await answers(ask(dispatcher, *["fine"] * 8))
            await asyncio.sleep(0.02)
        return dispatcher.replicas.reports()

    reports = with_dispatcher(work, rows=2)
    assert list(reports) == ["reward-0", replica_sets.LEFT]
    assert sum(report.busy for report in reports.values()) == 32


def test_an_answer_that_is_final_is_not_asked_for_again(with_dispatcher):
    class Rejecting(Fake):
        asked = 0

        async def score(self, query):
            self.asked += 1
            raise RejectedQueryError("no colours") if query.sample == "rejected" else ValueError("odd")

    async def work(dispatcher):
        found = await answers(ask(dispatcher, "rejected", "odd"))
        return found, dispatcher.started[0].asked

    assert with_dispatcher(work, make=lambda number: Rejecting()) == (
        [Failed("no colours"), Failed("ValueError: odd")],
        3,
    )


def test_a_thousand_actors_on_a_clock_that_jumps_need_no_more_than_seconds():
    """The dispatcher takes time from its event loop alone, and its actors from a factory: so it can be simulated."""

    class Jumping(asyncio.SelectorEventLoop):
        ahead = 0.0

        def time(self):
            return super().time() + self.ahead

        def _run_once(self):
            if not self._ready and self._scheduled:
                self.ahead += max(0.0, self._scheduled[0].when() - self.time())
            super()._run_once()

    class Sleeping(Fake):
        async def score(self, query):
            await asyncio.sleep(100)
            self.count += 1
            return Scored(1.0)

    async def work():
        dispatcher, loop = Dispatcher(Fakes(lambda number: Sleeping(), rows=4), 1000.0), asyncio.get_running_loop()
        await dispatcher.replicas.resize(1000)
        began = loop.time()
        found = await answers(ask(dispatcher, *["fine"] * 8000))
        await dispatcher.close()
        return found, loop.time() - began

    began = time.monotonic()
    with asyncio.Runner(loop_factory=Jumping) as runner:
        found, seconds = runner.run(work())
    assert found == [Scored(1.0)] * 8000
    assert 200 <= seconds < 260
    assert time.monotonic() - began < 60
