"""Real Postgres servers for tests: one that all tests share, and private ones which a test may ill-treat.

All of them live in one scratch folder with a watchdog beside it: a process of its own that waits for the end of a
pipe which only the test run holds, then kills whatever still serves a folder in there and removes it. So they are
gone after the run however it ends, also by kill -9.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import asyncpg

from agent_trace_sidecar.postgres.embedded import DATABASE, USER, EmbeddedPostgres
from agent_trace_sidecar.postgres.migrate import migrate
from tests.support.waiting import eventually, exit_code
from tests.support.watchdog import free_memory

T = TypeVar("T")

MIGRATED: Final = "migrated"
"""A database with the schema in every server made here: what `migrated_url` is copied from."""

# A killed server loses nothing by these, only a machine that loses power does. synchronous_commit stays on: without
# it a killed server forgets commits, and the tests of faults would blame the sidecar.
_FOR_SPEED: Final[Mapping[str, str]] = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "autovacuum": "off",
    # As files beside the data: in /dev/shm a killed server's memory would stay.
    "dynamic_shared_memory_type": "mmap",
}

_LOCK_TIMEOUT: Final = "120s"
"""A test whose own loop holds the lock that it waits for must fail, not hang."""

_DISK: Final = Path("/tmp")  # noqa: S108 - the names of sockets must be short
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a server's files are copied there in 0.1 s, on a busy disk in 1.5 s
_ROOM: Final = 4 << 30
_CLIENTS_PORTS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
"""Where a port of a server to come may be taken by anybody's connection first."""

_WATCHDOG: Final = Path(__file__).with_name("watchdog.py")


