"""Sessions with events that this machine's spools hold and the database may not have yet.

`backfill` gives events other ids than the shim does: what is on its way would be stored twice. It needs the answer
for each session anew; of a segment that was read before only what has been added is read.
"""

from pathlib import Path
from typing import NamedTuple

import asyncpg
import msgspec

from agent_trace_sidecar.limits import READ_BYTES
from agent_trace_sidecar.opencode import dialects
from agent_trace_sidecar.opencode.wire import Envelope, parse
from agent_trace_sidecar.postgres.checkpoints import positions
from agent_trace_sidecar.spool.folders import log_key, segments, spool_folders
from agent_trace_sidecar.spool.segments import read_lines
from agent_trace_sidecar.telemetry.health import HealthFile


async def delivered(connection: asyncpg.Connection, root: Path) -> dict[Path, int]:
    """How far each spool below `root` is delivered: to this database, or to another one by its sidecar's report."""
    folders = {log_key(folder): folder for folder in spool_folders(root)}
    reports = {folder: HealthFile(folder).read() for folder in folders.values()}
    found = {folder: report.position for folder, report in reports.items() if report}
    for key, position in (await positions(connection, folders.keys())).items():
        found[folders[key]] = max(found.get(folders[key], 0), position)
    return found


class _File(NamedTuple):
    """What a segment's file was when it was read; nothing is to be read where it is the same."""

    inode: int
    size: int
    changed_ns: int


class _Last(NamedTuple):
    """The last whole line that was read: where it reads otherwise, the file has another content by now."""

    start: int
    hash: int


class _Segment(msgspec.Struct):
    """What was read of a segment, from one position on."""

    first: int
    last: _Last | None = None
    file: _File | None = None
    sessions: dict[str, int] = msgspec.field(default_factory=dict)
    """The position after the last line of each session."""

    def read_on(self, path: Path, start: int, file: _File) -> bool:
        """Read what was added; False where what was read before is not there any more."""
        expected = self.last
        at, end = expected.start if expected else self.first, start + file.size
        while at < end and (lines := read_lines(path, start, at, end, READ_BYTES)):
            for line, after, _ in lines:
                if expected is not None:
                    if line is None or hash(line) != expected.hash:
                        return False
                    expected = None
                elif line is not None:
                    self.last = _Last(at, hash(line))
                    session_id = _session_of(line)
                    if session_id is not None:
                        self.sessions[session_id] = after
                at = after
        self.file = file
        return expected is None


class Undelivered:
    """The spools below a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._segments: dict[Path, _Segment] = {}

    def sessions_after(self, positions: dict[Path, int]) -> set[str]:
        """The sessions of the lines behind these positions; a spool that has none is read whole."""
        found: set[str] = set()
        read: dict[Path, _Segment] = {}
        for folder in spool_folders(self._root):
            for start, path, file in _files(folder):
                at = max(positions.get(folder, 0), start)
                if at >= start + file.size:
                    continue
                one = self._segments.get(path)
                if one is None or one.first > at:
                    one = _Segment(at)
                if one.file != file and not one.read_on(path, start, file):
                    one = _Segment(at)
                    one.read_on(path, start, file)
                read[path] = one
                found.update(session_id for session_id, end in one.sessions.items() if end > at)
        self._segments = read
        return found


def _files(folder: Path) -> list[tuple[int, Path, _File]]:
    """The segments of a spool: where each begins, and its file."""
    try:
        paths = [(start, folder / f"{start:020d}.jsonl") for start in segments(folder)]
        found = [(start, path, path.stat()) for start, path in paths]
    except OSError:  # shipped and removed meanwhile
        return []
    return [(start, path, _File(one.st_ino, one.st_size, one.st_ctime_ns)) for start, path, one in found]


def _session_of(line: bytes) -> str | None:
    envelope = parse(line)
    return dialects.read(envelope).session_id if isinstance(envelope, Envelope) else None
