"""What a step used and how a tool call ended, as OpenCode reports it: numbers only, apart from the dialects.

A value of an unexpected type is None, as the views over the events read it.
"""

import re
from decimal import Decimal
from functools import lru_cache
from typing import Final, TypeVar

import msgspec

from agent_trace_sidecar.opencode.wire import EMPTY

_NUMBER: Final = re.compile(r"-?\d{1,60}(?:\.\d{1,60})?(?:[eE][+-]?\d{1,2})?")
COUNTED: Final = ("message.part.updated", "session.step.ended", "session.step.failed", "tool.execute.after")
"""Names of the events that `usage` looks into."""
_ENDS: Final = ("completed", "error")
_MAX_MS: Final = 253_402_300_799_999
_Kind = TypeVar("_Kind", bound=msgspec.Struct)


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


class _Cache(msgspec.Struct, frozen=True, gc=False):
    read: msgspec.Raw = EMPTY
    write: msgspec.Raw = EMPTY


class _Tokens(msgspec.Struct, frozen=True, gc=False):
    input: msgspec.Raw = EMPTY
    output: msgspec.Raw = EMPTY
    reasoning: msgspec.Raw = EMPTY
    cache: _Cache = _Cache()


class _Time(msgspec.Struct, frozen=True, gc=False):
    start: msgspec.Raw = EMPTY
    end: msgspec.Raw = EMPTY
    compacted: msgspec.Raw = EMPTY


class _State(msgspec.Struct, frozen=True, gc=False):
    status: msgspec.Raw = EMPTY
    time: _Time = _Time()


class _Part(msgspec.Struct, frozen=True, gc=False):
    id: msgspec.Raw = EMPTY
    type: msgspec.Raw = EMPTY
    tool: msgspec.Raw = EMPTY
    tokens: _Tokens = _Tokens()
    cost: msgspec.Raw = EMPTY
    state: _State = _State()


class _Properties(msgspec.Struct, frozen=True, gc=False):
    part: _Part = _Part()
    time: msgspec.Raw = EMPTY
    tokens: _Tokens = _Tokens()
    cost: msgspec.Raw = EMPTY


class _Bus(msgspec.Struct, frozen=True, gc=False):
    id: msgspec.Raw = EMPTY
    properties: _Properties = _Properties()


class _Input(msgspec.Struct, frozen=True, gc=False):
    event: _Bus = _Bus()
    status: msgspec.Raw = EMPTY


class _Payload(msgspec.Struct, frozen=True, gc=False):
    input: _Input


class _RawPayload(msgspec.Struct, frozen=True, gc=False):
    input: msgspec.Raw


_decode = msgspec.json.Decoder(_Input).decode
_decode_payload = msgspec.json.Decoder(_Payload).decode
_raw_payload = msgspec.json.Decoder(_RawPayload).decode
_string = msgspec.json.Decoder(str).decode


def usage(name: str, given: msgspec.Raw) -> Used | CallEnd | None:
    """The end of a step or a call that an event of this name reports with this input; None for all others."""
    return _usage(name, _read(given))


def usage_in(name: str, payload: str) -> Used | CallEnd | None:
    """The same from an event's payload, where the input stands in it; see `usual.Usual`."""
    return _usage(name, _read_payload(payload))


def _usage(name: str, given: _Input) -> Used | CallEnd | None:
    if name == "tool.execute.after":
        status = _text(given.status)
        return CallEnd(None, status) if status in _ENDS else None
    properties = given.event.properties
    if name in {"session.step.ended", "session.step.failed"}:
        return _used(_text(given.event.id), properties.tokens, properties.cost, None)
    if name != "message.part.updated":
        return None
    part, published = properties.part, _moment(properties.time)
    if _text(part.type) == "step-finish":
        return _used(_text(part.id), part.tokens, part.cost, published)
    time = part.state.time
    status = _text(part.state.status)
    if _text(part.tool) is None or status not in _ENDS or len(time.compacted):
        return None
    return CallEnd(_text(part.id), status, _number(time.start), _number(time.end), published)


def _used(part_id: str | None, tokens: _Tokens, cost: msgspec.Raw, published: Decimal | None) -> Used:
    used = Used(
        part_id,
        _number(tokens.input),
        _number(tokens.output),
        _number(tokens.reasoning),
        _number(tokens.cache.read),
        _number(tokens.cache.write),
        _number(cost),
        published,
    )
    is_unpriced = used.cost == 0 and any(
        (used.input_tokens, used.output_tokens, used.reasoning_tokens, used.cache_read_tokens, used.cache_write_tokens)
    )
    return msgspec.structs.replace(used, cost=None) if is_unpriced else used


def _read_payload(payload: str) -> _Input:
    try:
        return _decode_payload(payload).input
    except (ValueError, RecursionError):
        return _read(_raw_payload(payload).input)


def _read(raw: msgspec.Raw) -> _Input:
    try:
        return _decode(raw)
    except (ValueError, RecursionError):
        return _as_far_as_typed(raw, _Input)


def _as_far_as_typed(raw: msgspec.Raw, kind: type[_Kind]) -> _Kind:
    """The same where one of the objects is none: it has no members then, the others have theirs."""
    try:
        members = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):
        return kind()
    found = {}
    for field in msgspec.structs.fields(kind):
        if (value := members.get(field.name)) is not None:
            found[field.name] = value if field.type is msgspec.Raw else _as_far_as_typed(value, field.type)
    return kind(**found)


def _text(raw: msgspec.Raw) -> str | None:
    try:
        return _string(raw)
    except (ValueError, RecursionError):
        return None


def _number(raw: msgspec.Raw) -> Decimal | None:
    return _decimal(bytes(raw))


@lru_cache(maxsize=1024)
def _decimal(json: bytes) -> Decimal | None:
    """Most are repeated: times by the next event, and zero everywhere."""
    text = json.strip().decode("ascii", "replace")
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def _moment(raw: msgspec.Raw) -> Decimal | None:
    found = _number(raw)
    return found if found is not None and 0 <= found <= _MAX_MS else None
