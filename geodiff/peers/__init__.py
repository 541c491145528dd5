"""What others would use: a fixed list of gap fillers outside geodiff, tuned on hidden pixels before they are compared.

A peer fills one plane at a time and knows nothing of files. Its settings are chosen by `tune` on pixels that are hidden
for that purpose only, the same trials for every peer. One that is not installed is an error and never left out quietly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from geodiff.errors import InputError
from geodiff.metrics import crps_gaussian

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PEERS", "Guess", "Peer", "Plane", "Trial", "Tuned", "load_peers", "tune"]

Z90 = 1.6448536269514722

PEERS: Mapping[str, str] = {
    "gdal": "geodiff.peers.classical:GdalFillNodata",
    "opencv-ns": "geodiff.peers.classical:NavierStokes",
    "opencv-telea": "geodiff.peers.classical:Telea",
    "skimage-biharmonic": "geodiff.peers.classical:SkimageBiharmonic",
    "pykrige": "geodiff.peers.scattered:Kriging",
    "verde": "geodiff.peers.scattered:Verde",
    "repaint": "geodiff.peers.guided:RePaintPeer",
    "dps": "geodiff.peers.guided:DpsPeer",
}
"""Peers that fill a plane, by name; `spectral-null`, which needs a value to put its noise on, is in `peers.null`."""


@dataclass(frozen=True, slots=True)
class Plane:
    """One band of one date, as a peer sees it."""

    values: NDArray[np.float32]
    """(row, column), zero centre and unit scale, finite; 0 where not known."""
    known: NDArray[np.bool_]
    wanted: NDArray[np.bool_]
    """Where an estimate is asked for; never known."""


@dataclass(frozen=True, slots=True)
class Guess:
    """What a peer says; arrays (row, column), meaningful where wanted."""

    value: NDArray[np.float32]
    standard_error: NDArray[np.float32] | None = None
    draws: NDArray[np.float32] | None = None
    """(draw, row, column), independent of each other."""
    calls: int = 0
    """Network calls for one draw."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A plane with hidden pixels, for tuning."""

    plane: Plane
    truth: NDArray[np.float32]


class Peer(Protocol):
    """A gap filler from outside."""

    @property
    def name(self) -> str: ...

    @property
    def module(self) -> str:
        """What has to be importable."""
        ...

    @property
    def settings(self) -> Sequence[Mapping[str, Any]]:
        """The choices that cross-validation has; the first is the library's or the paper's own."""
        ...

    def fill(self, plane: Plane, setting: Mapping[str, Any], *, draws: int, seed: int) -> Guess:
        """Estimate the wanted pixels; only probabilistic peers look at `draws` and `seed`."""
        ...


@dataclass(frozen=True, slots=True)
class Tuned:
    """A peer with the settings that did best."""

    peer: Peer
    setting: Mapping[str, Any] = field(default_factory=dict)
    spread: float = 1.0
    """Factor on its standard error under which 90 % intervals held 90 % of the tuning pixels."""

    def fill(self, plane: Plane, *, draws: int = 0, seed: int = 0) -> Guess:
        """The peer's answer, its standard error calibrated."""
        guess = self.peer.fill(plane, self.setting, draws=draws, seed=seed)
        if guess.standard_error is None:
            return guess
        return Guess(guess.value, guess.standard_error * np.float32(self.spread), guess.draws, guess.calls)


def load_peers(names: Sequence[str]) -> list[Peer]:
    """The peers of those names; raises InputError for an unknown one, and for one that is not installed."""
    peers: list[Peer] = []
    for name in names:
        if name not in PEERS:
            raise InputError(f"no peer is called {name!r}; choose from {', '.join(PEERS)}, spectral-null")
        where, _, cls = PEERS[name].partition(":")
        peer: Peer = getattr(import_module(where), cls)()
        if find_spec(peer.module) is None:
            raise InputError(
                f"the peer {name} needs the package {peer.module!r}, which is not installed, and a league without it "
                "would flatter the others; in the clone, pip install -c constraints.txt '.[score]' brings them all; or "
                "name those you want with --peers"
            )
        peers.append(peer)
    return peers


def tune(peer: Peer, trials: Sequence[Trial]) -> Tuned:
    """Choose a peer's settings on trials: by CRPS where it gives a standard error, by squared error elsewhere."""
    if not trials or (len(peer.settings) == 1 and not getattr(peer, "probabilistic", False)):
        return Tuned(peer, peer.settings[0] if peer.settings else {})
    scored = [(_score(peer, setting, trials), setting) for setting in peer.settings]
    (_, spread), setting = min(scored, key=lambda pair: pair[0][0])
    return Tuned(peer, setting, spread)


def _score(peer: Peer, setting: Mapping[str, Any], trials: Sequence[Trial]) -> tuple[float, float]:
    """Loss of a setting, and the factor that calibrates its standard error."""
    errors, widths = [], []
    for trial in trials:
        guess, where = peer.fill(trial.plane, setting, draws=0, seed=0), trial.plane.wanted
        errors.append((guess.value - trial.truth)[where])
        if guess.standard_error is not None:
            widths.append(guess.standard_error[where])
    error = np.concatenate(errors).astype(np.float64)
    if not widths:
        return float(np.sqrt(np.mean(error**2))), 1.0
    width = np.maximum(np.concatenate(widths).astype(np.float64), 1e-9)
    spread = float(np.quantile(np.abs(error) / width, 0.9)) / Z90
    return crps_gaussian(np.zeros_like(error), spread * width, error), spread
