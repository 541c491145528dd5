"""Zero-shot inpainting with our own denoiser: RePaint (Lugmayr et al. 2022) and DPS (Chung et al. 2023).

Both take a denoiser that knows nothing of the gap and steer its sampling with the known pixels. They are peers to
measure against, written from the papers in the sigma space of Karras et al. (2022): x = x0 + sigma n, so a paper's
variance-preserving state is x / sqrt(1 + sigma^2). The schedule of noise levels is ours (exponential); counts of
steps, jumps and resamplings are the papers' defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from geodiff.diffusion import edm
from geodiff.diffusion.device import one_torch_thread
from geodiff.diffusion.fields import CHANNELS, Layer, Scene, channel, context

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.diffusion.denoiser import Denoiser

    Denoise = Callable[[Tensor, float], Tensor]

__all__ = ["Dps", "RePaint", "dps", "draws_of", "ignorant", "repaint", "schedule", "sigmas"]


@dataclass(frozen=True, slots=True)
class RePaint:
    """Settings; the defaults are the paper's (section 5, appendix B)."""

    steps: int = 250
    jump: int = 10
    """Steps that are taken back at once."""
    resamplings: int = 10
    """How often each stretch of `jump` steps is walked."""

    @property
    def calls(self) -> int:
        """Network calls for one draw."""
        return sum(1 for now, after in _pairs(schedule(self)) if after < now)


@dataclass(frozen=True, slots=True)
class Dps:
    """Settings; the defaults are the paper's for inpainting (appendix D)."""

    steps: int = 1000
    zeta: float = 1.0
    """Step size over the norm of the misfit."""

    @property
    def calls(self) -> int:
        """Network calls for one draw, each with a backward pass."""
        return self.steps


def schedule(settings: RePaint) -> list[int]:
    """Times to visit, from `steps` (noise) down to 0 (image); a rise means that noise is added again.

    At every multiple of `jump` below the last stretch the walk goes back `jump` steps, `resamplings` - 1 times.
    """
    left = dict.fromkeys(range(0, settings.steps - settings.jump, settings.jump), settings.resamplings - 1)
    times, now = [settings.steps], settings.steps
    while now > 0:
        now -= 1
        times.append(now)
        if left.get(now, 0) > 0:
            left[now] -= 1
            times.extend(range(now + 1, now + settings.jump + 1))
            now += settings.jump
    return times


def _pairs(times: list[int]) -> Iterator[tuple[int, int]]:
    return pairwise(times)


def sigmas(steps: int) -> NDArray[np.float64]:
    """Noise levels by time 0..steps, (steps + 1,): 0 at time 0, then exponential from sigma_min to sigma_max."""
    ramp = np.linspace(0, 1, steps) if steps > 1 else np.ones(1)
    return np.concatenate([[0.0], edm.SIGMA_MIN * (edm.SIGMA_MAX / edm.SIGMA_MIN) ** ramp])


def _ancestral(x: Tensor, clean: Tensor, sigma: float, lower: float, noise: Tensor) -> Tensor:
    """A draw of q(x_lower | x_sigma, x0 = clean): the reverse step of DDPM (Ho et al. 2020, eq. 7) in sigma space."""
    kept = lower**2 / sigma**2
    drawn: Tensor = clean + kept * (x - clean) + lower * (1 - kept) ** 0.5 * noise
    return drawn


@one_torch_thread()
def repaint(denoise: Denoise, observed: Tensor, known: Tensor, settings: RePaint, generator: torch.Generator) -> Tensor:
    """One draw of the whole image given its known pixels (Lugmayr et al. 2022, algorithm 1 with jumps).

    Parameters
    ----------
    denoise : from x (sample, 1, row, column) and sigma to the expected clean image.
    observed : (sample, 1, row, column), looked at where `known` is 1.
    """
    levels = sigmas(settings.steps)

    def noise() -> Tensor:
        return torch.randn(observed.shape, generator=generator)

    x = float(levels[-1]) * noise()
    with torch.inference_mode():
        for now, after in _pairs(schedule(settings)):
            sigma, target = float(levels[now]), float(levels[after])
            if after > now:  # forward again: eq. 1
                x = x + (target**2 - sigma**2) ** 0.5 * noise()
                continue
            unknown = _ancestral(x, denoise(x, sigma), sigma, target, noise())
            x = known * (observed + target * noise()) + (1 - known) * unknown  # eq. 8
    return x


@one_torch_thread()
def dps(denoise: Denoise, observed: Tensor, known: Tensor, settings: Dps, generator: torch.Generator) -> Tensor:
    """One draw of the whole image given its known pixels (Chung et al. 2023, algorithm 1), shapes as in `repaint`.

    The gradient of the misfit's norm is taken with respect to the variance-preserving state and carried over.
    """
    levels = sigmas(settings.steps)
    x = float(levels[-1]) * torch.randn(observed.shape, generator=generator)
    for now in range(settings.steps, 0, -1):
        sigma, target = float(levels[now]), float(levels[now - 1])
        state = x.detach().requires_grad_(True)
        with torch.enable_grad():
            clean = denoise(state, sigma)
            misfit = torch.linalg.vector_norm(known * (observed - clean))
            (slope,) = torch.autograd.grad(misfit, state)
        noise = torch.randn(observed.shape, generator=generator)
        step = settings.zeta * ((1 + sigma**2) * (1 + target**2)) ** 0.5
        x = _ancestral(state.detach(), clean.detach(), sigma, target, noise) - step * slope
    filled: Tensor = known * observed + (1 - known) * x
    return filled


def ignorant(denoiser: Denoiser, shape: tuple[int, int], error: float) -> Denoise:
    """Our denoiser told that nothing is known: a prior of images whose standard deviation is `error`.

    Sides of `shape` are multiples of the network's; x is in units of `error`.
    """
    nothing = Layer(np.zeros(shape, np.float32), np.zeros(shape, bool))
    planes = context(Scene(nothing, np.ones(shape, bool), nothing.values, np.full(shape, error, np.float32)))
    assert planes.shape[0] == len(CHANNELS)
    assert not planes[channel("known")].any()
    told = torch.from_numpy(planes[None]).to(denoiser.device, denoiser.dtype)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        level = torch.full((1,), sigma, device=denoiser.device)
        scaled = (edm.c_in(sigma) * x).to(denoiser.device, denoiser.dtype)
        output = denoiser.network(scaled, told.expand(len(x), -1, -1, -1), edm.c_noise(level))[0].float().to(x.device)
        clean: Tensor = edm.c_skip(sigma) * x + edm.c_out(sigma) * output
        return clean

    return denoise


def draws_of(
    run: Callable[[Denoise, Tensor, Tensor, torch.Generator], Tensor],
    values: NDArray[np.float32],
    known: NDArray[np.bool_],
    error: float,
    *,
    count: int,
    seed: int,
) -> NDArray[np.float32]:
    """Independent draws (draw, row, column) of `repaint` or `dps` with their settings given, by the shipped network.

    `values` (row, column) are standardised; `error` is their scale in the product's normalised units.
    """
    from geodiff.diffusion.denoiser import open_denoiser

    denoise = ignorant(open_denoiser(), values.shape, error)
    observed = torch.from_numpy(np.ascontiguousarray(values))[None, None]
    seen = torch.from_numpy(known.astype(np.float32))[None, None]
    generators = [torch.Generator().manual_seed(seed * 1000 + index) for index in range(count)]
    return np.stack([run(denoise, observed, seen, generator)[0, 0].numpy() for generator in generators])
