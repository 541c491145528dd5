"""What the network is told about a degraded frame: a classical restoration, its expected error, and what it removed.

As with gaps, the network learns the whitened departure from a closed-form prior. The prior of a grainy frame is
shrinkage of overlapping 8 x 8 cosine transforms (Yu & Sapiro 2011, "DCT image denoising: a simple and effective image
denoising algorithm"); of a coarse one, cubic interpolation whose cells then get the means that were observed; of a
coarse one with grain, the interpolation alone; of holes, the relaxed fill. The same functions make the training data
and serve `geodiff restore`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from geodiff.diffusion.fields import (
    CHANNELS,
    FLOOR,
    Layer,
    channel,
    filled,
    local_scale,
    lowpass,
    standard,
    whitening_error,
)
from geodiff.diffusion.unet import SCALARS
from geodiff.lattice import repeated

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.float32]

__all__ = [
    "UNBOUNDED", "Frame", "Prepared", "coarsened", "consistent", "enlarged", "enlarged_frame", "prepared", "shrunk",
]  # fmt: skip

UNBOUNDED = (-np.inf, np.inf)
"""The bounds of what can be any number."""
_FLOAT32 = np.finfo(np.float32)
_SIDE = 8
_STEP = 2
"""Pixels between neighbouring transforms; every second pixel is worth what every pixel is, at a quarter."""
_THRESHOLD = np.float32(2.8)
"""In units of the noise: coefficients below are taken for noise."""
_OPTIMISM = np.float32(2.0)
"""What shrinkage leaves beyond its own reckoning, in variance: lost detail; measured on the training frames."""
_COARSE = np.float32(0.6)
"""Error of cubic interpolation over the local standard deviation, two times; measured on the training frames."""
_SHARPER = {2: np.float32(3.2), 4: np.float32(4.0)}
"""Error that is left over the local strength of what the means of cells added, by enlargement; the likeliest on the
training frames, where it tells the error by .5 and .3 nats a pixel better than the local standard deviation does."""
_FAINTEST = np.float32(1e-3)
"""Least expected error of an enlarged frame: of calm ones much less is left than of gaps."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A degraded band on the grid of the wanted image, in normalised units."""

    values: Plane
    """(row, column), finite; where `factor` > 1, already enlarged to the wanted grid."""
    known: NDArray[np.bool_]
    """Where it was observed at all."""
    noise: float = 0.0
    """Standard deviation of the noise, before any enlargement; 0 for none."""
    factor: int = 1
    """How many wanted pixels a side make an observed one: 1, 2 or 4."""
    added: Plane | None = None
    """(row, column): what the means of cells added to the interpolation, in `values` already; of coarse frames without
    grain."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A frame as the network sees it."""

    prior: Plane
    error: Plane
    """Expected error s0 of the prior, positive."""
    context: Plane
    """(channel, row, column)."""
    scalars: NDArray[np.float32]
    """One for each of `network.SCALARS`."""


@lru_cache(maxsize=1)
def _transform() -> NDArray[np.float32]:
    """The orthonormal DCT-II of 8 x 8 points, (pixel, frequency), both row by row."""
    from scipy.fft import dct

    line = dct(np.eye(_SIDE), norm="ortho", axis=0)
    return np.ascontiguousarray(np.kron(line, line).T, np.float32)


def shrunk(image: Plane, noise: float) -> tuple[Plane, Plane]:
    """Denoise on overlapping cosine transforms: hard thresholds, then Wiener weights from that first estimate.

    Parameters
    ----------
    image : (row, column), noise of standard deviation `noise` > 0, white.

    Returns
    -------
    The estimate, and the expected share (row, column) of the noise's variance that is left in it.
    """
    pad = [(_SIDE, _SIDE + (-n % _SIDE)) for n in image.shape]
    wide = np.pad(image, pad, mode="symmetric")
    pilot, _ = _overlapped(wide, None, np.float32(noise))
    estimate, left = _overlapped(wide, pilot, np.float32(noise))
    inner = np.s_[_SIDE : _SIDE + image.shape[0], _SIDE : _SIDE + image.shape[1]]
    return np.ascontiguousarray(estimate[inner]), np.ascontiguousarray(left[inner])


