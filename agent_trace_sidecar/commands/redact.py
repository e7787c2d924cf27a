"""`redact --stored`: rows that were stored before the rules improved, masked again with today's rules.

Goes through each table in the order of its key, a batch per transaction. How far it has come is kept in a row of
`agent_trace_sources`, so that an interrupted run continues where it stopped; when it is complete, the next starts over
at the next call.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid5

import asyncpg

from agent_trace_sidecar.commands.common import CommandError
from agent_trace_sidecar.commands.database import with_database
from agent_trace_sidecar.commands.output import overwrite, say
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.pipeline.daemon import make_redactor
from agent_trace_sidecar.records.fingerprints import HASH_BYTES, NO_HASH, line_hash, loose_of
from agent_trace_sidecar.redaction import Redactor
from agent_trace_sidecar.telemetry import logging as log

_NAMESPACE: Final = UUID("b2f1a0de-5c47-5d0b-9c39-0b7f2f6f7c11")


class _Table(NamedTuple):
    name: str
    keys: tuple[tuple[str, str], ...]
    """Columns of the primary key and their types, in order."""
    columns: tuple[tuple[str, str], ...]
    """Columns that may hold text, and their types."""
    hashes: tuple[str, ...] = ()
    """Columns with hashes of lines, see `records.fingerprints`."""


_SOURCE: Final = ("source_id", "uuid")
_EVENT: Final = (_SOURCE, ("event_id", "uuid"))
_RECORD: Final = (_SOURCE, ("record_id", "uuid"), ("recorded_at", "timestamptz"))


def _texts(names: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, "text") for name in names.split())


_TABLES: Final = (
    _Table(
        "agent_trace_events",
        (*_EVENT, ("occurred_at", "timestamptz")),
        (("payload", "jsonb"), *_texts("session_id message_id call_id event_name tool")),
    ),
    _Table(
        "agent_trace_records",
        _RECORD,
        (("record", "jsonb"), *_texts("session_id spec_version vcs_type vcs_revision tool_name tool_version model_id")),
    ),
    _Table(
        "agent_trace_dead_letters",
        (_SOURCE, ("position", "bigint"), ("seen_at", "timestamptz")),
        (("line", "bytea"), *_texts("reason error")),
    ),
    _Table(
        "agent_trace_ranges",
        (*_RECORD, ("ordinal", "integer")),
        _texts("project worktree path content_hash model_id session_id message_id call_id tool"),
        ("line_hashes",),
    ),
    _Table(
        "agent_trace_file_states",
        (*_RECORD, ("path", "text")),
        _texts("project worktree path old_path"),
        ("before_hashes", "after_hashes"),
    ),
    _Table("agent_trace_usage", _EVENT, _texts("session_id message_id part_id model_id agent worktree")),
    _Table("agent_trace_ended_calls", _EVENT, _texts("session_id message_id part_id tool status")),
    _Table("agent_trace_masked", (*_EVENT, ("rule", "text")), _texts("session_id call_id")),
    _Table(
        "agent_trace_sources",
        (_SOURCE, ("log_id", "uuid")),
        (("state", "jsonb"), ("repositories", "jsonb"), ("projects", "jsonb"), *_texts("host container os_user")),
    ),
)
"""In this order: what the events show of lines with secrets takes their hashes out of the others."""
_ALWAYS_NAMED: Final = 3
"""The first tables are reported also where nothing was masked."""
_MAX_HASHES: Final = 20_000
"""Hashes of lines with secrets that are kept while the command runs."""

_FORGET_CONTENT: Final = """
UPDATE agent_trace_dedupe SET content_hash = NULL WHERE source_id = $1::text::uuid AND event_id = $2::text::uuid
"""
"""With the rest of an event known, a secret could be guessed until the hash is right."""
_FORGET: Final = "DELETE FROM agent_trace_sources WHERE source_id = $1"
_LOAD: Final = "SELECT state::text FROM agent_trace_sources WHERE source_id = $1"
_SAVE: Final = """
INSERT INTO agent_trace_sources (source_id, kind, host, epoch, position, state, opened_at, updated_at)
VALUES ($1, 'redact', '', 1, $2, $3::text::jsonb, $4, $4)
ON CONFLICT (source_id, log_id) DO UPDATE SET position = $2, state = $3::text::jsonb, updated_at = $4
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """A confirmation: rows are rewritten."""
    parser.add_argument(
        "--stored", action="store_true", required=True, help="required: confirms that stored rows are rewritten"
    )


