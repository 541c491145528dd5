"""Optional abilities of fillers, which let a stack ask for no more than it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.fillers import Filled, Fitted, Patch, SceneSample

__all__ = ["AnswersItsFit", "Estimates"]


@runtime_checkable
class AnswersItsFit(Protocol):
    """A filler that fills its trials while it is fitted, so that a stack need not do it again."""

    def fitted_answers(self, sample: SceneSample) -> tuple[Fitted, list[Filled]]:
        """The result of `fit(sample)`, and what `fill` then returns for the patches of the sample."""
        ...


@runtime_checkable
class Estimates(Protocol):
    """A filler that can give its values without their standard errors."""

    def estimate(self, patch: Patch, fitted: Fitted) -> NDArray[np.float32]:
        """The value over the window: (target, band, row, column)."""
        ...

    def source(self, patch: Patch, fitted: Fitted) -> NDArray[np.uint8]:
        """The source codes of these values: (target, band, row, column)."""
        ...
