"""The spool keeps what it has called durable, whatever happens to its files."""

import errno
import os
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest

from agent_trace_sidecar.opencode.wire import Rejected, parse
from agent_trace_sidecar.redaction import Redacted
from agent_trace_sidecar.spool.folders import SpoolBusyError, is_owned
from agent_trace_sidecar.spool.spool import Spool, SpoolFullError

HEAD = b'{"v":1,"id":"11111111-2222-4333-8444-%012d","seq":%d,"at":1,"instance":"11111111-2222-4333-8444-555555555555",'


def line(number: int, size: int = 20) -> Redacted:
    """A good line."""
    return Redacted.from_spool(HEAD % (number, number) + b'"hook":"event","input":"%b"}' % (b"x" * size))


def filled(folder: Path, count: int, *, segment_bytes: int = 1 << 20) -> list[int]:
    """Make a spool with so many durable lines and close it; return the positions after each."""
    spool = Spool(folder, segment_bytes=segment_bytes)
    ends = [spool.append([line(number)])[0] for number in range(1, count + 1)]
    assert spool.sync() == ends[-1]
    spool.close()
    return ends


def contents(spool: Spool, position: int = 0) -> list[bytes | None]:
    """Everything that is durable, read in small pieces; positions must join up."""
    found: list[bytes | None] = []
    while lines := spool.read(position, 100):
        found += [item.line.line if item.line else None for item in lines]
        assert all(item.end > position for item in lines)
        position = lines[-1].end
    assert position == spool.durable
    return found


def lines(*numbers: int) -> list[bytes | None]:
    """The bytes of these lines."""
    return [line(number).line for number in numbers]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the test's spool lies."""
    return tmp_path / f"{uuid4()}.00000000"


def test_a_torn_tail_is_cut_at_every_byte(folder: Path) -> None:
    """Wherever the last line was cut off, the lines before it are there and the next one follows them."""
    ends = filled(folder, 3)
    segment = folder / f"{0:020d}.jsonl"
    whole = segment.read_bytes()
    for cut in range(ends[1], ends[2]):
        segment.write_bytes(whole[:cut])
        spool = Spool(folder)
        assert spool.end == spool.durable == ends[1]
        spool.append([line(4)])
        spool.sync()
        assert contents(spool) == lines(1, 2, 4)
        spool.close()
        for path in folder.glob("*.jsonl"):
            path.unlink()


def test_a_flipped_bit_costs_its_own_line_only(folder: Path) -> None:
    """Whichever byte of the middle line is hit, its neighbours are read, and nothing is read as another event."""
    rnd = random.Random(1)  # noqa: S311 - must be repeatable
    ends = filled(folder, 3)
    segment = folder / f"{0:020d}.jsonl"
    whole = bytearray(segment.read_bytes())
    for at in range(ends[0], ends[1] - 1):
        damaged = whole.copy()
        damaged[at] ^= 1 << rnd.randrange(8)
        segment.write_bytes(damaged)
        spool = Spool(folder)
        found = contents(spool)
        spool.close()
        assert [found[0], found[-1]] == lines(1, 3)
        assert len(found) in (3, 4)
        for item in found[1:-1]:
            assert item is None or item == line(2).line or isinstance(parse(item), Rejected)


