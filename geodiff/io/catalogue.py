"""STAC documents: one JSON file after another, from an Item or a catalogue to every Item that it leads to.

Nothing is opened here but JSON. A document may name what lies beside it and URLs; a remote one cannot name files of
this machine.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from geodiff.errors import SourceError
from geodiff.io.places import assert_plain, expanded, local_path, read

if TYPE_CHECKING:
    import pystac

__all__ = ["absolute", "bare", "document", "is_stac", "item_of", "items_of", "quoted"]

logger = logging.getLogger(__name__)

_LARGEST = 64 * 2**20
"""Bytes of one JSON document; an ItemCollection of 10,000 Items has about that."""
_MOST = 100_000
"""Documents of one catalogue."""
_MOST_ITEMS = 10_000
"""Items of one answer of an API, over all its pages."""
_API = re.compile(r"^https?://[^?]*/(items|search)(/[^/?]+)?/?(\?|$)")
"""Addresses at which a STAC API answers with Items."""
_ELSEWHERE = re.compile(r"(https?|s3a?|gc?s|az|abfss?|oss|memory)://[^\"]", re.IGNORECASE)
"""Addresses that are of no file of this machine."""
_QUOTED = str.maketrans({"%": "%25", "#": "%23", "?": "%3F"})
"""What would mean something else in a link than in the name of a file."""
_TYPES = ("Feature", "FeatureCollection", "Catalog", "Collection")


def is_stac(source: str) -> bool:
    """Whether a path or URL is to be read as STAC, by its name: JSON, or the address of an API's Items."""
    return bare(source).lower().endswith((".json", ".geojson")) or bool(_API.match(_split(source)[0]))


def bare(source: str) -> str:
    """A source without what follows the file: an Item's id, or a signature."""
    return _split(source)[0].partition("?")[0] if "://" in source else _split(source)[0]


def _split(source: str) -> tuple[str, str]:
    """A document and the Item meant in it."""
    place, sign, name = source.rpartition("#")
    collection = place.lower().partition("?")[0].endswith("json") or _API.match(place)
    return (place, name) if sign and collection else (source, "")


def document(href: str) -> dict[str, Any]:
    """One JSON document; raises SourceError for what is none or far too large."""
    text = _text(href)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{href} is no JSON ({error}), so it cannot be STAC; check the address") from None
    if not isinstance(found, dict) or found.get("type") not in _TYPES:
        said = f"{href} is no STAC Item, ItemCollection, Collection or Catalog"
        raise SourceError(f"{said}; give one of these, or a raster (masks of GeoJSON belong to --mask)")
    return found


def _text(href: str) -> bytes:
    if href.startswith(("http://", "https://")):
        return _fetched(href)
    local = local_path(href)
    if local is not None and local.is_file() and local.stat().st_size > _LARGEST:
        raise SourceError(f"{href} has {local.stat().st_size} bytes of JSON, more than {_LARGEST}; split the catalogue")
    try:
        found = read(href)
    except (OSError, ValueError, ImportError) as error:
        raise SourceError(f"{href} cannot be read: {error}; check the address and the credentials") from None
    if found is None:
        raise SourceError(f"{href} does not exist; check the path")
    return found


def _fetched(href: str) -> bytes:
    from urllib.request import Request, urlopen

    asked = Request(expanded(href), headers={"Accept": "application/geo+json, application/json"})  # noqa: S310 - http(s) alone
    try:
        with urlopen(asked, timeout=60) as answer:  # noqa: S310
            found: bytes = answer.read(_LARGEST + 1)
    except (OSError, ValueError) as error:  # URLError and timeouts among them
        raise SourceError(f"{href} cannot be read: {error}; check the address and the network") from None
    if len(found) > _LARGEST:
        raise SourceError(f"{href} answers with more than {_LARGEST} bytes of JSON; ask for fewer Items")
    return found


