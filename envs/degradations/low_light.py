"""Low light: linearise, camera matrix, digital gain, 8-bit quantisation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from envs.degradations.base import Key, Phenomenon, Place, Severity
from envs.degradations.common import QUANTISATION, Tensor, as_batch, as_picture, stack, torch, truncated_normal

if TYPE_CHECKING:
    from envs.taxonomy import Degradation

CAMERAS = np.array(
    [
        [[1.0234, -0.2969, -0.2266], [-0.5625, 1.6328, -0.0469], [-0.0703, 0.2188, 0.6406]],
        [[0.4913, -0.0541, -0.0202], [-0.613, 1.3513, 0.2906], [-0.1564, 0.2151, 0.7183]],
        [[0.838, -0.263, -0.0639], [-0.2887, 1.0725, 0.2496], [-0.0627, 0.1427, 0.5438]],
        [[0.6596, -0.2079, -0.0562], [-0.4782, 1.3016, 0.1933], [-0.097, 0.1581, 0.5181]],
    ]
)
"""Four public XYZ-to-camera matrices; training draws convex mixtures of them, so that the key is continuous."""
RGB_TO_XYZ = np.float32(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
BRIGHTEST = 0.28
"""Of a middle grey of .5: what stays brighter is no low light but another exposure."""
TV_WEIGHT = 0.05
"""Best of .003 .. .12 on photographs that no evaluation shows (val split of a 26,000-sample corpus)."""
CLAHE_CLIP, CLAHE_TILES = 2.0, (4, 4)


class LowLight(Phenomenon):
    r"""Models an underexposed photograph:

    .. math:: y = Q(\mathrm{clip}(g M x^\gamma)), \qquad M \propto C_{\mathrm{XYZ} \to \mathrm{camera}} T

    with :math:`T` from RGB to XYZ and each row of M divided by its sum, so that white stays white; without the camera
    key, M is the identity.
    """

    name, title = "low_light", "low light"
    place = Place.SENSOR
    keys = (
        Key("camera", "1", -2.0, 2.0, 0.01, (3, 3)),
        Key("gamma", "1", 1.0, 5.0, 0.01),
        Key("gain", "1", 0.005, 1.0, 0.001),
    )
    severity = Severity("gamma", moderate=2.5, severe=3.0, thirds=(0.0131, 0.0093))
    formula = (
        "y = gain * x ** gamma (by a 3 x 3 XYZ-to-camera matrix between the two, where it is asked for), rounded to 8 "
        "bits"
    )
    alters_exposure = True
    max_clipped = 0.90  # it leaves 31 % of a scene black in the median; where 90 % are, nothing can be read
    min_contrast = 0.5  # its median is 2.8; half a level: two of a hundred crops

    def effect(self, values, size):
        """Returns what becomes of a middle grey, .5: gain and gamma darken alike."""
        return values["gain"] * 0.5 ** values["gamma"]

    def keys_in(self, world):
        return self.keys if world.camera else self.keys[1:]

    def sample(self, rng, size, kind, mild=False) -> dict:
        """Draws gamma ~ U(2, 3.5), gain ~ N(.1, .08) on [.05, .10], camera a convex mixture of `CAMERAS`; mild:
        gamma ~ U(1.5, 2.5), gain ~ U(.15, .5)."""
        if mild:
            values = {"gamma": rng.uniform(1.5, 2.5), "gain": rng.uniform(0.15, 0.5)}
        else:
            values = {"gamma": rng.uniform(2.0, 3.5), "gain": truncated_normal(rng, 0.10, 0.08, 0.05, 0.10)}
        if any(key.name == "camera" for key in kind.keys):
            values["camera"] = np.tensordot(rng.dirichlet(np.ones(len(CAMERAS))), CAMERAS, axes=1).tolist()
        return values

    def sample_wide(self, rng, size, kind) -> dict:
        """Draws by the law of the paper in half of the cases where it is alone, else from slight underexposure on:
        gamma ~ U(1, 2.5), log gain ~ U(log .1, log .8), such that a middle grey of .5 becomes `BRIGHTEST` at most."""
        values = self.sample(rng, size, kind, mild=True)
        if len(kind.parts) == 1 and rng.random() < 0.5:
            return self.sample(rng, size, kind)
        while True:
            gamma, gain = rng.uniform(1.0, 2.5), float(np.exp(rng.uniform(np.log(0.1), np.log(0.8))))
            if gain * 0.5**gamma <= BRIGHTEST:
                return values | {"gamma": gamma, "gain": gain}

    def degrade(self, x: Tensor, values: dict[str, Tensor]) -> Tensor:
        """Applies gamma, gain (B,) and, if the world has it, camera (B, 3, 3)."""
        gamma, gain = (values[key].reshape(-1, 1, 1, 1) for key in ("gamma", "gain"))
        return gain * _mix(_matrix(values), x.clamp_min(0) ** gamma)

    def project(self, x0, y, noise_level, values, sigma_y=QUANTISATION) -> Tensor:
        r"""Clamps x0 into :math:`\{x : Q(\mathrm{clip}(g M x^\gamma)) = y\}`: in camera space each channel has an
        interval around y / g."""
        gamma = values["gamma"].reshape(-1, 1, 1, 1)
        low, high = _interval(y, values, sigma_y)
        linear = x0.clamp(0, 1) ** gamma
        matrix = _matrix(values)
        return _unmix(matrix, _mix(matrix, linear).clamp(low, high)).clamp(0, 1) ** (1 / gamma)

    def closed_form(self, y, values, sigma_y=QUANTISATION) -> Tensor:
        """Takes the midpoint of the interval where the picture is shown (after the inverse gamma).

        With a camera, what reads 0 is taken to be little more than 0, though it may have been negative.
        """
        gamma = values["gamma"].reshape(-1, 1, 1, 1)
        matrix = _matrix(values)
        ends = [_unmix(matrix, end.clamp_min(0)).clamp(0, 1) ** (1 / gamma) for end in _interval(y, values, sigma_y)]
        return sum(ends) / 2

    def input_noise(self, y, values, sigma_y) -> Tensor:
        """Returns the standard deviation within the intervals: (B, 1, 1, 1)."""
        gamma = values["gamma"].reshape(-1, 1, 1, 1)
        low, high = (end.clamp(0, 1) ** (1 / gamma) for end in _interval(y, values, sigma_y))
        return (high - low).square().mean((1, 2, 3), keepdim=True).sqrt() / math.sqrt(12)

    def classical(self):
        return {"TV in the interval": self.total_variation, "interval midpoint": self.estimate}

    def total_variation(self, degraded: np.ndarray, degradation: Degradation) -> np.ndarray:
        """Smooths the midpoint by Chambolle's total variation and clamps it to the pictures that give these data."""
        from skimage.restoration import denoise_tv_chambolle

        smooth = denoise_tv_chambolle(self.estimate(degraded, degradation), weight=TV_WEIGHT, channel_axis=2)
        x0 = torch.tensor(smooth, dtype=torch.float32).permute(2, 0, 1)[None]
        return as_picture(self.project(x0, as_batch(degraded), torch.ones(1), stack([degradation])))

    def blind(self, degraded: np.ndarray) -> np.ndarray:
        """Makes the 99.5 % brightest value white, then equalises the lightness with limited contrast (CLAHE)."""
        y = degraded.astype(np.float32) / 255
        white = max(float(np.percentile(y, 99.5)), 1 / 255)
        bright = ((y / white).clip(0, 1) * 255).round().astype(np.uint8)
        lab = cv2.cvtColor(bright, cv2.COLOR_RGB2LAB)
        lab[..., 0] = cv2.createCLAHE(CLAHE_CLIP, CLAHE_TILES).apply(lab[..., 0])
        return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).astype(np.float32) / 255


