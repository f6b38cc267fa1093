"""What becomes of queries whose actors die, hang or refuse them: a real crew and real places, but no Ray."""

import asyncio
import time
from types import SimpleNamespace

import pytest
from ray.exceptions import ObjectStoreFullError, RayActorError

from configs import UserError
from configs.schema import Reward
from envs.types import Failed, RewardQuery, Scored
from reward_actors.pool import replicas as rosters
from reward_actors.pool.dispatcher import Crew
from reward_actors.pool.parcels import ParcelActor
from reward_actors.pool.queue import Item
from reward_actors.pool.slot import Slot
from reward_actors.pool.stats import Report

PATIENCE = 0.4


class Fake(ParcelActor):
    """What it does with a query is its `sample`: "fine", "poison", "large", or an event to wait for."""

    def __init__(self, prior="prior"):
        super().__init__()
        self.prior, self.count, self.asleep = prior, 0, False
        self.dead, self.noticed = False, asyncio.Event()

    def die(self):
        self.dead = True
        self.noticed.set()

    async def put(self, parcel):
        asked = [query.sample for _, query in parcel]
        if "large" in asked:
            raise ObjectStoreFullError
        if "poison" in asked:  # kills while it is unpacked: nobody hears that it has come
            self.die()
        await super().put(parcel)

    async def score(self, query):
        if query.sample != "fine":
            await query.sample.wait()
        self.count += 1
        return Scored(1.0)

    def report(self):
        return Report(float(self.count))

    async def steps(self):
        while self.asleep:
            await asyncio.sleep(60)
        return self.count


class Handle:
    """Calls an actor as Ray does: a call to one that is dead raises, one that is under way once that is noticed."""

    def __init__(self, actor):
        self.actor = actor

    def __getattr__(self, method):
        return SimpleNamespace(remote=lambda *given: asyncio.ensure_future(self._call(method, given)))

    async def _call(self, method, given):
        if self.actor.dead:
            raise RayActorError
        dead = asyncio.ensure_future(self.actor.noticed.wait())
        answer = asyncio.ensure_future(getattr(self.actor, method)(*given))
        try:
            await asyncio.wait([dead, answer], return_when=asyncio.FIRST_COMPLETED)
            if dead.done():
                raise RayActorError
            return answer.result()
        finally:
            dead.cancel()
            answer.cancel()


@pytest.fixture
def with_crew(monkeypatch):
    """Runs `work(crew)` on a crew of fakes; what `make(number)` makes is the n-th to be started."""

    def run(work, actors=1, make=lambda number: Fake(), rows=4, patience=PATIENCE):
        started = []

        async def open_fake(slot, *_):
            started.append(make(len(started)))
            slot.actor, slot.fingerprint, slot.rows, slot.live = Handle(started[-1]), started[-1].prior, rows, True

        async def scene():
            crew = Crew(object, Reward(timeout=patience), 64)
            crew.started = started
            await crew.roster.resize(actors)
            await asyncio.sleep(0.01)  # all are listened to
            try:
                return await asyncio.wait_for(work(crew), 20)
            finally:
                await crew.close()

        monkeypatch.setattr(Slot, "open", open_fake)
        monkeypatch.setattr("ray.kill", lambda handle: handle.actor.die())
        monkeypatch.setattr(rosters, "BACK_OFF_SECONDS", (0.0, 0.0))
        return asyncio.run(scene())

    return run


def ask(crew, *samples):
    """Items about `samples`, put into the queue together."""
    loop = asyncio.get_running_loop()
    items = [Item(RewardQuery(f"{i}", sample), loop.create_future()) for i, sample in enumerate(samples)]
    for item in items:
        crew.put(item)
    return items


async def answers(items):
    return await asyncio.gather(*(item.result for item in items))


def test_when_a_node_dies_with_its_idle_actors_the_query_that_was_there_is_not_to_blame(with_crew):
    async def work(crew):
        items = ask(crew, event := asyncio.Event())
        await asyncio.sleep(0.02)
        lost = list(crew.started)
        for actor in lost:
            actor.dead = True
        for actor in lost:  # each is noticed by itself, while those before it are asked again
            actor.die()
            await asyncio.sleep(0.005)
        event.set()
        return await answers(items), items[0].deaths, crew.roster.restarts

    assert with_crew(work, actors=6) == ([Scored(1.0)], 0, 6)


