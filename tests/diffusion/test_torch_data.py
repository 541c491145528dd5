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
from tests.rasters import write


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("products")
    rows, columns = np.mgrid[:70, :90]
    values = (1000 + 5 * rows + 3 * columns).astype("u2")
    values[20:30, 40:60] = 0
    write(folder / "scene.tif", values, crs="EPSG:32614", transform=Affine(30, 0, 500_000, 0, -30, 4_000_000))
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


def test_bounds_of_another_size_give_the_pixels_they_span(product: Path) -> None:
    """A sampler's boxes have a size of their own, and labels are cut by them."""
    patches = FilledDataset([product], size=32)
    sample = patches[(500_300.0, 3_998_500.0, 500_900.0, 3_999_400.0)]
    assert sample["bounds"] == (500_300.0, 3_998_500.0, 500_900.0, 3_999_400.0)
    assert torch.equal(sample["image"], patches[(0, Window(20, 10, 30, 20))]["image"])
    edge = patches[slice(500_000 - 300, 500_000 + 660, 30), slice(4_000_000 - 660, 4_000_000 + 300, 30)]
    assert edge["image"].shape == edge["source"].shape == (1, 32, 32)
    assert torch.equal(edge["image"][:, 10:, 10:], patches[0]["image"][:, :22, :22])
    beyond = torch.ones(1, 32, 32, dtype=torch.bool)
    beyond[:, 10:, 10:] = False
    assert (edge["source"][beyond] == 254).all()
    assert (edge["weight"][beyond] == 0).all()
    assert (edge["image"][beyond] == 0).all()
    with pytest.raises(IndexError, match="beyond"):
        patches[(0, Window(70, 0, 8, 8))]


@pytest.fixture
def flight(tmp_path: Path) -> Path:
    """A small mosaic of a flight: transparent but for the middle right; an infrared band after alpha; two members."""
    values = np.random.default_rng(0).normal(100, 10, (5, 300, 300)).astype("u1")
    values[4] //= 2
    source = np.full((4, 300, 300), 254, "u1")
    source[:, 20:280, 180:280], source[:, 100:120, 200:240] = 0, 20
    values[3] = np.where(source[0] < 254, 255, 0)
    values[[0, 1, 2, 4]] *= source < 254
    members = np.concatenate([np.where(source == 20, fill, values[[0, 1, 2, 4]]) for fill in (90, 110)])
    error = np.where(source == 20, 2, np.where(source == 254, np.nan, 0)).astype("f4")
    for layer, data in {"": values, "_source": source, "_standard_error": error, "_members": members}.items():
        with rasterio.open(
            tmp_path / f"mosaic{layer}.tif", "w", driver="GTiff", height=300, width=300, count=len(data),
            dtype=data.dtype.name, crs="EPSG:32614", transform=Affine(0.05, 0, 500_000, 0, -0.05, 4_000_000),
        ) as file:  # fmt: skip
            file.write(data)
            if layer == "":
                kinds = rasterio.enums.ColorInterp
                file.colorinterp = [kinds.red, kinds.green, kinds.blue, kinds.alpha, kinds.undefined]
    return tmp_path / "mosaic.tif"


def test_weights_of_a_mosaic_do_not_know_its_collar(flight: Path) -> None:
    """Zeros under transparent pixels made a scale of their own; an empty middle, a scale of 1."""
    sample = FilledDataset(flight, size=300)[0]
    filled = sample["weight"][:, 110, 220]
    assert filled[:3].numpy() == pytest.approx(1 / (1 + (2 / 1) ** 2), abs=0.02)
    assert filled[3] == pytest.approx(1 / (1 + (2 / 0.5) ** 2), abs=0.02)
    assert (sample["weight"][sample["source"] == 254] == 0).all()


def test_alpha_is_no_band_of_an_image(flight: Path) -> None:
    sample = FilledDataset(flight, size=300)[0]
    with rasterio.open(flight) as file:
        assert np.array_equal(sample["image"].numpy(), file.read([1, 2, 3, 5]).astype("f4"))


def test_members_come_beside_the_value(flight: Path) -> None:
    sample = FilledDataset(flight.parent, size=64, members=True)[(0, Window(90, 190, 64, 64))]
    assert sample["members"].shape == (2, 4, 64, 64)
    there = sample["source"] == 20
    assert [float(member[there].unique()) for member in sample["members"]] == [90, 110]
    assert all(torch.equal(member[~there], sample["image"][~there]) for member in sample["members"])
    flight.with_name("mosaic_members.tif").unlink()
    with pytest.raises(SourceError, match=r"_members\.tif"):
        FilledDataset(flight, members=True)


def test_products_are_a_path_many_or_a_folder(flight: Path, product: Path) -> None:
    assert len(FilledDataset(flight, size=300)) == len(FilledDataset(str(flight.parent), size=300)) == 1
    assert len(FilledDataset([flight.parent, product], size=300)) == 2
    assert torch.equal(FilledDataset(product)[torch.tensor(0)]["image"], FilledDataset(product)[0]["image"])  # type: ignore[index]
    (flight.parent / "empty").mkdir()
    with pytest.raises(SourceError, match="holds no product"):
        FilledDataset(flight.parent / "empty")


def test_batches_are_made_of_patches(product: Path) -> None:
    loader = torch.utils.data.DataLoader(FilledDataset([product, product], size=16), batch_size=4)
    batch = next(iter(loader))
    assert batch["image"].shape == batch["weight"].shape == (4, 1, 16, 16)


def test_a_raster_without_layers_is_refused(product: Path) -> None:
    with pytest.raises(SourceError, match=r"_source\.tif"):
        FilledDataset([product.with_name("scene.tif")])
    assert FilledDataset([product], size=16, smallest_share=1.0)[0]["weight"].min() > 0
    assert FilledDataset([product], size=500)[(0, Window(0, 0, 8, 8))]["image"].shape == (1, 8, 8)
