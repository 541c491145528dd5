"""What `geodiff info` says about a source: its grid, bands, dates and encoding, its gaps and why, and a look at it.

Gaps are counted by the very pass a plan makes, tile by tile, with the reasons in a temporary store. A source too large
for that in some seconds is looked at through evenly spread small windows, and the answer says so.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.collar import OPENING
from geodiff.gaps import auto_fillable, collar_candidates, never_seen, outside_counts, shares, tally
from geodiff.io import Kind, OpenOptions, open_raster
from geodiff.io.store import VariableSpec, create_work
from geodiff.job import FillJob
from geodiff.lattice import Window
from geodiff.scan import CHUNK, scan_cube
from geodiff.scene import scene_of
from geodiff.suspects import Suspect, told

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from odc.geo.geobox import GeoBox

    from geodiff.io import Band, Raster, Variable
    from geodiff.scan import GapReader, Scan
    from geodiff.scene import Cube

__all__ = ["describe", "render", "thumbnail"]

_EXACT = 1 << 27
"""Values up to which all are read: some ten seconds."""
_WIDTH, _HEIGHT = 64, 28
"""Characters of the thumbnail at most; one is about twice as high as wide."""
_PROBE = 64
"""Rows and columns of a window in a source too large to be read whole."""
_SHADES = " ░▒▓█"
_GAP, _LEFT_OUT = "×", "·"
_MARKED = 1 / 3
"""Share of a character's pixels from which it is marked as gap."""

_WHY = {
    "qa_fill": "the quality band calls it fill; `--fillable all` would fill it",
    "undefined": "the product says that there is no such quantity here, as no sea temperature on land",
    "collar": "the scene's collar or the swath's outside; `--fillable all` would fill it",
    "never_seen": "no date ever saw it, as land in sea temperature; `--fillable all` would fill it",
}
_WHY_ROUGHLY = {"never_seen": "at most: none of the dates looked at saw it; `--fillable all` would fill it"}


@dataclass(frozen=True, slots=True)
class _Picture:
    """One date and band at a few characters' resolution; arrays (row, column)."""

    mean: NDArray[np.float64]
    """Mean of the known pixels, NaN where none is."""
    gaps: NDArray[np.float64]
    """Share of pixels to fill."""
    left_out: NDArray[np.float64]
    """Share of missing pixels that are left as they are."""


def describe(source: str, **missing: Any) -> dict[str, Any]:
    """Look at a source.

    Parameters
    ----------
    source : anything `fill` takes.
    missing : options of `fill` that say what is missing, and what of it may be filled: qa, mask, nodata, valid_range,
        fillable.

    Returns
    -------
    dict
        JSON-ready facts; counts are values (date x band x pixel), shares are of all values of the variable.

    Raises
    ------
    SourceError, FlagError, JobError
        With the cure, as `fill` would.
    """
    job = FillJob.build(source=source, target="unused.zarr", **missing)
    raster = open_raster(source, OpenOptions(job.nodata, job.valid_range, job.resolution))
    gaps = _gap_facts(job, raster)
    return {
        "source": source,
        "driver": raster.driver,
        "files": len(raster.files),
        "quality": [_quality_facts(q) for q in raster.quality],
        "variables": [_variable_facts(v) | gaps.get(v.name, {}) for v in raster.variables],
    }


def _quality_facts(quality: Any) -> dict[str, Any]:
    explains = list(quality.applies_to) or "every variable on its ground"
    return {"name": quality.variable.name, "preset": quality.preset, "explains": explains}


def _variable_facts(variable: Variable) -> dict[str, Any]:
    return {
        "name": variable.name,
        "grid": _grid_facts(variable),
        "dates": _date_facts(variable.dates),
        "bands": [_band_facts(band) for band in variable.bands],
        "attributes": {k: _plain(v) for k, v in variable.attributes.items() if isinstance(v, (str, int, float, bool))},
    }


def _grid_facts(variable: Variable) -> dict[str, Any]:
    geobox = variable.geobox
    rows, columns = variable.shape[2:]
    facts = {"rows": rows, "columns": columns, "georeferenced": variable.georeferenced, "crs": _crs_name(geobox)}
    if not variable.georeferenced:
        return facts
    affine = geobox.affine
    corners = [(column, row) for column in (0, columns) for row in (0, rows)]
    xs = [affine.a * column + affine.b * row + affine.c for column, row in corners]
    ys = [affine.d * column + affine.e * row + affine.f for column, row in corners]
    return facts | {
        "affine": [affine.a, affine.b, affine.c, affine.d, affine.e, affine.f],
        "pixel": [math.hypot(affine.a, affine.d), math.hypot(affine.b, affine.e)],
        "bounds": [min(xs), min(ys), max(xs), max(ys)],
        "units": _axis_units(geobox),
    }


