"""Reseau marks: small dark spots on a grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.faults.measures import roughness

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.faults.measures import Frame, Plane

__all__ = ["find_marks"]

MARK = 7
"""Largest width of a mark, in pixels."""
DARK = 3.0
"""A mark is darker than the darkest pixel of the ring around it by this many typical differences."""
FEWEST = 12
"""Fewest marks that make a grid."""


def find_marks(frame: Frame, known: Plane) -> Plane:
    """Small dark spots that have neighbours of their kind at one common distance along both axes of a grid.

    The spots are taken by depth, more and more of them, until a grid shows: the scene has dark spots of its own. What
    is flagged is a pixel wider than the spot, because the mark's rim is soft.
    """
    from scipy import ndimage

    depth = _darker_than_ring(frame, known)
    labels, count = ndimage.label(depth > DARK * roughness(frame, known), np.ones((3, 3), bool))
    if count < FEWEST:
        return np.zeros(frame.shape, bool)
    numbers = np.arange(1, count + 1)
    centres = np.array(ndimage.center_of_mass(depth, labels, numbers))
    deepest = np.argsort(-ndimage.maximum(depth, labels, numbers), kind="stable")
    best = deepest[:0]
    for taken in (deepest[: 64 << step] for step in range(6)):
        found = taken[_on_grid(centres[taken], frame.shape)]
        best = max(best, found, key=len)
    marks = np.zeros(count + 1, bool)
    marks[best + 1] = True
    return np.asarray(ndimage.binary_dilation(marks[labels], np.ones((3, 3), bool)) & known)


def _darker_than_ring(frame: Frame, known: Plane) -> Frame:
    """How much darker a known pixel is than the darkest of the square ring around it, a mark's width away; 0 if not."""
    from scipy import ndimage

    away = MARK // 2 + 1
    side = 2 * away + 1
    shown = np.pad(np.where(known, frame, np.inf), away, constant_values=np.inf)
    ring = np.full(frame.shape, np.inf)
    for axis in (0, 1):
        line = np.moveaxis(ndimage.minimum_filter1d(shown, side, axis=1 - axis, mode="nearest"), axis, 0)
        target = np.moveaxis(ring, axis, 0)
        inner = line[:, away:-away]
        np.minimum(target, np.minimum(inner[: len(target)], inner[2 * away :]), out=target)
    depth = np.where(known & np.isfinite(ring), ring - frame, 0.0)
    return np.maximum(depth, 0.0)


def _on_grid(centres: Frame, shape: tuple[int, int]) -> Plane:
    """(spot,) bool: spots with grid neighbours on both axes, if together they cover the frame as a grid would.

    A grid is believed when at least half of its nodes are there, and five times as many as spots strewn at random
    would give.
    """
    from scipy.spatial import cKDTree

    tree = cKDTree(centres)
    best = np.zeros(len(centres), bool)
    for spacing in _spacings(centres, tree):
        steps = [np.array(step, float) for step in ((spacing, 0), (-spacing, 0), (0, spacing), (0, -spacing))]
        reach = float(np.clip(0.1 * spacing, 2.9, 4.0))
        found = [tree.query(centres + step, distance_upper_bound=reach) for step in steps]
        near = np.array([np.isfinite(distance) for distance, _ in found])
        on_grid = (near[0] | near[1]) & (near[2] | near[3]) & (near.sum(axis=0) >= 3)
        chance = 1.0 - np.exp(-np.pi * reach**2 * len(centres) / (shape[0] * shape[1]))
        expected = len(centres) * (4 * chance**3 * (1 - chance) + chance**4)
        fewest = max(FEWEST, 5 * expected, 0.5 * shape[0] * shape[1] / spacing**2)
        if on_grid.sum() > max(fewest, best.sum()):
            best = _with_edges(on_grid, near, np.array([index for _, index in found]))
    return best


def _with_edges(on_grid: Plane, near: Plane, neighbour: NDArray[np.intp]) -> Plane:
    """A grid and the spots at its edges and corners, which have but two neighbours on it; (4, spot) arrays by side."""
    for _ in range(8):
        beside = np.append(on_grid, False)[neighbour] & near
        grown = on_grid | (beside.sum(axis=0) >= 2)
        if np.array_equal(grown, on_grid):
            break
        on_grid = grown
    return on_grid


def _spacings(centres: Frame, tree: Any) -> list[float]:
    """The commonest distances along the axes between spots, as candidates of the grid's spacing."""
    reach = 128.0
    pairs = tree.query_pairs(reach, output_type="ndarray") if len(centres) <= 4000 else np.zeros((0, 2), int)
    step = np.abs(centres[pairs[:, 0]] - centres[pairs[:, 1]])
    along, aside = step.max(axis=1), step.min(axis=1)
    straight = along[(aside < 0.06 * along) & (along > 2 * MARK)]
    counts, edges = np.histogram(straight, bins=np.arange(2 * MARK, reach + 2))
    order = [i for i in np.argsort(-counts, kind="stable")[:4] if counts[i] >= FEWEST // 2]
    return [float(np.mean(straight[np.abs(straight - edges[i] - 0.5) < 2])) for i in order]
