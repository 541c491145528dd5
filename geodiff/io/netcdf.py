"""NetCDF 3 and 4, and plain HDF5: read lazily, written as NetCDF-4 region by region."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.errors import SourceError, TargetError, one_line
from geodiff.io import OpenOptions, Product, Raster
from geodiff.io.axes import spatial, with_axes
from geodiff.io.cf import open_dataset_as_raster, tell_of_others
from geodiff.io.contents import OutputArray
from geodiff.io.cube import FileSource, close_handles
from geodiff.io.datasets import Plan, plan_of
from geodiff.io.guards import refuse_endless_axis
from geodiff.io.inherited import completed, lacks_places, with_places
from geodiff.io.places import appearing, filesystem_of, local_path
from geodiff.io.reach import refuse_far_links

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["NetcdfSource", "netcdf_fingerprint", "open_netcdf", "refuse_unfit", "write_netcdf"]

logger = logging.getLogger(__name__)

_HDF5 = b"\x89HDF\r\n\x1a\n"
_LONG_TEXT = 2**15
"""Longer texts go to HDF5's heap: an attribute of characters must fit 64 KiB."""

_POSITIONS = frozenset({"latitude", "longitude", "lat", "lon"})

_RESERVED = frozenset(
    {
        *("CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST"),
        *("_NCProperties", "_Netcdf4Dimid", "_Netcdf4Coordinates", "_nc3_strict", "_FillValue"),
    }
)


# -- reading


@dataclass(frozen=True)
class NetcdfSource(FileSource):
    """A group of a NetCDF or HDF5 file."""

    path: str
    engine: str
    group: str = ""
    places: str | None = None
    """Another group, which has the latitude and longitude of each pixel of a swath."""

    def open(self) -> xr.Dataset:
        """The group's variables, lazily, with numbers and attributes as stored, and what it has from other groups."""
        dataset = completed(self._group(self.group), self.group, self._group)
        held = None if self.places is None else self._group(self.places)
        return dataset if held is None else with_places(dataset, held) or dataset

    def _group(self, group: str) -> xr.Dataset:
        import xarray as xr

        more: dict[str, Any] = {"group": group or None} if self.engine != "scipy" else {}
        if self.engine == "h5netcdf":
            more["phony_dims"] = "access"  # names for the axes of datasets without dimension scales
        dataset = xr.open_dataset(_file(self.path), engine=self.engine, decode_cf=False, cache=False, **more)
        return self._dressed(with_axes(dataset), group) if self.engine == "h5netcdf" else dataset

    def _dressed(self, dataset: xr.Dataset, group: str) -> xr.Dataset:
        """The dataset of a group with what other conventions than CF say of it."""
        import h5py

        from geodiff.io import hdfeos, odim
        from geodiff.io.ease import on_ease

        if not group:
            return dataset
        with h5py.File(_file(self.path), "r") as file:
            if odim.is_odim(file):
                return odim.dressed(dataset, group, file)
            metadata = file.get(hdfeos.METADATA) if group.startswith("HDFEOS/") else None
            said = None if metadata is None or metadata.shape != () else metadata[()]
        text = said.decode("ascii", "replace") if isinstance(said, bytes) else str(said or "")
        return hdfeos.structured(dataset, group, text) if text else on_ease(dataset)


def open_netcdf(path: str, options: OpenOptions | None = None) -> Raster:
    """Open a NetCDF or HDF5 file as a raster: its root group, or the first group that holds rasters.

    Raises
    ------
    SourceError
        When it is neither, cannot be read, or nothing in it has rows and columns.
    """
    engine = _engine(path)
    groups = _groups(path, engine)
    sources = [NetcdfSource(path, engine, group) for group in groups]
    try:
        chosen = next((source for source in sources if spatial(source.fresh())), sources[0])
        chosen = _placed(chosen, groups)
        dataset = chosen.dataset()
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,
        AttributeError,
        IndexError,
        NotImplementedError,
    ) as error:
        raise SourceError(
            f"{path} cannot be read as NetCDF or HDF5 ({one_line(error)}); check it with ncdump -h or h5dump -H"
        ) from error
    tell_of_others(path, chosen.group, [name for name, planes in groups.items() if planes - _POSITIONS])
    driver = "netCDF" if engine != "h5netcdf" or _conventions(dataset) else "HDF5"
    return open_dataset_as_raster(dataset, path=path, driver=driver, options=options, source=chosen, files=(path,))


def _placed(source: NetcdfSource, groups: Mapping[str, set[str]]) -> NetcdfSource:
    """The source with the group that has its latitudes and longitudes, where it has none and one has."""
    if not lacks_places(source.dataset()):
        return source
    for name, planes in groups.items():
        other = replace(source, places=name)
        if name != source.group and planes & _POSITIONS and not lacks_places(other.dataset()):
            return other
    return source


