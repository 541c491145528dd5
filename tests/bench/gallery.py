"""The picture of the README: truth, gap, a classical fill, the value, two members and the standard error.

    python tests/bench/gallery.py [docs/pages/img/gallery.png]

Rasters from wheels, none of which the network has seen: a Landsat scene (hvsampledata, BSD) and the Moon (scikit-image,
NASA, public domain).
"""

import sys
import tempfile
from importlib.resources import files
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import rasterio
from rasterio.fill import fillnodata
from skimage import data

import geodiff
from geodiff.gapshapes import dead_lines, draw_clouds

TITLES = (
    "what was there", "what was seen", "GDAL fillnodata", "geodiff: value", "a member", "another member",
    "standard error",
)  # fmt: skip


def landsat() -> np.ndarray:
    with rasterio.open(files("hvsampledata") / "_data/landsat_rgb.tif") as scene:
        return scene.read(1, window=rasterio.windows.Window(60, 50, 128, 128)).astype("float32")


def moon() -> np.ndarray:
    return data.moon()[180:308, 190:318].astype("float32")


def lost(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Dead lines and a lost block, as of a frame that came down in pieces."""
    hole = dead_lines(shape, rng)
    hole[70:102, 30:78] = True
    return hole


def fills(truth: np.ndarray, hole: np.ndarray) -> list[np.ndarray]:
    """Classical fill, value, two members and error."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "scene.tif", Path(folder) / "filled.tif"
        with rasterio.open(
            source, "w", driver="GTiff", height=truth.shape[0], width=truth.shape[1], count=1, dtype="float32",
            nodata=-9999, crs="EPSG:32617", transform=rasterio.Affine(30, 0, 5e5, 0, -30, 3e6),
        ) as out:  # fmt: skip
            out.write(np.where(hole, -9999, truth).astype("float32"), 1)
        geodiff.fill(source, target, members=2, fillable="all")
        layers = [target.with_name(f"filled{end}.tif") for end in ("", "_members", "_standard_error")]
        read = [rasterio.open(path).read() for path in layers]
    classical = fillnodata(np.where(hole, 0, truth).astype("float32"), mask=(~hole).astype("uint8"))
    return [classical, read[0][0], read[1][0], read[1][1], read[2][0]]


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/pages/img/gallery.png")
    rng = np.random.default_rng(6)
    cases = {
        "Landsat under a cloud": (landsat(), lambda s: draw_clouds(s, rng, share=0.25), "gray"),
        "the Moon with lost lines and a block": (moon(), lambda s: lost(s, rng), "gray"),
    }
    figure, axes = plt.subplots(len(cases), len(TITLES), figsize=(14, 2.25 * len(cases)), squeeze=False)
    for row, (name, (truth, draw, colours)) in zip(axes, cases.items(), strict=True):
        hole = draw(truth.shape)
        low, high = np.percentile(truth, (1, 99))
        made = fills(truth, hole)
        rmse = [float(np.sqrt(((image - truth)[hole] ** 2).mean())) for image in made[:4]]
        for axis, title, image in zip(row, TITLES, [truth, np.where(hole, np.nan, truth), *made], strict=True):
            error = title == "standard error"
            axis.set_facecolor("#b4006a")
            limits = {"cmap": "magma", "vmin": 0} if error else {"cmap": colours, "vmin": low, "vmax": high}
            axis.imshow(image, **limits)
            axis.set(xticks=[], yticks=[])
            if name == next(iter(cases)):
                axis.set_title(title, fontsize=9)
        row[0].set_ylabel(name, fontsize=8)
        for axis, value in zip(row[2:6], rmse, strict=True):
            axis.set_xlabel(f"RMSE {value:.3g}", fontsize=8)
        print(name, [round(r, 3) for r in rmse])
    figure.tight_layout(pad=0.4)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110, pil_kwargs={"optimize": True})
    print(out, out.stat().st_size)


if __name__ == "__main__":
    main()
