"""Pages for probes, whatever is asked and however."""

import asyncio
import os
import re
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent_trace_sidecar.telemetry import http_server as http
from agent_trace_sidecar.telemetry.http_server import MAX_CONNECTIONS, MAX_REQUEST_BYTES, Page, serving
from agent_trace_sidecar.telemetry.logging import logger
from tests.support.envelopes import Shim
from tests.support.postgres import OwnServer, execute, free_port
from tests.support.waiting import eventually, exit_code, patient


def broken() -> Page:
    """A page with a fault in it."""
    raise ValueError


PAGES = {"/livez": lambda: Page(200, b"ok\n"), "/ill": lambda: Page(503, b"no\n"), "/broken": broken}


@asynccontextmanager
async def served() -> AsyncIterator[int]:
    """Serve the pages; the port."""
    port = free_port()
    async with serving(("127.0.0.1", port), PAGES, logger()):
        yield port


async def ask(port: int, request: bytes, *, end: bool = False) -> bytes:
    """Send bytes, and read to the end; a connection that is cut gives what came before."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        writer.write(request)
        await writer.drain()
        if end:
            writer.write_eof()
        while chunk := await reader.read(65536):
            answer += chunk
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()
    return answer


@pytest.mark.parametrize(
    ("request_line", "status", "body"),
    [
        ("GET /livez HTTP/1.1", 200, b"ok\n"),
        ("GET /livez?x=1 HTTP/1.0", 200, b"ok\n"),
        ("HEAD /livez HTTP/1.1", 200, b""),
        ("GET /ill HTTP/1.1", 503, b"no\n"),
        ("GET /broken HTTP/1.1", 500, b"this page can't be made\n"),
        ("GET / HTTP/1.1", 404, b"there are /livez /ill /broken\n"),
        ("GET /../../etc/passwd HTTP/1.1", 404, b"there are /livez /ill /broken\n"),
        ("POST /livez HTTP/1.1", 405, b"only GET and HEAD are served\n"),
        ("GET /livez", 400, b"this is no HTTP/1 request\n"),
        ("GET /livez HTTP/2", 400, b"this is no HTTP/1 request\n"),
        ("\x16\x03\x01", 400, b"this is no HTTP/1 request\n"),
    ],
)
async def test_a_request_has_its_answer(request_line: str, status: int, body: bytes) -> None:
    """With its length, and the connection closed behind it."""
    async with served() as port:
        head, _, found = (await ask(port, request_line.encode() + b"\r\nHost: x\r\n\r\n")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"Connection: close" in head
    assert found == body
    if body:
        assert b"Content-Length: %d\r\n" % len(body) in head


async def test_whatever_comes_in_the_next_one_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise, endless headers, silence, half a request, a crowd."""
    monkeypatch.setattr(http, "REQUEST_DEADLINE_S", 0.5)
    async with served() as port:
        for noise in (b"", b"\0" * 100, b"\r\n\r\n", os.urandom(3000), b"GET /livez HTTP/1.1\r\n"):
            await ask(port, noise, end=True)
        long = await ask(port, b"GET /livez HTTP/1.1\r\n" + b"X: y\r\n" * MAX_REQUEST_BYTES)
        assert long[:12] in (b"HTTP/1.1 431", b"")
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS)]
        assert (await ask(port, b"GET /livez HTTP/1.1\r\n\r\n")).endswith(b"ok\n")  # one more: the oldest is closed
        for reader, writer in silent:
            assert await reader.read() == b""
            writer.close()
        assert (await ask(port, b"GET /livez HTTP/1.1\r\n\r\n")).endswith(b"ok\n")


async def test_without_an_address_nothing_is_served() -> None:
    """That is the default: the process has no more sockets than before."""

    def sockets() -> list[str]:
        links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return sorted(str(link) for link in links if str(link).startswith("socket:"))

    before = sockets()
    async with serving(None, PAGES, logger()):
        assert sockets() == before
    async with serving(("127.0.0.1", free_port()), PAGES, logger()):
        assert len(sockets()) == len(before) + 1


def get(port: int, page: str) -> tuple[int, str]:
    """Ask as a probe does."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{page}", timeout=patient(10)) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as exc:
        return exc.code, exc.read().decode()


def values(port: int) -> dict[str, float]:
    """The samples of one scrape."""
    families = text_string_to_metric_families(get(port, "/metrics")[1])
    return {
        " ".join((sample.name, *sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


class Running:
    """A sidecar with its stdin, and what it logs."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.logged = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.logged += line

    def send(self, *lines: bytes) -> None:
        """As the shim would."""
        assert self.process.stdin
        for line in lines:
            self.process.stdin.write(line.decode() + "\n")
        self.process.stdin.flush()

    def end(self) -> int:
        """Close stdin and wait."""
        assert self.process.stdin
        self.process.stdin.close()
        code = exit_code(self.process, 30)
        self._reader.join()
        return code


