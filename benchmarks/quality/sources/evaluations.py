"""Finished evaluations, read back from their folders to be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.quality.sources.predictions import Answered
from configs import UserError
from configs.files import damaged, read_json, read_json_lines
from envs.language.reading import Reading, read_degradation, read_free_text, read_object
from envs.taxonomy import Degradation, Taxonomy

AGAIN = "evaluate again, or copy the evaluation here again"


@dataclass(frozen=True)
class Evaluation:
    """Holds a finished evaluation: a truth, an answer and a PSNR (dB; None if not restored) a sample."""

    name: str
    summary: Mapping
    sample_ids: tuple[str, ...]
    truths: tuple[Degradation, ...]
    answers: tuple[Answered, ...]
    psnr: tuple[float | None, ...]


def named_folders(spec: str, setting: str) -> dict[str, Path]:
    """Reads `NAME:FOLDER` or `FOLDER`, several with commas: {name: folder}.

    A folder without a name is called as itself, or as the one above where it is called `evaluate`.

    Raises:
        UserError: a folder that is not there, or two of one name.
    """
    folders: dict[str, Path] = {}
    for word in filter(None, spec.split(",")):
        name, colon, place = word.partition(":")
        folder = Path(place if colon else word).expanduser().resolve()
        if not colon:
            name = folder.parent.name if folder.name == "evaluate" else folder.name
        if not folder.is_dir():
            raise UserError(f"{setting}={word}: expected a folder, or NAME:FOLDER; there is none at {folder}")
        if name in folders:
            raise UserError(f"{setting}: two are called {name!r}; name them, as in {setting}=first:DIR,second:DIR")
        folders[name] = folder
    return folders


def read_evaluations(spec: str, taxonomy: Taxonomy) -> list[Evaluation]:
    """Reads the evaluations of a `scores` setting, all of the same samples in the same order.

    Raises:
        UserError: fewer than two, one that is not finished, of another world, or of other samples than the first.
    """
    folders = named_folders(spec, "scores")
    if len(folders) < 2:
        raise UserError("scores: expected the folders of two evaluations or more, as in scores=runs/a/evaluate,b:DIR")
    evaluations = [_read(name, folder, taxonomy) for name, folder in folders.items()]
    first = evaluations[0]
    for other in evaluations[1:]:
        if (other.sample_ids, other.truths) != (first.sample_ids, first.truths):
            places = zip(first.sample_ids, other.sample_ids, first.truths, other.truths, strict=False)
            where = next((a for a, b, x, y in places if (a, x) != (b, y)), "the number of samples")
            raise UserError(
                f"scores: {other.name} and {first.name} measured different samples ({len(other.sample_ids)} and "
                f"{len(first.sample_ids)}; the first difference: {where}): evaluate both on one corpus, split and limit"
            )
    return evaluations


def read_answers(folder: Path) -> list[dict]:
    """Reads the answers.jsonl of an evaluation. Raises UserError where a line is damaged."""
    rows, wrong = read_json_lines(folder / "answers.jsonl")
    if wrong:
        raise damaged(folder / "answers.jsonl", f"line {wrong[0]} is no JSON object", AGAIN)
    return rows


def _read(name: str, folder: Path, taxonomy: Taxonomy) -> Evaluation:
    if not (folder / "summary.json").is_file() or not (folder / "answers.jsonl").is_file():
        raise UserError(f"scores: {folder} holds no finished evaluation (summary.json and answers.jsonl)")
    rows = read_answers(folder)
    try:
        truths = [taxonomy.degradation(row["truth"]["type"], row["truth"]["values"]) for row in rows]
        answers = [Answered(row["after"]["given"], _reading(row["after"], taxonomy)) for row in rows]
    except (KeyError, TypeError) as error:
        raise damaged(folder / "answers.jsonl", f"a line has no {error}", AGAIN) from None
    except ValueError as error:
        raise UserError(f"scores: {folder} is of another world ({error}): set world.* to match") from None
    return Evaluation(
        name,
        read_json(folder / "summary.json", cure=AGAIN),
        tuple(row["sample_id"] for row in rows),
        tuple(truths),
        tuple(answers),
        tuple(row["psnr"].get("after") for row in rows),
    )


def _reading(answer: Mapping, taxonomy: Taxonomy) -> Reading:
    if answer["degradation"]:
        return read_degradation(taxonomy.degradation(answer["degradation"]["type"], answer["degradation"]["values"]))
    if "type" in answer:
        return Reading(answer["type"], answer["keys_right"], None, answer["reason"])
    if answer["reason"] in ("missing", "refused"):
        return Reading(reason=answer["reason"])
    read = read_free_text if isinstance(answer["given"], str) else read_object  # written before types were
    return read(answer["given"], taxonomy)
