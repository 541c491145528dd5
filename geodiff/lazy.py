"""A fill of an xarray dataset: the same line without files, eager for NumPy and a Dask graph for Dask.

The graph of a variable is one task that scans and fits, one task a block, and one small task a block and layer that
picks it out. Tasks carry keys and small things: the dataset's own graph is one node of this one, and a block's task
reads what it needs of it, windows and dates, in its own thread.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product as cartesian
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import xarray as xr

from geodiff import __version__
from geodiff.blocks import block_layers, filler_of
from geodiff.errors import JobError, NothingKnownError
from geodiff.estimate import estimate
from geodiff.fillers import source_codes
from geodiff.fitting import CubeFit, fit_cube
from geodiff.gaps import Reason
from geodiff.identity import describe_model, inputs_identity, model_identity
from geodiff.io import OpenOptions, Product, ProductVariable
from geodiff.io.ancillary import axes_beside, layer_arrays, refuse_foreign_layers
from geodiff.io.cf import encoding_of, open_dataset_as_raster
from geodiff.io.contents import OutputArray, PickedReader, at_hand
from geodiff.io.cube import CubeReader
from geodiff.job import FillJob, as_fields
from geodiff.lattice import Window
from geodiff.layers import product_variable
from geodiff.record import versions
from geodiff.scan import CHUNK, GapReader, Occupied, scan_cube
from geodiff.scene import Cube, Scene, scene_of
from geodiff.suspects import told_of_turns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.fillers import Filler

__all__ = ["OPTIONS", "fill_dataset"]

logger = logging.getLogger(__name__)

OPTIONS = (
    *("variable", "bands", "dates", "qa", "mask", "fillable", "nodata", "valid_range", "buffer", "detect", "filler"),
    *("model", "members", "product", "seed", "steps", "sampler", "max_error", "quantiles", "device", "dtype", "batch"),
)
"""Options of a job that mean something without files."""
_PACKING = ("scale_factor", "add_offset", "_Unsigned")
_RANGES = ("valid_range", "valid_min", "valid_max")
_LAYERS = ("value", "source", "reason", "standard_error", "members", "quantiles")
_ELSEWHERE = ("grid_mapping", "coordinates", "bounds", "climatology", "cell_measures", "formula_terms")
"""Attributes that xarray keeps among the encodings of what it has decoded."""


def fill_dataset(dataset: xr.Dataset, options: Mapping[str, Any]) -> xr.Dataset:
    """Fill the variables of a dataset; `options` as `Dataset.geodiff.fill` takes them."""
    numbers = {str(name): name for name in dataset.variables if not isinstance(name, str)}  # as to_dataset("band") has
    filled = _filled(dataset.rename({name: text for text, name in numbers.items()}), _job(options))
    return filled.rename(numbers)


def _filled(dataset: xr.Dataset, job: FillJob) -> xr.Dataset:
    _filler(job)  # a wrong choice is said now, not when the result is computed
    scene = _scene(dataset, job)
    lazy = [cube.name for cube in scene.cubes if _is_lazy(dataset, cube)]
    gappy = _with_gaps([cube for cube in scene.cubes if cube.name not in lazy], job)
    wanted = tuple(cube for cube in scene.cubes if cube.name in (*lazy, *gappy))
    return _with_layers(dataset, wanted or scene.cubes, scene, job)  # where none misses anything, all say so


# -- what to fill


def _job(options: Mapping[str, Any]) -> FillJob:
    for name in options:
        if name not in OPTIONS:
            raise JobError(
                f"fill({name}=...): an array in memory has no such option (there are {', '.join(OPTIONS)}); "
                "for options about files and workers write the dataset and use geodiff.fill"
            )
    return FillJob.build(source="dataset", target="filled.zarr", **as_fields(options))


def _scene(dataset: xr.Dataset, job: FillJob) -> Scene:
    plain = _with_physical_ranges(dataset)
    return scene_of(open_dataset_as_raster(plain, options=OpenOptions(job.nodata, job.valid_range)), job)


def _with_physical_ranges(dataset: xr.Dataset) -> xr.Dataset:
    """Valid ranges and codes in the units of the numbers: xarray unpacks numbers, not what was packed with them.

    What it computes (`where`, `astype`) keeps the ranges but forgets the packing: a range of short whole numbers, which
    CF asks to be of the type that is stored, then says nothing of numbers that are not.
    """
    changed = {}
    for name, variable in dataset.data_vars.items():
        ranged = {key: variable.attrs[key] for key in _RANGES if key in variable.attrs}
        packing = {key: variable.encoding[key] for key in _PACKING if key in variable.encoding}
        stored = np.dtype(variable.encoding.get("dtype", variable.dtype))
        packed = bool(packing) and stored.kind in "iu"
        forgotten = variable.dtype.kind == "f" and not variable.encoding and _is_short(ranged.values())
        if not ranged or not (packed or forgotten):
            continue
        told = {}
        if packed:
            as_stored = xr.Variable((), np.zeros((), stored), {**ranged, **packing})
            bounds = encoding_of(as_stored, OpenOptions()).valid_range
            told = {} if bounds is None else {"valid_range": np.array(bounds)}
            if "flag_values" in variable.attrs:  # codes beside numbers came out as numbers too
                told["flag_values"] = _unpacked(variable.attrs["flag_values"], packing, variable.dtype)
        else:
            logger.warning(
                "%s: %s %s of a packed variable whose packing xarray has forgotten, so nothing is out of range; say "
                "valid_range=(low, high) in its units", name, " and ".join(ranged), "are" if len(ranged) > 1 else "is",
            )  # fmt: skip
        plain = variable.variable.copy(deep=False)
        plain.attrs = {key: value for key, value in variable.attrs.items() if key not in ranged} | told
        changed[name] = plain
    return dataset.assign(changed)


def _unpacked(codes: Any, packing: Mapping[str, Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Stored numbers as xarray unpacks them, to the last bit."""
    scale, offset = (dtype.type(packing.get(key, default)) for key, default in (("scale_factor", 1), ("add_offset", 0)))
    return np.asarray(np.asarray(codes).astype(dtype) * scale + offset)


