"""Restorers: named settings of the one sampler (`sampler`)."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace

from configs import UserError, plugins
from reward_actors.priors.base import Prior


@dataclass(frozen=True)
class Restorer:
    """Says how a picture is restored.

    steps: denoiser calls of one walk, no more than it has timesteps; 0 takes the closed form as it is.
    first, last: timesteps of the first and the last call.
    curve: 1 spaces the calls between evenly; above 1 they come closer together towards `last`.
    eta: share of fresh noise in each step (DDNM's eta).
    warm: begin at the closed form, noised to `first`; otherwise at pure noise.
    noise_aware: data are trusted in proportion to the noise left (DDNM+); otherwise always.
    num_samples: walks from different noise whose mean is the answer. Every second one mirrors the noise of the one
        before, so that already two lose the noise to first order.
    clip_to_data: the noise direction comes from the projected estimate, clamped to [0, 1], not from the network.
    travel, repeats: time travel (DDNM, Algorithm 2): each stretch of `travel` steps is walked `repeats` times,
        from the projected estimate noised again to where the stretch began. 0 is off.
    geometric: the calls are spaced so that noise levels, not timesteps, fall evenly, in logarithms; `curve` is unused.
    noise_free: no noise goes in, neither at the start nor between the steps: half-quadratic splitting with the prior
        as denoiser (plug and play).
    penalty: how much the denoiser's estimate weighs against the data beside what its noise level says (DPIR's lambda).
    denoiser: `prior`, the prior of the job, or `total_variation`, which needs none.
    """

    name: str
    steps: int
    first: int = 990
    last: int = 0
    curve: float = 1.0
    eta: float = 0.85
    warm: bool = False
    noise_aware: bool = False
    clip_to_data: bool = False
    num_samples: int = 1
    travel: int = 0
    repeats: int = 1
    geometric: bool = False
    noise_free: bool = False
    penalty: float = 1.0
    denoiser: str = "prior"

    @property
    def calls(self) -> int:
        """Pictures that go through the prior's network for one restoration."""
        return 0 if self.denoiser != "prior" else self.steps * self.num_samples * (self.repeats if self.travel else 1)

    def fingerprint(self, prior: Prior) -> str:
        """Names everything that changes a restoration, in 16 hex digits."""
        return hashlib.sha256(f"{sorted(asdict(self).items())} {prior.fingerprint}".encode()).hexdigest()[:16]


_WARM = {"eta": 0.0, "warm": True, "noise_aware": True, "clip_to_data": True}
_SPLITTING = {"warm": True, "noise_aware": True, "clip_to_data": True, "noise_free": True, "geometric": True}
RESTORERS = {
    restorer.name: restorer
    for restorer in (
        Restorer("ddnm", steps=100),
        Restorer("ddnm_plus", steps=100, noise_aware=True),
        Restorer("fast", steps=1, first=30, last=30, num_samples=2, **_WARM),
        Restorer("few", steps=12, first=600, curve=2.0, warm=True),
        Restorer("average", steps=2, first=100, last=30, num_samples=4, **_WARM),
        Restorer("hqs", steps=8, first=27, last=1, penalty=2.0, **_SPLITTING),
        Restorer("twice", steps=2, first=27, last=13, penalty=2.0, **_SPLITTING),
        Restorer("once", steps=1, first=20, last=20, **_SPLITTING),
        Restorer("tv", steps=8, first=27, last=1, denoiser="total_variation", **_SPLITTING),
        Restorer("closed_form", steps=0),
    )
}


def restorer(name: str, steps: int = 0) -> Restorer:
    """Looks up a restorer, ours or one that a package registers; steps 0 keeps its own number.

    Raises:
        UserError: no such name.
    """
    chosen = RESTORERS.get(name) or plugins.find(plugins.RESTORERS, name)
    if not isinstance(chosen, Restorer):
        known = ", ".join((*RESTORERS, *plugins.names(plugins.RESTORERS)))
        raise UserError(f"reward.restorer={name}: expected one of {known}" + (f", got {chosen!r}" if chosen else ""))
    if chosen.steps and steps not in (0, chosen.steps):
        last = chosen.first // steps if chosen.warm else chosen.last
        chosen = replace(chosen, steps=steps, last=last if steps > 1 else chosen.first)
    return chosen
