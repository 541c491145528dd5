"""Reseau marks: small dark spots on a grid that was etched into the camera.

Single spots tell little, for a scene has dark spots of its own. The grid tells much: a few clear marks fix it, and it
then says where the weak ones lie, those in shadow too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from geodiff.faults.measures import Frame, Plane

__all__ = ["find_marks"]

MARK = 7
"""Largest width of a mark, in pixels."""
SPACING = (14, 128)
"""Least and largest distance between neighbours on a grid, in pixels."""
FEWEST = 10
"""Fewest marks that make a grid."""
REACH = 3.0
"""A mark lies within so many pixels of where the grid says."""
CELL = 14
"""Of the spots of the scene, one for each square of so many pixels is looked at, the clearest first."""
CLEAR = 2.5
"""A spot that is darker than its surroundings by this many times what is usual around it is seen."""
SEEN = 0.6
"""A grid is believed when so many of its nodes are seen,"""
CHANCE = 3.0
"""so many times as many as the same grid shows where it is moved to other places of its cell."""
TURNS = 4
"""Candidates of each axis of a grid."""
SHIFTS = 6
"""The grid is moved by every sixth of its axes."""
ALIKE = 0.2
"""A pixel belongs to marks when so many of them have it."""


@dataclass(frozen=True, slots=True)
class _Spots:
    """What of a frame could be marks."""

    level: Frame
    """(row, column): mean of the 3 x 3 around each pixel."""
    ring: Frame
    """(row, column): the third darkest such mean of the eight around it, a mark's width away."""
    clear: Frame
    """(row, column): darkness against the ring over what is usual around; 0 where missing."""
    place: Frame
    """(spot, 2): row and column of the clearest spots, clearest first."""


@dataclass(frozen=True, slots=True)
class _Grid:
    """Nodes of a grid inside a frame."""

    node: Frame
    """(node, 2): row and column where the grid says."""
    number: NDArray[np.intp]
    """(node, 2): steps from the first node along the grid's axes."""
    seen: Plane
    """(node,): whether a spot is there."""
    shows: Plane
    """(node,): whether one would be seen there: the surroundings are brighter than marks are."""
    place: Frame
    """(node, 2): where the spot is; else the darkest place within reach, the node itself where that is no darker."""
    chance: float = 1.0
    """Share of nodes that would be seen where there is no grid."""

    @property
    def share(self) -> float:
        """Nodes that are seen, of those that would be."""
        return float((self.seen & self.shows).sum() / max(self.shows.sum(), 1))

    @property
    def evidence(self) -> float:
        """Logarithm of how much likelier what is seen is with the grid than by chance."""
        share, count = np.clip(self.share, 0.01, 0.99), int(self.shows.sum())
        hits = self.share * count
        ratio = hits * np.log(share / self.chance) + (count - hits) * np.log((1 - share) / (1 - self.chance))
        return float(ratio)


def find_marks(frame: Frame, known: Plane) -> Plane:
    """Marks at the nodes of the grid that most nodes speak for; none where no grid is believed.

    What is flagged is a pixel wider than a mark, because its rim is soft. A node between seen ones that shows nothing
    is flagged with the usual width of the others: what it hides is lost all the same.
    """
    none = np.zeros(frame.shape, bool)
    if min(frame.shape) < 3 * SPACING[0] or not known.any():
        return none
    spots = _spots(frame, known)
    grids = [grid for basis in _bases(spots.place) for grid in _grids(spots, basis)]
    best = max(grids, key=lambda grid: grid.evidence, default=None)
    return none if best is None else _painted(frame, best, known)


