"""The network in use, with what can be worked out before a call: linear steps joined, the noise level's shifts kept.

A call is a hundred small operations, and on a processor many of them take as long as a convolution. What is said is
what the network says but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (its usual name)

from geodiff.diffusion.unet import Block, PixelNorm, UNet

__all__ = ["Joined"]

_MOST = 256
"""Noise levels kept; each takes some ten kilobytes."""

_Linear = tuple[Tensor, Tensor]
"""Weight and bias."""


class _Block(NamedTuple):
    """A residual block at one noise level: its FiLM is part of the second norm."""

    norm1: _Linear
    conv1: _Linear
    norm2: _Linear
    conv2: _Linear

    def through(self, x: Tensor) -> Tensor:
        """(sample, channel, row, column) to the same."""
        h = F.conv2d(_lit(x, self.norm1), *self.conv1, padding=1)
        return x + F.conv2d(_lit(h, self.norm2), *self.conv2, padding=1)


class _Blocks(NamedTuple):
    """All blocks at one noise level."""

    encoder: list[list[_Block]]
    middle: _Block
    decoder: list[list[_Block]]


class Joined(nn.Module):
    """A network that learns no more, on its device: its weights are not to change.

    The stem's folding and convolution are one convolution with strides. What comes up from a coarser level is merged
    before it is enlarged.
    """

    def __init__(self, network: UNet, dtype: torch.dtype) -> None:
        super().__init__()
        self._kept: dict[tuple[float, ...], _Blocks] = {}
        with torch.no_grad():
            self._stem = _cast(_strided(network.stem, network.fold), dtype)
            ways: Any = zip(network.up, network.merge, strict=True)
            self._ways = [_merging(up, merge, dtype) for up, merge in ways]
        network.to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch declares it for tensors alone
        self.network = network

    def forward(
        self, noisy: Tensor, context: Tensor, c_noise: Tensor, scalars: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `UNet.forward`, which it leaves to the network where samples are told different things."""
        network = self.network
        if len(c_noise) > 1:
            plain: tuple[Tensor, Tensor] = network(noisy, context, c_noise, scalars)
            return plain
        blocks = self._blocks(c_noise, scalars, noisy.device)
        x = torch.cat([noisy, context], dim=1).contiguous(memory_format=torch.channels_last)
        h = F.conv2d(x, *self._stem, stride=network.fold, padding=network.fold)
        skips = []
        for depth, level in enumerate(blocks.encoder):
            h = network.down[depth - 1](h) if depth else h
            h = _through(level, h)
            skips.append(h)
        h = blocks.middle.through(h)
        for depth in reversed(range(len(blocks.decoder))):
            beside, below = self._ways[depth]
            coarse = F.interpolate(F.conv2d(h, *below), scale_factor=2.0, mode="nearest")
            h = _through(blocks.decoder[depth], F.conv2d(skips[depth], *beside) + coarse)
        out = F.pixel_shuffle(network.head(_lit(h, _norm(network.norm))), network.fold)
        return out[:, :1], out[:, 1:]

    def _blocks(self, c_noise: Tensor, scalars: Tensor | None, device: torch.device) -> _Blocks:
        """A value has one noise level, a member one for each step; so they are kept."""
        key = float(c_noise), *(() if scalars is None else scalars[0].tolist())
        blocks = self._kept.get(key)
        if blocks is None:
            with torch.inference_mode(mode=False), torch.no_grad():  # to be used by whoever asks for gradients too
                told = None if scalars is None else scalars.clone().to(device)
                blocks = _at(self.network, torch.full((1,), key[0], device=device), told)
            if len(self._kept) >= _MOST:  # another thread may look for what is thrown away, and makes it anew
                self._kept.clear()
            self._kept[key] = blocks
        return blocks


def _at(network: UNet, c_noise: Tensor, scalars: Tensor | None) -> _Blocks:
    embedding = network.embedding(c_noise, scalars, network.stem.weight.dtype)

    def one(block: Block) -> _Block:
        scale, shift = block.film(embedding)[0].float().chunk(2)
        weight, bias = (own.float() * (1 + scale) for own in _norm(block.norm2))
        norm2 = weight.to(block.norm2.weight.dtype), (bias + shift).to(block.norm2.bias.dtype)
        return _Block(_norm(block.norm1), _own(block.conv1), norm2, _own(block.conv2))

    def every(levels: Any) -> list[list[_Block]]:
        return [[one(block) for block in level] for level in levels]

    return _Blocks(every(network.encoder), one(network.middle), every(network.decoder))


def _through(blocks: Iterable[_Block], h: Tensor) -> Tensor:
    for block in blocks:
        h = block.through(h)
    return h


def _lit(x: Tensor, norm: _Linear) -> Tensor:
    """Norm over the channels of each pixel, then SiLU."""
    return F.silu(F.layer_norm(x.permute(0, 2, 3, 1), norm[0].shape, *norm)).permute(0, 3, 1, 2)


def _norm(norm: PixelNorm) -> _Linear:
    return norm.weight, norm.bias


def _own(linear: nn.Conv2d) -> _Linear:
    assert linear.bias is not None
    return linear.weight, linear.bias


def _strided(stem: nn.Conv2d, fold: int) -> _Linear:
    """The convolution of the plain planes that does what `stem` does of the folded ones."""
    weight, bias = _own(stem)
    out, folded, *size = weight.shape
    apart = weight.reshape(out, folded // fold**2, fold, fold, *size).permute(0, 1, 4, 2, 5, 3)
    return apart.reshape(out, folded // fold**2, *(fold * n for n in size)), bias


def _merging(up: nn.Conv2d, merge: nn.Conv2d, dtype: torch.dtype) -> tuple[_Linear, _Linear]:
    """What merging makes of the skipped planes, and of those of the coarser level."""
    (weight, bias), (rising, level) = _own(merge), _own(up)
    beside, below = weight.chunk(2, dim=1)
    joined = torch.einsum("okxy,kixy->oixy", below, rising)
    return _cast((beside, bias), dtype), _cast((joined, below[:, :, 0, 0] @ level), dtype)


def _cast(linear: _Linear, dtype: torch.dtype) -> _Linear:
    weight, bias = linear
    return weight.to(dtype).contiguous(memory_format=torch.channels_last), bias.to(dtype)