def run(config: Config, _: argparse.Namespace) -> int:
    """Mask stored rows with today's rules."""
    if not config.redaction:
        raise CommandError("AGENT_TRACE_REDACTION is off: set it to on to mask what is stored.")
    redactor = make_redactor(config, log.logger())

    async def work(connection: asyncpg.Connection) -> dict[str, int]:
        return await redact_stored(connection, redactor, progress=_show)

    changed = with_database(config, work)
    if sys.stderr.isatty():
        overwrite("")
    say(*(f"{table}: {rows} rows masked" for table, rows in changed.items()))
    return 0


def _show(table: str, rows: int) -> None:
    if sys.stderr.isatty():
        overwrite(f"{table}: {rows} rows checked")


async def redact_stored(
    connection: asyncpg.Connection,
    redactor: Redactor,
    *,
    batch_rows: int = 500,
    progress: Callable[[str, int], None] = lambda _table, _rows: None,
) -> dict[str, int]:
    """Mask the stored rows again; returns how many rows were changed, by table.

    Args:
        connection: to the database; recording can continue meanwhile.
        redactor: holds today's rules.
        batch_rows: how many rows one transaction reads.
        progress: called after each batch with the table and how many of its rows were read in this run.
    """
    changed = {}
    place = uuid5(_NAMESPACE, "hashes")
    lines = _Lines(await _resume(connection, place, redactor.version) or [])
    for number, table in enumerate(_TABLES):
        rows = await _table(connection, redactor, table, batch_rows, progress, lines)
        if rows or number < _ALWAYS_NAMED:
            changed[table.name] = rows
    await connection.execute(_FORGET, place)
    return changed


class _Lines:
    """Hashes of lines that hold a secret by today's rules."""

    def __init__(self, known: Iterable[str]) -> None:
        self.hashes = {bytes.fromhex(one) for one in known}
        self.fresh = False

    def learn(self, old: object, new: object) -> None:
        """Take note of the lines of texts that were masked."""
        if isinstance(old, dict) and isinstance(new, dict):
            for name, value in old.items():
                self.learn(value, new.get(name))
        elif isinstance(old, list) and isinstance(new, list):
            for one, two in zip(old, new, strict=False):
                self.learn(one, two)
        elif isinstance(old, str) and old != new:
            kept = set(new.split("\n")) if isinstance(new, str) else set()
            found = {line_hash(line.encode(errors="replace")) for line in old.split("\n") if line not in kept}
            found -= self.hashes
            if found and len(self.hashes) < _MAX_HASHES:
                self.hashes |= found
                self.fresh = True

    def without(self, packed: bytes | None) -> bytes | None:
        """The hashes of a column without those of such lines; the same where there is none."""
        if not packed or not self.hashes:
            return packed
        parts = [packed[at : at + HASH_BYTES] for at in range(0, len(packed), HASH_BYTES)]
        return b"".join(NO_HASH if one in self.hashes else one for one in parts)


async def _table(  # noqa: PLR0917 - private
    connection: asyncpg.Connection,
    redactor: Redactor,
    table: _Table,
    batch_rows: int,
    progress: Callable[[str, int], None],
    lines: _Lines,
) -> int:
    place = uuid5(_NAMESPACE, table.name)
    after = await _resume(connection, place, redactor.version)
    seen = changed = 0
    while True:
        async with connection.transaction():
            rows = await connection.fetch(_select(table, first=after is None), *(after or ()), batch_rows)
            keys = [[str(row[f"key_{name}"]) for name, _ in table.keys] for row in rows]
            for key, row in zip(keys, rows, strict=True):
                edits = _masked(redactor, table, row, lines)
                if edits:
                    await connection.execute(_update(table, list(edits)), *key, *edits.values())
                    if table.name == "agent_trace_events":
                        await connection.execute(_FORGET_CONTENT, row["key_source_id"], row["key_event_id"])
                    changed += 1
            seen += len(rows)
            after = keys[-1] if len(rows) == batch_rows else None
            await _remember(connection, place, redactor.version, after, seen)
            if lines.fresh:
                known = sorted(one.hex() for one in lines.hashes)
                await _remember(connection, uuid5(_NAMESPACE, "hashes"), redactor.version, known, len(known))
                lines.fresh = False
        progress(table.name, seen)
        if after is None:
            return changed


