"""Training on a user's own rasters: cut them into tiles, learn or fine-tune, score before and after, write a folder."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.channels import in_channels, parts_of, turns_in
from geodiff.diffusion.sources import Source, Stack, load
from geodiff.encoding import Normalisation, unpack
from geodiff.errors import InputError, JobError
from geodiff.identity import inputs_identity, source_identity
from geodiff.io.lock import lock
from geodiff.job import FillJob
from geodiff.lattice import Window
from geodiff.progress import Progress, waiting
from geodiff.scene import open_scene
from geodiff.undated import has_season

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.diffusion.trainconfig import TrainConfig
    from geodiff.io import Raster
    from geodiff.scene import Cube

__all__ = ["FINE_TUNING", "Learnt", "learn", "next_model", "recalibrate", "user_sources"]

_log = logging.getLogger(__name__)

FINE_TUNING: Mapping[str, Any] = {
    "patches": 600, "frames": 0, "validation_patches": 60, "learning_rate": 2e-4, "warm_up": 100, "minutes": 12.0,
}  # fmt: skip
"""What fine-tuning takes where nothing else is said: minutes on two cores."""
_SIDE = 512
_LEAST = 48
"""Pixels a side that a tile needs; smaller ones would be mostly their own mirror image."""
_TILES = 48
"""Tiles taken of one variable; drawn at random where it has more."""
_DATES, _BANDS = 6, 4
"""Dates and bands of one tile at most: 6 x 4 x 512 x 512 float32 are 25 MB."""
_WINDOWS, _LOOKS = 24, 400
"""Windows that the scale of a variable is taken from, and how often one is looked for where little is known."""
_FAR, _WILD = 30.0, 1e4
"""Bounds for numbers that no sensor measured, as nodata that lost its tag: on what the scale is taken from, in robust
deviations, and on what is learnt from, in scales."""
_ASIDE = 0.25
"""Share of the columns, in the east, that is set aside: by place, never by pixel."""
_SCORING = "filling {} patches of the part set aside"
"""Said of what takes minutes."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a training came to."""

    model: str
    steps: int
    minutes: float
    before: float | None
    """RMSE of the starting model's value over the prior's on the part set aside; None without one to start from."""
    after: float
    held_out: int
    """Patches they were measured on."""
    stopped: str
    """Why it ended."""
    delivered: bool = True
    """Whether it is the model in `model` now."""
    left_out: tuple[str, ...] = ()
    """Sources that nothing could be learnt from: unreadable, or too small."""
    kept: int = 0
    """Step whose weights the model has, the best of all that were validated; 0 is what it began from."""


def user_sources(paths: Sequence[str], *, seed: int = 0, **options: Any) -> list[Source]:
    """Tiles of rasters as observations to learn from; gaps are never shown as truth.

    The east quarter of each raster is the validation part. Numbers are normalised once for each band of a variable.
    Rasters that cannot be read, or are too small for a tile, are named in a warning and left out. Raises InputError
    where none is left, JobError for options that cannot be meant.
    """
    found: list[Source] = []
    refused: list[InputError] = []
    for path in paths:
        try:
            tiles = _tiles_of(path, np.random.default_rng([seed, len(found)]), options)
        except InputError as reason:
            if isinstance(reason, JobError) or len(paths) == 1:
                raise
            refused.append(reason)
            _log.warning("left out: %s", reason)
            continue
        if not tiles:
            _log.warning("left out: %s has no %d x %d pixels east or west of the split", path, _LEAST, _LEAST)
        found += tiles
    if refused and not found:
        raise InputError(f"no source can be learnt from; the first: {refused[0]}")
    for part in ("train", "validation"):
        if not any(source.part == part for source in found):
            raise InputError(f"{', '.join(paths)}: too small to set a part aside; give rasters of 200 pixels and more")
    return found


