"""What a Zarr or NetCDF product consists of: a list of arrays with CF attributes, each written region by region.

A product of a CF source is that dataset, everything copied verbatim, with filled values and the layers beside them. A
product of any other source gets dimensions time, band, y, x, coordinates and a grid mapping of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from geodiff.io import Product
from geodiff.io.contents import OutputArray
from geodiff.io.copied import copied_arrays
from geodiff.io.cube import CubeReader, Source
from geodiff.io.fresh import fresh_arrays

__all__ = ["Plan", "plan_of"]

_CONVENTIONS = "CF-1.11"


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole product."""

    arrays: tuple[OutputArray, ...]
    attributes: Mapping[str, Any]
    unlimited: frozenset[str] = frozenset()
    """Dimensions that were unlimited in the source."""


def plan_of(product: Product) -> Plan:
    """Every array of a product, coordinates first, and its global attributes."""
    source = _dataset_source(product)
    arrays = fresh_arrays(product) if source is None else copied_arrays(product, source)
    return Plan(tuple(_unique(arrays)), _global_attributes(product), _unlimited(source))


def _dataset_source(product: Product) -> Source | None:
    """The one dataset that every variable is read from, if there is one."""
    readers = [variable.reader for variable in product.raster.variables]
    readers += [layers.variable.reader for layers in product.variables]
    sources = [reader.source for reader in readers if isinstance(reader, CubeReader)]
    return sources[0] if sources and len(sources) == len(readers) and all(s == sources[0] for s in sources) else None


def _unlimited(source: Source | None) -> frozenset[str]:
    if source is None:
        return frozenset()
    dataset = source.dataset()
    return frozenset(str(dim) for dim in dataset.encoding.get("unlimited_dims", ()) if dim in dataset.dims)


def _unique(arrays: Sequence[OutputArray]) -> list[OutputArray]:
    """The last array of each name, where the first one stood: layers of an earlier fill are replaced."""
    return list({array.name: array for array in arrays}.values())


def _global_attributes(product: Product) -> dict[str, Any]:
    before = {key: value for key, value in product.raster.attributes.items() if value is not None}
    return product.said_over({**before, "Conventions": _conventions(str(before.get("Conventions", "")))})


def _conventions(named: str) -> str:
    """The source's conventions, CF no older than ours: before 1.9 it has no unsigned types, which our layers are of."""
    others = [word for word in re.split(r"[,\s]+", named) if word and not word.startswith("CF-")]
    version = re.search(r"CF-1\.(\d+)", named)
    newer = version is not None and int(version[1]) > int(_CONVENTIONS.rpartition(".")[2])
    return " ".join((version[0] if version is not None and newer else _CONVENTIONS, *others))
