"""Bands restored: physical values go in, and come out with their error, their realisations and where each stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from geodiff.diffusion.restoration import UNBOUNDED, Restored, cut_off, estimate_noise, restore_band
from geodiff.fillers import Patch
from geodiff.fillers.crossband import predictions_by_bands
from geodiff.lattice import Window, repeated
from geodiff.restoring.components import MOST, Components, Together, alike, noise_of, put_shown
from geodiff.restoring.photons import flattened, raised, slope

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.diffusion.denoiser import Denoiser
    from geodiff.restoring.job import RestoreJob

    Plane = NDArray[np.float64]
    Bounds = tuple[float, float]

__all__ = ["RestoredBand", "restored_bands"]

_TELLING = 0.05
"""Share of a frame that has to be neither black nor saturated for the rest to be left out."""


@dataclass(frozen=True, slots=True)
class RestoredBand:
    """Physical layers of one band, on the grid of the product."""

    value: Plane
    """(row, column)."""
    standard_error: Plane
    members: Plane
    """(member, row, column)."""
    noise: float
    """What was taken for the standard deviation of the noise; 0 where none was removed."""
    windows: int

    @property
    def exact(self) -> bool:
        """Whether observed pixels came back as they were, where the grid is still that of the source."""
        return self.noise == 0


@dataclass(frozen=True, slots=True)
class _Work:
    """How one band, or one component of several, is restored."""

    job: RestoreJob
    denoiser: Denoiser

    def __call__(
        self,
        seen: Plane,
        known: NDArray[np.bool_],
        noise: float,
        key: int,
        advance: Callable[[], None] = lambda: None,
        bounds: Bounds = UNBOUNDED,
        factor: int | None = None,
    ) -> Restored:
        return restore_band(
            seen,
            known,
            self.denoiser,
            denoise=noise > 0,
            noise=noise or None,
            factor=factor or self.job.enlargement,
            members=self.job.members,
            seed=self.job.seed,
            band=key,
            steps=self.job.steps,
            bounds=bounds,
            advance=advance,
        )


def restored_bands(
    values: Plane,
    known: NDArray[np.bool_],
    job: RestoreJob,
    denoiser: Denoiser,
    *,
    keys: Sequence[int],
    bounds: Sequence[Bounds],
    least_noise: float = 0.0,
    advance: Callable[[], None] = lambda: None,
) -> Iterator[RestoredBand]:
    """Do a job's tasks on the bands of one date, grainy ones that are alike together.

    Parameters
    ----------
    values : (band, row, column), physical; ignored where not known. Of each band something is known.
    keys : of the ground noise, one a band: others for each band and date.
    bounds : of each band, the lowest and highest value that can be stored. Values stay within, and within what the
        camera tells apart, where black or saturation cuts its numbers off.
    least_noise : what is known of the noise from elsewhere (compression), where the job gives no level.
    """
    noise = [_noise(job, *each, least_noise) for each in zip(values, known, strict=True)]
    ends = [_narrower(cut_off(plane[where]), each) for plane, where, each in zip(values, known, bounds, strict=True)]
    seen = values if job.poisson is None else flattened(values, job.poisson, job.noise or 0.0)
    seen, common, work = np.where(known, seen, 0.0), np.logical_and.reduce(known), _Work(job, denoiser)
    shown = None
    if job.inpaints and not any(noise) and len(seen) <= MOST and (known.any(axis=0) & ~common).any():
        shown = _shown_exactly(seen, known, keys, work)
        seen, known = shown.value, known | (shown.standard_error > 0)
    apart = least_noise > 0 or 0 in noise or not alike(seen, _telling(seen, common), noise)
    if apart:
        found = _one_by_one(seen, known, noise, keys, ends, work, advance)
    else:
        found = _together(seen, known, noise, keys, work, advance)
    for number, (made, before, where, end) in enumerate(zip(found, values, known, ends, strict=True)):
        band = _as_is(made) if job.poisson is None else _light(made, job, before[where])
        band = band if shown is None else shown.put_on(band, number)
        yield replace(band, value=np.clip(band.value, *end), members=np.clip(band.members, *end))


@dataclass(frozen=True, slots=True)
class _Shown:
    """What other bands say of the gaps of one where pixels are exact, on the grid of the source."""

    value: Plane
    """(band, row, column)."""
    standard_error: Plane
    """0 where nothing is said."""
    departures: Plane
    """(band, member, row, column) from the value."""

    def put_on(self, made: RestoredBand, number: int) -> RestoredBand:
        """A band that was restored from this value, with its errors on top."""
        factor = made.value.shape[0] // self.value.shape[1]
        error = np.hypot(made.standard_error, repeated(self.standard_error[number], factor))
        return replace(made, standard_error=error, members=made.members + repeated(self.departures[number], factor))


def _shown_exactly(seen: Plane, known: NDArray[np.bool_], keys: Sequence[int], work: _Work) -> _Shown:
    """What others say of the gaps of bands, as in a fill; what that leaves of a band is the network's to fill."""
    centre, scale = (np.array([f(p[w]) for p, w in zip(seen, known, strict=True)]) for f in (np.mean, np.std))
    scale[scale == 0] = 1
    flat = np.where(known, (seen - centre[:, None, None]) / scale[:, None, None], 0).astype(np.float32)[None]
    whole, dates = Window(0, 0, *seen.shape[1:]), np.zeros(1, np.int64)
    patch = Patch(flat, known[None], np.ones_like(known)[None], np.zeros_like(flat), whole, 0, (0, 0), dates)
    shown = _Shown(seen.copy(), np.zeros_like(seen), np.zeros((len(seen), work.job.members, *seen.shape[1:])))
    for told in predictions_by_bands(patch):
        band, at, rest = told.place[1], told.where, told.rest(patch)
        unit = told.scale * scale[band]
        left = work(rest.values[0, 0], rest.known[0, 0], 0.0, ~keys[band], factor=1)
        value = scale[band] * told.trend(patch, 0) + centre[band] + unit * left.value
        shown.value[band][at] = value[at]
        shown.standard_error[band][at] = unit * np.maximum(left.standard_error, told.least)[at]
        shown.departures[band][:, at] = unit * (left.members - left.value)[:, at]
    return shown


