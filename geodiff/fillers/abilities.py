"""What a filler may be able to do besides filling, so that a stack need not ask it for more than it wants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.fillers import Filled, Fitted, Patch, SceneSample

__all__ = ["AnswersItsFit", "Estimates"]


@runtime_checkable
class AnswersItsFit(Protocol):
    """A filler that has answered its trials by the time it is fitted: a stack need not ask it again."""

    def fitted_answers(self, sample: SceneSample) -> tuple[Fitted, list[Filled]]:
        """`fit(sample)`, and what `fill` then says of the sample's patches."""
        ...


@runtime_checkable
class Estimates(Protocol):
    """A filler that can be asked for its values without their errors."""

    def estimate(self, patch: Patch, fitted: Fitted) -> NDArray[np.float32]:
        """(target, band, row, column) of the window."""
        ...

    def source(self, patch: Patch, fitted: Fitted) -> NDArray[np.uint8]:
        """(target, band, row, column) of the window: whose values they are."""
        ...
