"""Answers to a split of a corpus, wherever they come from; those of a file that anyone made are read here."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs import UserError
from envs.language.posterior import Posterior
from envs.language.reading import Reading, read_object, read_text
from envs.taxonomy import Taxonomy


@dataclass(frozen=True)
class Answered:
    """Holds an answer as given (a text, an object, or None) and as read, and the posteriors of its numbers if known."""

    given: object
    reading: Reading
    posteriors: tuple[Posterior, ...] = ()


def read_predictions(file: Path, sample_ids: Sequence[str], taxonomy: Taxonomy) -> dict[str, Answered]:
    """Reads {sample_id: answer} from JSON lines, `{"sample_id", "text"}` or `{"sample_id", "degradation"}` each.

    Samples without a line are missing from the result.

    Raises:
        UserError: no such file, a line that is no such object, a sample_id unknown or answered twice.
    """
    if not file.is_file():
        raise UserError(f"policy={file}: no such file; expected one JSON object a line")
    known, answers = set(sample_ids), {}
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        sample_id, answered = _read_line(line, f"{file}, line {number}", taxonomy)
        if sample_id not in known:
            expected = f"expected one of the split, such as {sample_ids[0]}"
            raise UserError(f"{file}, line {number}: unknown sample_id {sample_id[:80]!r}; {expected}")
        if sample_id in answers:
            raise UserError(f"{file}, line {number}: {sample_id} is there twice; give one answer a sample")
        answers[sample_id] = answered
    return answers


def _read_line(line: bytes, where: str, taxonomy: Taxonomy) -> tuple[str, Answered]:
    expected = 'expected {"sample_id": ..., "text": ...} or {"sample_id": ..., "degradation": {...} or null}'
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({str(error)[:80]}); {expected}") from None
    if not isinstance(row, dict) or not isinstance(row.get("sample_id"), str):
        raise UserError(f"{where}: {expected}, got {line[:80].decode(errors='replace')!r}")
    if "degradation" in row:
        return row["sample_id"], Answered(row["degradation"], read_object(row["degradation"], taxonomy))
    if "text" in row:
        return row["sample_id"], Answered(row["text"], read_text(row["text"], taxonomy))
    raise UserError(f"{where}: neither text nor degradation; {expected}")


def in_order(answers: dict[str, Answered], sample_ids: Sequence[str]) -> list[Answered]:
    """Returns one answer a sample; those missing are no answer."""
    missing = Answered(None, Reading(reason="missing"))
    return [answers.get(sample_id, missing) for sample_id in sample_ids]


def reasons(answers: Sequence[Answered]) -> dict[str, int]:
    """Counts how many answers were invalid, by reason."""
    return dict(Counter(answer.reading.reason for answer in answers if answer.reading.reason).most_common())
