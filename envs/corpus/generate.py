"""One sample of the corpus: a crop of a photograph, values drawn for it, and the image they make of it (Section 3.2).

A sample is a pure function of (seed, split, index) and the photos of its split, so the bytes do not depend on
how many processes build them, nor in what order.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa

from configs.schema import World
from envs.corpus.photos import SPLITS, Photo, read_photo
from envs.corpus.verify import faults
from envs.language import answer
from envs.taxonomy import Degradation, Taxonomy, turns
from envs.types import Sample
from envs.world import world_taxonomy

FORMAT = "du-corpus/2"
COLUMNS = ("sample_id", "photo_id", "split", "type", "values", "answer", "clean", "degraded", "transmission")
IMAGES = ("clean", "degraded", "transmission")
SCHEMA = pa.schema([(name, pa.binary() if name in IMAGES else pa.string()) for name in COLUMNS])
CROP_TRIES = 12
MIN_DETAIL = 4.0
"""Mean |dx| + |dy| of a crop's luminance, grey levels; in flatter ones nobody could read the physics."""
ATTEMPTS = 8
"""How often an unbelievable sample is drawn, at most; the last is kept then, and named in the card."""
ATTEMPTS_PER_PHOTO = 4
"""After so many the next photo's turn comes: some photos have no believable crop."""
_CACHED_BYTES = 256 << 20


@dataclass(frozen=True)
class Recipe:
    """All that decides a corpus. photos: those of each split, in order.

    rejected: {sample_id: how often a person has rejected it}.
    """

    seed: int
    size: int
    world: World
    photos: dict[str, tuple[Photo, ...]]
    counts: dict[str, int]
    rejected: Mapping[str, int] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """16 hex digits that change with anything that could change a sample; where photos lie does not matter."""
        photos = {split: [(p.photo_id, p.digest, p.depth_digest) for p in some] for split, some in self.photos.items()}
        taxonomy = world_taxonomy(self.world).fingerprint()
        said = [FORMAT, self.seed, self.size, asdict(self.world), taxonomy, photos, self.counts, dict(self.rejected)]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Drawn:
    """A sample and how it came about. clean, degraded: uint8 (H, W, 3).

    transmission: the true map float32 (H, W), where haze follows depth.
    passed_over: the first fault of each attempt before it; sound: whether it is free of faults itself.
    """

    sample_id: str
    photo: Photo
    clean: np.ndarray
    degraded: np.ndarray
    degradation: Degradation
    transmission: np.ndarray | None
    passed_over: tuple[str, ...]
    sound: bool


def row(recipe: Recipe, split: str, index: int) -> dict:
    """Sample `index` of a split, a row of `COLUMNS`. Types take turns; one of each in a row share a photo."""
    return as_row(recipe, split, draw(recipe, split, index))


def draw(recipe: Recipe, split: str, index: int) -> Drawn:
    """The first believable attempt that no person has rejected; the last one if there is none."""
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    sample_id = f"{split}-{index:07d}"
    rejections, passed_over = recipe.rejected.get(sample_id, 0), []
    for attempt in range(ATTEMPTS + rejections):
        photo, clean, degradation, transmission, depth = _attempt(recipe, split, index, attempt)
        degraded = degrade(clean, degradation, transmission)
        found = faults(clean, degraded, degradation, depth)
        sound = not found and passed_over.count("rejected") == rejections
        if sound:
            break
        passed_over.append(found[0] if found else "rejected")
    return Drawn(sample_id, photo, clean, degraded, degradation, transmission, tuple(passed_over), sound)


def as_row(recipe: Recipe, split: str, drawn: Drawn) -> dict:
    """A row of `COLUMNS`."""
    from envs.degradations.depth import encode_map

    return {
        "sample_id": drawn.sample_id,
        "photo_id": drawn.photo.photo_id,
        "split": split,
        "type": drawn.degradation.type,
        "values": json.dumps(drawn.degradation.as_dict()["values"]),
        "answer": answer.write(drawn.degradation, world_taxonomy(recipe.world), recipe.world.rationale),
        "clean": encode(drawn.clean),
        "degraded": encode(drawn.degraded),
        "transmission": None if drawn.transmission is None else encode_map(drawn.transmission),
    }


