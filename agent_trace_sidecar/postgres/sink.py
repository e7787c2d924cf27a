"""One batch, one transaction: deduplicate, checkpoint, COPY of the new events, commit.

Rules: nothing is written outside the transaction that moves the checkpoint, so a batch is there whole or not at all;
every statement runs under a deadline from outside (`guarded`), because COPY on a dead connection never returns; an
error's text is never passed on, it can hold a row's content.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Final, TypeVar
from uuid import UUID

import asyncpg

from agent_trace_sidecar.limits import CONNECT_DEADLINE_S, WRITE_DEADLINE_S
from agent_trace_sidecar.postgres import bisect as refused
from agent_trace_sidecar.postgres import checkpoints
from agent_trace_sidecar.postgres import state as states
from agent_trace_sidecar.postgres.binary_copy import gate_rows
from agent_trace_sidecar.postgres.bisect import CHECK_AT_ONCE
from agent_trace_sidecar.postgres.checkpoints import MovedError
from agent_trace_sidecar.postgres.connection import connect, guarded
from agent_trace_sidecar.postgres.copy import copy, copy_encoded, copy_items
from agent_trace_sidecar.postgres.errors import Fate, StoreError, Verdict, verdict
from agent_trace_sidecar.postgres.explain import explained
from agent_trace_sidecar.postgres.failover import FailoverCheck
from agent_trace_sidecar.postgres.schema_check import DroppedError, check_shape
from agent_trace_sidecar.postgres.state import StaleError
from agent_trace_sidecar.records.dead_letter import dead_letter_key
from agent_trace_sidecar.records.rows import (
    Batch,
    Built,
    Checkpoint,
    Counts,
    DeadItem,
    DeadLetter,
    EventRow,
    GateKey,
    Item,
    LogKey,
    LogName,
    State,
    key_number,
    numbered_key,
)
from agent_trace_sidecar.workspace.identity import Identity

T = TypeVar("T")

_GATE: Final = """
INSERT INTO agent_trace_dedupe (source_id, event_id, seen_at, content_hash)
SELECT source, id, $3, content FROM unnest($1::uuid[], $2::uuid[], $4::bigint[]) AS t (source, id, content)
ON CONFLICT (source_id, event_id) DO NOTHING RETURNING source_id, event_id
"""
_GATE_COLUMNS: Final = ("source_id", "event_id", "seen_at", "content_hash")
_KNOWN: Final = """
SELECT source_id, event_id, content_hash FROM agent_trace_dedupe
WHERE source_id = ANY ($1::uuid[]) AND event_id = ANY ($2::uuid[])
"""
_LIMITS: Final = """
SET LOCAL lock_timeout = {lock_ms};
SET LOCAL idle_in_transaction_session_timeout = {idle_ms};
SET LOCAL tcp_keepalives_idle = 30
"""
"""What ends the server's side of a batch whose connection has died without a word: until then it holds the locks of
its ids, and each further attempt would wait for them in a backend of its own. LOCAL: a pooler's other clients keep
their settings."""

_TRANSACTION_TIMEOUT: Final = (17,)
"""The server version that has the setting."""

_HALVING_TIMES: Final = 8
"""Halving takes up to two statements for each line: it gets so many times a batch's deadline."""
_CONFLICT: Final = "another event with this id is stored already: that one stays"
_NOBODY: Final = Identity(recorder=False, environ={})
_UNEXPLAINED: Final = Verdict(Fate.RETRY, "unexplained", "A batch was refused, but none of its rows alone; retrying.")


class FencedError(Exception):
    """Another process has opened this log after us; it continues."""


