"""Gaps to hide known pixels under, so that a score is taken under the gaps that really occur.

Shapes are (row, column) bool arrays, True in the gap, and depend on nothing but their arguments and the generator:
real gaps moved to another place, and drawn ones: clouds and their shadows, the wedges of Landsat 7 without its scan
line corrector, the edge of a swath, dead lines and dead blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from geodiff.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "SHAPES",
    "dead_blocks",
    "dead_lines",
    "draw",
    "draw_clouds",
    "slc_off_wedges",
    "swath_edge",
    "transplant",
    "with_shadow",
]

Shape = tuple[int, int]

SCAN_LINES = 16
"""Detectors, so lines of 30 m, of one ETM+ scan (Landsat 7 Science Data Users Handbook, section 3)."""
SWATH = 6167
"""Pixels of 30 m across the 185 km swath of ETM+."""
OVERLAP = 1.0
"""Lines by which a scan and the next overlap at the swath's edge, so that the widest gaps are about 14 lines."""


def transplant(source: NDArray[np.bool_], shape: Shape, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A real gap mask, of any size, moved to a raster of `shape`: shifted, mirrored, turned by quarter turns.

    A source that is too small is continued by its mirror image, so that a cloud cut by its edge stays one cloud.
    """
    if source.size == 0:
        raise InputError(f"a gap mask of shape {source.shape} holds no shape to move; give one with pixels")
    turned = np.rot90(source, int(rng.integers(4)))
    if rng.integers(2):
        turned = turned[:, ::-1]
    rows, columns = (_mirrored(n, side, rng) for n, side in zip(shape, turned.shape, strict=True))
    return np.ascontiguousarray(turned[rows[:, None], columns[None, :]])


def _mirrored(count: int, side: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """`count` consecutive indices from a random start on, folded into 0..side-1."""
    start = rng.integers(side - count + 1) if count <= side else rng.integers(2 * side)
    index = (start + np.arange(count)) % (2 * side)
    return np.where(index < side, index, 2 * side - 1 - index).astype(np.intp)


def draw_clouds(
    shape: Shape, rng: np.random.Generator, *, share: float = 0.3, slope: float = 3.0, scale: float = 64.0
) -> NDArray[np.bool_]:
    """Cloud fields: the highest `share` of a smooth random field.

    The field's power falls as wavenumber^-slope beyond one cycle per `scale` pixels; about 3 gives the perimeters of
    real clouds, whose area-perimeter dimension is 4/3 to 3/2 (Lovejoy 1982).
    """
    field = _random_field(shape, rng, slope, scale)
    if not 0 < share < 1:
        return np.full(shape, share >= 1)
    return np.asarray(field > np.quantile(field, 1 - share))


def _random_field(shape: Shape, rng: np.random.Generator, slope: float, scale: float) -> NDArray[np.float64]:
    """A Gaussian field on a margin of its own, so that it does not wrap around."""
    rows, columns = (_even(n + int(scale)) for n in shape)
    k = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None, :])
    amplitude = (k**2 + scale**-2) ** (-slope / 4)
    noise = np.fft.rfft2(rng.standard_normal((rows, columns)))
    return np.fft.irfft2(noise * amplitude, (rows, columns))[: shape[0], : shape[1]]


def _even(length: int) -> int:
    return length + length % 2


def with_shadow(clouds: NDArray[np.bool_], offset: tuple[int, int]) -> NDArray[np.bool_]:
    """Clouds and the same shape cast `offset` rows and columns away: cloud height x tan(sun zenith), in pixels."""
    both = clouds.copy()
    down, right = offset
    if abs(down) < clouds.shape[0] and abs(right) < clouds.shape[1]:
        target, source = zip(*map(_moved, offset, clouds.shape), strict=True)
        both[target] |= clouds[source]
    return both


def _moved(step: int, length: int) -> tuple[slice, slice]:
    """Where what is moved by `step` arrives, and where it comes from."""
    return slice(max(step, 0), length + min(step, 0)), slice(max(-step, 0), length - max(step, 0))


def slc_off_wedges(
    shape: Shape,
    rng: np.random.Generator,
    *,
    pixel: float = 30.0,
    across: float | None = None,
    heading: float | None = None,
) -> NDArray[np.bool_]:
    """Scan gaps of Landsat 7 since 2003-05-31, from the geometry of the scan mirror.

    Without the corrector forward and backward scans draw a zigzag. With u in -1..1 across the swath, and y along the
    track in lines of 30 m, forward scan k is centred on y = 32 k + 8 u, the backward one on y = 32 k + 16 - 8 u, and
    each covers 16 lines (and the overlap). What neither covers are wedges: none at nadir, about 14 lines at the edge,
    and every 32 lines on either side.

    Parameters
    ----------
    shape : rows and columns.
    pixel : size of a pixel in metres.
    across : u of the raster's centre; drawn from -0.95..0.95 when None.
    heading : angle in degrees by which the scan lines climb to the right; drawn from 8..14 when None.
    """
    u0 = rng.uniform(-0.95, 0.95) if across is None else across
    angle = np.deg2rad(rng.uniform(8.0, 14.0) if heading is None else heading)
    phase = rng.uniform(0.0, 2.0 * SCAN_LINES)
    step = pixel / 30.0
    rows = (np.arange(shape[0]) - shape[0] / 2)[:, None] * step
    columns = (np.arange(shape[1]) - shape[1] / 2)[None, :] * step
    y = rows * np.cos(angle) + columns * np.sin(angle) + phase
    u = u0 + (columns * np.cos(angle) - rows * np.sin(angle)) / (SWATH / 2)
    return ~(_covered(y - SCAN_LINES / 2 * u) | _covered(y - SCAN_LINES + SCAN_LINES / 2 * u))


def _covered(distance: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Within half a scan of a scan line that recurs every two scans."""
    folded = np.abs((distance + SCAN_LINES) % (2 * SCAN_LINES) - SCAN_LINES)
    return np.asarray(folded <= (SCAN_LINES + OVERLAP) / 2)


def swath_edge(shape: Shape, rng: np.random.Generator, *, share: float | None = None) -> NDArray[np.bool_]:
    """Everything beyond a straight line that cuts off about `share` of the raster (drawn from 0.05..0.5 when None)."""
    cut = rng.uniform(0.05, 0.5) if share is None else share
    angle = rng.uniform(0.0, 2.0 * np.pi)
    across = np.arange(shape[0])[:, None] * np.sin(angle) + np.arange(shape[1])[None, :] * np.cos(angle)
    return np.asarray(across > np.quantile(across, 1 - cut))


def dead_lines(
    shape: Shape, rng: np.random.Generator, *, count: int = 3, thickest: int = 4, whole: float = 0.5
) -> NDArray[np.bool_]:
    """Lost lines of 1 to `thickest` rows; a share `whole` of them crosses the frame, the others break off at an end."""
    lost = np.zeros(shape, bool)
    for _ in range(count):
        first = int(rng.integers(shape[0]))
        rows = slice(first, first + int(rng.integers(1, thickest + 1)))
        breaks = int(rng.integers(1, shape[1] + 1))
        if rng.random() < whole:
            lost[rows] = True
        elif rng.integers(2):
            lost[rows, :breaks] = True
        else:
            lost[rows, -breaks:] = True
    return lost


def dead_blocks(shape: Shape, rng: np.random.Generator, *, count: int = 4, side: int = 16) -> NDArray[np.bool_]:
    """Lost blocks of a compressed frame: runs of 1 to 4 blocks of `side` pixels on the frame's own grid of blocks."""
    lost = np.zeros(shape, bool)
    for _ in range(count):
        row, column = (side * int(rng.integers(max(n // side, 1))) for n in shape)
        lost[row : row + side, column : column + side * int(rng.integers(1, 5))] = True
    return lost


def _clouds_and_shadows(shape: Shape, rng: np.random.Generator) -> NDArray[np.bool_]:
    clouds = draw_clouds(shape, rng, share=rng.uniform(0.05, 0.5), scale=rng.uniform(24.0, 128.0))
    down, right = rng.integers(-12, 13, 2)
    return with_shadow(clouds, (int(down), int(right)))


SHAPES: Mapping[str, Callable[[Shape, np.random.Generator], NDArray[np.bool_]]] = {
    "clouds": _clouds_and_shadows,
    "slc-off": slc_off_wedges,
    "swath-edge": swath_edge,
    "dead-lines": dead_lines,
    "dead-blocks": dead_blocks,
}
"""Drawn shapes by name."""


def draw(name: str, shape: Shape, rng: np.random.Generator) -> NDArray[np.bool_]:
    """One drawn shape of `SHAPES`; raises InputError for another name."""
    if name not in SHAPES:
        raise InputError(f"no gap shape is called {name!r}; choose one of {', '.join(SHAPES)}")
    return SHAPES[name](shape, rng)
