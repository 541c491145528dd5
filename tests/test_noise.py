"""Noise that belongs to the ground."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from geodiff.noise import ground_noise, noise_in_time

KEYS = st.integers(-(2**40), 2**40)


@given(KEYS, KEYS, st.integers(0, 60), st.integers(0, 60))
def test_the_same_pixel_draws_the_same_number(row: int, column: int, down: int, right: int) -> None:
    whole = ground_noise((64, 64), row=row, column=column, seed=9)
    part = ground_noise((4, 4), row=row + down, column=column + right, seed=9)
    assert np.array_equal(whole[down : down + 4, right : right + 4], part)


def test_it_is_standard_normal_and_white() -> None:
    noise = ground_noise((512, 512), row=-1_000, column=77, seed=3).astype(float)
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
    for shifted in (noise[1:] * noise[:-1], noise[:, 1:] * noise[:, :-1], noise[1:, 1:] * noise[:-1, :-1]):
        assert abs(shifted.mean()) < 5 / 512


@pytest.mark.parametrize("part", ["seed", "date", "band", "member", "step"])
def test_every_part_of_the_key_gives_other_noise(part: str) -> None:
    key = {"seed": 1, "date": 2, "band": 3, "member": 4, "step": 5}
    one = ground_noise((256, 256), row=0, column=0, **key)
    two = ground_noise((256, 256), row=0, column=0, **{**key, part: key[part] + 1})
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.02


def test_rows_and_columns_are_not_interchangeable() -> None:
    noise = ground_noise((128, 128), row=0, column=0, seed=0)
    assert abs(np.corrcoef(noise.ravel(), noise.T.ravel())[0, 1]) < 0.05


def _at(day: float, memory: float = 10 * 86400.0, **key: int) -> np.ndarray:
    given = {"row": 3, "column": -7, "seed": 5, **key}
    return noise_in_time((200, 200), seconds=int(day * 86400), memory=memory, **given).astype(float)


def test_noise_in_time_is_standard_normal_and_white_in_space() -> None:
    noise = _at(17_000.3)
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
    assert abs((noise[1:] * noise[:-1]).mean()) < 0.025


@pytest.mark.parametrize(("apart", "correlation"), [(0, 1), (2.5, 0.75), (5, 0.5), (7.5, 0.25), (10, 0), (30, 0)])
@pytest.mark.parametrize("start", [-400.0, 0.0, 17_000.0, 17_003.1])
def test_dates_go_together_the_less_the_further_they_are_apart(start: float, apart: float, correlation: float) -> None:
    found = np.corrcoef(_at(start).ravel(), _at(start + apart).ravel())[0, 1]
    assert abs(found - correlation) < 1 / 8 + 0.03


def test_noise_in_time_belongs_to_the_ground_and_to_its_key() -> None:
    part = noise_in_time((20, 30), row=13, column=-2, seed=5, seconds=17_000 * 86400, memory=10 * 86400.0)
    assert np.array_equal(_at(17_000)[10:30, 5:35].astype("f4"), part)
    for other in ({"seed": 6}, {"member": 1}, {"band": 1}):
        assert abs(np.corrcoef(_at(17_000).ravel(), _at(17_000, **other).ravel())[0, 1]) < 0.03


def test_without_memory_dates_are_independent() -> None:
    assert np.array_equal(
        noise_in_time((9, 9), row=0, column=0, seed=1, seconds=77, memory=0.0),
        ground_noise((9, 9), row=0, column=0, seed=1, date=77),
    )
