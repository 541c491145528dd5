"""Find what the sensor, the link or the file broke: lost lines and blocks, stripes, reseau marks, hot pixels.

Detection looks at whole frames, band by band, and prefers to miss a fault to calling a sound pixel one: what it flags
is thrown away. A detector knows nothing of the scene, so each asks for a shape that nature does not make: exact
rectangles of one value, offsets that hold over a whole line, a grid of marks, single pixels that stand alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from geodiff.errors import GridError, JobError
from geodiff.gaps import Reason, because
from geodiff.lattice import Window, blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DETECTORS", "check_names", "detect", "detect_window"]

TILE = 1024
"""Frames up to this side are judged whole; larger ones in tiles of it, which lie where the frame puts them."""
MARGIN = 64
"""Pixels around a tile that are looked at with it."""

ReadKnown = Callable[[Window], "tuple[NDArray[Any], NDArray[np.bool_]]"]
"""Gives the values of a window inside the frame, and where they are known, both (band, row, column)."""

_CLOUDS = (
    "--detect clouds needs a named detector, trained for the sensor (such as s2cloudless with its 10 bands), "
    "and none is installed; give the product's own quality band with --qa, or a cloud mask with --mask"
)


def check_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names, once each, in the order of detection; raises JobError for one that cannot be served."""
    wanted = set(names)
    if "clouds" in wanted:
        raise JobError(_CLOUDS)
    strange = sorted(wanted - set(DETECTORS))
    if strange:
        raise JobError(f"--detect knows no {', '.join(strange)}; choose from {', '.join(DETECTORS)}")
    return tuple(name for name in DETECTORS if name in wanted)


def detect(
    values: NDArray[Any], names: Iterable[str] = ("dropouts",), known: NDArray[np.bool_] | None = None
) -> NDArray[np.uint16]:
    """Reason bits of the faults in whole frames.

    Parameters
    ----------
    values : (band, row, column), whole frames, stored or physical; stored integers show lost lines best.
    names : detectors of `DETECTORS`.
    known : same shape; pixels that are already missing are neither judged nor compared with. None: all known.

    Returns
    -------
    uint16, same shape: DROPOUT, STRIPE, RESEAU, HOT_PIXEL; 0 at sound pixels. What an earlier detector found is
    missing for the later ones.

    Raises
    ------
    JobError
        For unknown names, and for `clouds`.
    """
    chosen = check_names(names)
    if values.ndim != 3 or (known is not None and known.shape != values.shape):
        raise GridError(f"faults are sought in (band, row, column), got {values.shape}; give whole frames")
    finite = np.isfinite(values)
    known = finite if known is None else known & finite
    reason = np.zeros(values.shape, np.uint16)
    for band in range(values.shape[0]):
        frame = np.where(known[band], values[band], 0).astype(np.float64)
        for name in chosen:
            find, bit = DETECTORS[name]
            reason[band] |= because(find(frame, known[band] & (reason[band] == 0)), bit)
    return reason


def detect_window(
    read: ReadKnown, shape: tuple[int, int], window: Window, names: Iterable[str] = ("dropouts",)
) -> NDArray[np.uint16]:
    """Reason bits of the faults in one window of a frame of any size; the same whatever the window.

    What is judged are the frame's own tiles, with their margin, never the window: a line that is dead in one window
    is dead in the next.

    Parameters
    ----------
    read : gives (values, known) of a window, each (band, row, column).
    shape : rows and columns of the frame.
    window : the part that is asked for, inside the frame.
    names : detectors of `DETECTORS`.

    Returns
    -------
    uint16 (band, row, column) of the window.
    """
    extent = Window(0, 0, *shape)
    parts: list[tuple[Window, NDArray[np.uint16]]] = []
    for tile in blocks(shape, TILE):
        common = tile.intersect(window)
        outer = tile.expand(MARGIN).intersect(extent)
        if common is not None and outer is not None:
            values, known = read(outer)
            parts.append((common, detect(values, names, known)[(slice(None), *common.within(outer))]))
    reason = np.zeros((parts[0][1].shape[0], *window.shape), np.uint16)
    for common, found in parts:
        reason[(slice(None), *common.within(window))] = found
    return reason


