"""Checkpoints on disk: written aside, hashed, renamed; the newest sound one is found again; a few are kept.

A `Saver` hashes and seals behind the next steps.

ROOT/step-00000100/  manifest.json  policy/...  rank-0.safetensors  rank-0.json ...
"""

from __future__ import annotations

import os
import re
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from configs import UserError, manifest
from configs.models import check_model

_NAME = re.compile(r"step-(\d{8})")
KEPT = 2


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
    """Seals a draft: writes its manifest and that of its policy, renames it, keeps the newest `keep`.

    Checkpoints of later steps are damaged ones that the run went back behind: they go too. Of all of them that goes
    which the project wrote.

    cursor: what else the job needs to go on, as JSON.
    """
    policy, known = draft / "policy", {}
    if policy.is_dir():
        of_policy = manifest.write(policy, "policy")
        known = {f"policy/{name}": entry for name, entry in of_policy.files.items()}
    manifest.write(draft, "checkpoint", known, cursor=cursor or {})
    for name in manifest.listing(draft):
        _flush(draft / name)
    final = draft.with_name(f"step-{draft.name.rpartition('-')[2]}")
    manifest.replace(final, draft)
    _flush(final.parent)
    upto = [path for path in checkpoints(final.parent) if path <= final]
    for other in set(checkpoints(final.parent)) - set(upto[-keep:]):
        manifest.remove(other)
    return final


def discard(root: Path, policy: str = "") -> None:
    """Deletes what an earlier run left: it would be taken for further than a new run's own checkpoints.

    Raises:
        UserError: the new run begins with a `policy` in there.
    """
    if policy and Path(policy).resolve().is_relative_to(Path(root).resolve()):
        raise UserError(
            f"policy={policy} is in a checkpoint that resume=false discards: copy it elsewhere, or write to another "
            "folder with name= or out="
        )
    for earlier in checkpoints(root):
        manifest.remove(earlier)
    for left in Path(root).glob(".draft-*"):
        shutil.rmtree(left)


def checkpoints(root: Path) -> list[Path]:
    """Lists sealed checkpoints, oldest first, not verified; where only a person's files are left there is none."""
    folders = (path for path in Path(root).glob("step-*") if _NAME.fullmatch(path.name))
    return sorted(path for path in folders if any(path.glob("*.json")) or any(path.glob("*.safetensors")))


def step_of(checkpoint: Path) -> int:
    """Reads the step of a checkpoint from its name."""
    return int(_NAME.fullmatch(checkpoint.name)[1])


def cursor_of(checkpoint: Path) -> dict:
    """Reads back the `cursor` that it was sealed with."""
    return dict(manifest.read(checkpoint).facts["cursor"])


def newest(root: Path) -> tuple[Path | None, list[str]]:
    """Finds the newest checkpoint whose files are there and unchanged; says in a sentence why each later one is not."""
    damage = []
    for checkpoint in reversed(checkpoints(root)):
        if not (reason := _fault(checkpoint)):
            return checkpoint, damage
        damage.append(f"checkpoint {checkpoint} is damaged ({reason})")
    return None, damage


def to_continue(root: Path, resume: bool) -> Path | None:
    """Finds the newest sound checkpoint, if there is one and `resume`; prints what is used and why.

    Raises:
        UserError: there are checkpoints, and not one of them is whole.
    """
    checkpoint, damage = newest(root) if resume else (None, [])
    if damage and not checkpoint:
        raise UserError(f"{'; '.join(damage)}. No older one is left, and nothing was changed. {_saved(root)}")
    for sentence in damage:
        print(f"{sentence}; an older one is used", flush=True)
    if checkpoint:
        print(f"continuing from {checkpoint}", flush=True)
    return checkpoint and checkpoint.resolve()


def _fault(checkpoint: Path) -> str:
    """Says in a few words what is wrong with a checkpoint; empty where nothing is."""
    try:
        written = manifest.read(checkpoint)
    except UserError as error:
        return f"its manifest cannot be read: {error}"
    if written is None:
        return f"{manifest.NAME} is missing"
    return next((f"{name} {why}" for name, why in manifest.faults(checkpoint, written).items()), "")


def _saved(root: Path) -> str:
    """Says what is left to begin with where no checkpoint is whole."""
    for checkpoint in reversed(checkpoints(root)):
        try:
            check_model(checkpoint / "policy", "policy")
        except UserError:
            continue
        return (
            f"The policy of {checkpoint.name} is whole: name= or out= of a new run with "
            f"policy={checkpoint / 'policy'} begins with it; resume=false begins anew here and deletes all of them"
        )
    return "Copy them here again from where they are whole; resume=false begins anew here and deletes them"


def _flush(path: Path) -> None:
    """Forces a file or folder to disk, so that the rename never outlives what it names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
