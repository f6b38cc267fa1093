"""Pictures that other methods have made of the samples: FOLDER/SAMPLE_ID.png each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from configs import UserError


def check_given(folders: Mapping[str, Path], sample_ids: Sequence[str], size: int) -> None:
    """Checks before anything is restored that each method has a picture of every sample, `size` pixels a side.

    Raises:
        UserError: pictures are missing, unreadable or of another size.
    """
    for name, folder in folders.items():
        if missing := [sample_id for sample_id in sample_ids if not _file(folder, sample_id).is_file()]:
            raise UserError(
                f"restored={name}:{folder}: expected a picture SAMPLE_ID.png of each sample, {len(missing)} of "
                f"{len(sample_ids)} are missing, such as {missing[0]}.png"
            )
        for file in (_file(folder, sample_id) for sample_id in sample_ids):
            try:
                with Image.open(file) as picture:
                    width, height = picture.size
            except (OSError, UnidentifiedImageError) as error:
                raise UserError(f"restored={name}: {file} is no picture that can be read: {error}") from None
            if (width, height) != (size, size):
                raise UserError(f"restored={name}: {file}: expected {size} x {size} px, got {width} x {height}")


def given_picture(folder: Path, sample_id: str) -> np.ndarray:
    """Reads the picture of a sample as uint8 (H, W, 3)."""
    with Image.open(_file(folder, sample_id)) as picture:
        return np.asarray(picture.convert("RGB"))


def _file(folder: Path, sample_id: str) -> Path:
    return folder / f"{sample_id}.png"
