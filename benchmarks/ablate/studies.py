"""What is compared with what: the variants of Table 4, Table 5 and Figure 7, and the cells they make with seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from configs.load import changed
from configs.schema import Config

SEEDS = 3
"""Trainings of each variant, with the seeds `seed`, `seed` + 1, ...; run again with another `seed` for more."""
WIDTH = 2.0
"""Ordinal targets of every SFT, in bins of the finest grid, as for the shipped warm start (Proposition 4.1)."""


@dataclass(frozen=True)
class Variant:
    """Describes one row of a table.

    training: `none` (config.policy as it is), `offline`, `continue` (SFT from config.policy for the wall time of the
    `structured` cell of the same seed) or `scratch` (SFT from random weights).
    settings: what it changes in the study's settings, by dotted key.
    paper: J-Acc, P-Rel and PSNR (dB) of the paper's row.
    """

    name: str
    title: str
    training: str
    settings: Mapping[str, object] = field(default_factory=dict)
    paper: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """Lists the variants in the order in which they are trained; against: those that the others are compared with.

    measures: what its plot shows. paper: the paper's rows of trainings that no variant repeats, {title: measures}.
    """

    name: str
    title: str
    variants: tuple[Variant, ...]
    against: tuple[str, ...]
    measures: tuple[str, ...] = ("j_acc", "p_rel", "psnr")
    paper: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def variant(self, name: str) -> Variant:
        """Returns the variant of a name."""
        return next(variant for variant in self.variants if variant.name == name)


@dataclass(frozen=True)
class Cell:
    """Names one training and its evaluation. seed: None where nothing is trained."""

    variant: str
    seed: int | None

    def folder(self, out: Path) -> Path:
        """Returns OUT/VARIANT/seed-S; it holds train/ and evaluate/."""
        return out / self.variant if self.seed is None else out / self.variant / f"seed-{self.seed}"


def _paper(j_acc: float, p_rel: float, psnr: float) -> dict[str, float]:
    return {"j_acc": j_acc, "p_rel": p_rel, "psnr": psnr}


_SFT = {"learner.smooth": WIDTH, "learner.refresh": True, "learner.trained": "all"}
_SCRATCH = {**_SFT, "learner.lr": 1e-3, "learner.warmup": 50}
_CONTINUE = {**_SFT, "learner.lr": 1e-4, "learner.warmup": 5}


def _seeing(*views: str, rationale: bool = True) -> dict[str, object]:
    return {**_SCRATCH, "world.views": list(views), "world.rationale": rationale}


def _saying(rationale: bool, style: str = "severity") -> dict[str, object]:
    return {**_SCRATCH, "world.rationale": rationale, "world.rationale_style": style}


def _grid(scale: int) -> dict[str, object]:
    """Equally wide targets on every grid, and no new values drawn on it: the pictures are those of the fine one."""
    return {**_SCRATCH, "learner.refresh": False, "learner.smooth": WIDTH / scale, "world.step_scale": float(scale)}


TABLE4 = Study(
    "table4",
    "Table 4: what the policy sees, and whether it answers in words first",
    (
        Variant("full", "image, FFT, edges; rationale", "scratch", _seeing("image", "fft", "edge")),
        Variant("no-fft", "without FFT", "scratch", _seeing("image", "edge")),
        Variant("no-edge", "without edges", "scratch", _seeing("image", "fft")),
        Variant("no-rationale", "without rationale", "scratch", _seeing("image", "fft", "edge", rationale=False)),
        Variant("image", "image alone", "scratch", _seeing("image")),
    ),
    against=("full",),
    paper={
        "image, FFT, edges; rationale": _paper(0.991, 0.105, 24.32),
        "without FFT": _paper(0.985, 0.110, 21.84),
        "without edges": _paper(0.972, 0.122, 22.31),
        "without rationale": _paper(0.914, 0.207, 22.95),
    },
)
TABLE5 = Study(
    "table5",
    "Table 5: what reinforcement adds to SFT",
    (
        Variant("warm_start", "warm start (SFT only)", "none", paper=_paper(0.965, 0.139, 22.15)),
        Variant("structured", "+ structured RL", "offline", {"reward.strategy": "structured"},
                _paper(0.991, 0.105, 24.32)),
        Variant("sft", "+ SFT for the same wall time", "continue", _CONTINUE),
        Variant("naive", "+ naive RL", "offline", {"reward.strategy": "naive"}, _paper(0.952, 0.125, 22.89)),
    ),
    against=("warm_start", "sft", "naive"),
)  # fmt: skip
FIGURE7 = Study(
    "figure7",
    "Figure 7: the step of the value grid",
    tuple(Variant(f"step-{scale}", f"Δ = {0.01 * scale:g}", "scratch", _grid(scale)) for scale in (1, 5, 10)),
    against=("step-1",),
    measures=("p_rel", "p_abs", "j_acc"),
)
RATIONALE = Study(
    "rationale",
    "What an answer says before its numbers: nothing, the severity, or the evidence of the views",
    (
        Variant("none", "without rationale", "scratch", _saying(False)),
        Variant("severity", "severity in words", "scratch", _saying(True)),
        Variant("evidence", "evidence of the views", "scratch", _saying(True, "evidence")),
    ),
    against=("none", "severity"),
)
IQA = Study(
    "iqa",
    "What a score of a picture alone teaches: PIQE, the metric of pyiqa that needs no weights",
    (
        Variant("warm_start", "warm start (SFT only)", "none"),
        Variant("truth", "+ RL against the truth", "offline"),
        Variant("piqe", "+ RL by PIQE", "offline", {"reward.scorer": ["piqe"]}),
    ),
    against=("warm_start", "truth"),
)
STUDIES = {study.name: study for study in (TABLE4, TABLE5, FIGURE7, RATIONALE, IQA)}


def cells(study: Study, seeds: Sequence[int]) -> list[Cell]:
    """Lists all cells, seed by seed, so that the first seed of every variant is there before the second of any."""
    once = [Cell(variant.name, None) for variant in study.variants if variant.training == "none"]
    trained = [variant.name for variant in study.variants if variant.training != "none"]
    return once + [Cell(name, seed) for seed in seeds for name in trained]


def settings(config: Config, variant: Variant | None = None, **changes: object) -> Config:
    """Copies the study's settings with those of the variant, and with `changes` of top-level ones."""
    return changed(config, {**(variant.settings if variant else {}), **changes}, "ablate")
