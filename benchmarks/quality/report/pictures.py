"""The pictures of an evaluation for its report, answers in words beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from envs.degradations import PHENOMENA
from envs.language import answer
from envs.taxonomy import Degradation

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
    if not answered.values:
        return "nothing wrong"
    keys = {key.name: key for phenomenon in PHENOMENA.values() for key in phenomenon.keys}
    return f"{answer.rationale(answered)[:-1]}: {', '.join(_value(keys[n], v) for n, v in answered.values)}."


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
