"""Patches that look alike clear each other: one Wiener step of non-local Bayes over an image that is clear already.

Lebrun, Buades & Morel 2013 ("A nonlocal Bayesian image denoising algorithm"): patches that look alike are draws of one
normal distribution, whose mean and covariance say how much of a noisy patch to believe. Their first step only finds out
which patches are alike; the network's answer tells that better. A network sees a window, this the repeated detail of a
surface: one step over the network takes off what the network alone leaves.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from geodiff.lattice import reflected_indices
from geodiff.threads import cores, one_thread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.float32]

__all__ = ["nonlocal_bayes"]

_STEP = 4
"""Pixels from one reference patch to the next."""
_SIDE = 2 * _STEP
"""Of a patch; twice the step, so that distances are sums of four blocks."""
_REACH = 8
"""How far from a reference patch others may lie, in pixels along rows and columns."""
_ALIKE = 48
"""Patches taken for draws of one distribution. With 64 in a reach of 10: +.03 dB for twice the time."""
_TILE = (8, 96)
"""Rows and columns of reference patches done together: all patches around them, laid out, take some 20 MiB."""
_TOGETHER = 128
"""Reference patches whose covariances are held together."""
_ROUNDING = 2e-6
"""Of a covariance's trace: what float32 cannot tell from noise."""
_SHIFTS = [(i, j) for i in range(-_REACH, _REACH + 1) for j in range(-_REACH, _REACH + 1)]


