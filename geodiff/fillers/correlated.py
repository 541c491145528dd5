"""Noise that bands and dates share as their errors do: members then have no colours and no flicker of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from geodiff.fillers import Filled, Fitted, Patch, Trial
from geodiff.fillers.calibration import THINNING
from geodiff.fillers.members import White, recentred
from geodiff.lattice import Window
from geodiff.noise import noise_in_time

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Planes = NDArray[np.float32]

__all__ = ["PRIOR_PIXELS", "band_correlation", "date_wide", "ground_white", "memory_of", "mix_of"]

PRIOR_PIXELS = 10.0
"""Independent hidden pixels that a belief held before is worth."""
_FEWEST, _NUMBERS = 50, 1 << 23
"""Pixels from which on bands show how they go together, and numbers (bands x pixels) of which that is taken at most."""
_DATE_WIDE = -(1 << 20)
"""The first number of noise that no member starts from and no broad noise is made of."""
_MOSTLY = 0.5
"""Share of what the band most often known shows: bands that show less may be left out."""
_RIDGE = 1e-3
"""Noise that bands do not share at the least, for there to be a Cholesky factor; 0.01 showed as colour."""


def ground_white(
    patch: Patch,
    place: tuple[int, int],
    *,
    seed: int,
    mix: NDArray[np.float64] | None = None,
    memory: float = 0.0,
    noise: Callable[..., Planes] = noise_in_time,
) -> White:
    """Noise of a patch's band: standard normal, the same wherever windows overlap.

    `mix` is the Cholesky factor of the bands' correlation; without it bands are independent. `memory` is how many
    seconds dates that go together may be apart; 0 makes them independent. `noise` is `noise_in_time`, or keeps what
    that gave: bands of a window ask for the same.
    """
    when = int(patch.dates[patch.targets[place[0]]])
    own = patch.first_band + place[1]
    weights = {own: 1.0} if mix is None else {b: float(w) for b, w in enumerate(mix[own]) if w}

    def white(margin: int, number: int) -> Planes:
        row, column = (start - margin for start in patch.absolute)
        shape = patch.window.expand(margin).shape
        total = np.zeros(shape, np.float32)
        for band, weight in weights.items():
            total += np.float32(weight) * noise(
                shape, row=row, column=column, seed=seed, seconds=when, memory=memory, band=band, member=number
            )
        return total

    return white


def date_wide(patch: Patch, place: tuple[int, int], fitted: Fitted, members: int, *, seed: int) -> Planes:
    """(member,) standard normal numbers of a date and band, the same whatever the window.

    Of four and more the mean is 0. They go with those of other dates and bands as the noise that members start from.
    """
    anywhere = replace(patch, window=Window(0, 0, 1, 1), absolute=(0, 0))
    memory = float(fitted.facts.get("memory", 0.0))
    white = ground_white(anywhere, place, seed=seed, mix=mix_of(fitted), memory=memory)
    numbers = np.concatenate([white(0, _DATE_WIDE - member)[0] for member in range(members)])
    return recentred(numbers[:, None, None], np.zeros((1, 1), np.float32))[:, 0, 0]


def memory_of(trials: Sequence[Trial]) -> float:
    """Seconds over which members of dates go together: two of the steps between dates.

    A date and the next then correlate by 1/2, as the errors of two missing dates in a row do between known ones, where
    a series wanders at random.
    """
    dates = max((t.patch.dates for t in trials), key=len, default=np.zeros(0, np.int64))
    steps = np.diff(np.sort(dates))
    return 2.0 * float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0


def mix_of(fitted: Fitted) -> NDArray[np.float64] | None:
    """Cholesky factor of the bands' correlation that a fit of the network learnt; None where it learnt none."""
    correlation = fitted.arrays.get("band_correlation")
    return None if correlation is None else np.linalg.cholesky(np.asarray(correlation, np.float64))


def band_correlation(trials: Sequence[Trial], filled: Sequence[Filled]) -> NDArray[np.float64] | None:
    """(band, band) correlation of the value's errors where every band was hidden.

    Hidden pixels are few, so it is drawn to the correlation of what changes within a few pixels where all bands are
    known; None for one band, or where too little is known of either. Where all bands together are known hardly anywhere
    (a bad one is lost as a whole), those that are mostly lost go with no other.
    """
    if not trials or trials[0].truth.shape[1] < 2:
        return None
    shown = np.sum([trial.patch.known[list(trial.patch.targets)].sum(axis=(0, 2, 3)) for trial in trials], axis=0)
    for bands in (np.arange(len(shown)), np.flatnonzero(shown > _MOSTLY * shown.max())):
        drawn = _drawn_correlation(trials, filled, bands)
        if drawn is not None:
            correlation = np.eye(len(shown))
            correlation[np.ix_(bands, bands)] = (1 - _RIDGE) * drawn + _RIDGE * np.eye(len(bands))
            return correlation
    return None


def _drawn_correlation(
    trials: Sequence[Trial], filled: Sequence[Filled], bands: NDArray[np.intp]
) -> NDArray[np.float64] | None:
    """Correlation of some bands from what was hidden and what changes; None where too little is known of all."""
    pixels = sum(int(trial.hidden[:, bands].all(axis=1).sum()) for trial in trials)
    around = sum(trial.patch.known[0, 0].size * len(trial.patch.targets) for trial in trials)
    if len(bands) < 2 or pixels < _FEWEST:
        return None
    every, often = (-(-len(bands) * number // _NUMBERS) for number in (pixels, around))
    hidden = [e[:, ::every] for t, f in zip(trials, filled, strict=True) for e in _errors(t, f, bands)]
    change = [c[:, ::often] for t in trials for c in _changes(t.patch, bands)]
    if sum(part.shape[1] for part in change) < _FEWEST:
        return None
    weight = pixels / THINNING
    own, drawn_to = (_correlations(np.concatenate(parts, axis=1)) for parts in (hidden, change))
    return (weight * own + PRIOR_PIXELS * drawn_to) / (weight + PRIOR_PIXELS)


def _errors(trial: Trial, filled: Filled, bands: NDArray[np.intp]) -> Iterator[NDArray[np.float32]]:
    """(band, pixel) errors over the standard error where every band of a target date was hidden."""
    for target, hidden in enumerate(trial.hidden):
        rows, columns = np.nonzero(hidden[bands].all(axis=0))
        cut = np.s_[target, bands[:, None], rows, columns]
        yield (trial.truth[cut] - filled.value[cut]) / np.maximum(filled.standard_error[cut], np.float32(1e-6))


def _changes(patch: Patch, bands: NDArray[np.intp]) -> Iterator[NDArray[np.float32]]:
    """(band, pixel) differences over four columns where every band of a target date is known at both ends."""
    for date in patch.targets:
        known = patch.known[date, bands].all(axis=0)
        rows, columns = np.nonzero(known[:, 4:] & known[:, :-4])
        values = patch.values[date]
        yield values[bands[:, None], rows, columns + 4] - values[bands[:, None], rows, columns]


def _correlations(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Correlation of rows (band, pixel), wild values cut at five standard deviations; 0 with a constant band."""
    rows = rows - rows.mean(axis=1, keepdims=True)
    rows /= np.maximum(rows.std(axis=1, keepdims=True), 1e-9)
    z = np.clip(rows, -5, 5, out=rows).astype(np.float64)
    z /= np.maximum(z.std(axis=1, keepdims=True), 1e-9)
    correlation = z @ z.T / z.shape[1]
    np.fill_diagonal(correlation, 1.0)
    return np.asarray(correlation)
