"""Laws of the spatial fillers: known pixels decide, hidden ones do not, and no patch knows another."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.restoration import inpaint_biharmonic

from geodiff.fillers import CODES, Filler, Fitted, Patch, SceneSample, Trial
from geodiff.fillers.kriging import Kriging
from geodiff.fillers.likeness import NonLocal
from geodiff.fillers.spatial import Biharmonic, InverseDistance, Laplace, Matern, Nearest, SpatialFiller
from geodiff.lattice import Window
from tests.fillers.patches import blobs, covered, rmse, rough

SIDE, HALO = 40, 12
FILLERS = [Nearest(), InverseDistance(), Laplace(), Biharmonic(), Matern(), Kriging(), NonLocal()]
names = pytest.mark.parametrize("filler", FILLERS, ids=lambda f: f.name)


def patch_of(values: np.ndarray, known: np.ndarray, coarse: np.ndarray | None = None, **more) -> Patch:
    """A patch (date, band, row, column) around a square window."""
    rest = {
        "fillable": np.ones(known.shape, bool),
        "window": Window(0, 0, values.shape[-2] - 2 * HALO, values.shape[-1] - 2 * HALO),
        "absolute": (96, 192),
        "dates": np.zeros(len(values), np.int64),
    } | more
    coarse = np.zeros(values.shape, np.float32) if coarse is None else coarse
    return Patch(np.where(known, values, 0).astype(np.float32), known, coarse=coarse, halo=HALO, **rest)


def random_patch(rng: np.random.Generator, bands: int = 2, dates: int = 1, share: float = 0.25) -> Patch:
    shape = (dates, bands, SIDE + 2 * HALO, SIDE + 2 * HALO)
    return patch_of(rough(rng, shape), ~blobs(rng, shape, share), gaussian_filter(rough(rng, shape), (0, 0, 8, 8)))


def trials_of(rng: np.random.Generator, count: int, exponent: float = 1.0) -> tuple[Trial, ...]:
    shape, found = (1, 1, SIDE + 2 * HALO, SIDE + 2 * HALO), []
    for _ in range(count):
        truth, known = rough(rng, shape, exponent), ~blobs(rng, shape, 0.2)
        patch = patch_of(truth, known)
        rows, columns = patch.core
        found.append(Trial(patch, truth[..., rows, columns], ~known[..., rows, columns]))
    return tuple(found)


@names
def test_it_is_a_filler_and_says_so_in_the_source_layer(filler, rng):
    assert isinstance(filler, Filler)
    patch = random_patch(rng)
    (filled,) = filler.fill([patch], filler.fit(SceneSample()), seed=0)
    assert filled.value.shape == filled.standard_error.shape == filled.source.shape == patch.missing.shape
    assert filled.value.dtype == filled.standard_error.dtype == np.float32
    assert filled.members is None
    assert (filled.source == CODES[filler.name]).all()
    assert np.isfinite(filled.value).all()
    assert (filled.standard_error > 0).all()


@names
def test_the_answer_for_a_patch_does_not_depend_on_the_others(filler, rng):
    patches = [random_patch(rng, share=s) for s in (0.1, 0.3, 0.6)]
    fitted = filler.fit(SceneSample())
    together = filler.fill(patches, fitted, seed=0)
    for patch, one in zip(patches, together, strict=True):
        (alone,) = filler.fill([patch], fitted, seed=0)
        np.testing.assert_array_equal(alone.value, one.value)
        np.testing.assert_array_equal(alone.standard_error, one.standard_error)


@names
def test_what_lies_under_the_gap_is_not_looked_at(filler, rng):
    patch = random_patch(rng)
    spoiled = replace(patch, values=np.where(patch.known, patch.values, np.float32(50)))
    fitted = filler.fit(SceneSample())
    for name in ("value", "standard_error"):
        a, b = (getattr(filler.fill([p], fitted, seed=0)[0], name)[patch.missing] for p in (patch, spoiled))
        np.testing.assert_array_equal(a, b)


@names
def test_a_constant_field_is_continued(filler, rng):
    known = ~blobs(rng, (1, 1, SIDE + 2 * HALO, SIDE + 2 * HALO), 0.4)
    constant = np.full(known.shape, 1.5, np.float32)
    patch = patch_of(constant, known, constant)
    (filled,) = filler.fill([patch], filler.fit(SceneSample()), seed=0)
    np.testing.assert_allclose(filled.value[patch.missing], 1.5, atol=0.02)


@pytest.mark.parametrize("filler", [Laplace(), Biharmonic(), Matern(), Kriging(), NonLocal()], ids=lambda f: f.name)
def test_a_plane_is_continued_into_a_gap(filler):
    y, x = np.mgrid[-1 : 1 : (SIDE + 2 * HALO) * 1j, -1 : 1 : (SIDE + 2 * HALO) * 1j]
    truth = (0.5 + 1.5 * y - 0.7 * x).astype(np.float32)[None, None]
    known = np.ones(truth.shape, bool)
    known[..., 20:36, 25:45] = False
    patch = patch_of(truth, known)
    (filled,) = filler.fill([patch], filler.fit(SceneSample()), seed=0)
    np.testing.assert_allclose(filled.value[patch.missing], truth[..., *patch.core][patch.missing], atol=0.02)


@names
def test_bands_and_dates_are_planes_of_their_own(filler, rng):
    patch = replace(random_patch(rng, bands=2, dates=3), targets=(2, 0))
    fitted = filler.fit(SceneSample())
    (whole,) = filler.fill([patch], fitted, seed=0)
    for place, target in enumerate((2, 0)):
        for band in range(2):
            cut = np.s_[target : target + 1, band : band + 1]
            arrays = {n: getattr(patch, n)[cut] for n in ("values", "known", "fillable", "coarse")}
            (one,) = filler.fill([replace(patch, **arrays, dates=patch.dates[:1], targets=(0,))], fitted, seed=0)
            np.testing.assert_allclose(one.value[0, 0], whole.value[place, band], atol=2e-5)


@names
def test_where_nothing_is_known_the_coarse_fill_is_the_answer(filler, rng):
    shape = (1, 2, SIDE + 2 * HALO, SIDE + 2 * HALO)
    coarse = rough(rng, shape)
    known = np.zeros(shape, bool)
    known[:, 1] = True
    known[:, 1, 30:34, 30:34] = False
    patch = patch_of(rough(rng, shape), known, coarse)
    (filled,) = filler.fill([patch], filler.fit(SceneSample()), seed=0)
    np.testing.assert_array_equal(filled.value[:, 0], coarse[:, 0, *patch.core])
    assert np.isfinite(filled.value).all()


@names
def test_one_known_pixel_is_enough(filler):
    known = np.zeros((1, 1, SIDE + 2 * HALO, SIDE + 2 * HALO), bool)
    known[..., 30, 30] = True
    patch = patch_of(np.full(known.shape, 2.0, np.float32), known, np.full(known.shape, 2.0, np.float32))
    (filled,) = filler.fill([patch], filler.fit(SceneSample()), seed=0)
    np.testing.assert_allclose(filled.value, 2.0, atol=0.05)


@names
def test_the_calibrated_error_covers_nine_tenths_of_fields_it_has_not_seen(filler, rng):
    fitted = filler.fit(SceneSample(trials_of(rng, 24)))
    fresh = trials_of(rng, 24)
    filled = filler.fill([t.patch for t in fresh], fitted, seed=0)
    value, error, truth = (
        np.concatenate([a[t.hidden] for a, t in zip(arrays, fresh, strict=True)])
        for arrays in ([f.value for f in filled], [f.standard_error for f in filled], [t.truth for t in fresh])
    )
    assert 0.85 <= covered(value, error, truth) <= 0.95


def test_laplace_beats_nearest_on_rough_fields_and_matern_laplace_on_smooth_ones(rng):
    def score(filler: SpatialFiller, trials: tuple[Trial, ...]) -> float:
        filled = filler.fill([t.patch for t in trials], filler.fit(SceneSample(trials)), seed=0)
        pairs = [(f.value[t.hidden], t.truth[t.hidden]) for f, t in zip(filled, trials, strict=True)]
        return rmse(*(np.concatenate(side) for side in zip(*pairs, strict=True)))

    textured, smooth = trials_of(rng, 8), trials_of(rng, 8, exponent=2.0)
    assert score(Laplace(), textured) < score(Nearest(), textured)
    assert score(Matern(), smooth) < 0.9 * score(Laplace(), smooth)


def test_matern_chooses_on_the_trials_and_defaults_without(rng):
    smooth = Matern().fit(SceneSample(trials_of(rng, 4, exponent=2.5)))
    rough_ = Matern().fit(SceneSample(trials_of(rng, 4, exponent=0.8)))
    assert smooth.facts["alpha"] == 2
    assert smooth.facts["kappa2"] < rough_.facts["kappa2"] or rough_.facts["alpha"] == 1
    assert Matern().fit(SceneSample()).facts["kappa2"] == Matern.grid[0].kappa2


@pytest.mark.parametrize("share", [0.1, 0.7])
def test_biharmonic_solves_what_scikit_image_does_however_much_is_missing(rng, share):
    values = rough(rng, (120, 160))
    known = rng.random(values.shape) >= share
    seen = np.where(known, values, np.float32(0))
    filled = Biharmonic().plane(seen, known, np.zeros_like(values), Fitted("biharmonic"))
    np.testing.assert_allclose(filled, inpaint_biharmonic(values.astype(np.float64), ~known), atol=1e-5)
    np.testing.assert_array_equal(filled[known], values[known])


def test_biharmonic_gives_way_to_the_harmonic_fill_where_the_known_pixels_do_not_decide(rng):
    values, known = rough(rng, (40, 40)), np.zeros((40, 40), bool)
    known[20, 20] = True
    filled = Biharmonic().plane(values, known, np.zeros_like(values), Fitted("biharmonic"))
    np.testing.assert_allclose(filled, values[20, 20], atol=1e-4)


@pytest.mark.parametrize("filler", [Biharmonic(), Matern(), Laplace(), NonLocal()], ids=lambda f: f.name)
def test_what_is_near_hidden_pixels_is_enough_for_their_estimate(filler, rng):
    shape = (1, 1, 120 + 2 * HALO, 120 + 2 * HALO)
    truth, known = rough(rng, shape), ~blobs(rng, shape, 0.4)
    patch = patch_of(truth, known)
    hidden = np.zeros((1, 1, 120, 120), bool)
    hidden[..., 40:60, 50:70] = True
    hidden &= ~known[..., *patch.core]
    trial = Trial(patch, truth[..., *patch.core], hidden)
    fitted = filler.tuned(SceneSample())
    whole, near = filler.estimate(patch, fitted)[hidden], filler.estimate_hidden(trial, fitted)[hidden]
    assert hidden.sum() > 50
    assert rmse(near, whole) < 0.02 * rmse(whole, trial.truth[hidden])


def test_fills_of_several_threads_let_no_warning_out():
    """rasterio silences one of its own for the whole process while it fills; warnings are errors here."""
    values, known = np.zeros((16, 16), np.float32), np.ones((16, 16), bool)
    known[4:8, 4:8] = False
    with ThreadPoolExecutor(4) as threads:
        fills = [threads.submit(InverseDistance().plane, values, known, values, Fitted("idw")) for _ in range(800)]
    assert not [fill.exception() for fill in fills if fill.exception()]
