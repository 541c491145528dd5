"""Draws that two fillers share are made once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from geodiff.fillers import Filled, Fitted, Patch, SceneSample

__all__ = ["Remembered"]


@dataclass(frozen=True)
class Remembered:
    """A filler that draws for the same patch and seed only once: `auto` and `diffusion` ask for the same draws."""

    inner: Any
    memo: dict[bytes, Filled]

    @property
    def name(self) -> str:
        return str(self.inner.name)

    @property
    def halo(self) -> int:
        return int(self.inner.halo)

    @property
    def context_dates(self) -> int:
        return int(self.inner.context_dates)

    def fit(self, sample: SceneSample) -> Fitted:
        fitted: Fitted = self.inner.fit(sample)
        return fitted

    def fill(self, patches: Sequence[Patch], fitted: Fitted, *, seed: int) -> list[Filled]:
        keys = [_key(patch, fitted, seed) for patch in patches]
        new = [i for i, key in enumerate(keys) if key not in self.memo]
        for i, filled in zip(new, self.inner.fill([patches[i] for i in new], fitted, seed=seed), strict=True):
            self.memo[keys[i]] = filled
        return [self.memo[key] for key in keys]


def _key(patch: Patch, fitted: Fitted, seed: int) -> bytes:
    digest = hashlib.blake2b(f"{patch.absolute},{patch.targets},{patch.halo},{seed}".encode(), digest_size=16)
    for array in (patch.values, patch.known, patch.coarse, patch.dates, *map(np.asarray, fitted.arrays.values())):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()
