"""Where known pixels are hidden, and the cube as it looks when they are.

Gaps are the scene's own, moved to other places, or drawn where it has none. Everything follows from the seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.gaps import Reason
from geodiff.gapshapes import SHAPES, draw, transplant
from geodiff.lattice import STRIDE, WINDOW, Lattice, Window
from geodiff.scan import GapReader, Scan, scan_cube
from geodiff.scene import Cube

if TYPE_CHECKING:
    from numpy.typing import NDArray

Drawer = Callable[[tuple[int, int], np.random.Generator], tuple[str, "NDArray[np.bool_]"]]
"""From a size to a gap and the name of its shape."""

__all__ = ["SIDE", "Case", "Drawer", "Part", "Round", "bounded", "hide", "plan_rounds", "scan_part", "signature"]

SIDE = 160
"""Rows and columns of a case: four lattice windows cover it, and its middle can be 80 pixels from data."""
_PITCH = 2 * STRIDE
_LEAST_SIDE, _LEAST_HIDDEN, _LEAST_SHARE, _MOST_SHARE = 40, 40, 0.005, 0.9
_TRIES = 60
_SHARES = (0.45, 0.15, 0.1, 0.15, 0.15)
"""Of clouds, wedges, swath edges, dead lines and dead blocks."""
MOST_VALUES, MOST_SIDE = 24_000_000, 2048
"""Larger scenes are scored on a part of them."""


@dataclass(frozen=True, slots=True)
class Case:
    """Known pixels hidden at one place of one date, all bands together, as gaps mostly are."""

    date: int
    window: Window
    """Inside the part."""
    shape: str
    """`own` for a gap of the scene, or the name of the drawn shape."""
    hidden: NDArray[np.bool_]
    """(row, column) of the window; includes pixels that are missing in some band."""


@dataclass(frozen=True)
class Part(Cube):
    """A cube cut to an area, with pixels hidden by date; every window is relative to the area."""

    whole: Cube = field(kw_only=True)
    area: Window = field(kw_only=True)
    hidden: Mapping[int, NDArray[np.bool_]] = field(kw_only=True, default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        return self.area.shape

    @property
    def lattice(self) -> Lattice:
        row, column = self.whole.lattice.origin
        return Lattice(self.shape, (row + self.area.row, column + self.area.column))

    def read(self, date: int, window: Window) -> NDArray[Any]:
        return self.whole.read(date, _moved(window, self.area))

    def reason(self, date: int, window: Window, stored: NDArray[Any] | None = None) -> NDArray[np.uint16]:
        reason = np.array(self.whole.reason(date, _moved(window, self.area), stored))
        if date in self.hidden:
            reason[:, self.hidden[date][window.slices]] |= np.uint16(Reason.USER_MASK)
        return reason


def _moved(window: Window, area: Window) -> Window:
    return Window(window.row + area.row, window.column + area.column, window.height, window.width)


def bounded(cube: Cube) -> Part:
    """The cube, or of a large one the square that shows most of nine candidates."""
    planes = len(cube.variable.dates) * len(cube.bands)
    side = max(2 * SIDE, min(MOST_SIDE, int((MOST_VALUES / planes) ** 0.5)))
    rows, columns = (min(n, side) for n in cube.shape)
    corners = [
        (_third(cube.shape[0] - rows, i), _third(cube.shape[1] - columns, j)) for i in (1, 0, 2) for j in (1, 0, 2)
    ]
    areas = [Window(r, c, rows, columns) for r, c in dict.fromkeys(corners)]
    best = areas[0] if len(areas) == 1 else max(areas, key=lambda area: _known_share(cube, area))
    inner = cube.rules.fillable
    rules = cube.rules if inner is None else replace(cube.rules, fillable=lambda w: inner(_moved(w, best)))
    return Part(cube.variable, cube.bands, cube.targets, rules, cube.transform, whole=cube, area=best)


def _third(room: int, index: int) -> int:
    return room * index // 2


def _known_share(cube: Cube, area: Window) -> float:
    """Of the middle date, at the area's middle and corners; more than 95 % counts no more."""
    date, size = len(cube.variable.dates) // 2, min(64, *area.shape)
    spots = [
        Window(area.row + _third(area.height - size, i), area.column + _third(area.width - size, j), size, size)
        for i, j in ((0, 0), (0, 2), (1, 1), (2, 0), (2, 2))
    ]
    return min(0.95, float(np.mean([(cube.reason(date, spot) == 0).mean() for spot in spots])))


