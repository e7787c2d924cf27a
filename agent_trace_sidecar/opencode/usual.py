"""The usual line, in one decoding pass: most lines of OpenCode 1 are events that change no file and count nothing.

The shim writes ids and time first, then the hook, then what becomes the payload. So such a line is cut behind its hook:
what stands before is decoded as the ids, what stands behind as what the hook gives, and is the payload as it stands. A
line of another form is read by `wire.parse` and its dialect: ended calls and steps, OpenCode 2, fields in another
order or of the sidecar's own, escapes that Postgres refuses, everything unexpected. A usual line becomes the same rows
either way.
"""

from typing import Annotated, Final, Literal
from uuid import UUID

import msgspec

from agent_trace_sidecar.opencode import v1, wire
from agent_trace_sidecar.opencode.events import Seen
from agent_trace_sidecar.opencode.usage import COUNTED
from agent_trace_sidecar.opencode.wire import EMPTY, Envelope, Rejected

_EVENT: Final = b',"hook":"event",'
_BEFORE: Final = b',"hook":"tool.execute.before",'
_HEAD_BYTES: Final = (100, 256)
"""Where the hook begins, from and to: ids, number and time take 115 at least, and 150 usually."""
_ENDED: Final = ("completed", "error")


class Usual(Envelope):
    """A line that is read already; `input` and `output` stand in the payload alone."""

    seen: Seen = Seen("")
    payload: str = ""
    """See `rows.EventRow.payload`; without notes."""


class _Head(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What stands before the hook."""

    v: Literal[1]
    id: UUID
    seq: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    at: int | float
    instance: UUID


class _Event(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    directory: str
    worktree: str
    input: v1.EventInput


class _Before(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    directory: str
    worktree: str
    input: v1.ToolInput
    output: msgspec.Raw = EMPTY


_head = msgspec.json.Decoder(_Head).decode
_event = msgspec.json.Decoder(_Event).decode
_before = msgspec.json.Decoder(_Before).decode


def parse(line: bytes) -> Envelope | Rejected:
    """Decode and check one line, without its newline, as `wire.parse` does. Never raises."""
    return _usual(line) or wire.parse(line)


def content_hash(line: bytes, envelope: Envelope) -> int | None:
    """As `wire.content_hash`, without the checks that a usual line has passed already."""
    return wire.plain_hash(line.strip()) if type(envelope) is Usual else wire.content_hash(line, envelope)


def _usual(line: bytes) -> Usual | None:
    """The line, if it is a usual one."""
    if b"\\" in line and b"\\u" in line and wire.SUSPECT.search(line):
        return None
    hook = _EVENT
    cut = line.find(hook, *_HEAD_BYTES)
    if cut < 0:
        hook = _BEFORE
        cut = line.find(hook, *_HEAD_BYTES)
        if cut < 0:
            return None
    try:
        payload = b"{" + line[cut + len(hook) :]
        body: _Event | _Before = _event(payload) if hook is _EVENT else _before(payload)
        seen = _seen(body)
        if seen is None:
            return None
        ids = _head(line[:cut] + b"}")
        text = payload.decode()
    except (ValueError, RecursionError):
        return None
    return Usual(
        1, ids.id, ids.seq, ids.at, ids.instance, "", 1, body.directory, body.worktree, seen=seen, payload=text
    )


def _seen(body: _Event | _Before) -> Seen | None:
    """What the line means; None where it counts something or ends a call."""
    if isinstance(body, _Before):
        return v1.call_begins(body.input)
    bus = body.input.event
    if bus.type in COUNTED:
        part = bus.properties.part
        if bus.type != "message.part.updated" or part is None or part.type == "step-finish":
            return None
        if part.state is not None and part.state.status in _ENDED:
            return None
    return v1.bus_event(bus)
