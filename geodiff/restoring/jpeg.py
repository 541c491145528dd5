"""What JPEG compression did to a frame: the standard deviation of its error, from the quantisation table.

The table is in the file, or in the numbers of a frame that was decoded and stored as something else: the coefficients
of its 8 x 8 blocks still stand at multiples of their steps (Fan & de Queiroz 2003, "Identification of bitmap
compression history: JPEG detection and quantizer estimation").

Each coefficient of an 8 x 8 block was rounded to a multiple of its step. One that was not rounded to zero is off by an
even error of one step; one that was, by all it had. How much that is follows from how many survived: coefficients of
images follow a Laplace distribution (Reininger & Gibson 1983).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["compression_error", "quantisation", "steps_of_blocks"]

_TABLE, _SCAN = 0xDB, 0xDA
_ZIGZAG = sorted(np.ndindex(8, 8), key=lambda p: (sum(p), p[0] if sum(p) % 2 else p[1]))
"""(row, column) of the coefficients in the order of the file."""
_BETWEEN_BLOCKS, _FALL = 0.7, -1.5
"""Frequency that differences of neighbouring blocks stand for, and the least power by which coefficients fall."""
_STEPS = np.arange(2.0, 129.0)
"""Steps that are looked for; one of 1 is the rounding of the pixels, and does as little harm."""
_FEWEST = 24
"""Coefficients that were not rounded to zero by which a step is told."""
_FREQUENCIES = 4
"""Steps that have to be told for a frame to have any."""
_CLEAR = 0.5
"""Mean of cos(2 pi c / step) over coefficients c: .83 to .96 of decoded frames, .07 at most of others and of frames
whose blocks are cut elsewhere (validation frames, quality 30 to 85; optical scenes and rover frames)."""
_ABOUT = 0.9
"""How near the best a multiple of a step may come to be taken for it."""
_TRIED, _MOST = 1 << 10, 1 << 14
"""Blocks by which it is told where blocks begin, and what their steps are, about."""


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


def compression_error(
    brightness: NDArray[np.float64], steps: NDArray[np.float64], known: NDArray[np.bool_] | None = None
) -> float:
    """Standard deviation of what the compression changed; of photographs within about a quarter.

    Parameters
    ----------
    brightness : (row, column), the whole decoded frame in counts.
    steps : (8, 8), from `quantisation` or `steps_of_blocks`.
    known : (row, column); blocks in which anything is not are left out.
    """
    from scipy.fft import dctn

    blocks = _blocks(brightness)
    whole = np.asarray(_blocks(np.ones_like(brightness, bool) if known is None else known).all(axis=(2, 3)))
    if not whole.any():
        return 0.0
    coefficients = dctn(blocks, axes=(2, 3), norm="ortho")
    scale = _scales(np.abs(coefficients[whole]) > steps / 2, _mean_step(coefficients[..., 0, 0], whole), steps)
    half = steps / 2
    beyond = np.exp(-half / scale)
    near = 2 * scale**2 - beyond * (half**2 + 2 * half * scale + 2 * scale**2)  # of c^2 over |c| < half
    variance = beyond * steps**2 / 12 + np.maximum(near, 0)
    variance[0, 0] = steps[0, 0] ** 2 / 12  # the mean of a block follows no such law
    return float(np.sqrt(variance.mean()))


def _mean_step(means: NDArray[np.float64], whole: NDArray[np.bool_]) -> float:
    """Mean difference of neighbouring whole blocks' first coefficients."""
    steps = []
    for values, both in ((means, whole), (means.T, whole.T)):
        pairs = both[1:] & both[:-1]
        if pairs.any():
            steps.append(np.abs(np.diff(values, axis=0))[pairs].mean())
    return max(float(np.mean(steps)), 1e-3) if steps else 1e-3