def _crs_name(geobox: GeoBox) -> str | None:
    """`EPSG:32618 (WGS 84 / UTM zone 18N)`, or the name alone where no authority has a code for it."""
    if geobox.crs is None:
        return None
    crs = geobox.crs.proj
    code = crs.to_authority(min_confidence=70)
    if code:
        return f"{':'.join(code)} ({crs.name})"
    operation = crs.coordinate_operation  # MODIS grids, and CF grid mappings without WKT, are written without a name
    if crs.name not in ("unknown", "undefined"):
        return str(crs.name)
    return f"unnamed, {operation.method_name}" if operation is not None else f"unnamed, {crs.type_name}"


def _axis_units(geobox: GeoBox) -> str:
    axes = geobox.crs.proj.axis_info if geobox.crs is not None else []
    return str(axes[0].unit_name) if axes else "units"


def _date_facts(dates: Sequence[np.datetime64 | None]) -> dict[str, Any] | None:
    known = np.array([date for date in dates if date is not None], "datetime64[s]")
    if len(dates) < 2 and not known.size:
        return None
    in_time = np.sort(known)
    steps = np.diff(in_time).astype(np.int64)
    return {
        "count": len(dates),
        "timed": known.size,
        "first": _day(in_time[0]) if known.size else None,
        "last": _day(in_time[-1]) if known.size else None,
        "median_step_days": float(np.median(steps)) / 86400 if steps.size else None,
        "in_order": bool((known[1:] >= known[:-1]).all()),
    }


def _day(date: np.datetime64) -> str:
    return str(date.astype("datetime64[s]")).removesuffix("T00:00:00")


def _band_facts(band: Band) -> dict[str, Any]:
    encoding = band.encoding
    return {
        "name": band.name,
        "kind": band.kind.value,
        "dtype": str(encoding.dtype),
        "nodata": _plain(encoding.nodata),
        "more_nodata": [_plain(v) for v in encoding.extra_nodata],
        "scale": encoding.scale,
        "offset": encoding.offset,
        "valid_range": None if encoding.valid_range is None else [_plain(v) for v in encoding.valid_range],
        "units": band.units,
    }


def _plain(value: Any) -> Any:
    """JSON knows no NaN and no infinity."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


# -- gaps


def _gap_facts(job: FillJob, raster: Raster) -> dict[str, dict[str, Any]]:
    """By variable: what is missing, what would be filled, and a thumbnail; only variables with a continuous band."""
    if not any(band.kind is Kind.CONTINUOUS for v in raster.variables for band in v.bands):
        return {}
    cubes = scene_of(raster, job).cubes
    return {cube.name: _exactly(cube) if _values(cube) <= _EXACT else _roughly(cube) for cube in cubes}


def _values(cube: Cube) -> int:
    return len(cube.variable.dates) * len(cube.bands) * math.prod(cube.shape)


def _exactly(cube: Cube) -> dict[str, Any]:
    """Every value, by the pass that a plan makes."""
    shape = (len(cube.variable.dates), len(cube.bands), *cube.shape)
    spec = VariableSpec(cube.name, shape, cube.variable.dtype.str, chunks=(1, 0, CHUNK, CHUNK))
    with TemporaryDirectory(prefix="geodiff-info-") as folder:
        work = create_work(f"{folder}/info.zarr", [spec])
        reason, outside = work.array(cube.name, "scan_reason"), work.array(cube.name, "outside")
        scan, gaps = scan_cube(cube, reason, outside, buffer=0)
        date = _typical_date(scan)
        picture = _picture(cube, gaps, date)
    return {"gaps": _scan_facts(scan), "typical": _typical(cube, scan), "thumbnail": _shown(cube, date, picture)}


def _scan_facts(scan: Scan) -> dict[str, Any]:
    by_date = scan.gap_counts.reshape(len(scan.gap_counts), -1).sum(axis=1)
    return {
        "exact": True,
        "values": scan.total,
        "missing": scan.missing,
        "to_fill": scan.wanted,
        "reasons": shares(scan.reasons, scan.total),
        "left_out": {cause: n for cause, n in scan.left_out.items() if n},
        "dates_with_gaps": int((by_date > 0).sum()),
        "suspects": [asdict(suspect) for suspect in scan.suspects],
    }


def _typical(cube: Cube, scan: Scan) -> list[dict[str, Any]]:
    """Median and robust spread of each band's known values, physical units."""
    rows = []
    for band, recipe in zip(cube.bands, scan.normalisations, strict=True):
        middle = recipe.inverse(np.array([-1.0, 0.0, 1.0], np.float32))
        rows.append({"band": cube.variable.bands[band].name, "p16_p50_p84": [float(v) for v in middle]})
    return rows


