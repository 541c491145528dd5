"""The page's plots, drawn as SVG whose colours follow the page, dark or light."""

from __future__ import annotations

from collections.abc import Sequence

from geodiff.report.markup import text

__all__ = ["coverage_plot", "pit_plot"]

_LEFT, _TOP, _SIDE = 50, 26, 240
"""Margins that hold the words beside and above the axes, and the side of a plot; both stand level side by side."""


def coverage_plot(pairs: Sequence[Sequence[float]], label: str) -> str:
    """What intervals should hold against what they held, as shares; the diagonal is perfect.

    Parameters
    ----------
    pairs : (nominal level, share held), ascending.
    label : what a screen reader says.
    """

    def at(nominal: float, held: float) -> tuple[float, float]:
        return _LEFT + _SIDE * nominal, _TOP + _SIDE * (1 - held)

    points = [at(0, 0), *(at(p, q) for p, q in pairs), at(1, 1)]
    curve = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points[1:-1])
    (x0, y0), (x1, y1) = at(0, 0), at(1, 1)
    parts = [
        _frame(_SIDE),
        f'<line class="ideal" x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}"/>',
        f'<polyline class="curve" points="{curve}"/>{dots}',
        *(_tick_below(_LEFT + _SIDE * s, _SIDE, f"{100 * s:.0f} %") for s in (0, 0.5, 1)),
        *(_tick_left(_TOP + _SIDE * (1 - s), f"{100 * s:.0f} %") for s in (0, 0.5, 1)),
    ]
    return _svg(_SIDE, label, parts, "should hold", "held")


def pit_plot(counts: Sequence[int], label: str) -> str:
    """Histogram of where the truth fell in the stated distribution; level if the errors are right.

    Parameters
    ----------
    counts : values in equal steps of probability from 0 to 1.
    label : what a screen reader says.
    """
    even = sum(counts) / len(counts)
    most = max(*counts, even * 1.5, 1.0) * 1.04
    width = _SIDE / len(counts)
    bars = []
    for i, count in enumerate(counts):
        tall = _SIDE * count / most
        x, y = _LEFT + i * width + 0.75, _TOP + _SIDE - tall
        bars.append(f'<rect class="bar" x="{x:.1f}" y="{y:.1f}" width="{width - 1.5:.1f}" height="{tall:.1f}"/>')
    level = _TOP + _SIDE * (1 - even / most)
    parts = [
        *bars,
        f'<line class="ideal" x1="{_LEFT}" y1="{level:.1f}" x2="{_LEFT + _SIDE}" y2="{level:.1f}"/>',
        _frame(_SIDE),
        *(_tick_below(_LEFT + _SIDE * s, _SIDE, f"{s:g}") for s in (0, 0.5, 1)),
        _tick_left(level, "even"),
        _tick_left(_TOP + _SIDE, "0"),
    ]
    return _svg(_SIDE, label, parts, "place in the stated distribution", "values")


def _frame(height: int) -> str:
    return f'<path class="axis" d="M{_LEFT} {_TOP}V{_TOP + height}H{_LEFT + _SIDE}"/>'


def _tick_below(x: float, height: int, words: str) -> str:
    return f'<text x="{x:.1f}" y="{_TOP + height + 16}" text-anchor="middle">{text(words)}</text>'


def _tick_left(y: float, words: str) -> str:
    return f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text(words)}</text>'


def _svg(height: int, label: str, parts: Sequence[str], below: str, beside: str) -> str:
    wide, tall = _LEFT + _SIDE + 24, _TOP + height + 38
    titles = (
        f'<text x="{_LEFT + _SIDE / 2}" y="{tall - 4}" text-anchor="middle">{text(below)}</text>'
        f'<text x="{_LEFT}" y="{_TOP - 12}" text-anchor="middle">{text(beside)}</text>'
    )
    return f'<svg viewBox="0 0 {wide} {tall}" role="img" aria-label="{text(label)}">{"".join(parts)}{titles}</svg>'
