"""Means of restorations by type, with 95 % intervals: the numbers of Tables 2 and 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.quality.restorations import Quality
from envs.bootstrap import mean_interval
from envs.taxonomy import Degradation


def table(qualities: Mapping[str, Sequence[Quality]], truths: Sequence[Degradation]) -> dict:
    """Table 2: {type, or "all": {column: {"psnr", "psnr_interval", "ssim", "ssim_interval", "samples"}}}; and lpips."""
    return {
        kind: {name: _means([column[i] for i in rows]) for name, column in qualities.items()}
        for kind, rows in _rows(truths).items()
    }


def no_reference_table(qualities: Mapping[str, Sequence[Quality]], truths: Sequence[Degradation]) -> dict:
    """Table 3: {type, or "all": {column: {score, f"{score}_interval", "samples"}}} over the scored samples."""
    result = {}
    for kind, rows in _rows(truths).items():
        for name, column in qualities.items():
            scored = [column[i].scores for i in rows if set(column[i].scores) - {"lpips"}]
            cell = {"samples": len(scored)}
            for score in sorted({n for found in scored for n in found} - {"lpips"}):
                mean, low, high = mean_interval([found[score] for found in scored if score in found])
                cell |= {score: mean, f"{score}_interval": [low, high]}
            result.setdefault(kind, {})[name] = cell
    return result if any(cell["samples"] for cells in result.values() for cell in cells.values()) else {}


def gain(after: Sequence[Quality], before: Sequence[Quality]) -> tuple[float, float, float]:
    """(mean PSNR gained, low, high), paired by sample."""
    return mean_interval([a.psnr - b.psnr for a, b in zip(after, before, strict=True)])


def _rows(truths: Sequence[Degradation]) -> dict[str, list[int]]:
    kinds = sorted({truth.type for truth in truths})
    rows = {kind: [i for i, truth in enumerate(truths) if truth.type == kind] for kind in kinds}
    return rows | {"all": list(range(len(truths)))}


def _means(qualities: Sequence[Quality]) -> dict:
    columns = {name: [getattr(quality, name) for quality in qualities] for name in ("psnr", "ssim")}
    if all("lpips" in quality.scores for quality in qualities):
        columns["lpips"] = [quality.scores["lpips"] for quality in qualities]
    result = {"samples": len(qualities)}
    for name, column in columns.items():
        mean, low, high = mean_interval(column)
        result |= {name: mean, f"{name}_interval": [low, high]}
    return result
