"""One sample of the corpus: a crop of a photograph, values drawn for it, and the image they make of it (Section 3.2).

A sample is a pure function of (seed, split, index) and the photos of its split, so the bytes do not depend on
how many processes build them, nor in what order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from cachetools import LRUCache, cached

from configs.schema import World
from envs.corpus.datasets import SPLITS, Photo, read_photo
from envs.corpus.photos import Interleaving
from envs.corpus.verify import faults
from envs.language.answer import write
from envs.nuisances import Nuisances
from envs.taxonomy import Degradation, Taxonomy, samples_a_photo, turns
from envs.types import Sample
from envs.world import world_taxonomy

FORMAT = "du-corpus/2"
FIRST_SETTINGS = ("size", "camera", "transmission_grid", "composites", "depth", "step_scale", "views", "rationale")
"""Settings of the world that always enter a fingerprint; a later one does where it is not at its default."""
OPEN_LAWS = 2
"""Counts the laws by which the open world has drawn its samples: a corpus of earlier ones is another."""
CROP_TRIES = 12
MIN_DETAIL = 4.0
"""Mean |dx| + |dy| of a crop's luminance, grey levels; in flatter ones nobody could read the physics."""
ATTEMPTS = 8
"""How often an unbelievable sample is drawn, at most; the last is kept then, and named in the card."""
ATTEMPTS_PER_PHOTO = 4
"""After so many the next photo's turn comes: some photos have no believable crop."""
NATIVE_SHARE, EVEN_SHARE = 0.4, 0.4
"""In the open world: how often a crop is as sharp as its file, and how often drawn haze is even all the same."""
_CACHED_BYTES = 256 << 20


@dataclass(frozen=True)
class Recipe:
    """Holds all that decides a corpus, to the byte.

    Attributes:
        seed: decides crops, values and splits.
        size: side of the pictures, pixels.
        world: the types, their keys and the language of the answers.
        photos: those of each split, in order.
        counts: samples of each split.
        rejected: {sample_id: how often a person has rejected it}.
        shares: {origin of photos: its share of the samples}; empty where all are from one source.
    """

    seed: int
    size: int
    world: World
    photos: dict[str, tuple[Photo, ...]]
    counts: dict[str, int]
    rejected: Mapping[str, int] = field(default_factory=dict)
    shares: Mapping[str, int] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """Gives 16 hex digits that change with anything that could change a sample, but not with where photos lie."""
        photos = {split: [(p.photo_id, p.digest, p.depth_digest) for p in some] for split, some in self.photos.items()}
        taxonomy = world_taxonomy(self.world).fingerprint()
        settings, default = asdict(self.world), asdict(type(self.world)())
        world = {name: settings[name] for name in settings if name in FIRST_SETTINGS or settings[name] != default[name]}
        parts = [FORMAT, self.seed, self.size, world, taxonomy, photos, self.counts, dict(self.rejected)]
        if self.shares:
            parts.append(dict(self.shares))
        if world_taxonomy(self.world).is_open:
            parts.append(OPEN_LAWS)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def photo(self, split: str, turn: int, skipped: int = 0) -> Photo:
        """Gives the photo of a turn of a split, or the one that comes so many later.

        The photos of one source take turns in order; several sources are interleaved (`Interleaving`).
        """
        if self.shares:
            return self._interleavings[split].photo(turn, skipped)
        photos = self.photos[split]
        return photos[(turn + skipped) % len(photos)]

    @cached_property
    def _interleavings(self) -> dict[str, Interleaving]:
        return {
            split: Interleaving(photos, self.shares, (self.seed, SPLITS.index(split)))
            for split, photos in self.photos.items()
        }


