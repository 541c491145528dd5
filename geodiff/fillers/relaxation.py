"""Fast harmonic fill: push-pull for a first guess, then a few multigrid cycles on Laplace's equation.

All of it is elementwise float32 arithmetic on stacks of planes, so a plane's result is bit-identical whatever else is
in the stack. Push-pull is Gortler et al. (1996); the coarse equations are the finite-volume ones of Wesseling (1992),
chapter 5, with Chebyshev-weighted Jacobi sweeps as smoother.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.fillers.masks import once_a_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Planes = NDArray[np.float32]

__all__ = ["push", "push_pull", "push_weights", "relaxed_fill"]

CYCLES = 3
"""V-cycles of `relaxed_fill`; each takes off three quarters of what is left, three leave 0.1 % of the RMSE."""
_SWEEPS = (1.39, 0.562)
"""Jacobi weights: the inverse Chebyshev roots on [0.5, 2], the part of the spectrum that coarser grids cannot see."""
_DIRICHLET = np.float32(0.75)
"""A known neighbour is one pixel from a fine cell's centre but up to 1.5 from a coarse one's."""
_CHUNK = 1 << 16
"""Pixels relaxed at a time: what stays in a core's cache."""
_DEEPEST = 5
"""Grids of push-pull above the coarse fill."""
_FRAME_BLOCK = 4
_FRAME_REACH = 4
"""The frame of a patch is free in blocks of 4 pixels next to data, held to the coarse fill 4 blocks on."""


