"""The network as diffusers knows it: configured, saved and loaded as any of its models."""

from __future__ import annotations

from typing import Any

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin

from geodiff.diffusion.fields import CHANNELS
from geodiff.diffusion.unet import SCALARS, UNet

__all__ = ["GapFillUNet"]


class GapFillUNet(ModelMixin, UNet, ConfigMixin):  # type: ignore[misc]  # both mixins define config_name
    """`unet.UNet`, which has the parameters' meaning, with a configuration."""

    _supports_gradient_checkpointing = False

    config: Any

    @register_to_config  # type: ignore[untyped-decorator]
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
        UNet.__init__(self, channels, blocks, context, scalars, fold, embedding, dropout, inner)
        self._gradient_checkpointing_func = None  # as ModelMixin's own, which would build a second network
