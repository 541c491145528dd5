"""HTML by small functions, each of which escapes what it is given: names in metadata are other people's words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

__all__ = ["as_script_json", "figure", "items", "paragraph", "preformatted", "section", "table", "text"]


def text(value: object) -> str:
    """Any value as text in HTML, quotes escaped as well."""
    return escape(str(value), quote=True)


def as_script_json(value: Any) -> str:
    """JSON that may stand inside a script element, whatever its strings hold."""
    plain = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return plain.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


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


_NUMBER = re.compile(r"-?[\d,.]+(e-?\d+)?(\u00a0%)?( \(-?[\d.]+\u00a0%\))?|–")


def _is_number(cell: object) -> bool:
    return _NUMBER.fullmatch(str(cell)) is not None


def figure(drawing: str, caption: str) -> str:
    """A drawing, HTML already, and what it says."""
    return f"<figure>{drawing}<figcaption>{text(caption)}</figcaption></figure>"
