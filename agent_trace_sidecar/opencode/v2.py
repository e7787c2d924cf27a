"""OpenCode 2.x: tool hooks that hold everything in one object, and an event stream of `{id, type, data}`.

The shim sends the hook's object as `input`, and an event's `data` as the wire's `properties`. What a call did is taken
from the hooks alone: the stream repeats calls without their arguments or without their results.
"""

from typing import Final

import msgspec

from agent_trace_sidecar.opencode.events import (
    BackgroundEnded,
    CallDone,
    CallFailed,
    CallOpened,
    Event,
    Hello,
    MessageSeen,
    PermissionAsked,
    PermissionReplied,
    RevertKept,
    Seen,
    SessionSeen,
    StepBegan,
    StepEnded,
    Undone,
)
from agent_trace_sidecar.opencode.wire import EMPTY, MASK, Envelope


class _ToolInput(msgspec.Struct, gc=False):
    tool: str | None = None
    session_id: str | None = msgspec.field(default=None, name="sessionID")
    message_id: str | None = msgspec.field(default=None, name="messageID")
    id: str | None = None
    input: msgspec.Raw = EMPTY
    status: str | None = None
    result: msgspec.Raw = EMPTY


class _Model(msgspec.Struct, gc=False):
    id: str | None = None
    provider: str | None = msgspec.field(default=None, name="providerID")


class _RevertedFile(msgspec.Struct, gc=False):
    file: str


class _Revert(msgspec.Struct, gc=False):
    message_id: str | None = msgspec.field(default=None, name="messageID")
    part_id: str | None = msgspec.field(default=None, name="partID")
    files: msgspec.Raw = EMPTY


class _Metadata(msgspec.Struct, gc=False):
    shell_id: str | None = msgspec.field(default=None, name="shellID")


class _Payload(msgspec.Struct, gc=False):
    metadata: _Metadata | None = None


class _Item(msgspec.Struct, gc=False):
    payload: _Payload | None = None


class _Output(msgspec.Struct, gc=False):
    shell_id: str | None = msgspec.field(default=None, name="shellID")
    status: str | None = None


class _Result(msgspec.Struct, gc=False):
    output: msgspec.Raw = EMPTY


class _Durable(msgspec.Struct, gc=False):
    seq: int | None = None


class _Source(msgspec.Struct, gc=False):
    id: str | None = None


class _Data(msgspec.Struct, gc=False):
    """Of all the events that are read here; no two of them use a name for different things.

    A call is `id` in the events of calls; early releases have `callID`.
    """

    session_id: str | None = msgspec.field(default=None, name="sessionID")
    message_id: str | None = msgspec.field(default=None, name="assistantMessageID")
    id: str | None = None
    call_id: str | None = msgspec.field(default=None, name="callID")
    name: str | None = None
    parent_id: str | None = msgspec.field(default=None, name="parentID")
    project_id: str | None = msgspec.field(default=None, name="projectID")
    version: str | None = None
    agent: str | None = None
    model: _Model | None = None
    snapshot: str | None = None
    revert: _Revert | None = None
    inbox_id: str | None = msgspec.field(default=None, name="inboxID")
    item: _Item | None = None
    request_id: str | None = msgspec.field(default=None, name="requestID")
    reply: msgspec.Raw = EMPTY
    source: msgspec.Raw = EMPTY


class _Bus(msgspec.Struct, gc=False):
    type: str
    durable: _Durable | None = None
    skipped: int = 0
    unknown: int = 0
    properties: _Data = msgspec.field(default_factory=_Data)


class _EventInput(msgspec.Struct, gc=False):
    event: _Bus


class _Project(msgspec.Struct, gc=False):
    id: str | None = None


class _HelloInput(msgspec.Struct, gc=False):
    opencode: str | None = None
    project: _Project | None = None


_event_input: Final = msgspec.json.Decoder(_EventInput)
_tool_input: Final = msgspec.json.Decoder(_ToolInput)
_source: Final = msgspec.json.Decoder(_Source)
_hello_input: Final = msgspec.json.Decoder(_HelloInput)
_result: Final = msgspec.json.Decoder(_Result)
_output: Final = msgspec.json.Decoder(_Output)
_reverted_files: Final = msgspec.json.Decoder(list[_RevertedFile])
_any_object: Final = msgspec.json.Decoder(dict[str, object])


def read(envelope: Envelope) -> Seen:
    """Read one line of OpenCode 2.x.

    Args:
        envelope: a line that `wire.parse` let through; its `input` may be any JSON, or absent.
    """
    try:
        return _read(envelope)
    except (ValueError, RecursionError):
        return _lenient(envelope)


def arguments(envelope: Envelope) -> msgspec.Raw:
    """The arguments of a call that is about to begin.

    Raises:
        ValueError: the line is not what the hook sends.
        RecursionError: it is nested beyond what can be decoded.
    """
    return _tool_input.decode(envelope.input).input


