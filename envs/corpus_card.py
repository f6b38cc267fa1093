"""What a corpus says about itself: counts, provenance, licences; for programs, for people and for the eye."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq

from envs.policy_world import world_taxonomy

_REVIEW_ROWS = 6


def card(recipe, skipped: dict[str, str]) -> dict:
    """The content of corpus.json for an `envs.corpus.Recipe`; it does not depend on when it was built."""
    taxonomy = world_taxonomy(recipe.world)
    kinds = [kind.name for kind in taxonomy.types]
    by_type = {
        split: {kind: len(range(number, count, len(kinds))) for number, kind in enumerate(kinds)}
        for split, count in recipe.counts.items()
    }
    photos = [
        {
            "photo_id": photo.photo_id,
            "split": split,
            "file": photo.path.name,
            "licence": photo.licence,
            "author": photo.author,
            "source": photo.source,
        }
        for split, chosen in recipe.photos.items()
        for photo in chosen
    ]
    return {
        "format": "du-corpus/1",
        "taxonomy": taxonomy.fingerprint(),
        "world": asdict(recipe.world),
        "size": recipe.size,
        "seed": recipe.seed,
        "counts": recipe.counts,
        "types": by_type,
        "photos": photos,
        "skipped": {Path(path).name: why for path, why in skipped.items()},
    }


def readme(summary: dict) -> str:
    """The same in words: README.md of the corpus."""
    kinds = list(next(iter(summary["types"].values())))
    licences = Counter(photo["licence"] for photo in summary["photos"])
    lines = [
        "# Degradation-understanding corpus",
        "",
        f"Crops of {summary['size']} px from {len(summary['photos'])} photographs, with known physics."
        f" Seed {summary['seed']}, taxonomy `{summary['taxonomy']}`.",
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
        "## Photographs",
        "",
        "Licences: " + ", ".join(f"{name} ({count})" for name, count in licences.items()) + ".",
        "",
        "| photo | split | licence | author | source |",
        "|---|---|---|---|---|",
    ]
    for p in summary["photos"]:
        lines.append(f"| {p['photo_id']} | {p['split']} | {p['licence']} | {p['author']} | {p['source']} |")
    if summary["skipped"]:
        lines += ["", "## Skipped", ""] + [f"- {name}: {why}" for name, why in summary["skipped"].items()]
    return "\n".join(lines) + "\n"


def review_sheet(folder: Path, splits: Sequence[str], columns: int = 12) -> None:
    """Writes review.png for the eye: the first samples of each split, clean above degraded."""
    rows = []
    for split in splits:
        for shard in sorted(folder.glob(f"{split}-00000-*.parquet")):
            head = pq.read_table(shard, columns=["clean", "degraded"]).slice(0, columns).to_pydict()
            for name in ("clean", "degraded"):
                encoded = [np.frombuffer(png, np.uint8) for png in head[name]]
                pictures = [cv2.imdecode(png, cv2.IMREAD_COLOR) for png in encoded]
                blank = [np.full_like(pictures[0], 255)] * (columns - len(pictures))
                rows.append(np.concatenate(pictures + blank, axis=1))
    cv2.imwrite(str(folder / "review.png"), np.concatenate(rows[:_REVIEW_ROWS], axis=0))