class PostgresSink:
    """The connection of one shipper. Every public coroutine raises StoreError, and connects when it must."""

    def __init__(
        self,
        url: Callable[[], Awaitable[str]],
        prepare: Callable[[asyncpg.Connection], Awaitable[None]],
        *,
        identity: Identity = _NOBODY,
        rules_version: str = "",
        write_deadline_s: float = WRITE_DEADLINE_S,
        connect_deadline_s: float = CONNECT_DEADLINE_S,
    ) -> None:
        """`url` is called before each connect; `prepare` runs on each new connection (it creates the schema)."""
        self._url = url
        self._prepare = prepare
        self._identity = identity
        self._rules = rules_version
        self.write_deadline_s = write_deadline_s
        self._connect_deadline_s = connect_deadline_s
        self._connection: asyncpg.Connection | None = None
        self.failover = FailoverCheck()
        self._meets_duplicates = False
        """Whether the last batch met ids that were stored before: then the next one is expected to, too."""

    async def open_log(self, name: LogName, now: datetime) -> Checkpoint:
        """Take the log over: a new epoch, at the position where the last one stopped."""
        return await self._of_log(lambda c: checkpoints.take_over(c, name, now))

    async def open_logs(self, names: Sequence[LogName], now: datetime) -> dict[UUID, Checkpoint]:
        """Take over many logs at once; return their checkpoints by the logs' ids."""
        return await self._of_log(lambda c: checkpoints.take_over_all(c, names, now))

    async def resume_log(self, name: LogName, epoch: int, now: datetime) -> Checkpoint:
        """Find out, after an error, how far the database really is; it may have lost our row altogether.

        Raises:
            FencedError: another process took the log over.
        """
        found = await self._of_log(lambda c: checkpoints.resume(c, name, epoch, now))
        if found.epoch > epoch:
            raise FencedError
        return found

    async def logs_behind(self, positions: Mapping[LogKey, int]) -> set[LogKey]:
        """Return those of these logs of which the database knows less than this position, or nothing."""
        self.failover.postpone()
        found = await self._run(lambda c: checkpoints.positions(c, positions.keys()), self._connect_deadline_s)
        return {key for key, position in positions.items() if found.get(key, -1) < position}

    async def load_states(self, instances: Collection[UUID]) -> dict[UUID, State]:
        """Return the builder's states of these instances; one that has none is not among them."""
        return await self._run(lambda c: states.load(c, instances), self._connect_deadline_s)

    async def write(self, batch: Batch) -> list[Checkpoint]:
        """Store the batch; rows that the server refuses become dead letters, their neighbours are stored.

        Returns:
            The checkpoint of each of its logs, in the order of `Batch.moves`.

        Raises:
            StoreError: with a fate of RETRY or OPERATOR.
            MovedError: a checkpoint was moved by another process, or by a commit whose answer was lost.
            StaleError: the batch must be built anew.
        """
        known: set[int] = set()
        while True:
            by_copy = not self._meets_duplicates
            try:
                return await self._run(lambda c: self._transaction(c, batch, known), self._deadline(batch))
            except StoreError as exc:
                if exc.verdict.fate not in (Fate.STATEMENT, Fate.ROW, Fate.DUPLICATE):
                    raise
                if by_copy:  # COPY takes all ids or none: look up which of them are new
                    self._meets_duplicates = True
                    continue
                refusal = exc.verdict
            await self._run(check_shape, self._connect_deadline_s)
            await self._set_aside(batch, known, refusal)

    async def close(self) -> None:
        """Close the connection, without waiting for a server that does not answer."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    # -- one transaction -------------------------------------------------------------------------------------

    async def _transaction(self, connection: asyncpg.Connection, batch: Batch, known: set[int]) -> list[Checkpoint]:
        async with connection.transaction():
            await connection.execute(self._limits(connection))
            keys = {key_number(item.built.event): item.content_hash for item in reversed(batch.items)}
            letters = {key_number(dead.key): None for dead in batch.dead}
            fresh = await self._gate(connection, keys | letters, batch.at) - known
            read = len(batch.items) + len(batch.dead)
            name = batch.moves[0].name
            if len(fresh) < read:
                contents = await self._contents(connection, keys | letters, fresh)
                if name.kind != "backfill":  # which makes its lines anew from rows that change
                    fresh |= await self._gate(connection, _to_dead_letters(batch, contents), batch.at)
            if len(fresh) == read:
                items, dead = batch.items, batch.dead
            else:
                items, dead = _survivors(batch.items, fresh), _fresh_letters(batch.dead, fresh)
            batch.stored = items
            reached = _reached(batch, items, dead)
            await checkpoints.advance(connection, batch.moves, reached, self._rules, batch.at)
            if batch.states:
                await states.save(connection, batch, name.host, self._identity)
            await copy_items(connection, items, batch.voids)
            await copy(connection, {"agent_trace_dead_letters": [one.letter for one in dead]})
        return reached

    def _limits(self, connection: asyncpg.Connection) -> str:
        """See `_LIMITS`; what the role's settings allow a transaction to take is replaced by our own deadlines."""
        limits = _LIMITS.format(lock_ms=int(self.write_deadline_s * 500), idle_ms=int(self.write_deadline_s * 2000))
        has_timeout = connection.get_server_version() >= _TRANSACTION_TIMEOUT
        return f"{limits}; SET LOCAL transaction_timeout = 0" if has_timeout else limits

    async def _gate(self, connection: asyncpg.Connection, keys: Mapping[int, int | None], now: datetime) -> set[int]:
        """Return those of these keys that are new, of each a content hash is given.

        They are sorted, so that two sidecars don't deadlock over equal ones.
        Nearly always all are new, and COPY stores them for a third of what the look-up costs the server.
        """
        if not keys:
            return set()
        rows = sorted(keys.items())
        if not self._meets_duplicates:
            await copy_encoded(connection, "agent_trace_dedupe", gate_rows(rows, now), _GATE_COLUMNS, len(rows))
            return set(keys)
        sources, ids = zip(*(numbered_key(number) for number, _ in rows), strict=True)
        fresh = await connection.fetch(_GATE, sources, ids, now, [content for _, content in rows])
        self._meets_duplicates = len(fresh) < len(keys)
        return {key_number(GateKey(*row)) for row in fresh}

    async def _contents(
        self, connection: asyncpg.Connection, keys: Mapping[int, int | None], fresh: set[int]
    ) -> dict[int, int | None]:
        """Return the content hash of each key, of those that are not new the one that is stored.

        Raises:
            DroppedError: one is neither new nor stored.
        """
        contents = {number: content for number, content in keys.items() if number in fresh}
        known = [numbered_key(number) for number in keys if number not in fresh]
        if known:
            sources, ids = {key.source_id for key in known}, [key.event_id for key in known]
            for row in await connection.fetch(_KNOWN, sources, ids):
                contents[key_number(GateKey(row["source_id"], row["event_id"]))] = row["content_hash"]
        if not keys.keys() <= contents.keys():
            raise DroppedError("agent_trace_dedupe")
        return contents

    # -- rows that the server refuses ------------------------------------------------------------------------

    async def _set_aside(self, batch: Batch, known: set[int], refusal: Verdict) -> None:
        """Find the rows at fault and take them out of the batch: to the dead letters, or as `known` duplicates."""
        asked = _first_of_each_id(batch.items, known)
        found = await self._ask(refused.judge, asked, self._deadline(batch))
        if not found:
            found = await self._ask(refused.halve, asked, self._deadline(batch) * _HALVING_TIMES)
        if not found:
            raise StoreError(await self._of_everybody(refusal) if refusal.fate is Fate.STATEMENT else _UNEXPLAINED)
        of_rows = (Fate.STATEMENT, Fate.ROW, Fate.DUPLICATE)
        hopeless = next((one for one in found.values() if one.fate not in of_rows), None)
        if hopeless is not None:
            raise StoreError(await self._of_everybody(hopeless))
        statement = next((one for one in found.values() if one.fate is Fate.STATEMENT), None)
        if statement is not None and await self._ask(refused.halve, [_plain(batch.at)], self._deadline(batch)):
            raise StoreError(await self._of_everybody(statement))
        bad = {id(asked[at]): one for at, one in found.items()}
        known.update(key_number(i.built.event) for i in asked if id(i) in bad and bad[id(i)].fate is Fate.DUPLICATE)
        items, batch.items = batch.items, []
        for item in items:
            one = bad.get(id(item))
            if one is None or one.fate is Fate.DUPLICATE:
                batch.items.append(item)
            else:
                event, log_id = item.built.event, batch.moves[item.move].name.log_id
                letter = DeadLetter(log_id, item.position, "refused", str(StoreError(one)), item.line, batch.at)
                batch.dead.append(DeadItem(GateKey(event.source_id, event.event_id), letter, item.move))

    async def _of_everybody(self, found: Verdict) -> Verdict:
        """The verdict where no row is at fault: only a person can end it, unless it passes by itself."""
        if found.fate is Fate.STATEMENT:
            found = found._replace(fate=Fate.OPERATOR)
        return await explained(self._connection, found)

    async def _ask(
        self,
        question: Callable[[asyncpg.Connection, Sequence[Item]], Awaitable[refused.Refused]],
        items: Sequence[Item],
        deadline_s: float,
    ) -> refused.Refused:
        """Try the rows in a transaction that is rolled back; empty where the question itself is refused."""

        async def ask(connection: asyncpg.Connection) -> refused.Refused:
            transaction = connection.transaction()
            await transaction.start()
            try:
                await connection.execute(f"{self._limits(connection)}; {CHECK_AT_ONCE}")
                return await question(connection, items)
            finally:
                if not connection.is_closed():
                    await transaction.rollback()

        try:
            return await self._run(ask, deadline_s)
        except StoreError as exc:
            if exc.verdict.fate in (Fate.RETRY, Fate.SLOW):
                raise
            return {}

    # -- the connection --------------------------------------------------------------------------------------

    def _deadline(self, batch: Batch) -> float:
        """A batch over the usual size (one huge line) gets the time for its size."""
        return self.write_deadline_s * batch.patience * (1 + batch.encoded_bytes / (8 * 1024 * 1024))

    async def _of_log(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """As `_run`, where no line can be at fault."""
        try:
            return await self._run(work, self._connect_deadline_s)
        except StoreError as exc:
            raise StoreError(await self._of_everybody(exc.verdict)) from None

    async def _run(self, work: Callable[[asyncpg.Connection], Awaitable[T]], deadline_s: float) -> T:
        """Run `work` on the connection under a deadline; translate every error of the driver."""
        try:
            connection = self._connection
            if connection is None or connection.is_closed():
                connection = await self._connect()
            return await guarded(connection, work(connection), deadline_s)
        except (StoreError, MovedError, FencedError, StaleError):
            raise
        except Exception as exc:  # noqa: BLE001 - `verdict` knows every kind, and what is unknown is tried again
            found = verdict(exc)
            if found.fate in (Fate.RETRY, Fate.SLOW, Fate.OPERATOR):
                found = await explained(self._connection, found)
                await self.close()
            raise StoreError(found) from None

    async def _connect(self) -> asyncpg.Connection:
        await self.close()
        url = await self._url()
        connection = await connect(url, self._connect_deadline_s, writes=True)
        try:
            await guarded(connection, self._prepare(connection), self._connect_deadline_s * 3)
        except asyncpg.PostgresError as exc:
            found = await explained(connection, verdict(exc))
            connection.terminate()
            raise StoreError(found) from None
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection
        connection.add_termination_listener(self._lost)
        return connection

    def _lost(self, _: object) -> None:
        self.failover.soon()


def _plain(at: datetime) -> Item:
    """A line that no row's fault can be found with."""
    nil = UUID(int=0)
    return Item(Built(EventRow(nil, at, nil, 0, None, None, None, "hello", None, "{}")), b"", 0)


def _reached(batch: Batch, stored: Sequence[Item], dead: Sequence[DeadItem]) -> list[Checkpoint]:
    """Where each log of the batch will be, with its counts."""
    read = Counter([item.move for item in batch.items] + [one.move for one in batch.dead])
    kept, lost = Counter([item.move for item in stored]), Counter([one.move for one in dead])
    return [
        Checkpoint(
            move.known.epoch,
            move.new_position,
            move.known.counts.plus(
                Counts(read[at] + move.denied, kept[at], read[at] - kept[at] - lost[at], lost[at], move.denied)
            ),
            move.check,
        )
        for at, move in enumerate(batch.moves)
    ]


def _differ(one: int | None, two: int | None) -> bool:
    return one is not None and two is not None and one != two


def _to_dead_letters(batch: Batch, contents: Mapping[int, int | None]) -> dict[int, None]:
    """Make dead letters of the items whose id is that of an event that says something else.

    Returns:
        Their rows of the dedupe table.
    """
    conflicts = {id(item) for item in batch.items if _differ(item.content_hash, contents[key_number(item.built.event)])}
    if not conflicts:
        return {}
    items, batch.items = batch.items, []
    keys: dict[int, None] = {}
    for item in items:
        if id(item) not in conflicts:
            batch.items.append(item)
            continue
        log_id = batch.moves[item.move].name.log_id
        letter = DeadLetter(log_id, item.position, "conflict", _CONFLICT, item.line, batch.at)
        batch.dead.append(DeadItem(dead_letter_key(letter), letter, item.move))
        keys[key_number(batch.dead[-1].key)] = None
    return keys


def _first_of_each_id(items: Sequence[Item], known: set[int]) -> list[Item]:
    """The items to deduplicate; a second one of the same id would appear as a duplicate in the table."""
    first: dict[int, Item] = {}
    for item in items:
        first.setdefault(key_number(item.built.event), item)
    return [item for number, item in first.items() if number not in known]


def _survivors(items: Sequence[Item], fresh: set[int]) -> list[Item]:
    """The items to store: those whose id was new, each id once, the first of them."""
    kept: list[Item] = []
    for item in items:
        number = key_number(item.built.event)
        if number in fresh:
            fresh.discard(number)
            kept.append(item)
    return kept


def _fresh_letters(dead: Sequence[DeadItem], fresh: set[int]) -> list[DeadItem]:
    """As `_survivors`, for dead letters."""
    kept: list[DeadItem] = []
    for item in dead:
        number = key_number(item.key)
        if number in fresh:
            fresh.discard(number)
            kept.append(item)
    return kept
