"""Peers that work on scattered points: ordinary kriging (PyKrige) and the gridders of Verde.

They are given the known pixels that matter: those beside the gap, and a sparse sample of the others.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from geodiff.peers import Guess, Plane

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Kriging", "Verde", "points_around"]

_BESIDE = 4.0
"""Known pixels this close to the gap are all offered."""


def points_around(plane: Plane, most: int, seed: int = 0) -> NDArray[np.intp]:
    """(point, 2) rows and columns of known pixels: up to two thirds from beside the gap, the rest from anywhere."""
    from scipy.ndimage import distance_transform_edt

    rng = np.random.default_rng(seed)
    away = distance_transform_edt(~plane.wanted)
    beside = np.argwhere(plane.known & (away <= _BESIDE))
    others = np.argwhere(plane.known & (away > _BESIDE))
    near = _sample(beside, max(2 * most // 3, most - len(others)), rng)
    return np.concatenate([near, _sample(others, most - len(near), rng)])


def _sample(points: NDArray[np.intp], most: int, rng: np.random.Generator) -> NDArray[np.intp]:
    return points if len(points) <= most else points[np.sort(rng.choice(len(points), most, replace=False))]


def _xy(points: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return points[:, 1].astype(np.float64), points[:, 0].astype(np.float64)


def _placed(plane: Plane, estimates: NDArray[Any]) -> NDArray[np.float32]:
    """Estimates at the wanted pixels as a plane; where there is none, the mean of what is known."""
    level = plane.values[plane.known].mean() if plane.known.any() else 0.0
    field = np.where(plane.known, plane.values, np.float32(level)).astype(np.float32)
    field[plane.wanted] = np.where(np.isfinite(estimates), estimates, level)
    return field


@dataclass(frozen=True, slots=True)
class Kriging:
    """Local ordinary kriging from the nearest known points; the variogram's model and range by cross-validation."""

    name: ClassVar[str] = "pykrige"
    module: ClassVar[str] = "pykrige"
    probabilistic: ClassVar[bool] = True
    settings: ClassVar[Sequence[Mapping[str, Any]]] = tuple(
        {"variogram_model": model, "nearest": nearest}
        for model in ("exponential", "spherical", "linear", "gaussian")
        for nearest in (12, 32)
    )
    most: int = 2500

    def fill(self, plane: Plane, setting: Mapping[str, Any], *, draws: int, seed: int) -> Guess:  # noqa: ARG002
        from pykrige.ok import OrdinaryKriging

        points = points_around(plane, self.most)
        values = plane.values[points[:, 0], points[:, 1]].astype(np.float64)
        if len(points) < 40 or values.std() < 1e-9:
            flat = _placed(plane, np.full(int(plane.wanted.sum()), np.nan))
            return Guess(flat, np.ones_like(flat))
        with warnings.catch_warnings():
            # a singular neighbourhood gives numbers that the cross-validation rejects by their error
            warnings.simplefilter("ignore")
            kriging = OrdinaryKriging(
                *_xy(points), values, nlags=20, weight=True, variogram_model=setting["variogram_model"]
            )
            estimates, variance = kriging.execute(
                "points", *_xy(np.argwhere(plane.wanted)), backend="C", n_closest_points=setting["nearest"]
            )
        error = np.zeros(plane.known.shape, np.float32)
        error[plane.wanted] = np.sqrt(np.clip(np.nan_to_num(np.asarray(variance), nan=1.0), 1e-6, 1e4))
        return Guess(_placed(plane, np.clip(np.asarray(estimates), -50, 50)), error)


@dataclass(frozen=True, slots=True)
class Verde:
    """Verde's gridders: piecewise linear, cubic, and biharmonic splines of several dampings (Uieda 2018)."""

    name: ClassVar[str] = "verde"
    module: ClassVar[str] = "verde"
    settings: ClassVar[Sequence[Mapping[str, Any]]] = (
        {"gridder": "spline", "damping": None},
        {"gridder": "spline", "damping": 1e-8},
        {"gridder": "spline", "damping": 1e-5},
        {"gridder": "spline", "damping": 1e-3},
        {"gridder": "linear"},
        {"gridder": "cubic"},
        {"gridder": "neighbours"},
    )
    most: int = 800
    """A spline solves for one force a point, so its cost grows with the cube."""

    def fill(self, plane: Plane, setting: Mapping[str, Any], *, draws: int, seed: int) -> Guess:  # noqa: ARG002
        import verde

        spline = setting["gridder"] == "spline"
        points = points_around(plane, self.most if spline else 8 * self.most)
        if len(points) < 40:
            return Guess(_placed(plane, np.full(int(plane.wanted.sum()), np.nan)))
        makers: Mapping[str, Any] = {
            "spline": lambda: verde.Spline(damping=setting["damping"]),
            "linear": verde.Linear,
            "cubic": verde.Cubic,
            "neighbours": lambda: verde.KNeighbors(k=8),
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of ill-conditioned splines, which the cross-validation rejects
            gridder = makers[setting["gridder"]]()
            gridder.fit(_xy(points), plane.values[points[:, 0], points[:, 1]].astype(np.float64))
            estimates = gridder.predict(_xy(np.argwhere(plane.wanted)))
        return Guess(_placed(plane, np.clip(np.asarray(estimates), -50, 50)))
