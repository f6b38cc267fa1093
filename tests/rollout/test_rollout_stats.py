"""What the pool counts."""

import asyncio

from rollout.stats import BusyClock


def test_overlapping_work_is_busy_time_once():
    async def scene():
        clock = BusyClock()

        async def work():
            with clock:
                await asyncio.sleep(0.1)

        await asyncio.gather(work(), work(), work())
        return clock.seconds

    assert 0.09 < asyncio.run(scene()) < 0.25
