"""Grainy, coarse or damaged frames made clear: `geodiff restore`, in whole bands.

`run(job)` is all of it: open, find the gaps, restore, write. Where nothing but gaps is to be restored, the fillers of
`geodiff fill` do it; everything else is the network's, told what happened to the frame.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from geodiff import __version__
from geodiff.beside import (
    alone,
    assert_own_layers,
    delete_left_layers,
    is_whole,
    keep_digests,
    keep_record,
    kept_digests,
    renew_digests,
)
from geodiff.encoding import unpack
from geodiff.errors import MemoryPlanError, NothingKnownError, SourceError, TargetError
from geodiff.finishing import begin_record, peak_memory
from geodiff.gaps import Reason, shares
from geodiff.identity import (
    assert_apart,
    assert_nameable,
    assert_unchanged,
    assert_writable,
    inputs_identity,
    model_identity,
    source_identity,
    stamp_of,
    target_stem,
)
from geodiff.io import Product, check_target, read_fingerprint, write_product
from geodiff.io.cube import files_closed
from geodiff.job import as_fields
from geodiff.lattice import Lattice, Window
from geodiff.limits import free_memory
from geodiff.progress import Progress
from geodiff.restoring.job import RestoreJob
from geodiff.restoring.product import Layers, enlarged_raster
from geodiff.scan import scan_cube
from geodiff.scene import open_scene
from geodiff.threads import side_by_side

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.options import RestoreOptions
    from geodiff.record import RunRecord
    from geodiff.scan import GapReader, Scan
    from geodiff.scene import Cube, Scene

__all__ = ["RestoreJob", "restore", "run"]

_log = logging.getLogger(__name__)
_DATASETS = ("Zarr", "netCDF", "HDF5")
_BASE_MEMORY = 700 << 20
"""Python, GDAL's cache and torch, in bytes."""
_LUMINANCE = (0.299, 0.587, 0.114)


def restore(
    source: str | Path, target: str | Path, *, task: str | Sequence[str], **options: Unpack[RestoreOptions]
) -> RunRecord:
    """Denoise, enlarge or repair the frames of `source`, and write `target` with its layers.

    Parameters
    ----------
    source, target : paths or URLs, as for `geodiff restore`.
    task : `denoise`, `superres`, `inpaint`, or several of them, as one string with commas or as a sequence.
    **options : the command line's, with underscores; lists may be given as one string: `noise`, `poisson`, `factor`,
        `variable`, `bands`, `qa`, `mask`, `nodata`, `valid_range`, `buffer`, `detect`, `fillable`, `model`, `members`,
        `seed`, `steps`, `device`, `dtype`, `zarr_format`, `overwrite`.

    Returns
    -------
    RunRecord : what was done, which prints itself; `products` are the paths written, `variables` tell the noise found.

    Raises
    ------
    GeodiffError : with the value, the reason and the cure; the target is then as it was before.
    """
    return run(RestoreJob.build(source=str(source), target=str(target), task=task, **as_fields(options)), quiet=True)


@files_closed()
def run(job: RestoreJob, *, quiet: bool = False) -> RunRecord:
    """Do a restoration from source to product.

    Raises
    ------
    GeodiffError
        With the exit code of the contract; the target is then as it was before.
    """
    started = time.time()
    scene = open_scene(job.scene)
    stamp = stamp_of(job.scene, scene.raster)  # before its identity is read, which must be that of what is restored
    raster = enlarged_raster(scene.raster, job.enlargement)
    check_target(raster, job.target)
    assert_nameable(job.target)
    assert_apart(job.scene, scene.raster)
    digests = kept_digests(job.target)
    inputs = inputs_identity(job.scene, scene.raster, digests)
    fingerprint = job.fingerprint(source_identity(scene.raster, digests), inputs, model_identity(job.scene))
    if _up_to_date(job, fingerprint):
        renew_digests(job.target, digests)
        return _begin(job, fingerprint, "up to date", started)
    assert_own_layers(job.target, overwrite=job.overwrite)
    assert_writable(target_stem(job.target)[0], "the folder of TARGET")
    assert_fits(scene, job)
    with alone(job.target) as assert_ours:
        if _up_to_date(job, fingerprint):  # another run may have ended since
            return _begin(job, fingerprint, "up to date", started)
        assert_own_layers(job.target, overwrite=job.overwrite)
        restored = _restored_cubes(scene, job, quiet)
        assert_unchanged(job.scene, scene.raster, stamp)
        assert_ours()
        seconds = {"restore": time.time() - started}
        paths = tuple(write_product(_product(job, raster, restored, fingerprint), job.target))
        delete_left_layers(job.target, paths)
        record = replace(
            _begin(job, fingerprint, "done", started),
            products=paths,
            variables={cube.facts["name"]: cube.facts for cube in restored},
            blocks=len(restored),
            seconds={**seconds, "write": time.time() - started - seconds["restore"]},
            peak_memory_bytes=peak_memory(),
        )
        keep_record(job.target, record.to_json())
        keep_digests(job.target, digests)
        assert_unchanged(job.scene, scene.raster, stamp, written=True)
    return record


