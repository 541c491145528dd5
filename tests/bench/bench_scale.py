"""What a large mosaic costs: `python tests/bench/bench_scale.py [--side 30000] [--only laplace,members0,workers]`.

A square uint16 mosaic of real texture (GEODIFF_DATA; waves where it is unset), 1 % of it missing in blobs, 2,000 of
them at 30,000 pixels. Everything runs in a process of its own, on one core a process, in the same run:

- a plain copy to a cloud-optimised GeoTIFF by GDAL's own driver, and by rio-cogeo;
- `fill --filler laplace` and `fill --members 0`, with their peak memory, their stages, and blocks beside tasks;
- one against two Dask worker processes, which stand and are warm, on a smaller mosaic: medians, speed-up, whether the
  bytes agree; and what `geodiff fill` needs by itself, with one process and with as many as it starts.

Prints figures and asserts none.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window

TILE, RADIUS, SHARE = 512, 37.85, 0.01
"""2,000 discs of that radius are 1 % of 30,000 x 30,000 pixels."""

_MEASURE = """
import json, pathlib, time
began = time.perf_counter()
facts = {{}}
{body}
seconds = time.perf_counter() - began
status = pathlib.Path("/proc/self/status").read_text()
peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
print(json.dumps({{"seconds": seconds, "peak_mib": peak, "cpu": time.process_time(), **facts}}))
"""

_GDAL_COPY = """
import rasterio, rasterio.shutil
with rasterio.Env(GDAL_NUM_THREADS="1", GDAL_CACHEMAX=2**28):
    rasterio.shutil.copy({source!r}, {target!r}, driver="COG", compress="DEFLATE", predictor="YES", num_threads=1,
                         bigtiff="IF_SAFER")
"""
_RIO_COGEO = """
from rio_cogeo.cogeo import cog_translate
from rio_cogeo.profiles import cog_profiles
cog_translate({source!r}, {target!r}, cog_profiles.get("deflate") | {{"predictor": 2, "BIGTIFF": "IF_SAFER"}},
              config={{"GDAL_NUM_THREADS": "1", "GDAL_CACHEMAX": 2**28}}, in_memory=False, quiet=True)
"""
_FILL = """
import geodiff
record = geodiff.fill({source!r}, {target!r}, **{options!r})
facts = {{"blocks": record.blocks, "stages": {{k: round(v, 1) for k, v in record.seconds.items()}}}}
"""

_FILL_ON = """
from contextlib import ExitStack
import geodiff
from geodiff.job import FillJob
from geodiff.running import _local_client
with ExitStack() as held:
    client = _local_client(FillJob.build(source={source!r}, target={target!r}, **{options!r}), {workers}, held)
    began = time.perf_counter()
    record = geodiff.fill({source!r}, {target!r}, scheduler=client.scheduler.address, **{options!r})
    seconds = time.perf_counter() - began
    facts = {{"own": seconds, "blocks": record.blocks, "stages": {{k: round(v, 1) for k, v in record.seconds.items()}}}}
