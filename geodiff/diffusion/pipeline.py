"""GapFillPipeline: the trained model as a diffusers pipeline, for one image at a time.

pipe = GapFillPipeline.from_pretrained("model/")
filled = pipe(values, known, members=4)
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import logging
from diffusers.utils.outputs import BaseOutput

from geodiff.diffusion.denoiser import Denoiser, batch_on
from geodiff.diffusion.fields import Layer, Scene, context, whitening_error
from geodiff.diffusion.folder import Calibration, check_folder, find_folder, front_matter, model_hash, stored_hash
from geodiff.diffusion.network import GapFillUNet
from geodiff.diffusion.sampling import sampler_like, sampler_of
from geodiff.encoding import as_float64, where_known
from geodiff.errors import InputError, JobError, NothingKnownError
from geodiff.fillers import Fitted
from geodiff.fillers.calibration import DAYS, factor_field
from geodiff.fillers.kriging import Kriging
from geodiff.noise import ground_noise
from geodiff.threads import one_thread, side_by_side

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["GapFillOutput", "GapFillPipeline"]


@dataclass
class GapFillOutput(BaseOutput):
    """What the pipeline returns; arrays in the units and the shape of the input.

    They are float32 where that holds all numbers of the input's type, else float64.
    """

    value: NDArray[np.floating[Any]]
    """Best estimate; known pixels as they came."""
    standard_error: NDArray[np.floating[Any]]
    """0 where known."""
    members: NDArray[np.floating[Any]] | None
    """(member, ...) realisations, or None."""


@contextmanager
def _quietly() -> Iterator[None]:
    """Without a bar over two components, and without a word on `torch_dtype`, which older diffusers know alone."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch_dtype` is deprecated", FutureWarning)
            yield
    finally:
        if shown:
            logging.enable_progress_bar()


