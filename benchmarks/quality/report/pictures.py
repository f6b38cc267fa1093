"""Pictures of an evaluation for its report: each column of restorations, and the answer in words."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.quality.report import html as page
from envs.language import answer
from envs.taxonomy import Degradation, taxonomy

CAPTIONS = {
    "not restored": "degraded",
    "blind": "classical, blind",
    "classical, after": "classical, answered parameters",
    "before": "restored, parameters of before",
    "after": "restored, answered parameters",
    "true parameters": "restored, true parameters",
}


def pictures(folder: Path, rows: Sequence[Mapping]) -> str:
    """A strip for each row of answers.jsonl that FOLDER/pictures shows."""
    parts = []
    for row in rows:
        files = {name: folder / "pictures" / f"{row['sample_id']} {name}.png" for name in (*CAPTIONS, "clean")}
        files = {name: file.read_bytes() for name, file in files.items() if file.is_file()}
        if not files:
            continue
        figures = [page.compare(files["not restored"], files["after"], "slide: degraded | restored")]
        for name, data in files.items():
            decibels = f", {row['psnr'][name]:.1f} dB" if name in row["psnr"] else ""
            figures.append(page.picture(data, f"{CAPTIONS.get(name, name)}{decibels}"))
        said = [f"Truth: {words(row['truth'])}"]
        said += [f"Answer {n}: {words(row[n]['degradation'])}" for n in ("before", "after") if n in row]
        parts.append(f'<div class="strip">{"".join(figures)}</div>')
        parts.append(f'<p class="words">{"<br>".join(map(html.escape, said))}</p>')
    return "".join(parts)


def words(degradation: Mapping | None) -> str:
    """What an answer says, for example `Severe blur degradation: sigma 3.20 px.`"""
    if degradation is None:
        return "no valid answer"
    found = Degradation(degradation["type"], tuple(degradation["values"].items()))
    keys = taxonomy(camera=True).keys
    return f"{answer.rationale(found)[:-1]}: {', '.join(_value(keys[n], v) for n, v in found.values)}."


def _value(key, value) -> str:
    unit = f" {key.unit}" if key.unit == "px" else ""
    if isinstance(value, list):
        return f"{key.name.replace('_', ' ')} {json.dumps(value)}"
    return f"{key.name.replace('_', ' ')} {value:.{key.decimals}f}{unit}"