def relaxed_fill(values: Planes, known: NDArray[np.bool_], coarse: Planes, *, cycles: int = CYCLES) -> Planes:
    """Solve Laplace's equation on the missing pixels of each plane, with the known ones as boundary values.

    The frame is mirrored (no flux), but the farther a missing pixel on it lies from data (not at all within 4 pixels,
    wholly beyond 20), the more it is tied to `coarse` just outside. A plane in which nothing is known becomes `coarse`.

    Parameters
    ----------
    values : float32 (plane, row, column); anything finite where not known.
    known : bool, same shape.
    coarse : float32, same shape, finite: a low-resolution fill of what surrounds the patch.

    Returns
    -------
    float32, same shape; known pixels are returned bit for bit.
    """
    result = np.empty(values.shape, np.float32)
    step = max(1, _CHUNK // max(1, values.shape[1] * values.shape[2]))
    for start in range(0, len(values), step):
        part = slice(start, start + step)
        result[part] = _relax(values[part], known[part], coarse[part].astype(np.float32), cycles)
    return result


def _relax(values: Planes, known: NDArray[np.bool_], coarse: Planes, cycles: int) -> Planes:
    rows, columns = values.shape[1:]
    u = np.empty((len(values), rows + 2, columns + 2), np.float32)
    inner = u[:, 1:-1, 1:-1]
    held = _held(known)
    inner[...] = push(np.where(known, values, np.float32(0)), held.weights, coarse)
    np.copyto(inner, values, where=known)
    grid = _FineGrid(u, held.free, held.ties, coarse, held.steps)
    for _ in range(cycles):
        _cycle(grid, held.levels)
    np.copyto(inner, values, where=known)
    np.copyto(inner, coarse, where=~known.any(axis=(1, 2), keepdims=True))
    return inner


@dataclass(frozen=True, slots=True)
class _Held:
    """What of the equations the mask alone makes."""

    weights: Sequence[tuple[Planes, Planes]]
    """As `push_weights` has them."""
    free: Planes
    ties: Planes
    steps: tuple[Planes, ...]
    """Jacobi weights over the diagonal, 0 where known."""
    levels: Sequence[_Level]


@once_a_mask
def _held(known: NDArray[np.bool_]) -> _Held:
    free, ties = (~known).astype(np.float32), _frame_ties(known)
    steps = tuple(free * np.float32(weight / 4) for weight in _SWEEPS)
    levels = _levels(free, _frame_dirichlet(free, ties))
    return _Held(push_weights(known.astype(np.float32), _DEEPEST), free, ties, steps, levels)


# the finest level


@dataclass(frozen=True, slots=True)
class _FineGrid:
    """The unknowns and what holds them; the scratch planes spare an allocation, and its page faults, per operation."""

    u: Planes
    """With a ring of ghosts, which carry the frame's condition."""
    free: Planes
    ties: Planes
    coarse: Planes
    steps: tuple[Planes, ...]
    """Jacobi weights over the diagonal, 0 where known."""
    scratch: tuple[Planes, Planes] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scratch", (np.empty_like(self.free), np.empty_like(self.free)))


def _cycle(grid: _FineGrid, levels: Sequence[_Level]) -> None:
    """One V-cycle, in place."""
    inner = grid.u[:, 1:-1, 1:-1]
    for step in grid.steps:
        _sweep(grid, step)
    if levels:
        residual = _residual(grid)
        residual *= grid.free
        change = _prolong(_correction(_restrict(residual), levels), grid.free.shape[1:])
        inner += np.multiply(change, grid.free, out=grid.scratch[0])
        for step in grid.steps[::-1]:
            _sweep(grid, step)


def _sweep(grid: _FineGrid, step: Planes) -> None:
    change = _residual(grid)
    change *= step
    inner = grid.u[:, 1:-1, 1:-1]
    inner += change


def _residual(grid: _FineGrid) -> Planes:
    """Sum over the four neighbours of (neighbour - u), in scratch."""
    u, (total, own) = grid.u, grid.scratch
    _set_ghosts(u, grid.ties, grid.coarse)
    np.add(u[:, :-2, 1:-1], u[:, 2:, 1:-1], out=total)
    total += u[:, 1:-1, :-2]
    total += u[:, 1:-1, 2:]
    total -= np.multiply(u[:, 1:-1, 1:-1], np.float32(4), out=own)
    return total


_FRAME = ((np.s_[:, 0, 1:-1], np.s_[:, 0]), (np.s_[:, -1, 1:-1], np.s_[:, -1]),
          (np.s_[:, 1:-1, 0], np.s_[:, :, 0]), (np.s_[:, 1:-1, -1], np.s_[:, :, -1]))  # fmt: skip
"""Where each side's ghosts are in u, and its pixels in a plane."""


def _set_ghosts(u: Planes, ties: Planes, coarse: Planes) -> None:
    """Ghosts mirror the frame's pixels, drawn towards `coarse` by the ties."""
    inner = u[:, 1:-1, 1:-1]
    for ghost, side in _FRAME:
        u[ghost] = inner[side] + ties[side] * (coarse[side] - inner[side])


def _frame_ties(known: NDArray[np.bool_]) -> Planes:
    """How firmly each frame pixel is held to the coarse fill: 0 near data, 1 far from it."""
    near = _blocks_any(known, _FRAME_BLOCK)
    reach = np.zeros(near.shape, np.float32)
    for _ in range(_FRAME_REACH):
        near = _dilate(near)
        reach += near
    ties = (np.float32(1) - reach / np.float32(_FRAME_REACH)) ** 2
    rows, columns = known.shape[1:]
    return ties.repeat(_FRAME_BLOCK, 1).repeat(_FRAME_BLOCK, 2)[:, :rows, :columns]


def _blocks_any(known: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """Whether any pixel is True, by block: line by line, in a tenth of the time of a reduction over short axes."""
    rows, columns = known.shape[1:]
    padded = np.pad(known, ((0, 0), (0, -rows % size), (0, -columns % size)))
    lines = np.logical_or.reduce([padded[:, line::size] for line in range(size)])
    anywhere: NDArray[np.bool_] = np.logical_or.reduce([lines[:, :, line::size] for line in range(size)])
    return anywhere


def _dilate(blocks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Blocks and their eight neighbours."""
    wide = blocks.copy()
    wide[:, 1:] |= blocks[:, :-1]
    wide[:, :-1] |= blocks[:, 1:]
    full = wide.copy()
    full[:, :, 1:] |= wide[:, :, :-1]
    full[:, :, :-1] |= wide[:, :, 1:]
    return full


# coarser levels: equations for the error, in fluxes between cells


@dataclass(frozen=True, slots=True)
class _Level:
    """Equations of one coarse grid, each divided by its diagonal."""

    diagonal: Planes
    inverse: Planes
    """1 / diagonal; 0 where the cell holds nothing free, so that its error stays 0."""
    left: Planes
    """Weight of the left neighbour in the second and later columns; `right` in all but the last; and so on."""
    right: Planes
    up: Planes
    down: Planes


def _frame_dirichlet(free: Planes, ties: Planes) -> Planes:
    """How many fixed neighbours (known pixels, tied ghosts) each free pixel has."""
    count = np.zeros(free.shape, np.float32)
    count[:, 1:] += np.float32(1) - free[:, :-1]
    count[:, :-1] += np.float32(1) - free[:, 1:]
    count[:, :, 1:] += np.float32(1) - free[:, :, :-1]
    count[:, :, :-1] += np.float32(1) - free[:, :, 1:]
    for _, side in _FRAME:
        count[side] += ties[side]
    return count * free


def _levels(free: Planes, dirichlet: Planes) -> list[_Level]:
    """Coarse equations, finest first, down to a grid of at most 2 cells on its shorter side."""
    across, down = np.zeros_like(free), np.zeros_like(free)
    across[:, :, :-1] = free[:, :, 1:] * free[:, :, :-1]
    down[:, :-1] = free[:, 1:] * free[:, :-1]
    levels = []
    while min(free.shape[1:]) > 2:
        across, down = _faces(across), _faces(down.swapaxes(1, 2)).swapaxes(1, 2)
        free, dirichlet = _restrict(free), _restrict(dirichlet) * _DIRICHLET
        levels.append(_level(across, down, dirichlet))
    return levels


def _faces(across: Planes) -> Planes:
    """Fluxes across a coarse cell's right face: two fine faces, over twice the distance."""
    right = _even(across)[:, :, 1::2]
    return (right[:, ::2] + right[:, 1::2]) * np.float32(0.5)


def _level(across: Planes, down: Planes, dirichlet: Planes) -> _Level:
    diagonal = dirichlet + across + down
    diagonal[:, :, 1:] += across[:, :, :-1]
    diagonal[:, 1:] += down[:, :-1]
    inverse = np.zeros_like(diagonal)
    np.divide(np.float32(1), diagonal, out=inverse, where=diagonal > 0)
    return _Level(
        diagonal,
        inverse,
        left=across[:, :, :-1] * inverse[:, :, 1:],
        right=across[:, :, :-1] * inverse[:, :, :-1],
        up=down[:, :-1] * inverse[:, 1:],
        down=down[:, :-1] * inverse[:, :-1],
    )


def _correction(residual: Planes, levels: Sequence[_Level]) -> Planes:
    """The error that the residual asks for: a V-cycle from zero."""
    level, coarser = levels[0], levels[1:]
    aim = level.inverse * residual
    error = np.float32(_SWEEPS[0]) * aim
    for weight in _SWEEPS[1:] if coarser else _SWEEPS[1:] * 4:
        error += np.float32(weight) * _defect(level, aim, error)
    if coarser:
        left = _defect(level, aim, error)
        left *= level.diagonal
        change = _prolong(_correction(_restrict(left), coarser), error.shape[1:])
        error += np.where(level.inverse > 0, change, np.float32(0))
        for weight in _SWEEPS[::-1]:
            error += np.float32(weight) * _defect(level, aim, error)
    return error


def _defect(level: _Level, aim: Planes, error: Planes) -> Planes:
    """What the equations, divided by their diagonal, still lack."""
    defect = aim - error
    defect[:, :, 1:] += level.left * error[:, :, :-1]
    defect[:, :, :-1] += level.right * error[:, :, 1:]
    defect[:, 1:] += level.up * error[:, :-1]
    defect[:, :-1] += level.down * error[:, 1:]
    return defect


# between grids


def _even(planes: Planes) -> Planes:
    """Padded with zeros to even sides."""
    n, rows, columns = planes.shape
    if not (rows % 2 or columns % 2):
        return planes
    even = np.zeros((n, rows + rows % 2, columns + columns % 2), planes.dtype)  # np.pad costs more than a sweep
    even[:, :rows, :columns] = planes
    return even


def _restrict(planes: Planes) -> Planes:
    """Sums over blocks of 2 x 2."""
    padded = _even(planes)
    rows = padded[:, ::2] + padded[:, 1::2]
    return rows[:, :, ::2] + rows[:, :, 1::2]


def _prolong(planes: Planes, shape: tuple[int, ...]) -> Planes:
    """Bilinear interpolation from cell centres to those of cells half as large, cut to `shape`."""
    n, rows, columns = planes.shape
    wide = np.empty((n, rows, 2 * columns), np.float32)
    wide[:, :, ::2], wide[:, :, 1::2] = _between(planes, *_ALONG_COLUMNS)
    fine = np.empty((n, 2 * rows, 2 * columns), np.float32)
    fine[:, ::2], fine[:, 1::2] = _between(wide, *_ALONG_ROWS)
    return fine[:, : shape[0], : shape[1]]


_ALONG_ROWS = (np.s_[:, 1:], np.s_[:, :-1], np.s_[:, :1], np.s_[:, -1:])
_ALONG_COLUMNS = (np.s_[:, :, 1:], np.s_[:, :, :-1], np.s_[:, :, :1], np.s_[:, :, -1:])
"""All but the first, all but the last, the first, the last."""


def _between(planes: Planes, after: Any, before: Any, first: Any, last: Any) -> tuple[Planes, Planes]:
    """A quarter of the way from each cell to the one before and the one after; the ends are repeated."""
    quarter = planes * np.float32(0.25)
    low = planes - quarter
    high = low.copy()
    low[after] += quarter[before]
    low[first] += quarter[first]
    high[before] += quarter[after]
    high[last] += quarter[last]
    return low, high


def push_pull(values: Planes, weight: Planes) -> Planes:
    """Spread weighted values over a plane: averages on ever coarser grids, then interpolated back where weight lacks.

    Parameters
    ----------
    values, weight : float32 (plane, row, column); weight >= 0, values count where it is positive.

    Returns
    -------
    float32, same shape. Where the weight is at least 1 it is `values`, but for rounding; a plane without any weight
    becomes 0.
    """
    values = np.where(weight > 0, values, np.float32(0))
    return push(values, push_weights(weight, None))


def push_weights(weight: Planes, deepest: int | None) -> list[tuple[Planes, Planes]]:
    """Of each grid, finest first: the weight, at most 1, and the weights summed over blocks of 2 x 2, for the next."""
    weights, depth = [], 0
    total = weight
    while depth != deepest and max(total.shape[1:]) > 1:
        held = np.minimum(total, np.float32(1))
        total = _restrict(held)
        weights.append((held, total))
        depth += 1
    return [*weights, (np.minimum(total, np.float32(1)), total)]


def push(values: Planes, weights: Sequence[tuple[Planes, Planes]], coarse: Planes | None = None) -> Planes:
    """`push_pull` of values that are 0 where they do not count, with weights that are at hand.

    `coarse`, of the same shape, is what to approach far from any weight; without it, the mean.
    """
    (weight, total), coarser = weights[0], weights[1:]
    if not coarser:
        return _top(values, weight, coarse)
    mean = np.zeros_like(total)
    np.divide(_restrict(weight * values), total, out=mean, where=total > 0)
    below = None if coarse is None else _block_mean(coarse)
    spread = _prolong(push(mean, coarser, below), values.shape[1:])
    return spread + weight * (values - spread)


def _top(values: Planes, weight: Planes, coarse: Planes | None) -> Planes:
    """The coarsest grid: what is there, the rest from `coarse`."""
    base = np.float32(0) if coarse is None else coarse
    return base + weight * (values - base)


def _block_mean(planes: Planes) -> Planes:
    """Means over blocks of 2 x 2; odd sides are repeated at the end."""
    rows, columns = planes.shape[1:]
    even = _even(planes)
    if columns % 2:
        even[:, :rows, columns] = planes[:, :, -1]
    if rows % 2:
        even[:, rows] = even[:, rows - 1]
    return _restrict(even) * np.float32(0.25)
