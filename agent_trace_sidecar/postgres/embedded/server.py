"""Starts, shares and stops the server of a state directory.

How it keeps its promises:

- **Locks, not pid files.** Each user holds `users.lock` shared for as long as it uses the server; a user that finds at
  stop that it can have it exclusively is the last one out. The kernel drops the lock of a killed user. All starting
  and stopping happens under `start.lock`, which is held only meanwhile.
- **It stays up for the next command, and not for ever.** The last user out leaves the server to its keeper, a small
  process that has held `keeper.lock` since the server started, and stops the server when it had no user for
  `linger_s`. It does so too when the last user was killed. Without a keeper (`linger_s` 0) the last user stops it.
- **Up means answering.** The server is up when it answers on its Unix socket, and gone when `server.lock` is free:
  all its processes inherit that lock and nothing but their end can release it. So no two servers ever get at the
  data, even from two containers that share it, and what a pid file names is trusted only for signalling, and only
  if that process's command line names our data folder.
- **A data folder is whole or absent.** initdb works in a temporary folder that is then renamed. fsync stays on:
  a killed server or machine costs nothing but the recovery at the next start.
- **Only this user can connect.** No TCP; the socket lies in a folder with mode 0700, which is why `trust` will do
  (`peer` would not: in a user namespace the server sees other user ids than we do).
- **Root is no obstacle.** Postgres refuses to run as root, so root starts it in a user namespace of its own, or
  without root's id where namespaces are forbidden. No users are added, no folders opened up.
"""

import contextlib
import fcntl
import functools
import hashlib
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from agent_trace_sidecar.limits import processes
from agent_trace_sidecar.limits.files import private_folder, read_part
from agent_trace_sidecar.postgres.embedded.binaries import (
    Binaries,
    EmbeddedError,
    Identity,
    find_binaries,
    server_identity,
)
from agent_trace_sidecar.postgres.embedded.data_folder import disown_pid_file, own, postmaster

USER: Final = "agent_trace"
DATABASE: Final = "agent_trace"
PORT: Final = 5432
"""Only a part of the socket's name; no port is opened."""

_LONGEST_SOCKET_PATH: Final = 103
"""Bytes; what fits into `sun_path` with its NUL is 107 on Linux and 103 on macOS."""
_LARGEST_LOG: Final = 1 << 20
_POLL_S: Final = 0.02

_SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "50",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "jit": "off",
    "log_checkpoints": "off",
    # The log must not repeat what is in the rows.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}

_HOW_TO_GET_BINARIES: Final = (
    "install them with: pip install 'agent-trace-sidecar[embedded]', or point AGENT_TRACE_PG_BIN at the folder that "
    "has initdb, or set DATABASE_URL to use a server of your own"
)


