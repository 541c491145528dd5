"""What JPEG compression did to a frame: the standard deviation of its error, from the quantisation table in the file.

Each coefficient of an 8 x 8 block was rounded to a multiple of its step. One that was not rounded to zero is off by an
even error of one step; one that was, by all it had. How much that is follows from how many survived: coefficients of
images follow a Laplace distribution (Reininger & Gibson 1983).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["compression_error", "quantisation"]

_TABLE, _SCAN = 0xDB, 0xDA
_ZIGZAG = sorted(np.ndindex(8, 8), key=lambda p: (sum(p), p[0] if sum(p) % 2 else p[1]))
"""(row, column) of the coefficients in the order of the file."""
_BETWEEN_BLOCKS, _FALL = 0.7, -1.5
"""Frequency that differences of neighbouring blocks stand for, and the least power by which coefficients fall."""


def quantisation(path: Path) -> NDArray[np.float64] | None:
    """The steps (8, 8) of the first table, which brightness uses; None where the file is no JPEG or has none."""
    content = path.read_bytes()
    if not content.startswith(b"\xff\xd8"):
        return None
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != _SCAN:
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        if content[at + 1] == _TABLE:
            return _steps(content[at + 4 : at + 2 + length])
        at += 2 + length
    return None


def _steps(segment: bytes) -> NDArray[np.float64] | None:
    wide = segment[0] >> 4 if segment else 0
    size = 64 * (1 + bool(wide))
    if len(segment) < 1 + size:
        return None
    steps = np.zeros((8, 8))
    for place, step in zip(_ZIGZAG, np.frombuffer(segment[1 : 1 + size], ">u2" if wide else "u1"), strict=True):
        steps[place] = step
    return steps


def compression_error(brightness: NDArray[np.float64], steps: NDArray[np.float64]) -> float:
    """Standard deviation of what the compression changed; of photographs within about a quarter.

    Parameters
    ----------
    brightness : (row, column), the whole decoded frame in counts.
    steps : (8, 8), from `quantisation`.
    """
    from scipy.fft import dctn

    rows, columns = (n // 8 * 8 for n in brightness.shape)
    if not rows or not columns:
        return 0.0
    blocks = brightness[:rows, :columns].reshape(rows // 8, 8, columns // 8, 8).transpose(0, 2, 1, 3)
    coefficients = dctn(blocks, axes=(2, 3), norm="ortho")
    scale = _scales(np.abs(coefficients) > steps / 2, _mean_step(coefficients[..., 0, 0]), steps)
    half = steps / 2
    beyond = np.exp(-half / scale)
    near = 2 * scale**2 - beyond * (half**2 + 2 * half * scale + 2 * scale**2)  # of c^2 over |c| < half
    variance = beyond * steps**2 / 12 + np.maximum(near, 0)
    variance[0, 0] = steps[0, 0] ** 2 / 12  # the mean of a block follows no such law
    return float(np.sqrt(variance.mean()))


def _mean_step(means: NDArray[np.float64]) -> float:
    """Mean difference of neighbouring blocks' first coefficients."""
    steps = [np.abs(np.diff(means, axis=axis)).mean() for axis in (0, 1) if means.shape[axis] > 1]
    return max(float(np.mean(steps)), 1e-3) if steps else 1e-3


def _scales(survived: NDArray[np.bool_], step: float, steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean size (8, 8) of each coefficient: P(|c| > step / 2) = exp(-step / (2 scale)).

    Where next to none survived, what the others and the blocks' means say is carried on by a power of the frequency,
    as spectra of images fall (Field 1987).
    """
    blocks = survived.shape[0] * survived.shape[1]
    share = survived.mean(axis=(0, 1))
    scale = steps / 2 / -np.log(np.clip(share, 0.5 / blocks, 1 - 1e-6))
    told = share * blocks >= 2
    told[0, 0] = False
    frequency = np.hypot(*np.mgrid[:8, :8])
    frequency[0, 0] = _BETWEEN_BLOCKS
    x = np.log(np.append(frequency[told], _BETWEEN_BLOCKS))
    y = np.log(np.append(scale[told], step / 2))
    weight = np.append(np.minimum(2 * np.sqrt(share[told]), 1) + 0.05, 1)
    power = min(float(np.polyfit(x, y, 1, w=weight)[0]), _FALL) if told.sum() > 1 else _FALL
    level = float(np.average(y - power * x, weights=weight))
    return np.asarray(np.where(told, scale, np.minimum(scale, np.exp(level) * frequency**power)))
