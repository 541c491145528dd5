"""Peers: each one fills, is tuned on what it may see, and is missed aloud."""

import numpy as np
import pytest

from geodiff import peers
from geodiff.errors import InputError
from geodiff.peers import PEERS, Guess, Plane, Trial, load_peers, tune
from geodiff.peers.null import Residual, fit_null, radial_covariance
from geodiff.peers.scattered import points_around

CLASSICAL = [name for name in PEERS if name not in ("repaint", "dps")]


def plane_of(field, where):
    known = ~where
    return Plane(np.where(known, field, 0).astype(np.float32), known, where)


@pytest.fixture
def waves():
    y, x = np.mgrid[:72, :80]
    field = (np.sin(y / 11) + np.cos(x / 13)).astype(np.float32)
    where = np.zeros(field.shape, bool)
    where[30:42, 20:50] = True
    return field, where


@pytest.mark.parametrize("name", CLASSICAL)
def test_each_peer_fills_a_smooth_field_better_than_its_mean(name, waves):
    field, where = waves
    (peer,) = load_peers([name])
    guess = peer.fill(plane_of(field, where), peer.settings[0], draws=0, seed=0)
    assert guess.value.shape == field.shape
    error = np.sqrt(np.mean((guess.value - field)[where] ** 2))
    assert error < 0.6 * np.std(field[where] - field[~where].mean())


@pytest.mark.parametrize("name", CLASSICAL)
def test_no_peer_sees_what_is_hidden(name, waves):
    field, where = waves
    (peer,) = load_peers([name])
    spoiled = Plane(np.where(where, 99, field).astype(np.float32), ~where, where)
    first = peer.fill(plane_of(field, where), peer.settings[0], draws=0, seed=0).value
    assert np.array_equal(first[where], peer.fill(spoiled, peer.settings[0], draws=0, seed=0).value[where])


def test_the_guided_peers_draw_and_leave_the_known_alone(waves):
    field, where = waves
    shorts = ({"steps": 4, "jump": 2, "resamplings": 2}, {"steps": 4})
    for peer, short in zip(load_peers(["repaint", "dps"]), shorts, strict=True):
        guess = peer.fill(plane_of(field, where), {**peer.settings[0], **short}, draws=2, seed=0)
        assert guess.draws.shape == (2, *field.shape)
        assert guess.draws[:, ~where] == pytest.approx(np.stack([field[~where]] * 2), abs=1e-5)
        assert np.isfinite(guess.draws).all()
        assert not np.array_equal(guess.draws[0], guess.draws[1])
        assert guess.calls >= 4


def test_kriging_says_how_sure_it_is(waves):
    field, where = waves
    (peer,) = load_peers(["pykrige"])
    error = peer.fill(plane_of(field, where), peer.settings[0], draws=0, seed=0).standard_error
    assert error[36, 35] > error[30, 20] > 0


class Shifted:
    """Errs by its setting."""

    name, module, settings = "shifted", "numpy", ({"by": 2.0}, {"by": 0.5}, {"by": -1.0})

    def fill(self, plane, setting, *, draws, seed):
        return Guess(plane.values + np.float32(setting["by"]))


class Unsure(Shifted):
    probabilistic = True

    def fill(self, plane, setting, *, draws, seed):
        noise = np.random.default_rng(0).normal(size=plane.values.shape)
        return Guess((plane.values + setting["by"] * noise).astype(np.float32), np.full_like(plane.values, 0.25))


def test_tuning_takes_the_setting_with_the_least_error():
    zeros = np.zeros((40, 40), np.float32)
    trial = Trial(Plane(zeros, zeros > 1, zeros < 1), zeros)
    assert tune(Shifted(), [trial]).setting == {"by": 0.5}
    assert tune(Shifted(), []).setting == {"by": 2.0}, "without trials the library's own"
    tuned = tune(Unsure(), [trial])
    assert tuned.setting == {"by": 0.5}
    assert tuned.spread == pytest.approx(2.0, rel=0.1), "errors of 0.5 where 0.25 was claimed"
    assert tuned.fill(trial.plane).standard_error[0, 0] == pytest.approx(0.25 * tuned.spread)


def test_a_peer_that_is_not_installed_or_not_known_is_an_error(monkeypatch):
    with pytest.raises(InputError, match=r"no peer is called 'magic'; choose from gdal"):
        load_peers(["magic"])
    monkeypatch.setattr(peers, "find_spec", lambda name: None if name == "verde" else True)
    with pytest.raises(InputError, match=r"verde needs the package 'verde'.*pip install .*\.\[score\]") as refused:
        load_peers(list(PEERS))
    assert refused.value.exit_code == 2


def test_points_are_known_and_most_lie_beside_the_gap(waves):
    field, where = waves
    points = points_around(plane_of(field, where), 300)
    assert len(points) == 300
    assert not where[tuple(points.T)].any()
    assert len(np.unique(points, axis=0)) == 300
    near = np.maximum(np.abs(points[:, 0] - 35.5) - 6, np.abs(points[:, 1] - 34.5) - 15) <= 5
    assert near.mean() > 0.6


def smooth(rng, count, shape=(96, 96), scale=2.0):
    """Fields of unit variance whose covariance is exp(-lag^2 / (4 scale^2))."""
    from scipy.ndimage import gaussian_filter

    fields = np.stack([gaussian_filter(rng.normal(size=shape), scale, mode="wrap") for _ in range(count)])
    return (fields * np.sqrt(4 * np.pi) * scale).astype(np.float32)


def residuals_of(fields, where):
    return [Residual(plane_of(np.zeros_like(f), where), f) for f in fields]


def test_the_covariance_of_hidden_pixels_is_the_fields_whatever_the_gaps_shape(rng):
    where = rng.random((96, 96)) < 0.5
    measured = radial_covariance(residuals_of(smooth(rng, 12), where), 10)
    lags = np.array([0, 1, 3, 6])
    assert measured[lags] == pytest.approx(np.exp(-(lags**2) / 16), abs=0.12)


def test_the_null_noise_vanishes_at_data_and_has_the_residuals_variance(rng):
    where = np.zeros((96, 96), bool)
    where[20:70, 20:70] = True
    fields = smooth(rng, 6)
    null = fit_null(residuals_of(fields, where))
    plane = residuals_of(fields, where)[0].plane
    spread, drawn = null.spread(plane), null.draw(plane, 40, 1)
    assert drawn[:, ~where].any() == spread[~where].any() == False  # noqa: E712
    assert spread[20, 40] < 0.75 * spread[45, 45], "next to data it is smaller"
    assert float((spread[where] ** 2).mean()) == pytest.approx(float((fields[:, where] ** 2).mean()), rel=0.15)
    assert drawn[:, 45, 45].std() == pytest.approx(spread[45, 45], rel=0.35)
    assert np.corrcoef(drawn[:, 45, 45], drawn[:, 45, 46])[0, 1] > 0.7, "it is as smooth as what it was fitted to"
    assert np.array_equal(drawn[:5], null.draw(plane, 40, 1)[:5])
