"""What a corpus says about itself: counts, parameters, verification, provenance; for programs, people and the eye."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import cv2
import jinja2
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from envs.corpus.datasets import SPLITS
from envs.corpus.generate import FORMAT, Recipe
from envs.nuisances import Nuisances
from envs.taxonomy import Key, Taxonomy, parts_of, turns
from envs.world import world_taxonomy

BINS = 40
"""Bars of a histogram, at most."""
_TEMPLATE = Path(__file__).with_name("card.md.jinja")
_LISTED = 200  # photographs in README.md; corpus.json has all
_PANELS = 3  # histograms side by side
_MOST_PANELS = 60  # beyond it those of composites are left out of the picture
_HUB_LICENCES = r"cc0-1\.0|cc-by(-(nc|nd|sa))*-\d\.\d|mit|apache-2\.0|unknown"
_SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (math.inf, "n>1M"))
_SHEET = (6, 12)  # rows and columns of review.png


def make_card(recipe: Recipe, skipped: Mapping[str, str], shards: Mapping[str, dict] | None = None) -> dict:
    """Collects the content of corpus.json; it does not depend on when the corpus was built.

    Args:
        recipe: what the corpus holds.
        skipped: {file: why} of the pictures that were of no use.
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
            **({"enlarged": round(photo.enlargement, 3)} if photo.enlargement > 1 else {}),
        }
        for split, chosen in recipe.photos.items()
        for photo in chosen
    ]
    card = {
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
        samples = pd.DataFrame([note for record in shards.values() for note in record["samples"]])
        if recipe.shares:
            table = pd.crosstab(samples["split"], samples["origin"])
            table = table.reindex(index=list(recipe.counts), columns=list(recipe.shares), fill_value=0)
            card["shares"] = dict(recipe.shares)
            card["sources"] = {split: row.to_dict() for split, row in table.iterrows()}
        card["parameters"] = _parameters(samples, taxonomy)
        card["verification"] = _verification(samples, recipe)
        if recipe.world.nuisances:
            card["nuisances"] = _nuisances(samples)
        columns = ("rows", "bytes", "sha256")
        card["shards"] = {file: {name: record[name] for name in columns} for file, record in shards.items()}
    return card | {"photos": photos, "skipped": _from_common_folder(skipped)}


def write_card(card: dict, folder: Path) -> None:
    """Writes corpus.json, README.md and two pictures into the folder of a corpus whose shards are there.

    Args:
        card: of `make_card`, with shards.
    """
    _review_sheet(folder)
    _plot_parameters(card["parameters"], folder / "parameters.png")
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    words = {
        "licences": Counter(photo["licence"] for photo in card["photos"]),
        "kinds": list(next(iter(card["types"].values()))),
        "enlarged": [photo["enlarged"] for photo in card["photos"] if "enlarged" in photo],
        "hub_licences": sorted({_hub_licence(photo["licence"]) for photo in card["photos"]}),
        "size_category": next(name for limit, name in _SIZES if sum(card["counts"].values()) < limit),
        "example": [f'"{key}": ...' for key in list(next(iter(card["parameters"].values())))[:2]],
        "listed": _LISTED,
    }
    (folder / "README.md").write_text(environment.from_string(_TEMPLATE.read_text()).render(card=card, **words))
    (folder / "corpus.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n")


def _hub_licence(licence: str) -> str:
    """The Hub's identifier of a licence; `other` where it has none that we know."""
    return licence.lower() if re.fullmatch(_HUB_LICENCES, licence.lower()) else "other"


def _review_sheet(folder: Path) -> None:
    """Writes review.png for the eye: the first samples of each split, clean above degraded."""
    height, width = _SHEET
    rows = []
    for split in SPLITS:
        for shard in sorted(folder.glob(f"{split}-00000-*.parquet")):
            head = next(pq.ParquetFile(shard).iter_batches(width, columns=["clean", "degraded"])).to_pydict()
            for name in ("clean", "degraded"):
                encoded = [np.frombuffer(png["bytes"], np.uint8) for png in head[name]]
                pictures = [cv2.imdecode(png, cv2.IMREAD_COLOR) for png in encoded]
                blank = [np.full_like(pictures[0], 255)] * (width - len(pictures))
                rows.append(np.concatenate(pictures + blank, axis=1))
    cv2.imwrite(str(folder / "review.png"), np.concatenate(rows[:height], axis=0))


def _plot_parameters(parameters: dict, file: Path) -> None:
    """Draws one histogram for each key of each type, from corpus.json's "parameters"."""
    panels = [(kind, key, bars) for kind, keys in parameters.items() for key, bars in keys.items()]
    if len(panels) > _MOST_PANELS:  # composites have the keys of their parts
        panels = [panel for panel in panels if len(parts_of(panel[0])) == 1]
    rows = -(-len(panels) // _PANELS)
    figure = Figure(figsize=(4 * _PANELS, 2.4 * rows), layout="constrained")
    axes = iter(np.ravel(figure.subplots(rows, _PANELS)))
    for (kind, key, bars), axis in zip(panels, axes, strict=False):
        edges = np.array(bars["edges"])
        axis.bar(edges[:-1], bars["counts"], np.diff(edges), align="edge", color="#0072b2", edgecolor="white", lw=0.4)
        axis.set_title(f"{kind}: {key}", fontsize=9, loc="left")
        axis.set_xlabel(bars["unit"] if bars["unit"] != "1" else "", fontsize=8)
        axis.axvline(bars["mean"], color="#d55e00", lw=1)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes:  # those left over
        axis.remove()
    figure.savefig(file, dpi=100, metadata={"Software": None})


def _parameters(samples: pd.DataFrame, taxonomy: Taxonomy) -> dict:
    """{type: {key: {"unit", "mean", "edges", "counts"}}}, over all splits."""
    by_type = {kind: pd.DataFrame(list(group["values"])) for kind, group in samples.groupby("type")}
    return {
        kind.name: {key.name: _histogram(by_type[kind.name][key.name], key) for key in kind.keys}
        for kind in taxonomy.types
        if kind.name in by_type
    }


def _histogram(column: pd.Series, key: Key) -> dict:
    values = np.hstack(column.map(np.ravel))
    points = np.round((values - key.low) / key.step).astype(int)
    width = -(-(int(np.ptp(points)) + 1) // BINS)  # grid points a bar
    bars = np.bincount((points - points.min()) // width)
    start = key.low + (points.min() - 0.5) * key.step
    edges = [round(start + i * width * key.step, 6) for i in range(len(bars) + 1)]
    return {"unit": key.unit, "mean": round(float(values.mean()), 6), "edges": edges, "counts": bars.tolist()}


def _nuisances(samples: pd.DataFrame) -> dict[str, dict[str, float]]:
    """{nuisance: {"share" of the samples that have it, its "mean", "least" and "most" there}}."""
    drawn = pd.DataFrame(samples["nuisances"].tolist())
    absent = Nuisances().as_dict()
    table = {}
    for name in ("exposure", "sensor_noise", "shot_noise", "jpeg_quality"):
        value = absent[name]
        there = drawn[name][drawn[name] != value]
        if len(there):
            numbers = {"mean": there.mean(), "least": there.min(), "most": there.max()}
            numbers["share"] = len(there) / len(drawn)
            table[name] = {statistic: round(float(number), 4) for statistic, number in numbers.items()}
    return table


def _verification(samples: pd.DataFrame, recipe: Recipe) -> dict:
    by_type = samples.groupby("type")
    return {
        "reproduced_to_the_byte": len(samples),
        "drawn_again": samples["passed_over"].explode().value_counts().sort_index().to_dict(),
        "kept_after_all_attempts": samples["sample_id"][~samples["sound"]].tolist(),
        "rejected_by_people": sorted(recipe.rejected),
        "most_clipped": by_type["clipped"].max().to_dict(),
        "least_contrast": by_type["contrast"].min().to_dict(),
    }


def _from_common_folder(skipped: Mapping[str, str]) -> dict[str, str]:
    """Paths from the folder that holds them all."""
    root = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in skipped]) if skipped else ""
    return {os.path.relpath(path, root): why for path, why in skipped.items()}