"""


def _texture() -> np.ndarray:
    """One uint16 tile of real ground, mirrored to a period that joins; waves where there is none."""
    folder = os.environ.get("GEODIFF_DATA")
    scenes = sorted(Path(folder).glob("train/**/LC08_B7_Memphis_COG.tiff")) if folder else []
    if not scenes:
        y, x = np.mgrid[:600, :600]
        waves = np.sin(y / 31) * np.cos(x / 23) + 0.2 * np.sin((x + 2 * y) / 5)
        noise = np.random.default_rng(1).normal(0, 25, waves.shape)
        return np.rint(9000 + 1500 * waves + noise).astype("uint16")
    with rasterio.open(scenes[0]) as scene:
        band = scene.read(1)
    rows, columns = (np.flatnonzero((band > 0).mean(axis=axis) > 0.99) for axis in (1, 0))
    part = band[rows[0] + 8 : rows[-1] - 8, columns[0] + 8 : columns[-1] - 8]
    return np.where(part > 0, part, np.uint16(np.median(part)))


def _strips(side: int, holes: bool) -> Iterator[tuple[int, np.ndarray]]:
    """Rows of tiles: the texture, mirrored, each repetition with a gain of its own and one count of noise."""
    part = _texture()
    both = np.block([[part, part[:, ::-1]], [part[::-1], part[::-1, ::-1]]])
    rng = np.random.default_rng(0)
    count = round(SHARE * side * side / (np.pi * RADIUS**2))
    centres = rng.integers(0, side, (count, 2))
    gains = rng.uniform(0.9, 1.1, (side // both.shape[0] + 2, side // both.shape[1] + 2))
    for first in range(0, side, TILE):
        rows = np.arange(first, min(first + TILE, side))
        strip = np.empty((len(rows), side), "float32")
        for number, left in enumerate(range(0, side, both.shape[1])):
            width = min(both.shape[1], side - left)
            gain = gains[rows // both.shape[0], number][:, None]
            strip[:, left : left + width] = both[rows % both.shape[0], :width] * gain
        strip += rng.integers(-1, 2, strip.shape, dtype="int8")
        if holes:
            _pierce(strip, first, centres)
        yield first, strip.astype("uint16")


def _pierce(strip: np.ndarray, first: int, centres: np.ndarray) -> None:
    """Put nodata (0) into the discs that reach into a strip."""
    reach = int(RADIUS) + 1
    near = centres[(centres[:, 0] > first - reach) & (centres[:, 0] < first + len(strip) + reach)]
    for row, column in near:
        low, left = max(row - reach, first), max(column - reach, 0)
        part = strip[low - first : row + reach - first, left : column + reach]
        y, x = np.mgrid[low : low + part.shape[0], left : left + part.shape[1]]
        part[(y - row) ** 2 + (x - column) ** 2 < RADIUS**2] = 0


def make_mosaic(path: Path, side: int) -> None:
    """Write the mosaic strip by strip."""
    with rasterio.open(
        path, "w", driver="GTiff", height=side, width=side, count=1, dtype="uint16", nodata=0, tiled=True,
        blockxsize=TILE, blockysize=TILE, compress="deflate", predictor=2, bigtiff="IF_SAFER", crs="EPSG:32616",
        transform=Affine(10, 0, 500_000, 0, -10, 5_000_000),
    ) as out:  # fmt: skip
        for first, strip in _strips(side, holes=True):
            out.write(strip, 1, window=Window(0, first, side, len(strip)))


def _run(body: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE.format(body=body)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["?"])[-1]}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def _show(name: str, facts: dict[str, object], copy: dict[str, object] | None) -> None:
    if "failed" in facts:
        print(f"{name:28s} failed: {facts['failed']}", flush=True)
        return
    ratios = () if copy is None else (facts["seconds"] / copy["seconds"], facts["cpu"] / copy["cpu"])
    times = f" {ratios[0]:6.2f} x the copy, {ratios[1]:.2f} x its processor time" if ratios else ""
    rest = {key: value for key, value in facts.items() if key not in ("seconds", "peak_mib", "cpu")}
    spent = f"{facts['seconds']:8.1f} s, {facts['cpu']:.1f} s of processor, {facts['peak_mib']:6.0f} MiB"
    print(f"{name:28s} {spent}{times}  {rest or ''}", flush=True)


def measure_large(side: int, only: set[str], folder: Path) -> None:
    """Copies and fills of one mosaic."""
    source = folder / "mosaic.tif"
    make_mosaic(source, side)
    size = source.stat().st_size / 2**20
    print(f"{side} x {side} uint16, {size:.0f} MiB on disk, {SHARE:.0%} missing", flush=True)
    copy = _run(_GDAL_COPY.format(source=str(source), target=str(folder / "copy.tif")))
    _show("GDAL copy to COG", copy, None)
    (folder / "copy.tif").unlink(missing_ok=True)
    plain = None if "failed" in copy else copy
    if "cogeo" in only:
        _show("rio-cogeo copy", _run(_RIO_COGEO.format(source=str(source), target=str(folder / "cogeo.tif"))), plain)
        (folder / "cogeo.tif").unlink(missing_ok=True)
    fills = {"laplace": {"filler": "laplace"}, "members0": {"members": 0}}
    for name, options in fills.items():
        if name in only:
            target = folder / name / "filled.tif"
            target.parent.mkdir()
            _show(f"fill {name}", _run(_FILL.format(source=str(source), target=str(target), options=options)), plain)
            for path in target.parent.glob("*.tif"):
                path.unlink()


def measure_workers(side: int, runs: int, folder: Path, filler: str) -> None:
    """One against two Dask workers, and a plain run against one that calls for help: medians, blocks and whole."""
    source = folder / "workers.tif"
    make_mosaic(source, side)
    options = {"filler": filler} | ({"members": 0} if filler in ("auto", "diffusion") else {})
    print(f"\n{side} x {side}, {filler}, {runs} runs each")
    found: dict[str, list[dict[str, float]]] = {"1 worker": [], "2 workers": [], "--workers 1": [], "--workers 0": []}
    digests = set()
    for number in range(runs):
        for name, rows in found.items():
            target = folder / f"{name.strip('-').replace(' ', '-')}-{number}" / "filled.tif"
            target.parent.mkdir()
            on = {"source": str(source), "target": str(target), "options": options}
            if name.startswith("--"):
                facts = _run(_FILL.format(**{**on, "options": {**options, "workers": int(name[-1])}}))
            else:
                facts = _run(_FILL_ON.format(**on, workers=int(name[0])))
            if "failed" in facts:
                print(f"{name} failed: {facts['failed']}", flush=True)
                return
            rows.append({"whole": float(facts.get("own", facts["seconds"])), "blocks": float(facts["stages"]["fill"])})
            digests.add(_digest(target.parent))
    for one, two in (("1 worker", "2 workers"), ("--workers 1", "--workers 0")):
        for what in ("blocks", "whole"):
            slow, fast = (statistics.median(row[what] for row in found[name]) for name in (one, two))
            print(f"{what:7s} median {slow:6.1f} s with {one}, {fast:6.1f} s with {two}: {slow / fast:.2f} x")
    print(f"products {'byte-identical' if len(digests) == 1 else 'DIFFER'}", flush=True)


def _digest(folder: Path) -> str:
    parts = sorted(folder.glob("*.tif"))
    return hashlib.sha256(b"".join(hashlib.sha256(part.read_bytes()).digest() for part in parts)).hexdigest()


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=30_000)
    parser.add_argument("--only", default="cogeo,laplace,members0,workers")
    parser.add_argument("--workers-side", type=int, default=3000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--filler", default="auto", help="what the workers run")
    parser.add_argument("--folder", type=Path, default=None, help="where the files go; default a temporary one")
    chosen = parser.parse_args()
    only = set(chosen.only.split(","))
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        if only & {"laplace", "members0", "cogeo"}:
            measure_large(chosen.side, only, Path(name))
        if "workers" in only:
            measure_workers(chosen.workers_side, chosen.runs, Path(name), chosen.filler)


if __name__ == "__main__":
    main()
