"""Starts the restoration service as people start it."""

import json
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psutil


def an_open_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def served(folder: Path, port: int, *options: str, end: int = signal.SIGINT):
    """Starts a service; gives its address and its log. It is ended by a signal, says so, and leaves nothing behind."""
    log = (folder / "log").open("w+")
    command = [sys.executable, "duvlm.py", "serve", "--port", str(port), *options]
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    address, latest = f"http://127.0.0.1:{port}", time.monotonic() + 240
    while not ready(address, options[options.index("--token") + 1] if "--token" in options else ""):
        assert process.poll() is None and time.monotonic() < latest, (folder / "log").read_text()  # noqa: PT018
        time.sleep(0.5)
    children = psutil.Process(process.pid).children(recursive=True)
    yield address, folder / "log"
    process.send_signal(end)
    assert process.wait(timeout=60) == 128 + end
    assert (folder / "log").read_text().rstrip().endswith("duvlm: the service has ended")
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive, "the service left processes behind"


def ready(address: str, token: str = "") -> bool:
    try:
        return json.load(urlopen(f"{address}/api/health?token={token}", timeout=5))["ready"]
    except (URLError, OSError):
        return False
