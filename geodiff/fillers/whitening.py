"""The expected error of a fill before anything is fitted: the scale by which residuals are whitened."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from geodiff.fillers.masks import once_a_mask
from geodiff.fillers.relaxation import push_pull
from geodiff.lattice import WINDOW

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.fillers import Patch

__all__ = ["FARTHEST", "FLOOR", "around", "distance_to_known", "error_at", "expected_error", "local_spread", "mirrored"]

FARTHEST = 32.0 + WINDOW
"""Distances are capped at window + halo, what a filler can see; so the cap does not depend on the patch."""
FLOOR = np.float32(1e-3)
"""The least expected error, in normalised units: constant surroundings do not make a fill exact."""
_SIDE = 11
_RANGE = np.float32(5.0)
_FACTOR = np.float32(1.3)
_BIASED = 1.5
"""Taken from the count of numbers, which makes the mean of their standard deviations, over places, that of the field:
where two are known nearby it would be little more than half, which neighbours of ten times as many do not notice."""
_COPIES, _SAME = 4, 1e-9
"""As many equal numbers as mirrors at a corner make of one say nothing of how much numbers differ; equal is what the
rounding of a mean square cannot tell apart."""


def mirrored(patch: Patch) -> int:
    """How many of 11 x 11 pixels may be one of the raster, which is mirrored at its edges: 121 of a lone one."""
    (rows, columns), size = patch.inside, patch.window
    sides = len(range(size.height)[rows]), len(range(size.width)[columns])
    return math.prod(max(2, -(-_SIDE // max(side, 1))) for side in sides)


def distance_to_known(known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Euclidean distance in pixels from each pixel to the nearest known one of its plane.

    Parameters
    ----------
    known : bool (..., row, column).

    Returns
    -------
    float32, same shape; 0 where known, at most `FARTHEST`, which is also the answer where nothing is known.
    """
    planes = known.reshape(-1, *known.shape[-2:])
    distance = np.empty(planes.shape, np.float32)
    for plane, out in zip(planes, distance, strict=True):
        out[...] = _plane_distance(plane)
    return distance.reshape(known.shape)


@once_a_mask
def _plane_distance(known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """As `distance_to_known`, of one plane."""
    from scipy.ndimage import distance_transform_edt

    distance, box = np.zeros(known.shape, np.float32), around(~known)
    if not known.any():
        distance[...] = FARTHEST
    elif box is not None:
        distance[box] = np.minimum(distance_transform_edt(~known[box]), FARTHEST)
    return distance


def around(missing: NDArray[np.bool_], margin: int = 1, align: int = 4) -> tuple[slice, slice] | None:
    """The box of a plane's missing pixels with a margin of known ones, in whole steps of `align`; None without any.

    What lies outside the margin is known and cannot be nearest to, nor a neighbour of, anything missing.
    """
    spans = []
    for axis in (0, 1):
        hit = np.flatnonzero(missing.any(axis=1 - axis))
        if not hit.size:
            return None
        start = max(0, int(hit[0]) - margin) // align * align
        spans.append(slice(start, min(missing.shape[axis], -(-(int(hit[-1]) + 1 + margin) // align) * align)))
    return spans[0], spans[1]


def expected_error(
    values: NDArray[np.float32],
    known: NDArray[np.bool_],
    *,
    distance: NDArray[np.float32] | None = None,
    copies: int = _COPIES,
) -> NDArray[np.float32]:
    """Standard error to expect of a good fill, from how rough the known pixels are and how far away.

    s0 = 1.3 x local standard deviation of the known pixels (11 x 11, spread outward by push-pull) x
    sqrt(1 - exp(-(d + 1/2) / 5)), d the distance to data in pixels.

    Parameters
    ----------
    values : float32 (plane, row, column), normalised; anything finite where not known.
    known : bool, same shape.
    distance : what `distance_to_known(known)` gives, where it is at hand.
    copies : as many equal pixels as may be mirror images of one.

    Returns
    -------
    float32, same shape, positive everywhere (at least `FLOOR`); 1, the scale of normalised values, before the distance
    factor where a plane has no two known pixels near each other.
    """
    distance = distance_to_known(known) if distance is None else distance
    return error_at(distance, local_spread(values, known, copies))


def error_at(distance: NDArray[np.float32], spread: NDArray[np.float32]) -> NDArray[np.float32]:
    """As `expected_error`, from the distance to data and what `local_spread` gives; any one shape."""
    growth = np.sqrt(np.float32(1) - np.exp(-(distance + np.float32(0.5)) / _RANGE))
    error: NDArray[np.float32] = np.maximum(_FACTOR * spread * growth, FLOOR)
    return error


def local_spread(
    values: NDArray[np.float32], known: NDArray[np.bool_], copies: int = _COPIES
) -> NDArray[np.float32]:
    """Standard deviation of the known pixels within 11 x 11, spread outward over the gaps by push-pull.

    Shapes as in `expected_error`; 1 in a plane that has no two known pixels near each other.
    """
    spread, weight = _local_deviation(values, known, copies)
    anywhere = weight.any(axis=(-2, -1), keepdims=True)
    everywhere: NDArray[np.float32] = np.where(anywhere, push_pull(spread, weight), np.float32(1))
    return everywhere


def _local_deviation(
    values: NDArray[np.float32], known: NDArray[np.bool_], copies: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Standard deviation of the known pixels around each known pixel, and how far it can be trusted (0 to 1)."""
    held = known.astype(np.float64)
    kept = values * held
    count, first, second = _box_counts(known), _box_sum(kept), _box_sum(kept * values)
    at_least = np.maximum(count, 1.0)
    variance = np.maximum(second / at_least - (first / at_least) ** 2, 0.0)
    differ = variance > _SAME * (second / at_least)
    variance *= at_least / np.maximum(at_least - _BIASED, 0.5)
    weight = np.where(known & ((count > copies + 0.5) | (differ & (count > 1.5))), count / _SIDE**2, 0.0)
    return np.sqrt(variance).astype(np.float32), weight.astype(np.float32)


@once_a_mask
def _box_counts(known: NDArray[np.bool_]) -> NDArray[np.float64]:
    return _box_sum(known.astype(np.float64))


def _box_sum(planes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over 11 x 11 pixels, mirrored at the frame."""
    from scipy.ndimage import uniform_filter1d

    rows = uniform_filter1d(planes, _SIDE, axis=-2, mode="reflect")
    sums: NDArray[np.float64] = uniform_filter1d(rows, _SIDE, axis=-1, mode="reflect") * float(_SIDE**2)
    return sums
