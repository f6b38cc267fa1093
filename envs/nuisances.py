"""What every photograph has a little of and no answer names: noise of the sensor, JPEG, shifts of exposure and colour.

They are too weak to be degradations (each type's file states from where on it is one), drawn into every sample of a
world with `nuisances`, and recorded beside its values, so that the sample can be made again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from envs.degradations.base import Place
from envs.degradations.common import Tensor, compress, gaussian, quantise, stack, torch
from envs.taxonomy import Degradation

SHARE = 0.7
"""How often each of them is there."""
LEAST_QUALITY = 80
"""Of JPEG that is drawn; what is compressed harder than by 75 is degraded, and what is near it could be either."""
MAX_NOISE, MAX_SHOT = 3.0, 2.0
"""Standard deviations in grey levels; together they stay below 4, well below the 5 of what is degraded."""
SUBSAMPLINGS = ("4:2:0", "4:4:4")


@dataclass(frozen=True)
class Nuisances:
    """Holds what was drawn for one sample; the defaults are those of a picture without any.

    exposure: factor of all values, about 1. white_balance: one of each channel.
    sensor_noise, shot_noise: standard deviations in grey levels, of the noise that is everywhere, and of that of
    photons where the picture is white.
    jpeg_quality: of the encoder, 80 .. 100; 0 is no JPEG. subsampling: of its chrominance.
    """

    exposure: float = 1.0
    white_balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    sensor_noise: float = 0.0
    shot_noise: float = 0.0
    jpeg_quality: int = 0
    subsampling: str = SUBSAMPLINGS[0]

    @classmethod
    def draw(cls, rng: np.random.Generator, degradation: Degradation) -> Nuisances:
        """Draws those that the degradation leaves open: noise beside noise, or JPEG beside JPEG, would be one.

        A degradation that alters the exposure leaves it, for the two could not be told apart.
        """
        drawn: dict[str, Any] = {}
        places = {part.place for part in degradation.phenomena}
        if rng.random() < SHARE and not any(part.alters_exposure for part in degradation.phenomena):
            drawn["exposure"] = round(float(np.exp(rng.uniform(-0.1, 0.1))), 4)
            drawn["white_balance"] = tuple(round(float(gain), 4) for gain in rng.uniform(0.96, 1.04, 3))
        if rng.random() < SHARE and Place.READOUT not in places:
            drawn["sensor_noise"] = round(float(rng.uniform(0, MAX_NOISE)), 3)
            drawn["shot_noise"] = round(float(rng.uniform(0, MAX_SHOT)), 3)
        if rng.random() < SHARE and Place.FILE not in places:
            drawn["jpeg_quality"] = int(rng.integers(LEAST_QUALITY, 101))
            drawn["subsampling"] = str(rng.choice(SUBSAMPLINGS))
        return cls(**drawn)

    @classmethod
    def of(cls, record: Mapping) -> Nuisances:
        """Reads what `as_dict` has written."""
        return cls(**{**record, "white_balance": tuple(record["white_balance"])})

    def as_dict(self) -> dict:
        return asdict(self)

    def exposed(self, picture: np.ndarray) -> np.ndarray:
        """Shifts exposure and white balance of a clean picture, uint8 (H, W, 3): the scene as this camera saw it."""
        gains = np.float32(self.exposure) * np.float32(self.white_balance)
        return (picture * gains).clip(0, 255).round().astype(np.uint8)

    def degrade(self, x: Tensor, degradation: Degradation, transmission: Tensor | None = None) -> Tensor:
        """Makes the degraded picture with noise and JPEG in their places on the way: (1, 3, H, W) on the 8-bit grid.

        Args:
            x: (1, 3, H, W) in [0, 1], the clean picture, shifted already.
            transmission: (1, H, W) true map, as for `envs.degradations.degrade`.
        """
        values = stack([degradation], x.device)
        if transmission is not None and "transmission" in values:
            values["transmission"] = transmission.to(x)
        noisy = False
        for part in degradation.phenomena:
            if part.place > Place.READOUT and not noisy:
                x, noisy = self._with_noise(x), True
            x = part.degrade(x, values)
        x = quantise(x if noisy else self._with_noise(x))
        if not self.jpeg_quality:
            return x
        picture = (x[0] * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        coded = compress(picture, self.jpeg_quality, self.subsampling)
        return torch.from_numpy(coded.copy()).permute(2, 0, 1)[None].to(x) / 255

    def _with_noise(self, x: Tensor) -> Tensor:
        x = x.clamp(0, 1)
        deviation = (self.sensor_noise**2 + self.shot_noise**2 * x).sqrt()
        return x + deviation * gaussian(x[0], 1.0)[None]
