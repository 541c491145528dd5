"""EDM preconditioning in the letters of Karras et al. (2022), table 1, with sigma_data = 1 on whitened residuals.

Each function takes a float or a tensor and returns the same.
"""

from __future__ import annotations

import math
from typing import Any

__all__ = ["SIGMA_DATA", "SIGMA_MAX", "SIGMA_MIN", "c_in", "c_noise", "c_out", "c_skip", "loss_weight"]

SIGMA_DATA = 1.0
SIGMA_MIN = 0.02
SIGMA_MAX = 80.0


def c_skip(sigma: Any) -> Any:
    """Share of the noisy input in D: sigma_data^2 / (sigma^2 + sigma_data^2)."""
    return SIGMA_DATA**2 / (sigma**2 + SIGMA_DATA**2)


def c_out(sigma: Any) -> Any:
    """Scale of the network's output in D: sigma sigma_data / sqrt(sigma^2 + sigma_data^2)."""
    return sigma * SIGMA_DATA / (sigma**2 + SIGMA_DATA**2) ** 0.5


def c_in(sigma: Any) -> Any:
    """Scale of the network's input: 1 / sqrt(sigma^2 + sigma_data^2)."""
    return 1.0 / (sigma**2 + SIGMA_DATA**2) ** 0.5


def c_noise(sigma: Any) -> Any:
    """What the network is told of the noise: ln(sigma) / 4."""
    log = getattr(sigma, "log", None)
    return (log() if log is not None else math.log(sigma)) / 4


def loss_weight(sigma: Any) -> Any:
    """Weight of the loss: (sigma^2 + sigma_data^2) / (sigma sigma_data)^2, by which every level counts alike."""
    return (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
