"""`backfill`: sessions of OpenCode's own store to Postgres, but for what is stored already.

    store ─▶ hooks ─▶ plan ─▶ wire lines ─▶ recalled (snapshots) ─▶ redaction ─▶ shipper, as for any other log

A session is read with its subagents'. What was recorded live is read in between, marked as known: the builder
learns from it and stores it no second time. Ids derive from OpenCode's own, so a second backfill finds everything.
"""

import asyncio
import heapq
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid5

import asyncpg
import msgspec

from agent_trace_sidecar.config import Config
from agent_trace_sidecar.opencode import dialects
from agent_trace_sidecar.opencode.history import Known, StoredHook
from agent_trace_sidecar.opencode.store import SessionSource, StoredSession, Wanted
from agent_trace_sidecar.opencode.wire import Envelope, Observed, parse
from agent_trace_sidecar.pipeline.daemon import Daemon
from agent_trace_sidecar.pipeline.undelivered import Undelivered, delivered
from agent_trace_sidecar.postgres.connection import connect
from agent_trace_sidecar.postgres.recorded import Recorded, Stored
from agent_trace_sidecar.redaction import Redacted, is_secret_path
from agent_trace_sidecar.sources.store_log import StoreLine, StoreLog
from agent_trace_sidecar.spool.folders import SPOOL_FOLDER
from agent_trace_sidecar.telemetry.logging import Logger
from agent_trace_sidecar.workspace.recalled import Plan, Recaller

_NAMESPACE: Final = UUID("5a1f0f6e-6a35-5c1e-8a53-1a3b8f0f4d11")
_FORGET: Final = "DELETE FROM agent_trace_sources WHERE source_id = $1 AND log_id = $2"
"""The checkpoint of a log that was read to its end: the next backfill makes another one."""


class Family(NamedTuple):
    """A session and those of its subagents, the oldest first."""

    root: StoredSession
    sessions: tuple[StoredSession, ...]

    @property
    def instance(self) -> UUID:
        """What its events are stored under."""
        return uuid5(_NAMESPACE, f"instance:{self.root.id}")


class Progress(NamedTuple):
    """How far it is."""

    done: int
    total: int
    session: StoredSession


class Compared(NamedTuple):
    """A session in OpenCode's store and in ours, in events by kind."""

    in_store: Counter[str]
    """What the store holds."""
    missing: Counter[str]
    """What of it is not stored here."""
    filtered: Counter[str]
    """Events of the store's log that the shim leaves out, by type."""
    extra: int
    """Events that are stored here and that the store does not keep: hooks, and events of the moment."""


class Filled(NamedTuple):
    """Counts of the sessions, and of the events of the store."""

    sessions: int = 0
    changed: int = 0
    events: int = 0
    """Events that were missing: stored, or with `dry_run` only counted."""
    kinds: tuple[tuple[str, int], ...] = ()
    """The same by kind."""
    waiting: tuple[str, ...] = ()
    """Sessions that were left out: a spool of this machine has events of them that are not stored yet."""
    denied: int = 0
    """Sessions of repositories that AGENT_TRACE_REPOSITORIES denies: nothing of them was read."""


def families(source: SessionSource, wanted: Wanted) -> list[Family]:
    """The wanted sessions with their subagents; a subagent's is wanted with its parent."""
    sessions = {one.id: one for one in source.sessions()}
    grouped: dict[str, list[StoredSession]] = {}
    for one in sessions.values():
        grouped.setdefault(_root(one, sessions), []).append(one)
    found = [Family(sessions[root], tuple(members)) for root, members in grouped.items()]
    return [one for one in found if any(map(wanted.takes, one.sessions))]


def _root(session: StoredSession, sessions: dict[str, StoredSession]) -> str:
    seen = {session.id}
    while session.parent_id in sessions and session.parent_id not in seen:
        session = sessions[session.parent_id]
        seen.add(session.id)
    return session.id


