"""Manifests: what the project wrote into a folder, with sizes and hashes, so that damage is seen before it is used and
nothing that a person put there is taken for ours.

    FOLDER/manifest.json  {"kind": "policy", "files": {"config.json": {"bytes": 1204, "sha256": "..."}}, "sha256": ""}

The last hash is that of the manifest itself. Folders of earlier versions have none, a corpus the hashes of its shards
in corpus.json, a checkpoint a manifest without sizes.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from configs.errors import UserError
from configs.files import damaged, read_json, write_atomically

NAME = "manifest.json"
_HASHING = 8
"""Files that are hashed at a time; hashing lets go of the interpreter."""
_MODEL = (
    r"(config|generation_config|tokenizer.*|(video_)?(pre)?processor_config|special_tokens_map|vocab|added_tokens|world"
    r"|source|(model|diffusion_pytorch_model).*)\.(json|safetensors)|chat_template\.jinja|merges\.txt"
)
_OWN = {
    "policy": _MODEL,
    "prior": _MODEL,
    "checkpoint": rf"rank-\d+\.(json|safetensors)|adapters\.safetensors|policy/({_MODEL})",
    "corpus": r"(train|val|test)-\d{5}-of-\d{5}\.parquet|corpus\.json|README\.md|(parameters|review)\.png",
    "": "(?!)",
}
"""{kind of folder: names of its files}, for those that have no manifest."""


@dataclass(frozen=True)
class Entry:
    """Says what a file was when it was written. bytes: None where an earlier version did not note it."""

    bytes: int | None
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Holds what is known of the files of a folder, and what else was noted: `kind`, the cursor of a checkpoint."""

    files: Mapping[str, Entry]
    facts: Mapping[str, object]


def write(folder: Path, kind: str, known: Mapping[str, Entry] | None = None, **facts: object) -> Manifest:
    """Writes the manifest of all files in `folder`, which holds nothing but what was written just now.

    known: of files that need not be hashed any more.
    """
    names = [name for name in listing(folder) if name != NAME]
    unknown = [name for name in names if name not in (known or {})]
    hashed = zip(unknown, hashes(folder / name for name in unknown), strict=True)
    entries = dict(known or {}) | {name: Entry((folder / name).stat().st_size, digest) for name, digest in hashed}
    made = Manifest({name: entries[name] for name in names}, {"kind": kind, **facts})
    content = {**made.facts, "files": {name: vars(entry) for name, entry in made.files.items()}}
    write_atomically(folder / NAME, json.dumps(content | {"sha256": _own_hash(content)}, indent=1))
    return made


def read(folder: Path) -> Manifest | None:
    """Reads the manifest of a folder; None where there is none.

    Raises:
        UserError: it is damaged.
    """
    file = Path(folder) / NAME
    if not file.is_file():
        return _of_corpus(Path(folder))
    content = read_json(file, ("files",))
    noted, files = content.pop("sha256", None), content.pop("files")
    if noted is None:  # of a checkpoint of an earlier version
        sound = isinstance(files, dict) and files and all(isinstance(digest, str) for digest in files.values())
        if not sound or not isinstance(content.get("cursor"), dict) or not content["cursor"]:
            raise damaged(file, "it does not name the files and the cursor of a checkpoint")
        return Manifest({name: Entry(None, digest) for name, digest in files.items()}, content)
    if noted != _own_hash(content | {"files": files}):
        raise damaged(file, "it has changed since it was written")
    return Manifest({name: Entry(**entry) for name, entry in files.items()}, content)


def faults(folder: Path, manifest: Manifest, hashed: bool = True) -> dict[str, str]:
    """Compares a folder with its manifest: {file: what is wrong with it}, empty where all is whole.

    hashed: compare what the files hold too, at some gigabytes a second; else only whether they are there, and how long.
    """
    damage = {}
    for name, entry in manifest.files.items():
        file = Path(folder) / name
        if not file.is_file():
            damage[name] = "is missing"
        elif entry.bytes not in (None, size := file.stat().st_size):
            damage[name] = f"has {size} bytes, not {entry.bytes}"
    if hashed:
        there = [name for name in manifest.files if name not in damage]
        for name, digest in zip(there, hashes(Path(folder) / name for name in there), strict=True):
            if digest != manifest.files[name].sha256:
                damage[name] = "has changed since it was written"
    return damage


