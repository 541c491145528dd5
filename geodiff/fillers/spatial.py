"""Fillers that see one date and one band at a time: nearest, inverse distance, harmonic, biharmonic, Matern field."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from geodiff.fillers import CODES, Filled, Fitted, Patch, SceneSample, Trial
from geodiff.fillers.calibration import (
    conformal_factors,
    hidden_errors,
    hidden_pixels,
    patch_factors,
    strata,
    target_distance,
)
from geodiff.fillers.gmrf import MaternField, domain, krige
from geodiff.fillers.relaxation import relaxed_fill
from geodiff.fillers.whitening import FARTHEST, FLOOR, around, expected_error, local_spread, mirrored

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    Plane = NDArray[np.float32]

__all__ = [
    "Biharmonic",
    "InverseDistance",
    "Laplace",
    "Matern",
    "Nearest",
    "SpatialFiller",
    "relaxed_fill",
    "window_error",
]

HALO = 32
_FEWEST = 50
"""Known pixels below which a plane is not to be trusted."""
_ONE_AT_A_TIME = Lock()
"""rasterio silences one of its own warnings during a fill, for the whole process: of two threads one would hear it."""


class SpatialFiller(ABC):
    """What the spatial fillers share: every target date and band is a plane of its own; no members.

    The standard error is the expected error of `geodiff.fillers.whitening` times factors by distance to data, learnt
    from the trials. Where a plane of the patch has nothing known, the value is the scene's coarse fill.
    """

    name: str
    halo: int = HALO
    fixed: ClassVar[bool] = True
    """Whether values do not depend on the fit, so that a stack need not refit this part to cross-validate it."""
    defaults: ClassVar[tuple[float, ...]] = (1.0,) * 5
    """Factors on the expected error by distance class where a scene has too few trials; measured on other scenes."""

    @abstractmethod
    def plane(self, values: Plane, known: NDArray[np.bool_], coarse: Plane, fitted: Fitted) -> Plane:
        """Fill one plane (row, column), with margin; something, not everything, is known in it."""

    def fit(self, sample: SceneSample) -> Fitted:
        """Learn from the trials: what `estimate` needs, then the factors of the standard error."""
        return self.calibrated(sample, self.tuned(sample))

    def tuned(self, sample: SceneSample) -> Fitted:  # noqa: ARG002 (most have nothing to learn)
        """What `estimate` needs, without the factors: enough for a stack, which calibrates the whole."""
        return Fitted(self.name)

    def fill(self, patches: Sequence[Patch], fitted: Fitted, *, seed: int) -> list[Filled]:  # noqa: ARG002 (no chance)
        """Estimate each patch by itself."""
        return [self._fill(patch, fitted) for patch in patches]

    def estimate(self, patch: Patch, fitted: Fitted) -> NDArray[np.float32]:
        """(target, band, row, column) of the window: values alone, for those that bring their own errors."""
        targets = list(patch.targets)
        value = np.empty(patch.missing.shape, np.float32)
        for place, wanted in np.ndenumerate(patch.missing.any(axis=(2, 3))):
            plane = (targets[place[0]], place[1])
            filled = self.whole(patch, plane, fitted) if wanted else patch.coarse[plane]
            value[place] = filled[patch.core]
        return value

    def whole(self, patch: Patch, plane: tuple[int, int], fitted: Fitted) -> Plane:
        """A date's band with its margin, (row, column), nothing missing; the coarse fill where nothing is known."""
        known, coarse = patch.known[plane], patch.coarse[plane]
        return self.plane(patch.values[plane], known, coarse, fitted) if known.any() else coarse

    def estimate_hidden(self, trial: Trial, fitted: Fitted) -> NDArray[np.float32]:
        """As `estimate`, for the hidden pixels of a trial; what stands elsewhere is not to be used."""
        return self.estimate(trial.patch, fitted)

    def calibrated(self, sample: SceneSample, fitted: Fitted) -> Fitted:
        """The fit with the factors that the trials ask for."""
        trials, errors, claimed, classes = sample.trials, [], [], []
        for trial in trials:
            value, error = self._both(trial.patch, fitted)
            errors.append(value - trial.truth)
            claimed.append(error)
            classes.append(strata(trial.patch))
        ratio = hidden_errors(trials, errors) / hidden_pixels(trials, claimed)
        stratum = hidden_pixels(trials, classes).astype(np.int8)
        factors = conformal_factors(ratio, stratum, self.defaults)
        arrays: Mapping[str, NDArray[Any]] = {**fitted.arrays, "factors": factors}
        return Fitted(self.name, {**fitted.facts, "trials": len(trials)}, arrays)

    def source(self, patch: Patch, fitted: Fitted) -> NDArray[np.uint8]:  # noqa: ARG002 (whatever was learnt)
        """(target, band, row, column) of the window: whose values they are."""
        return np.full(patch.missing.shape, CODES[self.name], np.uint8)

    def _both(self, patch: Patch, fitted: Fitted) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Values of the window and their standard errors before calibration."""
        return self.estimate(patch, fitted), window_error(patch)

    def _fill(self, patch: Patch, fitted: Fitted) -> Filled:
        value, error = self._both(patch, fitted)
        return Filled(value, error * patch_factors(patch, fitted.arrays["factors"]), None, self.source(patch, fitted))


def window_error(patch: Patch) -> NDArray[np.float32]:
    """(target, band, row, column) of the window: the expected error before any calibration."""
    targets = list(patch.targets)
    values, known = patch.values[targets], patch.known[targets]
    planes = (-1, *values.shape[2:])
    distance = target_distance(patch).reshape(planes)
    error = expected_error(values.reshape(planes), known.reshape(planes), distance=distance, copies=mirrored(patch))
    cut: NDArray[np.float32] = error.reshape(values.shape)[..., *patch.core]
    return cut


def window_spread(patch: Patch) -> NDArray[np.float32]:
    """(target, band, row, column) of the window: standard deviation of the known pixels nearby."""
    targets = list(patch.targets)
    values, known = patch.values[targets], patch.known[targets]
    planes = (-1, *values.shape[2:])
    spread = local_spread(values.reshape(planes), known.reshape(planes), mirrored(patch)).reshape(values.shape)
    cut: NDArray[np.float32] = spread[..., *patch.core]
    return cut


class Nearest(SpatialFiller):
    """The value of the nearest known pixel."""

    name = "nearest"
    defaults = (1.23, 1.50, 1.64, 1.78, 2.16)

    def plane(self, values: Plane, known: NDArray[np.bool_], coarse: Plane, fitted: Fitted) -> Plane:  # noqa: ARG002
        """Copy from the nearest known pixel, ties as scipy's distance transform breaks them."""
        from scipy.ndimage import distance_transform_edt

        rows, columns = distance_transform_edt(~known, return_distances=False, return_indices=True)
        copied: Plane = values[rows, columns]
        return copied


