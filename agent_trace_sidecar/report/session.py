"""What the page of a session shows, in the order in which it happened; figures come from the views."""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import asyncpg
import msgspec

from agent_trace_sidecar.report.changes import FileChange, changes_of
from agent_trace_sidecar.report.cost import SessionFacts, prompts_of, session_facts
from agent_trace_sidecar.report.gaps import Loss, losses_of
from agent_trace_sidecar.report.repository import Progress, ReportError

MAX_SESSIONS: Final = 500
"""Subagents and theirs."""
MAX_CHARS: Final = 20_000
"""Of one text: a prompt, an argument, an output."""
_IN_CHANGE: Final = frozenset({"content", "oldString", "newString", "patchText"})
"""Arguments whose text a change shows."""
_SHORT_CHARS: Final = 200
_INDEX: Final = re.compile(r"^Index: [^\n]*\n=+\n", re.MULTILINE)
"""What the diff of a file begins with besides the two names."""
_NEAR: Final = timedelta(days=1)
"""A subagent begins while its parent is at work: other months are not searched for it."""

_CHILDREN: Final = """
SELECT DISTINCT session_id FROM agent_trace_events
WHERE event_name = 'session.created' AND payload #>> '{input,event,properties,info,parentID}' = $1
  AND occurred_at BETWEEN $2 AND $3
"""
_TEXTS: Final = """
SELECT message_id, occurred_at, payload #>> '{input,event,properties,part,id}' AS part,
       payload #>> '{input,event,properties,part,type}' AS kind,
       left(payload #>> '{input,event,properties,part,text}', $2) AS text
FROM agent_trace_events
WHERE session_id = $1 AND event_name = 'message.part.updated'
  AND payload #>> '{input,event,properties,part,type}' IN ('text', 'reasoning')
  AND payload #> '{input,event,properties,part,synthetic}' IS DISTINCT FROM 'true'::jsonb
ORDER BY occurred_at, seq
"""
_PROMPTS: Final = """
SELECT message_id, asked_at, left(prompt, $2) AS prompt FROM agent_trace_prompts WHERE session_id = $1 ORDER BY asked_at
"""
_CALLS: Final = """
SELECT message_id, call_id, tool, status, started_at, finished_at, seconds::float8 AS seconds, left(error, $2) AS error
FROM agent_trace_calls WHERE session_id = $1 ORDER BY finished_at
"""
# OpenCode 1 reports a call in a part, OpenCode 2 in the hook after it.
_CONTENTS: Final = """
SELECT message_id, call_id, left(state ->> 'title', 300) AS title, left((state -> 'input')::text, $2) AS input,
       left(state ->> 'output', $2) AS output, left(state #>> '{metadata,diff}', $2) AS diff,
       left(state #>> '{input,content}', $2) AS content, state #>> '{input,filePath}' AS file,
       state #>> '{metadata,exists}' AS existed, state #>> '{metadata,sessionId}' AS child,
       state #>> '{metadata,exit}' AS code, NULL AS files
FROM (
    SELECT message_id, call_id, payload #> '{input,event,properties,part,state}' AS state FROM agent_trace_events
    WHERE session_id = $1 AND event_name = 'message.part.updated' AND tool IS NOT NULL
) part
WHERE state ->> 'status' IN ('completed', 'error')
UNION ALL
SELECT message_id, call_id,
       left(coalesce(payload #>> '{input,input,path}', payload #>> '{input,input,description}',
                     payload #>> '{input,input,command}'), 300),
       left((payload #> '{input,input}')::text, $2),
       left(coalesce(payload #>> '{input,result,output,output}', payload #>> '{input,result,content,0,text}',
                     payload #>> '{input,result}'), $2),
       NULL, left(payload #>> '{input,input,content}', $2), payload #>> '{input,input,path}',
       payload #>> '{input,result,output,existed}', payload #>> '{input,result,metadata,sessionId}',
       payload #>> '{input,result,metadata,exit}', left(payload #>> '{input,result,metadata,files}', $2)
FROM agent_trace_events
WHERE session_id = $1 AND event_name = 'tool.execute.after' AND payload #>> '{input,status}' IN ('completed', 'error')
"""
_BEGUN: Final = """
SELECT message_id, call_id, tool, occurred_at, left((payload #> '{output,args}')::text, $2) AS input
FROM agent_trace_events WHERE session_id = $1 AND event_name = 'tool.execute.before'
"""
_STEPS: Final = """
SELECT message_id, model_id, finished_at, reason, cost::float8 AS cost,
       (coalesce(input_tokens, 0) + coalesce(output_tokens, 0) + coalesce(reasoning_tokens, 0)
        + coalesce(cache_read_tokens, 0) + coalesce(cache_write_tokens, 0))::float8 AS tokens
FROM agent_trace_steps WHERE session_id = $1 ORDER BY finished_at
"""
_UNDOING: Final = """
SELECT occurred_at, event_name, message_id,
       coalesce(payload #>> '{input,event,properties,info,revert,messageID}',
                payload #>> '{input,event,properties,revert,messageID}') AS back_to
FROM agent_trace_events
WHERE session_id = $1
  AND event_name IN ('session.updated', 'session.revert.staged', 'session.revert.cleared', 'message.removed')
ORDER BY occurred_at, seq
"""
_ERRORS: Final = """
SELECT occurred_at, left(payload #>> '{input,event,properties,error}', $2) AS error FROM agent_trace_events
WHERE session_id = $1 AND event_name = 'session.error' ORDER BY occurred_at
"""