def run_apart(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function to its end in a thread with a loop of its own, beside whatever loop the test has."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()


@asynccontextmanager
async def connected(url: str, **server_settings: str) -> AsyncIterator[asyncpg.Connection]:
    """Connect as the sidecar does, and close whatever happens."""
    connection = await asyncpg.connect(url, statement_cache_size=0, server_settings=server_settings)
    try:
        yield connection
    finally:
        await connection.close()


def execute(url: str, *statements: str) -> None:
    """Run statements on a connection of their own, each in its own transaction."""

    async def work() -> None:
        async with connected(url, lock_timeout=_LOCK_TIMEOUT) as connection:
            for statement in statements:
                await connection.execute(statement)

    run_apart(work)


async def executed(url: str, *statements: str) -> None:
    """As `execute`, for a test whose loop also runs a sidecar: that one may hold the locks which a statement awaits."""
    await asyncio.to_thread(execute, url, *statements)


def fetch(url: str, query: str, *arguments: object) -> list[asyncpg.Record]:
    """Return the rows of a query, on a connection of its own."""

    async def work() -> list[asyncpg.Record]:
        async with connected(url) as connection:
            return await connection.fetch(query, *arguments)

    return run_apart(work)


def migrate_database(url: str) -> list[str]:
    """Apply the migrations to a database and return what was applied."""

    async def work() -> list[str]:
        async with connected(url) as connection:
            return await migrate(connection)

    return run_apart(work)


def with_database(url: str, name: str) -> str:
    """Return the URL of another database on the same server."""
    return url.replace(f"/{DATABASE}?", f"/{name}?")


class OwnServer:
    """A private server, running when made. `url` stays the same through stops and restarts."""

    def __init__(self, state_dir: Path, *, database: str, settings: Mapping[str, str], tcp_port: int | None) -> None:
        extra = {"listen_addresses": "127.0.0.1", "port": str(tcp_port)} if tcp_port else {}
        self._server = EmbeddedPostgres(state_dir, settings={**_FOR_SPEED, **extra, **settings})
        self.state_dir = state_dir
        self.tcp_port = tcp_port
        self.url = with_database(self._server.url, database)
        """Over the Unix socket."""
        self.tcp_url = f"postgresql://{USER}@127.0.0.1:{tcp_port}/{database}" if tcp_port else None
        """Over TCP, if asked for."""
        self.start()

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, None when it does not run."""
        return self._server.pid

    @property
    def log(self) -> str:
        """What the server has written to its log."""
        return self._server.log.read_text("utf-8", "replace")

    def start(self) -> None:
        """Start, also after a kill; returns when the server answers."""
        self._server.start()

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop and wait until it is gone: `smart` waits for clients, `fast` ends them, `immediate` is a crash."""
        self._signal({"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])
        eventually(lambda: self.pid is None, 30, f"the server stops ({mode})")

    def kill(self) -> None:
        """`kill -9` the postmaster and all its backends, as a power cut would, and wait until they are gone."""
        family = self.processes()
        for pid in family:
            _send(pid, signal.SIGKILL)
        eventually(lambda: not any(is_running(pid) for pid in family), 10, "the killed server is gone")

    def restart(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop, then start."""
        self.stop(mode)
        self.start()

    def freeze(self) -> None:
        """SIGSTOP every process of the server: connections stay open and nothing answers."""
        for pid in self.processes():
            _send(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`."""
        for pid in self.processes():
            _send(pid, signal.SIGCONT)

    def processes(self) -> list[int]:
        """Return the postmaster and its children."""
        postmaster = self.pid
        return [postmaster, *_children(postmaster)] if postmaster else []

    def close(self) -> None:
        """Stop for good and remove the files; a frozen or dead server too."""
        self.kill()
        free_memory(self.state_dir)
        self._server.stop()
        shutil.rmtree(self.state_dir, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        pid = self.pid
        if pid is not None:
            _send(pid, number)


class PostgresServers:
    """Makes servers and databases for a test run; `open_servers` gives the one of the run."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self._seed = scratch / "seed"
        with EmbeddedPostgres(self._seed, settings=_FOR_SPEED) as server:
            execute(server.url, f"CREATE DATABASE {MIGRATED}")
            migrate_database(with_database(server.url, MIGRATED))
        self._shared: OwnServer | None = None

    def own(self, *, migrated: bool = True, tcp: bool = False, settings: Mapping[str, str] | None = None) -> OwnServer:
        """Start a private server, with a copy of prepared data. The caller closes it.

        Args:
            migrated: whether the database of its URLs has the schema.
            tcp: also listen on a free port of 127.0.0.1.
            settings: of the server, such as {"max_connections": "5"}; fsync is off unless set here.
        """
        return OwnServer(
            self.state_dir(),
            database=MIGRATED if migrated else DATABASE,
            settings=settings or {},
            tcp_port=free_port() if tcp else None,
        )

    def state_dir(self) -> Path:
        """Return a new state directory with a copy of prepared data: an `EmbeddedPostgres` starts warm in it."""
        folder = self.scratch / uuid.uuid4().hex[:8]
        shutil.copytree(self._seed, folder, ignore=shutil.ignore_patterns("run", "*.lock", "server.log"))
        return folder

    @contextmanager
    def database(self, *, migrated: bool) -> Iterator[str]:
        """Give the URL of a fresh database on the shared server, dropped afterwards whoever is connected."""
        if self._shared is None:
            self._shared = self.own(migrated=False, settings={"max_connections": "200"})
        name = f"t_{uuid.uuid4().hex}"
        execute(self._shared.url, f"CREATE DATABASE {name} TEMPLATE {MIGRATED if migrated else 'template1'}")
        try:
            yield with_database(self._shared.url, name)
        finally:
            execute(self._shared.url, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def open_servers() -> Iterator[PostgresServers]:
    """Give the run its servers, and take them all away at its end."""
    with guarded_folder(_MEMORY if _has_room(_MEMORY) else _DISK) as scratch:
        yield PostgresServers(scratch)


@contextmanager
def guarded_folder(parent: Path = _DISK) -> Iterator[Path]:
    """Give a new folder; with the block, or with this process, all that has to do with it is gone and so is it.

    A process has to do with it that runs in it, or names it in its command line or environment.
    """
    scratch = Path(tempfile.mkdtemp(prefix="ats-", dir=parent)).resolve()
    command = [sys.executable, "-I", str(_WATCHDOG), str(scratch)]
    environment = {"PATH": os.environ.get("PATH", os.defpath)}  # or the watchdog of an outer folder would kill it
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, cwd="/", env=environment) as watchdog:
        try:
            yield scratch
        finally:
            if watchdog.stdin is not None:
                watchdog.stdin.close()
            exit_code(watchdog, 30)


def _has_room(folder: Path) -> bool:
    """Tell whether a file system in memory is there and takes some tens of servers; containers often have 64 MiB."""
    return folder.is_dir() and os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > _ROOM


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, and that no client's connection gets until somebody does."""
    try:
        first, last = map(int, _CLIENTS_PORTS.read_text().split())
    except OSError:  # macOS
        first, last = 49152, 65535
    ports = [port for port in range(10_000, 1 << 16) if not first <= port <= last] or range(10_000, 1 << 16)
    while True:
        port = secrets.choice(ports)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _children(parent: int) -> list[int]:
    if not Path("/proc/self/stat").exists():
        listed = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        pairs = [line.split() for line in listed.splitlines()]
        return [int(pid) for pid, ppid in pairs if int(ppid) == parent]
    return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if _stat(int(folder.name))[1:] == [str(parent)]]


def is_running(pid: int) -> bool:
    """Tell whether a process is there and is not a zombie that waits for its parent to look."""
    if Path("/proc/self/stat").exists():
        return _stat(pid)[:1] not in ([], ["Z"], ["X"])
    return subprocess.run(["ps", "-p", str(pid)], capture_output=True, check=False).returncode == 0


def _stat(pid: int) -> list[str]:
    """Return a process's state and parent, nothing when it is gone."""
    try:
        # The name stands in brackets and may contain anything; what we want follows it.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return []


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
