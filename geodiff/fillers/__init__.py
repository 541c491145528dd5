"""The one Protocol where users plug in, the types it speaks, and the register of names.

A filler is a class with `name`, `halo`, `fit` and `fill`. It sees patches: arrays with a margin around one lattice
window, in normalised units, finite everywhere. It knows nothing of files, CRS or Dask. `fill` may depend on nothing
but its patches, what `fit` returned and the seed; that is what makes a product the same for any block size.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from geodiff.codes import CODES, OBSERVED, OUTSIDE, UNFILLED
from geodiff.errors import JobError
from geodiff.lattice import Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "CODES",
    "OBSERVED",
    "OUTSIDE",
    "UNFILLED",
    "Filled",
    "Filler",
    "FillerSettings",
    "Fitted",
    "Patch",
    "SceneSample",
    "Trial",
    "filler_identity",
    "filler_names",
    "load_filler",
    "source_codes",
]

_T = TypeVar("_T")

_BUILT_IN: Mapping[str, str] = {
    "nearest": "geodiff.fillers.spatial:Nearest",
    "idw": "geodiff.fillers.spatial:InverseDistance",
    "laplace": "geodiff.fillers.spatial:Laplace",
    "matern": "geodiff.fillers.spatial:Matern",
    "biharmonic": "geodiff.fillers.spatial:Biharmonic",
    "kriging": "geodiff.fillers.kriging:Kriging",
    "nonlocal": "geodiff.fillers.likeness:NonLocal",
    "linear-time": "geodiff.fillers.temporal:LinearTime",
    "harmonic": "geodiff.fillers.temporal:Harmonic",
    "whittaker": "geodiff.fillers.temporal:Whittaker",
    "spacetime": "geodiff.fillers.temporal:SpaceTime",
    "regression": "geodiff.fillers.temporal:Regression",
    "climatology": "geodiff.fillers.temporal:Climatology",
    "dineof": "geodiff.fillers.eof:Dineof",
    "diffusion": "geodiff.fillers.diffusion:Diffusion",
    "auto": "geodiff.fillers.stacked:Auto",
}


@dataclass(frozen=True, slots=True)
class Patch:
    """One lattice window with its margin: all a filler may look at."""

    values: NDArray[np.float32]
    """(date, band, row, column), normalised (zero centre, unit scale per band), finite; 0 where not known."""
    known: NDArray[np.bool_]
    """Same shape: True where observed and trusted."""
    fillable: NDArray[np.bool_]
    """Same shape: True where an estimate is allowed (land, collar and swath outside are not)."""
    coarse: NDArray[np.float32]
    """Same shape: the scene's low-resolution fill (push-pull over the whole scene) sampled here on the dates to
    estimate, 0 on the others; finite everywhere."""
    window: Window
    """The lattice window, 128 x 128; the arrays cover `window.expand(halo)`, mirrored beyond the raster."""
    halo: int
    """Pixels of margin on each side."""
    absolute: tuple[int, int]
    """Absolute row and column of the window's first pixel: the key of the ground noise."""
    dates: NDArray[np.int64]
    """(date,) seconds since 1970; `ordinals` of a stack that has no dates, 0 where one lacks."""
    targets: tuple[int, ...] = (0,)
    """Indices into `dates` of those to estimate; the others are context."""
    inside: tuple[slice, slice] = (slice(None), slice(None))
    """Rows and columns of the window that lie in the raster: nobody asks for what is mirrored beyond."""
    real: tuple[slice, slice] = (slice(None), slice(None))
    """Rows and columns of the arrays, margin and all, that lie in the raster: what is beyond repeats what is known."""
    first_band: int = 0
    """Which of the scene's bands the first one here is: the others follow it. With `absolute` it keys the noise."""
    _kept: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def once(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """What `make` returns, worked out once for this patch: fillers of a stack share what is dear."""
        if key not in self._kept:
            made = self._kept[key] = make()
            if isinstance(made, np.ndarray):
                made.setflags(write=False)  # it is everybody's
        kept: _T = self._kept[key]
        return kept

    @property
    def core(self) -> tuple[slice, slice]:
        """Slices that cut the window out of the padded arrays."""
        inner = slice(self.halo, self.halo + self.window.height)
        return inner, slice(self.halo, self.halo + self.window.width)

    @property
    def missing(self) -> NDArray[np.bool_]:
        """(target, band, row, column) of the window alone: True where an estimate is wanted; nobody writes to it."""
        return self.once(("missing",), self._missing)

    def _missing(self) -> NDArray[np.bool_]:
        (rows, columns), targets = self.core, list(self.targets)
        known, fillable = self.known[:, :, rows, columns][targets], self.fillable[:, :, rows, columns][targets]
        missing = np.zeros_like(known)
        missing[..., *self.inside] = (~known & fillable)[..., *self.inside]
        return missing


@dataclass(frozen=True, slots=True)
class Filled:
    """What a filler says about one patch; arrays cover the window without its margin."""

    value: NDArray[np.float32]
    """(target, band, row, column), normalised; meaningful where missing, anything elsewhere."""
    standard_error: NDArray[np.float32]
    """Same shape, normalised: value +- 1.645 of it should hold 90 % of the truth."""
    members: NDArray[np.float32] | None
    """(member, target, band, row, column): equally likely realisations, or None."""
    source: NDArray[np.uint8]
    """(target, band, row, column): code of the filler that gave (most of) the value."""


@dataclass(frozen=True)
class Fitted:
    """What a fit learnt; stored beside the product and reused by blocks, workers, restarts and appended dates."""

    filler: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Small things, ready for JSON."""
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    parts: Mapping[str, Fitted] = field(default_factory=dict)
    """Fits of wrapped fillers, by name."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A patch in which known pixels were hidden, with what they really were."""

    patch: Patch
    """`known` and `coarse` are as if the hidden pixels had never been seen."""
    truth: NDArray[np.float32]
    """(target, band, row, column) of the window, normalised; meaningful where hidden."""
    hidden: NDArray[np.bool_]
    """Same shape: True at the pixels to score."""
    lasting: bool = False
    """The dates around were hidden with it, and what is scored is far from any that shows it."""
    worth: int = 1
    """How many pixels of a blob one hidden pixel tells as much as: errors of those strewn about do not go together."""


@dataclass(frozen=True, slots=True)
class SceneSample:
    """A bounded, deterministic sample of the scene with hidden pixels; empty where the scene can spare none."""

    trials: tuple[Trial, ...] = ()
    bands: int = 1
    seen: tuple[bool, ...] = ()
    """One a date of the scene: whether anything of it is known; empty where nobody says."""


@runtime_checkable
class Filler(Protocol):
    """Estimates the unknown pixels of patches; knows nothing of files, CRS or Dask."""

    @property
    def name(self) -> str:
        """What `--filler` calls it."""
        ...

    @property
    def halo(self) -> int:
        """Pixels of context it needs around a window."""
        ...

    def fit(self, sample: SceneSample) -> Fitted:
        """Learn, once per scene, what must see the whole."""
        ...

    def fill(self, patches: Sequence[Patch], fitted: Fitted, *, seed: int) -> list[Filled]:
        """Estimate each patch; the answer for one patch does not depend on the others in the call."""
        ...


@dataclass(frozen=True, slots=True)
class FillerSettings:
    """The choices of a job that a filler may need."""

    model: str = "default"
    members: int = 0
    steps: int = 10
    sampler: str = "edm-dpm2m"
    device: str = "auto"
    dtype: str = "auto"
    batch: int = 8
    """Windows x bands per network call; has no influence on the result."""


@cache
def _registered() -> dict[str, Any]:
    """Third parties' fillers, by entry-point name."""
    return {point.name: point for point in entry_points(group="geodiff.fillers")}


def filler_names() -> list[str]:
    """Every name `--filler` accepts: built-in ones in the order of their codes, then registered ones."""
    return [*sorted(_BUILT_IN, key=CODES.__getitem__), *sorted(set(_registered()) - set(_BUILT_IN))]


def source_codes() -> dict[str, int]:
    """Codes of the source layer, by filler name."""
    extra = sorted(set(_registered()) - set(_BUILT_IN))
    return {**CODES, **{name: 100 + i for i, name in enumerate(extra)}}


def filler_identity(name: str) -> str:
    """Package, version and code of a third party's filler; nothing for a built-in one, which is geodiff's version."""
    if name in _BUILT_IN or name not in _registered():
        return ""
    package = getattr(_registered()[name], "dist", None)
    told = f"{package.name} {package.version}" if package is not None else ""
    return f"{told} {source_codes()[name]}"


def load_filler(name: str, settings: FillerSettings | None = None) -> Filler:
    """Build the filler of that name; a class with a `configured(settings)` constructor is given the settings.

    Those of third parties say how far they may be off in numbers of their own, so they are calibrated. Raises JobError
    for an unknown name, and for a third party's that cannot be imported.
    """
    if name in _BUILT_IN:
        module, _, cls_name = _BUILT_IN[name].partition(":")
        return _built(getattr(import_module(module), cls_name), settings)
    if name not in _registered():
        raise JobError(f"no filler is called {name!r}; choose one of {', '.join(filler_names())}")
    from geodiff.fillers.calibration import Calibrated

    try:
        cls = _registered()[name].load()
    except (ImportError, AttributeError) as reason:
        raise JobError(f"filler {name!r} cannot be imported ({reason}); install its package again") from reason
    return Calibrated(_built(cls, settings), settings.members if settings is not None else 0)


def _built(cls: Any, settings: FillerSettings | None) -> Filler:
    configured = getattr(cls, "configured", None)
    filler: Filler = configured(settings or FillerSettings()) if configured else cls()
    return filler
