"""Which observation each training patch is cut from: kinds in fixed shares, sources by weight, by the seed alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from geodiff.diffusion.shapes import own_masks, real_masks
from geodiff.diffusion.sources import Source, catalogue, training_folder
from geodiff.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["drawn", "found", "pools_of"]

_HOPELESS = 2000
"""Patches without anything to learn from before that is said."""

T = TypeVar("T")


def pools_of(
    part: str, kinds: Iterable[str], root: Path | None, sources: Sequence[Source] | None
) -> tuple[Path, dict[str, list[Source]], Sequence[NDArray[np.bool_]]]:
    """Where observations lie, those of a part by kind, and the gaps that are transplanted into them.

    Without `sources`, the observations of the shipped model; else their own gaps are the ones to transplant.
    """
    if sources is None:
        root = root or training_folder()
        every, masks = catalogue(root), real_masks(root)
    else:
        root, every = Path(), list(sources)
        masks = own_masks(root, every)
    pools = {kind: [s for s in every if s.kind == kind and s.part == part] for kind in kinds}
    return root, {kind: pool for kind, pool in pools.items() if pool}, masks


def drawn(
    pools: Mapping[str, Sequence[Source]], shares: Mapping[str, float], key: Sequence[int]
) -> Iterator[tuple[Source, np.random.Generator]]:
    """Endless sources, each with random numbers of its own that `key` and its place in the row alone decide."""
    share = np.array([shares.get(kind, 1.0) for kind in pools])
    for index in range(1 << 40):
        rng = np.random.default_rng([*key, index])
        pool = pools[str(rng.choice(list(pools), p=share / share.sum()))]
        weight = np.array([s.weight for s in pool])
        yield pool[int(rng.choice(len(pool), p=weight / weight.sum()))], rng


def found(tries: Iterable[T | None], hopeless: str) -> Iterator[T]:
    """What came of the tries; raises InputError, that they were `hopeless`, where too many in a row came to nothing."""
    empty = 0
    for made in tries:
        if made is not None:
            empty = 0
            yield made
        elif (empty := empty + 1) > _HOPELESS:
            raise InputError(f"{empty} {hopeless}")
