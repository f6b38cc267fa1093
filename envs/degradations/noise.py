"""Noise: white Gaussian noise of the sensor, by its standard deviation in grey levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from envs.degradations.base import Key, Phenomenon, Place, Severity
from envs.degradations.common import QUANTISATION, Tensor, dct2, gaussian, idct2, photo_power, torch

if TYPE_CHECKING:
    from envs.taxonomy import Degradation

WEAKEST = 5.0
"""Grey levels below which noise is no degradation but a nuisance: most files of cameras have some."""
CLEAR = 7.0
"""Grey levels from which on everybody would call it noise, whatever the photograph."""
TV_WEIGHT = 0.8
"""Weight of the total variation, in standard deviations of the noise."""


class Noise(Phenomenon):
    r"""Models the noise of a sensor: :math:`y = x + \sigma n`, n of the standard normal distribution.

    The noise follows from the picture and its level alone, so that what was degraded can be degraded again.
    """

    name = title = "noise"
    place = Place.READOUT
    shows_when_reduced = False
    keys = (Key("noise_level", "levels", 2.0, 60.0, 0.2),)
    severity = Severity("noise_level", moderate=12.0, severe=25.0, thirds=(10.8, 23.2))
    formula = "white Gaussian noise, `noise_level` its standard deviation in grey levels of 255"
    max_clipped = 0.50  # it pushes what is nearly black or white over the end

    def sample(self, rng, size, kind, mild=False) -> dict:
        """Draws a level, log-uniform on [5, 50], mild on [5, 20]."""
        low, high = np.log([WEAKEST, 20.0 if mild else 50.0])
        return {"noise_level": float(np.exp(rng.uniform(low, high)))}

    def sample_wide(self, rng, size, kind) -> dict:
        """Draws a level, log-uniform on [7, 50], in a composite on [7, 20]: what is near `WEAKEST` could be either."""
        low, high = np.log([CLEAR, 20.0 if len(kind.parts) > 1 else 50.0])
        return {"noise_level": float(np.exp(rng.uniform(low, high)))}

    def degrade(self, x: Tensor, values: dict[str, Tensor]) -> Tensor:
        rows = [gaussian(picture, level) for picture, level in zip(x, values["noise_level"].tolist(), strict=True)]
        return x + torch.stack(rows)

    def project(self, x0, y, noise_level, values, sigma_y=QUANTISATION) -> Tensor:
        r"""Weighs, per frequency of the cosine transform, the data with their noise against the prior (DDNM+):

        .. math:: \hat x = x_0 + \frac{v}{v + \sigma^2 + \sigma_y^2} (y - x_0), \qquad v = \frac{1}{1 / P + 1 / s^2}
        """
        power = photo_power(*y.shape[-2:]).to(y.device)
        variance = 1 / (1 / power + noise_level.reshape(-1, 1, 1, 1) ** -2)
        weights = variance / (variance + _noise(values) + sigma_y**2)
        return x0 + idct2(weights * dct2(y - x0))

    def closed_form(self, y, values, sigma_y=QUANTISATION) -> Tensor:
        r"""Applies the Wiener filter, :math:`h P / (h P + \sigma^2 + \sigma_y^2)`.

        h is how much busier the picture is than the mean photograph: the mean of :math:`(|Y|^2 - \sigma^2) / P` where P
        is above the noise.
        """
        noise, spectrum = _noise(values) + sigma_y**2, dct2(y)
        power = photo_power(*y.shape[-2:]).to(y.device)
        loud = (power > noise).float()
        loud[..., 0, 0] = 0
        busy = ((spectrum.square() - noise) / power * loud).sum((1, 2, 3), keepdim=True)
        busy = busy / (3 * loud.sum((1, 2, 3), keepdim=True)).clamp_min(1)
        power = power * busy.clamp(0.1, 50)
        return idct2(power / (power + noise) * spectrum)

    def input_noise(self, y, values, sigma_y) -> Tensor:
        """Returns the standard deviation of what the Wiener filter leaves: (B, 1, 1, 1)."""
        power, noise = photo_power(*y.shape[-2:]).to(y.device), _noise(values) + sigma_y**2
        return (power * noise / (power + noise)).mean((2, 3), keepdim=True).sqrt()

    def classical(self):
        return {"total variation": self.total_variation, "Wiener filter": self.estimate}

    def total_variation(self, degraded: np.ndarray, degradation: Degradation) -> np.ndarray:
        """Smooths by Chambolle's total variation, weighted by the level of the noise."""
        from skimage.restoration import denoise_tv_chambolle

        weight = TV_WEIGHT * degradation["noise_level"] / 255
        smooth = denoise_tv_chambolle(degraded.astype(np.float32) / 255, weight=weight, channel_axis=2)
        return smooth.clip(0, 1).astype(np.float32)

    def blind(self, degraded: np.ndarray) -> np.ndarray:
        """Estimates the level from the median absolute Laplacian, then smooths by total variation."""
        from skimage.restoration import denoise_tv_chambolle

        unit = degraded.astype(np.float32) / 255
        level = laplacian_level(unit)
        return denoise_tv_chambolle(unit, weight=max(1e-4, TV_WEIGHT * level), channel_axis=2).astype(np.float32)


PHENOMENON = Noise()


def laplacian_level(unit: np.ndarray) -> float:
    """Estimates the standard deviation of white noise in (H, W, 3) by the median of |second mixed differences|."""
    second = np.diff(np.diff(unit, 2, axis=0), 2, axis=1)  # its taps 1 -2 1 have the norm 6 in two dimensions
    return float(np.median(np.abs(second)) / (6 * 0.6745))


def _noise(values: dict[str, Tensor]) -> Tensor:
    """(B, 1, 1, 1): the variance of the noise."""
    return (values["noise_level"] / 255).square().reshape(-1, 1, 1, 1)
