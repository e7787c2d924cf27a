"""What to do with an error of Postgres or its driver: decided here, in one function, and nowhere else."""

import re
import socket
import ssl
from enum import Enum
from typing import Final, NamedTuple

import asyncpg

from agent_trace_sidecar.postgres.address import AddressError
from agent_trace_sidecar.postgres.migrate import LegacySchemaError
from agent_trace_sidecar.postgres.schema_check import COLUMNS, DROPPED_CODE, DroppedError, WrongShapeError


class TooSlowError(TimeoutError):
    """It was not done by its deadline, in seconds."""

    def __init__(self, deadline_s: float) -> None:
        super().__init__(deadline_s)
        self.deadline_s = deadline_s


class Fate(Enum):
    """What an error means for the batch."""

    RETRY = "retry"
    """Nothing is wrong with the batch: connect again and repeat it, for ever."""
    SLOW = "slow"
    """As RETRY; a smaller batch may be done in time."""
    OPERATOR = "operator"
    """As RETRY, but only a person can end it: report it as an error. Never dead-letter."""
    STATEMENT = "statement"
    """A statement was refused, by a row's fault or for every row: only trying the rows one by one shows which. Where a
    plain row is refused too, it is the OPERATOR's."""
    ROW = "row"
    """One row is at fault: dead-letter it and store its neighbours."""
    DUPLICATE = "duplicate"
    """One row is there already, although its id was not deduplicated: drop it."""


class Verdict(NamedTuple):
    """An error's fate, the SQLSTATE or class to count it under, and what a person can do about it."""

    fate: Fate
    cause: str
    hint: str


class StoreError(Exception):
    """The database did not take it. `verdict` decides what to do; the text holds no row's content."""

    def __init__(self, found: Verdict) -> None:
        super().__init__(f"{found.cause}: {found.hint}")
        self.verdict = found


