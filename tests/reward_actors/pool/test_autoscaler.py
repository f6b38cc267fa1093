"""The pool's autoscaler when growing goes wrong, or is overtaken; actors without processes stand in, so that the
moment can be chosen."""

import asyncio

import pytest
from ray.exceptions import RayActorError

from configs.schema import Config
from reward_actors.pool import autoscaler
from reward_actors.pool.pool import RewardPool
from reward_actors.pool.stats import Ready


class Actor:
    """Is open when `arrive` is set, or dies on the way; does nothing."""

    def __init__(self, arrive, dies):
        self.arrive, self.dies = arrive, dies

    async def open(self):
        if self.dies:
            raise RayActorError
        await self.arrive.wait()
        return Ready("prior", 0, 1)

    async def take(self):
        await asyncio.Event().wait()

    def kill(self): ...


class Actors:
    """In the place of `RayActors`. The first ones come at once; of those after them so many die on the way."""

    def __init__(self, first, deaths=0):
        self.left, self.deaths, self.arrive = first, deaths, asyncio.Event()
        self.growing = asyncio.Event()

    def create(self, name):
        self.left -= 1
        if self.left >= 0:
            there = asyncio.Event()
            there.set()
            return Actor(there, False)
        self.growing.set()
        self.deaths -= 1
        return Actor(self.arrive, self.deaths >= 0)

    def capacity(self):
        return 100


@pytest.fixture
def with_actors(monkeypatch):
    """Runs `work(pool, actors)` on a pool that looks at its load every few milliseconds."""
    monkeypatch.setattr(autoscaler, "LOOK_SECONDS", 0.005)

    def run(work, first, deaths=0):
        async def scene():
            config, actors = Config(), Actors(first, deaths)
            config.reward.actors = first
            pool = RewardPool(config, actors=actors)
            await pool.start()
            try:
                return await asyncio.wait_for(work(pool, actors), 10)
            finally:
                await pool.close()

        return asyncio.run(scene())

    return run


def test_an_actor_that_dies_while_it_starts_does_not_end_autoscaling(with_actors):
    async def work(pool, actors):
        actors.arrive.set()
        pool.autoscale(3, 3)
        while pool.stats().actors < 3 or len(pool.stats().scalings) < 2:
            await asyncio.sleep(0.005)
        return pool.stats().scalings

    scalings = with_actors(work, 1, 2)
    assert [(scaling.before, scaling.after, bool(scaling.trouble)) for scaling in scalings] == [
        (1, 3, True),
        (1, 3, False),
    ]


def test_a_number_set_by_hand_does_not_count_the_actors_that_autoscaling_was_starting(with_actors):
    async def work(pool, actors):
        pool.autoscale(6, 6)
        await actors.growing.wait()
        actors.arrive.set()
        await pool.resize(4)
        await asyncio.sleep(0.05)
        return pool.stats().actors

    assert with_actors(work, 2) == 4
