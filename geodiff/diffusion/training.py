"""Training of the denoiser and its value head: one validated configuration, checkpoints that can be resumed.

    python -m geodiff.diffusion.training --work DIR [--config FILE] [--minutes M] [--steps N] [--resume]

Every step's randomness is a function of (seed, step, process), so a resumed run sees what an undisturbed one would have
seen. `geodiff train` is the same on a user's own rasters.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from geodiff.diffusion import edm
from geodiff.diffusion.batches import Batch, Caches, draw_batch
from geodiff.diffusion.crops import CELL, STEP
from geodiff.diffusion.data import SIZE, Cache, build, build_frames
from geodiff.diffusion.device import dtype_of, on_threads, pick_device
from geodiff.diffusion.journal import LOG, SCORES, TENSORBOARD, Journal, Verdict
from geodiff.diffusion.losses import denoise, edm_loss, try_loss
from geodiff.diffusion.network import GapFillUNet
from geodiff.diffusion.processes import Processes
from geodiff.diffusion.trainconfig import TrainConfig, read_config
from geodiff.errors import GeodiffError, InputError, JobError, WriteError

if TYPE_CHECKING:
    from geodiff.diffusion.sources import Source

__all__ = ["Trainer", "has_checkpoint", "part_of", "read_checkpoint", "train", "validation_scores"]

_log = logging.getLogger("geodiff.training")

_FILLED = STEP * CELL
"""Sides of what the network looks at in use are multiples of this."""

Watch = Callable[["Trainer", str], None]
"""Told after every step, with a sentence after each validation and an empty one else."""


class Trainer:
    """Network, its moving average, optimiser and counters; saved and restored together."""

    def __init__(self, config: TrainConfig, processes: Processes | None = None) -> None:
        torch.manual_seed(config.seed)
        try_loss(config.loss, config.crop)
        self.config, self.processes = config, processes or Processes()
        self.model, self.average = _network(config), _network(config, dropout=0.0).requires_grad_(False)
        _check_depth(self.model, config.crop)
        for network in (self.model, self.average):
            _placed(network, config.device)
        self.average.load_state_dict(self.model.state_dict())
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(),
            lr=config.learning_rate,
            fused=True,
            betas=(0.9, config.beta2),
            weight_decay=config.weight_decay,
        )
        self.called, self.synchronised = self.processes.prepared(self.model, self.optimiser)
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
        least = min(config.least_rate, config.learning_rate)
        rate = least + (config.learning_rate - least) * cosine
        return float(rate * min(1.0, (self.since + 1) / max(config.warm_up, 1)))

    def advance(self, batch: Batch) -> dict[str, float]:
        """One step of AdamW; returns the parts of the loss. Raises JobError where the gradient is no number."""
        self.model.train()
        torch.manual_seed(int(np.random.SeedSequence(self._key).generate_state(1)[0]))  # what dropout drops
        with torch.autocast(torch.device(self.config.device).type, torch.bfloat16, enabled=_half(self.config)):
            loss, facts = edm_loss(self.called, batch, self.config)
        self.synchronised.zero_grad(set_to_none=True)
        self.processes.backward(loss)
        facts["gradient"] = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip))
        if not np.isfinite(facts["gradient"]):
            raise JobError(
                f"the gradient of loss {self.config.loss!r} is {facts['gradient']} at step {self.step}, from which "
                f"nothing can be learnt; lower learning_rate ({self.config.learning_rate:g}), or choose another loss"
            )
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate
        self.synchronised.step()
        self.step, self.since = self.step + 1, self.since + 1
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for mean, now in zip(self.average.parameters(), self.model.parameters(), strict=True):
            mean.lerp_(now.detach(), 1 - decay)
        return facts

    @property
    def _key(self) -> tuple[int, int, int]:
        return self.config.seed, self.step, self.processes.rank

    def save(self, folder: Path) -> None:
        """Write safetensors and JSON; a reader never sees half a checkpoint. Raises WriteError on a full disk."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"raw.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.average.state_dict().items()}
        for index, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
        tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
        config = json.loads(self.config.model_dump_json())
        layout = {k: v for k, v in dict(self.average.config).items() if not k.startswith("_")}
        facts = {"step": self.step, "seconds": self.seconds, "config": config, "layout": layout}
        metadata = {"facts": json.dumps(facts)}  # in the same file, so that both change at once
        try:
            save_file(tensors, folder / "next.safetensors", metadata)
        except SafetensorError as error:
            raise WriteError(f"{folder} cannot be written to: {error}; check free space and permissions") from error
        (folder / "next.safetensors").replace(folder / "checkpoint.safetensors")
        (folder / "checkpoint.json").write_text(json.dumps(facts, indent=1))

    def restore(self, folder: Path) -> None:
        """Go on from a checkpoint; raises InputError where there is none, or one of a network of another shape."""
        tensors, facts = read_checkpoint(folder)
        shapes = {name: value.shape for name, value in self.model.state_dict().items()}
        if {name: value.shape for name, value in part_of(tensors, "raw.").items()} != shapes:
            raise InputError(
                f"the checkpoint in {folder} is of a network with {_layout_of(facts['layout'])}, this training's has "
                f"{_layout_of(self.average.config)}; give the configuration it began with, or leave out --resume"
            )
        self.model.load_state_dict(part_of(tensors, "raw."))
        self.average.load_state_dict(part_of(tensors, "ema."))
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in part_of(tensors, "adam.").items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = value.to(memory_format=_layout(value))
        whole = self.optimiser.state_dict()
        self.optimiser.load_state_dict({**whole, "state": state})
        self.step, self.seconds, self.since = facts["step"], facts["seconds"], 0


