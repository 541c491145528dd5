"""Grainy bands of one scene seen together: what they share stands apart from what differs, and noise is even.

Grain differs from band to band where the scene hardly does. The minimum noise fraction transform (Green et al. 1988)
divides each band by its noise and turns all to their principal components: what the bands share is then seen with the
light of all of them, and the little that differs, such as the colour of a frame, is smoothed as much as it may be.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geodiff.diffusion.restoration import Restored, estimate_noise
from geodiff.lattice import repeated

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Planes = NDArray[np.float64]

__all__ = ["MOST", "Components", "Together", "alike", "noise_of", "put_shown"]

_ALIKE = 0.3
"""Least correlation of a band with the one most like it, without noise, for bands to be taken together."""
_SEEN = 0.1
"""Least share of a band's variance that is taken for what it shows."""
MOST = 16
"""Bands that are taken together at most: all of them are in memory at a time."""
_SAMPLE = 1 << 20
"""Pixels from which correlations are learnt, about."""
_LAYERS = ("value", "standard_error", "members")
_CHUNK = 1 << 14
"""Pixels whose covariances of bands are in memory at a time."""
_RIDGE = 1e-6
"""Over the variance of a band: those that are copies of each other share their weight."""
_NOTHING = 1e-3
"""A component with less of the noise of a band has none: bands that are copies of each other differ by rounding."""


def alike(planes: Planes, known: NDArray[np.bool_], noise: Sequence[float]) -> bool:
    """Whether bands (band, row, column) show the same where all are known (row, column): each like some other.

    Like or reversed, and as far as their noise lets it be seen. On photographs and satellites' bands the turn gains .6
    to 2 dB from a correlation of .3 on, and .1 is lost in the worst case; bands that share nothing would be blended.
    """
    if not 2 <= len(planes) <= MOST:
        return False
    seen = _sample(planes, known)
    if seen.shape[1] < 64 or not (seen.std(axis=1) > 0).all():
        return False
    covariance = np.cov(seen)
    variance = covariance.diagonal()
    signal = np.sqrt(np.maximum(variance - np.square(noise), _SEEN * variance))
    correlation = np.abs(covariance) / np.outer(signal, signal)
    np.fill_diagonal(correlation, 0)
    return bool(correlation.max(axis=1).min() >= _ALIKE)