def _is_short(values: Iterable[Any]) -> bool:
    """Whether these are whole numbers of a type that packed variables are of."""
    types = [np.asarray(value).dtype for value in values]
    return bool(types) and all(dtype.kind in "iu" and dtype.itemsize <= 2 for dtype in types)


def _is_lazy(dataset: xr.Dataset, cube: Cube) -> bool:
    return dataset.variables[_reader(cube).name].chunks is not None


def _reader(cube: Cube) -> CubeReader:
    reader = cube.variable.reader
    assert isinstance(reader, CubeReader)
    return reader


def _with_gaps(cubes: Sequence[Cube], job: FillJob) -> list[str]:
    """Names of those that miss something; raises NothingKnownError where nothing at all is known."""
    scans = {cube.name: scan_cube(cube, _Reasons(cube), _nowhere(cube), job.buffer)[0] for cube in cubes}
    if scans and not any(scan.known for scan in scans.values()):
        raise _nothing_known(", ".join(scans), sum(scan.total for scan in scans.values()))
    return [name for name, scan in scans.items() if scan.missing]


def _nothing_known(names: str, total: int) -> NothingKnownError:
    return NothingKnownError(
        f"none of the {total:,} values of {names} is known, so nothing can be filled; check nodata, valid_range, mask "
        "and qa, or give dates with data"
    )


# -- the work: a fit, then blocks


