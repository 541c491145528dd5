"""Training of the denoiser and its value head: one validated configuration, checkpoints that can be resumed.

    python -m geodiff.diffusion.training --work DIR [--minutes M] [--steps N] [--resume]

Every step's randomness is a function of (seed, step), so a resumed run sees what an undisturbed one would have seen.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from geodiff.diffusion import edm
from geodiff.diffusion.data import SIZE, Cache, build, build_frames
from geodiff.diffusion.fields import DATES, channel
from geodiff.diffusion.network import GapFillUNet
from geodiff.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Batch", "Caches", "TrainConfig", "Trainer", "edm_loss", "part_of", "read_checkpoint", "train"]

_log = logging.getLogger("geodiff.training")


class TrainConfig(BaseModel):
    """All that decides a training; unknown names and values out of range are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    work: Path
    """Folder of checkpoints, caches and the log."""
    steps: int = Field(20_000, ge=1)
    minutes: float | None = Field(None, gt=0)
    """Stop, and end the learning-rate schedule, after this time, resumed parts included; else by `steps` alone."""
    patches: int = Field(10_000, ge=1)
    frames: int = Field(4_000, ge=0)
    """Degraded frames to learn restoration from."""
    validation_patches: int = Field(160, ge=0)
    batch: int = Field(16, ge=1)
    crop: int = Field(64, ge=16, le=SIZE, multiple_of=8)
    channels: tuple[int, ...] = (64, 96, 128)
    blocks: int = Field(1, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    learning_rate: float = Field(8e-4, gt=0)
    least_rate: float = Field(2e-5, gt=0)
    warm_up: int = Field(300, ge=0)
    weight_decay: float = Field(0.01, ge=0)
    beta2: float = Field(0.99, gt=0, lt=1)
    clip: float = Field(1.0, gt=0)
    ema: float = Field(0.999, ge=0, lt=1)
    log_sigma: tuple[float, float] = (-0.5, 1.4)
    """Mean and standard deviation of ln sigma."""
    uniform_share: float = Field(0.2, ge=0, le=1)
    """Share of samples with ln sigma uniform between the bounds."""
    value_share: float = Field(0.2, ge=0, le=1)
    """Share of samples at sigma_max without noise: the value head's."""
    restore_share: float = Field(0.25, ge=0, le=1)
    """Share of samples that are degraded frames instead of gaps."""
    restore_value_share: float = Field(0.5, ge=0, le=1)
    """Share of those that train the value head: restoration lives by its value."""
    beta: float = Field(0.5, ge=0, le=1)
    """Exponent of the beta-NLL (Seitzer et al. 2022) of value and log-variance."""
    drop_date: float = Field(0.15, ge=0, le=1)
    seed: int = 0
    dtype: str = Field("bfloat16", pattern="^(bfloat16|float32)$")
    device: str = "cpu"
    checkpoint_minutes: float = Field(4.0, gt=0)
    log_every: int = Field(100, ge=1)


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


def draw_batch(caches: Caches, config: TrainConfig, step: int) -> Batch:
    """Random crops with flips and quarter turns, noise levels and noise: a function of seed and step."""
    rng = np.random.default_rng([config.seed, step])
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
    quarter, flip = int(rng.integers(4)), bool(rng.integers(2))
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
    uniform = rng.random(config.batch) < config.uniform_share
    log = np.where(uniform, rng.uniform(np.log(edm.SIGMA_MIN), np.log(edm.SIGMA_MAX), config.batch), log)
    is_value = rng.random(config.batch) < np.where(is_frame, config.restore_value_share, config.value_share)
    sigma = np.where(is_value, edm.SIGMA_MAX, np.clip(np.exp(log), edm.SIGMA_MIN, edm.SIGMA_MAX))
    return sigma.astype(np.float32), is_value


def denoise(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """D(x; sigma) of a batch (Karras et al. 2022, eq. 7), and the log-variance."""
    x = (batch.residual + batch.sigma * batch.noise) * batch.hidden
    x = torch.where(batch.is_value[:, None, None, None], torch.zeros_like(x), x)
    told = edm.c_noise(batch.sigma).flatten()
    output, log_variance = model(edm.c_in(batch.sigma) * x, batch.context, told, batch.scalars)
    return edm.c_skip(batch.sigma) * x + edm.c_out(batch.sigma) * output.float(), log_variance.float()


def edm_loss(model: Any, batch: Batch, config: TrainConfig) -> tuple[Tensor, dict[str, float]]:
    """Weighted squared error of the denoiser, and beta-NLL of the value head; over hidden pixels only.

    A sample counts by the square root of its hidden pixels: stripes are not drowned by swaths, nor the reverse.
    """
    estimate, log_variance = denoise(model, batch)
    square = (estimate - batch.residual) ** 2
    log_variance = log_variance.clamp(-8, 8)
    nll = 0.5 * (log_variance + square * torch.exp(-log_variance)) * torch.exp(config.beta * log_variance).detach()
    value = batch.is_value[:, None, None, None]
    each = torch.where(value, nll, edm.loss_weight(batch.sigma) * square) * batch.hidden
    count = batch.hidden.sum((1, 2, 3))
    mean = each.sum((1, 2, 3)) / count.clamp(min=1)
    share = count.sqrt() / count.sqrt().sum().clamp(min=1)
    facts = {"denoise": _part(mean, share, ~batch.is_value), "value": _part(mean, share, batch.is_value)}
    return (mean * share).sum(), facts


def _part(mean: Tensor, share: Tensor, chosen: Tensor) -> float:
    weight = share * chosen
    return float((mean * weight).sum().detach() / weight.sum().clamp(min=1e-9))


@dataclass(frozen=True, slots=True)
class Caches:
    """The patches a training draws from."""

    gaps: Cache
    frames: Cache | None
    validation: Cache | None
    validation_frames: Cache | None


class Trainer:
    """Network, its moving average, optimiser and counters; saved and restored together."""

    def __init__(self, config: TrainConfig) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.model = GapFillUNet(channels=config.channels, blocks=config.blocks, dropout=config.dropout).to(
            config.device
        )
        self.average = (
            GapFillUNet(channels=config.channels, blocks=config.blocks).to(config.device).requires_grad_(False)
        )
        self.average.load_state_dict(self.model.state_dict())
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(),
            lr=config.learning_rate,
            fused=True,
            betas=(0.9, config.beta2),
            weight_decay=config.weight_decay,
        )
        self.step = 0
        self.since = 0
        """Steps since start or resume: the learning rate is warmed up again."""
        self.seconds = 0.0

    @property
    def progress(self) -> float:
        """Share of the training that is done, by steps or by time."""
        timed = self.seconds / 60 / self.config.minutes if self.config.minutes else 0.0
        return min(1.0, max(self.step / self.config.steps, timed))

    @property
    def rate(self) -> float:
        """Cosine from the first to the least rate, with a warm-up."""
        config = self.config
        cosine = 0.5 * (1 + np.cos(np.pi * self.progress))
        rate = config.least_rate + (config.learning_rate - config.least_rate) * cosine
        return float(rate * min(1.0, (self.since + 1) / max(config.warm_up, 1)))

    def advance(self, batch: Batch) -> dict[str, float]:
        """One step of AdamW; returns the parts of the loss."""
        self.model.train()
        with torch.autocast(
            torch.device(self.config.device).type, torch.bfloat16, enabled=self.config.dtype == "bfloat16"
        ):
            loss, facts = edm_loss(self.model, batch, self.config)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        facts["gradient"] = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip))
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate
        self.optimiser.step()
        self.step, self.since = self.step + 1, self.since + 1
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for mean, now in zip(self.average.parameters(), self.model.parameters(), strict=True):
            mean.lerp_(now.detach(), 1 - decay)
        return facts

    def save(self, folder: Path) -> None:
        """Write safetensors and JSON; a reader never sees half a checkpoint."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"raw.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.average.state_dict().items()}
        for index, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
        tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
        facts = {"step": self.step, "seconds": self.seconds, "config": json.loads(self.config.model_dump_json())}
        metadata = {"facts": json.dumps(facts)}  # in the same file, so that both change at once
        save_file(tensors, folder / "next.safetensors", metadata)
        (folder / "next.safetensors").replace(folder / "checkpoint.safetensors")
        (folder / "checkpoint.json").write_text(json.dumps(facts, indent=1))

    def restore(self, folder: Path) -> None:
        """Go on from a checkpoint of a network of the same shape; raises InputError where there is none."""
        tensors, facts = read_checkpoint(folder)
        self.model.load_state_dict(part_of(tensors, "raw."))
        self.average.load_state_dict(part_of(tensors, "ema."))
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in part_of(tensors, "adam.").items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = value
        whole = self.optimiser.state_dict()
        self.optimiser.load_state_dict({**whole, "state": state})
        self.step, self.seconds, self.since = facts["step"], facts["seconds"], 0


def read_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of a checkpoint folder."""
    from safetensors import safe_open

    path = folder / "checkpoint.safetensors"
    if not path.exists():
        raise InputError(f"no checkpoint in {folder}; leave out --resume to start anew")
    with safe_open(path, "pt") as opened:
        facts = json.loads(opened.metadata()["facts"])
        return {k: opened.get_tensor(k) for k in opened.keys()}, facts  # noqa: SIM118 (not a dict)


