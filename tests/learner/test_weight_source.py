"""Weight updates between the steps of a learner: in turn, and an end to waiting. Stand-ins for all actors."""

import asyncio
import threading
import time
from types import SimpleNamespace

import pytest
import ray

from learner.distributed.group import LearnerError, LearnerGroup
from learner.distributed.weight_source import LearnerWeights


class StandIn:
    """A learner whose calls exclude those of other threads, as `LearnerGroup`'s do. events: what happened."""

    def __init__(self):
        self._lock, self.events = threading.Lock(), []

    def step(self, name, seconds):
        with self._lock:
            time.sleep(seconds)
            self.events.append(name)

    def send_weights(self, engines, whole):
        with self._lock:
            self.events.append(("send", engines, whole))
            return 7


def test_weights_are_sent_after_the_step_that_is_under_way_and_before_the_next():
    async def scene():
        learner = StandIn()
        first = asyncio.create_task(asyncio.to_thread(learner.step, "step", 0.3))
        await asyncio.sleep(0.1)
        updating = asyncio.create_task(LearnerWeights(learner).send(["engine"], True))
        version = await updating
        await asyncio.gather(first, asyncio.to_thread(learner.step, "next step", 0))
        return version, learner.events

    version, events = asyncio.run(asyncio.wait_for(scene(), 20))
    assert version == 7
    assert events == ["step", ("send", ["engine"], True), "next step"]


def test_an_update_that_is_given_up_leaves_the_learner_to_its_steps():
    async def scene():
        learner = StandIn()
        first = asyncio.create_task(asyncio.to_thread(learner.step, "step", 0.3))
        await asyncio.sleep(0.1)
        updating = asyncio.create_task(LearnerWeights(learner).send([], True))
        await asyncio.sleep(0.1)
        updating.cancel()
        await asyncio.gather(first, asyncio.to_thread(learner.step, "next step", 0))
        return learner.events

    events = asyncio.run(asyncio.wait_for(scene(), 20))
    assert events[0] == "step"
    assert "next step" in events


def test_ranks_that_never_end_sending_are_taken_for_dead_although_they_answer(monkeypatch):
    def nothing_yet(futures, timeout):
        time.sleep(0.01)
        raise ray.exceptions.GetTimeoutError

    def gone(futures, timeout):
        raise ray.exceptions.RayActorError

    learner, closed = LearnerGroup.__new__(LearnerGroup), []
    monkeypatch.setattr(ray, "get", nothing_yet)
    call = SimpleNamespace(remote=lambda *_: "a future")
    rank = SimpleNamespace(send_weights=call)
    learner.turn, learner._workers, learner._sending_seconds, learner._ended = threading.RLock(), [rank], 0.1, ""
    learner.version = 0
    learner.close = lambda: closed.append(True)
    learner._check_pulse = lambda patience: None  # they answer
    with pytest.raises(LearnerError, match="does not end in 0.1 s"):
        learner.send_weights([], True)
    assert len(closed) == 1
    monkeypatch.setattr(ray, "get", gone)
    monkeypatch.setattr(ray, "wait", lambda futures, **_: ([], futures))
    with pytest.raises(LearnerError, match="Cause: .* does not end in 0.1 s"):  # who came after
        learner.send_weights([], True)
