"""The one way to query a foreign SQLite database.

SQLite believes a file: a view may compute for ever, a generated column or an index may call any function, a journal
beside it may be a pipe. So: a regular file, taken as unchangeable (then SQLite opens nothing beside it, and takes no
lock that its owner would have to wait for); columns of tables are read and nothing else; so many seconds at most.
"""

import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from agent_trace_sidecar.limits.files import open_regular

if TYPE_CHECKING:
    import sqlite3

QUERY_S: Final = 0.2
_BUSY_S: Final = 10.0
"""How long to wait for a writer of a database that its owner uses."""
_PRAGMAS: Final = ("trusted_schema = OFF", "query_only = ON", "mmap_size = 0", "cell_size_check = ON")
_STEPS: Final = 1000
"""Instructions of SQLite's machine between two readings of the clock."""
_MAX_VALUE_BYTES: Final = 1024 * 1024
_IS_TABLE: Final = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND rootpage > 0 AND name = ? COLLATE NOCASE"
"""A view and a virtual table have no page of their own."""
_JOURNALS: Final = ("-journal", "-wal")


def first_row(database: Path, table: str, query: str, *, timeout_s: float = QUERY_S) -> tuple[object, ...] | None:
    """The first row that a SELECT from one table finds.

    None where there is no such row or table, or the file is no database, is being written, or takes too long.
    """
    import sqlite3  # noqa: PLC0415 - few projects need it, and every start would pay for it

    deadline = time.monotonic() + timeout_s
    before = _stamp(database)
    if before is None:
        return None
    try:
        connection = sqlite3.connect(f"file:{quote(os.path.abspath(database))}?mode=ro&immutable=1", uri=True)  # noqa: PTH100 - follows nothing
        try:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES)
            connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
            for pragma in _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
            connection.set_authorizer(_only_tables)
            known = connection.execute(_IS_TABLE, (table,)).fetchone()
            row: tuple[object, ...] | None = connection.execute(query).fetchone() if known else None
        finally:
            connection.close()
    except (sqlite3.Error, UnicodeError):
        return None
    return row if _stamp(database) == before else None


def connect_read_only(database: Path) -> "sqlite3.Connection":
    """A database that its owner may be writing: a regular file, of whose views and triggers nothing is believed.

    Raises:
        sqlite3.Error: it can't be opened.
        OSError: it is no regular file.
    """
    import sqlite3  # noqa: PLC0415 - as above

    open_regular(database).close()
    uri = f"file:{quote(os.path.abspath(database))}?mode=ro"  # noqa: PTH100 - follows nothing
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    connection.set_authorizer(_no_views)
    return connection


def _no_views(action: int, _: str | None, __: str | None, ___: str | None, inside: str | None) -> int:
    """Everything that a read-only connection may, but nothing by way of a view or a trigger, and no other file."""
    import sqlite3  # noqa: PLC0415 - as above

    denied = inside is not None or action == sqlite3.SQLITE_ATTACH
    return sqlite3.SQLITE_DENY if denied else sqlite3.SQLITE_OK


def _only_tables(action: int, _: str | None, __: str | None, ___: str | None, inside: str | None) -> int:
    """SELECT from columns of tables: no function, no pragma, no recursion, nothing by way of a view or a trigger."""
    import sqlite3  # noqa: PLC0415 - as above

    allowed = inside is None and action in {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ}
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _stamp(database: Path) -> tuple[int, int, int] | None:
    """What changes when it is written; None where it is no file, or a transaction stands beside it."""
    try:
        status = database.stat()
        if not stat.S_ISREG(status.st_mode):
            return None
        for name in _JOURNALS:
            journal = database.with_name(database.name + name)
            if os.path.lexists(journal) and journal.lstat().st_size:
                return None
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
