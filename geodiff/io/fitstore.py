"""The fit store: what a fit learnt, kept beside the product for blocks, restarts and dates to come.

`<stem>.geodiff-fit.zarr` is a Zarr v3 group of arrays and of parts, which are such groups again.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.errors import TargetError
from geodiff.fillers import Fitted
from geodiff.io.groups import KIND, as_plain, key_of, kind_of, new_group, open_group
from geodiff.io.places import appearing, local_path, remove_tree

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray

__all__ = ["has_fit", "load_fit", "save_fit"]

_SUM = "checksum"
"""Of a fit: of all numbers in it, as a chunk that is gone reads as zeros."""


def save_fit(path: str, fitted: Fitted, extra: Mapping[str, Any] | None = None) -> None:
    """Store a fit, parts and all, as a Zarr group that appears complete or not at all; an older fit is replaced.

    `extra` is anything JSON takes. Raises TargetError when something that is no fit is there.
    """
    found = kind_of(path)
    if found is not None and found.get(KIND) != "fit":
        raise TargetError(f"{path} already exists and holds no fit of geodiff, so it is not replaced; move it away")
    local = local_path(path)
    if local is None:
        remove_tree(path)
        _write_fit(path, fitted, extra)
        return
    with appearing(local) as place:
        _write_fit(str(place), fitted, extra)


def _write_fit(place: str, fitted: Fitted, extra: Mapping[str, Any] | None) -> None:
    group = new_group(place, "fit")
    _save_part(group, fitted)
    told = {KIND: "fit", "complete": True, "extra": json.dumps(extra or {}, default=as_plain), _SUM: _checksum(fitted)}
    group.attrs.update(_part_attributes(fitted) | told)


def has_fit(path: str) -> bool:
    """Whether a fit is there to be loaded; one that a kill left half written, as on an object store, is none."""
    found = kind_of(path)
    return found is not None and bool(found.get("complete", True))


def load_fit(path: str) -> tuple[Fitted, dict[str, Any]]:
    """The fit stored at `path` and its `extra`; raises TargetError when there is none, or a damaged one."""
    found = kind_of(path)
    if not found or found.get(KIND) != "fit" or not found.get("complete"):
        raise TargetError(f"no fit of geodiff at {path}; run with --refit to make one")
    try:
        fitted, extra = _load_part(open_group(path, "r")), json.loads(found["extra"])
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
        _save_array(group, f"arrays/{key_of(name)}", np.asarray(array))
    for name, part in fitted.parts.items():
        place = f"parts/{key_of(name)}"
        _save_part(group.create_group(place, attributes=_part_attributes(part)), part)


def _part_attributes(fitted: Fitted) -> dict[str, Any]:
    return {
        "filler": fitted.filler,
        "facts": json.dumps(dict(fitted.facts), default=as_plain),
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
    arrays = {name: _load_array(group[f"arrays/{key_of(name)}"]) for name in attributes["arrays"]}
    parts = {name: _load_part(group[f"parts/{key_of(name)}"]) for name in attributes["parts"]}
    return Fitted(attributes["filler"], json.loads(attributes["facts"]), arrays, parts)


def _load_array(kept: Any) -> NDArray[Any]:
    stored = np.asarray(kept[...])
    if "dtype" not in kept.attrs:
        return stored
    return np.frombuffer(stored.tobytes(), np.dtype(kept.attrs["dtype"])).reshape(kept.attrs["shape"]).copy()
