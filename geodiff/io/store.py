"""The working store: what a run keeps on disk so that a killed one can go on.

`<stem>.geodiff-work.zarr` is a Zarr v3 group with one subgroup a variable and one array a layer, all on
(date, band, row, column). Blocks write whole chunks, then a small JSON marker says so; the marker is written after
the data is on disk, so a block that is marked is a block that is there. Nothing that is no working store is touched.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import numpy as np

from geodiff.errors import GridError, TargetError
from geodiff.io.groups import KIND, as_plain, key_of, kind_of, new_group, open_group
from geodiff.io.places import delete, files_with_content, local_path, put, read_all, remove_tree
from geodiff.lattice import Window

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray

__all__ = ["VariableSpec", "WorkStore", "create_work", "find_work", "open_work", "remove_work", "write_block"]

LAYERS: Mapping[str, str] = {
    "source": "u1",
    "reason": "u2",
    "standard_error": "f4",
    "scan_reason": "u2",
}
"""Layers that every variable has beside `value`, with their dtypes; `members` and `quantiles` come when asked for."""

OUTSIDE_LAYER = "outside"
"""(row, column) bool: the collar and what no date ever saw; (band, row, column) of levels."""

_DONE = "geodiff-done"
_BLOSC, _HEADER, _SUM = b"\2", 16, 4
"""How a chunk begins, which Blosc compressed; the bytes that say so, in whose last four stands its length; and the
bytes of a checksum after all, without which numbers that a disk has changed would be delivered."""


@dataclass(frozen=True, slots=True)
class VariableSpec:
    """What the working store must hold for one variable."""

    name: str
    shape: tuple[int, int, int, int]
    """Dates, bands, rows, columns."""
    dtype: str
    """The stored dtype of the value and the members, as NumPy spells it."""
    nodata: float | int | None = None
    """What an unwritten value reads as; None is NaN in floating dtypes and 0 in the others."""
    members: int = 0
    quantiles: int = 0
    chunks: tuple[int, int, int, int] = (1, 0, 256, 256)
    """Dates, bands, rows, columns of a chunk; 0 is the whole axis."""
    by_level: bool = False
    """Whether each band has an outside of its own."""

    @property
    def fitted_chunks(self) -> tuple[int, ...]:
        """Chunks cut down to the shape."""
        return tuple(max(1, min(c or n, n)) for c, n in zip(self.chunks, self.shape, strict=True))


@dataclass(frozen=True, slots=True)
class WorkStore:
    """An open working store; pickles, and opens again from `path` in another process."""

    path: str
    fingerprint: str
    variables: tuple[VariableSpec, ...]
    group: zarr.Group = field(repr=False, compare=False)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    _opened: dict[str, zarr.Array[Any]] = field(default_factory=dict, repr=False, compare=False)
    """Arrays that were asked for before; on an object store each costs a request."""

    def array(self, variable: str, layer: str = "value") -> zarr.Array[Any]:
        """The Zarr array of one layer: `value`, `source`, `reason`, `standard_error`, `members`, `quantiles`, `scan_*`.

        (date, band, row, column); `members` and `quantiles` have one more axis in front. Raises TargetError where what
        describes it is gone or damaged, as a power cut leaves it.
        """
        import zarr

        name = f"{key_of(variable)}/{layer}"
        if name not in self._opened:
            try:
                found = self.group[name]
            except (LookupError, TypeError, ValueError) as reason:
                raise TargetError(
                    f"the working store {self.path} is damaged ({name}: {type(reason).__name__}); delete it, and give "
                    "the same command again"
                ) from reason
            assert isinstance(found, zarr.Array)
            self._opened[name] = found
        return self._opened[name]

    def layers(self, variable: str) -> tuple[str, ...]:
        """Names of the layers kept for a variable."""
        spec = next(spec for spec in self.variables if spec.name == variable)
        extra = (("members", spec.members), ("quantiles", spec.quantiles))
        return ("value", *LAYERS, *(name for name, count in extra if count))

    def mark_done(self, key: str, record: Mapping[str, Any]) -> None:
        """Say that a block is finished, with a small record; call it after the block's last `write_block`."""
        put(f"{self.path}/{_DONE}/{quote(key, safe='')}.json", json.dumps(record, default=as_plain).encode())

    def done(self) -> dict[str, dict[str, Any]]:
        """Records of the finished blocks, by key, in the order of the keys; one that was cut short is none."""
        found = {unquote(name[:-5]): _parsed(text) for name, text in read_all(f"{self.path}/{_DONE}").items()}
        return {key: record for key, record in found.items() if record is not None}

    def chunks_there(self, variable: str, layer: str, *, whole: bool = False) -> frozenset[str]:
        """Keys of the chunks of a layer that are on disk, for `chunks_of`: a chunk that is gone reads as blank.

        Those that are `whole` have the length, too, that they say at their beginning: each file is opened for that.
        """
        home = f"{self.path}/{key_of(variable)}/{layer}"
        there, local = files_with_content(home), local_path(home)
        if not whole or local is None:  # an object is there whole or not at all
            return there
        return frozenset(key for key in there if not _is_cut(local / key))

    def chunks_of(self, variable: str, layer: str, date: int, window: Window) -> list[str]:
        """Keys of the chunks of a layer under one date of a window that starts with a chunk."""
        return list(_chunk_keys(self.array(variable, layer), date, window))

    def forget(self, key: str) -> None:
        """Take a block's marker away, so that it is computed again."""
        delete(f"{self.path}/{_DONE}/{quote(key, safe='')}.json")


