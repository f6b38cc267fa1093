"""What the service does for too many requests, for one that takes too long, and with the pixels of a large picture."""

import asyncio
import json

import numpy as np
import pytest
from fastapi import HTTPException
from ray.exceptions import RayTaskError

from configs import UserError, load
from envs.corpus.generate import encode
from envs.taxonomy import TAXONOMY
from envs.types import Completion, Group
from service import pictures
from service.admission import AT_ONCE, NoRoomError, Room
from service.app import Ingress
from service.engine import Answer, Service
from service.pixels import given_degradation
from service.serve import await_ready

LARGE = encode(np.zeros((1024, 2048, 3), np.uint8))
"""A picture that is reduced to a quarter of its sides."""


async def nothing() -> bytes:
    return b""


async def done(_: bytes) -> str:
    return "done"


def test_a_place_is_taken_before_the_body_comes_and_the_next_is_sent_away():
    async def requests():
        room, body = Room(2), asyncio.Event()
        slow = [asyncio.create_task(room.admit(body.wait, done)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(NoRoomError, match="2 requests are under way"):
            await room.admit(nothing, done)
        body.set()
        assert await asyncio.gather(*slow) == ["done", "done"]
        assert room.under_way == 0
        assert await room.admit(nothing, done) == "done"

    asyncio.run(requests())


def test_a_wait_that_is_given_up_leaves_its_place_to_the_work_until_that_ends():
    async def requests():
        room, work = Room(1), asyncio.get_running_loop().create_future()
        with pytest.raises(TimeoutError):
            await room.admit(nothing, lambda _: work, seconds=0.01)
        assert room.under_way == 1
        with pytest.raises(NoRoomError):
            await room.admit(nothing, lambda _: work)
        work.set_result(None)
        await asyncio.sleep(0)
        assert room.under_way == 0

    asyncio.run(requests())


def test_a_body_that_does_not_come_is_given_up_with_its_place():
    async def requests():
        room = Room(1)
        with pytest.raises(TimeoutError):
            await room.admit(asyncio.Event().wait, done, seconds=0.01)
        assert room.under_way == 0

    asyncio.run(requests())


def test_body_and_work_have_one_deadline():
    async def requests():
        with pytest.raises(TimeoutError):
            await Room().admit(lambda: asyncio.sleep(0.3), lambda _: asyncio.sleep(0.3), seconds=0.4)

    asyncio.run(requests())


class Body:
    """A request that brings these bytes."""

    def __init__(self, content: bytes = LARGE):
        self._content = content

    async def stream(self):
        yield self._content


class Pools:
    """In place of `Service`: reads a blur of 2 px off every picture, and notes what it is to restore."""

    def __init__(self):
        self.gate, self.restored = asyncio.Event(), []
        self.gate.set()

    async def read(self, picture):
        await self.gate.wait()
        return Answer(TAXONOMY.degradation("blur", {"sigma": 2.0}), "blur")

    async def restore(self, picture, degradation):
        self.restored.append((picture.shape, degradation["sigma"]))
        return picture


class Replica(Ingress):
    """The HTTP side over such pools, or over such as did not start."""

    def __init__(self, failure: Exception | None = None):
        super().__init__(load("serve"))
        self._starting.cancel()
        self.service, self._starting = Pools(), asyncio.get_running_loop().create_future()
        self._starting.set_exception(failure) if failure else self._starting.set_result(None)

    def __del__(self):
        """Nothing was started."""


def test_with_every_place_taken_the_answer_is_503_and_when_to_come_again():
    async def requests():
        replica = Replica()
        replica.service.gate.clear()
        taken = [asyncio.create_task(replica.read(Body())) for _ in range(AT_ONCE)]
        await asyncio.sleep(0)
        with pytest.raises(HTTPException) as refused:
            await replica.read(Body())
        assert (refused.value.status_code, refused.value.headers["Retry-After"]) == (503, "5")
        replica.service.gate.set()
        assert len(await asyncio.gather(*taken)) == AT_ONCE
        assert replica.room.under_way == 0

    asyncio.run(requests())


def test_pixels_are_those_of_the_picture_as_it_was_sent():
    async def requests():
        replica = Replica()
        read = await replica.read(Body())
        assert (read["size"], read["ratio"]) == ((2048, 1024), 8.0)
        assert read["degradation"] == {"type": "blur", "values": {"sigma": 8.0}}
        for said in (json.dumps(read["degradation"]), ""):
            reply = await replica.restore(Body(), said)
            assert json.loads(reply.headers["X-Degradation"]) == read["degradation"]
        assert replica.service.restored == [((256, 512, 3), 2.0)] * 2

    asyncio.run(requests())


def test_a_scale_that_the_policy_read_off_a_picture_is_taken_back():
    assert given_degradation({"type": "low_resolution", "values": {"scale": 11}}, TAXONOMY, 1.34)["scale"] == 11  # of 8
    with pytest.raises(UserError, match="scale"):
        given_degradation({"type": "low_resolution", "values": {"scale": 12}}, TAXONOMY, 1.34)


@pytest.mark.parametrize(("body", "status"), [(b"no picture", 400), (b"\0" * (pictures.MAX_BYTES + 1), 413)])
def test_what_is_not_taken_leaves_its_place(body, status):
    async def requests():
        replica = Replica()
        with pytest.raises(HTTPException) as refused:
            await replica.read(Body(body))
        assert refused.value.status_code == status
        assert replica.room.under_way == 0

    asyncio.run(requests())


class Handle:
    """A handle of the deployment: `handle.started.remote().result(timeout_s)`."""

    def __init__(self, error: Exception | None = None):
        self.started, self._error = self, error

    def remote(self):
        return self

    def result(self, timeout_s):
        if self._error:
            raise self._error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RayTaskError("started", "a traceback", UserError("no prior")).as_instanceof_cause(), "no prior"),
        (RayTaskError("started", "a traceback", RuntimeError("out of memory")).as_instanceof_cause(), "out of memory"),
        (TimeoutError(), "no answer in time"),
    ],
)
def test_pools_that_do_not_start_are_told_in_one_line(error, words):
    await_ready(Handle())
    with pytest.raises(UserError, match=words) as raised:
        await_ready(Handle(error))
    assert "traceback" not in str(raised.value)


def test_a_replica_tells_why_its_pools_did_not_start_before_it_is_started_anew():
    async def start():
        replica = Replica(UserError("no prior"))
        await replica.check_health()
        with pytest.raises(UserError, match="no prior"):
            await replica.started()
        with pytest.raises(UserError, match="no prior"):
            await replica.check_health()

    asyncio.run(start())


def test_the_policy_is_asked_as_the_settings_say(photo):
    class Rollouts:
        async def sample(self, prompts, **options):
            self.options = options
            yield Group(prompts[0], (Completion("[T-blur]", (), ()),), 0, 0.0)

    service = Service(load("serve", ["rollout.grammar=true"]))
    service._rollouts = Rollouts()
    asyncio.run(service.read(photo))
    assert service._rollouts.options == {"n": 1, "temperature": 0.0, "grammar": True}