def part_of(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def validation_scores(model: GapFillUNet, caches: Caches, config: TrainConfig) -> dict[str, float]:
    """RMSE of the value over the prior's, on whitened residuals, by kind; and the denoiser's error at three levels."""
    model.eval()
    sums: dict[str, list[float]] = {}
    for cache in (caches.validation, caches.validation_frames):
        for index in range(len(cache) if cache is not None else 0):
            assert cache is not None
            _add_scores(sums, model, cache, index, config)
    return {k: round((a / b) ** 0.5, 4) for k, (a, b) in sorted(sums.items())}


@torch.inference_mode()
def _add_scores(sums: dict[str, list[float]], model: Any, cache: Cache, index: int, config: TrainConfig) -> None:
    """Sums of squared errors of one patch: the value's and the prior's by kind, the denoiser's by level."""
    context, residual, hidden = (torch.from_numpy(a)[None] for a in cache.take(index, 0, 0, SIZE))
    shown, scalars = hidden[:, None].float(), torch.from_numpy(cache.scalars[index])[None]
    noise = torch.randn(shown.shape, generator=torch.Generator().manual_seed(index))
    levels = (edm.SIGMA_MAX,) if "degraded" in cache.names else (edm.SIGMA_MAX, 2.0, 0.5, 0.1)
    for level in levels:
        value, sigma = torch.tensor([level == edm.SIGMA_MAX]), torch.tensor(level)[None, None, None, None]
        batch = Batch(context, residual[:, None].float(), shown, sigma, noise, value, scalars)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.dtype == "bfloat16"):
            error = (denoise(model, batch)[0] - batch.residual)[batch.hidden > 0]
        own = sums.setdefault(f"value/{cache.kinds[index]}" if value else f"denoise/{level}", [0.0, 0.0])
        own[0] += float((error**2).sum()) if value else float((error**2).mean()) / level**2
        own[1] += float((batch.residual[batch.hidden > 0] ** 2).sum()) if value else 1.0


