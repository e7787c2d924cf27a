"""Joins the stages for `tail`: follow log files that others write, to Postgres.

The files are the log, nothing is written twice. One connection serves all of them: what many files have gained goes in
one transaction (see `joint`), and a file that fills batches by itself has a turn of its own, until another one has
something to ship. Files go in the order of their first lines, each batch built on the states that the one before has
left, so that a run of the shim which is spread over rotated files is read as the one sequence that it is.
"""

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

import asyncpg

from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits import (
    DRAIN_DEADLINE_S,
    SPOOL_KEEP_S,
    TAIL_ABANDONED_S,
    TAIL_BACKLOG_BYTES,
    TAIL_GRACE_S,
    TAIL_KEEP_S,
    TAIL_POLL_S,
    TAIL_RENEW_S,
    TAIL_TIDY_S,
    TAIL_TURN_S,
)
from agent_trace_sidecar.pipeline.daemon import Daemon
from agent_trace_sidecar.pipeline.joint import JointBatches
from agent_trace_sidecar.postgres.errors import StoreError
from agent_trace_sidecar.postgres.sink import FencedError
from agent_trace_sidecar.records.rows import LogKey
from agent_trace_sidecar.sources.cursor import Mask, masked_by
from agent_trace_sidecar.sources.tail import Seen, Tail, TailFile, look
from agent_trace_sidecar.sources.tail_log import Stay, TailLog, tail_key
from agent_trace_sidecar.telemetry.logging import Logger
from agent_trace_sidecar.workspace.scope import Below, own

_AT: Final = re.compile(rb'"at":(\d{1,16})')
_FRESH_MS: Final = 5_000
"""What the repository holds now is evidence about an event only while the event is young."""