def _remove(path: Path) -> None:
    path.unlink()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _nul(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("harm", [_remove, _empty, _nul])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_lost_segment_costs_its_own_lines_only(folder: Path, harm: Callable[[Path], None], which: int) -> None:
    """First, middle or last; missing, empty or all NUL: the others are read, and new lines are."""
    ends = filled(folder, 6, segment_bytes=300)
    segments = sorted(folder.glob("*.jsonl"))
    assert len(segments) == 3
    harm(segments[which])
    kept = [n for n in range(1, 7) if (n - 1) // 2 != which]
    spool = Spool(folder)
    spool.append([line(7)])
    spool.sync()
    found = contents(spool, spool.start)
    spool.close()
    assert [item for item in found if item is not None] == lines(*kept, 7)
    assert len(found) - len(kept) - 1 <= 1
    assert spool.recovered <= ends[-1]


def _delete_all(folder: Path) -> None:
    shutil.rmtree(folder)


def _delete_segments(folder: Path) -> None:
    for path in folder.glob("*.jsonl"):
        path.unlink()


@pytest.mark.parametrize("harm", [_delete_all, _delete_segments])
@pytest.mark.parametrize("then", ["read", "append", "sync", "rotate"])
def test_an_open_segment_that_somebody_deletes_is_written_again(
    folder: Path, harm: Callable[[Path], None], then: str
) -> None:
    """With its folder or without, whatever is done next: nothing of it is lost, and nobody else can take it over."""
    spool = Spool(folder, segment_bytes=1 if then == "rotate" else 1 << 20)
    spool.append([line(0), line(1)])
    spool.sync()
    if then == "sync":
        spool.append([line(2)])
    harm(folder)
    if then in ("append", "rotate"):
        spool.append([line(2)])
    if then == "read":
        assert contents(spool) == lines(0, 1)
        spool.append([line(2)])
    assert spool.sync() == spool.end
    assert contents(spool) == lines(0, 1, 2)
    with pytest.raises(SpoolBusyError):
        Spool(folder)
    spool.close()
    again = Spool(folder)
    assert contents(again) == lines(0, 1, 2)
    again.close()


def test_a_deleted_segment_waits_for_a_disk_that_is_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is called durable before it is on the disk again (os.write replaced)."""
    spool = Spool(folder)
    spool.append([line(0)])
    spool.sync()
    _delete_segments(folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", failing_write(errno.ENOSPC, after=7))
        with pytest.raises(OSError, match="No space"):
            spool.append([line(1)])
    spool.append([line(1)])
    assert spool.sync() == spool.end
    assert contents(spool) == lines(0, 1)
    spool.close()


def test_a_full_disk_leaves_no_part_of_a_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short write, then ENOSPC (os.write replaced in this process): the file ends where the last line ended."""
    spool = Spool(folder)
    spool.append([line(1)])
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", failing_write(errno.ENOSPC, after=7))
        with pytest.raises(OSError, match="No space"):
            spool.append([line(2), line(3)])
    assert (folder / f"{0:020d}.jsonl").stat().st_size == spool.end
    spool.append([line(3)])
    spool.sync()
    assert contents(spool) == lines(1, 3)
    spool.close()


def failing_write(code: int, after: int) -> Callable[[int, memoryview], int]:
    """An `os.write` that takes `after` bytes and then fails for good."""
    real, room = os.write, [after]

    def write(fd: int, data: memoryview) -> int:
        if not room[0]:
            raise OSError(code, os.strerror(code))
        taken = real(fd, data[: room[0]])
        room[0] -= taken
        return taken

    return write


def test_a_full_disk_takes_the_room_of_shipped_segments(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shipped segments are kept for a fail-over only as long as there is room."""
    spool = Spool(folder, segment_bytes=300)
    for number in range(1, 8):
        spool.append([line(number)])
    end = spool.sync()
    spool.release(end)
    assert len(list(folder.glob("*.jsonl"))) == 4
    real = os.write

    def write(fd: int, data: memoryview) -> int:
        if len(list(folder.glob("*.jsonl"))) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    spool.append([line(8)])
    spool.sync()
    assert contents(spool, end) == lines(8)
    spool.close()


@pytest.mark.parametrize("after", [0, 5])
def test_after_an_error_of_the_disk_all_unsynced_lines_are_written_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """EIO on write (os.write replaced): what was not durable yet is in another file before it is called so."""
    disk = Disk(monkeypatch)
    spool = Spool(folder)
    spool.append([line(1)])
    spool.sync()
    spool.append([line(2)])
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", failing_write(errno.EIO, after=after))
        with pytest.raises(OSError, match="error"):
            spool.append([line(3)])
    spool.append([line(4)])
    assert spool.sync() == spool.end
    spool.close()
    disk.lose_power(folder)
    spool = Spool(folder)
    assert contents(spool) == lines(1, 2, 4)
    spool.close()


def test_after_a_failed_fsync_nothing_that_it_covered_is_trusted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO on fsync, twice (os.fdatasync replaced): no line is durable, then all are, in a new file."""
    disk = Disk(monkeypatch)
    spool = Spool(folder)
    spool.append([line(1)])
    first = spool.sync()
    spool.append([line(2), line(3)])
    for _ in range(2):
        disk.broken = True
        with pytest.raises(OSError, match="error"):
            spool.sync()
        assert spool.durable == first
    assert spool.sync() == spool.end
    spool.close()
    disk.lose_power(folder)
    spool = Spool(folder)
    assert contents(spool) == lines(1, 2, 3)
    spool.close()


def test_a_folder_that_cannot_be_synced_promises_no_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO on the folder's fsync when a segment is begun: its lines are not taken, and the next ones are whole."""
    spool = Spool(folder, segment_bytes=1)
    spool.append([line(1)])
    first = spool.sync()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing_fsync)
        for number in (2, 3):
            with pytest.raises(OSError, match="error"):
                spool.append([line(number)])
            assert spool.sync() == first == spool.end
    spool.append([line(4)])
    assert spool.sync() == spool.end
    assert contents(spool) == lines(1, 4)
    spool.close()
    spool = Spool(folder)
    assert contents(spool) == lines(1, 4)
    spool.close()


def failing_fsync(_: int) -> None:
    """A folder on a broken disk."""
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_an_fsync_that_fails_at_the_end_of_a_segment_is_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel tells only one of two callers: neither `append` nor `sync` may then call the lines durable."""
    disk = Disk(monkeypatch)
    spool = Spool(folder, segment_bytes=100)
    spool.append([line(1)])
    disk.broken = True
    with pytest.raises(OSError, match="error"):
        spool.append([line(2)])
    assert spool.durable == 0
    spool.append([line(2)])
    assert spool.sync() == spool.end
    spool.close()
    disk.lose_power(folder)
    spool = Spool(folder)
    assert contents(spool) == lines(1, 2)
    spool.close()


class Disk:
    """Stands in for `os.fdatasync`: remembers how much of each file is safe, fails once when `broken` is set.

    As a kernel does, it tells of a failure once, and has then forgotten the pages.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.broken = False
        self._safe: dict[tuple[int, int], int] = {}
        self._lost: dict[tuple[int, int], int] = {}
        self._real_open = os.open
        monkeypatch.setattr(os, "fdatasync", self._fdatasync)
        monkeypatch.setattr(os, "open", self._open)

    def _open(self, path: str | Path, flags: int, mode: int = 0o777) -> int:
        fd = self._real_open(path, flags, mode)
        if flags & os.O_TRUNC:  # a new file may have the number of one that was deleted
            status = os.fstat(fd)
            self._safe.pop((status.st_dev, status.st_ino), None)
            self._lost.pop((status.st_dev, status.st_ino), None)
        return fd

    def _fdatasync(self, fd: int) -> None:
        status = os.fstat(fd)
        key = (status.st_dev, status.st_ino)
        if self.broken:
            self.broken = False
            self._lost.setdefault(key, self._safe.get(key, 0))
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._safe[key] = min(status.st_size, self._lost.get(key, status.st_size))

    def lose_power(self, folder: Path, keep: Callable[[int], int] = lambda _: 0) -> None:
        """Cut every file to what is safe, and `keep(n)` of the n bytes after that."""
        for path in folder.glob("*.jsonl"):
            status = path.stat()
            safe = min(self._safe.get((status.st_dev, status.st_ino), 0), status.st_size)
            os.truncate(path, safe + keep(status.st_size - safe))


def test_the_cap_holds_the_writer_until_lines_are_shipped(folder: Path) -> None:
    """What is shipped makes room; a line larger than the cap alone passes, since nothing else would ever move it."""
    spool = Spool(folder, segment_bytes=300, max_bytes=1000)
    taken = 0
    with suppress(SpoolFullError):
        for taken in range(100):
            spool.append([line(taken)])
    assert 0 < taken < 10
    assert spool.unshipped_bytes <= 1000
    spool.release(spool.sync())
    spool.append([line(100, size=2000)])
    with pytest.raises(SpoolFullError):
        spool.append([line(101)])
    spool.close()


def test_a_spool_has_one_owner(tmp_path: Path) -> None:
    """While the owner lives nobody else opens it; afterwards the same instance goes on in it."""
    instance = uuid4()
    first = Spool.create(tmp_path, instance)
    assert is_owned(first.folder)
    with pytest.raises(SpoolBusyError):
        Spool(first.folder)
    second = Spool.create(tmp_path, instance)
    assert second.folder != first.folder
    assert second.log_key != first.log_key
    assert second.log_key.source_id == first.log_key.source_id == instance
    first.append([line(1)])
    first.sync()
    first.close()
    assert not is_owned(first.folder)
    again = Spool.create(tmp_path, instance)
    assert (again.folder, again.log_key) == (first.folder, first.log_key)
    assert contents(again) == lines(1)
    again.close()
    second.close()


def test_looking_at_a_spool_does_not_make_it_young(folder: Path) -> None:
    """Its age decides when it is adopted and when it is removed."""
    filled(folder, 1)
    os.utime(next(folder.glob("*.jsonl")), (1000, 1000))
    for _ in range(2):
        spool = Spool(folder)
        assert spool.last_write_at == 1000
        spool.close()


def test_a_spool_that_can_not_be_opened_is_not_owned(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed attempt leaves no lock behind (os.ftruncate replaced, as on a read-only file system)."""
    filled(folder, 1)
    with next(folder.glob("*.jsonl")).open("ab") as file:
        file.write(b"torn")

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", refuse)
        with pytest.raises(OSError, match="Read-only"):
            Spool(folder)
    spool = Spool(folder)
    assert contents(spool) == lines(1)
    spool.close()


def test_shipped_segments_go_after_their_time(folder: Path) -> None:
    """Younger ones stay for a fail-over to a replica that lags; the one being written always stays."""
    spool = Spool(folder, segment_bytes=300)
    for number in range(1, 8):
        spool.append([line(number)])
    end = spool.sync()
    spool.release(end)
    assert contents(spool) == lines(1, 2, 3, 4, 5, 6, 7)
    for path in folder.glob("*.jsonl"):
        os.utime(path, (1, 1))
    spool.release(end)
    assert contents(spool, spool.start) == lines(7)
    assert len(list(folder.glob("*.jsonl"))) == 1
    spool.close()
