"""Wishes to a running job, on a real cluster."""

import asyncio

import pytest
from ray.exceptions import GetTimeoutError, RayActorError

from configs import UserError, load
from configs.cluster import scaling as control
from configs.cluster.scaling import Wish


@pytest.mark.parametrize(("text", "wish"), [("3", Wish(3, 3)), ("2:8", Wish(2, 8)), ("1:1", Wish(1, 1))])
def test_a_number_is_a_fixed_size_and_two_are_bounds(text, wish):
    assert control.read_wish(text) == wish


@pytest.mark.parametrize("text", ["0", "", "-1", "3:2", "2:", ":2", "many", "1:2:3", "1:5000", "²"])
def test_what_is_no_number_of_actors_is_refused(text):
    with pytest.raises(UserError, match="expected N or MIN:MAX"):
        control.read_wish(text)


@pytest.mark.parametrize(
    ("run", "ends"),
    [("first/offline", True), ("offline", True), ("/runs/first/offline", True), ("first/offline/", True), ("", True),
     ("rst/offline", False), ("first", False), ("/first/offline", False), ("/work/runs/first/offline", False)],
)  # fmt: skip
def test_a_job_is_named_by_the_last_names_of_its_folder(run, ends):
    assert control.ends_in("/runs/first/offline", run) is ends


@pytest.mark.parametrize("error", [ValueError("no such actor"), GetTimeoutError("not in time"), RayActorError()])
def test_a_job_that_ends_before_it_takes_the_wish_is_one_message(monkeypatch, error):
    import ray

    def gone(*_, **__):
        raise error

    monkeypatch.setattr("configs.cluster.connect.connect", lambda: None)
    monkeypatch.setattr(control, "_named", lambda: ["/runs/first/offline", "/runs/notfirst/offline"])
    monkeypatch.setattr(ray, "get_actor", gone)
    with pytest.raises(UserError, match="/runs/first/offline did not take the wish"):
        control.scale_rewards(Wish(2, 2), "first/offline")


class Pool:
    """Notes what it is asked; holds four actors at most."""

    def __init__(self):
        self.asked = []

    async def resize(self, actors):
        if actors > 4:
            raise UserError("the cluster is full")
        self.asked.append(actors)

    def autoscale(self, fewest, most):
        self.asked.append((fewest, most))


class Desktop:
    """Hands out wishes in order, as the desk's actor does, then none."""

    def __init__(self, *wishes):
        self.take, self._wishes = self, list(wishes)

    async def remote(self):
        return self._wishes.pop(0) if self._wishes else await asyncio.Future()


def test_an_actor_that_dies_while_it_starts_does_not_make_the_job_deaf_to_later_wishes(capsys):
    class Fragile(Pool):
        async def resize(self, actors):
            if actors == 2:
                raise RayActorError
            await super().resize(actors)

    async def job(pool):
        granting = asyncio.create_task(control.grant(Desktop(Wish(2, 2), Wish(3, 3)), pool))
        await asyncio.wait([granting], timeout=0.1)
        granting.cancel()

    pool = Fragile()
    asyncio.run(job(pool))
    assert pool.asked == [3]
    assert "reward actors: The actor experienced an error" in capsys.readouterr().out


@pytest.mark.engine
def test_a_wish_reaches_the_job_it_names_and_one_too_many_does_no_harm(ray_cluster, capsys):
    config = load("offline", ["name=control-test"])
    with pytest.raises(UserError, match="found none"):
        control.scale_rewards(Wish(3, 3))
    desks = [control.open_desk(config, job) for job in ("offline", "online")]
    ray_cluster.get([desk.__ray_ready__.remote() for desk in desks])
    with pytest.raises(UserError, match="say which"):
        control.scale_rewards(Wish(3, 3))
    for wish in (Wish(3, 3), Wish(9, 9), Wish(1, 4)):
        folder = control.scale_rewards(wish, "control-test/online")
        assert folder.endswith("runs/control-test/online")

    async def job():
        pools = [Pool(), Pool()]
        granting = [asyncio.create_task(control.grant(*pair)) for pair in zip(desks, pools, strict=True)]
        while len(pools[1].asked) < 2:
            await asyncio.sleep(0.05)
        for task in granting:
            task.cancel()
        return pools

    offline, online = asyncio.run(asyncio.wait_for(job(), 60))
    assert (offline.asked, online.asked) == ([], [3, (1, 4)])
    assert "reward actors: the cluster is full" in capsys.readouterr().out
    for desk in desks:
        ray_cluster.kill(desk)
