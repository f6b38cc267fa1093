"""Checkpoints on disk: written aside, hashed, renamed; the newest sound one is found again; a few are kept.

A `Saver` hashes and seals behind the next steps; files are hashed several at a time.

ROOT/step-00000100/  manifest.json  policy/...  rank-0.safetensors  rank-0.json ...
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from configs import UserError

_NAME = re.compile(r"step-(\d{8})")
_MANIFEST = "manifest.json"
KEPT = 2
_HASHING = 8
"""Files that are hashed at a time; hashing lets go of the interpreter."""


class Saver:
    """Seals one checkpoint at a time, in a thread, while the job goes on; a context manager."""

    def __init__(self, root: Path):
        self._root, self._thread = Path(root), ThreadPoolExecutor(1)
        self._sealing: Future | None = None

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, error: type | None, *_) -> None:
        try:
            if error is None:
                self.wait()
        finally:
            self._thread.shutdown()

    def begin(self, step: int) -> Path:
        """Waits until the checkpoint before is sealed; returns an empty folder to write that of `step` into."""
        self.wait()
        return begin(self._root, step)

    def seal(self, draft: Path, cursor: dict) -> None:
        """Begins to make a checkpoint of what was written into `draft`, see `finish`."""
        self._sealing = self._thread.submit(finish, draft, cursor=cursor)

    def wait(self) -> None:
        """Returns when the last checkpoint is sealed; raises OSError where it could not be."""
        if self._sealing:
            sealing, self._sealing = self._sealing, None
            sealing.result()


def begin(root: Path, step: int) -> Path:
    """Makes an empty folder to write the checkpoint of `step` into; it becomes one only through `finish`."""
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
    hashes = {str(path.relative_to(draft)): digest for path, digest in zip(files, _hashes(files), strict=True)}
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
    """Lists sealed checkpoints, oldest first, not verified."""
    return sorted(path for path in Path(root).glob("step-*") if _NAME.fullmatch(path.name))


def step_of(checkpoint: Path) -> int:
    """Reads the step of a checkpoint from its name."""
    return int(_NAME.fullmatch(checkpoint.name)[1])


def cursor_of(checkpoint: Path) -> dict:
    """Reads back the `cursor` that it was sealed with."""
    return json.loads((checkpoint / _MANIFEST).read_text())["cursor"]


def newest(root: Path) -> tuple[Path | None, list[str]]:
    """Finds the newest checkpoint whose files are there and unchanged; says in a sentence why each later one is not."""
    damage = []
    for checkpoint in reversed(checkpoints(root)):
        if not (reason := _fault(checkpoint)):
            return checkpoint, damage
        damage.append(f"checkpoint {checkpoint} is damaged ({reason}); an older one is used")
    return None, damage


def to_continue(root: Path, resume: bool) -> Path | None:
    """Finds the newest sound checkpoint, if there is one and `resume`; prints what is used and why."""
    checkpoint, damage = newest(root) if resume else (None, [])
    for sentence in [*damage, *([f"continuing from {checkpoint}"] if checkpoint else [])]:
        print(sentence, flush=True)
    return checkpoint and checkpoint.resolve()


def _fault(checkpoint: Path) -> str:
    try:
        files = json.loads((checkpoint / _MANIFEST).read_text())["files"]
    except (OSError, ValueError, KeyError) as error:
        return f"its manifest cannot be read: {error}"
    if missing := next((name for name in files if not (checkpoint / name).is_file()), ""):
        return f"{missing} is missing"
    digests = _hashes([checkpoint / name for name in files])
    changed = (name for (name, digest), now in zip(files.items(), digests, strict=True) if digest != now)
    return next((f"{name} has changed" for name in changed), "")


def _hashes(files: Iterable[Path]) -> list[str]:
    with ThreadPoolExecutor(_HASHING) as threads:
        return list(threads.map(_hash, files))


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
