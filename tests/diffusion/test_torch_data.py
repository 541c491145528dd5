"""Filled products come out as patches with their trust, the same for the same index."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine

import geodiff
from geodiff.diffusion.torch_data import FilledDataset, weight_of
from geodiff.errors import SourceError
from geodiff.lattice import Window


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("products")
    rows, columns = np.mgrid[:70, :90]
    values = (1000 + 5 * rows + 3 * columns).astype("u2")
    values[20:30, 40:60] = 0
    with rasterio.open(
        folder / "scene.tif", "w", driver="GTiff", height=70, width=90, count=1, dtype="uint16", nodata=0,
        crs="EPSG:32614", transform=Affine(30, 0, 500_000, 0, -30, 4_000_000),
    ) as file:  # fmt: skip
        file.write(values, 1)
    geodiff.fill(folder / "scene.tif", folder / "filled.tif", filler="laplace", members=0)
    return folder / "filled.tif"


def test_patches_cover_every_pixel_and_are_the_same_twice(product: Path) -> None:
    patches = FilledDataset([product], size=32, stride=24)
    seen = np.zeros((70, 90), bool)
    for _, window in patches.windows:
        seen[window.slices] = True
    assert seen.all()
    for first, second in ((patches[i], FilledDataset([product], size=32, stride=24)[i]) for i in range(len(patches))):
        assert first["image"].shape == (1, 32, 32)
        assert all(torch.equal(first[k], second[k]) for k in ("image", "weight", "source"))
        assert first["bounds"] == second["bounds"]


def test_observed_pixels_weigh_one_and_estimates_less(product: Path) -> None:
    sample = FilledDataset([product], size=70, scale=10.0)[0]
    observed = sample["source"] == 0
    assert (sample["weight"][observed] == 1).all()
    assert not observed.all()
    filled = sample["weight"][~observed]
    assert ((filled > 0) & (filled < 1)).all()
    with rasterio.open(product) as file:
        assert np.array_equal(sample["image"][0].numpy(), file.read(1)[:70, :70].astype("f4"))


def test_weights_follow_the_error() -> None:
    assert weight_of(np.array([0.0, 2.0, np.nan]), 2.0).tolist() == [1.0, 0.5, 0.0]
    assert (np.diff(weight_of(np.linspace(0, 9, 50), 1.0)) < 0).all()


@pytest.mark.parametrize("size", [32, 80, 100])
def test_a_patch_is_found_by_number_window_and_bounds(product: Path, size: int) -> None:
    patches = FilledDataset([product], size=size)
    assert patches[0]["image"].shape == (1, min(size, 70), min(size, 90))
    for index in range(len(patches)):
        left, bottom, right, top = patches.bounds(index)
        box = SimpleNamespace(minx=left, miny=bottom, maxx=right, maxy=top)
        slices = slice(left, right, 30), slice(bottom, top, 30), slice("2024-01-01", "2024-02-01")
        for other in (patches.windows[index], (left, bottom, right, top), box, slices, slices[:2]):
            assert torch.equal(patches[other]["image"], patches[index]["image"])  # type: ignore[index]
    assert "32614" in patches[0]["crs"] or "UTM" in patches[0]["crs"]
    with pytest.raises(IndexError, match="CRS"):
        patches[(0.0, 0.0, 1.0, 1.0)]
    with pytest.raises(IndexError, match="is no patch"):
        patches[slice(0, 9), slice(None)]


def test_batches_are_made_of_patches(product: Path) -> None:
    loader = torch.utils.data.DataLoader(FilledDataset([product, product], size=16), batch_size=4)
    batch = next(iter(loader))
    assert batch["image"].shape == batch["weight"].shape == (4, 1, 16, 16)


def test_a_raster_without_layers_is_refused(product: Path) -> None:
    with pytest.raises(SourceError, match=r"_source\.tif"):
        FilledDataset([product.with_name("scene.tif")])
    assert FilledDataset([product], size=16, smallest_share=1.0)[0]["weight"].min() > 0
    assert FilledDataset([product], size=500)[(0, Window(0, 0, 8, 8))]["image"].shape == (1, 8, 8)
