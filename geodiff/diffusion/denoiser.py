"""The trained network in use: value and standard error in one call, realisations in as many as there are steps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from geodiff.diffusion import edm
from geodiff.diffusion.crops import Crop, by_size, crops
from geodiff.diffusion.device import dtype_of, one_torch_thread, pick_device
from geodiff.diffusion.folder import (
    Calibration,
    check_folder,
    find_folder,
    model_hash,
    read_calibration,
    read_layout,
    weights_path,
)
from geodiff.diffusion.joined import Joined
from geodiff.diffusion.sampling import sample
from geodiff.errors import ModelError
from geodiff.threads import each

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Planes = NDArray[np.float32]

__all__ = ["Denoiser", "batch_on", "open_denoiser"]

_log = logging.getLogger(__name__)

_WIDEST = 4.0
"""Bound of |ln variance| that the value head may claim."""
_BATCH = 8
"""Samples of a call where nobody says how many, on what is no processor."""


@dataclass(frozen=True)
class Denoiser:
    """A network on its device, with the calibration it was shipped with."""

    network: Any
    calibration: Calibration
    device: torch.device
    dtype: torch.dtype
    sha256: str = ""
    batch: int = 1
    """Samples per network call. On processors it stays 1: convolutions there are chosen by the batch's size, and not
    bit-equal between them. Elsewhere the last batch is padded to the full size for the same reason."""

    def value(
        self, context: Planes, wanted: NDArray[np.bool_], scalars: Planes | None = None
    ) -> tuple[Planes, Planes]:
        """Mean and standard deviation of the whitened residual.

        Parameters
        ----------
        context : (sample, channel, row, column), see `fields.context`.
        wanted : (sample, row, column).
        scalars : (sample, scalar), see `network.SCALARS`; a gap in exact data without them.

        Returns
        -------
        Two of (sample, row, column), float32; 0 and 1 where the network had nothing to look at, see `crops`.
        """
        answer = np.zeros((len(context), 2, *wanted.shape[1:]), np.float32)
        answer[:, 1] = 1.0

        def run(some: Sequence[Crop]) -> Tensor:
            planes, told = self._planes(context, some), self._scalars(scalars, some)
            zeros = torch.zeros_like(planes[:, :1])
            level = torch.full((1,), edm.SIGMA_MAX)  # one for all: its sums must not see the batch
            mean, log_variance = self.network(zeros, planes, *_told(edm.c_noise(level), told))
            spread = torch.exp(0.5 * log_variance.float().clamp(-_WIDEST, _WIDEST))
            return torch.cat([edm.c_out(edm.SIGMA_MAX) * mean.float(), spread], dim=1)

        self._batched(run, wanted, answer)
        return answer[:, 0], answer[:, 1]

    def members(
        self,
        context: Planes,
        wanted: NDArray[np.bool_],
        noise: Planes,
        scalars: Planes | None = None,
        *,
        sampler: str = "edm-dpm2m",
        steps: int = 10,
    ) -> Planes:
        """Realisations of the whitened residual, several for each sample, which share batches.

        Parameters
        ----------
        context, wanted, scalars : as for `value`.
        noise : (sample, member, row, column), white.

        Returns
        -------
        As the noise, float32; 0 where the network had nothing to look at.
        """
        count = noise.shape[1]
        every, asked = np.repeat(context, count, axis=0), np.repeat(wanted, count, axis=0)
        facts = None if scalars is None else np.repeat(scalars, count, axis=0)
        white = noise.reshape(-1, 1, *noise.shape[2:])
        answer = np.zeros(white.shape, np.float32)

        def run(some: Sequence[Crop]) -> Tensor:
            planes, shown = self._planes(every, some), self._planes(asked[:, None], some)
            told = self._scalars(facts, some)

            def network(x: Tensor, sigma: float) -> Tensor:
                level = torch.full((1,), sigma)
                scaled = (edm.c_in(sigma) * x).to(self.dtype) * shown
                output: Tensor = self.network(scaled, planes, *_told(edm.c_noise(level), told))[0].float()
                return output

            start = torch.from_numpy(np.stack([part.of(white) for part in some])).to(self.device)
            return sample(network, start, sampler=sampler, steps=steps)

        self._batched(run, asked, answer)
        return answer.reshape(noise.shape)

    def _planes(self, planes: NDArray[Any], some: Sequence[Crop]) -> Tensor:
        """(crop, channel, row, column) of planes (sample, channel, row, column)."""
        return self._tensor(np.stack([part.of(planes) for part in some]).astype(np.float32, copy=False))

    def _tensor(self, planes: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(planes)).to(self.device, self.dtype)

    def _scalars(self, scalars: Planes | None, some: Sequence[Crop]) -> Tensor | None:
        """(1 or crop, scalar) of scalars (sample, scalar), where there are any; one row where all samples share it.

        On the processor, as noise levels are: the network reads both before it begins.
        """
        if scalars is None:
            return None
        shared = bool((scalars == scalars[:1]).all())
        return torch.from_numpy(scalars[[0] if shared else [part.sample for part in some]]).to(self.dtype)

    def _batched(self, run: Callable[[Sequence[Crop]], Tensor], wanted: NDArray[np.bool_], answer: Planes) -> None:
        """Run over the crops of all samples, `batch` of one size at a time, into (sample, plane, row, column).

        One by one, they go side by side where that is wanted. Where memory runs out the batch is halved, and the log
        says so.
        """
        size = self.batch
        for parts in by_size(crops(wanted)).values():
            if size == 1 and self.device.type == "cpu":
                for part, found in zip(parts, each(lambda part: _answer(run, [part]), parts), strict=True):
                    part.put(answer, found[0])
                continue
            start = 0
            while start < len(parts):
                some = parts[start : start + size]
                padded = [*some, *[some[-1]] * (size - len(some))]
                try:
                    found = _answer(run, padded)[: len(some)]
                except (MemoryError, RuntimeError) as reason:
                    if size == 1 or not _is_memory(reason):
                        raise
                    size //= 2
                    _log.warning(
                        "out of memory with %d windows a call on %s; continuing with %d", 2 * size, self.device, size
                    )
                    continue
                for part, planes in zip(some, found, strict=True):
                    part.put(answer, planes)
                start += len(some)


def batch_on(device: torch.device) -> int:
    """Samples of a call where nobody says how many."""
    return 1 if device.type == "cpu" else _BATCH


def _answer(run: Callable[[Sequence[Crop]], Tensor], some: Sequence[Crop]) -> Planes:
    """(crop, plane, row, column) of one call."""
    with torch.inference_mode(), one_torch_thread():
        found: Planes = run(some).cpu().numpy()
    return found


def _told(c_noise: Tensor, scalars: Tensor | None) -> tuple[Tensor, ...]:
    """The noise level, alone or once for each crop that has scalars of its own."""
    return (c_noise,) if scalars is None else (c_noise.expand(len(scalars)), scalars)


def _is_memory(reason: BaseException) -> bool:
    return isinstance(reason, MemoryError | torch.OutOfMemoryError) or "memory" in str(reason).lower()


@lru_cache(maxsize=4)
def _opened(folder: Path, device: str, dtype: str, stamp: tuple[object, ...]) -> Denoiser:  # noqa: ARG001 (a changed file is opened anew)
    from safetensors.torch import load_file

    from geodiff.diffusion.unet import UNet

    check_folder(folder)
    where = pick_device(device)
    precision = dtype_of(dtype, where)
    weights = {k: v.float() for k, v in load_file(weights_path(folder)).items()}
    try:
        network = UNet(**read_layout(folder))
        network.load_state_dict(weights)
    except (RuntimeError, TypeError, ValueError, IndexError) as reason:
        raise ModelError(f"the weights in {folder} do not fit its unet/config.json; fetch the model again") from reason
    network.to(where).eval().requires_grad_(False)
    kept, shown = read_calibration(folder), model_hash(folder)
    return Denoiser(Joined(network, precision), kept, where, precision, shown, batch_on(where))


def open_denoiser(model: str | Path = "default", *, device: str = "auto", dtype: str = "auto") -> Denoiser:
    """The denoiser of a model folder, loaded once per process; raises ModelError or JobError."""
    folder = find_folder(model).resolve()
    parts = [path for path in (weights_path(folder), folder / "model_index.json") if path.is_file()]
    states = [path.stat() for path in parts]
    return _opened(folder, device, dtype, tuple((s.st_mtime_ns, s.st_size, s.st_ino) for s in states))
