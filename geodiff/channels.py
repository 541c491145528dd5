"""What is estimated of a cube whose bands go round: of each such band its cosine and its sine, two channels for one.

Fits, trials, patches and fillers see a cube of channels and know nothing of angles; products and gaps have bands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.encoding import Encoding, unpack
from geodiff.io import Band
from geodiff.scene import Cube
from geodiff.suspects import turns_of
from geodiff.turns import Turn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.lattice import Window

__all__ = [
    "Channels",
    "Turns",
    "bands_of",
    "first_channels",
    "in_channels",
    "load_turns",
    "outside_of_channels",
    "parts_of",
    "reasons_of_channels",
    "rounding_of_channels",
    "stored_turns",
    "turns_in",
]

Turns = tuple[Turn | None, ...]
"""One a band, None where it does not go round; empty where no band does, and the channels are the bands themselves."""


def turns_in(cube: Cube, known: Sequence[NDArray[np.float64]]) -> Turns:
    """What goes round of a cube's bands, by their names and a sample of their known physical values."""
    bands = [cube.variable.bands[band] for band in cube.bands]
    return turns_of(bands, known, cube.called) if cube.transform == "linear" else ()


def bands_of(turns: Turns) -> list[int]:
    """The place of each channel's band."""
    return [place for place, turn in enumerate(turns) for _ in range(1 if turn is None else 2)]


def first_channels(turns: Turns, bands: int) -> list[int]:
    """The place of each band's first channel, its cosine where it goes round; `bands` are so many."""
    found = bands_of(turns)
    return [found.index(band) for band in range(bands)] if found else list(range(bands))


def parts_of(values: Sequence[NDArray[np.float64]], turns: Turns) -> list[NDArray[np.float64]]:
    """Physical values, one array a band, as those of channels."""
    parts: list[NDArray[np.float64]] = []
    for own, turn in zip(values, turns or (None,) * len(values), strict=True):
        parts += [own] if turn is None else turn.parts(own)
    return parts


def rounding_of_channels(rounding: Sequence[float], turns: Turns) -> tuple[float, ...]:
    """Errors of rounding of bands as those of channels: the two of what goes round make together that of the angle."""
    if not turns:
        return tuple(rounding)
    return tuple(rounding[band] * _radians(turns[band]) for band in bands_of(turns))


def _radians(turn: Turn | None) -> float:
    return 1.0 if turn is None else math.sqrt(0.5) * 2 * math.pi / turn.length


def stored_turns(turns: Turns) -> list[list[float] | None]:
    """As plain facts, for a store."""
    return [None if turn is None else list(astuple(turn)) for turn in turns]


def load_turns(facts: Sequence[Sequence[float] | None]) -> Turns:
    """The inverse of `stored_turns`."""
    return tuple(None if fact is None else Turn(*fact) for fact in facts)


@dataclass(frozen=True)
class Channels(Cube):
    """A cube as fillers see it; its numbers are physical ones in float64, NaN where the source has none."""

    whole: Cube = field(kw_only=True)
    turns: Turns = field(kw_only=True)

    @property
    def shape(self) -> tuple[int, int]:
        return self.whole.shape

    def read(self, date: int, window: Window) -> NDArray[np.float64]:
        planes = []
        for numbers, band in zip(self.whole.read(date, window), self.whole.bands, strict=True):
            physical, valid = unpack(numbers, self.whole.variable.bands[band].encoding)
            planes.append(np.where(valid, physical, np.nan))
        return np.stack(parts_of(planes, self.turns))

    def reason(self, date: int, window: Window, stored: NDArray[Any] | None = None) -> NDArray[np.uint16]:  # noqa: ARG002 - the bands' own numbers say it
        return self.whole.reason(date, window)[bands_of(self.turns)]


def in_channels(cube: Cube, turns: Turns) -> Cube:
    """The cube as fillers see it: itself where none of its bands goes round."""
    if not turns:
        return cube
    encoding, own = Encoding(np.dtype(np.float64)), [cube.variable.bands[band] for band in cube.bands]
    bands: list[Band] = []
    for band, turn in zip(own, turns, strict=True):
        parts = [f"cosine of {band.name}", f"sine of {band.name}"]
        bands += [replace(band, encoding=encoding)] if turn is None else [Band(part, encoding) for part in parts]
    return Channels(
        replace(cube.variable, bands=tuple(bands)), tuple(range(len(bands))), cube.targets, cube.rules, cube.transform,
        whole=cube, turns=turns,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _OfBands:
    """What bands have, (..., band, row, column), read and written as that of channels."""

    of_bands: Any
    bands: Sequence[int]

    @property
    def shape(self) -> tuple[int, ...]:
        *front, _, rows, columns = self.of_bands.shape
        return *front, len(self.bands), rows, columns

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = self.of_bands.dtype
        return dtype

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return np.asarray(self.of_bands[key])[self.bands]

    def __setitem__(self, key: Any, value: NDArray[Any]) -> None:
        self.of_bands[key] = value[np.unique(self.bands, return_index=True)[1]]


def reasons_of_channels(reasons: Any, turns: Turns) -> Any:
    """The array of a cube's reasons as that of its channels, for keys of all bands of one date."""
    return _OfBands(reasons, bands_of(turns)) if turns else reasons


def outside_of_channels(outside: Any, turns: Turns) -> Any:
    """What is outside, `Cube.outside_shape`, as that of the cube's channels, for keys of all bands."""
    return _OfBands(outside, bands_of(turns)) if turns and len(outside.shape) > 2 else outside
