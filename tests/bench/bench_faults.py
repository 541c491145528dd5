"""How well damage is found: `GEODIFF_DATA=... python tests/bench/bench_faults.py [development|report] [--frames 60]`.

Faults of each kind are put into sound frames; all detectors look at each frame together. Development draws from parts
that may be trained on; the report from the rover's validation sols, orbital observations set aside, and the Opportunity
frames, none of which anything was tuned on. Prints figures, asserts none.

Recall counts injected pixels that differ from the sound frame by more than 1 % of its range; precision counts flagged
pixels outside what was injected (one pixel around a mark or a hit is its rim). An object is found when half of it is.
Intervals are 95 % bootstrap intervals over frames.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from geodiff.faults import DETECTORS, detect

Frame = np.ndarray[Any, Any]
SQUARE = np.ones((3, 3), bool)


# What is lost, and what stands in its place


def _top(frame: Frame) -> int:
    return 255 if frame.dtype == np.uint8 else 4095


def _zero(frame: Frame, where: Frame, _: np.random.Generator) -> Frame:
    return np.where(where, 0, frame)


def _constant(frame: Frame, where: Frame, rng: np.random.Generator) -> Frame:
    return np.where(where, rng.integers(_top(frame) // 4, 3 * _top(frame) // 4), frame)


def _saturated(frame: Frame, where: Frame, _: np.random.Generator) -> Frame:
    return np.where(where, _top(frame), frame)


def _garbage(frame: Frame, where: Frame, rng: np.random.Generator) -> Frame:
    return np.where(where, rng.integers(0, _top(frame) + 1, frame.shape), frame)


def _copy(frame: Frame, where: Frame, _: np.random.Generator) -> Frame:
    """The line before, again, as receivers conceal losses."""
    broken = frame.astype(np.int64)
    for row in range(1, len(frame)):
        broken[row, where[row]] = broken[row - 1, where[row]]
    return broken


FILLS = {"zero": _zero, "constant": _constant, "saturated": _saturated, "garbage": _garbage, "copy": _copy}


def _lines(shape: tuple[int, int], rng: np.random.Generator) -> Iterator[Frame]:
    for _ in range(3):
        lost, first = np.zeros(shape, bool), int(rng.integers(1, shape[0] - 4))
        lost[first : first + int(rng.integers(1, 5))] = True
        yield lost


def _partial(shape: tuple[int, int], rng: np.random.Generator) -> Iterator[Frame]:
    for _ in range(3):
        lost, first = np.zeros(shape, bool), int(rng.integers(1, shape[0] - 4))
        length = int(rng.integers(shape[1] // 8, shape[1]))
        columns = slice(0, length) if rng.integers(2) else slice(shape[1] - length, shape[1])
        lost[first : first + int(rng.integers(1, 4)), columns] = True
        yield lost


def _columns(shape: tuple[int, int], rng: np.random.Generator) -> Iterator[Frame]:
    for lost in _lines((shape[1], shape[0]), rng):
        yield lost.T


def _blocks(shape: tuple[int, int], rng: np.random.Generator) -> Iterator[Frame]:
    """Runs of 1 to 4 compression blocks on their grid, of 8 or 16 pixels."""
    side = int(rng.choice([8, 16]))
    for _ in range(4):
        lost = np.zeros(shape, bool)
        row, column = (side * int(rng.integers(n // side)) for n in shape)
        lost[row : row + side, column : column + side * int(rng.integers(1, 5))] = True
        yield lost


def _packets(shape: tuple[int, int], rng: np.random.Generator) -> Iterator[Frame]:
    """A packet holds a stretch of the stream of blocks: from a block of a row of blocks to its end, and whole rows."""
    side = 16
    row, column = (side * int(rng.integers(n // side - 1)) for n in shape)
    lost = np.zeros(shape, bool)
    lost[row : row + side, column:] = True
    if rng.integers(2):
        lost[row + side : row + 2 * side, : side * int(rng.integers(1, shape[1] // side))] = True
    yield lost


SHAPES: dict[str, Callable[..., Iterator[Frame]]] = {
    "lines": _lines, "partial lines": _partial, "dead columns": _columns, "blocks": _blocks, "packets": _packets,
}  # fmt: skip


def _stripes(frame: Frame, rng: np.random.Generator) -> tuple[Frame, list[Frame]]:
    """One to four columns, or rows, that are offset by 4 to 12 % of the range."""
    broken, lost = frame.astype(np.int64), []
    axis = int(rng.integers(2))
    for place in rng.choice(np.arange(10, frame.shape[axis] - 10, 4), int(rng.integers(1, 5)), replace=False):
        where = np.zeros(frame.shape, bool)
        where[(slice(None), place) if axis else (place,)] = True
        offset = rng.choice([-1, 1]) * rng.uniform(0.04, 0.12) * _top(frame)
        broken = np.where(where, np.clip(broken + np.rint(offset), 0, _top(frame)), broken).astype(np.int64)
        lost.append(where)
    return broken, lost


def _hits(frame: Frame, rng: np.random.Generator, longest: int = 1) -> tuple[Frame, list[Frame]]:
    """Ten hits by particles: 0.3 to 1 of the range above the brightest pixel around, where there is room for it."""
    broken, lost, top = frame.astype(np.int64), [], _top(frame)
    around = ndimage.maximum_filter(broken, 5)
    for _ in range(200):
        row, column = (int(rng.integers(6, n - 6)) for n in frame.shape)
        angle, length = rng.uniform(0, np.pi), int(rng.integers(1, longest + 1))
        rows = np.rint(row + np.arange(length) * np.sin(angle)).astype(int).clip(0, frame.shape[0] - 1)
        columns = np.rint(column + np.arange(length) * np.cos(angle)).astype(int).clip(0, frame.shape[1] - 1)
        where = np.zeros(frame.shape, bool)
        where[rows, columns] = True
        taken = np.logical_or.reduce([*lost, np.zeros(frame.shape, bool)])
        if around[where].max() < 0.65 * top and not (ndimage.binary_dilation(where, SQUARE, 5) & taken).any():
            level = np.minimum(around + rng.uniform(0.3, 1.0) * top, top)
            broken, lost = np.where(where, level, broken).astype(np.int64), [*lost, where]
        if len(lost) == 10:
            break
    return broken, lost


def _dead(frame: Frame, rng: np.random.Generator) -> tuple[Frame, list[Frame]]:
    """Ten dead pixels where the scene is not dark."""
    broken, lost = frame.astype(np.int64), []
    bright = np.argwhere(ndimage.minimum_filter(broken, 5)[8:-8, 8:-8] > 0.3 * _top(frame)) + 8
    for row, column in bright[rng.permutation(len(bright))[:10]]:
        lost.append(np.zeros(frame.shape, bool))
        lost[-1][row, column] = True
        broken[row, column] = 0
    return broken, lost


def _marks(frame: Frame, rng: np.random.Generator, adrift: bool = False) -> tuple[Frame, list[Frame]]:
    """Dark marks of 3 to 5 pixels on a grid that is off by a pixel here and there.

    With `adrift`, each row begins 6 or 12 pixels from the left by chance, which no etched plate does: harder.
    """
    broken, lost = frame.astype(np.int64), []
    spacing, side = int(rng.integers(24, 48)), int(rng.integers(3, 6))
    first, left = (int(n) for n in rng.integers(6, 18, 2))
    for row in range(first, frame.shape[0] - 12, spacing):
        left = int(rng.integers(1, 3)) * 6 if adrift else left
        for column in range(left, frame.shape[1] - 12, spacing):
            top, side_from = row + int(rng.integers(-1, 2)), column + int(rng.integers(-1, 2))
            lost.append(np.zeros(frame.shape, bool))
            lost[-1][top : top + side, side_from : side_from + side] = True
            broken[top : top + side, side_from : side_from + side] = 2
    return broken, lost


def _filled(shape: str, fill: str) -> Callable[[Frame, np.random.Generator], tuple[Frame, list[Frame]]]:
    def inject(frame: Frame, rng: np.random.Generator) -> tuple[Frame, list[Frame]]:
        lost = list(SHAPES[shape](frame.shape, rng))
        every = np.logical_or.reduce(lost)
        return FILLS[fill](frame.astype(np.int64) if fill == "copy" else frame, every, rng), lost

    return inject


KINDS: dict[str, Callable[[Frame, np.random.Generator], tuple[Frame, list[Frame]]]] = {
    **{f"{shape}, {fill}": _filled(shape, fill) for shape in SHAPES for fill in FILLS
       if fill != "copy" or shape in ("lines", "partial lines")},
    "stripes": _stripes,
    "hot pixels": _hits,
    "tracks": lambda frame, rng: _hits(frame, rng, 7),
    "dead pixels": _dead,
    "reseau marks": _marks,
    "reseau marks, rows adrift": lambda frame, rng: _marks(frame, rng, adrift=True),
}  # fmt: skip


# Frames


def _development(root: Path, count: int) -> dict[str, list[Frame]]:
    orbit = [p for p in _orbital(root) if not _aside(p)]
    return {
        "rover": _read(sorted((root / "train/mars-msl-surface/dataset/train/Surface").iterdir()), count),
        "orbiter": _read(orbit, count),
    }


def _report(root: Path, count: int) -> dict[str, list[Frame]]:
    import rasterio

    orbit = [p for p in _orbital(root) if _aside(p)]
    frames = {
        "rover": _read(sorted((root / "train/mars-msl-surface/dataset/validation/Surface").iterdir()), count),
        "orbiter": _read(orbit, count),
    }
    opportunity = []
    for path in sorted((root / "evaluate/vicar-planetary").rglob("1*.IMG")):
        with rasterio.open(path) as file:
            opportunity.append(file.read(1))
    return {**frames, "Opportunity": opportunity}


def _orbital(root: Path) -> list[Path]:
    return sorted((root / "train/mars-hirise-mapproj/map-proj").glob("*.jpg"))


def _aside(path: Path) -> bool:
    """Whether an observation is set aside from all training (see geodiff/diffusion/sources.py)."""
    return int(hashlib.sha256(path.name.split("_RED")[0].encode()).hexdigest(), 16) % 10 == 0


def _read(paths: list[Path], count: int) -> list[Frame]:
    chosen = paths[:: max(1, len(paths) // count)][:count]
    return [np.asarray(Image.open(path).convert("L")) for path in chosen]


# Scores


def _judge(frame: Frame, broken: Frame, lost: list[Frame], rim: int) -> Frame:
    """Counts: recalled, to recall, right, flagged, objects found, objects, right components, components."""
    injected = np.logical_or.reduce([*lost, np.zeros(frame.shape, bool)])
    tells = injected & (np.abs(broken - frame.astype(np.int64)) > 0.01 * _top(frame))
    flagged = detect(broken[None].astype(np.int16), DETECTORS)[0] != 0
    allowed = ndimage.binary_dilation(injected, SQUARE, rim) if rim else injected
    shown = [where for where in lost if 2 * (tells & where).sum() >= where.sum()]
    labels, count = ndimage.label(flagged, SQUARE)
    right = ndimage.mean(allowed, labels, np.arange(1, count + 1)) if count else np.zeros(0)
    found = sum(2 * (flagged & where).sum() >= where.sum() for where in shown)
    return np.array([
        (flagged & tells).sum(), tells.sum(), (flagged & allowed).sum(), flagged.sum(),
        found, len(shown), (np.asarray(right) >= 0.5).sum(), count,
    ])  # fmt: skip


def _share(counts: Frame, top: int, bottom: int) -> str:
    """A ratio of sums over frames with its bootstrap interval."""
    rng = np.random.default_rng(0)
    drawn = counts[rng.integers(0, len(counts), (1000, len(counts)))].sum(axis=1)
    ratio = drawn[:, top] / np.maximum(drawn[:, bottom], 1)
    value = counts[:, top].sum() / max(counts[:, bottom].sum(), 1)
    low, high = np.percentile(ratio, [2.5, 97.5])
    return f"{value:.3f} [{low:.3f},{high:.3f}]"


def _false_alarms(name: str, frames: list[Frame], show: bool) -> None:
    found = [detect(f[None].astype(np.int16), DETECTORS)[0] for f in frames]
    alarmed = [i for i, f in enumerate(found) if f.any()]
    share = np.mean([(f != 0).mean() for f in found])
    print(f"false alarms, {name}: {len(alarmed)} of {len(frames)} frames, {100 * share:.5f} % of pixels", flush=True)
    for i in alarmed if show else ():
        print(f"    frame {i}: { ({int(b): int((found[i] & b != 0).sum()) for b in np.unique(found[i]) if b}) }")


def main() -> None:
    """Print one line a kind and set of frames, then the false alarms."""
    options = argparse.ArgumentParser()
    options.add_argument("part", nargs="?", default="development", choices=["development", "report"])
    options.add_argument("--frames", type=int, default=60)
    options.add_argument("--clean", type=int, default=200)
    options.add_argument("--only", default="")
    options.add_argument("--show", action="store_true", help="name the frames with false alarms")
    given = options.parse_args()
    root = Path(os.environ["GEODIFF_DATA"])
    take = _report if given.part == "report" else _development
    print(f"{'kind':26s} {'frames':12s} " + "  ".join(f"{t:19s}" for t in ("pixel recall", "precision", "object recall", "precision")))  # noqa: E501 # fmt: skip
    for kind, inject in KINDS.items():
        if given.only and given.only not in kind:
            continue
        for name, frames in take(root, given.frames).items():
            rim = 1 if kind.startswith(("reseau marks", "hot pixels", "tracks", "dead pixels")) else 0
            counts = []
            for number, frame in enumerate(frames):
                broken, lost = inject(frame, np.random.default_rng(number))
                if lost:
                    counts.append(_judge(frame, broken, lost, rim))
            table = np.array(counts)
            shares = [_share(table, *pair) for pair in ((0, 1), (2, 3), (4, 5), (6, 7))]
            print(f"{kind:26s} {name:12s} " + "  ".join(f"{s:19s}" for s in shares), flush=True)
    for name, frames in take(root, given.clean).items():
        _false_alarms(name, frames, given.show)


if __name__ == "__main__":
    main()