class GapFillPipeline(DiffusionPipeline):
    """Fill one image with the trained network over a kriged prior.

    For rasters larger than a few thousand pixels a side, or with nodata and georeference, use `geodiff.fill`.
    """

    def __init__(self, unet: GapFillUNet, scheduler: Any, calibration: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)  # type: ignore[no-untyped-call]
        self.register_to_config(calibration=calibration)  # type: ignore[no-untyped-call]

    @classmethod
    def from_pretrained(  # type: ignore[override]  # a name of ours is no path
        cls, model: str | os.PathLike[str], **options: Any
    ) -> GapFillPipeline:
        """Load a model folder, or a shipped model by name; raises ModelError for one that is not to be trusted."""
        folder = find_folder(os.fspath(model))
        check_folder(folder)
        options = {
            **options,
            "use_safetensors": True,
            "local_files_only": True,
            "low_cpu_mem_usage": options.get("device_map") is not None,  # which needs it, and accelerate
        }
        with _quietly():
            pipeline: GapFillPipeline = super().from_pretrained(str(folder), **options)
        return pipeline

    def save_pretrained(  # type: ignore[override]  # narrower: safetensors only
        self, save_directory: str | os.PathLike[str], safe_serialization: bool = True, **options: Any
    ) -> None:
        """Write weights (float16, safetensors), configuration and a card with their hash.

        Raises InputError for another format, or a `variant`: of the weights there is one.
        """
        if not safe_serialization:
            raise InputError("safe_serialization=False would write a pickle, which geodiff does not read; leave it out")
        if options.pop("variant", None) is not None:
            raise InputError("a model folder holds its weights once, in float16; leave variant out")
        was = self.unet.dtype
        try:
            torch.nn.Module.half(self.unet)  # ModelMixin's warns without need
            super().save_pretrained(str(save_directory), safe_serialization=True, **options)
        finally:
            torch.nn.Module.to(self.unet, was)
        folder = Path(save_directory)
        if stored_hash(folder) != model_hash(folder):  # none, or that of a model which lay there before
            card = front_matter(folder, ["license: apache-2.0"]) + "\nA geodiff model.\n"
            (folder / "README.md").write_text(card)

    @property
    def components(self) -> dict[str, Any]:
        """What `GapFillPipeline(**pipe.components)` takes; diffusers leaves out whatever has a default."""
        return {**super().components, "calibration": self.config.get("calibration")}

    @property
    def denoiser(self) -> Denoiser:
        """The network as the filler uses it."""
        unet = self.unet.eval().to(memory_format=torch.channels_last)
        stored = self.config.get("calibration")
        calibration = Calibration.of(dict(stored)) if stored else Calibration()
        return Denoiser(unet, calibration, unet.device, unet.dtype, batch=batch_on(unet.device))

    @torch.inference_mode()
    def __call__(
        self,
        values: ArrayLike | torch.Tensor,
        known: ArrayLike | torch.Tensor | None = None,
        *,
        members: int = 0,
        steps: int = 10,
        sampler: str | None = None,
        seed: int = 0,
    ) -> GapFillOutput:
        """Fill every pixel that is not known.

        Parameters
        ----------
        values : (row, column) or (band, row, column), any real numbers; ignored where not known. What is not finite,
            or masked in a masked array, is not known whatever `known` says.
        known : bool, same shape, or (row, column) for all bands. Default: where `values` is finite.
        members : realisations to draw, from 0 on.
        steps : network calls a member, from 4 on; what other pipelines call `num_inference_steps`.
        seed : key of the noise, which belongs to the pixel, in place of a `generator`.
        sampler : a name of `geodiff.samplers.NAMES`; by default that of `scheduler`, which may be another of the list.

        Raises
        ------
        NothingKnownError, GridError (shapes), JobError (members, sampler, steps).
        """
        sampler = sampler or sampler_like(self.scheduler)
        sampler_of(sampler, steps)
        if members < 0:
            raise JobError(f"members = {members}: give how many realisations to draw, 0 for none")
        image = _plain(values)
        seen, shape = where_known(image, None if known is None else _plain(known)), image.shape
        bands = enumerate(zip(*(a.reshape(-1, *shape[-2:]) for a in (image, seen)), strict=True))
        with one_thread(), side_by_side():
            parts = [self._band(plane, mask, band, members, steps, sampler, seed) for band, (plane, mask) in bands]
        stacked = [np.stack(p).astype(_type_of(values)) for p in zip(*parts, strict=True)]
        drawn = np.moveaxis(stacked[2], 1, 0).reshape(members, *shape) if members else None
        return GapFillOutput(value=stacked[0].reshape(shape), standard_error=stacked[1].reshape(shape), members=drawn)

    def _band(
        self,
        plane: NDArray[np.float64],
        known: NDArray[np.bool_],
        band: int,
        members: int,
        steps: int,
        sampler: str,
        seed: int,
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Value, standard error and members of one band."""
        from geodiff.fillers.members import Broad, matched, recentred, starts

        if not known.any():
            raise NothingKnownError(f"no pixel of band {band + 1} is known, so nothing can be estimated; check `known`")
        centre, scale = _robust(plane[known])
        multiple = int(self.unet.multiple)
        pad = tuple((0, -n % multiple) for n in plane.shape)
        flat = np.pad(np.where(known, (plane - centre) / scale, 0).astype(np.float32), pad, mode="symmetric")
        mask = np.pad(known, pad, mode="symmetric")
        prior = Kriging().plane(flat, mask, np.zeros_like(flat), Fitted("kriging"))
        shown = Layer(flat, mask)
        error = whitening_error(shown)
        planes, wanted = context(Scene(shown, ~mask, prior, error))[None], ~mask[None]
        denoiser = self.denoiser
        mean, spread = (a[0] for a in denoiser.value(planes, wanted))
        value, away = prior + error * mean, shown.distance
        drawn = np.empty((0, *flat.shape), np.float32)
        if members:

            def white(margin: int, number: int) -> NDArray[np.float32]:
                shape = (flat.shape[0] + 2 * margin, flat.shape[1] + 2 * margin)
                return ground_noise(shape, row=-margin, column=-margin, seed=seed, band=band, member=number)

            noise = starts(white, members)[None]
            r = denoiser.members(planes, wanted, noise, sampler=sampler, steps=steps)[0]
            broad = Broad.of(white, members, away)
            departures = matched(np.where(wanted[0], r - mean, np.float32(0)), spread, wanted[0], broad)
            drawn = recentred(value + error * departures, value, _at(denoiser.calibration.spread, away))
        cut = np.s_[..., : plane.shape[0], : plane.shape[1]]
        bars = np.where(known, 0, (scale * error * spread * _at(denoiser.calibration.factors, away))[cut])
        filled = np.where(known, plane, (value * scale + centre)[cut])
        return filled, bars, np.where(known, plane, (drawn * scale + centre)[cut])


def _at(factors: Sequence[float], away: NDArray[np.float32]) -> NDArray[np.float32]:
    """A factor of the calibration at each pixel, by its distance to data, as in a scene without trials."""
    table = np.tile(np.asarray(factors, np.float32), DAYS)
    return factor_field(table, np.zeros(away.shape, np.int8), away)


def _plain(array: ArrayLike | torch.Tensor) -> NDArray[np.float64]:
    """Its numbers, wherever it lies; see `encoding.as_float64`."""
    if not isinstance(array, torch.Tensor):
        return as_float64(array)
    tensor = array.detach().cpu()
    return as_float64((tensor if tensor.is_complex() else tensor.double()).numpy())


def _type_of(array: ArrayLike | torch.Tensor) -> type[np.floating[Any]]:
    """float32 where it holds all numbers of the array's type, else float64."""
    if isinstance(array, torch.Tensor):
        exact = array.dtype is torch.float32 or array.dtype.itemsize <= 2
    else:
        exact = np.can_cast(np.asanyarray(array).dtype, np.float32)
    return np.float32 if exact else np.float64


def _robust(known: NDArray[np.float64]) -> tuple[float, float]:
    """Median, and 1.4826 times the median absolute deviation, at least a third of the standard deviation."""
    centre = float(np.median(known))
    scale = max(1.4826 * float(np.median(np.abs(known - centre))), 0.3 * float(known.std()))
    return centre, scale if scale > 0 else 1.0
