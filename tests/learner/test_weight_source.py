"""Weight updates between the steps of a learner: whole turns of it, and an end to waiting. Stand-ins for all actors."""

import asyncio
import threading
import time
from types import SimpleNamespace

import pytest
import ray

from configs.schema import Config
from learner.distributed.group import LearnerError, LearnerGroup
from learner.distributed.weight_source import LearnerWeights
from learner.distributed.worker import LearnerWorker
from rollout.weights.manifest import Manifest
from rollout.weights.transfer import Endpoint
from rollout.weights.update import WeightUpdate


class StandIn:
    """A learner whose calls take turns with those of other threads, as `LearnerGroup`'s do. said: what happened."""

    def __init__(self):
        self.turn, self.said = threading.RLock(), []

    def step(self, name, seconds):
        with self.turn:
            time.sleep(seconds)
            self.said.append(name)

    def _call(self, name, result=None):
        with self.turn:
            self.said.append(name)
        time.sleep(0.05)  # time for a step to slip in
        return result

    def weight_manifest(self):
        return self._call("manifest", Manifest((), (), ()))

    def bind_weights(self, timeout):
        return self._call("bind", Endpoint("here", 1, 2))

    def open_weights(self, world_size):
        self._call("open")

    def send_weights(self, whole):
        return self._call("send", 7)


class Engine:
    def __init__(self, said):
        self._said = said

    def __getattr__(self, name):
        async def remote(*_):
            self._said.append(name)

        return SimpleNamespace(remote=remote)


def test_an_update_is_one_turn_of_the_learner_and_begins_with_it(tmp_path):
    async def scene():
        learner = StandIn()
        update, weights = WeightUpdate(Config(), str(tmp_path)), LearnerWeights(learner, Config())
        first = asyncio.create_task(asyncio.to_thread(learner.step, "step", 0.3))
        await asyncio.sleep(0.1)
        updating = asyncio.create_task(update.run([Engine(learner.said)], weights))
        await asyncio.sleep(0.1)
        second = asyncio.create_task(asyncio.to_thread(learner.step, "next step", 0))
        version = await updating
        await asyncio.gather(first, second)
        return version, learner.said

    version, said = asyncio.run(asyncio.wait_for(scene(), 20))
    assert version == 7
    assert said[:3] == ["step", "manifest", "bind"]
    assert said[-2:] == ["finish_update", "next step"]


def test_an_update_that_is_given_up_leaves_the_learner_to_its_steps():
    async def scene():
        learner = StandIn()
        weights = LearnerWeights(learner, Config())

        async def update():
            async with weights.turn():
                await weights.send(True)

        first = asyncio.create_task(asyncio.to_thread(learner.step, "step", 0.3))
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(update())
        await asyncio.sleep(0.1)
        waiting.cancel()
        await asyncio.gather(first, asyncio.to_thread(learner.step, "next step", 0))
        await update()
        return learner.said

    assert asyncio.run(asyncio.wait_for(scene(), 20)) == ["step", "next step", "send"]


def test_ranks_that_never_end_sending_are_taken_for_dead_although_they_answer(monkeypatch):
    def nothing_yet(futures, timeout):
        time.sleep(0.01)
        raise ray.exceptions.GetTimeoutError

    def gone(futures, timeout):
        raise ray.exceptions.RayActorError

    learner, closed = LearnerGroup.__new__(LearnerGroup), []
    monkeypatch.setattr(ray, "get", nothing_yet)
    call = SimpleNamespace(remote=lambda *_: "a future")
    rank = SimpleNamespace(bind_weights=call, open_weights=call, send_weights=call)
    learner.turn, learner._workers, learner._sending_seconds, learner._ended = threading.RLock(), [rank], 0.1, ""
    learner.close = lambda: closed.append(True)
    learner._check_pulse = lambda patience: None  # they answer
    for wait in (lambda: learner.bind_weights(1), lambda: learner.open_weights(2), learner.send_weights):
        with pytest.raises(LearnerError, match="does not end in 0.1 s"):
            wait()
    assert len(closed) == 3
    monkeypatch.setattr(ray, "get", gone)
    monkeypatch.setattr(ray, "wait", lambda futures, **_: ([], futures))
    with pytest.raises(LearnerError, match="Cause: .* does not end in 0.1 s"):  # who came after
        learner.bind_weights(1)


def test_a_rank_leaves_its_old_group_when_it_opens_another(monkeypatch):
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    config, left = Config(), []
    config.learner.gpus = config.rollout.gpus = 1.0
    rank = LearnerWorker(0, config)
    rank._trainer = SimpleNamespace(manifest=lambda: SimpleNamespace(bytes=64), device="cpu")
    rank.bind_weights(5)
    rank._sender._group = SimpleNamespace(destroy=lambda: left.append(True))
    rank.bind_weights(5)
    assert left == [True]
    rank._sender.close()
