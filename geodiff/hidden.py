"""What trials hide: known pixels under the scene's own gaps, laid elsewhere; whole dates, and dates on end, of stacks.

It is bounded and deterministic, and depends on neither blocks nor the dates asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from geodiff.context import LEAST_DATES, context, lost_beside, lost_spans, seen_dates
from geodiff.fillers import Filler
from geodiff.fillers.calibration import FAR, NEAR, around_in_time, dates_around
from geodiff.lattice import WINDOW, Window
from geodiff.patches import patch_bytes
from geodiff.scan import CHUNK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.scan import GapReader, Scan
    from geodiff.scene import Cube

__all__ = ["Hidden", "hide"]

MOST_HIDDEN = 100_000
LEAST_HIDDEN = 50
"""Fewer hidden pixels than this teach nothing; the fillers' stored tables are used instead."""
_TAUGHT, _SPARED = 1000, 4
"""Pixels of a band to hide where a scene is small or has small gaps, as far as one in `_SPARED` of its known ones: the
stored tables are those of ordinary optical scenes, and a small grid is often a smooth field of the weather."""
MOST_TRIALS, LEAST_TRIALS = 40, 15
TRIAL_MEMORY = 600 << 20
"""Bytes that all trials together may take."""
LEAST_SHAPE = 9
"""Pixels of the smallest gap shape worth hiding."""
_LOST_EVERY = 5
"""Of a stack every fifth trial hides a whole date."""
_LEAST_LOST = 5
"""Such trials at least, each of another date: two dates tell little of how dates differ."""
_DEEP_EVERY = 5
"""Every fifth trial hides all that one of the gaps would, however much that is; of one or two dates only gaps that the
budget would crop."""
_TURNS = 8
"""Positions in which such a gap is laid into a raster smaller than a window, where it fits but here and there."""
_LASTING, _ENDS = 5, 3
"""Trials at most that hide a gap with the dates on which it lasts, each of another date; and how many of its ends."""
_LEAST_FAR, _MORE_FAR = 0.02, 3.0
"""Such trials are drawn where that share of the gaps lies far from known dates, and so many times the share of what is
known: clouds that come and go leave both alike, and then what is hidden on one date shows all there is."""
_LEAST_MOVED, _TRIES, _LAPS = 0.25, 20, 3
"""Share of what is far in such a gap that has to fall on known pixels, how often a place for it is looked for, and how
often all windows are tried until it is moved within them too."""
_LEAST_LEFT = 50
"""Known pixels that such a trial leaves: from so many on a date tells the scale of its errors."""
_LEFT = (0.25, 0.003)
"""Share of a window that a trial leaves known; the second, some 50 pixels, where no window can spare so much."""
_UNEVEN = 0.2
"""Of two dates, how much one must show of what the other does for them to be held against each other."""
_FOLDS, _STREWN = 5, 3
"""Of known pixels strewn about every fifth is hidden in a trial, in so many trials of a window."""
_LEAST_STREWN, _CROWDED = 30, 1.0
"""Known pixels of a window from which on some are hidden so, and with how many known neighbours on average they are
strewn about no more."""
_LEAST_SHOWN = (0.5, 0.1)
"""Share of a window that must be known for a trial that hides all of it; the second where too few dates show the first.
"""


@dataclass(frozen=True, slots=True)
class Hidden:
    """Pixels hidden in one window of one date; all bands together, as gaps mostly are."""

    date: int
    window: Window
    where: NDArray[np.bool_]
    """(band, row, column) of the window."""
    whole: bool = False
    """Nothing of the date is shown, in the window or around it, and `where` is what is judged."""
    gone: frozenset[int] = frozenset()
    """Dates around a whole one that show nothing either."""
    deep: bool = False
    """So much is hidden that only one pixel in 3 x 3 is judged."""
    strewn: bool = False
    """They lie here and there, as what is known does, and not in a blob."""
    lasting: NDArray[np.bool_] | None = None
    """(context date, row, column) of the window: hidden on these dates too; judged is what is then far from known ones.
    Their low-resolution fill stays as it is: our fillers look at that of the target alone."""

    @property
    def judged(self) -> NDArray[np.bool_]:
        """(band, row, column) of the window."""
        return _thinned(self.where) if self.deep else self.where


