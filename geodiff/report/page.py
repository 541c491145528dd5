"""The page itself: one HTML file that asks nothing of any network, or the same served with its tiles left out."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff import __version__
from geodiff.quantities import has_two_signs
from geodiff.report.budget import Embedded
from geodiff.report.figures import Worth, answers, lead, sections
from geodiff.report.markup import as_script_json, text
from geodiff.report.pyramid import TILE, Coding, Pyramid
from geodiff.suspects import goes_round

if TYPE_CHECKING:
    from geodiff.report.product import FilledProduct, Picture

__all__ = ["file_page", "gap_places", "served_page"]

_SCRIPTS = ("tiles.js", "colours.js", "picture.js", "controls.js")
_COLOURS = (
    *(("red", "green", "blue"), ("sr_b4", "sr_b3", "sr_b2"), ("b04", "b03", "b02"), ("b4", "b3", "b2")),
    *(("nir", "red", "green"), ("sr_b5", "sr_b4", "sr_b3"), ("b08", "b04", "b03"), ("b8", "b4", "b3")),
)
"""Bands of a colour picture, true colours first; else near infrared as red, in which vegetation is red."""
_KINDS = {
    False: "Known pixels are untouched; filled ones are estimates.",
    True: "All pixels are estimates; the measurements are in the source.",
}
_SIDES = {
    False: ("Before and after", "before", "after"),
    True: ("The restored frame", "gaps marked", "restored"),
}
"""What the picture is called, and its sides, left and right of the line."""
_STRETCHED = 0.02
"""Share of the values at either end that the picture's stretch cuts off at first."""
_MOST_PLACES = 40
_PLACES_WITHIN = 512


def file_page(product: FilledProduct, pyramids: Sequence[Pyramid], chosen: Sequence[Embedded]) -> str:
    """The whole report as one file."""
    tiles = {f"{place}/{key}": parts for place, one in enumerate(chosen) for key, parts in one.tiles.items()}
    pictures = [
        _described(pyramid, done.dates, {date: gap_places(pyramid, date) for date in done.dates})
        for pyramid, done in zip(pyramids, chosen, strict=True)
    ]
    block = f'<script type="application/json" id="page-tiles">{as_script_json(tiles)}</script>'
    return _page(product, pyramids, pictures, block, _left_out(product, chosen), "'none'")


def served_page(product: FilledProduct, pyramids: Sequence[Pyramid]) -> str:
    """The same page for `geodiff view`, which sends tiles when they are looked at."""
    pictures = [_described(pyramid, range(len(pyramid.picture.dates)), None) for pyramid in pyramids]
    return _page(product, pyramids, pictures, "", "Every tile is read from the product itself.", "'self'")


def _page(
    product: FilledProduct,
    pyramids: Sequence[Pyramid],
    pictures: Sequence[Mapping[str, Any]],
    tiles: str,
    words: str,
    connect: str,
) -> str:
    worth = [one for pyramid in pyramids for one in _worth(pyramid)]
    style, script = _part("page.css"), _script()
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; connect-src {connect}; "
        "base-uri 'none'; form-action 'none'"
    )
    picture_title, left, right = _SIDES[product.restored]
    facts = {
        "pictures": pictures,
        "left": left,
        "sources": {str(code): word for code, word in product.sources.items()},
        "reasons": {str(bit): word for bit, word in product.reasons.items()},
    }
    return Template(_part("page.html")).substitute(
        policy=policy,
        generator=f"geodiff {__version__}",
        title=text(PurePosixPath(product.target.rstrip("/")).name),
        lead=text(lead(product)),
        answers=answers(product, worth),
        picture_title=picture_title,
        left=left,
        right=right,
        style=style,
        coarse_note="Finer pixels of this place are not in this file; geodiff view shows them.",
        coarse_words=text(words),
        sections=sections(product, worth),
        footer=text(f"Made by geodiff {__version__}. {_KINDS[product.restored]}"),
        facts=as_script_json(facts),
        tiles=tiles,
        script=script,
    )


