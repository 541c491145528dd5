"""One band restored: physical values go in, and come out with their error, their realisations and where each stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geodiff.diffusion.restoration import Restored, estimate_noise, restore_band
from geodiff.restoring.photons import flattened, raised, slope

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.diffusion.denoiser import Denoiser
    from geodiff.restoring.job import RestoreJob

    Plane = NDArray[np.float64]

__all__ = ["RestoredBand", "restored_band"]


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


def restored_band(
    values: Plane,
    known: NDArray[np.bool_],
    job: RestoreJob,
    denoiser: Denoiser,
    *,
    key: int,
    least_noise: float = 0.0,
    advance: Callable[[], None] = lambda: None,
) -> RestoredBand:
    """Do a job's tasks on one band.

    Parameters
    ----------
    values : (row, column), physical; ignored where not known.
    key : of the ground noise: another one for each band and date.
    least_noise : what is known of the noise from elsewhere (compression), where the job gives no level.
    """
    light = job.poisson is not None
    seen = flattened(values, job.poisson or 1.0, job.noise or 0.0) if light else values
    found = restore_band(
        seen,
        known,
        denoiser,
        denoise=job.denoises,
        noise=1.0 if light else _noise(job, values, known, least_noise),
        factor=job.enlargement,
        members=job.members,
        seed=job.seed,
        band=key,
        steps=job.steps,
        advance=advance,
    )
    if job.poisson is None:
        return _as_is(found)
    brightness = float(np.maximum(values[known], 0).mean())
    return _light(found, job.poisson, job.noise or 0.0, brightness)


def _noise(job: RestoreJob, values: Plane, known: NDArray[np.bool_], least: float) -> float | None:
    """The noise to remove; None leaves it to be estimated."""
    if not job.denoises or job.noise is not None or least <= 0:
        return job.noise if job.denoises else None
    return max(least, estimate_noise(values, known))


def _as_is(found: Restored) -> RestoredBand:
    value, error, members = (np.asarray(a, np.float64) for a in (found.value, found.standard_error, found.members))
    return RestoredBand(value, error, members, found.noise, found.windows)


def _light(found: Restored, gain: float, read: float, brightness: float) -> RestoredBand:
    """Back from the transform in which photon noise is even; the noise told is that at the mean brightness."""
    noise = float(np.hypot(np.sqrt(gain * brightness), read))
    error = slope(found.value, gain) * found.standard_error
    value, members = (raised(a, gain, read) for a in (found.value, found.members))
    return RestoredBand(value, error, members, noise, found.windows)