class Body(NamedTuple):
    """A part of an item that is opened on demand."""

    label: str
    text: str
    is_diff: bool = False


class Item(msgspec.Struct):
    """One thing that happened."""

    at: datetime
    kind: str
    """prompt, text, thinking, call, step, undo, redo, error, gap or dead."""
    session: str
    title: str = ""
    """Names and figures, in no case a content."""
    text: str = ""
    """The text of a message."""
    message: str | None = None
    status: str = ""
    code: str = ""
    """What a shell command gave back."""
    seconds: float | None = None
    bodies: list[Body] = []
    changes: list[FileChange] = []
    child: str | None = None
    reason: str = ""
    """Why a step ended, e.g. stop, tool-calls or error."""
    tokens: int = 0
    cost: float | None = None
    """US dollars of a step; None where it has no price."""
    undone: bool = False


class Session(NamedTuple):
    """All that the page shows."""

    facts: dict[str, SessionFacts]
    """The session first, then its subagents'."""
    items: dict[str, list[Item]]
    parents: dict[str, list[str]]
    """The sessions that each one has started."""
    notes: list[str]

    @property
    def root(self) -> SessionFacts:
        """The requested session."""
        return next(iter(self.facts.values()))


async def gather(connection: asyncpg.Connection, session_id: str, progress: Progress) -> Session:
    """Read a session and its subagents'.

    Raises:
        ReportError: nothing of it is stored.
    """
    found = await session_facts(connection, session_id)
    if found is None:
        raise ReportError(f"session {session_id!r} is not recorded; the view agent_trace_sessions lists all sessions.")
    facts, parents, notes = {session_id: found}, dict[str, list[str]](), list[str]()
    waiting = [found]
    while waiting:
        one = waiting.pop()
        children = await _children(connection, one)
        parents[one.session_id] = [name for name in children if name not in facts]
        for name in parents[one.session_id]:
            if len(facts) >= MAX_SESSIONS:
                notes = [f"Only {MAX_SESSIONS} subagents are shown: report the others with --session."]
                break
            facts[name] = (await session_facts(connection, name)) or SessionFacts(name)
            waiting.append(facts[name])
    items = {}
    for at, name in enumerate(facts):
        progress("sessions read", at, len(facts))
        items[name] = await _items(connection, facts[name])
    progress("sessions read", len(facts), len(facts))
    return Session(facts, items, parents, notes)


async def _children(connection: asyncpg.Connection, one: SessionFacts) -> list[str]:
    if one.started_at is None or one.last_event_at is None:
        return []
    rows = await connection.fetch(_CHILDREN, one.session_id, one.started_at - _NEAR, one.last_event_at + _NEAR)
    return sorted(row["session_id"] for row in rows if row["session_id"])


async def _items(connection: asyncpg.Connection, facts: SessionFacts) -> list[Item]:
    name = facts.session_id
    prompts = await prompts_of(connection, name)
    items = [*await _prompts_and_answers(connection, name, prompts), *await _called(connection, name)]
    for row in await connection.fetch(_STEPS, name):
        item = Item(row["finished_at"], "step", name, row["model_id"] or "unknown model", message=row["message_id"])
        item.reason, item.tokens, item.cost = row["reason"] or "ended", int(row["tokens"]), row["cost"]
        items.append(item)
    items += [
        Item(row["occurred_at"], "error", name, "The session failed", bodies=[Body("Error", row["error"] or "")])
        for row in await connection.fetch(_ERRORS, name, MAX_CHARS)
    ]
    items += [_lost(name, loss) for loss in await losses_of(connection, facts)]
    items.sort(key=lambda one: one.at)
    return await _with_undoing(connection, name, items)


async def _prompts_and_answers(connection: asyncpg.Connection, name: str, prompts: dict[str, str]) -> list[Item]:
    """Prompts and answers; a text that came in several versions counts as it was last, where it was first."""
    rows = await connection.fetch(_PROMPTS, name, MAX_CHARS)
    people = {row["message_id"] for row in rows}
    items = [Item(row["asked_at"], "prompt", name, text=row["prompt"] or "", message=row["message_id"]) for row in rows]
    parts: dict[str, Item] = {}
    for row in await connection.fetch(_TEXTS, name, MAX_CHARS):
        if row["message_id"] in people or not (row["text"] or "").strip():
            continue
        kind = "text" if row["kind"] == "text" else "thinking"
        known = parts.setdefault(
            row["part"] or str(len(parts)), Item(row["occurred_at"], kind, name, message=row["message_id"])
        )
        known.text = row["text"]
    return items + [one for one in parts.values() if one.message in prompts or one.message not in people]