def _begin(job: RestoreJob, fingerprint: str, status: str, started: float) -> RunRecord:
    return replace(begin_record(job.scene, fingerprint, status, started), command=job.command())


def _up_to_date(job: RestoreJob, fingerprint: str) -> bool:
    """Whether the target is this very product, whole; raises TargetError where another may not be replaced."""
    found = read_fingerprint(job.target)
    if found is None or job.overwrite:
        return False
    if found == fingerprint:
        return is_whole(job.target, fingerprint)
    what = "was made by another job or from another version of the source" if found else "is not a product of geodiff"
    raise TargetError(f"{job.target} already exists and {what}; use --overwrite to replace it, or another target")


def assert_fits(scene: Scene, job: RestoreJob) -> None:
    """Raise MemoryPlanError, before any work, where whole bands would not fit in memory."""
    needed, free = memory_needed(scene, job), free_memory()
    if needed > free:
        shape = " x ".join(str(n * job.enlargement) for n in scene.cubes[0].shape)
        raise MemoryPlanError(
            f"a restoration keeps whole bands in memory: {shape} pixels with {job.members} members need "
            f"{needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free; use fewer --members, one of the --bands, "
            "or a part of the frame"
        )


def memory_needed(scene: Scene, job: RestoreJob) -> int:
    """Bytes at the peak: the layers of every variable, and the bands of one date in work."""
    layers, work = 0, 0
    for cube in scene.cubes:
        dates, bands, rows, columns = cube.variable.shape
        pixels, item = rows * columns * job.enlargement**2, cube.variable.dtype.itemsize
        layers += dates * bands * pixels * (item * (1 + job.members) + 7)
        coarse = rows * columns * (32 + (48 + 8 * job.members) * job.inpaints)
        together = bands * (coarse + pixels * (8 + 4 * job.members) * 3 * job.denoises)
        work = max(work, pixels * (100 + 40 * job.members) + (0 if job.only_inpaints else together))
    return _BASE_MEMORY + layers + work


# -- the cubes


@dataclass(frozen=True, slots=True)
class _Restored:
    """One variable, done."""

    layers: Layers
    facts: dict[str, Any]


def _restored_cubes(scene: Scene, job: RestoreJob, quiet: bool) -> list[_Restored]:
    """Every cube, or only those with gaps where nothing else is to be restored in a dataset of many variables."""
    scanned = [_scan(cube, job) for cube in scene.cubes]
    if not any(scan.known for scan, _ in scanned):
        raise NothingKnownError(
            f"no value of {job.source} is known, so nothing can be restored; check --nodata and --qa"
        )
    for scan, _ in scanned:
        for line in scan.warnings():
            _log.warning("%s", line)
    pairs = list(zip(scene.cubes, scanned, strict=True))
    turning = [cube.name for cube, (scan, _) in pairs if scan.turns]
    if turning and not job.only_inpaints:
        raise SourceError(
            f"{job.source}: {', '.join(turning)} is circular, as directions are, so it cannot be averaged as numbers; "
            "restore its cosine and sine, or use --task inpaint alone"
        )
    if job.only_inpaints and scene.raster.driver in _DATASETS:
        pairs = [(cube, found) for cube, found in pairs if found[0].missing] or pairs
    total = sum(_steps(cube, job) for cube, _ in pairs)
    with Progress("restoring", total, "windows" if not job.only_inpaints else "dates", quiet=quiet) as progress:
        make = _filled if job.only_inpaints else _sharpened
        return [make(scene, cube, scan, gaps, job, progress.advance) for cube, (scan, gaps) in pairs]


