"""Which known pixels the trials of a fit hide: copies of the scene's own gaps elsewhere, whole dates, lasting outages.

The choice is bounded and deterministic. It depends neither on the blocks nor on the dates that a job asks for, so the
fit, and with it the product, is the same however the scene is tiled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from geodiff.context import LEAST_DATES, context, seen_dates
from geodiff.fillers import Filler
from geodiff.fillers.calibration import THINNING
from geodiff.fillers.whitening import distance_to_known
from geodiff.hidden.lasting import MOST_LASTING, lasting_gaps, lost_dates
from geodiff.hidden.spots import (
    LEAST_LEFT,
    MOST_TRIALS,
    Hidden,
    gap_shape,
    hidden_already,
    in_order,
    known_in,
    laid,
    thinned,
    turned,
    with_gaps,
)
from geodiff.lattice import WINDOW, Window
from geodiff.patches import patch_bytes
from geodiff.scan import CHUNK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.scan import GapReader, Scan
    from geodiff.scene import Cube

__all__ = ["Hidden", "hide", "most_trials"]

MOST_HIDDEN = 100_000
LEAST_HIDDEN = 50
"""Hidden pixels below which nothing can be learnt; the fillers' stored tables are used instead."""
_TAUGHT, _SPARED = 1000, 4
"""Pixels to hide per band of a small scene, or of one with small gaps, but no more than one in `_SPARED` known pixels:
the stored tables come from ordinary optical scenes, and a small grid is often a smooth weather field."""
LEAST_TRIALS = 15
TRIAL_MEMORY = 600 << 20
"""Bytes available to all trials together."""
LEAST_SHAPE = 9
"""Pixels of the smallest gap shape that is worth copying."""
_DEEP_EVERY = 5
"""Every fifth trial copies a gap in full, however large it is; with one or two dates, only gaps that the budget would
otherwise crop."""
_TURNS, _FEW_WINDOWS = 8, 16
"""Positions tried for such a gap in a raster of at most `_FEW_WINDOWS` windows, where few positions are possible."""
_LEFT, _LITTLE_LEFT = 0.25, 0.003
"""Share of a window that must stay known in a trial; the second, about 50 pixels, applies where no window can keep the
first."""
_FOLDS, _STREWN = 5, 3
"""Where known pixels are scattered points, a trial hides one in `_FOLDS`, and each window has `_STREWN` trials."""
_LEAST_STREWN, _CROWDED = 5, 10.0
"""Fewest known pixels of a window for such a trial, and the mean number of known pixels in the 5 x 5 around a known one
above which they no longer count as points or tracks."""
_SIDES, _REACHED = (1, 4, 6, 8, 12, 16, 24, 32, 48), 0.9
"""Sides of the pieces of tracks that a trial may hide, in pixels, and the quantile of the distance to data by which
hidden pieces are matched to gaps."""