class Follow(Daemon):
    """The `tail` daemon."""

    def __init__(
        self,
        config: Config,
        logger: Logger,
        paths: Sequence[Path],
        *,
        worktree_roots: Sequence[Path] = (),
        remove_shipped: bool = False,
        keep_s: float = TAIL_KEEP_S,
        abandoned_s: float = TAIL_ABANDONED_S,
        renew_s: float = TAIL_RENEW_S,
    ) -> None:
        """Follow the logs in `paths` (folders or files, which need not be there yet).

        Args:
            config: the settings.
            logger: takes the log lines.
            paths: what to follow.
            worktree_roots: the folders whose worktrees may be read. Without one: those of the user of this process,
                for events in files of the same user.
            remove_shipped: whether closed files are removed once they have been stored for `keep_s` seconds.
            keep_s: see `remove_shipped`.
            abandoned_s: how long a file that was never marked as closed must have been quiet to be removed.
            renew_s: how often the row of a file that does not grow is renewed.
        """
        super().__init__(config, logger, allows=Below(worktree_roots) if worktree_roots else own)
        self._has_roots = bool(worktree_roots)
        self._paths = paths
        self._remove_shipped, self._keep_s = remove_shipped, keep_s
        self._abandoned_s, self._renew_s = abandoned_s, renew_s
        self._flush_s = config.flush_ms / 1000
        self._tail = Tail()
        self._links: set[str] = set()
        self._polled = asyncio.Event()
        self._wake = asyncio.Event()
        self._stopping = False
        self._polls_left = -1
        """After the signal to stop, how many polls are still worth waiting for; -1 before it."""
        self._sink = self.sink(self._connected)
        self._observer = self.observer()
        self._masked_and_observed = masked_by(self.redactor, self._observe, denies=self.denies)
        self._masked = masked_by(self.redactor, denies=self.denies)
        self._joint = JointBatches(self._sink, self.building(), logger, self.metrics, self._log_of)
        self._flushed_at = self._tidied_at = 0.0

    async def run(self) -> int:
        """Follow until SIGTERM or Ctrl-C; return the exit code."""
        self._handle_signals()
        for path in self._paths:
            if not path.exists():
                self.logger.warning("tail_path_missing", path=str(path), hint="it is followed as soon as it exists")
        looking = asyncio.create_task(self._scan_forever())
        serving = asyncio.create_task(self._serve_forever())
        stopped = asyncio.create_task(self._wake.wait())
        try:
            await asyncio.wait({looking, serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if stopped.done():
                await asyncio.wait({looking, serving}, timeout=DRAIN_DEADLINE_S, return_when=asyncio.FIRST_COMPLETED)
            return self._outcome(looking, serving)
        finally:
            for task in (looking, serving, stopped):
                task.cancel()
            await asyncio.gather(looking, serving, stopped, return_exceptions=True)
            self._tail.close()
            await self._sink.close()
            await self.database.close()

    def _outcome(self, looking: asyncio.Task[None], serving: asyncio.Task[None]) -> int:
        if looking.done():
            looking.result()  # it ends by an error only
        if not serving.done():
            self.logger.warning(
                "drain_gave_up", bytes_left=self.log_bytes()[1], hint="the next tail to start delivers them"
            )
            return 0
        try:
            serving.result()
        except FencedError:
            self.logger.error(
                "tail_taken_over", hint="another tail follows the same files: run one tail per set of files"
            )
            return 1
        return 0

    def log_bytes(self) -> tuple[int, int]:
        """Bytes of the followed files, and those of them that are not in the database, for metrics."""
        files = self._tail.files
        return sum(f.size for f in files), sum(f.end - f.shipped for f in files if f.unread)

    def _observe(self, line: bytes) -> bytes | None:
        """The observation of an event that was written just now."""
        return self._observer.observe(line) if _is_fresh(line) else None

    def _mask(self, file: TailFile) -> Mask:
        """Who can write a file decides what is read: no more than what that user may read anyway."""
        may_observe = self._has_roots or file.uid == os.geteuid()
        return self._masked_and_observed if may_observe else self._masked

    # -- looking ---------------------------------------------------------------------------------------------

    async def _scan_forever(self) -> None:
        """Poll the files again and again: a tenth of a processor's time at most, and half of the disks'."""
        while True:
            began = time.monotonic()
            links: set[str] = set()
            quiet = {} if self._stopping else self._tail.quiet(began)
            seen, cpu_s = await asyncio.to_thread(_timed_look, self._paths, links, quiet)
            self._report_links(links)
            before = time.thread_time()
            self._tail.update(seen, time.monotonic())
            cpu_s += time.thread_time() - before
            self._report_gone()
            if self._stopping:
                self._polls_left -= 1
            self._polled.set()
            pause = max(TAIL_POLL_S, 9 * cpu_s, time.monotonic() - began)
            if self._stopping:
                await asyncio.sleep(pause)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    def _report_links(self, links: set[str]) -> None:
        """Links found in a folder are not followed; each is reported once."""
        for path in sorted(links - self._links):
            self.logger.warning("tail_link_ignored", path=path, hint="name the link itself to follow it")
        self._links = links

    def _report_gone(self) -> None:
        """Lines that can't be read any more are a loss, unless a copy of the file holds them."""
        for file in self._tail.gone:
            unread = file.end - file.shipped
            self.logger.warning(
                "tail_file_gone",
                path=file.label,
                unread_bytes=unread,
                hint="it was truncated or deleted before it was read",
            )
        self._tail.gone.clear()

    async def _stay(self, file: TailFile) -> bool:
        """Wait for the next poll; False when it is another file's turn, or time to stop."""
        if self._is_over() or self._is_due(file):
            return False
        self._polled.clear()
        await self._polled.wait()
        return time.monotonic() - file.grown_at < TAIL_TURN_S

    def _is_over(self) -> bool:
        """Whether everything that was written before the signal to stop has been read."""
        return self._stopping and self._polls_left <= 0

    def _is_due(self, shipped_now: TailFile | None = None) -> bool:
        """Whether files wait that may not wait any longer: the first lines after a quiet time go at once."""
        quiet = time.monotonic() - self._flushed_at >= self._flush_s
        return any(
            file.waiting_since is not None
            and file is not shipped_now
            and file.unread
            and (quiet or self._stopping or not file.checked or file.end - file.shipped >= TAIL_BACKLOG_BYTES)
            for file in self._tail.files
        )

    # -- serving ---------------------------------------------------------------------------------------------

    async def _serve_forever(self) -> None:
        while True:
            if self._is_due():
                await self._ship([file for file in self._tail.files if file.unread])
            elif self._is_over():
                return
            await self._tidy()
            await self._check_failover()
            self._polled.clear()
            if not self._is_due():
                await self._polled.wait()

    async def _ship(self, files: Sequence[TailFile]) -> None:
        """Ship all that these files hold by now: together, or each by itself where it fills batches or is refused."""
        while files:
            self._flushed_at = time.monotonic()
            left = await self._joint.ship(files)
            if left is None:
                await self._ship_alone(files[0])
                left = files[1:]
            files = left

    async def _ship_alone(self, file: TailFile) -> None:
        """Ship what a file holds, and what it gains until others wait."""
        shipper, _ = self.shipper(self._log_of(file, lambda: self._stay(file)), sink=self._sink)
        await shipper.run()
        file.waiting_since = None
        self._joint.forget()

    def _log_of(self, file: TailFile, stay: Stay) -> TailLog:
        return TailLog(file, self._mask(file), stay)

    async def _connected(self, connection: asyncpg.Connection) -> None:
        """A new connection may lead to a server that knows less: read the positions of the younger files again."""
        await self.database.prepare(connection)
        now = time.monotonic()
        for file in self._tail.files:
            if now - file.grown_at < SPOOL_KEEP_S:
                file.checked = False

    def positions(self) -> dict[LogKey, int]:
        """How far the younger files are stored, by the database's last answer."""
        now = time.monotonic()
        files = (f for f in self._tail.files if f.checked and f.shipped and now - f.grown_at < SPOOL_KEEP_S)
        return {tail_key(file): file.shipped for file in files}

    def resend(self, keys: Collection[LogKey]) -> None:
        """Read the positions of these from the database again."""
        for file in self._tail.files:
            if tail_key(file) in keys:
                file.checked = False

    async def _check_failover(self) -> None:
        """As an idle shipper does: a fail-over, or an older backup, may have lost what was stored."""
        if not self._sink.failover.due:
            return
        self._sink.failover.postpone()
        if positions := self.positions():
            with contextlib.suppress(StoreError):
                self.resend(await self._sink.logs_behind(positions))

    # -- files that are done ---------------------------------------------------------------------------------

    async def _tidy(self) -> None:
        """Close files that are gone, and remove those that are shipped and closed, where the options allow it."""
        now = time.monotonic()
        if now - self._tidied_at < TAIL_TIDY_S:
            return
        self._tidied_at = now
        for file in self._tail.files:
            if file.unread:
                continue
            if now - file.checked_at > self._renew_s:
                file.checked = False
            elif file.path is None:
                self._let_go(file, now)
            elif self._remove_shipped and self._is_done(file, now):
                await self._remove(file, Path(file.path))

    def _let_go(self, file: TailFile, now: float) -> None:
        """Its writer may still have it open; when it has been quiet for long enough its last line is what it is."""
        if now - file.grown_at < TAIL_GRACE_S:
            return
        if file.size > file.end:
            file.close()
        else:
            self._tail.forget(file)

    def _is_done(self, file: TailFile, now: float) -> bool:
        """Whether a file has no writer any more and has been stored for long enough.

        The shim marks the files that it has closed. One without the mark, of an OpenCode that was killed, counts as
        closed when it has been quiet for long and, by the kernel, no process has it open.
        """
        quiet_s = now - max(file.shipped_at, file.grown_at)
        path = Path(file.label)
        if quiet_s < self._keep_s or now < file.check_again_at or file.size != file.end or path.is_symlink():
            return False
        if not file.closed and (quiet_s < self._abandoned_s or path in self._paths):
            return False
        file.check_again_at = now + TAIL_GRACE_S
        return file.closed or file.has_no_writer()

    async def _remove(self, file: TailFile, path: Path) -> None:
        """Remove a file, if the database confirms that it has all of it."""
        await self._ship_alone(file)
        if file.shipped == file.end == file.present_size() and file.intact():
            self._unlink(file, path)

    def _unlink(self, file: TailFile, path: Path) -> None:
        try:
            status = path.lstat()
            if (status.st_dev, status.st_ino) != file.key:
                return
            path.unlink()
        except OSError as exc:
            self.logger.error("tail_remove_failed", path=str(path), error=exc.strerror)
        else:
            self.logger.info("tail_file_removed", path=str(path))

    # -- stopping --------------------------------------------------------------------------------------------

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGIO, signal.SIG_IGN)  # the kernel's word that a file it had leased to us is wanted
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._terminate)

    def _terminate(self) -> None:
        """The first signal drains, the second one ends at once: the files hold what is not delivered."""
        if self._stopping:
            os._exit(1)
        self._stopping = True
        self._polls_left = 2  # the one that is under way may have begun before the last line was written
        self._wake.set()


def _timed_look(paths: Sequence[Path], links: set[str], known: Mapping[str, Seen]) -> tuple[list[Seen], float]:
    """What `look` finds, and the seconds of the processor that it took."""
    began = time.thread_time()
    return look(paths, links, known), time.thread_time() - began


def _is_fresh(line: bytes) -> bool:
    at = _AT.search(line, 0, 400)
    return at is not None and abs(time.time() * 1000 - int(at[1])) < _FRESH_MS
