"""Resource plans: what a job reserves, and what is said when a cluster cannot hold it."""

import socket

import pytest

from configs import JOBS, UserError, load
from configs.cluster import ResourcePlan, Role, check, find, plan

TWO_CORES = [{"CPU": 2.0}]


@pytest.mark.parametrize("job", JOBS)
def test_every_job_of_the_tiny_track_fits_on_two_cores(job):
    check(plan(load(job), job), TWO_CORES)


def test_the_paper_s_track_fits_on_a_node_of_eight_gpus_and_on_nothing_less():
    wanted = plan(load("offline", ["track=qwen3vl_8b"]), "offline")
    assert wanted.gpus == 8
    check(wanted, [{"CPU": 64.0, "GPU": 8.0}])
    with pytest.raises(UserError, match="GPU"):
        check(wanted, [{"CPU": 64.0, "GPU": 7.0}])


def test_a_refusal_names_the_role_what_it_needs_and_what_there_is():
    wanted = plan(load("offline", ["reward.actors=20"]), "offline")
    with pytest.raises(UserError, match=r"2 CPUs.* of 20 x reward actor found a place \(0.25 CPU each\)"):
        check(wanted, TWO_CORES)


def test_an_actor_fits_on_one_node_or_not_at_all():
    engine = ResourcePlan("offline", (Role("rollout engine", 1, 1.0, 2.0),))
    check(engine, [{"CPU": 1.0, "GPU": 1.0}, {"CPU": 1.0, "GPU": 2.0}])
    with pytest.raises(UserError, match="too few resources"):
        check(engine, [{"CPU": 4.0, "GPU": 1.0}, {"CPU": 4.0, "GPU": 1.0}])


def test_scoring_someone_s_answers_needs_no_cluster():
    assert not plan(load("evaluate", ["predictions=answers.jsonl"]), "evaluate").roles


def test_nothing_at_the_address_is_said_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError, match=f"no Ray cluster answers at 127.0.0.1:{port}"):
        find(load("offline", [f"address=127.0.0.1:{port}"]))


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1", "http://127.0.0.1:8265", "127.0.0.1:99999"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(UserError, match="expected HOST:PORT|no Ray cluster answers"):
        find(load("offline", [f"address={address}"]))