def _left_out(product: FilledProduct, chosen: Sequence[Embedded]) -> str:
    """What of the product is not in the file."""
    if all(one.whole for one in chosen):
        words = "This file holds every pixel of the product, in 256 steps"
        exact = all(one.exact for one in chosen)
        return f"{words}." if exact else f"{words}, compressed as photographs are; geodiff view shows them as they are."
    full, of = sum(one.full for one in chosen), sum(one.full_of for one in chosen)
    dates = sum(len(one.dates) for one in chosen), sum(len(p.dates) for p in product.pictures)
    kept = f"{full:,} of the {of:,} tiles that hold gaps" if full < of else f"all {of:,} tiles that hold gaps"
    words = f"To stay small, this file holds overviews, and full resolution in {kept}"
    if dates[0] < dates[1]:
        words += f", of {dates[0]} of {dates[1]} dates"
    return f"{words}; geodiff view {product.target} shows everything."


def _described(pyramid: Pyramid, shown: Sequence[int], gaps: Mapping[int, Any] | None) -> dict[str, Any]:
    """What the script has to know of one picture."""
    picture = pyramid.picture
    rows, columns = picture.shape
    bands = [_band(picture, place, coding) for place, coding in enumerate(pyramid.codings)]
    return {
        "name": picture.name,
        "rows": rows,
        "columns": columns,
        "south_up": picture.south_up,
        "levels": pyramid.levels,
        "tile": TILE,
        "bands": bands,
        "composite": _composite(picture, pyramid.codings),
        "dates": picture.dates,
        "shown": list(shown),
        "left_out_dates": len(picture.dates) - len(shown),
        "gaps": gaps,
    }


def _band(picture: Picture, place: int, coding: Coding) -> dict[str, Any]:
    variable, band = picture.value, picture.value.bands[picture.bands[place]]
    turn = goes_round(band, coding.table, variable.name) if coding.histogram.any() else None
    two_signs = has_two_signs(variable, band, *coding.range(_STRETCHED))
    return {
        "name": picture.band_names[place],
        "units": picture.units[place],
        "table": [float(f"{value:.7g}") for value in coding.table],
        "histogram": coding.histogram.tolist(),
        "error": coding.error,
        "turn": [turn.start, turn.start + turn.length] if turn else None,
        "colours": "round" if turn else "zero" if two_signs else "grey",
    }


def _worth(pyramid: Pyramid) -> list[Worth]:
    picture = pyramid.picture
    bands = zip(picture.band_names, picture.units, pyramid.codings, strict=True)
    return [
        Worth(picture.name, name, units, *coding.range(0.05), coding.typical)
        for name, units, coding in bands
        if coding.histogram.any()
    ]


def _composite(picture: Picture, codings: Sequence[Coding]) -> list[int] | None:
    """Bands that make a colour picture: by their names, or three or four bands of 8 bits; None where none do.

    A band without any value would leave nothing to see.
    """
    names = [name.lower() for name in picture.band_names]
    trios = [[names.index(name) for name in trio] for trio in _COLOURS if all(name in names for name in trio)]
    if picture.value.dtype == np.uint8 and len(names) in (3, 4):
        trios.append([0, 1, 2])
    return next((trio for trio in trios if all(codings[band].histogram.any() for band in trio)), None)


def gap_places(pyramid: Pyramid, date: int) -> list[list[int]]:
    """Row and column of the middle of the largest gaps of a date, and how many pixels they span; largest first."""
    from scipy.ndimage import find_objects, label

    level = next(k for k in range(pyramid.levels) if max(pyramid.size(k)) <= _PLACES_WITHIN or k == pyramid.levels - 1)
    gaps = (pyramid.whole(date, level).key >> 24 == 2).any(axis=0)
    marked, _ = label(gaps)
    sizes = np.bincount(marked.ravel())[1:]
    boxes = find_objects(marked)
    largest = np.argsort(-sizes, kind="stable")[:_MOST_PLACES]
    return [
        [*(((s.start + s.stop) << level) // 2 for s in boxes[i]), max(s.stop - s.start for s in boxes[i]) << level]
        for i in largest
    ]


def _script() -> str:
    parts = "\n".join(_part(name) for name in _SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}}})();\n'


@cache
def _part(name: str) -> str:
    return (files("geodiff.report") / name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
