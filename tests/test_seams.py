"""Laws of the seam index: what lies on the lattice's lines is seen, and what chance makes of it is told."""

import numpy as np
from scipy.ndimage import gaussian_filter

from geodiff.lattice import STRIDE
from geodiff.seams import seam, steps_by_line

SIDE = 400


def smooth(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A field without seams, and blobs of it that were filled."""
    rng = np.random.default_rng(seed)
    rough, field = (gaussian_filter(rng.normal(size=(SIDE, SIDE)), sigma) for sigma in (12, 3))
    return field / field.std(), rough > np.quantile(rough, 0.85)


def judged(field: np.ndarray, kept: np.ndarray, first: tuple[int, int] = (0, 0)) -> float:
    """What a gate sees."""
    ratio, chance = seam(*steps_by_line(field, kept, first))
    assert ratio is not None
    assert chance is not None
    return ratio - chance


def test_chance_makes_no_seam():
    found = [(seam(*steps_by_line(*smooth(seed), (0, 0)))[0], judged(*smooth(seed))) for seed in range(30)]
    assert np.mean([ratio > 1.05 for ratio, _ in found if ratio]) > 0.1, "chance moves the index itself"
    assert np.mean([beyond > 1.05 for _, beyond in found]) <= 0.05


def test_a_step_where_windows_begin_is_one():
    field, kept = smooth(3)
    step = (np.arange(SIDE) // STRIDE % 2)[:, None]
    assert judged(field + step, kept) > 1.5


def test_steps_on_the_lattice_are_a_seam_wherever_the_raster_begins(rng):
    field = rng.normal(size=(400, 390))
    for row in range(field.shape[0]):
        if (row + 13) % STRIDE == 0:
            field[row:] += 3.0
    everywhere = np.ones(field.shape, bool)
    assert judged(field, everywhere, (13, 40)) > 1.2
    assert judged(field, everywhere, (12, 40)) < 1.0


def test_a_field_without_seams_has_none(rng):
    everywhere = np.ones((300, 300), bool)
    ratios = [seam(*steps_by_line(rng.normal(size=(300, 300)), everywhere, (0, 0)))[0] for _ in range(5)]
    assert all(0.9 < ratio < 1.1 for ratio in ratios)


def test_seams_are_looked_for_only_where_asked():
    field, where = np.zeros((200, 200)), np.zeros((200, 200), bool)
    field[96:] = 1.0
    where[:90] = True
    sums, counts = steps_by_line(field, where, (0, 0))
    assert counts.sum() == 89 * 200 + 90 * 199
    assert not sums.any()
    assert seam(sums, counts) == (None, None), "nothing is steep anywhere"


def test_blocks_add_up():
    field, kept = smooth(4)
    kept[200] = False  # nothing across the blocks' border
    whole = steps_by_line(field, kept, (0, 0))
    parts = [steps_by_line(field[:200], kept[:200], (0, 0)), steps_by_line(field[200:], kept[200:], (200, 0))]
    for one, both in zip(whole, zip(*parts, strict=True), strict=True):
        np.testing.assert_allclose(np.sum(both, axis=0), one, rtol=1e-12)


def test_too_little_says_nothing():
    field, kept = smooth(5)
    assert seam(*steps_by_line(field, np.zeros_like(kept), (0, 0))) == (None, None)
    assert seam(*steps_by_line(field[:20, :20], np.ones((20, 20), bool), (0, 0))) == (None, None)
