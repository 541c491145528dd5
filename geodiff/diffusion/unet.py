"""The network, in torch alone: a small U-Net that looks at a noisy residual and its context, one band at a time.

Every band is a sample with shared weights, so any number of bands works. The stem folds 2 x 2 pixels into channels,
which makes it four times cheaper; norms are per pixel, because statistics over a window would depend on the window.
A value asks for nothing else: diffusers, whose import takes seconds, is left to training, saving and drawing members.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (its usual name)

from geodiff.diffusion.fields import CHANNELS

__all__ = ["SCALARS", "Block", "UNet"]

SCALARS = ("inpaint", "denoise", "superres", "noise", "factor")
"""What conditions the whole window beside the noise level; restoration uses the last four."""


class PixelNorm(nn.Module):
    """Layer norm over the channels of each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(sample, channel, row, column) to the same."""
        return F.layer_norm(x.permute(0, 2, 3, 1), (self.channels,), self.weight, self.bias).permute(0, 3, 1, 2)


class Block(nn.Module):
    """Residual block: norm, SiLU, convolution, twice; scaled and shifted by the embedding (FiLM, Perez et al. 2018)."""

    def __init__(self, channels: int, embedding: int, dropout: float, inner: int | None = None) -> None:
        super().__init__()
        inner = inner or channels
        self.norm1, self.norm2 = PixelNorm(channels), PixelNorm(inner)
        self.conv1 = nn.Conv2d(channels, inner, 3, padding=1)
        self.conv2 = nn.Conv2d(inner, channels, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * inner)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(sample, channel, row, column) and (sample, embedding) to the former's shape."""
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.norm2(h) * (1 + scale) + shift
        out: Tensor = x + self.conv2(self.dropout(F.silu(h)))
        return out


def _modules(parts: Any) -> list[Any]:
    """The parts of a ModuleList."""
    return list(parts)


def _frequencies(device: torch.device) -> Tensor:
    """Fourier frequencies of c_noise, 1 to 64; no buffer, because a cast to bfloat16 would round them."""
    return torch.exp(torch.linspace(0, math.log(64), 16, device=device))


class UNet(nn.Module):
    """Denoiser F of EDM preconditioning (Karras et al. 2022, eq. 7) and a log-variance.

    Parameters
    ----------
    channels : channels at 1/2, 1/4, 1/8, ... of the window's size.
    blocks : residual blocks a level.
    context : names of the context channels, in order; one noisy residual comes before them.
    fold : pixels a side that the stem folds into channels; 1 is the full-resolution network.
    inner : channels between the two convolutions of a block, where pruning left fewer; one for each of `channels`.
    """

    def __init__(
        self,
        channels: tuple[int, ...] = (64, 96, 128),
        blocks: int = 1,
        context: tuple[str, ...] = CHANNELS,
        scalars: tuple[str, ...] = SCALARS,
        fold: int = 2,
        embedding: int = 128,
        dropout: float = 0.0,
        inner: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.fold, self.depth, self.told = fold, len(channels), len(scalars)
        narrow = dict(zip(channels, inner or channels, strict=True))
        inputs = (1 + len(context)) * fold**2
        self.stem = nn.Conv2d(inputs, channels[0], 3, padding=1)
        self.embed = nn.Sequential(
            nn.Linear(32 + len(scalars), embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )
        pairs = list(pairwise(channels))

        def level(width: int) -> nn.ModuleList:
            return nn.ModuleList(Block(width, embedding, dropout, narrow[width]) for _ in range(blocks))

        self.encoder = nn.ModuleList(level(c) for c in channels)
        self.middle = Block(channels[-1], embedding, dropout, narrow[channels[-1]])
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairs)
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairs)
        self.merge = nn.ModuleList(nn.Conv2d(2 * a, a, 1) for a, _ in pairs)
        self.decoder = nn.ModuleList(level(a) for a, _ in pairs)
        self.norm = PixelNorm(channels[0])
        self.head = nn.Conv2d(channels[0], 2 * fold**2, 3, padding=1)
        for parameter in self.head.parameters():  # the first answer is the prior
            nn.init.zeros_(parameter)

    @property
    def multiple(self) -> int:
        """Sides of a window must be multiples of this."""
        return self.fold << (self.depth - 1)

    def forward(
        self, noisy: Tensor, context: Tensor, c_noise: Tensor, scalars: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Network output F and log-variance, each (sample, 1, row, column).

        Parameters
        ----------
        noisy : (sample, 1, row, column), c_in times the noisy residual; zeros for the value head.
        context : (sample, context channel, row, column).
        c_noise : (sample,) or (1,), ln(sigma) / 4.
        scalars : (sample, scalar) or (1, scalar); plain inpainting without it. It and `c_noise` may lie on the
            processor, where whoever calls can read them without waiting for the device.
        """
        told = None if scalars is None else scalars.to(noisy.device)
        embedding = self.embedding(c_noise.to(noisy.device), told, noisy.dtype)
        x = torch.cat([noisy, context], dim=1).contiguous(memory_format=torch.channels_last)
        h = self.stem(F.pixel_unshuffle(x, self.fold))
        skips = []
        for depth, level in enumerate(_modules(self.encoder)):
            h = self.down[depth - 1](h) if depth else h
            for block in _modules(level):
                h = block(h, embedding)
            skips.append(h)
        h = self.middle(h, embedding)
        for depth in reversed(range(len(self.decoder))):
            wide = F.interpolate(self.up[depth](h), scale_factor=2.0, mode="nearest")
            h = self.merge[depth](torch.cat([skips[depth], wide], dim=1))
            for block in _modules(self.decoder[depth]):
                h = block(h, embedding)
        out = F.pixel_shuffle(self.head(F.silu(self.norm(h))), self.fold)
        return out[:, :1], out[:, 1:]

    def embedding(self, c_noise: Tensor, scalars: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Fourier features of c_noise beside the scalars, through a small perceptron."""
        if scalars is None:
            scalars = torch.zeros(len(c_noise), self.told, device=c_noise.device)
            scalars[:, 0] = 1
        angle = c_noise[:, None].float() * _frequencies(c_noise.device)[None, :]
        features = torch.cat([angle.sin(), angle.cos(), scalars.float()], dim=1)
        out: Tensor = self.embed(features.to(dtype))
        return out
