"""The options of a fill, most of which other verbs share, under the headings of the help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "Append", "Bands", "Batch", "BlockSize", "Buffer", "Dates", "Detect", "Device", "DryRun", "Dtype", "FailIfEmpty",
    "Fillable", "Filler", "Gate", "JobFile", "Mask", "MaxError", "Members", "Model", "Nodata", "Overwrite", "Product",
    "Qa", "Quantiles", "Refit", "Report", "Resolution", "Sampler", "Scheduler", "Seed", "Stac", "Steps", "ValidRange",
    "Variable", "Work", "Workers", "ZarrFormat", "path",
]  # fmt: skip

_WHAT, _MISSING, _METHOD = "What is filled", "What is missing, and may be filled", "How it is filled"
_PRODUCT, _PLACE = "What is written", "Where it runs"


def path(text: str | Path) -> Path:
    """A path of this machine: a `Path` would take an address for a folder called `s3:`, and write into it."""
    from geodiff.io.places import local_path

    local = local_path(str(text))
    if local is None:
        raise typer.BadParameter(f"{text} is not on this machine, as it has to be here; copy it from or to there")
    return local


def _valued(metavar: str, panel: str, text: str) -> Any:
    """An option with a value, under a heading."""
    return typer.Option(metavar=metavar, rich_help_panel=panel, help=text)


def _switch(name: str, panel: str, text: str) -> Any:
    """An option that is there or not, under a heading."""
    return typer.Option(name, metavar="", rich_help_panel=panel, help=text)


Variable = Annotated[
    str | None,
    _valued("V[,V..]", _WHAT, "Variables by name, if the file has several; default: all continuous ones with gaps."),
]
Bands = Annotated[
    str | None, _valued("B[,B..]", _WHAT, "Bands by number (from 1) or by name; `geodiff info` lists them.")
]
Qa = Annotated[
    list[str] | None,
    _valued(
        "PRESET[:PATH]",
        _MISSING,
        "Quality flags, repeatable: auto (default: the product's own), none, or a preset with the file, quoted glob "
        "or band that holds them. Presets: landsat-c2 landsat-c1 sentinel2-scl hls-fmask modis-vi "
        "modis-state modis-lst modis-snow viirs maiac ecostress goes-dqf ghrsst isis-special pds eolearn-clm cf-codes.",
    ),
]
Mask = Annotated[
    list[str] | None,
    _valued(
        "PATH",
        _MISSING,
        "More missing pixels, repeatable: a raster (where it is not 0) or a vector file (inside), in any CRS.",
    ),
]
Fillable = Annotated[
    str | None,
    _valued(
        "auto|all|PATH",
        _MISSING,
        "Where filling is allowed: auto (default: not the collar, outside the swath, or what no date ever observed), "
        "all, or inside a raster (where it is not 0) or a vector file.",
    ),
]
Nodata = Annotated[
    float | None, _valued("V", _MISSING, "A stored value that means missing, in addition to the file's own.")
]
ValidRange = Annotated[
    str | None,
    _valued(
        "A,B", _MISSING, "Values below A or above B are missing; in units of the variable (after scale and offset)."
    ),
]
Buffer = Annotated[int | None, _valued("N", _MISSING, "Grow the gaps by N pixels on all sides (default 0).")]
Detect = Annotated[
    str | None,
    _valued("D[,D..]", _MISSING, "Detect damage that no mask marks: dropouts, stripes, reseau, hotpixels."),
]
Dates = Annotated[
    str | None,
    _valued("D[,D..]|A:B", _WHAT, "Fill only these dates, such as 2024-06-01:2024-06-30; the others serve as context."),
]
Resolution = Annotated[
    float | None,
    _valued("R", _WHAT, "Resample all bands of a scene folder to pixel size R, in CRS units; default: no resampling."),
]
Filler = Annotated[
    str | None,
    _valued(
        "F",
        _METHOD,
        "auto (default: weighs classical methods and the network on known pixels of the scene), diffusion (the network "
        "alone), fast ones (nearest, idw, laplace, matern, biharmonic, kriging, nonlocal), or for stacks of dates "
        "linear-time, harmonic, whittaker, climatology, spacetime, regression, dineof.",
    ),
]
Model = Annotated[str | None, _valued("MODEL", _METHOD, "Folder of a model, or the name of a shipped one.")]
Members = Annotated[
    int | None, _valued("N", _METHOD, "Ensemble members to draw and write (default 4); 0 is several times as fast.")
]
Seed = Annotated[int | None, _valued("S", _METHOD, "Random seed of the members (default 0).")]
Steps = Annotated[int | None, _valued("K", _METHOD, "Network calls per member, at least 4 (default 10).")]
Sampler = Annotated[str | None, _valued("S", _METHOD, "edm-dpm2m (default), edm-dpm3m, edm-euler or heun.")]
Product = Annotated[
    str | None,
    _valued("value|member", _PRODUCT, "What TARGET holds: the best estimate (default), or the first member."),
]
Quantiles = Annotated[str | None, _valued("Q[,Q..]", _PRODUCT, "Write these quantiles too, such as 0.05,0.95.")]
MaxError = Annotated[
    float | None,
    _valued("E", _PRODUCT, "Leave a pixel missing where its standard error exceeds E, in units of the variable."),
]
Gate = Annotated[
    str | None,
    _valued(
        "G[,G..]",
        _PRODUCT,
        'Write no product, and exit with 5, unless conditions such as "coverage90>=0.85,unfilled<=0.02,seam<=1.05" '
        "hold: coverage of 90 % intervals on hidden values, share of gaps left empty, gradient across window edges.",
    ),
]
Report = Annotated[str | None, _valued("PATH", _PRODUCT, "Write an HTML report, before and after: a file, or folder/.")]
Stac = Annotated[str | None, _valued("PATH", _PRODUCT, "Write a STAC Item (JSON) of the product.")]
ZarrFormat = Annotated[
    int | None, _valued("2|3", _PRODUCT, "Version of a .zarr TARGET (default 3); 2 for GDAL before 3.13.")
]
DryRun = Annotated[bool, _switch("--dry-run", _PRODUCT, "Print the plan only; write nothing.")]
Overwrite = Annotated[bool, _switch("--overwrite", _PRODUCT, "Replace TARGET.")]
Append = Annotated[bool, _switch("--append", _PRODUCT, "Extend TARGET with new dates, using the fit stored with it.")]
Refit = Annotated[bool, _switch("--refit", _PRODUCT, "With --append: fit again, and refill all gaps.")]
FailIfEmpty = Annotated[bool, _switch("--fail-if-empty", _PRODUCT, "Exit with 4 if there is nothing to fill.")]
Device = Annotated[str | None, _valued("D", _PLACE, "Where the network runs: auto (default), cpu, cuda, cuda:1, mps.")]
Dtype = Annotated[str | None, _valued("T", _PLACE, "Number format of the network: auto (default), float32, bfloat16.")]
Workers = Annotated[
    int | None, _valued("N", _PLACE, "Processes on this machine; default 0: as many as fit, if that saves time.")
]
Scheduler = Annotated[str | None, _valued("ADDRESS", _PLACE, "A running Dask cluster, such as tcp://host:8786.")]
BlockSize = Annotated[
    int | None, _valued("N", _PLACE, "Rows and columns filled and written at once; fewer need less memory.")
]
Batch = Annotated[int | None, _valued("N", _PLACE, "Windows x bands x members per network call on a GPU (default 8).")]
Work = Annotated[str | None, _valued("DIR", _PLACE, "Folder for the unfinished product; default: beside TARGET.")]
JobFile = Annotated[
    Path | None, typer.Option(parser=path, metavar="FILE", help="A job file (TOML); options here override it.")
]
