"""Makes the months of the partitioned tables ahead of time: by `migrate` and `prune`, never while writing.

A month is made beside its table and then attached, so that writers into other months notice nothing. Attaching locks
the default partition and makes the server scan it; both are bounded in time, and a month that can't be had
within it is left out with a note: its rows go to the default partition, where everything works the same, except that
`prune` deletes them row by row.
"""

from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

MONTHS_AHEAD: Final = 6
"""Beyond the present one: who upgrades twice a year always has a month to write to."""
MOVE_MAX_ROWS: Final = 20_000
"""A month that has begun in the default partition is moved if it has no more rows than this: about a second."""

PARTITIONED: Final = {
    "agent_trace_events": "occurred_at",
    "agent_trace_ranges": "recorded_at",
    "agent_trace_file_states": "recorded_at",
    "agent_trace_dedupe": "event_id",
}
"""The column that decides a row's month: a time, or a UUIDv7, which begins with one."""
_LOCK_TIMEOUT_MS: Final = 1000
"""While we wait for a lock, writers wait behind us."""
_STATEMENT_TIMEOUT_MS: Final = 5000
"""While we hold it, they wait too; well below the sidecar's own deadline of a batch."""
_ATTEMPTS: Final = 5

# Bounds as the catalogue prints them depend on the session's time zone: hence the SET LOCAL before it.
_MONTHS: Final = """
SELECT format('%I.%I', n.nspname, c.relname) AS name,
       (regexp_match(pg_get_expr(c.relpartbound, c.oid), $$FROM \\('([^']+)'\\)$$))[1] AS first,
       (regexp_match(pg_get_expr(c.relpartbound, c.oid), $$TO \\('([^']+)'\\)$$))[1] AS after
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.inhparent = $1::regclass AND pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT'
ORDER BY 2
"""
_PARENT: Final = """
SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass($1) AND c.relkind = 'p'
"""

# Of Citus, in two steps: where there is none, the table that the second one names can't even be named.
_HAS_CITUS: Final = "SELECT to_regclass('pg_dist_partition') IS NOT NULL"
_IS_DISTRIBUTED: Final = "SELECT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrelid = to_regclass($1))"

# All that makes a month. The rows move and it appears in one transaction, so none is ever invisible.
_ON_ONE: Final = (
    "LOCK TABLE {whole} IN SHARE UPDATE EXCLUSIVE MODE",  # one at a time
    "CREATE TABLE {month} (LIKE {whole} INCLUDING ALL)",
    "ALTER TABLE {month} ADD CONSTRAINT month CHECK ({within})",  # spares the server a scan of it
    "LOCK TABLE {default} IN ACCESS EXCLUSIVE MODE",
    "WITH moved AS (DELETE FROM {default} WHERE {within} RETURNING *) INSERT INTO {month} SELECT * FROM moved",
    "ALTER TABLE {whole} ATTACH PARTITION {month} {bounds}",
    "ALTER TABLE {month} DROP CONSTRAINT month",
)
# Citus makes a month's shards beside those of its table; rows can't move there within a transaction of ours.
_ON_NODES: Final = (
    "SET LOCAL citus.multi_shard_modify_mode TO 'sequential'",  # it demands this where shards have long names
    "SET LOCAL statement_timeout = 30000",  # one after the other, on every node
    "CREATE TABLE {month} PARTITION OF {whole} {bounds}",
)


class Month(NamedTuple):
    """One partition, as it is in the database; `table` is its name for SQL, with the schema's."""

    table: str
    first: datetime
    after: datetime


class _Table(NamedTuple):
    """A partitioned table; `schema` is quoted."""

    schema: str
    name: str
    column: str

    def bound(self, time: datetime) -> str:
        """A month's limit as a value of the column."""
        return str(first_uuid7(time)) if self.column == "event_id" else time.isoformat()

    def sql(self, suffix: str = "") -> str:
        """The name for SQL, of the table or of one of its partitions."""
        return f"{self.schema}.{_quoted(self.name + suffix)}"


class Made(NamedTuple):
    """What `make_months` did: the partitions' names, and a sentence for each month that it left out."""

    months: list[str]
    notes: list[str]


