"""Room for the actors of a role, on a real cluster."""

import pytest

from configs import UserError, load
from configs.cluster import connect as cluster
from configs.cluster import placement
from configs.cluster.placement import Reservation
from configs.cluster.resources import ResourcePlan, Role, plan


@pytest.mark.engine
def test_room_is_held_until_it_is_released_and_a_deadline_ends_the_wait(ray_cluster):
    cpus = sum(node.cpus for node in cluster.nodes())
    held = Reservation(Role("learner rank", 2, cpus / 2))
    with pytest.raises(UserError, match=r"no room in 1 s for 1 x rollout engine \(1 CPU each\)(.|\n)*free/all"):
        Reservation(Role("rollout engine", 1, 1.0), deadline=1)
    with pytest.raises(UserError, match="0 of 1 x rollout engine found a place"):
        cluster.await_room(ResourcePlan("evaluate", (Role("rollout engine", 1, cpus),)), deadline=1)

    class Where:
        def bundle(self):
            return ray_cluster.util.get_current_placement_group().bundle_specs

    actor = ray_cluster.remote(Where).options(num_cpus=cpus / 2, **held.options(1)).remote()
    assert ray_cluster.get(actor.bundle.remote()) == [{"CPU": cpus / 2}] * 2
    held.release()
    with pytest.raises(ray_cluster.exceptions.RayActorError):
        ray_cluster.get(actor.bundle.remote())
    Reservation(Role("rollout engine", 1, 1.0), deadline=30).release()
    assert ray_cluster.util.list_named_actors() == []


def test_packed_roles_ask_for_their_gpus_first_and_the_largest_before_others(monkeypatch):
    asked = []
    monkeypatch.setattr(placement, "_placement_group", lambda role: asked.append(role) or object())
    monkeypatch.setattr(placement, "_groups", {})
    wanted = plan(load("offline", ["track=qwen3vl_8b"]), "offline")
    placement.reserve(wanted)
    assert [role.name for role in asked] == ["learner rank", "rollout engine"]
    assert placement._groups.keys() == set(asked)
    placement.reserve(plan(load("offline"), "offline"))
    assert len(asked) == 2  # without GPUs there is nothing to keep together


def test_an_actor_that_reserves_nothing_needs_no_room():
    nothing = Reservation(Role("learner rank", 2, 0.0))
    assert nothing.options(0) == {}
    nothing.release()
