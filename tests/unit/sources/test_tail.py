"""Finding and reading log files: one case each for what the machine of random actions can't reach."""

import errno
import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import UUID

import pytest

from agent_trace_sidecar.limits import MAX_LINE_BYTES
from agent_trace_sidecar.redaction import Redactor
from agent_trace_sidecar.sources.cursor import LineCursor, masked_by
from agent_trace_sidecar.sources.file_log import FileLog
from agent_trace_sidecar.sources.tail import Tail, TailFile, look, open_log
from agent_trace_sidecar.sources.tail_log import tail_key

RUN: Final = b"01984d7e-0000-7000-8000-000000000001"


def polled(tail: Tail, *paths: Path) -> list[TailFile]:
    """The files after another look."""
    tail.update(look(paths), time.monotonic())
    return tail.files


def read(file: TailFile, position: int = 0) -> list[bytes]:
    """Every line of a file from a position on."""
    cursor = LineCursor(file.read_at, masked_by(Redactor(enabled=False)))
    lines = cursor.read(position, file.end, 1 << 40, whole=file.closed)
    return [line.line.line for line in lines if line.line is not None]


def open_keys() -> set[tuple[int, int]]:
    """Device and inode of everything that this process has open."""
    keys = set()
    for fd in range(1024):
        with suppress(OSError):
            keys.add((os.fstat(fd).st_dev, os.fstat(fd).st_ino))
    return keys


@pytest.mark.parametrize(
    ("name", "followed"),
    [
        ("a.jsonl", True),
        ("a.1.done.jsonl", True),
        ("a.jsonl.1", True),
        ("a.jsonl-20260131", True),
        ("a.jsonl-20260131-1769817600", True),
        ("a.jsonl.2026-01-31_12-00-00", True),
        ("a.jsonl.old", True),
        (".a.jsonl", False),
        ("a.jsonl.gz", False),
        ("a.jsonl.1.gz", False),
        ("a.jsonl.tmp", False),
        ("a.json", False),
        ("README.md", False),
    ],
)
def test_what_a_folder_of_logs_holds(tmp_path: Path, name: str, followed: bool) -> None:
    """Logs and what rotation makes of their names; nothing compressed, hidden or unfinished."""
    (tmp_path / name).write_bytes(b"{}\n")
    assert bool(look([tmp_path])) is followed


def test_a_file_is_followed_with_what_rotation_made_of_it(tmp_path: Path) -> None:
    """Also while it is itself missing, as it is between a rename and its writer's next line."""
    for name in ("app.log.1", "app.log-2026", "app.log.gz", "app.logger", "other.log"):
        (tmp_path / name).write_bytes(b"{}\n")
    found = [Path(seen.path).name for seen in look([tmp_path / "app.log"])]
    assert found == ["app.log-2026", "app.log.1"]
    assert look([tmp_path / "nowhere" / "app.log"]) == []


def test_what_is_no_regular_file_is_left_alone(tmp_path: Path) -> None:
    """A pipe would wait for a writer, a dangling or circular link leads nowhere."""
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "dangling.jsonl").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop.jsonl").symlink_to(tmp_path / "loop.jsonl")
    assert polled(Tail(), tmp_path) == []


def test_two_names_of_one_file_are_one_file(tmp_path: Path) -> None:
    """By a link of either kind, and by being named twice. A link that was only found is not followed."""
    (tmp_path / "a.jsonl").write_bytes(b"{}\n")
    (tmp_path / "b.jsonl").symlink_to(tmp_path / "a.jsonl")
    (tmp_path / "c.jsonl").hardlink_to(tmp_path / "a.jsonl")
    (file,) = polled(Tail(), tmp_path, tmp_path / "a.jsonl")
    assert read(file) == [b"{}"]


def test_a_link_is_followed_where_it_was_named_and_left_alone_where_it_was_found(tmp_path: Path) -> None:
    """Whoever may write to the folder may lay a link to what only its reader may read."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "private").write_bytes(b'{"private":1}\n')
    (tmp_path / "logs" / "x.jsonl").symlink_to(tmp_path / "private")
    (tmp_path / "named").symlink_to(tmp_path / "logs")
    links: set[str] = set()
    assert look([tmp_path / "logs", tmp_path / "named"], links) == []
    assert links == {str(tmp_path / "logs" / "x.jsonl"), str(tmp_path / "named" / "x.jsonl")}
    (file,) = polled(Tail(), tmp_path / "logs" / "x.jsonl")
    assert read(file) == [b'{"private":1}']
    (tmp_path / "logs" / "y.log.1").symlink_to(tmp_path / "private")
    assert look([tmp_path / "logs" / "y.log"]) == []


def test_a_file_that_becomes_a_link_before_it_is_opened_is_not_followed(tmp_path: Path) -> None:
    """The look and the opening are two moments."""
    (tmp_path / "a.jsonl").write_bytes(b"{}\n")
    (seen,) = look([tmp_path])
    (tmp_path / "a.jsonl").rename(tmp_path / "b")
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "b")
    with pytest.raises(OSError, match="symbolic links"):
        open_log(seen.path, seen.key, follow=seen.follow)


def test_the_name_is_no_part_of_the_identity_and_the_first_line_is(tmp_path: Path) -> None:
    """A file keeps its identity through a rename and through growth; a new first line is another file."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"id":1}\n')
    first = polled(Tail(), tmp_path)[0].identity
    with path.open("ab") as file:
        file.write(b'{"id":2}\n' * 500)
    path = path.rename(tmp_path / "b.jsonl")
    assert polled(Tail(), tmp_path)[0].identity == first
    path.write_bytes(b'{"id":3}\n')
    assert polled(Tail(), tmp_path)[0].identity != first