async def make_months(connection: asyncpg.Connection, today: date, *, ahead: int = MONTHS_AHEAD) -> Made:
    """Make the present month and the `ahead` following ones, where they are missing.

    Raises:
        asyncpg.PostgresError: the server refused, for example because the user does not own the tables.
    """
    made = Made([], [])
    for name, column in PARTITIONED.items():
        schema = await connection.fetchval(_PARENT, name)
        if schema is None:  # the table was made another way, or not at all: not ours to change
            made.notes.append(f"{name} is not partitioned: no monthly partitions created")
            continue
        have = {month.first for month in await months(connection, name)}
        for first, after in _spans(today, ahead):
            if first not in have:
                await _make(connection, _Table(_quoted(schema), name, column), first, after, made)
    return made


async def months(connection: asyncpg.Connection, table: str) -> list[Month]:
    """The months of a table, oldest first, without the default partition."""
    async with connection.transaction():
        await connection.execute("SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO'")
        rows = await connection.fetch(_MONTHS, table)
    return [
        Month(row["name"], _time(row["first"]), _time(row["after"])) for row in rows if row["first"] and row["after"]
    ]


async def is_distributed(connection: asyncpg.Connection, table: str) -> bool:
    """Whether the table's rows are on other servers, so that there is nothing in it to be gone through page by page."""
    if not await connection.fetchval(_HAS_CITUS):
        return False
    found: bool = await connection.fetchval(_IS_DISTRIBUTED, table)
    return found


async def drop(connection: asyncpg.Connection, month: str) -> bool:
    """Drop a whole month, by its name for SQL; False when it was in use all the time."""
    return await _briefly(connection, f"DROP TABLE IF EXISTS {month}")


async def _make(connection: asyncpg.Connection, table: _Table, first: datetime, after: datetime, made: Made) -> None:
    name = f"{table.name}_{first:%Y_%m}"
    lower, upper = table.bound(first), table.bound(after)
    within = f"{table.column} >= '{lower}' AND {table.column} < '{upper}'"
    whole, default, month = table.sql(), table.sql("_default"), table.sql(f"_{first:%Y_%m}")
    bounds = f"FOR VALUES FROM ('{lower}') TO ('{upper}')"
    distributed = await is_distributed(connection, whole)
    most = 0 if distributed else MOVE_MAX_ROWS
    few = f"SELECT 1 FROM {default} WHERE {within} LIMIT {most + 1}"  # noqa: S608
    if await connection.fetchval(f"SELECT count(*) FROM ({few}) AS few") > most:  # noqa: S608
        over = f"over {most} rows" if most else "rows"
        made.notes.append(f"{name} not created: {over} of it are already in the default partition, and stay there")
        return
    statements = _ON_NODES if distributed else _ON_ONE
    try:
        done = await _briefly(
            connection,
            *(
                each.format(whole=whole, default=default, month=month, within=within, bounds=bounds)
                for each in statements
            ),
        )
    except asyncpg.DuplicateTableError:
        if first not in {month.first for month in await months(connection, table.name)}:
            made.notes.append(f"{name} not created: another table has that name")
        return  # or else another `migrate` has just made it
    if done:
        made.months.append(name)
    else:
        made.notes.append(f"{name} not created: {table.name} was locked for too long; run this again at a quieter time")


async def _briefly(connection: asyncpg.Connection, *statements: str) -> bool:
    """Run statements that need strong locks in one transaction, without making writers wait for long."""
    for _ in range(_ATTEMPTS):
        try:
            async with connection.transaction(isolation="read_committed"):
                await connection.execute(f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}")
                await connection.execute(f"SET LOCAL statement_timeout = {_STATEMENT_TIMEOUT_MS}")
                for statement in statements:
                    await connection.execute(statement)
        except (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError, asyncpg.DeadlockDetectedError):
            continue
        return True
    return False


def first_uuid7(time: datetime) -> UUID:
    """The least UUID that begins with this time as a UUIDv7 does, in milliseconds."""
    return UUID(int=int(time.timestamp() * 1000) << 80)


def _time(bound: str) -> datetime:
    """The time of a month's limit, as the server prints it in UTC."""
    if "-" in bound[:6]:  # 2026-11-01 00:00:00+00
        return datetime.fromisoformat(bound)
    return datetime.fromtimestamp((UUID(bound).int >> 80) / 1000, UTC)


def _spans(today: date, ahead: int) -> list[tuple[datetime, datetime]]:
    """The bounds of the present month and the `ahead` following ones, in UTC."""
    firsts = [
        datetime(today.year + (today.month - 1 + n) // 12, (today.month - 1 + n) % 12 + 1, 1, tzinfo=UTC)
        for n in range(ahead + 2)
    ]
    return list(pairwise(firsts))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
