"""The working store and the fit store: what a run keeps on disk so that a killed one can go on.

`<stem>.geodiff-work.zarr` is a Zarr v3 group with one subgroup a variable and one array a layer, all on
(date, band, row, column). Blocks write whole chunks, then a small JSON marker says so; the marker is written after
the data is on disk, so a block that is marked is a block that is there. `<stem>.geodiff-fit.zarr` keeps what a fit
learnt. Both know their own kind and refuse to touch anything else.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import numpy as np

from geodiff.errors import GridError, LockedError, TargetError
from geodiff.fillers import Fitted
from geodiff.io.leases import lease
from geodiff.io.places import (
    appearing,
    delete,
    exists,
    files_with_content,
    local_path,
    put,
    read,
    read_all,
    remove_tree,
)
from geodiff.lattice import Window

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray

__all__ = [
    "VariableSpec",
    "WorkStore",
    "create_work",
    "has_fit",
    "load_fit",
    "lock",
    "open_work",
    "remove_work",
    "save_fit",
    "write_block",
]

logger = logging.getLogger(__name__)

LAYERS: Mapping[str, str] = {
    "source": "u1",
    "reason": "u2",
    "standard_error": "f4",
    "scan_reason": "u2",
}
"""Layers that every variable has beside `value`, with their dtypes; `members` and `quantiles` come when asked for."""

OUTSIDE_LAYER = "outside"
"""(row, column) bool: the collar and what no date ever saw; (band, row, column) of levels."""

_KIND = "geodiff_store"
_SUM = "checksum"
"""Of a fit: of all numbers in it, as a chunk that is gone reads as zeros."""
_DONE = "geodiff-done"
_BLOSC, _HEADER = b"\2", 16
"""How a chunk begins that Blosc compressed, and the bytes that say so; in the last four stands its length."""


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

        (date, band, row, column); `members` and `quantiles` have one more axis in front.
        """
        import zarr

        name = f"{_key(variable)}/{layer}"
        if name not in self._opened:
            found = self.group[name]
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
        put(f"{self.path}/{_DONE}/{quote(key, safe='')}.json", json.dumps(record, default=_plain).encode())

    def done(self) -> dict[str, dict[str, Any]]:
        """Records of the finished blocks, by key, in the order of the keys; one that was cut short is none."""
        found = {unquote(name[:-5]): _parsed(text) for name, text in read_all(f"{self.path}/{_DONE}").items()}
        return {key: record for key, record in found.items() if record is not None}

    def chunks_there(self, variable: str, layer: str, *, whole: bool = False) -> frozenset[str]:
        """Keys of the chunks of a layer that are on disk, for `chunks_of`: a chunk that is gone reads as blank.

        Those that are `whole` have the length, too, that they say at their beginning: each file is opened for that.
        """
        home = f"{self.path}/{_key(variable)}/{layer}"
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
    found = _kind(path)
    if found is not None and found.get(_KIND) != "work":
        raise TargetError(f"{path} is there and is no working store of geodiff; choose another place with --work")
    if found is not None and found.get("complete"):
        raise TargetError(f"{path} already holds a working store; open it to resume, or remove it to start again")
    if found is not None:
        remove_tree(path)
    group = _new_group(path, "work")
    for spec in variables:
        _create_arrays(group, spec)
    group.attrs.update(
        {
            _KIND: "work",
            "complete": True,
            "geodiff_fingerprint": fingerprint,
            "variables": json.dumps([asdict(spec) for spec in variables], default=_plain),  # text: JSON has no NaN
            "attributes": dict(attributes or {}),
        }
    )
    return open_work(path)


def open_work(path: str) -> WorkStore:
    """Open a working store for reading and writing; raises TargetError where there is none, or only half of one."""
    found = _kind(path)
    if not found or found.get(_KIND) != "work" or not found.get("complete"):
        state = "nothing" if found is None else "something else, or only the beginning of one"
        raise TargetError(f"no working store at {path} ({state} is there); run the job without resuming to make it")
    specs = tuple(_spec(facts) for facts in json.loads(found["variables"]))
    place = str(local_path(path) or path)  # markers have names that would be taken apart in a `file://` URL
    return WorkStore(place, found["geodiff_fingerprint"], specs, _open_group(path, "r+"), found["attributes"])


def remove_work(path: str) -> None:
    """Delete a working store; a kill in the middle leaves one that says it is none any more, never a wrong one.

    Raises TargetError when something else is there; nothing there is no error.
    """
    found = _kind(path)
    if found is None:
        return
    if found.get(_KIND) != "work":
        raise TargetError(f"{path} is no working store of geodiff, so it is not removed; delete it by hand")
    if found.get("complete"):
        _open_group(path, "r+").attrs.update({"complete": False})
    remove_tree(path)


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


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
    """Whether a chunk, compressed by Blosc, is longer or shorter than its header says."""
    with path.open("rb") as file:
        head = file.read(_HEADER)
    if head[:1] != _BLOSC:
        return False
    return len(head) < _HEADER or int.from_bytes(head[-4:], "little") != path.stat().st_size


