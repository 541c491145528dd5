"""Laws of gaps, of the collar of rasters of any size, and of the shapes that scores hide pixels under."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from geodiff import gapshapes
from geodiff.collar import Collar, find_collar, opened
from geodiff.errors import GridError, InputError
from geodiff.gaps import (
    Gaps,
    Reason,
    auto_fillable,
    because,
    collar_candidates,
    dilate,
    never_seen,
    outside_counts,
    percent,
    shares,
    tally,
)

reasons = arrays.arrays(np.uint16, (2, 4, 5))
flags = arrays.arrays(bool, (2, 4, 5))


# Reasons


def test_every_bit_of_a_uint16_has_one_meaning():
    bits = list(Reason)
    assert bits == [1 << bit for bit in range(16)]
    assert len({bit.meaning for bit in bits}) == 16
    assert [bit.meaning for bit in bits[:3]] == ["nodata", "invalid", "cloud"]


@given(reasons, st.integers(0, 4))
def test_tallies_of_strips_add_up_to_shares(reason, cut):
    total = tally(reason[:, :cut]) + tally(reason[:, cut:])
    found = shares(total, reason.size)
    for bit in Reason:
        assert found.get(bit.meaning, 0.0) == ((reason & np.uint16(bit)) != 0).mean()


# Gaps


def test_nothing_is_missing_without_a_reason():
    missing = np.ones((1, 2, 2), bool)
    with pytest.raises(GridError, match="without a reason"):
        Gaps(missing, missing, np.zeros((1, 2, 2), np.uint16))
    with pytest.raises(GridError, match="same pixels"):
        Gaps(missing, missing[:, :1], np.ones((1, 2, 2), np.uint16))


@given(arrays.arrays(bool, st.tuples(st.integers(1, 2), st.integers(1, 14), st.integers(1, 14))), st.integers(0, 6))
def test_dilation_is_by_euclidean_distance(where, radius):
    expected = np.stack([ndimage.distance_transform_edt(~layer) <= radius if layer.any() else layer for layer in where])
    assert np.array_equal(dilate(where, radius), expected)


def test_a_negative_buffer_is_refused():
    with pytest.raises(GridError, match="-1"):
        dilate(np.zeros((2, 2), bool), -1)


@given(reasons, flags, st.integers(0, 3))
def test_buffers_grow_gaps_but_neither_collars_nor_forbidden_ground(reason, fillable, radius):
    before = Gaps.of(reason, fillable)
    after = before.dilate(radius)
    grown = after.missing & ~before.missing
    assert (after.reason[grown] == Reason.BUFFER).all()
    assert np.array_equal(after.reason[~grown], before.reason[~grown])
    assert np.array_equal(grown, dilate(before.wanted, radius) & ~before.missing & fillable)


@given(
    arrays.arrays(np.uint16, (1, 20, 6), elements=st.sampled_from([0, 0, 0, 4])), st.integers(1, 4), st.integers(4, 15)
)
def test_a_window_with_a_margin_is_dilated_as_the_whole(reason, radius, cut):
    whole = Gaps.of(reason).dilate(radius).reason
    part = Gaps.of(reason[:, max(cut - radius, 0) :]).dilate(radius).reason
    assert np.array_equal(part[:, min(cut, radius) :], whole[:, cut:])


# What auto leaves out


def test_candidates_are_nodata_in_every_band_that_nothing_names():
    reason = np.array([[[1, 1, 1, 0, 2, 3]], [[1, 1 | 4, 0, 0, 2, 1]]], np.uint16)
    assert collar_candidates(reason).tolist() == [[True, False, False, False, False, True]]


def test_never_seen_needs_every_date_and_band():
    missing = np.ones((3, 2, 1, 3), bool)
    missing[1, 0, 0, 1] = False
    assert never_seen(missing).tolist() == [[True, False, True]]


def test_auto_leaves_out_fill_the_undefined_the_collar_and_the_never_seen():
    reason = np.array([[[Reason.QA_FILL, Reason.UNDEFINED, Reason.NODATA, Reason.NODATA, Reason.CLOUD, 0]]], np.uint16)
    collar = np.array([[True, False, True, False, False, False]])
    unseen = np.array([[False, False, True, True, False, False]])
    assert auto_fillable(reason, collar, unseen).tolist() == [[[False, False, False, False, True, True]]]
    assert auto_fillable(reason).tolist() == [[[False, False, True, True, True, True]]]
    counts = outside_counts(reason, collar, unseen)
    assert counts == {"qa_fill": 1, "undefined": 1, "collar": 1, "never_seen": 1}
    assert sum(counts.values()) == (~auto_fillable(reason, collar, unseen)).sum()


# The collar


def by_squares(field, operation):
    return operation(operation(field, np.ones((33, 1), bool)), np.ones((1, 33), bool))


def collar_of_the_whole(candidates):
    survivors = by_squares(by_squares(candidates, ndimage.binary_erosion), ndimage.binary_dilation)
    labels, _ = ndimage.label(survivors, np.ones((3, 3), bool))
    rim = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    return np.isin(labels, rim[rim > 0]) | beside_the_collar(candidates, survivors)


def beside_the_collar(candidates, survivors):
    """What squares cover that hang over the edge, from where the survivors there end in what is 17 wide and more."""
    on_edge = np.ones(candidates.shape, bool)
    on_edge[1:-1, 1:-1] = False
    if min(candidates.shape) < 33:
        return np.zeros(candidates.shape, bool)
    left = survivors & on_edge
    runs, _ = ndimage.label(candidates & on_edge & ~left)  # 4-neighbours: along the edge
    deep = np.zeros(candidates.shape, bool)
    for turns in range(4):
        side = np.rot90(candidates, turns)[:17].all(axis=0)
        np.rot90(deep, turns)[0] |= side
    begins = ndimage.binary_dilation(left) & deep & (runs > 0)
    over = left | (np.isin(runs, np.unique(runs[begins])) & (runs > 0))
    wide = np.pad(over, 32, mode="edge")
    wide[32:-32, 32:-32] = candidates
    middles = by_squares(wide, ndimage.binary_erosion)
    middles[48:-48, 48:-48] = False  # squares that lie inside
    return by_squares(middles, ndimage.binary_dilation)[32:-32, 32:-32]


def outside_of(field, strip=64, **given):
    def read(rows):
        return field[rows]

    return find_collar(read, field.shape, strip, **given).outside(slice(0, len(field)), read)


@st.composite
def candidates(draw):
    """Rectangles, half-planes, lines and noise: collars, islands, snakes through several strips."""
    shape = draw(st.tuples(st.integers(1, 320), st.integers(1, 200)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    field = np.zeros(shape, bool)
    for _ in range(draw(st.integers(0, 9))):
        row, column = rng.integers(-40, shape[0] + 1), rng.integers(-40, shape[1] + 1)
        height, width = rng.integers(25, 130, 2)
        field[max(row, 0) : max(row + height, 0), max(column, 0) : max(column + width, 0)] = True
    if draw(st.booleans()):
        field |= gapshapes.swath_edge(shape, rng, share=0.4)
    if draw(st.booleans()):
        field &= rng.random(shape) > 0.001
    return field


@settings(max_examples=40)
@given(candidates(), st.integers(0, 320), st.integers(1, 200))
def test_the_collar_does_not_depend_on_the_strips(field, start, rows):
    expected = collar_of_the_whole(field)
    for strip in (64, 100, 256, field.shape[0]):
        largest = 0

        def read(where):
            nonlocal largest
            largest = max(largest, where.stop - where.start)
            return field[where]

        collar = find_collar(read, field.shape, strip)
        assert np.array_equal(collar.outside(slice(0, field.shape[0]), read), expected)
        assert np.array_equal(collar.outside(slice(start, start + rows), read), expected[start : start + rows])
        assert largest <= strip + 64


@given(candidates())
@settings(max_examples=20)
def test_the_opening_is_scipys(field):
    assert np.array_equal(opened(field), ndimage.binary_opening(field, np.ones((33, 33), bool)))


def test_left_and_right_are_no_edges_of_what_goes_around_the_globe():
    field = np.zeros((400, 200), bool)
    field[60:110, :50] = True
    assert outside_of(field).sum() == 2500
    assert outside_of(field, around=True).sum() == 0, "no edge of the globe"


def test_a_snake_joins_the_edge_through_many_strips():
    field = np.zeros((400, 200), bool)
    field[:, 40:80] = True
    field[:60] = field[340:] = False
    field[300:340, 40:160] = True
    field[20:340, 120:160] = True
    assert outside_of(field).sum() == 0
    field[:30, 120:160] = True
    assert outside_of(field).sum() == collar_of_the_whole(field).sum() > 10_000


def test_lines_and_small_blobs_at_the_edge_stay_fillable():
    field = np.zeros((200, 200), bool)
    field[50:80] = True
    field[:32, :32] = True
    field[:, 150:] = True
    outside = outside_of(field)
    assert not outside[:, :100].any()
    assert outside[:, 150:].all()


def test_lost_lines_along_the_edge_are_filled_where_they_meet_the_collar():
    field = np.zeros((200, 300), bool)
    field[:, :60] = True
    collar = field.copy()
    field[:12] = True
    field[-3:] = True
    assert np.array_equal(outside_of(field), collar)


@pytest.mark.parametrize("around", [False, True])
def test_a_turned_scene_is_not_drawn_out_to_the_raster_s_edge(around):
    """Where its four corners touch the edge the collar narrows to nothing, and ground was invented there."""
    y, x = np.mgrid[-150:150, -150:150]
    ground = abs(0.94 * x + 0.34 * y) < 115
    ground &= abs(0.94 * y - 0.34 * x) < 115
    rows, columns = np.flatnonzero(ground.any(axis=1)), np.flatnonzero(ground.any(axis=0))
    field = ~ground[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    filled = field & ~outside_of(field, around=around)
    assert filled[:33].sum() + filled[-33:].sum() < 20
    assert filled[:, :10].any() == around  # the globe has no left edge


def test_no_collar_without_georeferencing_and_none_is_read():
    def read(rows):
        raise AssertionError(rows)

    assert not Collar.none((300, 40)).outside(slice(10, 290), read).any()
    assert Collar.none((300, 40)).outside(slice(10, 290), read).shape == (280, 40)


def test_strips_must_be_whole_rows():
    with pytest.raises(GridError, match="whole rows"):
        find_collar(lambda rows: np.zeros((3, 3), bool), (100, 100))
    with pytest.raises(GridError, match="at least 1"):
        find_collar(lambda rows: np.zeros((100, 100), bool), (100, 100), 0)


# Shapes


@pytest.mark.parametrize("name", gapshapes.SHAPES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (37, 5), (128, 96)])
def test_a_drawn_shape_depends_on_the_generator_alone(name, shape):
    first, again = (gapshapes.draw(name, shape, np.random.default_rng(3)) for _ in range(2))
    assert first.shape == shape
    assert first.dtype == bool
    assert np.array_equal(first, again)


def test_unknown_shapes_are_refused():
    with pytest.raises(InputError, match=r"hearts.*slc-off"):
        gapshapes.draw("hearts", (3, 3), np.random.default_rng(0))


@given(st.integers(0, 99), st.floats(0.02, 0.98))
@settings(max_examples=20)
def test_clouds_cover_the_share_that_was_asked_for(seed, share):
    clouds = gapshapes.draw_clouds((96, 80), np.random.default_rng(seed), share=share)
    assert clouds.mean() == pytest.approx(share, abs=0.001)


def test_clouds_are_blobs_and_not_speckle(rng):
    clouds = gapshapes.draw_clouds((256, 256), rng, share=0.3)
    rim = clouds & ~ndimage.binary_erosion(clouds)
    assert rim.sum() < 0.6 * clouds.sum()  # real ones: 0.2 to 0.7; speckle: 1


@given(arrays.arrays(bool, (9, 7)), st.integers(-10, 10), st.integers(-10, 10))
def test_shadows_are_the_clouds_moved(clouds, down, right):
    both = gapshapes.with_shadow(clouds, (down, right))
    padded = np.pad(clouds, 10)
    moved = np.roll(padded, (down, right), (0, 1))[10:-10, 10:-10]
    assert np.array_equal(both, clouds | moved)


def test_scan_gaps_widen_from_nadir_to_14_lines_at_the_edge_of_the_swath():
    def widths(across):
        wedges = gapshapes.slc_off_wedges((640, 9), np.random.default_rng(1), across=across, heading=0.0)
        labels, count = ndimage.label(wedges[:, 4])
        inner = np.bincount(labels)[2:-1]
        return count, (inner.mean() if inner.size else 0.0)

    assert widths(0.0) == (0, 0.0)
    count, width = widths(0.99)
    assert count == 20
    assert 13 <= width <= 15.5
    assert widths(0.5)[1] == pytest.approx(7, abs=1)
    assert widths(-0.99)[1] == pytest.approx(width, abs=0.5)


def test_a_scene_without_its_scan_line_corrector_misses_about_a_fifth():
    wedges = gapshapes.slc_off_wedges((1200, 1200), np.random.default_rng(0), pixel=150.0, across=0.0)
    assert 0.18 < wedges.mean() < 0.26  # USGS: 22 % of a scene


@given(arrays.arrays(bool, (6, 8)), st.tuples(st.integers(1, 20), st.integers(1, 20)), st.integers(0, 50))
def test_a_moved_shape_is_made_of_the_source(source, shape, seed):
    moved = gapshapes.transplant(source, shape, np.random.default_rng(seed))
    assert moved.shape == shape
    if source.all() or not source.any():
        assert (moved == source.flat[0]).all()
    if shape == (6, 8):
        assert np.array_equal(moved, gapshapes.transplant(source, shape, np.random.default_rng(seed)))


def test_a_moved_shape_of_the_same_size_keeps_every_pixel(rng):
    source = rng.random((8, 8)) < 0.3
    assert gapshapes.transplant(source, (8, 8), rng).sum() == source.sum()
    with pytest.raises(InputError, match=r"\(0, 4\)"):
        gapshapes.transplant(np.zeros((0, 4), bool), (3, 3), rng)


def test_because_gives_bits_only_where_true():
    where = np.array([True, False])
    assert because(where, Reason.CLOUD | Reason.BUFFER).tolist() == [int(Reason.CLOUD | Reason.BUFFER), 0]


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.0, "0 %"), (2.44e-5, "0.0024 %"), (0.034, "3.4 %"), (0.262, "26.2 %"), (0.995, "99.5 %"),
        (1 - 2.44e-5, "99.9976 %"), (1 - 1e-8, "> 99.99 %"), (1.0, "100.0 %"),
    ],
)  # fmt: skip
def test_a_share_is_none_or_all_only_where_it_is(share: float, words: str) -> None:
    assert percent(share) == words


def test_of_levels_each_has_a_ground_of_its_own():
    missing = np.zeros((2, 2, 1, 3), bool)
    missing[:, 1, 0, 1:] = missing[:, 0, 0, 2] = True
    missing[0, 1, 0, 0] = True
    assert never_seen(missing, by_level=True).tolist() == [[[False, False, True]], [[False, True, True]]]
