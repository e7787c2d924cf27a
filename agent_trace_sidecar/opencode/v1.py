"""OpenCode 1.x: its hooks and bus events, read without decoding more than is needed.

One decoding pass over `input` takes the ids and the few fields that state is made of; arguments and outputs of tools
are left as raw JSON for `file_edits`, which only calls of file-changing tools reach. A value of an unexpected type
costs the line its meaning, never its place: it is read again leniently for its ids and stored with a note.
"""

import re
from typing import Final

import msgspec

from agent_trace_sidecar.opencode.events import (
    CallDone,
    CallFailed,
    CallOpened,
    CallTimes,
    Event,
    Hello,
    MessageRemoved,
    MessageSeen,
    PermissionAsked,
    PermissionReplied,
    Seen,
    SessionSeen,
    StepBegan,
    StepEnded,
    StepPatched,
    Undone,
    UserCommand,
)
from agent_trace_sidecar.opencode.wire import EMPTY, MASK, Envelope

_USER_COMMAND: Final = b'"The following tool was executed by the user"'


class _Time(msgspec.Struct, gc=False):
    created: float | None = None
    completed: float | None = None
    end: float | None = None
    compacted: float | None = None


class _State(msgspec.Struct, gc=False):
    status: str | None = None
    input: msgspec.Raw = EMPTY
    metadata: msgspec.Raw = EMPTY
    title: str | None = None
    time: _Time | None = None


class _Part(msgspec.Struct, gc=False):
    id: str | None = None
    type: str | None = None
    session_id: str | None = msgspec.field(default=None, name="sessionID")
    message_id: str | None = msgspec.field(default=None, name="messageID")
    call_id: str | None = msgspec.field(default=None, name="callID")
    tool: str | None = None
    state: _State | None = None
    synthetic: bool | None = None
    snapshot: str | None = None
    text: msgspec.Raw = EMPTY
    hash: str | None = None
    files: msgspec.Raw = EMPTY


_CHANGED: Final = re.compile(r"^diff --git a/(.*) b/\1$", re.MULTILINE)
_RENAMED: Final = re.compile(r"^rename from (.*)\nrename to (.*)$", re.MULTILINE)
_ANY_FILE: Final = re.compile(r"^diff --git ", re.MULTILINE)


class _Revert(msgspec.Struct, gc=False):
    message_id: str | None = msgspec.field(default=None, name="messageID")
    part_id: str | None = msgspec.field(default=None, name="partID")
    snapshot: str | None = None
    diff: str | None = None


class _Info(msgspec.Struct, gc=False):
    """A session's or a message's: the two share no field of different types."""

    id: str | None = None
    session_id: str | None = msgspec.field(default=None, name="sessionID")
    parent_id: str | None = msgspec.field(default=None, name="parentID")
    version: str | None = None
    role: str | None = None
    provider: str | None = msgspec.field(default=None, name="providerID")
    model_id: str | None = msgspec.field(default=None, name="modelID")
    agent: str | None = None
    mode: str | None = None
    project_id: str | None = msgspec.field(default=None, name="projectID")
    revert: _Revert | None = None
    time: _Time | None = None


class _Call(msgspec.Struct, gc=False):
    call_id: str | None = msgspec.field(default=None, name="callID")


class _Properties(msgspec.Struct, gc=False):
    session_id: str | None = msgspec.field(default=None, name="sessionID")
    message_id: str | None = msgspec.field(default=None, name="messageID")
    part_id: str | None = msgspec.field(default=None, name="partID")
    info: _Info | None = None
    part: _Part | None = None
    id: str | None = None
    request_id: str | None = msgspec.field(default=None, name="requestID")
    reply: msgspec.Raw = EMPTY
    tool: msgspec.Raw = EMPTY


class Bus(msgspec.Struct, gc=False):
    """An event of the bus."""

    type: str
    unknown: int = 0
    properties: _Properties = msgspec.field(default_factory=_Properties)


class EventInput(msgspec.Struct, gc=False):
    """The input of the hook `event`."""

    event: Bus