class InverseDistance(SpatialFiller):
    """GDAL's fillnodata: inverse-distance weights of the nearest known pixels in four quadrants."""

    name = "idw"
    defaults = (1.10, 1.28, 1.36, 1.43, 1.51)

    def plane(self, values: Plane, known: NDArray[np.bool_], coarse: Plane, fitted: Fitted) -> Plane:  # noqa: ARG002
        """Fill the plane; where the search finds nothing, the coarse fill stays."""
        from rasterio.fill import fillnodata

        image = np.where(known, values, coarse)
        with _ONE_AT_A_TIME:
            filled: Plane = fillnodata(image, mask=known.astype(np.uint8), max_search_distance=FARTHEST)
        return filled


class Laplace(SpatialFiller):
    """The harmonic fill: the smoothest surface through the known pixels around a gap."""

    name = "laplace"
    defaults = (1.09, 1.25, 1.34, 1.38, 1.35)

    def whole(self, patch: Patch, plane: tuple[int, int], fitted: Fitted) -> Plane:
        """As the base says; kriging and the network begin with it."""
        made: Plane = patch.once((self.name, *plane), lambda: super(Laplace, self).whole(patch, plane, fitted))
        return made

    def plane(self, values: Plane, known: NDArray[np.bool_], coarse: Plane, fitted: Fitted) -> Plane:  # noqa: ARG002
        """Relax in the box around the gaps: what lies outside has no influence on a harmonic function."""
        box = around(~known)
        if box is None:
            return values
        filled = values.copy()
        filled[box] = relaxed_fill(values[box][None], known[box][None], coarse[box][None])[0]
        return filled


class Biharmonic(SpatialFiller):
    """The biharmonic fill: the surface of least bending through the known pixels, within their range.

    It follows slopes into a gap, so it suits smooth fields. scikit-image's `inpaint_biharmonic` solves the same
    equations, in one and a half to five times the time.
    """

    name = "biharmonic"
    defaults = (0.99, 1.32, 1.46, 1.65, 1.61)
    reach: ClassVar[int] = 16
    """Pixels around the hidden ones of a trial beyond which other gaps are filled harmonically, for their estimate."""

    def estimate_hidden(self, trial: Trial, fitted: Fitted) -> NDArray[np.float32]:
        """A direct solve near the hidden pixels only: a trial hides little beside large gaps."""
        patch = trial.patch
        values, known = patch.values.copy(), patch.known.copy()
        for (place, band), hidden in _planes(trial.hidden):
            plane = (patch.targets[place], band)
            if known[plane].any():
                far = ~known[plane] & ~_near(patch, hidden, self.reach)
                harmonic = Laplace().plane(values[plane], known[plane], patch.coarse[plane], fitted)
                values[plane], known[plane] = np.where(far, harmonic, values[plane]), known[plane] | far
        return self.estimate(replace(patch, values=values, known=known), fitted)

    def plane(self, values: Plane, known: NDArray[np.bool_], coarse: Plane, fitted: Fitted) -> Plane:
        """Where too little is known for one answer, the harmonic fill."""
        if known.all():
            return values
        solved = _least_bent(values.astype(np.float64), known)
        if not np.isfinite(solved).all():
            return Laplace().plane(values, known, coarse, fitted)
        return np.where(known, values, solved).astype(np.float32)


