"""Angles as points of the unit circle: there and back, how sure, and how far drawn ones depart."""

from __future__ import annotations

import numpy as np
import pytest

from geodiff.turns import Turn

DEGREES = Turn(360.0, 0.0)
NOTHING = 0.9 * 180 / 1.645
"""The standard error of a direction of which nothing is known: 90 % of half a turn to either side."""


def apart(first: np.ndarray, second: np.ndarray, turn: Turn = DEGREES) -> np.ndarray:
    half = turn.length / 2
    return np.abs(np.mod(first - second + half, turn.length) - half)


@pytest.mark.parametrize("turn", [DEGREES, Turn(360.0, -180.0), Turn(2 * np.pi, -np.pi), Turn(365.25, 0.5)])
def test_angles_come_back_within_their_turn(rng: np.random.Generator, turn: Turn) -> None:
    angles = np.concatenate([rng.uniform(turn.start, turn.start + turn.length, 1000), [turn.start], [0.0]])
    back = turn.angles(*turn.parts(angles))
    assert apart(back, angles, turn).max() < 1e-9 * turn.length
    assert back.min() >= turn.start
    assert back.max() < turn.start + turn.length
    assert turn.within(np.array([turn.start - 1e-20])) == turn.start


def test_small_errors_of_both_are_that_of_the_angle_and_large_ones_half_a_turn() -> None:
    angles = np.array([0.0, 30, 100, 250])
    parts, degree = DEGREES.parts(angles), np.full(4, np.radians(1.0) / np.sqrt(2))
    assert DEGREES.error(*parts, degree, degree) == pytest.approx(np.ones(4), rel=0.01)
    nowhere, whole = np.zeros(4), np.full(4, np.sqrt(0.5))
    assert DEGREES.error(nowhere, nowhere, whole, whole) == pytest.approx(np.full(4, NOTHING), rel=0.01)
    sure = np.full(4, 1e-3)
    assert DEGREES.error(0.1 * parts[0], 0.1 * parts[1], sure, sure).min() > 45, "the circle is far from such points"


@pytest.mark.parametrize("concentration", [0.3, 1.0, 3.0, 10.0, 300.0])
def test_intervals_hold_what_they_say(rng: np.random.Generator, concentration: float) -> None:
    """Directions spread about 350 degrees; the best estimate of their cosine and sine is known, and how wrong it is."""
    truth = np.mod(350 + np.degrees(rng.vonmises(0.0, concentration, 20_000)), 360)
    parts = np.stack(DEGREES.parts(truth))
    middle = parts.mean(axis=1)
    error = DEGREES.error(*middle, *(parts - middle[:, None]).std(axis=1))
    held = apart(DEGREES.angles(*middle), truth) <= 1.645 * error
    assert held.mean() == pytest.approx(0.9, abs=0.01)


def test_draws_depart_as_far_as_the_truth_may(rng: np.random.Generator) -> None:
    middle = DEGREES.parts(np.full(20_000, 355.0))
    noise = 0.05 * rng.standard_normal((2, 20_000))
    drawn = DEGREES.drawn(*middle, middle[0] + noise[0], middle[1] + noise[1])
    error = DEGREES.error(*middle, np.full(20_000, 0.05), np.full(20_000, 0.05))
    assert np.std((drawn - 175) % 360) == pytest.approx(error[0], rel=0.03)
    assert DEGREES.drawn(*middle, *middle) == pytest.approx(np.full(20_000, 355.0))