def hide(cube: Cube, scan: Scan, gaps: GapReader, filler: Filler) -> list[Hidden]:
    """Choose what the trials of a scene hide; empty where too few pixels can be spared to learn from.

    Gap shapes of the scene are laid over known pixels of other windows; in a stack, whole dates and lasting gaps are
    hidden too; where the known pixels are scattered points or tracks, some of them. Places and their order depend on
    the position on the ground alone.
    """
    taught = _TAUGHT * len(cube.bands)
    share = max(
        scan.known // 100, min(scan.known // 20, 20_000 * len(cube.bands)), min(scan.known // _SPARED, taught)
    )
    budget = min(share, max(scan.wanted // 2, taught), MOST_HIDDEN)
    affordable = _affordable(cube, scan, filler)
    most = min(MOST_TRIALS, max(LEAST_TRIALS, _gap_chunks(scan)), affordable)
    places = list(islice(in_order(cube), 20 * most))
    if budget < LEAST_HIDDEN:
        return _strewn(cube, scan, gaps, places, most)
    shapes = _shapes(cube, scan, gaps)
    lost = lost_dates(cube, scan, gaps, most)
    each = budget // (8 * len(cube.bands))
    series = bool(lost) and sum(seen_dates(scan)) >= LEAST_DATES
    little = not series and cube.shape[0] * cube.shape[1] < WINDOW**2
    uncropped = shapes if series else [shape for shape in shapes if shape.sum() > each]
    deep = _deep(cube, scan, gaps, uncropped, places, most // _DEEP_EVERY, little)
    beside = min(MOST_LASTING, affordable - most + most // 3)
    lasting = lasting_gaps(cube, scan, gaps, filler, deep, beside) if series else []
    large = deep + lost + lasting
    most = min(most + len(lasting), affordable) - len(large)
    found = _transplants(cube, gaps, shapes, places, deep + lasting, most, budget, each)
    if not found:
        if strewn := _strewn(cube, scan, gaps, places, most):
            return strewn + large
        found = _transplants(cube, gaps, shapes, places, deep + lasting, most, budget, each, sparse=True)
    found += large
    return found if sum(int(spot.judged.sum()) for spot in found) >= LEAST_HIDDEN else []


def _transplants(
    cube: Cube,
    gaps: GapReader,
    shapes: Sequence[NDArray[np.bool_]],
    places: Sequence[tuple[int, Window]],
    taken: list[Hidden],
    most: int,
    budget: int,
    each: int,
    *,
    sparse: bool = False,
) -> list[Hidden]:
    """Lay gap shapes over known pixels that no trial in `taken` hides, until `budget` pixels are hidden.

    A shape of more than `each` pixels is cropped. With `sparse`, no window could keep a quarter of its pixels known, so
    a shape is cropped to the known pixels under it.
    """
    found: list[Hidden] = []
    spent, left = 0, _LITTLE_LEFT if sparse else _LEFT
    for tried in range(20 * most if shapes else 0):
        if len(found) >= most or spent >= budget:
            break
        date, window = places[tried % len(places)]
        shape = shapes[tried % len(shapes)]
        turn, known = tried // len(shapes) + tried // len(places), known_in(cube, gaps, date, window)
        if sparse:  # a shape that was cropped first would hide next to nothing here
            shape = _cropped(laid(cube, window, shape, turn, tried) & known.any(axis=0), each, tried)
        else:
            shape = laid(cube, window, _cropped(shape, each, tried), turn, tried)
        hidden = _transplanted(known, shape, left * _extent(cube, window))
        hidden &= ~hidden_already(taken + found, date, window)
        count = int(hidden.sum())
        if count >= LEAST_SHAPE:
            found.append(Hidden(date, window, hidden))
            spent += count
    return found


def _strewn(
    cube: Cube, scan: Scan, gaps: GapReader, places: Sequence[tuple[int, Window]], most: int
) -> list[Hidden]:
    """Hide every fifth known pixel of windows whose known pixels are scattered, another fifth in each trial.

    The missing pixels surround the known ones there, so there is no gap shape to copy. Along tracks, every fifth piece
    is hidden, long enough for hidden pixels to be as far from the remaining ones as missing pixels are. Every third
    trial hides its pixels on all dates, because no date shows what lies between stations.
    """
    found: list[Hidden] = []
    budget, spent = min(_STREWN * scan.known // _FOLDS, _TAUGHT * len(cube.bands)), 0
    sides: dict[tuple[int, Window], int] = {}
    for fold in range(_STREWN):
        for date, window in places:
            if len(found) >= most or spent >= budget:
                return found
            known = known_in(cube, gaps, date, window)
            anywhere = np.asarray(known.any(axis=0))
            if np.count_nonzero(anywhere) < _LEAST_STREWN or (crowd := _around(anywhere)) > _CROWDED:
                continue
            if (date, window) not in sides:
                sides[date, window] = _piece(anywhere, gap_shape(cube, gaps, date, window))
            hidden = known & _one_fold(anywhere, fold, sides[date, window]) & ~hidden_already(found, date, window)
            if count := int(hidden.sum()):
                worth = round(THINNING / crowd)
                found.append(Hidden(date, window, hidden, ever=len(found) % _STREWN == 1, worth=worth))
                spent += count
    return found


def _around(known: NDArray[np.bool_]) -> float:
    """Mean number of known pixels, (row, column), in the 5 x 5 around a known pixel, itself included."""
    from scipy.ndimage import uniform_filter

    around = THINNING * uniform_filter(known.astype(np.float64), math.isqrt(THINNING), mode="constant")
    return float(around[known].mean())


def _piece(known: NDArray[np.bool_], gap: NDArray[np.bool_]) -> int:
    """Side, in pixels, of the squares of which every fifth is hidden; `known` and `gap` are (row, column).

    It is 1, a single pixel, where known pixels are as far from each other as the gap is from them. Along a track they
    are closer to each other, and larger squares are needed.
    """
    if not gap.any():
        return 1
    wanted, last = np.quantile(distance_to_known(known)[gap], _REACHED), (1, 0.0)
    for side in _SIDES:
        hidden = known & _one_fold(known, 0, side)
        if not hidden.any():
            break
        reached = float(np.quantile(distance_to_known(known & ~hidden)[hidden], _REACHED))
        if reached >= wanted:
            return side if side == 1 or reached * last[1] < wanted**2 else last[0]
        last = side, reached
    return last[0]


def _one_fold(known: NDArray[np.bool_], fold: int, side: int) -> NDArray[np.bool_]:
    """Every fifth known pixel (row, column), with columns shifted from row to row.

    For a `side` above 1, all known pixels of every fifth square, the squares a knight's move apart.
    """
    if side > 1:
        row, column = (np.arange(length) // side for length in known.shape)
        return np.asarray(known & ((row[:, None] + 2 * column) % _FOLDS == fold))
    chosen, number = np.zeros_like(known), np.arange(np.count_nonzero(known))
    chosen[known] = (number + number // _FOLDS) % _FOLDS == fold
    return chosen


def _deep(
    cube: Cube,
    scan: Scan,
    gaps: GapReader,
    shapes: Sequence[NDArray[np.bool_]],
    places: Sequence[tuple[int, Window]],
    wanted: int,
    little: bool,
) -> list[Hidden]:
    """Copy gaps in full that the budget would crop: no other trial shows errors deep inside a gap.

    In a stack, one window per date. In a `little` raster, smaller than a window, a quarter of the known pixels stays
    known. In a single image, half of the known pixels are left to the other trials.
    """
    found: list[Hidden] = []
    series = sum(seen_dates(scan)) >= LEAST_DATES
    spare = scan.known if series or little else scan.known // 2
    of_a_date = 1 if series else wanted
    told = LEAST_LEFT // 2 if little else LEAST_LEFT
    # With few windows, each may be the one that the gap comes from, so that the gap falls onto itself: try other turns.
    turns = _TURNS if little or (not series and len(places) <= _FEW_WINDOWS) else 1
    for tried in range(turns * len(places) if shapes else 0):
        again, place = divmod(tried, len(places))
        date, window = places[tried // turns if little else place]
        if len(found) >= wanted:
            break
        if sum(spot.date == date for spot in found) >= of_a_date:
            continue
        known, turn = known_in(cube, gaps, date, window), tried if little else place + again
        shape = shapes[turn % len(shapes)]
        shape = laid(cube, window, shape, turn, turn) if little else turned(shape, turn)
        hidden = known & shape & ~hidden_already(found, date, window)
        least = max(LEAST_LEFT * len(cube.bands), _LEFT * known.sum() if little else 0)
        if thinned(hidden).sum() >= told and (known & ~hidden).sum() >= least and hidden.sum() <= spare:
            found.append(Hidden(date, window, hidden, deep=True))
            spare -= int(hidden.sum())
    return found


def _affordable(cube: Cube, scan: Scan, filler: Filler) -> int:
    """Number of trials whose patches fit into `TRIAL_MEMORY`; a patch of many dates and bands is large."""
    seen = seen_dates(scan)
    dates = max(len(context(cube, filler, target, seen)) for target in range(len(cube.variable.dates)))
    return _fitting(patch_bytes(dates, len(cube.bands), filler.halo))


def _fitting(patch: int) -> int:
    """Number of trials of `patch` bytes each that fit into `TRIAL_MEMORY`, at least two."""
    return max(2, TRIAL_MEMORY // patch)


def most_trials(cube: Cube, patch: int) -> int:
    """Most trials that `hide` can make, as far as is known before the scan; `patch` is the size of one, in bytes."""
    chunks = len(cube.variable.dates) * math.prod(-(-side // CHUNK) for side in cube.shape)
    lasting = MOST_LASTING if len(cube.variable.dates) > 1 else 0
    return min(min(MOST_TRIALS, max(LEAST_TRIALS, chunks)) + lasting, _fitting(patch))


def _gap_chunks(scan: Scan) -> int:
    """Number of chunks with gaps, of about five windows each; a trial per chunk lets a fit cost a fifth of the fill."""
    return int((scan.gap_counts > 0).sum())


def _cropped(shape: NDArray[np.bool_], most: int, pick: int) -> NDArray[np.bool_]:
    """The gap shape, or the part of it around one of its pixels where it has more than `most` pixels."""
    if shape.sum() <= most:
        return shape
    rows, columns = np.nonzero(shape)
    at = (pick * 7919) % len(rows)
    part = shape
    for reach in (64, 48, 32, 24, 16, 12, 8, 5):
        part = np.zeros_like(shape)
        square = (
            slice(max(rows[at] - reach, 0), rows[at] + reach + 1),
            slice(max(columns[at] - reach, 0), columns[at] + reach + 1),
        )
        part[square] = shape[square]
        if part.sum() <= most:
            break
    return part


def _shapes(cube: Cube, scan: Scan, gaps: GapReader) -> list[NDArray[np.bool_]]:
    """Gap shapes (128, 128) of the scene, without those that cover a whole window and would leave nothing known."""
    shapes: list[NDArray[np.bool_]] = []
    for date, window in with_gaps(cube, scan):
        if len(shapes) >= MOST_TRIALS:
            break
        common = window.intersect(cube.lattice.extent)
        assert common is not None
        shape = gap_shape(cube, gaps, date, window)
        if LEAST_SHAPE <= shape.sum() < common.height * common.width:
            shapes.append(shape)
    return shapes


def _transplanted(known: NDArray[np.bool_], shape: NDArray[np.bool_], left: float) -> NDArray[np.bool_]:
    """Known pixels under a gap shape (band, row, column); none where fewer than `left` a band would stay."""
    hidden = known & shape
    enough_left = (known & ~hidden).sum() >= left * len(known)
    return hidden if enough_left else np.zeros_like(hidden)


def _extent(cube: Cube, window: Window) -> int:
    """Number of the window's pixels that lie inside the raster."""
    common = window.intersect(cube.lattice.extent)
    assert common is not None
    return common.height * common.width
