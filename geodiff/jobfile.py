"""The commented job file that `geodiff init` writes: every field of FillJob with its meaning and default."""

from __future__ import annotations

import json

from geodiff.job import FillJob

__all__ = ["commented_toml"]

_ESSENTIAL = {"source": "scene.tif", "target": "filled.tif"}
_EXAMPLES = {
    "dates": "2024-06-01:2024-06-30",
    "nodata": -9999.0,
    "valid_range": (0.0, 1.0),
    "resolution": 20.0,
    "members": 4,
    "max_error": 0.5,
    "gate": "coverage90>=0.85,unfilled<=0.02",
    "block_size": 512,
    "workers": 2,
    "scheduler": "tcp://127.0.0.1:8786",
    "work": "scratch",
    "report": "filled.report.html",
    "stac": "filled.json",
}
"""What a field that is not set by default could be; TOML has no word for nothing."""


def commented_toml() -> str:
    """TOML text; the two fields that have no default are set, all others stand commented at their defaults."""
    lines = ["# A job for `geodiff fill --job THIS_FILE`; options on the command line override it.", ""]
    for name, field in FillJob.model_fields.items():
        lines += [f"# {field.description}", _line(name, field.default), ""]
    return "\n".join(lines)


def _line(name: str, default: object) -> str:
    """One field as TOML: set, at its default behind a `#`, or with an example where it has none."""
    if name in _ESSENTIAL:
        return f"{name} = {_toml(_ESSENTIAL[name])}"
    if default is None:
        return f"# {name} = {_toml(_EXAMPLES[name])}  # an example; not set"
    return f"# {name} = {_toml(default)}"


def _toml(value: object) -> str:
    """A string, number, boolean or list as TOML, which spells these as JSON does."""
    return json.dumps(list(value) if isinstance(value, tuple) else value)
