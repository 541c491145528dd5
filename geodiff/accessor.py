"""`da.geodiff.fill(...)` and `ds.geodiff.fill(...)`: registered as soon as both geodiff and xarray are imported.

    filled = ds["sst"].geodiff.fill(members=16, seed=7)

Heavy packages load on the first fill.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

import xarray as xr

from geodiff.errors import GridError

if TYPE_CHECKING:
    from collections.abc import Hashable

    from geodiff.options import ArrayOptions

__all__ = ["DataArrayFill", "DatasetFill"]


@xr.register_dataset_accessor("geodiff")  # type: ignore[no-untyped-call]
@dataclass(frozen=True, eq=False)
class DatasetFill:
    """Fills the gaps of a dataset's variables."""

    dataset: xr.Dataset

    def fill(self, **options: Unpack[ArrayOptions]) -> xr.Dataset:
        """The dataset with its gaps filled, and for each filled variable `v` the layers of its fill.

        The layers are `v_source` (the method of each value), `v_reason` (why it was missing), `v_standard_error`, and
        on request `v_member` (dimension `member`) and `v_quantile` (dimension `quantile`; `member_2`, `quantile_2`
        if the dataset already has these). Known values are bit-identical; attributes, encoding, coordinates and the
        order of dimensions are kept.

        A variable of Dask arrays gives Dask arrays in the same chunks. Nothing is read until the result is computed;
        then one task reads everything once to fit, and each block of 256 x 256 pixels of a date is one task, which
        reads its own surroundings. Other variables are filled immediately.

        Parameters
        ----------
        **options : those of `geodiff fill` that can change a pixel, with underscores: `variable`, `bands`, `dates`,
            `qa`, `mask`, `fillable`, `nodata`, `valid_range`, `buffer`, `detect`, `filler`, `model`, `members`,
            `product`, `seed`, `steps`, `sampler`, `max_error`, `quantiles`, `device`, `dtype`, `batch`.

        Raises
        ------
        JobError : an option is wrong, or none of a fill in memory.
        SourceError : no variable has rows and columns that could be found, or one is called as a layer and is none.
        NothingKnownError : not one value is known; of Dask arrays when they are computed.
        """
        from geodiff.lazy import fill_dataset

        return fill_dataset(self.dataset, options)


@xr.register_dataarray_accessor("geodiff")  # type: ignore[no-untyped-call]
@dataclass(frozen=True, eq=False)
class DataArrayFill:
    """Fills the gaps of one array."""

    array: xr.DataArray

    def fill(self, **options: Unpack[ArrayOptions]) -> xr.Dataset:
        """A dataset of the filled array and its layers; see `Dataset.geodiff.fill`.

        An array without a name is called `value`.

        Raises
        ------
        GridError : a coordinate has the array's own name.
        """
        name: Hashable = "value" if self.array.name is None else self.array.name
        if name in self.array.coords:
            raise GridError(f"the array and one of its coordinates are both called {name!r}; rename one of them")
        options.setdefault("variable", (str(name),))  # one name, commas and all
        return DatasetFill(self.array.to_dataset(name=name)).fill(**options)
