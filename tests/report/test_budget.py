"""One file stays within its budget, overviews come first, and what is left out is known."""

import json
from typing import Any

import numpy as np
import pytest

from geodiff.lattice import Window
from geodiff.report.budget import Embedded, embed
from geodiff.report.product import Layers
from geodiff.report.pyramid import Pyramid


class Noise:
    """Grain that does not compress, with one gap of 300 x 300 pixels; by date it moves."""

    bands = (0,)

    def __init__(self, side: int, dates: int = 1) -> None:
        self.shape, self.dates = (side, side), tuple(map(str, range(dates)))

    def read(self, date: int, window: Window) -> Layers:
        rows, columns = np.mgrid[window.slices]
        value = ((rows * 7919 + columns * 104_729 + rows * columns * 31) % 251).astype(np.float32)[None]
        start = 900 + 64 * date
        gap = (rows >= start) & (rows < start + 300) & (columns >= 400) & (columns < 700)
        source = np.where(gap, 3, 0).astype(np.uint8)[None]
        return Layers(value, source, source.astype(np.uint16), source.astype(np.float32))


def embedded(side: int, budget: int, dates: int = 1) -> tuple[Pyramid, Embedded]:
    picture: Any = Noise(side, dates)
    pyramid = Pyramid(picture)
    return pyramid, embed([pyramid], budget)[0]


@pytest.mark.parametrize("budget", [100_000, 400_000, 1_000_000])
def test_the_budget_holds(budget: int) -> None:
    _, chosen = embedded(2600, budget)
    assert len(json.dumps(chosen.tiles, separators=(",", ":"))) <= budget
    assert not chosen.whole
    assert not chosen.exact


def test_a_small_product_is_there_whole() -> None:
    pyramid, chosen = embedded(600, 5_000_000)
    assert chosen.whole
    assert chosen.dates == [0]
    assert chosen.exact
    assert len(chosen.tiles) == sum(len(pyramid.tiles(level)) for level in range(pyramid.levels))


def test_full_resolution_goes_to_the_gap() -> None:
    pyramid, chosen = embedded(2600, 1_600_000)
    assert chosen.full > 0
    finest = [key for key in chosen.tiles if key.split("/")[2] == "0"]
    rows = {int(key.split("/")[3]) for key in finest}
    assert rows <= {3, 4}, "tiles of the rows 900 to 1200"
    overview = [f"0/0/{tile.key}" for tile in pyramid.tiles(pyramid.levels - 1)]
    assert set(overview) <= set(chosen.tiles)


def test_of_many_dates_some_are_left_out_and_counted() -> None:
    _, chosen = embedded(1200, 900_000, dates=6)
    assert 0 < len(chosen.dates) < 6
    assert not chosen.whole
    assert {int(key.split("/")[0]) for key in chosen.tiles} == set(chosen.dates)


def test_pictures_share_the_budget() -> None:
    pictures: list[Any] = [Noise(300), Noise(2600)]
    chosen = embed([Pyramid(p) for p in pictures], 1_000_000)
    assert chosen[0].whole
    assert chosen[1].tiles
    assert sum(len(json.dumps(c.tiles)) for c in chosen) <= 1_050_000
