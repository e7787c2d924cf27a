"""Rows of OpenCode's store as the hooks that the plugin was called with, or would have been; pure.

An event's `key` names its subject in OpenCode's own ids. The same key comes from a stored row and from a recorded
event (`keys_of`), so that what was recorded live is recognised; and the ids of backfilled events are derived from it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, Protocol

import msgspec


class Row(Protocol):
    """A row of a table, or an object of an export."""

    def __getitem__(self, name: str, /) -> Any: ...  # noqa: ANN401 - a column


Fields = Mapping[str, Any]


class StoredHook(NamedTuple):
    """One hook, as the shim would have sent it."""

    keys: tuple[str, ...]
    """Its subjects; the first one gives it its id. An event of which one key was recorded was recorded."""
    at_ms: float
    hook: str
    input: msgspec.Raw
    kind: str
    """What `reconcile` counts it as."""
    message_id: str | None = None
    output: msgspec.Raw = msgspec.Raw()
    root: str | None = None
    """The worktree, where the row itself names it."""
    api: int | None = None
    """The plugin API; None where it is that of the session."""


FORWARDED_1: Final = frozenset(
    """session.created session.updated session.deleted session.error session.idle session.compacted message.updated
    message.removed message.part.removed command.executed file.edited todo.updated vcs.branch.updated permission.asked
    permission.replied""".split()  # noqa: SIM905 - the same text as in the shim
)
"""The bus events of OpenCode 1 that the shim sends whole; of `message.part.updated` those of `_is_final`."""
_VERSIONED: Final = re.compile(r"\.\d+$")
_ALWAYS: Final = frozenset({"step-start", "step-finish", "patch"})
_MS_BITS: Final = 36
"""So many bits of a time in milliseconds stand in an id of OpenCode's, in front of a counter of 12 bits."""


class _Time(msgspec.Struct):
    start: float | None = None
    end: float | None = None
    created: float | None = None
    completed: float | None = None


class _State(msgspec.Struct):
    status: str | None = None


class _Part(msgspec.Struct):
    id: str = ""
    type: str = ""
    message_id: str | None = msgspec.field(default=None, name="messageID")
    state: _State | None = None
    time: _Time | None = None


class _Info(msgspec.Struct):
    id: str = ""
    role: str | None = None
    time: _Time | None = None
    path: Any = None
    """A message's places; of a session it is a text."""


class _Properties(msgspec.Struct):
    session_id: str | None = msgspec.field(default=None, name="sessionID")
    message_id: str | None = msgspec.field(default=None, name="messageID")
    assistant_id: str | None = msgspec.field(default=None, name="assistantMessageID")
    inbox_id: str | None = msgspec.field(default=None, name="inboxID")
    id: str | None = None
    call_id: str | None = msgspec.field(default=None, name="callID")
    ordinal: int | None = None
    time: float | None = None
    part: _Part | None = None
    info: _Info | None = None
    cost: Any = None
    tokens: Any = None


class _Bus(msgspec.Struct):
    type: str = ""
    id: str | None = None
    properties: _Properties = msgspec.field(default_factory=_Properties)


class _Given(msgspec.Struct):
    """A hook's input: an event's, or a call's."""

    event: _Bus | None = None
    session_id: str | None = msgspec.field(default=None, name="sessionID")
    message_id: str | None = msgspec.field(default=None, name="messageID")
    id: str | None = None
    call_id: str | None = msgspec.field(default=None, name="callID")


_given: Final = msgspec.json.Decoder(_Given)
_properties: Final = msgspec.json.Decoder(_Properties)