# Shared measures


def _roughness(frame: NDArray[np.float64], known: NDArray[np.bool_]) -> float:
    """Typical difference between neighbours in a row; at least a count, or a millionth of the range of finer values."""
    both = known[:, 1:] & known[:, :-1]
    steps = np.abs(np.diff(frame, axis=1))[both]
    if steps.size == 0:
        return np.inf
    seen = frame[known]
    whole = bool((seen[:4096] == np.rint(seen[:4096])).all())
    floor = 1.0 if whole else 1e-6 * float(np.ptp(seen))
    return max(1.4826 * float(np.median(steps)), floor)


RIM = 8
"""Outermost lines where nothing but whole lines and blocks is judged: the edge of a detector rings."""

# Dropouts: exact rectangles of one value that break off sharply

LINE = 24
"""Shortest lost stretch of a line, in pixels; it reaches an end of the line, or is a third of it."""
BLOCK = 8
"""Smallest side of a lost block, in pixels."""
SHARP = 3.0
"""The border of what was lost steps by this many typical differences."""


class _Box(NamedTuple):
    """A rectangle of one exact value; rows and columns are half open."""

    top: int
    bottom: int
    left: int
    right: int

    def sides(self, shape: tuple[int, int]) -> dict[str, tuple[slice, slice]]:
        """The lines of pixels just outside, but for those beyond the frame."""
        rows, columns = slice(self.top, self.bottom), slice(self.left, self.right)
        around = {
            "above": (slice(self.top - 1, self.top), columns),
            "below": (slice(self.bottom, self.bottom + 1), columns),
            "left": (rows, slice(self.left - 1, self.left)),
            "right": (rows, slice(self.right, self.right + 1)),
        }
        beyond = {"above": self.top == 0, "below": self.bottom == shape[0], "left": self.left == 0}
        beyond["right"] = self.right == shape[1]
        return {side: where for side, where in around.items() if not beyond[side]}