def _overlapped(wide: Plane, pilot: Plane | None, noise: np.float32) -> tuple[Plane, Plane]:
    """Weighted mean of the estimates of all shifted blocks, and of the share of noise each left."""
    total, left, weights = np.zeros_like(wide), np.zeros_like(wide), np.zeros_like(wide)
    for row in range(0, _SIDE, _STEP):
        for column in range(0, _SIDE, _STEP):
            part = np.s_[row : row + wide.shape[0] - _SIDE, column : column + wide.shape[1] - _SIDE]
            estimate, kept = _blocks_shrunk(wide[part], None if pilot is None else pilot[part], noise)
            weight = np.float32(1) / (np.float32(0.5) + kept)
            total[part] += _laid(weight[..., None] * estimate)
            left[part] += _spread(weight * kept / np.float32(_SIDE**2))
            weights[part] += _spread(weight)
    safe = np.maximum(weights, np.float32(1e-9))  # the last rows and columns lie outside every block; they are cut off
    return np.asarray(total / safe, np.float32), np.asarray(left / safe, np.float32)


def _blocks_shrunk(image: Plane, pilot: Plane | None, noise: np.float32) -> tuple[Plane, Plane]:
    """Shrunk blocks, see `_cut`, and the coefficients' worth each kept (block row, block column)."""
    basis = _transform()
    coefficients = _cut(image) @ basis
    if pilot is None:
        gain: Plane = (np.abs(coefficients) > _THRESHOLD * noise).astype(np.float32)
        gain[..., 0] = 1
    else:
        power = np.square(_cut(pilot) @ basis)
        gain = np.asarray(power / (power + noise**2), np.float32)
    cleaned = np.asarray((coefficients * gain) @ basis.T, np.float32)
    kept: Plane = np.einsum("...f,...f->...", gain, gain)
    return cleaned, kept


