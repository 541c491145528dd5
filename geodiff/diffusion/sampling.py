"""From noise to realisations: diffusers' sigma-space schedulers, wrapped to the model's preconditioning.

A scheduler is on the list only if it is tested here to return the right spread with an exact denoiser, and if every
random number it uses can come from outside: realisations are fixed to the ground, not to a batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geodiff.diffusion import edm
from geodiff.errors import JobError
from geodiff.samplers import check_sampler

if TYPE_CHECKING:
    from torch import Tensor

    Network = Callable[[Tensor, float], Tensor]

__all__ = ["LEAST_STEPS", "SAMPLERS", "Sampler", "sample", "sampler_like", "sampler_of"]

_SOLVER = ("solver_order", "algorithm_type")
"""What makes schedulers of one class different samplers; sde-dpmsolver++ draws noise of its own."""
LEAST_STEPS = 4
"""One step gives the start noise back; below four, the spread is wrong."""


@dataclass(frozen=True, slots=True)
class Sampler:
    """A scheduler that may be used."""

    build: Callable[[int], Any]
    """From the number of steps to a scheduler; they are stateful, so one is built for each batch."""
    takes: str
    """`F`: the raw network output, the scheduler preconditions; `epsilon`: (x - D) / sigma."""


def _edm_solver(order: int) -> Callable[[int], Any]:
    def build(steps: int) -> Any:
        from diffusers.schedulers.scheduling_edm_dpmsolver_multistep import EDMDPMSolverMultistepScheduler

        scheduler = EDMDPMSolverMultistepScheduler(
            sigma_min=edm.SIGMA_MIN,
            sigma_max=edm.SIGMA_MAX,
            sigma_data=edm.SIGMA_DATA,
            sigma_schedule="exponential",
            solver_order=order,
            final_sigmas_type="zero",
        )
        scheduler.set_timesteps(steps)
        return scheduler

    return build


def _edm_euler(steps: int) -> Any:
    from diffusers.schedulers.scheduling_edm_euler import EDMEulerScheduler

    scheduler = EDMEulerScheduler(
        sigma_min=edm.SIGMA_MIN, sigma_max=edm.SIGMA_MAX, sigma_data=edm.SIGMA_DATA, sigma_schedule="exponential"
    )
    scheduler.set_timesteps(steps)
    return scheduler


def _heun(steps: int) -> Any:
    """Heun's method on our own sigmas: diffusers would take them from a table of betas."""
    import torch
    from diffusers.schedulers.scheduling_heun_discrete import HeunDiscreteScheduler

    # diffusers, on its own table; for good, because filters are the process's and windows are drawn side by side
    warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
    scheduler = HeunDiscreteScheduler(prediction_type="epsilon")
    scheduler.set_timesteps(steps)
    ramp = torch.linspace(0, 1, steps)
    sigmas = edm.SIGMA_MAX * (edm.SIGMA_MIN / edm.SIGMA_MAX) ** ramp
    scheduler.sigmas = torch.cat([sigmas[:1], sigmas[1:].repeat_interleave(2), torch.zeros(1)])
    return scheduler


SAMPLERS: Mapping[str, Sampler] = {
    "edm-dpm2m": Sampler(_edm_solver(2), "F"),  # second order, exponential sigmas; the spread is right from 6 steps
    "edm-dpm3m": Sampler(_edm_solver(3), "F"),  # third-order multistep; over-dispersed below about 18 steps
    "edm-euler": Sampler(_edm_euler, "F"),  # first order; under-dispersed by a third at 8 steps
    "heun": Sampler(_heun, "epsilon"),  # second order, two network calls a step; needs 18 steps or more
}
"""Tested samplers, one for each of `geodiff.samplers.NAMES`."""


def sampler_of(name: str, steps: int) -> Sampler:
    """The sampler of that name; raises JobError for one that is unknown, refused by name, or given too few steps."""
    check_sampler(name)
    if steps < LEAST_STEPS:
        raise JobError(f"{steps} steps are too few: below {LEAST_STEPS} the spread is wrong; use --steps 10")
    return SAMPLERS[name]


def sampler_like(scheduler: Any) -> str:
    """The name of the sampler that a diffusers scheduler is; raises JobError for one that is not on the list.

    One made by `from_config` of another keeps what that one had, also an order which is not its own. Noise levels are
    the model's own, whatever a scheduler says of them.
    """
    kind, told = type(scheduler).__name__, dict(scheduler.config)
    for name, one in SAMPLERS.items():
        like = one.build(LEAST_STEPS)
        own = dict(like.config)
        if type(like).__name__ == kind and all(told.get(key) == own[key] for key in _SOLVER if key in own):
            return name
    solver = ", ".join(f"{key} {told[key]}" for key in _SOLVER if key in told)
    raise JobError(
        f"scheduler {kind}{f' with {solver}' if solver else ''} is not one that is tested with this model; use one of "
        f"{', '.join(SAMPLERS)}"
    )


def sample(network: Network, noise: Tensor, *, sampler: str = "edm-dpm2m", steps: int = 10) -> Tensor:
    """Follow the probability flow from sigma_max to 0 (Karras et al. 2022, eq. 1).

    Parameters
    ----------
    network : from x (sample, 1, row, column) and sigma to the raw output F of EDM preconditioning.
    noise : standard normal, float32, the shape of the answer.

    Returns
    -------
    Whitened residuals, float32, same shape.
    """
    chosen = sampler_of(sampler, steps)
    scheduler = chosen.build(steps)
    x = noise * edm.SIGMA_MAX
    for index, timestep in enumerate(scheduler.timesteps):
        sigma = float(scheduler.sigmas[index])
        output = network(x, sigma)
        if chosen.takes == "epsilon":
            output = (x - edm.c_skip(sigma) * x - edm.c_out(sigma) * output) / sigma
        else:
            scheduler.is_scale_input_called = True  # we scale by c_in ourselves
        x = scheduler.step(output, timestep, x).prev_sample
    return x
