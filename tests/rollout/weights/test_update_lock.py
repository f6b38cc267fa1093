"""Sampling and weight updates of one engine keep out of each other's way."""

import asyncio

from rollout.weights.lock import UpdateLock


def test_an_update_waits_for_those_inside_and_holds_back_those_who_come():
    async def scene():
        lock, events = UpdateLock(), []

        async def sample(name, seconds):
            async with lock.sampling():
                events.append(f"{name} begins")
                await asyncio.sleep(seconds)
                events.append(f"{name} ends")

        async def update():
            await lock.begin_update()
            events.append("update begins")
            await asyncio.sleep(0.02)
            events.append("update ends")
            await lock.end_update()

        first = [asyncio.create_task(sample(name, 0.05)) for name in "ab"]
        await asyncio.sleep(0.01)
        late = [asyncio.create_task(update())]
        await asyncio.sleep(0.01)
        late.append(asyncio.create_task(sample("c", 0)))
        await asyncio.gather(*first, *late)
        return events

    assert asyncio.run(scene()) == [
        *("a begins", "b begins", "a ends", "b ends"),
        *("update begins", "update ends", "c begins", "c ends"),
    ]


def test_a_request_that_fails_does_not_block_the_next_update():
    async def scene():
        lock = UpdateLock()
        try:
            async with lock.sampling():
                raise KeyError
        except KeyError:
            await asyncio.wait_for(lock.begin_update(), 1)

    asyncio.run(scene())
