"""Zarr stores: version 2 and 3, consolidated or not, local or behind an fsspec URL."""

from __future__ import annotations

import base64
import json
import logging
import struct
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.errors import SourceError, one_line
from geodiff.io import OpenOptions, Product, Raster
from geodiff.io.axes import spatial
from geodiff.io.cf import open_dataset_as_raster, tell_of_others
from geodiff.io.contents import Cube, Numbers, OutputArray
from geodiff.io.cube import FileSource, close_handles
from geodiff.io.datasets import Plan, plan_of
from geodiff.io.earlier import Spliced
from geodiff.io.guards import refuse_endless_axis
from geodiff.io.places import appearing, exists, filesystem_of, local_path, put, read, remove_tree

if TYPE_CHECKING:
    import xarray as xr
    import zarr
    from numpy.typing import NDArray

__all__ = ["ZarrSource", "open_zarr", "write_zarr", "zarr_fingerprint"]

logger = logging.getLogger(__name__)

_MOST_CHUNK_BYTES = 2**30
_MOST_CHUNKS = 4096
"""More chunks than this are kept in shards, so that a large product stays a few hundred files or objects."""
_SHARD = 8
"""Chunks along a shard's rows and columns: 2048 x 2048 pixels."""
_LEVEL = 1
"""Of Zstandard: against 5 a quarter of the time, for 3 to 4 % more bytes of grainy numbers (Landsat, floats)."""


# -- reading


@dataclass(frozen=True)
class ZarrSource(FileSource):
    """A group of a Zarr store."""

    path: str
    group: str = ""
    consolidated: bool = False
    """Metadata come from one file, which is all that a plain web server can give."""

    def open(self) -> xr.Dataset:
        """The group's arrays, lazily, with numbers and attributes as stored."""
        import xarray as xr

        with _quiet():
            dataset = xr.open_dataset(
                _place(self.path),
                engine="zarr",
                group=self.group or None,
                decode_cf=False,
                cache=False,
                consolidated=self.consolidated,
            )
        return dataset[sorted(map(str, dataset.variables))]  # a folder lists its arrays in any order


def open_zarr(path: str, options: OpenOptions | None = None) -> Raster:
    """Open a Zarr store as a raster: its root group, or the first group that holds rasters.

    Raises
    ------
    SourceError
        When there is no store, an array has no dimension names, a codec would run code (pickle), or nothing in it has
        rows and columns.
    """
    groups = _groups(path)
    with _quiet():
        for name, group in groups.items():
            _refuse_pickles(path, name, group)
            _refuse_huge_chunks(path, name, group)
    one_file = groups[""].metadata.consolidated_metadata is not None
    sources = [ZarrSource(path, name, one_file and not name) for name in groups]
    try:
        chosen = next((source for source in sources if spatial(source.fresh())), sources[0])
        dataset = chosen.dataset()
    except (KeyError, ValueError, TypeError, OSError, AttributeError) as error:
        raise SourceError(
            f"{path} cannot be read as a Zarr dataset ({one_line(error)}); arrays need names for their dimensions "
            "(_ARRAY_DIMENSIONS in version 2, dimension_names in 3), as xarray writes them"
        ) from error
    shapes = {name: [array.shape for array in group.array_values()] for name, group in groups.items()}
    planes = [name for name, held in shapes.items() if any(sum(n > 1 for n in shape) > 1 for shape in held)]
    tell_of_others(path, chosen.group, planes)
    return open_dataset_as_raster(dataset, path=path, driver="Zarr", options=options, source=chosen, files=_files(path))


def zarr_fingerprint(target: str) -> str | None:
    """The job fingerprint in the root attributes; '' for a foreign store, None where nothing (finished) is there."""
    texts = [read(f"{target}/{name}") for name in ("zarr.json", ".zattrs")]
    if texts == [None, None]:
        found = local_path(target) is not None and exists(target)
        return "" if found or read(f"{target}/.zgroup") is not None else None
    try:
        facts = json.loads(next(text for text in texts if text is not None))
    except ValueError:
        return ""
    return str(facts.get("attributes", facts).get("geodiff_fingerprint", ""))


def _place(path: str) -> Any:
    """What zarr opens: a path, a URL, or the store inside a zip file."""
    local = local_path(path)
    if local is None:
        filesystem_of(path)  # says what is missing where it cannot be reached at all
        return path
    if local.suffix == ".zip":
        from zarr.storage import ZipStore

        return ZipStore(local, mode="r")
    return str(local)