def _check_depth(network: GapFillUNet, crop: int) -> None:
    """Raise JobError for a network whose coarsest pixels do not fit into the crops of training, or of filling."""
    coarsest = int(network.multiple)
    if crop % coarsest or _FILLED % coarsest:
        raise JobError(
            f"a network with {_layout_of(network.config)} makes one of {coarsest} x {coarsest} pixels, which does "
            f"not fit into crop = {crop} and the {_FILLED} pixels that filling looks at; take a multiple for crop, or "
            "fewer channels or a smaller fold"
        )


def _layout_of(layout: Mapping[str, Any]) -> str:
    told = {name: layout[name] for name in ("channels", "inner", "blocks", "fold") if layout.get(name) is not None}
    return ", ".join(f"{name} {value}" for name, value in told.items())


def _network(config: TrainConfig, dropout: float | None = None) -> GapFillUNet:
    """A new network, or a model folder's."""
    rate = config.dropout if dropout is None else dropout
    if config.begin_from is None:
        made: GapFillUNet = GapFillUNet(
            channels=config.channels, blocks=config.blocks, fold=config.fold, dropout=rate
        )
        return made
    from safetensors.torch import load_file

    from geodiff.diffusion.folder import check_folder, find_folder, weights_path

    folder = find_folder(config.begin_from)
    check_folder(folder)
    layout = {**GapFillUNet.load_config(folder / "unet"), "dropout": rate}
    network: GapFillUNet = GapFillUNet.from_config(layout)
    network.load_state_dict({k: v.float() for k, v in load_file(weights_path(folder)).items()})
    return network


def _placed(network: GapFillUNet, device: str) -> None:
    """On the device, with channels last in memory as in its input: a sixth faster on processors."""
    torch.nn.Module.to(network, device)  # ModelMixin's warns without need
    for parameter in network.parameters():
        parameter.data = parameter.data.to(memory_format=_layout(parameter))


def _layout(tensor: Tensor) -> torch.memory_format:
    """Channels last where there are channels, rows and columns; the fused optimiser wants its state in the same."""
    return torch.channels_last if tensor.ndim == 4 else torch.contiguous_format


def has_checkpoint(folder: Path) -> bool:
    """Whether a folder has a checkpoint that can be read, which a disk that failed may have cut short."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / "checkpoint.safetensors", "pt"):
            return True
    except (FileNotFoundError, SafetensorError):
        return False


def read_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of a checkpoint folder."""
    from safetensors import safe_open

    path = folder / "checkpoint.safetensors"
    if not path.exists():
        raise InputError(f"no checkpoint in {folder}; leave out --resume to start over")
    if not has_checkpoint(folder):
        raise InputError(f"{path} is damaged, or cut short; leave out --resume to start over")
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


def _half(config: TrainConfig) -> bool:
    """Whether products are in bfloat16."""
    return dtype_of(config.dtype, torch.device(config.device)) is torch.bfloat16


