"""COGs: overviews, layers band by band, the same bytes each time, and nothing half written."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rio_cogeo import cog_validate

from geodiff.errors import WriteError
from geodiff.io import (
    Kind,
    cog,
    open_raster,
    read_fingerprint,
    write_product,
)
from tests.io.geotiffs import (
    noise,
    product_of,
    unchanged,
    write_source,
)


def test_overviews_of_codes_hold_real_codes_only(tmp_path: Path, rng: np.random.Generator) -> None:
    raster = open_raster(write_source(tmp_path / "in.tif", rng.integers(1, 255, (1, 1100, 1300)).astype("u1")))
    shape = raster.variables[0].shape
    codes = rng.choice(np.array([0, 3, 7, 254, 255], "u1"), shape)
    reasons = rng.choice(np.array([0, 1, 5, 64], "u2"), shape)
    errors = rng.random(shape).astype("f4")
    write_product(
        product_of(raster, unchanged(raster.variables[0], source=codes, reason=reasons, standard_error=errors)),
        str(tmp_path / "out.tif"),
    )
    for layer, real in (("source", {0, 3, 7, 254, 255}), ("reason", {0, 1, 5, 64})):
        path = tmp_path / f"out_{layer}.tif"
        assert cog_validate(path, quiet=True) == (True, [], [])
        with rasterio.open(path) as file:
            assert file.overviews(1) == [2, 4]
        for level in (0, 1):
            with rasterio.open(path, overview_level=level) as file:
                assert set(np.unique(file.read()).tolist()) <= real
    with rasterio.open(tmp_path / "out_source.tif") as file:
        assert file.tags()["flag_values"] == "0, 3, 7, 254, 255"
        assert file.tags(1)["flag_meanings"] == "observed laplace diffusion outside_fillable unfilled"
    with rasterio.open(tmp_path / "out_reason.tif") as file:
        assert file.tags()["flag_masks"] == "1, 4, 64"
    assert open_raster(str(tmp_path / "out_source.tif")).variables[0].bands[0].kind is Kind.FLAGS
    assert cog_validate(tmp_path / "out.tif", quiet=True) == (True, [], [])
    assert read_fingerprint(str(tmp_path / "out.tif")) == "f00d"


def test_members_and_quantiles_are_ordered_one_after_the_other(tmp_path: Path, rng: np.random.Generator) -> None:
    def describe(file: Any) -> None:
        file.descriptions = ("a", "b")
        file.scales = (0.5, 2.0)

    raster = open_raster(
        write_source(tmp_path / "in.tif", rng.integers(1, 255, (2, 20, 30)).astype("i2"), nodata=-1, describe=describe)
    )
    variable = raster.variables[0]
    members = rng.integers(1, 255, (3, *variable.shape)).astype("i2")
    quantiles = rng.random((2, *variable.shape)).astype("f4")
    filled = unchanged(variable, members=members, quantiles=quantiles)
    written = write_product(product_of(raster, filled, quantiles=(0.05, 0.95)), str(tmp_path / "out.tif"))
    assert [Path(path).name for path in written] == [
        f"out_{n}.tif" for n in ("source", "reason", "standard_error", "members", "quantiles")
    ] + ["out.tif"]
    with rasterio.open(tmp_path / "out_members.tif") as file:
        np.testing.assert_array_equal(file.read(), members[:, 0].reshape(6, 20, 30))
        assert file.descriptions == ("a member 0", "b member 0", "a member 1", "b member 1", "a member 2", "b member 2")
        assert file.nodata == -1
        assert file.scales == (0.5, 2.0) * 3
    with rasterio.open(tmp_path / "out_quantiles.tif") as file:
        np.testing.assert_array_equal(file.read(), quantiles[:, 0].reshape(4, 20, 30))
        assert file.descriptions[2:] == ("a quantile 0.95", "b quantile 0.95")


def test_equal_products_give_equal_bytes(tmp_path: Path, rng: np.random.Generator) -> None:
    raster = open_raster(write_source(tmp_path / "in.tif", noise("float32", (2, 520, 530), rng), nodata=-1))

    def digests(target: Path) -> list[str]:
        written = write_product(product_of(raster), str(target))
        return [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in written]

    assert digests(tmp_path / "out.tif") == digests(tmp_path / "out.tif")


def test_bytes_do_not_depend_on_the_number_of_cores(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = rng.integers(0, 4000, (2, 1300, 1700)).astype("uint16") // 64 * 64  # many tiles that compress unequally
    written = []
    for number in (1, 3):
        monkeypatch.setattr(cog, "cores", lambda number=number: number)
        raster = open_raster(write_source(tmp_path / "a.tif", values))
        (variable,) = raster.variables
        target = tmp_path / f"with_{number}.tif"
        write_product(product_of(raster, unchanged(variable)), str(target))
        written.append(target.read_bytes())
    assert written[0] == written[1]


def test_an_error_while_writing_leaves_nothing_half_written(tmp_path: Path, rng: np.random.Generator) -> None:
    raster = open_raster(write_source(tmp_path / "in.tif", noise("uint8", (1, 700, 30), rng)))

    class Broken:
        """An array that cannot be read below its first rows."""

        shape = raster.variables[0].shape

        def __getitem__(self, cut: tuple[Any, ...]) -> np.ndarray:
            if cut[-2].start:
                raise OSError("disk gone")
            return np.zeros((1, cut[-2].stop, 30), "u1")

    before = sorted(tmp_path.iterdir())
    with pytest.raises(WriteError, match="disk gone"):
        write_product(product_of(raster, unchanged(raster.variables[0], source=Broken())), str(tmp_path / "out.tif"))
    assert sorted(tmp_path.iterdir()) == before
