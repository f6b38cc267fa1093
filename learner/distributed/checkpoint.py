"""Checkpoints on disk: written aside, hashed, renamed; the newest sound one is found again; a few are kept.

ROOT/step-00000100/  manifest.json  policy/...  rank-0.safetensors  rank-0.json ...
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

from configs import UserError

_NAME = re.compile(r"step-(\d{8})")
_MANIFEST = "manifest.json"
KEPT = 2


def begin(root: Path, step: int) -> Path:
    """An empty folder to write the checkpoint of `step` into; it becomes one only through `finish`."""
    draft = Path(root) / f".draft-{step:08d}"
    for left in Path(root).glob(".draft-*"):  # by a run that was killed, or found no room
        shutil.rmtree(left)
    draft.mkdir(parents=True)
    return draft


def finish(draft: Path, keep: int = KEPT, cursor: dict | None = None) -> Path:
    """Seals a draft: writes its manifest (hashes, `cursor` as JSON), renames it, keeps the newest `keep`.

    Checkpoints of later steps are damaged ones that the run went back behind: they go too.
    """
    files = sorted(path for path in draft.rglob("*") if path.is_file())
    hashes = {str(path.relative_to(draft)): _hash(path) for path in files}
    (draft / _MANIFEST).write_text(json.dumps({"files": hashes, "cursor": cursor or {}}, indent=1))
    for path in (*files, draft / _MANIFEST):
        _flush(path)
    final = draft.with_name(f"step-{draft.name.rpartition('-')[2]}")
    shutil.rmtree(final, ignore_errors=True)
    draft.rename(final)
    _flush(final.parent)
    upto = [path for path in checkpoints(final.parent) if path <= final]
    for other in set(checkpoints(final.parent)) - set(upto[-keep:]):
        shutil.rmtree(other)
    return final


def discard(root: Path, policy: str) -> None:
    """Forgets what an earlier run left: it would be taken for further than a new run's own checkpoints.

    Raises:
        UserError: the new run begins with a `policy` in there.
    """
    if Path(policy).resolve().is_relative_to(Path(root).resolve()):
        raise UserError(
            f"policy={policy} is in a checkpoint that resume=false discards: copy it elsewhere, or write to another "
            "folder with name= or out="
        )
    shutil.rmtree(root, ignore_errors=True)


def checkpoints(root: Path) -> list[Path]:
    """Sealed checkpoints, oldest first, not verified."""
    return sorted(path for path in Path(root).glob("step-*") if _NAME.fullmatch(path.name))


def step_of(checkpoint: Path) -> int:
    return int(_NAME.fullmatch(checkpoint.name)[1])


def cursor_of(checkpoint: Path) -> dict:
    return json.loads((checkpoint / _MANIFEST).read_text())["cursor"]


def newest(root: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint whose files are there and unchanged; a sentence for each damaged one after."""
    damage = []
    for checkpoint in reversed(checkpoints(root)):
        if not (reason := _fault(checkpoint)):
            return checkpoint, damage
        damage.append(f"checkpoint {checkpoint} is damaged ({reason}); an older one is used")
    return None, damage


def to_continue(root: Path, resume: bool) -> Path | None:
    """The newest sound checkpoint, if there is one and `resume`, as an absolute path; says what is used and why."""
    found, damage = newest(root) if resume else (None, [])
    for sentence in [*damage, *([f"continuing from {found}"] if found else [])]:
        print(sentence, flush=True)
    return found and found.resolve()


def _fault(checkpoint: Path) -> str:
    try:
        files = json.loads((checkpoint / _MANIFEST).read_text())["files"]
    except (OSError, ValueError, KeyError) as error:
        return f"its manifest cannot be read: {error}"
    for name, digest in files.items():
        if not (checkpoint / name).is_file():
            return f"{name} is missing"
        if _hash(checkpoint / name) != digest:
            return f"{name} has changed"
    return ""


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Forces a file or folder to disk, so that the rename never outlives what it names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
