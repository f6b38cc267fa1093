"""How much of the learning signal of one set of rewards another set keeps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr

NEARLY_TIED = 1e-6
"""Rewards (-MSE) closer than this are equal: restorations are reproducible to 1e-6 and no better."""


def fidelity(reference: Sequence[Sequence[float]], rewards: Sequence[Sequence[float]], kinds: Sequence[str]) -> dict:
    """Compares the rewards of groups; `kinds` are the types of their pictures.

    Returns:
        groups: those that count. Without three rewards of the reference that differ by more than `NEARLY_TIED`
            there is no ranking to lose.
        spearman: mean rank correlation within groups, ties sharing their mean rank; `spearman_TYPE` of one type.
        sign_agreement: share of completions whose advantage (reward less the group's mean) has the same sign.
        regret: mean of the best reference reward less that of the completion chosen by `rewards` (MSE);
            regret_of_spread: the same as a share of the group's standard deviation.
    """
    pairs = [
        (kind, rounded(a), rounded(b))
        for kind, a, b in zip(kinds, reference, rewards, strict=True)
        if len(np.unique(rounded(a))) >= 3
    ]
    if not pairs:
        return {"groups": 0}
    correlations = np.array([rank_correlation(a, b) for _, a, b in pairs])
    signs = np.concatenate([np.sign(a - a.mean()) == np.sign(b - b.mean()) for _, a, b in pairs])
    regrets = np.array([a.max() - a[b.argmax()] for _, a, b in pairs])
    spreads = np.array([a.std() for _, a, _ in pairs])
    found = np.array([kind for kind, _, _ in pairs])
    return {
        "groups": len(pairs),
        "spearman": float(correlations.mean()),
        **{f"spearman_{kind}": float(correlations[found == kind].mean()) for kind in sorted(set(found))},
        "sign_agreement": float(signs.mean()),
        "regret": float(regrets.mean()),
        "regret_of_spread": float((regrets / spreads).mean()),
    }


def rounded(rewards: Sequence[float]) -> np.ndarray:
    """Makes rewards equal that are `NEARLY_TIED`: float64, of the same shape."""
    return np.round(np.asarray(rewards, dtype=float) / NEARLY_TIED) * NEARLY_TIED


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Computes Spearman's rank correlation of (n,) and (n,); 0 where `b` is constant, for it ranks nothing."""
    return 0.0 if len(np.unique(b)) < 2 else float(spearmanr(a, b).statistic)
