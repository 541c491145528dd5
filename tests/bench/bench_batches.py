"""How full the network's calls are on a device that takes several windows at once: counted, not timed.

    python tests/bench/bench_batches.py [--batches 8,32,128] [--side 768]

A made-up scene under clouds, lines and specks, four members, by a network that says nothing and takes no time. Prints
calls, and the share of the pixels in them that somebody asked for: what else is in a call fills it.
"""

import argparse
from typing import Any

import numpy as np
import torch
import xarray as xr
from scipy.ndimage import gaussian_filter

import geodiff  # noqa: F401 (registers the accessor)
from geodiff.diffusion.crops import crops
from geodiff.diffusion.denoiser import Denoiser, open_denoiser
from geodiff.fillers.diffusion import Diffusion


class Counting(Denoiser):
    """A denoiser that counts what it is asked for."""

    asked = 0

    def value(self, context: Any, wanted: Any, scalars: Any = None) -> Any:
        Counting.asked += _pixels(wanted)
        return super().value(context, wanted, scalars)

    def members(self, context: Any, wanted: Any, noise: Any, *more: Any, steps: int = 10, **options: Any) -> Any:
        Counting.asked += steps * noise.shape[1] * _pixels(wanted)
        return super().members(context, wanted, noise, *more, steps=steps, **options)


def _pixels(wanted: np.ndarray) -> int:
    return sum(part.shape[0] * part.shape[1] for part in crops(wanted))


def scene(side: int) -> xr.DataArray:
    rng = np.random.default_rng(0)
    clouds = gaussian_filter(rng.normal(size=(side, side)), 20)
    known = clouds < np.quantile(clouds, 0.8)
    known[::97] = False
    known[rng.random(known.shape) < 0.001] = False
    values = gaussian_filter(rng.normal(size=known.shape), 3).astype(np.float32)
    places = {"y": 5e6 - 10.0 * np.arange(side), "x": 5e5 + 10.0 * np.arange(side)}
    return xr.DataArray(np.where(known, values, np.float32(np.nan)), dims=("y", "x"), coords=places, name="scene")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", default="8,32,128", help="sizes of a call, with commas")
    parser.add_argument("--side", type=int, default=768, help="pixels a side")
    given = parser.parse_args()
    sizes: list[int] = []

    def network(noisy: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        sizes.append(noisy.numel())
        return torch.zeros_like(noisy), torch.zeros_like(noisy)

    opened = open_denoiser(device="cpu")
    print("| windows x bands x members a call | calls | of their pixels asked for |\n|---|---|---|")
    for batch in map(int, given.batches.split(",")):
        counting = Counting(network, opened.calibration, opened.device, opened.dtype, opened.sha256, batch)
        Diffusion.denoiser = property(lambda _, own=counting: own)
        sizes.clear()
        Counting.asked = 0
        scene(given.side).geodiff.fill(members=4, filler="diffusion", batch=batch)
        print(f"| {batch} | {len(sizes)} | {Counting.asked / sum(sizes):.2f} |", flush=True)


if __name__ == "__main__":
    main()
