"""Propositions 4.1 and 4.2 as numbers: measured errors beside their bounds, for grids Delta of .1, .05 and .01.

Answers and truths are read on a coarser grid: Delta of a key is its own step times Delta/.01 (an integer key keeps
its step), and an answer stands for the centre of its bin. The excess risk of a value is measured on the policy's own
densities where they are known; where only answers are, it is that of a stand-in model, Gaussian around the answer with
the standard deviation of the residuals. That of type and keys is a calibrated coin that errs as often as measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr

from envs.language.posterior import Posterior
from envs.language.reading import Reading
from envs.taxonomy import Degradation, Key, Taxonomy

DELTAS = (0.1, 0.05, 0.01)
FINEST = 0.01
"""Delta of the paper's grid, to which the steps of the taxonomy belong."""
LEAST = 1e-12
"""Probability below which a density counts as this much: float32 has no better zero."""


@dataclass(frozen=True)
class Numbers:
    """Holds the numbers of one key over all samples that have it, each (n,).

    answered: 0 where type or keys are wrong or a value is invalid (Section 5.1); right: where none of that holds.
    densities: what the policy believed of each, on the key's grid; None where it is not known.
    """

    true: np.ndarray
    answered: np.ndarray
    right: np.ndarray
    densities: tuple[np.ndarray | None, ...]


def measure_bounds(
    truths: Sequence[Degradation],
    readings: Sequence[Reading],
    posteriors: Sequence[Sequence[Posterior]],
    taxonomy: Taxonomy,
) -> dict:
    """Computes {"classification", "regression", "likelihood"}: see `classification`, `regression` and `likelihood`."""
    wrong = [not (r.type == t.type and r.keys_right) for t, r in zip(truths, readings, strict=True)]
    error = float(np.mean(wrong))
    structure = _entropy(error)
    bounds = {"classification": {}, "regression": {}, "likelihood": {}}
    for delta in DELTAS:
        name, risks = f"{delta:g}", []
        bounds["regression"][name], bounds["likelihood"][name] = {}, {}
        for key in taxonomy.keys.values():
            numbers = _numbers(truths, readings, posteriors, key)
            if not len(numbers.true):
                continue
            value = likelihood(key, numbers, delta_of(key, delta))
            risks.append(structure + (value["exact"] if value["measured"] is None else value["measured"]))
            bounds["likelihood"][name][key.name] = value
            bounds["regression"][name][key.name] = regression(key, numbers, delta_of(key, delta), risks[-1])
        bounds["classification"][name] = classification(error, structure, max(risks))
    return bounds


def classification(error: float, structure: float, risk: float) -> dict:
    """Computes Equation 5: R_cls <= sqrt(2 eps). structure: eps of type and keys; risk: that of a whole triple."""
    return {
        "error": error,
        "excess_risk_structure": structure,
        "bound_structure": math.sqrt(2 * structure),
        "excess_risk": risk,
        "bound": math.sqrt(2 * risk),
    }


def regression(key: Key, numbers: Numbers, delta: float, risk: float) -> dict:
    """Computes Equation 6: R_reg <= Delta^2/4 + D^2 sqrt(2 eps), numbers in the key's unit squared.

    A wrong structure is a zero prediction (Section 5.1), so D spans the key's range and 0. `bound_bins` is the step
    of the proof before sqrt(2 eps) takes the place of the share of wrong bins: Delta^2/4 + D^2 P(wrong bin).
    """
    true, centre = numbers.true, to_grid(numbers.answered, key, delta)
    diameter = max(key.high, 0) - min(key.low, 0)
    wrong_bin = float(np.mean(np.abs(to_grid(true, key, delta) - centre) > delta / 2))
    return {
        "delta": delta,
        "mse": float(np.mean((true - centre) ** 2)),
        "quantisation": delta**2 / 4,
        "wrong_bins": wrong_bin,
        "bound_bins": delta**2 / 4 + diameter**2 * wrong_bin,
        "excess_risk": risk,
        "bound": delta**2 / 4 + diameter**2 * math.sqrt(2 * risk),
        "largest": diameter**2,
    }


