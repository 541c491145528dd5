"""The product of a restoration: its grid, its layers in memory, and what it says of itself."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.codes import CODES, OBSERVED, OUTSIDE, UNFILLED
from geodiff.encoding import Encoding, pack, unpack
from geodiff.gaps import Gaps, stored_reason
from geodiff.io import Kind, ProductVariable, Raster, Reader, Variable
from geodiff.io.geotiff import finer_points
from geodiff.lattice import Window, repeated

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from odc.geo.geobox import GeoBox

    from geodiff.restoring.bands import RestoredBand

__all__ = ["Layers", "enlarged_raster", "enlarged_variable"]

_log = logging.getLogger(__name__)
_RESTORED, _REPEATED = CODES["diffusion"], CODES["nearest"]


# -- the grid


@dataclass(frozen=True, slots=True)
class _Repeated:
    """A reader on a finer grid: every pixel is repeated, so codes stay codes."""

    reader: Reader
    factor: int
    mask: str = ""
    """Where the source's validity comes from, for writers that keep a mask."""

    def read(self, date: int, window: Window) -> NDArray[Any]:
        """(band, row, column) in the stored dtype."""
        coarse, inner = self._coarse(window)
        return repeated(self.reader.read(date, coarse), self.factor)[(..., *inner)]

    def valid(self, date: int, window: Window) -> NDArray[np.bool_] | None:
        """(row, column), where the source says valid; None without a mask."""
        coarse, inner = self._coarse(window)
        valid = self.reader.valid(date, coarse)
        return None if valid is None else repeated(valid, self.factor)[inner]

    def _coarse(self, window: Window) -> tuple[Window, tuple[slice, slice]]:
        """The source's pixels that a window touches, and where in them it lies."""
        (row, column), (bottom, right) = (window.row, window.column), window.stop
        first, left = row // self.factor, column // self.factor
        outer = Window(first, left, -(-bottom // self.factor) - first, -(-right // self.factor) - left)
        top, side = row - first * self.factor, column - left * self.factor
        return outer, (slice(top, top + window.height), slice(side, side + window.width))


def enlarged_raster(raster: Raster, factor: int) -> Raster:
    """The same source on a grid of pixels a `factor`-th the size, exactly over the same ground."""
    if factor == 1:
        return raster
    dropped = [key for key in raster.attributes if key.startswith("GEOLOCATION:")]
    if dropped:
        _log.warning("%s: geolocation arrays count the source's pixels; the enlarged product has none", raster.path)
    kept = {key: value for key, value in finer_points(raster.attributes, factor).items() if key not in dropped}
    variables = tuple(enlarged_variable(variable, factor) for variable in raster.variables)
    return replace(raster, variables=variables, quality=(), attributes=kept)


def enlarged_variable(variable: Variable, factor: int) -> Variable:
    """A variable with every pixel repeated; itself for a factor of 1."""
    if factor == 1:
        return variable
    reader = _Repeated(variable.reader, factor, str(getattr(variable.reader, "mask", "")))
    return replace(variable, geobox=_finer(variable.geobox, factor), reader=reader)


def _finer(geobox: GeoBox, factor: int) -> GeoBox:
    """A frame that lies nowhere goes on lying nowhere; any other affine is divided, which is exact for 2 and 4."""
    from affine import Affine
    from odc.geo.geobox import GeoBox as Grid

    shape = (int(geobox.shape[0]) * factor, int(geobox.shape[1]) * factor)
    if geobox.crs is None and geobox.affine.is_identity:
        return Grid(shape, geobox.affine, None)
    return Grid(shape, geobox.affine @ Affine.scale(1 / factor), geobox.crs)


# -- the layers


@dataclass(frozen=True, slots=True)
class Layers:
    """The layers of one variable in memory, (date, band, row, column) over all its bands and dates."""

    variable: Variable
    """On the grid of the product."""
    factor: int
    value: NDArray[Any]
    source: NDArray[np.uint8]
    reason: NDArray[np.uint16]
    standard_error: NDArray[np.float32]
    members: NDArray[Any]
    """With one axis more in front, of length 0 where none are drawn."""

    @classmethod
    def copied(cls, variable: Variable, factor: int, members: int) -> Layers:
        """Everything as the source has it; on a finer grid repeated, which the layers do not hide."""
        wide = enlarged_variable(variable, factor)
        whole = Window(0, 0, *wide.shape[2:])
        value = np.stack([wide.reader.read(date, whole) for date in range(len(wide.dates))])
        code, error = (OBSERVED, 0.0) if factor == 1 else (_REPEATED, np.nan)
        layers = cls(
            wide,
            factor,
            value,
            np.full(value.shape, code, np.uint8),
            np.zeros(value.shape, np.uint16),
            np.full(value.shape, error, np.float32),
            np.repeat(value[None], members, axis=0),
        )
        layers._mark_missing()
        return layers

    def _mark_missing(self) -> None:
        """What is missing from the start; the bands that are asked for say more of theirs later."""
        bands, whole = self.variable.bands, Window(0, 0, *self.variable.shape[2:])
        for date, (stored, reason) in enumerate(zip(self.value, self.reason, strict=True)):
            valid = self.variable.reader.valid(date, whole)
            found = stored_reason(stored, [band.encoding for band in bands], valid)
            for place, band in enumerate(bands):
                if band.kind is Kind.CONTINUOUS:
                    reason[place] = found[place]
        missing = self.reason != 0
        self.source[missing] = UNFILLED
        self.standard_error[missing] = np.nan

    def put_estimates(self, date: int, bands: tuple[int, ...], gaps: Gaps, filled: dict[str, NDArray[Any]]) -> None:
        """Layers of filled gaps, `name: (band, row, column)` as `blocks.block_layers` makes them; the rest is exact."""
        for place, band in enumerate(bands):
            codes = filled["source"][place]
            given = (codes != OBSERVED) & (codes < OUTSIDE)
            self._describe_gaps(date, band, gaps, place, given)
            self.source[date, band][given] = codes[given]
            self.standard_error[date, band][given] = filled["standard_error"][place][given]
            self.value[date, band][given] = filled["value"][place][given]
            if len(self.members):
                self.members[:, date, band, given] = filled["members"][:, place, given]

    def put_restored(
        self,
        date: int,
        band: int,
        gaps: Gaps,
        place: int,
        found: RestoredBand,
        measured: NDArray[np.bool_],
        *,
        inpaint: bool,
    ) -> None:
        """A restored band: estimates wherever something was observed, and in gaps where they are to be filled.

        What lies too far from all others to be measured (row, column) stays as it is.
        """
        missing, fillable = (repeated(a[place], self.factor) for a in (gaps.missing, gaps.fillable))
        odd = ~missing & repeated(~measured, self.factor)
        restored = ~missing & ~odd & (not found.exact or self.factor > 1)
        given = restored | (missing & fillable & inpaint)
        self._describe_gaps(date, band, gaps, place, given)
        encoding = self.variable.bands[band].encoding
        if self.factor > 1:
            self.source[date, band][odd], self.standard_error[date, band][odd] = _REPEATED, np.nan
        self.source[date, band][given] = _RESTORED
        errors = np.hypot(found.standard_error[given], encoding.rounding)
        self.standard_error[date, band][given] = errors
        self.value[date, band][given] = pack(found.value[given], encoding)
        for member, drawn in zip(self.members, found.members, strict=True):
            member[date, band][given] = pack(drawn[given], encoding)

    def leave(self, date: int, band: int, gaps: Gaps, place: int) -> None:
        """A band of which nothing is known at this date."""
        shape = self.value.shape[2:]
        self._describe_gaps(date, band, gaps, place, np.zeros(shape, bool))

    def _describe_gaps(self, date: int, band: int, gaps: Gaps, place: int, given: NDArray[np.bool_]) -> None:
        """What is exact, what stays missing, and why."""
        missing, fillable, reason = (
            repeated(a[place], self.factor) for a in (gaps.missing, gaps.fillable, gaps.reason)
        )
        self.source[date, band] = np.where(missing, np.where(fillable, UNFILLED, OUTSIDE), OBSERVED)
        self.reason[date, band] = reason
        self.standard_error[date, band] = np.where(missing, np.float32(np.nan), np.float32(0))
        _blank(self.value[date, band], missing & fillable & ~given, self.variable.bands[band].encoding)
        for member in self.members:
            _blank(member[date, band], missing & fillable & ~given, self.variable.bands[band].encoding)

    def filled(self) -> int:
        """How many missing values an estimate stands in for."""
        return int(((self.reason != 0) & (self.source < OUTSIDE)).sum())

    def product(self) -> ProductVariable:
        """As the writers take them."""
        members = self.members if len(self.members) else None
        return ProductVariable(self.variable, self.value, self.source, self.reason, self.standard_error, members)


def _blank(stored: NDArray[Any], where: NDArray[np.bool_], encoding: Encoding) -> None:
    """Damage that is not repaired becomes nodata, where the band has such a number; special numbers stay."""
    if encoding.nodata is not None:
        stored[where & unpack(stored, encoding)[1]] = encoding.nodata
