"""What the service does for too many requests, for one that takes too long, and with the pixels of a large picture."""

import asyncio
import json

import numpy as np
import pytest
from fastapi import HTTPException
from ray.exceptions import RayTaskError
from replica import Body, Replica

from configs import UserError
from envs.corpus.generate import encode
from envs.taxonomy import TAXONOMY, Degradation
from service import pictures
from service.pixels import given_degradation
from service.reader import Reading
from service.serve import await_ready
from service.web.admission import MAX_BYTES, RATE, SLOTS, Admission, NoRoomError, TooSlowError

LARGE = encode(np.zeros((1024, 2048, 3), np.uint8))
"""A picture of eight times the height of what a policy sees."""


async def chunks(*parts: bytes, pause: float = 0.0):
    for part in parts:
        await asyncio.sleep(pause)
        yield part


def test_every_slot_taken_sends_the_next_away():
    async def requests():
        admission, gate = Admission(2), asyncio.Event()

        async def work() -> str:
            await gate.wait()
            return "done"

        slow = [asyncio.create_task(admission.work(work)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(NoRoomError, match="2 requests are under way"):
            await admission.work(work)
        gate.set()
        assert await asyncio.gather(*slow) == ["done", "done"]
        assert admission.under_way == 0
        assert await admission.work(work) == "done"

    asyncio.run(requests())


def test_a_wait_that_is_given_up_leaves_its_slot_to_the_work_until_that_ends():
    async def requests():
        admission, work = Admission(1), asyncio.get_running_loop().create_future()
        with pytest.raises(TimeoutError):
            await admission.work(lambda: work, seconds=0.01)
        assert admission.under_way == 1
        with pytest.raises(NoRoomError):
            await admission.work(lambda: work)
        work.set_result(None)
        await asyncio.sleep(0)
        assert admission.under_way == 0

    asyncio.run(requests())


def test_senders_who_dawdle_take_no_slot_and_are_dropped():
    async def requests():
        admission = Admission(1, grace=0.2)
        slow = [asyncio.create_task(admission.receive(chunks(*b"slow".split(), b"x" * 9, pause=9))) for _ in range(40)]
        await asyncio.sleep(0)
        assert await admission.receive(chunks(b"a", b"b")) == b"ab"
        assert await admission.work(lambda: asyncio.sleep(0, "served")) == "served"
        found = await asyncio.gather(*slow, return_exceptions=True)
        assert {type(error) for error in found} == {TooSlowError}

    asyncio.run(requests())


def test_a_body_that_arrives_steadily_has_the_time_it_needs():
    async def requests():
        body = await Admission(grace=0.1).receive(chunks(*[b"x" * RATE] * 4, pause=0.05))
        assert len(body) == 4 * RATE

    asyncio.run(requests())


def test_bodies_that_fill_the_memory_are_sent_away(monkeypatch):
    monkeypatch.setattr("service.web.admission.MAX_BUFFERED", 10)

    async def requests():
        admission, gate = Admission(), asyncio.Event()

        async def held():
            yield b"12345678"
            await gate.wait()

        first = asyncio.create_task(admission.receive(held()))
        await asyncio.sleep(0)
        with pytest.raises(NoRoomError):
            await admission.receive(chunks(b"123"))
        gate.set()
        assert await first == b"12345678"
        assert await admission.receive(chunks(b"123")) == b"123"

    asyncio.run(requests())


def test_with_every_slot_taken_the_answer_is_503_and_when_to_come_again():
    async def requests():
        replica = Replica()
        replica.service.gate.clear()
        taken = [asyncio.create_task(replica.read(Body(LARGE))) for _ in range(SLOTS)]
        while replica.admission.under_way < SLOTS:
            await asyncio.sleep(0.001)
        with pytest.raises(HTTPException) as refused:
            await replica.read(Body(LARGE))
        assert (refused.value.status_code, refused.value.headers["Retry-After"]) == (503, "5")
        replica.service.gate.set()
        assert len(await asyncio.gather(*taken)) == SLOTS
        assert replica.admission.under_way == 0

    asyncio.run(requests())


def test_pixels_are_those_of_the_picture_as_it_was_sent():
    async def requests():
        replica = Replica()
        read = await replica.read(Body(LARGE))
        assert (read["size"], read["ratio"]) == ((2048, 1024), 8.0)
        assert read["degradation"] == {"type": "blur", "values": {"sigma": 2.0}}
        for said in (json.dumps(read["degradation"]), ""):
            reply = await replica.restore(Body(LARGE), said)
            assert json.loads(reply.headers["X-Degradation"]) == read["degradation"]
            assert pictures.read(reply.body).size == (2048, 1024)
        assert replica.service.restored == [((1024, 2048, 3), 2.0)] * 2

    asyncio.run(requests())


def test_a_scale_that_the_policy_read_off_a_picture_is_taken_back():
    assert given_degradation({"type": "low_resolution", "values": {"scale": 11}}, TAXONOMY, 1.34)["scale"] == 11  # of 8
    with pytest.raises(UserError, match="scale"):
        given_degradation({"type": "low_resolution", "values": {"scale": 12}}, TAXONOMY, 1.34)


@pytest.mark.parametrize(("body", "status"), [(b"no picture", 400), (b"\0" * (MAX_BYTES + 1), 413)])
def test_what_is_not_taken_leaves_its_slot(body, status):
    async def requests():
        replica = Replica()
        with pytest.raises(HTTPException) as refused:
            await replica.read(Body(body))
        assert refused.value.status_code == status
        assert replica.admission.under_way == 0

    asyncio.run(requests())


def test_a_picture_is_degraded_and_restored_again():
    async def requests():
        replica = Replica()
        wanted = json.dumps({"type": "blur", "values": {"sigma": 8.0}})
        reply = await replica.degrade(Body(LARGE), wanted)
        assert json.loads(reply.headers["X-Degradation"]) == json.loads(wanted)
        assert pictures.read(reply.body).picture.shape == (1024, 2048, 3)
        back = await replica.restore(Body(reply.body), "")
        assert (back.headers["X-Action"], back.headers["X-Reason"]) == ("restored", "")

    asyncio.run(requests())


BLUR = TAXONOMY.degradation("blur", {"sigma": 2.0})


@pytest.mark.parametrize(
    ("reading", "reason", "by_force"),
    [
        (Reading(None, "no idea"), "invalid", ("left", "invalid")),
        (Reading(Degradation("none", ()), "[T-none]", confidence=0.9), "none", ("left", "none")),
        (Reading(BLUR, "", intervals={"sigma": (1.5, 2.5)}, confidence=0.1), "uncertain", ("restored", "")),
    ],
)
def test_a_picture_that_is_not_to_be_restored_comes_back_as_it_was(reading, reason, by_force):
    async def requests():
        replica = Replica()
        sent = encode(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))

        async def read(picture):
            return reading

        replica.service.read = read
        reply = await replica.restore(Body(sent), "")
        assert (reply.headers["X-Action"], reply.headers["X-Reason"]) == ("left", reason)
        assert reply.body == sent
        assert replica.service.restored == []
        forced = await replica.restore(Body(sent), "", 1)
        assert (forced.headers["X-Action"], forced.headers["X-Reason"]) == by_force
        told = await replica.read(Body(sent))
        assert (told["action"], told["why"]) == ("left", reason)
        assert told["confidence"] == reading.confidence
        assert told["intervals"] == ({"sigma": [1.5, 2.5]} if reading.intervals else None)

    asyncio.run(requests())


@pytest.mark.parametrize("answer", [{"type": None, "values": {}}, {"type": ["blur"], "values": {}}, 7, "blur"])
def test_odd_degradations_are_answered_with_a_sentence(answer):
    async def requests():
        with pytest.raises(HTTPException) as refused:
            await Replica().degrade(Body(LARGE), json.dumps(answer))
        assert refused.value.status_code == 422
        assert refused.value.detail.startswith("degradation: expected JSON such as")

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