def keys_of(hook: str, given: bytes) -> tuple[str, ...]:
    """The subjects of a recorded event; empty where it names nothing that a store knows.

    Args:
        hook: the wire's `hook`.
        given: its `input` as JSON.
    """
    try:
        found = _given.decode(given)
    except (ValueError, RecursionError):
        return ()
    if found.event is None:
        call = found.id or found.call_id
        return (f"{hook}:{found.session_id}:{found.message_id or ''}:{call}",) if call else ()
    own = (f"evt:{found.event.id.partition('_')[2]}",) if found.event.id else ()
    return (*own, *_content_keys(found.event.type, found.event.properties))


def api_of(hook: str, given: bytes) -> int | None:
    """The plugin API that an event came from, by its form; None where both have it."""
    try:
        found = _given.decode(given)
    except (ValueError, RecursionError):
        return None
    if found.event is None:
        return (2 if found.message_id else 1) if hook.startswith("tool.execute.") else 1
    if found.event.type not in FORWARDED_1 | {"message.created", "message.part.updated"}:
        return 2
    told = found.event.properties
    return 1 if told.info is not None or told.part is not None else None


def _content_keys(name: str, data: _Properties) -> Iterator[str]:
    """The subjects of an event, by the ids of its content: for logs without ids of events, and rows without events."""
    if name == "message.part.updated" and data.part is not None:
        yield f"part:{data.part.id}:{data.part.state.status if data.part.state else ''}"
    elif name in {"message.updated", "message.created"} and data.info is not None:
        done = bool(data.info.time and data.info.time.completed) or data.info.role == "user"
        yield f"message:{data.info.id}:{'completed' if done else 'created'}"
    elif name == "session.created":
        yield f"session:{(data.info.id if data.info else None) or data.session_id}"
    elif data.assistant_id is not None:
        place = "" if data.ordinal is None else data.ordinal
        yield f"{name}:{data.assistant_id}:{data.id or data.call_id or ''}:{place}"
    elif data.inbox_id is not None:
        yield f"{name}:{data.inbox_id}"
    elif name == "session.usage.updated" and isinstance(data.tokens, dict):
        used = [data.tokens.get(kind) for kind in ("input", "output", "reasoning")]
        yield f"{name}:{data.session_id}:{used}:{float(data.cost or 0):.9g}"
    elif data.id is not None and data.session_id is not None:
        yield f"{name}:{data.id}"


def id_time_ms(own_id: str, near_ms: float) -> float:
    """When an id of OpenCode's was made: it holds the last 36 bits of the time, so the rest is taken from near it."""
    text = own_id.partition("_")[2][:9]
    try:
        low = int(text, 16)
    except ValueError:
        return near_ms
    span = 1 << _MS_BITS
    base = int(near_ms) - int(near_ms) % span
    return min((base + low + turn * span for turn in (-1, 0, 1)), key=lambda at: abs(at - near_ms))


class Known:
    """What of some sessions is stored already."""

    def __init__(self) -> None:
        self._events: set[str] = set()
        self._contents: set[str] = set()
        self._nameless: set[str] = set()

    def add(self, hook: str, given: bytes) -> None:
        """An event is stored: its hook, and its input as JSON."""
        keys = keys_of(hook, given)
        events = [key for key in keys if key.startswith("evt:")]
        contents = [key for key in keys if not key.startswith("evt:")]
        self._events.update(events)
        self._contents.update(contents)
        if not events:
            self._nameless.update(contents)

    def __contains__(self, hook: StoredHook) -> bool:
        """Whether it is. An event that has an id of its own is another one than those with other ids."""
        first = hook.keys[0]
        if first.startswith("evt:"):
            return first in self._events or any(key in self._nameless for key in hook.keys[1:])
        return any(key in self._contents or key in self._events for key in hook.keys)


# -- 1.x, the log of events ------------------------------------------------------------------------------------------


