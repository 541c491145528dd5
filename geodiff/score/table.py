"""The league as text and as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geodiff.metrics import Interval
    from geodiff.score.league import Row

__all__ = ["as_csv", "as_text"]

_SHOWN = 3
"""Methods of each stratum in the short table."""


def as_text(title: str, rows: Sequence[Row], *, width: int = 150) -> str:
    """The whole league over all pixels, and the first of every stratum."""
    from rich.console import Console

    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=False, color_system=None)
    console.print(_table(title, [row for row in rows if row.stratum == "all"]))
    strata = list(dict.fromkeys(row.stratum for row in rows if row.stratum != "all"))
    if strata:
        console.print(_by_stratum(rows, strata))
    return out.getvalue().rstrip()


def _table(title: str, rows: Sequence[Row]) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, show_edge=False)
    table.add_column("method", no_wrap=True)
    heads = ("RMSE", "MAE", "bias", "R2", "CRPS", "from", "cov 90", "spread/skill", "dB value", "dB draw", "s/Mpx")
    for name in (*heads, "RMSE / best peer (95 %)"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.method, *(_number(x) for x in (row.rmse, row.mae, row.bias, row.r2, row.crps)), row.crps_from,
            *(_number(x) for x in (row.coverage["90"], row.spread_skill, row.texture_value, row.texture_member)),
            _number(row.seconds_per_megapixel), _interval(row.rmse_ratio),
        )  # fmt: skip
    return table


def _by_stratum(rows: Sequence[Row], strata: Sequence[str]) -> Any:
    from rich.table import Table

    table = Table(
        title="\nby stratum: the best by RMSE", title_justify="left", box=None, pad_edge=False, show_edge=False
    )
    for name in ("stratum", "pixels", "best", "RMSE", "best peer", "best / best peer (95 %)", "then"):
        table.add_column(name, no_wrap=True)
    for stratum in strata:
        own = [row for row in rows if row.stratum == stratum]
        most = max(row.cases for row in own)
        own = [row for row in own if row.cases == most]
        then = ", ".join(f"{row.method} {_number(row.rmse)}" for row in own[1:_SHOWN])
        first = own[0]
        table.add_row(
            stratum, f"{first.pixels:,}", first.method, _number(first.rmse), first.rmse_peer or "-",
            _interval(first.rmse_ratio), then,
        )  # fmt: skip
    return table


def _number(x: float) -> str:
    """Three digits, those that are 0 among them, and no power of ten of what is merely large: 7.80, 1,970."""
    if not math.isfinite(x):
        return "-"
    return f"{x:#.3g}".removesuffix(".") if abs(x) < 999.5 else f"{x:,.0f}"


def _interval(ratio: Interval | None) -> str:
    if ratio is None:
        return "-"
    if math.isnan(ratio.low):  # of a single gap
        return f"{ratio.estimate:.3f} (-)"
    return f"{ratio.estimate:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"


def as_csv(rows: Sequence[Row]) -> str:
    """One line a method and stratum; intervals and coverages in columns of their own."""
    out = io.StringIO()
    lines = [_flat(row.facts()) for row in rows]
    writer = csv.DictWriter(out, list(dict.fromkeys(name for line in lines for name in line)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def _flat(facts: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        if name == "coverage":
            flat |= {f"coverage{level}": share for level, share in value.items()}
        elif name.endswith("_ratio"):
            parts = (name, f"{name}_low", f"{name}_high")
            flat |= dict(zip(parts, value or (None, None, None), strict=True))
        else:
            flat[name] = value
    return flat
