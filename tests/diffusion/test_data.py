"""Training data: reproducible, honest about what was hidden, and apart from the validation part."""

import logging
import tomllib
from collections import OrderedDict
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

import geodiff.diffusion
from geodiff.diffusion import data, sources
from geodiff.diffusion.data import Cache, build, cut, examples
from geodiff.diffusion.degraded import degraded_examples
from geodiff.diffusion.fields import CHANNELS, channel
from geodiff.diffusion.sources import Source, Stack, catalogue, load, normalised, training_folder
from geodiff.errors import InputError, SourceError


@pytest.fixture
def stack(rng):
    values = rng.normal(size=(4, 2, 170, 150)).cumsum(-1).cumsum(-2).astype(np.float32)
    known = np.ones(values.shape, bool)
    known[1, :, :60] = False
    return normalised(values * known, known, days=np.arange(4) * 16)


def test_what_is_hidden_is_truth_and_nowhere_in_the_input(stack) -> None:
    source = Source("stack", "train", "made")
    made = [cut(source, stack, np.random.default_rng(seed), []) for seed in range(12)]
    kept = [e for e in made if e is not None]
    assert len(kept) > 6
    for example in kept:
        known = example.context[channel("known")] > 0
        assert example.context.shape == (len(CHANNELS), 128, 128)
        assert not (known & example.hidden).any()
        assert not example.context[channel("value")][example.hidden].any()
        np.testing.assert_allclose(example.prior[known], example.truth[known], atol=1e-5)
        rebuilt = example.prior + example.error * example.residual
        np.testing.assert_allclose(rebuilt[example.hidden], example.truth[example.hidden], atol=1e-3)
        assert not (example.context[channel("never")] > 0)[known | example.hidden].any()


def test_the_same_seed_cuts_the_same_patch(stack) -> None:
    source = Source("stack", "train", "made")
    one, two = (cut(source, stack, np.random.default_rng(3), []) for _ in "ab")
    np.testing.assert_array_equal(one.context, two.context)


def test_degraded_frames_show_what_stands_at_their_edges_in_whole_cells(rng) -> None:
    values = rng.normal(size=(1, 1, 128, 160)).astype(np.float32)
    values[..., :4] = -50
    frame = Source("msl", "train", "made", read=lambda _: Stack(values, np.ones(values.shape, bool)))
    made = islice(degraded_examples("train", 0, tasks=("superres",), sources=[frame]), 40)
    widths = {int((np.abs(patch.truth) > 15).sum()) / 128 for patch in made}
    assert widths == {0, 4}, "a black edge, and never a part of it that no coarser camera would see apart"


def test_without_the_folder_the_cure_is_said(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("GEODIFF_DATA", raising=False)
    with pytest.raises(SourceError, match="GEODIFF_DATA"):
        training_folder()
    with pytest.raises(InputError, match="no train observations"):
        next(examples("train", 0, root=tmp_path))


def test_normalised_bands_have_centre_0_and_about_scale_1(stack) -> None:
    for band in range(2):
        seen = stack.values[:, band][stack.known[:, band]]
        assert abs(np.median(seen)) < 1e-3
        assert 0.2 < seen.std() < 5
    assert not stack.values[~stack.known].any()


def test_the_split_on_file_is_the_split_in_use(data_dir) -> None:
    path = Path(geodiff.diffusion.__file__).with_name("splits.toml")
    aside = tomllib.loads(path.read_text())["validation"]
    written = {(";".join(v["files"]), v["window"]) for v in aside}
    sources = catalogue(data_dir / "train")
    assert written == {(s.name, s.window) for s in sources if s.part == "validation"}
    whole = {f for v in aside if v["window"] == "all" for f in v["files"]}
    assert not whole & {f for s in sources if s.part == "train" for f in s.name.split(";")}


def test_observations_load_and_a_cache_gives_examples_back(data_dir, tmp_path) -> None:
    root = data_dir / "train"
    some = [s for s in catalogue(root) if s.kind in ("elevation", "thermal")][:6]
    assert all(np.isfinite(load(root, s).values).all() for s in some)
    cache = build(tmp_path / "cache", 3, seed=5, root=root)
    assert len(Cache.open(tmp_path / "cache")) == 3
    for index, example in enumerate(islice(examples("train", 5, root=root), 3)):
        context, residual, hidden = cache.take(index, 0, 0, 128)
        np.testing.assert_allclose(context, example.context, atol=2e-2)
        np.testing.assert_array_equal(hidden, example.hidden)
        np.testing.assert_allclose(residual, example.residual, atol=2e-2, rtol=1e-2)


def test_cutting_says_how_far_it_is(monkeypatch, caplog):
    monkeypatch.setattr(data, "_EVERY", 0.0)
    with caplog.at_level(logging.INFO):
        assert list(data._told(3)) == [0, 1, 2]
    assert caplog.messages == [f"cutting: {done} of 3 patches, less than a minute left" for done in (1, 2)]


def test_observations_are_kept_as_far_as_memory_allows_and_the_longest_unused_let_go(monkeypatch):
    reads: list[str] = []

    def source(name: str) -> Source:
        def read(_: Path) -> Stack:
            reads.append(name)
            return Stack(np.zeros((1, 1, 100, 100), np.float32), np.ones((1, 1, 100, 100), bool))

        return Source("user", "train", name, read=read)

    monkeypatch.setattr(sources, "_kept", OrderedDict())
    monkeypatch.setattr(sources, "_room", lambda: 120_000)  # two of 50,000 bytes
    for name in "abacabb":
        sources.load(Path(), source(name))
    assert "".join(reads) == "abcb"
    assert [key[1].name for key in sources._kept] == ["a", "b"]


def test_a_cache_takes_its_room_before_it_is_written(tmp_path):
    """Writing to a file in memory ends the process where the disk is full then."""
    data._created(tmp_path / "cache", 3, 4)
    for path in (tmp_path / "cache").iterdir():
        assert path.stat().st_blocks * 512 >= path.stat().st_size > 0