class EmbeddedPostgres:
    """The server of one state directory. Blocking: call it from a thread.

    `start` and `stop` may be called again and again; after a failed connection `start` brings a dead server back.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        settings: Mapping[str, str] | None = None,
        identity: Identity | None = None,
        environ: Mapping[str, str] = os.environ,
        deadline_s: float = 60.0,
        linger_s: float = 0.0,
    ) -> None:
        """Prepare, without touching anything.

        Args:
            state_dir: the sidecar's state directory; the server's files go to `postgres/` in it.
            settings: more settings of the server, for tests.
            identity: under which id the server runs; found out when absent.
            environ: where `AGENT_TRACE_PG_BIN` and `PATH` are read from.
            deadline_s: how long `start` and `stop` may take; recovery after a crash needs the most.
            linger_s: how long the server stays up after its last user.
        """
        self.root = state_dir.resolve() / "postgres"
        self.log = self.root / "server.log"
        self._settings = {**_SETTINGS, "port": str(PORT), **(settings or {})}
        self._identity = identity
        self._environ = environ
        self._deadline_s = deadline_s
        self._linger_s = linger_s
        self._users: int | None = None
        self._one_at_a_time = threading.RLock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The database's URL, as asyncpg and psql take it."""
        host = quote(str(self.socket_folder), safe="")
        return f"postgresql://{USER}@/{DATABASE}?host={host}&port={self._settings['port']}"

    @functools.cached_property
    def socket_folder(self) -> Path:
        """`run` beside the data, or a short private folder when that would be too long for a socket's name."""
        folder = self.root / "run"
        # A comma would separate two hosts in a connection URL.
        if len(os.fsencode(folder / f".s.PGSQL.{PORT}")) <= _LONGEST_SOCKET_PATH and "," not in str(folder):
            return folder
        digest = hashlib.blake2s(os.fsencode(self.root), digest_size=8).hexdigest()
        # Not $TMPDIR or $XDG_RUNTIME_DIR: all users of a state directory must come to the same name.
        return Path("/tmp") / f"agent-trace-{os.geteuid()}-{digest}"  # noqa: S108 - owner and mode are checked

    @property
    def pid(self) -> int | None:
        """The running server's process, None when it does not run."""
        for data in self._data_folders().values():
            pid = postmaster(data)
            if pid is not None:
                return pid
        return None

    def start(self) -> str:
        """Make sure that the server runs and is kept for us, and return its URL.

        Raises:
            EmbeddedError: there are no binaries, or the server does not come up in time.
        """
        end = time.monotonic() + self._deadline_s
        try:
            with self._one_at_a_time:
                private_folder(self.root)
                with self._alone(end):
                    self._join(end)
        except OSError as error:
            raise EmbeddedError(
                f"can't use {error.filename or self.root} for the embedded Postgres ({error.strerror}): make it "
                "writable, or set AGENT_TRACE_STATE_DIR to another folder"
            ) from error
        return self.url

    def stop(self) -> None:
        """Give the server up; after the last user it stops, at once or later. Without `start` it does nothing."""
        end = time.monotonic() + self._deadline_s
        with self._one_at_a_time:
            if self._users is None:
                return
            with self._alone(end):
                try:
                    fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return  # someone else still uses it
                finally:
                    users, self._users = self._users, None
                    # Closing gives the lock up; stopping needs `start.lock` only, as no process can become a user now.
                    os.close(users)
                self._touch()
                if not self._has_keeper():
                    self._shut_down(end)

    def stop_if_idle(self, idle_s: float, keeper_lock: int | None = None) -> float | None:
        """Stop the server when it had no user for so long.

        Args:
            idle_s: seconds since its last user left.
            keeper_lock: a keeper's descriptor of `keeper.lock`, closed when it has nothing left to do: whoever starts
                the server next must see that.

        Returns:
            After how many seconds to try again; None when the server does not run (any more).

        Raises:
            EmbeddedError: it does not stop.
        """
        end = time.monotonic() + self._deadline_s
        if not self.root.is_dir():
            return None
        with self._alone(end), self._lock("users.lock") as free:
            if not self._is_gone():
                left = idle_s if free is None else idle_s - (time.time() - os.fstat(free).st_mtime)
                if free is None or left > 0:
                    return min(left, idle_s)
                self._shut_down(end)
            if keeper_lock is not None:
                os.close(keeper_lock)
            return None

    def _touch(self) -> None:
        """Note that the server was used until now."""
        os.utime(self.root / "users.lock")

    def _has_keeper(self) -> bool:
        """Whether a process will stop the server later; it is started where there is none."""
        if not self._linger_s or os.getpid() == 1:  # a container ends with its first process
            return False
        with self._lock("keeper.lock") as free:
            if free is None:
                return True
            # It inherits the lock, so there is no moment without one and there are never two.
            command = [sys.executable, "-I", "-m", __package__, str(self.root.parent), str(self._linger_s), str(free)]
            try:
                processes.detached(command, cwd=Path("/"), env=processes.environment(), pass_fds=(free,))
            except processes.ProcessError:
                return False
        return True

    def _join(self, end: float) -> None:
        """Become a user and see to it that the server runs; with a failure we are no user."""
        if self._users is not None:
            self._bring_up(end)
            return
        self._users = self._open_lock("users.lock")
        fcntl.flock(self._users, fcntl.LOCK_SH)
        self._touch()
        try:
            self._bring_up(end)
            self._has_keeper()  # from now on, in case that we are killed
        except BaseException:
            os.close(self._users)
            self._users = None
            raise

    def _bring_up(self, end: float) -> None:
        if self._answers():
            return
        private_folder(self.socket_folder)
        binaries, data = self._choose()
        if set(f"{data}{binaries.folder}") & set('"$`\\\n'):
            raise EmbeddedError(
                f"pg_ctl can't handle a quote, dollar sign or backslash in {data} or {binaries.folder}: "
                "use another AGENT_TRACE_STATE_DIR or AGENT_TRACE_PG_BIN"
            )
        identity = self._identity or server_identity()
        while not self._answers():
            if time.monotonic() > end:
                raise EmbeddedError(
                    f"the embedded Postgres did not answer within {self._deadline_s:g} s: see {self.log}, "
                    "then start again"
                )
            with self._lock("server.lock") as free:
                if free is not None:
                    if not data.exists():
                        self._create(binaries, identity, data, free)
                    own(data, identity.owner)
                    self._launch(binaries, identity, data, free, end)
            if free is None:
                _pause()  # it is recovering, on its way down, or just killed

    def _choose(self) -> tuple[Binaries, Path]:
        """Return the binaries to use and their data folder; those which have data here come first."""
        existing = self._data_folders()
        best: Binaries | None = None
        for binaries in find_binaries(self._environ):
            best = best or binaries
            if not existing:
                break
            if binaries.major in existing:
                return binaries, existing[binaries.major]
        if existing:
            majors = " or ".join(str(major) for major in sorted(existing))
            raise EmbeddedError(
                f"the data in {self.root} needs PostgreSQL {majors}, which is not found: install it and point "
                "AGENT_TRACE_PG_BIN at its bin folder, or move the data away to start empty"
            )
        if best is None:
            raise EmbeddedError(f"no PostgreSQL programs on this machine: {_HOW_TO_GET_BINARIES}")
        return best, self.root / str(best.major)

    def _data_folders(self) -> dict[int, Path]:
        return {int(file.parent.name): file.parent for file in self.root.glob("[0-9][0-9]/PG_VERSION")}

    def _create(self, binaries: Binaries, identity: Identity, data: Path, lock: int) -> None:
        """Make the data folder with the database in it; either all of it appears or nothing."""
        making = self.root / f"{data.name}.new"
        shutil.rmtree(making, ignore_errors=True)  # of a start that was killed
        making.mkdir(mode=0o700)
        own(making, identity.owner)
        sync = ["--no-sync"] if self._settings.get("fsync") == "off" else []
        self._run(
            identity.command(binaries.folder / "initdb", "-D", str(making), "-U", USER, "-A", "trust",
                             "--encoding=UTF8", "--no-locale", *sync),
            "could not create the embedded database",
            lock,
        )  # fmt: skip
        self._run(
            identity.command(binaries.folder / "postgres", "--single", "-D", str(making), "postgres"),
            "could not create the embedded database",
            lock,
            stdin=f"CREATE DATABASE {DATABASE}\n",
        )
        making.rename(data)
        folder = os.open(self.root, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def _launch(self, binaries: Binaries, identity: Identity, data: Path, lock: int, end: float) -> None:
        """Start the server, in a session of its own: Ctrl-C in our terminal is not meant for it."""
        disown_pid_file(data)
        for left in self.socket_folder.glob(".s.PGSQL.*"):
            left.unlink()  # the socket and its own pid file, of a killed server
        if self.log.exists() and self.log.stat().st_size > _LARGEST_LOG:
            self.log.replace(self.log.with_suffix(".log.1"))
        settings = {**self._settings, "unix_socket_directories": f'"{self.socket_folder}"'}
        # One string, which pg_ctl hands to a shell.
        options = " ".join(shlex.quote(f"--{name}={value}") for name, value in settings.items())
        seconds = max(1, int(end - time.monotonic()))
        self._run(
            identity.command(binaries.folder / "pg_ctl", "start", "-w", "-t", str(seconds), "-D", str(data),
                             "-l", str(self.log), "-o", options),
            "the embedded Postgres does not start",
            lock,
        )  # fmt: skip

    def _run(self, command: list[str], what: str, lock: int, stdin: str = "") -> None:
        """Run one of Postgres's programs, its output in the log, and turn its failure into a sentence.

        It inherits `server.lock`: if we are killed meanwhile, the next start waits until it has ended.
        """
        # It may live long: it gets neither the PG* variables, meant for the user's own servers, nor anyone's secrets.
        with self.log.open("ab") as log:
            self.log.chmod(0o600)
            before = log.tell()
            code = processes.run_logged(
                command,
                cwd=Path("/"),
                env={**processes.environment(), "LC_ALL": "C"},
                log=log,
                given=stdin.encode(),
                pass_fds=(lock,),
            )
        if code != 0:
            raise EmbeddedError(f"{what}: {self._last_complaint(before)}; the full log is {self.log}")

    def _last_complaint(self, since: int) -> str:
        lines = read_part(self.log, _LARGEST_LOG, offset=since).decode("utf-8", "replace").splitlines()
        complaints = [line for line in lines if re.search(r"\b(FATAL|PANIC|ERROR|error):", line)]
        return (complaints or lines or ["no output"])[-1].strip()

    def _shut_down(self, end: float) -> None:
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)  # "fast": open transactions are rolled back, all else is written
        while not self._is_gone():
            if time.monotonic() > end:
                raise EmbeddedError(f"the embedded Postgres (process {pid}) does not stop: see {self.log}")
            _pause()
        if self.socket_folder.parent != self.root:
            with contextlib.suppress(OSError):
                self.socket_folder.rmdir()

    def _is_gone(self) -> bool:
        with self._lock("server.lock") as free:
            return free is not None

    def _answers(self) -> bool:
        """Send a client's first message; a server that is starting or stopping answers with an error."""
        hello = b"user\0%b\0database\0%b\0\0" % (USER.encode(), DATABASE.encode())
        packet = struct.pack("!II", len(hello) + 8, 3 << 16) + hello
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1.0)
            try:
                client.connect(str(self.socket_folder / f".s.PGSQL.{self._settings['port']}"))
                client.sendall(packet)
                return client.recv(1) == b"R"
            except OSError:
                return False

    @contextlib.contextmanager
    def _alone(self, end: float) -> Iterator[None]:
        """Wait for `start.lock` and hold it."""
        while True:
            with self._lock("start.lock") as mine:
                if mine is not None:
                    yield
                    return
            if time.monotonic() > end:
                raise EmbeddedError(
                    f"another process has been starting or stopping the embedded Postgres in {self.root} for "
                    f"{self._deadline_s:g} s: check for a hanging process, or retry"
                )
            _pause()

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[int | None]:
        """Hold a lock file exclusively if it is free; give its descriptor, or None."""
        lock = self._open_lock(name)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            yield None
            return
        try:
            yield lock
        finally:
            os.close(lock)

    def _open_lock(self, name: str) -> int:
        return os.open(self.root / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _pause() -> None:
    threading.Event().wait(_POLL_S)
