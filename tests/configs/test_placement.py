"""Room for the actors of a role, on a real cluster."""

import pytest

from configs import UserError
from configs.cluster import connect as cluster
from configs.cluster.placement import Reservation
from configs.cluster.resources import ResourcePlan, Role


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


def test_an_actor_that_reserves_nothing_needs_no_room():
    nothing = Reservation(Role("learner rank", 2, 0.0))
    assert nothing.options(0) == {}
    nothing.release()
