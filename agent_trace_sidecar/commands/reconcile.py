"""`reconcile`: what OpenCode's own store holds of each session, and what is recorded of it."""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Final, NamedTuple

import asyncpg

from agent_trace_sidecar.commands.backfill import (
    chosen_arguments,
    complain_of,
    denied_sentence,
    filling,
    opened_stores,
    wanted,
)
from agent_trace_sidecar.commands.common import PROGRAM
from agent_trace_sidecar.commands.output import page, say, say_json
from agent_trace_sidecar.commands.tables import Column, table_lines
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits.text import counted
from agent_trace_sidecar.opencode.store import SessionSource, StoredSession, Wanted
from agent_trace_sidecar.pipeline.backfill import Backfill, Compared, Filled

_OURS: Final = """
SELECT session_id, events, messages, steps, calls, input_tokens, output_tokens, cost FROM agent_trace_sessions
WHERE session_id = ANY ($1::text[])
"""
_KINDS: Final = ("messages", "steps", "calls", "other")
_AT_ONCE: Final = 500
_ID_CHARS: Final = 12


class Entry(NamedTuple):
    """A session in the ledger."""

    session: StoredSession
    compared: Compared
    ours: asyncpg.Record | None

    @property
    def missing(self) -> int:
        """Events that OpenCode has and we don't."""
        return self.compared.missing.total()

    def as_json(self) -> dict[str, object]:
        """For programs."""
        usage, ours = self.session.usage, self.ours
        return {
            "session_id": self.session.id,
            "parent_id": self.session.parent_id,
            "title": self.session.title,
            "directory": self.session.directory,
            "opencode_version": self.session.version,
            "opencode": {
                "events": self.compared.in_store.total(),
                **{kind: self.compared.in_store[kind] for kind in _KINDS[:3]},
                "input_tokens": usage.input,
                "output_tokens": usage.output,
                "cost": usage.cost,
            },
            "recorded": {
                "events": ours["events"] if ours else 0,
                "messages": ours["messages"] if ours else 0,
                "steps": ours["steps"] if ours else 0,
                "calls": ours["calls"] if ours else 0,
                "input_tokens": int(ours["input_tokens"] or 0) if ours else 0,
                "output_tokens": int(ours["output_tokens"] or 0) if ours else 0,
                "cost": float(ours["cost"] or 0) if ours else 0.0,
            },
            "missing": dict(self.compared.missing),
            "extra": self.compared.extra,
            "filtered": dict(self.compared.filtered),
        }


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which sessions."""
    chosen_arguments(parser)
    parser.add_argument("--fill", action="store_true", help="store what is missing, as backfill does")
    parser.add_argument("--json", action="store_true", help="print the ledger as JSON")


def run(config: Config, given: argparse.Namespace) -> int:
    """Compare; exit code 1 where something is missing."""
    chosen = wanted(given)
    with ExitStack() as opened:
        sources = opened_stores(given, opened, needed=True)
        entries, filled, denied = asyncio.run(_compare(config, sources, chosen, fill=given.fill))
    events = sum(one.events for one in filled)
    waiting = tuple(dict.fromkeys(name for one in filled for name in one.waiting))
    if given.json:
        say_json(
            json.dumps({"sessions": [one.as_json() for one in entries], "filled_events": events, "denied": denied})
        )
    else:
        if denied:
            say(denied_sentence(denied))
        page(list(_table(entries)))
        if events:
            say(f"{events} missing events are stored now.")
    complain_of(waiting)
    return 1 if waiting or (any(one.missing for one in entries) and not given.fill) else 0


async def _compare(
    config: Config, sources: Sequence[SessionSource], chosen: Wanted, *, fill: bool
) -> tuple[list[Entry], list[Filled], int]:
    denied = 0
    entries: list[Entry] = []
    filled: list[Filled] = []
    async with filling(config) as (backfill, connection):
        for source in sources:
            found = await _entries(backfill, connection, source, chosen)
            if fill and any(one.missing for one in found):
                filled.append(await backfill.fill(connection, source, chosen))
            entries += found
            denied += backfill.denied(source, chosen)
    return entries, filled, denied


async def _entries(
    backfill: Backfill, connection: asyncpg.Connection, source: SessionSource, chosen: Wanted
) -> list[Entry]:
    compared = [one async for one in backfill.compare(connection, source, chosen)]
    ours: dict[str, asyncpg.Record] = {}
    for at in range(0, len(compared), _AT_ONCE):
        ids = [session.id for session, _ in compared[at : at + _AT_ONCE]]
        ours |= {row["session_id"]: row for row in await connection.fetch(_OURS, ids)}
    return [Entry(session, one, ours.get(session.id)) for session, one in compared]


def _table(entries: Sequence[Entry]) -> Iterator[str]:
    missing = [one for one in entries if one.missing]
    if missing:
        columns = (
            Column("session"),
            Column("title", may_be_cut=True),
            Column("missing", is_number=True),
            Column("events", is_number=True),
            Column("missing kinds", may_be_cut=True),
        )
        is_short = sys.stdout.isatty()
        yield from table_lines(columns, [_cells(one, is_short=is_short) for one in missing])
    whole = len(entries) - len(missing)
    yield f"OpenCode has {counted(len(entries), 'session')}: {whole} recorded completely, {len(missing)} not."
    if missing:
        events = sum(one.missing for one in missing)
        yield f"Missing: {counted(events, 'event')}. To store them: `{PROGRAM} reconcile --fill`"


def _cells(one: Entry, *, is_short: bool) -> tuple[str, ...]:
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(one.compared.missing.items()))
    session = one.session.id[-_ID_CHARS:] if is_short else one.session.id
    return session, one.session.title, str(one.missing), str(one.compared.in_store.total()), kinds
