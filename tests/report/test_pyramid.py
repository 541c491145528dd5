"""Laws of the pyramid: codes keep order and bounds, tiles cover the raster, coarse levels lose no gap."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from geodiff.lattice import Window
from geodiff.report.product import Layers
from geodiff.report.pyramid import TILE, Level, Pyramid, Tile, _coding, encode


@dataclass(frozen=True)
class Ground:
    """A picture of one band that is made up as it is read: a slope, and gaps of one pixel on a wide grid."""

    shape: tuple[int, int]
    dates: tuple[str, ...] = ("",)
    bands: tuple[int, ...] = (0,)

    def read(self, date: int, window: Window) -> Layers:
        rows, columns = np.mgrid[window.slices]
        gap = (rows % 300 == 7) & (columns % 300 == 11)
        value = (rows + 2 * columns).astype(np.float32)[None]
        source = np.where(gap, 3, 0).astype(np.uint8)[None]
        return Layers(value, source, (source != 0).astype(np.uint16) * 5, np.where(source, 9.0, 0.0).astype(np.float32))


def pyramid(shape: tuple[int, int]) -> Pyramid:
    picture: Any = Ground(shape)
    return Pyramid(picture)


@given(arrays(np.float32, 40, elements=st.floats(-1e6, 1e6, width=32)))
def test_codes_keep_the_order_of_values(values: np.ndarray) -> None:
    coding = _coding(values, np.empty(0, np.float32))
    assert (np.diff(coding.table) > 0).all()
    ordered = np.sort(values)
    assert (np.diff(coding.codes(ordered).astype(int)) >= 0).all()
    assert coding.histogram.sum() == values.size


def test_decoded_values_are_near_and_outliers_do_not_cost_the_plain() -> None:
    values = np.append(np.linspace(0, 1, 10_000), [1000.0]).astype(np.float32)
    coding = _coding(values, np.empty(0, np.float32))
    near = np.abs(coding.table[coding.codes(values[:-1])] - values[:-1])
    assert near.max() < 0.02
    assert coding.table[coding.codes(values[-1:])][0] == pytest.approx(1000, rel=0.01)


@dataclass(frozen=True)
class OneGap(Ground):
    """A plain of 290; one small gap on one date, and something bright beside it, between windows of a sample."""

    gap_date: int = 0

    def read(self, date: int, window: Window) -> Layers:
        rows, columns = np.mgrid[window.slices]
        gap = (abs(rows - 340) < 10) & (abs(columns - 450) < 10) & (date == self.gap_date)
        value = np.where((abs(rows - 370) < 10) & (abs(columns - 450) < 10), 350, 290).astype(np.float32)[None]
        source = np.where(gap, 3, 0).astype(np.uint8)[None]
        return Layers(value, source, source.astype(np.uint16), np.where(source, 9.0, 0.0).astype(np.float32))


@pytest.mark.parametrize(("shape", "dates", "gap_date"), [((2000, 3000), 1, 0), ((400, 500), 20, 4)])
def test_a_small_gap_anywhere_has_its_error_and_a_bright_place_its_value(
    shape: tuple[int, int], dates: int, gap_date: int
) -> None:
    picture: Any = OneGap(shape, tuple(map(str, range(dates))), gap_date=gap_date)
    (coding,) = Pyramid(picture).codings
    assert coding.error == pytest.approx(9)
    assert coding.table[-1] == pytest.approx(350, rel=1e-3)


def test_tiles_cover_every_level() -> None:
    levels = pyramid((2600, 1030))
    assert levels.levels == 3
    for level in range(levels.levels):
        area = sum(levels.read(0, tile).value[0].size for tile in levels.tiles(level))
        assert area == np.prod(levels.size(level))


def test_no_gap_is_lost_and_values_are_means() -> None:
    levels = pyramid((2600, 1030))
    gaps = 9 * 4
    assert sum(levels.gap_pixels(0, tile) for tile in levels.tiles(0)) == gaps
    for level in range(levels.levels):
        assert sum(int((levels.read(0, t).key >> 24 == 2).sum()) for t in levels.tiles(level)) == gaps
    fine = levels.read(0, Tile(0, 0, 0)).value[0]
    coarse = levels.read(0, Tile(1, 0, 0)).value[0]
    np.testing.assert_allclose(coarse[:128, :128], fine.reshape(128, 2, 128, 2).mean(axis=(1, 3)))


def test_kept_and_read_levels_agree() -> None:
    levels = pyramid((2600, 1030))
    assert levels.kept_from == 1
    whole = levels.whole(0, 1)
    direct = levels._reduced(0, Window(512, 512, 512, 512), 1)
    np.testing.assert_array_equal(direct.value, whole.value[:, 256:512, 256:512])
    np.testing.assert_array_equal(direct.key, whole.key[:, 256:512, 256:512])


@pytest.mark.parametrize("tile", [Tile(0, 11, 0), Tile(0, 0, 5), Tile(3, 0, 0), Tile(-1, 0, 0), Tile(0, -1, 0)])
def test_what_lies_outside_is_no_tile(tile: Tile) -> None:
    assert not pyramid((2600, 1030)).has(tile)


def test_source_and_reason_travel_without_loss() -> None:
    levels = pyramid((600, 600))
    tile = levels.read(0, Tile(0, 1, 1))
    height, width, value, error, gaps = encode(tile, 0, levels.codings[0])
    assert (height, width) == (TILE, TILE)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(gaps))))
    np.testing.assert_array_equal(pixels[..., 0], tile.key[0] >> 16 & 255)
    np.testing.assert_array_equal(pixels[..., 1].astype(int) * 256 + pixels[..., 2], tile.key[0] & 0xFFFF)
    for text in (value, error):
        assert Image.open(io.BytesIO(base64.b64decode(text))).mode == "L"


def test_a_tile_without_gaps_says_so_in_one_number() -> None:
    levels = pyramid((7, 9))
    assert encode(levels.read(0, Tile(0, 0, 0)), 0, levels.codings[0])[3:] == [None, 0]


@pytest.mark.parametrize("exact", [True, False])
def test_beside_an_outlier_every_code_is_kept_where_there_is_room(exact: bool) -> None:
    """Compressed as a photograph, one bright pixel would have ripples around it that nobody measured."""
    value = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(1, 64, 64)
    value[0, 30, 30] = 1e6
    coding = _coding(value.ravel(), np.empty(0, np.float32))
    level = Level(value, np.full(value.shape, 1 << 24, np.uint32), np.zeros_like(value))
    image = Image.open(io.BytesIO(base64.b64decode(encode(level, 0, coding, exact=exact)[2])))
    assert (np.asarray(image) == coding.codes(value[0])).all() == exact


def test_a_coding_tells_where_the_values_lie_and_a_typical_error() -> None:
    coding = _coding(np.linspace(0, 100, 10_001, dtype=np.float32), np.array([1, 2, 9], np.float32))
    assert coding.range(0.05) == pytest.approx((5, 95), abs=0.5)
    assert coding.typical == 2
