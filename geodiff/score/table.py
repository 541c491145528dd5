"""The league as text and as CSV."""

from __future__ import annotations

import csv
import io
import math
import shutil
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geodiff.score.league import external

if TYPE_CHECKING:
    from geodiff.metrics import Interval
    from geodiff.score.league import Row

__all__ = ["Column", "aligned", "as_csv", "as_text", "wrapped"]

_SHOWN = 3
"""Methods of each stratum in the short table."""
_UNSEEN, _NARROWEST = 100, 40
"""Columns where there is no terminal; the fewest into which sentences are put."""
_DEFAULT = "auto"
"""What a fill takes when nothing is said."""
_RIGHT = (0.85, 0.95)
"""Shares that 90 % intervals may hold before they are called too narrow or too wide."""


def as_text(title: str, rows: Sequence[Row], *, width: int | None = None) -> str:
    """What to conclude, the league over all pixels, and the best of every stratum.

    Parameters
    ----------
    width : columns of text; None is the terminal's, and 100 where there is none. As many figures of a method are shown
        as fit; the method, its error, the ratio to the best peer, what its intervals held and its time always are.
    """
    columns = width or _columns()
    whole = [row for row in rows if row.stratum == "all"]
    strata = list(dict.fromkeys(row.stratum for row in rows if row.stratum != "all"))
    parts = [wrapped(title, columns), *_verdict(whole, columns), "", *aligned(_FIGURES, whole, columns)]
    if strata:
        best = [_first_and_next([row for row in rows if row.stratum == stratum]) for stratum in strata]
        parts += ["", "by stratum: the best by RMSE", *aligned(_STRATUM, best, columns)]
    return "\n".join(parts)


def _columns() -> int:
    return shutil.get_terminal_size((_UNSEEN, 24)).columns


def wrapped(text: str, width: int | None = None, hang: str = "  ") -> str:
    """A sentence on as many lines as it needs, all but the first indented; words are never cut."""
    lines = textwrap.wrap(
        text,
        max(width or _columns(), _NARROWEST),
        subsequent_indent=hang,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines)


def _verdict(rows: Sequence[Row], width: int) -> list[str]:
    """Which of geodiff's fillers to use here, whether another program does better, and whether to trust its errors."""
    full = [row for row in rows if row.cases == max(r.cases for r in rows)]
    own = [row for row in full if not external(row.method)]
    if not own:
        return []
    best, default = own[0], next((row for row in own if row.method == _DEFAULT), own[0])
    said = [("best filler", f"{best.method}, {_against(best)}")]
    if default is not best:
        said.append(("the default", f"{default.method}, {_against(default)}"))
    peer = next((row for row in full if row.method == best.rmse_peer), None)
    if peer is not None:
        said.append(("best peer", f"{peer.method}, RMSE {_number(peer.rmse)}"))
    if math.isfinite(held := default.coverage["90"]):
        share = f"{100 * held:.0f} %{_judged(held, default.rmse)}"
        said.append(("error bars", f"90 % intervals of {default.method} hold {share}"))
    return [wrapped(f"{name:<11}  {text}", width, " " * 13) for name, text in said]


def _against(row: Row) -> str:
    """`RMSE 2.37: 0.971 (0.881 to 1.010) of the best peer's, which may be chance`."""
    rmse, ratio = f"RMSE {_number(row.rmse)}", row.rmse_ratio
    return rmse if ratio is None else f"{rmse}: {_interval(ratio)} of the best peer's, {_meaning(ratio)}"


def _meaning(ratio: Interval) -> str:
    if math.isnan(ratio.low) or ratio.low <= 1 <= ratio.high:
        return "which may be chance"
    return "better" if ratio.high < 1 else "worse"


def _judged(held: float, rmse: float) -> str:
    """Intervals that claim no error where there is none are not too wide, though they hold all."""
    low, high = _RIGHT
    if not rmse:
        return ""
    return ": too narrow here" if held < low else ": too wide here" if held > high else ""


def _first_and_next(own: Sequence[Row]) -> tuple[Row, Sequence[Row]]:
    """The best of a stratum among those that answered everywhere, and the rest of these."""
    full = [row for row in own if row.cases == max(r.cases for r in own)]
    return full[0], full[1:]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    head: str
    rank: int
    """Narrow screens leave the highest out; 0 is always there."""
    cell: Callable[[Any], str]
    left: bool = False


_FIGURES = (
    Column("method", 0, lambda row: row.method, left=True),
    Column("RMSE", 0, lambda row: _number(row.rmse)),
    Column("/ best peer (95 %)", 0, lambda row: _interval(row.rmse_ratio)),
    Column("cov 90", 0, lambda row: _number(row.coverage["90"])),
    Column("CRPS", 1, lambda row: _number(row.crps)),
    Column("from", 3, lambda row: row.crps_from),
    Column("spread/skill", 5, lambda row: _number(row.spread_skill)),
    Column("dB value", 6, lambda row: _number(row.texture_value)),
    Column("dB draw", 4, lambda row: _number(row.texture_member)),
    Column("bias", 2, lambda row: _number(row.bias)),
    Column("MAE", 8, lambda row: _number(row.mae)),
    Column("R2", 7, lambda row: _number(row.r2)),
    Column("s/Mpx", 0, lambda row: _number(row.seconds_per_megapixel)),
)
"""Of `Row`."""
_STRATUM = (
    Column("stratum", 0, lambda pair: pair[0].stratum, left=True),
    Column("pixels", 0, lambda pair: f"{pair[0].pixels:,}"),
    Column("best", 0, lambda pair: pair[0].method, left=True),
    Column("RMSE", 0, lambda pair: _number(pair[0].rmse)),
    Column("/ best peer (95 %)", 0, lambda pair: _interval(pair[0].rmse_ratio)),
    Column("best peer", 1, lambda pair: pair[0].rmse_peer or "-", left=True),
    Column(
        "then", 2, lambda pair: ", ".join(f"{r.method} {_number(r.rmse)}" for r in pair[1][: _SHOWN - 1]), left=True
    ),
)
"""Of the best row of a stratum and those after it."""


def aligned(columns: Sequence[Column], rows: Sequence[Any], width: int | None = None) -> list[str]:
    """Head and rows, with the columns that fit: by rank, and from the first that does not fit no further."""
    cells = {column: [column.head, *(column.cell(row) for row in rows)] for column in columns}
    wide = {column: max(map(len, texts)) for column, texts in cells.items()}
    shown = {column for column in columns if column.rank == 0}
    for column in sorted(set(columns) - shown, key=lambda c: c.rank):
        if sum(wide[c] + 2 for c in (*shown, column)) - 2 > (width or _columns()):
            break
        shown.add(column)
    kept = [column for column in columns if column in shown]
    return [
        "  ".join(cells[c][i].ljust(wide[c]) if c.left else cells[c][i].rjust(wide[c]) for c in kept).rstrip()
        for i in range(len(rows) + 1)
    ]


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
