"""What every test may ask for, and the calm in which they run: one thread a process, no network, no telemetry."""

import http.server
import logging
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

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
def logging_as_before() -> Iterator[None]:
    """Put back what the command line sets up for a process of its own, and how much geodiff says after -q and -v."""
    said, root = logging.getLogger("geodiff"), logging.getLogger()
    level, before = said.level, (root.handlers[:], root.level)
    yield
    said.setLevel(level)
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


class Ranges(http.server.SimpleHTTPRequestHandler):
    """A server of files that answers for parts of them, as object stores do."""

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        asked = self.headers.get("Range")
        first, _, last = (asked or "bytes=0-").removeprefix("bytes=").partition("-")
        part = content[int(first) : int(last) + 1 if last else None]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Accept-Ranges", "bytes")
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *said: Any) -> None:
        """Say nothing."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """Give the address of a web server on loopback that serves the files of `tmp_path`."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()
