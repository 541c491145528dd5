"""`geodiff view`: the report's page on this machine's own address, tiles read from the product as they are looked at.

The server listens on loopback alone. It answers GET requests that name it as 127.0.0.1 or localhost, so that no page
from elsewhere can reach it through a name of its own (DNS rebinding), and knows two kinds of address, the page and
numbered tiles: no path is ever looked up on the disk.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import webbrowser
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from geodiff.errors import GeodiffError, InputError
from geodiff.io.places import exists
from geodiff.report.page import gap_places, served_page
from geodiff.report.product import FilledProduct, open_product
from geodiff.report.pyramid import Pyramid, Tile, encode

__all__ = ["LoopbackServer", "serve", "view"]

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
_TILE = re.compile(r"/tiles/(\d{1,6})/(\d{1,6})/(\d{1,6})/(\d{1,2})/(\d{1,7})/(\d{1,7})", re.ASCII)
_GAPS = re.compile(r"/gaps/(\d{1,6})/(\d{1,6})", re.ASCII)
_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "DENY"),
    ("Cache-Control", "no-store"),
)


@dataclass(frozen=True, slots=True)
class Site:
    """What there is to serve."""

    page: bytes
    pyramids: tuple[Pyramid, ...]

    @classmethod
    def of(cls, product: FilledProduct) -> Site:
        pyramids = tuple(Pyramid(picture) for picture in product.pictures)
        return cls(served_page(product, pyramids).encode(), pyramids)

    def answer(self, path: str) -> tuple[str, bytes] | None:
        """Content type and body of an address; None where there is nothing."""
        if path == "/":
            return "text/html; charset=utf-8", self.page
        if match := _TILE.fullmatch(path):
            return self._tile(*map(int, match.groups()))
        if match := _GAPS.fullmatch(path):
            return self._gaps(*map(int, match.groups()))
        return None

    def _tile(self, place: int, date: int, band: int, level: int, row: int, column: int) -> tuple[str, bytes] | None:
        tile = Tile(level, row, column)
        if not self._has(place, date) or band >= len(self.pyramids[place].codings):
            return None
        pyramid = self.pyramids[place]
        if not pyramid.has(tile):
            return None
        return _json(encode(pyramid.read(date, tile), band, pyramid.codings[band]))

    def _gaps(self, place: int, date: int) -> tuple[str, bytes] | None:
        return _json(gap_places(self.pyramids[place], date)) if self._has(place, date) else None

    def _has(self, place: int, date: int) -> bool:
        return place < len(self.pyramids) and date < len(self.pyramids[place].picture.dates)


def _json(value: Any) -> tuple[str, bytes]:
    return "application/json", json.dumps(value, separators=(",", ":")).encode()


class LoopbackServer(ThreadingHTTPServer):
    """One site on 127.0.0.1."""

    daemon_threads = True

    def __init__(self, site: Site, port: int = 0) -> None:
        self.site = site
        # One thread reads: handles are kept by thread, and HDF5 would let only one in at a time anyway.
        self.reading = ThreadPoolExecutor(1, thread_name_prefix="tiles")
        super().__init__((LOOPBACK, port), _Answers)
        self.hosts = frozenset(f"{name}:{self.server_port}" for name in (LOOPBACK, "localhost"))

    def answer(self, path: str) -> tuple[str, bytes] | None:
        """Content type and body of an address; None where there is nothing."""
        return self.reading.submit(self.site.answer, path).result()

    def server_close(self) -> None:
        super().server_close()
        self.reading.shutdown(wait=False, cancel_futures=True)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - as the base class has it
        """A browser that left before its tile came is no news; anything else is told with -vv."""
        logger.debug("while answering %s", client_address, exc_info=sys.exception())

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.server_port}/"


class _Answers(BaseHTTPRequestHandler):
    server: LoopbackServer
    server_version, sys_version = "geodiff", ""

    def do_GET(self) -> None:
        if self.headers.get("Host") not in self.server.hosts:
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "this server answers to 127.0.0.1 and localhost only")
            return
        try:
            found = self.server.answer(self.path)
        except (GeodiffError, OSError) as error:
            logger.warning("%s: %s", self.path, error)
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, "the product could not be read")
            return
        if found is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self._send(*found)

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in _HEADERS:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base class has it
        """Nothing: a line a tile would bury what matters."""


def serve(target: str, port: int = 0) -> LoopbackServer:
    """A server of a product's page, listening and not yet answering: call `serve_forever`.

    Raises
    ------
    TargetError : where there is no product, or nothing says what was filled in it.
    InputError : where the port is taken or not allowed.
    """
    try:
        server = LoopbackServer(Site(b"", ()), port)  # before a large product is read: the port may be taken
    except (OSError, OverflowError) as error:
        raise InputError(f"--port {port} cannot be used: {error}; choose another, or 0 for any free one") from None
    try:
        server.site = Site.of(open_product(target))
    except BaseException:
        server.server_close()
        raise
    return server


def view(target: str, port: int = 0, *, browser: bool = True, say: Any = print) -> None:
    """Serve a product's page until Ctrl-C, and open it in the browser."""
    if exists(target):  # else it is the first thing to be said, not what is done with it
        logger.info("reading %s once for its overview", target)
    with serve(target, port) as server:
        say(f"{server.url} shows {target}; Ctrl-C ends it")
        if browser:
            webbrowser.open(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("ended")
