"""Bands restored: physical values go in, and come out with their error, their realisations and where each stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from geodiff.diffusion.restoration import UNBOUNDED, Restored, cut_off, estimate_noise, restore_band
from geodiff.lattice import repeated
from geodiff.restoring.components import Components, alike, noise_of
from geodiff.restoring.photons import flattened, raised, slope

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.diffusion.denoiser import Denoiser
    from geodiff.restoring.job import RestoreJob

    Plane = NDArray[np.float64]
    Bounds = tuple[float, float]

__all__ = ["RestoredBand", "restored_bands"]


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
    ) -> Restored:
        return restore_band(
            seen,
            known,
            self.denoiser,
            denoise=noise > 0,
            noise=noise or None,
            factor=self.job.enlargement,
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
    apart = least_noise > 0 or 0 in noise or not alike(seen, common, noise)
    if apart:
        found = _one_by_one(seen, known, noise, keys, ends, work, advance)
    else:
        found = _together(seen, known, noise, keys, work, advance)
    for made, before, where, end in zip(found, values, known, ends, strict=True):
        band = _as_is(made) if job.poisson is None else _light(made, job, before[where])
        yield replace(band, value=np.clip(band.value, *end), members=np.clip(band.members, *end))


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
    """Bands by way of their components; each by itself where only some of them are known."""
    common = np.logical_and.reduce(known)
    components = Components.of(seen, common, noise)
    planes = components.of_bands(seen, common)
    made = [
        work(plane, common, level, key, advance)
        for plane, level, key in zip(planes, noise_of(planes, common), keys, strict=True)
    ]
    apart = repeated(np.logical_or.reduce(known) & ~common, work.job.enlargement)
    for number, key in enumerate(keys):
        band = components.band(number, made)
        yield _mixed(apart, work(seen[number], known[number], noise[number], key), band) if apart.any() else band


def _mixed(where: NDArray[np.bool_], one: Restored, other: Restored) -> Restored:
    """The one where it is asked for, the other elsewhere."""
    value = np.where(where, one.value, other.value)
    error = np.where(where, one.standard_error, other.standard_error)
    return Restored(value, error, np.where(where, one.members, other.members), other.noise, other.windows)


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
