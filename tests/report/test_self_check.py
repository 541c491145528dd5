"""What the run's self-check says of its errors: level where they are right, tilted or hollow where they are not."""

import numpy as np
import pytest

from geodiff.fitting import _coverage, _pit


@pytest.mark.parametrize(("stated", "sign"), [(1.0, 0), (0.5, -1), (2.0, 1)])
def test_coverage_tells_right_from_narrow_and_wide(rng: np.random.Generator, stated: float, sign: int) -> None:
    error = rng.standard_normal(40_000)
    pairs = _coverage(error, np.full(error.shape, stated, np.float32))
    off = np.array([held - level for level, held in pairs])
    assert np.all(np.abs(off) < 0.015) if sign == 0 else np.all(sign * off[:-1] > 0)


def test_pit_is_level_if_the_errors_are_right_and_tilted_by_a_bias(rng: np.random.Generator) -> None:
    error, stated = rng.standard_normal(40_000), np.ones(40_000, np.float32)
    level = np.array(_pit(error, stated))
    assert level.sum() == error.size
    assert np.abs(level / level.mean() - 1).max() < 0.12
    too_high = np.array(_pit(error + 1.0, stated))  # values above the truth: the truth falls low
    assert too_high[0] > 3 * too_high[-1]
