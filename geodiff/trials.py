"""Trials: patches whose known pixels were hidden, from which fillers learn and on which they are judged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.context import context, seen_dates
from geodiff.fillers import Filler, Trial
from geodiff.fillers.calibration import NEAR, around_in_time
from geodiff.fillers.lost import as_lost
from geodiff.hidden import Hidden, hide
from geodiff.lattice import Lattice, Window
from geodiff.patches import Cells, cut_patch, read_ground
from geodiff.pyramid import CellSums, fill_cells

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.encoding import Normalisation
    from geodiff.scan import GapReader, Scan
    from geodiff.scene import Cube

__all__ = ["cells_of", "draw_trials"]


def draw_trials(cube: Cube, scan: Scan, gaps: GapReader, filler: Filler) -> list[Trial]:
    """Patches of the scene with known pixels hidden; empty where too few can be spared."""
    return _trials(cube, scan, gaps, filler, hide(cube, scan, gaps, filler))


def cells_of(
    sums: CellSums,
    normalisations: tuple[Normalisation, ...],
    dates: Iterable[int] | None = None,
    *,
    around: bool = False,
) -> Cells:
    """The normalised low-resolution fill of all or some dates; a date without data gets the band's centre.

    `around` tells that the raster spans all longitudes.
    """
    centre = np.array([n.centre for n in normalisations])
    scale = np.array([n.scale for n in normalisations])
    filled = fill_cells(sums, centre, dates, around=around)
    return Cells((filled - centre[:, None, None]) / scale[:, None, None], sums.cell)


def _trials(cube: Cube, scan: Scan, gaps: GapReader, filler: Filler, hidden: list[Hidden]) -> list[Trial]:
    """Patches as if the hidden pixels had never been seen, the low-resolution fill included."""
    if not hidden:
        return []
    sums, extent = scan.cells.copy(), cube.lattice.extent
    for spot in hidden:
        if not spot.whole:
            _take_out(cube, scan, sums, spot, extent)
    dates = {spot.date for spot in hidden}
    cells = cells_of(sums, scan.normalisations, dates, around=cube.lattice.periodic)
    return [_trial(cube, scan, gaps, filler, cells, spot) for spot in hidden]


def _take_out(cube: Cube, scan: Scan, sums: CellSums, spot: Hidden, extent: Window) -> None:
    common = spot.window.intersect(extent)
    assert common is not None
    ground = _ground(cube, scan, None, [common], 0, [spot.date])
    values = ground.values[0].astype(np.float64)
    for band, recipe in enumerate(scan.normalisations):
        values[band] = values[band] * recipe.scale + recipe.centre
    sums.add(spot.date, common, values, spot.where[(slice(None), *common.within(spot.window))], sign=-1)


def _ground(cube: Cube, scan: Scan, gaps: GapReader | None, windows: list[Window], halo: int, dates: list[int]) -> Any:
    def read_gaps(date: int, window: Window) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        if gaps is None:
            shape = (len(cube.bands), *window.shape)
            return np.zeros(shape, bool), np.ones(shape, bool)
        found = gaps.read(date, window)
        return found.missing, found.fillable

    return read_ground(
        windows,
        halo,
        cube.lattice,
        [(date, int(cube.seconds[date])) for date in dates],
        [cube.variable.bands[band] for band in cube.bands],
        scan.normalisations,
        cube.read,
        read_gaps,
    )


def _trial(cube: Cube, scan: Scan, gaps: GapReader, filler: Filler, cells: Cells, spot: Hidden) -> Trial:
    seen = [shown and date not in spot.gone for date, shown in enumerate(seen_dates(scan))]
    dates = context(cube, filler, spot.date, seen)
    place = dates.index(spot.date)
    ground = _ground(cube, scan, gaps, [spot.window], filler.halo, dates)
    whole = cut_patch(ground, spot.window, filler.halo, cube.lattice, cells, (place,))
    # Otherwise hidden pixels outside the user's fillable area would not be filled, and be judged all the same.
    whole = replace(whole, fillable=whole.fillable | whole.known)
    truth = whole.values[(place, slice(None), *whole.core)]
    hidden = spot.where & whole.known[(place, slice(None), *whole.core)]
    if spot.whole:
        return Trial(as_lost(whole), truth[None], hidden[None])
    known = _without(whole.known, place, hidden, spot.window, filler.halo, cube.lattice)
    for other in range(len(dates)) if spot.ever else ():
        known = _without(known, other, spot.where, spot.window, filler.halo, cube.lattice)
    judged = hidden & spot.judged
    if spot.lasting is not None:
        for other in np.flatnonzero(spot.lasting.any(axis=(1, 2))).tolist():
            gone = spot.where & spot.lasting[other]
            known = _without(known, other, gone, spot.window, filler.halo, cube.lattice)
        judged &= around_in_time(known[(..., *whole.core)], whole.dates, place) != NEAR
    patch = replace(whole, known=known, values=np.where(known, whole.values, np.float32(0)))
    return Trial(patch, truth[None], judged[None], lasting=spot.lasting is not None, worth=spot.worth)


def _without(
    known: NDArray[np.bool_], place: int, hidden: NDArray[np.bool_], window: Window, halo: int, lattice: Lattice
) -> NDArray[np.bool_]:
    """Known pixels without the hidden ones, and without their mirror images beyond the raster's edge."""
    rows, columns = lattice.folded(window.expand(halo))
    rows, columns = rows - window.row, columns - window.column
    if lattice.periodic:
        columns %= lattice.shape[1]
    inside = (rows >= 0) & (rows < window.height), (columns >= 0) & (columns < window.width)
    reach = np.ix_(inside[0], inside[1])
    left = known.copy()
    for band in range(known.shape[1]):
        plane = left[place, band]
        plane[reach] &= ~hidden[band][np.ix_(rows[inside[0]], columns[inside[1]])]
    return left
