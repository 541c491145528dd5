"""The diffusion filler: what the network adds to a prior, its standard error, and realisations.

value = mu0 + s0 mu, from one network call and the same for every seed and number of members; standard error =
s0 sigma_r x factor; members = value + s0 x spread x (r_m - mean), r_m from the reverse diffusion of noise that belongs
to the ground. mu0 is the prior's value, s0 the scale of its residual.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from geodiff.diffusion.fields import DATES, Layer, Scene, context, whitening_error
from geodiff.fillers import CODES, Filled, Filler, FillerSettings, Fitted, Patch, SceneSample, Trial
from geodiff.fillers.calibration import (
    THINNING,
    conformal_factors,
    error_ratio,
    far_apart,
    hidden_pixels,
    patch_factors,
    plane_distance,
    strata,
    target_distance,
)
from geodiff.fillers.correlated import PRIOR_PIXELS, band_correlation, ground_white, memory_of, mix_of
from geodiff.fillers.kriging import Kriging
from geodiff.fillers.members import Broad, matched, recentred, starts
from geodiff.fillers.spatial import Laplace, SpatialFiller
from geodiff.noise import noise_in_time
from geodiff.threads import each
from geodiff.undated import has_season

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.diffusion.denoiser import Denoiser

    Planes = NDArray[np.float32]

__all__ = ["Diffusion", "describe"]

MARGIN = 16
"""Pixels around the window that the context is computed from; as in training."""


@dataclass(frozen=True, slots=True)
class _Item:
    """One band of one date of a patch, ready for the network."""

    place: tuple[int, int]
    """Target and band."""
    context: Planes
    wanted: NDArray[np.bool_]
    prior: Planes
    error: Planes


class _Start(NamedTuple):
    """An item and the noise that its members are made from."""

    item: _Item
    noise: Planes
    """(member, row, column), from which the reverse diffusion starts."""
    broad: Broad


class _Estimate(NamedTuple):
    """Mean and standard deviation of an item's whitened residual."""

    item: _Item
    mean: Planes
    spread: Planes