def hooks_from_events(created_ms: float, rows: Iterable[Row]) -> Iterator[StoredHook]:
    """The events of one session; rows are `id, type, data`. Those that the shim leaves out are left out here."""
    for row in rows:
        name, data = _VERSIONED.sub("", row["type"]), row["data"].encode()
        try:
            known = _properties.decode(data)
        except (ValueError, RecursionError):
            known = _Properties()
        if not _is_forwarded(name, known):
            continue
        head = msgspec.json.encode({"id": row["id"], "type": name})
        given = b'{"event":' + head[:-1] + b',"properties":' + data + b"}}"
        at = known.time or id_time_ms(row["id"], created_ms)
        yield StoredHook(
            (f"evt:{row['id'].partition('_')[2]}", *_content_keys(name, known)),
            at,
            "event",
            msgspec.Raw(given),
            _kind_1(name, known),
            _message_of(known),
            root=_worktree(known),
        )


def left_out(rows: Iterable[tuple[str, str]]) -> dict[str, int]:
    """How many events of a log the shim leaves out, by type; rows are type and data."""
    found: dict[str, int] = {}
    for full_name, data in rows:
        name = _VERSIONED.sub("", full_name)
        try:
            known = _properties.decode(data)
        except (ValueError, RecursionError):
            known = _Properties()
        if not _is_forwarded(name, known):
            found[name] = found.get(name, 0) + 1
    return found


def _is_forwarded(name: str, data: _Properties) -> bool:
    if name == "message.part.updated":
        return data.part is not None and _is_final(data.part)
    return name in FORWARDED_1


def _is_final(part: _Part) -> bool:
    """Whether the shim sends this part, see PARTS there."""
    if part.type == "tool":
        return part.state is not None and part.state.status in {"pending", "completed", "error"}
    if part.type == "text":
        return part.time is None or part.time.end is not None
    if part.type == "reasoning":
        return part.time is not None and part.time.end is not None
    return part.type in _ALWAYS


def _worktree(data: _Properties) -> str | None:
    places = data.info.path if data.info is not None else None
    root = places.get("root") if isinstance(places, dict) else None
    return root if isinstance(root, str) else None


def _kind_1(name: str, data: _Properties) -> str:
    """The words of the ledger."""
    if name == "message.part.updated" and data.part is not None:
        if data.part.type == "tool" and data.part.state and data.part.state.status in {"completed", "error"}:
            return "calls"
        if data.part.type == "step-finish":
            return "steps"
    if name == "message.updated" and data.info is not None:
        return "messages"
    return "other"


def _message_of(data: _Properties) -> str | None:
    if data.part is not None:
        return data.part.message_id
    return data.message_id or data.assistant_id or (data.info.id if data.info else None)


# -- 1.x, messages and parts -----------------------------------------------------------------------------------------


def hooks_from_message(
    session: Mapping[str, Any], messages: Iterable[tuple[Row, Iterable[Row]]]
) -> Iterator[StoredHook]:
    """A session of which only messages and their parts are left; rows are `id, time_created, data`.

    Args:
        session: the words of `session.created`.
        messages: each message with its parts.
    """
    session_id, at = session["id"], float(session["time"]["created"])
    yield _event("session.created", {"sessionID": session_id, "info": session}, at, "other")
    for row, parts in messages:
        info = {**_data(row), "id": row["id"], "sessionID": session_id}
        time = info.get("time") or {}
        at = max(at, float(time.get("created") or row["time_created"] or at))
        root = (info.get("path") or {}).get("root")
        done = time.get("completed")
        early = {**info, "time": {"created": time.get("created")}} if done else info
        early = {name: value for name, value in early.items() if not done or name not in {"tokens", "cost", "finish"}}
        yield _event("message.updated", {"sessionID": session_id, "info": early}, at, "messages", root)
        for part_row in parts:
            part = {**_data(part_row), "id": part_row["id"], "sessionID": session_id, "messageID": row["id"]}
            at = max(at, _part_ms(part, part_row))
            hook = _event("message.part.updated", {"sessionID": session_id, "part": part}, at, "other", root)
            known = msgspec.convert(part, _Part)
            if _is_final(known):
                yield hook._replace(kind=_kind_1("message.part.updated", _Properties(part=known)))
        if done:
            at = max(at, float(done))
            yield _event("message.updated", {"sessionID": session_id, "info": info}, at, "messages", root)
    revert = session.get("revert")
    if revert:
        yield _event("session.updated", {"sessionID": session_id, "info": session}, at, "other")


