"""What everyone's fills look like beside the truth: windows for `geodiff score --realism`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from geodiff.realism import Realism, judge, windows_of
from geodiff.score.league import LEAST_CASES
from geodiff.score.table import Column, aligned

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.diffusion.encoders import Encoder
    from geodiff.score.moments import Answer, Ground

    Windows = Mapping[str, Sequence[NDArray[np.float32]]]

__all__ = ["SIDE", "TRUTH", "as_table", "judged", "pictures_of"]

SIDE = 32
"""Pixels a side of a window; the least the texture encoder takes, so that middling gaps count."""
TRUTH = "truth"
_LEAST = 8


def pictures_of(ground: Ground, answers: Mapping[str, Answer]) -> dict[str, NDArray[np.float32]]:
    """Windows (window, row, column) of one place, hidden for the most part: the truth's, each value's, one draw's."""
    images = {TRUTH: ground.truth}
    for name, answer in answers.items():
        images[name] = np.where(ground.hidden, answer.value, ground.truth)
        if answer.draws is not None and len(answer.draws):
            images[f"{name}, one draw"] = np.where(ground.hidden, answer.draws[0], ground.truth)
    cut = [windows_of([i[band] for i in images.values()], hidden, SIDE) for band, hidden in enumerate(ground.hidden)]
    return {name: np.concatenate([own[place] for own in cut]) for place, name in enumerate(images)}


def judged(places: Sequence[Mapping[str, NDArray[np.float32]]], encoder: Encoder) -> list[Realism]:
    """Every method that answered every place, the nearest to the truth first; empty where too little was hidden."""
    if not places or sum(len(own[TRUTH]) for own in places) < _LEAST:
        return []
    truth = np.concatenate([own[TRUTH] for own in places])
    of = np.repeat(np.arange(len(places)), [len(own[TRUTH]) for own in places])
    names = [name for name in places[0] if name != TRUTH and all(name in own for own in places)]
    found = [judge(name, np.concatenate([own[name] for own in places]), truth, encoder, places=of) for name in names]
    return sorted(found, key=lambda one: one.frechet[0])


def as_table(rows: Sequence[Realism]) -> str:
    """Distances with their 95 % intervals, one line a method."""
    if not rows:
        return f"realism: too little was hidden; {_LEAST} windows of {SIDE} x {SIDE} pixels or more are needed"
    first = rows[0]
    gaps = f"{first.places} gap{'' if first.places == 1 else 's'}"
    lines = [
        f"realism on {first.patches} windows of {SIDE} x {SIDE} pixels in {gaps}, {first.encoder}; 95 % intervals",
        *aligned(_FIGURES, rows),
    ]
    if first.places < LEAST_CASES:
        lines.append(f"note: intervals of {gaps} hold less than they claim; raise --trials, or score a larger raster")
    return "\n".join(lines)


_FIGURES = (
    Column("method", 0, lambda row: row.name, left=True),
    Column("Frechet", 0, lambda row: _figure(*row.frechet)),
    Column("kernel x 1000", 4, lambda row: _figure(*row.kernel)),
    Column("precision", 2, lambda row: f"{row.precision[0]:.2f}"),
    Column("recall", 3, lambda row: f"{row.recall[0]:.2f}"),
    Column("perceptual", 1, lambda row: f"{row.perceptual[0]:.3f}"),
)
"""Of `Realism`."""


def _figure(found: float, low: float, high: float) -> str:
    return f"{found:.4g} (-)" if math.isnan(low) else f"{found:.4g} ({low:.3g} to {high:.3g})"
