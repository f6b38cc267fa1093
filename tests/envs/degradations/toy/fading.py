"""A degradation that the project does not have, in one file as a new one would be written."""

from envs.degradations.base import Key, Phenomenon, Place, Severity
from envs.degradations.common import QUANTISATION


class Fading(Phenomenon):
    r"""Models a print that fades towards grey: :math:`y = c x + (1 - c) / 2`."""

    name, title = "fading", "faded print"
    place = Place.STORAGE
    keys = (Key("contrast", "1", 0.2, 0.9, 0.01),)
    severity = Severity("contrast", moderate=0.6, severe=0.4)
    formula = "y = contrast * x + (1 - contrast) / 2"

    def sample(self, rng, size, kind, mild=False) -> dict:
        return {"contrast": rng.uniform(0.5 if mild else 0.25, 0.85)}

    def degrade(self, x, values):
        c = values["contrast"].reshape(-1, 1, 1, 1)
        return c * x + (1 - c) / 2

    def project(self, x0, y, noise_level, values, sigma_y=QUANTISATION):
        c, s2 = values["contrast"].reshape(-1, 1, 1, 1), noise_level.square().reshape(-1, 1, 1, 1)
        return x0 + c * s2 / (c.square() * s2 + sigma_y**2) * (y - self.degrade(x0, values))

    def closed_form(self, y, values, sigma_y=QUANTISATION):
        c = values["contrast"].reshape(-1, 1, 1, 1)
        return (y - (1 - c) / 2) / c

    def faults(self, change, depth_ratio, alone) -> tuple[str, ...]:
        return ("fading_faint",) if alone and change < 1 else ()


PHENOMENON = Fading()
