"""From stdin to the spool: read, observe the repository, redact, append, sync, acknowledge.

Two threads: one reads and appends, so that the shim's pipe is emptied at once and the lines survive the death of
either process; the other makes whole groups of lines durable and answers the shim. There is a pause between two
groups: only `bye` waits for an answer, and each sync costs OpenCode's machine a write to the disk and three
threads that wake up. When the disk is full or the spool has reached its cap the first one waits, the pipe fills, and
the shim keeps its lines: nothing is dropped here.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID, uuid4

import msgspec

from agent_trace_sidecar.opencode.wire import head
from agent_trace_sidecar.redaction import Redacted, Redactor
from agent_trace_sidecar.sources.cursor import Denies, nothing, observed, redact, without_denied
from agent_trace_sidecar.sources.lines import Line, Oversize
from agent_trace_sidecar.sources.stdin import read_lines
from agent_trace_sidecar.spool.folders import SpoolBusyError
from agent_trace_sidecar.spool.spool import Spool, SpoolFullError
from agent_trace_sidecar.telemetry.logging import Logger, try_write

_RETRY_S: Final = 0.2
"""How long the reader waits before it tries a full disk or spool again."""
_GROUP_S: Final = 0.05
"""The pause after a sync, for the next group of lines to come together."""
_ACK_RETRY_S: Final = 0.5
"""How soon an acknowledgement that did not fit into the pipe is tried again."""


class Observer(Protocol):
    """Reads the repository while an event comes in; returns what it saw as JSON. Never raises."""

    def observe(self, line: bytes) -> bytes | None: ...  # noqa: D102


class _Head(msgspec.Struct):
    """All that the intake itself reads of a line."""

    seq: int | None = None
    instance: UUID | None = None


_BYE: Final = b'"hook":"bye"'
_BYE_BYTES: Final = 512
"""The shim writes the hook's name within a line's first bytes."""

_HEAD: Final = msgspec.json.Decoder(_Head)


class Intake:
    """The two threads between stdin and the spool."""

    def __init__(
        self,
        spool_root: Path,
        redactor: Redactor,
        observer: Observer,
        logger: Logger,
        *,
        denies: Denies = nothing,
        on_spool: Callable[[Spool], None],
        on_durable: Callable[[], None],
        on_end: Callable[[], None],
    ) -> None:
        """`denies` and the callbacks run in the intake's threads: `on_spool` once, before the first line is durable."""
        self._root = spool_root
        self._redactor = redactor
        self._observer = observer
        self._logger = logger
        self._denies = denies
        self._on_spool, self._on_durable, self._on_end = on_spool, on_durable, on_end
        self._spool: Spool | None = None
        self._unacked: deque[tuple[int, int]] = deque()
        self._acked = -1
        self._answered = -1
        self._trouble = ""
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._ended = False
        self._stop_pipe = os.pipe()
        self._not_taken = self._not_durable = ""
        self.stopping = False
        self.failed = False
        """Whether lines may be left that were not taken."""

    @property
    def blocked(self) -> str:
        """Why no line is taken or acknowledged at the moment; empty when all is well."""
        return self._not_taken or self._not_durable

    def start(self, stdin_fd: int, stdout_fd: int) -> None:
        """Start both threads; they are daemons, since a read may never return."""
        threading.Thread(target=self._read, args=(stdin_fd,), name="stdin", daemon=True).start()
        threading.Thread(target=self._sync, args=(stdout_fd,), name="sync", daemon=True).start()

    def stop(self) -> None:
        """Take what stdin holds at this moment, and end."""
        self.stopping = True
        os.write(self._stop_pipe[1], b"x")

    # -- reading ---------------------------------------------------------------------------------------------

    def _read(self, fd: int) -> None:
        try:
            for lines in read_lines(fd, self._stop_pipe[0]):
                self._take(lines)
        except OSError as exc:
            self._logger.error("stdin_failed", error=exc.strerror)
            self.failed = True
        except Exception as exc:  # noqa: BLE001 - the thread ends here: report it, or it would be lost
            self._logger.error("intake_failed", error=type(exc).__name__)
            self.failed = True
        finally:
            self._ended = True
            self._wake.set()
            self._hurry.set()

    def _take(self, lines: Sequence[Line | Oversize]) -> None:
        """The steps between the read and the sync: observe, redact, append."""
        kept = without_denied(lines, self._denies)
        redacted = redact(self._redactor, kept, observed(kept, self._observer.observe))
        self._append(self._opened_spool(redacted), redacted)
        self._wake.set()
        if any(_BYE in line.line[:_BYE_BYTES] for line in redacted):
            self._hurry.set()

    def _opened_spool(self, lines: Sequence[Redacted]) -> Spool:
        if self._spool is None:
            self._spool = self._open_spool(lines)
            self._on_spool(self._spool)
        return self._spool

    def _open_spool(self, lines: Sequence[Redacted]) -> Spool:
        """The spool of the first instance named in these lines, which an earlier sidecar of it may have begun."""
        instance = next((head.instance for head in map(_head, lines) if head.instance is not None), None)
        while True:
            try:
                return Spool.create(self._root, instance or uuid4())
            except SpoolBusyError:
                continue  # another process was faster; there is another name to try
            except OSError as exc:
                self._wait(f"the spool in {self._root} can't be opened: {exc.strerror}")

    def _append(self, spool: Spool, lines: Sequence[Redacted]) -> None:
        """Append the lines together; where they don't fit together, half of them, and wait while not one fits."""
        while lines:
            group = lines
            while not (ends := self._try_append(spool, group)):
                if len(group) == 1:
                    self._wait(self._trouble)
                group = group[: max(1, len(group) // 2)]
            self._not_taken = ""
            for line, end in zip(group, ends, strict=True):
                if (seq := _head(line).seq) is not None:
                    self._unacked.append((end, seq))
            lines = lines[len(group) :]

    def _try_append(self, spool: Spool, lines: Sequence[Redacted]) -> list[int]:
        """The position after each line, or nothing, with the reason in `_trouble`."""
        try:
            return spool.append(lines)
        except SpoolFullError:
            self._trouble = "the spool has reached its size limit: the database has been unavailable for too long"
        except OSError as exc:
            self._trouble = f"the spool can't be written: {exc.strerror}"
        return []

    def _wait(self, why: str) -> None:
        if self._not_taken != why:
            self._logger.error("intake_blocked", reason=why)
        self._not_taken = why
        self._wake.set()
        threading.Event().wait(_RETRY_S)

    # -- acknowledging ---------------------------------------------------------------------------------------

    def _sync(self, fd: int) -> None:
        while True:
            owing = self._answered < self._acked
            self._wake.wait(_ACK_RETRY_S if owing else None)
            self._wake.clear()
            ended = self._ended  # read before the sync that may be the last one
            done = self._make_durable()
            self._acknowledge(fd)
            if ended and done:
                self._on_end()
                return
            self._hurry.wait(_GROUP_S)
            self._hurry.clear()

    def _make_durable(self) -> bool:
        """Sync what was appended; whether that is everything."""
        spool = self._spool
        if spool is None:
            return True
        try:
            durable = spool.sync()
        except OSError as exc:
            if not self._not_durable:
                self._logger.error("spool_sync_failed", error=exc.strerror)
            self._not_durable = f"the spool can't be made durable: {exc.strerror}"
            threading.Event().wait(_RETRY_S)
            self._wake.set()
            return False
        self._not_durable = ""
        while self._unacked and self._unacked[0][0] <= durable:
            self._acked = max(self._acked, self._unacked.popleft()[1])
        self._on_durable()
        return durable == spool.end

    def _acknowledge(self, fd: int) -> None:
        """Acknowledge to the shim up to here; an answer that does not fit is covered by the next one."""
        if self._answered < self._acked and try_write(fd, b'{"ack":%d}\n' % self._acked):
            self._answered = self._acked


def _head(line: Redacted) -> _Head:
    known = head(line.line)
    if known is not None and known.seq is not None:
        return _Head(known.seq, known.instance)
    try:
        return _HEAD.decode(line.line)
    except (ValueError, RecursionError):
        return _Head()
