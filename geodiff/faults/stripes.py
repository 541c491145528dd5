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
OFFSET = 4.0
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
    dumb = _at_the_end(frame, known)
    told = np.where(dumb, np.nan, offset)
    whole = np.nan_to_num(_median(told))
    alike = np.asarray((offset * np.sign(whole)[:, None] >= 0.5 * np.abs(whole)[:, None]) & ~dumb).sum(axis=1)
    heard = (~dumb).sum(axis=1)
    alike = (heard >= SEGMENTS // 2) & (alike >= heard - (heard >= SEGMENTS - 1))
    usual = 1.4826 * np.median(np.abs(np.median(steps, axis=1)))
    floor = 0.25 * roughness(frame, known)
    striped[1:-1] = alike & (np.abs(whole) > max(OFFSET * usual, floor))
    striped[:RIM] = striped[-RIM:] = False
    return striped


def _median(told: Frame) -> Frame:
    """Of each row, over what is not NaN; NaN where all is."""
    sound = np.isfinite(told)
    middle = np.full(len(told), np.nan)
    some = sound.any(axis=1)
    middle[some] = np.nanmedian(told[some], axis=1)
    return middle


def _at_the_end(frame: Frame, known: Plane) -> Plane:
    """(row - 2, segment): where most of a row and of its neighbours stand at one end of the range: they tell nothing.

    An offset is cut off there, in shadow, in a saturated sky and in the collar of a map.
    """
    seen = frame[known]
    if not seen.size:
        return np.zeros((frame.shape[0] - 2, SEGMENTS), bool)
    ends = (frame == seen.min()) | (frame == seen.max())
    held = ends[:-2] & ends[1:-1] & ends[2:]
    parts = np.array_split(np.arange(frame.shape[1]), SEGMENTS)
    return np.stack([held[:, part].mean(axis=1) >= 0.5 for part in parts], axis=1)


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