@dataclass(frozen=True)
class Diffusion:
    """The network over a prior."""

    name: ClassVar[str] = "diffusion"
    context_dates: ClassVar[int] = DATES

    settings: FillerSettings = field(default_factory=FillerSettings)
    prior: Filler = field(default_factory=Kriging)

    @classmethod
    def configured(cls, settings: FillerSettings) -> Diffusion:
        """The filler as a job wants it; raises JobError for a sampler that is not on the list."""
        from geodiff.diffusion.sampling import sampler_of

        sampler_of(settings.sampler, settings.steps)
        return cls(settings)

    @property
    def halo(self) -> int:
        return max(self.prior.halo, MARGIN)

    @cached_property
    def denoiser(self) -> Denoiser:
        """The network, loaded once per process."""
        from geodiff.diffusion.denoiser import open_denoiser

        opened = open_denoiser(self.settings.model, device=self.settings.device, dtype=self.settings.dtype)
        return opened if opened.device.type == "cpu" else replace(opened, batch=max(1, self.settings.batch))

    @property
    def planes_at_once(self) -> int:
        """Bands of windows that fill batches, though crops of each size need their own; 0 where there are none."""
        return 4 * self.denoiser.batch if self.denoiser.batch > 1 else 0

    def warm_up(self) -> None:
        """Load the network, which the first patch would wait for."""
        self.denoiser  # noqa: B018

    @property
    def quiet(self) -> Diffusion:
        """The same value and standard error without members."""
        return replace(self, settings=replace(self.settings, members=0))

    def fit(self, sample: SceneSample) -> Fitted:
        """Fit the prior, then learn from the trials: factors on the standard error, and the bands' correlation."""
        return self.fitted_answers(sample)[0]

    def fitted_answers(self, sample: SceneSample) -> tuple[Fitted, list[Filled]]:
        """The fit, and what `fill` would then answer for its trials: the network has seen them by then."""
        prior = self.prior.tuned(sample) if isinstance(self.prior, SpatialFiller) else self.prior.fit(sample)
        stored = self.denoiser.calibration
        facts = {
            "trials": len(sample.trials),
            "model": self.denoiser.sha256,
            "dtype": str(self.denoiser.dtype),
            "device": str(self.denoiser.device),
            "sampler": self.settings.sampler,
            "steps": self.settings.steps,
            "memory": memory_of(sample.trials),
        }
        neutral = conformal_factors(np.empty(0, np.float32), np.empty(0, np.int8), (1.0,) * 5)
        start = Fitted(self.name, facts, {"factors": neutral}, {"prior": prior})
        start = replace(start, arrays={**start.arrays, "scale": self._scale(sample.trials, start)})
        filled = self._fill([t.patch for t in sample.trials], start, seed=0, members=0)
        table = far_apart(sample.trials)
        where = hidden_pixels(sample.trials, [strata(t.patch, table=table) for t in sample.trials]).astype(np.int8)
        arrays = {
            **start.arrays,
            "factors": conformal_factors(error_ratio(sample.trials, filled), where, stored.factors),
        }
        neutral = conformal_factors(np.empty(0, np.float32), np.empty(0, np.int8), stored.factors)
        arrays["neutral"] = np.resize(neutral, arrays["factors"].shape)
        arrays["drawn"] = self._departures(arrays) / arrays["factors"]
        correlation = band_correlation(sample.trials, filled)
        if correlation is not None:
            arrays["band_correlation"] = correlation
        return Fitted(self.name, facts, arrays, {"prior": prior}), _calibrated(sample.trials, filled, arrays["factors"])

    def fill(self, patches: Sequence[Patch], fitted: Fitted, *, seed: int) -> list[Filled]:
        """Estimate each patch; the answer for one does not depend on the others."""
        return self._fill(patches, fitted, seed=seed, members=self.settings.members)

    def _fill(self, patches: Sequence[Patch], fitted: Fitted, *, seed: int, members: int) -> list[Filled]:
        """A few patches at a time, so that a batch of network calls is full and memory is bounded."""
        answer: list[Filled] = []
        for group in _groups(patches, max(self.planes_at_once, 2 * self.settings.batch)):
            own: list[list[_Estimate]] = [[] for _ in group]
            items = ((place, item) for place, patch in enumerate(group) for item in self._items(patch, fitted))
            for place, estimate in self._estimates(items):
                own[place].append(estimate)
            drawn = self._drawn(_starts(group, own, fitted, seed=seed, members=members), members)
            answer += [self._filled(*each, drawn, fitted, members) for each in zip(group, own, strict=True)]
        return answer

    def _estimates(self, items: Iterator[tuple[int, _Item]]) -> list[tuple[int, _Estimate]]:
        """Items are made while the network looks at others, where it looks at one at a time; each keeps its number."""
        if self.denoiser.batch > 1:
            return self._asked(list(items))
        answers = each(lambda one: self._asked([one]), items)
        return [answer for (answer,) in answers]

    def _asked(self, numbered: Sequence[tuple[int, _Item]]) -> list[tuple[int, _Estimate]]:
        """What the network says of items."""
        if not numbered:
            return []
        numbers, items = zip(*numbered, strict=True)
        mean, spread = self.denoiser.value(np.stack([i.context for i in items]), np.stack([i.wanted for i in items]))
        return [(n, _Estimate(*said)) for n, *said in zip(numbers, items, mean, spread, strict=True)]

    def _drawn(self, begun: Iterator[_Start], members: int) -> Iterator[tuple[Planes, Broad]]:
        """Whitened residuals (member, row, column) of each item; members of several items share full batches."""
        together = max(1, self.planes_at_once // max(members, 1))
        while some := list(islice(begun, together)):
            r = self.denoiser.members(
                np.stack([start.item.context for start in some]),
                np.stack([start.item.wanted for start in some]),
                np.stack([start.noise for start in some]),
                sampler=self.settings.sampler,
                steps=self.settings.steps,
            )
            yield from zip(r, (start.broad for start in some), strict=True)

    def _filled(
        self,
        patch: Patch,
        estimates: Sequence[_Estimate],
        drawn: Iterator[tuple[Planes, Broad]],
        fitted: Fitted,
        members: int,
    ) -> Filled:
        """The answer for a patch; what was `drawn` for its items comes next."""
        rows, columns = patch.core
        value = patch.coarse[list(patch.targets)][..., rows, columns].astype(np.float32)
        error = np.zeros_like(value)
        factor = patch_factors(patch, fitted.arrays["factors"])
        for item, mean, spread in estimates:
            value[item.place] = item.prior + item.error * mean
            error[item.place] = item.error * spread * factor[item.place]
        around = self._members(patch, estimates, drawn, value, fitted, members) if members else None
        return Filled(value, error, around, np.full(value.shape, CODES[self.name], np.uint8))

    def _members(
        self,
        patch: Patch,
        estimates: Sequence[_Estimate],
        drawn: Iterator[tuple[Planes, Broad]],
        value: Planes,
        fitted: Fitted,
        members: int,
    ) -> Planes:
        """(member, target, band, row, column)."""
        wide = patch_factors(patch, self._departures(fitted.arrays))
        around = np.repeat(value[None], members, axis=0)
        for item, _, width in estimates:
            r, broad = next(drawn)
            mean = (value[item.place] - item.prior) / item.error
            departures = matched(np.where(item.wanted, r - mean, np.float32(0)), width, item.wanted, broad)
            member = item.prior + item.error * (mean + departures)
            around[(slice(None), *item.place)] = recentred(member, value[item.place], wide[item.place])
        return around

    def _departures(self, arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """(20 or 25,) factor on departures of members: the model's, times what trials ask beyond its factors."""
        stored = np.resize(np.asarray(self.denoiser.calibration.spread, np.float32), arrays["factors"].shape)
        ratio = arrays["factors"] / arrays.get("neutral", arrays["factors"])
        return np.asarray(stored * np.minimum(ratio, 1.5), np.float32)

    def _items(self, patch: Patch, fitted: Fitted) -> Iterator[_Item]:
        """What the network needs for each band of each date that has missing pixels."""
        if not patch.missing.any():
            return
        scale = patch_factors(patch, np.tile(fitted.arrays["scale"], 4))
        for place, prior in self._priors(patch, fitted):
            yield self._item(patch, place, prior, scale)

    def _priors(self, patch: Patch, fitted: Fitted) -> Iterator[tuple[tuple[int, int], Planes]]:
        """Target and band of each plane that is asked for, and its prior with the whole margin."""
        spatial = self.prior if isinstance(self.prior, SpatialFiller) else Laplace()
        own = fitted.parts["prior"]
        values = None if spatial is self.prior else self.prior.fill([patch], own, seed=0)[0].value
        wanted = np.nonzero(patch.missing.any(axis=(2, 3)))
        for target, band in zip(*(i.tolist() for i in wanted), strict=True):
            plane = (patch.targets[target], band)
            full = np.array(spatial.whole(patch, plane, own), np.float32)
            if values is not None:
                full[patch.core] = np.where(patch.known[plane][patch.core], full[patch.core], values[target, band])
            yield (target, band), full

    def _item(self, patch: Patch, place: tuple[int, int], full: Planes, scale: Planes) -> _Item:
        plane = (patch.targets[place[0]], place[1])
        near, inner = _around(patch), np.s_[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
        values, known = patch.values[plane][near], patch.known[plane][near]
        target = Layer(values, known, plane_distance(patch, plane)[near])
        error = whitening_error(target)
        error[inner] = error[inner] * scale[place]
        asked = ~known & patch.fillable[plane][near]
        scene = Scene(
            target,
            asked,
            full[near],
            error,
            _dates(patch, plane, near),
            _guide(patch, plane, near),
            day=_day(patch, plane[0]),
        )
        return _Item(place, context(scene)[inner], asked[inner], full[patch.core], error[inner])

    def _scale(self, trials: Sequence[Trial], fitted: Fitted) -> NDArray[np.float32]:
        """(5,) by distance: the prior's error over s0; 1 for spatial ones, as the network was trained."""
        if isinstance(self.prior, SpatialFiller) or not trials:
            return np.ones(5, np.float32)
        squares, counts = np.zeros(5), np.zeros(5)
        for trial in trials:
            classes = strata(trial.patch) % 5
            for item in self._items(trial.patch, fitted):
                seen = trial.hidden[item.place]
                r = ((trial.truth[item.place] - item.prior) / item.error)[seen]
                squares += np.bincount(classes[item.place][seen], r.astype(np.float64) ** 2, 5)[:5]
                counts += np.bincount(classes[item.place][seen], minlength=5)[:5]
        weight = counts / THINNING
        return np.sqrt((squares / THINNING + PRIOR_PIXELS) / (weight + PRIOR_PIXELS)).clip(0.1, 3).astype(np.float32)


def _calibrated(trials: Sequence[Trial], filled: Sequence[Filled], factors: NDArray[np.float32]) -> list[Filled]:
    """Answers for trials with factors on their standard errors, which had none."""
    answers = []
    for trial, one in zip(trials, filled, strict=True):
        answers.append(replace(one, standard_error=one.standard_error * patch_factors(trial.patch, factors)))
    return answers


def _starts(
    group: Sequence[Patch], estimates: Sequence[Sequence[_Estimate]], fitted: Fitted, *, seed: int, members: int
) -> Iterator[_Start]:
    """What the members of each item of some patches are made from."""
    mix, memory = mix_of(fitted), float(fitted.facts.get("memory", 0.0))
    noise, at = cache(noise_in_time), None  # of one window: each band's is a sum over that of those before it
    for patch, own in zip(group, estimates, strict=True) if members else ():
        near = target_distance(patch)[..., *patch.core]
        if patch.absolute != at:
            noise.cache_clear()
        at = patch.absolute
        for item, _, _ in own:
            white = ground_white(patch, item.place, seed=seed, mix=mix, memory=memory, noise=noise)
            yield _Start(item, starts(white, members), Broad.of(white, members, near[item.place]))


def _groups(patches: Sequence[Patch], size: int) -> Iterator[list[Patch]]:
    """Runs of patches with about `size` planes to estimate."""
    group, count = [], 0
    for patch in patches:
        group.append(patch)
        count += int(patch.missing.any(axis=(2, 3)).sum())
        if count >= size:
            yield group
            group, count = [], 0
    if group:
        yield group


def _around(patch: Patch) -> tuple[slice, slice]:
    """The window with `MARGIN` pixels on each side."""
    start = patch.halo - MARGIN
    return slice(start, patch.halo + patch.window.height + MARGIN), slice(
        start, patch.halo + patch.window.width + MARGIN
    )


def _dates(patch: Patch, plane: tuple[int, int], near: tuple[slice, slice]) -> list[Layer]:
    """The nearest other dates of the band that show a fifth of this place."""
    date, band = plane
    away = np.abs(patch.dates - patch.dates[date])
    layers: list[Layer] = []
    for other in np.argsort(away, kind="stable"):
        known = patch.known[other, band][near]
        if other != date and known.mean() > 0.2:
            layers.append(Layer(patch.values[other, band][near], known))
        if len(layers) == DATES:
            break
    return layers


def _guide(patch: Patch, plane: tuple[int, int], near: tuple[slice, slice]) -> Layer | None:
    """The band of the same date that is known in most of the gap and goes with this one best; None where none is."""
    date, band = plane
    known, missing = patch.known[plane][near], ~patch.known[plane][near] & patch.fillable[plane][near]
    best, most = None, 0.3
    for other in range(patch.values.shape[1]):
        seen = patch.known[date, other][near]
        if other == band or (seen & missing).sum() < 0.5 * missing.sum():
            continue
        both = known & seen
        strength = _correlation(patch.values[plane][near][both], patch.values[date, other][near][both])
        if strength > most:
            best, most = Layer(patch.values[date, other][near], seen), strength
    return best


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """|Pearson correlation|, 0 where it is not defined."""
    if a.size < 30 or not a.std() or not b.std():
        return 0.0
    return abs(float(np.corrcoef(a, b)[0, 1]))


def _day(patch: Patch, date: int) -> float | None:
    """Day of the year of a date; None where the source has none."""
    seconds = int(patch.dates[date])
    return (seconds / 86400.0) % 365.25 if has_season(seconds) else None


def describe(model: str, device: str = "auto", dtype: str = "auto") -> dict[str, str]:
    """Name, weight hash, device and dtype of the network that these choices run; nothing is loaded."""
    from geodiff.diffusion.device import dtype_of, pick_device
    from geodiff.diffusion.folder import find_folder, model_hash

    where = pick_device(device)
    precision = str(dtype_of(dtype, where)).removeprefix("torch.")
    return {"model": model, "model_hash": model_hash(find_folder(model)), "device": str(where), "dtype": precision}
