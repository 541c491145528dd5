"""DINEOF: gaps of a stack from the few patterns that explain the rest of it.

Beckers and Rixen (2003): missing values start at the mean and are replaced, over and over, by a truncated singular
value decomposition; how many modes it keeps is chosen on hidden pixels. The decomposition sees a sample of the whole
scene in the fit; a window's pixels are then projected on its temporal modes from what is known of them, with the
variances of the modes and of what they leave as Gaussian prior (Tipping and Bishop 1999).

In a stack of fillers every window has modes of its own, from the dates around the target alone: so appended dates
need no other fit. They are those of a probabilistic principal component analysis with gaps (Ilin and Raiko 2010).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from geodiff.fillers import Fitted, SceneSample, Trial
from geodiff.fillers.series import Series, days_of, interpolated, linear, spread
from geodiff.fillers.temporal import TemporalFiller

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

__all__ = ["Dineof", "LocalDineof", "Modes", "empirical_modes", "local_modes", "randomised_svd"]

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
_LOCAL_MODES = 6
"""Of a window; 3 leave too much, 10 gain no more (made-up stacks of hours and days, two validation stacks)."""
_LOCAL_STEPS = 5
"""Of expectation and maximisation; with 10 errors are the same to a fiftieth."""
_PIXELS = 1500
"""Of a window that its modes are taken from; three times as many tell the same."""
_FEWEST_PIXELS = 30
_STEADY = 10.0
"""Pixels that the dates around are worth in a date's row: where it shows little, it lies between theirs."""


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


class LocalDineof(TemporalFiller):
    """As `Dineof`, with modes of the window's own, from the dates that a stack looks at anyhow."""

    name = "dineof"
    defaults = Dineof.defaults
    context_dates = 30
    must_earn: ClassVar[bool] = True
    """A stack takes it where its trials say that it helps: smooth fields have few patterns, most images have not."""

    def trend(self, series: Series, fitted: Fitted) -> NDArray[np.float32]:  # noqa: ARG002 (nothing to fit)
        """The target from what the other dates know of each pixel; linear in time where hardly anything is known."""
        shape = (len(series.days), -1)
        values, known = series.values.reshape(shape), series.known.reshape(shape)
        places = np.flatnonzero(known.any(axis=0))
        if len(places) < _FEWEST_PIXELS:
            return linear(series)
        # odd: a step that divides the rows would see a few columns alone
        places = places[:: (len(places) // _PIXELS) | 1]
        start = _completed(series).reshape(shape)[:, places]
        means, rows, noise = local_modes(values[:, places], known[:, places], start, series.days)
        others = series.others
        departures = np.where(known[others], values[others] - means[others, None].astype(np.float32), np.float32(0))
        modes = Modes(0.0, rows[others], np.ones(rows.shape[1]), noise, series.days[others])
        estimate = means[series.target] + modes.estimate(departures, known[others], rows[others], rows[series.target])
        return np.where(series.seen, estimate.reshape(series.seen.shape), np.nan).astype(np.float32)


def local_modes(
    values: NDArray[np.float32], known: NDArray[np.bool_], start: NDArray[np.float32], days: NDArray[np.float64]
) -> tuple[NDArray[np.float64], Matrix, float]:
    """Means and modes of a matrix with gaps by expectation and maximisation, each date's drawn to its neighbours'.

    Parameters
    ----------
    values, known : (date, pixel), at least two dates.
    start : `values` with the gaps filled somehow.
    days : (date,) ascending.

    Returns
    -------
    means (date,), rows (date, mode) for coefficients of unit variance, and the variance of what is left.
    """
    held, shown = known.astype(np.float64), np.where(known, values, 0.0).astype(np.float64)
    means = start.mean(axis=1, dtype=np.float64)
    centred = start - means[:, None]
    count = min(_LOCAL_MODES, len(days) - 1)
    strengths, vectors = np.linalg.eigh(centred @ centred.T / centred.shape[1])
    noise = max(float(strengths[:-count].mean()), _LEAST_VARIANCE)
    rows = vectors[:, : -count - 1 : -1] * np.sqrt(np.maximum(strengths[: -count - 1 : -1] - noise, _LEAST_VARIANCE))
    for _ in range(_LOCAL_STEPS):
        means, rows, noise = _maximised(shown, held, days, means, rows, noise)
    return means, rows, noise


def _maximised(
    values: Matrix, held: Matrix, days: NDArray[np.float64], means: NDArray[np.float64], rows: Matrix, noise: float
) -> tuple[NDArray[np.float64], Matrix, float]:
    """One step: the coefficients that pixels have by these modes, then the modes that such coefficients ask for."""
    dates, count = rows.shape
    precision = (held.T @ _squares(rows)).reshape(-1, count, count) + noise * np.eye(count)
    spread_of = noise * np.linalg.inv(precision)
    evidence = (values - held * means[:, None]).T @ rows
    coefficients: Matrix = np.asarray(np.linalg.solve(precision, evidence[..., None])[..., 0], np.float64)
    # with a one for the mean: both are drawn to the neighbours' and found together
    terms: Matrix = np.append(coefficients, np.ones((len(coefficients), 1)), axis=1)
    moments = _squares(terms).reshape(-1, count + 1, count + 1)
    moments[:, :count, :count] += spread_of
    normal = (held @ moments.reshape(len(terms), -1)).reshape(dates, count + 1, count + 1)
    around = _between(np.append(rows, means[:, None], axis=1), days)
    normal += _STEADY * np.eye(count + 1)
    solved = np.linalg.solve(normal, (values @ terms + _STEADY * around)[..., None])
    both: Matrix = np.asarray(solved[..., 0], np.float64)
    left = np.square(held * (values - both @ terms.T)).sum()
    unsure = (held @ spread_of.reshape(len(terms), -1)) * _squares(both[:, :count])
    noise = float((left + unsure.sum()) / max(held.sum(), 1.0))
    return both[:, count], both[:, :count], max(noise, _LEAST_VARIANCE)


def _squares(rows: Matrix) -> Matrix:
    """(row, column x column): products of the columns."""
    products: Matrix = (rows[:, :, None] * rows[:, None, :]).reshape(len(rows), -1)
    return products


def _between(rows: Matrix, days: NDArray[np.float64]) -> Matrix:
    """Of each date what lies between its neighbours in time; the first and the last are as the one beside them."""
    around = np.empty_like(rows)
    around[0], around[-1] = rows[1], rows[-2]
    share = (days[1:-1] - days[:-2]) / np.maximum(days[2:] - days[:-2], _LEAST_VARIANCE)
    around[1:-1] = rows[:-2] + share[:, None] * (rows[2:] - rows[:-2])
    return around


def _completed(series: Series) -> NDArray[np.float32]:
    """Every date, its gaps filled linearly in time with what its known pixels depart from that around them."""
    line = interpolated(series, range(len(series.days)))
    defined = np.isfinite(line)
    if not defined.all():
        line = np.where(defined, line, spread(np.where(defined, line, np.float32(0)), defined))
    line += spread(np.where(series.known, series.values - line, np.float32(0)), series.known)
    return np.where(series.known, series.values, line)


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