def _scan(cube: Cube, job: RestoreJob) -> tuple[Scan, GapReader]:
    dates, bands = len(cube.variable.dates), len(cube.bands)
    reason, outside = np.zeros((dates, bands, *cube.shape), np.uint16), np.zeros(cube.outside_shape, bool)
    return scan_cube(cube, reason, outside, job.buffer)


def _steps(cube: Cube, job: RestoreJob) -> int:
    dates, (rows, columns) = len(cube.variable.dates), cube.shape
    if job.only_inpaints:
        return dates
    shape = (rows * job.enlargement, columns * job.enlargement)
    return dates * len(cube.bands) * sum(1 for _ in Lattice(shape).windows())


def _filled(
    scene: Scene, cube: Cube, scan: Scan, gaps: GapReader, job: RestoreJob, advance: Callable[[], None]
) -> _Restored:
    """Gaps alone: what `geodiff fill` makes of them."""
    from geodiff.blocks import block_layers, filler_of
    from geodiff.estimate import estimate
    from geodiff.fitting import fit_cube

    del scene
    layers, filler, windows = Layers.copied(cube.variable, 1, job.members), filler_of(job.scene), 0
    whole = Window(0, 0, *cube.shape)
    with side_by_side():
        fit = fit_cube(cube, scan, gaps, filler) if scan.wanted and scan.known else None
    for date in range(len(cube.variable.dates)):
        found = gaps.read(date, whole)
        with side_by_side():
            blended, count = (None, 0) if fit is None else estimate(cube, gaps, fit, filler, date, whole, job.seed)
        if fit is not None and blended is not None:
            made, _, _ = block_layers(job.scene, cube, fit, blended, found.wanted)
            layers.put_estimates(date, cube.bands, found, made)
        else:
            for place, band in enumerate(cube.bands):
                layers.leave(date, band, found, place)
        windows += count
        advance()
    return _Restored(layers, _facts(cube, scan, layers, windows, {}))


def _sharpened(
    scene: Scene, cube: Cube, scan: Scan, gaps: GapReader, job: RestoreJob, advance: Callable[[], None]
) -> _Restored:
    """Noise taken away, pixels divided, and gaps with them: the network's work, date by date."""
    from geodiff.diffusion.denoiser import open_denoiser
    from geodiff.restoring.bands import restored_bands

    denoiser = open_denoiser(job.model, device=job.device, dtype=job.dtype)
    layers, windows = Layers.copied(cube.variable, job.enlargement, job.members), 0
    noise: dict[str, list[float]] = {}
    least = _compression(scene, cube, gaps) if job.denoises and job.noise is None else 0.0
    whole = Window(0, 0, *cube.shape)
    for date in range(len(cube.variable.dates)):
        values, found = _physical(cube, date), gaps.read(date, whole)
        pairs = zip(scan.normalisations, values, strict=True)
        measured = np.stack([recipe.measured(recipe.transformed(plane)) for recipe, plane in pairs])
        known = ~found.missing & measured
        shown = [place for place in range(len(cube.bands)) if known[place].any()]
        for place in set(range(len(cube.bands))).difference(shown):
            layers.leave(date, cube.bands[place], found, place)
        keys = [(date << 16) + cube.bands[place] for place in shown]
        bounds = [cube.variable.bands[cube.bands[place]].encoding.bounds for place in shown]
        made = restored_bands(
            values[shown], known[shown], job, denoiser, keys=keys, bounds=bounds, least_noise=least, advance=advance
        )
        for place, done in zip(shown, made, strict=True):
            band = cube.bands[place]
            layers.put_restored(date, band, found, place, done, measured[place], inpaint=job.inpaints)
            if job.denoises:
                noise.setdefault(cube.variable.bands[band].name, []).append(done.noise)
            windows += done.windows
    return _Restored(layers, _facts(cube, scan, layers, windows, noise))


def _physical(cube: Cube, date: int) -> NDArray[np.float64]:
    """(band, row, column) of the bands asked for."""
    stored = cube.read(date, Window(0, 0, *cube.shape))
    bands = (cube.variable.bands[band].encoding for band in cube.bands)
    return np.stack([unpack(plane, encoding)[0] for plane, encoding in zip(stored, bands, strict=True)])


