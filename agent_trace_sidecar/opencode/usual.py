"""The usual line, in one decoding pass: nearly all lines of OpenCode 1 are bus events, or hooks around a call.

The shim writes ids and time first, then the hook, then what becomes the payload. So such a line is cut behind its hook:
what stands before is decoded as the ids, what stands behind as what the hook gives, and is the payload as it stands. A
line of another form is read by `wire.parse` and its dialect: other hooks, OpenCode 2, fields in another order or of the
sidecar's own, escapes that Postgres refuses, everything unexpected. A usual line becomes the same rows either way.
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
_AFTER: Final = b',"hook":"tool.execute.after",'
_HEAD_LEAST, _HEAD_MOST = 100, 256
"""Where the hook begins, from and to: ids, number and time take 115 at least, and 150 usually."""
_ENDED: Final = ("completed", "error")


class Usual(Envelope):
    """A line that is read already; `input` and `output` stand in the payload alone."""

    seen: Seen = Seen("")
    payload: str = ""
    """See `rows.EventRow.payload`; without notes."""
    counts: bool = False
    """Whether `usage.usage_in` may find something."""


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


class _After(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    directory: str
    worktree: str
    input: v1.ToolInput
    output: v1.ToolOutput


_head = msgspec.json.Decoder(_Head).decode
_event = msgspec.json.Decoder(_Event).decode
_before = msgspec.json.Decoder(_Before).decode
_after = msgspec.json.Decoder(_After).decode


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
    counts = False
    try:
        body: _Event | _Before | _After
        if (cut := line.find(_EVENT, _HEAD_LEAST, _HEAD_MOST)) >= 0:
            payload = b"{" + line[cut + len(_EVENT) :]
            body = _event(payload)
            event = body.input.event
            seen, counts = v1.bus_event(event), event.type in COUNTED and _counts(event)
        elif (cut := line.find(_BEFORE, _HEAD_LEAST, _HEAD_MOST)) >= 0:
            payload = b"{" + line[cut + len(_BEFORE) :]
            body = _before(payload)
            seen = v1.call_begins(body.input)
        elif (cut := line.find(_AFTER, _HEAD_LEAST, _HEAD_MOST)) >= 0:
            payload = b"{" + line[cut + len(_AFTER) :]
            body = _after(payload)
            seen, counts = v1.call_ends(body.input, body.output), True
        else:
            return None
        ids = _head(line[:cut] + b"}")
        text = payload.decode()
    except (ValueError, RecursionError):
        return None
    place = body.directory, body.worktree
    return Usual(1, ids.id, ids.seq, ids.at, ids.instance, "", 1, *place, seen=seen, payload=text, counts=counts)


def _counts(bus: v1.Bus) -> bool:
    """Whether an event of `COUNTED` ends a step or a call; most parts do not."""
    part = bus.properties.part
    if bus.type != "message.part.updated" or part is None or part.type == "step-finish":
        return True
    return part.state is not None and part.state.status in _ENDED