@torch.inference_mode()
def _add_scores(sums: dict[str, list[float]], model: Any, cache: Cache, index: int, config: TrainConfig) -> None:
    """Sums of squared errors of one patch: the value's and the prior's by kind, the denoiser's by level."""
    device = torch.device(config.device)
    context, residual, hidden = (torch.from_numpy(a)[None].to(device) for a in cache.take(index, 0, 0, SIZE))
    shown, scalars = hidden[:, None].float(), torch.from_numpy(cache.scalars[index])[None].to(device)
    noise = torch.randn(shown.shape, generator=torch.Generator().manual_seed(index)).to(device)
    levels = (edm.SIGMA_MAX,) if "degraded" in cache.names else (edm.SIGMA_MAX, 2.0, 0.5, 0.1)
    for level in levels:
        value = torch.full((1,), level == edm.SIGMA_MAX, device=device)
        sigma = torch.full((1, 1, 1, 1), level, device=device)
        batch = Batch(context, residual[:, None].float(), shown, sigma, noise, value, scalars)
        with torch.autocast(device.type, torch.bfloat16, enabled=_half(config)):
            error = (denoise(model, batch)[0] - batch.residual)[batch.hidden > 0]
        own = sums.setdefault(f"value/{cache.kinds[index]}" if value else f"denoise/{level}", [0.0, 0.0])
        own[0] += float((error**2).sum()) if value else float((error**2).mean()) / level**2
        own[1] += float((batch.residual[batch.hidden > 0] ** 2).sum()) if value else 1.0