@dataclass(frozen=True, slots=True)
class _Reasons:
    """Reasons read as from a working store, found anew each time: what is not kept cannot outgrow memory."""

    cube: Cube

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.cube.variable.dates), len(self.cube.bands), *self.cube.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint16)

    def __getitem__(self, key: Any) -> NDArray[np.uint16]:
        date, bands, rows, columns = key[-4:]
        height, width = rows.stop - rows.start, columns.stop - columns.start
        found = self.cube.reason(date, Window(rows.start, columns.start, height, width))
        return np.asarray(found[bands])

    def __setitem__(self, key: Any, value: Any) -> None:
        """Nothing is kept."""


@dataclass(frozen=True, slots=True)
class _Fit:
    """What the blocks of a cube need beside the cube."""

    outside: NDArray[np.bool_]
    """`Cube.outside_shape`: where nothing is estimated."""
    occupied: Occupied
    fit: CubeFit | None
    """None where there is nothing to fill."""

    def gaps(self, cube: Cube, buffer: int) -> GapReader:
        """The gaps of the cube; it is not kept here, because a fit travels to every worker."""
        return GapReader(_Reasons(cube), self.outside, cube.shape, buffer, cube.rules.fill_everything, self.occupied)


@lru_cache(maxsize=4)
def _filler(job: FillJob) -> Filler:
    """Once a process: a network is worth keeping."""
    return filler_of(job)


def _nowhere(cube: Cube) -> NDArray[np.bool_]:
    return np.zeros(cube.outside_shape, bool)


def _fitted(cube: Cube, job: FillJob) -> _Fit:
    """Scan a cube and fit the job's filler to it."""
    outside = _nowhere(cube)
    scan, gaps = scan_cube(cube, _Reasons(cube), outside, job.buffer)
    if not scan.known and scan.missing:
        raise _nothing_known(cube.name, scan.total)
    for line in told_of_turns([cube.variable.bands[band].name for band in cube.bands], scan.turns):
        logger.info("%s", line)
    for line in scan.warnings(job.filler) if scan.wanted else ():
        logger.warning("%s: %s", cube.name, line)
    return _Fit(outside, scan.occupied, fit_cube(cube, scan, gaps, _filler(job)) if scan.wanted else None)


def _block(cube: Cube, job: FillJob, fitted: _Fit, date: int, window: Window) -> dict[str, NDArray[Any]]:
    """Every layer of one block of one date, known values included: (date, band, row, column), members in front."""
    gaps = fitted.gaps(cube, job.buffer)
    held = _Block(_estimates(cube, job, fitted, gaps, date, window), window)
    layers = product_variable(cube, gaps, cast("Any", held))
    part = (slice(date, date + 1), slice(None), *window.slices)
    found = {name: getattr(layers, name) for name in _LAYERS}
    return {name: layer[(Ellipsis, *part)] for name, layer in found.items() if layer is not None}


def _estimates(
    cube: Cube, job: FillJob, fitted: _Fit, gaps: GapReader, date: int, window: Window
) -> dict[str, NDArray[Any]]:
    """What a working store would hold of the block."""
    if fitted.fit is not None and date in cube.targets:
        blended, _ = estimate(cube, gaps, fitted.fit, _filler(job), date, window, job.seed)
        if blended is not None:
            return block_layers(job, cube, fitted.fit, blended, gaps.read(date, window).wanted)[0]
    shape = (len(cube.bands), *window.shape)
    dtype = cube.variable.dtype
    blank = {"value": np.zeros(shape, dtype), "source": np.zeros(shape, "u1"), "standard_error": np.zeros(shape, "f4")}
    members = {"members": np.zeros((job.drawn_members, *shape), dtype)} if job.drawn_members else {}
    quantiles = {"quantiles": np.zeros((len(job.quantiles), *shape), "f4")} if job.quantiles else {}
    return {**blank, **members, **quantiles}