def _tiles_of(path: str, rng: np.random.Generator, options: Mapping[str, Any]) -> list[Source]:
    """Tiles of a raster; every one is read, so that a damaged file is known before patches are cut."""
    job = FillJob.build(source=path, target="unused.zarr", **options)
    scene = open_scene(job)
    seen_as = _identity(job, scene.raster)
    made = [tile for cube in scene.cubes for tile in _tiles(path, cube, rng, seen_as)]
    for tile in made:
        load(Path(), tile)
    return made


def _unused(paths: Sequence[str], sources: Sequence[Source]) -> tuple[str, ...]:
    """The paths that no tile is from."""
    return tuple(path for path in paths if not any(source.name.startswith(f"{path}:") for source in sources))


def _identity(job: FillJob, raster: Raster) -> str:
    """SHA-256 of what the files hold and what the options make of them: kept tiles must outlive neither."""
    told = job.model_dump_json(exclude={"source", "mask"})
    return sha256(f"{source_identity(raster)} {inputs_identity(job, raster)} {told}".encode()).hexdigest()


def _tiles(path: str, cube: Cube, rng: np.random.Generator, seen_as: str) -> list[Source]:
    rows, columns = cube.shape
    cut = int(columns * (1 - _ASIDE))
    seen = _looked_at(cube, rng)
    turns = turns_in(cube, seen)
    cube, seen = in_channels(cube, turns), parts_of(seen, turns)
    normalisations = [_recipe(own, cube.transform) for own in seen]
    made = []
    for part, first, last in (("train", 0, cut), ("validation", cut, columns)):
        windows = [
            Window(row, column, min(_SIDE, rows - row), min(_SIDE, last - column))
            for row in range(0, rows, _SIDE)
            for column in range(first, last, _SIDE)
        ]
        windows = [w for w in windows if min(w.shape) >= _LEAST]
        most = _TILES if part == "train" else _TILES // 3
        chosen = [windows[i] for i in sorted(rng.permutation(len(windows))[:most])]
        for window in chosen:
            dates, bands = _some(len(cube.variable.dates), _DATES, rng), _some(len(cube.bands), _BANDS, rng)
            place = f"{path}:{cube.name} rows {window.row}+{window.height} columns {window.column}+{window.width}"
            read = _reader(cube, window, dates, bands, normalisations)
            made.append(Source("user", part, place, f"dates {dates}, bands {bands} of {seen_as}", read))
    return made


def _some(count: int, most: int, rng: np.random.Generator) -> list[int]:
    """Consecutive indices, as many as there are up to `most`."""
    start = int(rng.integers(max(count - most, 0) + 1))
    return list(range(start, min(start + most, count)))


def _reader(
    cube: Cube, window: Window, dates: list[int], bands: list[int], recipes: Sequence[Normalisation]
) -> Callable[[Path], Stack]:
    def read(_: Path) -> Stack:
        pairs = [_plane(cube, date, window, recipes) for date in dates]
        values, known = (np.stack([pair[i] for pair in pairs])[:, bands] for i in (0, 1))
        known &= np.abs(values) < _WILD
        days = cube.seconds[dates] // 86400 if has_season(int(cube.seconds.max())) else None
        return Stack(np.where(known, values, 0).astype(np.float32), known, days)

    return read