def _sample(planes: Planes, known: NDArray[np.bool_]) -> Planes:
    """(band, pixel): known pixels, every so many of them in large frames."""
    where = np.flatnonzero(known)
    return np.asarray(planes.reshape(len(planes), -1)[:, where[:: max(1, where.size // _SAMPLE)]], np.float64)


@dataclass(frozen=True, slots=True)
class Components:
    """A turn of bands that were divided by their noise; it goes both ways without loss."""

    centre: Planes
    """(band,): subtracted first."""
    noise: Planes
    """(band,): standard deviations, positive."""
    turn: Planes
    """(component, band): orthonormal rows, the component that bands share first."""

    @classmethod
    def of(cls, planes: Planes, known: NDArray[np.bool_], noise: Sequence[float]) -> Components:
        """The transform that a frame (band, row, column) asks for."""
        seen = _sample(planes, known)
        centre, each = seen.mean(axis=1), np.asarray(noise, np.float64)
        _, vectors = np.linalg.eigh(np.atleast_2d(np.cov((seen - centre[:, None]) / each[:, None])))
        turn = vectors.T[::-1]
        largest = np.take_along_axis(turn, np.abs(turn).argmax(axis=1)[:, None], axis=1)
        return cls(centre, each, np.ascontiguousarray(turn * np.sign(largest)))

    def of_bands(self, planes: Planes, known: NDArray[np.bool_]) -> Planes:
        """(component, row, column); 0 where not known."""
        whitened = (planes - self.centre[:, None, None]) / self.noise[:, None, None]
        return np.tensordot(self.turn, np.where(known, whitened, 0.0), 1)

    def band(self, number: int, found: Sequence[Restored]) -> Restored:
        """A band of what was made of the components; their errors are independent."""
        weights = self.noise[number] * self.turn[:, number]
        value, error, members = (np.stack([getattr(each, name) for each in found]) for name in _LAYERS)
        return Restored(
            np.asarray(np.tensordot(weights, value, 1) + self.centre[number], np.float32),
            np.sqrt(np.tensordot(weights**2, error.astype(np.float64) ** 2, 1)).astype(np.float32),
            np.asarray(np.tensordot(weights, members, 1) + self.centre[number], np.float32),
            float(self.noise[number]),
            found[number].windows,
        )


def noise_of(components: Planes, known: NDArray[np.bool_]) -> list[float]:
    """The noise of each component (component, row, column), 1 on average of variances.

    Noise of which bands share nothing is 1 in each; after demosaicking or compression they share some, and it stands
    in the first components.
    """
    levels = np.array([estimate_noise(plane, known) for plane in components])
    levels *= np.sqrt(len(levels) / max(float((levels**2).sum()), 1e-12))
    return [float(level) if level > _NOTHING else 0.0 for level in levels]


@dataclass(frozen=True, slots=True)
class Together:
    """Some bands of a frame, restored by way of their components; the errors of these are independent."""

    bands: Sequence[int]
    """Numbers in the frame."""
    components: Components
    made: Sequence[Restored]

    @classmethod
    def of(cls, parts: Iterable[Together]) -> Together:
        """Sets of bands that were restored each by itself, as one."""
        from scipy.linalg import block_diag

        each = list(parts)
        components = [part.components for part in each]
        joined = Components(
            np.concatenate([part.centre for part in components]),
            np.concatenate([part.noise for part in components]),
            block_diag(*(part.turn for part in components)),
        )
        return cls([band for part in each for band in part.bands], joined, [m for part in each for m in part.made])

    def at(self, places: NDArray[np.intp]) -> tuple[Planes, Planes, Planes]:
        """Value (band, pixel), covariance of errors (pixel, band, band) and members (member, band, pixel).

        Parameters
        ----------
        places : (pixel,) in the flat frame.
        """
        mixing = (self.components.turn * self.components.noise).T
        value, error = (np.stack([getattr(m, name).ravel()[places] for m in self.made]) for name in _LAYERS[:2])
        members = np.stack([_flat(m)[:, places] for m in self.made], axis=1)
        covariance = np.einsum("ik,kp,jk->pij", mixing, error.astype(np.float64) ** 2, mixing)
        centre = self.components.centre[:, None]
        return mixing @ value + centre, covariance, mixing @ members + centre


def put_shown(bands: Sequence[Restored], whole: Together, shown: Together, where: NDArray[np.bool_]) -> None:
    """Put into all `bands`, where only those of `shown` were observed, what these say.

    `whole` tells there from around what all bands are and how they depart together; given what those that were seen
    are, the others follow (the conditional mean of normal errors, as a Kalman filter's update).

    Parameters
    ----------
    where : (row, column) of the source.
    """
    finer = repeated(where, bands[0].value.shape[0] // where.shape[0])
    places, own, diagonal = np.flatnonzero(finer), list(shown.bands), np.arange(len(shown.bands))
    for start in range(0, places.size, _CHUNK):
        some = places[start : start + _CHUNK]
        (value, spread, members), (seen, noise, drawn) = whole.at(some), shown.at(some)
        system = spread[:, own][:, :, own] + noise
        system[:, diagonal, diagonal] *= 1 + _RIDGE
        system[:, diagonal, diagonal] += np.finfo(np.float64).tiny
        gain = np.linalg.solve(system, spread[:, own]).swapaxes(1, 2)
        variance = np.einsum("pii->ip", spread) - np.einsum("pij,pij->ip", gain, spread[:, :, own])
        value += np.einsum("pij,jp->ip", gain, seen - value[own])
        members += np.einsum("pij,mjp->mip", gain, drawn - members[:, own])
        value[own], members[:, own], variance[own] = seen, drawn, np.einsum("pii->ip", noise)
        for number, band in enumerate(bands):
            band.value.flat[some] = value[number]
            band.standard_error.flat[some] = np.sqrt(np.maximum(variance[number], 0))
            _flat(band)[:, some] = members[:, number]


def _flat(found: Restored) -> NDArray[np.float32]:
    """(member, pixel)."""
    return found.members.reshape(len(found.members), found.value.size)
