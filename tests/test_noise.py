"""Noise that belongs to the ground."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from geodiff.noise import ground_noise

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
