"""What images are compared by: a fixed texture encoder without weights, and Inception where its weights are at hand.

The texture encoder is a scattering transform of two orders (Bruna & Mallat 2013): moduli of Morlet wavelets of four
octaves and eight orientations, and moduli of those at coarser octaves, averaged over the patch. It needs no training,
so it is at home on rasters of any kind, where features of photographs of cats are not.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its usual name)

from geodiff.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ENCODERS", "Encoder", "InceptionEncoder", "TextureEncoder", "encoder_of", "perceptual_distance"]

OCTAVES, ORIENTATIONS = 4, 8
_FLOOR = 1e-3
_AT_ONCE = 32
"""Patches in memory together."""


class Encoder(Protocol):
    """Patches in, one row of features each."""

    name: str

    def features(self, patches: NDArray[np.float32]) -> NDArray[np.float64]:
        """(patch, row, column) to (patch, feature)."""
        ...


@cache
def _bank() -> tuple[Tensor, ...]:
    """For each octave, real and imaginary Morlet wavelets (2 x orientation, 1, side, side), of unit energy."""
    banks = []
    for octave in range(OCTAVES):
        width, frequency = 0.8 * 2**octave, 0.75 * np.pi / 2**octave
        reach = int(np.ceil(3 * width))
        rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        kernels = []
        for turn in range(ORIENTATIONS):
            angle = np.pi * turn / ORIENTATIONS
            along = columns * np.cos(angle) + rows * np.sin(angle)
            across = rows * np.cos(angle) - columns * np.sin(angle)
            envelope = np.exp(-(along**2 + (0.6 * across) ** 2) / (2 * width**2))
            wave = np.exp(1j * frequency * along)
            wavelet = envelope * (wave - (envelope * wave).sum() / envelope.sum())  # no answer to a constant
            kernels.append(wavelet / np.sqrt((np.abs(wavelet) ** 2).sum()))
        both = np.concatenate([np.real(kernels), np.imag(kernels)])
        banks.append(torch.from_numpy(both.astype(np.float32))[:, None])
    return tuple(banks)


def _moduli(images: Tensor, octave: int) -> Tensor:
    """|x * psi|, (patch, orientation, row, column), thinned to what the octave holds."""
    kernels = _bank()[octave]
    reach = kernels.shape[-1] // 2
    step = max(1, 2 ** (octave - 1))
    padded = F.pad(images, (reach,) * 4, mode="reflect")
    real, imaginary = F.conv2d(padded, kernels, stride=step).chunk(2, dim=1)
    return torch.sqrt(real**2 + imaginary**2 + 1e-12)


class TextureEncoder:
    """Scattering coefficients of a patch: how much there is at each octave and orientation, and how it is arranged.

    First order: log mean of the moduli (32). Second order: log mean of the moduli of each octave's orientation-mean at
    every coarser octave (48), relative to the first order, so that it tells arrangement from amount. With them the
    log standard deviation, skewness and kurtosis of the pixels (3).
    """

    name = "texture (two-order scattering, no weights)"

    def features(self, patches: NDArray[np.float32]) -> NDArray[np.float64]:
        """(patch, row, column) of at least 32 pixels a side to (patch, 83); in the patches' own scale."""
        if patches.ndim != 3 or min(patches.shape[1:]) < 32:
            raise InputError(f"patches of shape {patches.shape}: the texture encoder needs 32 pixels a side or more")
        rows = [self._some(patches[first : first + _AT_ONCE]) for first in range(0, len(patches), _AT_ONCE)]
        return np.concatenate(rows)

    @torch.inference_mode()
    def _some(self, patches: NDArray[np.float32]) -> NDArray[np.float64]:
        images = torch.from_numpy(np.ascontiguousarray(patches, np.float32))[:, None]
        images = images - images.mean((2, 3), keepdim=True)
        parts = [_moments(images)]
        for octave in range(OCTAVES):
            moduli = _moduli(images, octave)
            mean = moduli.mean((2, 3))
            parts.append(torch.log(mean + _FLOOR))
            whole = moduli.mean(1, keepdim=True)
            for coarser in range(1, OCTAVES - octave):
                again = _moduli(whole, min(coarser, OCTAVES - 1)).mean((2, 3))
                parts.append(torch.log(again + _FLOOR) - torch.log(mean.mean(1, keepdim=True) + _FLOOR))
        return torch.cat(parts, dim=1).double().numpy()


def _moments(images: Tensor) -> Tensor:
    flat = images.flatten(1)
    deviation = flat.std(1, keepdim=True) + _FLOOR
    z = flat / deviation
    skewness, kurtosis = ((z**power).mean(1, keepdim=True) for power in (3, 4))
    return torch.cat([torch.log(deviation), skewness, torch.log(kurtosis + 1)], 1)


class InceptionEncoder:
    """The 2,048 pooled features of Inception v3, as FID is usually reported; where torchmetrics finds its weights."""

    name = "Inception v3 (2,048 pooled features)"

    def __init__(self) -> None:
        try:
            # Not a dependency, not even an optional one: its image extra brings a torchvision of its own choice.
            found = import_module("torchmetrics.image.fid").NoTrainInceptionV3
            self._network: Any = found(name="inception-v3-compat", features_list=["2048"])
        except Exception as reason:  # noqa: BLE001 - a missing package, or weights that cannot be fetched
            raise InputError(
                f"Inception features are not available ({reason}); pip install 'torchmetrics[image]' where its weights "
                "can be downloaded, or use the texture encoder"
            ) from None

    def features(self, patches: NDArray[np.float32]) -> NDArray[np.float64]:
        """(patch, row, column), stretched by the 1st and 99th percentile of all of them, to (patch, 2048)."""
        low, high = np.percentile(patches, (1, 99))
        counts = np.clip(255 * (patches - low) / max(high - low, 1e-9), 0, 255).astype(np.uint8)
        tensor = torch.from_numpy(counts)[:, None].repeat(1, 3, 1, 1)
        with torch.inference_mode():  # some at a time: it enlarges each to 299 x 299 pixels
            found = [self._network(some).double().numpy() for some in torch.split(tensor, _AT_ONCE)]
        return np.concatenate(found)


ENCODERS: dict[str, type[Any]] = {"texture": TextureEncoder, "inception": InceptionEncoder}


def encoder_of(name: str) -> Encoder:
    """The encoder of that name; raises InputError for one that is not on the list or not at hand."""
    if name not in ENCODERS:
        raise InputError(f"no encoder is called {name!r}; choose {', '.join(ENCODERS)}")
    made: Encoder = ENCODERS[name]()
    return made


@torch.inference_mode()
def perceptual_distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """(patch,) distance of images by their local texture: LPIPS (Zhang et al. 2018) in manner, without its weights.

    Root mean square difference of log moduli at each place, octave and orientation, smoothed over the octave's width: 0
    for the same image; small for texture of the same kind at another place; large for what is blurred or noisy.
    """
    total = torch.zeros(len(a))
    tensors = [torch.from_numpy(np.ascontiguousarray(x, np.float32))[:, None] for x in (a, b)]
    for octave in range(OCTAVES):
        maps = [torch.log(F.avg_pool2d(_moduli(x, octave), 4, 2) + 0.02) for x in tensors]
        total += ((maps[0] - maps[1]) ** 2).mean((1, 2, 3))
    return torch.sqrt(total / OCTAVES).double().numpy()
