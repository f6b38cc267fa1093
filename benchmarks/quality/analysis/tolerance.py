"""How much an error of a parameter costs the restoration (Section 5.4, Figures 6, 10 and 11).

The paper correlates |error| with PSNR, SSIM and LPIPS over samples. Photographs differ more than restorations do, so
beside that stands the same with each sample's restoration at true parameters subtracted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from envs.language.reading import Reading
from envs.taxonomy import Degradation

MEASURES = ("psnr", "ssim", "lpips")
FEWEST = 5
"""Points below which a correlation is not worth a number."""


def points(truths: Sequence[Degradation], readings: Sequence[Reading], qualities: Mapping[str, Sequence]) -> list[dict]:
    """Lists one row a (sample, key) whose answer was valid and of the right type: what Figures 6, 10 and 11 draw.

    {"sample", "type", "key", "error" (mean |error| in the key's unit), "relative", psnr, ssim, lpips, and
    "psnr_change" and so on: against the restoration at true parameters}.
    """
    rows = []
    for number, (truth, reading) in enumerate(zip(truths, readings, strict=True)):
        if reading.degradation is None or reading.degradation.type != truth.type:
            continue
        after, best = (_measures(qualities[name][number]) for name in ("after", "true parameters"))
        for key, value in truth.values:
            target = np.ravel(value).astype(float)
            error = np.abs(np.ravel(reading.degradation[key]).astype(float) - target)
            row = {"sample": number, "type": truth.type, "key": key, "error": float(error.mean())}
            row["relative"] = float(error.sum() / max(np.abs(target).sum(), 1e-12))
            rows.append(row | after | {f"{name}_change": after[name] - best[name] for name in after})
    return rows


def correlations(rows: Sequence[Mapping]) -> dict:
    """Computes {key: {measure: {"pearson", "spearman": [r, low, high] or None, "samples"}}}, measures also as changes.

    Intervals are 95 %: Fisher's for Pearson, Bonett and Wright's for Spearman. None where there are too few points
    or an axis has no spread.
    """
    result: dict[str, dict] = {}
    for key in dict.fromkeys(row["key"] for row in rows):
        mine = [row for row in rows if row["key"] == key]
        errors = [row["error"] for row in mine]
        names = [f"{name}{suffix}" for name in MEASURES if name in mine[0] for suffix in ("", "_change")]
        result[key] = {name: correlate(errors, [row[name] for row in mine]) for name in names}
    return result


def correlate(x: Sequence[float], y: Sequence[float]) -> dict:
    """Computes Pearson's and Spearman's correlation with 95 % intervals."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    if len(x) < FEWEST or np.ptp(x) < 1e-12 or np.ptp(y) < 1e-12:
        return {"samples": len(x), "pearson": None, "spearman": None}
    pearson, spearman = float(np.corrcoef(x, y)[0, 1]), float(stats.spearmanr(x, y).statistic)
    return {
        "samples": len(x),
        "pearson": [pearson, *_interval(pearson, 1 / (len(x) - 3))],
        "spearman": [spearman, *_interval(spearman, (1 + spearman**2 / 2) / (len(x) - 3))],
    }


def _interval(r: float, variance: float) -> tuple[float, float]:
    """The 95 % interval of a correlation whose arctanh has this variance."""
    middle, reach = np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12)), 1.959964 * variance**0.5
    return float(np.tanh(middle - reach)), float(np.tanh(middle + reach))


def _measures(quality) -> dict[str, float]:
    measures = {"psnr": quality.psnr, "ssim": quality.ssim}
    return measures | ({"lpips": quality.scores["lpips"]} if "lpips" in quality.scores else {})