def test_a_query_that_kills_while_it_is_unpacked_is_found_out(with_crew):
    async def work(crew):
        found = await answers(ask(crew, "fine", "poison", "fine"))
        await asyncio.sleep(0.02)
        return found, crew.roster.restarts

    (first, second, third), restarts = with_crew(work)
    assert (first, third) == (Scored(1.0), Scored(1.0))
    assert second.reason.startswith("it ended 2 actors")
    assert restarts == 3  # once in company, twice alone


def test_an_idle_actor_that_dies_is_started_anew(with_crew):
    async def work(crew):
        crew.started[0].die()
        await asyncio.sleep(0.05)
        return len(crew.started), crew.roster.slots[0].live

    assert with_crew(work) == (2, True)


def test_after_a_query_that_could_not_be_sent_the_next_answers_are_heard(with_crew):
    async def work(crew):
        lost = await answers(ask(crew, "large"))
        await asyncio.sleep(1.5 * PATIENCE)
        began = time.monotonic()
        found = await answers(ask(crew, "fine"))
        return lost, found, time.monotonic() - began, crew.roster.restarts

    (lost,), found, seconds, restarts = with_crew(work)
    assert isinstance(lost, Failed)
    assert found == [Scored(1.0)]
    assert seconds < PATIENCE
    assert restarts == 0


def test_a_hang_is_noticed_after_one_deadline_even_if_it_begins_with_the_query(with_crew):
    """One actor answers and takes no step, the other does not even answer."""

    async def work(crew):
        crew.started[1].asleep = True
        ask(crew, asyncio.Event(), asyncio.Event())
        began, noticed = time.monotonic(), []
        while len(noticed) < 2:
            await asyncio.sleep(0.01)
            noticed += [time.monotonic() - began] * (len(crew.started) - 2 - len(noticed))
        return noticed

    first, second = with_crew(work, actors=2, patience=1.0)
    assert 1.0 <= first <= second < 1.4


def test_an_actor_that_steps_on_is_given_all_the_time_it_needs(with_crew):
    async def work(crew):
        items = ask(crew, event := asyncio.Event())
        for _ in range(8):
            await asyncio.sleep(0.4 * PATIENCE)
            crew.started[0].count += 1
        event.set()
        return await answers(items), crew.roster.restarts

    assert with_crew(work) == ([Scored(1.0)], 0)


def test_a_query_that_is_asked_again_waits_from_then_on(with_crew):
    async def work(crew):
        item = Item(RewardQuery("old", "fine"), asyncio.get_running_loop().create_future())
        item.since -= 100
        crew._again(item, "its actor died", hopeless=False)
        return crew.queue.age()

    assert with_crew(work) < 1


def test_restarts_count_only_as_long_as_nothing_is_restored_between_them(with_crew, monkeypatch, capsys):
    monkeypatch.setattr(rosters, "MAX_RESTARTS", 2)

    found = []

    async def work(crew):
        for _ in range(5):
            crew.started[-1].die()
            found.extend(await answers(ask(crew, "fine")))
        await answers(ask(crew, "poison"))  # kills three
        await asyncio.sleep(0.02)
        await answers(ask(crew, "fine"))

    with pytest.raises(UserError, match="no reward actor is left.*Put that right"):
        with_crew(work)
    assert found == [Scored(1.0)] * 5
    assert "reward actor reward-0 is given up after 2 starts without a restoration" in capsys.readouterr().out


def test_a_lone_actor_with_another_prior_is_not_let_in(with_crew, monkeypatch):
    monkeypatch.setattr(rosters, "MAX_RESTARTS", 1)

    async def work(crew):
        crew.started[0].die()
        await answers(ask(crew, "fine"))

    with pytest.raises(UserError, match="reward-0 loaded another prior.*start the job anew"):
        with_crew(work, make=lambda number: Fake(f"prior {number}"))


def test_actors_that_left_are_counted_together(with_crew):
    async def work(crew):
        for actors in (3, 1, 3, 1):
            await crew.roster.resize(actors)
            await answers(ask(crew, *["fine"] * 8))
            await asyncio.sleep(0.02)
        return crew.roster.reports()

    reports = with_crew(work, rows=2)
    assert list(reports) == ["reward-0", rosters.LEFT]
    assert sum(report.busy for report, _ in reports.values()) == 32
