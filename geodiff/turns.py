"""Quantities that go round: directions, phases, days of the year, whose least and greatest numbers are neighbours.

The mean of 350 and 10 degrees is north and not south. So an angle is estimated as the point of the unit circle that it
stands for, by its cosine and its sine, and read off again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Turn"]

_NINETY = 1.645
"""Standard deviations to each side that hold 90 % of a Gaussian."""
_EXACT = 1e-6
"""Least error of a cosine or sine: that of float32."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a quantity that goes round."""

    length: float
    """360 for degrees."""
    start: float
    """Least number of a turn: 0, or half a turn less."""

    def parts(self, angles: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Cosine and sine of angles of any shape."""
        turned = angles * (2 * np.pi / self.length)
        return np.cos(turned), np.sin(turned)

    def angles(self, cosine: NDArray[Any], sine: NDArray[Any]) -> NDArray[np.float64]:
        """The angles at which points lie, from `start` on and less than a turn beyond."""
        return self.within(np.arctan2(np.asarray(sine, np.float64), cosine) * (self.length / (2 * np.pi)))

    def within(self, angles: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same angles within the turn."""
        beyond = np.mod(angles - self.start, self.length)
        return self.start + np.where(beyond < self.length, beyond, 0.0)  # rounding takes -1e-20 to a whole turn

    def drawn(
        self, cosine: NDArray[Any], sine: NDArray[Any], of_draw: NDArray[Any], sine_of_draw: NDArray[Any]
    ) -> NDArray[np.float64]:
        """The angles of points that were drawn about others.

        They depart along the circle and across it by the same amounts, while all that the truth departs by is along it:
        by the root of two more.
        """
        base = self.angles(cosine, sine)
        reach = np.maximum(np.hypot(cosine, sine), _EXACT)
        more, aside = np.asarray(of_draw - cosine), np.asarray(sine_of_draw - sine)
        along = (cosine * aside - sine * more) / reach
        across = (cosine * more + sine * aside) / reach
        turned = np.arctan2(math.sqrt(2.0) * along, reach + across) * (self.length / (2 * np.pi))
        return self.within(base + turned)

    def error(
        self, cosine: NDArray[Any], sine: NDArray[Any], of_cosine: NDArray[Any], of_sine: NDArray[Any]
    ) -> NDArray[np.float32]:
        """Standard errors of the angles at which points lie, from those of their cosines and sines.

        How far the truth may be from a point says how it is spread along the circle: a von Mises distribution whose own
        mean is as far from what it draws (Mardia and Jupp 2000, 3.5.4). The circle is never nearer to a point than it
        is. Half the arc that holds 90 % over 1.645: near data that is the error of both together, and where nothing is
        known nine tenths of half a turn over 1.645.
        """
        least = 1.0 - np.hypot(cosine, sine)
        apart = np.maximum(np.hypot(of_cosine, of_sine), least)
        known, arcs = _arcs()
        arc = np.interp(np.log(np.maximum(apart, _EXACT)), known, arcs)
        return np.asarray(arc * (self.length / (2 * np.pi)) / _NINETY, np.float32)


@cache
def _arcs() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of von Mises distributions, narrow ones first: how far what they draw is from its mean, and half the 90 % arcs.

    The first is the logarithm of a root mean square distance between points, the second in radians.
    """
    concentration = np.exp(np.linspace(30.0, -6.0, 361))[:, None]
    # The finer the narrower the distribution is: steps are shares of its width, up to half a turn.
    arcs = np.linspace(0.0, 1.0, 2001) * np.minimum(np.pi, 6.0 / np.sqrt(concentration))
    short = 2.0 * np.sin(arcs / 2) ** 2  # 1 - cos, exact for small angles
    density = np.exp(-concentration * short)
    held = np.cumsum((density[:, 1:] + density[:, :-1]) / 2, axis=1)
    from_one = (short * density).sum(axis=1) / density.sum(axis=1)  # 1 - the mean point's distance from the middle
    ninety = [np.interp(0.9 * own[-1], own, arc[1:]) for own, arc in zip(held, arcs, strict=True)]
    return np.log(from_one * (2.0 - from_one)) / 2, np.array(ninety)
