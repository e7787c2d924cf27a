"""The durable log between stdin and Postgres: one folder per run of a shim, JSON lines on disk.

Strategy: one thread appends (`append`), one makes it durable for a whole group of lines at once (`sync`), the shipper
reads only what is durable (`read`). A position is a byte offset in the whole log; a segment's file name is the
position of its first byte, so that a missing or damaged segment costs its own lines and no others. Each line ends in
a CRC field of its own: a flipped bit makes a dead letter, not a wrong row.

Rules: an error while writing leaves the files as they were before the line (a torn tail is cut when opened, too);
after a failed fsync nothing that it covered is trusted, its lines are written again to a new segment; the folder's
lock, held by the owner's process, is free once the owner has died. A segment that is deleted while it is open is
written again.
"""

import contextlib
import errno
import os
import shutil
import threading
import time
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, Self
from uuid import UUID, uuid4

from agent_trace_sidecar.limits import SEGMENT_BYTES, SPOOL_KEEP_BYTES, SPOOL_KEEP_S, SPOOL_MAX_BYTES
from agent_trace_sidecar.redaction import Redacted
from agent_trace_sidecar.spool.folders import SpoolBusyError, create, lock, log_key, segments
from agent_trace_sidecar.spool.segments import frame, read_lines, size_of_whole_lines, sync_folder


class SpoolFullError(Exception):
    """The spool holds as many unshipped bytes as it may; the writer waits until some are shipped."""


class SpoolLine(NamedTuple):
    """One line read back: `end` is the position after it; `line` is None where the bytes were damaged."""

    line: Redacted | None
    end: int
    damaged: bytes = b""