def netcdf_fingerprint(target: str) -> str | None:
    """The job fingerprint in the global attributes; '' for a foreign file, None where nothing is there."""
    local = local_path(target)
    if local is not None and not local.exists():
        return None
    if local is None:
        filesystem, root = filesystem_of(target)
        if not filesystem.exists(root):
            return None
    try:
        import h5py

        file = _file(target)
        with h5py.File(file, "r") as opened:
            found = opened.attrs.get("geodiff_fingerprint", "")
            return found.decode() if isinstance(found, bytes) else str(found)
    except OSError:
        return ""


def _file(path: str) -> Any:
    """A local path, or an open file behind a URL, read by ranges."""
    local = local_path(path)
    if local is not None:
        return str(local)
    filesystem, root = filesystem_of(path)
    return filesystem.open(root, "rb")


def _engine(path: str) -> str:
    """Which xarray backend reads the file, by its first bytes."""
    try:
        head = _head(path)
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read ({one_line(error)}); check the path and its permissions") from error
    if any(head[at : at + 8] == _HDF5 for at in (0, 512, 1024, 2048)):
        return "h5netcdf"
    if head[:4] in {b"CDF\x01", b"CDF\x02"}:
        return "scipy"
    if head[:4] == b"CDF\x05":
        if find_spec("netCDF4") is not None:
            return "netcdf4"
        raise SourceError(
            f"{path} is NetCDF in the 64-bit data format (CDF-5), for which pip install netCDF4 is needed"
        )
    raise SourceError(
        f"{path} is neither NetCDF nor HDF5 (it begins with {head[:8]!r}); check the file, or its download"
    )


def _head(path: str) -> bytes:
    local = local_path(path)
    if local is not None:
        with local.open("rb") as file:
            return file.read(4096)
    with _file(path) as file:
        return bytes(file.read(4096))


def _groups(path: str, engine: str) -> dict[str, set[str]]:
    """The root group and those below it, in the order of their names, and the names of arrays of rows in each."""
    if engine != "h5netcdf":
        return {"": set()}
    import h5py

    found: dict[str, set[str]] = {"": set()}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Group):
            found.setdefault(name, set())
        elif isinstance(item, h5py.Dataset) and item.is_scale:
            refuse_endless_axis(path, name, item.size or 0)
        elif isinstance(item, h5py.Dataset) and sum(n > 1 for n in item.shape or ()) > 1:
            group, _, own = name.rpartition("/")
            found[group].add(own.lower())

    try:
        with h5py.File(_file(path), "r") as file:
            refuse_far_links(path, file)
            file.visititems(note)
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise SourceError(f"{path} is a broken HDF5 file ({one_line(error)}); fetch or write it again") from error
    return found


def _conventions(dataset: xr.Dataset) -> bool:
    return "Conventions" in dataset.attrs or any("phony_dim" not in str(dim) for dim in dataset.dims)


# -- writing


def write_netcdf(product: Product, target: str) -> list[str]:
    """Write a product as a CF NetCDF-4 file, compressed, never more than a few regions in memory; returns its path.

    Raises
    ------
    TargetError
        For what NetCDF has no type for (complex and 16-bit floating numbers).
    """
    plan, local = plan_of(product), local_path(target)
    _assert_storable(plan, target)
    if local is not None:
        with appearing(local) as place:
            _write(plan, place)
    else:  # HDF5 goes back to what it has written, which object stores do not allow
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "product.nc"
            _write(plan, place)
            filesystem, root = filesystem_of(target)
            filesystem.put_file(str(place), root)
    close_handles()
    return [target]


def refuse_unfit(raster: Raster, target: str) -> None:
    """Raise TargetError, before any work, for variables that NetCDF has no type for: complex and 16-bit floating."""
    for variable in raster.variables:
        _refuse_dtype(variable.name, variable.dtype, target)


def _assert_storable(plan: Plan, target: str) -> None:
    for array in plan.arrays:
        _refuse_dtype(array.name, array.dtype, target)


def _refuse_dtype(name: str, dtype: np.dtype[Any], target: str) -> None:
    if dtype.kind == "c" or dtype == np.dtype("f2"):
        raise TargetError(f"{name} is {dtype}, which NetCDF cannot hold ({target}); choose a .zarr target")


def _write(plan: Plan, place: Path) -> None:
    file = _Bearing(place)
    try:
        _write_file(plan, file)
    except (RuntimeError, OSError):
        if file.failure is None:
            raise
    finally:
        file.close()
    if file.failure is not None:
        raise OSError(file.failure.errno, file.failure.strerror, str(place))