class ToolInput(msgspec.Struct, gc=False):
    """The input of the hooks around a call."""

    tool: str | None = None
    session_id: str | None = msgspec.field(default=None, name="sessionID")
    message_id: str | None = msgspec.field(default=None, name="messageID")
    call_id: str | None = msgspec.field(default=None, name="callID")
    args: msgspec.Raw = EMPTY


class ToolOutput(msgspec.Struct, gc=False):
    """The output of the hook after a call."""

    title: str | None = None
    metadata: msgspec.Raw = EMPTY


class _Project(msgspec.Struct, gc=False):
    id: str | None = None


class _HelloInput(msgspec.Struct, gc=False):
    opencode: str | None = None
    project: _Project | None = None


class _ChatMessage(msgspec.Struct, gc=False):
    id: str | None = None
    session_id: str | None = msgspec.field(default=None, name="sessionID")


class _ChatOutput(msgspec.Struct, gc=False):
    message: _ChatMessage | None = None


_event_input = msgspec.json.Decoder(EventInput)
_tool_input = msgspec.json.Decoder(ToolInput)
_tool_output = msgspec.json.Decoder(ToolOutput)
_call = msgspec.json.Decoder(_Call)
_paths = msgspec.json.Decoder(tuple[str, ...])
_hello_input = msgspec.json.Decoder(_HelloInput)
_chat_output = msgspec.json.Decoder(_ChatOutput)


def read(envelope: Envelope) -> Seen:
    """Read one line of OpenCode 1.x.

    Args:
        envelope: a line that `wire.parse` let through; its `input` and `output` may be any JSON, or absent.
    """
    try:
        return _read(envelope)
    except (ValueError, RecursionError):
        return _lenient(envelope)


def _read(envelope: Envelope) -> Seen:
    hook = envelope.hook
    if hook == "event":
        return bus_event(_event_input.decode(envelope.input).event)
    if hook == "tool.execute.after":
        return call_ends(_tool_input.decode(envelope.input), _tool_output.decode(envelope.output))
    if hook == "hello":
        hello = _hello_input.decode(envelope.input)
        return Seen(hook, event=Hello(hello.opencode, hello.project.id if hello.project else None))
    if len(envelope.input) == 0:
        return Seen(hook)
    given = _tool_input.decode(envelope.input)
    message_id = given.message_id
    if hook == "chat.message" and message_id is None and len(envelope.output):
        message = _chat_output.decode(envelope.output).message
        message_id = message.id if message else None
    return Seen(hook, given.session_id, message_id, given.call_id, given.tool)


def call_begins(given: ToolInput) -> Seen:
    """Read the input of the hook before a call."""
    return Seen("tool.execute.before", given.session_id, given.message_id, given.call_id, given.tool)


def call_ends(given: ToolInput, output: ToolOutput) -> Seen:
    """Read the hook after a call."""
    done = CallDone(given.tool, given.args, output.metadata, output.title) if given.tool else None
    return Seen("tool.execute.after", given.session_id, given.message_id, given.call_id, given.tool, done)


def bus_event(bus: Bus) -> Seen:
    """Read an event of the bus."""
    if bus.unknown:
        return Seen(bus.type, bus.properties.session_id, unknown=bus.unknown)
    return _known_event(bus.type, bus.properties)


def _known_event(name: str, properties: _Properties) -> Seen:
    session_id, message_id = properties.session_id, properties.message_id
    part, info = properties.part, properties.info
    if part is not None:
        session_id, message_id = part.session_id or session_id, part.message_id or message_id
        event = _part_event(part, session_id, message_id)
        return Seen(name, session_id, message_id, part.call_id, part.tool, event)
    if info is not None:
        if name.startswith("message."):
            return Seen(name, info.session_id or session_id, info.id, event=_message_event(info))
        session_id = session_id or info.id
        if name.startswith("session.") and session_id:
            return Seen(name, session_id, event=_session_event(info, session_id))
    if name in {"message.removed", "message.part.removed"} and session_id and message_id:
        return Seen(name, session_id, message_id, event=MessageRemoved(session_id, message_id, properties.part_id))
    if name in {"permission.asked", "permission.replied"} and session_id:
        return Seen(name, session_id, message_id, event=_permission_event(name, properties, session_id))
    return Seen(name, session_id, message_id)


