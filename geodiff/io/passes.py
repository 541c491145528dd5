"""Tiles that a satellite saw in one pass, as one date: the Items of a catalogue are tiles, and its passes are dates.

All lie on one grid that holds them, moved by whole pixels, so that a known pixel stays as its tile stores it. Where
tiles overlap, the first that knows a pixel gives it, values and quality flags alike: a tile does not know what its
nodata or its mask leaves out, nor, on the grid of its flags, what they call fill.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.encoding import is_nodata, unpack
from geodiff.flags import is_fill, load_preset
from geodiff.io.placed import assert_joined, assert_shifted_only, common_grid, on_grid
from geodiff.io.stack import PASS, common, required_date, same_quality, same_variable

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from odc.geo.geobox import GeoBox

    from geodiff.encoding import Encoding
    from geodiff.io import Raster, Reader, Variable
    from geodiff.lattice import Window

__all__ = ["FirstKnown", "Tile", "one_date_a_pass"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tile:
    """A raster of one date, and who saw it."""

    name: str
    raster: Raster
    satellite: str = ""

    @property
    def when(self) -> np.datetime64:
        """When it was seen; raises SourceError where that is not told."""
        return required_date(self.raster)

    @property
    def ground(self) -> GeoBox:
        """Where it lies."""
        return self.raster.variables[0].geobox


def one_date_a_pass(tiles: Sequence[Tile], source: str) -> list[Raster]:
    """Rasters of one date each on one grid, in the order of time.

    Raises
    ------
    SourceError
        Where a tile does not say when it was seen, or lacks quality flags that the others have.
    GridError
        Where tiles differ in CRS, pixel size, bands or dtype, or lie apart.
    """
    passes = _passes(tiles)
    rasters = iter(_on_one_grid([tile.raster for tiles in passes for tile in tiles]))
    _log(passes, source)
    return [_together([next(rasters) for _ in tiles], tiles) for tiles in passes]


def _passes(tiles: Sequence[Tile]) -> list[list[Tile]]:
    """Tiles by the pass they were seen in; within it by time and name, so that no order of a catalogue counts."""
    found: list[list[Tile]] = []
    running: list[list[Tile]] = []
    for tile in sorted(tiles, key=lambda tile: (tile.when, tile.name)):
        running = [one for one in running if tile.when - one[-1].when <= PASS]
        home = next((one for one in running if _belongs(tile, one)), None)
        if home is None:
            running.append([])
            found.append(home := running[-1])
        home.append(tile)
    return found


def _belongs(tile: Tile, one: Sequence[Tile]) -> bool:
    """Whether a tile is of that pass: a satellite does not come back at once, so the same ground later is a new one."""
    first = one[0]
    if tile.satellite != first.satellite or not tile.raster.variables[0].georeferenced:
        return False
    return all(tile.ground != other.ground or tile.when == other.when for other in one)


def _log(passes: Sequence[Sequence[Tile]], source: str) -> None:
    count = sum(map(len, passes))
    if len(passes) < count:
        logger.info(
            "%s: %d Items are tiles of %d %s; where tiles overlap, a pixel is from the first in which it is known",
            source, count, len(passes), "pass" if len(passes) == 1 else "passes, which are the dates",
        )  # fmt: skip
    twins = [tile.name for tiles in passes for n, tile in enumerate(tiles) if tile.ground in _grounds(tiles[:n])]
    if twins:
        logger.warning(
            "%s: %s shows what another Item shows at the same moment (%d such Items) and gives only what that one does "
            "not know; if it is another product, fill it by itself", source, twins[0], len(twins),
        )  # fmt: skip


def _grounds(tiles: Sequence[Tile]) -> list[GeoBox]:
    return [tile.ground for tile in tiles]


# -- one grid


def _on_one_grid(rasters: Sequence[Raster]) -> list[Raster]:
    """The variables and flags of the first, of each raster, all on grids that hold all of them."""
    first, paths = rasters[0], [raster.path for raster in rasters]
    values = [_placed([same_variable(raster, variable) for raster in rasters], paths) for variable in first.variables]
    flags = [_placed([same_quality(raster, band).variable for raster in rasters], paths) for band in first.quality]
    return [
        replace(
            raster,
            variables=tuple(placed[n] for placed in values),
            quality=tuple(replace(band, variable=placed[n]) for band, placed in zip(first.quality, flags, strict=True)),
        )
        for n, raster in enumerate(rasters)
    ]


def _placed(alike: Sequence[Variable], paths: Sequence[str]) -> list[Variable]:
    """A variable of each tile on the grid of all of them."""
    for variable, path in zip(alike, paths, strict=True):
        assert_shifted_only(variable, alike[0], path)
    boxes = [variable.geobox for variable in alike]
    assert_joined(boxes, paths)
    whole = common_grid(boxes, alike[0].name)
    return [replace(variable, geobox=whole, reader=on_grid(variable, whole)) for variable in alike]


# -- one date


def _together(rasters: Sequence[Raster], tiles: Sequence[Tile]) -> Raster:
    """The tiles of a pass, which lie on one grid, as one raster; its moment is that of the first."""
    first = rasters[0]
    if len(rasters) == 1:
        return first
    return replace(
        first,
        driver="STAC",
        variables=tuple(
            _of_first([raster.variables[n] for raster in rasters], rasters) for n in range(len(first.variables))
        ),
        quality=tuple(
            replace(band, variable=_of_first([raster.quality[n].variable for raster in rasters], rasters))
            for n, band in enumerate(first.quality)
        ),
        attributes=common([raster.attributes for raster in rasters]),
        files=(
            f"item:one date of {' '.join(tile.name for tile in tiles)}",
            *dict.fromkeys(name for raster in rasters for name in raster.files),
        ),
    )


def _of_first(alike: Sequence[Variable], rasters: Sequence[Raster]) -> Variable:
    parts = tuple(
        Part(variable.reader, tuple(band.encoding for band in variable.bands), _flags_on(raster, variable))
        for variable, raster in zip(alike, rasters, strict=True)
    )
    return replace(alike[0], reader=FirstKnown(parts), attributes=common([variable.attributes for variable in alike]))


def _flags_on(raster: Raster, variable: Variable) -> tuple[Flags, ...]:
    """The quality flags of a tile that lie on a variable's own grid, itself among them where it is one."""
    return tuple(
        Flags(band.variable.reader, band.preset, band.layer)
        for band in raster.quality
        if band.variable.geobox == variable.geobox
        and (not band.applies_to or variable.name in (*band.applies_to, band.variable.name))
        and load_preset(band.preset).layer(band.layer).kind != "special"
    )


