"""The photographs a `photos=` setting names: the bundled ones, plain folders, and the layouts of public datasets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import ijson
import numpy as np

from configs import UserError
from envs.pictures import SUFFIXES, read_picture

SPLITS = ("train", "val", "test")
BUNDLED = Path(__file__).parents[1] / "bundled"
_PACKAGED = (  # photo_id, files, split, licence, author; shipped weights never saw the test photos
    ("astronaut", ("skimage/data/astronaut.png",), "train", "public domain", "NASA"),
    ("chelsea", ("skimage/data/chelsea.png",), "val", "CC0-1.0", "Stefan van der Walt"),
    ("coffee", ("skimage/data/coffee.png",), "test", "CC0-1.0", "Rachel Michetti"),
    ("rocket", ("skimage/data/rocket.jpg",), "test", "public domain", "SpaceX"),
    (
        "motorcycle",
        ("skimage/data/motorcycle_left.png", "skimage/data/motorcycle_right.png"),
        "train",
        "Middlebury Stereo 2014, as distributed by scikit-image",
        "D. Scharstein et al.",
    ),
)


@dataclass(frozen=True)
class Photo:
    """Names one picture file. Files of one photo (a stereo pair, two formats) share photo_id.

    Attributes:
        split: train, val or test; None until it is decided.
        scene: what belongs to one is in one split; the photo_id unless a dataset says more (a drive).
        origin: name of the part of `photos=` it is from, where there are several.
        known_small: its source is known for small pictures, which are enlarged where a corpus is larger.
        enlargement: factor by which a corpus enlarges it, 1 or more.
        digest: SHA-256 of the file, once it was looked at.
        depth_digest: of the depth beside it, where that is used.
    """

    photo_id: str
    path: Path
    split: str | None = None
    licence: str = "unknown"
    author: str = "unknown"
    source: str = ""
    scene: str = ""
    digest: str = ""
    depth_digest: str = ""
    origin: str = ""
    known_small: bool = False
    enlargement: float = 1.0


@dataclass(frozen=True)
class PhotoSource:
    """Names one part of a `photos=` setting: `bundled`, a folder or `LAYOUT:FOLDER`.

    Attributes:
        name: of the folder, with a number where several have one name.
        share: of a corpus that goes to it, relative to those of the other parts.
    """

    text: str
    name: str
    share: int = 1


def parse_sources(spec: str) -> list[PhotoSource]:
    """Splits a `photos=` setting into its parts, as in `celeba:A@2,bdd100k:B@1,FOLDER`; a share is 1 where none is set.

    Raises:
        UserError: a share is no whole number from 1 on.
    """
    if Path(spec).is_dir():
        return [PhotoSource(spec, Path(spec).name)]
    sources, names = [], []
    for part in filter(None, map(str.strip, spec.split(","))):
        text, at, share = (part, "", "1") if Path(part).is_dir() else part.rpartition("@")
        if not at:
            text, share = part, "1"
        if not share.isdigit() or int(share) < 1:
            raise UserError(f"photos={part}: expected a whole number from 1 on as the share after @, got {share!r}")
        names.append(Path(text.rpartition(":")[2]).name)
        number = names.count(names[-1])
        sources.append(PhotoSource(text, names[-1] if number == 1 else f"{names[-1]}{number}", int(share)))
    return sources


def candidates(spec: str) -> tuple[list[Photo], dict[str, str]]:
    """Lists the pictures of a `photos=` setting in order, not yet looked at, and {file: why it was left out}.

    Args:
        spec: `bundled`, a folder, `celeba:DIR`, `bdd100k:DIR` or `nuscenes:DIR`; or several of them, with commas.
            Of several, each photo_id and scene begins with the name of its folder.

    Raises:
        UserError: a folder is missing, or lacks a piece of its layout.
    """
    photos, left_out, sources = [], {}, parse_sources(spec)
    for source in sources:
        listed, missing = _list_source(source.text)
        photos += listed if len(sources) == 1 else [_prefixed(photo, source.name) for photo in listed]
        left_out |= missing
    return photos, left_out


def _prefixed(photo: Photo, name: str) -> Photo:
    scene = photo.scene and f"{name}/{photo.scene}"
    return replace(photo, photo_id=f"{name}/{photo.photo_id}", scene=scene, origin=name)


def _list_source(text: str) -> tuple[list[Photo], dict[str, str]]:
    layout, colon, folder = text.partition(":")
    readers = {"celeba": _celeba, "bdd100k": _bdd100k, "nuscenes": _nuscenes}
    if text == "bundled":
        return _bundled(), {}
    if not colon or Path(text).is_dir():
        return _folder(_existing(text, text)), {}
    if layout not in readers:
        known = ", ".join(f"{name}:DIR" for name in readers)
        raise UserError(f"photos={text}: no such folder, and {layout!r} is no layout; expected DIR, {known} or bundled")
    return readers[layout](_existing(folder, text))


def _existing(folder: str, spec: str) -> Path:
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"photos={spec}: no such folder. Name a folder of photographs, or photos=bundled.")
    return root


def read_photo(path: Path) -> np.ndarray:
    """Reads a photograph of a corpus, uint8 RGB (H, W, 3).

    One that a Python package holds is read as it is stored, its ICC profile aside: the samples that the shipped
    weights were measured on were made so.
    """
    return read_picture(path, profile=path not in _packaged_paths())


@cache
def _packaged_paths() -> frozenset[Path]:
    return frozenset(_packaged(file) for _, files, *_ in _PACKAGED for file in files)


def _packaged(file: str) -> Path:
    package, inside = file.split("/", 1)
    return Path(find_spec(package).origin).parent / inside


def _bundled() -> list[Photo]:
    own = json.loads((BUNDLED / "attribution.json").read_text())
    photos = [
        Photo(Path(e["file"]).stem, BUNDLED / e["file"], e["split"], e["licence"], e["author"], e["source"])
        for e in own
    ]
    for photo_id, files, split, licence, author in _PACKAGED:
        for file in files:
            source = f"{file.partition('/')[0]} (Python package)"
            photos.append(Photo(photo_id, _packaged(file), split, licence, author, source))
    return photos


def _folder(root: Path) -> list[Photo]:
    """Every picture below root; train/, val/ and test/ are splits, attribution.json gives licences and authors."""
    known = _attribution(root / "attribution.json")
    photos = []
    for path in sorted(root.rglob("*")):
        depth = path.stem.lower().endswith((".depth", ".disparity"))  # of the photograph beside it
        if path.suffix.lower() in SUFFIXES and path.is_file() and not depth:
            inside = path.relative_to(root)
            split = inside.parts[0] if len(inside.parts) > 1 and inside.parts[0] in SPLITS else None
            rights = {"source": str(root)} | known.get(inside.as_posix(), {})
            photos.append(Photo(inside.with_suffix("").as_posix(), path, split, **rights))
    return photos


def _attribution(file: Path) -> dict[str, dict[str, str]]:
    """{picture: its licence, author and source} of attribution.json: a list of {"file", "licence", ...}."""
    if not file.is_file():
        return {}
    try:
        entries = json.loads(file.read_text())
        names = ("licence", "author", "source")
        return {entry["file"]: {name: str(entry[name]) for name in names if name in entry} for entry in entries}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{file}: expected a list of {{"file": ..., "licence": ..., "author": ..., "source": ...}}, got {error!r}'
        ) from None


def _celeba(root: Path) -> tuple[list[Photo], dict[str, str]]:
    """img_align_celeba/*.jpg (178 x 218 px), split by person: list_eval_partition.txt says 0 train, 1 val, 2 test."""
    pictures, partition = root / "img_align_celeba", root / "list_eval_partition.txt"
    _need("celeba", root, pictures, partition)
    split = {}
    for number, line in enumerate(partition.read_text().splitlines(), 1):
        match line.split():
            case [name, ("0" | "1" | "2") as part]:
                split[name] = SPLITS[int(part)]
            case []:
                pass
            case _:
                raise UserError(f"{partition}, line {number}: expected `FILE.jpg 0`, 1 or 2, got {line[:60]!r}")
    rights = ("CelebA agreement (non-commercial research)", "Z. Liu et al.", "CelebA")
    photos, left_out = [], {}
    for path in sorted(pictures.glob("*.jpg")):
        if path.name in split:
            photos.append(Photo(path.stem, path, split.pop(path.name), *rights, known_small=True))
        else:
            left_out[str(path)] = f"not listed in {partition.name}"
    if split:
        left_out[str(partition)] = f"{len(split)} of the pictures it lists are not there, the first {min(split)}"
    return photos, left_out


def _bdd100k(root: Path) -> tuple[list[Photo], dict[str, str]]:
    """bdd100k/images/100k/{train,val,test}/*.jpg, one frame of each drive."""
    folder = root / "bdd100k/images/100k"
    folders = {split: folder / split for split in SPLITS}
    _need("bdd100k", root, *folders.values())
    rights = ("BDD100K licence (non-commercial research and education)", "F. Yu et al.", "BDD100K")
    return [
        Photo(f"{split}/{path.stem}", path, split, *rights)
        for split, folder in folders.items()
        for path in sorted(folder.glob("*.jpg"))
    ], {}


def _nuscenes(root: Path) -> tuple[list[Photo], dict[str, str]]:
    """samples/CAM_FRONT/*.jpg, split by scene: its frames show one drive. Scenes come from the v1.0-*/ tables."""
    folder = root / "samples/CAM_FRONT"
    versions = sorted(path for path in root.glob("v1.0-*") if path.is_dir()) or [root / "v1.0-*"]
    tables = [version / name for version in versions for name in ("sample_data.json", "sample.json", "scene.json")]
    _need("nuscenes", root, folder, *tables)
    scene = {}
    for version in versions:
        names = {row["token"]: row["name"] for row in read_records(version / "scene.json")}
        scenes = {row["token"]: names[row["scene_token"]] for row in read_records(version / "sample.json")}
        for row in read_records(version / "sample_data.json"):
            if row["filename"].startswith("samples/CAM_FRONT/"):
                scene[Path(row["filename"]).name] = scenes[row["sample_token"]]
    photos, left_out = [], {}
    rights = ("CC-BY-NC-SA-4.0 (nuScenes terms of use)", "Motional", "nuScenes")
    for path in sorted(folder.glob("*.jpg")):
        if path.name in scene:
            photos.append(Photo(path.stem, path, None, *rights, scene=scene[path.name]))
        else:
            left_out[str(path)] = "in no sample_data.json, so its scene is unknown"
    return photos, left_out


def read_records(file: Path) -> Iterator[dict]:
    """Reads the objects of a JSON list, one at a time: sample_data.json of all of nuScenes is over a gigabyte.

    Raises:
        UserError: the file is no such list.
    """
    try:
        with file.open("rb") as stream:
            yield from ijson.items(stream, "item", use_float=True)
    except ijson.JSONError as error:
        raise UserError(f"{file}: expected a JSON list of objects; it ends early, or is damaged ({error})") from None


def _need(layout: str, root: Path, *pieces: Path) -> None:
    if missing := [str(piece.relative_to(root)) for piece in pieces if not piece.exists()]:
        raise UserError(f"photos={layout}:{root}: expected {', '.join(missing)} in it; unpack the dataset there")
