"""`duvlm verify FOLDER`: which folders of corpora, policies, priors and checkpoints are whole, and what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from configs import manifest
from configs.errors import UserError
from configs.files import read_json, read_json_lines, read_yaml
from configs.models import check_form


@dataclass(frozen=True)
class Finding:
    """Says how one folder, or one file of a run, is.

    kind: policy, prior, corpus, checkpoint, or a file. damage: {file: what is wrong}, empty where it is
    whole. foreign: files that the project has not written. hashed: there were hashes to compare with.
    """

    place: Path
    kind: str
    damage: dict[str, str]
    foreign: tuple[str, ...] = ()
    hashed: bool = True

    def lines(self) -> Iterator[str]:
        """Yields what is printed."""
        known = "whole" if self.hashed else "complete and readable (there are no hashes to compare with)"
        yield f"{self.place}: {self.kind}, {'damaged' if self.damage else known}"
        for name, why in self.damage.items():
            yield f"  {'missing' if why == 'is missing' else 'damaged'}  {name}: {why}"
        for name in self.foreign:
            yield f"  foreign  {name}: not of the project, which neither reads nor deletes it"


def verify(folder: Path) -> bool:
    """Prints how each of the project's folders in `folder` is, itself included; returns whether all are whole.

    Raises:
        UserError: there is none.
    """
    findings = list(_findings(folder))
    if not findings:
        raise UserError(
            f"verify: expected the folder of a run, corpus, policy, prior or checkpoint, found none in {str(folder)!r}"
        )
    for finding in findings:
        print(*finding.lines(), sep="\n")
    if damaged := [finding for finding in findings if finding.damage]:
        whole = [finding for finding in findings if finding.kind == "checkpoint" and not finding.damage]
        remedy = f"; a run goes on from {whole[-1].place}" if whole else ""
        print(f"{len(damaged)} of {len(findings)} damaged{remedy}")
    return not damaged


def _findings(folder: Path) -> Iterator[Finding]:
    if kind := manifest.kind_of(folder):
        yield _examined(folder, kind)
        return
    for name, check in _OF_A_RUN.items():
        if (folder / name).is_file():
            why = _fault(lambda file=folder / name, check=check: check(file))
            yield Finding(folder / name, "file of a run", {name: why} if why else {}, hashed=False)
    for place in sorted(path for path in folder.glob("*") if path.is_dir() and not path.name.startswith(".")):
        yield from _findings(place)


def _examined(folder: Path, kind: str) -> Finding:
    try:
        written = manifest.read(folder)
    except UserError as error:
        return Finding(folder, kind, {manifest.NAME: str(error)}, tuple(manifest.foreign(folder)))
    damage = manifest.faults(folder, written) if written else {}
    if not written and (why := _fault(lambda: _check_form(folder, kind))):
        damage = {kind: why}
    return Finding(folder, kind, damage, tuple(manifest.foreign(folder)), written is not None)


def _check_form(folder: Path, kind: str) -> None:
    """Checks a folder without hashes."""
    if kind == "checkpoint":
        raise UserError(f"{folder / manifest.NAME} is missing")
    if kind == "corpus":
        read_json(folder / "corpus.json", ("counts", "taxonomy", "size"))
    else:
        check_form(folder, kind)


def _check_lines(file: Path) -> None:
    if wrong := read_json_lines(file)[1]:
        raise UserError(f"{file}: {len(wrong)} lines are no JSON objects, the first is line {wrong[0]}")


_OF_A_RUN: dict[str, Callable[[Path], object]] = {
    "config.yaml": read_yaml,
    "metrics.jsonl": _check_lines,
    "summary.json": read_json,
}
"""{file of a run folder: what raises UserError where it is damaged}."""


def _fault(check: Callable[[], object]) -> str:
    try:
        check()
    except UserError as error:
        return str(error)
    return ""