async def _called(connection: asyncpg.Connection, name: str) -> list[Item]:
    contents = {(row["message_id"], row["call_id"]): row for row in await connection.fetch(_CONTENTS, name, MAX_CHARS)}
    changes = await changes_of(connection, name)
    begun = {(row["message_id"], row["call_id"]): row for row in await connection.fetch(_BEGUN, name, MAX_CHARS)}
    items = []
    for row in await connection.fetch(_CALLS, name, MAX_CHARS):
        key = row["message_id"], row["call_id"]
        begun.pop(key, None)
        item = Item(row["started_at"] or row["finished_at"], "call", name, row["tool"] or "a tool", message=key[0])
        item.status, item.seconds, item.changes = row["status"], row["seconds"], changes.get(key, [])
        if key in contents:
            item.text, item.child = contents[key]["title"] or "", contents[key]["child"]
            item.bodies = list(_bodies(contents[key]))
            item.code = contents[key]["code"] or ""
        if row["error"]:
            item.bodies = [Body("Error", row["error"]), *item.bodies]
        items.append(item)
    for (message, call), row in begun.items():
        item = Item(row["occurred_at"], "call", name, row["tool"] or "a tool", message=message, status="never ended")
        item.bodies = list(_arguments(row["input"] or "", has_change=False))
        item.changes = changes.get((message, call), [])
        items.append(item)
    return items


def _bodies(row: asyncpg.Record) -> Iterator[Body]:
    has_change = True
    if diff := row["diff"] or _patches(row["files"] or ""):
        yield Body("Change", _INDEX.sub("", diff), is_diff=True)
    elif row["content"] and row["existed"] == "false":
        lines = "".join(f"+{line}\n" for line in row["content"].removesuffix("\n").split("\n"))
        yield Body("Change", f"+++ {row['file']}\n{lines}", is_diff=True)
    else:
        has_change = False
    yield from _arguments(row["input"] or "", has_change=has_change)
    if row["output"]:
        yield Body("Output", row["output"])


def _patches(text: str) -> str:
    """The diffs of the files that a result of OpenCode 2 lists; nothing where the list was cut off."""
    try:
        files = msgspec.json.decode(text or "[]")
    except msgspec.DecodeError:
        return ""
    found = [file.get("patch") for file in files if isinstance(file, dict)] if isinstance(files, list) else []
    return "".join(f"{one.rstrip()}\n" for one in found if isinstance(one, str) and one)


def _arguments(text: str, *, has_change: bool) -> Iterator[Body]:
    """What a call was given: short values in lines, each long one by itself; not what its change shows already."""
    try:
        given = msgspec.json.decode(text)
    except msgspec.DecodeError:  # cut off, or none
        given = None
    if not isinstance(given, dict):
        if text and not has_change:
            yield Body("Arguments", text)
        return
    left = {
        name: value if isinstance(value, str) else msgspec.json.encode(value).decode()
        for name, value in given.items()
        if not (has_change and name in _IN_CHANGE)
    }
    short = [f"{name}: {value}" for name, value in left.items() if not _is_long(value)]
    if short:
        yield Body("Arguments", "\n".join(short))
    for name, value in left.items():
        if _is_long(value):
            yield Body(f"Argument {name}", value)


def _is_long(value: str) -> bool:
    return "\n" in value or len(value) > _SHORT_CHARS


def _lost(name: str, loss: Loss) -> Item:
    bodies = [Body("Line", loss.line)] if loss.line else []
    return Item(loss.at, loss.kind, name, loss.sentence, loss.error, bodies=bodies)


# -- undoing ---------------------------------------------------------------------------------------------------


async def _with_undoing(connection: asyncpg.Connection, name: str, items: list[Item]) -> list[Item]:
    """Mark what was undone, with the times of the undo and of its return."""
    back_to: str | None = None
    more = []
    for row in await connection.fetch(_UNDOING, name):
        if row["event_name"] == "message.removed":
            for item in items:
                item.undone |= item.message == row["message_id"]
            continue
        if row["back_to"] == back_to:
            continue
        if back_to is not None:
            _mark(items, back_to, row["occurred_at"], undone=False)
        if row["back_to"] is not None:
            _mark(items, row["back_to"], row["occurred_at"], undone=True)
        title = "Messages undone" if row["back_to"] else "Undone messages restored, or removed for good"
        more.append(Item(row["occurred_at"], "undo" if row["back_to"] else "redo", name, title))
        back_to = row["back_to"]
    for item in items:
        item.undone |= bool(item.changes) and all(change.undone for change in item.changes)
    return sorted([*items, *more], key=lambda one: one.at)


def _mark(items: Iterable[Item], message: str, before: datetime, *, undone: bool) -> None:
    first = next((item.at for item in items if item.message == message), None)
    if first is not None:
        for item in items:
            if first <= item.at < before:
                item.undone = undone
