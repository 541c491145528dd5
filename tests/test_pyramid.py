"""The low-resolution fill of a whole scene."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geodiff.lattice import Window, blocks
from geodiff.pyramid import CellSums, cell_size, fill_cells, sample_cells


def _sums(values: np.ndarray, known: np.ndarray, size: int) -> CellSums:
    sums = CellSums.empty(1, 1, *values.shape)
    for block in blocks(values.shape, size):
        sums.add(0, block, values[block.slices][None], known[block.slices][None])
    return sums


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 50))
def test_sums_do_not_depend_on_the_tiles(rows: int, columns: int, size: int) -> None:
    rng = np.random.default_rng(rows)
    values = rng.integers(0, 100, (rows, columns)).astype(float)
    known = rng.random((rows, columns)) < 0.6
    whole, tiled = _sums(values, known, 1000), _sums(values, known, size)
    assert np.array_equal(whole.total, tiled.total)
    assert np.array_equal(whole.count, tiled.count)
    assert whole.count.sum() == known.sum()


def test_what_is_taken_out_was_never_there() -> None:
    rng = np.random.default_rng(1)
    values, known = rng.integers(0, 9, (70, 50)).astype(float), np.ones((70, 50), bool)
    hidden = np.zeros_like(known)
    hidden[20:40, 10:30] = True
    sums = _sums(values, known, 1000)
    sums.add(0, Window(0, 0, 70, 50), values[None], hidden[None], sign=-1)
    assert np.array_equal(sums.total, _sums(values, known & ~hidden, 1000).total)


def test_a_plane_is_continued_through_a_gap() -> None:
    y, x = np.mgrid[:320, :320].astype(float)
    plane, known = 3 * y - 2 * x, np.ones((320, 320), bool)
    known[80:240, 80:240] = False
    filled = fill_cells(_sums(plane, known, 1000), np.zeros(1))
    (sampled,) = sample_cells(filled[0], 8, np.arange(320), np.arange(320))
    inside = sampled[100:220, 100:220] - plane[100:220, 100:220]
    assert np.abs(inside).mean() < 0.1 * np.ptp(plane[80:240, 80:240])
    assert np.abs(sampled - plane)[8:70, 8:312].max() < 1e-3


@pytest.mark.parametrize("columns", [np.arange(37, 90), np.r_[80:96, 0:20]], ids=["in one piece", "around the globe"])
def test_samples_are_linear_between_cell_centres(columns: np.ndarray) -> None:
    cells = np.random.default_rng(2).normal(size=(3, 2, 9, 12))
    rows, centres = np.arange(-5, 75), 8 * np.arange(12) + 3.5
    found = sample_cells(cells, 8, rows, columns, [2, 0])
    assert found.shape == (2, 2, 80, len(columns))
    along = np.apply_along_axis(lambda line: np.interp(columns, centres, line), -1, cells[[2, 0]])
    expected = np.apply_along_axis(lambda line: np.interp(rows, centres[:9], line), -2, along)
    assert np.abs(found - expected).max() < 1e-5


def test_a_plane_without_data_gets_the_fallback() -> None:
    sums = CellSums.empty(1, 2, 20, 20)
    assert (fill_cells(sums, np.array([4.0, -1.0]))[0, :, 0, 0] == [4.0, -1.0]).all()


def test_dates_that_nobody_asked_for_get_the_fallback() -> None:
    sums, rng = CellSums.empty(3, 2, 60, 50), np.random.default_rng(4)
    for date in range(3):
        sums.add(date, Window(0, 0, 60, 50), rng.normal(size=(2, 60, 50)), rng.random((2, 60, 50)) < 0.02)
    every, one = (fill_cells(sums, np.array([4.0, -1.0]), dates) for dates in (None, [1]))
    assert np.array_equal(one[1], every[1])
    assert (one[[0, 2]] == np.array([4.0, -1.0])[:, None, None]).all()


def test_cells_grow_with_the_scene() -> None:
    assert cell_size(1, 1000, 1000) == 8
    assert cell_size(10, 30_000, 30_000) >= 16
    for planes, side in ((1, 100_000), (200, 4096)):
        size = cell_size(planes, side, side)
        assert planes * (side // size) ** 2 <= 2**24


def test_a_gap_across_the_date_line_is_filled_as_one_amid_the_raster() -> None:
    rng = np.random.default_rng(4)
    values, known = rng.normal(size=(112, 240)), np.ones((112, 240), bool)
    known[20:90, 60:180] = False
    turned, hidden = np.roll(values, 120, axis=1), np.roll(known, 120, axis=1)
    columns = np.arange(240)
    amid, across = (
        sample_cells(
            fill_cells(_sums(plane, seen, 1000), np.zeros(1), around=True)[0], 8, np.arange(112), columns, around=True
        )[0]
        for plane, seen in ((values, known), (turned, hidden))
    )
    np.testing.assert_allclose(np.roll(across, -120, axis=1), amid, atol=0.02)
    assert np.abs(across[:, 0] - across[:, -1]).max() < 0.1
