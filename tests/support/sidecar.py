"""The real sidecar as a process, and a shim made of Python that treats it as the real one does.

`ShimDouble` keeps what is not acknowledged, starts a dead sidecar again and sends those lines again. It runs in a
thread of its own, so that a test can break things meanwhile.
"""

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.waiting import eventually, join

_RESTART_FIRST_S: Final = 0.05
_RESTART_MAX_S: Final = 1.0
"""The real shim waits for up to 30 s; faults would rarely meet a sidecar."""
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def sidecar_env(state_dir: Path, url: str, **settings: str) -> dict[str, str]:
    """The environment of a sidecar; `settings` are named without their prefix, in lower case."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AGENT_TRACE_", "PG"))}
    env.pop("DATABASE_URL", None)
    env |= {"AGENT_TRACE_STATE_DIR": str(state_dir), "AGENT_TRACE_DATABASE_URL": url, "AGENT_TRACE_REDACTION": "off"}
    return env | {f"AGENT_TRACE_{name.upper()}": value for name, value in settings.items()}


def sidecar_command(*arguments: str) -> list[str]:
    """How tests start the program: with the interpreter that runs them."""
    return [sys.executable, "-m", "agent_trace_sidecar", *(arguments or ("run",))]


def resident_bytes(pid: int) -> int:
    """What a process holds in memory now; 0 when it is gone or this system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


class ShimDouble:
    """One run of a shim: `send` hands a line over, `close` ends it as OpenCode's end does."""

    def __init__(
        self,
        env: Mapping[str, str],
        *,
        command: list[str] | None = None,
        keep_max_bytes: int = 32 << 20,
        log: Path | None = None,
    ) -> None:
        """Start; `log` gets what the sidecars write to stderr."""
        self.env = dict(env)
        self.command = command or sidecar_command()
        self.starts = 0
        self.acked = 0
        self.given_up: list[int] = []
        """Sequence numbers that did not fit into what may be kept; they are no obligation."""
        self.exit_codes: list[int] = []
        self._keep_max_bytes = keep_max_bytes
        self._log = log
        self._lock = threading.Lock()
        self._kept: deque[tuple[int, bytes]] = deque()
        self._kept_bytes = 0
        self._sent = self._offset = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._ending = threading.Event()
        self._wake_read, self._wake_write = os.pipe()
        self._thread = threading.Thread(target=self._work, name="shim", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill_for_good()

    @property
    def pid(self) -> int | None:
        """The running sidecar's."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def kept(self) -> int:
        """How many lines are not acknowledged."""
        return len(self._kept)

    @property
    def kept_bytes(self) -> int:
        """How many bytes are not acknowledged."""
        return self._kept_bytes

    def send(self, seq: int, line: bytes) -> bool:
        """Hand over one line without its newline; False when it had to be given up."""
        data = line + b"\n"
        with self._lock:
            if self._kept_bytes + len(data) > self._keep_max_bytes:
                self.given_up.append(seq)
                return False
            self._kept.append((seq, data))
            self._kept_bytes += len(data)
        self._wake()
        return True

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal to the running sidecar; whether there was one."""
        pid = self.pid
        if pid is None:
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def drained(self, deadline_s: float) -> None:
        """Wait until every line is acknowledged."""
        eventually(lambda: not self._kept, deadline_s, f"all lines acknowledged, {len(self._kept)} are not")

    def close(self, deadline_s: float = 60.0) -> int:
        """End stdin once all is sent, wait for the sidecar's end and return its exit code."""
        self._ending.set()
        self._wake()
        join(self._thread, deadline_s)
        return self.exit_codes[-1]

    def kill_for_good(self) -> None:
        """Leave nothing running, whatever has happened before."""
        self._ending.set()
        with self._lock:
            self._kept.clear()
        while self._thread.is_alive():
            self.signal(signal.SIGKILL)
            self._wake()
            self._thread.join(0.05)

    # -- the thread ------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"x")

    def _work(self) -> None:
        os.set_blocking(self._wake_write, False)
        pause = _RESTART_FIRST_S
        while True:
            before = self.acked
            self._one_sidecar()
            if self._ending.is_set() and not self._kept:
                return
            pause = _RESTART_FIRST_S if self.acked != before else min(pause * 2, _RESTART_MAX_S)
            threading.Event().wait(pause)

    def _one_sidecar(self) -> None:
        """Start a sidecar, feed it and hear its answers until it ends."""
        with contextlib.ExitStack() as stack:
            errors = stack.enter_context(self._log.open("ab")) if self._log else subprocess.DEVNULL
            self._sent = self._offset = 0
            process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self.env,
                start_new_session=True,
                bufsize=0,
            )
            self.starts += 1
            self._process = process
            assert process.stdin is not None
            assert process.stdout is not None
            os.set_blocking(process.stdin.fileno(), False)
            try:
                self._converse(process.stdin.fileno(), process.stdout.fileno(), process.stdin.close)
            finally:
                with contextlib.suppress(OSError):
                    process.stdin.close()
                self.exit_codes.append(process.wait())
                process.stdout.close()

    def _converse(self, to: int, answers: int, hang_up: Callable[[], None]) -> None:
        partial = b""
        open_ = True
        while True:
            todo = open_ and self._sent < len(self._kept)
            if open_ and not todo and self._ending.is_set():
                hang_up()
                open_ = False
            ready, writable, _ = select.select([answers, self._wake_read], [to] if todo else [], [], 1.0)
            if self._wake_read in ready:
                os.read(self._wake_read, 65536)
            if answers in ready:
                chunk = os.read(answers, 65536)
                if not chunk:
                    return
                *whole, partial = (partial + chunk).split(b"\n")
                for answer in whole:
                    self._acknowledged(json.loads(answer)["ack"])
            if to in writable and open_ and not self._pump(to):
                open_ = False

    def _pump(self, to: int) -> bool:
        """Write what the pipe takes; False when nobody reads it any more."""
        try:
            while self._sent < len(self._kept):
                line = self._kept[self._sent][1]
                self._offset += os.write(to, line[self._offset :])
                if self._offset == len(line):
                    self._sent, self._offset = self._sent + 1, 0
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False
        return True

    def _acknowledged(self, seq: int) -> None:
        with self._lock:
            self.acked = max(self.acked, seq)
            while self._sent and self._kept[0][0] <= seq:
                self._kept_bytes -= len(self._kept.popleft()[1])
                self._sent -= 1


