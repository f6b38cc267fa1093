"""`duvlm run rewards`: hosts a pool that other jobs use by its name, until it is interrupted."""

from __future__ import annotations

import asyncio

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from configs import UserError
from configs.cluster import connect as cluster
from configs.cluster import scaling as control
from configs.schema import Config
from reward_actors.pool.asking import asked
from reward_actors.pool.shared.host import CALLS, PoolHost
from reward_actors.pool.stats import PoolStats

SAY_SECONDS = 10.0
"""Between lines on what the pool does, where that has changed."""


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
    cluster.connect()
    if config.name in control.pools():
        raise _taken(config.name)
    cluster.prepare(config, "rewards")
    asyncio.run(host_pool(config))


async def host_pool(config: Config, **options) -> None:
    """Until cancelled. With the actor of the pool all its reward actors end. options: of `PoolHost`."""
    host = create(config, **options)
    mailbox = control.open_mailbox(config, "rewards")
    scaling_task = None
    try:
        await asked(host.open.remote())
        scaling_task = asyncio.create_task(control.apply_requests(mailbox, _Scalable(host)))
        print(f"the pool is open: reward.pool={config.name} in the settings of other jobs", flush=True)
        said = ""
        while True:
            now = line(await host.stats.remote())
            if now != said:
                print(now, flush=True)
            said = now
            await asyncio.sleep(SAY_SECONDS)
    finally:
        if scaling_task:
            scaling_task.cancel()
        ray.kill(mailbox)
        ray.kill(host)


def create(config: Config, **options):
    """The actor of a pool, not yet open: on this node, found by name, and gone when this process is.

    Raises:
        UserError: the name is taken.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    named = {"name": control.POOL + config.name, "namespace": control.NAMESPACE}
    actor = ray.remote(PoolHost).options(**named, num_cpus=0, max_concurrency=CALLS, scheduling_strategy=here)
    try:
        return actor.remote(config, **options)
    except ValueError:
        raise _taken(config.name) from None


def line(stats: PoolStats) -> str:
    """What a pool does, in one line."""
    restarts = f", {stats.restarts} restarts" if stats.restarts else ""
    head = f"{stats.actors} reward actors{restarts}, {stats.queued} queries wait, oldest {stats.queue_age:.1f} s"
    clients = [
        f"{name}: {stats.waiting.get(name, 0)} wait, {counts.asked} asked, {counts.scored} restored, "
        f"{counts.memo_hits + counts.shared} known"
        for name, counts in stats.clients.items()
    ]
    return "; ".join([head, *clients])


class _Scalable:
    """What the mailbox's scaling_task reach, in another process."""

    def __init__(self, host):
        self._host = host

    async def resize(self, actors: int) -> None:
        await asked(self._host.resize.remote(actors))

    def autoscale(self, fewest: int, most: int) -> None:
        self._host.autoscale.remote(fewest, most)


def _taken(name: str) -> UserError:
    return UserError(
        f"name={name}: a pool of that name runs already; use it with reward.pool={name}, scale it with `duvlm scale "
        f"rewards N --run {name}/rewards`, or choose another name"
    )
