"""A reward pool for the time of one test, and actors that stand in for those of Ray where a test is about the pool."""

import asyncio

from ray.exceptions import ObjectStoreFullError, RayActorError

from envs.types import Scored
from reward_actors.pool.batches import BatchedWorker
from reward_actors.pool.pool import RewardPool
from reward_actors.pool.stats import Ready, Report
from reward_actors.pool.worker import RewardActor


def in_pool(config, work, actor_class=RewardActor):
    """Runs the coroutine function `work(pool)` on a pool of its own; what `work` returns."""

    async def run():
        pool = RewardPool(config, actor_class)
        try:
            await pool.start()
            return await work(pool)
        finally:
            await pool.close()

    return asyncio.run(run())


class Fake(BatchedWorker):
    """What it does with a query is its `sample`: "fine", "poison", "large", or an event to wait for."""

    def __init__(self, prior="prior"):
        super().__init__()
        self.prior, self.count, self.asleep = prior, 0, False
        self.dead, self.noticed = False, asyncio.Event()

    def die(self):
        self.dead = True
        self.noticed.set()

    async def put(self, batch):
        asked = [query.sample for _, query in batch]
        if "large" in asked:
            raise ObjectStoreFullError
        if "poison" in asked:  # kills while it is unpacked: nobody hears that it has come
            self.die()
        await super().put(batch)

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

    async def open(self):
        return Ready(self.actor.prior, 0, self.actor.rows)

    def put(self, batch):
        return self._call(self.actor.put, batch)

    def take(self):
        return self._call(self.actor.take)

    def steps(self):
        return self._call(self.actor.steps)

    def kill(self):
        self.actor.die()

    async def _call(self, method, *given):
        if self.actor.dead:
            raise RayActorError
        dead = asyncio.ensure_future(self.actor.noticed.wait())
        answer = asyncio.ensure_future(method(*given))
        try:
            await asyncio.wait([dead, answer], return_when=asyncio.FIRST_COMPLETED)
            if dead.done():
                raise RayActorError
            return answer.result()
        finally:
            dead.cancel()
            answer.cancel()


class Fakes:
    """In the place of `RayActors`. started: all that were, in order."""

    def __init__(self, make, rows):
        self.make, self.rows, self.started = make, rows, []

    def create(self, name):
        self.started.append(self.make(len(self.started)))
        self.started[-1].rows = self.rows
        return Handle(self.started[-1])
