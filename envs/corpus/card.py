"""What a corpus says about itself: counts, parameters, verification, provenance; for programs, people and the eye."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq

from envs.corpus.generate import FORMAT, Recipe
from envs.taxonomy import Key, Taxonomy, turns
from envs.world import world_taxonomy

BINS = 40
"""Bars of a histogram, at most."""
_REVIEW_ROWS = 6
_LISTED = 200  # photographs in README.md; corpus.json has all


def make_card(recipe: Recipe, skipped: Mapping[str, str], shards: Mapping[str, dict] | None = None) -> dict:
    """The content of corpus.json; it does not depend on when the corpus was built.

    shards: {file: its record}, see `envs.corpus.shards`; without them nothing is said about what is in the images.
    """
    taxonomy = world_taxonomy(recipe.world)
    order = [kind.name for kind in turns(taxonomy)]
    by_type = {
        split: dict.fromkeys(order, 0) | Counter(order[index % len(order)] for index in range(count))
        for split, count in recipe.counts.items()
    }
    photos = [
        {
            "photo_id": photo.photo_id,
            "split": split,
            "file": photo.path.name,
            "sha256": photo.digest,
            "licence": photo.licence,
            "author": photo.author,
            "source": photo.source,
        }
        for split, chosen in recipe.photos.items()
        for photo in chosen
    ]
    summary = {
        "format": FORMAT,
        "recipe": recipe.fingerprint(),
        "taxonomy": taxonomy.fingerprint(),
        "world": asdict(recipe.world),
        "size": recipe.size,
        "seed": recipe.seed,
        "counts": recipe.counts,
        "types": by_type,
    }
    if shards:
        summary["parameters"] = _parameters(shards, taxonomy)
        summary["verification"] = _verification(shards, recipe)
        summary["shards"] = {file: {name: record[name] for name in ("rows", "bytes", "sha256")}
                             for file, record in shards.items()}  # fmt: skip
    return summary | {"photos": photos, "skipped": _short(skipped)}


def readme(summary: dict) -> str:
    """The same in words: README.md of the corpus."""
    kinds = list(next(iter(summary["types"].values())))
    licences = Counter(photo["licence"] for photo in summary["photos"])
    lines = [
        "---",
        "configs:",
        "- config_name: default",
        "  data_files:",
        *(f"  - split: {split}\n    path: {split}-*.parquet" for split in summary["counts"]),
        "---",
        "# Degradation-understanding corpus",
        "",
        f"Crops of {summary['size']} px from {len(summary['photos'])} photographs, with known physics."
        f" Seed {summary['seed']}, taxonomy `{summary['taxonomy']}`, recipe `{summary['recipe']}`.",
        "Split by photo: no photo is in two splits.",
        "",
        "| split | samples | " + " | ".join(kinds) + " |",
        "|---|---|" + "---|" * len(kinds),
    ]
    for split, count in summary["counts"].items():
        cells = [split, count, *(summary["types"][split][kind] for kind in kinds)]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += [
        "",
        "Columns: `sample_id, photo_id, split, type, values` (JSON object: key to number or nested list),",
        "`answer` (the text a perfect model gives), `clean, degraded` (PNG bytes).",
        "`degraded` follows from `clean` and `values`.",
        "",
        "```python",
        "from datasets import load_dataset",
        'load_dataset("parquet", data_files={"test": "test-*.parquet"})',
        "```",
        "",
        "![a few samples: clean above degraded](review.png)",
        "",
        "## Parameters",
        "",
        "![histogram of each key of each type](parameters.png)",
        "",
        "## Verification",
        "",
        *_verification_lines(summary["verification"]),
        "",
        "## Photographs",
        "",
        "Licences: " + ", ".join(f"{name} ({count})" for name, count in licences.items()) + ".",
        "",
        "| photo | split | licence | author | source |",
        "|---|---|---|---|---|",
    ]
    for p in summary["photos"][:_LISTED]:
        lines.append(f"| {p['photo_id']} | {p['split']} | {p['licence']} | {p['author']} | {p['source']} |")
    if (more := len(summary["photos"]) - _LISTED) > 0:
        lines += ["", f"and {more} more, all in `corpus.json`."]
    if summary["skipped"]:
        listed = list(summary["skipped"].items())
        lines += ["", "## Skipped", "", *(f"- {name}: {why}" for name, why in listed[:_LISTED])]
        lines += [f"- and {len(listed) - _LISTED} more, all in `corpus.json`"] if len(listed) > _LISTED else []
    return "\n".join(lines) + "\n"


def review_sheet(folder: Path, splits: Sequence[str], columns: int = 12) -> None:
    """Writes review.png for the eye: the first samples of each split, clean above degraded."""
    rows = []
    for split in splits:
        for shard in sorted(folder.glob(f"{split}-00000-*.parquet")):
            head = next(pq.ParquetFile(shard).iter_batches(columns, columns=["clean", "degraded"])).to_pydict()
            for name in ("clean", "degraded"):
                encoded = [np.frombuffer(png, np.uint8) for png in head[name]]
                pictures = [cv2.imdecode(png, cv2.IMREAD_COLOR) for png in encoded]
                blank = [np.full_like(pictures[0], 255)] * (columns - len(pictures))
                rows.append(np.concatenate(pictures + blank, axis=1))
    cv2.imwrite(str(folder / "review.png"), np.concatenate(rows[:_REVIEW_ROWS], axis=0))


def _parameters(shards: Mapping[str, dict], taxonomy: Taxonomy) -> dict:
    """{type: {key: {"unit", "mean", "edges", "counts"}}}, over all splits."""
    counts: dict = defaultdict(lambda: defaultdict(Counter))
    for record in shards.values():
        for kind, keys in record["values"].items():
            for key, found in keys.items():
                counts[kind][key].update(found)
    return {
        kind.name: {key.name: _histogram(counts[kind.name][key.name], key) for key in kind.keys}
        for kind in taxonomy.types
        if kind.name in counts
    }


def _histogram(found: Counter, key: Key) -> dict:
    values = np.array([float(number) for number in found])
    times = np.array(list(found.values()))
    points = np.round((values - key.low) / key.step).astype(int)
    width = -(-(int(np.ptp(points)) + 1) // BINS)  # grid points a bar
    bars = np.bincount((points - points.min()) // width, weights=times).astype(int)
    start = key.low + (points.min() - 0.5) * key.step
    edges = [round(start + i * width * key.step, 6) for i in range(len(bars) + 1)]
    mean = round(float((values * times).sum() / times.sum()), 6)
    return {"unit": key.unit, "mean": mean, "edges": edges, "counts": bars.tolist()}


def _verification(shards: Mapping[str, dict], recipe: Recipe) -> dict:
    records = shards.values()
    passed_over = sum((Counter(record["passed_over"]) for record in records), Counter())
    kinds = sorted({kind for record in records for kind in record["types"]})
    return {
        "reproduced_to_the_byte": sum(record["rows"] for record in records),
        "drawn_again": dict(sorted(passed_over.items())),
        "kept_after_all_attempts": [sample_id for record in records for sample_id in record["kept"]],
        "rejected_by_people": sorted(recipe.rejected),
        "most_clipped": {k: max(r["most_clipped"].get(k, 0.0) for r in records) for k in kinds},
        "least_contrast": {k: min(r["least_contrast"].get(k, 255.0) for r in records) for k in kinds},
    }


def _verification_lines(found: dict) -> list[str]:
    again = ", ".join(f"{reason} {count}" for reason, count in found["drawn_again"].items()) or "none"
    lines = [
        f"All {found['reproduced_to_the_byte']} degraded images were computed again from `clean` and `values`,"
        " to the byte.",
        f"Attempts passed over, by reason: {again}.",
        f"Samples rejected by people and drawn again: {len(found['rejected_by_people'])}.",
    ]
    if kept := found["kept_after_all_attempts"]:
        named = ", ".join(kept[:20])
        lines.append(f"No believable attempt was found for {len(kept)} samples, kept as they are: {named}.")
    lines += ["", "| type | largest share of newly clipped values | least contrast, grey levels |", "|---|---|---|"]
    for kind, share in found["most_clipped"].items():
        lines.append(f"| {kind} | {share:.3f} | {found['least_contrast'][kind]:.1f} |")
    return lines


def _short(skipped: Mapping[str, str]) -> dict[str, str]:
    """Paths from the folder that holds them all."""
    root = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in skipped]) if skipped else ""
    return {os.path.relpath(path, root): why for path, why in skipped.items()}
