"""Pruning: fewer channels, the same function where they did nothing, and a folder that loads."""

import numpy as np
import pytest
import torch

from geodiff.diffusion.exporting import describe, prune_folder
from geodiff.diffusion.network import GapFillUNet
from geodiff.diffusion.pruning import kept_channels, pruned
from geodiff.diffusion.unet import Block
from geodiff.errors import JobError, TargetError


def network() -> GapFillUNet:
    torch.manual_seed(0)
    made = GapFillUNet(channels=(16, 24), context=("value", "known"))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made.eval()


def answers(made: GapFillUNet) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    noisy, context = (torch.randn(2, n, 16, 16, generator=generator) for n in (1, 2))
    with torch.inference_mode():
        return torch.cat(made(noisy, context, torch.zeros(2)), dim=1)


def test_a_share_of_the_inner_channels_goes() -> None:
    wide = network().requires_grad_(False)  # as a moving average is
    narrow = pruned(wide, 0.5)
    assert [m.conv1.out_channels for m in narrow.modules() if isinstance(m, Block)] == [8, 16, 16, 8]  # of 16 and 24
    assert sum(p.numel() for p in narrow.parameters()) < 0.75 * sum(p.numel() for p in wide.parameters())
    assert np.isfinite(answers(narrow).numpy()).all()


def test_nothing_pruned_is_the_same_network() -> None:
    wide = network()
    torch.testing.assert_close(answers(pruned(wide, 0.0)), answers(wide))


def test_channels_that_do_nothing_are_the_first_to_go() -> None:
    block = Block(16, 8, 0.0)
    torch.nn.init.normal_(block.conv2.weight)
    idle = [1, 4, 9]
    with torch.no_grad():
        block.conv1.weight[idle], block.conv1.bias[idle], block.conv2.weight[:, idle] = 0, 0, 0
    assert kept_channels(block, 13).tolist() == [c for c in range(16) if c not in idle]


def test_a_share_outside_its_range_is_refused() -> None:
    with pytest.raises(JobError, match="--share 1"):
        pruned(network(), 1.0)


def test_a_pruned_folder_is_smaller_and_opens(tmp_path, capfd: pytest.CaptureFixture[str]) -> None:
    facts = prune_folder("default", tmp_path / "small", 0.5)
    assert facts["parameters"] < facts["before"]
    assert facts["gflop"] < facts["gflop_before"]
    told = describe(str(tmp_path / "small"))
    assert told["parameters"] == facts["parameters"]
    assert told["inner"] == [n // 2 for n in told["channels"]]
    assert told["bytes"] < describe("default")["bytes"]
    with pytest.raises(TargetError, match="--overwrite"):
        prune_folder("default", tmp_path / "small", 0.5)
    assert "Loading" not in capfd.readouterr().err  # diffusers shows a bar over two components
