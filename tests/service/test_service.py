"""The restoration service for real: an engine, a reward actor, HTTP."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from email.message import Message
from http.client import HTTPConnection
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import cv2
import numpy as np
import pytest
from serving import an_open_port, served
from skimage import data

import duvlm
from configs import load
from envs.corpus.generate import degrade, encode
from envs.taxonomy import TAXONOMY
from reward_actors.scoring.full_reference import psnr
from service import pictures

pytestmark = pytest.mark.engine
SIGMA = 2.0


def ask(url: str, body: bytes | None = None) -> tuple[int, bytes, Message]:
    try:
        with urlopen(Request(url, data=body), timeout=150) as reply:
            return reply.status, reply.read(), reply.headers
    except HTTPError as error:
        return error.code, error.read(), error.headers


def degradation(sigma: float) -> str:
    return quote(json.dumps({"type": "blur", "values": {"sigma": sigma}}))


def test_the_policy_names_the_blur_and_its_size(service, blurred):
    status, body, _ = ask(f"{service}/api/read", encode(blurred))
    answer = json.loads(body)
    assert status == 200
    assert answer["degradation"]["type"] == "blur"
    assert abs(answer["degradation"]["values"]["sigma"] - SIGMA) < 0.6


def test_the_picture_comes_back_restored_and_always_the_same(service, photo, blurred):
    url = f"{service}/api/restore?degradation={degradation(SIGMA)}"
    (status, first, headers), (_, second, _) = ask(url, encode(blurred)), ask(url, encode(blurred))
    restored = pictures.read(first).picture
    assert status == 200
    assert json.loads(headers["X-Degradation"]) == {"type": "blur", "values": {"sigma": SIGMA}}
    assert psnr(restored, photo) > psnr(blurred, photo) + 1
    assert first == second


def test_without_parameters_the_policy_is_asked(service, blurred):
    status, _, headers = ask(f"{service}/api/restore", encode(blurred))
    assert status == 200
    assert json.loads(headers["X-Degradation"])["type"] == "blur"


def test_a_large_photograph_is_read_as_in_this_process_and_restored_at_its_size(service):
    clean = np.ascontiguousarray(np.concatenate([data.astronaut(), data.astronaut()[:, ::-1]], 1)[:, :700])
    degraded = degrade(clean, TAXONOMY.degradation("blur", {"sigma": 2.0}))
    answer = json.loads(ask(f"{service}/api/read", encode(degraded))[1])
    reading = duvlm.Reader(config=load("serve"))(degraded)
    assert answer["size"] == [700, 512]
    assert answer["action"] == "restored"
    assert answer["degradation"]["type"] == reading.degradation.type == "blur"
    assert answer["degradation"]["values"]["sigma"] == pytest.approx(reading.degradation["sigma"], abs=0.02)
    assert answer["intervals"]["sigma"] == pytest.approx(reading.intervals["sigma"], abs=0.02)
    assert answer["confidence"] == pytest.approx(reading.confidence, abs=0.01)
    status, body, headers = ask(f"{service}/api/restore", encode(degraded))
    restored = pictures.read(body).picture
    assert (status, headers["X-Action"], headers["X-Reason"]) == (200, "restored", "")
    assert restored.shape == degraded.shape
    assert psnr(restored, clean) > psnr(degraded, clean) + 1


@pytest.mark.parametrize(
    ("body", "query", "status"),
    [
        (b"no picture", "", 400),
        (b"", "", 400),
        (None, "", 405),
        (b"picture", "?degradation={}", 422),
        (b"picture", "?degradation=[[[", 422),
        (b"picture", f"?degradation={degradation(999.0)}", 422),
        (b"\0" * (pictures.MAX_BYTES + 1), "", 413),
    ],
)
def test_a_wrong_request_is_told_so(service, photo, body, query, status):
    found, reply, _ = ask(f"{service}/api/restore{query}", encode(photo) if body == b"picture" else body)
    assert found == status
    assert json.loads(reply)["detail"]


def test_senders_who_dawdle_keep_nobody_out_and_are_dropped(service, port, blurred):
    """Forty send a byte every five seconds: they take no slot, the next is served, they are dropped."""
    url, picture = f"/api/restore?degradation={degradation(1.5)}", encode(blurred)
    waiting = [HTTPConnection("127.0.0.1", port, timeout=60) for _ in range(40)]
    for connection in waiting:
        connection.putrequest("POST", url)
        connection.putheader("Content-Length", str(len(picture)))
        connection.endheaders(picture[:1])
    assert ask(service + url, picture)[0] == 200
    assert under_way(service) == 0
    for number in (1, 2):
        time.sleep(5)
        for connection in waiting:
            with suppress(OSError):  # it was dropped
                connection.send(picture[number : number + 1])
    assert {connection.getresponse().status for connection in waiting} == {408}


def test_a_gray_photograph_comes_back_gray(service):
    gray = cv2.GaussianBlur(data.camera()[100:228, 100:300], (0, 0), SIGMA)
    body = ask(f"{service}/api/restore?degradation={degradation(SIGMA)}", cv2.imencode(".png", gray)[1].tobytes())[1]
    restored = pictures.read(body).picture
    assert (restored == restored[..., :1]).all()
    assert (restored[..., 0] != gray).any()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 200),
    ],
)
def test_foreign_names_and_pages_are_refused_and_every_answer_has_its_headers(service, port, headers, status):
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/api/taxonomy", headers=headers)
    reply = connection.getresponse()
    assert reply.status == status
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert "frame-ancestors 'none'" in reply.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "answer",
    [{"type": None, "values": {}}, {"type": ["blur"], "values": {}}, {"type": "blur", "values": {"sigma": None}},
     {"type": "blur", "values": [2]}, {"type": "blur", "values": {"sigma": {"a": 1}}}, [], 7, "blur", None],
)  # fmt: skip
def test_odd_degradations_are_answered_with_a_sentence(service, photo, answer):
    for route in ("restore", "degrade"):
        status, reply, _ = ask(f"{service}/api/{route}?degradation={quote(json.dumps(answer))}", encode(photo))
        assert status == 422
        assert json.loads(reply)["detail"].startswith("degradation: ")
        assert "object" not in json.loads(reply)["detail"]


def test_parameters_of_another_kind_are_answered_with_a_sentence(service, photo):
    for route in ("restore?force=perhaps", "degrade"):
        status, reply, _ = ask(f"{service}/api/{route}", encode(photo))
        assert status == 422
        assert json.loads(reply)["detail"].startswith(("force: ", "degradation: "))


def under_way(service: str) -> int:
    return json.loads(ask(f"{service}/api/health")[1])["under_way"]


def test_a_taken_port_is_a_user_error(service, port):
    command = [sys.executable, "duvlm.py", "serve", "--port", str(port)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ)
    assert result.returncode == 2
    assert "choose another --port" in result.stderr


def test_a_service_for_others_says_who_may_use_it_and_asks_them_for_a_word(tmp_path):
    with served(tmp_path, an_open_port(), "--host", "0.0.0.0", "--token", "word", end=signal.SIGTERM) as (address, log):
        assert "whoever reaches this machine and knows the token may use it" in log.read_text()
        assert socket.gethostname() in log.read_text()
        assert ask(f"{address}/")[0] == 401
        assert b"Choose pictures" in ask(f"{address}/?token=word")[1]
        rebound = Request(f"{address}/?token=word", headers={"Host": "rebound.example"})
        with pytest.raises(HTTPError, match="421"):
            urlopen(rebound, timeout=60)