def likelihood(key: Key, numbers: Numbers, delta: float) -> dict:
    """Computes Equation 4 for one key, over answers of the right type; nats per number.

    measured: -log of the density's mass in the true bin, None without densities. exact: the same for a Gaussian
    around the answer, as wide as the residuals (`spread`). loss: the regression loss plus C, its fine-grid limit.
    gap = loss - exact is 0 for a fine grid (assumption ii); excess_kurtosis is 0 for Gaussian residuals
    (assumption i). All 0 where every answer is exact.
    """
    residual = (numbers.true - numbers.answered)[numbers.right]
    spread = float(np.sqrt(np.mean(residual**2))) if len(residual) else 0.0
    cell = {"samples": len(residual), "spread": spread, "measured": _measured(key, numbers, delta)}
    if spread < 1e-9:
        return cell | {"exact": 0.0, "loss": 0.0, "gap": 0.0, "excess_kurtosis": 0.0}
    exact = -float(np.mean(_log_mass((residual - delta / 2) / spread, (residual + delta / 2) / spread)))
    loss = 0.5 + 0.5 * math.log(2 * math.pi * spread**2) - math.log(delta)  # mean squared error / (2 spread^2) is 1/2
    centred = residual - residual.mean()
    variance = float(np.mean(centred**2))
    kurtosis = float(np.mean(centred**4)) / variance**2 - 3 if variance > 1e-18 else 0.0
    return cell | {"exact": exact, "loss": loss, "gap": loss - exact, "excess_kurtosis": kurtosis}


def _measured(key: Key, numbers: Numbers, delta: float) -> float | None:
    grid = to_grid(np.array(list(key.grid())), key, delta)
    bins = to_grid(numbers.true, key, delta)
    rows = zip(bins, numbers.densities, numbers.right, strict=True)
    masses = [float(d[np.abs(grid - b) < delta / 2].sum()) for b, d, right in rows if right and d is not None]
    return -float(np.mean(np.log(np.maximum(masses, LEAST)))) if masses else None


def delta_of(key: Key, delta: float) -> float:
    """Returns the bin width of a key on the grid called Delta."""
    return key.step * delta / FINEST if key.step < 1 else key.step


def to_grid(values: np.ndarray, key: Key, delta: float) -> np.ndarray:
    """Returns the centres of the bins that values fall into; bins are counted from the key's low end, 0 stays 0."""
    centres = key.low + np.round((values - key.low) / delta) * delta
    return np.where(values == 0, 0.0, centres)


def _numbers(truths, readings, posteriors, key: Key) -> Numbers:
    true, answered, right, densities = [], [], [], []
    for truth, reading, beliefs in zip(truths, readings, posteriors, strict=True):
        if key.name not in dict(truth.values):
            continue
        target = np.ravel(truth[key.name]).astype(float)
        valid = reading.degradation is not None and reading.degradation.type == truth.type
        believed = {belief.index: belief.density for belief in beliefs if belief.key == key.name}
        true += target.tolist()
        answered += np.ravel(reading.degradation[key.name]).tolist() if valid else [0.0] * target.size
        right += [valid] * target.size
        densities += [believed.get(index) for index in range(target.size)]
    return Numbers(np.array(true), np.array(answered, float), np.array(right, bool), tuple(densities))


def _entropy(p: float) -> float:
    """Of a coin with probability p, nats: the cross entropy of a calibrated model that errs this often."""
    return -sum(q * math.log(q) for q in (p, 1 - p) if q > 0)


def _log_mass(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """log(Phi(high) - Phi(low)) without cancellation: both ends are mirrored into the left tail."""
    flip = low > 0
    low, high = np.where(flip, -high, low), np.where(flip, -low, high)
    upper = log_ndtr(high)
    return upper + np.log1p(-np.exp(np.minimum(log_ndtr(low) - upper, -1e-300)))
