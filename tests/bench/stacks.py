"""Stacks of dates for `bench_time.py`: real observations, and which of their known pixels are hidden.

`validation` is what methods are developed on; `evaluate` is measured and never tuned on. Gaps are a set's own, moved
between its dates; sets without gaps get drawn clouds. Everything follows from the seed and is hashed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodiff.gapshapes import draw_clouds, transplant

Cube = NDArray[np.float32]
"""(date, row, column), NaN where not known."""


@dataclass(frozen=True)
class Stack:
    """One band of a place over dates."""

    name: str
    values: Cube
    days: NDArray[np.float64]
    """(date,) days since 1970."""
    log: bool = False
    """Spans decades: judged, and filled by every method, in log10."""
    clip: tuple[float, float] | None = None


@dataclass(frozen=True)
class Hidden:
    """A stack as methods see it, and what was taken from it."""

    stack: Stack
    seen: Cube
    """The stack without the hidden values."""
    hidden: NDArray[np.bool_]
    """(date, row, column)."""
    whole: frozenset[int] = field(default_factory=frozenset)
    """Dates of which everything is hidden."""

    @property
    def dates(self) -> list[int]:
        """Dates on which something is hidden."""
        return [int(d) for d in np.flatnonzero(self.hidden.any(axis=(1, 2)))]

    @property
    def digest(self) -> str:
        """Of the values and of what is hidden."""
        content = hashlib.sha256(np.nan_to_num(self.stack.values, nan=-9e9).tobytes())
        content.update(np.packbits(self.hidden).tobytes())
        return content.hexdigest()[:16]


def _days(texts: list[str]) -> NDArray[np.float64]:
    return np.array([np.datetime64(t[:19], "s") for t in texts]).astype(np.int64) / 86400.0


def _romania(root: Path) -> Stack:
    held = np.load(root / "train/s2-minicubes/MJJ2021_minicube_225_34TET_47.37_22.05.npz", allow_pickle=False)
    bands = held["bands"].astype(np.float32)
    bad = np.isin(held["scl"], (0, 1, 3, 8, 9, 10, 11)) | (held["bands"] == 65535).any(axis=1)
    ndvi = (bands[:, 3] - bands[:, 2]) / np.maximum(bands[:, 3] + bands[:, 2], 1)
    return Stack("s2-romania-ndvi", np.where(bad, np.nan, ndvi), _days([str(d) for d in held["dates"]]))


def _site2(root: Path) -> Stack:
    held = np.load(root / "train/s2-l2a-12band/site2.npz")
    bad = np.isin(held["scl"], (0, 1, 3, 8, 9, 10)) | (held["bands"] == 0).any(axis=1)
    red = held["bands"][:, 3].astype(np.float32)
    return Stack("s2-site2-red", np.where(bad, np.nan, red), _days([str(d) for d in held["dates"]]))


def _naip(root: Path) -> Stack:
    import rasterio
    from rasterio.windows import Window

    paths = sorted((root / "train/opengeos-data/naip").glob("*.tif"))
    planes = []
    for path in paths:
        with rasterio.open(path) as source:
            plane = source.read(4, window=Window(700, 100, 224, 224)).astype(np.float32)
        planes.append(np.where(plane == 0, np.nan, plane))
    stamps = [f"{p.stem[-8:-4]}-{p.stem[-4:-2]}-{p.stem[-2:]}" for p in paths]
    return Stack("naip-east-nir", np.stack(planes), _days(stamps))


def _ostia(root: Path) -> Stack:
    import xarray as xr

    with xr.open_dataset(root / "train/iris-sample-data/ostia_monthly.nc") as source:
        values = source["surface_temperature"].values.astype(np.float32)
        days = source["time"].values.astype("M8[s]").astype(np.int64) / 86400.0
    return Stack("ostia-monthly", values[:, :, 180:372], days)


def _pacific(root: Path) -> Stack:
    import rasterio

    with rasterio.open(root / "train/remote/pacificSST.tif") as source:
        values = source.read().astype(np.float32)
    months = np.arange("1982-01", "2011-01", dtype="M8[M]").astype("M8[s]").astype(np.int64) / 86400.0
    return Stack("pacific-sst", np.where(values == 0, np.nan, values)[-72:], months[-72:])


def _eolearn(root: Path) -> Stack:
    patch = root / "evaluate/eo-learn/example_data/TestEOPatch"
    ndvi, cloud = np.load(patch / "data/NDVI.npy")[..., 0], np.load(patch / "mask/CLM.npy")[..., 0]
    known = (cloud == 0) & np.load(patch / "mask/IS_VALID.npy")[..., 0].astype(bool)
    return Stack(
        "eo-learn-ndvi", np.where(known, ndvi, np.nan), _days(json.loads((patch / "timestamps.json").read_text()))
    )


def _alboran(root: Path) -> Stack:
    import xarray as xr

    with xr.open_dataset(root / "evaluate/dineof/SmallExample/alboranSST_small.nc") as source:
        sea = source["mask"].values > 0
        values = np.where(sea, source["SST"].values, np.nan).astype(np.float32)
        days = source["time"].values.astype("M8[s]").astype(np.int64) / 86400.0
    return Stack("alboran-sst", values, days)


def _stfit(root: Path) -> Stack:
    held = np.load(root / "evaluate/stfit-cran/landsat106.npz")
    cube = held["cube"]
    kept = np.isfinite(cube).mean(axis=(1, 2)) > 0.02
    years = (held["year"].astype(int) - 1970).astype("M8[Y]").astype("M8[D]")
    days = years.astype(np.int64) + held["doy"] - 1.0
    order = np.argsort(days[kept], kind="stable")
    return Stack("stfit-site1", cube[kept][order], days[kept][order])


def _olci(root: Path) -> Stack:
    import xarray as xr

    with xr.open_zarr(root / "evaluate/xcube/examples/serve/demo/cube-1-250-250.zarr", chunks=None) as source:
        values = source["conc_chl"].values[:, :512, 700:1340].astype(np.float32)
        days = source["time"].values.astype("M8[s]").astype(np.int64) / 86400.0
    return Stack("olci-chlorophyll", np.where(values > 0, values, np.nan), days, log=True)


def _modis(root: Path) -> Stack:
    held = np.load(root / "evaluate/modis-mod13a2-h18v09/mod13a2_h18v09_crop.npz")
    ndvi = held["bands"][:, 0].astype(np.float32)
    good = np.isin(held["pixel_reliability"], (0, 1)) & (ndvi > -2500)
    stamps = [f"{d[:4]}-01-01" for d in held["date_yyyyddd"]]
    days = _days(stamps) + np.array([int(d[4:]) - 1 for d in held["date_yyyyddd"]])
    return Stack("modis-ndvi", np.where(good, ndvi * 1e-4, np.nan)[:, :256, :], days)


PARTS: Mapping[str, Mapping[str, Callable[[Path], Stack]]] = {
    "validation": {
        "s2-romania-ndvi": _romania, "s2-site2-red": _site2, "naip-east-nir": _naip, "ostia-monthly": _ostia,
        "pacific-sst": _pacific,
    },
    "evaluate": {
        "eo-learn-ndvi": _eolearn, "alboran-sst": _alboran, "stfit-site1": _stfit, "olci-chlorophyll": _olci,
        "modis-ndvi": _modis,
    },
}  # fmt: skip


def hide(stack: Stack, seed: int, clouds: int = 6, whole: int = 2) -> Hidden:
    """Hide what another date's gaps would cover on some dates, and everything on some others.

    Half of the dates at most are touched; those with fewer than a twentieth of the ever known pixels are left alone.
    """
    rng = np.random.default_rng([seed, *stack.name.encode()])
    known = np.isfinite(stack.values)
    ever = known.any(axis=0)
    share = known[:, ever].mean(axis=1)
    able = np.flatnonzero(share > 0.05)
    lost = rng.permutation(able[share[able] > 0.3])[: min(whole, max(1, len(able) // 5))]
    rest = rng.permutation(np.setdiff1d(able, lost))
    chosen = rest[: min(clouds, max(1, len(able) // 2 - len(lost)))]
    hidden = np.zeros_like(known)
    hidden[lost] = known[lost]
    shapes = [~known[d] & ever for d in range(len(known)) if 0.05 < 1 - share[d] < 0.95]
    for date in chosen:
        hidden[date] = _transplanted(shapes, known[date], rng)
    return Hidden(stack, np.where(hidden, np.nan, stack.values), hidden, frozenset(int(d) for d in lost))


def _transplanted(shapes: list[Any], known: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Known pixels under a moved gap: a fiftieth at least of the known, a tenth left at least."""
    for _ in range(60):
        if shapes and min(known.shape) > 8:
            shape = transplant(shapes[int(rng.integers(len(shapes)))], known.shape, rng)
        else:
            share = float(rng.uniform(0.1, 0.6))
            shape = draw_clouds(known.shape, rng, share=share, scale=float(rng.uniform(16, 64)))
        found = known & shape
        if 0.02 * known.sum() < found.sum() < 0.9 * known.sum():
            return found
    return known & draw_clouds(known.shape, rng, share=0.3)
