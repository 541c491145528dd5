"""Quality bands: which of them explain a variable, as `--qa` names them, and what they hold at its dates and pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.errors import FlagError, GridError, InputError
from geodiff.flags import PRESETS, ProductFacts, guess, layer_named
from geodiff.io import QualityBand, Raster, Variable, open_raster
from geodiff.io.contents import PickedReader
from geodiff.lattice import Window

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from odc.geo.geobox import GeoBox

__all__ = ["band_places", "flags_inside", "quality_of", "read_aligned", "same_date"]

_INSIDE = "cf-codes"


def quality_of(raster: Raster, variable: Variable, wanted: Sequence[str]) -> tuple[QualityBand, ...]:
    """The quality bands that explain a variable: of each that is `wanted`, `auto`, `none` or PRESET[:PATH or band].

    Codes among its own numbers count beside any preset. Raises FlagError for a preset that does not exist, a band or
    file that does not, and one of another preset.
    """
    found = [q for q in raster.quality if not q.applies_to or variable.name in q.applies_to]
    chosen: list[QualityBand] = []
    for text in wanted:
        preset, _, where = text.partition(":")
        if text == "none":
            continue
        if text == "auto":
            chosen += found
        elif preset not in PRESETS:
            raise FlagError(f"--qa {text}: {_no_preset(text, preset)}")
        elif where:
            chosen += _named_quality(raster, preset, where)
        else:
            chosen += _of_preset(raster, variable, preset, found)
    if not {"auto", "none", _INSIDE} & set(wanted):  # other flags say nothing of codes among the numbers themselves
        chosen += [q for q in found if q.preset == _INSIDE]
    return tuple(chosen)


def _no_preset(text: str, preset: str) -> str:
    """What is wrong with a `--qa` that names no preset, and the cure."""
    known = ", ".join(PRESETS)
    if not Path(text).exists():
        return f"no preset is called {preset!r}; choose one of {known}"
    reader = guess(ProductFacts(files=(Path(text).name,))) or "PRESET"
    return f"that is a file; say how to read it, as --qa {reader}:{text} (one of {known}), or give it as --mask"


def _of_preset(raster: Raster, variable: Variable, preset: str, found: Sequence[QualityBand]) -> Sequence[QualityBand]:
    same = [q for q in found if q.preset == preset]
    if same:
        return same
    if preset in ("isis-special", "pds", "modis-snow"):  # the special numbers stand in the data bands themselves
        return [QualityBand(variable, preset)]
    raise FlagError(f"--qa {preset}: {raster.path} names no such quality band; say where it is with --qa {preset}:PATH")


def _named_quality(raster: Raster, preset: str, where: str) -> Sequence[QualityBand]:
    """Quality bands by band name or number inside the source, or by a path or quoted glob; each with its own table."""
    inside = flags_inside(raster, where)
    if inside is not None:
        own = [q for q in raster.quality if (q.preset, q.variable.name) == (preset, inside.name)]
        return own or [QualityBand(inside, preset, layer=_layer_of(preset, where, inside.name))]
    if not Path(where).exists() and not any(sign in where for sign in ("://", *"*?[")):
        raise FlagError(f"--qa {preset}:{where} is neither a file nor a band of {raster.path}")
    opened = open_raster(where)
    found = [replace(q, applies_to=()) for q in opened.quality if q.preset == preset]
    name = PurePath(next(iter(opened.files), where)).name
    return found or [QualityBand(opened.variables[0], preset, layer=_layer_of(preset, where, name))]


def _layer_of(preset: str, where: str, name: str) -> str | None:
    """The layer that a band or file of that name holds; FlagError where it is known as another preset's.

    Most numbers of one Landsat collection mean something in the other's table too: its water would be cloud shadow.
    """
    layer = layer_named(preset, name)
    others = [other for other in PRESETS if layer_named(other, name) is not None]
    if layer is None and others:
        raise FlagError(
            f"--qa {preset}:{where}: a quality band of that name is {others[0]}'s, whose numbers mean something else; "
            f"use --qa {others[0]}:{where}, or a mask made of it (--mask)"
        )
    return layer


def flags_inside(raster: Raster, where: str) -> Variable | None:
    """The variable or band of the source that `--qa PRESET:WHERE` names; None where it names none, and is a path."""
    for variable in raster.variables:
        if where == variable.name:
            return variable
        places = band_places(where, variable, range(1, len(variable.bands) + 1))
        if places:
            return _only(variable, places[0])
    return None


def _only(variable: Variable, index: int) -> Variable:
    band = variable.bands[index]
    return Variable(
        band.name, (band,), variable.geobox, PickedReader(variable.reader, (index,)), variable.dates, variable.chunk
    )


def band_places(text: str, variable: Variable, numbers: Sequence[int]) -> list[int]:
    """The index of the band of that name, else of that number, in a list; empty where there is none."""
    names = [band.name for band in variable.bands]
    if text in names:
        return [names.index(text)]
    return [numbers.index(int(text))] if text.isdigit() and int(text) in numbers else []


def same_date(flags: Variable, variable: Variable, date: int, preset: str) -> int:
    """Which date of a quality variable explains a date of the source: the same one, or the only one.

    Raises InputError where none of several does.
    """
    if len(flags.dates) == 1:
        return 0
    if tuple(flags.dates) == tuple(variable.dates):
        return date
    wanted = variable.dates[date]
    if wanted is not None and list(flags.dates).count(wanted) == 1:
        return list(flags.dates).index(wanted)
    if len(flags.dates) == len(variable.dates) and (wanted is None or all(d is None for d in flags.dates)):
        return date
    raise InputError(
        f"--qa {preset}: {flags.name} has {len(flags.dates)} dates, and none of them alone is "
        f"{'date ' + str(date + 1) if wanted is None else str(wanted)} of the source; give flags of the same dates"
    )


def read_aligned(flags: Variable, date: int, window: Window, geobox: GeoBox) -> NDArray[Any]:
    """Flag values (band, row, column) at the pixels of `window` on `geobox`: nearest, never interpolated.

    Raises GridError where the flags' grid is rotated against the other, of another CRS, or covers it only in part.
    """
    if flags.geobox.shape == geobox.shape and flags.geobox.affine == geobox.affine:
        return flags.reader.read(date, window)
    rows, columns = _nearest_pixels(flags.geobox, window, geobox)
    height, width = (int(n) for n in flags.geobox.shape)
    beyond = max(-rows.min(), -columns.min(), rows.max() - height + 1, columns.max() - width + 1)
    if beyond > 1:  # of one pixel grids of several resolutions may miss each other
        raise GridError(
            f"the quality band {flags.name} covers the scene only in part, and beyond it nothing says what is missing; "
            "give flags of the whole scene, or cut the scene to them"
        )
    rows, columns = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
    top, left = int(rows.min()), int(columns.min())
    area = Window(top, left, int(rows.max()) - top + 1, int(columns.max()) - left + 1)
    return flags.reader.read(date, area)[:, (rows - top)[:, None], (columns - left)[None, :]]


def _nearest_pixels(flags: GeoBox, window: Window, geobox: GeoBox) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    if flags.crs != geobox.crs:
        raise GridError(f"the quality band's CRS {flags.crs} is not the scene's {geobox.crs}; reproject it by nearest")
    to_flags = ~flags.affine @ geobox.affine
    if abs(to_flags.b) > 1e-9 or abs(to_flags.d) > 1e-9:
        raise GridError("the quality band's grid is rotated against the scene's; resample it by nearest first")
    rows = np.floor(to_flags.f + to_flags.e * (np.arange(window.row, window.stop[0]) + 0.5) + 1e-6)
    columns = np.floor(to_flags.c + to_flags.a * (np.arange(window.column, window.stop[1]) + 0.5) + 1e-6)
    return rows.astype(np.intp), columns.astype(np.intp)
