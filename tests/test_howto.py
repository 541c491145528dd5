"""What the pages show works as it stands there: blocks marked `<!-- runs -->`, and the filler that one can install."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import rasterio

from geodiff import cli, fillers
from tests.rasters import write

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "pages"
EXAMPLE = ROOT / "docs" / "examples" / "my_filler"
RUNS = re.compile(r"^<!-- runs -->\n```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUNNING = [path for path in (ROOT / "README.md", *sorted(PAGES.rglob("*.md"))) if RUNS.search(path.read_text())]

Cli = Callable[..., str]


@pytest.fixture
def geodiff_cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Run a command as the console script does; it must end well."""

    def run(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["geodiff", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capfd.readouterr()
        assert not left.value.code, f"{' '.join(map(str, words))}: {said.err}"
        return said.out

    return run


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a folder with `scene.tif`, a tilted surface with a hole."""
    monkeypatch.chdir(tmp_path)
    rows, columns = np.indices((96, 110)).astype(np.float64)
    values = np.rint(3000 + 9 * rows - 4 * columns + 60 * np.sin(rows / 9) * np.cos(columns / 7)).astype("uint16")
    values[30:52, 40:66] = 0
    write(Path("scene.tif"), values)
    return tmp_path / "scene.tif"


@pytest.mark.parametrize("page", RUNNING, ids=lambda path: path.stem)
def test_what_a_page_marks_runs_in_its_order(page: Path, scene: Path, geodiff_cli: Cli) -> None:
    names: dict[str, object] = {}
    for language, code in RUNS.findall(page.read_text()):
        if language == "python":
            exec(compile(code, str(page), "exec"), names)
            continue
        for line in code.splitlines():
            words = shlex.split(line, comments=True)
            if words:
                assert words.pop(0) == "geodiff", f"{page.name}: only geodiff itself is run here: {line}"
                geodiff_cli(*words)


def test_the_page_shows_the_example_as_it_is() -> None:
    page = (PAGES / "how-to" / "filler.md").read_text()
    assert f"```python\n{(EXAMPLE / 'my_filler.py').read_text()}```" in page
    assert f"```toml\n{(EXAMPLE / 'pyproject.toml').read_text()}```" in page


def test_the_example_is_installed_and_fills(
    scene: Path, geodiff_cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(EXAMPLE, tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    fillers._registered.cache_clear()
    try:
        assert isinstance(fillers.load_filler("plane"), fillers.Filler)
        geodiff_cli("fill", scene, "filled.tif", "--filler", "plane", "-q")
    finally:
        fillers._registered.cache_clear()
    with rasterio.open(scene) as a, rasterio.open("filled.tif") as b, rasterio.open("filled_source.tif") as c:
        before, after, source = (dataset.read(1) for dataset in (a, b, c))
    known = before != 0
    np.testing.assert_array_equal(after[known], before[known])
    assert (source[~known] >= 100).all()
    rows, columns = np.nonzero(~known)
    assert np.corrcoef(after[~known], 9.0 * rows - 4 * columns)[0, 1] > 0.9


def _install(project: Path, folder: Path) -> None:
    """Let pip install a project into `folder/site` without the network, from a wheel made of its `pyproject.toml`."""
    if find_spec("pip") is None:
        pytest.skip("there is no pip in this environment to install the example with")
    told = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    name, version = told["name"].replace("-", "_"), told["version"]
    groups = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in points.items())
        for group, points in told["entry-points"].items()
    ]
    inside = f"{name}-{version}.dist-info"
    contents = {path.name: path.read_text() for path in project.glob("*.py")} | {
        f"{inside}/METADATA": f"Metadata-Version: 2.1\nName: {told['name']}\nVersion: {version}\n",
        f"{inside}/WHEEL": "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{inside}/entry_points.txt": "\n".join(groups),
        f"{inside}/RECORD": "",
    }
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in contents.items():
            archive.writestr(path, text)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    where = ["--target", str(folder / "site")]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--no-compile", *where, str(wheel)], check=True)
