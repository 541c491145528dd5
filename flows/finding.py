"""Which scenes there are, and what the product of each is called: plain functions, no Prefect.

A scene is a raster file, a Zarr store, a folder of band files or an Item of a STAC catalogue, here or at an address.
"""

from __future__ import annotations

import glob
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from geodiff.credentials import redacted
from geodiff.errors import SourceError
from geodiff.io.catalogue import is_stac
from geodiff.io.pds4 import labelled_files
from geodiff.io.places import exists, listing, local_path
from geodiff.io.scenes import is_scene, parsed
from geodiff.io.stac import item_places
from geodiff.io.stacitem import CATALOGUE

__all__ = ["Found", "called", "find", "find_scenes"]

logger = logging.getLogger(__name__)

_RASTERS = {
    ".tif", ".tiff", ".jp2", ".vrt", ".nc", ".nc4", ".cdf", ".h5", ".hdf5", ".he5", ".hdf", ".grib", ".grb", ".grib2",
    ".grb2", ".img", ".cub", ".qub", ".vic", ".lbl", ".png", ".jpg", ".jpeg",
}  # fmt: skip
_LABELLED = {".img", ".dat", ".qub", ".raw"}
"""Data parts that may have a detached label, by which they are opened."""
_LIKE_THE_SOURCE = {".zarr": ".zarr", ".nc": ".nc", ".nc4": ".nc", ".png": ".png", ".jpg": ".png", ".jpeg": ".png"}


@dataclass(frozen=True, slots=True)
class Found:
    """A scene, what its product is to be called, and the kind of product that is most like it."""

    source: str
    name: str
    like: str


def find_scenes(source: str) -> list[str]:
    """The scenes of a folder, a quoted glob, an address or a STAC catalogue, or the one that a path names, in order.

    Raises SourceError where the path does not exist. An empty folder holds no scenes and is no error.
    """
    return [found.source for found in find(source)]


def find(source: str) -> list[Found]:
    """The same, each with the name of its product."""
    if is_stac(source):
        return sorted(_of_catalogue(source), key=lambda found: found.source)
    local = local_path(source)
    paths = _remote(source) if local is None else _local(local)
    catalogue = f"{source.rstrip('/')}/{CATALOGUE}"
    if not paths and "*" not in source and exists(catalogue):
        return find(catalogue)
    return [Found(path, *_product(path)) for path in paths]


def called(source: str) -> str:
    """What a scene is called where people read of it: no folders, and nothing that signs an address.

    What is no UTF-8 in it, as in names from old disks, is spelt out: Prefect's server takes nothing else.
    """
    bare = redacted(source).partition("?")[0] if "://" in source else source
    return Path(bare.rstrip("/")).name.encode(errors="backslashreplace").decode()


def _of_catalogue(source: str) -> Iterator[Found]:
    for place in item_places(source):
        suffixes = {Path(asset.partition("?")[0].rstrip("/")).suffix.lower() for asset in place.assets}
        alone = len(place.assets) == 1
        yield Found(
            place.href,
            re.sub(r"[^\w.+@-]", "_", place.id).lstrip(".") or "item",  # `..` would be another folder
            _LIKE_THE_SOURCE.get(suffixes.pop(), ".tif") if alone else "/",
        )


def _product(source: str) -> tuple[str, str]:
    name = Path(called(source) if "://" in source else source)
    if name.suffix != ".zarr" and "://" not in source and Path(source).is_dir():
        return name.name, "/"
    return name.stem, _LIKE_THE_SOURCE.get(name.suffix.lower(), ".tif")


# -- at an address


def _remote(address: str) -> list[str]:
    """One scene, or what is listed in a place that ends in `/`, or matches a pattern.

    Raises SourceError for the band files of a scene, which would be filled one by one and without their flags.
    """
    bare = address.partition("?")[0]
    if "*" in bare:
        return listing(address)
    if not bare.endswith("/") or bare.endswith(".zarr/"):
        return [address]
    names = [name for name in listing(address) if Path(name).suffix.lower() in {*_RASTERS, ".zarr"}]
    band = next((name for name in names if parsed(name)), None)
    if band is not None:
        raise SourceError(
            f"{address} holds the bands of scenes file by file ({called(band)}); give a STAC catalogue of the scenes, "
            "or download their folders"
        )
    return names


# -- here


def _local(path: Path) -> list[str]:
    if path.is_dir() and not _is_one_scene(path):
        return _inside(path.absolute())
    if path.exists():
        return [str(path.absolute())]
    if any(sign in str(path) for sign in "*?["):
        return sorted(str(Path(name).absolute()) for name in glob.glob(str(path), recursive=True))  # noqa: PTH207
    raise SourceError(f"{path} does not exist; name a folder of scenes, one scene, a glob in quotes or a catalogue")


def _inside(folder: Path) -> list[str]:
    """The sources of a folder: labels in the place of the data that they describe, under whatever name it goes."""
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    labels = {entry: labelled_files(entry) for entry in entries if entry.suffix.lower() == ".xml"}
    described = {folder / name for names in labels.values() for name in names}
    found = {entry for entry, names in labels.items() if names}
    found |= {_opened_by(entry) for entry in entries if entry not in described and _is_source(entry)}
    others = sum(entry.is_dir() and entry not in found for entry in entries)
    if others and not found and not (folder / CATALOGUE).exists():
        logger.warning(
            "%s holds no scene itself, and its folders (%d) are not looked into; a glob in quotes does: '%s/**/*.tif'",
            folder, others, folder,
        )  # fmt: skip
    return sorted(map(str, found))


def _is_one_scene(folder: Path) -> bool:
    return folder.suffix == ".zarr" or (folder / "zarr.json").exists() or is_scene(str(folder))


def _is_source(entry: Path) -> bool:
    if entry.is_dir():
        return _is_one_scene(entry)
    return entry.suffix.lower() in _RASTERS or _opened_by(entry) != entry


def _opened_by(entry: Path) -> Path:
    """The label of a data file that has one beside it; otherwise the file itself."""
    labels = (entry.with_suffix(end) for end in (".lbl", ".LBL", ".xml", ".XML") if entry.suffix.lower() in _LABELLED)
    return next((label for label in labels if label.is_file()), entry)
