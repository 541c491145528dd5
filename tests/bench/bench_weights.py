"""Weights beside weights on the validation part: what the trainings' scores.csv shows, for models side by side.

    GEODIFF_DATA=... python tests/bench/bench_weights.py MODEL_OR_CHECKPOINT ... --work DIR [--patches 240]

RMSE of the value over the prior's, whitened, by kind of scene and of degraded frame, and the denoiser's error at three
levels of noise; then the ratio of each to the first model's. Patches are cut once into DIR. Asserts nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from geodiff.diffusion.batches import Caches
from geodiff.diffusion.data import Cache, build, build_frames
from geodiff.diffusion.network import GapFillUNet
from geodiff.diffusion.shipping import average_of
from geodiff.diffusion.trainconfig import TrainConfig
from geodiff.diffusion.training import Trainer, validation_scores


def network(place: str, config: TrainConfig) -> GapFillUNet:
    """The averaged network of a training, or a model folder's."""
    if (Path(place) / "checkpoint.safetensors").exists():
        return average_of(Path(place))[0]
    return Trainer(config.model_copy(update={"begin_from": Path(place)})).average


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--patches", type=int, default=240)
    given = parser.parse_args()
    config = TrainConfig(work=given.work, threads=1)

    def patches(make, name: str) -> Cache:
        folder = given.work / f"{name}-{given.patches}"
        there = (folder / "cache.json").exists()
        return Cache.open(folder) if there else make(folder, given.patches, part="validation", seed=7)

    caches = Caches(None, None, patches(build, "gaps"), patches(build_frames, "frames"))
    first: dict[str, float] = {}
    for place in given.models:
        scores = validation_scores(network(place, config), caches, config)
        first = first or scores
        print(f"{place}:")
        for name, score in scores.items():
            print(f"  {name}: {score:.4f}, {score / first[name]:.3f} of the first")


if __name__ == "__main__":
    main()
