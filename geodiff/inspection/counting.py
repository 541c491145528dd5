"""The gaps of a source: counted by the pass of a plan, or estimated through small windows where that takes too long."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.collar import OPENING
from geodiff.gaps import auto_fillable, below_ground, collar_candidates, never_seen, outside_counts, shares, tally
from geodiff.inspection.picture import as_picture, cell_sums, first_band, picture_of, picture_shape, shown
from geodiff.lattice import Window
from geodiff.scan import beyond, scan_cube
from geodiff.suspects import told_of_turns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from geodiff.scan import Scan
    from geodiff.scene import Cube

__all__ = ["gap_facts"]

_EXACT = 1 << 27
"""Values up to which all are read: some ten seconds."""
_PROBE = 64
"""Rows and columns of a window in a source too large to be read whole."""


def gap_facts(cube: Cube) -> dict[str, Any]:
    """What is missing, what would be filled, and a thumbnail."""
    return _exactly(cube) if _values(cube) <= _EXACT else _roughly(cube)


def _values(cube: Cube) -> int:
    return len(cube.variable.dates) * len(cube.bands) * math.prod(cube.shape)


def _exactly(cube: Cube) -> dict[str, Any]:
    """Every value, by the pass that a plan makes; what it notes is held here, and only where a gap is takes memory."""
    reason = np.zeros((len(cube.variable.dates), len(cube.bands), *cube.shape), np.uint16)
    scan, gaps = scan_cube(cube, reason, np.zeros(cube.outside_shape, bool), buffer=0)
    date = _typical_date(scan)
    picture = picture_of(cube, gaps, date)
    return {"gaps": _scan_facts(cube, scan), "typical": _typical(cube, scan), "thumbnail": shown(cube, date, picture)}


def _scan_facts(cube: Cube, scan: Scan) -> dict[str, Any]:
    by_date = scan.gap_counts.reshape(len(scan.gap_counts), -1).sum(axis=1)
    return {
        "exact": True,
        "values": scan.total,
        "missing": scan.missing,
        "to_fill": scan.wanted,
        "reasons": shares(scan.reasons, scan.total),
        "left_out": {cause: n for cause, n in scan.left_out.items() if n},
        "dates_with_gaps": int((by_date > 0).sum()),
        "suspects": [asdict(suspect) for suspect in scan.suspects],
        "narrow_edge": scan.edge,
        "notes": told_of_turns([cube.variable.bands[band].name for band in cube.bands], scan.turns),
    }


def _typical(cube: Cube, scan: Scan) -> list[dict[str, Any]]:
    """Median and robust spread of each band's known values, physical units; what goes round has none."""
    rows = []
    for band, recipe in zip(cube.bands, scan.by_band, strict=True):
        if recipe is None:
            continue
        middle = recipe.inverse(np.array([-1.0, 0.0, 1.0], np.float32))
        rows.append({"band": cube.variable.bands[band].name, "p16_p50_p84": [float(v) for v in middle]})
    return rows