def _dropouts(frame: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Lost lines, parts of lines and blocks: rectangles of one exact value between observed rows or columns."""
    lost = np.zeros(frame.shape, bool)
    threshold = SHARP * _roughness(frame, known)
    boxes = list(_flat_rectangles(frame, known))
    for _ in range(3):  # what borders on a loss may be part of it: a lost line that crosses a lost block
        broken = [_breaks_off(frame, known, lost, box, threshold) for box in boxes]
        for box in (box for box, gone in zip(boxes, broken, strict=True) if gone):
            lost[box.top : box.bottom, box.left : box.right] = True
        boxes = [box for box, gone in zip(boxes, broken, strict=True) if not gone]
        if not any(broken):
            break
    return lost


def _flat_rectangles(frame: NDArray[np.float64], known: NDArray[np.bool_]) -> Iterator[_Box]:
    """Stacks of equal runs of one value that are long, or high, enough."""
    height, width = frame.shape
    begins = np.ones(frame.shape, bool)
    begins[:, 1:] = (frame[:, 1:] != frame[:, :-1]) | (known[:, 1:] != known[:, :-1])
    start = np.flatnonzero(begins)
    length = np.diff(start, append=height * width)
    keep = (length >= BLOCK) & known.ravel()[start]
    row, column = np.divmod(start[keep], width)
    length, value = length[keep], frame.ravel()[start[keep]]
    order = np.lexsort((row, length, column, value))
    keys = np.stack([value, column, length])[:, order]
    row = row[order]
    fresh = np.ones(row.size, bool)
    fresh[1:] = (keys[:, 1:] != keys[:, :-1]).any(axis=0) | (np.diff(row) != 1)
    first = np.flatnonzero(fresh)
    rows = np.diff(first, append=row.size)
    wide, left = keys[2, first], keys[1, first]
    inner = (row[first] >= RIM) & (row[first] + rows <= height - RIM)
    part = ((left == 0) | (left + wide == width) | (wide >= width // 3)) & inner & (wide >= max(LINE, width // 16))
    large = part | (wide == width) | (rows >= BLOCK)
    for at, high in zip(first[large].tolist(), rows[large].tolist(), strict=True):
        begin, top = int(keys[1, at]), int(row[at])
        yield _Box(top, top + high, begin, begin + int(keys[2, at]))


def _breaks_off(
    frame: NDArray[np.float64],
    known: NDArray[np.bool_],
    lost: NDArray[np.bool_],
    box: _Box,
    threshold: float,
) -> bool:
    """Whether a rectangle of one value is cut out of its surroundings on two sides at least, and nowhere joins them.

    A side is cut out when it steps sharply along 90 % of it; along half of it when the rectangle is a long line
    between rows that are anything but flat; along a quarter when it is a whole line, since no scene holds one value
    from end to end; or when it borders on what is lost. Border pixels that are missing, or of the same value, say
    nothing.
    """
    sides = box.sides(frame.shape)
    share = _least_share(frame, box, sides)
    cut, around = set(), [np.zeros(0)]
    for side, where in sides.items():
        steps = _steps(frame, known, where, frame[box.top, box.left])
        around.append(steps)
        telling = 2 * steps.size >= lost[where].size and (steps >= threshold).mean() >= share
        if telling or lost[where].mean() >= 0.9:
            cut.add(side)
    every = np.concatenate(around)
    return _cut_out(frame.shape, box, cut) and (every.size == 0 or bool((every >= threshold).mean() >= share))


def _least_share(frame: NDArray[np.float64], box: _Box, sides: dict[str, tuple[slice, slice]]) -> float:
    wide = box.right - box.left
    if wide == frame.shape[1]:
        return 0.25
    long_line = 3 * wide >= frame.shape[1] and all(_lively(frame[sides[s]]) for s in ("above", "below") if s in sides)
    return 0.5 if long_line else 0.9


def _cut_out(shape: tuple[int, int], box: _Box, cut: set[str]) -> bool:
    """Whether the sides that are cut make a lost line, or a lost block; a block may lie in a corner of the frame."""
    if {"above", "below"} <= cut:
        return True
    high, wide = box.bottom - box.top, box.right - box.left
    if min(high, wide) < BLOCK or 2 * high > shape[0] or 2 * wide > shape[1]:
        return False
    at_end = box.top == 0 or box.bottom == shape[0]
    return ({"left", "right"} <= cut and wide <= 4 * high) or (
        at_end and bool(cut & {"above", "below"}) and len(cut) > 1
    )


def _steps(
    frame: NDArray[np.float64], known: NDArray[np.bool_], side: tuple[slice, slice], value: float
) -> NDArray[np.float64]:
    """Differences to `value` along a side, without those that say nothing."""
    steps = np.abs(frame[side] - value)[known[side]]
    return steps[steps > 0]


def _lively(line: NDArray[np.float64]) -> bool:
    """Whether most pixels of a line differ from the one before."""
    return line.size > 1 and bool((np.diff(line.ravel()) != 0).mean() > 0.5)


# Stripes: a line that is offset against both neighbours, alike along all of it

SEGMENTS = 8
"""Parts of a line that must tell the same offset."""
OFFSET = 6.0
"""An offset is beyond this many times what rows usually differ by."""


def _stripes(frame: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Rows and columns that stand above, or below, both their neighbours by one offset over the whole line."""
    rows = _offset_rows(frame, known)
    columns = _offset_rows(frame.T, known.T)
    return (rows[:, None] | columns[None, :]) & known


def _offset_rows(frame: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(row,) bool: offset against the row before and the row after, in every segment, far beyond what rows do here."""
    striped = np.zeros(frame.shape[0], bool)
    if frame.shape[0] < 4 * RIM or frame.shape[1] < 4 * SEGMENTS:
        return striped
    steps = _segment_steps(frame, known)
    before, after = steps[:-1], -steps[1:]
    offset = np.where(before * after > 0, np.sign(before) * np.minimum(np.abs(before), np.abs(after)), 0.0)
    whole = np.median(offset, axis=1)
    alike = (offset * np.sign(whole)[:, None] >= 0.5 * np.abs(whole)[:, None]).sum(axis=1) >= SEGMENTS - 1
    usual = 1.4826 * np.median(np.abs(np.median(steps, axis=1)))
    floor = 0.25 * _roughness(frame, known)
    striped[1:-1] = alike & (np.abs(whole) > max(OFFSET * usual, floor))
    striped[:RIM] = striped[-RIM:] = False
    return striped


def _segment_steps(frame: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(row - 1, segment): median step from each row to the next within each segment; 0 where too little is known."""
    steps = np.diff(frame, axis=0)
    both = known[1:] & known[:-1]
    parts = np.array_split(np.arange(frame.shape[1]), SEGMENTS)
    medians = np.zeros((steps.shape[0], SEGMENTS))
    for index, part in enumerate(parts):
        enough = both[:, part].sum(axis=1) >= part.size // 2
        here = np.where(both[enough][:, part], steps[enough][:, part], np.nan)
        if enough.any():
            medians[enough, index] = np.nanmedian(here, axis=1)
    return medians


# Hot pixels: single pixels that stand alone

ALONE = 12.0
"""A hot pixel is beyond its neighbours by this many typical differences, and by more than they differ themselves."""


def _hot_pixels(frame: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels beyond the extremes of their 24 neighbours by far more than those differ among themselves."""
    low, high, count = _neighbour_range(frame, known)
    spread = high - low
    excess = np.maximum(frame - high, low - frame)
    threshold = np.maximum(spread, ALONE * _roughness(frame, known))
    return np.asarray(known & (count >= 12) & (excess > threshold))


def _neighbour_range(
    frame: NDArray[np.float64], known: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Lowest and highest known value among the 24 neighbours of each pixel, and how many of them are known."""
    low, high = (np.pad(np.where(known, frame, bound), 2, constant_values=bound) for bound in (np.inf, -np.inf))
    there = np.pad(known, 2)
    least, most = np.full(frame.shape, np.inf), np.full(frame.shape, -np.inf)
    count = np.zeros(frame.shape, np.int64)
    for row in range(5):
        for column in range(5):
            if (row, column) == (2, 2):
                continue
            at = slice(row, row + frame.shape[0]), slice(column, column + frame.shape[1])
            np.minimum(least, low[at], out=least)
            np.maximum(most, high[at], out=most)
            count += there[at]
    return least, most, count


# Reseau marks: small dark spots on a grid

MARK = 7
"""Largest width of a mark, in pixels."""
DARK = 3.0
"""A mark is darker than the darkest pixel of the ring around it by this many typical differences."""
FEWEST = 12
"""Fewest marks that make a grid."""


def _reseau(frame: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Small dark spots that have neighbours of their kind at one common distance along both axes of a grid.

    The spots are taken by depth, more and more of them, until a grid shows: the scene has dark spots of its own. What
    is flagged is a pixel wider than the spot, because the mark's rim is soft.
    """
    from scipy import ndimage

    depth = _darker_than_ring(frame, known)
    labels, count = ndimage.label(depth > DARK * _roughness(frame, known), np.ones((3, 3), bool))
    if count < FEWEST:
        return np.zeros(frame.shape, bool)
    numbers = np.arange(1, count + 1)
    centres = np.array(ndimage.center_of_mass(depth, labels, numbers))
    deepest = np.argsort(-ndimage.maximum(depth, labels, numbers), kind="stable")
    best = deepest[:0]
    for taken in (deepest[: 64 << step] for step in range(6)):
        found = taken[_on_grid(centres[taken], frame.shape)]
        best = max(best, found, key=len)
    marks = np.zeros(count + 1, bool)
    marks[best + 1] = True
    return np.asarray(ndimage.binary_dilation(marks[labels], np.ones((3, 3), bool)) & known)


def _darker_than_ring(frame: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How much darker a known pixel is than the darkest of the square ring around it, a mark's width away; 0 if not."""
    from scipy import ndimage

    away = MARK // 2 + 1
    side = 2 * away + 1
    shown = np.pad(np.where(known, frame, np.inf), away, constant_values=np.inf)
    ring = np.full(frame.shape, np.inf)
    for axis in (0, 1):
        line = np.moveaxis(ndimage.minimum_filter1d(shown, side, axis=1 - axis, mode="nearest"), axis, 0)
        target = np.moveaxis(ring, axis, 0)
        inner = line[:, away:-away]
        np.minimum(target, np.minimum(inner[: len(target)], inner[2 * away :]), out=target)
    depth = np.where(known & np.isfinite(ring), ring - frame, 0.0)
    return np.maximum(depth, 0.0)


def _on_grid(centres: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """(spot,) bool: spots with grid neighbours on both axes, if together they cover the frame as a grid would.

    A grid is believed when at least half of its nodes are there, and five times as many as spots strewn at random
    would give.
    """
    from scipy.spatial import cKDTree

    tree = cKDTree(centres)
    best = np.zeros(len(centres), bool)
    for spacing in _spacings(centres, tree):
        steps = [np.array(step, float) for step in ((spacing, 0), (-spacing, 0), (0, spacing), (0, -spacing))]
        reach = min(0.1 * spacing, 3.0)
        found = [tree.query(centres + step, distance_upper_bound=reach) for step in steps]
        near = np.array([np.isfinite(distance) for distance, _ in found])
        on_grid = (near[0] | near[1]) & (near[2] | near[3]) & (near.sum(axis=0) >= 3)
        chance = 1.0 - np.exp(-np.pi * reach**2 * len(centres) / (shape[0] * shape[1]))
        expected = len(centres) * (4 * chance**3 * (1 - chance) + chance**4)
        fewest = max(FEWEST, 5 * expected, 0.5 * shape[0] * shape[1] / spacing**2)
        if on_grid.sum() > max(fewest, best.sum()):
            best = _with_edges(on_grid, near, np.array([index for _, index in found]))
    return best


def _with_edges(on_grid: NDArray[np.bool_], near: NDArray[np.bool_], neighbour: NDArray[np.intp]) -> NDArray[np.bool_]:
    """A grid and the spots at its edges and corners, which have but two neighbours on it; (4, spot) arrays by side."""
    for _ in range(8):
        beside = np.append(on_grid, False)[neighbour] & near
        grown = on_grid | (beside.sum(axis=0) >= 2)
        if np.array_equal(grown, on_grid):
            break
        on_grid = grown
    return on_grid


def _spacings(centres: NDArray[np.float64], tree: Any) -> list[float]:
    """The commonest distances along the axes between spots, as candidates of the grid's spacing."""
    reach = 128.0
    pairs = tree.query_pairs(reach, output_type="ndarray") if len(centres) <= 4000 else np.zeros((0, 2), int)
    step = np.abs(centres[pairs[:, 0]] - centres[pairs[:, 1]])
    along, aside = step.max(axis=1), step.min(axis=1)
    straight = along[(aside < 0.06 * along) & (along > 2 * MARK)]
    counts, edges = np.histogram(straight, bins=np.arange(2 * MARK, reach + 2))
    order = [i for i in np.argsort(-counts, kind="stable")[:4] if counts[i] >= FEWEST // 2]
    return [float(np.mean(straight[np.abs(straight - edges[i] - 0.5) < 2])) for i in order]


DETECTORS: Mapping[str, tuple[Callable[..., NDArray[np.bool_]], Reason]] = {
    "dropouts": (_dropouts, Reason.DROPOUT),
    "stripes": (_stripes, Reason.STRIPE),
    "reseau": (_reseau, Reason.RESEAU),
    "hotpixels": (_hot_pixels, Reason.HOT_PIXEL),
}
"""What `--detect` finds, in the order of detection; a detector takes frame and known (row, column), gives faults."""
