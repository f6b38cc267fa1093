"""Defines the records that cross processes: samples, prompts, completions, groups, reward queries and their results."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from envs.language.posterior import Posterior
from envs.taxonomy import Degradation


@dataclass(frozen=True)
class Sample:
    """Holds one row of a corpus. Images are uint8 (H, W, 3); clean and degradation are None where nobody knows them.

    transmission: the true map of haze, float32 (H, W) in 0 .. 1, where it was asked for and haze follows depth.
    noise: standard deviation of the noise of `degraded` on [0, 1], where it is known.
    """

    sample_id: str
    photo_id: str
    split: str
    degraded: np.ndarray
    clean: np.ndarray | None = None
    degradation: Degradation | None = None
    transmission: np.ndarray | None = None
    noise: float | None = None

    def content(self) -> str:
        """Returns 16 hex digits that change with either picture: what a score depends on beside its query."""
        digest = hashlib.blake2b(digest_size=8)
        for picture in (self.degraded, self.clean):
            digest.update(f"{None if picture is None else picture.shape}".encode())
            digest.update(b"" if picture is None else np.ascontiguousarray(picture))
        return digest.hexdigest()


@dataclass(frozen=True)
class Prompt:
    """Asks about one picture. `sample` is a `Sample` or an object reference: images travel once, references after."""

    sample_id: str
    sample: Any


@dataclass(frozen=True)
class Completion:
    """Holds one sampled answer. logprobs: of each token under the weights that sampled it. posteriors: of its numbers,
    in the order it gives them, where they were asked for (`envs.language.posterior`)."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finished: bool = True
    posteriors: tuple[Posterior, ...] = ()


@dataclass(frozen=True)
class Group:
    """Holds the completions of one prompt (G of them), sampled with the weights of `weight_version`."""

    prompt: Prompt
    completions: tuple[Completion, ...]
    weight_version: int
    seconds: float = 0.0


@dataclass(frozen=True)
class RewardQuery:
    """Asks for one restoration to be scored. Equal (sample_id, degradation) are one query. `sample` as in `Prompt`.

    degradation: by what it is restored; None: not at all, the degraded picture is scored as it is.
    picture: the restored picture is wanted too, not its score alone.
    content: `Sample.content`, where several corpora may use one sample_id for different pictures; else empty.
    restorer: name of the one to be used for this picture; empty: the pool's own.
    """

    sample_id: str
    sample: Any = field(compare=False, hash=False, repr=False)
    degradation: Degradation | None = None
    picture: bool = False
    content: str = ""
    restorer: str = ""

    @property
    def key(self) -> tuple:
        return (self.sample_id, self.degradation, self.picture, self.content, self.restorer)


@dataclass(frozen=True)
class Gated:
    """Tells that the gate turned the answer away before any restoration (Appendix D): -1, below any restoration's."""

    reason: str
    reward: float = -1.0


@dataclass(frozen=True)
class Scored:
    """Tells that a restoration was scored. `parts` are the reward's terms; `actor` and `seconds` say who and how long.

    picture: uint8 (H, W, 3), where the query asked for it.
    """

    reward: float
    parts: dict = field(default_factory=dict)
    actor: str = ""
    seconds: float = 0.0
    cached: bool = False
    picture: np.ndarray | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Failed:
    """Tells that no score could be had; the completion is masked out of its group, never turned into a number."""

    reason: str