class Backfill:
    """Fills up from stores, one family of sessions after the other."""

    def __init__(self, config: Config, logger: Logger) -> None:
        self._daemon = Daemon(config, logger)
        self._spools = config.state_path / SPOOL_FOLDER
        self._undelivered = Undelivered(self._spools)

    async def close(self) -> None:
        """End what was started."""
        await self._daemon.database.close()

    async def connect(self) -> asyncpg.Connection:
        """A connection to a database with our tables."""
        connection = await connect(await self._daemon.database.url())
        await self._daemon.database.prepare(connection)
        return connection

    async def fill(
        self,
        connection: asyncpg.Connection,
        source: SessionSource,
        wanted: Wanted,
        *,
        dry_run: bool = False,
        progress: Callable[[Progress], None] = lambda _: None,
    ) -> Filled:
        """Store what is missing of the wanted sessions.

        Args:
            connection: for looking up what is stored.
            source: OpenCode's store, or an export.
            wanted: which sessions.
            dry_run: only count.
            progress: called before each family.

        Raises:
            StoreError: the store can't be read.
            FencedError: another backfill of the same session took over.

        A session with undelivered events in a spool of this machine is left out: their ids are other ones.
        """
        chosen, denied = self._allowed(source, wanted)
        total, all_kinds = Filled(denied=denied), Counter[str]()
        for at, family in enumerate(chosen):
            progress(Progress(at, len(chosen), family.root))
            with Recorded() as recorded:
                ids = [one.id for one in family.sessions]
                known, spools = Known(), await delivered(connection, self._spools)
                await recorded.load(connection, ids, known.add)
                telling = Telling(source, family, recorded, known)
                plan, kinds = await asyncio.to_thread(telling.planned)
                missing = kinds.total()
                if missing and not (await asyncio.to_thread(self._undelivered.sessions_after, spools)).isdisjoint(ids):
                    total = total._replace(waiting=(*total.waiting, family.root.id))
                    continue
                if missing and not dry_run:
                    await self._ship(connection, source, telling, plan, recorded.records)
                all_kinds += kinds
                total = Filled(
                    total.sessions + len(family.sessions),
                    total.changed + len(telling.changed),
                    total.events + missing,
                    tuple(sorted(all_kinds.items())),
                    total.waiting,
                    total.denied,
                )
        return total

    def denied(self, source: SessionSource, wanted: Wanted) -> int:
        """How many of the wanted sessions are of repositories that are not recorded; errors as for `fill`."""
        return self._allowed(source, wanted)[1]

    def _allowed(self, source: SessionSource, wanted: Wanted) -> tuple[list[Family], int]:
        """The wanted families that are recorded, and the number of sessions of the others."""
        found = families(source, wanted)
        rules = self._daemon.rules
        kept = [one for one in found if not any(rules.denies(s.directory, s.worktree) for s in one.sessions)]
        return kept, sum(len(one.sessions) for one in found) - sum(len(one.sessions) for one in kept)

    async def compare(
        self, connection: asyncpg.Connection, source: SessionSource, wanted: Wanted
    ) -> AsyncIterator[tuple[StoredSession, Compared]]:
        """What the store and we have of each wanted session that is recorded; errors as for `fill`."""
        for family in self._allowed(source, wanted)[0]:
            for session in family.sessions:
                with Recorded() as recorded:
                    known = Known()
                    await recorded.load(connection, [session.id], known.add)
                    yield session, await asyncio.to_thread(_compared, source, session, known, recorded.events)

    async def _ship(
        self,
        connection: asyncpg.Connection,
        source: SessionSource,
        telling: "Telling",
        plan: Plan,
        records: Mapping[tuple[str, str], tuple[str, float, str]],
    ) -> None:
        redactor = self._daemon.redactor

        def lines() -> Iterator[StoreLine]:
            recaller = Recaller(
                plan,
                redactor.holds_secret,
                is_secret_path=is_secret_path,
                data_home=source.data_home,
                records=records,
            )
            for line, envelope, known in telling.envelopes():
                saw = recaller.observe(envelope, dialects.read(envelope))
                if known:
                    again = msgspec.json.encode(Observed(known=True, recorded=saw.recorded if saw else None))
                    yield StoreLine(Redacted.from_spool(line[:-1] + b',"observed":' + again + b"}"))
                else:
                    yield StoreLine(line, msgspec.json.encode(saw) if saw else None)

        root = telling.family.root
        log = StoreLog(telling.family.instance, f"{source.label} {root.id}", redactor, lines)
        shipper, sink = self._daemon.shipper(log)
        try:
            await shipper.run()
        finally:
            await sink.close()
        await connection.execute(_FORGET, *log.name.key)


