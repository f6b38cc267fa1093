"""`python -m benchmarks.quality.report.picture FOLDER FILE`: rows of an evaluation as one picture, answers in words."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from PIL import Image  # noqa: E402

from envs.taxonomy import TAXONOMY, Degradation  # noqa: E402

COLUMNS = {"not restored": "degraded", "after": "restored as answered", "clean": "truth"}


def result_picture(folder: Path, file: Path, rows: int = 4) -> None:
    """Draws the first `rows` pictured samples of the evaluation in `folder` (its pictures/ and answers.jsonl)."""
    answers = {row["sample_id"]: row for row in map(json.loads, (folder / "answers.jsonl").read_text().splitlines())}
    pictured = sorted({path.name.split(" ")[0] for path in (folder / "pictures").glob("*.png")})[:rows]
    figure, axes = plt.subplots(len(pictured), len(COLUMNS), figsize=(6.6, 2.6 * len(pictured)), squeeze=False)
    for axis, title in zip(axes[0], COLUMNS.values(), strict=True):
        axis.set_title(title, fontsize=9)
    for line, sample_id in zip(axes, pictured, strict=True):
        for axis, column in zip(line, COLUMNS, strict=True):
            axis.imshow(Image.open(folder / "pictures" / f"{sample_id} {column}.png"))
            axis.set_axis_off()
        found, true = (_degradation(answers[sample_id][part]) for part in ("after", "truth"))
        for text, height in ((f"answer: {_words(found)}", -0.06), (f"truth: {_words(true)}", -0.17)):
            line[1].text(0.5, height, text, transform=line[1].transAxes, ha="center", va="top", fontsize=8)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.97, bottom=0.05, wspace=0.03, hspace=0.3)
    figure.savefig(file, dpi=110, pil_kwargs={"quality": 88})


def _degradation(row: dict) -> Degradation | None:
    """Of an answer ({"degradation": ...}) or a truth ({"type": ..., "values": ...})."""
    row = row.get("degradation", row)
    return row and TAXONOMY.degradation(row["type"], row["values"])


def _words(degradation: Degradation | None) -> str:
    if degradation is None:
        return "no valid answer"
    values = ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in degradation.values)
    return f"{degradation.type.replace('_', ' ')}, {values}"


if __name__ == "__main__":
    result_picture(Path(sys.argv[1]), Path(sys.argv[2]))