@contextmanager
def sidecar(url: str, state: Path, port: int) -> Iterator[Running]:
    """`run`, with its pages at a port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "agent_trace_sidecar", "run"],
        env={
            **os.environ,
            "AGENT_TRACE_DATABASE_URL": url,
            "AGENT_TRACE_STATE_DIR": str(state),
            "AGENT_TRACE_HTTP": f"127.0.0.1:{port}",
            "AGENT_TRACE_RETRY_MAX": "1",
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Running(process)
        finally:
            process.kill()


def test_a_running_sidecar_tells_how_it_goes(own_server: OwnServer, tmp_path: Path) -> None:
    """In good days, during an outage of the database, and after it."""
    shim, port = Shim(), free_port()
    with sidecar(own_server.url, tmp_path, port) as running:
        eventually(lambda: "http_serving" in running.logged, 20)
        assert get(port, "/livez") == (200, "ok\n")
        assert get(port, "/readyz") == (200, "ok\n")
        secret = {"command": "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMIK7MDENGbPxRfiCYzzzzzzzzKEY9 true"}
        running.send(
            shim.before("bash", secret), b"no json", shim.line("hello", lost=2), shim.event("session.idle", {})
        )
        stored = "agent_trace_sidecar_events_total stored"
        eventually(lambda: values(port).get(stored) == 3, 20)
        found = values(port)
        assert found["agent_trace_sidecar_events_total dead"] == 1
        assert found["agent_trace_sidecar_dead_letters_total invalid_json"] == 1
        assert found["agent_trace_sidecar_lost_lines"] == 2
        assert found["agent_trace_sidecar_healthy"] == 1
        assert found["agent_trace_sidecar_lag_seconds"] == 0
        assert found["agent_trace_sidecar_spool_bytes"] > 0
        assert found["agent_trace_sidecar_flush_duration_seconds_count"] >= 1
        assert sum(n for name, n in found.items() if name.startswith("agent_trace_sidecar_secrets_masked_total")) >= 1

        own_server.stop("immediate")
        running.send(shim.event("session.idle", {}))
        eventually(lambda: get(port, "/readyz")[0] == 503, 30)
        assert get(port, "/livez") == (200, "ok\n")
        ill = values(port)
        assert ill["agent_trace_sidecar_healthy"] == 0
        assert ill["agent_trace_sidecar_lag_seconds"] > 0
        assert ill["agent_trace_sidecar_spool_unshipped_bytes"] > 0
        assert sum(n for name, n in ill.items() if name.startswith("agent_trace_sidecar_retries_total")) >= 2

        own_server.start()
        eventually(lambda: get(port, "/readyz")[0] == 200, 30)
        eventually(lambda: values(port).get(stored) == 4, 20)
        assert running.end() == 0


def test_a_port_that_is_taken_costs_a_warning(migrated_url: str, tmp_path: Path) -> None:
    """The recording goes on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with sidecar(migrated_url, tmp_path, taken.getsockname()[1]) as running:
            running.send(Shim().event("session.idle", {}))
            assert running.end() == 0
    assert re.search(r"level=warning event=http_unavailable host=127.0.0.1 port=\d+ error=", running.logged)
    execute(migrated_url, "DO $$ BEGIN ASSERT (SELECT count(*) FROM agent_trace_events) = 1; END $$")


def test_hostile_askers_do_not_hold_up_the_recording(migrated_url: str, tmp_path: Path) -> None:
    """A hundred connections that say nothing, and one that never stops talking, while lines come in."""
    shim, port = Shim(), free_port()
    with sidecar(migrated_url, tmp_path, port) as running:
        eventually(lambda: "http_serving" in running.logged, 20)
        crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
        talker = crowd[0]
        talker.settimeout(0)
        try:
            for _ in range(200):
                with suppress(OSError):
                    talker.send(b"GET /metrics HTTP/1.1\r\nX: " + b"y" * 4096)
            running.send(*(shim.event("session.idle", {"n": n}) for n in range(100)))
            assert running.end() == 0
        finally:
            for connection in crowd:
                connection.close()
    execute(migrated_url, "DO $$ BEGIN ASSERT (SELECT count(*) FROM agent_trace_events) = 100; END $$")
