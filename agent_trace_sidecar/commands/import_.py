"""`import`: Agent Trace files of other tools, into the tables that `blame` reads; each record once.

Others say where lines stood, seldom what they were. The lines are looked up in the repository while it still has
them: in the worktree, at the record's revision, and in the first commits after it (tools that record before the commit
name the one before). A range whose hash agrees with none of them stays without lines, and claims none in `blame`.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
from msgspec import Struct, convert, structs

from agent_trace_sidecar.commands.common import CommandError
from agent_trace_sidecar.commands.database import with_database
from agent_trace_sidecar.commands.output import complain, say
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits.files import read_whole
from agent_trace_sidecar.records.content import text_lines
from agent_trace_sidecar.records.diffs import MAX_LINE
from agent_trace_sidecar.records.fingerprints import line_hashes, line_keys, packed_tokens
from agent_trace_sidecar.records.foreign_hashes import agrees
from agent_trace_sidecar.records.rows import FileStateRow, RangeRow, RecordRow
from agent_trace_sidecar.records.trace import Conversation, File, Range, TraceError, TraceRecord, encode, parse_record
from agent_trace_sidecar.workspace.checkout import Checkout, CheckoutError, checkout_of

IMPORTED: Final = "imported"
"""The method of ranges whose record does not say how they were found."""
_BATCH: Final = 200
_MAX_CHARS: Final = 500
_MAX_FILE_BYTES: Final = 256 * 1024 * 1024
"""Of a session's name; what is longer is no name."""
_COMMITS_AFTER: Final = 3
_BEFORE_COMMIT: Final = "1.0"
"""The version of records whose revision is that of the commit before, see `trace.py`."""

_KNOWN: Final = "SELECT record_id FROM agent_trace_records WHERE record_id = ANY($1::uuid[])"
_GATE: Final = """
INSERT INTO agent_trace_dedupe (event_id, seen_at) SELECT id, $2 FROM unnest($1::uuid[]) AS id
ON CONFLICT (event_id) DO NOTHING RETURNING event_id
"""


class Imported(NamedTuple):
    """What became of the records, and how many of their ranges have lines that `blame` can find."""

    stored: int = 0
    known: int = 0
    ranges: int = 0
    found: int = 0


class Rows(NamedTuple):
    """The rows of one record."""

    record: RecordRow
    ranges: list[RangeRow]
    states: list[FileStateRow]


def arguments(parser: argparse.ArgumentParser) -> None:
    """The files, and the repository that they belong to."""
    parser.add_argument("files", metavar="FILE", type=Path, nargs="+")
    parser.add_argument(
        "--repository",
        metavar="DIR",
        type=Path,
        default=Path(),
        help="their repository; default: this",
    )


def run(config: Config, given: argparse.Namespace) -> int:
    """Store the records of the files."""
    unread: list[TraceError] = []

    def records() -> Iterator[TraceRecord]:
        for file in given.files:
            for record in _read(file):
                if isinstance(record, TraceError):
                    unread.append(record)
                    complain(f"{file}: a record can't be read: {record}")
                else:
                    yield record

    async def work(connection: asyncpg.Connection) -> Imported:
        return await store_records(connection, checkout_of(given.repository.resolve() / "x"), records())

    try:
        done = with_database(config, work)
    except CheckoutError as exc:
        raise CommandError(str(exc)) from None
    say(
        f"{done.stored} records stored, {done.known} were there already; "
        f"the lines of {done.found} of {done.ranges} ranges were found in the repository"
    )
    return 1 if unread else 0


def _read(file: Path) -> list[TraceRecord | TraceError]:
    try:
        return list(read_records(file))
    except OSError as exc:
        raise CommandError(f"{file} can't be read: {exc.strerror}.") from None


