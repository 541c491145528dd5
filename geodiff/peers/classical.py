"""Peers that work on images: GDAL, OpenCV, scikit-image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from geodiff.peers import Guess, Plane

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["GdalFillNodata", "NavierStokes", "SkimageBiharmonic", "Telea"]


def _level(plane: Plane) -> float:
    """What stands where a method gives no answer: the mean of what is known."""
    return float(plane.values[plane.known].mean()) if plane.known.any() else 0.0


def _image(plane: Plane) -> NDArray[np.float32]:
    """The plane with its mean where it is not known."""
    return np.where(plane.known, plane.values, np.float32(_level(plane))).astype(np.float32)


@dataclass(frozen=True, slots=True)
class GdalFillNodata:
    """GDAL's inverse-distance fill in eight directions, with smoothing passes (GDALFillNodata, through rasterio)."""

    name: ClassVar[str] = "gdal"
    module: ClassVar[str] = "rasterio"
    settings: ClassVar[Sequence[Mapping[str, Any]]] = tuple(
        {"max_search_distance": float(distance), "smoothing_iterations": passes}
        for distance in (100, 10, 30, 300)
        for passes in (0, 1, 3)
    )

    def fill(self, plane: Plane, setting: Mapping[str, Any], *, draws: int, seed: int) -> Guess:  # noqa: ARG002
        from rasterio.fill import fillnodata

        if not plane.known.any():
            return Guess(_image(plane))
        return Guess(np.asarray(fillnodata(_image(plane), mask=plane.known.astype(np.uint8), **setting), np.float32))


def _opencv(plane: Plane, radius: float, method: str) -> Guess:
    """Through 16-bit integers: Telea's weights assume the range of an image, and fail on numbers around 1.

    On a smooth field of unit scale its error was four times as large in float32 as in 16 bits.
    """
    import cv2

    image, gone = _image(plane), (~plane.known).astype(np.uint8)
    low, high = float(image.min()), float(image.max())
    step = max(high - low, 1e-9) / _SIXTEEN_BITS
    coded = np.rint((image - low) / step).astype(np.uint16)
    filled = cv2.inpaint(coded, gone, radius, getattr(cv2, method))
    return Guess(np.asarray(filled * step + low, np.float32))


_SIXTEEN_BITS = 65535
_RADII: tuple[Mapping[str, Any], ...] = tuple({"radius": float(r)} for r in (3, 1, 5, 10, 20))


@dataclass(frozen=True, slots=True)
class NavierStokes:
    """Isophotes continued as streamlines (Bertalmio et al. 2001), OpenCV."""

    name: ClassVar[str] = "opencv-ns"
    module: ClassVar[str] = "cv2"
    settings: ClassVar[Sequence[Mapping[str, Any]]] = _RADII

    def fill(self, plane: Plane, setting: Mapping[str, Any], *, draws: int, seed: int) -> Guess:  # noqa: ARG002
        return _opencv(plane, setting["radius"], "INPAINT_NS")


@dataclass(frozen=True, slots=True)
class Telea:
    """Fast marching inwards (Telea 2004), OpenCV."""

    name: ClassVar[str] = "opencv-telea"
    module: ClassVar[str] = "cv2"
    settings: ClassVar[Sequence[Mapping[str, Any]]] = _RADII

    def fill(self, plane: Plane, setting: Mapping[str, Any], *, draws: int, seed: int) -> Guess:  # noqa: ARG002
        return _opencv(plane, setting["radius"], "INPAINT_TELEA")


@dataclass(frozen=True, slots=True)
class SkimageBiharmonic:
    """Biharmonic equation (Damelin and Hoang 2018), scikit-image; clipped to the range of the known as it does."""

    name: ClassVar[str] = "skimage-biharmonic"
    module: ClassVar[str] = "skimage"
    settings: ClassVar[Sequence[Mapping[str, Any]]] = (
        {"split_into_regions": False},
        {"split_into_regions": True},
    )

    def fill(self, plane: Plane, setting: Mapping[str, Any], *, draws: int, seed: int) -> Guess:  # noqa: ARG002
        from skimage.restoration import inpaint_biharmonic

        if not plane.known.any() or plane.known.all():
            return Guess(_image(plane))
        filled = inpaint_biharmonic(_image(plane).astype(np.float64), ~plane.known, **setting)
        return Guess(np.asarray(filled, np.float32))
