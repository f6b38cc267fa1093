"""Pictures of an evaluation, answers in words beside them: for its report, or drawn as one file.

`python -m benchmarks.quality.report.pictures FOLDER FILE` draws rows of the evaluation in FOLDER into FILE.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from envs.language import answer
from envs.taxonomy import Degradation, taxonomy

CAPTIONS = {
    "not restored": "degraded",
    "blind": "classical, blind",
    "classical, after": "classical, answered parameters",
    "before": "restored, parameters of before",
    "after": "restored, answered parameters",
    "true parameters": "restored, true parameters",
    "clean": "clean",
}
"""What stands below the picture of each column; other methods stand under their names, before the last two."""
DRAWN = {"not restored": "degraded", "after": "restored as answered", "clean": "truth"}


@dataclass(frozen=True)
class Strip:
    """Holds the pictures of one sample.

    before, after: PNGs, degraded and restored. pictures: (PNG, caption) of each column. words: truth and answers.
    """

    before: bytes
    after: bytes
    pictures: list[tuple[bytes, str]]
    words: list[str]


def strips(folder: Path, rows: Sequence[Mapping]) -> list[Strip]:
    """Reads a strip for each row of answers.jsonl that FOLDER/pictures shows."""
    return [
        Strip(files["not restored"], files["after"], _captioned(files, row["psnr"]), _sentences(row))
        for row in rows
        if (files := _files(folder, row))
    ]


def photograph_strips(folder: Path, rows: Sequence[Mapping]) -> list[Strip]:
    """Reads a strip for each photograph of an evaluation without truth that FOLDER/pictures shows."""
    made = []
    for row in rows:
        file = folder / "pictures" / row["sample_id"].replace("/", "~")
        if not Path(f"{file} restored.png").is_file():
            continue
        before, after = (Path(f"{file} {name}.png").read_bytes() for name in ("not restored", "restored"))
        sentences = [row["sample_id"], words(row["after"]["degradation"])]
        made.append(Strip(before, after, [(before, "as it was"), (after, "restored")], sentences))
    return made


def words(degradation: Mapping | None) -> str:
    """Says what an answer says, for example `Severe blur degradation: sigma 3.20 px.`"""
    if degradation is None:
        return "no valid answer"
    answered = Degradation(degradation["type"], tuple(degradation["values"].items()))
    keys = taxonomy(camera=True).keys
    return f"{answer.rationale(answered)[:-1]}: {', '.join(_value(keys[n], v) for n, v in answered.values)}."


def draw(folder: Path, file: Path, rows: int = 4) -> None:
    """Draws the first `rows` pictured samples of the evaluation in `folder` as one picture."""
    from PIL import Image

    from benchmarks.quality.report.style import plt

    answers = {row["sample_id"]: row for row in map(json.loads, (folder / "answers.jsonl").read_text().splitlines())}
    pictured = sorted({path.name.split(" ")[0] for path in (folder / "pictures").glob("*.png")})[:rows]
    figure, axes = plt.subplots(len(pictured), len(DRAWN), figsize=(6.6, 2.6 * len(pictured)), squeeze=False)
    for line, sample_id in zip(axes, pictured, strict=True):
        for axis, (column, title) in zip(line, DRAWN.items(), strict=True):
            axis.imshow(Image.open(folder / "pictures" / f"{sample_id} {column}.png"))
            axis.set_axis_off()
            axis.set_title(title if line is axes[0] else "", fontsize=9)
        row = answers[sample_id]
        for text, height in ((words(row["after"]["degradation"]), -0.06), (f"truth: {words(row['truth'])}", -0.17)):
            line[1].text(0.5, height, text, transform=line[1].transAxes, ha="center", va="top", fontsize=8)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.97, bottom=0.05, wspace=0.03, hspace=0.3)
    figure.savefig(file, dpi=110, pil_kwargs={"quality": 88})


def _files(folder: Path, row: Mapping) -> dict[str, bytes]:
    foreign = [name for name in row["psnr"] if name not in CAPTIONS]
    names = [*list(CAPTIONS)[:-2], *foreign, *list(CAPTIONS)[-2:]]
    files = {name: folder / "pictures" / f"{row['sample_id']} {name}.png" for name in names}
    return {name: file.read_bytes() for name, file in files.items() if file.is_file()}


def _captioned(files: Mapping[str, bytes], psnr: Mapping[str, float]) -> list[tuple[bytes, str]]:
    decibels = {name: f", {psnr[name]:.1f} dB" if name in psnr else "" for name in files}
    return [(data, f"{CAPTIONS.get(name, name)}{decibels[name]}") for name, data in files.items()]


def _sentences(row: Mapping) -> list[str]:
    answers = [f"Answer {n}: {words(row[n]['degradation'])}" for n in ("before", "after") if n in row]
    return [f"Truth: {words(row['truth'])}", *answers]


def _value(key, value) -> str:
    unit = f" {key.unit}" if key.unit == "px" else ""
    if isinstance(value, list):
        return f"{key.name.replace('_', ' ')} {json.dumps(value)}"
    return f"{key.name.replace('_', ' ')} {value:.{key.decimals}f}{unit}"


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
