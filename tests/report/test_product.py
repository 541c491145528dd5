"""A product is opened for the page whatever its format, and shows what was measured and what was filled."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

import geodiff
from geodiff.codes import CODES
from geodiff.errors import TargetError
from geodiff.lattice import Window
from geodiff.report.product import open_product
from tests.io.items import data, item, save


def test_geotiff_has_its_layers_beside_it(filled: Path) -> None:
    product = open_product(str(filled))
    (picture,) = product.pictures
    assert picture.band_names == ("red", "green", "blue")
    assert picture.shape == (300, 420)
    layers = picture.read(0, Window(40, 60, 40, 40))
    with rasterio.open(filled.with_name("filled_standard_error.tif")) as dataset:
        errors = dataset.read(window=((40, 80), (60, 100)))
    np.testing.assert_array_equal(layers.error, errors)
    assert set(np.unique(layers.source)) == {0, CODES["nearest"]}
    assert ((layers.reason != 0) == (layers.source != 0)).all()
    assert np.isfinite(layers.value).all()
    assert product.record["variables"]["band_data"]["filled"] > 0


@pytest.mark.parametrize(("target", "bands"), [("filled.zarr", 1), ("filled.nc", 1), ("filled.nc", 2), ("folder/", 2)])
def test_every_format_opens(tmp_path: Path, made: Callable[..., Path], target: str, bands: int) -> None:
    place = str(tmp_path / target) + ("/" if target.endswith("/") else "")
    geodiff.fill(made(tmp_path / "scene.tif", bands=bands, shape=(120, 150)), place, filler="nearest")
    product = open_product(place)
    (picture,) = product.pictures
    layers = picture.read(0, Window(0, 0, 120, 150))
    assert layers.value.shape == (bands, 120, 150)
    assert (layers.source == CODES["nearest"]).sum() == next(iter(product.record["variables"].values()))["filled"]
    assert product.sources[CODES["nearest"]] == "nearest"


def test_a_band_that_only_a_stac_item_names_is_shown(tmp_path: Path, made: Callable[..., Path]) -> None:
    """The layers say the Item's name; the values, as in the source, none."""
    made(tmp_path / "scene.tif", bands=1, shape=(60, 60), names=())
    save(tmp_path / "item.json", item({"ndvi": data("scene.tif")}))
    geodiff.fill(tmp_path / "item.json", tmp_path / "filled.tif", filler="nearest")
    (picture,) = open_product(str(tmp_path / "filled.tif")).pictures
    assert picture.read(0, Window(0, 0, 60, 60)).source.shape == (1, 60, 60)


def test_a_south_up_map_is_shown_with_north_above(tmp_path: Path, made: Callable[..., Path]) -> None:
    made(tmp_path / "scene.tif", bands=1, shape=(90, 120))
    with rasterio.open(tmp_path / "scene.tif", "r+") as dataset:
        known = dataset.read(1)[::-1][10:50, 60:100]
        dataset.transform, dataset.crs = Affine(10, 0, 5e5, 0, 10, 5e6), "EPSG:32633"
    geodiff.fill(tmp_path / "scene.tif", tmp_path / "filled.tif", filler="nearest")
    (picture,) = open_product(str(tmp_path / "filled.tif")).pictures
    assert picture.south_up
    layers = picture.read(0, Window(10, 60, 40, 40))
    np.testing.assert_array_equal(layers.value[0][known > 0], known[known > 0])
    np.testing.assert_array_equal(layers.source[0] == 0, known > 0)
    assert (known == 0).any()


def test_what_is_no_product_is_refused_with_the_cure(tmp_path: Path, made: Callable[..., Path]) -> None:
    with pytest.raises(TargetError, match="does not exist; give the TARGET"):
        open_product(str(tmp_path / "nothing.tif"))
    with pytest.raises(TargetError, match="no layers that say what was filled"):
        open_product(str(made(tmp_path / "plain.tif")))


def test_layers_of_two_runs_are_no_product(tmp_path: Path, made: Callable[..., Path]) -> None:
    """A run that is stopped while it takes the place of another's leaves them."""
    source, one, other = made(tmp_path / "scene.tif", bands=1), tmp_path / "one.tif", tmp_path / "other.tif"
    geodiff.fill(source, one, filler="nearest")
    geodiff.fill(source, other, filler="nearest", buffer=1)
    open_product(str(one))
    other.with_name("other_source.tif").replace(one.with_name("one_source.tif"))
    with pytest.raises(TargetError, match=r"one\.tif and the layers beside it are of several runs: .*--overwrite"):
        open_product(str(one))


def test_without_its_record_a_product_still_opens(tmp_path: Path, made: Callable[..., Path]) -> None:
    geodiff.fill(made(tmp_path / "scene.tif", bands=1, shape=(90, 90)), tmp_path / "filled.tif", filler="nearest")
    (tmp_path / "filled.geodiff.json").write_text("{ half a rec")
    product = open_product(str(tmp_path / "filled.tif"))
    assert product.record == {}
    assert "geodiff fill" in product.attributes["geodiff_command"]