def _typical_date(scan: Scan) -> int:
    """The date in the middle when they are ordered by their gaps; one with gaps where any has some."""
    by_date = scan.gap_counts.reshape(len(scan.gap_counts), -1).sum(axis=1)
    ordered = np.argsort(by_date, kind="stable")[int((by_date == 0).sum()) % len(by_date) :]
    return int(ordered[len(ordered) // 2])


@dataclass(frozen=True, slots=True)
class _Look:
    """One small window of a large source. Pairs: what holds where nothing is outside, and where all that may be is."""

    reasons: NDArray[np.int64]
    missing: int
    values: int
    outside: float
    """Share of the pixels (row, column) that may be outside."""
    left_out: tuple[dict[str, int], dict[str, int]]
    sums: tuple[NDArray[np.float64], NDArray[np.float64]]
    """Of the thumbnail's date, as `_planes`."""


def _roughly(cube: Cube) -> dict[str, Any]:
    """A look through small windows, one for each character of the thumbnail, at three dates at most."""
    dates = len(cube.variable.dates)
    cells = picture_shape(cube.shape)
    looked_at = sorted({0, dates // 2, dates - 1})
    looks = {cell: _look(cube, window, looked_at) for cell, window in _probes(cube.shape, cells)}
    outside = _outside(cube, np.array([look.outside for look in looks.values()]).reshape(cells))
    values = sum(look.values for look in looks.values())
    whole = _values(cube) / values
    missing = round(sum(look.missing for look in looks.values()) * whole)
    found: Counter[str] = Counter()
    sums = np.zeros((4, *cells))
    for cell, look in looks.items():
        found.update(look.left_out[int(outside[cell])])
        sums[(slice(None), *cell)] = look.sums[int(outside[cell])]
    left_out = {cause: round(n * whole) for cause, n in found.items() if n}
    facts = {
        "exact": False,
        "values": _values(cube),
        "looked_at": values,
        "missing": missing,
        "to_fill": max(0, missing - sum(left_out.values())),  # each of them was rounded
        "reasons": shares(np.sum([look.reasons for look in looks.values()], axis=0), values),
        "left_out": left_out,
    }
    return {"gaps": facts, "thumbnail": shown(cube, dates // 2, as_picture(sums))}


def _look(cube: Cube, window: Window, dates: Sequence[int]) -> _Look:
    """A window on some dates; the thumbnail's is in the middle of all."""
    reasons = [cube.reason(date, window) for date in dates]
    left = _may_be_outside(cube, window, reasons)
    nowhere = np.zeros_like(left)
    numbers, why = first_band(cube, dates[len(dates) // 2], window), reasons[len(dates) // 2]
    return _Look(
        np.sum([tally(reason) for reason in reasons], axis=0),
        sum(int((reason != 0).sum()) for reason in reasons),
        sum(reason.size for reason in reasons),
        float(left.mean()),
        (_left_out(cube, reasons, nowhere), _left_out(cube, reasons, left)),
        (
            cell_sums(numbers, why, _fillable(cube, why, nowhere)),
            cell_sums(numbers, why, _fillable(cube, why, left)),
        ),
    )


def _may_be_outside(cube: Cube, window: Window, reasons: Sequence[NDArray[np.uint16]]) -> NDArray[np.bool_]:
    """What is not in the user's area; under `auto` what no date saw that was looked at, or what may be collar."""
    automatic = never_seen(np.stack(reasons) != 0, cube.by_level) if _is_stack(cube) else collar_candidates(reasons[0])
    return beyond(cube, window, automatic)


def _outside(cube: Cube, share: NDArray[np.float64]) -> NDArray[np.bool_]:
    """In which cells (row, column) of a coarse grid it is outside indeed: a collar is wide, and joins the edge."""
    if cube.rules.fillable is not None or _is_stack(cube):
        return share > 0
    from scipy import ndimage

    wide = [-(-OPENING * cells // pixels) for cells, pixels in zip(share.shape, cube.shape, strict=True)]
    labels, _ = ndimage.label(ndimage.binary_opening(share > 0.5, np.ones(wide, bool)), np.ones((3, 3), bool))
    edges = [labels[0], labels[-1], *([] if cube.lattice.periodic else [labels[:, 0], labels[:, -1]])]
    joining = np.isin(labels, np.setdiff1d(np.concatenate(edges), 0))
    return np.asarray(ndimage.binary_dilation(joining, np.ones((3, 3), bool)))  # the cells that it ends in


def _left_out(cube: Cube, reasons: Sequence[NDArray[np.uint16]], outside: NDArray[np.bool_]) -> dict[str, int]:
    """Missing values that are not fillable, over some dates, by cause, as a scan counts them."""
    if cube.rules.fillable is not None:
        below = below_ground(outside) if outside.ndim == 3 else np.zeros_like(outside)
        causes = {"not in --fillable": outside & ~below, "below_ground": below}
        counts = {cause: sum(int(((why != 0) & where).sum()) for why in reasons) for cause, where in causes.items()}
        return {cause: n for cause, n in counts.items() if n}
    if cube.rules.fill_everything:
        return {}
    collar, unseen = (None, outside) if _is_stack(cube) else (outside, None)
    found: Counter[str] = Counter()
    for reason in reasons:
        found.update(outside_counts(reason, collar, unseen))
    return found


def _fillable(cube: Cube, reason: NDArray[np.uint16], outside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    alone = cube.rules.fill_everything
    return np.broadcast_to(~outside, reason.shape) if alone else auto_fillable(reason, outside)


def _is_stack(cube: Cube) -> bool:
    return len(cube.variable.dates) > 1


def _probes(shape: tuple[int, int], cells: tuple[int, int]) -> Iterator[tuple[tuple[int, int], Window]]:
    """A window in the middle of each cell of a coarse grid over the raster."""
    size = tuple(min(_PROBE, max(1, n // c)) for n, c in zip(shape, cells, strict=True))
    for i in range(cells[0]):
        for j in range(cells[1]):
            row = (2 * i + 1) * shape[0] // (2 * cells[0]) - size[0] // 2
            column = (2 * j + 1) * shape[1] // (2 * cells[1]) - size[1] // 2
            yield (i, j), Window(max(row, 0), max(column, 0), size[0], size[1])
