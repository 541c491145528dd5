"""Names of the samplers: which there are, and which are refused and why; `geodiff.diffusion.sampling` builds them."""

from __future__ import annotations

from collections.abc import Mapping

from geodiff.errors import JobError

__all__ = ["NAMES", "REFUSED", "check_sampler"]

NAMES = ("edm-dpm2m", "edm-dpm3m", "edm-euler", "heun")
"""The first is the default, and the only one that the shipped calibration belongs to."""

REFUSED: Mapping[str, str] = {
    "edm-dpm2m-sde": "it draws noise of its own, shaped like a batch",
    "euler-ancestral": "it draws noise of its own, shaped like a batch",
    "dpm-sde": "it draws noise of its own from a Brownian tree",
    "ddpm": "it works on discrete betas and draws noise of its own",
    "ddim": "it works on discrete betas; on this model it would load silently with the wrong prediction",
    "pndm": "it works on discrete betas",
    "unipc": "it works on discrete betas",
}
"""Schedulers that users ask for, and why they are not available."""


def check_sampler(name: str) -> None:
    """Raise JobError for a sampler that is unknown, or refused by name."""
    if name in REFUSED:
        raise JobError(f"sampler {name!r} is not available: {REFUSED[name]}; choose one of {', '.join(NAMES)}")
    if name not in NAMES:
        raise JobError(f"no sampler is called {name!r}; choose one of {', '.join(NAMES)}")