def items_of(source: str) -> Iterator[tuple[str, pystac.Item]]:
    """Every Item of a document, of the next pages of an answer and of what is linked, with what it is opened by; once.

    Raises SourceError for more than 100,000 documents, or 10,000 Items in the pages of an answer.
    """
    place, wanted = _split(source)
    waiting, seen, items = [absolute(place, "")], set(), 0
    while waiting:
        href = waiting.pop(0)
        if href in seen:  # catalogues may link in circles
            continue
        seen.add(href)
        if len(seen) > _MOST:
            raise SourceError(f"{source} leads to more than {_MOST} documents; name a part of the catalogue")
        found = document(href)
        if found["type"] == "Feature":
            yield href, item_of(found, href)
        elif found["type"] == "FeatureCollection":
            for name, item in _collected(found, href):
                if wanted in ("", item.id):
                    yield name, item
                if wanted == item.id:
                    return
                items += 1
            following = _following(found, href)
            if following:
                _assert_few(source, max(items + 1, int(found.get("numberMatched") or 0)))
            waiting += following
        else:
            waiting += _linked(found, href)


def _collected(found: Mapping[str, Any], href: str) -> Iterator[tuple[str, pystac.Item]]:
    """The Items of a collection, each with what it is opened by.

    From an API that is its own address: on which page it stands, and under which token, changes.
    """
    for feature in found.get("features") or ():
        item = item_of(feature, href)
        own = [str(link["href"]) for link in _links(feature) if link.get("rel") == "self"] if _API.match(href) else []
        yield absolute(own[0], href) if own else f"{href}#{item.id}", item


def _following(found: Mapping[str, Any], href: str) -> list[str]:
    """The next page of an answer, where it is fetched like this one."""
    links = [link for link in _links(found) if link.get("rel") == "next"]
    if any(link.get("body") or str(link.get("method", "GET")).upper() != "GET" for link in links):
        logger.warning("%s is the first page of an answer, and the next ones are not fetched like it; they are not "
                       "filled", href)  # fmt: skip
        return []
    return [absolute(str(link["href"]), href) for link in links]


def _assert_few(source: str, items: int) -> None:
    if items > _MOST_ITEMS:
        raise SourceError(
            f"{source} answers with {items:,} Items or more, and {_MOST_ITEMS:,} are the most; ask for fewer, with "
            "datetime= or bbox= in the address"
        )


def _linked(found: Mapping[str, Any], href: str) -> list[str]:
    return [absolute(str(link["href"]), href) for link in _links(found) if link.get("rel") in ("item", "child")]


def _links(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [link for link in found.get("links") or () if isinstance(link, dict) and "href" in link]


def item_of(found: Any, href: str) -> pystac.Item:
    """An Item of any version of STAC; raises SourceError where it is not valid enough to be read."""
    import pystac

    try:
        item = pystac.Item.from_dict(found, href=href, migrate=True, preserve_dict=True)
    except (pystac.STACError, pystac.STACTypeError, KeyError, ValueError, TypeError, AttributeError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SourceError(f"{href} is not a valid STAC Item ({said}); check it with pystac's Item.validate()") from None
    item.set_self_href(href)
    return item


def absolute(href: str, base: str) -> str:
    """An address, or the name of a file, beside `base`; raises SourceError for one that its document must not name."""
    from pystac.utils import make_absolute_href

    if not base:
        return href if "://" in href else str(Path(href).absolute())
    if "://" in base + href:
        assert_plain(href, base)
    found = make_absolute_href(href, base, start_is_dir=False) if "://" in base + href else _file_beside(href, base)
    remote = urlsplit(base).scheme not in ("", "file")
    # GDAL has names of its own for what is here: NETCDF:"/a.nc":x, vrt:///a.tif, the text of a VRT itself
    if "/vsi" in found[:8] or "<" in found or (remote and not _ELSEWHERE.match(found)):
        said = f"{base} names {href}, which is not beside it"
        raise SourceError(f"{said}; a STAC document names URLs or files of its own")
    return found


def _file_beside(href: str, base: str) -> str:
    """The file that a link names: read as the link that it is, or as it stands where its writer did not quote it."""
    from pystac.utils import make_absolute_href

    linked, typed = (
        unquote(make_absolute_href(each, quoted(base), start_is_dir=False)) for each in (href, quoted(href))
    )
    return linked if os.path.exists(linked) else typed  # noqa: PTH110 - Path.exists() raises for what is too long


def quoted(path: str) -> str:
    """The name of a file as a link to it has it: `#`, `?` and `%` would mean something else there."""
    return path.translate(_QUOTED)