_RETRY_HINTS: Final = {
    "08": "The connection to the database was lost, see the server's log; retrying.",
    "53100": "The database's disk is full: free space there.",
    "53300": "No connection is free: raise max_connections, or the connection limit of the user or database, or use a "
    "pooler.",
    "53": "The database is short of resources; retrying.",
    "25": "The database is read-only (a standby, or failing over): name the primary, or wait for the fail-over.",
    "25P03": "The server ended a transaction that was idle for too long; retrying.",
    "25P04": "The server ended a transaction that took longer than transaction_timeout: raise it.",
    "57": "The database is starting or stopping; retrying.",
    "40": "Another transaction conflicted; retrying.",
    "55006": "A table is in use by another session; retrying.",
    "55P03": "A lock is held by another session; retrying.",
    "58": "The database server had a system error (I/O): see its log.",
    "XX": "The database reported an internal error: see its log.",
}
_OPERATOR_HINTS: Final = {
    "28": "The database refused the user or password: fix AGENT_TRACE_DATABASE_URL or the server's pg_hba.conf.",
    "3D000": "The database named in the URL does not exist: create it.",
    "3F": "The schema named in search_path does not exist: create it.",
    "42501": "The user lacks a privilege: grant it INSERT on the agent_trace tables, or use the writer role.",
    "42P01": "A table is missing: run `agent-trace-sidecar migrate`.",
    "55": "A table can't be changed in its present state, for example because it is published without a key.",
    "42703": "A column is missing: run `agent-trace-sidecar migrate`.",
    "42": "The tables do not have the expected shape: run `agent-trace-sidecar migrate`.",
}
_STATEMENT_HINTS: Final = {
    "0A": "The server does not support a statement that the sidecar needs.",
    "P0": "A trigger or function of the database refuses the statement: change or remove it.",
}
_SLOW: Final = Verdict(
    Fate.SLOW, "57014", "A statement was cancelled (statement_timeout, or manually); retrying with smaller batches."
)
_EVENT_KEY: Final = re.compile(r"agent_trace_events\w*_pkey")
"""The primary keys of the events' months."""
_WORKER_DOWN: Final = Verdict(
    Fate.RETRY, "worker", "The coordinator answers, but can't reach a worker node: see that node; retrying."
)
_DROPPED: Final = Verdict(
    Fate.STATEMENT, "dropped", "The server drops rows without an error: a trigger or a rule does that. Remove it."
)
_OF_CODES: Final = {"57014": _SLOW, DROPPED_CODE: _DROPPED}
_STATEMENT_POOLING: Final = Verdict(
    Fate.OPERATOR, "pool_mode", "The pooler allows no transactions: set its pool_mode to transaction or session."
)
_NO_PARTITION: Final = Verdict(
    Fate.OPERATOR,
    "23514",
    "No partition accepts these rows: run `agent-trace-sidecar migrate`, or create a default partition.",
)
_ROW_CODES: Final = ("23502", "23503", "23514")
_RELAYED: Final = (
    ("duplicate key value violates unique constraint", "23505"),
    ("no partition of relation", "23514"),
    ("violates not-null constraint", "23502"),
    ("violates check constraint", "23514"),
    ("index row size", "54000"),
    ("index row requires", "54000"),
    ("invalid memory alloc request size", "54000"),
)
"""What a row's own fault is called where Citus passes it on from a worker, which it does during COPY: with the worker's
words, and XX000 for whatever SQLSTATE they came with."""
DRIVER_ERRORS: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What a connection may raise; the last one where the server has ended it and the driver has not noticed yet."""
_CLIENT_ERRORS: Final = (TypeError, ValueError, OverflowError)


def verdict(exc: BaseException) -> Verdict:
    """Decide what `exc`, raised by a statement of a batch or while connecting, means for the batch."""
    exc = _last_word(exc)
    if isinstance(exc, asyncpg.PostgresError):
        return _of_server(exc)
    found = _of_settings(exc)  # first, because some of these are ValueErrors too
    if found is not None:
        return found
    if isinstance(exc, _CLIENT_ERRORS) and not isinstance(exc, asyncpg.InterfaceError):
        return Verdict(Fate.ROW, type(exc).__name__, "A value could not be encoded.")
    if isinstance(exc, asyncpg.exceptions.TargetServerAttributeNotMatched):
        return Verdict(
            Fate.RETRY, "target_session_attrs", "No host of the URL has the required role at the moment; retrying."
        )
    if isinstance(exc, (*DRIVER_ERRORS, EOFError)):
        return Verdict(Fate.RETRY, "connection", f"The database can't be reached{_unreachable(exc)}; retrying.")
    return Verdict(Fate.RETRY, type(exc).__name__, "An unexpected error; retrying. Please report it.")


def _last_word(exc: BaseException) -> BaseException:
    """What the server has reported before the connection ended, if it did; `exc` otherwise."""
    one: BaseException | None = exc
    while isinstance(one, ConnectionError | asyncpg.InterfaceError | asyncpg.ConnectionDoesNotExistError):
        one = one.__cause__ or one.__context__
    return one if isinstance(one, asyncpg.PostgresError) else exc


def _unreachable(exc: BaseException) -> str:
    """Which part of the way to the server fails, and what to check."""
    match exc:
        case socket.gaierror():
            return ": its host name is unknown. Check the name in the URL, and DNS"
        case ConnectionRefusedError():
            return ": the connection is refused. Start the server, or check host and port"
        case FileNotFoundError():
            return ": there is no such socket. Start the server, or check the host in the URL"
        case TimeoutError():
            return ": its host does not answer in time. Check host, network and firewall"
        case _:
            return ""


def _of_server(exc: asyncpg.PostgresError) -> Verdict:
    if (of_tables := _of_tables(exc)) is not None:
        return of_tables
    if isinstance(exc, asyncpg.ProtocolViolationError) and "statement pooling" in str(exc):  # PgBouncer's own words
        return _STATEMENT_POOLING
    if exc.sqlstate == "XX000":
        return _relayed(str(exc))
    if (exc.sqlstate or "").startswith("08") and "remote node" in str(exc):
        return _WORKER_DOWN
    found = by_sqlstate(exc.sqlstate or "", rule=getattr(exc, "constraint_name", None) or "")
    named = _named(str(exc).partition("\n")[0])
    if found.fate is not Fate.OPERATOR or not named:
        return found
    what, colon, remedy = found.hint.removesuffix(".").partition(":")
    return found._replace(hint=f"{what} ({named}){colon}{remedy}.")


def _of_tables(exc: asyncpg.PostgresError) -> Verdict | None:
    """The verdict on tables that are not as `migrate` makes them, which we have found ourselves; else None."""
    match exc:
        case LegacySchemaError():
            return Verdict(Fate.OPERATOR, "legacy_schema", str(exc))
        case WrongShapeError():
            return Verdict(
                Fate.OPERATOR,
                "42703",
                f"The tables differ from what `migrate` creates: {exc}. Revert that change, or use another database.",
            )
        case DroppedError(table=table):
            return _DROPPED._replace(hint=_DROPPED.hint.replace("rows", f"rows of {table}", 1))
        case _:
            return None


def _named(message: str) -> str:
    """Which of our tables and columns the server means; nothing else of its message is passed on."""
    tables = [word for word in re.findall(r"\w+", message) if word in COLUMNS]
    quoted = re.findall(r'["«»„“] ?(\w+) ?["»«“”]', message)  # as the server's language has it
    columns = [word for word in quoted if any(word in table for table in COLUMNS.values())]
    return ", ".join(tables + columns)


def _relayed(message: str) -> Verdict:
    """The verdict on a worker's error; its message is matched and never passed on."""
    code = next((code for words, code in _RELAYED if words in message), "XX000")
    if "no partition of relation" in message:
        return by_sqlstate(code, rule="")
    key = _EVENT_KEY.search(message)
    return by_sqlstate(code, rule=key[0] if key else "a constraint")