def create_work(
    path: str, variables: Sequence[VariableSpec], fingerprint: str = "", attributes: Mapping[str, Any] | None = None
) -> WorkStore:
    """Lay out a working store: metadata of every array, no data.

    A store that a killed `create_work` left half made is made again. Raises TargetError when a finished store or
    something foreign is there.
    """
    found = kind_of(path)
    if found is not None and found.get(KIND) != "work":
        raise TargetError(f"{path} is there and is no working store of geodiff; choose another place with --work")
    if found is not None and found.get("complete"):
        raise TargetError(f"{path} already holds a working store; open it to resume, or remove it to start again")
    if found is not None:
        remove_tree(path)
    group = new_group(path, "work")
    for spec in variables:
        _create_arrays(group, spec)
    group.attrs.update(
        {
            KIND: "work",
            "complete": True,
            "geodiff_fingerprint": fingerprint,
            "variables": json.dumps([asdict(spec) for spec in variables], default=as_plain),  # text: JSON has no NaN
            "attributes": dict(attributes or {}),
        }
    )
    return open_work(path)


def open_work(path: str) -> WorkStore:
    """Open a working store for reading and writing; raises TargetError where there is none, or only half of one."""
    found = kind_of(path)
    if not found or found.get(KIND) != "work" or not found.get("complete"):
        state = "nothing" if found is None else "something else, or only the beginning of one"
        raise TargetError(f"no working store at {path} ({state} is there); run the job without resuming to make it")
    specs = tuple(_spec(facts) for facts in json.loads(found["variables"]))
    place = str(local_path(path) or path)  # markers have names that would be taken apart in a `file://` URL
    return WorkStore(place, found["geodiff_fingerprint"], specs, open_group(path, "r+"), found["attributes"])


def find_work(path: str) -> WorkStore | None:
    """The working store that an earlier run left, whole; None where there is none."""
    try:
        return open_work(path)
    except TargetError:
        return None


def remove_work(path: str) -> None:
    """Delete a working store; a kill in the middle leaves one that says it is none any more, never a wrong one.

    Raises TargetError when something else is there; nothing there is no error.
    """
    found = kind_of(path)
    if found is None:
        return
    if found.get(KIND) != "work":
        raise TargetError(f"{path} is no working store of geodiff, so it is not removed; delete it by hand")
    if found.get("complete"):
        open_group(path, "r+").attrs.update({"complete": False})
    remove_tree(path)


def write_block(array: zarr.Array[Any], date: int, window: Window, data: NDArray[Any]) -> int:
    """Write one date of one window, whole chunks only, and wait until it is on disk.

    Parameters
    ----------
    array : (date, band, row, column), or with a member or quantile axis in front.
    data : (band, row, column), or with that axis in front.

    Returns
    -------
    int : chunks that must be there from now on; those of nothing but the fill value are not written.

    Raises
    ------
    GridError
        When the window cuts a chunk (or shard): another worker could then overwrite half of it (xarray#8371).
    """
    unit = array.shards or array.chunks
    _assert_aligned(array, unit, date, window)
    rows, columns = window.slices
    array[(Ellipsis, date, slice(None), rows, columns)] = data
    _sync_to_disk(array, date, window)
    return _busy_chunks(data, array.fill_value, unit)


def _busy_chunks(data: NDArray[Any], fill: Any, unit: Sequence[int]) -> int:
    """Chunks of (..., band, row, column) that hold anything else than the fill value."""
    blank = np.isnan(data) if fill != fill else data == fill  # noqa: PLR0124 - NaN is the one number that is not itself
    busy = ~blank.all(axis=-3)
    by_row = np.logical_or.reduceat(busy, np.arange(0, busy.shape[-2], unit[-2]), axis=-2)
    return int(np.logical_or.reduceat(by_row, np.arange(0, busy.shape[-1], unit[-1]), axis=-1).sum())


