"""BLAS keeps to one thread while geodiff estimates, and has its own number back afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event, get_ident

import numpy as np
import pytest
import scipy.linalg  # noqa: F401 (brings a BLAS of its own)
from threadpoolctl import threadpool_info, threadpool_limits

import geodiff
from geodiff.fillers.kriging import Kriging
from geodiff.threads import each, one_thread, side_by_side


def _threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_one_thread_inside_and_the_callers_afterwards() -> None:
    with threadpool_limits(2, user_api="blas"):
        with one_thread(), one_thread():
            assert _threads() == {1}
        assert _threads() == {2}


def test_who_comes_in_meanwhile_shares_it() -> None:
    with threadpool_limits(2, user_api="blas"), ThreadPoolExecutor(1) as pool:

        def inside() -> set[int]:
            with one_thread():
                return _threads()

        with one_thread():
            assert pool.submit(inside).result() == {1}
            assert _threads() == {1}
        assert _threads() == {2}


def test_the_last_to_go_out_gives_it_back() -> None:
    """Blocks of a lazy fill run on several threads, which begin and end as they like."""
    came, left = Event(), Event()

    def inside() -> set[int]:
        with one_thread():
            came.set()
            assert left.wait(10)
            return _threads()

    with threadpool_limits(2, user_api="blas"), ThreadPoolExecutor(1) as pool:
        with one_thread():
            other = pool.submit(inside)
            assert came.wait(10)
        assert _threads() == {1}
        left.set()
        assert other.result() == {1}
        assert _threads() == {2}
        with one_thread():  # the pool's thread still lives, and has no say any more
            assert _threads() == {1}


def test_the_callers_own_limits_hold_again_while_a_thread_of_ours_lives() -> None:
    """threadpoolctl obeys none but the thread that set OpenBLAS last, without a word."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(one_thread()(lambda: None)).result()
        with threadpool_limits(2, user_api="blas"):
            assert _threads() == {2}


def test_an_error_inside_gives_it_back() -> None:
    with threadpool_limits(2, user_api="blas"):
        with pytest.raises(ZeroDivisionError), one_thread():
            1 / 0  # noqa: B018
        assert _threads() == {2}


def test_a_fill_is_computed_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[int]] = []
    plain = Kriging.within

    def watched(self: Kriging, *arguments: object) -> object:
        seen.append(_threads())
        return plain(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Kriging, "within", watched)
    image = np.random.default_rng(0).normal(size=(60, 60)).cumsum(0).cumsum(1).astype("f4")
    known = np.ones(image.shape, bool)
    known[20:30, 20:30] = False
    with threadpool_limits(2, user_api="blas"):
        geodiff.fill_array(image, known, filler="kriging")
        assert seen
        assert all(one == {1} for one in seen)
        assert _threads() == {2}


def test_pieces_come_one_after_the_other_unless_it_is_said_otherwise() -> None:
    here = get_ident()
    assert each(lambda piece: (piece, get_ident()), range(3)) == [(0, here), (1, here), (2, here)]
    with side_by_side(1):
        assert each(lambda _: get_ident(), range(3)) == [here] * 3


def test_pieces_go_side_by_side_and_keep_their_order() -> None:
    met = Barrier(3, timeout=10)
    with side_by_side(3):
        assert each(lambda piece: (met.wait() >= 0, piece)[1], range(6)) == list(range(6))
    assert each(lambda _: get_ident(), range(2)) == [get_ident()] * 2


def test_pieces_of_pieces_do_not_multiply_threads() -> None:
    def inner(_: int) -> set[int]:
        return {get_ident(), *each(lambda _: get_ident(), range(4))}

    with side_by_side(2):
        assert all(len(threads) == 1 for threads in each(inner, range(4)))


def test_pieces_are_made_while_others_are_worked_on() -> None:
    here, begun = get_ident(), Event()

    def made() -> Iterator[int]:
        yield from (0, 1)
        assert begun.wait(10), "the first piece waits for the last to be made"
        assert get_ident() == here
        yield 2

    def work(piece: int) -> int:
        begun.set()
        return piece

    with side_by_side(2):
        assert each(work, made()) == [0, 1, 2]


def test_what_a_piece_raises_is_raised() -> None:
    with side_by_side(2), pytest.raises(ZeroDivisionError):
        each(lambda piece: 1 // piece, [1, 0, 1])
