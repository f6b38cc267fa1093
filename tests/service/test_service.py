"""The restoration service for real: an engine, a reward actor, HTTP, and a person at a browser."""

import json
import os
import subprocess
import sys
from email.message import Message
from http.client import HTTPConnection
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import numpy as np
import pytest
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


def test_senders_who_dawdle_keep_nobody_out(service, port, blurred):
    """Forty have sent their heads and not their pictures: they take no slot, and the next is served."""
    url, picture = f"/api/restore?degradation={degradation(1.5)}", encode(blurred)
    waiting = [HTTPConnection("127.0.0.1", port, timeout=150) for _ in range(40)]
    for connection in waiting:
        connection.putrequest("POST", url)
        connection.putheader("Content-Length", str(len(picture)))
        connection.endheaders()
    assert ask(service + url, picture)[0] == 200
    assert under_way(service) == 0
    for connection in waiting:
        connection.close()


def under_way(service: str) -> int:
    return json.loads(ask(f"{service}/api/health")[1])["under_way"]


def test_a_taken_port_is_a_user_error(service, port):
    command = [sys.executable, "duvlm.py", "serve", "--port", str(port)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ)
    assert result.returncode == 2
    assert "choose another --port" in result.stderr