def _read(envelope: Envelope) -> Seen:
    hook = envelope.hook
    if hook == "event":
        return _bus_event(_event_input.decode(envelope.input).event)
    if hook == "hello":
        hello = _hello_input.decode(envelope.input)
        return Seen(hook, event=Hello(hello.opencode, hello.project.id if hello.project else None))
    if not hook.startswith("tool.execute.") or len(envelope.input) == 0:
        return Seen(hook)
    given = _tool_input.decode(envelope.input)
    event: Event | None = None
    if hook == "tool.execute.after" and given.tool:
        completed = given.status == "completed"
        background = _background(given.result) if completed else None
        event = (
            CallDone(given.tool, given.input, given.result, None, background=background)
            if completed
            else CallFailed(given.tool, given.input)
        )
    elif given.session_id and given.message_id and given.id:
        event = CallOpened(given.session_id, given.message_id, given.id)
    return Seen(hook, given.session_id, given.message_id, given.id, given.tool, event)


def _bus_event(bus: _Bus) -> Seen:
    name, data = bus.type, bus.properties
    is_call = name.startswith("session.tool.")
    return Seen(
        name,
        data.session_id,
        data.message_id or data.inbox_id,
        data.id or data.call_id if is_call else None,
        data.name if is_call else None,
        None if bus.unknown else _meaning(name, data),
        number=bus.durable.seq if bus.durable else None,
        skipped=max(0, bus.skipped),
        unknown=max(0, bus.unknown),
    )


def _background(result: msgspec.Raw) -> str | None:
    """The shell that continues after its call has ended."""
    try:
        output = _output.decode(_result.decode(result).output)
    except (ValueError, RecursionError):
        return None
    return output.shell_id if output.status == "running" else None


def _meaning(name: str, data: _Data) -> Event | None:
    ended = _ended_shell(name, data)
    if ended is not None:
        return BackgroundEnded(ended)
    if data.session_id is None:
        return None
    if data.message_id is not None:
        return _of_message(name, data, data.session_id, data.message_id)
    if name in {"permission.asked", "permission.replied"}:
        return _permission(name, data, data.session_id)
    return _of_session(name, data, data.session_id)


def _of_session(name: str, data: _Data, session_id: str) -> Event | None:
    if name == "session.revert.committed":
        return RevertKept(session_id)
    if name in {"session.created", "session.updated", "session.revert.staged", "session.revert.cleared"}:
        revert = data.revert
        undone = Undone(revert.message_id, revert.part_id, _reverted(revert)) if revert and revert.message_id else None
        return SessionSeen(session_id, data.parent_id, data.version, data.project_id, undone)
    return None


def _reverted(revert: _Revert) -> tuple[str, ...] | None:
    """The files that a revert has changed: none outside of the session's folder, and none if it is of messages only.

    None where they are not known.
    """
    try:
        found = {one.file for one in _reverted_files.decode(revert.files)}
    except ValueError:
        return None
    return tuple(sorted(found)) if not any(MASK in one for one in found) else None


def _ended_shell(name: str, data: _Data) -> str | None:
    """The shell in the background that has ended: by its own event, or by the session's message about it."""
    if name == "shell.exited":
        return data.id
    if name == "session.inbox.enqueued" and data.item and data.item.payload and data.item.payload.metadata:
        return data.item.payload.metadata.shell_id
    return None


def _permission(name: str, data: _Data, session_id: str) -> Event | None:
    if name == "permission.replied":
        reply = bytes(data.reply)
        return PermissionReplied(session_id, data.request_id, reply != b'"reject"') if data.request_id else None
    call_id = _source.decode(data.source).id if len(data.source) else None
    return PermissionAsked(session_id, data.id, call_id) if data.id and call_id else None


def _of_message(name: str, data: _Data, session_id: str, message_id: str) -> Event | None:
    if name == "session.step.started":
        model = data.model or _Model()
        by = MessageSeen(message_id, "assistant", model.provider, model.id, data.agent, None)
        return StepBegan(session_id, message_id, data.snapshot, by)
    if name in {"session.step.ended", "session.step.failed"}:
        return StepEnded(session_id, message_id, data.snapshot)
    call_id = data.id or data.call_id
    if name == "session.tool.input.started" and call_id:
        return CallOpened(session_id, message_id, call_id)
    return None


def _lenient(envelope: Envelope) -> Seen:
    """Take the ids that are strings from a line whose shape is not OpenCode's."""
    note = "unexpected input for this hook: stored, not interpreted"
    name = envelope.hook
    try:
        fields = _any_object.decode(envelope.input)
    except (ValueError, RecursionError):
        return Seen(name, note=note)
    event = fields.get("event")
    if name == "event" and isinstance(event, dict):
        name = _text(event, "type") or name
        data = event.get("properties")
        fields = data if isinstance(data, dict) else {}
    return Seen(
        name,
        _text(fields, "sessionID"),
        _text(fields, "messageID") or _text(fields, "assistantMessageID"),
        note=note,
    )


def _text(fields: dict[str, object], name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) else None
