"""What depends on masks alone, worked out once for all that have the same: a cloud hides every band alike."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import lru_cache, wraps
from math import prod
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["once_a_mask"]

_T = TypeVar("_T")
_KEPT = 3
"""Answers kept of each function: bands come one after the other, and each answer is up to a megabyte or two."""


@dataclass(frozen=True, slots=True)
class _Mask:
    """A mask that can be looked up."""

    shape: tuple[int, ...]
    bits: bytes

    def array(self) -> NDArray[np.bool_]:
        bits = np.unpackbits(np.frombuffer(self.bits, np.uint8), count=prod(self.shape))
        return bits.view(np.bool_).reshape(self.shape)


def once_a_mask(work: Callable[..., _T]) -> Callable[..., _T]:
    """A function of boolean arrays, and what can be hashed, that remembers its last answers.

    They are everybody's: nobody may write to them.
    """

    @lru_cache(_KEPT)
    def remembered(*packed: Hashable) -> _T:
        return work(*map(_unpacked, packed))

    @wraps(work)
    def asked(*given: Any) -> _T:
        return remembered(*map(_packed, given))

    return asked


def _packed(given: Any) -> Hashable:
    return _Mask(given.shape, np.packbits(given).tobytes()) if isinstance(given, np.ndarray) else given


def _unpacked(packed: Any) -> Any:
    return packed.array() if isinstance(packed, _Mask) else packed
