"""Queries that travel together are answered one by one; no Ray."""

import asyncio

import pytest

from configs import UserError
from envs.taxonomy import TAXONOMY
from envs.types import Failed, RewardQuery, Scored
from reward_actors.pool.batches import BatchedWorker
from reward_actors.pool.stats import Report

ANSWER = TAXONOMY.degradation("blur", {"sigma": 1.0})


class Patient(BatchedWorker):
    """Each query lasts until its `sample`, an event, is set; an exception is raised instead."""

    scored = 0

    async def score(self, query):
        if isinstance(query.sample, Exception):
            raise query.sample
        await query.sample.wait()
        self.scored += 1
        return Scored(0.0)

    def report(self):
        return Report(float(self.scored))

    async def steps(self):
        return self.scored


async def in_batch(*samples):
    actor = Patient()
    await actor.put([(serial, RewardQuery(f"{serial}", sample, ANSWER)) for serial, sample in enumerate(samples)])
    return actor


def test_a_query_that_is_done_does_not_wait_for_its_neighbours():
    async def work():
        slow, fast = asyncio.Event(), asyncio.Event()
        actor = await in_batch(slow, fast, slow)
        fast.set()
        first = await asyncio.wait_for(actor.take(), 5)
        slow.set()
        return first, await asyncio.wait_for(actor.take(), 5)

    first, second = asyncio.run(work())
    assert [answer.serial for answer in first.answers] == [1]
    assert sorted(answer.serial for answer in second.answers) == [0, 2]
    assert (first.report.busy, second.report.busy) == (1, 3)
    assert (first.steps, second.steps) == (1, 3)


def test_what_is_done_by_then_is_picked_up_in_one_call():
    async def work():
        done = asyncio.Event()
        done.set()
        actor = await in_batch(*[done] * 8)
        await asyncio.sleep(0.01)
        return await asyncio.wait_for(actor.take(), 5)

    assert [answer.serial for answer in asyncio.run(work()).answers] == list(range(8))


def test_nothing_is_handed_out_before_something_is_done():
    async def work():
        await asyncio.wait_for((await in_batch(asyncio.Event())).take(), 0.05)

    with pytest.raises(TimeoutError):
        asyncio.run(work())


def test_an_error_is_the_answer_of_its_own_query_alone():
    async def work():
        done = asyncio.Event()
        done.set()
        actor = await in_batch(done, ValueError("odd"), UserError("no clean picture"))
        await asyncio.sleep(0.01)
        return {answer.serial: answer.result for answer in (await actor.take()).answers}

    results = asyncio.run(work())
    assert isinstance(results[0], Scored)
    assert results[1] == Failed("ValueError: odd")
    assert isinstance(results[2], UserError)