def _create_arrays(group: zarr.Group, spec: VariableSpec) -> None:
    dtype = np.dtype(spec.dtype).newbyteorder("=")
    blank = (np.nan if dtype.kind == "f" else 0) if spec.nodata is None else spec.nodata
    home = group.create_group(_key(spec.name))
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
    from zarr.codecs import BloscCodec

    return [BloscCodec(cname="lz4", clevel=1, shuffle="shuffle")]


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


def _spec(facts: Mapping[str, Any]) -> VariableSpec:
    return VariableSpec(**{**facts, "shape": tuple(facts["shape"]), "chunks": tuple(facts["chunks"])})


# -- the lock


@contextmanager
def lock(path: str, name: str = "") -> Iterator[Callable[[], None]]:
    """Hold the right to write a working store; the kernel lets go of it when the process dies.

    The lock is `flock` on `<path>.lock`, beside a local store; on an object store an object of that name, which runs
    out. Gives what is to be called before a product is written, as `lease` does.

    Raises LockedError, naming the holder, when another process has it; `name` is what a message calls the place.
    """
    name = name or path
    local = local_path(path)
    if local is None:
        with lease(f"{path}.lock", name) as assert_ours:
            yield assert_ours
        return
    beside = local.with_name(local.name + ".lock")
    beside.parent.mkdir(parents=True, exist_ok=True)
    handle = _acquire(beside, name)
    try:
        yield lambda: None  # nobody can take it from a process that lives
    finally:
        beside.unlink(missing_ok=True)  # still held: nobody can have taken this very file
        os.close(handle)


def _acquire(beside: Path, name: str) -> int:
    while True:
        handle = _opened(beside, name)
        try:
            _hold(handle, name)
            if _same_file(handle, beside):
                _sign(handle)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its last holder unlinked it between our open and our lock


def _opened(beside: Path, name: str) -> int:
    try:
        return os.open(beside, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)  # a link's end would be written to
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.ELOOP):
            raise
        raise TargetError(
            f"the lock of {name}, {beside}, cannot be opened: {error.strerror}; it may be another user's: if no job "
            "runs on it, delete it, else wait"
        ) from None