def _typical_date(scan: Scan) -> int:
    """The date in the middle when they are ordered by their gaps."""
    by_date = scan.gap_counts.reshape(len(scan.gap_counts), -1).sum(axis=1)
    return int(np.argsort(by_date, kind="stable")[len(by_date) // 2])


@dataclass(frozen=True, slots=True)
class _Look:
    """One small window of a large source. Pairs: what holds where nothing is outside, and where all that may be is."""

    reasons: NDArray[np.int64]
    missing: int
    values: int
    outside: float
    """Share of the pixels (row, column) that may be outside."""
    left_out: tuple[dict[str, int], dict[str, int]]
    sums: tuple[NDArray[np.float64], NDArray[np.float64]]
    """Of the thumbnail's date, as `_planes`."""


def _roughly(cube: Cube) -> dict[str, Any]:
    """A look through small windows, one for each character of the thumbnail, at three dates at most."""
    dates = len(cube.variable.dates)
    cells = _picture_shape(cube.shape)
    looked_at = sorted({0, dates // 2, dates - 1})
    looks = {cell: _look(cube, window, looked_at) for cell, window in _probes(cube.shape, cells)}
    outside = _outside(cube, np.array([look.outside for look in looks.values()]).reshape(cells))
    values = sum(look.values for look in looks.values())
    whole = _values(cube) / values
    missing = round(sum(look.missing for look in looks.values()) * whole)
    found: Counter[str] = Counter()
    sums = np.zeros((4, *cells))
    for cell, look in looks.items():
        found.update(look.left_out[int(outside[cell])])
        sums[(slice(None), *cell)] = look.sums[int(outside[cell])]
    left_out = {cause: round(n * whole) for cause, n in found.items() if n}
    facts = {
        "exact": False,
        "values": _values(cube),
        "looked_at": values,
        "missing": missing,
        "to_fill": missing - sum(left_out.values()),
        "reasons": shares(np.sum([look.reasons for look in looks.values()], axis=0), values),
        "left_out": left_out,
    }
    return {"gaps": facts, "thumbnail": _shown(cube, dates // 2, _as_picture(sums))}


def _look(cube: Cube, window: Window, dates: Sequence[int]) -> _Look:
    """A window on some dates; the thumbnail's is in the middle of all."""
    reasons = [cube.reason(date, window) for date in dates]
    beyond = _may_be_outside(cube, window, reasons)
    nowhere = np.zeros_like(beyond)
    numbers, why = _first_band(cube, dates[len(dates) // 2], window), reasons[len(dates) // 2]
    return _Look(
        np.sum([tally(reason) for reason in reasons], axis=0),
        sum(int((reason != 0).sum()) for reason in reasons),
        sum(reason.size for reason in reasons),
        float(beyond.mean()),
        (_left_out(cube, reasons, nowhere), _left_out(cube, reasons, beyond)),
        (
            _cell_sums(numbers, why, _fillable(cube, why, nowhere)),
            _cell_sums(numbers, why, _fillable(cube, why, beyond)),
        ),
    )


def _may_be_outside(cube: Cube, window: Window, reasons: Sequence[NDArray[np.uint16]]) -> NDArray[np.bool_]:
    """What is not in the user's area; under `auto` what no date saw that was looked at, or what may be collar."""
    if cube.rules.fillable is not None:
        return ~cube.rules.fillable(window)
    if cube.rules.fill_everything or not (_is_stack(cube) or cube.variable.georeferenced):
        return np.zeros(window.shape, bool)
    return never_seen(np.stack(reasons) != 0) if _is_stack(cube) else collar_candidates(reasons[0])


def _outside(cube: Cube, share: NDArray[np.float64]) -> NDArray[np.bool_]:
    """In which cells (row, column) of a coarse grid it is outside indeed: a collar is wide, and joins the edge."""
    if cube.rules.fillable is not None or _is_stack(cube):
        return share > 0
    from scipy import ndimage

    wide = [-(-OPENING * cells // pixels) for cells, pixels in zip(share.shape, cube.shape, strict=True)]
    labels, _ = ndimage.label(ndimage.binary_opening(share > 0.5, np.ones(wide, bool)), np.ones((3, 3), bool))
    edges = [labels[0], labels[-1], *([] if cube.lattice.periodic else [labels[:, 0], labels[:, -1]])]
    joining = np.isin(labels, np.setdiff1d(np.concatenate(edges), 0))
    return np.asarray(ndimage.binary_dilation(joining, np.ones((3, 3), bool)))  # the cells that it ends in


def _left_out(cube: Cube, reasons: Sequence[NDArray[np.uint16]], outside: NDArray[np.bool_]) -> dict[str, int]:
    """Missing values that are not fillable, over some dates, by cause, as a scan counts them."""
    if cube.rules.fillable is not None:
        return {"not in --fillable": sum(int(((reason != 0) & outside).sum()) for reason in reasons)}
    if cube.rules.fill_everything:
        return {}
    collar, unseen = (None, outside) if _is_stack(cube) else (outside, None)
    found: Counter[str] = Counter()
    for reason in reasons:
        found.update(outside_counts(reason, collar, unseen))
    return found


def _fillable(cube: Cube, reason: NDArray[np.uint16], outside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    alone = cube.rules.fill_everything
    return np.broadcast_to(~outside, reason.shape) if alone else auto_fillable(reason, outside)


def _is_stack(cube: Cube) -> bool:
    return len(cube.variable.dates) > 1


def _probes(shape: tuple[int, int], cells: tuple[int, int]) -> Iterator[tuple[tuple[int, int], Window]]:
    """A window in the middle of each cell of a coarse grid over the raster."""
    size = tuple(min(_PROBE, max(1, n // c)) for n, c in zip(shape, cells, strict=True))
    for i in range(cells[0]):
        for j in range(cells[1]):
            row = (2 * i + 1) * shape[0] // (2 * cells[0]) - size[0] // 2
            column = (2 * j + 1) * shape[1] // (2 * cells[1]) - size[1] // 2
            yield (i, j), Window(max(row, 0), max(column, 0), size[0], size[1])


# -- the thumbnail


def _picture_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Characters (rows, columns) for a raster of that shape."""
    rows, columns = shape
    width = max(1, min(_WIDTH, columns, round(2 * _HEIGHT * columns / rows)))
    return max(1, min(_HEIGHT, rows, round(width * rows / columns / 2))), width


def _picture(cube: Cube, gaps: GapReader, date: int) -> _Picture:
    """One date of the first band to fill, tile by tile, (row, column) of the thumbnail."""
    height, width = _picture_shape(cube.shape)
    rows, columns = cube.shape
    sums = np.zeros((4, height * width))
    for tile in _tiles(cube.shape):
        found = gaps.read(date, tile)
        row = np.arange(tile.row, tile.stop[0]) * height // rows
        column = np.arange(tile.column, tile.stop[1]) * width // columns
        cell = (row[:, None] * width + column[None, :]).ravel()
        planes = _planes(_first_band(cube, date, tile), found.reason, found.fillable)
        sums += [np.bincount(cell, weights=plane.ravel(), minlength=height * width) for plane in planes]
    return _as_picture(sums.reshape(4, height, width))


def _tiles(shape: tuple[int, int]) -> Iterator[Window]:
    for row in range(0, shape[0], 2 * CHUNK):
        for column in range(0, shape[1], 8 * CHUNK):
            yield Window(row, column, min(2 * CHUNK, shape[0] - row), min(8 * CHUNK, shape[1] - column))


def _first_band(cube: Cube, date: int, window: Window) -> NDArray[np.float64]:
    """Stored numbers (row, column) of the first band to fill; numbers grow with what they stand for."""
    stored = cube.read(date, window)[0].astype(np.float64)
    rising: NDArray[np.float64] = np.nan_to_num(stored, posinf=0.0, neginf=0.0) * math.copysign(1.0, _scale(cube))
    return rising


def _scale(cube: Cube) -> float:
    return cube.variable.bands[cube.bands[0]].encoding.scale


def _planes(
    stored: NDArray[np.float64], reason: NDArray[np.uint16], fillable: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], ...]:
    """Planes (row, column) to be summed: known values, known, to fill in any band, missing and left out."""
    known, missing = reason[0] == 0, reason != 0
    return (
        np.where(known, stored, 0.0),
        known.astype(float),
        (missing & fillable).any(axis=0).astype(float),
        (missing & ~fillable).all(axis=0).astype(float),
    )


def _cell_sums(
    stored: NDArray[np.float64], reason: NDArray[np.uint16], fillable: NDArray[np.bool_]
) -> NDArray[np.float64]:
    planes = _planes(stored, reason, fillable)
    return np.array([plane.sum() for plane in planes[:2]] + [plane.mean() for plane in planes[2:]]) + 0.0


def _as_picture(sums: NDArray[np.float64]) -> _Picture:
    """Sums (value, known, to fill, left out) over each cell to the mean and shares of the cell's pixels."""
    total, known, gaps, left_out = sums
    mean = np.divide(total, known, out=np.full_like(total, np.nan), where=known > 0)
    pixels = np.maximum(known + gaps + left_out, 1)
    return _Picture(mean, gaps / pixels, left_out / pixels)


def _shown(cube: Cube, date: int, picture: _Picture) -> dict[str, Any]:
    when = cube.variable.dates[date]
    return {
        "band": cube.variable.bands[cube.bands[0]].name,
        "date": None if when is None else _day(when),
        "lines": thumbnail(picture.mean, picture.gaps, picture.left_out),
    }


def thumbnail(mean: NDArray[np.float64], gaps: NDArray[np.float64], left_out: NDArray[np.float64]) -> list[str]:
    """A picture in characters: darker to brighter, `×` where a third or more is to be filled, `·` where it is left out.

    Parameters
    ----------
    mean, gaps, left_out : (row, column); the mean is NaN where nothing is known, the others are shares.
    """
    finite = mean[np.isfinite(mean)]
    low, high = np.percentile(finite, [2, 98]) if finite.size else (0.0, 1.0)
    level = np.clip((np.nan_to_num(mean) - low) / max(high - low, 1e-300), 0, 1)
    index = np.minimum((level * len(_SHADES)).astype(int), len(_SHADES) - 1)
    picture = np.array(list(_SHADES))[index]
    picture[(left_out >= 0.5) | ~np.isfinite(mean)] = _LEFT_OUT
    picture[gaps >= _MARKED] = _GAP
    return ["".join(row) for row in picture]


# -- words


def render(facts: Mapping[str, Any]) -> str:
    """The facts of `describe` as text for a person."""
    files = f", {facts['files']} files" if facts["files"] > 1 else ""
    lines = [f"{facts['source']}: {facts['driver']}{files}"]
    for quality in facts["quality"]:
        explains = quality["explains"] if isinstance(quality["explains"], str) else ", ".join(quality["explains"])
        lines.append(f"quality: {quality['name']} read as {quality['preset']}, explains {explains}")
    for variable in facts["variables"]:
        lines += ["", *_variable_lines(variable)]
    return "\n".join(lines)


def _variable_lines(facts: Mapping[str, Any]) -> list[str]:
    grid, bands = facts["grid"], facts["bands"]
    rows = [("grid", f"{grid['rows']:,} rows x {grid['columns']:,} columns")]
    rows += _place_rows(grid)
    if facts["dates"]:
        rows.append(("dates", _dates_text(facts["dates"])))
    rows += _band_rows(bands)
    if "gaps" in facts:
        rows += _gap_rows(facts["gaps"])
        rows += [("warning", line) for line in told([Suspect(**s) for s in facts["gaps"].get("suspects", ())])]
    else:
        rows.append(("gaps", "not looked for: no continuous band; `fill` copies it as it is"))
    shown = facts.get("thumbnail")
    return [facts["name"], *(f"  {name:<9} {text}".rstrip() for name, text in rows), *_picture_lines(shown)]


def _place_rows(grid: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not grid["georeferenced"]:
        return [("place", "none: a camera frame or a swath, filled pixel by pixel; it has no collar")]
    a, b, c, d, e, f = grid["affine"]
    x, y = grid["pixel"]
    turned = ", rotated" if b or d else ", south-up" if e > 0 else ""
    return [
        ("CRS", grid["crs"] or "none; the affine alone places it"),
        ("affine", f"x = {a:.10g} column {b:+.10g} row {c:+.10g}; y = {d:.10g} column {e:+.10g} row {f:+.10g}"),
        ("pixel", f"{x:.6g} x {y:.6g} {grid['units']}{turned}"),
        ("bounds", " ".join(f"{bound:.8g}" for bound in grid["bounds"])),
    ]


def _dates_text(dates: Mapping[str, Any]) -> str:
    count, timed, step = dates["count"], dates["timed"], dates["median_step_days"]
    if not timed:
        return f"{count:,} without a time that could be read; taken for evenly spaced, in the order of the file"
    if count == 1:
        return str(dates["first"])
    every = "" if step is None else f", {step:.3g} {'day' if step == 1 else 'days'} apart in the median"
    order = "" if dates["in_order"] else ", not in the order of time"
    lost = "" if timed == count else f"; {count - timed:,} of them without a time"
    return f"{count:,} from {dates['first']} to {dates['last']}{every}{order}{lost}"


def _band_rows(bands: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """One line for each run of bands stored alike."""
    rows: list[tuple[str, str]] = []
    first = 0
    for number in range(1, len(bands) + 1):
        if number == len(bands) or _encoding(bands[number]) != _encoding(bands[first]):
            place = f"band {first + 1}" if number == first + 1 else f"{first + 1} to {number}"
            rows.append((place, f"{_names(bands[first:number])}: {_encoding(bands[first])}"))
            first = number
    return rows


def _names(bands: Sequence[Mapping[str, Any]]) -> str:
    names = [band["name"] for band in bands]
    return ", ".join(names) if len(names) <= 6 else f"{names[0]}, {names[1]} ... {names[-1]}"


def _encoding(band: Mapping[str, Any]) -> str:
    """`continuous, int16, nodata -32768, physical = stored x 0.01 + 273.15, K`."""
    words = [band["kind"], band["dtype"]]
    words.append(_nodata([v for v in (band["nodata"], *band["more_nodata"]) if v is not None]))
    if band["scale"] != 1 or band["offset"] != 0:
        words.append(f"physical = stored x {band['scale']:g} {band['offset']:+g}")
    if band["valid_range"]:
        words.append("valid {:.7g} to {:.7g}".format(*map(float, band["valid_range"])))
    return ", ".join([*words, *([band["units"]] if band["units"] else [])])


def _nodata(missing: Sequence[Any]) -> str:
    """The stored numbers that mean missing, each written once."""
    spelt = list(dict.fromkeys(f"{v:g}" if isinstance(v, float) else str(v) for v in missing))
    more = f" and {len(missing) - 3} special values" if len(missing) > 3 else ""
    return f"nodata {' or '.join(spelt[:3])}{more}" if spelt else "no nodata value"


def _gap_rows(gaps: Mapping[str, Any]) -> list[tuple[str, str]]:
    total = gaps["values"]
    if not gaps["missing"]:
        return [("gaps", "none" if gaps["exact"] else f"none in the {gaps['looked_at']:,} values looked at")]
    rows = [("missing", _share(gaps["missing"], total))]
    rows += [
        ("" if i else "because", f"{name} {_percent(share)}") for i, (name, share) in enumerate(gaps["reasons"].items())
    ]
    why = _WHY if gaps["exact"] else _WHY | _WHY_ROUGHLY
    rows.append(("to fill", _share(gaps["to_fill"], total)))
    rows += [("left out", f"{_share(n, total)}: {why.get(cause, cause)}") for cause, n in gaps["left_out"].items()]
    if not gaps["exact"]:
        note = f"estimated from {gaps['looked_at']:,} of {total:,} values; `geodiff fill ... --dry-run` reads all"
        rows.append(("", note))
    return rows


def _share(count: int, total: int) -> str:
    return f"{count:,} of {total:,} values ({_percent(count / total)})"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.1f} %"


def _picture_lines(shown: Mapping[str, Any] | None) -> list[str]:
    if not shown:
        return []
    date = f" on {shown['date']}" if shown["date"] else ""
    marks = f"dark to bright, {_GAP} to fill, {_LEFT_OUT} left out or nothing known"
    lines = shown["lines"]
    border = "─" * (max(map(len, lines)) if lines else 0)
    return [f"  {shown['band']}{date}: {marks}", f"  ┌{border}┐", *(f"  │{line}│" for line in lines), f"  └{border}┘"]
