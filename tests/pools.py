"""A reward pool for the time of one test."""

import asyncio

from reward_actors.pool.pool import RewardPool
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
