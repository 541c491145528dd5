"""Restoration beside its peers on frames that no training saw: `python tests/bench/bench_restore.py [--count N]`.

Frames are MSL `validation`, HiRISE observations that were set aside, and Opportunity frames of `evaluate/` (reported
only), all through GEODIFF_DATA; without it, parts of the Moon that scikit-image brings. White noise of 10, 25 and 50 of
255, cells of 2 x 2 and 4 x 4 pixels, lost lines and blocks. Every method is told the true noise, and peers with a knob
get the setting that is best for each frame, which no user could know. Prints figures with 95 % bootstrap intervals over
frames, asserts none; the same in every run. BM3D (non-commercial licence: for comparison only, nothing of geodiff
depends on it) and OpenCV take part where they are installed.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy and torch read it

import argparse
import hashlib
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 224
SIGMAS, FACTORS = (10, 25, 50), (2, 4)
PARTS = ("denoise", "superres", "losses", "time")
Image = np.ndarray


# -- frames


def frames(count: int) -> Iterator[tuple[str, str, Image]]:
    """Set, name and image (row, column) of 0 to 255, `count` a set, in an order that only names decide."""
    folder = os.environ.get("GEODIFF_DATA")
    if not folder:
        print("GEODIFF_DATA is not set: parts of the Moon instead of the held-out frames")
        yield from _moon(count)
        return
    yield from _held_out(Path(folder) / "train", count)
    yield from _opportunity(Path(folder) / "evaluate", count)


def _moon(count: int) -> Iterator[tuple[str, str, Image]]:
    from skimage import data

    whole = data.moon().astype(float)
    places = [(r, c) for r in (0, 288) for c in (0, 144, 288)]
    for row, column in places[:count]:
        yield "moon", f"{row}-{column}", whole[row : row + SIDE, column : column + SIDE]


def _held_out(root: Path, count: int) -> Iterator[tuple[str, str, Image]]:
    from geodiff.diffusion.sources import catalogue, load, raster

    every = [s for s in catalogue(root) if s.part == "validation" and s.kind in ("msl", "hirise")]
    for kind in ("msl", "hirise"):
        found = 0
        for source in sorted((s for s in every if s.kind == kind), key=lambda s: _order(s.name)):
            image = raster(root / source.name)[0].mean(axis=0)[:SIDE, :SIDE].astype(float)
            sound = load(root, source).known[0, 0, :SIDE, :SIDE].mean() > 0.995
            if sound and min(image.shape) >= 128 and image.std() > 5 and found < count:
                found += 1
                yield kind, Path(source.name).name, image


def _opportunity(root: Path, count: int) -> Iterator[tuple[str, str, Image]]:
    import geodiff
    from geodiff.lattice import Window

    paths = sorted((root / "vicar-planetary").rglob("1[NFP]*.IMG"), key=lambda path: _order(path.name))
    places = [(400, 400), (620, 200), (620, 620)]
    for (row, column), path in list(product(places, paths))[:count]:
        stored = geodiff.open_scene(path).cubes[0].read(0, Window(row, column, SIDE, SIDE))[0].astype(float)
        low, high = np.percentile(stored, (0.5, 99.5))
        yield "opportunity", f"{path.name} {row}-{column}", np.clip((stored - low) / (high - low), 0, 1) * 255


def _order(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


# -- figures


def psnr(image: Image, truth: Image) -> float:
    return float(10 * np.log10(255**2 / np.mean((np.clip(image, 0, 255) - truth) ** 2)))


def interval(values: list[float]) -> str:
    """Mean and 95 % bootstrap interval over frames."""
    held = np.array(values)
    drawn = held[np.random.default_rng(0).integers(0, len(held), (2000, len(held)))].mean(axis=1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return f"{held.mean():+.2f} [{low:+.2f}, {high:+.2f}]"


def top_octave(image: Image) -> float:
    """Power between a quarter and half a cycle a pixel, in dB, under a Hann window."""
    window = np.hanning(image.shape[0])[:, None] * np.hanning(image.shape[1])[None]
    power = np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2
    radius = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) for n in image.shape), indexing="ij"))
    return float(10 * np.log10(power[(radius >= 0.25) & (radius < 0.5)].mean()))


def covered(truth: Image, value: Image, error: Image) -> float:
    return float((np.abs(truth - value) <= 1.645 * error).mean())


class Table:
    """Rows of one figure a frame, by set and case."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str, str], dict[str, float]] = {}

    def put(self, part: str, group: str, case: str, method: str, frame: str, figure: float) -> None:
        """One figure of one method on one frame."""
        self.rows.setdefault((part, f"{group} {case}", method), {})[frame] = figure

    def of(self, part: str, case: str) -> dict[str, dict[str, float]]:
        """Figures by method, then frame."""
        return {method: row for (p, c, method), row in self.rows.items() if (p, c) == (part, case)}

    def cases(self, part: str) -> list[str]:
        """The cases of a part, as they came."""
        return list(dict.fromkeys(c for p, c, _ in self.rows if p == part))

    def plain(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {" | ".join(key): row for key, row in self.rows.items()}


def compared(table: Table, part: str, *, ours: str, ratio: bool = False) -> None:
    """Ours against the peer that is best on average, and against the best of each frame."""
    for case in table.cases(part):
        rows = table.of(part, case)
        peers = {m: row for m, row in rows.items() if not m.startswith(("geodiff", "coverage", "octave"))}
        choose = min if ratio else max
        best = choose(peers, key=lambda m: np.mean(list(peers[m].values())))
        mine = rows[ours]
        means = "  ".join(f"{m} {np.mean(list(row.values())):.2f}" for m, row in rows.items())
        print(f"{part} {case} ({len(mine)} frames): {means}")
        if ratio:
            print(f"    {ours} / {best}: {interval([mine[f] / peers[best][f] for f in mine])}", flush=True)
            continue
        each = [mine[f] - choose(row[f] for row in peers.values()) for f in mine]
        print(f"    {ours} - {best}: {interval([mine[f] - peers[best][f] for f in mine])} dB; "
              f"- best of each frame: {interval(each)} dB", flush=True)  # fmt: skip


# -- denoising


def denoisers() -> dict[str, Callable[[Image, float], Iterator[Image]]]:
    """What each peer makes of an image; those with a knob try several settings."""
    from skimage import restoration

    def means(image: Image, sigma: float) -> Iterator[Image]:
        for h in (0.6, 0.8, 1.0):
            yield restoration.denoise_nl_means(
                image, h=h * sigma, sigma=sigma, fast_mode=True, patch_size=5, patch_distance=6
            )

    def wavelets(image: Image, sigma: float) -> Iterator[Image]:
        yield restoration.denoise_wavelet(image / 255, sigma=sigma / 255, mode="soft", rescale_sigma=True) * 255

    def variation(image: Image, sigma: float) -> Iterator[Image]:
        for weight in (0.7, 1.0, 1.4):
            yield restoration.denoise_tv_chambolle(image / 255, weight=weight * sigma / 255) * 255

    found: dict[str, Callable[[Image, float], Iterator[Image]]] = {"nlm": means, "wavelets": wavelets, "tv": variation}
    try:
        import bm3d
    except ImportError:
        print("bm3d is not installed: it takes no part")
        return found

    def blocks(image: Image, sigma: float) -> Iterator[Image]:
        yield bm3d.bm3d(image / 255, sigma / 255) * 255

    return {"bm3d": blocks, **found}


def denoise(table: Table, chosen: list[tuple[str, str, Image]], denoiser: Any) -> None:
    """PSNR of every method, ours with the noise given and estimated, and how often the truth is in our interval."""
    from geodiff.diffusion.restoration import restore_band

    peers = denoisers()
    for group, name, truth in chosen:
        known = np.ones(truth.shape, bool)
        for sigma in SIGMAS:
            rng = np.random.default_rng([sigma, int(_order(name)[:8], 16)])
            image = truth + rng.normal(0, sigma, truth.shape)
            put = _putter(table, "denoise", group, f"sigma {sigma}", name)
            for method, clean in peers.items():
                put(method, max(psnr(cleaned, truth) for cleaned in clean(image, sigma)))
            told = restore_band(image, known, denoiser, denoise=True, noise=float(sigma))
            found = restore_band(image, known, denoiser, denoise=True)
            put("geodiff", psnr(told.value, truth))
            put("geodiff, noise estimated", psnr(found.value, truth))
            put("coverage", covered(truth, told.value, told.standard_error))
    compared(table, "denoise", ours="geodiff")


def _putter(table: Table, part: str, group: str, case: str, name: str) -> Callable[[str, float], None]:
    return lambda method, figure: table.put(part, group, case, method, name, figure)


# -- enlarging


def resized(image: Image, factor: int, kind: str) -> Image:
    """Pillow's interpolation, which keeps the cells' edges in place."""
    from PIL import Image as Pillow

    filters = {"bicubic": Pillow.Resampling.BICUBIC, "lanczos": Pillow.Resampling.LANCZOS}
    size = (image.shape[1] * factor, image.shape[0] * factor)
    return np.asarray(Pillow.fromarray(image.astype(np.float32)).resize(size, filters[kind]), float)


def superres(table: Table, chosen: list[tuple[str, str, Image]], denoiser: Any, drawn: int) -> None:
    """PSNR of every method; for `drawn` frames a set, the top octave of a member against the truth's."""
    from geodiff.diffusion.frames import coarsened
    from geodiff.diffusion.restoration import restore_band

    done: dict[str, int] = {}
    for group, name, whole in chosen:
        truth = whole[: whole.shape[0] // 4 * 4, : whole.shape[1] // 4 * 4]
        done[group] = done.get(group, 0) + 1
        for factor in FACTORS:
            low = coarsened(truth.astype(np.float32), factor)
            put = _putter(table, "superres", group, f"{factor}x", name)
            for kind in ("bicubic", "lanczos"):
                put(kind, psnr(resized(low, factor, kind), truth))
            member = int(done[group] <= drawn)
            ours = restore_band(low, np.ones(low.shape, bool), denoiser, factor=factor, members=member)
            put("geodiff", psnr(ours.value, truth))
            put("coverage", covered(truth, ours.value, ours.standard_error))
            put("octave of the value, dB", top_octave(ours.value) - top_octave(truth))
            if member:
                put("octave of a member, dB", top_octave(ours.members[0]) - top_octave(truth))
    compared(table, "superres", ours="geodiff")


# -- lost lines and blocks


def lost(shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """Three groups of 1 to 4 lines and four runs of 8 x 8 blocks."""
    gone = np.zeros(shape, bool)
    for _ in range(3):
        first = int(rng.integers(1, shape[0] - 5))
        gone[first : first + int(rng.integers(1, 5))] = True
    for _ in range(4):
        row, column = (8 * int(rng.integers(n // 8 - 4)) for n in shape)
        gone[row : row + 8, column : column + 8 * int(rng.integers(1, 5))] = True
    return gone


def fillers() -> dict[str, Callable[[Image, Image], Image]]:
    from skimage.restoration import inpaint_biharmonic

    import geodiff

    found: dict[str, Callable[[Image, Image], Image]] = {
        "biharmonic": lambda image, gone: inpaint_biharmonic(np.where(gone, 0, image), gone, split_into_regions=True),
        "laplace": lambda image, gone: geodiff.fill_array(image, ~gone, filler="laplace")[0],
        "lines": _between_lines,
    }
    try:
        import cv2
    except ImportError:
        print("OpenCV is not installed: Telea and Navier-Stokes take no part")
        return found
    for name, kind in {"telea": cv2.INPAINT_TELEA, "navier-stokes": cv2.INPAINT_NS}.items():
        found[name] = lambda image, gone, kind=kind: cv2.inpaint(
            np.clip(image, 0, 255).astype(np.uint8), gone.astype(np.uint8), 5, kind
        )
    return found


def _between_lines(image: Image, gone: Image) -> Image:
    """Each column for itself, linear between the known lines above and below, as ISIS and VICAR do."""
    filled = image.copy()
    rows = np.arange(len(image))
    for column in range(image.shape[1]):
        holes = gone[:, column]
        filled[holes, column] = np.interp(rows[holes], rows[~holes], image[~holes, column])
    return filled


def losses(table: Table, chosen: list[tuple[str, str, Image]], model: str) -> None:
    """RMSE at the lost pixels."""
    import geodiff

    peers = fillers()
    for group, name, truth in chosen:
        gone = lost(truth.shape, np.random.default_rng(int(_order(name)[:8], 16)))
        put = _putter(table, "losses", group, "lines and blocks", name)
        seen = np.where(gone, 0, truth)
        for method, fill in peers.items():
            put(method, float(np.sqrt(np.mean((fill(seen, gone) - truth)[gone] ** 2))))
        value, error = geodiff.fill_array(seen, ~gone, model=model)
        put("geodiff", float(np.sqrt(np.mean((value - truth)[gone] ** 2))))
        put("coverage", covered(truth[gone], value[gone], error[gone]))
    compared(table, "losses", ours="geodiff", ratio=True)


# -- time


def timed(model: str) -> None:
    """Seconds from file to product, value and layers, of a frame of 1024 x 1024 with the network loaded."""
    import rasterio
    from skimage import data

    import geodiff

    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        frame = np.pad(data.moon(), [(0, 512), (0, 512)], mode="symmetric").clip(1).astype("uint8")
        blocks = np.random.default_rng(0).permutation(4096)[:205]  # of 16 x 16 pixels: 5 %
        for row, column in zip(*np.divmod(blocks, 64), strict=True):
            frame[16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = 0
        source = Path(name) / "frame.png"
        with rasterio.open(source, "w", driver="PNG", height=1024, width=1024, count=1, dtype="uint8") as out:
            out.write(frame, 1)
        small = {"task": "denoise", "members": 0, "noise": 5.0, "model": model}
        geodiff.restore(source, Path(name) / "first.png", **small)  # loads the network
        for task, options in {"denoise": {"noise": 5.0}, "inpaint": {"nodata": 0}}.items():
            began = time.perf_counter()
            geodiff.restore(source, Path(name) / f"{task}.png", task=task, members=0, model=model, **options)
            print(f"time {task} 1024 x 1024, members 0: {time.perf_counter() - began:.1f} s", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Print every figure; with --json, write those of each frame too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5, metavar="N", help="frames a set (default 5)")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--model", default="default", help="model folder or name")
    parser.add_argument("--members", type=int, default=2, metavar="N", help="frames a set with a member drawn")
    parser.add_argument("--json", type=Path, metavar="FILE", help="figures of each frame")
    chosen = parser.parse_args(arguments)
    parts = [part for part in PARTS if part in chosen.parts.split(",")]
    from geodiff.diffusion.denoiser import open_denoiser

    began, table, denoiser = time.perf_counter(), Table(), open_denoiser(chosen.model)
    print(f"model {chosen.model}, weights {denoiser.sha256[:12]}, {denoiser.device}, {denoiser.dtype}")
    found = list(frames(chosen.count)) if set(parts) - {"time"} else []
    if "denoise" in parts:
        denoise(table, found, denoiser)
    if "superres" in parts:
        superres(table, found, denoiser, chosen.members)
    if "losses" in parts:
        losses(table, found, chosen.model)
    if "time" in parts:
        timed(chosen.model)
    print(f"{time.perf_counter() - began:.0f} s in all")
    if chosen.json:
        chosen.json.write_text(json.dumps(table.plain(), indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
