"""What a step used and how a tool call ended, as OpenCode reports it: numbers only, apart from the dialects.

A value of an unexpected type is None, as the views over the events read it.
"""

import re
from decimal import Decimal
from typing import Final

import msgspec

from agent_trace_sidecar.opencode.wire import EMPTY, Envelope

_NUMBER: Final = re.compile(r"-?\d{1,60}(?:\.\d{1,60})?(?:[eE][+-]?\d{1,2})?")
COUNTED: Final = ("message.part.updated", "session.step.ended", "session.step.failed", "tool.execute.after")
"""Names of the events that `usage` looks into."""
_ENDS: Final = ("completed", "error")
_MAX_MS: Final = 253_402_300_799_999


class Used(msgspec.Struct, frozen=True):
    """A step's tokens and cost."""

    part_id: str | None
    input_tokens: Decimal | None
    output_tokens: Decimal | None
    reasoning_tokens: Decimal | None
    cache_read_tokens: Decimal | None
    cache_write_tokens: Decimal | None
    cost: Decimal | None
    """US dollars; None where OpenCode has no price: it reports 0 for a step that used tokens."""
    published_ms: Decimal | None = None
    """When OpenCode published it, where it has a time."""


class CallEnd(msgspec.Struct, frozen=True):
    """The end of a tool call."""

    part_id: str | None
    status: str
    start_ms: Decimal | None = None
    end_ms: Decimal | None = None
    published_ms: Decimal | None = None


class _Cache(msgspec.Struct, gc=False):
    read: msgspec.Raw = EMPTY
    write: msgspec.Raw = EMPTY


class _Tokens(msgspec.Struct, gc=False):
    input: msgspec.Raw = EMPTY
    output: msgspec.Raw = EMPTY
    reasoning: msgspec.Raw = EMPTY
    cache: msgspec.Raw = EMPTY


class _Time(msgspec.Struct, gc=False):
    start: msgspec.Raw = EMPTY
    end: msgspec.Raw = EMPTY
    compacted: msgspec.Raw = EMPTY


class _State(msgspec.Struct, gc=False):
    status: msgspec.Raw = EMPTY
    time: msgspec.Raw = EMPTY


class _Part(msgspec.Struct, gc=False):
    id: msgspec.Raw = EMPTY
    type: msgspec.Raw = EMPTY
    tool: msgspec.Raw = EMPTY
    tokens: msgspec.Raw = EMPTY
    cost: msgspec.Raw = EMPTY
    state: msgspec.Raw = EMPTY


class _Properties(msgspec.Struct, gc=False):
    part: msgspec.Raw = EMPTY
    time: msgspec.Raw = EMPTY
    tokens: msgspec.Raw = EMPTY
    cost: msgspec.Raw = EMPTY


class _Bus(msgspec.Struct, gc=False):
    id: msgspec.Raw = EMPTY
    properties: msgspec.Raw = EMPTY


class _Input(msgspec.Struct, gc=False):
    event: msgspec.Raw = EMPTY
    status: msgspec.Raw = EMPTY


def usage(envelope: Envelope, name: str) -> Used | CallEnd | None:
    """The end of a step or a call that this event reports; None for all others."""
    given = _object(envelope.input, _Input)
    if name == "tool.execute.after":
        status = _text(given.status)
        return CallEnd(None, status) if status in _ENDS else None
    bus = _object(given.event, _Bus)
    properties = _object(bus.properties, _Properties)
    if name in {"session.step.ended", "session.step.failed"}:
        return _used(_text(bus.id), properties.tokens, properties.cost, None)
    if name != "message.part.updated":
        return None
    part, published = _object(properties.part, _Part), _moment(properties.time)
    if _text(part.type) == "step-finish":
        return _used(_text(part.id), part.tokens, part.cost, published)
    state = _object(part.state, _State)
    time = _object(state.time, _Time)
    status = _text(state.status)
    if _text(part.tool) is None or status not in _ENDS or len(time.compacted):
        return None
    return CallEnd(_text(part.id), status, _number(time.start), _number(time.end), published)


def _used(part_id: str | None, tokens: msgspec.Raw, cost: msgspec.Raw, published: Decimal | None) -> Used:
    found = _object(tokens, _Tokens)
    cache = _object(found.cache, _Cache)
    used = Used(
        part_id,
        _number(found.input),
        _number(found.output),
        _number(found.reasoning),
        _number(cache.read),
        _number(cache.write),
        _number(cost),
        published,
    )
    is_unpriced = used.cost == 0 and any(
        (used.input_tokens, used.output_tokens, used.reasoning_tokens, used.cache_read_tokens, used.cache_write_tokens)
    )
    return msgspec.structs.replace(used, cost=None) if is_unpriced else used


def _object(raw: msgspec.Raw, kind: type[msgspec.Struct]):  # type: ignore[no-untyped-def]  # noqa: ANN202 - of that kind
    try:
        return msgspec.json.decode(raw, type=kind)
    except (ValueError, RecursionError):
        return kind()


def _text(raw: msgspec.Raw) -> str | None:
    try:
        return msgspec.json.decode(raw, type=str)
    except (ValueError, RecursionError):
        return None


def _number(raw: msgspec.Raw) -> Decimal | None:
    text = bytes(raw).strip().decode("ascii", "replace")
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def _moment(raw: msgspec.Raw) -> Decimal | None:
    found = _number(raw)
    return found if found is not None and 0 <= found <= _MAX_MS else None
