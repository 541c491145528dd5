"""One process or several: the only place that knows of Accelerate.

Started plainly there is one process and nothing to synchronise. Started by `accelerate launch` or `torchrun`, gradients
are averaged over the processes, which may each have a GPU; the first one writes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geodiff.errors import InputError
from geodiff.threads import cores

__all__ = ["Processes"]


@dataclass(frozen=True)
class Processes:
    """Those that train together."""

    rank: int = 0
    count: int = 1
    accelerator: Any = None

    @classmethod
    def here(cls, device: str, *, half: bool) -> Processes:
        """What the launcher's environment says; raises InputError where Accelerate is asked for and missing."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        try:
            from accelerate import Accelerator
        except ImportError:
            raise InputError(
                "training in several processes needs accelerate; pip install 'geodiff[train]'"
            ) from None
        precision = "bf16" if half and device != "cpu" else "no"  # on CPUs autocast does it
        accelerator = Accelerator(cpu=device == "cpu", mixed_precision=precision)
        return cls(accelerator.process_index, accelerator.num_processes, accelerator)

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def cores(self) -> int:
        """A process's share of the cores; what the launcher or the user set in OMP_NUM_THREADS goes before."""
        told = os.environ.get("OMP_NUM_THREADS", "")
        return int(told) if told.isdecimal() and int(told) else max(1, cores() // self.count)

    def prepared(self, model: Any, optimiser: Any) -> tuple[Any, Any]:
        """The model and its optimiser as this process is to call them."""
        if self.accelerator is None:
            return model, optimiser
        wrapped, synchronised = self.accelerator.prepare(model, optimiser)
        return wrapped, synchronised

    def backward(self, loss: Tensor) -> None:
        """Gradients, averaged over the processes."""
        if self.accelerator is None:
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            self.accelerator.backward(loss)

    def longest(self, seconds: float) -> float:
        """The longest of the processes' clocks: all of them must stop at one step."""
        if self.accelerator is None:
            return seconds
        clocks = self.accelerator.gather(torch.tensor([seconds], device=self.accelerator.device))
        return float(clocks.max())

    def wait(self) -> None:
        """Until every process is here."""
        if self.accelerator is not None:
            self.accelerator.wait_for_everyone()
