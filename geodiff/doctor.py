"""What `geodiff doctor` looks at: versions, devices, PROJ and GDAL, the shipped model, disk and memory.

`problems` are what would make a fill fail or be wrong; `warnings` are what may. Each carries its cure.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
import tempfile
import textwrap
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geodiff
from geodiff.errors import GeodiffError, one_line
from geodiff.limits import free_memory, total_memory
from geodiff.threads import cores

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Transform = Callable[[str, str, float, float], tuple[float, float]]

__all__ = ["examine", "render"]

_PACKAGES = (
    "numpy", "scipy", "scikit-image", "pandas", "xarray", "dask", "distributed", "rasterio", "pyproj", "odc-geo",
    "rio-cogeo", "zarr", "numcodecs", "h5netcdf", "geopandas", "shapely", "pystac", "fsspec", "torch", "diffusers",
    "safetensors", "pydantic", "typer", "rich", "matplotlib",
)  # fmt: skip
_OPTIONAL = ("netCDF4", "s3fs", "prefect", "accelerate", "pyarrow")
_MODULES = {
    "scipy": "scipy.linalg", "scikit-image": "skimage.restoration", "odc-geo": "odc.geo.geobox",
    "rio-cogeo": "rio_cogeo", "diffusers": "diffusers.pipelines.pipeline_utils", "safetensors": "safetensors.numpy",
}  # fmt: skip
"""What to load of a package where that is not its own name, or that loads nothing by itself."""
_TOLD_OF = ("rasterio", "pyproj", "torch")
"""Loaded by what looks closer at them, which tells of it."""
_OF_FLOWS = ("prefect",)
"""What geodiff itself never loads."""
_DRIVERS = (
    "GTiff",
    "COG",
    "JP2OpenJPEG",
    "netCDF",
    "HDF5",
    "GRIB",
    "PDS",
    "PDS4",
    "ISIS3",
    "VICAR",
    "PNG",
    "VRT",
    "HDF4",
)
_FOREIGN = ("PROJ_DATA", "PROJ_LIB", "GDAL_DATA", "GDAL_DRIVER_PATH")
"""Variables with which one installation of PROJ or GDAL is sent to the files of another."""

_MARS_RADIUS = 3396190.0
"""Metres; the sphere of IAU_2015:49900 (Archinal et al. 2018, table 4)."""
_KNOWN_POINTS = (
    # from, to, longitude and latitude, the right answer in metres
    ("EPSG:4326", "EPSG:32618", (-75.0, 45.0), (500000.0, 4982950.400)),
    (
        "IAU_2015:49900",
        "IAU_2015:49910",
        (10.0, 20.0),
        (math.radians(10) * _MARS_RADIUS, math.radians(20) * _MARS_RADIUS),
    ),
)
_LEAST_DISK, _LEAST_MEMORY = 1 << 30, 1 << 30


def examine() -> dict[str, Any]:
    """Look at this installation and machine.

    Returns
    -------
    dict
        JSON-ready facts by subject, `warnings`, and `problems`: sentences with the cure; empty when all is well.
    """
    problems: list[str] = []
    warnings: list[str] = []
    facts = {
        "geodiff": geodiff.__version__,
        "python": f"{platform.python_version()} on {platform.platform()}",
        "packages": _packages(problems, warnings),
        "gdal": _gdal(problems),
        "proj": _proj(problems),
        "environment": _environment(warnings),
        "devices": _devices(problems),
        "model": _model(problems),
        "disk": _disk(warnings),
        "memory": _memory(warnings),
    }
    return {**facts, "warnings": warnings, "problems": problems}


def _packages(problems: list[str], warnings: list[str]) -> dict[str, str | None]:
    """Versions; what is installed must load too, as a half-done upgrade or a library of another Python does not."""
    found = {name: _version(name) for name in (*_PACKAGES, *_OPTIONAL)}
    absent = [name for name in _PACKAGES if found[name] is None]
    if absent:
        problems.append(f"{', '.join(absent)} not installed; pip install -c constraints.txt .")
    broken: dict[tuple[bool, str], list[str]] = {}  # what one library lacks, all that build on it lack
    for name, installed in found.items():
        if installed and name not in (*_TOLD_OF, *_OF_FLOWS) and (why := _why_not(name)):
            broken.setdefault((name in _PACKAGES, why), []).append(name)
    for (needed, why), names in broken.items():
        which = ", ".join(f"{name} {found[name]}" for name in names)
        told = f"{which} cannot be loaded ({why}); pip install --force-reinstall {' '.join(names)}"
        (problems if needed else warnings).append(told)
    return found


def _why_not(package: str) -> str:
    """Why a package that is installed does not load; empty where it does."""
    try:
        import_module(_MODULES.get(package, package))
    except Exception as error:  # noqa: BLE001  # whatever its own code raises
        return one_line(error, 200)
    return ""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _gdal(problems: list[str]) -> dict[str, Any]:
    """Version of the GDAL inside rasterio, and which of the contract's formats it reads."""
    try:
        import rasterio
        from rasterio.env import Env
    except Exception as error:  # noqa: BLE001  # whatever its own code raises
        problems.append(f"rasterio cannot be loaded ({one_line(error, 200)}); pip install --force-reinstall rasterio")
        return {}
    with Env() as env:
        drivers = env.drivers()
    return {
        "version": rasterio.__gdal_version__,
        "reads": [name for name in _DRIVERS if name in drivers],
        "does_not_read": [name for name in _DRIVERS if name not in drivers],
    }


