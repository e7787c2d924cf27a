"""Finds and reads log files that others write, rename, copy away, truncate, delete and recreate.

Strategy: poll. A file is found by device and inode, whatever its name is at the moment. Its identity is a
hash of its first line; and that it is still what we have read, by a checksum of the bytes before that place (the
mark). Both are compared after every read, before the bytes are used: bytes of another life of the file don't pass.

Rules: notification is not used, shared volumes don't deliver it; a file whose name is gone is read to its end while
its descriptor is open, and descriptors of files with something unread are the last to be closed.
"""

import fcntl
import os
import re
import stat
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from agent_trace_sidecar.limits import READ_BYTES, TAIL_OPEN_FILES, TAIL_QUIET_POLLS, TAIL_QUIET_S
from agent_trace_sidecar.opencode.wire import instance_of

_HEAD_BYTES: Final = 1024
"""This much of a first line distinguishes files; the shim's ids are in its first 200 bytes."""
_MARK_BYTES: Final = 1024
_TURNED: Final = r"(?:[.-](?:[0-9][0-9T:._-]*|old))?"
"""What rotation appends to a name: a number, a date. Compressed files are not read."""
_IN_FOLDER: Final = re.compile(r"[^.].*\.jsonl" + _TURNED)
_CLOSED: Final = ".done.jsonl"
"""How the shim's names end once it has closed a file."""
_MAX_LINKS: Final = 1000
_ORDER: Final = re.compile(rb'"(seq|at)":(\d{1,16})[,}]')

Key = tuple[int, int]
"""Device and inode."""


class Seen(NamedTuple):
    """A file as one poll found it."""

    path: str
    key: Key
    size: int
    mtime_ns: int
    uid: int
    """Whose it is."""
    follow: bool
    """Whether the name may be a link."""


def look(
    paths: Sequence[Path], links: set[str] | None = None, known: Mapping[str, Seen] = MappingProxyType({})
) -> list[Seen]:
    """Every log in these folders, and these files with what rotation made of them; what can't be read is not there.

    A link is followed where it was named. One that is found may have been planted by a user who may not read what it
    leads to: it is left alone, and put into `links`. The names in `known` are listed, and not looked at.
    """
    found = (one for path in paths for one in _names(path))
    return [seen for name, named in found if (seen := known.get(name) or _stat(name, links, follow=named)) is not None]


def _names(path: Path) -> Iterator[tuple[str, bool]]:
    """Names of logs, and whether it is the very one that was given."""
    is_folder = path.is_dir()
    pattern = _IN_FOLDER if is_folder else re.compile(re.escape(path.name) + _TURNED)
    with suppress(OSError), os.scandir(path if is_folder else path.parent) as entries:
        for entry in sorted((entry for entry in entries if pattern.fullmatch(entry.name)), key=lambda one: one.name):
            yield entry.path, not is_folder and entry.name == path.name


def _stat(name: str, links: set[str] | None, *, follow: bool) -> Seen | None:
    try:
        status = os.stat(name, follow_symlinks=follow)  # noqa: PTH116 - a Path for every file would double the cost
    except OSError:
        return None
    if stat.S_ISLNK(status.st_mode) and links is not None and len(links) < _MAX_LINKS:
        links.add(name)
    if not stat.S_ISREG(status.st_mode):
        return None
    return Seen(name, (status.st_dev, status.st_ino), status.st_size, status.st_mtime_ns, status.st_uid, follow)


class Descriptors:
    """Open descriptors, no more than a limit: those of files that can't be opened again by name are closed last."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: OrderedDict[TailFile, int] = OrderedDict()

    def keep(self, file: "TailFile", fd: int) -> None:
        """Take over a descriptor."""
        while len(self._open) >= self._limit:
            self.close(next((other for other in self._open if other.path is not None), next(iter(self._open))))
        self._open[file] = fd

    def get(self, file: "TailFile") -> int:
        """The file's descriptor, opened again when it had been closed.

        Raises:
            OSError: its name is gone, or is another file's.
        """
        if file not in self._open:
            if file.path is None:
                raise FileNotFoundError(file.label)
            self.keep(file, open_log(file.path, file.key, follow=file.follow))
        self._open.move_to_end(file)
        return self._open[file]

    def holds(self, file: "TailFile") -> bool:
        """Whether the file stays readable without its name."""
        return file in self._open

    def close(self, file: "TailFile") -> None:
        """Close the file's descriptor, if it is open."""
        fd = self._open.pop(file, None)
        if fd is not None:
            os.close(fd)

    def close_all(self) -> None:
        """Close every descriptor."""
        for file in list(self._open):
            self.close(file)


