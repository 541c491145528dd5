"""Losses that a receiver filled with anything: stretches of lines, and blocks, of noise; and lines it repeated.

Noise of the whole range is white, and much rougher than what lies beside it. Nature is neither within a line's width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geodiff.faults.measures import LINE, Runs, best_interval, depth, grain, roughness, runs_of, share
from geodiff.lattice import repeated

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.faults.measures import Frame, Plane

__all__ = ["noisy_blocks", "noisy_lines", "repeated_lines"]

CELL = 8
"""Blocks of compressed frames lie on a grid of this many pixels, from the frame's corner."""
WHITE = 0.6
"""Noise has a von Neumann ratio (mean squared step over twice the variance) of 1, scenes well below this."""
WIDE = 0.22
"""Noise of the whole range has a standard deviation of 0.29 of it."""
UNLIKE = 0.2
"""Were a repeated stretch as those around, this share of the width of the frame would differ from the line above."""
APART = 0.35
"""With this share less is asked of how half a line and more changes on its way; smooth skies repeat flat lines."""


def noisy_lines(frame: Frame, known: Plane) -> Plane:
    """Stretches of rows where steps are large and white, between rows where they are not."""
    rough = _rough(frame, known)
    gain, start, stop = best_interval(np.where(rough, 1.0, -1.0))
    length = stop - start
    width = frame.shape[1]
    long = length >= max(LINE, width // 16)
    placed = (start <= 2) | (stop >= width - 2) | (3 * length >= width)
    runs = Runs(np.arange(len(frame)), start, stop).where(long & placed & (gain >= 0.3 * length))
    wide = np.sqrt(np.maximum(share(frame**2, runs) - share(frame, runs) ** 2, 0)) >= WIDE * depth(frame, known)
    runs = runs.where(wide & (_whiteness(frame, known, runs) >= WHITE))
    lost = runs.painted(frame.shape)
    sure = np.array([_stands_out(rough, lost, *run) for run in zip(*runs, strict=True)], bool)
    return runs.where(sure).painted(frame.shape) & known


def _rough(frame: Frame, known: Plane) -> Plane:
    """Pixels with a step to the left or right that is large for the frame."""
    steps = np.zeros((frame.shape[0], frame.shape[1] + 1))
    steps[:, 1:-1] = np.where(known[:, 1:] & known[:, :-1], np.abs(np.diff(frame, axis=1)), 0.0)
    usual = float(np.median(np.percentile(steps, 90, axis=1)))
    threshold = max(usual, 0.08 * depth(frame, known), 4 * min(roughness(frame, known), 1e9) / 1.4826)
    return np.maximum(steps[:, 1:], steps[:, :-1]) > threshold


def _whiteness(frame: Frame, known: Plane, runs: Runs) -> Frame:
    """Von Neumann ratio along each run."""
    step = np.zeros(frame.shape)
    step[:, 1:] = np.where(known[:, 1:] & known[:, :-1], np.diff(frame, axis=1), 0.0) ** 2
    variance = share(frame**2, runs) - share(frame, runs) ** 2
    return np.asarray(share(step, runs) / np.maximum(2 * variance, 1e-9))


def _stands_out(rough: Plane, lost: Plane, row: int, start: int, stop: int) -> bool:
    """Whether the nearest rows above and below that are not lost too are far less rough there."""
    here = rough[row, start:stop].mean()
    for step in (-1, 1):
        beside = row + step
        while 0 <= beside < len(rough) and lost[beside, start:stop].mean() > 0.25 and abs(beside - row) < 32:
            beside += step
        if not 0 <= beside < len(rough):
            continue
        sound = ~lost[beside, start:stop]
        if not sound.any() or rough[beside, start:stop][sound].mean() > 0.5 * here:
            return False
    return True


def noisy_blocks(frame: Frame, known: Plane) -> Plane:
    """Cells of the frame's grid of blocks that hold noise, where the cells around do not."""
    from scipy import ndimage

    rows, columns = (n // CELL for n in frame.shape)
    if min(rows, columns) < 3:
        return np.zeros(frame.shape, bool)
    rough = _cell_mean(_rough(frame, known) & _rough(frame.T, known.T).T, rows, columns)
    white = np.minimum(_cell_whiteness(frame, rows, columns), _cell_whiteness(frame.T, columns, rows).T)
    wide = _cells(frame, rows, columns).std(axis=(2, 3)) >= WIDE * depth(frame, known)
    noisy = wide & (rough >= 0.55) & (white >= WHITE) & (_cell_mean(known, rows, columns) == 1)
    labels, count = ndimage.label(noisy, np.ones((3, 3), bool))
    lost = np.zeros((rows, columns), bool)
    for number in range(1, count + 1):
        part = labels == number
        around = ndimage.binary_dilation(part, np.ones((3, 3), bool)) & ~part
        if around.any() and rough[around].mean() <= 0.5 * rough[part].mean():
            lost |= part
    full = np.zeros(frame.shape, bool)
    full[: rows * CELL, : columns * CELL] = repeated(lost, CELL)
    return full & known


def _cells(plane: NDArray[np.float64], rows: int, columns: int) -> Frame:
    """(cell row, cell column, row, column)."""
    inside = plane[: rows * CELL, : columns * CELL]
    return inside.reshape(rows, CELL, columns, CELL).transpose(0, 2, 1, 3)


def _cell_mean(plane: Plane, rows: int, columns: int) -> Frame:
    return np.asarray(_cells(plane.astype(np.float64), rows, columns).mean(axis=(2, 3)))


def _cell_whiteness(frame: Frame, rows: int, columns: int) -> Frame:
    cells = _cells(frame, rows, columns)
    steps = (np.diff(cells, axis=3) ** 2).mean(axis=(2, 3))
    return np.asarray(steps / np.maximum(2 * cells.var(axis=(2, 3)), 1e-9))


def repeated_lines(frame: Frame, known: Plane) -> Plane:
    """Stretches of rows that say again what the row before says, where neither chance nor compression does.

    A frame where rows often repeat was enlarged, and has none.
    """
    same = np.zeros(frame.shape, bool)
    same[1:] = (frame[1:] == frame[:-1]) & known[1:] & known[:-1]
    width = frame.shape[1]
    runs = runs_of(same, max(LINE, width // 8))
    changed = np.zeros(frame.shape, bool)
    changed[:, 1:] = np.abs(np.diff(frame, axis=1)) > max(0.7 * roughness(frame, known), 1.5 * grain(frame, known))
    placed = (runs.start == 0) | (runs.stop == width) | (3 * runs.length >= width)
    unlike = runs.length * (1 - share(_around(same), runs))
    changes = share(changed, runs)
    lively = (changes >= 0.25) & (unlike >= max(UNLIKE * width, LINE))
    apart = (changes >= 0.1) & (unlike >= APART * width) & (2 * runs.length >= width)
    found = runs.where(placed & (lively | apart))
    if 8 * np.unique(found.row).size > len(frame):
        return np.zeros(frame.shape, bool)
    return found.painted(frame.shape)


def _around(same: Plane) -> Frame:
    """How often pixels equal the one above, in the rows around; but for stretches that are repeated whole."""
    from scipy import ndimage

    return np.asarray(ndimage.uniform_filter1d(same.astype(np.float64), 17, axis=0, mode="nearest"))
