"""What every test may ask for, and the calm in which they run: one thread a process, no network, no telemetry."""

import logging
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy, OpenBLAS and torch read it: one thread a process, as in production
os.environ["HF_HUB_OFFLINE"] = "1"  # a test that would fetch a model from a hub fails at once
os.environ["DO_NOT_TRACK"] = "1"

import numpy as np
import pytest
from hypothesis import settings

# No deadline: machines differ, and a law holds at any speed. On CI the examples are the same in every run.
settings.register_profile("geodiff", deadline=None, print_blob=True, derandomize=os.environ.get("CI") == "true")
settings.load_profile("geodiff")

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Give the folder of real rasters that GEODIFF_DATA names; skip aloud where it names none."""
    named = os.environ.get("GEODIFF_DATA")
    if not named:
        pytest.skip("needs real rasters: GEODIFF_DATA is not set")
    folder = Path(named)
    if not folder.is_dir():
        pytest.fail(
            f"GEODIFF_DATA={named} is not a folder; unset it, or name the folder that holds train/ and evaluate/"
        )
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    """Give random numbers that are the same in every run and for every test."""
    return np.random.default_rng(20_240_229)


@pytest.fixture(autouse=True)
def own_log_level() -> Iterator[None]:
    """Put back how much geodiff says: -q and -v set it for the whole process."""
    said = logging.getLogger("geodiff")
    was = said.level
    yield
    said.setLevel(was)


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """Put back what the command line sets up for a process of its own."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if any(map(shutil.which, CHROMIUMS)):
        return
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.skip(reason="no Chromium on this machine (apt-get install chromium)"))


def pytest_runtest_setup() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)
