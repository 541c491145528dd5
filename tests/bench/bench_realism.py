"""How real fills look: the texture encoder's order of known degradations, and fills of held-out scenes.

    python tests/bench/bench_realism.py [--patches 48] [--json OUT]

On windows of the validation part (GEODIFF_DATA): HiRISE chips and Landsat, with a block hidden in each. Compared with
the truth of the same places: other true places, the harmonic fill, the value, one member, and the truth degraded.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from geodiff.diffusion.denoiser import open_denoiser
from geodiff.diffusion.encoders import encoder_of
from geodiff.diffusion.fields import Layer, Scene, context, filled, whitening_error
from geodiff.diffusion.sources import catalogue, load, training_folder
from geodiff.noise import ground_noise
from geodiff.realism import diversity, judge

SIDE, HOLE, MEMBERS = 128, 64, 2
DEGRADED = {
    "blur 0.7 px": lambda x: gaussian_filter(x, (0, 0.7, 0.7)),
    "blur 1.5 px": lambda x: gaussian_filter(x, (0, 1.5, 1.5)),
    "blur 4 px": lambda x: gaussian_filter(x, (0, 4, 4)),
    "noise 0.1": lambda x: x + 0.1 * np.random.default_rng(0).normal(size=x.shape).astype(np.float32),
    "noise 0.4": lambda x: x + 0.4 * np.random.default_rng(0).normal(size=x.shape).astype(np.float32),
    "blocks of 8": lambda x: 0.5 * x + 0.5 * _blocks(x),
    "twice the scale": lambda x: np.repeat(np.repeat(x[:, :32, :32], 2, axis=1), 2, axis=2),
}


def _blocks(images: np.ndarray) -> np.ndarray:
    means = images.reshape(len(images), 8, 8, 8, 8).mean((2, 4))
    return np.repeat(np.repeat(means, 8, axis=1), 8, axis=2)


def windows(kind: str, count: int, seed: int) -> np.ndarray:
    """(window, row, column) of wholly observed ground of the validation part."""
    root, rng = training_folder(), np.random.default_rng(seed)
    names = {"hirise": ("mars-hirise",), "landsat": ("stars/", "ukis-csmask")}[kind]
    pool = [s for s in catalogue(root) if s.part == "validation" and s.name.startswith(names)]
    found = []
    for _ in range(100 * count):
        stack = load(root, pool[int(rng.integers(len(pool)))])
        dates, bands, rows, columns = stack.values.shape
        if min(rows, columns) < SIDE:
            continue
        row, column = int(rng.integers(rows - SIDE + 1)), int(rng.integers(columns - SIDE + 1))
        part = np.s_[int(rng.integers(dates)), int(rng.integers(bands)), row : row + SIDE, column : column + SIDE]
        if stack.known[part].all() and stack.values[part].std() > 0.05:
            found.append(stack.values[part])
        if len(found) == count:
            break
    return np.stack(found)


def fills(truth: np.ndarray, denoiser) -> dict[str, np.ndarray]:
    """Harmonic fill, value and members of the hole in the middle of each window."""
    inner = np.s_[(SIDE - HOLE) // 2 : (SIDE + HOLE) // 2]
    known = np.ones((SIDE, SIDE), bool)
    known[inner, inner] = False
    made = {name: [] for name in ("harmonic fill", "value", "member", "another member")}
    for index, image in enumerate(truth):
        layer = Layer(np.where(known, image, 0).astype(np.float32), known)
        prior = np.where(known, image, filled(layer, cycles=3)).astype(np.float32)
        error = whitening_error(layer)
        planes = context(Scene(layer, ~known, prior, error))[None]
        mean, _ = (a[0] for a in denoiser.value(planes, ~known[None]))
        noise = np.stack([ground_noise((SIDE, SIDE), row=0, column=0, seed=index, member=m) for m in range(MEMBERS)])
        drawn = denoiser.members(planes, ~known[None], noise[None])[0]
        residuals = (np.zeros_like(mean), mean, *drawn)
        for name, residual in zip(made, residuals, strict=True):
            made[name].append((prior + error * residual)[inner, inner])
    return {name: np.stack(images).astype(np.float32) for name, images in made.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches", type=int, default=48)
    parser.add_argument("--encoder", default="texture")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    encoder, denoiser, told = encoder_of(given.encoder), open_denoiser("default"), {}
    for kind in ("hirise", "landsat"):
        truth = windows(kind, given.patches, 0)
        inner = np.s_[:, (SIDE - HOLE) // 2 : (SIDE + HOLE) // 2, (SIDE - HOLE) // 2 : (SIDE + HOLE) // 2]
        whole = truth[inner].astype(np.float32)
        images = {"other true places": windows(kind, len(truth), 1)[inner].astype(np.float32)} | fills(truth, denoiser)
        members = np.stack([images["member"], images.pop("another member")])
        images |= {name: change(whole).astype(np.float32) for name, change in DEGRADED.items()}
        print(f"\n{kind}, {len(truth)} windows, {encoder.name}; diversity of members {diversity(members):.3f}")
        print("| images | Frechet | kernel x 1000 | precision | recall | perceptual |\n|---|---|---|---|---|---|")
        for name, own in images.items():
            judged = judge(name, own, whole, encoder)
            told[f"{kind}: {name}"] = judged.as_json()
            cells = (judged.frechet, judged.kernel, judged.precision, judged.recall, judged.perceptual)
            print(f"| {name} | " + " | ".join(f"{p:.3g} ({a:.3g} to {b:.3g})" for p, a, b in cells) + " |", flush=True)
    if given.json:
        given.json.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
