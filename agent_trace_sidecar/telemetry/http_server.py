"""Health and metrics over HTTP, for probes and Prometheus: three pages, GET and HEAD, one request a connection.

No client can harm the recording: every connection has a deadline and a size, the page is made without waiting, and a
port that is taken costs a warning. Nor can one client keep another out: where too many connections are open, the oldest
is closed for the newest.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from agent_trace_sidecar.telemetry.logging import Logger

MAX_REQUEST_BYTES: Final = 8 * 1024
MAX_CONNECTIONS: Final = 32
REQUEST_DEADLINE_S: Final = 5.0
"""From connecting to the last byte of the answer."""
HEAD_DEADLINE_S: Final = 1.0
"""From connecting to the last byte of the request."""

_TEXT: Final = "text/plain; charset=utf-8"
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Page(NamedTuple):
    """An answer."""

    status: int
    body: bytes
    content_type: str = _TEXT


Pages = Mapping[str, Callable[[], Page]]


@asynccontextmanager
async def serving(address: tuple[str, int] | None, pages: Pages, logger: Logger) -> AsyncIterator[None]:
    """Serve `pages` (by path) at host and port during the block; without an address, or a free port, do nothing."""
    server = None
    if address is not None:
        try:
            server = await asyncio.start_server(_Server(pages, logger).serve, *address, limit=MAX_REQUEST_BYTES)
        except OSError as exc:
            logger.warning("http_unavailable", host=address[0], port=address[1], error=exc.strerror or str(exc))
        else:
            for listening in server.sockets:
                host, port = listening.getsockname()[:2]
                logger.info("http_serving", host=host, port=port, pages=" ".join(pages))
    try:
        yield
    finally:
        if server is not None:
            server.close()


class _Server:
    def __init__(self, pages: Pages, logger: Logger) -> None:
        self._pages = pages
        self._logger = logger
        self._open: dict[asyncio.StreamWriter, None] = {}
        """Unfinished connections, oldest first."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: one request, one answer, and out."""
        if len(self._open) >= MAX_CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        self._open[writer] = None
        try:
            async with asyncio.timeout(REQUEST_DEADLINE_S):
                method, page = await self._answer(reader)
                writer.write(_response(method, page))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, EOFError):  # a TimeoutError is one: so slow a client gets no answer
            pass
        finally:
            self._open.pop(writer, None)
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[str, Page]:
        try:
            async with asyncio.timeout(HEAD_DEADLINE_S):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return "GET", Page(431, b"the request is too long\n")
        words = head.partition(b"\r\n")[0].decode("ascii", "replace").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):  # noqa: PLR2004 - method, target, version
            return "GET", Page(400, b"this is no HTTP/1 request\n")
        method, target, _ = words
        if method not in ("GET", "HEAD"):
            return method, Page(405, b"only GET and HEAD are served\n")
        make = self._pages.get(target.partition("?")[0])
        if make is None:
            return method, Page(404, f"there are {' '.join(self._pages)}\n".encode())
        try:
            return method, make()
        except Exception as exc:  # noqa: BLE001 - a page that can't be made must not end the recording
            self._logger.error("http_page_failed", page=target.partition("?")[0], error=type(exc).__name__)
            return method, Page(500, b"this page can't be made\n")


def _response(method: str, page: Page) -> bytes:
    allow = "Allow: GET, HEAD\r\n" if page.status == 405 else ""  # noqa: PLR2004 - Method Not Allowed
    head = (
        f"HTTP/1.1 {page.status} {_REASONS[page.status]}\r\nContent-Type: {page.content_type}\r\n"
        f"Content-Length: {len(page.body)}\r\n{allow}Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if method == "HEAD" else page.body)
