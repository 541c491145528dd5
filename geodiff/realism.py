"""Whether fills look like the ground: distances between sets of patches, and the diversity of members.

Frechet distance (Heusel et al. 2017), kernel distance (Binkowski et al. 2018), precision and recall (Kynkaanniemi et
al. 2019), on features of an encoder that is named with every figure. Values of different encoders do not compare.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.errors import InputError
from geodiff.metrics import Interval, bootstrap_interval

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from geodiff.diffusion.encoders import Encoder

    Features = NDArray[np.float64]

__all__ = ["Realism", "diversity", "frechet_distance", "judge", "kernel_distance", "precision_recall", "windows_of"]

_log = logging.getLogger(__name__)

ENOUGH = 200
"""Patches below which a distance is mostly its own bias; figures are then given with a warning."""
_LEAST = 8
_SHRINK = 0.05
"""Share of the covariance's mean variance added to its diagonal: fewer patches than features make it singular."""


@dataclass(frozen=True, slots=True)
class Realism:
    """How far a set of images is from the truth; each figure with the ends of its 95 % interval, NaN for one place."""

    name: str
    encoder: str
    patches: int
    places: int
    """Where the patches are from; the intervals are of these."""
    frechet: tuple[float, float, float]
    kernel: tuple[float, float, float]
    """Times 1,000."""
    precision: tuple[float, float, float]
    """Share of the images that lie among the truth: do they look real?"""
    recall: tuple[float, float, float]
    """Share of the truth that lies among the images: is all of it there?"""
    perceptual: tuple[float, float, float]
    """Mean distance to the truth of the same place."""

    def as_json(self) -> dict[str, Any]:
        """Ready for JSON: NaN as None."""
        facts = asdict(self)
        return {k: [_plain(x) for x in v] if isinstance(v, tuple) else v for k, v in facts.items()}


def frechet_distance(a: Features, b: Features) -> float:
    """Squared Frechet distance of two normal distributions fitted to rows of features.

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^1/2), covariances drawn a little to their mean variance.
    """
    _check(a, b)
    covariances = [_covariance(x) for x in (a, b)]
    eigenvalues = np.linalg.eigvals(covariances[0] @ covariances[1])
    overlap = np.sqrt(np.maximum(eigenvalues.real, 0)).sum()
    shift = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    return max(float(shift + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * overlap), 0.0)


def _covariance(features: Features) -> Features:
    exact = np.cov(features, rowvar=False)
    return np.asarray((1 - _SHRINK) * exact + _SHRINK * np.trace(exact) / len(exact) * np.eye(len(exact)))


def kernel_distance(a: Features, b: Features) -> float:
    """Unbiased squared maximum mean discrepancy with the cubic kernel (x.y / d + 1)^3; about 0 for like sets."""
    _check(a, b)
    width = a.shape[1]

    def kernel(x: Features, y: Features) -> Features:
        return np.asarray((x @ y.T / width + 1) ** 3)

    def among(x: Features) -> float:
        k = kernel(x, x)
        return float((k.sum() - np.trace(k)) / (len(x) * (len(x) - 1)))

    return among(a) + among(b) - 2 * float(kernel(a, b).mean())


def precision_recall(images: Features, truth: Features, neighbours: int = 5) -> tuple[float, float]:
    """Share of images within the truth's nearest-neighbour balls, and of the truth within the images'."""
    _check(images, truth)
    return _within(images, truth, neighbours), _within(truth, images, neighbours)


def _within(points: Features, support: Features, neighbours: int) -> float:
    from scipy.spatial.distance import cdist

    own = np.sort(cdist(support, support), axis=1)
    radius = own[:, min(neighbours, len(support) - 1)]
    return float((cdist(points, support) <= radius).any(axis=1).mean())


def _check(a: Features, b: Features) -> None:
    if min(len(a), len(b)) < _LEAST:
        fewest = min(len(a), len(b))
        raise InputError(f"{fewest} patches are too few to compare sets by; give at least {_LEAST}, better {ENOUGH}")


