"""What the choices of the network are worth: trained from nothing on one fixed subset, one choice changed at a time.

    python tests/bench/bench_ablations.py --work DIR [--steps 600] [--patches 2000] [--only base,group] [--json OUT]

Every network sees the same crops and noise for the same number of steps. Scored on whole validation patches: squared
error of the value over the prior's, both whitened, by the geometric mean over patches, and the error of the denoiser at
four noise levels over that of the level; the ratio to `base` with its 95 % interval of a bootstrap over patches. On one
thread a step takes about .7 s, and patches are cut once into DIR (GEODIFF_DATA).

    base      as shipped: 2 x 2 pixels folded, layer norm, whitened, restoration learnt beside
    raw       the residual in units of the product, not of its expected error
    group     group norm instead of layer norm
    full      no folding, channels halved: as many pixels as the image has
    gaps      gaps alone: no degraded frames
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from geodiff.diffusion import edm, losses, training
from geodiff.diffusion.batches import Batch, Caches, draw_batch
from geodiff.diffusion.data import SIZE, Cache
from geodiff.diffusion.fields import channel
from geodiff.diffusion.trainconfig import TrainConfig, read_config
from geodiff.diffusion.training import Trainer
from geodiff.diffusion.unet import PixelNorm

SIGMAS = (2.0, 0.5, 0.1)
TYPICAL = 0.25
"""Typical expected error of a normalised product: the unit of residuals that are not whitened."""


def _unit(batch: Batch) -> torch.Tensor:
    """Expected error over the typical one: what a whitened residual is multiplied by."""
    return torch.exp(batch.context[:, channel("log_error")][:, None]) / TYPICAL


def _grouped(network: nn.Module) -> nn.Module:
    """Every layer norm replaced by a group norm of eight groups."""
    for name, part in network.named_children():
        if isinstance(part, PixelNorm):
            setattr(network, name, nn.GroupNorm(8, part.channels))
        else:
            _grouped(part)
    return network


CHOICES: dict[str, tuple[Callable[[nn.Module], nn.Module], dict[str, Any]]] = {
    "base": (lambda network: network, {}),
    "raw": (lambda network: network, {}),
    "group": (_grouped, {}),
    "full": (lambda network: network, {"fold": 1, "channels": (32, 48, 64, 64)}),
    "gaps": (lambda network: network, {"restore_share": 0.0}),
}


def trained(name: str, config: TrainConfig, caches: Caches) -> tuple[Any, float]:
    """The averaged network after the steps, and milliseconds a step."""
    change, options = CHOICES[name]
    config = config.model_copy(update=options)
    trainer = Trainer(config)
    torch.manual_seed(config.seed)
    for which in ("model", "average"):
        setattr(trainer, which, change(getattr(trainer, which)))
    trainer.average.requires_grad_(False).load_state_dict(trainer.model.state_dict())
    trainer.called = trainer.model
    trainer.synchronised = trainer.optimiser = torch.optim.AdamW(
        trainer.model.parameters(), lr=config.learning_rate, betas=(0.9, config.beta2), weight_decay=config.weight_decay
    )
    began = time.perf_counter()
    while trainer.progress < 1:
        batch = draw_batch(caches, config, trainer.step)
        if name == "raw":
            batch = replace(batch, residual=batch.residual * _unit(batch))
        trainer.advance(batch)
    return trainer.average, 1000 * (time.perf_counter() - began) / config.steps


@torch.inference_mode()
def scores(network: Any, cache: Cache, raw: bool) -> np.ndarray:
    """(patch, figure): log of the value's squared error over the prior's, then of the denoiser's over the level's."""
    network.eval()
    rows = []
    for index in range(len(cache)):
        context, residual, hidden = (torch.from_numpy(a)[None] for a in cache.take(index, 0, 0, SIZE))
        shown, scalars = hidden[:, None].float(), torch.from_numpy(cache.scalars[index])[None]
        truth = residual[:, None].float()
        noise = torch.randn(shown.shape, generator=torch.Generator().manual_seed(index))
        row = []
        for level in (edm.SIGMA_MAX, *SIGMAS):
            value, sigma = torch.tensor([level == edm.SIGMA_MAX]), torch.tensor(level)[None, None, None, None]
            batch = Batch(context, truth, shown, sigma, noise, value, scalars)
            if raw:  # in its own unit, at the level that is as much noise over the gap as a whole
                own = (_unit(batch)[shown > 0] ** 2).mean() ** 0.5
                batch = replace(batch, residual=truth * _unit(batch), sigma=sigma if value else sigma * own)
            found = losses.denoise(network, batch)[0]
            error = ((found / _unit(batch) if raw else found) - truth)[shown > 0]
            against = float((truth[shown > 0] ** 2).mean()) if value else level**2
            row.append(float(np.log(max(float((error**2).mean()), 1e-9) / max(against, 1e-9))))
        rows.append(row)
    return np.array(rows)


def interval(logs: np.ndarray) -> str:
    """Root of the geometric mean, with its interval."""
    drawn = np.random.default_rng(0).integers(0, len(logs), (2000, len(logs)))
    means = np.exp(logs[drawn].mean(axis=1) / 2)
    return f"{np.exp(logs.mean() / 2):.3f} ({np.quantile(means, 0.025):.3f} to {np.quantile(means, 0.975):.3f})"


def main() -> None:
    """Train and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where patches are cut, and found again")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--patches", type=int, default=2000)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--only", default=",".join(CHOICES))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    config = read_config(
        None, work=given.work, steps=given.steps, patches=given.patches, frames=given.frames, seed=7,
        warm_up=100, ema=0.99, dtype="float32",
    )  # fmt: skip
    caches = training._caches(config)
    assert caches.validation is not None
    found: dict[str, np.ndarray] = {}
    for name in given.only.split(","):
        network, milliseconds = trained(name, config, caches)
        found[name] = scores(network, caches.validation, name == "raw")
        facts = [interval(found[name][:, 0]), interval(found[name][:, 1:].mean(axis=1))]
        if "base" in found:
            gained = found[name] - found["base"]
            facts += [interval(gained[:, 0]), interval(gained[:, 1:].mean(axis=1))]
        count = sum(p.numel() for p in network.parameters())
        print(f"| {name} | {count:,} | {milliseconds:.0f} | {' | '.join(facts)} |", flush=True)
    if given.json:
        given.json.write_text(json.dumps({k: v.tolist() for k, v in found.items()}))


if __name__ == "__main__":
    main()
