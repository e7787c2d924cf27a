"""OpenCode's own store: its SQLite database, opened read-only, and the files that `opencode export` writes.

Its rows become hooks as the shim would have sent them, with their input, one after the other, so that everything
behind it (decoding, redaction, records) is the same. Three layouts are known:

    1.x, the log of events    `event`: the very events that the plugin gets, under the same ids
    1.x, messages and parts   `message`, `part`: their last state, for sessions whose events are gone
    2.x                       `session_v2`, `session_message`: a row for each message, read as its step's events

An upgrade to 2.x copies the sessions of 1.x to its tables, with fewer details, and leaves the old ones. So a session of
1.x is read from the tables of 1.x, and from those of 2.x what came to it later.

Rows are read one session at a time and one row after the other, so memory does not depend on the size of the store.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, Self

import msgspec

from agent_trace_sidecar.limits.files import read_whole
from agent_trace_sidecar.limits.sqlite import connect_read_only
from agent_trace_sidecar.opencode.history import (
    StoredHook,
    hooks_from_events,
    hooks_from_message,
    hooks_from_messages,
    left_out,
)


class StoreError(Exception):
    """The store can't be read; the text is a sentence with the remedy."""


class Usage(NamedTuple):
    """Tokens and cost of a session, as OpenCode adds them up."""

    input: int = 0
    output: int = 0
    reasoning: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cost: float = 0.0


class StoredSession(NamedTuple):
    """A session of the store; times are milliseconds since the epoch."""

    id: str
    parent_id: str | None
    project_id: str | None
    directory: str
    worktree: str
    title: str
    version: str
    created_ms: float
    updated_ms: float
    usage: Usage
    api: int
    """The plugin API of the OpenCode that began it: 1 or 2."""
    has_events: bool = False
    """Its log of events is whole; else its hooks come from its messages."""


class Wanted(NamedTuple):
    """Which sessions; what is None does not matter."""

    since: datetime | None = None
    session_id: str | None = None
    project: str | None = None
    """A folder: sessions of it and below it, or of its worktree."""

    def takes(self, session: StoredSession) -> bool:
        """Whether a session is one of them."""
        if self.session_id is not None and session.id != self.session_id:
            return False
        if self.since is not None and session.updated_ms < self.since.timestamp() * 1000:
            return False
        folder = self.project
        places = (session.directory, session.worktree)
        return folder is None or any(one == folder or one.startswith(folder.rstrip("/") + "/") for one in places)


class SessionSource(Protocol):
    """Where sessions are read from: a store, or the file of an export."""

    label: str
    data_home: Path | None
    """The folder in which OpenCode's own lies, where its snapshots are; None where that is not known."""

    def sessions(self) -> Iterator[StoredSession]:
        """All sessions, the oldest first."""

    def hooks(self, session: StoredSession) -> Iterator[StoredHook]:
        """The hooks that the session's plugin would have been called with, in order."""

    def filtered(self, session: StoredSession) -> dict[str, int]:
        """How many events of the session's log the shim leaves out, by type."""


_SESSION_1: Final = frozenset({"id", "parent_id", "project_id", "directory", "title", "version", "time_created"})
_NEEDED: Final[Mapping[str, frozenset[str]]] = {
    "session": _SESSION_1,
    "message": frozenset({"id", "session_id", "time_created", "data"}),
    "part": frozenset({"id", "message_id", "session_id", "time_created", "data"}),
    "event": frozenset({"id", "aggregate_id", "seq", "type", "data"}),
    "session_v2": _SESSION_1,
    "session_message": frozenset({"id", "session_id", "type", "seq", "time_created", "data"}),
    "project": frozenset({"id", "worktree"}),
}
"""The tables that are read, and what is read of them: a table that lacks it is of a version that is not known."""
_USAGE: Final = ("tokens_input", "tokens_output", "tokens_reasoning", "tokens_cache_read", "tokens_cache_write", "cost")
_MAX_EXPORT_BYTES: Final = 1024 * 1024 * 1024


