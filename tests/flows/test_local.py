"""The ending of every flow's command line: one line and the exit code of what happened."""

import os
import signal
from collections.abc import Callable

import pytest

from flows.local import run_here
from geodiff.errors import GateError, GeodiffError, JobError


def raising(error: BaseException) -> Callable[[], int]:
    def do() -> int:
        raise error

    return do


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (JobError("--steps 2"), 2, "error: --steps 2\n"),
        (GateError("no better"), 5, "error: no better\n"),
        (GeodiffError("failed"), 1, "error: failed\n"),
        (OSError(13, "No", "in"), 1, "error: [Errno 13] No: 'in'; check the path, its permissions and the disk\n"),
        (KeyboardInterrupt(), 130, "error: interrupted; the same command goes on where this one stopped\n"),
    ],
)
def test_what_is_refused_is_one_line_and_its_code(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_here(raising(error), verbose=True) == code
    assert capsys.readouterr().err == said


def test_what_is_done_gives_its_own_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here(lambda: 3, verbose=True) == 3
    assert capsys.readouterr().err == ""


def test_a_fault_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run_here(raising(ZeroDivisionError()), verbose=True)


def test_a_stop_by_a_scheduler_is_an_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def stopped() -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    assert run_here(stopped, verbose=True) == 130
    assert "interrupted; the same command goes on" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before