def _spots(frame: Frame, known: Plane) -> _Spots:
    from scipy import ndimage

    shown = np.where(known, frame, np.median(frame[known]))
    mean = ndimage.uniform_filter(shown, 3, mode="nearest")
    away, diagonal = MARK // 2 + 2, MARK // 2 + 1
    steps = [(r * away, 0) for r in (-1, 1)] + [(0, c * away) for c in (-1, 1)]
    steps += [(r * diagonal, c * diagonal) for r in (-1, 1) for c in (-1, 1)]
    wide = np.pad(mean, away, mode="edge")
    rows, columns = frame.shape
    around = np.stack([wide[away + r : away + r + rows, away + c : away + c + columns] for r, c in steps])
    ring = np.partition(around, 2, axis=0)[2]
    usual = ndimage.uniform_filter(np.abs(ring - mean), 33, mode="reflect")
    clear = np.where(known, (ring - mean) / np.maximum(usual, max(1e-3 * float(np.ptp(shown)), 1e-12)), 0.0)
    peak = (clear == ndimage.maximum_filter(clear, MARK)) & (clear > CLEAR)
    order = np.argsort(-clear[peak], kind="stable")[: max(frame.size // CELL**2, 4 * FEWEST)]
    return _Spots(mean, ring, clear, np.argwhere(peak)[order].astype(np.float64))


def _bases(place: Frame) -> Iterator[Frame]:
    """Candidate axes of a grid, (2, 2): the step from node to node along a row, and to the next row.

    They are the commonest steps between spots. The step to the next row may lean, as where rows are staggered.
    """
    from scipy import ndimage
    from scipy.spatial import cKDTree

    if len(place) < FEWEST:
        return
    reach = SPACING[1]
    pairs = cKDTree(place).query_pairs(reach, output_type="ndarray")
    step = place[pairs[:, 1]] - place[pairs[:, 0]]
    step = np.concatenate([step, -step])
    shape = (2 * reach + 1, 2 * reach + 1)
    cells = np.rint(step).astype(int) + reach
    counts = np.bincount(cells[:, 0] * shape[1] + cells[:, 1], minlength=shape[0] * shape[1]).reshape(shape)
    votes = ndimage.uniform_filter(counts.astype(np.float64), 5, mode="constant") * 25
    usual = ndimage.gaussian_filter(votes, 12, mode="nearest")  # pairs are rarer the longer they are
    down, right = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    excess = np.where(np.hypot(down, right) >= SPACING[0], (votes - usual) / np.sqrt(usual + 1), -np.inf)
    along = _highest(np.where((right > 0) & (np.abs(down) <= 0.15 * right), excess, -np.inf))
    across = _highest(np.where((down > 0) & (np.abs(right) <= 0.6 * down), excess, -np.inf))
    for one in along:
        for other in across:
            yield np.array([_centred(step, one - reach), _centred(step, other - reach)])


def _highest(plane: Frame) -> NDArray[np.intp]:
    """(candidate, 2): places of the highest peaks."""
    from scipy import ndimage

    peak = (plane == ndimage.maximum_filter(plane, 7)) & (plane > 0)
    place = np.argwhere(peak)
    return place[np.argsort(-plane[peak], kind="stable")[:TURNS]]


def _centred(step: Frame, near: NDArray[np.intp]) -> Frame:
    """The mean of the steps around a peak."""
    close = np.abs(step - near).max(axis=1) <= 2
    return np.asarray(step[close].mean(axis=0) if close.any() else near.astype(np.float64))


def _grids(spots: _Spots, basis: Frame) -> Iterator[_Grid]:
    """The believed grids with these axes: from the largest chain of neighbours, fitted, and fitted again."""
    number, place = _chain(spots.place, basis)
    for _ in range(3):
        if len(place) < FEWEST or min(len(np.unique(axis)) for axis in number.T) < 3:
            return
        grid = _looked_up(spots, *_nodes(_fit(number, place), number, spots.clear.shape))
        number, place = grid.number[grid.seen], grid.place[grid.seen]
    grid = replace(grid, chance=_by_chance(spots, grid, basis))
    if grid.seen.sum() >= FEWEST and grid.share >= max(SEEN, CHANCE * grid.chance):
        yield grid


def _chain(place: Frame, basis: Frame) -> tuple[NDArray[np.intp], Frame]:
    """Node numbers (spot, 2) and places of the largest set of spots that steps of the axes join."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order, connected_components
    from scipy.spatial import cKDTree

    tree, count = cKDTree(place), len(place)
    links = []
    for axis, step in enumerate(basis):
        far, other = tree.query(place + step, distance_upper_bound=REACH)
        here = np.flatnonzero(np.isfinite(far))
        links.append(np.column_stack([here, other[here], np.full(here.size, axis)]))
    link = np.concatenate(links)
    graph = coo_array((np.ones(len(link)), (link[:, 0], link[:, 1])), shape=(count, count)).tocsr()
    _, label = connected_components(graph, directed=False)
    largest = np.argmax(np.bincount(label))
    members = np.flatnonzero(label == largest)
    order, before = breadth_first_order(graph + graph.T, members[0], directed=False)
    unit = {(int(a), int(b)): axis for a, b, axis in link}
    number = np.zeros((count, 2), np.intp)
    for spot in order[1:]:
        parent = int(before[spot])
        step = np.zeros(2, np.intp)
        if (parent, int(spot)) in unit:
            step[unit[parent, int(spot)]] = 1
        else:
            step[unit[int(spot), parent]] = -1
        number[spot] = number[parent] + step
    return number[members], place[members]


def _terms(index: NDArray[Any], order: int) -> Frame:
    """Powers of node numbers up to an order."""
    row, column = (index[:, axis].astype(np.float64) for axis in (0, 1))
    return np.stack([row**i * column**j for i in range(order + 1) for j in range(order + 1 - i)], axis=1)


@dataclass(frozen=True, slots=True)
class _Bend:
    """Places of nodes as polynomials of their numbers: optics and scanning beams bend grids."""

    order: int
    factors: Frame

    def __call__(self, index: NDArray[Any]) -> Frame:
        """(node, 2)."""
        return np.asarray(_terms(index, self.order) @ self.factors)


def _fit(index: NDArray[np.intp], place: Frame) -> _Bend:
    """Least squares, once more without what lies far off; straight unless many nodes ask for more."""
    order = 1 if len(index) < 40 else 2 if len(index) < 120 else 3
    keep = np.ones(len(index), bool)
    for _ in range(3):
        factors = np.asarray(np.linalg.lstsq(_terms(index[keep], order), place[keep], rcond=None)[0], np.float64)
        away = np.linalg.norm(_terms(index, order) @ factors - place, axis=1)
        keep = away <= max(REACH / 2, 2.5 * float(np.median(away[keep])))
    return _Bend(order, factors)


def _nodes(bend: _Bend, index: NDArray[np.intp], shape: tuple[int, int]) -> tuple[NDArray[np.intp], Frame]:
    """All nodes that fall into the frame, up to two beyond those that are seen."""
    low, high = index.min(axis=0) - 2, index.max(axis=0) + 2
    every = np.stack(np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(low, high, strict=True)), indexing="ij"), -1)
    number = every.reshape(-1, 2)
    where = bend(number)
    inside = ((where >= 2) & (where <= np.array(shape) - 3)).all(axis=1)
    return number[inside], where[inside]


def _looked_up(spots: _Spots, number: NDArray[np.intp], node: Frame) -> _Grid:
    """What the frame shows at the nodes of a grid."""
    most, where = _best(spots.clear, node)
    seen = np.asarray(most > CLEAR)
    cell = np.rint(where).astype(int)
    level, ring = spots.level[*cell.T], spots.ring[*cell.T]
    usual = float(np.median((ring - level)[seen])) if seen.any() else 0.0
    shows = ring > (np.median(level[seen]) if seen.any() else -np.inf) + 0.25 * usual
    depth, dark = _best(-spots.level, node)
    darker = spots.level[*np.rint(node).astype(int).T] + depth > 0.05 * usual
    place = np.where(seen[:, None], where, np.where(darker[:, None], dark, node))
    return _Grid(node, number, seen, shows, place)


def _best(plane: Frame, node: Frame) -> tuple[Frame, Frame]:
    """The highest value within reach of each node, and where; the nearest of equals."""
    reach = int(REACH)
    square = np.argwhere(np.ones((2 * reach + 1, 2 * reach + 1), bool)) - reach
    away = (square**2).sum(axis=1)
    steps = square[np.argsort(away, kind="stable")][: int((away <= 10).sum())]
    padded = np.pad(plane, reach + 1, constant_values=-np.inf)
    cell = np.rint(node).astype(int)
    around = padded[cell[:, 0, None] + steps[:, 0] + reach + 1, cell[:, 1, None] + steps[:, 1] + reach + 1]
    best = np.argmax(around, axis=1)
    return around[np.arange(len(cell)), best], (cell + steps[best]).astype(np.float64)


def _by_chance(spots: _Spots, grid: _Grid, basis: Frame) -> float:
    """Share of nodes that are seen where the grid is moved within its cell, on average; from 1 to 99 in a hundred."""
    shares = []
    for i, j in np.ndindex(SHIFTS, SHIFTS):
        moved = grid.node + (i / SHIFTS) * basis[0] + (j / SHIFTS) * basis[1]
        inside = ((moved >= 2) & (moved <= np.array(spots.clear.shape) - 3)).all(axis=1)
        if (i or j) and inside.any():
            shares.append(float((_best(spots.clear, moved[inside])[0] > CLEAR).mean()))
    return float(np.clip(np.mean(shares), 0.01, 0.99))


def _believable(grid: _Grid) -> Plane:
    """(node,): those that are seen beside a seen one, and those not seen that lie in a row or column between two."""
    first = grid.number.min(axis=0)
    plane = np.zeros(tuple(grid.number.max(axis=0) - first + 3), bool)
    row, column = (grid.number - first + 1).T
    plane[row, column] = grid.seen
    beside = plane[row - 1, column] | plane[row + 1, column] | plane[row, column - 1] | plane[row, column + 1]
    between = np.zeros(plane.shape, bool)
    for axis in (0, 1):
        before = np.maximum.accumulate(plane, axis=axis)
        after = np.flip(np.maximum.accumulate(np.flip(plane, axis), axis=axis), axis)
        between |= before & after
    return np.asarray(np.where(grid.seen, beside, between[row, column]))


def _painted(frame: Frame, grid: _Grid, known: Plane) -> Plane:
    """The marks: at a seen node what is nearer to its middle than to its surroundings; elsewhere the usual square."""
    from scipy import ndimage

    half, chosen = MARK // 2 + 1, _believable(grid)
    shown = np.pad(np.where(known, frame, np.nan), half, constant_values=np.nan)
    cells = np.rint(grid.place[grid.seen & chosen]).astype(int)
    places = [np.s_[row : row + 2 * half + 1, column : column + 2 * half + 1] for row, column in cells]
    parts = np.array([_mark(shown[here]) for here in places])
    parts &= parts.mean(axis=0) >= ALIKE  # marks are alike: what hangs on one of them is the scene's
    marks = np.zeros(shown.shape, bool)
    for here, part in zip(places, parts, strict=True):
        marks[here] |= part
    marks = np.asarray(ndimage.binary_dilation(marks, np.ones((3, 3), bool)))
    side = round(float(np.sqrt(np.median(parts.sum(axis=(1, 2))))))
    aside = np.array(ndimage.center_of_mass(parts.mean(axis=0))) - half  # an even width has no middle pixel
    for place in grid.place[~grid.seen & chosen]:
        row, column = np.rint(place + aside - (side - 1) / 2).astype(int) + half
        marks[max(row, 0) : row + side, max(column, 0) : column + side] = True
    return np.asarray(marks[half:-half, half:-half] & known)


def _mark(patch: Frame) -> Plane:
    """The part around the middle of a patch that is darker than halfway to the patch's rim."""
    from scipy import ndimage

    middle = patch.shape[0] // 2
    rim = np.concatenate([patch[0], patch[-1], patch[1:-1, 0], patch[1:-1, -1]])
    core = patch[middle - 1 : middle + 2, middle - 1 : middle + 2]
    level = (np.nanmin(core) + np.nanpercentile(rim, 25)) / 2 if np.isfinite(rim).any() else np.inf
    labels, _ = ndimage.label(patch <= level)
    darkest = np.unravel_index(np.nanargmin(core), core.shape)
    number = labels[middle - 1 + darkest[0], middle - 1 + darkest[1]]
    return np.asarray((labels == number) & (number > 0))