@dataclass(frozen=True)
class GeneratedSample:
    """Holds a sample and how it came about.

    Attributes:
        clean, degraded: uint8 (H, W, 3).
        transmission: the true map, float32 (H, W), where haze follows depth; else None.
        passed_over: the first fault of each attempt before it.
        sound: whether it is free of faults itself.
        nuisances: what it has beside its degradation; None in a world without.
    """

    sample_id: str
    photo: Photo
    clean: np.ndarray
    degraded: np.ndarray
    degradation: Degradation
    transmission: np.ndarray | None
    passed_over: tuple[str, ...]
    sound: bool
    nuisances: Nuisances | None = None


def row(recipe: Recipe, split: str, index: int) -> dict:
    """Generates sample `index` of a split as a row of a corpus. Types take turns; one of each shares a photo."""
    return as_row(recipe, split, generate_sample(recipe, split, index))


def generate_sample(recipe: Recipe, split: str, index: int) -> GeneratedSample:
    """Draws a sample until one is believable and no person has rejected it; keeps the last one if there is none."""
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    sample_id = f"{split}-{index:07d}"
    rejections = recipe.rejected.get(sample_id, 0)
    passed_over: list[str] = []
    for attempt in range(ATTEMPTS + rejections):
        photo, clean, degradation, transmission, depth, nuisances = _attempt(recipe, split, index, attempt)
        degraded = degrade(clean, degradation, transmission, nuisances)
        reasons = faults(clean, degraded, degradation, depth)
        sound = not reasons and passed_over.count("rejected") == rejections
        if sound:
            break
        passed_over.append(reasons[0] if reasons else "rejected")
    return GeneratedSample(
        sample_id, photo, clean, degraded, degradation, transmission, tuple(passed_over), sound, nuisances
    )


def as_row(recipe: Recipe, split: str, sample: GeneratedSample) -> dict:
    """Writes a sample as a row of `shards.COLUMNS`: text, PNG bytes, and None where there is no transmission map."""
    from envs.degradations.depth import encode_map

    return {
        "sample_id": sample.sample_id,
        "photo_id": sample.photo.photo_id,
        "split": split,
        "type": sample.degradation.type,
        "values": json.dumps(sample.degradation.as_dict()["values"]),
        "answer": write(sample.degradation, world_taxonomy(recipe.world), recipe.world.rationale, sample.degraded),
        "clean": encode(sample.clean),
        "degraded": encode(sample.degraded),
        "transmission": None if sample.transmission is None else encode_map(sample.transmission),
        **({"nuisances": json.dumps(sample.nuisances.as_dict())} if sample.nuisances else {}),
    }


def reproduces(row: Mapping, taxonomy: Taxonomy) -> bool:
    """Tells whether the degraded image of a row follows from what the row itself says, to the byte."""
    from envs.degradations.depth import decode_map

    degradation = taxonomy.degradation(row["type"], json.loads(row["values"]))
    transmission = decode_map(row["transmission"]) if row["transmission"] else None
    nuisances = Nuisances.of(json.loads(row["nuisances"])) if row.get("nuisances") else None
    return np.array_equal(degrade(decode(row["clean"]), degradation, transmission, nuisances), decode(row["degraded"]))


def check_sample(sample: Sample) -> bool:
    """Tells the same of a sample that was read, with its transmission map where haze follows depth.

    Of a world without nuisances: a `Sample` does not hold them.
    """
    return np.array_equal(degrade(sample.clean, sample.degradation, sample.transmission), sample.degraded)


def crop(photo: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Cuts a square out of a photo and reduces it by area averaging.

    Flat squares are drawn again; after `CROP_TRIES` the one with most detail is taken.

    Args:
        photo: uint8 RGB (H, W, 3), no side shorter than `size`.
        size: side of the result, pixels; that of the square is log-uniform from it to the short side of the photo.

    Returns:
        uint8 RGB (size, size, 3).
    """
    return crop_and_place(photo, size, rng)[0]


def crop_and_place(
    photo: np.ndarray, size: int, rng: np.random.Generator, native: float = 0.0
) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Cuts as `crop` does, and tells where the square lies in the photo: (top, left, side), pixels.

    native: how often, beside that, a square is cut that is not reduced.
    """
    best, place, most = None, (0, 0, 0), -1.0
    for _ in range(CROP_TRIES):
        side = round(np.exp(rng.uniform(np.log(size), np.log(min(photo.shape[:2])))))
        side = size if native and rng.random() < native else side
        top, left = (int(rng.integers(0, n - side + 1)) for n in photo.shape[:2])
        square = photo[top : top + side, left : left + side]
        square = square if side == size else cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)
        if (detail := _detail(square)) > most:
            best, place, most = square, (top, left, side), detail
        if most >= MIN_DETAIL:
            break
    return np.ascontiguousarray(best), place


