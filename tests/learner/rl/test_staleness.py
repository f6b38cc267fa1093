"""Who samples when: ahead of the learner, but no further than max_staleness allows."""

import asyncio

import pytest

from learner.rl.staleness import Pace, steps_ahead


@pytest.mark.parametrize("staleness", [0, 1, 3])
def test_groups_are_sampled_once_the_weights_are_new_enough(staleness):
    order = []

    async def collect(pace, step):
        await pace.fresh(step)
        order.append((step, pace.version))

    async def run():
        pace = Pace(staleness)
        steps = [asyncio.create_task(collect(pace, step)) for step in range(6)]
        for version in range(6):
            await pace.reach(version)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        await asyncio.gather(*steps)

    asyncio.run(asyncio.wait_for(run(), 5))
    assert [step for step, _ in order] == list(range(6))
    assert all(version >= step - staleness for step, version in order)
    assert order[-1] == (5, 5 - staleness)  # no later than it may


def test_what_is_asked_for_ends_with_the_job():
    assert list(steps_ahead(4, 1, 10)) == [4, 5]
    assert list(steps_ahead(9, 1, 10)) == [9]
