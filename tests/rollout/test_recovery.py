"""What the pool counts when an engine is lost while it holds several prompts; a stand-in for its restart."""

import asyncio

from configs.schema import Config
from envs.samples import Group, Prompt
from rollout.pool import RolloutPool
from rollout.update import EngineLostError


def test_the_time_of_one_restart_counts_once_however_many_prompts_waited_for_it(tmp_path):
    async def scene():
        pool, restarted = RolloutPool(Config(), tmp_path), []
        pool._engines = ["lost"]

        async def restart(index, error):
            restarted.append(index)
            await asyncio.sleep(0.2)
            pool._engines[index] = "new"

        pool._restart = restart
        for _ in range(4):
            pool._recover(0, "lost", EngineLostError("gone"))
        places = [await asyncio.wait_for(pool._free.get(), 5) for _ in range(4)]
        return restarted, places, pool.stats().restart_seconds

    restarted, places, seconds = asyncio.run(scene())
    assert restarted == [0]
    assert places == [0] * 4
    assert 0.2 <= seconds < 0.4


def test_an_engine_that_is_lost_again_before_it_has_its_weights_is_started_once_more(tmp_path):
    async def scene():
        pool, restarts = RolloutPool(Config(), tmp_path), []
        pool._engines, pool._source = ["lost"], "the learner"

        async def restart(index, error):
            restarts.append(str(error))
            pool._engines[index] = f"new {len(restarts)}"

        async def send(engines):
            if engines == ["new 1"]:
                raise EngineLostError("gone again")

        pool._restart, pool._send = restart, send
        pool._recover(0, "lost", EngineLostError("gone"))
        return await asyncio.wait_for(pool._free.get(), 5), restarts, pool._engines

    assert asyncio.run(scene()) == (0, ["gone", "gone again"], ["new 2"])


class Engine:
    """Answers, or is lost."""

    def __init__(self, lost, weights):
        self.lost, self.weights = lost, weights
        self.generate = self

    async def remote(self, prompt, *options):
        if self.lost:
            raise EngineLostError("gone")
        return Group(prompt, (), self.weights)


def test_nothing_is_asked_of_a_new_engine_before_it_has_its_weights(tmp_path):
    """The lost engine had room for several prompts: its free places must not lead to the new one at once."""

    async def scene():
        pool = RolloutPool(Config(), tmp_path)
        pool._engines, pool._source = [Engine(lost=True, weights=7)], "the learner"
        for _ in range(4):
            pool._free.put_nowait(0)

        async def restart(index, error):
            pool._engines[index] = Engine(lost=False, weights=0)
            await asyncio.sleep(0.2)

        async def send(engines):
            await asyncio.sleep(0.1)
            engines[0].weights = 8

        pool._restart, pool._send = restart, send
        prompts = [Prompt(f"sample-{i}", None) for i in range(3)]
        return [group.weight_version async for group in pool.sample(prompts)]

    assert asyncio.run(scene()) == [8, 8, 8]
