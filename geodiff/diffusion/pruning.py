"""Structured pruning: narrower blocks, chosen by torch-pruning's group importance; the network stays a plain one.

Pruned are the channels between the two convolutions of each residual block: the first one's outputs, the norm and the
modulation that go with them, the second one's inputs. What flows between blocks keeps its width, so skips and stem
are untouched.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from geodiff.diffusion.network import GapFillUNet
from geodiff.diffusion.unet import Block
from geodiff.errors import InputError, JobError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["kept_channels", "pruned"]

_MULTIPLE = 8
"""Widths stay multiples of this: odd ones are slower."""


def pruned(network: GapFillUNet, share: float) -> GapFillUNet:
    """A copy with about `share` of each block's inner channels removed; the input is left alone.

    Raises JobError for a share outside [0, 1), InputError where torch-pruning is missing.
    """
    if not 0 <= share < 1:
        raise JobError(f"--share {share}: the share of channels to remove lies from 0 to below 1")
    config = {k: v for k, v in dict(network.config).items() if not k.startswith("_")}
    now = tuple(config.get("inner") or config["channels"])
    inner = tuple(max(_MULTIPLE, round(n * (1 - share) / _MULTIPLE) * _MULTIPLE) for n in now)
    narrow: GapFillUNet = GapFillUNet(**{**config, "inner": inner})
    blocks = zip(_blocks(network), _blocks(narrow), strict=True)
    narrow.load_state_dict({**network.state_dict(), **narrow_states(network, blocks)})
    return narrow.eval()


def narrow_states(network: GapFillUNet, blocks: Any) -> dict[str, Tensor]:
    """The parameters of the narrowed blocks, by their full names."""
    names = {module: name for name, module in network.named_modules()}
    states: dict[str, Tensor] = {}
    for wide, narrow in blocks:
        keep = kept_channels(wide, narrow.conv1.out_channels)
        both = torch.cat([keep, keep + wide.conv1.out_channels])  # scale, then shift
        cut = {
            "conv1.weight": wide.conv1.weight[keep],
            "conv1.bias": wide.conv1.bias[keep],
            "norm2.weight": wide.norm2.weight[keep],
            "norm2.bias": wide.norm2.bias[keep],
            "film.weight": wide.film.weight[both],
            "film.bias": wide.film.bias[both],
            "conv2.weight": wide.conv2.weight[:, keep],
        }
        states |= {f"{names[wide]}.{name}": tensor.detach().clone() for name, tensor in cut.items()}
    return states


def kept_channels(block: Block, count: int) -> Tensor:
    """Indices of the `count` inner channels that matter most, in order.

    By the group's magnitude (Fang et al. 2023, DepGraph): the norm of all weights that stand and fall with a channel.
    """
    try:
        import torch_pruning as tp
    except ImportError:
        raise InputError("pruning needs torch-pruning; pip install 'geodiff[train]'") from None

    class Inner(nn.Module):
        """The two convolutions alone, which is what torch-pruning is shown."""

        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = (copy.deepcopy(c).requires_grad_() for c in (block.conv1, block.conv2))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.conv2(nn.functional.silu(self.conv1(x)))
            return out

    shown = Inner()
    with torch.enable_grad():  # torch-pruning reads the graph of gradients
        graph = tp.DependencyGraph().build_dependency(shown, torch.zeros(1, block.conv1.in_channels, 8, 8))
    group = graph.get_pruning_group(shown.conv1, tp.prune_conv_out_channels, idxs=list(range(block.conv1.out_channels)))
    importance = tp.importance.GroupMagnitudeImportance(p=2)(group)
    return torch.sort(torch.topk(importance, count).indices).values


def _blocks(network: GapFillUNet) -> list[Any]:
    return [module for module in network.modules() if isinstance(module, Block)]
