"""The report in a real browser: headless Chromium, from disk and served; without Chromium these are left out aloud.

Screenshots at 1280 and 390 pixels go to the folder that GEODIFF_SCREENSHOTS names, where it is set.
"""

import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine

import geodiff
from geodiff.report import write_report
from geodiff.viewer import serve

pytest.importorskip("playwright", reason="needs Playwright, which comes with the test extra")
from playwright.sync_api import Browser, Page, sync_playwright

pytestmark = pytest.mark.browser

HOSTILE = "</script><img src=x onerror=alert(1)>"
GAP = (200, 300)
"""Row and column of the middle of the largest gap."""


@dataclass
class Opened:
    """A page, and what it did that it should not."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def settle(self) -> None:
        """Wait until the picture is drawn."""
        self.page.evaluate("() => new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))")
        self.page.wait_for_selector("#frame[aria-busy=false]")
        self.page.evaluate("() => new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))")

    def colour(self, across: float, down: float) -> tuple[int, ...]:
        """The canvas at a share of its width and height, as red, green, blue, alpha."""
        script = """([x, y]) => { const from = document.getElementById("canvas");
            const one = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
            one.drawImage(from, Math.floor(x * from.width), Math.floor(y * from.height), 1, 1, 0, 0, 1, 1);
            return [...one.getImageData(0, 0, 1, 1).data]; }"""
        return tuple(self.page.evaluate(script, [across, down]))

    def picture(self) -> str:
        """All of the canvas, to compare."""
        return str(self.page.evaluate("() => document.getElementById('canvas').toDataURL()"))

    def choose(self, name: str, value: str) -> None:
        self.page.select_option(f"#{name}", value)
        self.settle()

    def place(self, row: int, column: int) -> tuple[float, float]:
        """Where a pixel of the raster of 300 x 420 is on the canvas while the whole is shown."""
        area = self.page.evaluate("() => { const c = document.getElementById('canvas'); return [c.width, c.height]; }")
        scale = min(area[0] / 420, area[1] / 300)
        return 0.5 + (column - 210) * scale / area[0], 0.5 + (row - 150) * scale / area[1]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A colour scene with two round gaps, filled, and its report."""
    folder = tmp_path_factory.mktemp("colour")
    y, x = np.mgrid[:300, :420]
    grain = np.random.default_rng(5).normal(0, 60, (3, 300, 420))
    stored = (2000 + 600 * np.sin(y / 23) * np.cos(x / 31) + np.array([0, 90, 300])[:, None, None] + grain).astype("u2")
    for row, column, reach in ((60, 80, 18), (*GAP, 30)):
        stored[:, (y - row) ** 2 + (x - column) ** 2 < reach**2] = 0
    profile = {"driver": "GTiff", "width": 420, "height": 300, "count": 3, "dtype": "uint16", "nodata": 0}
    with rasterio.open(folder / "scene.tif", "w", **profile, transform=Affine(10, 0, 5e5, 0, -10, 5e6)) as dataset:
        dataset.write(stored)
        dataset.descriptions = ("red", "green", "blue")
    done = geodiff.fill(folder / "scene.tif", folder / "filled.tif", filler="nearest", report=f"{folder}/")
    return Path(done.products[-1])


