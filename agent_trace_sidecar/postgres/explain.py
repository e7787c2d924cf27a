"""What is wrong with a database or a role, found by asking the server: for hints, `doctor`, `status` and `migrate`."""

from typing import Final, NamedTuple

import asyncpg

from agent_trace_sidecar.limits import WRITE_DEADLINE_S
from agent_trace_sidecar.postgres.connection import guarded
from agent_trace_sidecar.postgres.errors import DRIVER_ERRORS, Fate, Verdict, verdict
from agent_trace_sidecar.postgres.schema_check import WrongShapeError, check_shape

_DEADLINE_S: Final = 3.0
_ENCODING_CODES: Final = ("0A000", "22P05", "22021")
"""SQLSTATEs for a character that the server's encoding lacks."""

_ROLE: Final = """
SELECT current_user AS name, current_schema() AS schema, getdatabaseencoding() AS encoding,
       coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create,
       pg_is_in_recovery() AS standby, current_setting('default_transaction_read_only') = 'on' AS read_only,
       (SELECT setting::bigint FROM pg_settings WHERE name = 'statement_timeout') AS statement_timeout_ms,
       current_setting('search_path') AS search_path, current_database() AS database
"""
_SECURED: Final = """
SELECT relname FROM pg_class
WHERE relname LIKE 'agent\\_trace\\_%' AND relkind IN ('r', 'p') AND pg_table_is_visible(oid)
  AND row_security_active(oid)
ORDER BY relname
"""
_CHANGED_BY: Final = """
SELECT format('trigger %I on %I', t.tgname, c.relname) AS what FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relname LIKE 'agent\\_trace\\_%' AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND pg_table_is_visible(c.oid)
UNION
SELECT format('rule %I on %I', r.rulename, c.relname) FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
WHERE c.relname LIKE 'agent\\_trace\\_%' AND c.relkind IN ('r', 'p') AND pg_table_is_visible(c.oid)
UNION
SELECT format('event trigger %I', evtname) FROM pg_event_trigger WHERE evtenabled <> 'D'
ORDER BY 1 LIMIT 10
"""
_UNLOGGED: Final = """
SELECT relname FROM pg_class
WHERE relname LIKE 'agent\\_trace\\_%' AND relkind = 'r' AND relpersistence = 'u' AND pg_table_is_visible(oid)
ORDER BY relname
"""
_NEEDED: Final = {
    "agent_trace_migrations": ("SELECT",),
    "agent_trace_events": ("INSERT",),
    "agent_trace_records": ("INSERT", "DELETE", "SELECT"),
    "agent_trace_ranges": ("INSERT", "DELETE", "SELECT", "UPDATE"),
    "agent_trace_file_states": ("INSERT", "DELETE", "SELECT"),
    "agent_trace_usage": ("INSERT",),
    "agent_trace_ended_calls": ("INSERT",),
    "agent_trace_masked": ("INSERT",),
    "agent_trace_dedupe": ("SELECT", "INSERT"),
    "agent_trace_sources": ("SELECT", "INSERT", "UPDATE"),
    "agent_trace_dead_letters": ("INSERT", "SELECT"),
}
"""What a sidecar does with each table, see deploy/roles.sql."""
_LACKING: Final = """
SELECT n.name, n.privilege, to_regclass(n.name) IS NULL AS missing,
       to_regclass(n.name) IS NOT NULL AND NOT CASE
           WHEN n.privilege = 'DELETE' THEN has_table_privilege(to_regclass(n.name), n.privilege)
           ELSE has_any_column_privilege(to_regclass(n.name), n.privilege)
       END AS lacking
FROM unnest($1::text[], $2::text[]) AS n (name, privilege)
"""


class Role(NamedTuple):
    """The user, where it works, and what is set for it."""

    name: str
    schema: str | None
    encoding: str
    may_create: bool
    standby: bool
    read_only: bool
    statement_timeout_ms: int
    search_path: str
    database: str


async def wrong(connection: asyncpg.Connection) -> list[str]:
    """Sentences on what keeps events from being stored, kept or read: encoding, settings, row security, changed tables.

    Raises:
        asyncpg.PostgresError: the server does not answer.
    """
    role = await _role(connection)
    sentences = [_of_encoding(role), _of_search_path(role), _of_read_only(role), _of_timeout(role)]
    sentences += [await _of_row_security(connection, role), await _of_unlogged(connection), await _of_shape(connection)]
    return [one for one in sentences if one]


