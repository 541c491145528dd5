"""A real Prefect server for the tests of the flows."""

from collections.abc import Iterator

import pytest
from prefect.settings import PREFECT_HOME, PREFECT_SERVER_ANALYTICS_ENABLED, temporary_settings
from prefect.testing.utilities import prefect_test_harness


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run a server with a database of its own for all tests that ask for it; nothing is sent anywhere."""
    own = {PREFECT_HOME: tmp_path_factory.mktemp("prefect"), PREFECT_SERVER_ANALYTICS_ENABLED: False}
    with temporary_settings(own), prefect_test_harness(server_startup_timeout=180):
        yield