class _Bearing:
    """A file for HDF5 to write to that bears what the file system says and keeps it for us.

    HDF5 cannot close a file that it could not write: it would tell of it at length, keep its handles, and crash when
    the process ends.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self.failure: OSError | None = None

    def write(self, content: Any) -> None:
        """All of it; nothing any more where something before was not written."""
        left = memoryview(content).cast("B")
        try:
            while left and self.failure is None:
                left = left[self._file.write(left) :]
        except OSError as error:
            self.failure = error

    def truncate(self, size: int) -> None:
        """The same of the length."""
        try:
            self._file.truncate(size)
        except OSError as error:
            self.failure = self.failure or error

    def assert_written(self) -> None:
        """Raise the OSError that was kept, before more is written in vain."""
        if self.failure is not None:
            raise self.failure

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)  # reading, seeking and closing


def _write_file(plan: Plan, place: _Bearing) -> None:
    import h5netcdf

    with h5netcdf.File(place, "w", track_order=True) as file:
        sizes = {dim: n for array in plan.arrays for dim, n in zip(array.dims, array.shape, strict=True)}
        file.dimensions = {dim: None if dim in plan.unlimited else n for dim, n in sizes.items()}
        for dim in plan.unlimited & set(sizes):
            file.resize_dimension(dim, sizes[dim])
        for array in plan.arrays:
            _write_array(file, array, place)
        _set_attributes(file, plan.attributes)


def _write_array(file: Any, array: OutputArray, place: _Bearing) -> None:
    attributes, dtype = dict(array.attributes), _stored_dtype(array)
    if array.dtype.kind == "b":
        attributes["dtype"] = "bool"  # as xarray marks them
    if array.dtype.kind in "mM":
        attributes |= _clock(array.dtype)
    blank = _fill(attributes.get("_FillValue"), dtype)
    chunked: dict[str, Any] = {}
    if array.dims and array.dtype.kind not in "OU" and 0 not in array.shape:
        chunked = {"chunks": array.chunks, "compression": "gzip", "compression_opts": 4, "shuffle": True}
    made = file.create_variable(array.name, array.dims, dtype, fillvalue=blank, **chunked)
    _set_attributes(made, attributes)
    for region, numbers in array.regions():
        made[region if array.dims else ...] = _stored(numbers)
        place.assert_written()


def _stored_dtype(array: OutputArray) -> Any:
    import h5py

    if array.dtype.kind in "OU":
        return h5py.string_dtype()
    return {"b": np.dtype("i1"), "m": np.dtype("i8"), "M": np.dtype("i8")}.get(array.dtype.kind, array.dtype)


def _stored(numbers: NDArray[Any]) -> NDArray[Any]:
    if numbers.dtype.kind == "b":
        return numbers.astype("i1")
    return (
        numbers.view("i8")
        if numbers.dtype.kind in "mM"
        else numbers.astype(object)
        if numbers.dtype.kind == "U"
        else numbers
    )


def _clock(dtype: np.dtype[Any]) -> dict[str, str]:
    words = {
        "s": "seconds",
        "ms": "milliseconds",
        "us": "microseconds",
        "ns": "nanoseconds",
        "m": "minutes",
        "h": "hours",
        "D": "days",
    }
    unit = words.get(np.datetime_data(dtype)[0], "seconds")
    return {"units": f"{unit} since 1970-01-01" if dtype.kind == "M" else unit}


def _fill(blank: Any, dtype: Any) -> Any:
    """The fill value in the variable's own dtype, or None where there is none or it does not fit."""
    if blank is None or np.dtype(dtype).kind not in "iuf":
        return None
    try:
        return np.dtype(dtype).type(blank)
    except (OverflowError, ValueError, TypeError):
        logger.warning("_FillValue %s cannot be stored as %s, so it is left out", blank, dtype)
        return None


def _set_attributes(place: Any, attributes: Mapping[str, Any]) -> None:
    for key, value in attributes.items():
        stored = _attribute(value)
        if key not in _RESERVED and stored is not None:
            place.attrs[key.replace("/", "_")] = stored


def _attribute(value: Any) -> Any:
    """Text and numbers as they are; what NetCDF has no form for as JSON text."""
    if isinstance(value, (bool, np.bool_)):
        return np.int8(value)
    if isinstance(value, (int, float, np.number)):
        return value
    if isinstance(value, (str, bytes)):
        return _attribute_text(value.decode("utf-8", "replace") if isinstance(value, bytes) else value)
    array = np.asarray(value) if isinstance(value, (list, tuple, np.ndarray)) else None
    if array is not None and array.dtype.kind in "iuf" and array.size:
        return array
    if (
        array is not None
        and array.dtype.kind in "USO"
        and array.ndim == 1
        and array.size
        and all(isinstance(v, str) for v in value)
    ):
        return [str(v) for v in value]
    return None if value is None else _attribute_text(json.dumps(value, default=str))


def _attribute_text(text: str) -> Any:
    """Characters where ASCII will do, as the C library writes them: GDAL overlooks some attributes that are strings."""
    return np.bytes_(text.encode("ascii")) if 0 < len(text) < _LONG_TEXT and text.isascii() else text
