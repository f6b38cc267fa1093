"""`duvlm run rewards`: hosts a pool that other jobs use by its name, until it is interrupted."""

from __future__ import annotations

import asyncio

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from configs import UserError
from configs.cluster import connect, scaling
from configs.schema import Config
from reward_actors.pool.batches import unwrap_user_error
from reward_actors.pool.shared.host import PoolHost
from reward_actors.pool.stats import PoolStats

REPORT_SECONDS = 10.0
"""Between lines on what the pool does, where that has changed."""
MAX_CALLS = 100_000
"""Calls of a pool's actor under way at once, at most: a client has one for every group that waits."""


def run(config: Config) -> None:
    """Hosts the pool `name` with the actors of `reward.*` on the cluster it joins.

    Raises:
        UserError: no name, one that is taken, no room for the actors, or a prior that cannot be loaded.
        ray.exceptions.RayActorError: the process of the pool has died.
    """
    if not config.name:
        raise UserError("name: expected a name by which other jobs find the pool, as in name=shared")
    if config.reward.pool:
        raise UserError(f"reward.pool={config.reward.pool}: expected nothing, a pool uses no other; leave it out")
    connect.connect()
    if config.name in scaling.pools():
        raise _name_taken_error(config.name)
    connect.prepare(config, "rewards")
    asyncio.run(host_pool(config))


async def host_pool(config: Config, **options) -> None:
    """Keeps a pool open until cancelled; all its reward actors end with its own. options: of `PoolHost`."""
    host = create(config, **options)
    mailbox = scaling.open_mailbox(config, "rewards")
    requests = None
    try:
        await unwrap_user_error(host.open.remote())
        requests = asyncio.create_task(scaling.apply_requests(mailbox, _Scalable(host)))
        print(f"the pool is open: reward.pool={config.name} in the settings of other jobs", flush=True)
        printed = ""
        while True:
            line = describe(await host.stats.remote())
            if line != printed:
                print(line, flush=True)
            printed = line
            await asyncio.sleep(REPORT_SECONDS)
    finally:
        if requests:
            requests.cancel()
        ray.kill(mailbox)
        ray.kill(host)


def create(config: Config, **options) -> ActorHandle:
    """Creates the actor of a pool, not yet open: on this node, found by name, and gone when this process is.

    Raises:
        UserError: the name is taken.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    named = {"name": scaling.POOL + config.name, "namespace": scaling.NAMESPACE}
    actor = ray.remote(PoolHost).options(**named, num_cpus=0, max_concurrency=MAX_CALLS, scheduling_strategy=here)
    try:
        return actor.remote(config, **options)
    except ValueError:
        raise _name_taken_error(config.name) from None


def describe(stats: PoolStats) -> str:
    """Says in one line what a pool does, and for whom."""
    restarts = f", {stats.restarts} restarts" if stats.restarts else ""
    head = f"{stats.actors} reward actors{restarts}, {stats.queued} queries wait, oldest {stats.queue_age:.1f} s"
    clients = [
        f"{name}: {stats.waiting.get(name, 0)} wait, {counts.asked} asked, {counts.scored} restored, "
        f"{counts.memo_hits + counts.shared} known"
        for name, counts in stats.clients.items()
    ]
    return "; ".join([head, *clients])


class _Scalable:
    """Passes requests to scale on to the pool, which is in another process."""

    def __init__(self, host: ActorHandle):
        self._host = host

    async def resize(self, actors: int) -> None:
        await unwrap_user_error(self._host.resize.remote(actors))

    def autoscale(self, fewest: int, most: int) -> None:
        self._host.autoscale.remote(fewest, most)


def _name_taken_error(name: str) -> UserError:
    return UserError(
        f"name={name}: a pool of that name runs already; use it with reward.pool={name}, scale it with `duvlm scale "
        f"rewards N --run {name}/rewards`, or choose another name"
    )