def _part_ms(part: Mapping[str, Any], row: Row) -> float:
    """When a part got its last word."""
    state = part.get("state")
    times = (state if isinstance(state, dict) else part).get("time")
    times = times if isinstance(times, dict) else {}
    return float(times.get("end") or times.get("start") or row["time_created"] or 0)


def _event(  # noqa: PLR0917 - the last two are seldom given
    name: str, data: Mapping[str, Any], at_ms: float, kind: str, root: str | None = None, own_id: str | None = None
) -> StoredHook:
    """An event that was made of a row."""
    known = msgspec.convert(data, _Properties)
    keys = tuple(_content_keys(name, known)) or (f"{name}:{known.session_id}:{at_ms:.0f}",)
    bus: dict[str, Any] = {"type": name, "properties": data}
    if own_id:
        tail = own_id.partition("_")[2]
        keys, bus = (f"evt:{tail}",), {"id": f"evt_{tail}", **bus}
    given = msgspec.json.encode({"event": bus})
    return StoredHook(keys, at_ms, "event", msgspec.Raw(given), kind, _message_of(known), root=root)


def _data(row: Row) -> dict[str, Any]:
    """A row's JSON; nothing where it is none."""
    data = row["data"]
    if isinstance(data, dict):
        return data
    try:
        found = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


# -- 2.x -------------------------------------------------------------------------------------------------------------


def hooks_from_messages(session: Mapping[str, Any], rows: Iterable[Row]) -> Iterator[StoredHook]:
    """A session of OpenCode 2; rows are `id, type, time_created, data`.

    Args:
        session: the words of `session.created`.
        rows: its messages in order.
    """
    own = {"sessionID": session["id"]}
    data = {name: session[name] for name in ("projectID", "parentID", "title", "version") if name in session}
    created = last = float(session["time"]["created"])
    yield _event("session.created", {**own, "location": {"directory": session["directory"]}, **data}, created, "other")
    for row in rows:
        message = _data(row)
        time = message.get("time") if isinstance(message.get("time"), dict) else {}
        at = float((time or {}).get("created") or row["time_created"] or created)
        last = max(last, at)
        reader = _MESSAGES.get(row["type"])
        if reader is not None:
            yield from reader(own, row["id"], message, at)
    if "usage" in session:
        last = max(last, float(session["time"]["updated"]))
        yield _event("session.usage.updated", {**own, **session["usage"]}, last, "other")


def _prompt(own: Fields, message_id: str, message: Fields, at: float) -> Iterator[StoredHook]:
    item = {"type": "user", "payload": {name: message[name] for name in ("text", "files") if name in message}}
    yield _event("session.inbox.enqueued", {**own, "inboxID": message_id, "item": item}, at, "messages")


def _synthetic(own: Fields, message_id: str, message: Fields, at: float) -> Iterator[StoredHook]:
    names = ("text", "description", "metadata")
    item = {"type": "synthetic", "payload": {name: message[name] for name in names if name in message}}
    yield _event("session.inbox.enqueued", {**own, "inboxID": message_id, "item": item}, at, "messages")


