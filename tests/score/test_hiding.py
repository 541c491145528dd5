"""What is hidden: known pixels only, the same for the same seed, the scene's own gaps where it has any."""

import numpy as np
import pytest
from affine import Affine

from geodiff.lattice import Window
from geodiff.score.hiding import SIDE, bounded, hide, plan_rounds, scan_part, signature
from tests.score.cubes import cube_of


@pytest.fixture
def noise(rng):
    return rng.normal(size=(1, 2, 400, 500))


def rounds_of(cube, **options):
    part = bounded(cube)
    _, gaps = scan_part(part)
    return part, gaps, plan_rounds(part, gaps, **{"trials": 4, "tuning": 3, "seed": 0, **options})


def test_only_known_pixels_are_hidden_and_enough_is_left(noise):
    noise[..., 100:180, 50:120] = np.nan
    _, gaps, rounds = rounds_of(cube_of(noise))
    for case in rounds[0].cases:
        missing = gaps.read(case.date, case.window).missing.all(axis=0)
        assert not (case.hidden & missing).any()
        assert case.hidden.sum() >= 40
        assert (~missing & ~case.hidden).sum() >= 0.1 * (~missing).sum()


def test_places_of_a_round_do_not_overlap_nor_do_those_for_tuning(noise):
    part, _, rounds = rounds_of(cube_of(noise), tuning=6)
    taken = np.zeros(part.shape, int)
    for case in (*rounds[0].cases, *rounds[0].tuning):
        taken[case.window.slices] += case.hidden
    assert taken.max() == 1
    assert rounds[0].tuning


def test_the_scenes_own_gaps_are_moved_where_it_has_any(noise):
    assert {c.shape for r in rounds_of(cube_of(noise.copy()))[2] for c in r.cases}.isdisjoint({"own"})
    noise[..., 30:42, 200:230] = np.nan
    moved = [c for r in rounds_of(cube_of(noise))[2] for c in r.cases]
    assert {c.shape for c in moved} == {"own"}
    assert all(c.hidden.mean() < 0.2 for c in moved), "small gaps stay small"


def test_a_scene_whose_own_gaps_are_specks_is_scored_on_the_usual_ones(noise):
    noise[..., 30:33, 200:204] = np.nan
    assert [r.cases for r in rounds_of(cube_of(noise))[2]]


def test_the_same_seed_hides_the_same_pixels_and_the_hash_says_so(noise):
    marks = [signature([r.cases for r in rounds_of(cube_of(noise), seed=seed)[2]]) for seed in (0, 0, 1)]
    assert marks[0] == marks[1] != marks[2]
    assert len(marks[0]) == 16


def test_hidden_pixels_become_missing_and_nothing_else_changes(noise):
    noise[..., 30:42, 200:230] = np.nan
    part, gaps, rounds = rounds_of(cube_of(noise))
    after = hide(part, np.asarray(gaps.outside), rounds[0].cases)
    _, found = scan_part(after)
    extent = Window(0, 0, *part.shape)
    expected = gaps.read(0, extent).missing.copy()
    for case in rounds[0].cases:
        expected[:, *case.window.slices] |= case.hidden
    assert np.array_equal(found.read(0, extent).missing, expected)
    assert found.read(0, extent).fillable.all()


def test_a_small_scene_serves_again_in_another_round_and_a_stack_is_hidden_by_date(rng):
    small = rng.normal(size=(1, 1, 90, 90))
    assert [len(r.cases) for r in rounds_of(cube_of(small), trials=3)[2]] == [1, 1, 1]
    stack = rng.normal(size=(4, 1, 90, 90))
    days = ["2024-01-01", "2024-01-05", "2024-01-11", "2024-02-01"]
    rounds = rounds_of(cube_of(stack, days), trials=2)[2]
    assert len(rounds) == 1
    assert len({case.date for case in rounds[0].cases}) == 2


def test_a_large_scene_is_cut_to_a_part_that_keeps_its_place_on_the_ground(monkeypatch):
    monkeypatch.setattr("geodiff.score.hiding.MOST_SIDE", 330)
    values = np.zeros((1, 1, 800, 430), np.float32)
    values[..., :360, :] = np.nan
    part = bounded(cube_of(values, affine=Affine(10, 0, 5000, 0, -10, 9000)))
    assert part.shape == (330, 330)
    assert part.area.row == 470, "the candidate that shows most"
    whole = part.whole.lattice.absolute(part.area)
    assert part.lattice.absolute(Window(0, 0, 128, 128)) == whole
    assert part.shape[0] >= SIDE
