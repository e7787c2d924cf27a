"""A TCP proxy in front of Postgres that reads the client's messages, to break a connection at a chosen moment.

It runs in a thread with a loop of its own; every method may be called from any thread.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Coroutine
from enum import Enum
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeAlias, TypeVar
from urllib.parse import parse_qs, urlsplit

from tests.support.waiting import patient

T = TypeVar("T")

Target: TypeAlias = tuple[str, int] | str

PHASES: Final = ("connect", "startup", "open", "begin", "gate", "advance", "copy", "copy_data", "copy_done", "commit")
"""The steps of a batch as the client's messages show them, in order."""

JUDGE: Final = "judge"
"""A step of its own: which lines of a refused batch are at fault."""


class Break(Enum):
    """What happens to a connection at its moment."""

    RESET = "reset"
    """Both ends get a TCP reset, the message is not delivered."""
    HALF_OPEN = "half_open"
    """The server's end is closed; the client hears nothing and its bytes go nowhere."""
    STALLED = "stalled"
    """As half-open, and the client's bytes are not even taken in: it waits until it may write on."""
    BLACK_HOLE = "black_hole"
    """Both ends stay open, and nothing passes any more."""
    ANSWER_LOST = "answer_lost"
    """The server gets the message and works on it; its answer never arrives, the client gets a reset."""


class Error(NamedTuple):
    """Instead of delivering the message, answer as a server would: with this SQLSTATE, and close."""

    sqlstate: str


Action: TypeAlias = Break | Error


def target_of(url: str) -> Target:
    """Where a URL's server listens: (host, port), or the path of its Unix socket."""
    parts = urlsplit(url)
    given = parse_qs(parts.query)
    if "host" in given:
        return f"{given['host'][0]}/.s.PGSQL.{given.get('port', ['5432'])[0]}"
    assert parts.hostname is not None
    return parts.hostname, parts.port or 5432