def _caches(config: TrainConfig, sources: Sequence[Source] | None = None) -> Caches:
    """The patches of both parts, built where they are not there yet."""

    def of(make: Any, name: str, part: str, count: int) -> Cache | None:
        folder = _folder(config, name, count, sources)
        if not count:
            return None
        if (folder / "cache.json").exists():
            return Cache.open(folder)
        _log.info("cutting %s patches: %s; the minutes of training have not begun", f"{count:,}", name)
        made: Cache = make(folder, count, part=part, seed=config.seed, sources=sources)
        return made

    gaps = of(build, "train", "train", config.patches)
    assert gaps is not None
    aside = config.validation_patches
    frames = of(build_frames, "frames", "train", config.frames)
    beside = of(build_frames, "validation-frames", "validation", aside // 2 if frames is not None else 0)
    return Caches(gaps, frames, of(build, "validation", "validation", aside), beside)


def _folder(config: TrainConfig, name: str, count: int, sources: Sequence[Source] | None) -> Path:
    """Of patches; a user's own observations are in its name, so that those of others are never taken for them."""
    told = [(s.kind, s.part, s.name, s.window, s.weight) for s in sources or ()]
    digest = f"-{sha256(repr(told).encode()).hexdigest()[:12]}" if told else ""
    return config.work / f"{name}-{count}-{config.seed}{digest}"


def train(
    config: TrainConfig,
    *,
    resume: bool = False,
    sources: Sequence[Source] | None = None,
    watch: Watch = lambda trainer, said: None,  # noqa: ARG005
) -> Trainer:
    """Train until the steps, the minutes or the patience are spent.

    Parameters
    ----------
    resume : go on from the checkpoint in `config.work`.
    sources : observations to learn from; those of the shipped model where there are none.
    watch : called after each step.

    Every few minutes a checkpoint is written, scored, and kept as `best` where it is better than those before; the
    model that a training begins from is the first of them.
    """
    config = config.model_copy(update={"device": str(pick_device(config.device))})
    processes = Processes.here(config.device, half=_half(config))
    trainer = Trainer(config, processes)  # what is wrong with it is told before minutes of cutting
    if resume:
        trainer.restore(config.work)
    if processes.first:
        _forgotten(config, sources, resume=resume)
        _caches(config, sources)  # the others open what the first one cut
    processes.wait()
    caches = _caches(config, sources)
    with on_threads(config.threads or processes.cores):
        _train(trainer, caches, watch)
    return trainer


_OF_ONE = (LOG, TENSORBOARD, "checkpoint.safetensors", "checkpoint.json")
"""In a work folder, what one training leaves and another does not go on with."""


def _forgotten(config: TrainConfig, sources: Sequence[Source] | None, *, resume: bool) -> None:
    """Put checkpoint and logs of another training into `former`, and remove what was scored by other patches."""
    judged, former = _folder(config, "validation", config.validation_patches, sources), config.work / "former"
    if not (resume and judged.exists()):
        shutil.rmtree(config.work / "best", ignore_errors=True)
        (config.work / SCORES).unlink(missing_ok=True)
    if resume:
        return
    # one that is stopped before its first checkpoint must not be gone on with from another's
    left = [path for name in _OF_ONE if (path := config.work / name).exists()]
    if left:
        shutil.rmtree(former, ignore_errors=True)
        former.mkdir()
    for path in left:
        path.replace(former / path.name)


def _train(trainer: Trainer, caches: Caches, watch: Watch) -> None:
    """Steps and checkpoints until it is done."""
    config, processes = trainer.config, trainer.processes
    verdict = Verdict.after(config.work, trainer.step)
    if not processes.first:
        _follow(trainer, caches, watch, verdict, None)
        return
    with closing(Journal(config.work, after=trainer.step, tensorboard=config.tensorboard)) as journal:
        _follow(trainer, caches, watch, verdict, journal)


def _follow(trainer: Trainer, caches: Caches, watch: Watch, verdict: Verdict, journal: Journal | None) -> None:
    """Steps, each told, and every few minutes a checkpoint; only the first process has a journal."""
    config = trainer.config
    if trainer.step == 0 and config.begin_from is not None:  # what fine-tuning has to beat, and gives where it does not
        watch(trainer, _checkpoint(trainer, caches, journal, verdict))
    saved = time.monotonic()
    for facts in _steps(trainer, caches):
        if trainer.step % config.log_every == 0 and journal is not None:
            _log.info("step %d %.1f min rate %.1e %s", trainer.step, trainer.seconds / 60, trainer.rate, facts)
            journal.step(trainer.step, {"seconds": round(trainer.seconds, 1), "rate": trainer.rate, **facts})
        watch(trainer, "")
        if trainer.processes.longest(time.monotonic() - saved) > 60 * config.checkpoint_minutes:
            watch(trainer, _checkpoint(trainer, caches, journal, verdict))
            saved = time.monotonic()
            if config.patience is not None and verdict.since >= config.patience:
                _log.info("no better score in %d validations: stopped at step %d", verdict.since, trainer.step)
                return
    watch(trainer, _checkpoint(trainer, caches, journal, verdict))


def _checkpoint(trainer: Trainer, caches: Caches, journal: Journal | None, verdict: Verdict) -> str:
    """Save and score; a sentence about how it goes."""
    config = trainer.config
    if journal is not None:
        trainer.save(config.work)
    if caches.validation is None:
        return f"step {trainer.step}: saved, no validation part"
    scores = validation_scores(trainer.average, caches, config)
    part = Caches(caches.gaps, None, caches.gaps.first(min(40, len(caches.gaps))), None)
    seen = validation_scores(trainer.average, part, config)
    judged = verdict.add(scores, seen)
    if journal is not None:
        if judged == "better":  # before it is told: a killed run must not have told of what it did not keep
            trainer.save(config.work / "best")
        journal.scores(trainer.step, scores, seen, judged)
    _log.info("validation at step %d: %s (%s)", trainer.step, scores, judged)
    mean = sum(scores.values()) / max(len(scores), 1)
    return f"step {trainer.step}: validation {mean:.4f}, {judged}"


def _steps(trainer: Trainer, caches: Caches) -> Iterator[dict[str, float]]:
    """Steps until the training is done, with means of the facts since the last log line."""
    totals: dict[str, float] = {}
    rank = trainer.processes.rank
    while trainer.progress < 1:
        start = time.monotonic()
        facts = trainer.advance(draw_batch(caches, trainer.config, trainer.step, rank))
        trainer.seconds = trainer.processes.longest(trainer.seconds + time.monotonic() - start)
        for key, value in facts.items():
            totals[key] = 0.98 * totals.get(key, value) + 0.02 * value
        yield {k: round(v, 4) for k, v in totals.items()}


def main() -> None:
    """Command line of `make train`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--config", type=Path, help="TOML or JSON with fields of TrainConfig")
    for name, kind in (("minutes", float), ("steps", int), ("patches", int), ("seed", int)):
        parser.add_argument(f"--{name}", type=kind)
    parser.add_argument("--resume", action="store_true")
    given = vars(parser.parse_args())
    resume, path = given.pop("resume"), given.pop("config")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        train(read_config(path, **given), resume=resume)
    except GeodiffError as error:
        parser.exit(error.exit_code, f"error: {error}\n")


if __name__ == "__main__":
    main()
