"""The fit: let the filler learn from trials, score it on those it has not seen, and keep what it learnt.

Trials depend on neither blocks nor the dates asked for, so that every run on the same scene stores the same fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from geodiff.beyond import far_errors
from geodiff.channels import (
    Turns,
    first_channels,
    in_channels,
    load_turns,
    outside_of_channels,
    reasons_of_channels,
    rounding_of_channels,
    stored_turns,
)
from geodiff.context import seen_dates
from geodiff.encoding import Normalisation
from geodiff.errors import NothingKnownError
from geodiff.fillers import Filler, Fitted, SceneSample, Trial, load_filler
from geodiff.fillers.calibration import tried
from geodiff.fillers.spatial import SpatialFiller
from geodiff.patches import Cells
from geodiff.threads import one_thread
from geodiff.trials import cells_of, draw_trials

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.scan import GapReader, Scan
    from geodiff.scene import Cube

__all__ = [
    "CubeFit",
    "SelfCheck",
    "extended_fit",
    "fit_cube",
    "load_cube_fit",
    "normalised_rounding",
]

_CHECK_EVERY = 5
"""Every fifth trial is kept out of the fit, and the finished filler is scored on it."""
_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
_SIMPLE, _SIMPLE_IN_TIME = ("laplace", "idw", "nearest"), ("linear-time",)
"""What the self-check holds against the filler: quick, and needing no fit; the last where there are other dates."""


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """The filler scored on hidden pixels that its fit never saw; figures are None where too few were spared."""

    pixels: int = 0
    trials: int = 0
    rmse: float | None = None
    """Root mean square error, in normalised units."""
    coverage90: float | None = None
    """Share of hidden values inside value +- 1.645 standard errors."""
    coverage: tuple[tuple[float, float], ...] = ()
    """Pairs: nominal level of the Gaussian interval, share of hidden values that it holds."""
    pit: tuple[int, ...] = ()
    """Counts of hidden values by where they fall in N(value, standard error^2), in equal steps from 0 to 1."""
    league: tuple[tuple[str, float, float], ...] = ()
    """Filler, root mean square and mean absolute error, in normalised units, on the same hidden pixels."""


@dataclass(frozen=True, slots=True)
class CubeFit:
    """Everything a block needs that must see the whole scene."""

    fitted: Fitted
    cells: Cells
    normalisations: tuple[Normalisation, ...]
    """One a channel, which is a band where `turns` says nothing else; so are all of the following."""
    estimable: tuple[bool, ...]
    """One a band: False where not one of its pixels is known on any date, so that nothing can be said about it."""
    rounding: tuple[float, ...]
    """One a band: the standard error that its storage alone brings, in physical units."""
    seen: tuple[bool, ...]
    """One a date: False where nothing of it is known, so that it is no context for others."""
    check: SelfCheck
    far: Cells | None = None
    """Standard errors far from all that is known, no less than which is claimed; see `far_errors`."""
    turns: Turns = ()
    """Of the bands that go round; empty where none does, and the channels are the bands."""

    def channels(self, cube: Cube, gaps: GapReader) -> tuple[Cube, GapReader]:
        """The cube and its gaps as the filler sees them."""
        return _channels(cube, gaps, self.turns)

    def bands(
        self,
        value: NDArray[np.float32],
        error: NDArray[np.float32],
        wanted: NDArray[np.bool_],
        about: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Normalised (channel, row, column) to physical values and standard errors of bands, that of rounding included.

        `wanted` is (band, row, column). 0 where not wanted, which in most blocks of a mosaic is nearly everywhere.
        `about` is the value of which `value` is a realisation.
        """
        values, errors = np.zeros(wanted.shape, np.float64), np.zeros(wanted.shape, np.float32)
        turns = self.turns or (None,) * len(wanted)
        for band, (first, turn) in enumerate(zip(first_channels(self.turns, len(wanted)), turns, strict=True)):
            where = wanted[band]
            found, width = self._physical(first, value[first][where], error[first][where])
            if turn is not None:
                sine, of_sine = self._physical(first + 1, value[first + 1][where], error[first + 1][where])
                width = turn.error(found, sine, width, of_sine)
                if about is None:
                    found = turn.angles(found, sine)
                else:
                    cosine, own = (self.normalisations[c].inverse(about[c][where]) for c in (first, first + 1))
                    found = turn.drawn(cosine, own, found, sine)
            values[band][where], errors[band][where] = found, width
        return values, errors

    def _physical(
        self, channel: int, value: NDArray[np.float32], error: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        recipe = self.normalisations[channel]
        found = recipe.inverse(value)
        return found, np.hypot(recipe.error(found, error), np.float32(self.rounding[channel]))

    def stored(self) -> Fitted:
        """As one `Fitted`, for the fit store."""
        facts = {
            "normalisations": [list(astuple(n)) for n in self.normalisations],
            "cell": self.cells.cell,
            "estimable": list(self.estimable),
            "rounding": list(self.rounding),
            "seen": list(self.seen),
            "check": list(astuple(self.check)),
            "turns": stored_turns(self.turns),
        }
        arrays = {"cells": self.cells.values}
        if self.far is not None:
            facts["far_cell"], arrays["far"] = self.far.cell, self.far.values
        return Fitted("cube", facts, arrays, {"filler": self.fitted})


def load_cube_fit(stored: Fitted) -> CubeFit:
    """The inverse of `CubeFit.stored`."""
    recipes = tuple(Normalisation(*recipe) for recipe in stored.facts["normalisations"])
    cells = Cells(np.asarray(stored.arrays["cells"]), int(stored.facts["cell"]))
    estimable, seen = tuple(stored.facts["estimable"]), tuple(stored.facts["seen"])
    rounding, check = tuple(stored.facts["rounding"]), SelfCheck(*stored.facts["check"])
    far = Cells(np.asarray(stored.arrays["far"]), int(stored.facts["far_cell"])) if "far" in stored.arrays else None
    turns = load_turns(stored.facts.get("turns", ()))  # a fit that was kept before there were any has none
    return CubeFit(stored.parts["filler"], cells, recipes, estimable, rounding, seen, check, far, turns)


@one_thread()
def fit_cube(cube: Cube, scan: Scan, gaps: GapReader, filler: Filler) -> CubeFit:
    """Fit a filler to a scanned cube.

    Raises NothingKnownError where not one pixel is known.
    """
    if not scan.known:
        raise NothingKnownError(
            f"{cube.name}: none of its {scan.total:,} values is known, so nothing can be estimated; "
            "check --nodata, --valid-range and --qa, or give dates with data"
        )
    own = cube
    cube, gaps = _channels(cube, gaps, scan.turns)
    trials = draw_trials(cube, scan, gaps, filler)
    kept = tuple(t for i, t in enumerate(trials) if len(trials) < 2 * _CHECK_EVERY or i % _CHECK_EVERY)
    seen = seen_dates(scan)
    fitted = filler.fit(SceneSample(kept, len(cube.bands), seen))
    spared = [t for i, t in enumerate(trials) if len(trials) >= 2 * _CHECK_EVERY and not i % _CHECK_EVERY]
    estimable = tuple(bool(n) for n in scan.cells.count.sum(axis=(0, 2, 3)))
    cells = cells_of(scan.cells, scan.normalisations, around=cube.lattice.periodic)
    rounding = rounding_of_channels([own.variable.bands[band].encoding.rounding for band in own.bands], scan.turns)
    check = _check(filler, fitted, spared, normalised_rounding(rounding, scan.normalisations))
    far = far_errors(scan.cells, scan.normalisations, around=cube.lattice.periodic)
    return CubeFit(fitted, cells, scan.normalisations, estimable, rounding, seen, check, far, scan.turns)


def _channels(cube: Cube, gaps: GapReader, turns: Turns) -> tuple[Cube, GapReader]:
    if not turns:
        return cube, gaps
    reason, outside = reasons_of_channels(gaps.reason, turns), outside_of_channels(gaps.outside, turns)
    return in_channels(cube, turns), replace(gaps, reason=reason, outside=outside, _latest={})


def extended_fit(fit: CubeFit, scan: Scan, *, around: bool = False) -> CubeFit:
    """A fit with the dates of a longer scan: what was learnt stays, what belongs to single dates is worked out anew.

    The scan's cells are of the fit's size. A band of which the fit had not seen one pixel stays unfilled: its
    normalisation means nothing. `around`: the raster goes once around the globe.
    """
    cells = cells_of(scan.cells, fit.normalisations, around=around)
    far = far_errors(scan.cells, fit.normalisations, around=around)
    return replace(fit, cells=cells, seen=seen_dates(scan), far=far)


def normalised_rounding(rounding: Sequence[float], recipes: Sequence[Normalisation]) -> NDArray[np.float32]:
    """(band, 1, 1): errors of rounding as fillers see them; a transform has no constant one and is given none."""
    shares = [r / n.scale if n.transform == "linear" else 0.0 for r, n in zip(rounding, recipes, strict=True)]
    return np.asarray(shares, np.float32)[:, None, None]


def _check(filler: Filler, fitted: Fitted, spared: list[Trial], rounding: NDArray[np.float32]) -> SelfCheck:
    """Score the finished filler on trials its fit never saw."""
    if not spared:
        return SelfCheck()
    errors, spreads = [], []
    filler = getattr(filler, "quiet", filler)  # members are not looked at, and each costs ten times a value
    spared, answers = tried(filler.name, spared, lambda some: filler.fill([t.patch for t in some], fitted, seed=0))
    for trial, filled in zip(spared, answers, strict=True):
        errors.append((filled.value - trial.truth)[trial.hidden])
        spreads.append(np.hypot(filled.standard_error, rounding)[trial.hidden])
    error, spread = np.concatenate(errors).astype(np.float64), np.concatenate(spreads)
    if not error.size:
        return SelfCheck()
    return SelfCheck(
        int(error.size),
        len(spared),
        float(np.sqrt(np.mean(error**2))),
        float(np.mean(np.abs(error) <= 1.645 * spread)),
        _coverage(error, spread),
        _pit(error, spread),
        _league(filler.name, error, spared),
    )


def _coverage(error: NDArray[np.float64], spread: NDArray[np.float32]) -> tuple[tuple[float, float], ...]:
    from scipy.special import ndtri

    return tuple((p, float(np.mean(np.abs(error) <= ndtri(0.5 + p / 2) * spread))) for p in _LEVELS)


def _pit(error: NDArray[np.float64], spread: NDArray[np.float32]) -> tuple[int, ...]:
    from scipy.special import ndtr

    place = ndtr(-error / np.maximum(spread, 1e-9))  # error is value - truth
    return tuple(int(n) for n in np.histogram(place, bins=20, range=(0.0, 1.0))[0])


def _league(name: str, error: NDArray[np.float64], spared: list[Trial]) -> tuple[tuple[str, float, float], ...]:
    """The filler and simple ones on the same hidden pixels, best first; of several dates one in time is among them."""
    from geodiff.fillers.temporal import LinearTime

    found, untaught = {name: error}, SceneSample((), spared[0].truth.shape[1])
    for simple in (*_SIMPLE, *(_SIMPLE_IN_TIME if len(spared[0].patch.values) > 1 else ())):
        peer = load_filler(simple)
        if simple != name and isinstance(peer, SpatialFiller | LinearTime):
            plain = peer.tuned(untaught) if isinstance(peer, SpatialFiller) else peer.learnt(untaught)
            off = [(peer.estimate(t.patch, plain) - t.truth)[t.hidden] for t in spared]
            found[simple] = np.concatenate(off).astype(np.float64)
    rows = [(peer, float(np.sqrt(np.mean(np.square(e)))), float(np.mean(np.abs(e)))) for peer, e in found.items()]
    return tuple(sorted(rows, key=lambda row: row[1]))
