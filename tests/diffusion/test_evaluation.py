"""Scores: closed forms, and a calibration that does what it says."""

from dataclasses import replace

import numpy as np
import pytest

from geodiff.diffusion.data import Example
from geodiff.diffusion.evaluation import (
    Drawn,
    Outcome,
    as_markdown,
    calibrate,
    outcome_of,
    summarise,
)
from geodiff.diffusion.fields import CHANNELS, channel
from geodiff.diffusion.folder import Calibration
from geodiff.fillers.members import Broad


def outcome(rng, fold: int, width: float) -> Outcome:
    """A forecast whose claimed spread is `width` times too small; the prior is half again as wrong."""
    n = 2000
    mean, truth = rng.normal(size=n), None
    truth = mean + 0.8 * width * rng.normal(size=n)
    draws = mean + 0.8 * rng.normal(size=(8, n))
    return Outcome("optical", "made", "relaxed", fold, truth, mean, np.full(n, 0.8), draws, np.ones(n),
                   rng.integers(0, 5, n), (1.0, 1.0, 0.1, 0.05))  # fmt: skip


@pytest.mark.parametrize("width", [0.5, 1.0, 2.0])
def test_a_calibration_mends_a_wrong_width(rng, width) -> None:
    outcomes = [outcome(rng, i % 2, width) for i in range(6)]
    stored = calibrate(outcomes)
    np.testing.assert_allclose(stored.factors, width, rtol=0.1)
    np.testing.assert_allclose(stored.spread, width, rtol=0.1)
    table = summarise(outcomes, repeats=50)
    assert table["all"]["coverage of 90 %"][0] == pytest.approx(0.9, abs=0.02)
    assert table["all"]["spread / skill"][0] == pytest.approx(1, abs=0.07)
    assert table["all"]["top octave, draw, dB"][0] == pytest.approx(0)
    assert table["all"]["examples"] == [6.0]
    assert as_markdown(table).count("\n") == len(table["all"]) + 1


def test_distances_that_are_rare_keep_most_of_the_calibration_before(rng) -> None:
    def at(one, count):
        return replace(one, distance=np.where(np.arange(one.distance.size) < count, 4, 0).astype(np.intp))

    base = Calibration(factors=(1.0, 1.0, 1.0, 1.0, 1.5), spread=(1.0, 1.0, 1.0, 1.0, 1.2))
    none, few, many = (calibrate([at(outcome(rng, 0, 1.0), count)], base) for count in (0, 3, 1500))
    assert none.factors[1:] == base.factors[1:]
    assert none.spread[1:] == base.spread[1:]
    assert few.factors[4] == pytest.approx(1.5, rel=0.2)
    assert many.factors[4] == pytest.approx(1.0, rel=0.15)


def drawn(rng, index: int, width: float) -> Drawn:
    """Draws that depart `width` times as far as the value's own standard deviation, which is right, says."""
    shape = (128, 128)
    context = np.zeros((len(CHANNELS), *shape), np.float32)
    context[channel("log_distance")] = np.log1p(30)
    error = rng.normal(size=shape).astype(np.float32)
    fields = (width * rng.normal(size=(8, *shape))).astype(np.float32)
    zero, one = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    example = Example("optical", "made", "blobs", "relaxed", context, error, one > 0, error, zero, one, (0, 0, 0, 0))
    return Drawn(example, index, zero, one, fields, Broad(0 * fields, zero))


@pytest.mark.parametrize("width", [0.3, 4.0])
def test_draws_are_judged_as_wide_as_the_value_says(rng, width) -> None:
    made = [outcome_of(drawn(rng, i, width)) for i in range(2)]
    assert np.mean([o.draws.std() for o in made]) == pytest.approx(1, rel=0.05)
    truth, one, *_ = made[0].detail
    assert one == pytest.approx(truth, rel=0.15)
