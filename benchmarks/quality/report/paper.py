"""The paper's Table 1, beside which ours stand: measured at 256 px on its own photographs, with seven keys."""

from __future__ import annotations

from collections.abc import Sequence

KEYS = ("gamma", "gain", "camera", "atmospheric_light", "transmission", "sigma", "scale")
TABLE1 = {
    "Qwen3VL-8B": "2.756/1.000 0.076/1.011 0.439/1.001 0.606/0.966 0.416/0.993 2.972/0.802 2.954/0.996 1.460/0.967",
    "Qwen3VL-32B": "2.746/0.996 0.091/1.239 0.439/1.034 0.623/0.988 0.419/1.004 3.101/0.536 2.965/1.000 1.483/0.971",
    "Qwen3VL-235B": "2.746/0.996 0.114/1.613 0.435/1.005 0.534/0.875 0.434/1.232 3.452/0.656 2.963/1.000 1.525/1.054",
    "GPT-4o": "2.316/0.832 0.314/4.355 0.401/1.061 0.375/0.706 0.450/1.711 3.578/0.610 2.970/0.995 1.486/1.467",
    "Gemini-2.5": "2.414/0.872 0.344/5.004 0.409/1.008 0.624/0.992 0.419/0.994 3.856/0.835 2.963/1.000 1.576/1.529",
    "LLaVA-7B-SFT": "0.621/0.218 0.012/0.142 0.067/0.104 0.081/0.132 0.166/0.408 0.668/0.127 0.047/0.023 0.237/0.165",
    "Qwen3VL-8B-SFT": "0.486/0.172 0.009/0.107 0.054/0.078 0.057/0.093 0.082/0.210 0.839/0.174 0.000/0.000 0.218/0.119",
    "DU-VLM": "0.468/0.166 0.008/0.102 0.057/0.080 0.044/0.069 0.082/0.202 0.644/0.118 0.000/0.000 0.186/0.105",
}
"""{model: P-Abs/P-Rel of each of `KEYS`, then of their mean}, all eight rows as printed."""


def table1(keys: Sequence[str]) -> dict[str, dict[str, tuple[float, float]]]:
    """Returns {model: {key, or "mean": (P-Abs, P-Rel)}}; the means run over those of the paper's keys in `keys` alone.

    A mean over six keys is compared with one over the same six: without the camera matrix the paper's .119 and .105
    are .126 and .1095.
    """
    rows = {}
    for model, text in TABLE1.items():
        cells = [tuple(map(float, cell.split("/"))) for cell in text.split()[:-1]]
        row = {key: cell for key, cell in zip(KEYS, cells, strict=True) if key in keys}
        if row:
            rows[model] = row | {"mean": tuple(sum(column) / len(row) for column in zip(*row.values(), strict=True))}
    return rows
