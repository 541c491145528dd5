"""`geodiff view`: on loopback only, for those who name it so, and nothing but the page and its tiles."""

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

import geodiff
from geodiff.errors import InputError, TargetError
from geodiff.viewer import LoopbackServer, serve, view


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackServer]:
    folder = tmp_path_factory.mktemp("view")
    values = np.random.default_rng(3).normal(5, 1, (1, 90, 400)).astype(np.float32)
    values[:, 20:40, 30:60] = -1
    profile = {"driver": "GTiff", "width": 400, "height": 90, "count": 1, "dtype": "float32", "nodata": -1}
    with rasterio.open(folder / "scene.tif", "w", **profile, transform=Affine(1, 0, 9, 0, -1, 9)) as dataset:
        dataset.write(values)
    geodiff.fill(folder / "scene.tif", folder / "filled.tif", filler="nearest")
    with serve(str(folder / "filled.tif")) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield listening
        listening.shutdown()


def get(
    server: LoopbackServer, path: str, host: str | None = None, method: str = "GET"
) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    if host != "":
        connection.putheader("Host", host or f"127.0.0.1:{server.server_port}")
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, answer.read(), dict(answer.getheaders())
    connection.close()
    return found


def test_it_listens_on_loopback_alone(server: LoopbackServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_port}/"


def test_the_page_may_ask_its_own_server_and_no_other(server: LoopbackServer) -> None:
    status, body, headers = get(server, "/")
    assert status == 200
    assert headers["Content-Type"].startswith("text/html")
    assert headers["X-Frame-Options"] == "DENY"
    assert b"connect-src 'self'" in body
    assert b'id="page-tiles"' not in body


def test_tiles_and_gaps_are_made_when_asked_for(server: LoopbackServer) -> None:
    status, body, headers = get(server, "/tiles/0/0/0/0/0/1")
    assert status == 200
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body)[:2] == [90, 144]
    assert json.loads(get(server, "/gaps/0/0")[1]) == [[30, 45, 30]]


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd", "/tiles/../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/filled.tif",
        "/tiles/1/0/0/0/0/0", "/tiles/0/1/0/0/0/0", "/tiles/0/0/1/0/0/0", "/tiles/0/0/0/1/0/0", "/tiles/0/0/0/0/1/0",
        "/tiles/0/0/0/0/0/2", "/tiles/0/0/0/0/0/-1", "/tiles/0/0/0/0/0/99999999999", "/gaps/0/1", "/gaps/5/0", "/?x",
        "http://elsewhere/",
    ],
)  # fmt: skip
def test_nothing_else_is_there(server: LoopbackServer, path: str) -> None:
    assert get(server, path)[0] == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1:1", "[::1]", ""])
def test_who_calls_it_by_another_name_is_refused(server: LoopbackServer, host: str) -> None:
    status, body, _ = get(server, "/", host)
    assert status == 421
    assert b"page-facts" not in body


def test_localhost_is_its_name_as_well(server: LoopbackServer) -> None:
    assert get(server, "/", f"localhost:{server.server_port}")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_sent(server: LoopbackServer, method: str) -> None:
    assert get(server, "/", method=method)[0] == 501


def test_a_taken_port_is_told_with_the_cure(server: LoopbackServer, tmp_path: Path) -> None:
    target = str(next(p for p in Path(server.site.pyramids[0].picture.value.reader.path).parent.glob("filled.tif")))
    with pytest.raises(InputError, match=r"--port \d+ cannot be used"):
        serve(target, server.server_port)
    with pytest.raises(InputError, match="Address already in use"):  # before anything is read
        serve(str(tmp_path / "nothing.zarr"), server.server_port)
    with pytest.raises(TargetError, match="does not exist"):
        serve(str(tmp_path / "nothing.zarr"))


def test_ctrl_c_ends_it(server: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    target = str(Path(server.site.pyramids[0].picture.value.reader.path))
    said: list[str] = []

    def interrupted(_: LoopbackServer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LoopbackServer, "serve_forever", interrupted)
    view(target, browser=False, say=said.append)
    assert "Ctrl-C ends it" in said[0]
    assert said[1] == "ended"


def test_of_what_is_not_there_nothing_else_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="geodiff"), pytest.raises(TargetError, match="does not exist"):
        view(str(tmp_path / "none.tif"), browser=False)
    assert caplog.messages == []
