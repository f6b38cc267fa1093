"""Where the actors of a role live: one placement group a role, made with a deadline.

A bundle is one actor, so an actor (an engine spread over several GPUs, too) never spans two machines. Learner ranks
and rollout engines are packed, all of a role or none. Reward actors have no group: each is placed alone, by Ray's
`SPREAD`, so that one more or one less touches nobody, and what a smaller pool gives back is free for others.
"""

from __future__ import annotations

from collections.abc import Mapping

from configs.cluster.connect import nodes
from configs.cluster.resources import Role, table
from configs.errors import UserError

DEADLINE = 60.0
"""Seconds in which the cluster must place a role that fits it."""


class Reservation:
    """Room for `role.count` actors of one role, held from its making until `release`.

    The process must be connected. Raises UserError when the cluster has not made room within `deadline` seconds.
    """

    def __init__(self, role: Role, deadline: float = DEADLINE):
        self._group = None
        bundle = {name: share for name, share in (("CPU", role.cpus), ("GPU", role.gpus)) if share}
        if not bundle:
            return  # reserves nothing: Ray has no empty bundles, and such an actor fits anywhere
        from ray.util import placement_group

        self._group = placement_group([bundle] * role.count, strategy="PACK")
        if not self._group.wait(deadline):
            self.release()
            raise UserError(
                f"no room in {deadline:g} s for {role}: others hold the cluster, or a machine left it. Wait for them, "
                f"stop them (`duvlm stop`), or ask for less. The cluster now:\n{table(nodes())}"
            )

    def options(self, index: int) -> Mapping:
        """Options of the Ray actor that takes place `index`; the next actor in that place takes the same."""
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