def degrade(
    clean: np.ndarray,
    degradation: Degradation,
    transmission: np.ndarray | None = None,
    nuisances: Nuisances | None = None,
) -> np.ndarray:
    """Makes I_d = G(I_c; D) of an 8-bit image. One image a call: a batch could round differently.

    Args:
        clean: uint8 (H, W, 3); so is what is returned.
        degradation: the types and their values.
        transmission: the true map, float32 (H, W) in 0 .. 1, where haze follows depth.
        nuisances: noise and JPEG that come with it, if any.
    """
    import torch

    from envs.degradations import degrade as forward

    x = torch.from_numpy(clean).permute(2, 0, 1)[None].float() / 255
    t = None if transmission is None else torch.from_numpy(transmission)[None]
    y = nuisances.degrade(x, degradation, t) if nuisances else forward(x, [degradation], t)
    y = y[0].permute(1, 2, 0)
    return (y * 255).round().to(torch.uint8).numpy()


def encode(image: np.ndarray) -> bytes:
    """Writes uint8 RGB (H, W, 3) as PNG bytes."""
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def decode(png: bytes) -> np.ndarray | None:
    """Reads PNG bytes as uint8 RGB (H, W, 3); None where they are damaged."""
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR) if len(png) else None
    return None if picture is None else picture[..., ::-1].copy()


def _attempt(
    recipe: Recipe, split: str, index: int, attempt: int
) -> tuple[Photo, np.ndarray, Degradation, np.ndarray | None, np.ndarray | None, Nuisances | None]:
    """(photo, clean image, degradation, transmission map and relative depth where haze follows depth, nuisances)."""
    from envs.degradations import depth

    taxonomy = world_taxonomy(recipe.world)
    rng = np.random.default_rng([recipe.seed, SPLITS.index(split), index, attempt])
    kinds = turns(taxonomy)
    kind = kinds[index % len(kinds)]
    photo = recipe.photo(split, index // samples_a_photo(taxonomy), attempt // ATTEMPTS_PER_PHOTO)
    picture = _read_photo(photo.path, recipe.size)
    clean, place = crop_and_place(picture, recipe.size, rng, NATIVE_SHARE if taxonomy.is_open else 0.0)
    source = recipe.world.depth if kind.follows_depth else "none"
    if taxonomy.is_open and source == "procedural" and rng.random() < EVEN_SHARE:
        source = "none"
    relative = depth.relative(source, photo.path, picture.shape, place, recipe.size, rng)
    degradation, transmission = depth.sample(taxonomy, kind.name, rng, recipe.size, relative)
    nuisances = Nuisances.draw(rng, degradation) if recipe.world.nuisances else None
    clean = nuisances.exposed(clean) if nuisances else clean
    return photo, clean, degradation, transmission, relative, nuisances


def _detail(image: np.ndarray) -> float:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())


@cached(LRUCache(_CACHED_BYTES, getsizeof=lambda picture: picture.nbytes))
def _read_photo(path: Path, size: int) -> np.ndarray:
    """A photograph whose short side has `size` pixels at least; the latest used ones stay in memory."""
    picture = read_photo(path)
    height, width = picture.shape[:2]
    if (side := min(height, width)) >= size:
        return picture
    enlarged = (round(width * size / side), round(height * size / side))
    return cv2.resize(picture, enlarged, interpolation=cv2.INTER_CUBIC)