class Store:
    """One database; OpenCode may be writing it meanwhile. Threads may take turns."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            StoreError: it can't be read, or is of a version that is not known.
        """
        self.path = path
        self.label = str(path)
        self.data_home = path.parent.parent if path.parent.name == "opencode" else None
        if not path.is_file():
            raise StoreError(f"there is no database {path}: name OpenCode's with --store.")
        self._connection = self._opened()
        try:
            self._tables = self._known_tables()
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def sessions(self) -> Iterator[StoredSession]:
        """All sessions, the oldest first."""
        found: dict[str, StoredSession] = {}
        try:
            for table, api in (("session", 1), ("session_v2", 2)):
                for row in self._rows(self._session_query(table)) if table in self._tables else ():
                    one = self._session(row, api)
                    begun = found.get(one.id, one)
                    found[one.id] = begun._replace(title=one.title, updated_ms=one.updated_ms, usage=one.usage)
        except sqlite3.Error as exc:
            raise self._unreadable(exc) from None
        yield from sorted(found.values(), key=lambda one: (one.created_ms, one.id))

    def hooks(self, session: StoredSession) -> Iterator[StoredHook]:
        """The hooks that the session's plugin would have been called with, in order."""
        try:
            yield from self._hooks(session)
        except sqlite3.Error as exc:
            raise self._unreadable(exc) from None

    def emptied(self) -> list[StoredSession]:
        """Sessions of 1.x whose log of events went with the upgrade to 2.x; their messages are left.

        Raises:
            StoreError: it can't be read.
        """
        if not {"session", "session_v2", "event"} <= self._tables.keys():
            return []
        try:
            if list(self._rows("SELECT 1 FROM event LIMIT 1")):
                return []
        except sqlite3.Error as exc:
            raise self._unreadable(exc) from None
        return [one for one in self.sessions() if one.api == 1]

    def filtered(self, session: StoredSession) -> dict[str, int]:
        """How many events of the session's log the shim leaves out, by type."""
        if not session.has_events:
            return {}
        rows = self._rows("SELECT type, data FROM event WHERE aggregate_id = ?", session.id)
        return left_out((row["type"], row["data"]) for row in rows)

    def _hooks(self, session: StoredSession) -> Iterator[StoredHook]:
        if session.api == 2:  # noqa: PLR2004 - OpenCode 2
            query = "SELECT id, type, time_created, data FROM session_message WHERE session_id = ? ORDER BY seq"
            return hooks_from_messages(_fields(session), self._rows(query, session.id))
        return chain(self._hooks_1(session), self._continued(session))

    def _hooks_1(self, session: StoredSession) -> Iterator[StoredHook]:
        if session.has_events:
            query = "SELECT id, type, data FROM event WHERE aggregate_id = ? ORDER BY seq"
            return hooks_from_events(session.created_ms, self._rows(query, session.id))
        return hooks_from_message(_fields(session), self._parted(session.id))

    def _continued(self, session: StoredSession) -> Iterator[StoredHook]:
        """What OpenCode 2 has added to a session of 1.x; a message that the upgrade has copied keeps its id."""
        if not {"session_v2", "message"} <= self._tables.keys():
            return
        query = """
            SELECT id, type, time_created, data FROM session_message
            WHERE session_id = ? AND id NOT IN (SELECT id FROM message WHERE session_id = ?) ORDER BY seq
        """
        added = self._rows(query, session.id, session.id)
        first = next(added, None)
        if first is None:
            return
        hooks = hooks_from_messages(_fields(session._replace(api=2)), chain((first,), added))
        next(hooks)  # session.created: OpenCode 1 has published it
        yield from (one._replace(api=2) for one in hooks)

    def _parted(self, session_id: str) -> Iterator[tuple[sqlite3.Row, Iterator[sqlite3.Row]]]:
        messages = "SELECT id, time_created, data FROM message WHERE session_id = ? ORDER BY time_created, id"
        parts = "SELECT id, time_created, data FROM part WHERE message_id = ? ORDER BY id"
        for row in self._rows(messages, session_id):
            yield row, self._rows(parts, row["id"])

    def _rows(self, query: str, *args: object) -> Iterator[sqlite3.Row]:
        with closing(self._connection.execute(query, args)) as cursor:
            yield from cursor

    def _session_query(self, table: str) -> str:
        columns = self._tables[table]
        usage = ", ".join(name if name in columns else f"0 AS {name}" for name in _USAGE)
        updated = "time_updated" if "time_updated" in columns else "time_created AS time_updated"
        worktree = (
            "(SELECT worktree FROM project WHERE project.id = s.project_id)" if "project" in self._tables else "NULL"
        )
        events = "0"
        if table == "session" and "event" in self._tables:
            events = "EXISTS (SELECT 1 FROM event WHERE aggregate_id = s.id AND seq = 0)"
        return (
            f"SELECT id, parent_id, project_id, directory, title, version, time_created, {updated}, {usage}, "  # noqa: S608 - constants
            f"{worktree} AS worktree, {events} AS has_events FROM {table} s ORDER BY time_created, id"
        )

    def _session(self, row: sqlite3.Row, api: int) -> StoredSession:
        directory, worktree = row["directory"] or "", row["worktree"]
        return StoredSession(
            row["id"],
            row["parent_id"],
            row["project_id"],
            directory,
            worktree if worktree and worktree != "/" else directory,
            row["title"] or "",
            row["version"] or "",
            row["time_created"],
            row["time_updated"],
            Usage(*(row[name] or 0 for name in _USAGE)),
            api,
            bool(row["has_events"]),
        )

    def _opened(self) -> sqlite3.Connection:
        try:
            connection = connect_read_only(self.path)
        except (sqlite3.Error, OSError) as exc:
            raise self._unreadable(exc) from None
        connection.row_factory = sqlite3.Row
        connection.text_factory = lambda data: data.decode(errors="replace")
        return connection

    def _known_tables(self) -> dict[str, set[str]]:
        """The tables that are read, by their columns.

        Raises:
            StoreError: there are none, or one has other columns than those that are known.
        """
        try:
            found = {
                name: {row["name"] for row in self._rows("SELECT name FROM pragma_table_info(?)", name)}
                for name in _NEEDED
            }
        except sqlite3.Error as exc:
            raise self._unreadable(exc) from None
        found = {name: columns for name, columns in found.items() if columns}
        if "session" not in found and "session_v2" not in found:
            raise StoreError(f"{self.path} holds no sessions of OpenCode 1.x or 2.x: its tables are not known here.")
        if "session" in found and not {"message", "part"} <= found.keys() and "event" not in found:
            raise StoreError(f"{self.path} has sessions of OpenCode 1.x without messages: its tables are not known.")
        if "session_v2" in found and "session_message" not in found:
            raise StoreError(f"{self.path} has sessions of OpenCode 2.x without messages: its tables are not known.")
        for name, columns in found.items():
            lacking = sorted(_NEEDED[name] - columns)
            if lacking and not (name == "session_message" and "session_v2" not in found):
                raise StoreError(
                    f"table {name} of {self.path} lacks {', '.join(lacking)}: this version of OpenCode's store is not "
                    "known here; update agent-trace-sidecar."
                )
        return found

    def _unreadable(self, exc: Exception) -> StoreError:
        return StoreError(f"{self.path} can't be read: {exc}.")


