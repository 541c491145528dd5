"""The diffusion part: network, pipeline, training. Only here are torch and diffusers imported, and on first use."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["GapFillPipeline", "GapFillUNet"]

_WHERE = {
    "GapFillPipeline": "geodiff.diffusion.pipeline",
    "GapFillUNet": "geodiff.diffusion.network",
    # diffusers recognises the components of a saved pipeline by the base classes it finds beside them
    "ModelMixin": "diffusers.models.modeling_utils",
    "SchedulerMixin": "diffusers.schedulers.scheduling_utils",
}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