@dataclass(frozen=True, slots=True)
class _Block:
    """One block's layers, asked for as a working store is."""

    held: Mapping[str, NDArray[Any]]
    window: Window

    def layers(self, name: str) -> tuple[str, ...]:  # noqa: ARG002 - one variable is all there is
        return tuple(self.held)

    def array(self, name: str, layer: str) -> _Layer:  # noqa: ARG002
        return _Layer(self.held[layer], self.window)


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer (..., date, band, row, column) of which only one block of one date is there, and asked for."""

    block: NDArray[Any]
    window: Window

    @property
    def shape(self) -> tuple[int, ...]:
        *front, bands, height, width = self.block.shape
        return *front, 1, bands, self.window.row + height, self.window.column + width

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.block.dtype

    def __getitem__(self, key: Any) -> NDArray[Any]:
        *_, bands, rows, columns = key
        asked = Window(rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start)
        return self.block[(Ellipsis, bands, *asked.within(self.window))]


# -- the layers as arrays


def _windows(cube: Cube) -> list[list[Window]]:
    rows, columns = (range(0, length, CHUNK) for length in cube.shape)
    height, width = cube.shape
    return [[Window(r, c, min(CHUNK, height - r), min(CHUNK, width - c)) for c in columns] for r in rows]


def _forms(cube: Cube, job: FillJob) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Axes in front and dtype of each layer that the job gives."""
    stored = cube.variable.dtype
    plain = {"value": stored, "source": np.dtype("u1"), "reason": np.dtype("u2"), "standard_error": np.dtype("f4")}
    forms: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {name: ((), dtype) for name, dtype in plain.items()}
    if job.drawn_members:
        forms["members"] = ((job.drawn_members,), stored)
    if job.quantiles:
        forms["quantiles"] = ((len(job.quantiles),), np.dtype("f4"))
    return forms


def _eager_layers(cube: Cube, job: FillJob) -> dict[str, Any]:
    """NumPy arrays (..., date, band, row, column) by layer."""
    fitted = _fitted(cube, job)
    layers = {
        name: np.empty((*front, *cube.variable.shape), dtype) for name, (front, dtype) in _forms(cube, job).items()
    }
    for date, row in cartesian(range(len(cube.variable.dates)), _windows(cube)):
        for window in row:
            for name, part in _block(cube, job, fitted, date, window).items():
                layers[name][(Ellipsis, slice(date, date + 1), slice(None), *window.slices)] = part
    return layers


def _lazy_layers(cube: Cube, scene: Scene, job: FillJob) -> dict[str, Any]:
    """Dask arrays (..., date, band, row, column) by layer, all from one graph."""
    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph

    stem = f"geodiff-{cube.name}-{_token(cube, scene, job)}"
    work = _tasks(stem, cube, job)
    made = {}
    for name, (front, dtype) in _forms(cube, job).items():
        key = f"{stem}-{name}"
        own: dict[Any, Any] = {
            (key, *(0 for _ in front), d, 0, i, j): (_picked, (stem, d, i, j), name) for d, i, j in _places(cube)
        }
        graph = HighLevelGraph({stem: work, key: own}, {stem: set(), key: {stem}})
        made[name] = da.Array(graph, key, _chunks(cube, front), dtype)
    return made


def _token(cube: Cube, scene: Scene, job: FillJob) -> str:
    """Of all that a pixel depends on: fills whose tasks are called alike would get each other's numbers."""
    from dask.base import tokenize

    readers = [cube.variable.reader, *(quality.variable.reader for quality in cube.rules.quality)]
    within = [reader.reader if isinstance(reader, PickedReader) else reader for reader in readers]
    arrays = [reader.source.dataset()[reader.name] for reader in within if isinstance(reader, CubeReader)]
    options = job.pixels(), inputs_identity(job, scene.raster), model_identity(job)
    return str(tokenize(arrays, cube.variable.geobox, cube.variable.dates, cube.targets, *options))


def _tasks(stem: str, cube: Cube, job: FillJob) -> dict[Any, Any]:
    """The cube, its fit, and a task a block, by key."""
    windows, source, fit = _windows(cube), f"{stem}-cube", f"{stem}-fit"
    blocks = {(stem, d, i, j): (_block, source, job, fit, d, windows[i][j]) for d, i, j in _places(cube)}
    return {source: cube, fit: (_fitted, source, job), **blocks}