async def _resume(connection: asyncpg.Connection, place: UUID, version: str) -> list[str] | None:
    """The key after which to continue; None at the start, and when the rules have changed since."""
    text = await connection.fetchval(_LOAD, place)
    state = json.loads(text) if text else {}
    after = state.get("after") if state.get("rules") == version else None
    return [str(part) for part in after] if after else None


async def _remember(
    connection: asyncpg.Connection, place: UUID, version: str, after: list[str] | None, seen: int
) -> None:
    state = json.dumps({"rules": version, "after": after})
    await connection.execute(_SAVE, place, seen, state, datetime.now(UTC))


def _masked(redactor: Redactor, table: _Table, row: asyncpg.Record, lines: _Lines) -> dict[str, Any]:
    """The row's new values, by column; none where it stays as it is."""
    edits: dict[str, Any] = {}
    texts = {name: row[name] for name, kind in table.columns if kind == "text" and row[name] is not None}
    for name, kind in table.columns:
        if kind != "text" and row[name] is not None:
            _mask_whole(redactor, name, row[name], edits, lines)
    edits |= _masked_texts(redactor, texts)
    for name in table.hashes:
        kept = lines.without(row[name])
        if kept != row[name]:
            edits[name] = kept
    if "line_hashes" in edits:
        edits |= {"content_hash": None, "line_tokens": None}
    elif edits.keys() & {"before_hashes", "after_hashes"}:
        loose = {int.from_bytes(one[:4], "big") for one in lines.hashes}
        edits["line_keys"] = [key for key in row["line_keys"] if loose_of(key) not in loose]
    return edits


def _mask_whole(redactor: Redactor, name: str, old: str | bytes, edits: dict[str, Any], lines: _Lines) -> None:
    """A column that holds a document or a line."""
    raw = old if isinstance(old, bytes) else old.encode()
    new = redactor.stored(raw)
    if new == raw:
        return
    edits[name] = new if isinstance(old, bytes) else new.decode()
    with suppress(ValueError):
        lines.learn(json.loads(raw), json.loads(new))


def _masked_texts(redactor: Redactor, texts: dict[str, str]) -> dict[str, str]:
    """Short columns, redacted together."""
    if not texts:
        return {}
    raw = json.dumps(list(texts.values())).encode()
    new = redactor.stored(raw)
    if new == raw:
        return {}
    found = json.loads(new)
    if not isinstance(found, list) or len(found) != len(texts):
        return dict.fromkeys(texts, "[REDACTED]")  # the redactor has withheld them
    return {name: value for (name, old), value in zip(texts.items(), found, strict=True) if value != old}


def _select(table: _Table, *, first: bool) -> str:
    names = ", ".join(name for name, _ in table.keys)
    keys = ", ".join(f"{name}::text AS key_{name}" for name, _ in table.keys)
    values = [f"{name}::text AS {name}" if kind == "jsonb" else name for name, kind in table.columns]
    more = ["line_keys"] if "before_hashes" in table.hashes else []
    bounds = ", ".join(f"${n}::text::{kind}" for n, (_, kind) in enumerate(table.keys, 1))
    where = "" if first else f"WHERE ({names}) > ({bounds})"
    limit = 1 if first else len(table.keys) + 1
    order = ", ".join(f"{table.name}.{name}" for name, _ in table.keys)
    chosen = ", ".join([keys, *values, *table.hashes, *more])
    return f"SELECT {chosen} FROM {table.name} {where} ORDER BY {order} LIMIT ${limit}"  # noqa: S608 - constants


_CASTS: Final = {"jsonb": "::text::jsonb"}


def _update(table: _Table, columns: Sequence[str]) -> str:
    where = " AND ".join(f"{name} = ${n}::text::{kind}" for n, (name, kind) in enumerate(table.keys, 1))
    kinds = dict(table.columns)
    first = len(table.keys) + 1
    values = ", ".join(f"{name} = ${n}{_CASTS.get(kinds.get(name, ''), '')}" for n, name in enumerate(columns, first))
    return f"UPDATE {table.name} SET {values} WHERE {where}"  # noqa: S608 - constants
