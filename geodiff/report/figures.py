"""What the page says in words, tables and plots, from the record of the run and the product's own attributes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from geodiff.gaps import percent
from geodiff.plan import CAUSES
from geodiff.record import FEW_TRIALS, why_refused
from geodiff.report.markup import (
    answer,
    figure,
    items,
    number,
    number_range,
    paragraph,
    preformatted,
    section,
    table,
    with_units,
)
from geodiff.report.plots import coverage_plot, pit_plot
from geodiff.report.product import FilledProduct

__all__ = ["Worth", "answers", "lead", "sections"]

_STAGES = {"scan_and_fit": "finding gaps and fitting", "fill": "filling", "restore": "restoring", "write": "writing"}
_GATES = {
    "coverage90": "share of hidden known values inside value ± 1.645 standard errors (0.90 is right)",
    "unfilled": "share of the gap pixels that stayed unfilled",
    "seam": "gradient across window edges over that elsewhere (about 1 without seams)",
    "seam_chance": "how far chance alone moves the seam index: its spread over lines placed elsewhere",
}
_ABOUT_RIGHT = (0.85, 0.95)
"""Shares that intervals of 90 % hold of hidden values where their width is about right."""
_SURE = 20
"""Places from which on that is more than chance: values beside each other in one of them are off together."""
_DISTANCES = ("≤ 2 pixels", "2 to 4", "4 to 8", "8 to 16", "farther")


@dataclass(frozen=True, slots=True)
class Worth:
    """What an estimate of one band is worth, in its own units."""

    variable: str
    band: str
    units: str
    low: float
    """All but a twentieth of the band's values are larger,"""
    high: float
    """and all but a twentieth smaller."""
    error: float
    """The median standard error of what was filled; 0 where nothing was."""


def lead(product: FilledProduct) -> str:
    """The run in one sentence."""
    told = product.record.get("variables", {})
    if not told:
        return f"{len(product.pictures)} filled variable{'s' * (len(product.pictures) > 1)}; the run's record is gone."
    filled = sum(facts.get("filled", 0) for facts in told.values())
    values = sum(facts.get("values", 0) for facts in told.values())
    if product.restored:
        gaps = f"{filled:,} of them ({_percent(filled, values)})" if filled else "none of them"
        return f"{values:,} values were restored; {gaps} had been missing."
    missing = sum(facts.get("missing", 0) for facts in told.values())
    if not filled:
        return _nothing_filled(missing, values)
    words = f"{missing:,} of {values:,} values ({_percent(missing, values)}) were missing; "
    if filled == missing:
        return words + "all of them are now estimated."
    return words + f"{_counted(filled, values)} are now estimated, the others are left as they were."


def _nothing_filled(missing: int, values: int) -> str:
    left = f"{missing:,} of {values:,} values ({_percent(missing, values)}) are missing and were left as they are"
    return f"Nothing was filled: {left if missing else f'none of the {values:,} values was missing'}."


def answers(product: FilledProduct, worth: Sequence[Worth] = ()) -> str:
    """Whether the estimates can be trusted, in a few figures that stand before everything else; HTML."""
    told = [facts for facts in _variables(product).values() if facts.get("filled") or product.restored]
    if not told:
        return ""
    checks = [facts.get("self_check") or {} for facts in told]
    found = [*_intervals(product, checks), *_beside_others(product, checks), *_typical(worth, product)]
    return f'<dl class="answers" aria-label="Can it be trusted?">{"".join(found)}</dl>'