def scan_part(part: Part) -> tuple[Scan, GapReader]:
    """Gaps and normalisation of a part, in memory."""
    dates, bands = len(part.variable.dates), len(part.bands)
    return scan_cube(part, np.zeros((dates, bands, *part.shape), np.uint16), np.zeros(part.outside_shape, bool), 0)


def hide(part: Part, outside: NDArray[np.bool_], cases: Sequence[Case]) -> Part:
    """The part without what the cases hide; what may be filled stays what it was before, `Cube.outside_shape`."""
    hidden: dict[int, NDArray[np.bool_]] = {}
    for case in cases:
        plane = hidden.setdefault(case.date, np.zeros(part.shape, bool))
        plane[case.window.slices] |= case.hidden
    rules = replace(part.rules, fillable=lambda window: ~outside[(..., *window.slices)])
    return replace(part, rules=rules, hidden=hidden)


def signature(rounds: Sequence[Sequence[Case]]) -> str:
    """SHA-256 of the whole set of hidden pixels, the first 16 digits."""
    digest = hashlib.sha256()
    for number, cases in enumerate(rounds):
        for case in cases:
            window = case.window
            digest.update(f"{number},{case.date},{window.row},{window.column},{window.shape}".encode())
            digest.update(np.packbits(case.hidden).tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Round:
    """Cases that are hidden together, and other places to tune peers on; they do not overlap."""

    cases: tuple[Case, ...]
    tuning: tuple[Case, ...]


def plan_rounds(
    part: Part,
    gaps: GapReader,
    *,
    trials: int,
    tuning: int,
    seed: int,
    most_rounds: int = 3,
    drawer: Drawer | None = None,
) -> list[Round]:
    """Choose places and gaps: one round where there is room, more where the same place must serve again.

    Without a drawer the gaps are the scene's own, or the usual shapes where it has none, or too small ones to judge by.
    No round hides more than half of the places that could be hidden, so that something is left to learn from.
    """
    if drawer is None:
        for shapes in (_own_shapes(part, gaps), []):
            found = plan_rounds(
                part, gaps, trials=trials, tuning=tuning, seed=seed, most_rounds=most_rounds, drawer=_drawer(shapes)
            )
            if found:
                return found
        return []
    places = list(_places(part))
    first = len(places) if len(places) <= 2 else len(places) // 2
    each = max(1, min(trials, first))
    rounds: list[Round] = []
    hidden = 0
    for number in range(most_rounds):
        if hidden >= trials:
            break
        rng = np.random.default_rng([seed, 31, number])
        order = [places[i] for i in rng.permutation(len(places))]
        cases = _cases(part, gaps, drawer, order, min(each, trials - hidden), rng, {})
        used = {(c.date, c.window): c.hidden for c in cases}
        extra = np.random.default_rng([seed, 32, number])
        learnt = _cases(part, gaps, drawer, [*(p for p in order if p not in used), *used], tuning, extra, used)
        if cases:
            rounds.append(Round(tuple(cases), tuple(learnt)))
        hidden += len(cases)
    return rounds


def _places(part: Part) -> Iterator[tuple[int, Window]]:
    """Squares to hide in, apart from each other or side by side, on every date to be filled."""
    spans = [_spans(o, n) for o, n in zip(part.lattice.origin, part.shape, strict=True)]
    for date in part.targets:
        for row, height in spans[0]:
            for column, width in spans[1]:
                yield date, Window(row, column, height, width)


def _spans(origin: int, length: int) -> list[tuple[int, int]]:
    """Start and size along one axis, in raster indices: where lattice windows begin to be alone.

    A short raster is cut into as many pieces of about a window as it holds.
    """
    if length <= 2 * _PITCH:
        count = max(1, length // STRIDE)
        size = length // count
        return [(i * size, min(size, SIDE)) for i in range(count)]
    first = (WINDOW - STRIDE - origin) % _PITCH
    starts = range(first - _PITCH if first > SIDE // 2 else first, length, _PITCH)
    clipped = [(max(start, 0), min(start + SIDE, length)) for start in starts]
    return [(start, stop - start) for start, stop in clipped if stop - start >= _LEAST_SIDE]


def _own_shapes(part: Part, gaps: GapReader) -> list[NDArray[np.bool_]]:
    """Gaps to be filled, as squares (row, column) of up to `SIDE`; from dates and places in a fixed order."""
    shapes: list[NDArray[np.bool_]] = []
    dates = range(len(part.variable.dates))
    for date in sorted(dates, key=lambda d: hashlib.blake2b(f"{d}".encode(), digest_size=4).digest()):
        for row in range(0, part.shape[0], SIDE):
            for column in range(0, part.shape[1], SIDE):
                window = Window(row, column, SIDE, SIDE).intersect(part.lattice.extent)
                assert window is not None
                shape = np.asarray(gaps.read(date, window).wanted.any(axis=0))
                if 9 <= shape.sum() < shape.size:
                    shapes.append(shape)
        if len(shapes) >= 200:
            break
    return shapes


def _cases(
    part: Part,
    gaps: GapReader,
    drawer: Drawer,
    places: Sequence[tuple[int, Window]],
    count: int,
    rng: np.random.Generator,
    taken: Mapping[tuple[int, Window], NDArray[np.bool_]],
) -> list[Case]:
    cases: list[Case] = []
    for date, window in places:
        if len(cases) >= count:
            break
        case = _case(part, gaps, drawer, date, window, rng, taken.get((date, window)))
        if case is not None:
            cases.append(case)
    return cases


def _case(
    part: Part,
    gaps: GapReader,
    drawer: Drawer,
    date: int,
    window: Window,
    rng: np.random.Generator,
    taken: NDArray[np.bool_] | None,
) -> Case | None:
    """A gap on known pixels of a place that leaves some; None where none fits."""
    found = gaps.read(date, window)
    known = np.asarray((~found.missing & found.fillable).any(axis=0))
    if taken is not None:
        known = known & ~taken
    if known.mean() < 0.2:
        return None
    stack = len(part.variable.dates) > 1
    for _ in range(_TRIES):
        name, shape = drawer(window.shape, rng)
        hidden = shape & known
        left = known.sum() - hidden.sum()
        share = float(hidden.mean())
        if (
            hidden.sum() >= _LEAST_HIDDEN
            and share >= _LEAST_SHARE
            and (stack or left >= (1 - _MOST_SHARE) * known.sum())
        ):
            return Case(date, window, name, hidden)
    return None


def _drawer(shapes: Sequence[NDArray[np.bool_]]) -> Drawer:
    """The scene's own gaps where there are any; else clouds, and the faults of sensors."""

    def own(size: tuple[int, int], rng: np.random.Generator) -> tuple[str, NDArray[np.bool_]]:
        return "own", transplant(shapes[int(rng.integers(len(shapes)))], size, rng)

    def drawn(size: tuple[int, int], rng: np.random.Generator) -> tuple[str, NDArray[np.bool_]]:
        name = str(rng.choice(list(SHAPES), p=_SHARES))
        return name, draw(name, size, rng)

    return own if shapes else drawn