def _hold(handle: int, name: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(handle, 4096, 0).decode(errors="replace")
        raise LockedError(
            f"{name} is being written by {_holder(holder)}; wait for it to end, or stop it and run this again"
        ) from None


def _sign(handle: int) -> None:
    """Say who holds the lock."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "when": when}).encode(), 0)


def _same_file(handle: int, beside: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), beside.stat())
    except FileNotFoundError:
        return False


def _holder(text: str) -> str:
    try:
        facts = json.loads(text)
        return f"process {facts['pid']} on {facts['host']} since {facts['when']}"
    except (ValueError, KeyError, TypeError):
        return "another process"


# -- the fit


def save_fit(path: str, fitted: Fitted, extra: Mapping[str, Any] | None = None) -> None:
    """Store a fit, parts and all, as a Zarr group that appears complete or not at all; an older fit is replaced.

    `extra` is anything JSON takes. Raises TargetError when something that is no fit is there.
    """
    found = _kind(path)
    if found is not None and found.get(_KIND) != "fit":
        raise TargetError(f"{path} is there already and holds no fit of geodiff, so it is not replaced; move it away")
    local = local_path(path)
    if local is None:
        remove_tree(path)
        _write_fit(path, fitted, extra)
        return
    with appearing(local) as place:
        _write_fit(str(place), fitted, extra)


def _write_fit(place: str, fitted: Fitted, extra: Mapping[str, Any] | None) -> None:
    group = _new_group(place, "fit")
    _save_part(group, fitted)
    told = {_KIND: "fit", "complete": True, "extra": json.dumps(extra or {}, default=_plain), _SUM: _checksum(fitted)}
    group.attrs.update(_part_attributes(fitted) | told)


def has_fit(path: str) -> bool:
    """Whether a fit is there to be loaded; one that a kill left half written, as on an object store, is none."""
    found = _kind(path)
    return found is not None and bool(found.get("complete", True))


def load_fit(path: str) -> tuple[Fitted, dict[str, Any]]:
    """The fit stored at `path` and its `extra`; raises TargetError when there is none, or a damaged one."""
    found = _kind(path)
    if not found or found.get(_KIND) != "fit" or not found.get("complete"):
        raise TargetError(f"no fit of geodiff at {path}; run with --refit to make one")
    try:
        fitted, extra = _load_part(_open_group(path, "r")), json.loads(found["extra"])
        _assert_same(fitted, found.get(_SUM))
    except (RuntimeError, ValueError, LookupError) as reason:  # of codecs, and of what is not there
        raise TargetError(
            f"the fit at {path} is damaged ({type(reason).__name__}: {reason}); delete it, and give the same command "
            "again, for a product that is there with --overwrite"
        ) from reason
    return fitted, extra


def _assert_same(fitted: Fitted, checksum: int | None) -> None:
    """Raise ValueError for other numbers than those that were written; older fits have no checksum."""
    if checksum is not None and _checksum(fitted) != checksum:
        raise ValueError("its numbers are not those that were written")


def _checksum(fitted: Fitted, before: int = 0) -> int:
    """CRC-32 over all arrays of a fit and of its parts, in the order of their names."""
    for name in sorted(fitted.arrays):
        array = np.asarray(fitted.arrays[name])
        native = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(-1)
        before = zlib.crc32(native.view(np.uint8).data, zlib.crc32(name.encode(), before))
    for name in sorted(fitted.parts):
        before = _checksum(fitted.parts[name], zlib.crc32(name.encode(), before))
    return before


def _save_part(group: zarr.Group, fitted: Fitted) -> None:
    """Facts are kept as one JSON text, which holds NaN and long integers as Python has them.

    A node is written once, attributes and all: each write costs some milliseconds, and a small job has many.
    """
    for name, array in fitted.arrays.items():
        _save_array(group, f"arrays/{_key(name)}", np.asarray(array))
    for name, part in fitted.parts.items():
        place = f"parts/{_key(name)}"
        _save_part(group.create_group(place, attributes=_part_attributes(part)), part)


def _part_attributes(fitted: Fitted) -> dict[str, Any]:
    return {
        "filler": fitted.filler,
        "facts": json.dumps(dict(fitted.facts), default=_plain),
        "arrays": list(fitted.arrays),
        "parts": list(fitted.parts),
    }


def _save_array(home: zarr.Group, name: str, array: NDArray[Any]) -> None:
    """Numbers and booleans as they are; dates and fixed strings, which Zarr v3 has no settled form for, as bytes."""
    if array.dtype.hasobject:
        raise TypeError(f"array {name!r} of a fit holds Python objects, which cannot be stored safely; use numbers")
    plain = array.dtype.kind in "biufc"
    stored = array if plain else np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
    stored = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    chunks = tuple(max(1, min(n, 4096)) for n in stored.shape)
    attributes: dict[str, Any] = {} if plain else {"dtype": array.dtype.str, "shape": list(array.shape)}
    kept = home.create_array(
        name, shape=stored.shape, chunks=chunks, dtype=stored.dtype, attributes=attributes,
        config={"write_empty_chunks": True},  # or -0.0 would come back as 0
    )  # fmt: skip
    if stored.size:
        kept[...] = stored


def _load_part(group: Any) -> Fitted:
    attributes = group.attrs.asdict()
    arrays = {name: _load_array(group[f"arrays/{_key(name)}"]) for name in attributes["arrays"]}
    parts = {name: _load_part(group[f"parts/{_key(name)}"]) for name in attributes["parts"]}
    return Fitted(attributes["filler"], json.loads(attributes["facts"]), arrays, parts)


def _load_array(kept: Any) -> NDArray[Any]:
    stored = np.asarray(kept[...])
    if "dtype" not in kept.attrs:
        return stored
    return np.frombuffer(stored.tobytes(), np.dtype(kept.attrs["dtype"])).reshape(kept.attrs["shape"]).copy()


def _plain(value: Any) -> Any:
    """What `json` does not know: NumPy's numbers and arrays, tuples of them, dates."""
    if isinstance(value, np.datetime64):
        return str(value)
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)


# -- groups


def _key(name: str) -> str:
    """A name as one step of a path: dots alone would be the folder itself, or the one above."""
    return quote(name, safe="") if name.strip(".") else name.replace(".", "%2E")


def _open_group(path: str, mode: Any, attributes: dict[str, Any] | None = None) -> zarr.Group:
    import zarr

    local = local_path(path)
    place = str(path) if local is None else str(local)
    return zarr.open_group(place, mode=mode, zarr_format=3, use_consolidated=False, attributes=attributes)


def _new_group(path: str, kind: str) -> zarr.Group:
    """The beginning of a store, which a kill at any moment leaves known for what it is."""
    return _open_group(path, "w-", {_KIND: kind, "complete": False})


def _kind(path: str) -> dict[str, Any] | None:
    """Attributes of the store at `path`; {} when something is there that is no Zarr v3 group, None for nothing."""
    text = read(f"{path}/zarr.json")
    if text is None:
        return {} if exists(path) else None
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    attributes = found.get("attributes") if isinstance(found, dict) else None
    return attributes if isinstance(attributes, dict) else {}