def _compression(scene: Scene, cube: Cube, gaps: GapReader) -> float:
    """What JPEG compression did to a frame, as a standard deviation; 0 where none is known of or shows."""
    from geodiff.io.places import local_path
    from geodiff.restoring.jpeg import compression_error, quantisation, steps_of_blocks

    whole, path = Window(0, 0, *cube.shape), local_path(scene.raster.path)
    steps = quantisation(path) if scene.raster.driver == "JPEG" and path is not None and path.is_file() else None
    dtypes = {band.encoding.dtype.kind for band in cube.variable.bands}
    if steps is None and (len(cube.variable.bands) not in (1, 3) or not dtypes <= set("iu")):
        return 0.0
    planes = cube.variable.reader.read(0, whole)
    weights = _LUMINANCE if len(planes) == 3 else (1.0,)
    brightness = sum((w * plane for w, plane in zip(weights, planes, strict=False)), np.zeros(cube.shape))
    if steps is not None:
        return compression_error(brightness, steps)
    known = np.asarray(~gaps.read(0, whole).missing.any(axis=0))
    seen = planes[:, known].astype(np.int64)
    if not seen.size:
        return 0.0
    count = int(np.gcd.reduce(seen - seen.min(), axis=None)) or 1  # of 8 bits that were stored as more
    found = steps_of_blocks(brightness / count, known)
    if found is None:
        return 0.0
    steps, (row, column) = found
    inside = np.s_[row:, column:]
    counted = compression_error(brightness[inside] / count, steps, known[inside])
    error = counted * count * abs(cube.variable.bands[0].encoding.scale)
    _log.warning(
        "%s was compressed as JPEG before it became %s; that compression's error, %.3g, is used as the noise; --noise "
        "overrides it", scene.raster.path, scene.raster.driver, error,
    )  # fmt: skip
    return error


# -- the product


def _facts(cube: Cube, scan: Scan, layers: Layers, windows: int, noise: dict[str, list[float]]) -> dict[str, Any]:
    """What the record says of one variable; the words of a fill where they mean the same."""
    return {
        "name": cube.name,
        "shape": list(layers.value.shape),
        "values": scan.total,
        "known": scan.known,
        "missing": scan.missing,
        "to_fill": scan.wanted,
        "reasons": shares(scan.reasons, scan.total),
        "left_out": scan.left_out,
        "filled": layers.filled(),
        "refused": 0,
        "windows": windows,
        "noise": {band: levels if len(levels) > 1 else levels[0] for band, levels in noise.items()},
        "self_check": {},
    }


def _product(job: RestoreJob, raster: Any, restored: list[_Restored], fingerprint: str) -> Product:
    from geodiff.fillers import source_codes

    return Product(
        raster,
        tuple(done.layers.product() for done in restored),
        _attributes(job, fingerprint, restored),
        source_codes(),
        {reason.meaning: int(reason) for reason in Reason},
        zarr_format=job.zarr_format,
    )


def _attributes(job: RestoreJob, fingerprint: str, restored: list[_Restored]) -> dict[str, str]:
    """What the product says about itself; no clock time, so that equal jobs give equal bytes."""
    from geodiff.identity import describe_model
    from geodiff.record import versions

    command = job.model_copy(update={"target": Path(job.target.rstrip("/")).name}).command()
    found = {f"{done.facts['name']}/{band}": noise for done in restored for band, noise in done.facts["noise"].items()}
    return {
        "history": f"geodiff {__version__}: {command}",
        "geodiff_command": command,
        "geodiff_version": __version__,
        "geodiff_fingerprint": fingerprint,
        "geodiff_task": ",".join(job.task),
        **({"geodiff_noise": " ".join(f"{name}={level}" for name, level in found.items())} if job.denoises else {}),
        **({"geodiff_poisson_gain": str(job.poisson)} if job.poisson else {}),
        **({"geodiff_factor": str(job.enlargement)} if job.enlargement > 1 else {}),
        "geodiff_seed": str(job.seed),
        "geodiff_versions": " ".join(f"{name}={number}" for name, number in versions().items()),
        **{f"geodiff_{name}": value for name, value in describe_model(job.scene).items()},
    }
