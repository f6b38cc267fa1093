"""A reward pool for the time of one test."""

import asyncio

from reward_actors.actor import RewardActor
from reward_actors.pool import RewardPool


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