@pytest.mark.parametrize(
    ("first", "run"),
    [
        (b'{"v":1,"id":"%b","seq":1,"at":2,"instance":"%b","hook":"hello"}' % (RUN, RUN), RUN),
        (b'{"hook":"hello","v":1,"id":"%b","seq":1,"at":2,"instance":"%b"}' % (RUN, RUN), None),
        (b"", None),
    ],
)
def test_a_log_is_named_by_the_run_that_it_begins_with(tmp_path: Path, first: bytes, run: bytes | None) -> None:
    """In the database its checkpoint is beside that run's rows, whether it is followed or replayed."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(first + b"\n")
    tail = Tail()
    (file,) = polled(tail, tmp_path)
    followed = tail_key(file)
    tail.close()
    with FileLog(path, Redactor(enabled=False)) as log:
        replayed = log.name.key
    assert followed.source_id == (UUID(run.decode()) if run else followed.log_id)
    assert replayed.source_id == (UUID(run.decode()) if run else replayed.log_id)
    assert replayed.log_id != followed.log_id


def test_older_first_lines_are_read_first(tmp_path: Path) -> None:
    """Whatever the files are called; within a millisecond the sequence decides."""
    for name, at, seq in (("c", 5, 9), ("a", 7, 1), ("b", 5, 10)):
        (tmp_path / f"{name}.jsonl").write_bytes(b'{"v":1,"seq":%d,"at":%d,"input":{"at":1}}\n' % (seq, at))
    assert [Path(file.label).stem for file in polled(Tail(), tmp_path)] == ["c", "b", "a"]


def test_descriptors_are_bounded_and_files_without_a_name_keep_theirs(tmp_path: Path) -> None:
    """Of a hundred files four are open; the one that was deleted can still be read."""
    tail = Tail(max_open=4)
    for number in range(100):
        (tmp_path / f"{number:03}.jsonl").write_bytes(b'{"at":%d}\n{}\n' % number)
    files = polled(tail, tmp_path)
    (tmp_path / "099.jsonl").unlink()
    files = polled(tail, tmp_path)
    assert [read(file)[0] for file in files] == [b'{"at":%d}' % number for number in range(100)]
    assert len(open_keys() & {file.key for file in files}) == 4
    tail.close()


def test_a_hole_at_the_start_costs_neither_memory_nor_lines(tmp_path: Path) -> None:
    """A writer that does not append goes on at its old offset after a truncation; what is before it reads as NULs."""
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.seek(3 * MAX_LINE_BYTES + 5)
        file.write(b'{"n":1}\n{"n":2}\n')
    (found,) = polled(Tail(), tmp_path)
    assert [line for line in read(found) if line] == [b'{"n":1}', b'{"n":2}']


def test_a_line_that_is_no_longer_whole_is_looked_for_again(tmp_path: Path) -> None:
    """What stands after the part that was read may change before it is read."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"n":1}\n{"n":2}\n')
    tail = Tail()
    (file,) = polled(tail, tmp_path)
    position = len(b'{"n":1}\n')
    file.read_at(0, position)
    path.write_bytes(b'{"n":1}\n{"n":2,"more":"yes"')
    assert polled(tail, tmp_path) == [file]
    assert read(file, position) == []
    file.reconsider(position)
    with path.open("ab") as more:
        more.write(b"}\n")
    polled(tail, tmp_path)
    assert read(file, position) == [b'{"n":2,"more":"yes"}']


def test_bytes_of_another_life_are_never_returned(tmp_path: Path) -> None:
    """Truncated and longer again between two reads, with the same first line: the mark tells."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"same":1}\n{"old":1}\n{"old":2}\n')
    tail = Tail()
    (file,) = polled(tail, tmp_path)
    assert file.read_at(0, 20)
    path.write_bytes(b'{"same":1}\n{"new":1}\n{"new":2}\n{"new":3}\n')
    assert file.read_at(20, 100) == b""
    assert file.replaced
    (other,) = polled(tail, tmp_path)
    assert read(other) == [b'{"same":1}', b'{"new":1}', b'{"new":2}', b'{"new":3}']


@pytest.mark.parametrize("call", ["read_at", "grow", "intact"])
def test_an_error_of_the_disk_costs_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """EIO on a read (os.pread replaced): the file counts as replaced, and is read again from its start."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"n":1}\n{"n":2}\n')
    tail = Tail()
    (file,) = polled(tail, tmp_path)

    def fail(*_: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", fail)
        match call:
            case "read_at":
                assert file.read_at(0, 100) == b""
            case "grow":
                file.grow(file.size + 10, 1.0)
            case _:
                assert not file.intact()
        assert file.replaced
    (other,) = polled(tail, tmp_path)
    assert other is not file
    assert read(other) == [b'{"n":1}', b'{"n":2}']


def test_lines_that_are_lost_are_told_of(tmp_path: Path) -> None:
    """A file that was truncated before it was read; one that was shipped to its end is no loss."""
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_bytes(b'{"n":1}\n')
    tail = Tail()
    files = polled(tail, tmp_path)
    files[1].shipped = files[1].end
    for file in files:
        os.truncate(file.label, 0)
    assert polled(tail, tmp_path) == []
    assert tail.gone == files[:1]


def test_the_kernel_tells_whether_somebody_has_a_file_open(tmp_path: Path) -> None:
    """So a file of an OpenCode that was killed can be told from one that is only quiet."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"{}\n")
    (file,) = polled(Tail(), tmp_path)
    with path.open("ab"):
        assert not file.has_no_writer()
    assert file.has_no_writer() is hasattr(fcntl, "F_SETLEASE")
