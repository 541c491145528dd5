"""The layers of one variable: what CF calls its ancillary variables, and members and quantiles on axes of their own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.codes import OBSERVED, OUTSIDE, UNFILLED
from geodiff.errors import GridError, SourceError
from geodiff.io import Product, ProductVariable, Variable
from geodiff.io.contents import Cube, OutputArray, cube_array, free_name, line
from geodiff.io.cube import CubeReader, Layout

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["axes_beside", "is_layer", "layer_arrays", "refuse_foreign_layers"]

_AXES = {"member": "member", "quantile": "quantile"}
"""What the axis in front of a layer is called, by layer."""
_SAID = {
    "source": "how each value of {} came about",
    "reason": "why {} was missing",
    "standard_error": "standard error of {}",
    "member": "equally likely realisations of {}",
    "quantile": "quantiles of {}",
}
"""`long_name` of each layer, by which those of an earlier fill are known as such."""


def is_layer(name: str, attributes: Mapping[str, Any]) -> bool:
    """Whether a variable is the source, reason, standard error, members or quantiles of an earlier fill of another."""
    said = {f"_{suffix}": words for suffix, words in _SAID.items() if name.endswith(f"_{suffix}")}
    return any(attributes.get("long_name") == words.format(name.removesuffix(end)) for end, words in said.items())


def refuse_foreign_layers(variables: Sequence[Variable], suffixes: Sequence[str]) -> None:
    """Raise SourceError where a dataset has variables of its own that are called as layers of these would be.

    Layers of an earlier fill are no reason: they are made anew.
    """
    for variable in variables:
        reader = variable.reader
        if not isinstance(reader, CubeReader):
            continue
        held = reader.source.dataset().variables
        named = [f"{reader.name}_{suffix}" for suffix in suffixes]
        foreign = [name for name in named if name in held and not is_layer(name, held[name].attrs)]
        if foreign:
            raise SourceError(
                f"the source has {' and '.join(foreign)} of its own, in whose place the layers of {reader.name} would "
                "be written; rename it or leave it out (ncrename, ncks -x -v; rename, drop_vars), or fill others"
            )


def axes_beside(dataset: xr.Dataset, variables: Sequence[Variable]) -> dict[str, str]:
    """What members and quantiles are counted along, by layer: `member`, or `member_2` where the dataset has its own.

    A coordinate that only layers of an earlier fill lie on is none of its own.
    """
    filled = {v.reader.name for v in variables if isinstance(v.reader, CubeReader)}
    layers = {f"{name}_{suffix}" for name in filled for suffix in _SAID} - filled
    own = [(str(name), v.dims) for name, v in dataset.variables.items() if str(name) not in layers]
    taken = {word for name, dims in own if dims != (name,) for word in (name, *map(str, dims))}
    return {layer: free_name(name, taken) for layer, name in _AXES.items()}


def layer_arrays(
    product: Product,
    layers: ProductVariable,
    name: str,
    layout: Layout,
    dtype: np.dtype[Any],
    attributes: Mapping[str, Any],
    axes: Mapping[str, str] = _AXES,
) -> list[OutputArray]:
    """Value, source, reason, standard error, members and quantiles (if any), in the value's own dimensions.

    `axes` names those in front of members and quantiles, as `axes_beside` does.
    """
    if layout.bands != layers.variable.shape[1]:
        raise GridError(f"{name} has {layout.bands} bands in the source but {layers.variable.shape[1]} in the product")
    shared = {key: attributes[key] for key in ("grid_mapping", "coordinates") if key in attributes}
    ancillary = [f"{name}_{suffix}" for suffix in ("source", "reason", "standard_error")]
    before = [word for word in str(attributes.get("ancillary_variables", "")).split() if word not in ancillary]
    value = {**attributes, "ancillary_variables": " ".join([*before, *ancillary])}
    make = _maker(product, layers, layout)
    arrays = [
        make(name, layers.value, dtype, value, exact=True),
        make(f"{name}_source", layers.source, np.dtype("u1"), {**_source_flags(product, name), **shared}),
        make(f"{name}_reason", layers.reason, np.dtype("u2"), {**_reason_flags(product, name), **shared}),
        make(f"{name}_standard_error", layers.standard_error, np.dtype("f4"), {**_error(attributes, name), **shared}),
    ]
    if layers.members is not None:
        about, front = _about(attributes, _SAID["member"].format(name)), axes["member"]
        arrays += [_members(front, layers.members.shape[0])]
        arrays += [make(f"{name}_member", layers.members, dtype, {**attributes, **about}, front=front, exact=True)]
    if layers.quantiles is not None:
        about, front = _physical(attributes, _SAID["quantile"].format(name)), axes["quantile"]
        arrays += [_quantiles(front, product.quantiles)]
        arrays += [make(f"{name}_quantile", layers.quantiles, np.dtype("f4"), {**about, **shared}, front=front)]
    return arrays


def _maker(product: Product, layers: ProductVariable, layout: Layout) -> Callable[..., OutputArray]:
    def make(
        name: str,
        pixels: Any,
        dtype: np.dtype[Any],
        attributes: Mapping[str, Any],
        front: str = "",
        *,
        exact: bool = False,
    ) -> OutputArray:
        cube = Cube.of(pixels, layout, layers.variable)
        content = cube if product.earlier is None else product.earlier.spliced(layers.variable.name, cube)
        ahead, count = ((front,), (pixels.shape[0],)) if front else ((), ())
        return cube_array(name, ahead, count, layout, dtype, attributes, content, exact=exact)

    return make


def _source_flags(product: Product, name: str) -> dict[str, Any]:
    codes = {"observed": OBSERVED, "outside": OUTSIDE, "unfilled": UNFILLED}
    words = {code: word for word, code in codes.items()} | {code: word for word, code in product.source_codes.items()}
    values = sorted(words)
    return {
        "long_name": _SAID["source"].format(name),
        "flag_values": np.array(values, "u1"),
        "flag_meanings": " ".join(_word(words[code]) for code in values),
    }


def _reason_flags(product: Product, name: str) -> dict[str, Any]:
    words = sorted(product.reason_masks.items(), key=lambda item: item[1])
    return {
        "long_name": _SAID["reason"].format(name),
        "flag_masks": np.array([bit for _, bit in words], "u2"),
        "flag_meanings": " ".join(_word(word) for word, _ in words),
    }


def _word(text: str) -> str:
    """One word of `flag_meanings`, which blanks separate."""
    return re.sub(r"[^A-Za-z0-9_.+@-]", "_", text)


def _error(attributes: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = _physical(attributes, _SAID["standard_error"].format(name))
    if "standard_name" in found:
        found["standard_name"] = f"{found['standard_name']} standard_error"
    return found


def _physical(attributes: Mapping[str, Any], long_name: str) -> dict[str, Any]:
    """Attributes of a layer in physical units, unpacked; NaN where there is nothing to say."""
    found = {"long_name": long_name, **_about(attributes, long_name), "_FillValue": np.float32(np.nan)}
    return found | {key: attributes[key] for key in ("units",) if key in attributes}


def _about(attributes: Mapping[str, Any], long_name: str) -> dict[str, Any]:
    """The quantity's standard name, unless it says already that this is something derived from it."""
    standard = str(attributes.get("standard_name", ""))
    return {"long_name": long_name, **({"standard_name": standard} if standard and " " not in standard else {})}


def _members(name: str, count: int) -> OutputArray:
    attributes = {"standard_name": "realization", "long_name": "realisation", "units": "1"}
    return line(name, np.arange(count, dtype=np.int32), attributes)


def _quantiles(name: str, levels: Sequence[float]) -> OutputArray:
    return line(name, np.array(levels, np.float64), {"long_name": "quantile", "units": "1"})