async def store_records(connection: asyncpg.Connection, checkout: Checkout, records: Iterable[TraceRecord]) -> Imported:
    """Store records as traces of this repository; those that are stored already are left alone.

    Raises:
        CheckoutError: git can't be run.
    """
    maker = _Maker(checkout)
    total = Counter[str]()
    for batch in _batches(records):
        rows = [maker.rows(record) for record in batch.values()]
        async with connection.transaction():
            fresh = await _fresh(connection, sorted(batch))
            kept = [one for one in rows if one.record.record_id in fresh]
            await _copy(connection, "agent_trace_records", RecordRow._fields, [one.record for one in kept])
            ranges = [row for one in kept for row in one.ranges]
            await _copy(connection, "agent_trace_ranges", RangeRow._fields, ranges)
            states = [row for one in kept for row in one.states]
            await _copy(connection, "agent_trace_file_states", FileStateRow._fields, states)
        total["stored"] += len(kept)
        total["known"] += len(rows) - len(kept)
        total["ranges"] += len(ranges)
        total["found"] += sum(row.line_hashes is not None for row in ranges)
    return Imported(**total)


def read_records(file: Path) -> Iterator[TraceRecord | TraceError]:
    """The records of a file of JSON lines, or of one JSON document that is a record or an array of them.

    Raises:
        OSError: the file can't be read.
    """
    text = read_whole(file, _MAX_FILE_BYTES).data.decode(errors="replace")
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        texts = [line for line in text.splitlines() if line.strip()]
    else:
        texts = [json.dumps(one) for one in (whole if isinstance(whole, list) else [whole])]
    for one in texts:
        try:
            record = parse_record(one)
        except TraceError as exc:
            yield exc
        else:
            yield TraceError("the record holds a NUL, which no database keeps") if "\\u0000" in one else record


def _batches(records: Iterable[TraceRecord]) -> Iterator[dict[UUID, TraceRecord]]:
    """Some records at a time, each id once."""
    batch: dict[UUID, TraceRecord] = {}
    for record in records:
        batch.setdefault(record.id, record)
        if len(batch) == _BATCH:
            yield batch
            batch = {}
    yield batch


async def _fresh(connection: asyncpg.Connection, ids: Sequence[UUID]) -> set[UUID]:
    """The ids that nobody has stored, which are ours from now on: records of our own did not come this way."""
    known = {row["record_id"] for row in await connection.fetch(_KNOWN, ids)}
    passed = await connection.fetch(_GATE, [one for one in ids if one not in known], datetime.now(UTC))
    return {row["event_id"] for row in passed}


