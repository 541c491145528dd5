"""Batches of crops: a function of the seed, the step and the process that draws them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from geodiff.diffusion import edm
from geodiff.diffusion.data import SIZE, Cache
from geodiff.diffusion.fields import DATES, channel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.diffusion.trainconfig import TrainConfig

__all__ = ["Batch", "Caches", "draw_batch"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Crops of patches on the training device."""

    context: Tensor
    """(sample, channel, row, column)."""
    residual: Tensor
    """(sample, 1, row, column), whitened."""
    hidden: Tensor
    """(sample, 1, row, column), 1 where scored."""
    sigma: Tensor
    """(sample, 1, 1, 1)."""
    noise: Tensor
    """(sample, 1, row, column); 0 for the value head's samples."""
    is_value: Tensor
    """(sample,) bool."""
    scalars: Tensor
    """(sample, scalar)."""


@dataclass(frozen=True, slots=True)
class Caches:
    """The patches a training draws from."""

    gaps: Cache
    frames: Cache | None
    validation: Cache | None
    validation_frames: Cache | None


def draw_batch(caches: Caches, config: TrainConfig, step: int, rank: int = 0) -> Batch:
    """Random crops with flips and quarter turns, noise levels and noise, for one of several processes."""
    rng = np.random.default_rng([config.seed, step, rank] if rank else [config.seed, step])
    is_frame = rng.random(config.batch) < (config.restore_share if caches.frames is not None else 0.0)
    crops = [_crop(caches.frames if f else caches.gaps, config, rng) for f in is_frame]
    context, residual, hidden, scalars = (torch.from_numpy(np.stack(parts)) for parts in zip(*crops, strict=True))
    sigma, is_value = _levels(config, rng, is_frame)
    noise = rng.standard_normal(residual.shape, dtype=np.float32) * ~is_value[:, None, None]
    tensors = (
        context,
        residual[:, None],
        hidden[:, None].float(),
        torch.from_numpy(sigma)[:, None, None, None],
        torch.from_numpy(noise)[:, None],
        torch.from_numpy(is_value),
        scalars,
    )
    return Batch(*(t.to(config.device) for t in tensors))


def _crop(cache: Cache | None, config: TrainConfig, rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
    """A crop that holds hidden pixels: the best of up to 4 tries."""
    assert cache is not None
    best, most = None, -1
    for _ in range(4):
        row, column = (int(rng.integers(SIZE - config.crop + 1)) for _ in "rc")
        index = int(rng.integers(len(cache)))
        candidate = (*cache.take(index, row, column, config.crop), cache.scalars[index])
        count = int(candidate[2].sum())
        if count > most:
            best, most = candidate, count
        if count > 0.02 * config.crop**2:
            break
    assert best is not None
    context, residual, hidden, scalars = best
    for index in range(1, DATES + 1):
        if rng.random() < config.drop_date:
            context[[channel(f"date{index}"), channel(f"date{index}_known")]] = 0
    quarter, flip = (int(rng.integers(4)), bool(rng.integers(2))) if config.augment else (0, False)
    turned = (_turned(a, quarter, flip=flip) for a in (context, residual.astype(np.float32), hidden))
    return (*turned, scalars)


def _turned(planes: NDArray[Any], quarter: int, *, flip: bool) -> NDArray[Any]:
    planes = planes[..., ::-1] if flip else planes
    return np.ascontiguousarray(np.rot90(planes, quarter, (-2, -1)))


def _levels(
    config: TrainConfig, rng: np.random.Generator, is_frame: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Noise levels (sample,) and which of the samples train the value head."""
    mean, deviation = config.log_sigma
    log = rng.normal(mean, deviation, config.batch)
    share = config.uniform_share if config.noise_distribution == "lognormal" else 1.0
    uniform = rng.random(config.batch) < share
    log = np.where(uniform, rng.uniform(np.log(edm.SIGMA_MIN), np.log(edm.SIGMA_MAX), config.batch), log)
    is_value = rng.random(config.batch) < np.where(is_frame, config.restore_value_share, config.value_share)
    sigma = np.where(is_value, edm.SIGMA_MAX, np.clip(np.exp(log), edm.SIGMA_MIN, edm.SIGMA_MAX))
    return sigma.astype(np.float32), is_value
