"""What masks alone make is made once."""

from __future__ import annotations

import numpy as np
import pytest

from geodiff.fillers.masks import once_a_mask
from geodiff.fillers.relaxation import relaxed_fill
from geodiff.fillers.variogram import variogram


def test_bands_of_one_mask_ask_once_and_get_what_they_would_alone() -> None:
    asked = []

    @once_a_mask
    def shifted(mask: np.ndarray, by: int) -> np.ndarray:
        asked.append(by)
        return np.roll(mask, by)

    mask = np.random.default_rng(0).random((7, 5)) < 0.4
    for given, by in ((mask, 1), (mask.copy(), 1), (np.asfortranarray(mask), 1), (mask, 2)):
        assert np.array_equal(shifted(given, by), np.roll(mask, by))
    assert asked == [1, 2]


def test_masks_of_the_same_bits_and_another_shape_are_told_apart() -> None:
    @once_a_mask
    def shape(mask: np.ndarray) -> tuple[int, ...]:
        return mask.shape

    bits = np.arange(24) % 5 == 0
    for sides in ((4, 6), (6, 4), (1, 24), (24,), (23,)):
        assert shape(bits[: np.prod(sides)].reshape(sides)) == sides


@pytest.mark.parametrize("side", [31, 192])
def test_an_answer_does_not_depend_on_who_asked_before(side: int) -> None:
    rng = np.random.default_rng(side)
    known, others = rng.random((2, 1, side, side)) < 0.7
    values = rng.normal(size=(2, 1, side, side)).astype("f4")
    coarse = np.zeros_like(values[0])
    first = relaxed_fill(values[0], known, coarse), variogram(values[0, 0], known[0])
    for mask in (known, others, known):
        relaxed_fill(values[1], mask, coarse)
        variogram(values[1, 0], mask[0])
    again = relaxed_fill(values[0], known, coarse), variogram(values[0, 0], known[0])
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
