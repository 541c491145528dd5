"""The laws of the house, read from its imports.

1. Imports flow one way:
   errors <- nouns <- fillers, io <- scene <- plan <- pipeline <- score, report <- accessor, cli <- flows.
2. Nothing in geodiff imports prefect.
3. torch and diffusers are imported under geodiff/diffusion/ and by geodiff/fillers/diffusion.py only.
4. Nouns open no raster: arithmetic only, no I/O library, no torch, no Dask.
5. Flows are thin: decorators over plain functions, no arrays.

An import counts wherever it stands, in a function or under TYPE_CHECKING too: a lazy import is late, not absent.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

# From the ground up. Rooms on one floor do not import each other; a module belongs to the room of its longest prefix.
FLOORS: tuple[dict[str, tuple[str, ...]], ...] = (
    {"errors": ("geodiff.errors", "geodiff.credentials")},
    {
        "nouns": (
            "geodiff.encoding", "geodiff.flags", "geodiff.gaps", "geodiff.faults", "geodiff.lattice", "geodiff.noise",
            "geodiff.metrics", "geodiff.codes", "geodiff.job", "geodiff.jobfile", "geodiff.collar", "geodiff.gapshapes",
            "geodiff.limits", "geodiff.options", "geodiff.pyramid", "geodiff.samplers", "geodiff.seams",
            "geodiff.streams", "geodiff.threads", "geodiff.turns", "geodiff.undated",
        )
    },
    {"fillers": ("geodiff.fillers", "geodiff.diffusion")},
    {"io": ("geodiff.io",)},  # keeps what fillers have learnt; a filler knows nothing of files
    {
        "scene": (
            "geodiff.scene", "geodiff.channels", "geodiff.patches", "geodiff.quality", "geodiff.quantities",
            "geodiff.normalising", "geodiff.scan", "geodiff.scanned", "geodiff.suspects",
        )
    },
    {
        "plan": (
            "geodiff.plan", "geodiff.beside", "geodiff.beyond", "geodiff.fitting", "geodiff.trials", "geodiff.hidden",
            "geodiff.context", "geodiff.identity", "geodiff.layers", "geodiff.appending", "geodiff.digests",
        )
    },
    {
        "pipeline": (
            "geodiff.pipeline", "geodiff.blocks", "geodiff.estimate", "geodiff.finishing", "geodiff.preparing",
            "geodiff.progress", "geodiff.record", "geodiff.running", "geodiff.standing",
        )
    },
    {
        "score": ("geodiff.score", "geodiff.peers", "geodiff.realism"),
        "report": ("geodiff.report", "geodiff.viewer"),
        "restore": ("geodiff.restoring",),
        "learning": ("geodiff.learning", "geodiff.diffusion.torch_data"),  # learns from, and hands on, whole rasters
    },
    {"accessor": ("geodiff.accessor", "geodiff.api", "geodiff.arrays", "geodiff.lazy")},
    {"front": ("geodiff",)},
    {"cli": ("geodiff.cli", "geodiff.__main__", "geodiff.demo", "geodiff.doctor", "geodiff.inspection")},
    {"flows": ("flows",)},
)  # fmt: skip
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
ROOM_OF = {prefix: room for rooms in FLOORS for room, prefixes in rooms.items() for prefix in prefixes}

NETWORK = {"torch", "diffusers", "accelerate"}
RASTER_IO = {
    "rasterio", "rio_cogeo", "osgeo", "zarr", "h5netcdf", "h5py", "netCDF4", "xarray", "rioxarray", "geopandas",
    "pyogrio", "fsspec", "s3fs", "pystac", "tifffile", "imageio", "PIL", "dask", "distributed",
}  # fmt: skip
ARRAYS = {"numpy", "scipy", "skimage", "pandas", "dask", "distributed"}


class Import(NamedTuple):
    """One import: who, of what, in which line."""

    module: str
    target: str
    where: str


def test_the_house_keeps_its_laws() -> None:
    assert violations(ROOT) == []


def test_the_map_for_contributors_names_every_module() -> None:
    told = (ROOT / "CONTRIBUTING.md").read_text()
    modules = {path.name for path in (ROOT / "geodiff").glob("*.py")} - {"__main__.py"}
    rooms = {f"{path.parent.name}/" for path in (ROOT / "geodiff").glob("*/__init__.py")}
    assert not [name for name in sorted(modules | rooms) if f"`{name}`" not in told and f"`geodiff/{name}`" not in told]


def test_import_geodiff_loads_nothing_heavy() -> None:
    script = "import sys, geodiff; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    assert "geodiff" in loaded
    assert {"torch", "rasterio", "dask", "distributed", "diffusers", "prefect", "matplotlib"}.isdisjoint(loaded)


@pytest.mark.parametrize(
    ("path", "line", "complaint"),
    [
        ("geodiff/gaps.py", "from geodiff.scene import Scene", "imports upwards"),
        ("geodiff/gaps.py", "from . import scene", "imports upwards"),
        ("geodiff/errors.py", "import geodiff.lattice", "imports upwards"),
        ("geodiff/fillers/spatial.py", "from ..io import geotiff", "imports upwards"),
        ("geodiff/diffusion/training.py", "def f():\n    from geodiff.scene import open_scene", "imports upwards"),
        ("geodiff/score.py", "from geodiff.report import page", "on the same floor"),
        ("geodiff/report/__init__.py", "def f():\n    from ..score import league", "on the same floor"),
        ("geodiff/pipeline.py", "from geodiff import fill", "imports upwards"),
        ("geodiff/cli/fill.py", "from flows.fill import fill_scenes", "imports upwards"),
        ("geodiff/pipeline.py", "import prefect", "prefect belongs in flows/"),
        (
            "geodiff/pipeline.py",
            "def f():\n    from prefect.cache_policies import NO_CACHE",
            "prefect belongs in flows/",
        ),
        ("geodiff/io/geotiff.py", "import torch", "belongs under geodiff/diffusion/"),
        ("geodiff/fillers/spatial.py", "from diffusers import UNet2DModel", "belongs under geodiff/diffusion/"),
        (
            "geodiff/cli/fill.py",
            "import importlib\nimportlib.import_module('torch.cuda')",
            "belongs under geodiff/diffusion/",
        ),
        ("geodiff/gaps.py", "import rasterio.features", "opens a raster"),
        (
            "geodiff/metrics.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import xarray",
            "opens a raster",
        ),
        ("geodiff/flags/decode.py", "import dask.array", "opens a raster"),
        ("flows/fill.py", "import numpy as np", "flows carry no arrays"),
        ("geodiff/helpers.py", "x = 1", "has no floor"),
    ],
)
def test_a_broken_law_is_found(tmp_path: Path, path: str, line: str, complaint: str) -> None:
    build(tmp_path, {path: line})
    found = violations(tmp_path)
    assert len(found) == 1
    assert complaint in found[0]
    assert path in found[0]


def test_a_sound_house_passes(tmp_path: Path) -> None:
    build(
        tmp_path,
        {
            "geodiff/__init__.py": "from geodiff import errors\ndef f():\n    from . import accessor, pipeline",
            "geodiff/gaps.py": "import numpy\nfrom .errors import GeodiffError\nfrom odc.geo.geobox import GeoBox",
            "geodiff/fillers/diffusion.py": "import torch\nfrom ..diffusion import network\nfrom ..gaps import Gaps",
            "geodiff/diffusion/network.py": "from diffusers import ModelMixin",
            "geodiff/pipeline.py": "import dask\nfrom geodiff import __version__, plan\nfrom .io import create",
            "flows/fill.py": "import prefect\nimport geodiff\nfrom geodiff.job import FillJob",
        },
    )
    assert violations(tmp_path) == []


def build(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def violations(root: Path) -> list[str]:
    """List every breach of the laws in the packages geodiff and flows below root, one line each."""
    imports = [found for path in modules(root) for found in imports_of(root, path)]
    return [*floorless(root), *(complaint for found in imports for complaint in judge(found))]


def modules(root: Path) -> list[Path]:
    return sorted(path for package in ("geodiff", "flows") for path in (root / package).rglob("*.py"))


def floorless(root: Path) -> Iterator[str]:
    for path in modules(root):
        if room_of(module_name(root, path)) == "front" and path != root / "geodiff" / "__init__.py":
            yield f"{path.relative_to(root)} has no floor; say in FLOORS of tests/test_layers.py where it belongs"


def judge(found: Import) -> Iterator[str]:
    top = found.target.partition(".")[0]
    if top in {"geodiff", "flows"}:
        yield from judge_floors(found)
    if top == "prefect" and not found.module.startswith("flows"):
        yield f"{found.where} imports prefect; prefect belongs in flows/"
    if top in NETWORK and not may_see_the_network(found.module):
        yield f"{found.where} imports {top}, which belongs under geodiff/diffusion/ and in geodiff/fillers/diffusion.py"
    elif top in RASTER_IO and room_of(found.module) == "nouns":
        yield f"{found.where} imports {top}: a noun that opens a raster; arithmetic here, reading in geodiff/io/"
    if top in ARRAYS | RASTER_IO and room_of(found.module) == "flows":
        yield f"{found.where} imports {top}; flows carry no arrays: call a function of geodiff"


def judge_floors(found: Import) -> Iterator[str]:
    here, there = room_of(found.module), room_of(found.target)
    if FLOOR_OF[there] > FLOOR_OF[here]:
        yield f"{found.where} ({here}) imports upwards: {found.target} ({there})"
    elif here != there and FLOOR_OF[there] == FLOOR_OF[here]:
        yield f"{found.where} ({here}) imports {found.target} ({there}) on the same floor; move what both need down"


def room_of(module: str) -> str:
    while module not in ROOM_OF:
        module = module.rpartition(".")[0]
    return ROOM_OF[module]


def may_see_the_network(module: str) -> bool:
    return module == "geodiff.fillers.diffusion" or f"{module}.".startswith("geodiff.diffusion.")


def module_name(root: Path, path: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(root: Path, path: Path) -> Iterator[Import]:
    module = module_name(root, path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        for target in targets_of(node, package):
            yield Import(module, target, f"{path.relative_to(root)}:{node.lineno}")


def targets_of(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = source_of(node, package)
        yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "__version__")
    elif isinstance(node, ast.Call) and named(node.func) in {"import_module", "__import__"}:
        yield from (arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant) and isinstance(arg.value, str))


def source_of(node: ast.ImportFrom, package: str) -> str:
    """Resolve the dots of a relative import."""
    parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
    return ".".join([*parents, *([node.module] if node.module else [])])


def named(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
