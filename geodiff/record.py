"""What is said about a finished run: the record beside the product and the attributes inside it."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from geodiff import __version__
from geodiff.credentials import legible

__all__ = ["FEW_TRIALS", "RunRecord", "versions", "why_refused"]

FEW_TRIALS = 5
"""Hidden places below which a self-check says little."""

_PACKAGES = ("numpy", "scipy", "rasterio", "xarray", "zarr", "dask", "torch", "diffusers", "odc-geo", "rio-cogeo")


@dataclass(frozen=True, repr=False)
class RunRecord:
    """The outcome of one fill or restoration; written as JSON beside the product. Prints what the command line says."""

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

    def __str__(self) -> str:
        if self.status == "planned":
            return str(self.variables["text"])
        if self.status == "up to date":
            return f"{self.target} is up to date; nothing to do"
        if self.status == "nothing to append":
            return f"{self.target} already holds every date of {self.source}, unchanged; nothing to append"
        lines = [_nothing_to_fill(self)] if self.status == "nothing to fill" else []
        for name, facts in self.variables.items() if not lines else ():
            lines += _restored(name, facts) if "noise" in facts else [_filled(name, facts, self.command)]
        lines += [f"failed: {key}: {error}" for key, error in self.failed_blocks.items()]
        return "\n".join([*lines, *(f"wrote {path}" for path in self.products)])

    def __repr__(self) -> str:
        return str(self)  # a notebook shows it; all fields are pages of numbers


def _nothing_to_fill(record: RunRecord) -> str:
    missing = sum(facts["missing"] for facts in record.variables.values())
    left = f"; {missing:,} missing values are not to be filled (--dry-run says why)" if missing else ""
    return f"{record.source} has no gap to fill; the product is a copy, with layers{left}"


def _filled(name: str, facts: dict[str, Any], command: str) -> str:
    """What a person wants to know of a variable after a fill."""
    line = f"{legible(name, lines=False)}: filled {facts['filled']:,} of {facts['to_fill']:,} missing values"
    if facts["refused"]:
        line += f" ({facts['refused']:,} left empty: {why_refused(command)})"
    if facts.get("appended"):
        added = facts["appended"]
        line += f"; new dates: {added['new_dates']}, blocks that stayed as they were: {added['blocks_kept']:,}"
    check = facts["self_check"]
    if check.get("coverage90") is not None:
        line += f"; 90 % intervals held {100 * check['coverage90']:.0f} % of {check['pixels']:,} hidden known values"
        if check["trials"] < FEW_TRIALS:
            line += f" (in {check['trials']} place{'s' * (check['trials'] > 1)} only: too few to rely on)"
    elif facts["filled"]:
        line += "; not checked: too few known pixels, or gaps too small, to hide similar ones"
    return line


def _restored(name: str, facts: dict[str, Any]) -> list[str]:
    """The same of a variable that was restored, with the noise of its bands."""
    rows, columns = facts["shape"][-2:]
    text = f"{legible(name, lines=False)}: {rows} x {columns} pixels"
    if facts["missing"]:
        text += f", {100 * facts['missing'] / facts['values']:.2g} % missing, {facts['filled']:,} values filled"
    return [text, *(f"  noise of {', '.join(bands)}: {level}" for level, bands in _alike(facts["noise"]).items())]


def _alike(noise: dict[str, float | list[float]]) -> dict[str, list[str]]:
    """Bands by their level of noise as it is printed: one line for all that share one."""
    bands: dict[str, list[str]] = {}
    for band, level in noise.items():
        bands.setdefault(f"standard deviation {_level(level)}" if level else "none found", []).append(band)
    return bands


def _level(level: float | list[float]) -> str:
    return f"{level:.4g}" if isinstance(level, float) else ", ".join(f"{n:.4g}" for n in level)


def why_refused(command: str) -> str:
    """Why values that were to be filled stayed empty, by the command of the run."""
    nowhere = "their band has no known pixel"
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
