"""The facts of a source as text for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geodiff.credentials import legible
from geodiff.gaps import percent
from geodiff.inspection.picture import GAP, LEFT_OUT
from geodiff.suspects import Suspect, told, told_of_edge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["render"]

_WHY = {
    "qa_fill": "the quality band calls it fill; `--fillable all` would fill it",
    "undefined": "the quantity does not exist here, such as sea temperature on land, or it is off the globe",
    "collar": "the scene's collar or the swath's outside; `--fillable all` would fill it",
    "below_ground": "never observed at this level, as below the sea floor; `--fillable all` would fill it",
    "never_seen": "never observed on any date, as land in sea temperature; `--fillable all` or `PATH` would fill it",
}
_WHY_ROUGHLY = {"never_seen": "at most: not observed on any of the sampled dates; `--fillable all` would fill it"}


def render(facts: Mapping[str, Any]) -> str:
    """The facts of `describe` as text for a person."""
    files = f", {facts['files']} files" if facts["files"] > 1 else ""
    items = f", {facts['items']} Items" if facts["items"] else ""
    lines = [f"{facts['source']}: {facts['driver']}{items}{files}"]
    for quality in facts["quality"]:
        explains = quality["explains"] if isinstance(quality["explains"], str) else ", ".join(quality["explains"])
        of = "" if explains == quality["name"] else f", for {explains}"  # special numbers stand in the band itself
        alone = f" ({', '.join(quality['alone'])} alone)" if "alone" in quality else ""
        lines.append(f"quality: {quality['name']} read as {quality['preset']}{of}{alone}")
    for variable in facts["variables"]:
        lines += ["", *_variable_lines(variable)]
    return "\n".join(legible(line, lines=False) for line in lines)


def _variable_lines(facts: Mapping[str, Any]) -> list[str]:
    grid, bands = facts["grid"], facts["bands"]
    rows = [("grid", f"{grid['rows']:,} rows x {grid['columns']:,} columns")]
    rows += _place_rows(grid)
    if facts["dates"]:
        rows.append(("dates", _dates_text(facts["dates"])))
    rows += _band_rows(bands)
    if "gaps" in facts:
        rows += _gap_rows(facts["gaps"])
        rows += [("note", line) for line in facts["gaps"].get("notes", ())]
        rows += [("warning", line) for line in told([Suspect(**s) for s in facts["gaps"].get("suspects", ())])]
        rows += [("warning", line) for line in told_of_edge(facts["gaps"].get("narrow_edge", 0.0))]
    else:
        rows.append(("gaps", "not checked: no continuous band; `fill` copies it unchanged"))
    shown = facts.get("thumbnail")
    return [facts["name"], *(f"  {name:<9} {text}".rstrip() for name, text in rows), *_picture_lines(shown)]


def _place_rows(grid: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not grid["georeferenced"]:
        points = f"{grid['control_points']} ground control points" if "control_points" in grid else "none"
        return [("place", f"{points}: a camera frame or a swath, filled pixel by pixel; it has no collar")]
    a, b, c, d, e, f = grid["affine"]
    x, y = grid["pixel"]
    turned = ", rotated" if b or d else ", south-up" if e > 0 else ""
    return [
        ("CRS", grid["crs"] or "none; only the affine"),
        ("affine", f"x = {a:.10g} column {b:+.10g} row {c:+.10g}; y = {d:.10g} column {e:+.10g} row {f:+.10g}"),
        ("pixel", f"{x:.6g} x {y:.6g} {grid['units']}{turned}"),
        ("bounds", " ".join(f"{bound:.8g}" for bound in grid["bounds"])),
    ]


def _dates_text(dates: Mapping[str, Any]) -> str:
    count, timed, step = dates["count"], dates["timed"], dates["median_step_days"]
    if not timed:
        return f"{count:,} without a readable time; treated as evenly spaced, in the order of the file"
    if count == 1:
        return str(dates["first"])
    every = "" if step is None else f", {step:.3g} {'day' if step == 1 else 'days'} apart in the median"
    order = "" if dates["in_order"] else ", not in time order"
    lost = "" if timed == count else f"; {count - timed:,} of them without a time"
    return f"{count:,} from {dates['first']} to {dates['last']}{every}{order}{lost}"


def _band_rows(bands: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """One line for each run of bands stored alike."""
    rows: list[tuple[str, str]] = []
    first = 0
    for number in range(1, len(bands) + 1):
        if number == len(bands) or _encoding(bands[number]) != _encoding(bands[first]):
            place = f"band {first + 1}" if number == first + 1 else f"{first + 1} to {number}"
            rows.append((place, f"{_names(bands[first:number])}: {_encoding(bands[first])}"))
            first = number
    return rows


def _names(bands: Sequence[Mapping[str, Any]]) -> str:
    names = [band["name"] for band in bands]
    return ", ".join(names) if len(names) <= 6 else f"{names[0]}, {names[1]} ... {names[-1]}"


def _encoding(band: Mapping[str, Any]) -> str:
    """`continuous, int16, nodata -32768, physical = stored x 0.01 + 273.15, in K`."""
    words = [band["kind"], band["dtype"]]
    words.append(_nodata([v for v in (band["nodata"], *band["more_nodata"]) if v is not None]))
    if band["scale"] != 1 or band["offset"] != 0:
        words.append(f"physical = stored x {band['scale']:g} {band['offset']:+g}")
    if band["valid_range"]:
        words.append("valid {:.7g} to {:.7g}".format(*map(float, band["valid_range"])))
    return ", ".join([*words, *([f"in {band['units']}"] if band["units"] not in (None, "", "1") else [])])


def _nodata(missing: Sequence[Any]) -> str:
    """The stored numbers that mean missing, each written once."""
    spelt = list(dict.fromkeys(f"{v:g}" if isinstance(v, float) else str(v) for v in missing))
    more = f" and {len(missing) - 3} special values" if len(missing) > 3 else ""
    return f"nodata {' or '.join(spelt[:3])}{more}" if spelt else "no nodata value"


def _gap_rows(gaps: Mapping[str, Any]) -> list[tuple[str, str]]:
    total = gaps["values"]
    if not gaps["missing"]:
        return [("gaps", "none" if gaps["exact"] else f"none in the {gaps['looked_at']:,} values sampled")]
    rows = [("missing", _share(gaps["missing"], total))]
    rows += [
        ("" if i else "because", f"{name} {percent(share)}") for i, (name, share) in enumerate(gaps["reasons"].items())
    ]
    if gaps["missing"] == total:
        rows.append(("warning", "no value is known, so nothing can be filled; check nodata, masks and quality flags"))
        return rows
    why = _WHY if gaps["exact"] else _WHY | _WHY_ROUGHLY
    rows.append(("to fill", _share(gaps["to_fill"], total)))
    rows += [("left out", f"{_share(n, total)}: {why.get(cause, cause)}") for cause, n in gaps["left_out"].items()]
    if not gaps["exact"]:
        note = f"estimated from {gaps['looked_at']:,} of {total:,} values; `geodiff fill ... --dry-run` reads all"
        rows.append(("", note))
    return rows


def _share(count: int, total: int) -> str:
    return f"{count:,} of {total:,} values ({percent(count / total)})"


def _picture_lines(shown: Mapping[str, Any] | None) -> list[str]:
    if not shown:
        return []
    date = f" on {shown['date']}" if shown["date"] else ""
    marks = f"dark to bright, {GAP} to fill, {LEFT_OUT} left out or nothing known"
    lines = shown["lines"]
    border = "─" * (max(map(len, lines)) if lines else 0)
    return [f"  {shown['band']}{date}: {marks}", f"  ┌{border}┐", *(f"  │{line}│" for line in lines), f"  └{border}┘"]
