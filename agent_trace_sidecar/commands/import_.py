"""`import`: Agent Trace files of other tools, into the tables that `blame` reads; each record once.

Each record goes through the redactor before anything of it is read. Its lines are looked up in the repository while it
still has them (see `workspace.located`); what can't be found there is kept in the record, and claims no line.
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Struct, convert, structs

from agent_trace_sidecar.commands.common import CommandError, record_arguments
from agent_trace_sidecar.commands.database import with_database
from agent_trace_sidecar.commands.output import complain, say
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits.text import counted
from agent_trace_sidecar.pipeline.daemon import make_redactor
from agent_trace_sidecar.postgres.imported import SOURCE_ID, ImportedRows, store
from agent_trace_sidecar.records.content import Content
from agent_trace_sidecar.records.fingerprints import line_keys
from agent_trace_sidecar.records.foreign import session_of
from agent_trace_sidecar.records.rows import FileStateRow, RangeRow, RecordRow
from agent_trace_sidecar.records.trace import Conversation, Range, Reading, TraceRecord
from agent_trace_sidecar.redaction import Redactor, is_secret_path
from agent_trace_sidecar.sources.trace_file import Traced, TraceFileError, Unread, grouped, traces
from agent_trace_sidecar.telemetry import logging as log
from agent_trace_sidecar.workspace.checkout import Checkout, CheckoutError, checkout_of
from agent_trace_sidecar.workspace.located import Located, Locator
from agent_trace_sidecar.workspace.repository_rules import RepositoryRules

IMPORTED: Final = "imported"
"""The method of ranges whose record does not name one."""
_BATCH: Final = 200
_MAX_CHARS: Final = 500
"""Of a text in a column; what is longer is no id, and the record has it."""


class Imported(NamedTuple):
    """Counts of the records, and of the ranges whose lines `blame` can find."""

    stored: int = 0
    known: int = 0
    ranges: int = 0
    found: int = 0


def arguments(parser: argparse.ArgumentParser) -> None:
    """The files, and the repository that they belong to."""
    record_arguments(parser)


def run(config: Config, given: argparse.Namespace) -> int:
    """Store the records of the files."""
    redactor = make_redactor(config, log.logger())
    folder = str(given.repository.resolve())
    if RepositoryRules(config.repositories).denies(folder, folder):
        raise CommandError(f"nothing is imported: AGENT_TRACE_REPOSITORIES denies {folder}.")
    reader = _Reader(given.files, redactor)

    async def work(connection: asyncpg.Connection) -> Imported:
        return await store_records(connection, checkout_of(given.repository.resolve() / "x"), reader.traced(), redactor)

    try:
        done = with_database(config, work)
    except CheckoutError as exc:
        raise CommandError(str(exc)) from None
    say(
        f"{counted(done.stored, 'record')} stored, {done.known} already stored; "
        f"lines of {done.found} of {counted(done.ranges, 'range')} located in the repository"
    )
    return 1 if reader.unread else 0


class _Reader:
    """Reads files one after the other, and prints at the end of each what could not be read, or only in another way."""

    def __init__(self, files: Sequence[Path], redactor: Redactor) -> None:
        self._files = files
        self._redactor = redactor
        self.unread = 0

    def traced(self) -> Iterator[Traced]:
        """The records that can be read.

        Raises:
            CommandError: a file can't be opened, or is of another form.
        """
        for file in self._files:
            unread: list[Unread] = []
            notes = Counter[str]()
            try:
                for one in traces(file, self._redactor):
                    if isinstance(one, Unread):
                        unread.append(one)
                    else:
                        notes.update(one.reading.notes)
                        yield one
            except TraceFileError as exc:
                raise CommandError(f"{file} holds no Agent Trace records: {exc}") from None
            except OSError as exc:
                raise CommandError(f"{file} can't be read: {exc.strerror}.") from None
            self.unread += len(unread)
            counted = (f"{count} record{'s' * (count > 1)}: {note}" for note, count in notes.items())
            for sentence in (*grouped(unread), *counted):
                complain(f"{file}: {self._redactor.text(sentence)}")


async def store_records(
    connection: asyncpg.Connection, checkout: Checkout, records: Iterable[Traced], redactor: Redactor
) -> Imported:
    """Store records as traces of this repository; those that are stored already are left alone.

    Raises:
        CheckoutError: git can't be run.
    """
    maker = _Maker(checkout, redactor)
    total = Counter[str]()
    for batch in _batches(records):
        rows = [maker.rows(one) for one in batch.values()]
        kept = {one.record.record_id for one in await store(connection, [made.rows for made in rows])}
        fresh = [made for made in rows if made.rows.record.record_id in kept]
        total["stored"] += len(fresh)
        total["known"] += len(rows) - len(fresh)
        total["ranges"] += sum(made.ranges for made in fresh)
        total["found"] += sum(made.found for made in fresh)
    return Imported(**total)


def _batches(records: Iterable[Traced]) -> Iterator[dict[UUID, Traced]]:
    """Some records at a time, each id once."""
    batch: dict[UUID, Traced] = {}
    for one in records:
        batch.setdefault(one.reading.record.id, one)
        if len(batch) == _BATCH:
            yield batch
            batch = {}
    yield batch


class _OwnRange(Struct):
    start_line: int
    end_line: int
    method: str


class _OwnFile(Struct):
    """The metadata of a file in a record of this program, see `records.record`."""

    path: str
    ranges: tuple[_OwnRange, ...] = ()


class _Made(NamedTuple):
    """The rows of one record, and how many of its ranges were found."""

    rows: ImportedRows
    ranges: int
    found: int


class _Maker:
    """Makes rows of records of one repository."""

    def __init__(self, checkout: Checkout, redactor: Redactor) -> None:
        self._checkout = checkout
        self._project = checkout.projects()[0]
        self._locator = Locator(checkout)
        self._redactor = redactor

    def rows(self, traced: Traced) -> _Made:
        """The rows of a record; nothing in them is of our own making but the hashes of lines that were found."""
        reading = traced.reading
        if reading.record.timestamp.tzinfo is None:
            aware = reading.record.timestamp.replace(tzinfo=UTC)
            reading = reading._replace(record=structs.replace(reading.record, timestamp=aware))
        record, document = reading.record, reading.document
        made: list[RangeRow] = []
        states: dict[str, FileStateRow] = {}
        asked = found = 0
        for at, file in enumerate(record.files):
            path = self._locator.path(file.path, record.vcs.revision if record.vcs else None)
            own: list[RangeRow] = []
            for of, conversation in enumerate(file.conversations):
                for place, span in enumerate(conversation.ranges):
                    asked += 1
                    located = self._locator.locate(record, path, span) if path else None
                    if path is None or located is None:
                        continue
                    rows = self._ranges(reading, (at, of, place), path, located)
                    found += bool(rows)
                    own += rows
            if path and own:
                made += [row._replace(ordinal=ordinal) for ordinal, row in enumerate(own, len(made))]
                states[path] = self._state(record, path, [row for row in made if row.path == path])
        row = self._record(record, msgspec.json.encode(document).decode(), made)
        return _Made(ImportedRows(row, made, list(states.values())), asked, found)

    def _record(self, record: TraceRecord, text: str, ranges: Sequence[RangeRow]) -> RecordRow:
        first = next(iter(ranges), None)
        said = _contributor_of(record)
        return RecordRow(
            source_id=SOURCE_ID,
            record_id=record.id,
            recorded_at=record.timestamp,
            event_id=record.id,
            session_id=first.session_id if first else None,
            spec_version=record.version,
            vcs_type=record.vcs.type if record.vcs else None,
            vcs_revision=record.vcs.revision if record.vcs else None,
            tool_name=record.tool.name if record.tool else None,
            tool_version=record.tool.version if record.tool else None,
            model_id=first.model_id if first else said[1],
            contributor=first.contributor if first else said[0],
            record=text,
        )

    def _ranges(self, reading: Reading, place: tuple[int, int, int], path: str, located: Located) -> list[RangeRow]:
        """A row for each run of lines that are the range's work; the record loses the hash of a line with a secret."""
        at, of, number = place
        record, file = reading.record, reading.document["files"][at]
        said = file["conversations"][of]
        conversation = record.files[at].conversations[of]
        span = conversation.ranges[number]
        secret = is_secret_path(path)
        content = Content.judged(located.lines, lambda text: secret or self._redactor.holds_secret(text))
        if not content.hidden.isdisjoint(range(located.start - 1, located.end)):
            said["ranges"][number].pop("content_hash", None)
        metadata = record.metadata or {}
        method = _methods(metadata, record.files[at].path).get((span.start_line, span.end_line), IMPORTED)
        contributor = span.contributor or conversation.contributor
        session = session_of(reading.document, file, said, conversation.url)
        return [
            RangeRow(
                source_id=SOURCE_ID,
                record_id=record.id,
                recorded_at=record.timestamp,
                ordinal=0,
                project=self._project,
                worktree=str(self._checkout.root),
                path=path,
                start_line=one.start,
                end_line=one.end,
                content_hash=one.content_hash,
                contributor=contributor.type if contributor else "unknown",
                model_id=contributor.model_id if contributor else None,
                session_id=session,
                message_id=_text(metadata.get("io.opencode.message_id")),
                call_id=_text(metadata.get("io.opencode.call_id")),
                tool=_text(metadata.get("io.opencode.tool")) or _text(record.tool.name if record.tool else None),
                method=method,
                line_hashes=bytes.fromhex(one.line_hashes or ""),
                line_tokens=bytes.fromhex(one.line_tokens or ""),
            )
            for one in (content.span(start, end, method) for start, end in located.spans)
        ]

    def _state(self, record: TraceRecord, path: str, ranges: Sequence[RangeRow]) -> FileStateRow:
        keys = line_keys(
            self._project,
            b"".join(row.line_hashes or b"" for row in ranges),
            b"".join(row.line_tokens or b"" for row in ranges),
        )
        root = str(self._checkout.root)
        return FileStateRow(
            SOURCE_ID, record.id, record.timestamp, self._project, root, path, None, "update", None, None, keys
        )


def _contributor_of(record: TraceRecord) -> tuple[str, str | None]:
    """Contributor and model of the first conversation that names one."""
    for file in record.files:
        for conversation in file.conversations:
            named = _contributor(conversation, conversation.ranges)
            if named is not None:
                return named
    return "unknown", None


def _contributor(conversation: Conversation, ranges: Sequence[Range]) -> tuple[str, str | None] | None:
    named = conversation.contributor or next((span.contributor for span in ranges if span.contributor), None)
    return (named.type, named.model_id) if named else None


def _methods(metadata: Mapping[str, Any], path: str) -> dict[tuple[int, int], str]:
    """The method of the ranges, where a record of this program names it."""
    try:
        files = convert(metadata.get("io.opencode.files", ()), tuple[_OwnFile, ...])
    except ValueError:
        return {}
    return {(one.start_line, one.end_line): one.method for file in files if file.path == path for one in file.ranges}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and len(value) <= _MAX_CHARS else None
