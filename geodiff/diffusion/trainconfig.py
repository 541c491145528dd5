"""Everything that decides a training, in one validated object; `--config FILE` reads it from TOML or JSON."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from geodiff.diffusion.data import SIZE
from geodiff.errors import JobError

__all__ = ["TrainConfig", "read_config", "read_fields"]


class TrainConfig(BaseModel):
    """All that decides a training; unknown names and values out of range are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")  # kept: clip = inf

    work: Path
    """Folder of checkpoints, caches and the log."""

    # how long
    steps: int = Field(20_000, ge=1)
    minutes: float | None = Field(None, gt=0)
    """Stop, and end the learning-rate schedule, after this time, resumed parts included; else by `steps` alone."""
    patience: int | None = Field(None, ge=1)
    """Stop after so many validations without a better score; None never stops early."""

    # what is seen
    patches: int = Field(10_000, ge=1)
    frames: int = Field(4_000, ge=0)
    """Degraded frames to learn restoration from."""
    validation_patches: int = Field(160, ge=0)
    batch: int = Field(16, ge=1)
    """Samples a step and process."""
    crop: int = Field(64, ge=16, le=SIZE, multiple_of=8)
    augment: bool = True
    """Flips and quarter turns of every crop."""
    drop_date: float = Field(0.15, ge=0, le=1)
    """How often each other date is withheld, so that the network does without."""
    restore_share: float = Field(0.25, ge=0, le=1)
    """Share of samples that are degraded frames instead of gaps."""

    # the network
    channels: tuple[Annotated[int, Field(ge=1)], ...] = Field((64, 96, 128), min_length=1)
    """At 1 / fold of a window's size, at half of that, and so on."""
    blocks: int = Field(1, ge=1)
    fold: Literal[1, 2, 4] = 2
    """Pixels a side that the stem folds into channels; 1 works on every pixel."""
    dropout: float = Field(0.0, ge=0, lt=1)
    begin_from: Path | None = None
    """A model folder whose weights are the start; its layout then overrides `channels`, `blocks` and `fold`."""

    # the forward process
    noise_distribution: Literal["lognormal", "loguniform"] = "lognormal"
    log_sigma: tuple[FiniteFloat, Annotated[FiniteFloat, Field(ge=0)]] = (-0.5, 1.4)
    """Mean and standard deviation of ln sigma where it is lognormal (Karras et al. 2022, table 1)."""
    uniform_share: float = Field(0.2, ge=0, le=1)
    """Share of samples with ln sigma uniform between the bounds all the same."""
    value_share: float = Field(0.2, ge=0, le=1)
    """Share of samples at sigma_max without noise: the value head's."""
    restore_value_share: float = Field(0.5, ge=0, le=1)
    """The same among degraded frames: restoration lives by its value."""

    # the loss
    loss: str = "mse"
    """Of the denoiser: mse, huber, or MODULE:FUNCTION of (estimate, truth), both (sample, 1, row, column), to a loss of
    that shape."""
    spectral: FiniteFloat = Field(0.0, ge=0)
    """Weight of the difference of log power spectra of estimate and truth."""
    beta: float = Field(0.5, ge=0, le=1)
    """Exponent of the beta-NLL (Seitzer et al. 2022) of value and log-variance."""

    # the optimiser
    learning_rate: FiniteFloat = Field(8e-4, gt=0)
    least_rate: FiniteFloat = Field(2e-5, gt=0)
    warm_up: int = Field(300, ge=0)
    weight_decay: FiniteFloat = Field(0.01, ge=0)
    beta2: float = Field(0.99, gt=0, lt=1)
    clip: float = Field(1.0, gt=0)
    ema: float = Field(0.999, ge=0, lt=1)
    seed: int = Field(0, ge=0, lt=1 << 63)
    dtype: str = Field("auto", pattern="^(auto|bfloat16|float32)$")
    """Of products of matrices; auto is bfloat16 where the hardware has it."""
    device: str = "cpu"
    """auto, cpu, cuda[:i] or mps."""
    threads: int | None = Field(None, ge=1)
    """Processor threads of each process; None shares out the cores. Where other work uses a core, fewer are faster."""

    # what is told
    checkpoint_minutes: float = Field(4.0, gt=0)
    """Minutes between checkpoints, each with validation scores."""
    log_every: int = Field(100, ge=1)
    tensorboard: bool = False
    """Write TensorBoard events beside log.csv; needs the tensorboard package."""


def read_fields(path: Path | None) -> dict[str, Any]:
    """What a configuration file (TOML or JSON) says, unchecked; nothing without one. Raises JobError."""
    if path is None:
        return {}
    try:
        text = path.read_text()
        fields = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as reason:
        raise JobError(f"{path} is not a training configuration ({reason}); write TOML or JSON") from None
    if not isinstance(fields, dict):
        raise JobError(f"{path} is not a training configuration (it holds no names); write TOML or JSON")
    return fields


def read_config(path: Path | None, defaults: Mapping[str, Any] | None = None, /, **given: Any) -> TrainConfig:
    """A configuration file (TOML or JSON) over the defaults and with the given fields over it.

    Minutes by default give way to steps that are given. Raises JobError in one line.
    """
    told = read_fields(path) | {name: value for name, value in given.items() if value is not None}
    standing = {name: value for name, value in (defaults or {}).items() if name != "minutes" or "steps" not in told}
    if told.get("tensorboard") and find_spec("tensorboard") is None:  # now, and not after minutes of cutting
        raise JobError("tensorboard = true needs the tensorboard package; pip install tensorboard, or leave it out")
    try:
        made = TrainConfig(**standing | told)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        known = ", ".join(TrainConfig.model_fields)
        cure = f"fields are {known}" if first["type"] == "extra_forbidden" else "correct it"
        raise JobError(f"training configuration, {name} = {first['input']!r}: {first['msg']}; {cure}") from None
    if made.patience is not None and not made.validation_patches:
        raise JobError(
            f"patience = {made.patience} counts validations, and validation_patches = 0 leaves none; drop one of them"
        )
    return made
