"""Many clients for a long time, and a replica that dies among them: the service goes on, and does not grow."""

import asyncio
import io
import os
import random
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from statistics import median

import httpx
import psutil
import pytest
from PIL import Image
from serving import ready
from skimage import data

pytestmark = pytest.mark.chaos
CLIENTS = 200
MINUTES = float(os.environ.get("SOAK_MINUTES", 10))
GROWTH = 150 * 2**20
"""Bytes by which a process may be larger at the end than after a quarter of the time: what allocators scatter."""


def bodies() -> list[bytes]:
    """Pictures of .02 to 2 megapixels, and one that is none."""
    made = [b"no picture"]
    for width, height in ((128, 128), (300, 200), (512, 512), (1600, 1200)):
        image = Image.fromarray(data.astronaut()).resize((width, height))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=90)
        made.append(buffer.getvalue())
    return made


def processes(port: int) -> list[psutil.Process]:
    """Those of the service that listens on a port: its driver and all that this started."""
    ends = ["serve", "--port", str(port)]
    (driver,) = [each for each in psutil.process_iter(["cmdline"]) if (each.info["cmdline"] or [])[-3:] == ends]
    return [driver, *driver.children(recursive=True)]


def memory(port: int) -> dict[int, int]:
    """Resident bytes of each process that are its own: pages of Ray's object store count where they were touched."""
    sizes = {}
    for process in processes(port):
        with suppress(psutil.NoSuchProcess):
            held = process.memory_info()
            sizes[process.pid] = held.rss - held.shared
    return sizes


async def ask_for(seconds: float, address: str, port: int) -> tuple[Counter, list[dict[int, int]]]:
    """200 clients that ask as soon as they are answered, or may come again. Returns their answers and the sizes."""
    answers, looks, end, pictures = Counter(), [], time.monotonic() + seconds, bodies()

    async def client(number: int, http: httpx.AsyncClient) -> None:
        chosen = random.Random(number)
        while time.monotonic() < end:
            route = chosen.choice(("read", "restore", "restore?force=1"))
            reply = await http.post(f"/api/{route}", content=chosen.choice(pictures))
            answers[reply.status_code] += 1
            await asyncio.sleep(float(reply.headers.get("Retry-After", 0)))

    async def watch() -> None:
        while time.monotonic() < end:
            looks.append(await asyncio.to_thread(memory, port))
            await asyncio.sleep(2)

    limits = httpx.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS)
    async with httpx.AsyncClient(base_url=address, timeout=360, limits=limits) as http:
        await asyncio.gather(watch(), *(client(number, http) for number in range(CLIENTS)))
    return answers, looks


@pytest.mark.timeout(60 * MINUTES + 600)
def test_200_clients_are_answered_and_nothing_grows(service, port):
    answers, looks = asyncio.run(ask_for(60 * MINUTES, service, port))
    quarter = len(looks) // 4
    names = {each.pid: each.name() for each in processes(port)}
    lasting = [pid for pid in looks[-1] if all(pid in look for look in looks[quarter:])]
    second, last = (
        {pid: median(look[pid] for look in part) for pid in lasting}
        for part in (looks[quarter : 2 * quarter], looks[-quarter:])
    )
    grown = {pid: last[pid] - second[pid] for pid in lasting}
    largest = max(grown, key=grown.get)
    sizes = {names.get(pid): f"{second[pid] / 2**20:.0f} -> {size / 2**20:.0f}" for pid, size in last.items()}
    print(dict(answers), "MB:", sizes)
    assert set(answers) <= {200, 400, 408, 503}, answers
    assert answers[408] <= 0.01 * answers.total(), "a client of a busy machine may be late, not more"
    assert answers[200] > 6 * MINUTES
    assert grown[largest] < GROWTH, f"{names[largest]} has grown by {grown[largest] / 2**20:.0f} MB"
    assert httpx.get(f"{service}/api/health").json()["under_way"] == 0


@pytest.mark.timeout(600)
def test_who_was_being_served_when_a_replica_dies_is_told(service, port):
    picture = bodies()[-1]
    assert httpx.post(f"{service}/api/restore?force=1", content=picture, timeout=200).status_code == 200
    with ThreadPoolExecutor(4) as clients:
        waiting = [clients.submit(httpx.post, f"{service}/api/read", content=picture, timeout=120) for _ in range(4)]
        time.sleep(0.3)
        (replica,) = [each for each in processes(port) if "ServeReplica" in " ".join(each.cmdline())]
        os.kill(replica.pid, signal.SIGKILL)
        started = time.monotonic()
        replies = [one.result() for one in waiting]
    assert {reply.status_code for reply in replies} <= {200, 500, 502, 503}, replies
    assert all(reply.content for reply in replies)
    while not ready(service):
        assert time.monotonic() < started + 200, "it does not come back"
        time.sleep(1)
    assert httpx.post(f"{service}/api/read", content=picture, timeout=200).status_code == 200