class Watch:
    """Looks at the memory of a shim's sidecars and at the size of a folder while a test runs."""

    def __init__(self, pid: Callable[[], int | None], folder: Path, every_s: float = 0.25) -> None:
        self.peak_rss = self.peak_folder = 0
        self.rss: list[tuple[float, int]] = []
        """Seconds since the start, bytes: one in each minute."""
        self._pid, self._folder, self._every_s = pid, folder, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look a last time, and end."""
        self._stop.set()
        join(self._thread, 10)

    def _work(self) -> None:
        start = time.monotonic()
        while True:
            pid = self._pid()
            now = resident_bytes(pid) if pid is not None else 0
            self.peak_rss = max(self.peak_rss, now)
            self.peak_folder = max(self.peak_folder, folder_bytes(self._folder))
            seconds = time.monotonic() - start
            if now and seconds // 60 >= len(self.rss):
                self.rss.append((round(seconds), now))
            if self._stop.wait(self._every_s):
                return


def folder_contents(folder: Path) -> dict[Path, bytes]:
    """All files below a folder, whatever disappears meanwhile."""
    found = {}
    for base, _, names in os.walk(folder):
        for path in (Path(base, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file():
                    found[path] = path.read_bytes()
    return found


def folder_bytes(folder: Path) -> int:
    """The sizes of all files below a folder, whatever disappears meanwhile."""
    total = 0
    for base, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(base, name)).st_size  # noqa: PTH116, PTH118 - called often
    return total


def shrink_pipe(fd: int) -> None:
    """Give a pipe the smallest buffer, so that a writer soon meets a full one (Linux only)."""
    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, 4096)
