"""Requests to scale a running job, on a real cluster."""

import asyncio

import pytest
from ray.exceptions import GetTimeoutError, RayActorError

from configs import UserError, load
from configs.cluster import scaling as control
from configs.cluster.scaling import ScaleRequest


@pytest.mark.parametrize(("text", "bounds"), [("3", (3, 3)), ("2:8", (2, 8)), ("1:1", (1, 1))])
def test_a_number_is_a_fixed_size_and_two_are_bounds(text, bounds):
    assert control.parse_request(text) == ScaleRequest(*bounds)


@pytest.mark.parametrize("text", ["0", "", "-1", "3:2", "2:", ":2", "many", "1:2:3", "1:5000", "²"])
def test_what_is_no_number_of_actors_is_refused(text):
    with pytest.raises(UserError, match="expected N or MIN:MAX"):
        control.parse_request(text)


@pytest.mark.parametrize(
    ("run", "ends"),
    [("first/offline", True), ("offline", True), ("/runs/first/offline", True), ("first/offline/", True), ("", True),
     ("rst/offline", False), ("first", False), ("/first/offline", False), ("/work/runs/first/offline", False)],
)  # fmt: skip
def test_a_job_is_actor_names_by_the_last_names_of_its_folder(run, ends):
    assert control.ends_in("/runs/first/offline", run) is ends


@pytest.mark.parametrize("error", [ValueError("no such actor"), GetTimeoutError("not in time"), RayActorError()])
def test_a_job_that_ends_before_it_takes_the_request_is_one_message(monkeypatch, error):
    import ray

    def gone(*_, **__):
        raise error

    monkeypatch.setattr("configs.cluster.connect.connect", lambda: None)
    monkeypatch.setattr(control, "_actor_names", lambda: ["/runs/first/offline", "/runs/notfirst/offline"])
    monkeypatch.setattr(ray, "get_actor", gone)
    with pytest.raises(UserError, match="/runs/first/offline did not take the request"):
        control.scale_rewards(ScaleRequest(2, 2), "first/offline")


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


class Mailbox:
    """Gives requests in order, as the mailbox's actor does, then none."""

    def __init__(self, *requests):
        self.get, self._requests = self, list(requests)

    async def remote(self):
        return self._requests.pop(0) if self._requests else await asyncio.Future()


def test_an_actor_that_dies_while_it_starts_does_not_make_the_job_deaf_to_later_requests(capsys):
    class Fragile(Pool):
        async def resize(self, actors):
            if actors == 2:
                raise RayActorError
            await super().resize(actors)

    async def job(pool):
        applying = asyncio.create_task(control.apply_requests(Mailbox(ScaleRequest(2, 2), ScaleRequest(3, 3)), pool))
        await asyncio.wait([applying], timeout=0.1)
        applying.cancel()

    pool = Fragile()
    asyncio.run(job(pool))
    assert pool.asked == [3]
    assert "reward actors: The actor experienced an error" in capsys.readouterr().out


@pytest.mark.engine
def test_a_request_reaches_the_job_it_names_and_one_too_many_does_no_harm(ray_cluster, capsys):
    config = load("offline", ["name=control-test"])
    with pytest.raises(UserError, match="found none"):
        control.scale_rewards(ScaleRequest(3, 3))
    mailboxes = [control.open_mailbox(config, job) for job in ("offline", "online")]
    ray_cluster.get([mailbox.__ray_ready__.remote() for mailbox in mailboxes])
    with pytest.raises(UserError, match="say which"):
        control.scale_rewards(ScaleRequest(3, 3))
    for request in (ScaleRequest(3, 3), ScaleRequest(9, 9), ScaleRequest(1, 4)):
        folder = control.scale_rewards(request, "control-test/online")
        assert folder.endswith("runs/control-test/online")

    async def job():
        pools = [Pool(), Pool()]
        applying = [asyncio.create_task(control.apply_requests(*pair)) for pair in zip(mailboxes, pools, strict=True)]
        while len(pools[1].asked) < 2:
            await asyncio.sleep(0.05)
        for task in applying:
            task.cancel()
        return pools

    offline, online = asyncio.run(asyncio.wait_for(job(), 60))
    assert (offline.asked, online.asked) == ([], [3, (1, 4)])
    assert "reward actors: the cluster is full" in capsys.readouterr().out
    for mailbox in mailboxes:
        ray_cluster.kill(mailbox)
