"""What a variable is, by its name, standard name and units, and so the transform in which it is filled."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geodiff.io import Band, Variable

__all__ = ["has_two_signs", "is_elevation", "may_be_amount", "transform_of"]

_RAIN = ("rain", "precipitation", "snowfall")
_SIGNED = ("anom", "difference", "bias", "departure", "minus", "index", "standardi", "trend", "change", "deficit")
"""How words begin that name rain (a terrain and a strain are none), and what can be negative although it is of rain."""
_ABOUT = ("probab", "quality", "fraction")
"""Parts of the names of what is said about rain, and is none."""
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
"""Where a word ends in names as NASA and JAXA write them: hourlyPrecipRate, surfacePrecipitation."""
_DEPARTURES = ("anom", "difference", "bias", "departure", "trend", "change")
"""How words begin that name what departs from something, this way or that."""
_INDEX = re.compile(r"normali[sz]ed[ _-]*difference")
"""What an index of vegetation, water or snow is called in full, and is no departure."""
_RARER = 0.25
"""What one sign reaches to at least, as a share of the other, where no name tells that both count."""
_LOGARITHMS = re.compile(r"\s*(db|log|lg|ln)", re.IGNORECASE)
"""How units begin that are no amounts any more: radar reflectivity, chlorophyll stored as its logarithm."""
_MASS = re.compile(r"\s*(k?g)\b")
"""How units begin that are larger than the milligrams in which chlorophyll is mostly given."""


_GROUND = ("elev", "altitude", "topograph", "bathym", "orograph", "geoid", "ellipsoid")
"""How words begin that name heights above a zero that is no end: sea level, an ellipsoid."""
_MODELS = ("dem", "dtm", "dsm", "hgt")
_LENGTH = re.compile(r"(m|met(er|re)s?|ft|foot|feet)", re.IGNORECASE)
_NUMBERED = re.compile(r"band_\d+")
"""Bands that have no name; those in metres are mostly elevations, as drivers of such models give them."""
_NO_ZERO = re.compile(r"\s*(db|log|lg|ln|deg|°|celsius|fahrenheit|[cf]$)", re.IGNORECASE)
"""How units begin whose zero means nothing: of logarithms, degrees of any kind."""


def may_be_amount(units: str) -> bool:
    """Whether what has such units, or none, may be something of which there is no less than nothing."""
    return not _NO_ZERO.match(units)


def is_elevation(variable: Variable, band: Band) -> bool:
    """Whether a band is of heights of the ground, which has some below zero: by names, units or a vertical CRS."""
    keys = ("standard_name", "long_name")
    named = " ".join((variable.name, band.name, *(str(variable.attributes.get(key, "")) for key in keys)))
    words = re.split("[^a-z]+", named.lower())
    crs = variable.geobox.crs
    return (
        any(word.startswith(_GROUND) or word in _MODELS for word in words)
        or bool(_NUMBERED.fullmatch(band.name) and _LENGTH.fullmatch(band.units.strip()))
        or (crs is not None and any(part.is_vertical for part in crs.proj.sub_crs_list))
    )


def has_two_signs(variable: Variable, band: Band, low: float, high: float) -> bool:
    """Whether the zero between `low` and `high`, in physical units, parts what means one thing from its opposite.

    So of anomalies, differences, winds and velocities; not of elevations, degrees Celsius or decibels, whose zero is a
    convention, nor where one sign is rare, as it is of most indices of vegetation.
    """
    if not low < 0 < high:
        return False
    named = (variable.name, band.name, *(str(variable.attributes.get(k, "")) for k in ("standard_name", "long_name")))
    if any(word.startswith(_DEPARTURES) for word in re.split("[^a-z]+", _INDEX.sub("", " ".join(named).lower()))):
        return True
    shares = sorted((-low, high))
    return shares[0] > _RARER * shares[1] and may_be_amount(band.units) and not is_elevation(variable, band)


def transform_of(variable: Variable) -> str:
    """A logarithm for chlorophyll, which spans decades; the cube root for rain, which is mostly none; linear otherwise.

    One of the transforms of `Normalisation`.
    """
    named = f"{variable.name} {variable.attributes.get('standard_name', '')}"
    spelt = _HUMP.sub("_", f"{named} {variable.attributes.get('long_name', '')}")
    named, words = named.lower(), re.split("[^a-z]+", spelt.lower())
    if any(word.startswith(_SIGNED) for word in words) or _LOGARITHMS.match(variable.bands[0].units):
        return "linear"  # has no zero to keep to
    if any(about in variable.name.lower() for about in _ABOUT):
        return "linear"
    pigment = "chlorophyll" in named or "conc_chl" in named or named.startswith("chl")
    if pigment and "fluorescence" not in named:  # which is noise about zero
        mass = _MASS.match(variable.bands[0].units)
        return f"log10 of {mass[1]}" if mass else "log10"
    return "cbrt" if any(word.startswith(_RAIN) or word == "precip" for word in words) else "linear"
