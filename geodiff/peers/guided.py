"""RePaint and DPS as peers: our own denoiser, told nothing of the gap, steered by the known pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from geodiff.peers import Guess, Plane

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DpsPeer", "RePaintPeer"]

_MARGIN, _MULTIPLE = 16, 16


@dataclass(frozen=True, slots=True)
class _Box:
    """The part of a plane that is sampled: the gap and some known pixels around it."""

    rows: slice
    columns: slice
    level: float
    scale: float


def _box(plane: Plane) -> _Box:
    """Around what is wanted, sides a multiple of what the network takes where the plane is large enough."""
    spans = []
    for axis, length in enumerate(plane.wanted.shape):
        hit = np.flatnonzero(plane.wanted.any(axis=1 - axis))
        first, stop = max(int(hit[0]) - _MARGIN, 0), min(int(hit[-1]) + 1 + _MARGIN, length)
        size = min(-(-(stop - first) // _MULTIPLE) * _MULTIPLE, length // _MULTIPLE * _MULTIPLE)
        first = min(first, length - size)
        spans.append(slice(first, first + size))
    seen = plane.known[spans[0], spans[1]]
    values = plane.values[spans[0], spans[1]][seen] if seen.any() else np.zeros(1, np.float32)
    return _Box(spans[0], spans[1], float(values.mean()), max(float(values.std()), 0.03))


def _sampled(plane: Plane, draws: int, seed: int, draw: Callable[..., Any]) -> NDArray[np.float32]:
    """Independent draws (draw, row, column); `draw` as `repaint` and `dps` are once their settings are given."""
    from geodiff.diffusion.guided import draws_of

    box = _box(plane)
    part = (box.rows, box.columns)
    values = np.where(plane.known[part], (plane.values[part] - box.level) / box.scale, 0).astype(np.float32)
    answers = draws_of(draw, values, plane.known[part], box.scale, count=draws, seed=seed)
    drawn = np.repeat(np.where(plane.known, plane.values, np.float32(box.level))[None], draws, axis=0)
    drawn[(slice(None), *part)] = np.clip(answers, -50, 50) * box.scale + box.level
    return drawn.astype(np.float32)


def _guess(drawn: NDArray[np.float32], calls: int) -> Guess:
    """The mean of the draws as value; its spread as standard error from four draws on."""
    error = None if len(drawn) < 4 else np.asarray(drawn.std(axis=0, ddof=1), np.float32)
    return Guess(np.asarray(drawn.mean(axis=0), np.float32), error, drawn, calls)


@dataclass(frozen=True, slots=True)
class RePaintPeer:
    """Known pixels are noised and put in at every step, and stretches of steps are walked again and again."""

    name: ClassVar[str] = "repaint"
    module: ClassVar[str] = "torch"
    settings: ClassVar[Sequence[Mapping[str, Any]]] = ({"steps": 250, "jump": 10, "resamplings": 10},)

    def fill(self, plane: Plane, setting: Mapping[str, Any], *, draws: int, seed: int) -> Guess:
        from geodiff.diffusion.guided import RePaint, repaint

        chosen = RePaint(**setting)

        def draw(denoise: Any, observed: Any, known: Any, generator: Any) -> Any:
            return repaint(denoise, observed, known, chosen, generator)

        return _guess(_sampled(plane, max(draws, 1), seed, draw), chosen.calls)


@dataclass(frozen=True, slots=True)
class DpsPeer:
    """Every step follows the gradient of the misfit at the known pixels."""

    name: ClassVar[str] = "dps"
    module: ClassVar[str] = "torch"
    settings: ClassVar[Sequence[Mapping[str, Any]]] = ({"steps": 1000, "zeta": 1.0},)

    def fill(self, plane: Plane, setting: Mapping[str, Any], *, draws: int, seed: int) -> Guess:
        from geodiff.diffusion.guided import Dps, dps

        chosen = Dps(**setting)

        def draw(denoise: Any, observed: Any, known: Any, generator: Any) -> Any:
            return dps(denoise, observed, known, chosen, generator)

        return _guess(_sampled(plane, max(draws, 1), seed, draw), chosen.calls)