def _cut(image: Plane) -> Plane:
    """(block row, block column, pixel)."""
    rows, columns = (n // _SIDE for n in image.shape)
    blocks = image.reshape(rows, _SIDE, columns, _SIDE).swapaxes(1, 2)
    return np.ascontiguousarray(blocks).reshape(rows, columns, _SIDE**2)


def _laid(blocks: Plane) -> Plane:
    """(row, column) of blocks (block row, block column, pixel)."""
    rows, columns, _ = blocks.shape
    return blocks.reshape(rows, columns, _SIDE, _SIDE).swapaxes(1, 2).reshape(rows * _SIDE, columns * _SIDE)


def _spread(blocks: Plane) -> Plane:
    """A number for each block at each of its pixels."""
    return repeated(blocks, _SIDE)


def coarsened(image: Plane, factor: int) -> Plane:
    """Means of `factor` x `factor` cells: what a camera of coarser pixels sees."""
    rows, columns = (n // factor for n in image.shape)
    means: Plane = image[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor).mean((1, 3))
    return means


def enlarged(image: Plane, factor: int) -> Plane:
    """Cubic interpolation to `factor` times the pixels, with the cells' outer edges kept in place."""
    from scipy import ndimage

    if factor == 1:
        return image
    wide: Plane = ndimage.zoom(image, factor, order=3, mode="reflect", grid_mode=True)
    return wide.astype(np.float32)


def enlarged_frame(low: Frame, factor: int) -> Frame:
    """A frame of coarse pixels on the wanted grid; `low` is finite throughout."""
    values, known = enlarged(low.values, factor), repeated(low.known, factor)
    if factor == 1 or low.noise > 0:
        return Frame(values, known, low.noise, factor)
    sharper = consistent(values, low)
    return Frame(sharper, known, 0.0, factor, sharper - values)


def consistent(image: Plane, low: Frame, bounds: tuple[float, ...] = UNBOUNDED) -> Plane:
    """The image changed so that the means of its cells are what was observed (Irani & Peleg 1991, back-projection).

    What a bound takes from a pixel goes to those of its cell that have room; each turn fills one of them or ends it.
    """
    factor = image.shape[0] // low.values.shape[0]
    for _ in range(2):
        image = image + enlarged(_missed(image, low, factor), factor)
    rest = _missed(image, low, factor)
    image = image + repeated(rest, factor)
    lowest, highest = np.clip(bounds, _FLOAT32.min, _FLOAT32.max).astype(np.float32)
    if not ((image < lowest) | (image > highest)).any():
        return np.asarray(image, np.float32)
    for _ in range(factor**2):
        image = np.clip(image, lowest, highest)
        rest = _missed(image, low, factor)
        room: Plane = np.where(repeated(rest, factor) > 0, image < highest, image > lowest).astype(np.float32)
        share = np.asarray(rest / np.maximum(coarsened(room, factor), np.float32(1 / factor**2)), np.float32)
        image = np.asarray(image + room * repeated(share, factor), np.float32)
    return np.asarray(np.clip(image, lowest, highest), np.float32)


def _missed(image: Plane, low: Frame, factor: int) -> Plane:
    return np.where(low.known, low.values - coarsened(image, factor), np.float32(0))


def prepared(frame: Frame) -> Prepared:
    """Prior, expected error and context of a frame; `frame.values` may be anything finite where not known."""
    known = frame.known
    whole = frame.values
    if not known.all():
        whole = np.where(known, frame.values, filled(Layer(frame.values, known)))
    prior, error = _classical(whole, frame)
    shown = Layer(whole, known)
    if not known.all():
        error = np.where(known, error, np.maximum(whitening_error(shown), error))
    return Prepared(prior, error, _context(frame, shown, prior, error), _scalars(frame))


def _classical(whole: Plane, frame: Frame) -> tuple[Plane, Plane]:
    """The closed-form restoration and its expected error."""
    if frame.added is not None:
        return whole, np.maximum(_SHARPER[frame.factor] * _strength(frame.added, frame.factor), _FAINTEST)
    prior, variance = whole, np.zeros_like(whole)
    if frame.noise > 0:
        prior, share = shrunk(whole, frame.noise)
        variance = np.float32(frame.noise**2) * (_OPTIMISM * share + np.float32(0.05))
    if frame.factor > 1:
        lost = _COARSE * (frame.factor / 2) * local_scale(Layer(prior, np.ones_like(frame.known)))
        variance = variance + lost**2
    return prior, np.maximum(np.sqrt(variance), FLOOR).astype(np.float32)


def _strength(added: Plane, factor: int) -> Plane:
    """Root mean square around each pixel, over some cells."""
    from scipy import ndimage

    return np.asarray(np.sqrt(ndimage.gaussian_filter(added**2, factor)), np.float32)


def _context(frame: Frame, shown: Layer, prior: Plane, error: Plane) -> Plane:
    """Context channels: the error is told relative to the local scale, what the prior changed relative to the error."""
    level, scale, whole = lowpass(prior), local_scale(shown), shown.values
    planes = np.zeros((len(CHANNELS), *prior.shape), np.float32)
    planes[channel("value")] = np.where(frame.known, standard(whole, level, scale), 0)
    planes[channel("known")] = frame.known
    planes[channel("prior")] = standard(prior, level, scale)
    planes[channel("level")] = np.clip(level, -8, 8)
    planes[channel("log_error")] = np.log(error / scale)
    planes[channel("log_distance")] = np.log1p(shown.distance)
    step = np.full_like(error, max(frame.noise, FLOOR)) if frame.noise else error
    plain = prior if frame.added is None else whole - frame.added
    planes[channel("degraded")] = np.where(frame.known, standard(whole, plain, step), 0)
    return planes


def _scalars(frame: Frame) -> NDArray[np.float32]:
    told = {
        "inpaint": float(not frame.known.all()),
        "denoise": float(frame.noise > 0),
        "superres": float(frame.factor > 1),
        "noise": float(np.log(frame.noise) / 2) if frame.noise > 0 else 0.0,
        "factor": float(np.log2(frame.factor)),
    }
    return np.array([told[name] for name in SCALARS], np.float32)