def _permission_event(name: str, properties: _Properties, session_id: str) -> Event | None:
    if name == "permission.replied" and properties.request_id:
        return PermissionReplied(session_id, properties.request_id, bytes(properties.reply) != b'"reject"')
    call_id = _call.decode(properties.tool).call_id if len(properties.tool) else None
    return PermissionAsked(session_id, properties.id, call_id) if properties.id and call_id else None


def _session_event(info: _Info, session_id: str) -> SessionSeen:
    revert = info.revert
    undone = Undone(revert.message_id, revert.part_id, _reverted(revert)) if revert and revert.message_id else None
    created_ms = info.time.created if info.time else None
    return SessionSeen(session_id, info.parent_id, info.version, info.project_id, undone, created_ms)


def _reverted(revert: _Revert) -> tuple[str, ...] | None:
    """The files that a revert has changed, by its diff; OpenCode leaves those whose names git quotes as they are.

    Without a snapshot it changes none. None where the diff does not name them all.
    """
    if revert.diff is None:
        return () if revert.snapshot is None else None
    names = _CHANGED.findall(revert.diff)
    moved = [one for pair in _RENAMED.findall(revert.diff) for one in pair]
    are_all = len(names) + len(moved) // 2 == len(_ANY_FILE.findall(revert.diff))
    found = tuple(sorted({*names, *moved}))
    return found if are_all and not any(MASK in one for one in found) else None


def _part_event(part: _Part, session_id: str | None, message_id: str | None) -> Event | None:
    if part.type == "tool" and part.tool and part.state is not None:
        outcome = _outcome(part.tool, part.state)
        if outcome is None and session_id and message_id and part.call_id:
            return CallOpened(session_id, message_id, part.call_id, part.id)
        return outcome
    if part.type in {"step-start", "step-finish"} and session_id and message_id:
        step = StepBegan if part.type == "step-start" else StepEnded
        return step(session_id, message_id, part.snapshot)
    if part.type == "patch" and session_id and message_id and part.hash:
        return StepPatched(session_id, message_id, part.hash, _paths.decode(part.files) if len(part.files) else ())
    if part.type == "text" and part.synthetic and message_id and bytes(part.text) == _USER_COMMAND:
        return UserCommand(message_id)
    return None


def _outcome(tool: str, state: _State) -> CallDone | CallFailed | None:
    if state.status not in {"completed", "error"}:
        return None
    time = state.time or _Time()
    times = CallTimes(time.end, time.compacted is not None)
    if state.status == "error":
        return CallFailed(tool, state.input, times)
    return CallDone(tool, state.input, state.metadata, state.title, times)


def _message_event(info: _Info) -> MessageSeen | None:
    if not info.id:
        return None
    agent, completed = info.agent or info.mode, info.time.completed if info.time else None
    return MessageSeen(info.id, info.role, info.provider, info.model_id, agent, info.parent_id, completed)


def _lenient(envelope: Envelope) -> Seen:
    """Take the ids that are strings from a line whose shape is not OpenCode's."""
    note = "unexpected input for this hook: stored, not interpreted"
    try:
        given = msgspec.json.decode(envelope.input)
    except (ValueError, RecursionError):
        return Seen(envelope.hook, note=note)
    name = envelope.hook
    if name == "event":
        bus = _mapping(_mapping(given).get("event"))
        name = _text(bus, "type") or name
        given = bus.get("properties")
    fields = _mapping(given)
    inner = _mapping(fields.get("part")) or _mapping(fields.get("info"))
    return Seen(
        name,
        _text(fields, "sessionID") or _text(inner, "sessionID"),
        _text(fields, "messageID") or _text(inner, "messageID"),
        _text(fields, "callID") or _text(inner, "callID"),
        _text(fields, "tool") or _text(inner, "tool"),
        note=note,
    )


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _text(fields: dict[str, object], name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) else None
