"""Makes what the policy sees: the degraded image, its log-FFT amplitude and Sobel edges, the question (Section 4.1).

Beside the paper's three there is a fourth view, the logarithm of the image: low light leaves a photograph some twenty
of its 256 levels, all of them within a tenth of the range of a linear picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from envs.statistics import statistics

VIEWS = ("image", "fft", "edge", "log")
"""Those of the paper's world; beside them there is `statistics` (`envs.statistics`)."""
QUESTION = "Which degradation, and how strong?"
_FFT_RANGE = (-4.0, 10.0)  # of log amplitude of a luminance on [0, 1]; fixed, so that levels are comparable


def views(image: np.ndarray, names: Sequence[str] = VIEWS) -> list[np.ndarray]:
    """Turns a degraded image, uint8 (H, W, 3), into one uint8 (H, W, 3) picture a view."""
    make = {"image": lambda rgb: rgb, "fft": log_fft, "edge": sobel, "log": logarithm, "statistics": statistics}
    return [make[name](image) for name in names]


def log_fft(rgb: np.ndarray) -> np.ndarray:
    """Shows the log amplitude of the centred 2-D FFT of the luminance, as grey levels."""
    amplitude = np.abs(np.fft.fftshift(np.fft.fft2(_luminance(rgb))))
    low, high = _FFT_RANGE
    return _grey((np.log(amplitude + 1e-3) - low) / (high - low))


def sobel(rgb: np.ndarray) -> np.ndarray:
    """Shows the Sobel gradient magnitude of the luminance; the square root keeps weak edges visible."""
    grey = _luminance(rgb)
    gradient = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    return _grey(np.sqrt(gradient / 4))


def logarithm(rgb: np.ndarray) -> np.ndarray:
    """Stretches log2(1 + level) of each channel over the whole range."""
    return (np.log2(1 + rgb.astype(np.float32)) / 8 * 255).round().astype(np.uint8)


def chat(view_count: int, question: str = QUESTION) -> list[dict]:
    """Writes the conversation of one prompt: the views, then the question."""
    content = [{"type": "image"} for _ in range(view_count)] + [{"type": "text", "text": question}]
    return [{"role": "user", "content": content}]


def _luminance(rgb: np.ndarray) -> np.ndarray:
    return (rgb.astype(np.float32) @ np.float32([0.299, 0.587, 0.114])) / 255


def _grey(unit: np.ndarray) -> np.ndarray:
    return np.repeat((np.clip(unit, 0, 1) * 255).round().astype(np.uint8)[..., None], 3, axis=2)
