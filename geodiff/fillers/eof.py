"""DINEOF: gaps of a stack from the few patterns that explain the rest of it.

Beckers and Rixen (2003): missing values start at the mean and are replaced, over and over, by a truncated singular
value decomposition; how many modes it keeps is chosen on hidden pixels. The decomposition sees a sample of the whole
scene in the fit; a window's pixels are then projected on its temporal modes from what is known of them, with the
variances of the modes and of what they leave as Gaussian prior (Tipping and Bishop 1999).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geodiff.fillers import Fitted, SceneSample, Trial
from geodiff.fillers.series import Series, days_of
from geodiff.fillers.temporal import TemporalFiller

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

__all__ = ["Dineof", "Modes", "empirical_modes", "randomised_svd"]

LADDER = (1, 2, 3, 4, 6, 8, 12)
"""Numbers of modes tried."""
DEFAULT_MODES = 3
_STEP = 4
"""One pixel in 4 x 4 enters the decomposition: neighbours tell the same."""
_ITERATIONS = 30
_CONVERGED = 1e-3
_OVERSAMPLING = 6
_LEAST_VARIANCE = 1e-6
_MOST_TRIALS = 12


@dataclass(frozen=True, slots=True)
class Modes:
    """Temporal modes of one band."""

    mean: float
    rows: Matrix
    """(date, mode), orthonormal columns."""
    variances: NDArray[np.float64]
    """(mode,) of a pixel's coefficients."""
    noise: float
    """Variance of what the modes leave."""
    days: NDArray[np.float64]
    """(date,) days since 1970, ascending."""

    def at(self, days: NDArray[np.float64]) -> Matrix:
        """Rows for any days: those of the decomposition, others linear in time between them."""
        return np.stack([np.interp(days, self.days, column) for column in self.rows.T], axis=1)

    def estimate(self, values: NDArray[np.float32], known: NDArray[np.bool_], rows: Matrix, wanted: Matrix) -> Matrix:
        """(pixel,) of the `wanted` row: mean of the coefficients given a pixel's known values.

        Parameters
        ----------
        values, known : (date, pixel).
        rows : (date, mode) of those dates.
        wanted : (mode,).
        """
        held = known.astype(np.float64)
        products = (rows[:, :, None] * rows[:, None, :]).reshape(len(rows), -1)
        count = rows.shape[1]
        precision = (held.T @ products).reshape(-1, count, count) + np.diag(self.noise / self.variances)
        evidence = (held * (values - self.mean)).T @ rows
        coefficients = np.linalg.solve(precision, evidence[..., None])[..., 0]
        estimate: Matrix = self.mean + coefficients @ wanted
        return estimate


def randomised_svd(matrix: Matrix, rank: int, *, sweeps: int = 2) -> tuple[Matrix, NDArray[np.float64], Matrix]:
    """Leading singular triplets by a random range finder with power sweeps (Halko, Martinsson and Tropp 2011, 4.4).

    Parameters
    ----------
    matrix : (m, n).
    rank : how many triplets, at most min(m, n).

    Returns
    -------
    u (m, rank), s (rank,) descending, vt (rank, n); the same for the same matrix.
    """
    width = min(rank + _OVERSAMPLING, *matrix.shape)
    probe = np.random.default_rng(0).standard_normal((matrix.shape[1], width))
    basis = np.linalg.qr(matrix @ probe)[0]
    for _ in range(sweeps):
        basis = np.linalg.qr(matrix @ (matrix.T @ basis))[0]
    u, s, vt = np.linalg.svd(basis.T @ matrix, full_matrices=False)
    return (basis @ u)[:, :rank], s[:rank], vt[:rank]


def empirical_modes(
    values: NDArray[np.float32],
    known: NDArray[np.bool_],
    days: NDArray[np.float64],
    count: int,
    start: Matrix | None = None,
) -> tuple[Modes, Matrix]:
    """Modes of a matrix with gaps, and the matrix filled with them.

    Parameters
    ----------
    values, known : (date, pixel).
    days : (date,).
    count : how many modes; cut to what the matrix can have.
    start : the matrix filled by fewer modes, to begin with.
    """
    mean = float(values[known].mean(dtype=np.float64)) if known.any() else 0.0
    filled = np.where(known, values - mean, 0.0) if start is None else start - mean
    count = min(count, *filled.shape)
    first = 0.0
    for _ in range(_ITERATIONS):
        u, s, vt = randomised_svd(filled, count)
        model = (u * s) @ vt
        change = float(np.square(model - filled).sum(where=~known))
        filled = np.where(known, filled, model)
        first = first or change
        if change <= _CONVERGED * first:
            break
    noise = float(np.square(filled - model)[known].mean()) if known.any() else 1.0
    rows = _trusted_rows(u, known, days)
    variances = np.maximum(s**2 / filled.shape[1], _LEAST_VARIANCE)
    return Modes(mean, rows, variances, max(noise, _LEAST_VARIANCE), days), filled + mean