class Proxy:
    """Listens on a free port of 127.0.0.1; use it as a context."""

    def __init__(self, server_url: str, *, raw: bool = False) -> None:
        """In front of a server; `raw` passes on any protocol's bytes, without moments to break it at."""
        self.target = target_of(server_url)
        """Where new connections go; a test may change it: that is a fail-over."""
        self.hits: Counter[str] = Counter()
        """How often each break was carried out, by `phase:action`."""
        self.accepted = 0
        self.passed = 0
        """Bytes of clients that were passed on, where the proxy is `raw`."""
        self.keep_servers = False
        """Whether the server's end of a black-holed connection stays open when the client has gone."""
        self.bytes_per_s = 0
        """How slow the way to the server is; 0 is as fast as it goes."""
        self.raw = raw
        self._server_url = server_url
        self._armed: dict[str, tuple[Action, int]] = {}
        self._links: set[_Link] = set()
        self.swallowing = False
        self._refuse = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = self._run(self._listen())
        self.port: int = self._server.sockets[0].getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.cut()
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """The server's URL, through the proxy."""
        parts = urlsplit(self._server_url)
        user = parts.username or "agent_trace"
        return f"postgresql://{user}@127.0.0.1:{self.port}{parts.path}?sslmode=disable"

    def arm(self, phase: str, action: Action, times: int = 1) -> None:
        """Break the next `times` connections that reach `phase`."""
        assert phase in {*PHASES, JUDGE}
        self._armed[phase] = (action, times)

    def disarm(self) -> None:
        """Let everything pass from now on."""
        self._armed.clear()

    def cut(self) -> int:
        """Reset all connections there are; return how many."""
        return self._run(self._cut())

    def swallow(self, *, on: bool) -> None:
        """Black-hole all connections, those to come as well; switching it off resets what was held."""
        self.swallowing = on
        if not on:
            self.cut()

    def refuse(self, *, on: bool) -> None:
        """Refuse new connections."""
        self._refuse = on

    # -- in the loop -----------------------------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(patient(10))

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def _cut(self) -> int:
        links = list(self._links)
        for link in links:
            link.reset()
        return len(links)

    async def _stop(self) -> None:
        for listening in self._server.sockets:
            self._loop.remove_reader(listening.fileno())
        self._refuse = True  # who was accepted just before is turned away: closing first would forget such a socket
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for link in self._links:
                link.task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        self._server.close()
        await asyncio.sleep(0)  # transports close themselves in the loop's next round
        await asyncio.sleep(0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self._refuse:
            _abort(writer)
            return
        link = _Link(self, reader, writer)
        self._links.add(link)
        try:
            await link.run()
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            link.reset()
            self._links.discard(link)

    def take(self, phase: str) -> Action | None:
        """What is to happen at this moment; counts it."""
        found = self._armed.get(phase)
        if found is None:
            return None
        action, times = found
        if times > 1:
            self._armed[phase] = (action, times - 1)
        else:
            del self._armed[phase]
        name = action.sqlstate if isinstance(action, Error) else action.value
        self.hits[f"{phase}:{name}"] += 1
        return action


class _Link:
    """One client and its server."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client, self._to_client = reader, writer
        self._to_server: asyncio.StreamWriter | None = None
        self._deaf = False
        """Whether the server's answers are thrown away."""
        self._server_gone = asyncio.Event()
        self._task = asyncio.current_task()

    @property
    def task(self) -> asyncio.Task[None]:
        """What runs the link."""
        assert self._task is not None
        return self._task

    def reset(self) -> None:
        """Both ends get a TCP reset."""
        _abort(self._to_client)
        if self._to_server is not None:
            _abort(self._to_server)

    async def run(self) -> None:
        """Pass messages on until one end closes or the moment of a break comes."""
        if not await self._allowed("connect", b""):
            return
        target = self._proxy.target
        connecting = (
            asyncio.open_unix_connection(target) if isinstance(target, str) else asyncio.open_connection(*target)
        )
        server, self._to_server = await connecting
        answers = asyncio.ensure_future(self._answers(server))
        try:
            await (self._bytes if self._proxy.raw else self._messages)(self._to_server)
        finally:
            answers.cancel()
            self.reset()

    async def _bytes(self, to_server: asyncio.StreamWriter) -> None:
        while data := await self._client.read(65536):
            if self._proxy.swallowing and not await self._allowed("", data):
                return
            to_server.write(data)
            await to_server.drain()
            self._proxy.passed += len(data)

    async def _messages(self, to_server: asyncio.StreamWriter) -> None:
        while True:
            head = await self._client.readexactly(4)
            body = await self._client.readexactly(int.from_bytes(head) - 4)
            startup = body[:2] == b"\0\3"
            if startup and not await self._allowed("startup", b""):
                return
            to_server.write(head + body)
            if startup:
                break
        while True:
            kind = await self._client.readexactly(1)
            head = await self._client.readexactly(4)
            body = await self._client.readexactly(int.from_bytes(head) - 4)
            message = kind + head + body
            phase = _phase(kind, body)
            if (phase or self._proxy.swallowing) and not await self._allowed(phase, message):
                return
            if self._proxy.bytes_per_s:
                await asyncio.sleep(len(message) / self._proxy.bytes_per_s)
            to_server.write(message)
            await to_server.drain()

    async def _answers(self, server: asyncio.StreamReader) -> None:
        """Pass the server's answers on; its end is the client's end."""
        try:
            while data := await server.read(65536):
                if not self._deaf and not self._proxy.swallowing:
                    self._to_client.write(data)
                    await self._to_client.drain()
        except OSError:
            pass
        self._server_gone.set()
        if not self._deaf:
            self._to_client.close()

    async def _allowed(self, phase: str, message: bytes) -> bool:
        """Carry out what is to happen at this moment; whether the message goes on."""
        if self._proxy.swallowing:
            self._proxy.hits[f"{phase}:swallowed"] += 1
            await self._hold()
        action = self._proxy.take(phase)
        match action:
            case None:
                return True
            case Break.RESET:
                self.reset()
            case Break.BLACK_HOLE:
                await self._hold()
            case Break.HALF_OPEN | Break.STALLED:
                self._deaf = True
                if self._to_server is not None:
                    _abort(self._to_server)
                await (self._hold() if action is Break.HALF_OPEN else asyncio.Event().wait())
            case Break.ANSWER_LOST:
                await self._lose_answer(message)
            case Error(sqlstate):
                await self._refuse(sqlstate, ready=phase != "startup")
        return False

    async def _hold(self) -> None:
        """Nothing passes, nothing closes, until the client gives up or `cut` is called."""
        self._deaf = True
        while await self._client.read(65536):
            pass
        if self._proxy.keep_servers:
            await self._server_gone.wait()

    async def _lose_answer(self, message: bytes) -> None:
        assert self._to_server is not None, "there is no answer to a connect"
        self._deaf = True
        self._to_server.write(message)
        await self._to_server.drain()
        self._to_server.write_eof()  # the server works on what it has, answers, and sees the end
        await self._server_gone.wait()
        self.reset()

    async def _refuse(self, sqlstate: str, *, ready: bool) -> None:
        """An error; `ready` for the next query is only a server that has let the client in."""
        self._deaf = True
        fields = f"SERROR\0VERROR\0C{sqlstate}\0Mmade by the test\0\0".encode()
        self._to_client.write(b"E" + struct.pack("!i", len(fields) + 4) + fields + b"Z\0\0\0\5I" * ready)
        await self._to_client.drain()
        if self._to_server is not None:
            _abort(self._to_server)
        await self._client.read(1)
        self.reset()


def _phase(kind: bytes, body: bytes) -> str:
    """Which step of a batch this message of the client's is; empty for all others."""
    if kind == b"d":
        return "copy_data"
    if kind == b"c":
        return "copy_done"
    if kind == b"Q":
        word = body.split(None, 1)[0].rstrip(b";\0").lower()
        if word == b"copy" and b"agent_trace_dedupe" in body:
            return "gate"
        return {b"begin": "begin", b"copy": "copy", b"commit": "commit", b"do": JUDGE}.get(word, "")
    if kind == b"P":
        for mark, phase in _MARKS:
            if mark in body:
                return phase
    return ""


_MARKS: Final = (
    (b"INSERT INTO agent_trace_dedupe", "gate"),
    (b"UPDATE agent_trace_sources SET position", "advance"),
    (b"epoch = agent_trace_sources.epoch + 1", "open"),
)


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close with a reset instead of an orderly end."""
    raw = writer.get_extra_info("socket")
    if raw is not None and not writer.transport.is_closing() and raw.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
