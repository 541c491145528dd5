"""The options of the Python functions by name and type: what an editor completes and a type checker checks.

They are the fields of a job as a person may write them: one value in place of a list of one, paths as text or `Path`,
None for the default. What each means is told by `geodiff fill --help`, and by the fields of `FillJob` and `RestoreJob`.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Literal, TypedDict

__all__ = ["ArrayOptions", "FillOptions", "GapOptions", "RestoreOptions"]

_Place = str | PathLike[str]
_Names = str | Sequence[str]


class GapOptions(TypedDict, total=False):
    """What is to be filled, and what is missing: options of every fill and restoration."""

    variable: _Names | None
    bands: str | int | Sequence[str | int] | None
    qa: _Names | None
    mask: _Place | Sequence[_Place] | None
    fillable: _Place | None
    nodata: float | None
    valid_range: str | tuple[float, float] | None
    buffer: int | None
    detect: _Names | None


class ArrayOptions(GapOptions, total=False):
    """All that can change a pixel of a fill: options of `.geodiff.fill`."""

    dates: str | None
    filler: str | None
    model: _Place | None
    members: int | None
    product: Literal["value", "member"] | None
    seed: int | None
    steps: int | None
    sampler: str | None
    max_error: float | None
    quantiles: str | float | Sequence[float] | None
    device: str | None
    dtype: Literal["auto", "float32", "bfloat16"] | None
    batch: int | None


class FillOptions(ArrayOptions, total=False):
    """Options of `geodiff.fill`."""

    resolution: float | None
    gate: str | None
    block_size: int | None
    workers: int | None
    scheduler: str | None
    work: _Place | None
    zarr_format: Literal[2, 3] | None
    dry_run: bool | None
    overwrite: bool | None
    append: bool | None
    refit: bool | None
    fail_if_empty: bool | None
    report: _Place | None
    stac: _Place | None


class RestoreOptions(GapOptions, total=False):
    """Options of `geodiff.restore`."""

    noise: float | None
    poisson: float | None
    factor: Literal[2, 4] | None
    model: _Place | None
    members: int | None
    seed: int | None
    steps: int | None
    device: str | None
    dtype: Literal["auto", "float32", "bfloat16"] | None
    zarr_format: Literal[2, 3] | None
    overwrite: bool | None
