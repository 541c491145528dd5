"""Wall time and peak memory of a fill beside its peers, in one run: `python tests/bench/bench_fill.py`.

    python tests/bench/bench_fill.py [--json OUT] [--keep]

A scene of 2048 x 2048 uint16 (real texture where GEODIFF_DATA is set, a synthetic surface otherwise), 5 % of it missing
in 40 blobs. Every method runs in a process of its own, so that peak memory is its own. Prints figures, asserts none.

Machines differ and are busy, so what is kept between runs are ratios to GDAL's fillnodata of the same run, of processor
time and not of wall time: in `baseline.json` beside this file, one entry a texture. The last table compares with it;
`--keep` writes it anew.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

SIDE, BLOBS, RADIUS = 2048, 40, 41
BASELINE = Path(__file__).with_name("baseline.json")
PEER = "rasterio.fill.fillnodata"
FIGURES = ("cpu", "peak_mib", "rmse")
NOTABLE = {"cpu": 1.3, "peak_mib": 1.15, "rmse": 1.01}
"""A change of a ratio by more than this factor is pointed at."""

_MEASURE = """
import json, resource, sys, time
began = time.perf_counter()
{body}
seconds = time.perf_counter() - began
used = resource.getrusage(resource.RUSAGE_SELF)
facts = {{"seconds": seconds, "cpu": used.ru_utime + used.ru_stime, "peak_mib": used.ru_maxrss / 1024}}
print(json.dumps(facts))
"""

_METHODS = {
    "rasterio.fill.fillnodata": """
import rasterio
from rasterio.fill import fillnodata
with rasterio.open({source!r}) as scene:
    values, profile = scene.read(1), scene.profile
filled = fillnodata(values.astype("float32"), mask=values != 0, max_search_distance=100)
with rasterio.open({target!r}, "w", **profile) as out:
    out.write(filled.round().astype("uint16"), 1)
""",
    "scikit-image biharmonic": """
import rasterio
from skimage.restoration import inpaint_biharmonic
with rasterio.open({source!r}) as scene:
    values, profile = scene.read(1), scene.profile
filled = inpaint_biharmonic(values.astype("float64"), values == 0)
with rasterio.open({target!r}, "w", **profile) as out:
    out.write(filled.round().clip(1, 65535).astype("uint16"), 1)
""",
    "geodiff laplace": """
import geodiff
geodiff.fill({source!r}, {target!r}, filler="laplace")
""",
    "geodiff diffusion --members 0": """
import geodiff
geodiff.fill({source!r}, {target!r}, filler="diffusion", members=0)
""",
    "geodiff auto --members 0": """
import geodiff
geodiff.fill({source!r}, {target!r}, filler="auto", members=0)
""",
    "geodiff auto, one process": """
import geodiff
geodiff.fill({source!r}, {target!r}, workers=1)
""",
    "geodiff auto": """
import geodiff
geodiff.fill({source!r}, {target!r})
""",
}


def _texture() -> np.ndarray:
    """A real photograph of the ground, tiled by mirroring, or waves where there is none."""
    folder = os.environ.get("GEODIFF_DATA")
    scenes = sorted(Path(folder).glob("train/opengeos-data/naip/*.tif")) if folder else []
    if not scenes:
        y, x = np.mgrid[:SIDE, :SIDE]
        return 2000 + 600 * np.sin(y / 31) * np.cos(x / 23) + 80 * np.sin((x + 2 * y) / 5)
    with rasterio.open(scenes[0]) as scene:
        band = scene.read(1)
    return np.pad(band, [(0, SIDE - band.shape[0]), (0, SIDE - band.shape[1])], mode="symmetric") * 40.0 + 100


def _scene(folder: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    truth = _texture().astype("uint16")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    holes = np.zeros(truth.shape, bool)
    for row, column in rng.integers(RADIUS, SIDE - RADIUS, (BLOBS, 2)):
        holes |= (y - row) ** 2 + (x - column) ** 2 < RADIUS**2
    path = folder / "scene.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=SIDE, width=SIDE, count=1, dtype="uint16", nodata=0, tiled=True,
        compress="deflate", crs="EPSG:32614", transform=Affine(10, 0, 500_000, 0, -10, 5_000_000),
    ) as out:  # fmt: skip
        out.write(np.where(holes, 0, truth), 1)
    return path, truth, holes


def measured(folder: Path) -> dict[str, dict[str, float]]:
    """Run every method once and print a table; figures by method, without those that failed."""
    source, truth, holes = _scene(folder)
    found: dict[str, dict[str, float]] = {}
    print(f"{SIDE} x {SIDE} uint16, {100 * holes.mean():.1f} % missing in {BLOBS} blobs")
    print(f"{'method':32s} {'wall s':>8s} {'cpu s':>8s} {'peak MiB':>9s} {'RMSE':>8s}")
    for number, (method, body) in enumerate(_METHODS.items()):
        target = folder / f"{number}.tif"
        script = _MEASURE.format(body=body.format(source=str(source), target=str(target)))
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{method:32s} failed: {done.stderr.strip().splitlines()[-1]}")
            continue
        facts = json.loads(done.stdout.strip().splitlines()[-1])
        with rasterio.open(target) as out:
            error = out.read(1)[holes].astype(float) - truth[holes]
        facts["rmse"] = float(np.sqrt(np.mean(error**2)))
        told = f"{facts['seconds']:8.1f} {facts['cpu']:8.1f} {facts['peak_mib']:9.0f} {facts['rmse']:8.1f}"
        print(f"{method:32s} {told}", flush=True)
        found[method] = facts
    return found


def ratios(found: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Each figure over the peer's of the same run."""
    peer = found[PEER]
    return {m: {f: round(own[f] / peer[f], 3) for f in FIGURES} for m, own in found.items() if m != PEER}


def compared(now: dict[str, dict[str, float]], before: dict[str, dict[str, float]]) -> str:
    """Now beside before, a line a method; what changed by more than NOTABLE is marked."""
    lines = [f"{'ratio to ' + PEER:34s}" + "".join(f"{figure:>24s}" for figure in FIGURES)]
    for method, own in now.items():
        was = before.get(method)
        cells = [f"{own[f]:.2f}" + (_change(f, own[f], was[f]) if was else " (new)") for f in FIGURES]
        lines.append(f"{method:34s}" + "".join(f"{cell:>24s}" for cell in cells))
    gone = (f"{method}: in the baseline, and not measured now" for method in sorted(before.keys() - now.keys()))
    return "\n".join([*lines, *gone])


def _change(figure: str, now: float, before: float) -> str:
    mark = " !" if max(now / before, before / now) > NOTABLE[figure] else ""
    return f" (was {before:.2f}){mark}"


def main() -> None:
    """Measure, print, compare with what was kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures of this run")
    parser.add_argument("--keep", action="store_true", help="make this run's ratios the baseline")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = measured(Path(name))
    if PEER not in found:
        sys.exit(f"{PEER} failed, so there is nothing to compare by")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    texture = "real" if os.environ.get("GEODIFF_DATA") else "synthetic"
    kept = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    print(f"\n{compared(ratios(found), kept.get(texture, {}))}")
    if given.keep:
        BASELINE.write_text(json.dumps({**kept, texture: ratios(found)}, indent=1, sort_keys=True) + "\n")
        print(f"wrote {BASELINE}")


if __name__ == "__main__":
    main()