def _intervals(product: FilledProduct, checks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if product.restored:
        return
    name, coverage = "90\u00a0% intervals held", product.record.get("gates", {}).get("coverage90")
    if coverage is None:
        yield answer(name, "not checked", "nothing could be hidden in this scene to check the errors by")
        return
    pixels = sum(check.get("pixels") or 0 for check in checks)
    places = max(check.get("trials") or 0 for check in checks)  # of variables on one grid much the same ones
    of = f"of {pixels:,} known values hidden for the purpose"
    if 0 < places < FEW_TRIALS:
        judged = f"in {places} place{'s' * (places > 1)} only: too few to rely on"
    else:
        low, high = _ABOUT_RIGHT
        sides = "too small" if coverage < low else "too large" if coverage > high else "about right"
        seen = "look" if places < _SURE else "are"
        judged = f"in {places} places; the standard errors {seen} {sides} here"
    yield answer(name, f"{100 * coverage:.0f}\u00a0%", f"{of}, {judged}")


def _beside_others(product: FilledProduct, checks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The error at hidden values and that of the best simple method, where one variable has been checked."""
    leagues = [check["league"] for check in checks if check.get("league")]
    if len(leagues) != 1:
        return
    own = str(product.attributes.get("geodiff_filler") or leagues[0][0][0])
    errors = {name: rmse for name, rmse, _ in leagues[0]}
    others = [(rmse, name) for name, rmse in errors.items() if name != own]
    if own in errors:
        words = "of the spread of the values, root mean square"
        words += f"; the best other of its list, {min(others)[1]}: {min(others)[0]:.2f}" if others else ""
        yield answer("Error at hidden values", f"{errors[own]:.2f}", words)


def _typical(worth: Sequence[Worth], product: FilledProduct) -> Iterator[str]:
    estimated = [one for one in worth if one.error > 0]
    if not estimated:
        return
    name = "Typical standard error"
    half = "half of all have less" if product.restored else "half of the estimates have less"
    if len(estimated) == 1:
        (one,) = estimated
        low, high = number_range(one.low, one.high)
        span = f"90\u00a0% of the values of {one.band} lie between {low} and {with_units(high, one.units)}"
        yield answer(name, with_units(number(one.error, one.error), one.units), f"{half}; {span}")
    elif len({(one.variable, one.units) for one in estimated}) == 1:
        least, most = (by(one.error for one in estimated) for by in (min, max))
        ends = " to ".join(number(one, least, most) for one in (least, most))
        yield answer(name, with_units(ends, estimated[0].units), f"by band, as the table below says; {half}")
    else:
        shares = [one.error / (one.high - one.low) for one in estimated if one.high > one.low]
        shown = " to ".join(_percent(by(shares, default=0.0), 1) for by in (min, max))
        yield answer(name, shown, f"of the span of each band's values, as the table below says; {half}")


def sections(product: FilledProduct, worth: Sequence[Worth] = ()) -> str:
    """Everything below the picture, as HTML."""
    return "\n".join([_measured(product), _gaps(product), _trust(product, worth), _run(product)])


def _percent(part: float, whole: float) -> str:
    return percent(part / whole if whole else 0.0, 0.01).replace(" ", "\u00a0")


def _counted(part: int, whole: int) -> str:
    """A count and its share, which a narrow screen may break in two lines."""
    return f"{part:,} ({_percent(part, whole)})" if part else "0"


def _variables(product: FilledProduct) -> Mapping[str, Any]:
    found = product.record.get("variables", {})
    return found if isinstance(found, dict) else {}


# -- measured and invented


def _measured(product: FilledProduct) -> str:
    if product.restored:
        return _restored(product)
    parts = [
        paragraph(
            "Measured values are in the product bit for bit as they came; none was smoothed or corrected. "
            "Filled values are invented: estimates of what a sensor would most likely have seen, made from the pixels "
            "around, and from other bands and dates where there are any. They are no observations. A texture that "
            "looks right is plausible, not proof that something was there."
        ),
        paragraph(
            "Each filled value has a standard error: value ± 1.645 standard errors is meant to hold 90 % of the truth. "
            "Where members were drawn, each is one equally likely version, and they differ where nobody knows. The "
            "layers “source” and “reason” say of every pixel whether it was measured, what filled it, and why it was "
            "missing."
        ),
    ]
    told = _variables(product)
    rows = [
        (
            name,
            _counted(facts["known"], facts["values"]),
            _counted(facts["filled"], facts["values"]),
            _counted(facts["missing"] - facts["filled"], facts["values"]),
        )
        for name, facts in told.items()
    ]
    head = ("Variable", "Measured", "Invented", "Still missing")
    if rows:
        parts.append(table("Values of the bands that could be filled", head, rows))
    else:
        parts.append(_no_record(product))
    return section("measured", "What is measured and what is invented", *parts)


def _restored(product: FilledProduct) -> str:
    parts = [
        paragraph(
            "Every value of a restored frame is an estimate, also where the sensor saw something: noise was removed, "
            "or resolution added. The measurements are only in the source. The picture shows the restored frame "
            "on both sides of the line, and marks on the left what had been missing."
        ),
        paragraph(
            "Each value has a standard error: value ± 1.645 standard errors is meant to hold 90\u00a0% of the truth. "
            "Detail finer than that is plausible, not proof that something was there."
        ),
    ]
    for name, facts in _variables(product).items():
        noise = [(band, _noise(level)) for band, level in facts.get("noise", {}).items()]
        if noise:
            parts.append(table(f"Noise of {name}, in its own units", ("Band", "Standard deviation"), noise))
    return section("measured", "What was restored", *parts)


def _noise(level: float | Sequence[float]) -> str:
    return ", ".join(f"{n:.4g}" for n in (level if isinstance(level, (list, tuple)) else [level]))


def _no_record(product: FilledProduct) -> str:
    words = f"The record of the run (.geodiff.json) is not beside {product.target}, so its figures are not here."
    return paragraph(words, "warning")


# -- gaps


def _gaps(product: FilledProduct) -> str:
    parts = []
    for name, facts in _variables(product).items():
        values = facts["values"]
        reasons = [
            (_spoken(why), f"{round(share * values):,}", _percent(share, 1))
            for why, share in sorted(facts.get("reasons", {}).items(), key=lambda pair: -pair[1])
        ]
        if reasons:
            caption = f"Why values of {name} were missing; a value may have several reasons"
            parts.append(table(caption, ("Reason", "Values", "of all"), reasons))
        left = [
            (CAUSES.get(why, _spoken(why)), f"{n:,}", _percent(n, values))
            for why, n in facts.get("left_out", {}).items()
            if n
        ]
        if left:
            parts.append(table(f"Missing values of {name} not to be filled", ("Cause", "Values", "of all"), left))
        if facts.get("refused"):
            why = why_refused(str(product.record.get("command", "")))
            parts.append(paragraph(f"{facts['refused']:,} values of {name} were left empty: {why}."))
    if not parts:
        parts = [paragraph("There was no gap." if _variables(product) else "Not recorded.")]
    return section("gaps", "The gaps", *parts)


def _spoken(word: str) -> str:
    return str(word).replace("_", " ")


# -- trust


def _trust(product: FilledProduct, worth: Sequence[Worth]) -> str:
    if product.restored:
        words = (
            "A restoration hides no pixels of the frame to check itself. Its accuracy and coverage on frames whose "
            "truth is known are in the model's card: geodiff model show."
        )
        return section("trust", "How far to trust it", paragraph(words), *_worths(worth))
    if product.record and not any(facts.get("filled") for facts in _variables(product).values()):
        return section("trust", "How far to trust it", paragraph("Every value is as it was; there is no estimate."))
    hidden = (
        "Before filling, known pixels were hidden under the scene's own gap shapes. The figures here are from "
        "those of them that the fit never saw. They are measurements of this run on this scene, as far as known "
        "ground is like the ground under the gaps."
    )
    checks = [facts.get("self_check") or {} for facts in _variables(product).values()]
    parts = [paragraph(hidden)] if any(check.get("pixels") for check in checks) else []
    for name, facts in _variables(product).items():
        check = facts.get("self_check", {})
        if not check and not facts.get("filled"):
            continue  # nothing was estimated
        tables = [*_league(name, check, product), *_weights(name, facts.get("fit", {}))]
        parts += [*_checked(name, check), f'<div class="side-by-side">{"".join(tables)}</div>' if tables else ""]
    parts += [*_worths(worth), *_judged(product.record.get("gates", {}))]
    return section("trust", "How far to trust it", *parts)


def _checked(name: str, check: Mapping[str, Any]) -> Iterator[str]:
    if not check.get("pixels"):
        yield paragraph(
            f"{name}: the fill could not be checked here: there are too few known pixels to hide some, or the gaps are "
            "too small to imitate. Weights and standard errors are the stored ones for ordinary scenes, and nothing "
            "here tells how well they suit this one."
        )
        return
    trials, pixels = check["trials"], check["pixels"]
    care = " That is few; read the figures with care." if trials < FEW_TRIALS else ""
    yield paragraph(f"{name}: {pixels:,} values hidden in {trials} place{'s' * (trials > 1)}.{care}")
    plots = list(_plots(name, check))
    if plots:
        yield f'<div class="plots">{"".join(plots)}</div>'


def _league(name: str, check: Mapping[str, Any], product: FilledProduct) -> Iterator[str]:
    league = check.get("league") or ()
    if league:
        own = product.attributes.get("geodiff_filler") or league[0][0]
        caption = f"{name}: errors at the same hidden values, best first; 1 is the spread of the band itself"
        rows = [(filler, f"{rmse:.3f}", f"{mae:.3f}") for filler, rmse, mae in league]
        yield table(caption, ("Filler", "Root mean square", "Mean absolute"), rows, own=str(own))
    elif check.get("rmse") is not None:
        yield paragraph(f"Root mean square error {check['rmse']:.3f}, where 1 is the spread of the band itself.")


def _plots(name: str, check: Mapping[str, Any]) -> Iterator[str]:
    pairs, counts = check.get("coverage") or (), check.get("pit") or ()
    if pairs:
        near = min(pairs, key=lambda pair: abs(pair[0] - 0.9))
        meant, held = (f"{100 * share:.0f}\u00a0%" for share in near)
        words = f"Coverage of {name}: intervals meant to hold {meant} of the hidden values held {held}."
        reading = "Above the dashed line the standard errors are too large, below it too small."
        yield figure(coverage_plot(pairs, words), f"{words} {reading}")
    if sum(counts):
        words = (
            f"Where the truth of {name} fell in the predicted distribution (PIT). Flat is right; high at both ends "
            "means standard errors too small, a hump too large, a slope a bias."
        )
        yield figure(pit_plot(counts, words), words)


def _worths(worth: Sequence[Worth]) -> Iterator[str]:
    """What an estimate of each band is worth, in units that a reader knows."""
    plain = len({one.variable for one in worth}) == 1
    rows = [
        (
            one.band if plain or one.band == one.variable else f"{one.variable}: {one.band}",
            number(one.error, one.error),
            " to ".join(number_range(one.low, one.high)),
            one.units or "–",
            _percent(one.error, one.high - one.low) if one.high > one.low else "–",
        )
        for one in worth
        if one.error > 0
    ]
    if rows:
        head = ("Band", "Typical standard error", "90\u00a0% of all values", "Units", "Error over their span")
        yield table("Accuracy of an estimate: the median standard error next to the values", head, rows)


def _weights(name: str, fit: Mapping[str, Any]) -> Iterator[str]:
    weights = fit.get("weights")
    if not isinstance(weights, dict) or not weights:
        return
    rows = [(part, *(f"{w:.2f}" for w in row)) for part, row in weights.items() if max(row, default=0) > 0]
    caption = f"{name}: weight of each part by distance to the nearest known pixel ({fit.get('weights_from', 'fit')})"
    if rows and len(rows[0]) == len(_DISTANCES) + 1:
        yield table(caption, ("Part", *_DISTANCES), rows)


def _judged(gates: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        (name, "too small a run to say" if value is None else f"{value:.3f}", _GATES.get(name, ""))
        for name, value in gates.items()
    ]
    if rows:
        yield table("The run as a whole", ("Figure", "Value", "Meaning"), rows)


# -- the run


def _run(product: FilledProduct) -> str:
    record, attributes = product.record, product.attributes
    command = record.get("command") or attributes.get("geodiff_command") or ""
    parts = [preformatted(command, "The exact command") if command else "", *_failures(record)]
    facts = [(_spoken(k).removeprefix("model ") or k, v) for k, v in record.get("model", {}).items()]
    seconds, peak = record.get("seconds", {}), record.get("peak_memory_bytes", 0)
    rows = [
        ("status", record.get("status", "not recorded")),
        ("source", record.get("source", "not recorded")),
        ("started", record.get("started", "not recorded")),
        *((_STAGES.get(stage, stage), f"{time:.1f} s") for stage, time in seconds.items()),
        *([("peak memory", f"{peak / 2**20:,.0f} MiB")] if peak else []),
        ("blocks", _blocks(record.get("blocks", 0), record.get("blocks_resumed", 0))),
        ("seed", record.get("seed", attributes.get("geodiff_seed", ""))),
        *facts,
        ("machine", record.get("machine", "not recorded")),
        ("fingerprint", record.get("fingerprint") or attributes.get("geodiff_fingerprint", "")),
    ]
    versions = record.get("versions") or _versions(str(attributes.get("geodiff_versions", "")))
    pair = [table("The run", ("Fact", "Value"), rows) if record else _no_record(product)]
    if versions:
        pair.append(table("Versions", ("Package", "Version"), list(versions.items())))
    parts.append(f'<div class="pair">{"".join(pair)}</div>')
    written: Sequence[str] = record.get("products", ())
    if written:
        parts += ["<h3>Files</h3>", items(written)]
    return section("run", "The run", *parts)


def _blocks(count: int, resumed: int) -> str:
    return f"{count}, of which an earlier run had done {resumed}" if resumed else str(count)


def _failures(record: Mapping[str, Any]) -> Iterator[str]:
    failed = record.get("failed_blocks") or {}
    if failed:
        yield paragraph(f"{len(failed)} blocks failed and are empty; the same command tries them again.", "warning")
        yield table("Blocks that failed", ("Block", "Why"), list(failed.items()))


def _versions(words: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words.split() if "=" in word)
