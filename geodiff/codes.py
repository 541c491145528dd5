"""Where a pixel of the product comes from: the codes of the source layer."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["CODES", "OBSERVED", "OUTSIDE", "UNFILLED"]

OBSERVED, OUTSIDE, UNFILLED = 0, 254, 255

CODES: Mapping[str, int] = {
    "nearest": 1,
    "idw": 2,
    "laplace": 3,
    "matern": 4,
    "biharmonic": 5,
    "linear-time": 6,
    "harmonic": 7,
    "whittaker": 8,
    "spacetime": 9,
    "regression": 10,
    "dineof": 11,
    "climatology": 12,
    "kriging": 13,
    "nonlocal": 14,
    "diffusion": 20,
    "auto": 21,
}
"""Source codes of the built-in fillers; registered ones get 100 and up in the order of their names."""
