"""What is said about a finished run: the record beside the product and the attributes inside it."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from geodiff import __version__

__all__ = ["FEW_TRIALS", "RunRecord", "versions", "why_refused"]

FEW_TRIALS = 5
"""Hidden places below which a self-check says little."""

_PACKAGES = ("numpy", "scipy", "rasterio", "xarray", "zarr", "dask", "torch", "diffusers", "odc-geo", "rio-cogeo")


@dataclass(frozen=True)
class RunRecord:
    """The outcome of one fill; written as JSON beside the product."""

    source: str
    target: str
    command: str
    status: str
    """`done`, `nothing to fill`, `up to date`, `nothing to append`, `planned`, or `some blocks failed`."""
    exit_code: int = 0
    fingerprint: str = ""
    products: tuple[str, ...] = ()
    """Paths written, sidecars first."""
    variables: dict[str, Any] = field(default_factory=dict)
    """Per variable: shape, known, missing, filled, reasons, what was left out and why, the fit's self-check."""
    blocks: int = 0
    blocks_resumed: int = 0
    """Blocks that an earlier, interrupted run had finished."""
    failed_blocks: dict[str, str] = field(default_factory=dict)
    """Blocks that failed, with the reason."""
    gates: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    """Name, hash, device and dtype of the network, where one ran."""
    seed: int = 0
    started: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory_bytes: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    machine: str = field(default_factory=platform.platform)

    def to_json(self) -> str:
        """The record as indented JSON."""
        return json.dumps(asdict(self), indent=1, default=str) + "\n"


def why_refused(command: str) -> str:
    """Why values that were to be filled stayed empty, by the command of the run."""
    nowhere = "nothing is known of their band"
    return f"their expected error is above --max-error, or {nowhere}" if "--max-error" in command else nowhere


def versions() -> dict[str, str]:
    """Versions of geodiff, Python and the packages a product depends on."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    found = {"geodiff": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