async def _copy(
    connection: asyncpg.Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    if rows:
        await connection.copy_records_to_table(table, columns=columns, records=rows)


class _OwnRange(Struct):
    start_line: int
    end_line: int
    method: str


class _OwnFile(Struct):
    """What a record of this program says of a file in its metadata, see `record.py`."""

    path: str
    ranges: tuple[_OwnRange, ...] = ()


class _Maker:
    """Makes rows of records of one repository."""

    def __init__(self, checkout: Checkout) -> None:
        self._checkout = checkout
        self._project = checkout.projects()[0]
        self._contents = lru_cache(maxsize=64)(self._read_contents)

    def rows(self, record: TraceRecord) -> Rows:
        """The rows of a record; nothing in them is of our own making but the hashes of lines that were found."""
        if record.timestamp.tzinfo is None:
            record = structs.replace(record, timestamp=record.timestamp.replace(tzinfo=UTC))
        metadata = record.metadata or {}
        ranges: list[RangeRow] = []
        states: list[FileStateRow] = []
        for file in record.files:
            methods = _methods(metadata, file.path)
            own = [
                self._range(record, file, conversation, span, methods)
                for conversation in file.conversations
                for span in conversation.ranges
                if span.end_line <= MAX_LINE
            ]
            ranges += own
            states.append(self._state(record, file.path, own))
        first = next((row for row in ranges), None)
        return Rows(
            RecordRow(
                record_id=record.id,
                recorded_at=record.timestamp,
                event_id=record.id,
                session_id=first.session_id if first else None,
                spec_version=record.version,
                vcs_type=record.vcs.type if record.vcs else None,
                vcs_revision=record.vcs.revision if record.vcs else None,
                tool_name=record.tool.name if record.tool else None,
                tool_version=record.tool.version if record.tool else None,
                model_id=first.model_id if first else None,
                contributor=first.contributor if first else "unknown",
                record=encode(record),
            ),
            ranges,
            states,
        )

    def _range(
        self,
        record: TraceRecord,
        file: File,
        conversation: Conversation,
        span: Range,
        methods: Mapping[tuple[int, int], str],
    ) -> RangeRow:
        metadata = record.metadata or {}
        contributor = span.contributor or conversation.contributor
        lines = self._lines(record, file.path, span)
        return RangeRow(
            record_id=record.id,
            recorded_at=record.timestamp,
            path=file.path,
            start_line=span.start_line,
            end_line=span.end_line,
            content_hash=span.content_hash,
            contributor=contributor.type if contributor else "unknown",
            model_id=contributor.model_id if contributor else None,
            session_id=_text(metadata.get("io.opencode.session_id")) or _text(conversation.url),
            method=methods.get((span.start_line, span.end_line), IMPORTED),
            message_id=_text(metadata.get("io.opencode.message_id")),
            call_id=_text(metadata.get("io.opencode.call_id")),
            tool=_text(metadata.get("io.opencode.tool")) or _text(record.tool.name if record.tool else None),
            project=self._project,
            line_hashes=line_hashes(lines) if lines else None,
            line_tokens=packed_tokens(lines) if lines else None,
        )

    def _state(self, record: TraceRecord, path: str, ranges: Sequence[RangeRow]) -> FileStateRow:
        found = [row for row in ranges if row.line_hashes is not None]
        keys = line_keys(
            self._project,
            b"".join(row.line_hashes or b"" for row in found),
            b"".join(row.line_tokens or b"" for row in found),
        )
        root = str(self._checkout.root)
        return FileStateRow(record.id, record.timestamp, self._project, root, path, None, "update", None, None, keys)

    def _lines(self, record: TraceRecord, path: str, span: Range) -> list[bytes]:
        """The lines that a range speaks of, none where the repository has none that agree with its hash."""
        early = record.version.startswith(_BEFORE_COMMIT)
        for lines in self._contents(record.vcs.revision if record.vcs else None, path, early=early):
            own = lines[span.start_line - 1 : span.end_line]
            whole = len(own) == span.end_line - span.start_line + 1
            if whole and (span.content_hash is None or agrees(span.content_hash, own) is not False):
                return own
        return []

    def _read_contents(self, revision: str | None, path: str, *, early: bool) -> list[list[bytes]]:
        """What the file may have looked like, the likeliest first; `early` is for tools that record before a commit."""
        found = []
        for commit in self._commits(revision, path, early=early):
            try:
                content = self._checkout.content(path, commit)
            except CheckoutError:
                content = None
            if content is not None:
                found.append(text_lines(content))
        return found

    def _commits(self, revision: str | None, path: str, *, early: bool) -> list[str | None]:
        if revision is None or not self._checkout.is_git:
            return [None]
        try:
            after = self._checkout.commits_after(revision, path)[:_COMMITS_AFTER]
        except CheckoutError:
            return [None]
        return [*after, None, revision] if early else [revision, *after, None]


def _methods(metadata: Mapping[str, object], path: str) -> dict[tuple[int, int], str]:
    """How the ranges were found, where a record of this program says so."""
    try:
        files = convert(metadata.get("io.opencode.files", ()), tuple[_OwnFile, ...])
    except ValueError:
        return {}
    return {(one.start_line, one.end_line): one.method for file in files if file.path == path for one in file.ranges}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and len(value) <= _MAX_CHARS else None