def _plane(
    cube: Cube, date: int, window: Window, recipes: Sequence[Normalisation] | None
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Values (band, row, column), normalised where recipes are given, and where they are known."""
    stored, reason = cube.read(date, window), cube.reason(date, window)
    values = np.zeros(stored.shape, np.float64)
    known = reason == 0
    for place, band in enumerate(cube.bands):
        physical, valid = unpack(stored[place], cube.variable.bands[band].encoding)
        known[place] &= valid
        values[place] = physical if recipes is None else recipes[place].forward(physical)
    return values, known


def _looked_at(cube: Cube, rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """Known values of each band in 24 windows anywhere that show something."""
    rows, columns = cube.shape
    seen: list[list[NDArray[np.float64]]] = [[] for _ in cube.bands]
    side, shown = min(256, rows, columns), 0
    for _ in range(_LOOKS):
        if shown == _WINDOWS:
            break
        date = int(rng.integers(len(cube.variable.dates)))
        window = Window(int(rng.integers(rows - side + 1)), int(rng.integers(columns - side + 1)), side, side)
        values, known = _plane(cube, date, window, None)
        for band, own in enumerate(seen):
            own.append(values[band][known[band]][::7])
        shown += bool(known.any())
    return [np.concatenate(own) for own in seen]


def _recipe(sample: NDArray[np.float64], transform: str) -> Normalisation:
    """Median and robust standard deviation."""
    unit = Normalisation(0.0, 1.0, transform)
    seen = unit.transformed(sample) if sample.size else np.zeros(1)
    centre = float(np.median(seen))
    away = np.abs(seen - centre)
    middle = 1.4826 * float(np.median(away))
    scale = max(middle, 0.3 * float(seen[away <= _FAR * middle].std() if middle > 0 else seen.std()))
    return Normalisation(centre, scale if scale > 0 else 1.0, transform)


def learn(
    paths: Sequence[str], out: Path, config: TrainConfig, *, resume: bool = False, overwrite: bool = False,
    quiet: bool = False, **options: Any,
) -> Learnt:  # fmt: skip
    """Train a network on rasters and write it as a model folder with its scores and calibration.

    Parameters
    ----------
    paths : any sources that `fill` takes; their gaps are fine.
    out : the model folder; refused where it already exists, unless `overwrite`.
    config : see `TrainConfig`; `begin_from` fine-tunes, `work` keeps checkpoints for `resume`.
    options : as for `fill`: qa, mask, bands, variable, nodata, valid_range.

    Raises
    ------
    InputError, TargetError; LockedError while another training uses `config.work`.
    """
    from geodiff.diffusion.folder import assert_replaceable

    assert_replaceable(out, overwrite=overwrite)
    with _alone(config.work):
        return _learn(paths, out, config, resume=resume, quiet=quiet, **options)


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Two trainings in one folder would cut patches over each other's; of several processes the first one holds it."""
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    with lock(str(work / "training"), str(work)):
        yield


def _learn(
    paths: Sequence[str], out: Path, config: TrainConfig, *, resume: bool, quiet: bool, **options: Any
) -> Learnt:
    from geodiff.diffusion.denoiser import open_denoiser
    from geodiff.diffusion.shipping import ship, user_card
    from geodiff.diffusion.training import read_checkpoint, train

    sources = user_sources(paths, seed=config.seed, **options)
    left_out = _unused(paths, sources)
    _log.info("tiles to learn from: %d; set aside: %d", *_counted(sources))
    with _shown(quiet) as watch:
        trainer = train(config, resume=resume, sources=sources, watch=watch)
    if not trainer.processes.first:
        return Learnt(str(out), trainer.step, trainer.seconds / 60, None, float("nan"), 0, "not the first process")
    best = config.work / "best" if (config.work / "best" / "checkpoint.safetensors").exists() else config.work
    draft = out.with_name(f".{out.name}.draft")
    ship(best, draft, calibration=_start(config))
    try:
        count = max(1, min(40, config.validation_patches))
        with waiting(_SCORING.format(count), quiet=quiet):
            outcomes, calibration = _calibrated(open_denoiser(draft), sources, count)
        after = _skill(outcomes)
        before = None
        if config.begin_from is not None:
            with waiting(f"{_SCORING.format(count)}, by the model it began from", quiet=quiet):
                before = _skill(_calibrated(open_denoiser(config.begin_from), sources, count)[0])
        used = [path for path in paths if path not in left_out]
        text = user_card(best, calibration, used, before, after, len(outcomes))
        ship(best, out, calibration=calibration, text=text)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    stopped = "the time or the steps were spent" if trainer.progress >= 1 else "it no longer improved"
    minutes = trainer.seconds / 60
    kept = int(read_checkpoint(best)[1]["step"])
    return Learnt(str(out), trainer.step, minutes, before, after, len(outcomes), stopped, True, left_out, kept)


def _start(config: TrainConfig) -> Any:
    """The calibration of the model it began from, or a neutral one."""
    from geodiff.diffusion.folder import Calibration, read_calibration

    return Calibration() if config.begin_from is None else read_calibration(config.begin_from)


def next_model(paths: Sequence[str], out: Path, begin_from: str, settings: Mapping[str, Any]) -> Learnt:
    """Fine-tune in a folder beside OUT and put the model in its place only where it does better than its start.

    A run that was stopped is gone on with. `settings` are fields of `TrainConfig`. Raises, before any work, TargetError
    where OUT is something else than a model, and LockedError while another run trains for it.
    """
    with lock(str(out.with_name(f"{out.name}.training")), str(out)):
        return _next_model(paths, out, begin_from, settings)


def _next_model(paths: Sequence[str], out: Path, begin_from: str, settings: Mapping[str, Any]) -> Learnt:
    from geodiff.diffusion.folder import assert_replaceable, find_folder, put_back, put_in_place
    from geodiff.diffusion.trainconfig import read_config
    from geodiff.diffusion.training import has_checkpoint

    put_back(out)  # or the last good model would be gone, and training begin from the shipped one
    assert_replaceable(out, overwrite=True)
    start = begin_from or (str(out) if out.is_dir() else "default")
    work, candidate = out.with_name(f"{out.name}.training"), out.with_name(f"{out.name}.candidate")
    config = read_config(None, **{**FINE_TUNING, **settings, "work": work, "begin_from": find_folder(start)})
    learnt = learn(paths, candidate, config, resume=has_checkpoint(work), overwrite=True, quiet=True)
    better = learnt.before is None or learnt.after < learnt.before
    if better:
        put_in_place(candidate, out)
    shutil.rmtree(candidate, ignore_errors=True)
    shutil.rmtree(work, ignore_errors=True)
    return replace(learnt, model=str(out), delivered=better)


def _counted(sources: Sequence[Source]) -> tuple[int, int]:
    aside = sum(source.part == "validation" for source in sources)
    return len(sources) - aside, aside


@contextmanager
def _shown(quiet: bool) -> Iterator[Callable[[Any, str], None]]:
    """A live line of progress, and a sentence after each validation."""
    with Progress("training", 1000, "per mille", quiet=quiet) as progress:
        done = 0

        def watch(trainer: Any, said: str) -> None:
            nonlocal done
            while done < int(1000 * trainer.progress):
                done += 1
                progress.advance()
            if said:
                _log.info("%s", said)

        yield watch


def _calibrated(denoiser: Any, sources: Sequence[Source], count: int) -> tuple[list[Any], Any]:
    """Outcomes on the part set aside, and the calibration they give."""
    from geodiff.diffusion.evaluation import calibrate, evaluate

    outcomes = evaluate(denoiser, count, sources=sources)
    return outcomes, calibrate(outcomes, denoiser.calibration)


def _skill(outcomes: Sequence[Any]) -> float:
    """RMSE of the value over the prior's, in the units of the product."""
    value = np.mean([(((o.truth - o.mean) * o.s0) ** 2).mean() for o in outcomes])
    prior = np.mean([((o.truth * o.s0) ** 2).mean() for o in outcomes])
    return round(float(np.sqrt(value / prior)), 4)


def recalibrate(
    model: str, paths: Sequence[str], out: Path, *, count: int = 40, overwrite: bool = False, quiet: bool = False,
    **options: Any,
) -> Any:  # fmt: skip
    """Write a copy of a model whose intervals are calibrated on `count` patches of rasters; returns the calibration."""
    from geodiff.diffusion.denoiser import open_denoiser
    from geodiff.diffusion.shipping import copied

    denoiser = open_denoiser(model)
    sources = user_sources(paths, **options)
    with waiting(_SCORING.format(count), quiet=quiet):
        outcomes, calibration = _calibrated(denoiser, sources, count)
    left_out = _unused(paths, sources)
    names = ", ".join(Path(path).name for path in paths if path not in left_out)
    measured_on = f"{len(outcomes)} patches of the east quarter of {names}"
    copied(model, out, calibration=calibration, measured_on=measured_on, overwrite=overwrite)
    return calibration
