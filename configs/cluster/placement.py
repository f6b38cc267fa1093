"""Places the actors of a role on the cluster: one placement group a role, made with a deadline.

A bundle is one actor, so an actor (an engine spread over several GPUs, too) never spans two machines. Learner ranks
and rollout engines are packed, all of a role or none. Reward actors have no group: each is placed alone, by Ray's
`SPREAD`, so that one more or one less touches nobody, and what a smaller pool gives back is free for others.
"""

from __future__ import annotations

from collections.abc import Mapping

from configs.cluster.resources import Node, ResourcePlan, Role, table
from configs.errors import UserError

DEADLINE = 60.0
"""Seconds in which the cluster must place a role that fits it."""
_groups: dict[Role, object] = {}
"""Placement groups of roles whose actors are not there yet."""


def reserve(plan: ResourcePlan) -> None:
    """Asks for the GPUs of the packed roles, the largest first, before reward actors are spread over the nodes.

    A reward actor that comes first would take a GPU of every node, and leave none whole for the learner.
    """
    for role in sorted(plan.roles, key=lambda role: -role.count * role.gpus):
        if role.packed and role.gpus:
            _groups[role] = _placement_group(role)


def nodes() -> list[Node]:
    """Lists the living nodes of the cluster this process is connected to. What is free may be a second old."""
    import ray
    from ray._private.state import available_resources_per_node  # Ray has no public name for it

    free, living = available_resources_per_node(), []
    for node in ray.nodes():
        if node["Alive"]:
            total, now = node["Resources"], free.get(node["NodeID"], {})
            shares = (has.get(kind, 0.0) for has in (total, now) for kind in ("CPU", "GPU"))
            living.append(Node(node["NodeManagerAddress"], *shares))
    return living


class Reservation:
    """Holds room for `role.count` actors of one role, from its making until `release`.

    The process must be connected. Raises UserError when the cluster has not made room within `deadline` seconds.
    """

    def __init__(self, role: Role, deadline: float = DEADLINE):
        self._group = _groups.pop(role, None) or _placement_group(role)
        if self._group is None:
            return
        if not self._group.wait(deadline):
            self.release()
            raise UserError(
                f"no room in {deadline:g} s for {role}: others hold the cluster, or a machine left it. Wait for them, "
                f"stop them (`duvlm stop`), or ask for less. The cluster now:\n{table(nodes())}"
            )

    def options(self, index: int) -> Mapping:
        """Returns the options of the Ray actor in place `index`, and of the one that follows it there."""
        if self._group is None:
            return {}
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        strategy = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=index)
        return {"scheduling_strategy": strategy}

    def release(self) -> None:
        """Gives the room back; actors that are still in it end."""
        from ray.util import remove_placement_group

        group, self._group = self._group, None
        if group is not None:
            remove_placement_group(group)


def _placement_group(role: Role):
    """Asks for the room of a role; None where it reserves nothing: Ray has no empty bundles."""
    bundle = {name: share for name, share in (("CPU", role.cpus), ("GPU", role.gpus)) if share}
    if not bundle:
        return None
    from ray.util import placement_group

    return placement_group([bundle] * role.count, strategy="PACK")