def _thinned(where: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """One pixel in 3 x 3: neighbours tell the same."""
    thinned = np.zeros_like(where)
    thinned[:, 1::3, 1::3] = where[:, 1::3, 1::3]
    return thinned


_MOST_WINDOWS, _MOST_PAIRS = 20_000, 1_000_000
"""Windows, and windows times dates, among which places to hide pixels are looked for; a pair takes some 150 bytes."""


def _order(cube: Cube, dates: Iterable[int] | None = None) -> Iterator[tuple[int, Window]]:
    """Every (date, lattice window), of all dates or some, in a random order that the place on the ground fixes."""
    lattice = cube.lattice
    windows = list(lattice.windows())
    most = min(_MOST_WINDOWS, max(1, _MOST_PAIRS // len(cube.variable.dates)))
    if len(windows) > most:
        windows = windows[:: len(windows) // most + 1]
    some = range(len(cube.variable.dates)) if dates is None else dates
    pairs = [(date, window) for date in some for window in windows]
    keys = [hashlib.blake2b(f"{d},{lattice.absolute(w)}".encode(), digest_size=8).digest() for d, w in pairs]
    for index in sorted(range(len(pairs)), key=keys.__getitem__):
        yield pairs[index]


def hide(cube: Cube, scan: Scan, gaps: GapReader, filler: Filler) -> list[Hidden]:
    """Transplant the scene's own gap shapes onto known pixels of other windows."""
    taught = _TAUGHT * len(cube.bands)
    share = max(
        scan.known // 100, min(scan.known // 20, 20_000 * len(cube.bands)), min(scan.known // _SPARED, taught)
    )
    budget = min(share, max(scan.wanted // 2, taught), MOST_HIDDEN)
    affordable = _affordable(cube, scan, filler)
    most = min(MOST_TRIALS, max(LEAST_TRIALS, _gap_chunks(scan)), affordable)
    places = list(islice(_order(cube), 20 * most))
    if budget < LEAST_HIDDEN:
        return _strewn(cube, scan, gaps, places, most)
    shapes = _shapes(cube, scan, gaps)
    found: list[Hidden] = []
    lost = _lost(cube, scan, gaps, most)
    each = budget // (8 * len(cube.bands))
    series = bool(lost) and sum(seen_dates(scan)) >= LEAST_DATES
    little = not series and cube.shape[0] * cube.shape[1] < WINDOW**2
    uncropped = shapes if series else [shape for shape in shapes if shape.sum() > each]
    deep = _deep(cube, scan, gaps, uncropped, places, most // _DEEP_EVERY, little)
    beside = min(_LASTING + _ENDS, affordable - most + most // 3)
    lasting = _lasting(cube, scan, gaps, filler, deep, beside) if series else []
    large = deep + lost + lasting
    most = min(most + len(lasting), affordable) - len(large)
    spent = 0
    for left in _LEFT:
        if left != _LEFT[0] and not found and (strewn := _strewn(cube, scan, gaps, places, most)):
            return strewn + large
        for tried in range(20 * most if shapes and not found else 0):
            if len(found) >= most or spent >= budget:
                break
            date, window = places[tried % len(places)]
            shape = shapes[tried % len(shapes)]
            turn, known = tried // len(shapes) + tried // len(places), _known(cube, gaps, date, window)
            if left == _LEFT[0]:
                shape = _laid(cube, window, _cropped(shape, each, tried), turn, tried)
            else:  # of the little that is known here, such a part of a shape would hide next to nothing
                shape = _cropped(_laid(cube, window, shape, turn, tried) & known.any(axis=0), each, tried)
            hidden = _transplanted(known, shape, left * _extent(cube, window))
            hidden &= ~_hidden_already(found + deep + lasting, date, window)
            count = int(hidden.sum())
            if count >= LEAST_SHAPE:
                found.append(Hidden(date, window, hidden))
                spent += count
    return found + large if spent + sum(int(spot.judged.sum()) for spot in large) >= LEAST_HIDDEN else []


def _strewn(
    cube: Cube, scan: Scan, gaps: GapReader, places: Sequence[tuple[int, Window]], most: int
) -> list[Hidden]:
    """Every fifth known pixel of windows in which these are strewn about, another fifth in each of a window's trials.

    What is missing there is all between them, and has no shape that could be laid elsewhere.
    """
    found: list[Hidden] = []
    budget, spent = min(_STREWN * scan.known // _FOLDS, _TAUGHT * len(cube.bands)), 0
    for fold in range(_STREWN):
        for date, window in places:
            if len(found) >= most or spent >= budget:
                return found
            known = _known(cube, gaps, date, window)
            anywhere = np.asarray(known.any(axis=0))
            if np.count_nonzero(anywhere) >= _LEAST_STREWN and _neighbours(anywhere) < _CROWDED:
                hidden = known & _one_fold(anywhere, fold) & ~_hidden_already(found, date, window)
                if count := int(hidden.sum()):
                    found.append(Hidden(date, window, hidden, strewn=True))
                    spent += count
    return found


def _neighbours(known: NDArray[np.bool_]) -> float:
    """How many of the eight pixels around a known one (row, column) are known, on average."""
    from scipy.ndimage import uniform_filter

    around = 9 * uniform_filter(known.astype(np.float64), 3, mode="constant")
    return float(around[known].mean()) - 1.0


def _one_fold(known: NDArray[np.bool_], fold: int) -> NDArray[np.bool_]:
    """(row, column) every fifth of the known pixels, in rows one below the other not the same columns."""
    chosen, number = np.zeros_like(known), np.arange(np.count_nonzero(known))
    chosen[known] = (number + number // _FOLDS) % _FOLDS == fold
    return chosen


def _lost(cube: Cube, scan: Scan, gaps: GapReader, most: int) -> list[Hidden]:
    """Windows of a stack in which a date shows nothing at all: what other dates say of it is another question.

    One window of a date; one pixel in 3 x 3 is judged.
    """
    seen = seen_dates(scan)
    dates = int(sum(seen))
    if dates < 2 or (dates == 2 and _uneven(scan)):
        return []
    wanted = min(max(_LEAST_LOST, most // _LOST_EVERY), dates, most // 3)
    outages = lost_spans(cube.seconds, seen)
    found: list[Hidden] = []
    for least in _LEAST_SHOWN:
        for date, window in islice(_order(cube), 20 * most):
            common = window.intersect(cube.lattice.extent)
            if len(found) >= wanted or common is None or any(spot.date == date for spot in found):
                continue
            known = _known(cube, gaps, date, window)
            if dates == 2:  # what one says of the other is seen where both are
                known &= _known(cube, gaps, next(d for d, shown in enumerate(seen) if shown and d != date), window)
            if known.mean() >= least * common.height * common.width / (window.height * window.width):
                gone = lost_beside(cube.seconds, seen, date, outages, len(found))
                found.append(Hidden(date, window, _thinned(known), whole=True, gone=gone))
    return found


def _uneven(scan: Scan) -> bool:
    """Of two dates one shows little: what they differ by there says little of the rest."""
    shown = np.sort(scan.cells.count.sum(axis=(1, 2, 3)))
    return bool(shown[-2] < _UNEVEN * shown[-1])


def _deep(
    cube: Cube,
    scan: Scan,
    gaps: GapReader,
    shapes: Sequence[NDArray[np.bool_]],
    places: Sequence[tuple[int, Window]],
    wanted: int,
    little: bool,
) -> list[Hidden]:
    """Gaps as large as they come, which the budget would crop: what is far inside them is seen in no other trial.

    One window of a date in a stack. Of a `little` raster, which is smaller than a window, a quarter stays known.
    """
    found: list[Hidden] = []
    of_a_date = 1 if sum(seen_dates(scan)) >= LEAST_DATES else wanted
    turns, told = (_TURNS, _LEAST_LEFT // 2) if little else (1, _LEAST_LEFT)
    for tried in range(turns * len(places) if shapes else 0):
        date, window = places[tried // turns]
        if len(found) >= wanted:
            break
        if sum(spot.date == date for spot in found) >= of_a_date:
            continue
        known, shape = _known(cube, gaps, date, window), shapes[tried % len(shapes)]
        laid = _laid(cube, window, shape, tried, tried) if little else _turned(shape, tried)
        hidden = known & laid & ~_hidden_already(found, date, window)
        least = max(_LEAST_LEFT * len(cube.bands), _LEFT[0] * known.sum() if little else 0)
        if _thinned(hidden).sum() >= told and (known & ~hidden).sum() >= least:
            found.append(Hidden(date, window, hidden, deep=True))
    return found


@dataclass(frozen=True, slots=True)
class _Gap:
    """The gap of one window of a date, with what is missing there on the dates around it."""

    shape: NDArray[np.bool_]
    """(row, column)."""
    far: NDArray[np.bool_]
    """(row, column) the part of it that is far from known dates."""
    apart: NDArray[np.bool_]
    """(row, column) that, and what dates around know on one side alone: ends of what lasts."""
    known_far: NDArray[np.bool_]
    """(row, column) what is known, and on the dates around is not."""
    window: Window
    """Where it lies."""
    dates: list[int]
    """The context of its date."""

    @classmethod
    def of(cls, cube: Cube, gaps: GapReader, date: int, window: Window, dates: list[int]) -> _Gap:
        """Of a window that touches the raster; `dates` are the context of its date."""
        shape, known = _gap_shape(cube, gaps, date, window), _known(cube, gaps, date, window).all(axis=0)
        sides = _sides(cube, gaps, date, window, dates, shape | known)
        far = sides == FAR
        return cls(shape, shape & far, shape & (sides != NEAR), known & far, window, dates)

    def lasting(self, cube: Cube, gaps: GapReader, date: int) -> NDArray[np.bool_]:
        """(context date, row, column) the dates without a break on which each of its pixels is missing."""
        known = np.stack([_known(cube, gaps, d, self.window).all(axis=0) for d in self.dates])
        order = list(np.argsort(cube.seconds[self.dates], kind="stable"))
        return _without_break(known, order, self.dates.index(date)) & self.shape


def _sides(
    cube: Cube, gaps: GapReader, date: int, window: Window, dates: list[int], asked: NDArray[np.bool_]
) -> NDArray[np.int8]:
    """(row, column) of the window, those asked for: as `around_in_time` says, of no more dates than that takes."""
    near, known = dates_around(cube.seconds[dates], dates.index(date)), np.zeros((len(dates), *window.shape), bool)
    for own in sorted(np.flatnonzero(np.array(dates) != date), key=lambda i: not near[i]):
        if not near[own] and not (asked & ~known.any(axis=0)).any():
            break
        known[own] = _known(cube, gaps, dates[own], window).all(axis=0)
    return np.where(asked, around_in_time(known, cube.seconds[dates], dates.index(date)), NEAR).astype(np.int8)


def _without_break(known: NDArray[np.bool_], order: list[int], place: int) -> NDArray[np.bool_]:
    """(date, row, column) missing on that date and on all between it and the one at `place`; `order` is that of time.

    False at `place` itself.
    """
    lasting, at = np.zeros_like(known), order.index(place)
    for side in (order[:at][::-1], order[at + 1 :]):
        on = np.ones(known.shape[1:], bool)
        for date in side:
            on &= ~known[date]
            lasting[date] = on
    return lasting


def _lasting(
    cube: Cube, scan: Scan, gaps: GapReader, filler: Filler, found: list[Hidden], most: int
) -> list[Hidden]:
    """Gaps of a stack laid elsewhere with all the dates on which they last, where other trials show too little of them.

    What is hidden on one date is known on those around it, unless these have gaps of their own there. Where a place is
    lost for many dates on end its gap is of another kind than that.
    """
    sources: list[tuple[int, _Gap]] = []
    ends: list[tuple[int, _Gap]] = []
    seen, pixels, looked = seen_dates(scan), np.zeros(4), 0
    for date, window in islice(_with_gaps(cube, scan), 20 * MOST_TRIALS):
        if looked >= 2 * MOST_TRIALS:
            break
        alone = dates_around(cube.seconds, date).sum() == 1  # all of it is far from other dates, whatever is missing
        if not seen[date] or alone or not _gap_shape(cube, gaps, date, window).any():
            continue
        looked += 1
        gap = _Gap.of(cube, gaps, date, window, context(cube, filler, date, seen))
        known = _known(cube, gaps, date, window).all(axis=0)
        pixels += [gap.far.sum(), gap.shape.sum(), gap.known_far.sum(), known.sum()]
        if gap.far.sum() >= _LEAST_LEFT and sum(d == date for d, _ in sources) < 2 and len(sources) < 4 * _LASTING:
            sources.append((date, gap))
        elif gap.apart.sum() >= _LEAST_LEFT:
            ends.append((date, gap))
    far, known_far = pixels[0] / max(pixels[1], 1), pixels[2] / max(pixels[3], 1)
    if far < _LEAST_FAR or far < _MORE_FAR * known_far:
        return []
    ends.sort(key=lambda end: -int(end[1].apart.sum()))
    made = _moved(cube, gaps, sources, found, most - min(_ENDS, most // 2))
    return made + _moved(cube, gaps, ends, found + made, min(_ENDS, most - len(made)))


def _moved(
    cube: Cube, gaps: GapReader, sources: Sequence[tuple[int, _Gap]], found: list[Hidden], most: int
) -> list[Hidden]:
    """So many of the gaps, of as many dates, each laid elsewhere with the dates on which it lasts."""
    places: dict[int, list[Window]] = {date: [] for date, _ in sources}
    for date, window in _order(cube, places):
        if len(places[date]) < _TRIES:
            places[date].append(window)
    made: list[Hidden] = []
    for number, (date, gap) in enumerate(sources):
        if len(made) < most and not any(spot.date == date for spot in made):
            tries = range(number, number + _TRIES)
            lasting = gap.lasting(cube, gaps, date)
            spots = (_elsewhere(cube, gaps, gap, lasting, date, places[date], tried, found + made) for tried in tries)
            made += islice((spot for spot in spots if spot is not None), 1)
    return made


def _elsewhere(
    cube: Cube,
    gaps: GapReader,
    gap: _Gap,
    lasting: NDArray[np.bool_],
    date: int,
    windows: list[Window],
    tried: int,
    found: list[Hidden],
) -> Hidden | None:
    """A gap with its dates, laid into one of the windows of its date; None where little of it falls on known pixels."""
    window, lap = windows[tried % len(windows)], tried // len(windows)
    shape, apart, *lost = (
        _shifted(_laid(cube, window, part, tried + lap, tried + lap), lap) for part in (gap.shape, gap.apart, *lasting)
    )
    known = _known(cube, gaps, date, window)
    hidden = known & shape & ~_hidden_already(found, date, window)
    judged = (hidden & apart).any(axis=0).sum()
    if judged < max(_LEAST_LEFT, _LEAST_MOVED * gap.apart.sum()):
        return None
    if (known & ~hidden).sum() < _LEAST_LEFT * len(cube.bands):
        return None
    return Hidden(date, window, hidden, lasting=np.stack(lost))


def _shifted(shape: NDArray[np.bool_], lap: int) -> NDArray[np.bool_]:
    """The gap shape; where all windows were tried in half of its positions, also moved within the window."""
    return np.roll(shape, max(lap - _LAPS, 0) * np.array([7919, 104729]), axis=(0, 1))


def _known(cube: Cube, gaps: GapReader, date: int, window: Window) -> NDArray[np.bool_]:
    """(band, row, column) of the window, False beyond the raster."""
    known = np.zeros((len(cube.bands), *window.shape), bool)
    common = window.intersect(cube.lattice.extent)
    if common is not None:
        known[(slice(None), *common.within(window))] = ~gaps.read(date, common).missing
    return known


def _turned(shape: NDArray[np.bool_], turn: int) -> NDArray[np.bool_]:
    """A gap shape in one of its eight positions."""
    return np.rot90(shape if turn % 8 < 4 else shape[:, ::-1], turn % 4)


def _laid(cube: Cube, window: Window, shape: NDArray[np.bool_], turn: int, tried: int) -> NDArray[np.bool_]:
    """A gap shape turned; in a window that reaches beyond the raster, mirrored and shifted in what lies inside."""
    common = window.intersect(cube.lattice.extent)
    if common is None or common == window:
        return _turned(shape, turn)
    inside, laid = common.within(window), np.zeros_like(shape)
    flips = slice(None, None, -1 if tried % 2 else 1), slice(None, None, -1 if tried % 4 > 1 else 1)
    shift = tried // 4 * np.array([7919, 104729])
    laid[inside] = np.roll(shape[inside][flips], shift, axis=(0, 1))
    return laid


def _hidden_already(found: list[Hidden], date: int, window: Window) -> NDArray[np.bool_]:
    """(row, column) of the window: hidden by an earlier trial; no pixel may be taken out of the cell sums twice."""
    taken = np.zeros(window.shape, bool)
    for spot in found:
        common = spot.window.intersect(window) if spot.date == date else None
        if common is not None:
            where = spot.where[(slice(None), *common.within(spot.window))]
            taken[common.within(window)] |= where.any(axis=0)
    return taken


def _affordable(cube: Cube, scan: Scan, filler: Filler) -> int:
    """How many trials fit into the memory set aside for them; a patch of many dates and bands is large."""
    dates = max(len(context(cube, filler, target, seen_dates(scan))) for target in range(len(cube.variable.dates)))
    return max(2, TRIAL_MEMORY // patch_bytes(dates, len(cube.bands), filler.halo))


def _gap_chunks(scan: Scan) -> int:
    """How many chunks hold gaps; about five windows each, of which a fit may cost a fifth."""
    return int((scan.gap_counts > 0).sum())


def _cropped(shape: NDArray[np.bool_], most: int, pick: int) -> NDArray[np.bool_]:
    """A gap shape, or of one that is too large the part around one of its pixels."""
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
    """Gap shapes (128, 128) of the scene; one that covers a window is of no use, it would leave nothing known."""
    shapes: list[NDArray[np.bool_]] = []
    for date, window in _with_gaps(cube, scan):
        if len(shapes) >= MOST_TRIALS:
            break
        common = window.intersect(cube.lattice.extent)
        assert common is not None
        shape = _gap_shape(cube, gaps, date, window)
        if LEAST_SHAPE <= shape.sum() < common.height * common.width:
            shapes.append(shape)
    return shapes


def _gap_shape(cube: Cube, gaps: GapReader, date: int, window: Window) -> NDArray[np.bool_]:
    """(row, column) of a window that touches the raster: where something is to be filled."""
    common = window.intersect(cube.lattice.extent)
    assert common is not None
    shape = np.zeros(window.shape, bool)
    shape[common.within(window)] = gaps.read(date, common).wanted.any(axis=0)
    return shape


def _with_gaps(cube: Cube, scan: Scan) -> Iterator[tuple[int, Window]]:
    """Those of `_order` in whose chunks there are gaps."""
    for date, window in _order(cube):
        common = window.intersect(cube.lattice.extent)
        if common is not None and _chunks_with_gaps(scan.gap_counts[date], common):
            yield date, window


def _chunks_with_gaps(counts: NDArray[np.int64], window: Window) -> bool:
    rows = slice(window.row // CHUNK, (window.stop[0] - 1) // CHUNK + 1)
    columns = slice(window.column // CHUNK, (window.stop[1] - 1) // CHUNK + 1)
    return bool(counts[rows, columns].any())


def _transplanted(known: NDArray[np.bool_], shape: NDArray[np.bool_], left: float) -> NDArray[np.bool_]:
    """(band, row, column) of the window: known pixels under a gap shape; none where fewer than `left` a band stay."""
    hidden = known & shape
    enough_left = (known & ~hidden).sum() >= left * len(known)
    return hidden if enough_left else np.zeros_like(hidden)


def _extent(cube: Cube, window: Window) -> int:
    """Pixels of the window that lie in the raster."""
    common = window.intersect(cube.lattice.extent)
    assert common is not None
    return common.height * common.width