@pytest.fixture(scope="module")
def dated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three dates, with names that would run code if they could, and their report."""
    folder = tmp_path_factory.mktemp("dates")
    values = np.random.default_rng(2).normal(290, 2, (3, 60, 80)).astype(np.float32)
    values[1] += np.linspace(0, 40, 80, dtype=np.float32)
    values[:, 20:30, 30:45] = np.nan
    times = np.array(["2024-01-01", "2024-02-01", "2024-03-01"], "M8[ns]")
    coords = {"time": times, "y": np.arange(60.0), "x": np.arange(80.0)}
    sst = xr.DataArray(values, coords, ("time", "y", "x"), attrs={"units": HOSTILE, "long_name": HOSTILE})
    xr.Dataset({"sst": sst}).to_netcdf(folder / "source.nc", engine="h5netcdf")
    geodiff.fill(folder / "source.nc", folder / "filled.nc", filler="nearest")
    return Path(write_report(str(folder / "filled.nc")))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium: Browser) -> Iterator[Callable[..., Opened]]:
    """Open a page; at the end it must have raised no error, dialog or request of its own."""
    pages: list[Opened] = []

    def open_page(address: Path | str, width: int = 1280, scheme: Any = "light") -> Opened:
        page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.set_default_timeout(60_000)  # the machine may be busy
        here = Opened(page)
        pages.append(here)
        page.on("console", lambda said: said.type in {"error", "warning"} and here.complaints.append(said.text))
        page.on("pageerror", lambda error: here.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (here.complaints.append("dialog"), dialog.dismiss()))
        page.on("request", lambda request: here.requests.append(request.url))
        page.goto(address.as_uri() if isinstance(address, Path) else address)
        here.settle()
        return here

    yield open_page
    for here in pages:
        assert here.complaints == []
        here.page.close()


def test_it_opens_from_disk_and_asks_for_nothing(opened: Callable[..., Opened], report: Path) -> None:
    here = opened(report)
    assert here.requests == [report.as_uri()]
    assert here.colour(*here.place(10, 10))[3] == 255, "the raster is drawn"
    assert here.page.inner_text("h1") == "filled.tif"


def test_the_swipe_follows_keys_and_pointer(opened: Callable[..., Opened], report: Path) -> None:
    here = opened(report)
    gap = here.place(*GAP)
    after = here.colour(*gap)
    handle = here.page.locator("#swipe")
    handle.focus()
    here.page.keyboard.press("End")
    here.settle()
    assert handle.get_attribute("aria-valuenow") == "100"
    before = here.colour(*gap)
    assert before[:3] == (227, 140, 116), "what was missing has the colour of gaps"
    assert before != after
    here.page.keyboard.press("Home")
    here.page.keyboard.press("ArrowRight")
    here.settle()
    assert handle.get_attribute("aria-valuenow") == "2"
    assert "2 %" in str(handle.get_attribute("aria-valuetext"))
    assert here.colour(*gap) == after
    box = here.page.locator("#frame").bounding_box()
    assert box is not None
    knob = handle.bounding_box()
    assert knob is not None
    here.page.mouse.move(knob["x"] + 22, box["y"] + box["height"] / 2)
    here.page.mouse.down()
    here.page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + box["height"] / 2, steps=3)
    here.page.mouse.up()
    here.settle()
    assert 89 <= int(handle.get_attribute("aria-valuenow") or 0) <= 91
    assert here.colour(*gap) == before


def test_layers_switch_and_have_legends(opened: Callable[..., Opened], report: Path) -> None:
    here = opened(report)
    gap, seen = here.place(*GAP), set()
    said = {"none": "was missing", "error": "standard error", "source": "nearest", "reason": "nodata"}
    for overlay, words in said.items():
        here.choose("overlay", overlay)
        seen.add(here.colour(*gap))
        assert words in here.page.inner_text("#legend")
    assert len(seen) == 4


def test_the_greys_of_one_band_have_a_legend(opened: Callable[..., Opened], report: Path) -> None:
    here = opened(report)
    assert "green" not in here.page.inner_text("#legend"), "a colour picture has no one scale"
    here.choose("band", "1")
    said = [here.page.inner_text("#legend")]
    here.choose("stretch", "0")
    said.append(here.page.inner_text("#legend"))
    ends = [[float(n) for n in re.findall(r"\d+(?:\.\d+)?", words.split("green:")[1])] for words in said]
    assert ends[1][0] < ends[0][0] < ends[0][1] < ends[1][1], "the whole range is wider than 2 to 98 %"


def test_the_greys_have_their_legend_from_the_start(opened: Callable[..., Opened], dated: Path) -> None:
    here = opened(dated)
    here.page.wait_for_function("() => document.getElementById('legend').textContent.match(/sst: 28\\d/)")


def test_bands_stretch_scale_and_gamma_change_the_picture(opened: Callable[..., Opened], report: Path) -> None:
    here = opened(report)
    seen = {here.picture()}
    here.choose("band", "1")
    red, green, blue, _ = here.colour(*here.place(100, 200))
    assert red == green == blue, "one band is grey"
    seen.add(here.picture())
    here.choose("stretch", "5")
    seen.add(here.picture())
    here.choose("scale", "log")
    seen.add(here.picture())
    here.page.focus("#gamma")
    here.page.keyboard.press("End")
    here.settle()
    seen.add(here.picture())
    assert here.page.inner_text("#gamma-value") == "2.83"
    assert len(seen) == 5


def test_what_has_two_signs_or_goes_round_has_colours_of_its_own(
    opened: Callable[..., Opened], tmp_path: Path
) -> None:
    slope = np.linspace(-2, 3, 60 * 80, dtype=np.float32).reshape(60, 80)
    bands = {"anomaly": (slope, "K"), "aspect": ((slope + 2) * 72 % 360, "degrees"), "elevation": (slope * 100, "m")}
    stored = np.stack([values for values, _ in bands.values()])
    stored[1, 0, :25], stored[1, -1, :25] = 0.01, 359.99
    stored[:, 20:30, 30:45] = np.nan
    profile = {"driver": "GTiff", "width": 80, "height": 60, "count": 3, "dtype": "float32", "nodata": np.nan}
    with rasterio.open(tmp_path / "scene.tif", "w", **profile, transform=Affine(10, 0, 5e5, 0, -10, 5e6)) as dataset:
        dataset.write(stored)
        dataset.descriptions, dataset.units = tuple(bands), tuple(units for _, units in bands.values())
    geodiff.fill(tmp_path / "scene.tif", tmp_path / "filled.tif", filler="nearest")
    here = opened(Path(write_report(str(tmp_path / "filled.tif"))))
    chosen, ends = [], []
    for band in range(3):
        here.choose("band", str(band))
        chosen.append(here.page.input_value("#colours"))
        ends.append((here.colour(0.3, 0.03)[:3], here.colour(0.7, 0.97)[:3]))
    assert chosen == ["zero", "round", "grey"]
    (blue, red), (first, last), greys = ends
    assert blue[2] > blue[0]
    assert red[0] > red[2]
    assert max(abs(a - b) for a, b in zip(first, last, strict=True)) < 12, "360 is next to 0"
    assert all(len(set(grey)) == 1 for grey in greys)
    here.choose("band", "0")
    assert "anomaly: -2." in here.page.inner_text("#legend")
    here.choose("colours", "grey")
    assert len(set(here.colour(0.7, 0.97)[:3])) == 1


def test_zoom_and_pan_by_keys_buttons_wheel_and_drag(opened: Callable[..., Opened], report: Path) -> None:
    here = opened(report)
    whole = here.picture()
    canvas = here.page.locator("#canvas")
    box = canvas.bounding_box()
    assert box is not None
    middle = box["x"] + box["width"] / 2 + 90, box["y"] + box["height"] / 2 + 90

    def drag() -> None:
        here.page.mouse.move(*middle)
        here.page.mouse.down()
        here.page.mouse.move(middle[0] + 60, middle[1] + 40, steps=3)
        here.page.mouse.up()

    def wheel() -> None:
        here.page.mouse.move(*middle)
        here.page.mouse.wheel(0, -240)

    seen = [whole]
    canvas.focus()
    steps: tuple[Callable[[], None], ...] = (
        lambda: here.page.keyboard.press("+"),
        lambda: here.page.keyboard.press("ArrowLeft"),
        wheel,
        drag,
        lambda: here.page.click("#zoom-in"),
        lambda: here.page.click("#next-gap"),
    )
    for step in steps:
        step()
        here.settle()
        here.page.wait_for_timeout(50)
        seen.append(here.picture())
        assert seen[-1] != seen[-2]
    assert "Gap 1 of 2" in here.page.inner_text("#pixel")
    here.page.click("#fit")
    here.settle()
    assert here.picture() == whole


def test_the_pixel_under_the_pointer_is_told(opened: Callable[..., Opened], report: Path) -> None:
    here = opened(report)
    box = here.page.locator("#canvas").bounding_box()
    assert box is not None
    across, down = here.place(*GAP)
    here.page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"])
    here.page.wait_for_function("() => document.getElementById('pixel').textContent !== ''")
    told = here.page.inner_text("#pixel")
    assert "filled by nearest; missing because: nodata" in told
    assert re.search(r": about \d+(\.\d+)?, standard error about \d+(\.\d+)? \(", told)


def test_dates_change_the_picture_and_hostile_names_stay_text(opened: Callable[..., Opened], dated: Path) -> None:
    here = opened(dated)
    assert here.page.locator("img").count() == 0
    first = here.picture()
    here.page.click("#after-date")
    here.settle()
    assert here.page.input_value("#date") == "1"
    assert "2024-02-01" in (here.page.get_attribute("#canvas", "aria-label") or "")
    assert here.picture() != first
    here.choose("overlay", "error")
    assert HOSTILE in here.page.inner_text("#legend")
    here.choose("date", "0")
    here.choose("overlay", "none")
    assert here.picture() == first


def test_dark_and_light(opened: Callable[..., Opened], report: Path) -> None:
    def ground(here: Opened) -> str:
        return str(here.page.evaluate("() => getComputedStyle(document.body).backgroundColor"))

    light, dark = opened(report), opened(report, scheme="dark")
    assert ground(light) != ground(dark)
    light.page.click("#theme")
    assert ground(light) == ground(dark)
    assert light.page.get_attribute("#theme", "aria-pressed") == "true"


@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_the_screen(opened: Callable[..., Opened], report: Path, tmp_path: Path, width: int) -> None:
    here = opened(report, width=width)
    assert here.page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    for name in ("theme", "zoom-in", "fit", "next-gap", "overlay"):
        box = here.page.locator(f"#{name}").bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 24, f"{name} is large enough to hit"
    folder = Path(os.environ.get("GEODIFF_SCREENSHOTS") or tmp_path)
    here.page.screenshot(path=folder / f"report-{width}.png", full_page=True)


def test_print_leaves_out_the_controls(opened: Callable[..., Opened], report: Path) -> None:
    light, here = opened(report), opened(report, scheme="dark")
    for each in (light, here):
        each.page.emulate_media(media="print")
    script = "() => getComputedStyle(document.getElementById('frame')).backgroundImage"
    chequers = [each.page.evaluate(script) for each in (light, here)]
    assert chequers[0] == chequers[1], "paper is light, whatever the screen was"
    for name in ("theme", "overlay", "zoom-in"):
        assert not here.page.locator(f"#{name}").is_visible()
    assert here.page.locator("#canvas").is_visible()
    assert "colour: red, green, blue" in here.page.inner_text("#caption")
    assert here.page.get_by_text("What is measured and what is invented").is_visible()


def test_tab_reaches_everything_in_reading_order(opened: Callable[..., Opened], report: Path) -> None:
    here = opened(report)
    order = []
    for _ in range(14):
        here.page.keyboard.press("Tab")
        order.append(here.page.evaluate("() => document.activeElement.id || document.activeElement.className"))
    expected = ["skip", "theme", "band", "overlay", "stretch", "scale", "gamma", "canvas", "swipe"]
    assert order[: len(expected)] == expected
    assert order[9:14] == ["zoom-out", "zoom-in", "fit", "full", "next-gap"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(opened: Callable[..., Opened], report: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    here = opened(report, scheme=scheme)
    found = axe.Axe().run(here.page).response["violations"]
    told = [f"{v['impact']} {v['id']}: {[n['html'][:90] for n in v['nodes']]}" for v in found]
    assert [line for line in told if line.startswith(("serious", "critical"))] == []


def test_served_it_asks_its_own_server_alone(opened: Callable[..., Opened], report: Path) -> None:
    with serve(str(report.with_name("filled.tif"))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = opened(server.url)
        here.page.wait_for_function("() => document.getElementById('frame').getAttribute('aria-busy') === 'false'")
        here.settle()
        assert here.colour(*here.place(10, 10))[3] == 255
        here.page.click("#next-gap")
        here.page.wait_for_function("() => document.getElementById('pixel').textContent.includes('Gap 1 of 2')")
        here.settle()
        assert {url.startswith(server.url) for url in here.requests} == {True}
        assert any("/tiles/0/0/" in url for url in here.requests)
        server.shutdown()