async def lacking(connection: asyncpg.Connection) -> str:
    """A sentence on the privileges of a writer that the user lacks; empty where it has all.

    Raises:
        asyncpg.PostgresError: the server does not answer.
    """
    role = await _role(connection)
    pairs = [(table, privilege) for table, privileges in _NEEDED.items() for privilege in privileges]
    rows = await connection.fetch(_LACKING, [table for table, _ in pairs], [privilege for _, privilege in pairs])
    if any(row["missing"] for row in rows):
        if role.may_create:
            return ""
        return (
            f"User {role.name} may not create tables in schema {role.schema}: run `agent-trace-sidecar migrate` as the "
            f"schema's owner, or GRANT CREATE ON SCHEMA {role.schema} TO {role.name}."
        )
    found: dict[str, list[str]] = {}
    for row in rows:
        if row["lacking"]:
            found.setdefault(row["privilege"], []).append(row["name"])
    if not found:
        return ""
    grants = "; ".join(
        f"GRANT {privilege} ON {', '.join(tables)} TO {role.name}" for privilege, tables in found.items()
    )
    return f"User {role.name} lacks privileges: {grants}. Or use the writer role of deploy/roles.sql."


async def explained(connection: asyncpg.Connection | None, found: Verdict) -> Verdict:
    """The verdict with a hint that names what is wrong, where the server still answers; else as it was."""
    if connection is None or connection.is_closed():
        return found
    try:
        return await guarded(connection, _explained(connection, found), _DEADLINE_S)
    except DRIVER_ERRORS:
        return found


async def _explained(connection: asyncpg.Connection, found: Verdict) -> Verdict:
    role, sentence = await _role(connection), ""
    if found.cause == "42501":
        sentence = await _of_row_security(connection, role) or await lacking(connection)
    elif found.cause == "25006":
        sentence = _of_read_only(role)
        found = found._replace(fate=Fate.OPERATOR) if sentence else found
    elif found.cause == "57014":
        sentence = _of_timeout(role)
    elif found.cause in {"42P01", "3F000"}:
        sentence = _of_search_path(role)
    elif found.cause == "42P10":  # ON CONFLICT finds no key
        sentence = await _of_shape(connection)
    elif found.cause in _ENCODING_CODES:
        sentence = _of_encoding(role)
    if not sentence and (found.cause == "dropped" or found.cause[:2] in {"P0", "0A"}):
        sentence = await _of_triggers(connection, found)
    return found._replace(hint=sentence) if sentence else found


async def _of_triggers(connection: asyncpg.Connection, found: Verdict) -> str:
    """The hint with the database's triggers and rules on our tables: those that `migrate` makes have none."""
    named = ", ".join(row["what"] for row in await connection.fetch(_CHANGED_BY))
    return f"{found.hint} There is: {named}." if named else ""


async def _of_unlogged(connection: asyncpg.Connection) -> str:
    tables = [row["relname"] for row in await connection.fetch(_UNLOGGED)]
    if not tables:
        return ""
    altered = "; ".join(f"ALTER TABLE {table} SET LOGGED" for table in tables)
    return f"A crash of the server empties unlogged tables: {altered}."


async def _of_shape(connection: asyncpg.Connection) -> str:
    """A sentence where the tables were made by this version, and differ from that."""
    if not await connection.fetchval("SELECT to_regclass('agent_trace_migrations') IS NOT NULL"):
        return ""
    try:
        await check_shape(connection)
    except WrongShapeError as exc:
        return verdict(exc).hint
    return ""


async def _role(connection: asyncpg.Connection) -> Role:
    row = await connection.fetchrow(_ROLE)
    assert row is not None  # noqa: S101 - it has no FROM
    return Role(*row)


def _of_encoding(role: Role) -> str:
    if role.encoding == "UTF8":
        return ""
    return (
        f"The database's encoding is {role.encoding}, and events need UTF8: create a database with ENCODING 'UTF8' "
        "(TEMPLATE template0) and set AGENT_TRACE_DATABASE_URL to it."
    )


def _of_search_path(role: Role) -> str:
    if role.schema is None:
        return (
            f"No schema of search_path ({role.search_path}) exists and may be used by {role.name}: create or set one."
        )
    if role.schema.startswith("pg_temp"):
        return f"search_path ({role.search_path}) begins with temporary tables: name a schema such as public first."
    return ""


def _of_read_only(role: Role) -> str:
    if role.standby or not role.read_only:
        return ""
    return (
        f"default_transaction_read_only is on for user {role.name} in database {role.database}: "
        f"ALTER ROLE {role.name} SET default_transaction_read_only = off (or ALTER DATABASE, where it was set there)."
    )


def _of_timeout(role: Role) -> str:
    if not 0 < role.statement_timeout_ms < WRITE_DEADLINE_S * 1000:
        return ""
    return (
        f"statement_timeout is {role.statement_timeout_ms} ms for user {role.name}: raise it to "
        f"{WRITE_DEADLINE_S:.0f} s or more, for example by ALTER ROLE {role.name} SET statement_timeout."
    )


async def _of_row_security(connection: asyncpg.Connection, role: Role) -> str:
    tables = [row["relname"] for row in await connection.fetch(_SECURED)]
    if not tables:
        return ""
    return (
        f"Row-level security applies to user {role.name} on {', '.join(tables)}: ALTER ROLE {role.name} BYPASSRLS, or "
        "disable row security on these tables."
    )