def check(folder: Path, cure: str, hashed: bool = True, needed: str = ".*") -> Manifest | None:
    """Returns the manifest of what is `needed` of a folder, None where it has none.

    Args:
        cure: what to do where something is damaged.
        hashed: see `faults`.
        needed: what the names of the files must be like, as a regular expression.

    Raises:
        UserError: a file of it, or the manifest, is damaged or missing.
    """
    try:
        manifest = read(folder)
    except UserError as error:
        raise UserError(f"{error}: {cure}") from None
    if manifest is None:
        return None
    manifest = only(manifest, needed)
    if wrong := faults(folder, manifest, hashed):
        name, why = next(iter(wrong.items()))
        others = f" ({len(wrong) - 1} more: `duvlm verify {folder}`)" if len(wrong) > 1 else ""
        raise UserError(f"{Path(folder) / name} {why}{others}: {cure}")
    return manifest


def only(manifest: Manifest, needed: str) -> Manifest:
    """Leaves out the files whose names are not like that."""
    files = {name: entry for name, entry in manifest.files.items() if re.fullmatch(needed, name)}
    return Manifest(files, manifest.facts)


def kind_of(folder: Path) -> str:
    """Tells what a folder is, by its manifest or its files: policy, prior, corpus, checkpoint; empty for others."""
    manifest = _readable(folder)
    if manifest and "kind" in manifest.facts:
        return str(manifest.facts["kind"])
    if re.fullmatch(r"\.?step-\d{8}(\.replaced)?", folder.name) and any(folder.glob("rank-*")):
        return "checkpoint"
    if (folder / "corpus.json").is_file() or any(folder.glob("*-*-of-*.parquet")):
        return "corpus"
    if any(folder.glob("diffusion_pytorch_model*")):
        return "prior"
    return "policy" if (folder / "config.json").is_file() or (folder / "world.json").is_file() else ""


def foreign(folder: Path, kind: str = "") -> list[str]:
    """Lists the files in a folder that the project has not written; a README.md that was edited counts as one. Where
    there is no manifest that can be read, it goes by the names of the files of such a folder.

    kind: what the folder should be; in another all is foreign.
    """
    manifest, own_kind = _readable(folder), kind_of(folder)
    if kind not in ("", own_kind):
        return listing(folder)
    if manifest:
        own = manifest.files.keys() - faults(folder, only(manifest, r"README\.md"))
    else:
        own = {name for name in listing(folder) if re.fullmatch(_OWN[own_kind], name)}
    return [name for name in listing(folder) if Path(name).name != NAME and name not in own]


def replace(folder: Path, new: Path) -> None:
    """Puts `new`, complete and on the same disk, in the place of `folder`; what a person put there stays there."""
    old, kind = folder.with_name(f".{folder.name}.replaced"), kind_of(new)
    _keep_foreign(old, folder, kind)  # of a process that was killed here
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    _keep_foreign(old, folder, kind)


def remove(folder: Path) -> None:
    """Deletes what the project wrote into a folder, and the folder where nothing else is in it."""
    if not folder.exists():
        return
    kept = set(foreign(folder))
    for name in listing(folder):
        if name not in kept:
            (folder / name).unlink()
    for place in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        if not any(place.iterdir()):
            place.rmdir()
    if not any(folder.iterdir()):
        folder.rmdir()


def listing(folder: Path) -> list[str]:
    """Lists the files in a folder at any depth, by their names from there; what is no folder counts as a file."""
    files = (path for path in Path(folder).rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(path.relative_to(folder).as_posix() for path in files)


def hashes(files: Iterable[Path]) -> list[str]:
    """Computes the SHA-256 of files, several at a time."""
    with ThreadPoolExecutor(_HASHING) as threads:
        return list(threads.map(_hash, files))


def _readable(folder: Path) -> Manifest | None:
    """The manifest.json of a folder, if there is one and it can be read."""
    try:
        return read(folder) if (folder / NAME).is_file() else None
    except UserError:
        return None


def _keep_foreign(old: Path, folder: Path, kind: str) -> None:
    """Moves what the project did not write from `old` to `folder`, under another name where that is taken; deletes the
    rest of `old`."""
    if not old.exists():
        return
    for name in foreign(old, kind):
        target = folder / name
        if target.exists():
            target = target.with_name(f"{target.name}.kept")
        target.parent.mkdir(parents=True, exist_ok=True)
        (old / name).rename(target)
    shutil.rmtree(old)


def _of_corpus(folder: Path) -> Manifest | None:
    """What the corpus.json of an earlier version knows of its shards."""
    if not (folder / "corpus.json").is_file():
        return None
    shards = read_json(folder / "corpus.json").get("shards")
    if not shards:
        return None
    try:
        files = {name: Entry(int(shard["bytes"]), shard["sha256"]) for name, shard in shards.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged(folder / "corpus.json", f"its shards: {error!r}") from None
    return Manifest(files, {"kind": "corpus"})


def _own_hash(content: Mapping) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
