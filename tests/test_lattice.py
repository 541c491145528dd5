"""Windows, blocks and weights: integers that must add up."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from geodiff.lattice import STRIDE, WINDOW, Lattice, Window, blocks, overlap_shrinkage, weights

SIZES = st.tuples(st.integers(1, 400), st.integers(1, 400))
ORIGINS = st.tuples(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))


@given(SIZES, ORIGINS)
def test_weights_sum_to_exactly_one_but_for_the_rim(shape: tuple[int, int], origin: tuple[int, int]) -> None:
    lattice, margin = Lattice(shape, origin), WINDOW
    total = np.zeros((shape[0] + 2 * margin, shape[1] + 2 * margin), np.float32)
    for window in lattice.windows():
        total[Window(window.row + margin, window.column + margin, WINDOW, WINDOW).slices] += weights()
    inside = total[margin:-margin, margin:-margin]
    assert (inside > 0).all()
    assert (inside[32:-32, 32:-32] == 1).all()
    assert inside.max() <= 1


@given(SIZES, ORIGINS)
def test_windows_lie_on_the_ground(shape: tuple[int, int], origin: tuple[int, int]) -> None:
    lattice = Lattice(shape, origin)
    for window in lattice.windows():
        row, column = lattice.absolute(window)
        assert row % STRIDE == column % STRIDE == 0
        assert window.intersect(lattice.extent) is not None


@given(SIZES, st.integers(1, 300))
def test_blocks_partition_the_raster(shape: tuple[int, int], size: int) -> None:
    seen = np.zeros(shape, int)
    for block in blocks(shape, size):
        seen[block.slices] += 1
    assert (seen == 1).all()


@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.integers(-90, 90), st.integers(-90, 90))
def test_reading_beyond_the_edge_mirrors(shape: tuple[int, int], row: int, column: int) -> None:
    array = np.arange(shape[0] * shape[1]).reshape(shape)
    window = Window(row, column, 20, 30)
    padded = np.pad(array, 200, mode="symmetric")
    lattice = Lattice(shape)
    part = lattice.cover([window])
    rows, columns = lattice.places(window, part)
    expected = padded[200 + row : 220 + row, 200 + column : 230 + column]
    assert np.array_equal(array[part.slices][rows[:, None], columns], expected)
    assert np.array_equal(array[np.ix_(*lattice.folded(window))], expected)


def test_a_grid_in_degrees_that_goes_once_around_knows_it() -> None:
    whole, part = Affine(0.25, 0, 0, 0, -0.25, 90), Affine(0.25, 0, -180, 0, -0.25, 90)
    assert Lattice.of((720, 1440), whole, 360.0).periodic
    assert Lattice.of((720, 1440), part, 360.0).periodic
    assert not Lattice.of((720, 1441), whole, 360.0).periodic, "both ends are the same meridian: mirrored, as before"
    assert not Lattice.of((720, 1200), whole, 360.0).periodic
    assert not Lattice.of((720, 1440), whole).periodic, "metres do not go around"


@given(st.integers(1, 60), st.integers(-150, 150), st.integers(1, 200))
def test_around_the_globe_pieces_are_the_columns_in_order(width: int, column: int, count: int) -> None:
    lattice = Lattice((9, width), periodic=True)
    window = Window(2, column, 3, count)
    pieces, places = lattice.pieces(window)
    assert all(p.column >= 0 and p.stop[1] <= width and (p.row, p.height) == (2, 3) for p in pieces)
    assert sum(p.width for p in pieces) <= max(width, count), "no column is read twice"
    columns = np.concatenate([np.arange(p.column, p.stop[1]) for p in pieces])[places]
    np.testing.assert_array_equal(columns, lattice.folded(window)[1])
    np.testing.assert_array_equal(columns, np.arange(column, column + count) % width)


def test_crops_share_their_scenes_lattice_and_rotated_grids_have_their_own() -> None:
    north_up = Affine(10, 0, 399_960, 0, -10, 5_000_040)
    crop = north_up @ Affine.translation(7, 13)
    assert Lattice.of((9, 9), crop).origin == (
        Lattice.of((9, 9), north_up).origin[0] + 13,
        Lattice.of((9, 9), north_up).origin[1] + 7,
    )
    assert Lattice.of((9, 9), north_up @ Affine.rotation(30)).origin == (0, 0)
    assert Lattice.of((9, 9), Affine.identity()).origin == (0, 0)


@pytest.mark.parametrize("step", [0.25, 0.05, 1.0, 2.5])
def test_crops_of_grids_with_centres_on_the_step_share_their_lattice(step: float) -> None:
    """Their edges lie at halves, which must all be rounded the same way."""
    origins = [
        Lattice.of((9, 9), Affine(step, 0, -180 - step / 2 + k * step, 0, -step, 90 + step / 2 - k * step)).origin
        for k in range(20)
    ]
    first = origins[0]
    assert origins == [(first[0] + k, first[1] + k) for k in range(20)]


def test_blending_equal_weights_shrinks_as_the_closed_form_says() -> None:
    squares = np.array([1.0, 0.5, 0.25], np.float32)
    assert np.allclose(overlap_shrinkage(squares, 0.0), np.sqrt(squares))
    assert np.allclose(overlap_shrinkage(squares, 1.0), 1.0)