def open_log(path: str, key: Key, *, follow: bool) -> int:
    """Open a file to read; never waits, as opening a pipe would.

    Raises:
        OSError: it can't be opened, is a link that is not to be followed, or not the file of this device and inode.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    status = os.fstat(fd)
    if (status.st_dev, status.st_ino) != key:
        os.close(fd)
        raise FileNotFoundError(path)
    return fd


class TailFile:
    """One life of one file: from its first line to the moment it is truncated, overwritten or gone."""

    def __init__(self, descriptors: Descriptors, seen: Seen, head: bytes) -> None:
        self._descriptors = descriptors
        self._head_size = len(head)
        self._head = _digest(head)
        self._mark = (0, 0, zlib.crc32(b""))  # where, how long, checksum
        self._searched = 0
        self.key = seen.key
        self.uid = seen.uid
        self.follow = seen.follow
        self.path: str | None = seen.path
        """Its name at the moment; None when it has none among those we follow."""
        self.label = seen.path
        """The name it had last."""
        self.identity = f"{seen.key[0]:x}:{seen.key[1]:x}:{self._head}"
        self.instance = instance_of(head)
        """The run of its first line; None where that does not name one as the shim does."""
        numbers = {name: int(value) for name, value in reversed(_ORDER.findall(head))}
        self.order = (numbers.get(b"at", seen.mtime_ns // 1_000_000), numbers.get(b"seq", 0), seen.path)
        """Files are read in this order: the one whose first line is older goes first."""
        self.stamp = (-1, -1)
        self.seen: Seen | None = None
        """What the last poll found, where nothing of it is left to be looked into."""
        self.end = 0
        """The position after the last complete line."""
        self.size = 0
        self.closed = False
        """It has no writer any more: what stands after its last newline is a line, too."""
        self.replaced = False
        """It has been truncated or overwritten: nothing of this life of it is left."""
        self.shipped = 0
        """How far it is in the database, as far as we know."""
        self.checked = False
        """Whether the database itself has confirmed it."""
        self.checked_at = 0.0
        """When it last did, on the monotonic clock."""
        self.shipped_at = 0.0
        """When something of it was last stored; this and the next three are seconds of the monotonic clock."""
        self.waiting_since: float | None = None
        self.grown_at = 0.0
        self.check_again_at = 0.0
        """Whether it may be removed is not checked before."""

    @property
    def unread(self) -> bool:
        """Whether something of it may have to be shipped."""
        return not self.replaced and (not self.checked or self.shipped < self.end)

    def read_at(self, offset: int, max_bytes: int) -> bytes:
        """Bytes from `offset` on; nothing when the file is not what it was (see `replaced`)."""
        try:
            data = os.pread(self._descriptors.get(self), max_bytes, offset)
        except OSError:
            self.replaced = True
            return b""
        if not self.intact():
            return b""
        end = offset + len(data)
        if end > sum(self._mark[:2]):
            last = data[-_MARK_BYTES:]
            self._mark = (end - len(last), len(last), zlib.crc32(last))
        return data

    def intact(self) -> bool:
        """Whether the first line and the mark are what they were; sets `replaced`."""
        start, length, checksum = self._mark
        try:
            fd = self._descriptors.get(self)
            same = (
                os.fstat(fd).st_size >= start + length
                and _digest(os.pread(fd, self._head_size, 0)) == self._head
                and zlib.crc32(os.pread(fd, length, start)) == checksum
            )
        except OSError:
            same = False
        self.replaced = self.replaced or not same
        return not self.replaced

    def grow(self, size: int, now: float) -> None:
        """Take note of a size: find the end of the last complete line among the bytes not read before."""
        if size < self._searched:  # a part of what was not read yet is gone
            self._searched = self.end = 0
        if size != self.size:
            self.size, self.grown_at = size, now
        position = size
        while position > self._searched:
            begin = max(self._searched, position - READ_BYTES)
            try:
                data = os.pread(self._descriptors.get(self), position - begin, begin)
            except OSError:
                self.replaced = True
                return
            if len(data) < position - begin:
                return  # truncated this moment: the next poll will notice
            cut = data.rfind(b"\n")
            if cut >= 0:
                self.end = begin + cut + 1
                break
            position = begin
        self._searched = size
        if self.closed:
            self.end = size

    @property
    def is_searched(self) -> bool:
        """Whether all of its bytes were looked through for ends of lines."""
        return self._searched == self.size

    def close(self) -> None:
        """Take what stands after the last newline for a line."""
        self.closed = True
        self.end = max(self.end, self._searched)

    def reconsider(self, position: int) -> None:
        """There was no complete line from `position` on, against what an earlier poll had found: read once more."""
        self._searched = self.end = position
        self.stamp = (-1, -1)
        self.seen = None

    def present_size(self) -> int | None:
        """The size by its descriptor, None where there is none."""
        try:
            return os.fstat(self._descriptors.get(self)).st_size if self._descriptors.holds(self) else None
        except OSError:
            return None

    def has_no_writer(self) -> bool:
        """Whether the kernel can confirm that no other process has it open; where it can't, one may be writing."""
        if not hasattr(fcntl, "F_SETLEASE"):
            return False
        try:
            fd = self._descriptors.get(self)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except OSError:
            return False
        return True


