"""Laws of filling from places that look alike: the formula, real edges, and where kriging stays."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage import data

from geodiff.fillers import Fitted, likeness
from geodiff.fillers.kriging import Kriging
from geodiff.fillers.likeness import ALIKE, SIDE, NonLocal, predicted


def terraces(rng: np.random.Generator) -> np.ndarray:
    """Sharp edges between even grounds, with a little grain: one covariance is right for no place of it."""
    steps = np.round(2 * gaussian_filter(rng.normal(size=(96, 96)), 6) * 12) / 2
    return (steps + 0.05 * rng.normal(size=steps.shape)).astype(np.float32)


def error(fill: np.ndarray, truth: np.ndarray, where: np.ndarray) -> float:
    return float(np.sqrt(np.mean((fill - truth)[where] ** 2)))


def test_a_patch_is_told_by_the_normal_prediction(rng):
    like, common = rng.normal(size=(ALIKE, SIDE * SIDE)), np.diag(np.linspace(1, 2, SIDE * SIDE))
    patch, gap = rng.normal(size=(SIDE, SIDE)).astype(np.float32), np.zeros((SIDE, SIDE), bool)
    gap[:, 5:] = True
    like = like.astype(np.float32)
    covariance = 0.5 * np.cov(like, rowvar=False) + 0.5 * common
    noise = 1e-3 * np.trace(covariance) / SIDE**2 + 1e-9
    lost, seen = np.flatnonzero(gap), np.flatnonzero(~gap)
    gain = np.linalg.solve(covariance[np.ix_(seen, seen)] + noise * np.eye(len(seen)), covariance[np.ix_(seen, lost)])
    mean, order = like.mean(axis=0), np.r_[seen, lost]
    reference = likeness._Reference((0, 0), gap, order, patch[~gap], like[:, order])
    both = likeness._told([reference, reference], common)
    for told, worth in zip(*(np.split(each, 2) for each in both), strict=True):
        np.testing.assert_allclose(told, mean[lost] + (patch[~gap] - mean[seen]) @ gain, rtol=1e-5, atol=1e-6)
        left = covariance[lost, lost] - np.einsum("sl,sl->l", covariance[np.ix_(seen, lost)], gain)
        np.testing.assert_allclose(worth, 1 / (left + noise), rtol=1e-5)


def test_those_taken_look_most_like_the_known_part(rng):
    values, known = rng.normal(size=(60, 60)).astype(np.float32), np.ones((60, 60), bool)
    known[23:28, 20:28] = known[:, 37:] = False
    whole = likeness._lost_by_patch(~known) == 0
    found = likeness._Shown.of(values, known, whole).like((20, 20))
    patches = np.lib.stride_tricks.sliding_window_view(values, (SIDE, SIDE))
    every = patches[6:35, 6:35][whole[6:35, 6:35]]
    distance = np.sort(((every - patches[20, 20])[:, :3] ** 2).sum(axis=(1, 2)))
    np.testing.assert_array_equal(found.gap, ~known[20:28, 20:28])
    np.testing.assert_array_equal(found.seen, values[20:23, 20:28].ravel())
    own = ((found.like[:, :24] - found.seen) ** 2).sum(axis=1)
    np.testing.assert_allclose(np.sort(own), distance[:ALIKE], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("image", [data.moon(), data.camera()], ids=["moon", "camera"])
def test_edges_of_real_scenes_are_carried_across_lines_better_than_by_kriging(image):
    """Kriging knows one covariance for a whole window; where shapes have edges there is none such."""
    truth, known = image[300:428, 200:328].astype(np.float32), np.ones((128, 128), bool)
    truth = (truth - truth.mean()) / truth.std()
    for row in (20, 50, 80, 105):
        known[row : row + 3] = False
    seen = np.where(known, truth, 0)
    smooth = Kriging().plane(seen, known, np.zeros_like(truth), Fitted("kriging"))
    assert error(predicted(seen, known, ~known, smooth), truth, ~known) < 0.95 * error(smooth, truth, ~known)


def test_patches_draw_no_grid(rng):
    """They begin every four pixels: where one ends and all of it counted the same, neighbours differed by half more."""
    hills, grain = rng.normal(size=(2, 160, 160))
    truth = (8 * gaussian_filter(hills, 4) + gaussian_filter(grain, 0.8)).astype(np.float32)
    known = np.ones(truth.shape, bool)
    for column in range(20, 150, 30):
        known[:, column : column + 7] = False
    found = predicted(np.where(known, truth, np.float32(0)), known, ~known, np.zeros_like(truth))
    steps = np.abs(np.diff(found, axis=0))[:, ~known[0]].mean(axis=1)
    at_edges = np.arange(1, len(truth)) % likeness.STEP == 0
    assert steps[at_edges].mean() < 1.25 * steps[~at_edges].mean()


def test_deep_in_a_gap_and_where_not_wanted_the_other_estimate_stays(rng):
    truth, known = terraces(rng), np.ones((96, 96), bool)
    known[30:60, 30:60] = False
    wanted = ~known
    wanted[:, 45:] = False
    smooth = np.full_like(truth, 9)
    found = predicted(np.where(known, truth, 0), known, wanted, smooth)
    assert (found[37:53, 37:45] == 9).all(), "no patch that shows enough reaches so far"
    assert (found[:, 45:] == 9).all()
    assert (np.abs(found[31:59, 30] - truth[31:59, 30]) < 3).all()


@pytest.mark.parametrize("known_pixels", [0, 40])
def test_with_little_known_kriging_answers(rng, known_pixels):
    values, known = terraces(rng), np.zeros((96, 96), bool)
    known.ravel()[rng.choice(known.size, known_pixels, replace=False)] = True
    smooth = np.ones_like(values)
    np.testing.assert_array_equal(predicted(values, known, ~known, smooth), smooth)
    narrow = np.s_[:, :5]
    found = predicted(values[narrow], known[narrow], ~known[narrow], smooth[narrow])
    np.testing.assert_array_equal(found, smooth[narrow])


def test_a_level_and_a_scale_change_nothing_but_the_answer(rng):
    truth, known = terraces(rng), np.ones((96, 96), bool)
    known[30:33] = False
    first, second = (
        NonLocal().plane(np.where(known, image, 0).astype(np.float32), known, np.zeros_like(truth), Fitted("nonlocal"))
        for image in (truth, 7 * truth + 100)
    )
    np.testing.assert_allclose(second, 7 * first + 100, atol=0.05)