def _trusted_rows(rows: Matrix, known: NDArray[np.bool_], days: NDArray[np.float64]) -> Matrix:
    """Dates of which almost nothing is known get rows between those of their neighbours in time."""
    sound = known.mean(axis=1) > 0.01
    if sound.all() or not sound.any():
        return rows
    return np.stack([np.interp(days, days[sound], column[sound]) for column in rows.T], axis=1)


class Dineof(TemporalFiller):
    """Projection on the scene's temporal modes, what the known pixels depart from it relaxed into the gap.

    Without trials the modes are the window's own.
    """

    name = "dineof"
    defaults = (1.25, 1.35, 1.35, 1.3, 1.3)

    def trend(self, series: Series, fitted: Fitted) -> NDArray[np.float32]:
        """The target from the other dates' coefficients."""
        modes = _stored(fitted, series.band) or _own_modes(series)
        others = series.others
        rows = modes.at(series.days)
        shape = (len(others), -1)
        estimate = modes.estimate(
            series.values[others].reshape(shape), series.known[others].reshape(shape), rows[others], rows[series.target]
        )
        return np.where(series.seen, estimate.reshape(series.seen.shape), np.nan).astype(np.float32)

    def learnt(self, sample: SceneSample) -> Fitted:
        """Each band's modes, as many as predict the trials' hidden pixels best."""
        trials = _of_one_calendar(sample.trials)
        if not trials or len(trials[0].patch.dates) < 2:
            return Fitted(self.name, {"modes": []})
        modes = [_best_modes(trials, band) for band in range(sample.bands)]
        most = max(len(m.variances) for m in modes)
        arrays = {
            "rows": np.stack([np.pad(m.rows, ((0, 0), (0, most - len(m.variances)))) for m in modes]),
            "variances": np.stack([np.pad(m.variances, (0, most - len(m.variances))) for m in modes]),
            "scales": np.array([(m.mean, m.noise) for m in modes]),
            "days": modes[0].days,
        }
        return Fitted(self.name, {"modes": [len(m.variances) for m in modes]}, arrays)


def _stored(fitted: Fitted, band: int) -> Modes | None:
    """A band's modes as the fit kept them."""
    counts: Sequence[int] = fitted.facts.get("modes", [])
    if not counts:
        return None
    arrays, count = fitted.arrays, int(counts[band])
    mean, noise = (float(x) for x in arrays["scales"][band])
    return Modes(mean, arrays["rows"][band, :, :count], arrays["variances"][band, :count], noise, arrays["days"])


def _own_modes(series: Series) -> Modes:
    """The modes of one window."""
    part = np.s_[:, ::_STEP, ::_STEP]
    shape = (len(series.days), -1)
    values, known = series.values[part].reshape(shape), series.known[part].reshape(shape)
    return empirical_modes(values, known, series.days, min(DEFAULT_MODES, len(series.days) - 1))[0]


def _of_one_calendar(trials: Sequence[Trial]) -> list[Trial]:
    """A few trials that hold the same dates, as all do that hold every date."""
    step = max(1, -(-len(trials) // _MOST_TRIALS))
    return [t for t in trials[::step] if np.array_equal(t.patch.dates, trials[0].patch.dates)]


def _best_modes(trials: Sequence[Trial], band: int) -> Modes:
    """The modes of least error on the hidden pixels; the ladder is left where the error grows by a tenth."""
    order = np.argsort(trials[0].patch.dates, kind="stable")
    days = days_of(trials[0].patch.dates)[order]
    parts = [_thinned(t, band) for t in trials]
    values = np.concatenate([v for v, _ in parts], axis=1)[order]
    known = np.concatenate([k for _, k in parts], axis=1)[order]
    best, least, filled = None, np.inf, None
    for count in [c for c in LADDER if c < len(days)] or [1]:
        modes, filled = empirical_modes(values, known, days, count, filled)
        loss = sum(_hidden_loss(modes, trial, band) for trial in trials)
        if best is None or loss < least:
            best, least = modes, loss
        elif loss > 1.1 * least:
            break
    assert best is not None
    return best


def _thinned(trial: Trial, band: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(date, pixel) of the window: one pixel in 4 x 4."""
    rows, columns = trial.patch.core
    part = np.s_[:, band, rows.start : rows.stop : _STEP, columns.start : columns.stop : _STEP]
    dates = len(trial.patch.dates)
    return trial.patch.values[part].reshape(dates, -1), trial.patch.known[part].reshape(dates, -1)


def _hidden_loss(modes: Modes, trial: Trial, band: int) -> float:
    """Squared error on the trial's hidden pixels, from the other dates."""
    patch, target = trial.patch, trial.patch.targets[0]
    hidden = trial.hidden[0, band]
    cut = (slice(None), band, *patch.core)
    values, known = patch.values[cut][:, hidden], patch.known[cut][:, hidden].copy()
    known[target] = False
    rows = modes.at(days_of(patch.dates))
    error = modes.estimate(values, known, rows, rows[target]) - trial.truth[0, band][hidden]
    return float(np.square(error).sum())
