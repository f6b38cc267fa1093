"""The network between two nodes is cut for a while: the far one lives in a network namespace, at the end of a cable."""

import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from broken_job import Job, strike
from conftest import STEPS
from test_nodes import LARGE, SIZES, SMALL

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]
SPACE, NEAR, FAR = "duvlm-chaos", "10.201.77.1", "10.201.77.2"
CUT_SECONDS = 15.0


def ip(*words: str, check: bool = True) -> int:
    return subprocess.run(["ip", *words], check=check, capture_output=True).returncode


@pytest.fixture
def cable():
    """Two ends with an address each; the far one in a namespace of its own."""
    try:
        refused = ip("netns", "add", SPACE, check=False)
    except FileNotFoundError:
        refused = True
    if refused:
        pytest.skip("needs the right to make network namespaces")
    try:
        ip("link", "add", "duvlm0", "type", "veth", "peer", "name", "duvlm1", "netns", SPACE)
        ip("addr", "add", f"{NEAR}/24", "dev", "duvlm0")
        ip("link", "set", "duvlm0", "up")
        ip("-n", SPACE, "addr", "add", f"{FAR}/24", "dev", "duvlm1")
        for device in ("lo", "duvlm1"):
            ip("-n", SPACE, "link", "set", device, "up")
        yield
    finally:
        ip("netns", "del", SPACE)


@pytest.fixture
def far(cable, monkeypatch):
    """Address of a cluster of a near node and a far one, and the far one's process."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # of the nodes and of the job
    store = 200 * 2**20
    head = {"num_cpus": LARGE, "node_ip_address": NEAR, "object_store_memory": store}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    ray = Path(sys.executable).parent / "ray"
    words = [ray, "start", f"--address={cluster.address}", f"--node-ip-address={FAR}", f"--num-cpus={SMALL}"]
    words += [f"--object-store-memory={store}", "--block"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    node = psutil.Popen(["ip", "netns", "exec", SPACE, *words], **quiet)
    yield cluster.address, node
    for process in [*node.children(recursive=True), node]:
        process.kill()
    cluster.shutdown()


def test_a_job_goes_on_when_the_network_to_its_rewards_is_cut_and_comes_back(far, corpus, whole, tmp_path, record):
    address, node = far
    settings = [f"steps={STEPS}", "reward.timeout=5", "rollout.timeout=60", *SIZES]
    job = Job("offline", corpus, tmp_path / "run", *settings, address=address)

    def cut():
        ip("link", "set", "duvlm0", "down")
        threading.Timer(CUT_SECONDS, ip, ["link", "set", "duvlm0", "up"]).start()

    try:
        job.until(lambda: job.step() >= 1, 400)
        job.at_work("ray::RewardActor", node)
        found = strike(job, f"network to the rewards cut for {CUT_SECONDS:g} s", cut, "reward actor .* anew", whole)
        record(found)
        assert (found.lost, found.repeated, found.changed) == (0, 0, 0)
        assert node.is_running()
    finally:
        job.end()
