import asyncio

from rollout.stats import BusyClock
from rollout.weights.lock import UpdateGate


def test_an_update_waits_for_those_inside_and_holds_back_those_who_come():
    async def scene():
        gate, events = UpdateGate(), []

        async def sample(name, seconds):
            async with gate.sampling():
                events.append(f"{name} begins")
                await asyncio.sleep(seconds)
                events.append(f"{name} ends")

        async def update():
            await gate.close()
            events.append("update begins")
            await asyncio.sleep(0.02)
            events.append("update ends")
            await gate.open()

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
        gate = UpdateGate()
        try:
            async with gate.sampling():
                raise KeyError
        except KeyError:
            await asyncio.wait_for(gate.close(), 1)

    asyncio.run(scene())


def test_overlapping_work_is_busy_time_once():
    async def scene():
        clock = BusyClock()

        async def work():
            with clock:
                await asyncio.sleep(0.1)

        await asyncio.gather(work(), work(), work())
        return clock.seconds

    assert 0.09 < asyncio.run(scene()) < 0.25
