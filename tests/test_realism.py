"""Distances between sets of images: closed forms, and the order of known degradations."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from geodiff.diffusion.encoders import InceptionEncoder, TextureEncoder, encoder_of, perceptual_distance
from geodiff.errors import InputError
from geodiff.realism import diversity, frechet_distance, judge, kernel_distance, precision_recall, windows_of

RNG = np.random.default_rng(0)


def textures(count: int, seed: int, exponent: float = 1.0) -> np.ndarray:
    """Fields with a power-law spectrum and some edges."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.rfftfreq(64)[None])
    frequency[0, 0] = 1
    noise = np.fft.rfft2(rng.normal(size=(count, 64, 64)))
    fields = np.fft.irfft2(noise / frequency**exponent, s=(64, 64))
    fields /= fields.std((1, 2), keepdims=True)
    return (fields + (fields > 0.5)).astype(np.float32)


def blocky(images: np.ndarray) -> np.ndarray:
    means = images.reshape(len(images), 8, 8, 8, 8).mean((2, 4))
    return np.repeat(np.repeat(means, 8, axis=1), 8, axis=2) * 0.5 + 0.5 * images


DEGRADED = {
    "a little blur": lambda x: gaussian_filter(x, (0, 0.6, 0.6)),
    "blur": lambda x: gaussian_filter(x, (0, 1.5, 1.5)),
    "strong blur": lambda x: gaussian_filter(x, (0, 4, 4)),
    "a little noise": lambda x: x + 0.15 * RNG.normal(size=x.shape).astype(np.float32),
    "noise": lambda x: x + 0.6 * RNG.normal(size=x.shape).astype(np.float32),
    "blocking": blocky,
    "wrong scale": lambda x: np.repeat(np.repeat(x[:, :32, :32], 2, axis=1), 2, axis=2),
}


@pytest.fixture(scope="module")
def distances() -> dict[str, float]:
    encoder = TextureEncoder()
    truth, others = (encoder.features(textures(96, s)) for s in (1, 2))
    centre, scale = truth.mean(0), truth.std(0) + 1e-6

    def to_truth(features: np.ndarray) -> float:
        return frechet_distance((features - centre) / scale, (truth - centre) / scale)

    found = {name: to_truth(encoder.features(change(textures(96, 2)))) for name, change in DEGRADED.items()}
    return found | {"other places": to_truth(others)}


def test_every_degradation_is_farther_than_other_places_of_the_same_kind(distances) -> None:
    nearest = min(distance for name, distance in distances.items() if name != "other places")
    assert nearest > 1.5 * distances["other places"], distances


@pytest.mark.parametrize(
    ("less", "more"), [("a little blur", "blur"), ("blur", "strong blur"), ("a little noise", "noise")]
)
def test_more_of_a_degradation_is_farther(distances, less, more) -> None:
    assert distances[less] < distances[more]


def test_frechet_distance_of_normal_distributions_is_the_closed_form() -> None:
    a, b = RNG.normal(size=(20000, 3)), 2 * RNG.normal(size=(20000, 3)) + np.array([1, 0, 0])
    assert frechet_distance(a, b) == pytest.approx(1 + 3 * (2 - 1) ** 2, rel=0.05)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-8)


def test_kernel_distance_is_unbiased_for_like_sets_and_positive_for_others() -> None:
    like = [kernel_distance(RNG.normal(size=(40, 4)), RNG.normal(size=(40, 4))) for _ in range(60)]
    assert abs(np.mean(like)) < 4 * np.std(like) / np.sqrt(len(like))
    assert kernel_distance(RNG.normal(size=(200, 4)), RNG.normal(size=(200, 4)) + 1) > 0.5


def test_copies_of_one_image_are_precise_and_recall_nothing() -> None:
    truth = RNG.normal(size=(200, 2))
    one = np.tile(truth[:1], (200, 1)) + 1e-3 * RNG.normal(size=(200, 2))
    precision, recall = precision_recall(one, truth)
    assert precision > 0.9
    assert recall < 0.05
    far = precision_recall(truth + 50, truth)
    assert far == (0.0, 0.0)


def test_perceptual_distance_forgives_place_more_than_blur() -> None:
    truth = textures(16, 3)
    assert perceptual_distance(truth, truth).max() == 0
    near, blurred = gaussian_filter(truth, (0, 0.5, 0.5)), gaussian_filter(truth, (0, 2, 2))
    assert perceptual_distance(near, truth).mean() < perceptual_distance(blurred, truth).mean()
    assert perceptual_distance(textures(16, 4), truth).mean() < perceptual_distance(blurred, truth).mean()


