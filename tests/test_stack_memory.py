"""The memory of a stack of dates stays under what the plan says, for few dates and for many."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parent / "bench" / "bench_stack.py"


@pytest.mark.slow
@pytest.mark.parametrize("dates", [40, 240])
def test_the_peak_stays_under_the_plan(dates: int) -> None:
    words = [sys.executable, str(BENCH), "--dates", str(dates), "--size", "256", "--filler", "linear-time"]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    figures = json.loads(said.splitlines()[-1])
    assert figures["filled"] > 0
    assert figures["peak"] <= figures["planned"]
