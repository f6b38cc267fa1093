"""The pool's autoscaler when growing goes wrong, or is overtaken; a crew without processes stands in, so that the
moment can be chosen."""

import asyncio

import pytest
from ray.exceptions import RayActorError

from configs.schema import Config
from reward_actors.pool import autoscaler
from reward_actors.pool.pool import RewardPool
from reward_actors.pool.queue import PullQueue


class Crew:
    """`actors` of them; those that are asked for come when `arrive` is set, or die on the way `deaths` times."""

    def __init__(self, actors, deaths=0):
        self.actors, self.deaths = actors, deaths
        self.queue, self.slots, self.restarts, self.restart_seconds = PullQueue(), [], 0, 0.0
        self.growing, self.arrive = asyncio.Event(), asyncio.Event()

    async def resize(self, actors):
        before, self.actors = self.actors, actors
        self.growing.set()
        try:
            if self.deaths:
                self.deaths -= 1
                raise RayActorError
            if actors > before:
                await self.arrive.wait()
        except BaseException:
            self.actors -= actors - before
            raise

    def reports(self):
        return {}

    def placeable(self):
        return 100


@pytest.fixture
def with_crew(monkeypatch):
    """Runs `work(pool, crew)` on a pool that looks at its load every few milliseconds."""
    monkeypatch.setattr(autoscaler, "LOOK_SECONDS", 0.005)

    def run(work, *crew):
        async def scene():
            pool = RewardPool(Config())
            pool._crew = pool._roster = Crew(*crew)
            pool._autoscaler = autoscaler.Autoscaler(pool._roster, pool.stats)
            return await asyncio.wait_for(work(pool, pool._crew), 10)

        return asyncio.run(scene())

    return run


def test_an_actor_that_dies_while_it_starts_does_not_end_autoscaling(with_crew):
    async def work(pool, crew):
        crew.arrive.set()
        pool.autoscale(3, 3)
        while crew.actors < 3 or len(pool.stats().scalings) < 2:
            await asyncio.sleep(0.005)
        return pool.stats().scalings

    scalings = with_crew(work, 1, 1)
    assert [(scaling.before, scaling.after, bool(scaling.trouble)) for scaling in scalings] == [
        (1, 3, True),
        (1, 3, False),
    ]


def test_a_number_set_by_hand_does_not_count_the_actors_that_autoscaling_was_starting(with_crew):
    async def work(pool, crew):
        pool.autoscale(6, 6)
        await crew.growing.wait()
        crew.arrive.set()
        await pool.resize(4)
        await asyncio.sleep(0.05)
        return crew.actors

    assert with_crew(work, 2) == 4