def _proj(problems: list[str]) -> dict[str, Any]:
    """Known points through both copies of PROJ, pyproj's and rasterio's; metres they are off."""
    copies: Mapping[str, Callable[[], tuple[str, Transform]]] = {
        "pyproj": _pyproj,
        "rasterio": _rasterio,
    }
    return {name: _sanity(name, load, problems) for name, load in copies.items()}


def _pyproj() -> tuple[str, Transform]:
    import pyproj

    def transform(source: str, target: str, x: float, y: float) -> tuple[float, float]:
        east, north = pyproj.Transformer.from_crs(source, target, always_xy=True).transform(x, y)
        return float(east), float(north)

    return pyproj.proj_version_str, transform


def _rasterio() -> tuple[str, Transform]:
    import rasterio
    from rasterio import warp

    def transform(source: str, target: str, x: float, y: float) -> tuple[float, float]:
        (east,), (north,) = warp.transform(source, target, [x], [y])
        return float(east), float(north)

    return rasterio.__proj_version__, transform


def _sanity(name: str, load: Callable[[], tuple[str, Transform]], problems: list[str]) -> dict[str, Any]:
    try:
        number, transform = load()
    except Exception as error:  # noqa: BLE001  # whatever its own code raises
        problems.append(f"{name} cannot be loaded ({one_line(error, 200)}); pip install --force-reinstall {name}")
        return {}
    off = {f"{a} to {b}": _metres_off(transform, a, b, point, right) for a, b, point, right in _KNOWN_POINTS}
    for pair, metres in off.items():
        if metres is None or metres > 0.01:
            what = "cannot be done" if metres is None else f"is {metres:.3g} m off"
            problems.append(
                f"PROJ {number} in {name}: {pair} {what}, so its database is damaged or another one's; "
                f"unset {', '.join(_FOREIGN[:2])}, or pip install --force-reinstall {name}"
            )
    return {"version": number, "metres_off": off}


def _metres_off(
    transform: Transform,
    source: str,
    target: str,
    point: tuple[float, float],
    right: tuple[float, float],
) -> float | None:
    try:
        found = transform(source, target, *point)
    except Exception:  # noqa: BLE001  # whatever PROJ or its wrapper raises: the answer is that it cannot
        return None
    off = math.dist(found, right)
    return off if math.isfinite(off) else None


def _environment(warnings: list[str]) -> dict[str, str]:
    """Variables that send PROJ or GDAL to files which did not come with them."""
    found = {name: os.environ[name] for name in _FOREIGN if os.environ.get(name)}
    for name, value in found.items():
        there = "" if Path(value).exists() else ", which does not exist"
        warnings.append(
            f"{name}={value}{there}: PROJ and GDAL here come with their own files and these may be of another version; "
            f"unset {name}"
        )
    return found


def _devices(problems: list[str]) -> dict[str, Any]:
    """Where the network can run, and its number format there."""
    facts: dict[str, Any] = {"processors": cores(), "cpu_flags": _cpu_flags()}
    try:
        from geodiff.diffusion.device import dtype_of, pick_device
    except Exception as error:  # noqa: BLE001  # torch raises OSError where a library of its own is missing
        problems.append(f"the network cannot be loaded ({one_line(error, 200)}); pip install -c constraints.txt .")
        return facts
    for name in ("cpu", "cuda", "mps"):
        try:
            facts[name] = str(dtype_of("auto", pick_device(name))).removeprefix("torch.")
        except GeodiffError:
            facts[name] = None
    return {**facts, "auto": str(pick_device("auto"))}


def _cpu_flags() -> list[str]:
    """Those that make bfloat16 fast."""
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return []
    return [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in words]


