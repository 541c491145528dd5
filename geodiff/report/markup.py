"""HTML by small functions, each of which escapes what it is given: names in metadata are other people's words."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

__all__ = [
    "answer",
    "as_script_json",
    "figure",
    "items",
    "number",
    "number_range",
    "paragraph",
    "preformatted",
    "section",
    "spelt_units",
    "table",
    "text",
    "with_units",
]

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def text(value: object) -> str:
    """Any value as text in HTML, quotes escaped as well."""
    return escape(str(value), quote=True)


def as_script_json(value: Any) -> str:
    """JSON that may stand inside a script element, whatever its strings hold."""
    plain = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return plain.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def number_range(low: float, high: float) -> tuple[str, str]:
    """The two ends of a range, both of them with a power of ten or neither."""
    largest = max(abs(low), abs(high))
    return number(low, high - low, largest), number(high, high - low, largest)


def number(value: float, span: float, largest: float = 0.0) -> str:
    """A number to about a hundredth of the span that it is one of, and to seven digits at most, as the page's script.

    101325 Pa among pressures, 0.1234 among reflectances, 4.56 × 10⁻⁵ among what is as small: where the `largest` of
    those it stands beside is.
    """
    span = abs(span) or abs(value) or 1.0
    most = math.floor(math.log10(max(abs(value), span, largest)))
    least = max(math.floor(math.log10(span)) - 2, most - 6)
    if value and not -3 <= most < 7:
        digits, _, power = f"{value:.{max(most - least, 1)}e}".partition("e")
        return f"{digits} × 10{str(int(power)).translate(_RAISED)}"
    shown = f"{value:.{max(-least, 0)}f}"
    shown = shown.rstrip("0").rstrip(".") if "." in shown else shown
    return "0" if shown in ("-0", "") else shown


def with_units(words: str, units: str) -> str:
    """A number and its units, where it has any."""
    return f"{words}\u00a0{units}" if units else words


_UNITS = "a|cm|d|day|g|h|hPa|hr|Hz|J|K|kg|km|m|mg|min|mm|mol|N|nm|Pa|s|sr|um|W|yr"
_POWER = re.compile(rf"(?<![^\s./*])({_UNITS})\^?(-?[1-4])(?![^\s./*])")
_SPELT = {
    **dict.fromkeys(("degc", "deg_c", "celsius", "degree_celsius", "degrees_celsius", "degree_c", "degrees_c"), "°C"),
    **dict.fromkeys(("degree", "degrees", "deg"), "°"),
    "percent": "%",
}


def spelt_units(units: str) -> str:
    """Units as people write them: m s⁻¹ for `m s-1`, °C for `degree_Celsius`; others as they are."""
    whole = _SPELT.get(units.strip().lower().replace(" ", "_"))
    return whole or _POWER.sub(lambda found: found[1] + found[2].translate(_RAISED), units)


def answer(name: str, value: str, words: str) -> str:
    """One figure of a list of them: what it is, what it is here, and what to make of it."""
    return f"<div><dt>{text(name)}</dt><dd><strong>{text(value)}</strong> <span>{text(words)}</span></dd></div>"


def section(name: str, title: str, *parts: str) -> str:
    """A part of the page with its heading; the parts are HTML already."""
    body = "\n".join(filter(None, parts))
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{text(title)}</h2>\n{body}\n</section>'


def paragraph(words: str, kind: str = "") -> str:
    """One paragraph of plain text."""
    return f'<p class="{kind}">{text(words)}</p>' if kind else f"<p>{text(words)}</p>"


def items(lines: Iterable[str]) -> str:
    """A list of plain text."""
    return f"<ul>{''.join(f'<li>{text(line)}</li>' for line in lines)}</ul>"


def preformatted(words: str, label: str) -> str:
    """Something to copy."""
    return f'<pre tabindex="0" role="region" aria-label="{text(label)}"><code>{text(words)}</code></pre>'


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[object]], own: str | None = None) -> str:
    """A table of plain text; what is a number stands right. The row whose first cell is `own` is set apart."""
    rows = [list(row) for row in rows]
    numeric = [all(_is_number(row[i]) for row in rows) for i in range(len(head))]
    kinds = [' class="number"' if n else ' class="words"' for n in numeric]
    columns = zip(head, kinds, numeric, strict=True)
    first = "".join(f'<th scope="col"{kind if n else ""}>{text(name)}</th>' for name, kind, n in columns)
    lines = []
    for row in rows:
        cells = "".join(f"<td{k}>{text(c)}</td>" for c, k in zip(row[1:], kinds[1:], strict=True))
        mark = ' class="own"' if own is not None and row[0] == own else ""
        lines.append(f'<tr{mark}><th scope="row">{text(row[0])}</th>{cells}</tr>')
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}"><table>'
        f"<caption>{text(caption)}</caption><thead><tr>{first}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


_ONE = r"(>\u00a0)?-?[\d,.]+( × 10[⁻⁰¹²³⁴-⁹]+)?"
_NUMBER = re.compile(rf"{_ONE}( to {_ONE})?(\u00a0%)?( \({_ONE}\u00a0%\))?|–")


def _is_number(cell: object) -> bool:
    return _NUMBER.fullmatch(str(cell)) is not None


def figure(drawing: str, caption: str) -> str:
    """A drawing, HTML already, and what it says."""
    return f"<figure>{drawing}<figcaption>{text(caption)}</figcaption></figure>"