def _scales(survived: NDArray[np.bool_], step: float, steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean size (8, 8) of each coefficient (block, 8, 8): P(|c| > step / 2) = exp(-step / (2 scale)).

    Where next to none survived, what the others and the blocks' means say is carried on by a power of the frequency,
    as spectra of images fall (Field 1987).
    """
    blocks, share = len(survived), survived.mean(axis=0)
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


def steps_of_blocks(
    brightness: NDArray[np.float64], known: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], tuple[int, ...]] | None:
    """The steps (8, 8) by which a decoded frame was once quantised, and the row and column where its blocks begin.

    Parameters
    ----------
    brightness : (row, column), in counts that were rounded to whole numbers.
    known : (row, column); blocks in which anything is not are left out.

    Returns
    -------
    None where the frame was not compressed, or so little that it does not show, or is not as the decoder left it.
    """

    def clear(begin: tuple[int, ...]) -> float:
        along, down = _coefficients(brightness, known, begin, _TRIED)[:, [1, 8]].T
        return min(float(sure * np.sqrt(left)) for _, sure, left in (_step(along), _step(down)))

    tried = {begin: clear(begin) for begin in np.ndindex(8, 8)}
    begin = max(tried, key=tried.__getitem__)
    if sum(found > _CLEAR * tried[begin] for found in tried.values()) > 1:  # pixels repeated, or next to nothing there
        return None
    found = [_step(some) for some in _coefficients(brightness, known, begin, _MOST).T]
    steps, clearness, _ = np.array(found).T
    told = clearness > 0
    told[0] = False  # means of blocks are no multiples of their step, but of theirs and 1024
    if told.sum() < _FREQUENCIES or clearness[told].mean() < _CLEAR:
        return None
    steps[~told] = np.maximum(steps[~told], steps[told].max())  # nothing is left there, so they are not the least
    steps[0] = steps[told].min()
    return steps.reshape(8, 8), begin


def _coefficients(
    brightness: NDArray[np.float64], known: NDArray[np.bool_], begin: tuple[int, ...], most: int
) -> NDArray[np.float64]:
    """(block, frequency) of `most` whole blocks that show anything, about."""
    from scipy.fft import dctn

    blocks, whole = (_blocks(plane[begin[0] :, begin[1] :]).reshape(-1, 8, 8) for plane in (brightness, known))
    chosen = np.flatnonzero(whole.all(axis=(1, 2)) & (np.ptp(blocks, axis=(1, 2)) > 0))
    some = blocks[chosen[:: max(1, len(chosen) // most)]]
    return np.asarray(dctn(some, axes=(1, 2), norm="ortho").reshape(len(some), 64))


def _step(coefficients: NDArray[np.float64]) -> tuple[float, float, int]:
    """The step whose multiples the coefficients (block,) of a frequency are, how clearly, and by how many it is told.

    A clearness of 0 where too few are left.
    Every divisor of a step would do, so it is the largest peak that is about as high as the highest.
    """
    size = np.sort(np.abs(coefficients))[::-1]
    few = float(2 * size[min(_FEWEST, len(size)) - 1]) if len(size) else 0.0
    clear = np.zeros(len(_STEPS))
    for place, step in enumerate(_STEPS[few > _STEPS]):
        far = size[: np.searchsorted(-size, -step / 2)]
        clear[place] = np.cos(2 * np.pi / step * far).mean()
    if not clear.max() > 0:
        return few, 0.0, 0
    peak = (clear >= np.append(clear[1:], 0)) & (clear >= np.append(0, clear[:-1]))
    place = int(np.flatnonzero(peak & (clear >= _ABOUT * clear.max()))[-1])
    return float(_STEPS[place]), float(clear[place]), int(np.searchsorted(-size, -_STEPS[place] / 2))


def _blocks(plane: NDArray[Any]) -> NDArray[Any]:
    """(block row, block column, 8, 8); what is left over at the right and below is cut off."""
    rows, columns = (n // 8 for n in plane.shape)
    return plane[: 8 * rows, : 8 * columns].reshape(rows, 8, columns, 8).transpose(0, 2, 1, 3)