def _places(cube: Cube) -> Iterator[tuple[int, int, int]]:
    """Date, and row and column of the block."""
    rows, columns = (range(-(-length // CHUNK)) for length in cube.shape)
    return cartesian(range(len(cube.variable.dates)), rows, columns)


def _picked(layers: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    return layers[name]


def _chunks(cube: Cube, front: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    dates, bands, _, _ = cube.variable.shape
    windows = _windows(cube)
    heights, widths = tuple(row[0].height for row in windows), tuple(window.width for window in windows[0])
    return (*((n,) for n in front), (1,) * dates, (bands,), heights, widths)


# -- the answer


def _with_layers(dataset: xr.Dataset, cubes: Sequence[Cube], scene: Scene, job: FillJob) -> xr.Dataset:
    """The dataset with filled values, their layers, and what was done in its history."""
    product = Product(
        scene.raster, (), {}, source_codes(), {reason.meaning: int(reason) for reason in Reason}, job.quantiles
    )
    variables = [cube.variable for cube in cubes]
    refuse_foreign_layers(variables, job.layers)
    filled, axes = dataset, axes_beside(dataset, variables)
    for cube in cubes:
        name = _reader(cube).name
        made = _lazy_layers(cube, scene, job) if _is_lazy(dataset, cube) else _eager_layers(cube, job)
        layers = ProductVariable(cube.variable, **made)
        attributes = dict(dataset.variables[name].attrs)
        arrays = layer_arrays(product, layers, name, _reader(cube).layout, cube.variable.dtype, attributes, axes)
        filled = filled.assign({array.name: _variable(array, dataset.variables[name], name) for array in arrays})
        filled = filled.set_coords([line for line in axes.values() if line in filled])
    return filled.assign_attrs(_facts(dataset, job))


def _variable(array: OutputArray, source: xr.Variable, name: str) -> xr.Variable:
    """A layer as xarray has it: the source's chunks where it is lazy, and what belongs to the encoding put there."""
    numbers = at_hand(array)
    if source.chunks is not None and hasattr(numbers, "rechunk"):
        wanted = dict(zip(source.dims, source.chunks, strict=True))
        numbers = numbers.rechunk(tuple(wanted.get(dim, -1) for dim in array.dims))
    attributes = dict(array.attributes)
    if array.name == name:
        return xr.Variable(array.dims, numbers, attributes, source.encoding)
    same = array.name == f"{name}_member"
    encoding = _packing(source) if same else {key: source.encoding[key] for key in _ELSEWHERE if key in source.encoding}
    if not same and "_FillValue" in attributes:
        encoding["_FillValue"] = attributes.pop("_FillValue")
    return xr.Variable(array.dims, numbers, attributes, encoding)


def _packing(source: xr.Variable) -> dict[str, Any]:
    """The part of an encoding that has nothing to do with how many dimensions there are."""
    kept = ("dtype", "scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned", *_ELSEWHERE)
    return {key: source.encoding[key] for key in kept if key in source.encoding}


def _facts(dataset: xr.Dataset, job: FillJob) -> dict[str, str]:
    """What the answer says about itself; no clock times, so that equal fills are equal."""
    chosen = job.model_dump(exclude_defaults=True, exclude={"source", "target"})
    told = ", ".join(f"{name}={value!r}" for name, value in chosen.items())
    history = [f"geodiff {__version__}: geodiff.fill({told})", str(dataset.attrs.get("history", ""))]
    return {
        "history": "\n".join(filter(None, history)),
        "geodiff_version": __version__,
        "geodiff_filler": job.filler,
        "geodiff_seed": str(job.seed),
        "geodiff_versions": " ".join(f"{name}={number}" for name, number in versions().items()),
        **{f"geodiff_{name}": value for name, value in describe_model(job).items()},
    }
