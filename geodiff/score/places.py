"""A hidden place: what everyone is told of it, what they are judged by, and the null model that needs all of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.peers import Plane
from geodiff.peers.null import NAME as NULL
from geodiff.peers.null import Residual, fit_null
from geodiff.score.hiding import Case
from geodiff.score.moments import Answer, Ground, Outcome, octaves, seam_sums, summed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.encoding import Normalisation

__all__ = ["Place", "Units", "outcome_of", "with_null"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Units:
    """From normalised numbers of one round to those of the league."""

    gain: NDArray[np.float32]
    """(band, 1, 1)."""
    offset: NDArray[np.float32]
    least: NDArray[np.float32]
    """In the units of the league: what is delivered never lies below, see `Normalisation.lowest`."""
    most: NDArray[np.float32]

    @classmethod
    def of(cls, ours: Sequence[Normalisation], common: Sequence[Normalisation]) -> Units:
        """Those of a single band are the raster's, transformed; of several the scales of the whole scene."""
        units = common if len(ours) > 1 else [replace(ours[0], centre=0.0, scale=1.0)]
        pairs = list(zip(ours, units, strict=True))
        gain = [o.scale / u.scale for o, u in pairs]
        offset = [(o.centre - u.centre) / u.scale for o, u in pairs]
        least = [-np.inf if o.lowest is None else (o.lowest - u.centre) / u.scale for o, u in pairs]
        most = [np.inf if o.highest is None else (o.highest - u.centre) / u.scale for o, u in pairs]
        return cls(*(np.asarray(x, np.float32)[:, None, None] for x in (gain, offset, least, most)))

    def value(self, normalised: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray(normalised * self.gain + self.offset, np.float32)

    def answer(self, normalised: NDArray[Any]) -> NDArray[np.float32]:
        """What a method says, within the bounds of what is delivered."""
        return np.clip(self.value(normalised), self.least, self.most)

    def error(self, normalised: NDArray[Any] | None) -> NDArray[np.float32] | None:
        return None if normalised is None else np.asarray(normalised * self.gain, np.float32)


@dataclass(frozen=True)
class Place:
    """A case with all that is needed to answer and to judge it."""

    case: Case
    inner: tuple[slice, slice]
    """The case in its planes."""
    planes: tuple[Plane, ...]
    """One a band, with a margin."""
    ground: Ground
    label: str
    units: Units


def outcome_of(place: Place, said: Mapping[str, Answer], kind: str) -> Outcome:
    """Judge what everyone said of a place."""
    ground = place.ground
    return Outcome(
        place.label,
        kind,
        place.case.shape,
        int(ground.hidden.sum()),
        octaves(ground.truth, ground.corners, ground.side),
        {name: summed(answer, ground) for name, answer in said.items()},
        seam_sums(ground.truth, ground),
    )


def with_null(
    outcomes: Sequence[Outcome],
    bases: Sequence[tuple[Place, NDArray[np.float32]]],
    draws: int,
    seed: int,
    tick: Callable[[], None],
) -> list[Outcome]:
    """Add the null model; what is known of the residuals of one half of the cases makes the noise of the other."""
    if len(bases) < 2:
        logger.warning("%s needs two cases, to learn from one and be judged on the other; it is left out", NULL)
        return list(outcomes)
    residuals = [_residuals(place, value) for place, value in bases]
    nulls = [fit_null([r for i, own in enumerate(residuals) if i % 2 != fold for r in own]) for fold in (0, 1)]
    judged = []
    for index, (outcome, (place, value)) in enumerate(zip(outcomes, bases, strict=True)):
        null, began = nulls[index % 2], time.perf_counter()
        spread = np.stack([null.spread(p) for p in place.planes])[:, *place.inner]
        drawn = np.stack(
            [null.draw(p, max(draws, 2), seed + 31 * index + b) for b, p in enumerate(place.planes)], axis=1
        )
        draws_within = np.clip(value + drawn[..., *place.inner], place.units.least, place.units.most)
        answer = Answer(value, spread, draws_within, time.perf_counter() - began)
        judged.append(replace(outcome, methods={**outcome.methods, NULL: summed(answer, place.ground)}))
        tick()
    return judged


def _residuals(place: Place, value: NDArray[np.float32]) -> list[Residual]:
    residuals = []
    for band, plane in enumerate(place.planes):
        error = np.zeros(plane.known.shape, np.float32)
        error[place.inner] = value[band] - place.ground.truth[band]
        if plane.wanted.any():
            residuals.append(Residual(plane, error))
    return residuals
