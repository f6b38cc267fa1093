r"""Blur and then low resolution, undone together: :math:`y = R G x G^\top R^\top`, R the reduction, G the Gaussian.

One after the other they could not be: the pseudo-inverse of R answers at frequencies that G has emptied, and the Wiener
filter would amplify what it says there. Each dimension has one matrix R G, small enough for its singular values.
"""

from __future__ import annotations

from functools import lru_cache

from envs.degradations import blur, low_resolution
from envs.degradations.base import Operator
from envs.degradations.common import QUANTISATION, Tensor, dct_matrix, photo_power, torch


class ReducedBlur(Operator):
    """Degrades by sigma and scale, (B,) each, and inverts both at once."""

    def degrade(self, x: Tensor, values: dict[str, Tensor]) -> Tensor:
        return low_resolution.PHENOMENON.degrade(blur.PHENOMENON.degrade(x, values), values)

    def project(self, x0, y, noise_level, values, sigma_y=QUANTISATION) -> Tensor:
        """Works as `Blur.project`, in the singular vectors of R G in place of the cosines.

        The variance of a prior along one of them is that of photographs and of its error together, as there.
        """
        levels = noise_level.reshape(-1, 1, 1).expand(len(x0), 1, 1)
        noise = torch.as_tensor(sigma_y, device=y.device).expand(len(x0), 1, 1, 1)
        rows = zip(x0, y, levels, noise, values["sigma"].tolist(), values["scale"].tolist(), strict=True)
        return torch.stack([_project(*row) for row in rows])

    def estimate_noise(self, y: Tensor, values: dict[str, Tensor]) -> Tensor:
        return low_resolution.PHENOMENON.estimate_noise(y, values)

    def fits(self, picture, degradation) -> bool:
        return low_resolution.PHENOMENON.fits(picture, degradation)

    def padding(self, picture, degradation) -> tuple[tuple[int, int], tuple[int, int]]:
        return low_resolution.PHENOMENON.padding(picture, degradation)

    def closed_form(self, y, values, sigma_y=QUANTISATION) -> Tensor:
        """Projects the mean colour, all trust in the data."""
        level = torch.full((len(y),), 1e3, device=y.device)
        return self.project(y.mean((2, 3), keepdim=True).expand_as(y), y, level, values, sigma_y)


def _project(x0: Tensor, y: Tensor, level: Tensor, noise: Tensor, sigma: float, scale: float) -> Tensor:
    """One picture: (3, H, W)."""
    height, width = y.shape[-2:]
    (u, s, v), (u2, s2, v2) = (_decomposed(n, round(sigma, 6), round(scale), str(y.device)) for n in (height, width))
    gain = s[:, None] * s2
    misfit = low_resolution.misfit(u @ (gain * (v @ x0 @ v2.T)) @ u2.T, y, round(scale))
    power = (v @ dct_matrix(height, str(y.device)).T).square() @ photo_power(height, width).to(y.device)
    power = power @ (v2 @ dct_matrix(width, str(y.device)).T).square().T
    variance = 1 / (1 / power + level**-2)
    weights = gain * variance / (gain.square() * variance + noise**2)
    return x0 - v.T @ (weights * (u.T @ misfit @ u2)) @ v2


@lru_cache(maxsize=512)
def _decomposed(n: int, sigma: float, scale: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """R G = U diag(S) V of one dimension of n pixels and m cells: (m, m), (m,), (m, n)."""
    cosines, reduce = dct_matrix(n, device).double(), low_resolution.reduction(n, scale, device).reduce.double()
    gains = blur.eigenvalues(torch.tensor([sigma], device=device), n)[0].double()
    u, s, v = torch.linalg.svd(reduce @ cosines.T @ (gains[:, None] * cosines), full_matrices=False)
    return u.float(), s.float(), v.float()
