"""The table of nuisances: the same samples as files of cameras and the web would have them, read and restored again.

Every row degrades the clean pictures of a corpus by their own true values and one nuisance beside them. What is asked
of each: is the type still right, are the numbers, does restoring still help, and does a clean picture stay as it is?
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from benchmarks.quality.columns import Task
from benchmarks.quality.measures import Quality
from envs.bootstrap import mean_interval
from envs.corpus.generate import degrade
from envs.language.reading import Reading
from envs.metrics import measure
from envs.nuisances import Nuisances
from envs.taxonomy import NONE, Taxonomy
from envs.types import Sample

WORSE = 0.5
"""dB below the given picture from which on a restoration has made it worse."""
UNTOUCHED = 40.0
"""dB to itself that a clean picture must keep."""
SMALLEST = 0.5
"""Of a picture's side, before it is enlarged."""
ENLARGEMENTS = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC, "Lanczos": cv2.INTER_LANCZOS4}


@dataclass(frozen=True)
class Row:
    """Says what a row does: nuisances on the way of the light, then something done to the picture, uint8 (H, W, 3)."""

    name: str
    nuisances: Nuisances = Nuisances()
    afterwards: Callable[[np.ndarray], np.ndarray] | None = None


def enlarged(method: str) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that shows a picture as its half size enlarged again."""

    def through_half(picture: np.ndarray) -> np.ndarray:
        small = cv2.resize(picture, None, fx=SMALLEST, fy=SMALLEST, interpolation=cv2.INTER_AREA)
        return cv2.resize(small, picture.shape[1::-1], interpolation=ENLARGEMENTS[method])

    return through_half


def grey(picture: np.ndarray) -> np.ndarray:
    """Takes the colours out of a picture, uint8 (H, W, 3)."""
    return cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


ROWS = (
    Row("none"),
    *(Row(f"noise {level}/255", Nuisances(sensor_noise=float(level))) for level in (1, 3, 8)),
    *(Row(f"JPEG {quality}", Nuisances(jpeg_quality=quality)) for quality in (95, 85, 70)),
    Row("noise 3/255 and JPEG 85", Nuisances(sensor_noise=3.0, jpeg_quality=85)),
    *(Row(f"half size, {method}", afterwards=enlarged(method)) for method in ENLARGEMENTS),
    Row("exposure x 1.1, white balance", Nuisances(exposure=1.1, white_balance=(1.03, 1.0, 0.97))),
    Row("gray", afterwards=grey),
)


def sample_of(row: Row, sample: Sample) -> Sample:
    """Makes the sample of a row: `sample`, whose clean picture and truth are known, degraded with the row's nuisance.

    A picture without colours is compared with its clean picture without colours.
    """
    clean = row.nuisances.exposed(sample.clean)
    degraded = degrade(clean, sample.degradation, sample.transmission, row.nuisances)
    if row.afterwards:
        degraded = row.afterwards(degraded)
        clean = grey(clean) if row.afterwards is grey else clean
    return replace(sample, sample_id=f"{sample.sample_id}~{row.name}", clean=clean, degraded=degraded)


Ask = Callable[[Sequence[Sample]], Sequence[Reading]]
Restore = Callable[[Sequence[Sample], Sequence[tuple[int, Task]]], Mapping[tuple[int, Task], Quality]]


def measure_rows(samples: Sequence[Sample], taxonomy: Taxonomy, ask: Ask, restore: Restore) -> dict[str, dict]:
    """Asks about every sample of every row, restores what was read, and measures both.

    Args:
        samples: with their clean pictures.

    Returns:
        {row: the result of `summarise`}.
    """
    every = [sample_of(row, sample) for row in ROWS for sample in samples]
    readings = ask(every)
    tasks = [Task("diffusion", r.degradation, shown=True) if _acts(r) else Task() for r in readings]
    made = restore(every, [(index, task) for index, own in enumerate(tasks) for task in (own, Task())])
    pairs = [(made[index, Task()], made[index, own]) for index, own in enumerate(tasks)]
    count, summary = len(samples), {}
    for number, row in enumerate(ROWS):
        mine = slice(number * count, (number + 1) * count)
        summary[row.name] = summarise(every[mine], readings[mine], pairs[mine], taxonomy)
    return summary


def summarise(
    samples: Sequence[Sample],
    readings: Sequence[Reading],
    qualities: Sequence[tuple[Quality, Quality]],
    taxonomy: Taxonomy,
) -> dict:
    """Measures one row: {"j_acc", "p_rel", "gain": dB over the given, "worse": share, "clean": {...}, "types": {...}}.

    qualities: of the picture as given and as restored. Intervals are of 95 %, by bootstrap over samples; clean pictures
    (type `none`) count under "clean" alone.
    """
    result = measure([s.degradation for s in samples], list(readings), taxonomy, resamples=0)
    right = [float(r.degradation is not None and r.degradation.type == s.degradation.type) for r, s in
             zip(readings, samples, strict=True)]  # fmt: skip
    summary = {"samples": len(samples), "j_acc": list(mean_interval(right)), "p_rel": result.p_rel, "types": {}}
    gains = [_gain(*pair) for pair in qualities]
    kinds = [sample.degradation.type for sample in samples]
    harmed = [gain for gain, kind in zip(gains, kinds, strict=True) if kind != NONE]
    if harmed:
        summary |= {"gain": list(mean_interval(harmed)), "worse": float(np.mean(np.array(harmed) < -WORSE))}
    for kind in dict.fromkeys(kinds):
        mine = [i for i, name in enumerate(kinds) if name == kind]
        cell = {"samples": len(mine), "j_acc": float(np.mean([right[i] for i in mine]))}
        if kind != NONE:
            cell |= {
                "gain": list(mean_interval([gains[i] for i in mine])),
                "worse": float(np.mean([gains[i] < -WORSE for i in mine])),
            }
        summary["types"][kind] = cell
    clean = [i for i, kind in enumerate(kinds) if kind == NONE]
    if clean:
        changed = [_change(samples[i], readings[i], *qualities[i]) for i in clean]
        summary["clean"] = {
            "none": float(np.mean([readings[i].degradation is not None and not _acts(readings[i]) for i in clean])),
            "changed": float(np.mean([each < UNTOUCHED for each in changed])),
            "worst": float(min(changed)),
        }
    return summary


def _acts(reading: Reading) -> bool:
    """Whether anything is done to the picture: an answer that names no degradation, or is none, leaves it."""
    return reading.degradation is not None and bool(reading.degradation.phenomena)


def _gain(given: Quality, restored: Quality) -> float:
    """dB; a picture that is equal to its clean one has 100."""
    return min(restored.psnr, 100.0) - min(given.psnr, 100.0)


def _change(sample: Sample, reading: Reading, given: Quality, restored: Quality) -> float:
    """How near a picture with nothing wrong stays to itself, dB; 100 where nothing was done."""
    if not _acts(reading):
        return 100.0
    error = np.mean((restored.picture.astype(float) - sample.degraded.astype(float)) ** 2)
    return 100.0 if error == 0 else float(10 * np.log10(255**2 / error))
