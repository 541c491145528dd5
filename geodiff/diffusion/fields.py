"""What the network is told about a patch, as plain arrays relative to the local level and scale.

The same functions make the training data and serve the filler, so that what was learnt is what is used. Values are
taken relative to a low-pass of the prior and divided by the local standard deviation: what the network sees does not
depend on the product's units or contrast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING

import numpy as np

from geodiff.fillers.relaxation import relaxed_fill
from geodiff.fillers.whitening import distance_to_known, error_at, local_spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "CHANNELS",
    "DATES",
    "Layer",
    "Scene",
    "channel",
    "context",
    "filled",
    "local_scale",
    "lowpass",
    "standard",
    "whitening_error",
]

CHANNELS = (
    "value",
    "known",
    "never",
    "prior",
    "level",
    "log_error",
    "log_distance",
    "date1",
    "date2",
    "date3",
    "date1_known",
    "date2_known",
    "date3_known",
    "guide",
    "guide_known",
    "elevation",
    "sin_day",
    "cos_day",
    "degraded",
)
"""Context channels after the noisy residual, in order; absent ones are zero. `degraded` is for restoration."""

DATES = 3
"""Nearest dates the network can look at."""

FLOOR = np.float32(0.03)
"""Least scale and expected error, of the product's robust scale."""
_CLIP = 8.0
"""Standardised values are cut here, so that a spike cannot own the network's sums."""


def channel(name: str) -> int:
    """Index of a context channel."""
    return CHANNELS.index(name)


@dataclass(frozen=True)
class Layer:
    """An image with its known pixels, and what they say of their surroundings, which is worked out once."""

    values: NDArray[np.float32]
    """(row, column), finite everywhere."""
    known: NDArray[np.bool_]
    wider: NDArray[np.float32] | None = None
    """(row, column) pixels to the nearest known one, were more shown around; where it is at hand."""

    @cached_property
    def distance(self) -> NDArray[np.float32]:
        """(row, column) pixels to the nearest known one."""
        if self.wider is not None and (self.wider < _to_the_outside(*self.known.shape)).all():
            return self.wider  # the nearest is never outside
        return distance_to_known(self.known)

    @cached_property
    def spread(self) -> NDArray[np.float32]:
        """(row, column) standard deviation of the known pixels in 11 x 11, spread outward."""
        spread: NDArray[np.float32] = local_spread(self.values[None], self.known[None])[0]
        return spread


@dataclass(frozen=True, slots=True)
class Scene:
    """All that may inform one band of one date: arrays (row, column) on one grid."""

    target: Layer
    wanted: NDArray[np.bool_]
    """True where an estimate is asked for; what is neither known nor wanted was never observed."""
    prior: NDArray[np.float32]
    """Prior estimate; equal to the target where known."""
    error: NDArray[np.float32]
    """Its expected error s0, positive."""
    dates: Sequence[Layer] = ()
    """Other dates of the band, the nearest first."""
    guide: Layer | None = None
    elevation: NDArray[np.float32] | None = None
    day: float | None = None
    """Day of the year, 0 to 366; None where the source has no dates."""
    degraded: NDArray[np.float32] | None = field(default=None)


@cache
def _to_the_outside(rows: int, columns: int) -> NDArray[np.float32]:
    """(row, column) pixels from each pixel of an image to the nearest that is not in it."""
    down, across = (np.minimum(np.arange(1, n + 1), np.arange(n, 0, -1)) for n in (rows, columns))
    return np.minimum.outer(down, across).astype(np.float32)


def local_scale(layer: Layer) -> NDArray[np.float32]:
    """What values are standardised by: their spread, (row, column), at least `FLOOR`."""
    return np.asarray(np.maximum(layer.spread, FLOOR), np.float32)


def whitening_error(layer: Layer) -> NDArray[np.float32]:
    """Scale s0 of the residual to a spatial prior, (row, column), at least `FLOOR`.

    The expected error with a factor 1.1 (1 + d/8)^0.3, which was measured: residuals of the training observations grow
    beyond the range of 5 pixels (standard deviation 1.1 beside data, 1.5 to 3 at 32 pixels without it).
    """
    error = error_at(layer.distance, layer.spread)
    scale = error * np.float32(1.1) * (1 + layer.distance / 8) ** np.float32(0.3)
    return np.asarray(np.maximum(scale, FLOOR), np.float32)


def filled(layer: Layer, cycles: int = 1) -> NDArray[np.float32]:
    """The layer relaxed from its known pixels, (row, column); far from them it tends to their mean."""
    known = layer.known
    mean = np.float32(layer.values[known].mean()) if known.any() else np.float32(0)
    values = np.where(known, layer.values, 0)[None].astype(np.float32)
    surface: NDArray[np.float32] = relaxed_fill(values, known[None], np.full_like(values, mean), cycles=cycles)[0]
    return surface


def lowpass(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Two passes of a 9 x 9 box: a Gaussian of 3.7 pixels, near enough."""
    from scipy import ndimage

    once: NDArray[np.float32] = ndimage.uniform_filter(image, 9, mode="reflect")
    twice: NDArray[np.float32] = ndimage.uniform_filter(once, 9, mode="reflect")
    return twice


def standard(
    image: NDArray[np.float32], level: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Departure from the level in units of the local scale."""
    return np.asarray(np.clip((image - level) / scale, -_CLIP, _CLIP), np.float32)


def _beside(layer: Layer, target_known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Another image, standardised by what it shows where the target is known.

    Within the target's gap this is the image's departure from its own interpolation: what the target may have lost.
    """
    shared = Layer(layer.values, layer.known & target_known)
    level = lowpass(filled(shared))
    return np.where(layer.known, standard(layer.values, level, local_scale(shared)), np.float32(0))


def context(scene: Scene) -> NDArray[np.float32]:
    """Context channels (channel, row, column) in the order of `CHANNELS`; finite everywhere."""
    known = scene.target.known
    level, scale = lowpass(scene.prior), local_scale(scene.target)
    planes = np.zeros((len(CHANNELS), *known.shape), np.float32)
    planes[channel("value")] = np.where(known, standard(scene.target.values, level, scale), 0)
    planes[channel("known")] = known
    planes[channel("never")] = ~known & ~scene.wanted
    planes[channel("prior")] = standard(scene.prior, level, scale)
    planes[channel("level")] = np.clip(level, -_CLIP, _CLIP)
    planes[channel("log_error")] = np.log(scene.error)
    planes[channel("log_distance")] = np.log1p(scene.target.distance)
    for index, layer in enumerate(scene.dates[:DATES], start=1):
        planes[channel(f"date{index}")] = _beside(layer, known)
        planes[channel(f"date{index}_known")] = layer.known
    if scene.guide is not None:
        planes[channel("guide")] = _beside(scene.guide, known)
        planes[channel("guide_known")] = scene.guide.known
    if scene.elevation is not None:
        ground = lowpass(scene.elevation)
        planes[channel("elevation")] = standard(
            scene.elevation, ground, local_scale(Layer(scene.elevation, np.ones_like(known)))
        )
    if scene.day is not None:
        planes[channel("sin_day")] = np.sin(2 * np.pi * scene.day / 365.25)
        planes[channel("cos_day")] = np.cos(2 * np.pi * scene.day / 365.25)
    if scene.degraded is not None:
        planes[channel("degraded")] = standard(scene.degraded, level, scale)
    return planes
