"""A real Prefect server for the tests of the flows, and the scenes they fill."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from prefect.settings import PREFECT_HOME, PREFECT_SERVER_ANALYTICS_ENABLED, temporary_settings
from prefect.testing.utilities import prefect_test_harness

from tests.rasters import write


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run a server with a database of its own for all tests that ask for it; nothing is sent anywhere."""
    own = {PREFECT_HOME: tmp_path_factory.mktemp("prefect"), PREFECT_SERVER_ANALYTICS_ENABLED: False}
    with temporary_settings(own), prefect_test_harness(server_startup_timeout=400):
        yield


@pytest.fixture(scope="session")
def write_scene() -> Callable[..., Path]:
    """Give a function that writes a small scene with a hole of 150 pixels, or one without a known pixel."""
    return _write_scene


def _write_scene(path: Path, seed: int = 0, *, known: bool = True) -> Path:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:48, :64]
    values = np.rint(1000 + 100 * np.sin(y / 9) + 80 * np.cos(x / 7) + rng.normal(0, 3, (48, 64))).astype("uint16")
    values[20:30, 25:40] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(path, values if known else np.zeros_like(values))
