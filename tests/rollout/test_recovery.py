"""What happens when an engine is lost while it holds several prompts; a stand-in for its restart."""

import asyncio

import pytest
from ray.exceptions import RayTaskError

from configs.schema import Config
from envs.types import Group, Prompt
from rollout.pool import RolloutPool
from rollout.replicas import Engines
from rollout.weights.update import EngineLostError, WeightUpdate, WeightUpdateError


def test_the_time_of_one_restart_counts_once_however_many_prompts_waited_for_it(tmp_path):
    async def scene():
        engines, restarted = Engines(Config(), str(tmp_path), object), []
        engines.handles = ["lost"]

        async def restart(index, error):
            restarted.append(index)
            await asyncio.sleep(0.2)
            engines.handles[index] = "new"

        engines._restart = restart
        for _ in range(4):
            engines.lost(0, "lost", EngineLostError("gone"))
        places = [await asyncio.wait_for(engines.take(), 5) for _ in range(4)]
        return restarted, places, engines.stats.restart_seconds

    restarted, places, seconds = asyncio.run(scene())
    assert restarted == [0]
    assert places == [0] * 4
    assert 0.2 <= seconds < 0.4


def test_an_engine_that_is_lost_again_before_it_has_its_weights_is_started_once_more(tmp_path):
    async def scene():
        engines, restarts = Engines(Config(), str(tmp_path), object), []
        engines.handles, engines._source = ["lost"], "the learner"

        async def restart(index, error):
            restarts.append(str(error))
            engines.handles[index] = f"new {len(restarts)}"

        async def send(handles):
            if handles == ["new 1"]:
                raise EngineLostError("gone again")

        engines._restart, engines._send = restart, send
        engines.lost(0, "lost", EngineLostError("gone"))
        return await asyncio.wait_for(engines.take(), 5), restarts, engines.handles

    assert asyncio.run(scene()) == (0, ["gone", "gone again"], ["new 2"])


@pytest.mark.parametrize(
    ("cause", "raised"),
    [(EngineLostError("the engine ended"), EngineLostError), (ValueError("the engine ended"), WeightUpdateError)],
)
def test_a_failed_update_names_its_cause_without_the_traceback_that_ray_wraps_it_in(cause, raised):
    wrapped = RayTaskError("receive", "Traceback:\n  File ...", cause).as_instanceof_cause()

    async def fail():
        raise wrapped

    with pytest.raises(raised, match=r"(update|weights): the engine ended$"):
        asyncio.run(WeightUpdate(Config(), "policy")._together([fail()]))


class Engine:
    """Answers, or is lost."""

    def __init__(self, lost, weights):
        self.lost, self.weights = lost, weights
        self.generate = self

    async def remote(self, prompt, *options):
        if self.lost:
            raise EngineLostError("gone")
        return Group(prompt, (), self.weights)


def test_a_request_that_is_cancelled_while_its_engine_is_replaced_gives_its_place_back(tmp_path):
    async def scene():
        pool, prompt = RolloutPool(Config(), tmp_path), Prompt("sample", None)
        pool._engines.handles = [Engine(lost=False, weights=3)]
        pool._engines.free(0)
        async with pool._engines._weights:  # as long as a replacement lasts
            asking = asyncio.ensure_future(anext(pool.sample([prompt])))
            await asyncio.sleep(0.05)
            asking.cancel()
            await asyncio.wait([asking])
        return await asyncio.wait_for(anext(pool.sample([prompt])), 5)

    assert asyncio.run(scene()).weight_version == 3


def test_nothing_is_asked_of_a_new_engine_before_it_has_its_weights(tmp_path):
    """The lost engine had room for several prompts: its free places must not lead to the new one at once."""

    async def scene():
        pool = RolloutPool(Config(), tmp_path)
        engines = pool._engines
        engines.handles, engines._source = [Engine(lost=True, weights=7)], "the learner"
        for _ in range(4):
            engines.free(0)

        async def restart(index, error):
            engines.handles[index] = Engine(lost=False, weights=0)
            await asyncio.sleep(0.2)

        async def send(handles):
            await asyncio.sleep(0.1)
            handles[0].weights = 8

        engines._restart, engines._send = restart, send
        prompts = [Prompt(f"sample-{i}", None) for i in range(3)]
        return [group.weight_version async for group in pool.sample(prompts)]

    assert asyncio.run(scene()) == [8, 8, 8]
