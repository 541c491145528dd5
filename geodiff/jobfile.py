"""The commented job file that `geodiff init` writes: every field of FillJob with its meaning and default."""

from __future__ import annotations

import json

from geodiff.job import FillJob

__all__ = ["commented_toml"]

_ESSENTIAL = {"source": '"scene.tif"', "target": '"filled.tif"'}


def commented_toml() -> str:
    """TOML text; the two fields that have no default are set, all others stand commented at their defaults."""
    lines = ["# A job for `geodiff fill --job THIS_FILE`; options on the command line override it.", ""]
    for name, field in FillJob.model_fields.items():
        lines.append(f"# {field.description}")
        if name in _ESSENTIAL:
            lines.append(f"{name} = {_ESSENTIAL[name]}")
        else:
            lines.append(f"# {name} = {_toml(field.default)}")
        lines.append("")
    return "\n".join(lines)


def _toml(value: object) -> str:
    """A default as TOML; fields without one are shown empty."""
    if value is None:
        return '""  # not set'
    return json.dumps(list(value) if isinstance(value, tuple) else value)
