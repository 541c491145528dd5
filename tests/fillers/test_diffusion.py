"""The diffusion filler: one value, ground noise, re-centred members, honest use of the fit."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from geodiff.errors import JobError
from geodiff.fillers import CODES, Filled, FillerSettings, Fitted, Patch, SceneSample, Trial, load_filler
from geodiff.fillers.correlated import band_correlation, date_wide, ground_white
from geodiff.fillers.diffusion import Diffusion, describe
from geodiff.fillers.kriging import Kriging
from geodiff.fillers.members import starts
from geodiff.fillers.spatial import Laplace
from geodiff.lattice import STRIDE, Window
from geodiff.noise import noise_in_time

HALO = 32


def patch(rng: np.random.Generator, *, bands: int = 1, dates: int = 1, column: int = 0) -> Patch:
    side = 128 + 2 * HALO
    values = ndimage.gaussian_filter(rng.normal(size=(dates, bands, side, side)), (0, 0, 3, 3)).astype(np.float32)
    values /= values.std()
    known = np.ones(values.shape, bool)
    known[0, :, 70:100, 60:110] = False
    return Patch(values * known, known, np.ones_like(known), np.zeros_like(values), Window(0, column, 128, 128), HALO,
                 (1000, 2000 + column), np.arange(dates, dtype=np.int64) * 86400 * 5)  # fmt: skip


@pytest.fixture(scope="module")
def filler() -> Diffusion:
    return Diffusion.configured(FillerSettings(members=2, steps=4, batch=4, device="cpu"))


@pytest.fixture(scope="module")
def empty(filler) -> Fitted:
    return filler.fit(SceneSample())


def test_it_is_registered_and_takes_the_settings() -> None:
    loaded = load_filler("diffusion", FillerSettings(steps=7))
    assert isinstance(loaded, Diffusion)
    assert (loaded.name, loaded.settings.steps, loaded.halo) == ("diffusion", 7, HALO)
    with pytest.raises(JobError, match="ddim"):
        load_filler("diffusion", FillerSettings(sampler="ddim"))


def test_layers_have_the_windows_shape(filler, empty, rng) -> None:
    given_patch = patch(rng, bands=2, dates=3)
    (filled,) = filler.fill([given_patch], empty, seed=0)
    shape = given_patch.missing.shape
    assert filled.value.shape == filled.standard_error.shape == filled.source.shape == shape
    assert filled.members.shape == (2, *shape)
    assert all(a.dtype == np.float32 for a in (filled.value, filled.standard_error, filled.members))
    assert (filled.source[given_patch.missing] == CODES["diffusion"]).all()
    assert (filled.standard_error[given_patch.missing] > 0).all()
    assert np.isfinite(filled.members).all()


def test_the_value_is_the_same_for_every_seed_number_of_members_and_batch(filler, empty, rng) -> None:
    patches = [patch(rng), patch(rng)]
    first = filler.fill(patches, empty, seed=0)
    for members, batch, seed in ((0, 1, 5), (3, 16, 1)):
        other = Diffusion(replace(filler.settings, members=members, batch=batch)).fill(patches, empty, seed=seed)
        for one, two in zip(first, other, strict=True):
            np.testing.assert_array_equal(two.value, one.value)
            np.testing.assert_array_equal(two.standard_error, one.standard_error)
    alone = filler.fill(patches[1:], empty, seed=0)[0]
    np.testing.assert_array_equal(alone.members, first[1].members)


def test_members_differ_from_each_other_and_repeat_with_the_seed(filler, empty, rng) -> None:
    given_patch = patch(rng)
    first, again, other = (filler.fill([given_patch], empty, seed=s)[0].members for s in (3, 3, 4))
    missing = given_patch.missing
    np.testing.assert_array_equal(again, first)
    assert np.abs(first[0] - first[1])[missing].mean() > 0
    assert np.abs(first - other)[:, missing].mean() > 0


def test_members_are_narrowed_as_far_as_the_standard_error_is(filler, empty, rng) -> None:
    given_patch, share = patch(rng), np.float32(0.3)  # what trials say of a pruned network
    narrow = replace(empty, arrays={**empty.arrays, "factors": share * empty.arrays["factors"]})
    (wide,), (close,) = (filler.fill([given_patch], fit, seed=0) for fit in (empty, narrow))
    missing = given_patch.missing
    np.testing.assert_allclose(close.standard_error[missing], share * wide.standard_error[missing], rtol=1e-5)
    spread = [np.sqrt(np.mean((one.members - one.value)[:, missing] ** 2)) for one in (close, wide)]
    assert spread[0] / spread[1] == pytest.approx(share, rel=0.1)


def test_overlapping_windows_draw_the_same_noise(rng) -> None:
    left, right = patch(rng), patch(rng, column=STRIDE)
    whites = [ground_white(p, (0, 0), seed=1) for p in (left, right)]
    one, other = (starts(white, 3) for white in whites)
    np.testing.assert_array_equal(one[:, :, STRIDE:], other[:, :, : 128 - STRIDE])
    wide, again = (white(36, -1) for white in whites)
    np.testing.assert_array_equal(wide[:, STRIDE:], again[:, :-STRIDE])
    np.testing.assert_array_equal(whites[0](36, 1)[36:-36, 36:-36], one[1])


def test_dates_share_noise_as_their_errors_do(rng) -> None:
    days = [replace(patch(rng), dates=np.array([86400 * day])) for day in (17_000, 17_005, 17_040)]
    one, near, far = (starts(ground_white(p, (0, 0), seed=1, memory=10 * 86400.0), 2).ravel() for p in days)
    assert np.corrcoef(one, near)[0, 1] == pytest.approx(0.5, abs=0.02)
    assert np.corrcoef(one, far)[0, 1] == pytest.approx(0.0, abs=0.02)


def test_what_a_date_shares_is_the_same_in_every_window_and_half_of_it_on_the_next(rng) -> None:
    fit = Fitted("diffusion", {"memory": 10 * 86400.0})
    here, there, later, other = (
        date_wide(replace(patch(rng, column=column), dates=np.array([86400 * day])), (0, 0), fit, 400, seed=seed)
        for column, day, seed in ((0, 17_000, 1), (STRIDE, 17_000, 1), (0, 17_005, 1), (0, 17_000, 2))
    )
    np.testing.assert_array_equal(here, there)
    assert here.std() == pytest.approx(1, abs=0.12)
    assert here.mean() == pytest.approx(0, abs=1e-5)
    assert np.corrcoef(here, later)[0, 1] == pytest.approx(0.5, abs=0.15)
    assert np.corrcoef(here, other)[0, 1] == pytest.approx(0, abs=0.15)


def test_bands_share_noise_as_their_errors_do(rng) -> None:
    correlation = np.array([[1.0, 0.8], [0.8, 1.0]])
    given_patch = patch(rng, bands=2)
    mix = np.linalg.cholesky(correlation)
    bands = [starts(ground_white(given_patch, (0, band), seed=1, mix=mix), 4) for band in (0, 1)]
    assert np.corrcoef(bands[0].ravel(), bands[1].ravel())[0, 1] == pytest.approx(0.8, abs=0.02)
    assert bands[1].std() == pytest.approx(1, abs=0.02)


def test_bands_of_a_window_share_their_noise_and_do_not_each_draw_that_of_all(filler, empty, rng, monkeypatch) -> None:
    own, drawn = patch(rng, bands=4), []

    def noise(*args, **key):
        drawn.append(key["band"])
        return noise_in_time(*args, **key)

    fit = replace(empty, arrays={**empty.arrays, "band_correlation": np.full((4, 4), 0.5) + 0.5 * np.eye(4)})
    (plain,) = filler.fill([own], fit, seed=0)
    monkeypatch.setattr("geodiff.fillers.diffusion.noise_in_time", noise)
    (counted,) = filler.fill([own], fit, seed=0)
    np.testing.assert_array_equal(counted.members, plain.members)
    assert sorted(drawn) == sorted(2 * filler.settings.members * [0, 1, 2, 3]), "once to start from, once for the broad"


def trials(rng: np.random.Generator, count: int = 3, error: float = 1.0) -> tuple[Trial, ...]:
    made = []
    for _ in range(count):
        own = patch(rng)
        truth = (own.coarse[list(own.targets)][..., *own.core] + error * rng.normal(size=own.missing.shape)).astype(
            np.float32
        )
        made.append(Trial(own, truth, own.missing))
    return tuple(made)


def test_the_fit_makes_intervals_hold_what_was_hidden(filler, rng) -> None:
    hidden = trials(rng, error=3.0)
    fitted = filler.fit(SceneSample(hidden))
    quiet = Diffusion(replace(filler.settings, members=0))
    inside = [
        (np.abs(f.value - t.truth) <= 1.645 * f.standard_error)[t.hidden].mean()
        for t, f in zip(hidden, quiet.fill([t.patch for t in hidden], fitted, seed=0), strict=True)
    ]
    assert np.mean(inside) == pytest.approx(0.9, abs=0.06)
    assert fitted.parts["prior"].filler == "kriging"
    assert fitted.facts["model"] == filler.denoiser.sha256


def test_without_trials_the_stored_table_is_used(filler, empty) -> None:
    np.testing.assert_allclose(empty.arrays["factors"], np.tile(filler.denoiser.calibration.factors, 4), rtol=1e-5)


def test_errors_that_go_together_are_found(rng) -> None:
    own = patch(rng, bands=2)
    alike = replace(own, values=own.values[:, :1] * np.float32([1, 2])[None, :, None, None])
    common = rng.normal(size=own.missing.shape[-2:])
    truth = np.stack([[common, common + 0.3 * rng.normal(size=common.shape)]]).astype(np.float32)
    flat = Filled(np.zeros_like(truth), np.ones_like(truth), None, np.zeros(truth.shape, np.uint8))
    for given_patch, least in ((own, 0.6), (alike, 0.9)):  # what is known elsewhere counts too
        correlation = band_correlation([Trial(given_patch, truth, own.missing)], [flat])
        assert least < correlation[0, 1] < 1
        np.testing.assert_allclose(np.diag(correlation), 1, rtol=1e-6)
        np.linalg.cholesky(correlation)
    same = np.repeat(truth[:, :1], 2, axis=1)
    assert band_correlation([Trial(alike, same, own.missing)], [flat])[0, 1] > 0.995  # no colour of its own
    assert band_correlation([], []) is None


def test_a_bad_band_that_is_lost_as_a_whole_leaves_the_others_their_correlation(rng) -> None:
    common = rng.normal(size=(128, 128))
    own = patch(rng, bands=3)
    own = replace(own, known=own.known & np.array([True, False, True])[:, None, None])
    truth = np.stack([[common, np.zeros_like(common), common + 0.3 * rng.normal(size=common.shape)]])
    truth, hidden = truth.astype(np.float32), own.missing & np.array([True, False, True])[:, None, None]
    flat = Filled(np.zeros_like(truth), np.ones_like(truth), None, np.zeros(truth.shape, np.uint8))
    correlation = band_correlation([Trial(own, truth, hidden)], [flat])
    assert correlation is not None
    assert 0.6 < correlation[0, 2] < 1
    np.testing.assert_array_equal(correlation[1], [0, 1, 0])


def test_a_network_that_says_nothing_leaves_the_kriging_it_starts_from(filler, empty, rng) -> None:
    class Silent:
        batch = 1

        def value(self, context, wanted, scalars=None):
            return np.zeros(wanted.shape, np.float32), np.ones(wanted.shape, np.float32)

    quiet = Diffusion(replace(filler.settings, members=0))
    quiet.__dict__["denoiser"] = Silent()
    own = patch(rng, bands=2)
    (filled,) = quiet.fill([own], empty, seed=0)
    kriged = Kriging().estimate(own, Fitted("kriging"))
    np.testing.assert_array_equal(filled.value[own.missing], kriged[own.missing])


def test_quiet_is_the_same_answer_without_members(filler, empty, rng) -> None:
    own = [patch(rng)]
    (loud,), (quiet,) = filler.fill(own, empty, seed=0), filler.quiet.fill(own, empty, seed=0)
    assert quiet.members is None
    np.testing.assert_array_equal(loud.value, quiet.value)
    np.testing.assert_array_equal(loud.standard_error, quiet.standard_error)
    assert filler.quiet.denoiser is filler.denoiser, "the network is loaded once"


def test_what_a_stack_needs_twice_is_made_once_a_patch(rng) -> None:
    own, made = patch(rng), []
    for _ in range(2):
        assert own.once("dear", lambda: made.append(1) or len(made)) == 1
    with pytest.raises(ValueError, match="read-only"):
        own.once("array", lambda: np.zeros(3))[0] = 1
    changed = replace(own, known=own.known & False)
    assert changed.once("dear", lambda: made.append(1) or len(made)) == 2, "another patch knows nothing of it"


def test_a_better_prior_is_kept_where_it_is_given(filler, rng) -> None:
    """mu0 and its scale come from the wrapped filler."""

    given_patch = patch(rng)

    class Wrapper:
        name, halo = "wrapped", HALO

        def fit(self, sample):
            return Laplace().fit(sample)

        def fill(self, patches, fitted, *, seed):
            return [replace(f, value=f.value + 7) for f in Laplace().fill(patches, fitted, seed=seed)]

    wrapped = Diffusion(replace(filler.settings, members=0), prior=Wrapper())
    plain = Diffusion(replace(filler.settings, members=0))
    missing = given_patch.missing
    lifted = wrapped.fill([given_patch], wrapped.fit(SceneSample()), seed=0)[0].value[missing].mean()
    assert lifted - plain.fill([given_patch], plain.fit(SceneSample()), seed=0)[0].value[missing].mean() > 3


def test_whole_frames_and_single_known_pixels_are_filled(filler, empty, rng) -> None:
    own = patch(rng, dates=2)
    for keep in (0, 1):
        known = own.known.copy()
        known[0] = False
        known[0, 0, 5, 5] = bool(keep)
        (filled,) = filler.fill([replace(own, known=known, values=own.values * known)], empty, seed=0)
        assert np.isfinite(filled.value).all()
        assert np.isfinite(filled.members).all()


def test_the_product_can_say_what_filled_it() -> None:
    facts = describe("default", "cpu", "float32")
    assert facts["dtype"] == "float32"
    assert facts["device"] == "cpu"
    assert len(facts["model_hash"]) == 64


def test_a_fit_has_the_answers_that_a_fill_would_give(filler, rng) -> None:
    full = patch(rng, bands=2)
    hidden = np.zeros(full.missing.shape, bool)
    hidden[..., 20:60, 20:90] = full.known[[0]][..., *full.core][..., 20:60, 20:90]
    known = full.known.copy()
    known[0][:, *full.core] &= ~hidden[0]
    trial = Trial(replace(full, known=known, values=full.values * known), full.values[[0]][..., *full.core], hidden)
    fitted, (told,) = filler.fitted_answers(SceneSample((trial,), 2))
    assert fitted.arrays["factors"].std() > 0
    (again,) = replace(filler, settings=replace(filler.settings, members=0)).fill([trial.patch], fitted, seed=0)
    missing = trial.patch.missing
    np.testing.assert_array_equal(told.value[missing], again.value[missing])
    np.testing.assert_allclose(told.standard_error[missing], again.standard_error[missing], rtol=1e-6)