def _assert_aligned(array: zarr.Array[Any], unit: Sequence[int], date: int, window: Window) -> None:
    dates, _, height, width = array.shape[-4:]
    if unit[-4] > 1 and dates > 1:
        raise GridError(
            f"date {date} shares its Zarr chunk in {array.store_path} with others ({unit[-4]} dates a chunk), so two "
            "workers could overwrite each other; make the store with one date a chunk"
        )
    axes = (
        ("rows", window.row, window.stop[0], unit[-2], height),
        ("columns", window.column, window.stop[1], unit[-1], width),
    )
    for axis, start, stop, chunk, length in axes:
        if start < 0 or stop > length:
            raise GridError(f"block {axis} {start}:{stop} reach beyond the {length} {axis} of {array.store_path}")
        if start % chunk or (stop % chunk and stop != length):
            raise GridError(
                f"block {axis} {start}:{stop} cut across Zarr chunks of {chunk} {axis} in {array.store_path}, so two "
                f"workers could overwrite each other; use --block-size {chunk} or a multiple"
            )


def _sync_to_disk(array: zarr.Array[Any], date: int, window: Window) -> None:
    """Flush the chunk files of a block, so that a marker never outlives its data in a power cut."""
    from zarr.storage import LocalStore

    if not isinstance(array.store, LocalStore):
        return
    root = array.store.root / array.path  # and not its URL, in which `#`, `%` and relative paths mean something else
    for key in _chunk_keys(array, date, window):
        _flush(root / key)


def _chunk_keys(array: zarr.Array[Any], date: int, window: Window) -> Iterator[str]:
    """Of the chunks, or shards, under one date of a window that starts with one."""
    unit = array.shards or array.chunks
    first = [0] * (array.ndim - 4) + [date // unit[-4], 0, window.row // unit[-2], window.column // unit[-1]]
    stop = [-(-n // c) for n, c in zip(array.shape, unit, strict=True)]
    stop[-4], stop[-2], stop[-1] = first[-4] + 1, -(-window.stop[0] // unit[-2]), -(-window.stop[1] // unit[-1])
    for offset in np.ndindex(*(b - a for a, b in zip(first, stop, strict=True))):
        yield array.metadata.encode_chunk_key(tuple(a + b for a, b in zip(first, offset, strict=True)))


def _flush(path: Path) -> None:
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # a chunk of nothing but the fill value is not written
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_cut(path: Path) -> bool:
    """Whether a chunk is longer or shorter than its header says, or has none, as where a disk kept its length alone."""
    with path.open("rb") as file:
        head = file.read(_HEADER)
    whole = len(head) == _HEADER and head[:1] == _BLOSC
    return not whole or int.from_bytes(head[-4:], "little") + _SUM != path.stat().st_size


def _create_arrays(group: zarr.Group, spec: VariableSpec) -> None:
    dtype = np.dtype(spec.dtype).newbyteorder("=")
    blank = (np.nan if dtype.kind == "f" else 0) if spec.nodata is None else spec.nodata
    home = group.create_group(key_of(spec.name))
    layers = {"value": (0, dtype, blank), **{name: (0, np.dtype(kind), 0) for name, kind in LAYERS.items()}}
    layers |= {"members": (spec.members, dtype, blank)} if spec.members else {}
    layers |= {"quantiles": (spec.quantiles, np.dtype("f4"), np.nan)} if spec.quantiles else {}
    for name, (front, kind, fill) in layers.items():
        _create_array(home, spec, name, front, kind.type(fill))
    first = 1 if spec.by_level else 2
    home.create_array(
        OUTSIDE_LAYER,
        shape=spec.shape[first:],
        chunks=spec.fitted_chunks[first:],
        dtype=bool,
        compressors=_codecs(),
        dimension_names=("band", "row", "column")[first - 1 :],
        config={"write_empty_chunks": spec.by_level},  # those of all levels are there where one holds anything
    )


def _codecs() -> list[Any]:
    from zarr.codecs import BloscCodec, Crc32cCodec

    return [BloscCodec(cname="lz4", clevel=1, shuffle="shuffle"), Crc32cCodec()]


def _create_array(home: zarr.Group, spec: VariableSpec, name: str, front: int, blank: np.generic) -> None:
    """The blank of a value is what means missing there, so leaving out blank chunks changes no known bit."""
    axes = ("date", "band", "row", "column")
    home.create_array(
        name,
        shape=(front, *spec.shape) if front else spec.shape,
        chunks=(1, *spec.fitted_chunks) if front else spec.fitted_chunks,
        dtype=blank.dtype,
        fill_value=blank,
        compressors=_codecs(),
        dimension_names=(name.removesuffix("s"), *axes) if front else axes,
        config={"write_empty_chunks": False},
    )


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _spec(facts: Mapping[str, Any]) -> VariableSpec:
    return VariableSpec(**{**facts, "shape": tuple(facts["shape"]), "chunks": tuple(facts["chunks"])})