@dataclass(frozen=True, slots=True)
class Flags:
    """Quality flags of one tile."""

    reader: Reader
    preset: str
    layer: str | None

    def fill(self, date: int, window: Window) -> NDArray[np.bool_]:
        """(row, column): True where they say that nothing was seen."""
        fill = is_fill(self.reader.read(date, window), self.preset, layer=self.layer)
        return np.asarray(fill.any(axis=0))


@dataclass(frozen=True, slots=True)
class Part:
    """One tile of a variable, on the grid of all."""

    reader: Reader
    encodings: tuple[Encoding, ...]
    flags: tuple[Flags, ...]

    def shown(self, date: int, window: Window) -> NDArray[np.bool_]:
        """(row, column): True where the tile lies, and its mask does not hide it."""
        valid = self.reader.valid(date, window)
        return np.ones(window.shape, bool) if valid is None else valid

    def known(self, stored: NDArray[Any], date: int, window: Window) -> NDArray[np.bool_]:
        """(band, row, column): True where the numbers are values and no flag of the tile says fill."""
        known: NDArray[np.bool_] = np.stack([_is_known(*each) for each in zip(stored, self.encodings, strict=True)])
        for flags in self.flags:
            known &= ~flags.fill(date, window)
        return known


def _is_known(stored: NDArray[Any], encoding: Encoding) -> NDArray[np.bool_]:
    return ~is_nodata(stored, encoding) if encoding.valid_range is None else unpack(stored, encoding)[1]


@dataclass(frozen=True, slots=True)
class FirstKnown:
    """A reader over tiles on one grid: of each band the first known number, else the first that is shown."""

    parts: tuple[Part, ...]

    def read(self, date: int, window: Window) -> NDArray[Any]:
        """(band, row, column) in the stored dtype; tiles are read only where those before them leave something open."""
        first = self.parts[0]
        values = np.array(first.reader.read(date, window))
        others = [(part, shown) for part in self.parts[1:] if (shown := part.shown(date, window)).any()]
        if not others:
            return values
        seen = first.shown(date, window)
        missing = ~(first.known(values, date, window) & seen)
        for part, shown in others:
            if not missing.any():
                break
            stored = part.reader.read(date, window)
            known = part.known(stored, date, window) & shown
            taken = missing & (known | (shown & ~seen))
            values[taken] = stored[taken]
            missing &= ~known
            seen = seen | shown
        return values

    def valid(self, date: int, window: Window) -> NDArray[np.bool_] | None:
        """(row, column): True where a tile says so; None where one shows all and has no mask."""
        masks = [part.reader.valid(date, window) for part in self.parts]
        told = [mask for mask in masks if mask is not None]
        return None if len(told) < len(masks) else np.logical_or.reduce(told)
