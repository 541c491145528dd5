"""What lies beside a target: the record of its last run, what it read, and the layers that are of no other target.

Names go by the stem: `a.tif`, `a.png` and `a.zarr` share one record, and the first two would share their layers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from geodiff.digests import Digests
from geodiff.errors import TargetError
from geodiff.identity import WITH_SIDECARS, record_path, sidecars, suffix_of, target_stem
from geodiff.io import read_fingerprint
from geodiff.io.lock import lock
from geodiff.io.places import delete, existing, exists, local_path, put, read, size_of

__all__ = [
    "alone",
    "assert_own_layers",
    "delete_left_layers",
    "is_whole",
    "keep_digests",
    "keep_record",
    "kept_digests",
    "lost_of",
    "record_of",
    "renew_digests",
    "work_path",
    "written_before",
]

_OTHERS = "other_targets"
"""In a record: those of other targets of the same stem, by suffix."""
_SIZES = "bytes"
"""In a record: how large each product was that lies on this machine, all files of a store together."""
_FORM: Mapping[str, type] = {
    "command": str, "products": list, "variables": dict, "gates": dict, "failed_blocks": dict, _SIZES: dict,
}  # fmt: skip
"""What is read of a record beside its target."""


def work_path(target: str, work: str | None = None) -> str:
    """Where the working store of a target lies: beside it, or in the folder that `--work` names."""
    folder, stem = target_stem(target)
    return f"{work.rstrip('/') if work else folder}/{stem}.geodiff-work.zarr"


@contextmanager
def alone(target: str, work: str | None = None) -> Iterator[Callable[[], None]]:
    """Hold the right to write TARGET, what it links to and all that lies beside it, and its working store elsewhere.

    Gives what is to be called before TARGET is written: it raises LockedError where the right was lost meanwhile.

    Raises LockedError, naming the holder, when another process has one of them.
    """
    places = {work_path(target): target}
    for path, name in ((work_path(_behind_link(target)), target), (work_path(target, work), "")):
        if not any(_same_place(path, other) for other in places):
            places[path] = name
    with ExitStack() as held:
        rights = [held.enter_context(lock(path, name)) for path, name in places.items()]

        def assert_ours() -> None:
            for right in rights:
                right()

        yield assert_ours


def _behind_link(target: str) -> str:
    """What TARGET points to where it is a link: jobs on either write the same product."""
    local = local_path(target)
    if local is None or not local.is_symlink():
        return target
    return f"{local.resolve()}/" if target.endswith("/") else str(local.resolve())


def _same_place(one: str, other: str) -> bool:
    """Whether two paths are one, however they are spelt: a process cannot hold one lock twice."""
    first, second = local_path(one), local_path(other)
    return one == other if first is None or second is None else first.resolve() == second.resolve()


# -- the record


def record_of(target: str) -> dict[str, Any]:
    """What the last run said of a target, and not of another one of the same stem; empty where nothing is known."""
    return _records(target).get(suffix_of(target), {})


def keep_record(target: str, record: str) -> None:
    """Write the record of a finished run (JSON), with how large its products are.

    What is said of other targets of the same stem stays in it.
    """
    others = {suffix: kept for suffix, kept in _records(target).items() if suffix != suffix_of(target)}
    facts = json.loads(record)
    sizes = {path: size for path in facts.get("products", ()) if (size := size_of(path)) is not None}
    facts |= {_SIZES: sizes} | ({_OTHERS: others} if others else {})
    put(record_path(target), (json.dumps(facts, indent=1) + "\n").encode())


def written_before(target: str) -> list[str]:
    """Paths that the record of a target lists, where they are now; none where there is no record.

    They were written down as seen from the working directory of that time, and may have been moved together since.
    """
    return _written(record_of(target), target)


def _written(record: Mapping[str, Any], target: str) -> list[str]:
    """The same by a record that was read already."""
    before, now = target_stem(record.get("target", target))[0], target_stem(target)[0]
    return [_moved(path, before, now) for path in record.get("products", ())]


def _moved(path: str, before: str, now: str) -> str:
    """A path in the folder `before` as one in the folder `now`; any other as it is."""
    local, old, new = local_path(path), local_path(before), local_path(now)
    if local is None or old is None or new is None or old == new:
        return path
    return str(new / local.relative_to(old)) if local.is_relative_to(old) else path


def is_whole(target: str, fingerprint: str) -> bool:
    """Whether all of a product with that fingerprint is there, as far as its record tells.

    A record with another fingerprint is of the product before: a run was killed between the target and its record.
    """
    record = record_of(target)
    return record.get("fingerprint", fingerprint) == fingerprint and not _lost(record, target, fingerprint)


def lost_of(target: str, fingerprint: str) -> list[str]:
    """Paths of a product with that fingerprint that are gone, shorter than they were when written, or another run's.

    A copy that broke off, a power cut and a chunk that was deleted leave such, and so does a run that ended after it
    had replaced some of the layers; who adds overviews or notes makes files longer.
    """
    return _lost(record_of(target), target, fingerprint)


def _lost(record: Mapping[str, Any], target: str, fingerprint: str) -> list[str]:
    """The same by a record that was read already."""
    if record.get("fingerprint") != fingerprint:
        return []
    sizes, layers = record.get(_SIZES, {}), {Path(layer).name for layer in sidecars(target)}
    pairs = list(zip(record.get("products", ()), _written(record, target), strict=True))
    there = existing([now for _, now in pairs])
    return [
        now
        for then, now in pairs
        if now not in there
        or (size_of(now) or 0) < sizes.get(then, 0)
        or (Path(now).name in layers and read_fingerprint(now) not in (None, "", fingerprint))
    ]


# -- what was read


def kept_digests(target: str) -> Digests:
    """What runs for a target have read of its sources and masks."""
    return Digests.from_json(read(_digests_path(target)))


def keep_digests(target: str, digests: Digests) -> None:
    """Keep them for the next run, where there is a product; a place that cannot be written to is none to fail for."""
    content = digests.to_json()
    if content is not None:
        with suppress(OSError):
            put(_digests_path(target), content)


def renew_digests(target: str, digests: Digests) -> None:
    """The same where some are kept already: a run that finds nothing to do adds no file."""
    if exists(_digests_path(target)):
        keep_digests(target, digests)


def _digests_path(target: str) -> str:
    folder, stem = target_stem(target)
    return f"{folder}/{stem}.geodiff-digests.json"


# -- the layers


def delete_left_layers(target: str, paths: Sequence[str]) -> None:
    """Delete layers of the product that `paths` replaced at `target` and that have no successor among them.

    Only what the record of this very target lists and what is named as a layer of a file in `paths`, or lies in the
    folder that is the target, where a date may be gone: nothing else is geodiff's to delete. Call it before the new
    record is kept, so that the next run finds what a kill left.
    """
    before, now = written_before(target), {Path(path).name for path in paths}
    left = {Path(path).name for path in before} - now
    layers = [layer for path in paths for layer in sidecars(path)]
    if target.endswith("/"):
        layers += [path for path in before if path.startswith(target) and suffix_of(path) in WITH_SIDECARS]
    for layer in dict.fromkeys(layers):
        if Path(layer).name in left:
            delete(layer)
            delete(f"{layer}.aux.xml")  # where GDAL looks for the CRS


def assert_own_layers(target: str, *, overwrite: bool) -> None:
    """Raise TargetError where a layer beside TARGET would be written over what is not its own.

    That is the layers of another product of the same stem, a product, and unless a job may `overwrite`, any file that
    is neither in the record of TARGET nor marked as geodiff's, as layers are that a kill left without their target.
    """
    if suffix_of(target) not in WITH_SIDECARS:
        return
    folder, stem = target_stem(target)
    records = _records(target)
    for suffix, record in records.items():
        other = f"{folder}/{Path(record['target']).name}"
        if suffix in WITH_SIDECARS and suffix != suffix_of(target) and exists(other):
            raise TargetError(
                f"{target} would write its layers, such as {stem}_source.tif, over those of {other}; "
                "give TARGET another name before its suffix"
            )
    own = {Path(path).name for path in _written(records.get(suffix_of(target), {}), target)}
    for layer in filter(exists, sidecars(target)):
        if record_of(layer):
            raise TargetError(
                f"{target} may write a layer over {layer}, which is a product of its own; give TARGET another name"
            )
        if not overwrite and Path(layer).name not in own and not read_fingerprint(layer):
            raise TargetError(
                f"{layer} already exists and is not a layer of geodiff's, and {target} may write over it; give "
                "TARGET another name, move that file away, or use --overwrite to replace it"
            )


# -- how both are told apart


def _records(target: str) -> dict[str, dict[str, Any]]:
    """What is said of every target of one stem, by suffix; half a record, or one of another form, is none."""
    try:
        found = json.loads(read(record_path(target)) or b"{}")
    except ValueError:
        return {}
    others = found.pop(_OTHERS, {}) if isinstance(found, dict) else {}
    each = (*(others.values() if isinstance(others, dict) else ()), found)
    return {suffix_of(record["target"]): record for record in each if _well_formed(record)}


def _well_formed(record: Any) -> bool:
    if not isinstance(record, dict) or not isinstance(record.get("target"), str):
        return False
    named = all(isinstance(record.get(name, kind()), kind) for name, kind in _FORM.items())
    sized = named and all(isinstance(size, int) for size in record.get(_SIZES, {}).values())
    return sized and all(isinstance(path, str) for path in record.get("products", ()))