def judge(
    name: str,
    images: NDArray[np.float32],
    truth: NDArray[np.float32],
    encoder: Encoder,
    *,
    places: ArrayLike | None = None,
    repeats: int = 100,
    seed: int = 0,
) -> Realism:
    """All distances of one set of patches (patch, row, column) to the truth of the same places.

    Images are divided by the truth's contrast, since encoders have floors: reflectances and counts of a scene score the
    same. Features are standardised by the truth's. Intervals are bootstrapped over places, pairs kept; those of the set
    distances are wide and, like the distances, biased upward for few patches.

    Parameters
    ----------
    places : which place each patch is of, where some overlap or show several bands of it: what one place says is drawn
        together. Each its own without them.
    """
    from geodiff.diffusion.encoders import perceptual_distance

    if len(images) < ENOUGH:
        _log.warning("%s: %d patches; below %d set distances are mostly bias, so compare them only at the same number",
                     name, len(images), ENOUGH)  # fmt: skip
    unit = _contrast(truth)
    images, truth = images / unit, truth / unit
    # Together: an encoder that stretches contrast would hide from each set alone what it has too little of.
    features = np.split(encoder.features(np.concatenate([images, truth])), [len(images)])
    centre, scale = features[1].mean(axis=0), features[1].std(axis=0) + 1e-6
    a, b = ((f - centre) / scale for f in features)
    near = perceptual_distance(images, truth)
    of = np.unique(range(len(images)) if places is None else places, return_inverse=True)[1]
    groups = [np.flatnonzero(of == place) for place in range(of.max() + 1)]
    rng = np.random.default_rng(seed)
    draws = [rng.integers(len(groups), size=len(groups)) for _ in range(repeats if len(groups) > 1 else 0)]
    drawn_patches = (np.concatenate([groups[place] for place in drawn]) for drawn in draws)
    picks = [pick for pick in drawn_patches if len(pick) >= _LEAST]

    def figure(
        measure: Callable[[Features, Features], float], ends: tuple[float, float] = (0.0, np.inf)
    ) -> tuple[float, float, float]:
        # Patches drawn twice are near themselves: the bootstrap is centred again on the plain figure.
        plain, drawn = measure(a, b), np.array([measure(a[p], b[p]) for p in picks])
        centred = np.clip(plain + drawn - (np.median(drawn) if picks else 0), *ends)
        return _three(bootstrap_interval(plain, centred, len(groups)))

    means = [float(near[p].mean()) for p in picks]
    return Realism(
        name, encoder.name, len(images), len(groups), figure(frechet_distance),
        figure(lambda x, y: 1e3 * kernel_distance(x, y), (-np.inf, np.inf)),
        figure(lambda x, y: precision_recall(x, y)[0], (0.0, 1.0)),
        figure(lambda x, y: precision_recall(x, y)[1], (0.0, 1.0)),
        _three(bootstrap_interval(float(near.mean()), means, len(groups))),
    )  # fmt: skip


def _plain(x: float) -> float | None:
    return None if np.isnan(x) else x


def _three(interval: Interval) -> tuple[float, float, float]:
    return interval.estimate, interval.low, interval.high


def _contrast(images: NDArray[np.float32]) -> np.float32:
    """Root mean square departure from the mean of each image (..., row, column); 1 where nothing varies."""
    departure = float(np.sqrt(np.var(images, axis=(-2, -1), dtype=np.float64).mean()))
    return np.float32(departure if departure > 0 else 1.0)


def diversity(members: NDArray[np.float32]) -> float:
    """Mean perceptual distance of pairs of members, (member, patch, row, column); 0 where they are all one.

    In any units: members are divided by their contrast.
    """
    from geodiff.diffusion.encoders import perceptual_distance

    members = members / _contrast(members)
    pairs = [(i, j) for i in range(len(members)) for j in range(i)]
    return float(np.mean([perceptual_distance(members[i], members[j]).mean() for i, j in pairs])) if pairs else 0.0


def windows_of(
    images: Sequence[NDArray[np.float32]], missing: NDArray[np.bool_], side: int = 64, least: float = 0.5
) -> list[NDArray[np.float32]]:
    """Windows of each image (row, column) that are missing for the most part: what was filled is what is judged.

    Returns
    -------
    One array (window, side, side) for each image, all of the same places.
    """
    places = [
        (row, column)
        for row in range(0, missing.shape[0] - side + 1, side // 2)
        for column in range(0, missing.shape[1] - side + 1, side // 2)
        if missing[row : row + side, column : column + side].mean() >= least
    ]
    if not places:
        return [np.empty((0, side, side), np.float32) for _ in images]
    return [np.stack([image[r : r + side, c : c + side] for r, c in places]).astype(np.float32) for image in images]
