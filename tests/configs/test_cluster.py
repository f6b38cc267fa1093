"""Resource plans: what a job reserves, and what is said when a cluster cannot hold it."""

import signal
import socket

import pytest

from configs import UserError, load
from configs.cluster import connect as cluster
from configs.cluster.connect import find, prepare
from configs.cluster.resources import Node, ResourcePlan, Role, check, missing, plan, table
from configs.jobs import jobs

TWO_CORES = [Node("here", 2.0)]


@pytest.mark.parametrize("job", jobs())
def test_every_job_of_the_tiny_track_fits_on_two_cores(job):
    check(plan(load(job), job), TWO_CORES)


def test_the_paper_s_track_fits_on_a_node_of_eight_gpus_and_on_nothing_less():
    wanted = plan(load("offline", ["track=qwen3vl_8b"]), "offline")
    assert wanted.gpus == 8
    check(wanted, [Node("n", 64.0, 8.0)])
    with pytest.raises(UserError, match="GPU"):
        check(wanted, [Node("n", 64.0, 7.0)])


def test_a_refusal_names_the_role_what_it_needs_and_what_there_is():
    wanted = plan(load("offline", ["reward.actors=20"]), "offline")
    with pytest.raises(UserError, match=r"2 CPUs.* of 20 x reward actor found a place \(0.25 CPU each\)"):
        check(wanted, TWO_CORES)


def test_an_actor_fits_on_one_node_or_not_at_all():
    engine = ResourcePlan("offline", (Role("rollout engine", 1, 1.0, 2.0),))
    check(engine, [Node("n", 1.0, 1.0), Node("n", 1.0, 2.0)])
    with pytest.raises(UserError, match="too few resources"):
        check(engine, [Node("n", 4.0, 1.0), Node("n", 4.0, 1.0)])


@pytest.mark.parametrize(("count", "share", "devices"), [(8, 0.6, 8.0), (16, 0.5, 8.0), (3, 0.3, 1.0), (1, 2.0, 2.0)])
def test_a_fraction_of_a_gpu_is_of_one_device(count, share, devices):
    node = [Node("n", 64.0, devices)]
    check(ResourcePlan("offline", (Role("reward actor", count, 0.0, share),)), node)
    with pytest.raises(UserError, match=f"{count} of {count + 1} x reward actor found a place"):
        check(ResourcePlan("offline", (Role("reward actor", count + 1, 0.0, share),)), node)


def test_whole_gpus_are_not_put_together_from_fractions():
    half_taken = [(8.0, 1.5)]
    whole, half = Role("learner rank", 1, 1.0, 1.0), Role("reward actor", 1, 1.0, 0.5)
    assert not missing(ResourcePlan("offline", (whole, half)), half_taken)
    assert missing(ResourcePlan("sft", (Role("learner rank", 2, 1.0, 0.75),)), half_taken)


def test_scoring_someone_s_answers_needs_no_cluster():
    assert not plan(load("evaluate", ["policy=answers.jsonl"]), "evaluate").roles


def test_nothing_at_the_address_is_said_at_once(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    with pytest.raises(UserError, match=f"no Ray cluster answers at 127.0.0.1:{port}"):
        find()


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1", "http://127.0.0.1:8265", "127.0.0.1:99999"])
def test_what_is_no_address_is_refused(address, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match="expected HOST:PORT|no Ray cluster answers"):
        find()


def test_an_error_of_ray_that_is_none_of_the_users_keeps_its_traceback(monkeypatch):
    import ray

    def broken(**_):
        raise TypeError("init() got an unexpected keyword argument")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", broken)
    with pytest.raises(TypeError):
        cluster.connect()


def test_what_is_free_counts_when_others_work_there_too():
    wanted = plan(load("sft"), "sft")
    busy = Node("here", 2.0, 0.0, free_cpus=0.25)
    check(wanted, [busy])
    assert missing(wanted, [(busy.free_cpus, busy.free_gpus)]) == "1 of 2 x learner rank found a place (0.25 CPU each)"


def test_the_table_shows_each_node_with_what_is_free():
    lines = table([Node("10.0.0.1", 64, 8, 60.5, 8), Node("b", 8)]).splitlines()
    assert lines[1].split() == ["10.0.0.1", "60.5/64", "8/8"]
    assert lines[2].split() == ["b", "0/8", "0/0"]
    assert len({len(line) for line in lines}) == 1


def test_a_tracker_that_is_not_installed_is_said_before_anything_starts(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="mlflow is not installed here: `pip install mlflow`"):
        prepare(load("prior", ["trackers=mlflow"]), "prior")


def test_an_interrupt_while_ray_starts_is_heard_once_it_has_started():
    steps = []

    def start():
        with cluster._signals_wait():
            signal.raise_signal(signal.SIGINT)
            steps.append("started")

    with pytest.raises(KeyboardInterrupt):
        start()
    assert steps == ["started"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_variables_of_collectives_the_hub_and_the_job_reach_every_actor_of_a_joined_cluster(monkeypatch):
    import ray

    heard = {}
    given = {"NCCL_SOCKET_IFNAME": "eth0", "HF_HOME": "/shared/hub", "GLOO_SOCKET_IFNAME": "lo", "EDITOR": "vi"}
    for name, value in (cluster.ENVIRONMENT | given).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(cluster, "find", lambda: "head:6379")
    monkeypatch.setattr(cluster, "_join", lambda ray, address, variables, options: heard.update(variables))
    cluster.connect({"GLOO_SOCKET_IFNAME": "eth1"})
    wanted = {"NCCL_SOCKET_IFNAME": "eth0", "HF_HOME": "/shared/hub", "GLOO_SOCKET_IFNAME": "eth1"}
    assert heard.items() >= (wanted | {"HF_HUB_OFFLINE": "1"}).items()
    assert "EDITOR" not in heard
