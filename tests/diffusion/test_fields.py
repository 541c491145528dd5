"""What the network is told: finite, in place, and the same whatever the units of the product."""

import numpy as np
import pytest
from scipy import ndimage

from geodiff.diffusion.fields import (
    CHANNELS,
    FLOOR,
    Layer,
    Scene,
    channel,
    context,
    filled,
    local_scale,
    whitening_error,
)
from geodiff.fillers.whitening import distance_to_known


@pytest.fixture
def layer(rng) -> Layer:
    values = ndimage.gaussian_filter(rng.normal(size=(64, 72)), 2).astype(np.float32)
    values /= values.std()
    known = np.ones(values.shape, bool)
    known[20:44, 30:50] = False
    return Layer(values * known, known)


def scene(layer: Layer, **more) -> Scene:
    prior = filled(layer, 3)
    return Scene(layer, ~layer.known, prior, whitening_error(layer), **more)


def test_absent_context_is_zero(layer) -> None:
    planes = context(scene(layer))
    assert planes.shape == (len(CHANNELS), *layer.known.shape)
    for name in (
        "date1",
        "date2_known",
        "guide",
        "guide_known",
        "elevation",
        "sin_day",
        "cos_day",
        "degraded",
        "never",
    ):
        assert not planes[channel(name)].any()


def test_nothing_shows_through_the_gap(layer, rng) -> None:
    """What was hidden has no influence."""
    spoilt = Layer(
        np.where(layer.known, layer.values, rng.normal(size=layer.known.shape)).astype(np.float32), layer.known
    )
    np.testing.assert_array_equal(context(scene(spoilt)), context(scene(layer)))


@pytest.mark.parametrize("factor", [0.5, 8.0])
def test_contrast_and_offset_do_not_matter_but_for_level_and_scale(layer, factor) -> None:
    other = Layer((layer.values * factor + 3) * layer.known, layer.known)
    mine, theirs = context(scene(layer)), context(scene(other))
    for name in CHANNELS:
        if name not in ("level", "log_error"):
            np.testing.assert_allclose(theirs[channel(name)], mine[channel(name)], atol=2e-2)
    np.testing.assert_allclose(theirs[channel("log_error")] - mine[channel("log_error")], np.log(factor), atol=1e-3)


def test_another_date_shows_what_the_target_lost(layer, rng) -> None:
    full = Layer(
        ndimage.gaussian_filter(rng.normal(size=layer.known.shape), 2).astype(np.float32), np.ones_like(layer.known)
    )
    planes = context(scene(layer, dates=[full] * 5, guide=full, elevation=full.values, day=91.3125))
    inside = planes[channel("date1")][~layer.known]
    assert np.corrcoef(inside, full.values[~layer.known])[0, 1] > 0.7
    assert planes[channel("sin_day")] == pytest.approx(1, abs=1e-6)
    assert planes[channel("elevation")].any()


@pytest.mark.parametrize("value", [0.0, 1e4])
def test_flat_and_empty_surroundings_stay_finite(value) -> None:
    flat = Layer(np.full((32, 32), value, np.float32), np.ones((32, 32), bool))
    nothing = Layer(np.zeros((32, 32), np.float32), np.zeros((32, 32), bool))
    for layer in (flat, nothing):
        assert np.isfinite(context(scene(layer, dates=[nothing], guide=flat))).all()
        assert (whitening_error(layer) >= FLOOR).all()
        assert (local_scale(layer) >= FLOOR).all()


def test_the_expected_error_grows_with_the_distance(layer) -> None:
    error = whitening_error(Layer(np.sign(layer.values) * layer.known, layer.known))
    assert error[32, 40] > 1.5 * error[20, 40]


@pytest.mark.parametrize("gap", [np.s_[20:30, 18:40], np.s_[0:12, 5:30], np.s_[10:72, 10:64]])
def test_the_distance_is_that_to_what_is_shown_also_where_more_is_known(gap) -> None:
    known = np.ones((80, 80), bool)
    known[gap] = False
    part = np.s_[8:72, 8:72]
    values, wider = np.zeros((64, 64), np.float32), distance_to_known(known)[part]
    found = Layer(values, known[part], wider).distance
    np.testing.assert_array_equal(found, Layer(values, known[part]).distance)
