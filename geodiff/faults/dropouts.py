"""Dropouts: lost lines, columns, stretches of them, blocks and packets, whatever the receiver put in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geodiff.faults.flat import flat_blocks, flat_lines
from geodiff.faults.garbage import noisy_blocks, noisy_lines, repeated_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from geodiff.faults.measures import Frame, Plane

    Search = Callable[[Frame, Plane], Plane]

__all__ = ["find_dropouts"]


def find_dropouts(frame: Frame, known: Plane) -> Plane:
    """What was lost on the way; what one search has found is missing for the next."""
    lost = np.zeros(frame.shape, bool)
    lines = (noisy_lines, flat_lines, _across(noisy_lines), _across(flat_lines))  # many lost rows are noise to columns
    for search in (*lines, flat_blocks, noisy_blocks, repeated_lines):  # lines first: they cut areas in two
        lost |= search(frame, known & ~lost)
    return lost


def _across(search: Search) -> Search:
    """The same search along columns, which are lost whole or not at all: the stream runs along rows."""

    def found(frame: Frame, known: Plane) -> Plane:
        lost = search(np.ascontiguousarray(frame.T), np.ascontiguousarray(known.T)).T
        most: Plane = 2 * lost.sum(axis=0) >= np.maximum(known.sum(axis=0), 1)
        return lost & most

    return found