def _groups(path: str) -> dict[str, zarr.Group]:
    """The root group and those below it, by path."""
    import zarr

    try:
        with _quiet():
            root = zarr.open_group(_place(path), mode="r", use_consolidated=False)
            members = dict(root.members(max_depth=4))
            if not members:  # a web server lists nothing; elsewhere what is there counts, not what once was
                root = zarr.open_group(_place(path), mode="r")
                members = dict(root.members(max_depth=4))
    except (FileNotFoundError, zarr.errors.GroupNotFoundError, NotADirectoryError) as error:
        raise SourceError(
            f"{path} holds no Zarr group ({one_line(error)}); give the folder that has zarr.json or .zgroup"
        ) from error
    except (ValueError, KeyError, TypeError, OSError, AttributeError) as error:
        if "pickle" in str(error):  # zarr 3 knows no pickled objects, and says so less plainly
            raise _pickled(path, "an array") from error
        raise SourceError(
            f"{path} is no readable Zarr store ({one_line(error)}); write it again with zarr or xarray"
        ) from error
    return {"": root, **{name: found for name, found in sorted(members.items()) if isinstance(found, zarr.Group)}}


def _refuse_pickles(path: str, name: str, group: zarr.Group) -> None:
    for key, array in group.arrays():
        if "pickle" in json.dumps(_codecs(array.metadata.to_dict()), default=str).lower():
            raise _pickled(path, f"array {name}/{key}".replace(" /", " "))


def _refuse_huge_chunks(path: str, name: str, group: zarr.Group) -> None:
    """A few bytes can unpack into a chunk of any size, and a chunk can only be unpacked whole."""
    for key, array in group.arrays():
        if 0 in array.chunks and 0 not in array.shape:
            raise SourceError(f"array {name}/{key} of {path} has chunks of no size; write it again".replace(" /", " "))
        facts: Any = array.metadata
        names: Any = getattr(facts, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
        if names and list(names) == [key]:  # a coordinate, which xarray reads whole
            refuse_endless_axis(path, key, array.shape[0])
        size = prod(array.chunks) * max(1, int(getattr(array.dtype, "itemsize", 1)))
        if size > _MOST_CHUNK_BYTES and prod(array.chunks) > 1:
            raise SourceError(
                f"array {name}/{key} of {path} has chunks of {size / 2**30:.1f} GiB, which can only be read whole; "
                "write it again with chunks of some megabytes".replace(" /", " ")
            )


def _pickled(path: str, which: str) -> SourceError:
    """Reading a pickled array would run whatever code its writer put there."""
    return SourceError(
        f"{which} of {path} is stored as Python pickles, which run code when they are read; "
        "write it again as numbers or strings (vlen-utf8)"
    )


def _codecs(metadata: Mapping[str, Any]) -> list[Any]:
    return [metadata.get(key) for key in ("codecs", "filters", "compressor")]


def _files(path: str) -> tuple[str, ...]:
    """The store as a whole; a URL that ends in `/` stands for all below it, as a local folder does."""
    whole = local_path(path) is not None or path.endswith((".zip", "/"))
    return (path if whole else f"{path}/",)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what zarr says about metadata that has no settled form yet: it concerns other readers, not this one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(Zarr V3 specification|Zarr format 3 specification).*")
        warnings.filterwarnings("ignore", message=".*(Object at|is not recognized as a component).*")
        yield


# -- writing


def write_zarr(product: Product, target: str) -> list[str]:
    """Write a product as a CF Zarr store, version `product.zarr_format`, and return its path.

    A local store appears by rename. On an object store the metadata is written after all chunks, the root last, so
    that an unfinished one is not taken for a store.
    """
    plan, local = plan_of(product), local_path(target)
    if local is not None:
        from zarr.storage import LocalStore

        with appearing(local) as place:
            _write(plan, LocalStore(place), str(place), product.zarr_format)
    else:
        from zarr.storage import FsspecStore

        remove_tree(target)
        _write(plan, FsspecStore.from_url(target), target, product.zarr_format)
    close_handles()
    return [target]


def _write(plan: Plan, store: Any, place: str, zarr_format: int) -> None:
    """Chunks first, then the metadata, which is made in memory."""
    import zarr

    documents: dict[str, Any] = {}
    with _quiet():
        memory = zarr.storage.MemoryStore(store_dict=documents)
        root = zarr.open_group(memory, mode="w-", zarr_format=zarr_format)  # type: ignore[arg-type]
        for array in map(_text, plan.arrays):
            _write_chunks(_created(root, array, zarr_format), array, store)
        root.attrs.update(_json(plan.attributes))
        zarr.consolidate_metadata(memory)
    for name in sorted(documents, key=lambda key: (-key.count("/"), key)):
        put(f"{place}/{name}", documents[name].to_bytes())


def _created(root: zarr.Group, array: OutputArray, zarr_format: int) -> zarr.Array[Any]:
    """The array's metadata, in memory."""
    import numcodecs
    from zarr.codecs import BloscCodec

    attributes, blank = _with_fill(array)
    common: dict[str, Any] = {
        "shape": array.shape,
        "chunks": array.chunks,
        "dtype": str if array.dtype.kind == "O" else array.dtype,
    }
    if zarr_format == 2:
        common["config"] = {"write_empty_chunks": array.exact or blank is None}
        codec: Any = numcodecs.Blosc(cname="zstd", clevel=_LEVEL, shuffle=numcodecs.Blosc.SHUFFLE)
        made = root.create_array(array.name, **common, compressors=codec, fill_value=blank)
        made.attrs.update({"_ARRAY_DIMENSIONS": list(array.dims), **_json(attributes)})
        return made
    common["config"] = {"write_empty_chunks": array.exact}
    names, fill = list(array.dims), {} if blank is None else {"fill_value": blank}
    codec = BloscCodec(cname="zstd", clevel=_LEVEL, shuffle="shuffle")
    shards = _shards(array)
    made = root.create_array(array.name, **common, shards=shards, compressors=codec, dimension_names=names, **fill)
    if blank is not None:
        attributes["_FillValue"] = _coded_fill(blank)
    made.attrs.update(_json(attributes))
    return made


def _shards(array: OutputArray) -> tuple[int, ...] | None:
    """Shards of 8 x 8 chunks along the last two axes for arrays of very many chunks; None for the others.

    Layers are written date by date, so only those with rows and columns last can be written by whole shards.
    """
    cube = array.content.cube if isinstance(array.content, Spliced) else array.content
    if isinstance(cube, Cube) and array.dims[-2:] != (cube.layout.y, cube.layout.x):
        return None
    grid = [-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True)]
    if len(grid) < 2 or prod(grid[-2:]) <= _MOST_CHUNKS:
        return None
    return (*array.chunks[:-2], *(_SHARD * c for c in array.chunks[-2:]))