def _of_settings(exc: BaseException) -> Verdict | None:
    """The verdict on a deadline, or on how the server is named; None when that is not the trouble."""
    if isinstance(exc, TooSlowError):
        hint = f"The database did not finish within {exc.deadline_s:.3g} s; retrying with smaller batches."
        return Verdict(Fate.SLOW, "too_slow", hint)
    if isinstance(exc, AddressError | asyncpg.exceptions.ClientConfigurationError):  # their texts hold no values
        return Verdict(Fate.OPERATOR, "address", f"The database's address can't be used: {_sentence(str(exc))}")
    if isinstance(exc, ssl.SSLCertVerificationError):
        why = _sentence(exc.verify_message)
        return Verdict(Fate.OPERATOR, "tls", f"The server's certificate is refused (see sslrootcert, sslmode): {why}")
    if isinstance(exc, ConnectionError) and "SSL upgrade" in str(exc):
        return Verdict(Fate.OPERATOR, "tls", "The server has no TLS, but sslmode requires it: change one of them.")
    return None


def _sentence(text: str) -> str:
    return text.partition("\n")[0].rstrip(".") + "."


def by_sqlstate(code: str, *, rule: str) -> Verdict:
    """The verdict on a server's error; `rule`: the constraint that is violated, empty where it names none."""
    if code in _OF_CODES or (code == "23514" and not rule):  # a check has a name
        return _OF_CODES.get(code, _NO_PARTITION)
    if code == "23505":  # in another table than the events' it is a fault of ours or of a user's index: show it
        return Verdict(Fate.DUPLICATE if _EVENT_KEY.match(rule) else Fate.ROW, code, "The database has such a row.")
    if code in _ROW_CODES or code[:2] in ("22", "54"):
        return Verdict(Fate.ROW, code, "The database refused a value.")
    for known in (code, code[:2]):
        if known in _OPERATOR_HINTS:
            return Verdict(Fate.OPERATOR, code, _OPERATOR_HINTS[known])
        if known in _RETRY_HINTS:
            return Verdict(Fate.RETRY, code, _RETRY_HINTS[known])
    hint = _STATEMENT_HINTS.get(code[:2], "The database refused a statement with an unexpected error.")
    return Verdict(Fate.STATEMENT, code, hint)