def _compared(source: SessionSource, session: StoredSession, known: Known, stored: int) -> Compared:
    in_store, missing = Counter[str](), Counter[str]()
    for one in source.hooks(session):
        in_store[one.kind] += 1
        if one not in known:
            missing[one.kind] += 1
    found = in_store.total() - missing.total()
    return Compared(in_store, missing, Counter(source.filtered(session)), max(0, stored - found))


class Telling:
    """A family's events as wire lines: those of the store that are missing, between those that are stored."""

    def __init__(self, source: SessionSource, family: Family, recorded: Recorded, known: Known) -> None:
        self.family = family
        self.changed: set[str] = set()
        """Sessions of which something is missing."""
        self._source = source
        self._recorded = recorded
        self._known = known

    def planned(self) -> tuple[Plan, Counter[str]]:
        """Go through once: the steps there are, and how many events of each kind are missing."""
        plan, kinds = Plan(), Counter[str]()
        for one, session in self._merged():
            if isinstance(one, StoredHook):
                kinds[one.kind] += 1
                self.changed.add(session.id)
            _, envelope = self._line(one, session, 1)
            if envelope is not None:
                plan.learn(envelope, dialects.read(envelope))
        return plan, kinds

    def envelopes(self) -> Iterator[tuple[bytes, Envelope, bool]]:
        """Each wire line, its envelope, and whether it is stored already."""
        seq = 0
        for one, session in self._merged():
            line, envelope = self._line(one, session, seq + 1)
            if envelope is not None:
                seq += 1
                yield line, envelope, isinstance(one, Stored)

    def _merged(self) -> Iterator[tuple[StoredHook | Stored, StoredSession]]:
        root = self.family.root
        streams: list[Iterable[tuple[float, int, StoredHook | Stored, StoredSession]]] = [
            self._missing(at, one) for at, one in enumerate(self.family.sessions, 1)
        ]
        streams.append((one.at_ms, 0, one, root) for one in self._recorded)
        for _, _, one, session in heapq.merge(*streams, key=_when):
            yield one, session

    def _missing(
        self, at: int, session: StoredSession
    ) -> Iterator[tuple[float, int, StoredHook | Stored, StoredSession]]:
        """What is missing of a session, in the store's order: times never run backwards."""
        last = 0.0
        for hook in self._source.hooks(session):
            last = max(last, hook.at_ms)
            if hook not in self._known:
                yield last, at, hook._replace(at_ms=last), session

    def _line(self, one: StoredHook | Stored, session: StoredSession, seq: int) -> tuple[bytes, Envelope | None]:
        own: dict[str, Any] = {"seq": seq, "instance": str(self.family.instance), "api": one.api or session.api}
        if isinstance(one, Stored):
            line = one.head + msgspec.json.encode(own)[1:-1] + (b"," + one.body if one.body else b"") + b"}"
        else:
            root = one.root if one.root and one.root != "/" else session.worktree
            whole = {
                "v": 1,
                "id": str(uuid5(_NAMESPACE, f"{session.id}\n{one.keys[0]}")),
                "at": int(one.at_ms),
                "hook": one.hook,
                **own,
                "directory": session.directory,
                "worktree": root,
                "input": one.input,
            }
            line = msgspec.json.encode(whole)
        envelope = parse(line)
        return line, envelope if isinstance(envelope, Envelope) else None


def _when(one: tuple[float, int, StoredHook | Stored, StoredSession]) -> tuple[float, int]:
    return one[0], one[1]
