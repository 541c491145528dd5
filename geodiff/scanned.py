"""What a scan found, kept in the working store, so that a resumed run and its workers need not look again.

It belongs to the store, whose fingerprint covers the source's content and every option that the scan goes by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.channels import load_turns, stored_turns
from geodiff.encoding import Normalisation
from geodiff.errors import TargetError
from geodiff.fillers import Fitted
from geodiff.io.fitstore import load_fit, save_fit
from geodiff.io.places import remove_tree
from geodiff.pyramid import CellSums
from geodiff.scan import CHUNK, Occupied, Scan
from geodiff.suspects import Suspect

if TYPE_CHECKING:
    from geodiff.io.store import WorkStore

__all__ = ["is_kept", "load_occupied", "load_scans", "save_scans"]

_SCAN, _CHUNKS = "geodiff-scan", "geodiff-chunks"
_PLAIN = ("missing", "known", "total", "left_out")
_ARRAYS = ("gap_counts", "wanted_by_date", "reasons")
_INDEX = ("reason", "outside", "wanted")


def save_scans(work: WorkStore, scans: Mapping[str, Scan]) -> None:
    """Keep the scans of all variables; they are there whole or not at all."""
    for name in (_SCAN, _CHUNKS):  # which may be there, and damaged
        remove_tree(f"{work.path}/{name}")
    index = {name: Fitted("chunks", {}, _index(scan.occupied)) for name, scan in scans.items()}
    save_fit(f"{work.path}/{_CHUNKS}", Fitted("chunks", {}, {}, index))
    save_fit(f"{work.path}/{_SCAN}", Fitted("scan", {}, {}, {name: _stored(scan) for name, scan in scans.items()}))


def load_scans(work: WorkStore) -> dict[str, Scan] | None:
    """The scans that an earlier run kept; None where there are none, or where what they found is not there any more."""
    try:
        stored, _ = load_fit(f"{work.path}/{_SCAN}")
        index = load_occupied(work.path)
    except TargetError:
        return None
    if not all(is_kept(work, name, occupied, whole=True) for name, occupied in index.items()):
        return None
    return {name: _scan(part, index[name]) for name, part in stored.parts.items()}


def is_kept(work: WorkStore, name: str, occupied: Occupied, *, whole: bool = False) -> bool:
    """Whether all that a scan found of a variable is in the working store: a chunk that is gone reads as no gap.

    With `whole`, none of it may be cut short either, as `chunks_there` tells.
    """
    for layer, index in (("scan_reason", occupied.reason[:, None]), ("outside", occupied.outside)):
        if not index.any():
            continue
        array = work.array(name, layer)
        steps = (*[1] * (array.ndim - 2), CHUNK, CHUNK)
        fronts = array.shape[: array.ndim - index.ndim]  # of what is outside, each level has its own
        spread = np.broadcast_to(index, (*fronts, *index.shape))
        places = {tuple(np.multiply(place, steps) // array.chunks) for place in np.argwhere(spread)}
        keys = {array.metadata.encode_chunk_key(place) for place in places}
        if not keys <= work.chunks_there(name, layer, whole=whole):
            return False
    return True


def load_occupied(work_path: str) -> dict[str, Occupied]:
    """Which chunks hold anything, by variable: the small part of the scans, for workers."""
    stored, _ = load_fit(f"{work_path}/{_CHUNKS}")
    return {name: Occupied(*(part.arrays[key] for key in _INDEX)) for name, part in stored.parts.items()}


def _index(occupied: Occupied) -> dict[str, Any]:
    return {key: getattr(occupied, key) for key in _INDEX}


def _stored(scan: Scan) -> Fitted:
    facts = {name: getattr(scan, name) for name in _PLAIN}
    facts |= {"normalisations": [list(astuple(recipe)) for recipe in scan.normalisations], "cell": scan.cells.cell}
    facts["suspects"] = [list(astuple(suspect)) for suspect in scan.suspects]
    facts |= {"turns": stored_turns(scan.turns), "edge": scan.edge}
    arrays = {name: getattr(scan, name) for name in _ARRAYS}
    return Fitted("scan", facts, {**arrays, "cell_total": scan.cells.total, "cell_count": scan.cells.count})


def _scan(part: Fitted, occupied: Occupied) -> Scan:
    facts: Mapping[str, Any] = part.facts
    arrays: Mapping[str, Any] = part.arrays
    return Scan(
        **{name: facts[name] for name in _PLAIN},
        **{name: arrays[name] for name in _ARRAYS},
        cells=CellSums(arrays["cell_total"], arrays["cell_count"], facts["cell"]),
        normalisations=tuple(Normalisation(*recipe) for recipe in facts["normalisations"]),
        occupied=occupied,
        suspects=tuple(Suspect(*suspect) for suspect in facts["suspects"]),
        turns=load_turns(facts.get("turns", ())),
        edge=facts.get("edge", 0.0),
    )
