"""White noise fixed to the ground: the same pixel draws the same number, whatever the tiling or the batch.

Counter-based generation (Salmon et al. 2011) with the splitmix64 finaliser as the mixing function: the counter is
(seed, date, band, member, step, absolute row, absolute column), so no state is carried from window to window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ground_noise", "noise_in_time"]

_PLANES = 8
_IN_TIME = 1 << 32
"""First step of the planes that stay for a while; no sampler takes so many."""
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_ROW = np.uint64(0xD1B54A32D192ED03)
_COLUMN = np.uint64(0xABC98388FB8FAC03)


def _mix(value: int) -> int:
    """splitmix64's finaliser on one integer."""
    value = (value + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def _mix_array(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finaliser on an array; wraps modulo 2^64 as it must."""
    value = value + np.uint64(_GOLDEN)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def _unit(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Uniform in (0, 1) from the upper 53 bits; never 0, so its logarithm is finite."""
    return ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def ground_noise(
    shape: tuple[int, int],
    *,
    row: int,
    column: int,
    seed: int,
    date: int = 0,
    band: int = 0,
    member: int = 0,
    step: int = 0,
) -> NDArray[np.float32]:
    """Standard normal noise (height, width) at an absolute place; any integers are valid keys.

    Box-Muller in float64 on two hashed uniforms, rounded to float32.
    """
    key = 0
    for part in (seed, date, band, member, step):
        key = _mix(key ^ (part & _MASK))
    rows = np.arange(row, row + shape[0], dtype=np.int64).astype(np.uint64)[:, None]
    columns = np.arange(column, column + shape[1], dtype=np.int64).astype(np.uint64)[None, :]
    counter = _mix_array(rows * _ROW + np.uint64(key)) ^ (columns * _COLUMN)
    first = _mix_array(counter)
    second = _mix_array(first ^ np.uint64(_GOLDEN))
    radius = np.sqrt(-2.0 * np.log(_unit(first)))
    return (radius * np.cos(2.0 * np.pi * _unit(second))).astype(np.float32)


def noise_in_time(
    shape: tuple[int, int],
    *,
    row: int,
    column: int,
    seed: int,
    seconds: int,
    memory: float,
    band: int = 0,
    member: int = 0,
) -> NDArray[np.float32]:
    """Standard normal noise (height, width) of a date, which goes with that of dates less than `memory` seconds away.

    The mean of eight planes of ground noise, times the root of eight; each stays for `memory` seconds of absolute time
    and another one changes every eighth of that. So dates correlate by 1 - (seconds apart) / memory, to an eighth, and
    a date's noise does not depend on which other dates there are. Without memory it is `ground_noise`.
    """
    if memory <= 0:
        return ground_noise(shape, row=row, column=column, seed=seed, date=seconds, band=band, member=member)
    total = np.zeros(shape, np.float32)
    for plane in range(_PLANES):
        epoch = int(np.floor(seconds / memory + plane / _PLANES))
        total += ground_noise(
            shape, row=row, column=column, seed=seed, date=epoch, band=band, member=member, step=_IN_TIME + plane
        )
    return total / np.float32(np.sqrt(_PLANES))
