"""A service started as people start it, and what is sent to it."""

import json
import signal
import socket
import subprocess
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

import cv2
import numpy as np
import psutil
import pytest

SIGMA = 2.0


@pytest.fixture(scope="module")
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def service(port, tmp_path_factory):
    """The address of a service started as people start it."""
    log = (tmp_path_factory.mktemp("service") / "log").open("w+")
    command = [sys.executable, "duvlm.py", "serve", "--port", str(port)]
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + 240
    while not ready(address):
        assert process.poll() is None and time.monotonic() < end, log.seek(0) or log.read()  # noqa: PT018
        time.sleep(0.5)
    children = psutil.Process(process.pid).children(recursive=True)
    yield address
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    log.seek(0)
    assert log.read().rstrip().endswith("duvlm: the service has ended")
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive, "the service left processes behind"


def ready(address: str) -> bool:
    try:
        return json.load(urlopen(f"{address}/api/health", timeout=5))["ready"]
    except (URLError, OSError):
        return False


@pytest.fixture(scope="module")
def blurred(photo) -> np.ndarray:
    return cv2.GaussianBlur(photo, (0, 0), SIGMA, borderType=cv2.BORDER_REFLECT)
