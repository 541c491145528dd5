"""What training minimises: the denoiser's weighted error and the value head's beta-NLL, over hidden pixels only."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from geodiff.diffusion import edm
from geodiff.errors import JobError

if TYPE_CHECKING:
    from geodiff.diffusion.batches import Batch
    from geodiff.diffusion.trainconfig import TrainConfig

__all__ = ["LOSSES", "denoise", "edm_loss", "named_loss", "spectral_difference", "try_loss"]

Loss = Callable[[Tensor, Tensor], Tensor]


def mse(estimate: Tensor, truth: Tensor) -> Tensor:
    """Squared error, elementwise."""
    return (estimate - truth) ** 2


def huber(estimate: Tensor, truth: Tensor) -> Tensor:
    """Twice Huber's loss with its corner at 1, elementwise: the squared error near 0, linear for outliers."""
    return 2 * torch.nn.functional.huber_loss(estimate, truth, reduction="none", delta=1.0)


LOSSES: dict[str, Loss] = {"mse": mse, "huber": huber}


@lru_cache(maxsize=8)
def named_loss(name: str) -> Loss:
    """A loss of the list, or MODULE:FUNCTION; raises JobError."""
    if name in LOSSES:
        return LOSSES[name]
    module, colon, function = name.partition(":")
    if not colon:
        raise JobError(f"loss {name!r}: choose {', '.join(LOSSES)}, or give your own as MODULE:FUNCTION")
    try:
        found: Loss = getattr(importlib.import_module(module), function)
    except Exception as reason:  # importing runs the user's module
        told = f"{type(reason).__name__}: {reason}"
        raise JobError(f"loss {name!r} cannot be imported ({told}); check the path and PYTHONPATH") from reason
    return found


def try_loss(name: str, crop: int) -> None:
    """Call a loss on two crops: one that fails, has no gradient or gives no number for each pixel is told at once.

    Raises JobError.
    """
    loss, one = named_loss(name), torch.linspace(-1, 1, 2 * crop**2).reshape(2, 1, crop, crop)
    estimate = one.flip(-1).requires_grad_()
    try:
        found = loss(estimate, one)
        shape = tuple(found.shape)
        torch.autograd.grad(found.sum(), estimate)
    except Exception as reason:
        raise JobError(f"loss {name!r} fails on crops of {crop} pixels ({type(reason).__name__}: {reason})") from reason
    if shape != one.shape:
        raise JobError(
            f"loss {name!r} gives an array of shape {shape} for {tuple(one.shape)}; it must give one number for each "
            "pixel (reduction='none'), for only hidden pixels count"
        )


def denoise(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """D(x; sigma) of a batch (Karras et al. 2022, eq. 7), and the log-variance."""
    x = (batch.residual + batch.sigma * batch.noise) * batch.hidden
    x = torch.where(batch.is_value[:, None, None, None], torch.zeros_like(x), x)
    told = edm.c_noise(batch.sigma).flatten()
    output, log_variance = model(edm.c_in(batch.sigma) * x, batch.context, told, batch.scalars)
    return edm.c_skip(batch.sigma) * x + edm.c_out(batch.sigma) * output.float(), log_variance.float()


def edm_loss(model: Any, batch: Batch, config: TrainConfig) -> tuple[Tensor, dict[str, float]]:
    """Weighted error of the denoiser, and beta-NLL of the value head; over hidden pixels only.

    A sample counts by the square root of its hidden pixels: stripes are not drowned by swaths, nor the reverse.
    """
    estimate, log_variance = denoise(model, batch)
    log_variance = log_variance.clamp(-8, 8)
    square = (estimate - batch.residual) ** 2
    nll = 0.5 * (log_variance + square * torch.exp(-log_variance)) * torch.exp(config.beta * log_variance).detach()
    value = batch.is_value[:, None, None, None]
    error = edm.loss_weight(batch.sigma) * named_loss(config.loss)(estimate, batch.residual)
    each = torch.where(value, nll, error) * batch.hidden
    count = batch.hidden.sum((1, 2, 3))
    mean = each.sum((1, 2, 3)) / count.clamp(min=1)
    if config.spectral:
        mean = mean + config.spectral * spectral_difference(estimate * batch.hidden, batch.residual) * ~batch.is_value
    share = count.sqrt() / count.sqrt().sum().clamp(min=1)
    facts = {"denoise": _part(mean, share, ~batch.is_value), "value": _part(mean, share, batch.is_value)}
    return (mean * share).sum(), facts


def spectral_difference(estimate: Tensor, truth: Tensor) -> Tensor:
    """(sample,) mean squared difference of log power over frequencies, both (sample, 1, row, column)."""
    power = [torch.fft.rfft2(image.float(), norm="ortho").abs() ** 2 for image in (estimate, truth)]
    difference = torch.log(power[0] + 1e-2) - torch.log(power[1] + 1e-2)
    return (difference**2).mean((1, 2, 3))


def _part(mean: Tensor, share: Tensor, chosen: Tensor) -> float:
    weight = share * chosen
    return float((mean * weight).sum().detach() / weight.sum().clamp(min=1e-9))
