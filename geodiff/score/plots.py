"""Pictures of a league: reliability, spectrum by octave, error against distance to data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.peers.null import NAME as NULL
from geodiff.score.league import external
from geodiff.score.moments import FIELDS, LEVELS, Outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_plots"]

_OCTAVES = ("2-4 px", "4-8 px", "8-16 px")


def draw_plots(outcomes: Sequence[Outcome], folder: Path) -> list[Path]:
    """Write the three pictures; returns their paths."""
    drawers = {
        "reliability.png": _reliability,
        "spectrum.png": _spectrum,
        "error-distance.png": _error_by_distance,
    }
    paths = []
    for name, drawer in drawers.items():
        figure, axes = _figure()
        drawer(axes, outcomes)
        axes.legend(fontsize=7, frameon=False)
        figure.savefig(folder / name, dpi=120)
        paths.append(folder / name)
    return paths


def _figure() -> tuple[Any, Axes]:
    """A figure without pyplot, whose backend belongs to the caller."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _common(outcomes: Sequence[Outcome]) -> list[str]:
    """Methods that answered every case."""
    names = dict.fromkeys(name for o in outcomes for name in o.methods)
    return [n for n in names if all(n in o.methods for o in outcomes)]


def _style(name: str) -> dict[str, Any]:
    return {"linestyle": "--" if external(name) else "-", "marker": "o", "markersize": 3, "linewidth": 1}


def _reliability(axes: Axes, outcomes: Sequence[Outcome]) -> None:
    nominal = [float(level) / 100 for level in LEVELS]
    axes.plot([0.4, 1], [0.4, 1], color="0.7", linewidth=1, label="perfect")
    for name in _common(outcomes):
        total = np.sum([o.methods[name].sums[0] for o in outcomes], axis=0)
        held = [total[FIELDS.index(f"inside{level}")] / total[0] for level in LEVELS]
        if np.isfinite(held).all():
            axes.plot(nominal, held, label=name, **_style(name))
    axes.set(xlabel="nominal coverage", ylabel="share of hidden values inside", title="Reliability")


def _spectrum(axes: Axes, outcomes: Sequence[Outcome]) -> None:
    truth = np.sum([o.truth_power for o in outcomes], axis=0)
    axes.axhline(0, color="0.7", linewidth=1, label="truth")
    for name in _common(outcomes):
        own = [o.methods[name] for o in outcomes]
        if name != NULL:
            _octave_line(axes, np.sum([m.value_power for m in own], axis=0), truth, f"{name}, value", _style(name))
        drawn = [m.member_power for m in own if m.member_power is not None]
        if len(drawn) == len(own):
            style = _style(name) | {"linewidth": 2, "marker": "s"}
            _octave_line(axes, np.sum(drawn, axis=0), truth, f"{name}, one draw", style)
    axes.set_xticks(range(len(_OCTAVES)), _OCTAVES)
    axes.set(
        xlabel="wavelength", ylabel="power against truth (dB)", title="Radial spectrum inside wholly hidden squares"
    )


def _octave_line(axes: Axes, power: Any, truth: Any, label: str, style: dict[str, Any]) -> None:
    with np.errstate(divide="ignore", invalid="ignore"):
        decibels = 10 * np.log10(power / truth)
    if np.isfinite(decibels).any():
        axes.plot(range(len(decibels)), np.clip(decibels, -40, 20), label=label, **style)


def _error_by_distance(axes: Axes, outcomes: Sequence[Outcome]) -> None:
    for name in _common(outcomes):
        square, count = np.sum([o.methods[name].by_distance for o in outcomes], axis=0)
        seen = count >= 20
        if name != NULL and seen.any():
            place = 2 ** ((np.arange(len(count)) + 0.5) / 2)
            axes.plot(place[seen], np.sqrt(square[seen] / count[seen]), label=name, **_style(name))
    axes.set_xscale("log", base=2)
    axes.set(xlabel="distance to data (pixels)", ylabel="RMSE", title="Error against distance")