PHENOMENON = LowLight()


def _interval(y: Tensor, values: dict[str, Tensor], sigma_y: Tensor | float) -> tuple[Tensor, Tensor]:
    """All camera-space values that quantise to y; open ends reach to 0 and to the largest value the scene can have.

    The interval is as wide as uniform noise of the standard deviation `sigma_y`: one grey level for quantisation.
    """
    gain = values["gain"].reshape(-1, 1, 1, 1)
    step = sigma_y * math.sqrt(3)
    low, high = (y - step) / gain, (y + step) / gain
    if "camera" not in values:  # every channel of x^gamma lies in [0, 1]
        return low.clamp(0, 1), high.clamp(0, 1)
    open_low, open_high = torch.full_like(low, -2.0), torch.full_like(high, 4.0)
    return torch.where(y <= step, open_low, low), torch.where(y >= 1, open_high, high)


def _matrix(values: dict[str, Tensor]) -> Tensor | None:
    if "camera" not in values:
        return None
    matrix = values["camera"] @ torch.from_numpy(RGB_TO_XYZ).to(values["camera"])
    return matrix / matrix.sum(-1, keepdim=True)


def _mix(matrix: Tensor | None, x: Tensor) -> Tensor:
    return x if matrix is None else torch.einsum("bij,bjhw->bihw", matrix, x)


def _unmix(matrix: Tensor | None, x: Tensor) -> Tensor:
    return x if matrix is None else _mix(torch.linalg.inv(matrix), x)
