"""Zarr groups that know their own kind: what the working store, the fit store and their parts are made of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from geodiff.io.places import exists, local_path, read

if TYPE_CHECKING:
    import zarr

__all__ = ["KIND", "as_plain", "key_of", "kind_of", "new_group", "open_group"]

KIND = "geodiff_store"
"""The attribute of a store that says of which kind it is."""


def key_of(name: str) -> str:
    """A name as one step of a path: dots alone would be the folder itself, or the one above."""
    return quote(name, safe="") if name.strip(".") else name.replace(".", "%2E")


def open_group(path: str, mode: Any, attributes: dict[str, Any] | None = None) -> zarr.Group:
    """The group at a path or URL, which `mode` may make, as Zarr v3; metadata are read node by node."""
    import zarr

    local = local_path(path)
    place = str(path) if local is None else str(local)
    return zarr.open_group(place, mode=mode, zarr_format=3, use_consolidated=False, attributes=attributes)


def new_group(path: str, kind: str) -> zarr.Group:
    """The beginning of a store, which a kill at any moment leaves known for what it is."""
    return open_group(path, "w-", {KIND: kind, "complete": False})


def kind_of(path: str) -> dict[str, Any] | None:
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


def as_plain(value: Any) -> Any:
    """What `json` does not know: NumPy's numbers and arrays, tuples of them, dates."""
    if isinstance(value, np.datetime64):
        return str(value)
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)