def _narrower(one: Bounds, other: Bounds) -> Bounds:
    return max(one[0], other[0]), min(one[1], other[1])


def _one_by_one(
    seen: Plane,
    known: NDArray[np.bool_],
    noise: Sequence[float],
    keys: Sequence[int],
    bounds: Sequence[Bounds],
    work: _Work,
    advance: Callable[[], None],
) -> Iterator[Restored]:
    for plane, where, level, key, ends in zip(seen, known, noise, keys, bounds, strict=True):
        yield work(plane, where, level, key, advance, ends)


def _together(
    seen: Plane,
    known: NDArray[np.bool_],
    noise: Sequence[float],
    keys: Sequence[int],
    work: _Work,
    advance: Callable[[], None],
) -> Iterator[Restored]:
    """Bands by way of their components; where only some of them are known, what these say of all."""
    every, sets = tuple(range(len(seen))), _sets(known)

    def some(bands: tuple[int, ...]) -> Together:
        return _of_some(bands, seen, known, noise, [~key for key in keys], work)

    whole = _of_some(every, seen, known, noise, keys, work, advance)
    bands_made = (whole.components.band(band, whole.made) for band in every)
    if not sets:
        yield from bands_made
        return
    made: list[Restored] = list(bands_made)
    alone: dict[int, Together] = {}
    for number, (bands, where) in enumerate(sets):
        if number < len(every) and len(bands) > 1:
            put_shown(made, whole, some(bands), where)
            continue
        alone.update({band: some((band,)) for band in bands if band not in alone})
        put_shown(made, whole, Together.of(alone[band] for band in bands), where)
    yield from made


def _of_some(
    bands: tuple[int, ...],
    seen: Plane,
    known: NDArray[np.bool_],
    noise: Sequence[float],
    keys: Sequence[int],
    work: _Work,
    advance: Callable[[], None] = lambda: None,
) -> Together:
    """Some bands by way of their components, from where all of them are known."""
    own = list(bands)
    common = np.logical_and.reduce(known[own])
    telling = _telling(seen[own], common)
    components = Components.of(seen[own], telling, [noise[band] for band in own])
    planes = components.of_bands(seen[own], common)
    each = zip(planes, noise_of(planes, telling), own, strict=True)
    return Together(bands, components, [work(plane, common, level, keys[band], advance) for plane, level, band in each])


def _telling(seen: Plane, common: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where bands tell how they go together and how grainy they are: not where any is cut off, as in a black rim.

    In a component what is cut off stands anywhere, not at an end of its range, and looks like a calm place. All that is
    known in common, where next to nothing else is left.
    """
    telling = common.copy()
    for plane in seen:
        low, high = cut_off(plane[common])
        telling &= (plane > low) & (plane < high)
    return telling if np.count_nonzero(telling) >= _TELLING * np.count_nonzero(common) else common


def _sets(known: NDArray[np.bool_]) -> list[tuple[tuple[int, ...], NDArray[np.bool_]]]:
    """Bands that are known where others are not, and where (row, column); the commonest set first."""
    codes = np.tensordot(1 << np.arange(len(known)), known, 1)
    found, counts = np.unique(codes, return_counts=True)
    chosen = [code for code in found[np.argsort(-counts, kind="stable")].tolist() if 0 < code < (1 << len(known)) - 1]
    return [(tuple(band for band in range(len(known)) if code >> band & 1), codes == code) for code in chosen]


def _noise(job: RestoreJob, values: Plane, known: NDArray[np.bool_], least: float) -> float:
    """The noise to remove; 0 for none. Photon noise is even after its transform."""
    if not job.denoises:
        return 0.0
    if job.poisson is not None:
        return 1.0
    return job.noise if job.noise is not None else max(least, estimate_noise(values, known))


def _as_is(found: Restored) -> RestoredBand:
    value, error, members = (np.asarray(a, np.float64) for a in (found.value, found.standard_error, found.members))
    return RestoredBand(value, error, members, found.noise, found.windows)


def _light(found: Restored, job: RestoreJob, seen: Plane) -> RestoredBand:
    """Back from the transform in which photon noise is even; the noise told is that at the mean brightness."""
    gain, read = job.poisson or 1.0, job.noise or 0.0
    noise = float(np.hypot(np.sqrt(gain * np.maximum(seen, 0).mean()), read))
    error = slope(found.value, gain) * found.standard_error
    value, members = (raised(a, gain, read) for a in (found.value, found.members))
    return RestoredBand(value, error, members, noise, found.windows)