def _answer(own: Fields, message_id: str, message: Fields, at: float) -> Iterator[StoredHook]:
    """A step, with its texts and calls."""
    ids = {**own, "assistantMessageID": message_id}
    snapshot = message.get("snapshot") if isinstance(message.get("snapshot"), dict) else {}
    snapshot = snapshot or {}
    begun = {**ids, "agent": message.get("agent"), "model": message.get("model"), "snapshot": snapshot.get("start")}
    yield _event("session.step.started", _known(begun), at, "other")
    last, texts = at, 0
    for part in message.get("content") or []:
        if not isinstance(part, dict):
            continue
        if part.get("type") in {"text", "reasoning"}:
            ended = {**ids, "ordinal": texts, "text": part.get("text")}
            texts += part["type"] == "text"
            yield _event(f"session.{part['type']}.ended", ended, last, "other")
        elif part.get("type") == "tool":
            for hook in _call(own, message_id, message, part, last):
                last = max(last, hook.at_ms)
                yield hook
    done = (message.get("time") or {}).get("completed")
    if done:
        failed = bool(message.get("error"))
        names = ("finish", "rawFinish", "cost", "tokens", "error")
        ended = {**ids, **{name: message.get(name) for name in names}, "snapshot": snapshot.get("end")}
        ended["files"] = snapshot.get("files")
        name = "session.step.failed" if failed else "session.step.ended"
        yield _event(name, _known(ended), max(last, float(done)), "steps")


def _call(own: Fields, message_id: str, message: Fields, part: Fields, at: float) -> Iterator[StoredHook]:
    """A call's hooks. Whether a written file existed is in the tool's answer, not in the store."""
    state = part.get("state") if isinstance(part.get("state"), dict) else {}
    state = state or {}
    time = part.get("time") if isinstance(part.get("time"), dict) else {}
    time = time or {}
    call, tool = str(part.get("id") or ""), str(part.get("name") or "")
    ids = {**own, "assistantMessageID": message_id, "id": call}
    began = float(time.get("ran") or time.get("created") or at)
    yield _event("session.tool.input.started", {**ids, "name": tool}, float(time.get("created") or at), "other")
    given = {"tool": tool, **own, "agent": message.get("agent"), "messageID": message_id, "id": call}
    given["input"] = state.get("input")
    yield _hook("tool.execute.before", given, began, "other")
    if state.get("status") not in {"completed", "error"}:
        return
    given["status"] = state["status"]
    if state["status"] == "error":
        given["error"] = state.get("error")
    else:
        content = state.get("content") or []
        answer = " ".join(str(one.get("text") or "") for one in content if isinstance(one, dict))
        output = {"existed": not answer.startswith("Created file")} if tool == "write" else {}
        metadata = state.get("metadata") or {}
        output |= {name: metadata[name] for name in ("shellID", "status", "exit") if name in metadata}
        given["result"] = {"output": output, "content": content, "metadata": metadata}
    yield _hook("tool.execute.after", given, float(time.get("completed") or began), "calls")


def _hook(hook: str, given: Mapping[str, Any], at_ms: float, kind: str) -> StoredHook:
    key = f"{hook}:{given['sessionID']}:{given['messageID']}:{given['id']}"
    return StoredHook((key,), at_ms, hook, msgspec.Raw(msgspec.json.encode(_known(given))), kind, given["messageID"])


def _idle(own: Fields, message_id: str, message: Fields, at: float) -> Iterator[StoredHook]:
    """The row's id is that of the event, but for its first letters."""
    outcome = message.get("outcome")
    name = outcome if outcome in {"succeeded", "failed", "interrupted"} else "succeeded"
    yield _event(f"session.execution.{name}", own, at, "other", own_id=message_id)


def _shell(own: Fields, message_id: str, message: Fields, at: float) -> Iterator[StoredHook]:
    """A command that a person ran."""
    yield _event("session.shell.ended", {**own, **message, "id": message_id}, at, "other")


def _compaction(own: Fields, message_id: str, message: Fields, at: float) -> Iterator[StoredHook]:
    yield _event("session.compaction.ended", {**own, **message, "id": message_id}, at, "other")


_MESSAGES: Final = {
    "user": _prompt,
    "synthetic": _synthetic,
    "assistant": _answer,
    "idle": _idle,
    "shell": _shell,
    "compaction": _compaction,
}


def _known(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
