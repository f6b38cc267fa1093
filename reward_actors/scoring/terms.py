"""The terms of a reward: how they are written, which there are, which way is up (docs/scorers.md)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from configs import UserError, plugins
from reward_actors.scoring import natural_statistics, no_reference, rank_iqa, third_party
from reward_actors.scoring.full_reference import (
    clipped,
    consistency,
    consistency_db,
    implausible_brightness,
    mse,
    psnr,
    ssim,
)

Spec = str | Sequence[str]
WITH_TRUTH: dict[str, Callable] = {"mse": mse, "psnr": psnr, "ssim": ssim}
WITHOUT_TRUTH: dict[str, Callable] = {
    "consistency": lambda restored, sample, degradation: consistency(restored, sample.degraded, degradation),
    "consistency_db": lambda restored, sample, degradation: consistency_db(restored, sample.degraded, degradation),
    "range": lambda restored, sample, degradation: clipped(restored),
    "brightness": lambda restored, sample, degradation: implausible_brightness(restored),
}
BESIDE_DEGRADED = {"rank_iqa": rank_iqa.rank}
"""Networks that see the restoration and the degraded picture."""
AGREEMENT = "agreement"
"""The term that needs the other answers to the same picture. A reward actor leaves it out, the pool adds
it to a group (`reward_actors.scoring.agreement`)."""
SHIPPED = {
    **dict.fromkeys(("niqe_local", *natural_statistics.STATISTICS), natural_statistics.SHIPPED),
    "rank_iqa": rank_iqa.SHIPPED,
}
"""The file that a term reads where it names none."""
LOWER_IS_BETTER = ("mse", "range", "brightness")
_OURS = (*WITH_TRUTH, *WITHOUT_TRUTH, *BESIDE_DEGRADED, AGREEMENT)


@dataclass(frozen=True)
class Term:
    """Holds one term of a reward. file: weights of its own, a folder for `brisque`, or empty."""

    name: str
    weight: float = 1.0
    file: str = ""

    @property
    def needs_truth(self) -> bool:
        if self.name in (*_OURS, *no_reference.OURS):
            return self.name in WITH_TRUTH
        return third_party.needs_truth(self.name)

    @property
    def sign(self) -> int:
        return 1 if higher_is_better(self.name) else -1


def higher_is_better(name: str) -> bool:
    """The direction of a part's raw value. Raises UserError where no term has the name."""
    if name in _OURS:
        return name not in LOWER_IS_BETTER
    return no_reference.higher_is_better(name)


def terms(scorer: Spec) -> tuple[Term, ...]:
    """The terms of `reward.scorer`: one, or a list of them.

    Raises:
        UserError: a term that cannot be read, is there twice, or whose name nobody knows.
    """
    return _terms((scorer,) if isinstance(scorer, str) else tuple(scorer))


def with_alternatives(scorer: Spec) -> tuple[list[str], list[str]]:
    """Takes, of alternatives such as `niqe|niqe_local:0.97`, the first whose package and weights are here.

    Scores of a picture alone may have alternatives; the last of them is taken untried.

    Returns:
        (the terms, a sentence for each score in whose place another is taken)
    """
    taken, notes = [], []
    for text in [scorer] if isinstance(scorer, str) else scorer:
        names, rest = re.fullmatch(r"([^:@]*)(.*)", text, re.DOTALL).groups()
        *earlier, chosen = names.split("|")
        lacking: dict[str, UserError] = {}
        for name in earlier:
            try:
                no_reference.try_out(name)
            except UserError as error:
                lacking[name] = error
                continue
            chosen = name
            break
        notes += [f"note: reward.scorer: {chosen} in place of {name}: {error}" for name, error in lacking.items()]
        taken.append(chosen + rest)
    return taken, notes


def fingerprint(scorer: Spec) -> str:
    """Names everything that changes a score of the same restoration, in 16 hex digits; loads nothing.

    Raises:
        UserError: as `terms`, or weights are missing.
    """
    digest = hashlib.sha256()
    for term in terms(scorer):
        path = Path(term.file).expanduser() if term.file else SHIPPED.get(term.name)
        if path is not None and not path.exists():
            raise UserError(f"reward.scorer: {term.name}: no such file: {path}")
        digest.update(f"{term.name}:{term.weight}{plugins.version(plugins.SCORERS, term.name)}".encode())
        for file in _files(path):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _files(path: Path | None) -> list[Path]:
    """Lists the weights at a path: its file, or the files of its folder."""
    if path is None:
        return []
    return [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())


@lru_cache
def _terms(scorer: tuple[str, ...]) -> tuple[Term, ...]:
    chosen = tuple(_term(text) for text in scorer)
    names = [term.name for term in chosen]
    if not chosen or len(set(names)) < len(names):
        raise UserError(f"reward.scorer={','.join(scorer)}: expected different terms, at least one")
    return chosen


def _term(text: str) -> Term:
    head, _, file = text.partition("@")
    name, colon, weight = head.partition(":")
    try:
        term = Term(name, float(weight) if colon else 1.0, file)
    except ValueError:
        term = Term("")
    if not term.name or not term.weight > 0:
        raise UserError(f"reward.scorer={text}: expected NAME, NAME:WEIGHT or NAME:WEIGHT@FILE, weight above 0")
    higher_is_better(name)  # or UserError: nobody knows it
    return term
