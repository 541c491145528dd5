"""Losses that a receiver filled with one value: stretches of lines, and blocks with straight sides."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from geodiff.faults.measures import LINE, Runs, grain, roughness, runs_of, share

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from geodiff.faults.measures import Frame, Plane

__all__ = ["BLOCK", "SHARP", "cut_short", "flat_blocks", "flat_lines"]

BLOCK = 8
"""Smallest side of a lost block, in pixels."""
SHARP = 0.5
"""The border of what was lost steps by this many typical differences."""
UNITS = 5.0
"""And by more than this many of the steps that the numbers take: compressed skies are flat in blocks too."""
UNLIKE = 3.0
"""And by more than this many of the steps that flat areas of other values take: compressed scenes are made of such."""
PATCHWORK = 8
"""So many flat areas of other values tell what such areas usually do in the frame."""
CLEAR = 3.0
"""A step of this many typical differences is rare in the scene."""
LIVELY = 0.75
"""Rows that change at this share of their pixels have no neighbour that holds one value for a line's length."""
RIM = 8
"""Outermost lines, where parts of lines that pass from what is above to what is below are not judged: frames fade."""


def flat_lines(frame: Frame, known: Plane) -> Plane:
    """Stretches of rows of one exact value between rows of the scene.

    Judged is where the scene shows above and below. A whole line is lost when a quarter of it steps away clearly, or
    when what is above and below is anything but flat: no scene holds one value from end to end. A part reaches an end
    of the line or is a third of it, and steps away clearly along nine tenths, or sharply along most of it between
    rows that are anything but flat; between two lost lines it is what is left of a sky.
    """
    areas = _Areas.of(frame, known)
    least = areas.usual_step(np.nan)
    thin = _lines_up_to(BLOCK, frame, known, least)  # first: what they cut in two would look lost between them
    return thin | _lines_up_to(len(frame) // 4, frame, known & ~thin, least)


def _lines_up_to(thickest: int, frame: Frame, known: Plane, patch_step: float) -> Plane:
    height, width = frame.shape
    first, last = _extent(frame, known)
    above, below, thick = *_beyond(np.where(known, frame, np.nan), first, last), last - first + 1
    judged = np.isfinite(above) & np.isfinite(below) & (thick <= thickest)
    runs = _flat_runs(frame, known & judged, max(LINE, width // 16))
    if not runs.row.size:
        return np.zeros(frame.shape, bool)
    usual, unit = roughness(frame, known), grain(frame, known)
    least = np.where(thick < BLOCK, 0.0, patch_step)  # no block of compression is thinner
    nearest = np.minimum(np.abs(above - frame), np.abs(below - frame))
    cut = share(nearest >= np.maximum(max(UNITS * unit, SHARP * usual), least), runs)
    clear = share(nearest >= np.maximum(CLEAR * usual, least), runs)
    lively = np.minimum(share(_changes(above), runs), share(_changes(below), runs))
    start, stop = _reach(frame, known, runs)
    seen = known.sum(axis=1)[runs.row]
    whole = (stop - start >= seen) & (2 * runs.length >= seen)
    placed = (start == 0) | (stop == width) | (3 * runs.length >= width)
    placed &= 2 * runs.length >= stop - start  # a sky below a lost block is the sky's
    inner = (runs.row >= RIM) & (runs.row < height - RIM)
    placed &= inner | (share((above - frame) * (below - frame) > 0, runs) >= 0.7)
    part = (clear >= 0.9) | ((np.maximum(cut - 0.1, clear) >= 0.5) & (lively >= 0.5))
    part |= (lively >= LIVELY) & (cut >= 0.2)
    lines = runs.where(whole & ((clear >= 0.25) | (lively >= 0.3))).painted(frame.shape)
    between = np.logical_and(*(beside == 1 for beside in _beyond(lines.astype(np.float64), first, last)))
    return lines | runs.where(placed & part & (share(between, runs) < 0.5)).painted(frame.shape)


def _flat_runs(frame: Frame, known: Plane, shortest: int) -> Runs:
    """Stretches of rows of one known value."""
    alike = (frame[:, 1:] == frame[:, :-1]) & known[:, 1:] & known[:, :-1]
    found = runs_of(alike, shortest - 1)
    return Runs(found.row, found.start, found.stop + 1)


def _reach(frame: Frame, known: Plane, runs: Runs) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where the value of each run begins and ends in its row, judged or not."""
    every = _flat_runs(frame, known, 2)
    width = frame.shape[1] + 1
    which = np.searchsorted(every.row * width + every.start, runs.row * width + runs.start, side="right") - 1
    return every.start[which], every.stop[which]


def _extent(frame: Frame, known: Plane) -> tuple[NDArray[Any], NDArray[Any]]:
    """For each pixel, the first and the last row up to which its column holds its value."""
    seen = np.where(known, frame, np.nan)
    rows = np.arange(len(frame))[:, None]
    fresh = np.ones(frame.shape, bool)
    fresh[1:] = ~(seen[1:] == seen[:-1])
    first = np.maximum.accumulate(np.where(fresh, rows, 0), axis=0)
    ends = np.ones(frame.shape, bool)
    ends[:-1] = fresh[1:]
    return first, np.minimum.accumulate(np.where(ends, rows, len(frame) - 1)[::-1], axis=0)[::-1]


def _beyond(plane: Frame, first: NDArray[Any], last: NDArray[Any]) -> tuple[Frame, Frame]:
    """For each pixel, what a plane holds above the first of these rows and below the last; NaN beyond the frame."""
    padded, columns = np.pad(plane, [(1, 1), (0, 0)], constant_values=np.nan), np.arange(plane.shape[1])[None, :]
    return padded[first, columns], padded[last + 2, columns]


def _changes(side: Frame) -> Plane:
    """Where a pixel beside differs from the one before it; both are known."""
    changed = np.zeros(side.shape, bool)
    changed[:, 1:] = np.abs(np.diff(side, axis=1)) > 0
    return changed


def cut_short(frame: Frame, known: Plane) -> Plane:
    """Many whole lines of a frame that never came, at one end or amid: of one exact value, after lines of the scene.

    A receiver that gets parts of a frame fills up the rest, from the middle of a line on where the link broke there.
    A saturated sky, a shadow or space has a rim as ragged as the scene, so lines beside it hold some of its value; a
    border is thin, or lies at the other end too.
    """
    height = len(frame)
    empty = (frame == frame[:, :1]).all(axis=1) & known.all(axis=1)
    breaks = np.flatnonzero(np.diff(np.where(empty, frame[:, 0], np.nan))) + 1  # NaN differs from NaN
    lost, ends = np.zeros(frame.shape, bool), []
    for start, stop in pairwise([0, *breaks, height]):
        if not empty[start]:
            continue
        if 0 < start < stop < height:
            if height // 4 < stop - start <= 3 * height // 4:
                lost |= _never_came(frame, known, start, int(stop))
        elif height // 32 + BLOCK <= stop - start <= height - BLOCK:
            far = frame[0] if start else frame[-1]
            ends.append(_never_came(frame, known, start, int(stop)) & ((far == frame[start, 0]).mean() <= 0.5))
    told = [end for end in ends if end.any()]
    return (lost | told[0] if len(told) == 1 else lost) & known


def _never_came(frame: Frame, known: Plane, start: int, stop: int) -> Plane:
    """Lines of one value, and the part of the lines beside them that went with them; none where the scene fades out."""
    value, outer = frame[start, 0], np.s_[start:stop]
    rest, seen = np.delete(frame, outer, axis=0), np.delete(known, outer, axis=0)
    threshold = max(UNITS * grain(rest, seen), SHARP * roughness(rest, seen))
    lost = np.zeros(frame.shape, bool)
    lost[outer] = True
    for side, before in ((np.s_[:start], True), (np.s_[stop:], False)):
        turn = np.s_[:, :] if before else np.s_[::-1, ::-1]  # so that the stream runs towards the loss
        rows, shown = frame[side][turn], known[side][turn]
        if not len(rows):
            continue
        cut, column = _broken_off(rows, value)
        whole = np.arange(rows.shape[1]) < column
        line, told = (np.where(whole, a[-1], a[-1 - cut]) for a in (rows, shown))
        if not _breaks_off(line, told, value, threshold):
            return np.zeros(frame.shape, bool)
        lost[side][turn][len(rows) - cut :, column:] = True
    return lost


def _broken_off(rows: Frame, value: float) -> tuple[int, int]:
    """How many of the last lines hold the value from one column on, and which: one line, or those of a row of blocks.

    No lines, and the width, where the last one does not end so or too many do, as along a border.
    """
    width = rows.shape[1]
    tails = np.argmin((rows[-2 * BLOCK - 1 :, ::-1] == value), axis=1)[::-1]  # no line of a scene is empty
    cut = int(np.argmin(tails == tails[0])) if not (tails == tails[0]).all() else len(tails)
    if tails[0] < BLOCK or cut > 2 * BLOCK or cut >= len(rows):
        return 0, width
    return cut, width - int(tails[0])


def _breaks_off(line: Frame, shown: Plane, value: float, threshold: float) -> bool:
    """Whether a line is the scene's, all of it, and steps sharply to the value beside it."""
    step, changes = np.abs(line - value)[shown], np.diff(line)[shown[1:] & shown[:-1]] != 0
    if 2 * step.size < line.size or (step > 0).mean() < 0.95 or not changes.size:
        return False
    sharp, lively = float((step >= threshold).mean()), float(changes.mean())
    return (sharp >= 0.9 and lively >= 0.05) or (sharp >= 0.6 and lively >= 0.3)


def flat_blocks(frame: Frame, known: Plane) -> Plane:
    """Areas of one exact value made of squares of `BLOCK` pixels, with clean straight sides that step away sharply.

    A shadow or a saturated sky has a ragged rim of the same value, and soft edges; a border of the frame lies along
    a whole side of it.
    """
    lost = np.zeros(frame.shape, bool)
    areas = _Areas.of(frame, known)
    least = max(UNITS * grain(frame, known), SHARP * roughness(frame, known))
    for number, (around, value) in enumerate(zip(areas.around, areas.value, strict=True), start=1):
        part = areas.labels == number
        threshold = max(least, areas.usual_step(value))
        if around.size and _clean(around, threshold, part) and _straight(part) and not _frames(part):
            lost |= part
    return lost


class _Areas(NamedTuple):
    """Areas of one value that squares of `BLOCK` pixels cover, and how each steps to what is around it."""

    labels: NDArray[np.int32]
    around: list[Frame]
    """For each, the steps along its border; NaN to what is missing."""
    value: Frame
    step: Frame
    """For each, the median of its steps; NaN where none is known."""

    @classmethod
    def of(cls, frame: Frame, known: Plane) -> _Areas:
        """Those of a frame."""
        labels, count = _squares(frame, known)
        around = _border_steps(frame, known, labels) if count else []
        told = [steps[steps > 0] for steps in around]
        value = np.zeros(count + 1)
        value[labels.ravel()] = frame.ravel()
        return cls(labels, around, value[1:], np.array([np.median(s) if s.size else np.nan for s in told]))

    def usual_step(self, value: float) -> float:
        """`UNLIKE` times what areas of any other value (NaN: of all) step by; 0 where there are too few to tell."""
        others = self.step[(self.value != value) & np.isfinite(self.step)]
        return UNLIKE * float(np.median(others)) if others.size >= PATCHWORK else 0.0


def _clean(around: Frame, threshold: float, part: Plane) -> bool:
    """Whether most of a border is known and steps sharply; NaN stands for what is not known.

    Of more than one block of compression less is asked: a third, and a typical step that is sharp.
    """
    seen = around[np.isfinite(around)]
    told = seen[seen > 0]
    if 2 * seen.size < around.size or told.size < 0.88 * seen.size:
        return False
    sharp = float((told >= threshold).mean())
    return sharp >= 0.6 or (sharp >= 0.35 and float(told.mean()) >= threshold and part.sum() > 2 * BLOCK**2)


def _squares(frame: Frame, known: Plane) -> tuple[NDArray[np.int32], int]:
    """Numbered areas that squares of one known value cover; areas of different value are apart."""
    from scipy import ndimage

    def squares(find: Callable[..., Any], plane: NDArray[Any]) -> NDArray[Any]:
        """Extremes over the square that begins at each pixel."""
        return np.asarray(find(plane, BLOCK, origin=-(BLOCK // 2))[: 1 - BLOCK, : 1 - BLOCK])

    flat = squares(ndimage.maximum_filter, frame) == squares(ndimage.minimum_filter, frame)
    flat &= squares(ndimage.minimum_filter, known)
    if not flat.any():
        return np.zeros(frame.shape, np.int32), 0
    covered = np.zeros(frame.shape, bool)
    for shift in range(BLOCK):
        covered[shift : shift + len(flat), : flat.shape[1]] |= flat
    lower = covered.copy()
    for shift in range(1, BLOCK):
        covered[:, shift:] |= lower[:, :-shift]
    labels, total = np.zeros(frame.shape, np.int32), 0
    for value in np.unique(frame[covered]):
        here, count = ndimage.label(covered & (frame == value))
        labels[here > 0] = here[here > 0] + total
        total += count
    return labels, total


def _border_steps(frame: Frame, known: Plane, labels: NDArray[np.int32]) -> list[Frame]:
    """For each area, the steps from its value to the pixels around it; NaN to what is missing."""
    owners, steps = [], []
    outer = np.zeros(int(labels.max()) + 1, bool)
    outer[np.concatenate([labels[0], labels[-1]])] = True
    for number in np.unique(np.concatenate([labels[:, 0], labels[:, -1]])):  # packets reach the end of a row
        outer[number] |= not _of_rows_of_blocks(labels == number)
    for axis in (0, 1):
        one, other = (np.moveaxis(labels, axis, 0)[part] for part in (np.s_[:-1], np.s_[1:]))
        both = np.moveaxis(known, axis, 0)
        step = np.where(both[:-1] & both[1:], np.abs(np.diff(np.moveaxis(frame, axis, 0), axis=0)), np.nan)
        flat = (one > 0) & (other > 0)
        for owner in (one, other):
            border = (one != other) & (owner > 0)
            told = np.where(flat & outer[owner], np.nan, step)  # such as a border beside a saturated sky
            owners.append(owner[border])
            steps.append(told[border])
    owner, step = np.concatenate(owners), np.concatenate(steps)
    order = np.argsort(owner, kind="stable")
    counts = np.bincount(owner, minlength=int(labels.max()) + 1)[1:]
    return np.split(step[order], np.cumsum(counts)[:-1])


def _straight(part: Plane) -> bool:
    """Whether an area has few corners for the length of its outline."""
    padded = np.pad(part, 1).astype(np.int8)
    square = padded[1:, 1:] + padded[:-1, 1:] + padded[1:, :-1] + padded[:-1, :-1]
    corners = int((square % 2 == 1).sum())
    outline = int(np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum())
    return corners <= 4 + outline / 24


def _frames(part: Plane) -> bool:
    """Whether an area lies along much of one side of the frame, and is not made of whole rows of blocks there."""
    if max(float(edge.mean()) for edge in (part[:, 0], part[:, -1])) > 0.3:
        return True
    along = max(float(part[0].mean()), float(part[-1].mean()))
    return along > 0.3 and not (along < 1 and _of_rows_of_blocks(part))


def _of_rows_of_blocks(part: Plane) -> bool:
    """Whether an area begins and ends on the grid of blocks, as packets do: at most 4 rows of 16 pixels."""
    rows, columns = (np.flatnonzero(part.any(axis=1 - axis)) for axis in (0, 1))
    ends = [rows[0], rows[-1] + 1, columns[0], columns[-1] + 1]
    shape = [0, len(part), 0, part.shape[1]]
    fits = all(int(end) % BLOCK == 0 or int(end) in shape for end in ends)
    return fits and rows.size <= 8 * BLOCK