class Matern(SpatialFiller):
    """Kriging with a Markov field of Matern covariance about a plane; the hyper-parameters are chosen on the trials.

    The shape of its standard error is the kriging deviation, so it knows the shape of a gap, not only its depth.
    """

    name = "matern"
    defaults = (1.69, 2.04, 2.13, 2.12, 2.04)
    fixed = False
    chosen_once: ClassVar[bool] = True
    """A stack does not choose anew for each half of its trials: what one trial adds to a choice among four is little,
    and the choice is most of a fit's time."""
    grid: ClassVar[tuple[MaternField, ...]] = (
        MaternField(2, 0.05, 0.05),
        MaternField(2, 0.02, 0.02),
        MaternField(2, 0.01, 0.01),
        MaternField(1, 0.002, 0.02),
    )
    """Candidates; the first one where there are no trials."""
    margin: ClassVar[int] = 16
    """Pixels around the window that it looks at; twice as many change nothing but the time."""
    most_trials: ClassVar[int] = 6
    """Trials that choose among the candidates: each costs a sparse solve per candidate and band."""
    reach: ClassVar[int] = 16
    """Pixels around the hidden ones of a trial that take part in their estimate: a trial hides little beside large
    gaps, and what lies farther off moves its error by less than a thousandth."""

    def plane(self, values: Plane, known: NDArray[np.bool_], coarse: Plane, fitted: Fitted) -> Plane:  # noqa: ARG002
        """One plane, all of it wanted."""
        trend = _trend(values[None], known, known)
        filled = krige(values[None] - trend, known, np.ones_like(known), _field(fitted)).mean + trend
        return np.asarray(filled[0], np.float32)

    def tuned(self, sample: SceneSample) -> Fitted:
        """Choose the candidate of least squared error on the trials."""
        trials = sample.trials[:: max(1, -(-len(sample.trials) // self.most_trials))]
        choices = [Fitted(self.name, asdict(candidate)) for candidate in self.grid]
        losses = [_squared_error(self, trials, choice) for choice in choices]
        return choices[int(np.argmin(losses))]

    def estimate(self, patch: Patch, fitted: Fitted) -> NDArray[np.float32]:
        """Values of the window; planes with the same gaps share one factorisation."""
        return self._kriged(_narrowed(patch, self.margin), fitted, deviation=False)[0]

    def estimate_hidden(self, trial: Trial, fitted: Fitted) -> NDArray[np.float32]:
        """Of the domain no more than what is near the hidden pixels: a sparse solve grows faster than its size."""
        return self._kriged(_narrowed(trial.patch, self.margin), fitted, deviation=False, hidden=trial.hidden)[0]

    def _both(self, patch: Patch, fitted: Fitted) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Values, and errors before calibration: where nothing is known those of `window_error`."""
        value, deviation = self._kriged(_narrowed(patch, self.margin), fitted, deviation=True)
        nugget = _field(fitted).nugget
        share = np.sqrt((deviation**2 + nugget) / (1.0 + nugget)).astype(np.float32)
        error = np.maximum(window_spread(patch) * share, FLOOR)
        return value, np.where(np.isnan(deviation), window_error(patch), error).astype(np.float32)

    def _kriged(
        self, patch: Patch, fitted: Fitted, *, deviation: bool, hidden: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Values, and kriging deviations: NaN where not asked for or nothing is known nearby.

        With `hidden` pixels (target, band, row, column), values are worked out around those alone.
        """
        wanted, reach = (patch.missing, None) if hidden is None else (hidden, self.reach)
        value = patch.coarse[list(patch.targets)][..., *patch.core].copy()
        spread = np.full(value.shape, np.nan)
        origin = (patch.absolute[0] - patch.halo, patch.absolute[1] - patch.halo)
        for date, target in enumerate(patch.targets):
            for bands in _alike(patch.known[target], wanted[date]):
                known, values = patch.known[target, bands[0]], patch.values[target, bands]
                sought = np.asarray(wanted[date, bands].any(axis=0))
                inside = _domain(patch, known, sought, reach)
                if known[inside].any():
                    trend = _trend(values, known, inside if reach is None else _domain(patch, known, sought, None))
                    kriged = krige(values - trend, known, inside, _field(fitted))
                    value[date, bands] = (kriged.mean + trend)[:, *patch.core]
                    if deviation:
                        spread[date, bands] = kriged.deviation(origin)[patch.core]
        return value, spread


def _narrowed(patch: Patch, margin: int) -> Patch:
    """The same window with at most that margin."""
    off = max(0, patch.halo - margin)
    if not off:
        return patch
    inner = np.s_[..., off:-off, off:-off]
    arrays = {name: getattr(patch, name)[inner] for name in ("values", "known", "fillable", "coarse")}
    return replace(patch, halo=margin, **arrays)


def _domain(
    patch: Patch, known: NDArray[np.bool_], wanted: NDArray[np.bool_], reach: int | None
) -> NDArray[np.bool_]:
    """The domain (row, column) of a patch's plane with its margin; `wanted` (row, column) is of the window."""
    whole = np.zeros_like(known)
    whole[patch.core] = wanted
    return domain(~known, whole, reach)


def _planes(hidden: NDArray[np.bool_]) -> Iterator[tuple[tuple[int, int], NDArray[np.bool_]]]:
    """The planes (row, column) of a trial in which something is hidden, by target and band."""
    for target, band in np.argwhere(hidden.any(axis=(2, 3))).tolist():
        yield (target, band), hidden[target, band]


def _near(patch: Patch, hidden: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """What lies within `reach` rows and columns of the window's hidden pixels, (row, column) with the margin."""
    from scipy.ndimage import maximum_filter

    whole = np.zeros(patch.known.shape[2:], bool)
    whole[patch.core] = hidden
    near: NDArray[np.bool_] = maximum_filter(whole, size=2 * reach + 1, mode="constant", cval=False)
    return near


def _least_bent(values: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """A plane (row, column), its Laplacian's Laplacian 0 where not known; NaN there where that has no one answer."""
    from scipy.sparse.linalg import splu

    missing, level = np.flatnonzero(~known), values[known].mean()
    operator = _squared_laplacian(*known.shape)[missing]
    right = -(operator @ np.where(known, values - level, 0.0).ravel())
    filled = values.copy()
    try:
        system = splu(operator[:, missing].tocsc(), "MMD_AT_PLUS_A", 0.0, options={"SymmetricMode": True})
        filled[~known] = np.clip(system.solve(right) + level, values[known].min(), values[known].max())
    except RuntimeError:  # exactly singular
        filled[~known] = np.nan
    return filled


@lru_cache(maxsize=4)
def _squared_laplacian(rows: int, columns: int) -> csr_matrix:
    """(pixel, pixel), no flow across the edge."""
    from scipy.sparse import csr_matrix, diags, kronsum

    def line(count: int) -> Any:
        middle = np.full(count, -2.0)
        middle[[0, -1]] += 1.0
        return diags([np.ones(count - 1), middle, np.ones(count - 1)], [-1, 0, 1])

    laplacian = csr_matrix(kronsum(line(columns), line(rows)))
    return laplacian @ laplacian


def _field(fitted: Fitted) -> MaternField:
    facts = fitted.facts
    return MaternField(int(facts["alpha"]), float(facts["kappa2"]), float(facts["nugget"]))


def _squared_error(filler: SpatialFiller, trials: Sequence[Trial], fitted: Fitted) -> float:
    """Sum over the hidden pixels of the trials."""
    errors = [((filler.estimate_hidden(t, fitted) - t.truth)[t.hidden]).astype(np.float64) for t in trials]
    return sum(float(np.dot(e, e)) for e in errors)


def _alike(known: NDArray[np.bool_], missing: NDArray[np.bool_]) -> Iterator[list[int]]:
    """Bands of one date that have something to fill, in groups of the same gaps."""
    groups: dict[bytes, list[int]] = {}
    for band in np.flatnonzero(missing.any(axis=(1, 2))):
        groups.setdefault(np.packbits(known[band]).tobytes(), []).append(int(band))
    yield from groups.values()


def _trend(values: Plane, known: NDArray[np.bool_], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Least-squares plane (plane, row, column) through the known pixels of the domain; flat where they are too few."""
    rows, columns = np.mgrid[-1.0 : 1.0 : known.shape[0] * 1j, -1.0 : 1.0 : known.shape[1] * 1j]
    used = known & inside
    terms = [np.ones(known.shape), rows, columns] if np.count_nonzero(used) >= _FEWEST else [np.ones(known.shape)]
    design = np.stack(terms, axis=-1)
    trend = [design @ np.linalg.lstsq(design[used], plane[used].astype(np.float64), rcond=None)[0] for plane in values]
    return np.stack(trend)
