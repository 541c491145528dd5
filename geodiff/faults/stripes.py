"""Stripes: a line that is offset against both neighbours, alike along all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geodiff.faults.measures import roughness

if TYPE_CHECKING:
    from geodiff.faults.measures import Frame, Plane

__all__ = ["find_stripes"]

RIM = 8
"""Outermost lines that are not judged: frames have borders of their own."""
SEGMENTS = 8
"""Parts of a line that must tell the same offset."""
OFFSET = 6.0
"""An offset is beyond this many times what rows usually differ by."""


def find_stripes(frame: Frame, known: Plane) -> Plane:
    """Rows and columns that stand above, or below, both their neighbours by one offset over the whole line."""
    rows = _offset_rows(frame, known)
    columns = _offset_rows(frame.T, known.T)
    return (rows[:, None] | columns[None, :]) & known


def _offset_rows(frame: Frame, known: Plane) -> Plane:
    """(row,) bool: offset against the row before and the row after, in every segment, far beyond what rows do here."""
    striped = np.zeros(frame.shape[0], bool)
    if frame.shape[0] < 4 * RIM or frame.shape[1] < 4 * SEGMENTS:
        return striped
    steps = _segment_steps(frame, known)
    before, after = steps[:-1], -steps[1:]
    offset = np.where(before * after > 0, np.sign(before) * np.minimum(np.abs(before), np.abs(after)), 0.0)
    whole = np.median(offset, axis=1)
    alike = (offset * np.sign(whole)[:, None] >= 0.5 * np.abs(whole)[:, None]).sum(axis=1) >= SEGMENTS - 1
    usual = 1.4826 * np.median(np.abs(np.median(steps, axis=1)))
    floor = 0.25 * roughness(frame, known)
    striped[1:-1] = alike & (np.abs(whole) > max(OFFSET * usual, floor))
    striped[:RIM] = striped[-RIM:] = False
    return striped


def _segment_steps(frame: Frame, known: Plane) -> Frame:
    """(row - 1, segment): median step from each row to the next within each segment; 0 where too little is known."""
    steps = np.diff(frame, axis=0)
    both = known[1:] & known[:-1]
    parts = np.array_split(np.arange(frame.shape[1]), SEGMENTS)
    medians = np.zeros((steps.shape[0], SEGMENTS))
    for index, part in enumerate(parts):
        enough = both[:, part].sum(axis=1) >= part.size // 2
        here = np.where(both[enough][:, part], steps[enough][:, part], np.nan)
        if enough.any():
            medians[enough, index] = np.nanmedian(here, axis=1)
    return medians