def nonlocal_bayes(noisy: Plane, pilot: Plane, noise: float) -> Plane:
    """The noisy image cleared with what the patches of `pilot` that look alike have in common.

    Parameters
    ----------
    noisy : (row, column), finite, with white noise of standard deviation `noise` > 0.
    pilot : the same image as clear as it is known: it says which patches look alike, and how they vary.

    Returns
    -------
    (row, column), the same for any number of cores.
    """
    shape = tuple(-(-n // _STEP) + 1 for n in noisy.shape)
    padded = _padded(noisy, *shape), _padded(pilot, *shape)
    total, count = (np.zeros(padded[0].shape, np.float32) for _ in range(2))
    firsts = list(product(*(range(0, n, most) for n, most in zip(shape, _TILE, strict=True))))

    def tile(first: tuple[int, int]) -> tuple[tuple[slice, ...], Plane, Plane]:
        counts = [min(most, n - at) for at, n, most in zip(first, shape, _TILE, strict=True)]
        there = tuple(
            slice(at * _STEP, (at + n + 1) * _STEP + 2 * _REACH) for at, n in zip(first, counts, strict=True)
        )
        return there, *_tile(padded[0][there], padded[1][there], noise, *counts)

    with one_thread(), ThreadPoolExecutor(cores()) as pool:
        for there, sums, counts in pool.map(tile, firsts):
            total[there] += sums
            count[there] += counts
    edge = _REACH + _STEP
    inner = np.s_[edge : edge + noisy.shape[0], edge : edge + noisy.shape[1]]
    return np.asarray(total[inner] / count[inner], np.float32)


def _padded(image: Plane, rows: int, columns: int) -> Plane:
    """The image, mirrored beyond its edges as far as patches reach; the first reference begins `_STEP` outside."""
    edge = _REACH + _STEP
    taken = (
        reflected_indices(-edge, (n + 1) * _STEP + 2 * _REACH, size)
        for n, size in zip((rows, columns), image.shape, strict=True)
    )
    return np.ascontiguousarray(image[np.ix_(*taken)], np.float32)


def _tile(noisy: Plane, pilot: Plane, noise: float, rows: int, columns: int) -> tuple[Plane, Plane]:
    """Sums of cleared patches and how many lie over each pixel, for so many rows and columns of reference patches."""
    across = noisy.shape[1] - _SIDE + 1
    row, column = np.divmod(_alike(pilot, rows, columns), noisy.shape[1])
    places = row * across + column
    seen, told, inside = (_laid_out(a) for a in (noisy, pilot, np.arange(noisy.size).reshape(noisy.shape)))
    sums = np.zeros(noisy.size, np.float32)
    for start in range(0, len(places), _TOGETHER):
        group = places[start : start + _TOGETHER]
        cleared = _cleared(seen.take(group, axis=0), told.take(group, axis=0), noise)
        np.add.at(sums, inside.take(group, axis=0).ravel(), cleared.ravel())
    begin = np.bincount(places.ravel(), minlength=len(seen)).reshape(-1, across)
    return sums.reshape(noisy.shape), _over(begin)


def _laid_out(image: NDArray[Any]) -> NDArray[Any]:
    """(patch, pixel) of all patches, by their first pixel: taken from here one costs a tenth of what a cut one does."""
    return np.ascontiguousarray(sliding_window_view(image, (_SIDE, _SIDE))).reshape(-1, _SIDE * _SIDE)


def _over(patches: NDArray[np.intp]) -> Plane:
    """How many patches lie over each pixel, from how many begin at each."""
    covered = np.pad(patches, _SIDE - 1)
    for axis in (0, 1):
        covered = sliding_window_view(covered, _SIDE, axis=axis).sum(axis=-1)
    return covered.astype(np.float32)


def _alike(pilot: Plane, rows: int, columns: int) -> NDArray[np.intp]:
    """(reference patch, patch): where the patches most like each reference begin, as places in the flat tile."""
    height, width = (rows + 1) * _STEP, (columns + 1) * _STEP
    centre = pilot[_REACH : _REACH + height, _REACH : _REACH + width]
    distances = np.empty((rows, columns, len(_SHIFTS)), np.float32)
    for index, (i, j) in enumerate(_SHIFTS):
        apart = pilot[_REACH + i : _REACH + i + height, _REACH + j : _REACH + j + width] - centre
        distances[..., index] = _block_sums(apart * apart)
    nearest = np.argpartition(distances.reshape(-1, len(_SHIFTS)), _ALIKE - 1, axis=1)[:, :_ALIKE]
    row, column = np.ix_(_REACH + _STEP * np.arange(rows), _REACH + _STEP * np.arange(columns))
    steps = np.array([i * pilot.shape[1] + j for i, j in _SHIFTS])
    return np.asarray((row * pilot.shape[1] + column).reshape(-1, 1) + steps[nearest])


def _block_sums(image: Plane) -> Plane:
    """Sums over every `_SIDE` x `_SIDE` patch that begins at a multiple of `_STEP`."""
    for axis in (0, 1):
        lines = np.moveaxis(image, axis, 0)
        blocks = lines[::_STEP] + lines[1::_STEP] + (lines[2::_STEP] + lines[3::_STEP])
        image = np.moveaxis(blocks[1:] + blocks[:-1], 0, axis)
    return image


def _cleared(noisy: Plane, pilot: Plane, noise: float) -> Plane:
    """The normal posterior mean of each noisy patch, (reference patch, patch, pixel); the pilot's say what is normal.

    m + C (C + s2)^-1 (y - m), where C is A'A of fewer patches than a patch has pixels. C (C + s2)^-1 is
    A' (AA' + s2)^-1 A, so the smaller system is solved, that of the patches.
    """
    import torch

    from geodiff.diffusion.device import one_torch_thread

    with one_torch_thread():
        told, seen = torch.from_numpy(pilot), torch.from_numpy(noisy)
        middle = told.mean(dim=1, keepdim=True)
        apart = (told - middle) / math.sqrt(pilot.shape[1] - 1)
        system = torch.bmm(apart, apart.mT)
        diagonal = system.diagonal(dim1=1, dim2=2)
        diagonal += max(noise**2, 1e-12) + _ROUNDING * diagonal.sum(dim=1, keepdim=True)
        across = torch.bmm(apart, (seen - middle).mT)
        solved = torch.cholesky_solve(across, torch.linalg.cholesky(system))
        return np.asarray(torch.baddbmm(middle, solved.mT, apart))