def _caches(config: TrainConfig) -> Caches:
    """The patches of both parts, built where they are not there yet."""

    def of(make: Any, name: str, part: str, count: int) -> Cache | None:
        folder = config.work / f"{name}-{count}-{config.seed}"
        if not count:
            return None
        if (folder / "cache.json").exists():
            return Cache.open(folder)
        _log.info("cutting %d patches: %s", count, name)
        made: Cache = make(folder, count, part=part, seed=config.seed)
        return made

    gaps = of(build, "train", "train", config.patches)
    assert gaps is not None
    aside = config.validation_patches
    frames = of(build_frames, "frames", "train", config.frames)
    beside = of(build_frames, "validation-frames", "validation", aside // 2 if frames is not None else 0)
    return Caches(gaps, frames, of(build, "validation", "validation", aside), beside)


def train(config: TrainConfig, *, resume: bool = False) -> Trainer:
    """Train until the steps or the minutes are spent; checkpoints, and scores beside them, every few minutes."""
    torch.set_num_threads(1)
    caches = _caches(config)
    trainer = Trainer(config)
    if resume:
        trainer.restore(config.work)
    saved = time.monotonic()
    for facts in _steps(trainer, caches):
        if trainer.step % config.log_every == 0:
            _log.info("step %d %.1f min rate %.1e %s", trainer.step, trainer.seconds / 60, trainer.rate, facts)
        if time.monotonic() - saved > 60 * config.checkpoint_minutes:
            trainer.save(config.work)
            _log_scores(trainer, caches)
            saved = time.monotonic()
    trainer.save(config.work)
    _log_scores(trainer, caches)
    return trainer


def _log_scores(trainer: Trainer, caches: Caches) -> None:
    if caches.validation is not None:
        scores = validation_scores(trainer.average, caches, trainer.config)
        _log.info("validation at step %d: %s", trainer.step, scores)


def _steps(trainer: Trainer, caches: Caches) -> Iterator[dict[str, float]]:
    """Steps until the training is done, with means of the facts since the last log line."""
    totals: dict[str, float] = {}
    while trainer.progress < 1:
        start = time.monotonic()
        facts = trainer.advance(draw_batch(caches, trainer.config, trainer.step))
        trainer.seconds += time.monotonic() - start
        for key, value in facts.items():
            totals[key] = 0.98 * totals.get(key, value) + 0.02 * value
        yield {k: round(v, 4) for k, v in totals.items()}


def main() -> None:
    """Command line of `make train`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--config", type=Path, help="JSON with fields of TrainConfig")
    for name, kind in (("minutes", float), ("steps", int), ("patches", int), ("seed", int)):
        parser.add_argument(f"--{name}", type=kind)
    parser.add_argument("--resume", action="store_true")
    given = vars(parser.parse_args())
    resume, path = given.pop("resume"), given.pop("config")
    fields = json.loads(path.read_text()) if path else {}
    fields |= {k: v for k, v in given.items() if v is not None}
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train(TrainConfig(**fields), resume=resume)


if __name__ == "__main__":
    main()
