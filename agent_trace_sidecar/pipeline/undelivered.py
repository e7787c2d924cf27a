"""Sessions with events that this machine's spools hold and the database may not have yet.

`backfill` gives events other ids than the shim does: what is on its way would be stored twice.
"""

from collections.abc import Iterator
from pathlib import Path

import asyncpg

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


def sessions_after(root: Path, positions: dict[Path, int]) -> set[str]:
    """The sessions of the lines behind these positions; a spool that has none is read whole."""
    found: set[str] = set()
    for folder in spool_folders(root):
        for line in _lines(folder, positions.get(folder, 0)):
            envelope = parse(line)
            session_id = dialects.read(envelope).session_id if isinstance(envelope, Envelope) else None
            if session_id is not None:
                found.add(session_id)
    return found


def _lines(folder: Path, position: int) -> Iterator[bytes]:
    try:
        sizes = [(start, folder / f"{start:020d}.jsonl") for start in segments(folder)]
        ends = [(start, path, start + path.stat().st_size) for start, path in sizes]
    except OSError:  # shipped and removed meanwhile
        return
    for start, path, end in ends:
        at = max(position, start)
        while at < end and (lines := read_lines(path, start, at, end, READ_BYTES)):
            yield from (one.line for one in lines if one.line is not None)
            at = lines[-1].end