def _digest(head: bytes) -> str:
    return blake2b(head, digest_size=16).hexdigest()


class Tail:
    """All files that are followed."""

    def __init__(self, *, max_open: int = TAIL_OPEN_FILES) -> None:
        self._descriptors = Descriptors(max_open)
        self._files: dict[Key, TailFile] = {}
        self._sorted: list[TailFile] | None = None
        self._polls = 0
        self.gone: list[TailFile] = []
        """Files that ended before all of them was shipped; the reporter empties the list."""

    @property
    def files(self) -> list[TailFile]:
        """The files that can be read, in the order in which they are to be."""
        if self._sorted is None:  # with thousands of files, sorting in each turn would cost more than the turn
            self._sorted = sorted(self._files.values(), key=lambda file: file.order)
        return self._sorted

    def update(self, seen: Sequence[Seen], now: float) -> None:
        """Take note of what a poll found at the time `now` (seconds, monotonic)."""
        found = {one.key: one for one in reversed(seen)}
        for one in reversed(found.values()):
            file = self._files.get(one.key)
            if file is None or file.replaced or file.seen != one:
                self._meet(one, now)
        for key, file in list(self._files.items()):
            if key not in found:
                self._miss(file, now)
        for file in self._files.values():
            if not file.unread:
                file.waiting_since = None
            elif file.waiting_since is None:
                file.waiting_since = now

    def quiet(self, now: float) -> dict[str, Seen]:
        """What the last poll found of files that need not be looked at this time, by name.

        A file that has been quiet for long is looked at in each TAIL_QUIET_POLLS-th poll only.
        """
        self._polls += 1
        return {
            file.path: file.seen
            for file in self._files.values()
            if file.path is not None
            and file.seen is not None
            and now - file.grown_at > TAIL_QUIET_S
            and (self._polls + file.key[1]) % TAIL_QUIET_POLLS
        }

    def forget(self, file: TailFile) -> None:
        """Follow it no longer."""
        self._descriptors.close(file)
        file.replaced = True
        if self._files.get(file.key) is file:
            del self._files[file.key]
            self._sorted = None

    def close(self) -> None:
        """Close every file."""
        self._descriptors.close_all()

    def _meet(self, seen: Seen, now: float) -> None:
        """A file that has a name, and is new or has changed."""
        file = self._files.get(seen.key)
        if file is not None:
            file.path = file.label = seen.path
            file.follow = seen.follow
            if file.stamp != (seen.size, seen.mtime_ns):
                file.intact()
            if file.replaced:
                self._lose(file)
                file = None
        if file is None:
            file = self._identify(seen)
        if file is None:
            return
        file.closed = file.closed or seen.path.endswith(_CLOSED)
        file.grow(seen.size, now)
        file.stamp = (seen.size, seen.mtime_ns)
        file.seen = seen if file.is_searched else None

    def _miss(self, file: TailFile, now: float) -> None:
        """A file whose name is gone: it may still grow, as long as we have its descriptor."""
        file.path = file.seen = None
        size = file.present_size()
        if size is None or file.replaced or (size != file.size and not file.intact()):
            self._lose(file)
        else:
            file.grow(size, now)

    def _lose(self, file: TailFile) -> None:
        if file.end > file.shipped:
            self.gone.append(file)
        self.forget(file)

    def _identify(self, seen: Seen) -> TailFile | None:
        """Open a file that was not known; None as long as it has no complete first line to be known by."""
        if not seen.size:
            return None
        try:
            fd = open_log(seen.path, seen.key, follow=seen.follow)
        except OSError:
            return None
        try:
            head = os.pread(fd, _HEAD_BYTES, 0)
        except OSError:
            head = b""
        first, newline, _ = head.partition(b"\n")
        if not newline and len(head) < _HEAD_BYTES and not (head and seen.path.endswith(_CLOSED)):
            os.close(fd)
            return None
        file = TailFile(self._descriptors, seen, first + newline)
        self._descriptors.keep(file, fd)
        self._files[seen.key] = file
        self._sorted = None
        return file
