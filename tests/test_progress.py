"""Long work says how far it is: pieces, and shares of the present one."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from geodiff import progress
from geodiff.progress import Progress, within


def test_shares_of_a_piece_count(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    with caplog.at_level(logging.INFO), Progress("filling", 2, "blocks") as shown:
        within(0.25)
        shown.advance()
        within(0.5)
        shown.advance()
    said = [record.message for record in caplog.records]
    assert said == [f"filling: {done} %, less than a minute left" for done in (12, 50, 75, 100)]


def test_without_a_bar_the_log_still_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    with caplog.at_level(logging.INFO), Progress("filling", 2, "blocks", quiet=True) as shown:
        shown.advance()
    assert caplog.messages == ["filling: 50 %, less than a minute left"]


def test_many_pieces_are_whole_numbers(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    with caplog.at_level(logging.INFO), Progress("filling", 12_345, "blocks", done=6_788) as shown:
        shown.advance()
    assert caplog.records[0].message.startswith("filling: 6,789 of 12,345 blocks")


def test_shares_belong_to_the_innermost_and_to_nobody_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    within(0.5)  # nothing is shown
    seen: list[tuple[str, float]] = []
    monkeypatch.setattr(Progress, "within", lambda self, share: seen.append((self._what, share)))
    with Progress("outer", 3, "scenes"):
        with Progress("inner", 2, "blocks"):
            within(0.1)
        within(0.2)
    within(0.3)
    assert seen == [("inner", 0.1), ("outer", 0.2)]


def test_a_bar_of_one_piece_is_not_done_before_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """It said `1 of 1 blocks` from the middle of the block on."""
    said: list[str] = []
    bar = SimpleNamespace(
        add_task=lambda *_, told, **__: said.append(told),
        update=lambda *_, told, **__: said.append(told),
        start=lambda: None,
        stop=lambda: None,
    )
    monkeypatch.setattr(progress, "_bar", lambda: bar)
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True)
    with Progress("filling", 1, "blocks") as shown:
        within(0.64)
        shown.advance()
    assert said == ["0 %", "64 %", "100 %"]
