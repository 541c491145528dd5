"""The harmonic fill: exact in the limit, blind to what is hidden, the same for a plane in any company."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import spsolve

from geodiff.fillers.relaxation import push_pull, relaxed_fill
from tests.fillers.patches import blobs, rough


def exact(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """A sparse solve with a mirrored frame, written the plain way."""
    index = np.cumsum(~known).reshape(known.shape) - 1
    rows, columns, entries, count = [], [], [], int((~known).sum())
    diagonal, right = np.zeros(count), np.zeros(count)
    for i, j in zip(*np.nonzero(~known), strict=True):
        for a, b in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
            if 0 <= a < known.shape[0] and 0 <= b < known.shape[1]:
                diagonal[index[i, j]] += 1
                if known[a, b]:
                    right[index[i, j]] += values[a, b]
                else:
                    rows.append(index[i, j])
                    columns.append(index[a, b])
                    entries.append(-1.0)
    system = coo_matrix((entries, (rows, columns)), (count, count)) + diags(diagonal)
    filled = values.astype(np.float64)
    filled[~known] = spsolve(system.tocsc(), right)
    return filled


@pytest.mark.parametrize(("shape", "share"), [((96, 96), 0.1), ((96, 96), 0.6), ((67, 101), 0.4)])
def test_it_matches_the_sparse_solve(rng, shape, share):
    truth, missing = rough(rng, shape), blobs(rng, shape, share, 5)
    missing[[0, -1]] = missing[:, [0, -1]] = False  # the frame's tie to the coarse fill is not in the plain system
    values = np.where(missing, 9.0, truth).astype(np.float32)
    solved = exact(values, ~missing)

    def rmse(filled: np.ndarray) -> float:
        return float(np.sqrt(np.mean((filled - truth)[missing] ** 2)))

    fast = relaxed_fill(values[None], ~missing[None], np.zeros((1, *shape), np.float32))[0]
    assert rmse(fast) == pytest.approx(rmse(solved), rel=3e-3)
    slow = relaxed_fill(values[None], ~missing[None], np.zeros((1, *shape), np.float32), cycles=12)[0]
    np.testing.assert_allclose(slow, solved, atol=2e-3)


@given(
    slopes=st.tuples(*[st.floats(-3, 3, width=32)] * 3),
    row=st.integers(8, 30),
    column=st.integers(8, 30),
    height=st.integers(1, 24),
    width=st.integers(1, 24),
)
def test_a_plane_is_reproduced(slopes, row, column, height, width):
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    plane = (slopes[0] + slopes[1] * y + slopes[2] * x).astype(np.float32)
    known = np.ones(plane.shape, bool)
    known[row : row + height, column : column + width] = False
    filled = relaxed_fill(np.where(known, plane, 0)[None], known[None], np.zeros((1, 64, 64), np.float32))[0]
    reach = abs(slopes[1]) + abs(slopes[2])
    np.testing.assert_allclose(filled, plane, atol=0.01 * 2 * reach + 1e-5)  # one hundredth of its range


def test_known_pixels_are_returned_bit_for_bit_and_hidden_ones_are_not_looked_at(rng):
    truth, missing = rough(rng, (64, 64)), blobs(rng, (64, 64), 0.3, 5)
    coarse = np.zeros((1, 64, 64), np.float32)
    clean = relaxed_fill(np.where(missing, 0, truth)[None], ~missing[None], coarse)
    spoiled = relaxed_fill(np.where(missing, 1e6, truth).astype(np.float32)[None], ~missing[None], coarse)
    np.testing.assert_array_equal(clean, spoiled)
    np.testing.assert_array_equal(clean[0][~missing], truth[~missing])


@pytest.mark.parametrize("shape", [(192, 192), (64, 64), (33, 70)])
def test_a_plane_is_bit_identical_in_any_company(rng, shape):
    values = np.stack([rough(rng, shape) for _ in range(5)])
    known = np.stack([~blobs(rng, shape, s, 5) for s in (0.05, 0.3, 0.5, 0.9, 0.2)])
    coarse = values * np.float32(0.5)
    together = relaxed_fill(values, known, coarse)
    alone = np.concatenate([relaxed_fill(values[i : i + 1], known[i : i + 1], coarse[i : i + 1]) for i in range(5)])
    np.testing.assert_array_equal(together, alone)


def test_where_nothing_is_known_the_coarse_fill_stays(rng):
    coarse = rough(rng, (48, 48))[None]
    filled = relaxed_fill(np.zeros_like(coarse), np.zeros(coarse.shape, bool), coarse)
    np.testing.assert_array_equal(filled, coarse)


def test_far_from_data_the_frame_follows_the_coarse_fill_and_near_data_it_does_not():
    known = np.zeros((1, 128, 128), bool)
    known[:, :, :8] = True
    filled = relaxed_fill(np.zeros(known.shape, np.float32), known, np.full(known.shape, 5.0, np.float32))[0]
    np.testing.assert_allclose(filled[40:90, -1], 5.0, atol=0.3)
    assert filled[0, 9] < 1.0  # a straight rise to 5 between the columns 7 and 20 is 0.8 there


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 2), (3, 5), (17, 13)])
def test_odd_small_planes_are_filled_within_the_range_of_the_known(rng, shape):
    values = rng.normal(size=(2, *shape)).astype(np.float32)
    known = rng.random((2, *shape)) < 0.6
    known[:, 0, 0] = True
    filled = relaxed_fill(values, known, np.zeros((2, *shape), np.float32))
    assert np.isfinite(filled).all()
    for f, v, k in zip(filled, values, known, strict=True):
        assert f.min() >= min(v[k].min(), 0) - 0.05
        assert f.max() <= max(v[k].max(), 0) + 0.05


def test_push_pull_keeps_fully_weighted_values_and_spreads_a_constant(rng):
    weight = (rng.random((1, 40, 52)) < 0.1).astype(np.float32)
    values = rng.normal(size=weight.shape).astype(np.float32)
    np.testing.assert_allclose(push_pull(values, weight)[weight > 0], values[weight > 0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(push_pull(np.full_like(values, 3.0), weight * 0.3), 3.0, rtol=1e-5)
    assert not push_pull(values, np.zeros_like(weight)).any()