class Spool:
    """One folder of segments. `append` and `sync` may run in two threads, `read` and `release` in a third."""

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES, max_bytes: int = SPOOL_MAX_BYTES) -> None:
        """Open or create `folder`; use `create` or `open_existing`.

        Raises:
            SpoolBusyError: its owner lives.
            OSError: the folder can't be made or written.
        """
        self.folder = folder
        self.log_key = log_key(folder)
        self._segment_bytes = segment_bytes
        self._max_bytes = max_bytes
        self._lock_fd = lock(folder) if folder.is_dir() else create(folder)
        self._write_lock = threading.Lock()
        self._sync_lock = threading.Lock()
        self._fd: int | None = None
        self._unsynced: list[bytes] = []
        self._files = 0
        self._lost_file = -1
        self._broken = False
        try:
            self._segments = segments(folder)
            self.end = self.durable = self._recover()
        except OSError:
            os.close(self._lock_fd)
            raise
        self._released = self.start
        self.recovered = self.end
        """Where the log ended when it was opened: what an earlier owner shipped can't lie beyond it."""

    @classmethod
    def create(cls, root: Path, instance: UUID, *, segment_bytes: int = SEGMENT_BYTES) -> Self:
        """Reopen the spool that an earlier sidecar of this `instance` left, or make a new one."""
        for folder in sorted(root.glob(f"{instance}.*")):
            with contextlib.suppress(SpoolBusyError, FileNotFoundError):
                return cls(folder, segment_bytes=segment_bytes)
        return cls(root / f"{instance}.{uuid4().hex[:8]}", segment_bytes=segment_bytes)

    @property
    def start(self) -> int:
        """The position of the first byte that is still there."""
        return self._segments[0] if self._segments else 0

    @property
    def unshipped_bytes(self) -> int:
        """Durable or not, what the database has not got yet."""
        return self.end - max(self._released, self.start)

    @property
    def last_write_at(self) -> float:
        """Seconds since the epoch of the newest segment's last change; of the folder's when there is none."""
        return (self._path(self._segments[-1]) if self._segments else self.folder).stat().st_mtime

    # -- writing ---------------------------------------------------------------------------------------------

    def append(self, lines: Sequence[Redacted]) -> list[int]:
        """Write lines to the last segment; return the position after each. They are durable only after `sync`.

        Raises:
            SpoolFullError: the cap on unshipped bytes is reached; nothing was written.
            OSError: disk full or broken; nothing of these lines is left in the file.
        """
        with self._write_lock:
            framed = [frame(line.line) for line in lines]
            data = b"".join(framed)
            if self.unshipped_bytes and self.unshipped_bytes + len(data) > self._max_bytes:
                raise SpoolFullError
            try:
                self._write_somewhere(data)
            except OSError as exc:
                if exc.errno != errno.ENOSPC or not self._drop_shipped(keep_s=0, keep_bytes=0):
                    raise
                self._write_somewhere(data)
            self._unsynced.append(data)
            ends = list(accumulate((len(piece) for piece in framed), initial=self.end))[1:]
            self.end += len(data)
            return ends

    def sync(self) -> int:
        """Make everything appended so far durable, in one go; return the position up to which it is.

        Raises:
            OSError: fsync failed. The lines were written again to a new segment, and are not durable yet.
        """
        with self._write_lock:
            if self._broken:
                self._rewrite_unsynced()
            if self._fd is None or self.end == self.durable:
                return self.durable
            self._restore()
            fd, file, end, covered = self._fd, self._files, self.end, len(self._unsynced)
            fd = os.dup(fd)
        try:
            self._fdatasync(fd, file)
        except OSError:
            with self._write_lock:
                if file == self._files:
                    self._rewrite_unsynced()
            raise
        finally:
            os.close(fd)
        with self._write_lock:
            if file == self._files:  # otherwise a new one was begun meanwhile, and what we have synced is settled
                del self._unsynced[:covered]
                self.durable = end
            return self.durable

    def _write_somewhere(self, data: bytes) -> None:
        if self._broken:
            self._rewrite_unsynced()
        self._restore()
        if self._fd is None or self.end - self._segments[-1] >= self._segment_bytes:
            self._rotate()
        self._write(data)

    def _write(self, data: bytes) -> None:
        assert self._fd is not None  # noqa: S101 - append opened it
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as exc:
            if not self._cut(self.end) or exc.errno != errno.ENOSPC:
                self._broken = True  # what this file holds is not to be trusted: the next call writes it again
            raise

    def _rotate(self) -> None:
        """Close the full segment durably and start the next one."""
        if self._fd is not None:
            try:
                self._fdatasync(self._fd, self._files)
            except OSError:
                self._rewrite_unsynced()
                raise
            self._close_segment()
            self._unsynced.clear()
            self.durable = self.end
        self._open_segment(self.end)

    def _fdatasync(self, fd: int, file: int) -> None:
        """Sync the `file`-th file. The kernel reports a lost write only once, so the two callers share its answer."""
        with self._sync_lock:
            if file == self._lost_file:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            try:
                os.fdatasync(fd)
            except OSError:
                self._lost_file = file
                raise

    def _cut(self, position: int) -> bool:
        """Cut the open segment at `position`; whether that worked."""
        assert self._fd is not None  # noqa: S101 - the callers have seen to it
        try:
            os.ftruncate(self._fd, position - self._segments[-1])
        except OSError:
            return False
        return True

    def _open_segment(self, start: int) -> None:
        """Make the segment that begins at `start`, and its folder if that is gone; its entry is made durable, too."""
        if not self.folder.is_dir():
            os.close(self._lock_fd)
            self._lock_fd = create(self.folder)
        fd = os.open(self._path(start), os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            sync_folder(self.folder)
        except OSError:
            os.close(fd)
            raise
        self._fd = fd
        self._files += 1
        if not self._segments or self._segments[-1] != start:
            self._segments.append(start)

    def _restore(self) -> bool:
        """Write the open segment again if it was deleted: its content exists as long as we hold it open."""
        if self._fd is None or self._broken or os.fstat(self._fd).st_nlink:
            return False
        start, old = self._segments[-1], self._fd
        try:
            self._open_segment(start)
            self._write(os.pread(old, self.end - start, 0))
            os.fdatasync(self._fd)
        except OSError:
            if self._fd != old:
                self._close_segment()
                self._path(start).unlink(missing_ok=True)
            self._fd, self._broken = old, False
            raise
        os.close(old)
        self._unsynced.clear()
        self.durable = self.end
        return True

    def _close_segment(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _rewrite_unsynced(self) -> None:
        """After a failed fsync the kernel may have dropped the pages: take the lines from memory, in a new file.

        They keep their positions. If this fails as well, the next `append` or `sync` begins with it.
        """
        self._broken = True
        data = b"".join(self._unsynced)
        if self._fd is not None:
            self._cut(self.durable)
        self._close_segment()
        self.end = self.durable
        self._path(self.end).unlink(missing_ok=True)
        self._open_segment(self.end)
        self._write(data)
        self.end += len(data)
        self._broken = False

    # -- reading ---------------------------------------------------------------------------------------------

    def read(self, position: int, max_bytes: int) -> list[SpoolLine]:
        """Return durable lines from `position` on, about `max_bytes` of them, at least one when there is one.

        A position inside a missing segment continues at the next segment; `end` of the next line shows the jump.
        """
        lines: list[SpoolLine] = []
        taken = 0
        while taken < max_bytes and position < self.durable:
            segment, limit = self._segment_at(position)
            position = max(position, segment)
            found = read_lines(self._path(segment), segment, position, limit, max_bytes - taken)
            if not found and self._restored():
                continue
            if not found:  # an empty or vanished segment
                position = limit
                lines.append(SpoolLine(None, position, b""))
                continue
            lines.extend(
                SpoolLine(None if line is None else Redacted.from_spool(line), end, raw) for line, end, raw in found
            )
            taken += found[-1].end - position
            position = found[-1].end
        return lines

    def _restored(self) -> bool:
        with self._write_lock, contextlib.suppress(OSError):
            return self._restore()
        return False

    def release(self, position: int) -> None:
        """Record that everything before `position` is in the database: its segments may go after their time."""
        with self._write_lock:
            self._released = max(self._released, position)
            self._drop_shipped(SPOOL_KEEP_S, SPOOL_KEEP_BYTES)

    def _drop_shipped(self, keep_s: float, keep_bytes: int) -> bool:
        """Delete shipped segments beyond what is to be kept; whether there were any."""
        dropped = False
        while len(self._segments) > 1 and self._segments[1] <= self._released:
            shipped = self._released - self._segments[1]
            path = self._path(self._segments[0])
            age = time.time() - path.stat().st_mtime if path.exists() else keep_s
            if age < keep_s and shipped < keep_bytes:
                break
            path.unlink(missing_ok=True)
            del self._segments[0]
            dropped = True
        return dropped

    def rewind(self, position: int) -> None:
        """Record that the database fell back to `position`: what stands after it counts as unshipped again."""
        self._released = position

    # -- the end ---------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Release the lock; the files stay for the next owner."""
        with self._write_lock:
            self._close_segment()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def remove(self) -> None:
        """Delete the folder, which the database has completely, while the lock is still held."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.close()

    def _path(self, segment: int) -> Path:
        return self.folder / f"{segment:020d}.jsonl"

    def _segment_at(self, position: int) -> tuple[int, int]:
        """The segment that holds `position`, or the next one, and the position where its lines end."""
        with self._write_lock:
            segments, durable = list(self._segments), self.durable
        index = max((i for i, start in enumerate(segments) if start <= position), default=0)
        if index + 1 < len(segments):
            return segments[index], segments[index + 1]
        return segments[index], durable

    def _recover(self) -> int:
        """Cut a torn tail off the last segment and return the log's end; a new segment starts there.

        What is left is made durable: the page cache may be all that holds it.
        """
        if not self._segments:
            return 0
        last = self._segments[-1]
        path = self._path(last)
        fd = os.open(path, os.O_RDWR)
        try:
            size = size_of_whole_lines(fd)
            if os.fstat(fd).st_size != size:  # a truncation to the same size would renew the file's time
                os.ftruncate(fd, size)
            os.fdatasync(fd)
        finally:
            os.close(fd)
        return last + size