def test_features_do_not_see_a_constant_and_do_not_depend_on_the_company() -> None:
    encoder, patches = TextureEncoder(), textures(40, 5)
    np.testing.assert_allclose(encoder.features(patches + 100), encoder.features(patches), atol=2e-2)
    np.testing.assert_allclose(encoder.features(patches[:1]), encoder.features(patches)[:1], rtol=1e-4, atol=1e-5)


def test_judging_says_which_is_nearer_and_warns_of_few(caplog) -> None:
    truth = textures(48, 6)
    like, blurred = (judge(n, x, truth, TextureEncoder(), repeats=10) for n, x in
                     (("like", textures(48, 7)), ("blurred", DEGRADED["blur"](truth))))  # fmt: skip
    assert "48 patches" in caplog.text
    assert like.frechet[0] < blurred.frechet[0]
    assert like.recall[0] > blurred.recall[0]
    assert like.frechet[1] <= like.frechet[0] <= like.frechet[2]


def test_patches_of_one_place_say_no_more_than_the_place() -> None:
    """Windows overlap and bands are alike: drawn one by one they would make intervals too narrow."""
    truth = textures(16, 6)
    blurred = np.stack([gaussian_filter(t, 0.5 + 0.1 * i) for i, t in enumerate(truth)])
    one = judge("x", blurred, truth, TextureEncoder(), repeats=40)
    many = judge("x", np.repeat(blurred, 9, 0), np.repeat(truth, 9, 0), TextureEncoder(),
                 places=np.repeat(np.arange(16), 9), repeats=40)  # fmt: skip
    assert (one.places, many.places, many.patches) == (16, 16, 144)
    for figure in ("kernel", "perceptual"):
        (_, a, b), (_, c, d) = getattr(one, figure), getattr(many, figure)
        assert d - c > 0.5 * (b - a), figure
    for figure in ("frechet", "precision", "recall"):
        assert getattr(many, figure)[1] >= 0
    assert many.recall[2] <= 1


def test_one_place_has_no_interval_and_its_json_no_nan() -> None:
    truth = textures(8, 6)
    alone = judge("x", truth, truth, TextureEncoder(), places=[3] * 8, repeats=5)
    assert alone.frechet[0] == pytest.approx(0, abs=1e-6)
    assert np.isnan(alone.frechet[1])
    assert alone.as_json()["frechet"][1:] == [None, None]


def test_figures_do_not_depend_on_the_units() -> None:
    truth = textures(12, 1)
    blurred = gaussian_filter(truth, (0, 1, 1))
    plain, small = (judge("x", s * blurred, s * truth, TextureEncoder(), repeats=2) for s in np.float32([1, 1e-4]))
    assert small.frechet[0] == pytest.approx(plain.frechet[0], rel=1e-3)
    assert small.perceptual[0] == pytest.approx(plain.perceptual[0], rel=1e-3)
    both = np.stack([truth, blurred])
    assert diversity(both * np.float32(1e-4)) == pytest.approx(diversity(both), rel=1e-3)


def test_diversity_is_none_for_copies() -> None:
    one = textures(8, 8)
    assert diversity(np.stack([one, one])) == 0
    assert diversity(np.stack([one, textures(8, 9)])) > 0.1
    assert diversity(one[None]) == 0


def test_windows_are_those_that_are_missing_for_the_most_part() -> None:
    missing = np.zeros((128, 192), bool)
    missing[:64, :64] = True
    image = RNG.normal(size=missing.shape).astype(np.float32)
    (found,) = windows_of([image], missing)
    assert len(found) == 3  # the window itself, and its neighbours half of it over
    np.testing.assert_array_equal(found[0], image[:64, :64])
    assert windows_of([image], ~missing & missing)[0].shape == (0, 64, 64)


def test_an_encoder_that_stretches_contrast_sees_who_has_too_little() -> None:
    class Stretching(InceptionEncoder):
        def __init__(self) -> None:
            self._network = lambda counts: counts[:, 0].float().flatten(1)[:, ::97]

    truth = textures(40, 1)
    flat = judge("flat", truth * np.float32(0.3), truth, Stretching(), repeats=2)
    assert flat.frechet[0] > 1


def test_what_cannot_be_judged_is_said() -> None:
    with pytest.raises(InputError, match="too few"):
        frechet_distance(np.zeros((4, 3)), np.zeros((90, 3)))
    with pytest.raises(InputError, match="no encoder"):
        encoder_of("vgg")
    with pytest.raises(InputError, match="32"):
        TextureEncoder().features(np.zeros((3, 16, 16), np.float32))