def reproduces(row: Mapping, taxonomy: Taxonomy) -> bool:
    """Whether the degraded image of a row follows from what the row itself says, to the byte."""
    from envs.degradations.depth import decode_map

    degradation = taxonomy.degradation(row["type"], json.loads(row["values"]))
    transmission = decode_map(row["transmission"]) if row["transmission"] else None
    return np.array_equal(degrade(decode(row["clean"]), degradation, transmission), decode(row["degraded"]))


def check_sample(sample: Sample) -> bool:
    """The same for a sample that was read, of a world without depth (a `Sample` has no transmission map)."""
    return np.array_equal(degrade(sample.clean, sample.degradation), sample.degraded)


def crop(photo: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A square of the photo, side log-uniform in [size, short side], reduced to `size` by area; uint8 RGB.

    Flat squares are drawn again; after `CROP_TRIES` the one with most detail is taken.
    """
    return crop_and_place(photo, size, rng)[0]


def crop_and_place(
    photo: np.ndarray, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[int, int, int]]:
    """The same, and where it lies in the photo: (top, left, side)."""
    best, place, most = None, (0, 0, 0), -1.0
    for _ in range(CROP_TRIES):
        side = round(np.exp(rng.uniform(np.log(size), np.log(min(photo.shape[:2])))))
        top, left = (int(rng.integers(0, n - side + 1)) for n in photo.shape[:2])
        square = photo[top : top + side, left : left + side]
        square = square if side == size else cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)
        if (found := _detail(square)) > most:
            best, place, most = square, (top, left, side), found
        if most >= MIN_DETAIL:
            break
    return np.ascontiguousarray(best), place


def degrade(clean: np.ndarray, degradation: Degradation, transmission: np.ndarray | None = None) -> np.ndarray:
    """I_d = G(I_c; D) on 8-bit images, uint8 (H, W, 3). One image a call: a batch could round differently.

    transmission: the true map float32 (H, W), where haze follows depth.
    """
    import torch

    from envs.degradations import degrade as forward

    x = torch.from_numpy(clean).permute(2, 0, 1)[None].float() / 255
    t = None if transmission is None else torch.from_numpy(transmission)[None]
    y = forward(x, [degradation], t)[0].permute(1, 2, 0)
    return (y * 255).round().to(torch.uint8).numpy()


def encode(image: np.ndarray) -> bytes:
    """PNG bytes of uint8 RGB (H, W, 3)."""
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def decode(png: bytes) -> np.ndarray:
    """uint8 RGB (H, W, 3) of PNG bytes."""
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].copy()


def _attempt(
    recipe: Recipe, split: str, index: int, attempt: int
) -> tuple[Photo, np.ndarray, Degradation, np.ndarray | None, np.ndarray | None]:
    """(photo, clean image, degradation, transmission map and relative depth where haze follows depth)."""
    from envs.degradations import depth

    taxonomy = world_taxonomy(recipe.world)
    rng = np.random.default_rng([recipe.seed, SPLITS.index(split), index, attempt])
    photos, kinds = recipe.photos[split], turns(taxonomy)
    photo = photos[(index // len(kinds) + attempt // ATTEMPTS_PER_PHOTO) % len(photos)]
    kind, picture = kinds[index % len(kinds)], _PICTURES.read(photo.path)
    clean, place = crop_and_place(picture, recipe.size, rng)
    far = recipe.world.depth if kind.follows_depth else "none"
    found = depth.relative(far, photo.path, picture.shape, place, recipe.size, rng)
    return photo, clean, *depth.sample(taxonomy, kind.name, rng, recipe.size, found), found


def _detail(image: np.ndarray) -> float:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())


class _Pictures:
    """Decoded photographs, the latest used ones: as many as fit into `room` bytes, one at least."""

    def __init__(self, room: int):
        self._room, self._held, self._bytes = room, OrderedDict(), 0

    def read(self, path: Path) -> np.ndarray:
        if path not in self._held:
            self._held[path] = read_photo(path)
            self._bytes += self._held[path].nbytes
            while self._bytes > self._room and len(self._held) > 1:
                self._bytes -= self._held.popitem(last=False)[1].nbytes
        self._held.move_to_end(path)
        return self._held[path]


_PICTURES = _Pictures(_CACHED_BYTES)