def _model(problems: list[str]) -> dict[str, Any]:
    """Whether the shipped model is there, whole, and the one its card names."""
    try:
        from geodiff.diffusion.folder import check_folder, find_folder, stored_hash, weights_path

        folder = find_folder("default")
        check_folder(folder)
        size = weights_path(folder).stat().st_size
    except Exception as error:  # noqa: BLE001  # whatever the packages that read it raise
        problems.append(f"the shipped model: {one_line(error, 200)}")
        return {"name": "default", "sound": False}
    named = stored_hash(folder)
    if named is None:
        problems.append(f"the card in {folder} names no hash of the weights; reinstall geodiff")
    return {"name": "default", "sound": named is not None, "bytes": size, "sha256": named}


def _disk(warnings: list[str]) -> dict[str, int]:
    places = {"here": Path.cwd(), "temporary": Path(tempfile.gettempdir())}
    free = {name: shutil.disk_usage(place).free for name, place in places.items()}
    for name, count in free.items():
        if count < _LEAST_DISK:
            cure = "use --work on a larger disk" if name == "here" else "set TMPDIR to a larger disk"
            warnings.append(f"{_bytes(count)} are free in {places[name]}; {cure}")
    return free


def _memory(warnings: list[str]) -> dict[str, int]:
    free = free_memory()
    if free < _LEAST_MEMORY:
        warnings.append(f"{_bytes(free)} of memory are free; use a small --block-size and --workers 1")
    return {"total": total_memory(), "available": free}


# -- words


def render(facts: Mapping[str, Any]) -> str:
    """The facts of `examine` as text for a person; problems last, where they are seen."""
    rows = [
        ("geodiff", f"{facts['geodiff']}, Python {facts['python']}"),
        *_package_rows(facts["packages"]),
        *_library_rows(facts),
        *_device_rows(facts["devices"]),
        ("model", _model_text(facts["model"])),
        ("disk", ", ".join(f"{_bytes(count)} free {_PLACES[name]}" for name, count in facts["disk"].items())),
        ("memory", "{} of {} free".format(*(_bytes(facts["memory"][name]) for name in ("available", "total")))),
    ]
    lines = [line for name, text in rows for line in _wrapped(f"{name:<9} {text}")]
    lines += [f"warning: {text}" for text in facts["warnings"]]
    lines += [f"problem: {text}" for text in facts["problems"]]
    return "\n".join([*lines, *([] if facts["problems"] else ["all is well" + " otherwise" * bool(facts["warnings"])])])


def _wrapped(line: str) -> list[str]:
    indent = " " * 10
    lines = textwrap.wrap(line, _COLUMNS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return [text.replace(_TIED, " ") for text in lines]


_COLUMNS = 80
_TIED = "\u00a0"
"""A space at which no line ends."""
_PLACES = {"here": "here", "temporary": "for temporary files"}


def _package_rows(packages: Mapping[str, str | None]) -> list[tuple[str, str]]:
    named = [f"{name}{_TIED}{number}" for name, number in packages.items() if number]
    absent = [name for name in _OPTIONAL if packages.get(name) is None]
    return [("packages", ", ".join(named)), *([("", f"optional and not here: {', '.join(absent)}")] if absent else [])]


def _library_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    if gdal := facts["gdal"]:
        without = f"; without {', '.join(gdal['does_not_read'])}" if gdal["does_not_read"] else ""
        rows.append(("GDAL", f"{gdal['version']} reads {', '.join(gdal['reads'])}{without}"))
    for name, proj in facts["proj"].items():
        if proj:
            right = sum(off is not None and off <= 0.01 for off in proj["metres_off"].values())
            rows.append(
                ("PROJ", f"{proj['version']} in {name}: {right} of {len(proj['metres_off'])} known points right")
            )
    return rows


def _device_rows(devices: Mapping[str, Any]) -> list[tuple[str, str]]:
    flags = f" ({', '.join(devices['cpu_flags'])})" if devices["cpu_flags"] else ""
    rows = [("CPU", f"{devices['processors']} processor{'s' * (devices['processors'] > 1)}{flags}")]
    there = [f"{name} in {devices[name]}" for name in ("cpu", "cuda", "mps") if devices.get(name)]
    return [*rows, *([("network", f"can run on {', '.join(there)}; auto is {devices['auto']}")] if there else [])]


def _model_text(model: Mapping[str, Any]) -> str:
    if not model["sound"]:
        return f"{model['name']}: not sound"
    return f"{model['name']}, {_bytes(model['bytes'])}, SHA-256 {model['sha256'][:12]}..., as its card says"


def _bytes(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