def _write_chunks(made: zarr.Array[Any], array: OutputArray, store: Any) -> None:
    """Fill an array whose metadata is not in the store yet."""
    import zarr
    from zarr.storage import StorePath

    metadata: Any = made.metadata
    config: Any = {"write_empty_chunks": array.exact or made.fill_value is None}
    there: zarr.Array[Any] = zarr.Array(zarr.AsyncArray(metadata, StorePath(store, array.name), config))
    whole, writing = replace(array, chunks=made.shards or array.chunks), None  # a shard is written once, whole
    with ThreadPoolExecutor(1, thread_name_prefix="geodiff-writing") as writer:  # the next is read meanwhile
        for region, numbers in whole.regions():
            if writing is not None:
                writing.result()
            writing = writer.submit(there.__setitem__, region, numbers)
        if writing is not None:
            writing.result()


def _with_fill(array: OutputArray) -> tuple[dict[str, Any], Any]:
    """Attributes without `_FillValue`, and that value in the dtype; None where there is none or it does not fit."""
    attributes = dict(array.attributes)
    blank = attributes.pop("_FillValue", None)
    try:
        return attributes, None if blank is None or array.dtype.kind in "OMm" else array.dtype.type(blank)
    except (OverflowError, ValueError, TypeError):
        logger.warning("_FillValue %s of %s cannot be stored as %s, so it is left out", blank, array.name, array.dtype)
        return attributes, None


def _coded_fill(blank: np.generic) -> Any:
    """`_FillValue` as xarray writes it into version 3 stores: floats as base64 of a little-endian double."""
    if blank.dtype.kind == "f":
        return base64.standard_b64encode(struct.pack("<d", float(blank))).decode()
    if blank.dtype.kind == "c":
        return [_coded_fill(np.float64(blank.real)), _coded_fill(np.float64(blank.imag))]
    return blank.item()


def _json(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as JSON has them."""
    return {str(key): _json_value(value) for key, value in attributes.items()}


def _json_value(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return _json_value(value.tolist())
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (list, tuple)):
        return [_json_value(item) for item in value]
    if isinstance(value, Mapping):
        return _json(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _text(array: OutputArray) -> OutputArray:
    """Characters and fixed strings as strings of any length, the one form of text both versions settle on."""
    if array.dtype.kind not in "SUO":
        return array
    if "grid_mapping_name" in array.attributes or "crs_wkt" in array.attributes:  # its value means nothing
        return replace(array, dtype=np.dtype("i4"), content=Numbers(np.zeros(array.shape, "i4")))
    values = _whole(array)
    characters = values.dtype == np.dtype("S1") and values.ndim > 0
    words = _joined(values) if characters else values
    plain = np.array([_decoded(word) for word in words.ravel()], object).reshape(words.shape)
    dims = array.dims[: plain.ndim]
    attributes = {key: value for key, value in array.attributes.items() if key not in {"_FillValue", "_Encoding"}}
    return replace(
        array,
        dims=dims,
        shape=plain.shape,
        dtype=np.dtype(object),
        attributes=attributes,
        chunks=tuple(max(1, int(n)) for n in np.shape(plain)),
        content=Numbers(plain),
    )


def _whole(array: OutputArray) -> NDArray[Any]:
    parts = list(array.regions())
    values = np.empty(array.shape, parts[0][1].dtype)
    for region, numbers in parts:
        values[region] = numbers
    return values


def _joined(characters: NDArray[Any]) -> NDArray[Any]:
    """Words along the last axis."""
    width = characters.shape[-1]
    return (
        np.ascontiguousarray(characters).view(f"S{width}")[..., 0] if width else np.zeros(characters.shape[:-1], "S1")
    )


def _decoded(word: Any) -> str:
    return word.decode("utf-8", "replace").rstrip("\0") if isinstance(word, bytes) else str(word)
