"""Two nodes on one machine: rewards alone on one, rollout and learner on the other; each is killed and replaced."""

import psutil
import pytest
from broken_job import Job, strike
from conftest import STEPS

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]
SIZES = ["rollout.cpus=1.5", "learner.cpus=1.1", "reward.cpus=0.4"]  # rollout and learner fit on the larger node only
LARGE, SMALL = 5, 1
ROOM = {"object_store_memory": 200 * 2**20}


@pytest.fixture
def cluster(monkeypatch):
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # of the nodes and of the job

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **ROOM})
    yield cluster
    cluster.shutdown()


def raylet(node) -> psutil.Process:
    return psutil.Process(node.all_processes["raylet"][0].process.pid)


def test_a_lost_node_is_made_up_for_when_another_joins(cluster, corpus, whole, tmp_path, record):
    main, rewards = (cluster.add_node(num_cpus=cpus, **ROOM) for cpus in (LARGE, SMALL))
    settings = [f"steps={STEPS}", "max_failures=1", "reward.timeout=10", "rollout.timeout=60", *SIZES]
    job = Job("offline", corpus, tmp_path / "run", *settings, address=cluster.address)
    try:
        job.until(lambda: job.step() >= 1, 400)
        assert job.processes("ray::RewardActor", raylet(rewards))
        assert len(job.processes("ray::LearnerWorker", raylet(main))) == 2
        for fault, node, cpus, title, sign in (
            ("node with rewards lost", rewards, SMALL, "ray::RewardActor", "reward actor .* started anew"),
            ("node with learner and rollout lost", main, LARGE, "ray::LearnerWorker", "failed, and starts again"),
        ):
            job.at_work(title, raylet(node))

            def replaced(node=node, cpus=cpus):
                cluster.remove_node(node, allow_graceful=False)
                cluster.add_node(num_cpus=cpus, **ROOM)

            found = strike(job, fault, replaced, sign, whole)
            record(found)
            assert (found.lost, found.changed) == (0, 0)
            assert found.repeated <= 2
    finally:
        job.end()
