"""People look at a tenth of the corpus: `duvlm run review` writes the sheets, the corpus build honours the answers."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from configs import UserError, run_folder
from configs.schema import Config
from envs.corpus.datasets import SPLITS
from envs.corpus.reader import check_corpus, read_card, read_samples
from envs.types import Sample
from envs.world import world_taxonomy

SHARE = 0.1
"""Of the corpus, as in the paper."""
SHEET = 500
"""Samples of one HTML file: some 15 MB of pictures at 128 px, which a browser opens in a second."""
_PAGE = Path(__file__).with_name("review.html")
_INDEX = Path(__file__).with_name("review_index.html")


@dataclass(frozen=True)
class Review:
    """Holds what a person has saved. corpus: fingerprint of the recipe of the corpus that was looked at."""

    file: str
    corpus: str
    accepted: tuple[str, ...]
    rejected: tuple[str, ...]


def run(config: Config) -> None:
    """Writes HTML sheets of a random tenth of corpus= (at most limit=), chosen by seed=, to the run's folder."""
    if not config.corpus:
        raise UserError("corpus: expected the folder of a corpus; `duvlm run corpus out=FOLDER` builds one")
    folder, corpus = run_folder(config, "review"), Path(config.corpus)
    if list(folder.glob("*")) and not (folder / "index.html").is_file():
        raise UserError(f"out={folder} holds other things: expected a new or empty folder, or one of sheets to replace")
    check_corpus(corpus)
    card, taxonomy = read_card(corpus), world_taxonomy(config.world)
    ranges = {name: [key.low, key.high, key.unit] for name, key in taxonomy.keys.items()}
    splits = {split: read_samples(corpus, split, taxonomy) for split in SPLITS if split in card["counts"]}
    picked = pick(card["counts"], config.seed, config.limit)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("sheet-[0-9]*.html"):
        old.unlink()
    sheets = [picked[start : start + SHEET] for start in range(0, len(picked), SHEET)]
    names = []
    for number, chosen in enumerate(sheets, 1):
        names.append(f"sheet-{number:02d}.html")
        data = {"corpus": card["recipe"], "sheet": number, "sheets": len(sheets), "types": ranges}
        data["samples"] = [_entry(splits[split][index]) for split, index in chosen]
        (folder / names[-1]).write_text(_filled(_PAGE, data))
    listed = [{"file": name, "samples": len(chosen)} for name, chosen in zip(names, sheets, strict=True)]
    (folder / "index.html").write_text(_filled(_INDEX, {"corpus": card["recipe"], "sheets": listed}))
    print(f"{folder / 'index.html'}: {len(picked)} samples in {len(sheets)} sheets; open it in a browser")


def pick(counts: dict[str, int], seed: int, limit: int = 0) -> list[tuple[str, int]]:
    """Picks a random tenth of all samples, rounded up, at most `limit`: (split, index) in a random order."""
    every = [(split, index) for split, count in counts.items() for index in range(count)]
    share = math.ceil(SHARE * len(every))
    chosen = np.random.default_rng(seed).permutation(len(every))[: min(share, limit) if limit else share]
    return [every[i] for i in chosen]


def read_reviews(files: str) -> list[Review]:
    """Reads the reviews of a `reviews=` setting: files that a sheet has saved, with commas between them.

    Raises:
        UserError: a file that is missing or is none.
    """
    return [_read_review(Path(name.strip())) for name in files.split(",") if name.strip()]


def _read_review(file: Path) -> Review:
    expected = 'expected {"corpus": ..., "accepted": [...], "rejected": [...]}, as a review sheet saves it'
    if not file.is_file():
        raise UserError(f"reviews={file}: no such file; {expected}")
    try:
        review = json.loads(file.read_bytes())
    except ValueError as error:
        raise UserError(f"reviews={file}: not JSON ({str(error)[:80]}); {expected}") from None
    lists = [review.get(name) for name in ("accepted", "rejected")] if isinstance(review, dict) else [None]
    if not all(isinstance(ids, list) and all(isinstance(i, str) for i in ids) for ids in lists):
        raise UserError(f"reviews={file}: {expected}")
    return Review(str(file), str(review.get("corpus")), *map(tuple, lists))


def _entry(sample: Sample) -> dict:
    pictures = {"clean": _jpeg(sample.clean), "degraded": _jpeg(sample.degraded)}
    return {"id": sample.sample_id, "photo": sample.photo_id, **sample.degradation.as_dict(), **pictures}


def _jpeg(image: np.ndarray) -> str:
    options = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return base64.b64encode(cv2.imencode(".jpg", image[..., ::-1], options)[1]).decode()


def _filled(page: Path, data: dict) -> str:
    """The page with its data; `<` is escaped, so that no text can end the script."""
    return page.read_text().replace("/*DATA*/null", json.dumps(data).replace("<", "\\u003c"))