class _Export(msgspec.Struct):
    info: dict[str, Any]
    messages: list[dict[str, Any]] = []


class ExportedSession:
    """A session that `opencode export` has written to a file."""

    data_home: Path | None = None

    def __init__(self, path: Path) -> None:
        """Read it.

        Raises:
            StoreError: it is no such file, or cut off.
            OSError: it can't be read.
        """
        self.label = str(path)
        text = read_whole(path, _MAX_EXPORT_BYTES).data
        try:
            self._export = msgspec.json.decode(text[max(0, text.find(b"{")) :], type=_Export)
            self._session = self._read()
        except msgspec.ValidationError as exc:
            raise StoreError(f"{path} was not written by `opencode export`: {exc}.") from None
        except (ValueError, RecursionError):
            hint = "write it with `opencode export ID > FILE`, as a pipe may cut it off"
            raise StoreError(f"{path} is not a JSON document: {hint}.") from None

    def sessions(self) -> Iterator[StoredSession]:
        """The one session."""
        yield self._session

    def hooks(self, _: StoredSession) -> Iterator[StoredHook]:
        """The hooks that the session's plugin would have been called with, in order."""
        if self._session.api == 2:  # noqa: PLR2004 - OpenCode 2
            rows = ({**_row(one), "type": one.get("type") or ""} for one in self._export.messages)
            return hooks_from_messages(_fields(self._session), rows)
        parted = (
            (_row(one.get("info") or {}), (_row(part) for part in one.get("parts") or []))
            for one in self._export.messages
        )
        return hooks_from_message(_fields(self._session), parted)

    def filtered(self, _: StoredSession) -> dict[str, int]:
        """An export has no log."""
        return {}

    def _read(self) -> StoredSession:
        info = self._export.info
        place = {"cwd": info.get("directory") or (info.get("location") or {}).get("directory") or "", "root": ""}
        for one in self._export.messages:
            place |= (one.get("info") or {}).get("path") or {}
        time = info.get("time") or {}
        version = str(info.get("version") or "")
        known = msgspec.convert({"id": info.get("id"), "created": time.get("created")}, _Head)
        two = bool(self._export.messages) and all("info" not in one for one in self._export.messages)
        tokens = info.get("tokens") or {}
        cache = tokens.get("cache") or {}
        usage = Usage(
            tokens.get("input") or 0,
            tokens.get("output") or 0,
            tokens.get("reasoning") or 0,
            cache.get("read") or 0,
            cache.get("write") or 0,
            info.get("cost") or 0.0,
        )
        directory = str(place["cwd"])
        worktree = str(place["root"] if place["root"] not in {"", "/"} else directory)
        return StoredSession(
            known.id,
            info.get("parentID"),
            info.get("projectID"),
            directory,
            worktree,
            str(info.get("title") or ""),
            version,
            known.created,
            time.get("updated") or known.created,
            usage,
            2 if two else 1,
        )


class _Head(msgspec.Struct):
    id: str
    created: float


def _row(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A message or part of an export in the shape of its row."""
    time = fields.get("time") or {}
    created = time.get("created") or time.get("start") or (fields.get("state") or {}).get("time", {}).get("start")
    return {"id": fields.get("id") or "", "time_created": created or 0, "data": fields}


def _fields(session: StoredSession) -> dict[str, Any]:
    """A session in the words of `session.created`."""
    return {
        "id": session.id,
        **({"parentID": session.parent_id} if session.parent_id else {}),
        **({"projectID": session.project_id} if session.project_id else {}),
        "directory": session.directory,
        "title": session.title,
        "version": session.version,
        "time": {"created": session.created_ms, "updated": session.updated_ms},
        **({"usage": _usage(session.usage)} if session.api == 2 else {}),  # noqa: PLR2004 - OpenCode 2
    }


def _usage(usage: Usage) -> dict[str, Any]:
    """What a session has cost, in the words of `session.usage.updated`."""
    cache = {"read": usage.cache_read, "write": usage.cache_write}
    tokens = {"input": usage.input, "output": usage.output, "reasoning": usage.reasoning, "cache": cache}
    return {"cost": usage.cost, "tokens": tokens}
