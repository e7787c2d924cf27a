"""One line in, an envelope or a reason out."""

import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_trace_sidecar.opencode.wire import Envelope, Rejected, parse

GOOD: dict[str, Any] = {
    "v": 1,
    "id": "01a201d0-1733-73ef-82e3-d6f8e7cb2ff4",
    "seq": 7,
    "at": 1795326744371,
    "instance": "6beba06b-5354-42e2-9ea2-f5f74523829b",
    "hook": "event",
    "input": {"event": {"type": "session.idle", "properties": {}}},
}


def line(**changes: object) -> bytes:
    """A good line with some fields changed; None takes the field away."""
    return json.dumps({k: v for k, v in {**GOOD, **changes}.items() if v is not None}).encode()


def raw(text: str) -> bytes:
    """A good line whose input is this JSON text."""
    return line(input=None)[:-1] + b', "input": ' + text.encode() + b"}"


def accepted(data: bytes) -> Envelope:
    """Parse a line that must be accepted."""
    found = parse(data)
    assert isinstance(found, Envelope), found
    return found


def test_a_good_line_keeps_its_ids_and_leaves_its_payload_unopened() -> None:
    """The envelope is typed; input stays the bytes that came."""
    envelope = accepted(line())
    assert (envelope.id, envelope.seq, envelope.hook) == (uuid.UUID(GOOD["id"]), 7, "event")
    assert json.loads(bytes(envelope.input)) == GOOD["input"]
    assert bytes(envelope.output) == b""
    assert envelope.repaired == ()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (line()[:-1], "truncated"),
        (b"hello", "invalid_json"),
        (b"[1]", "wrong_type"),
        (b"{}", "missing_field"),
        (line(id=None), "missing_field"),
        (line(id="x"), "wrong_type"),
        (line(id="0" * 10_240), "wrong_type"),
        (line(seq=-1), "wrong_type"),
        (line(seq=2**63), "wrong_type"),
        (line(seq="1"), "wrong_type"),
        (line(hook=3), "wrong_type"),
        (line(v=2), "unsupported_version"),
        (line() + b"x", "invalid_json"),
        (raw("[" * 100_000 + "]" * 100_000), "too_deep"),
        (raw('"\x01"'), "invalid_json"),
        (line(withheld={"bytes": 5, "reason": "too_long"}), "too_long"),
        (b'{"withheld":{"bytes":5,"reason":"too_long"}}', "too_long"),
        (b'{"withheld":5}', "wrong_type"),
    ],
)
def test_a_line_that_is_no_event_is_rejected_with_its_reason(data: bytes, reason: str) -> None:
    """The reason is a stable word; the error repeats nothing of the line."""
    found = parse(data)
    assert isinstance(found, Rejected)
    assert found.reason == reason
    assert "0000000000" not in found.error


@pytest.mark.parametrize(
    ("text", "repaired", "value"),
    [
        (r'"a\u0000b"', ("nul",), "a\ufffdb"),
        (r'"\ud83d"', ("surrogate",), "\ufffd"),
        (r'"\ude00\ud83d"', ("surrogate",), "\ufffd\ufffd"),
        (r'"\ud83d\ude00"', (), "\U0001f600"),
        (r'"\\u0000"', (), r"\u0000"),
        (r'"\\\u0000"', ("nul",), "\\\ufffd"),
        (r'{"\u0000": "\uD83D"}', ("nul", "surrogate"), {"\ufffd": "\ufffd"}),
    ],
)
def test_what_jsonb_would_refuse_is_repaired_and_noted(text: str, repaired: tuple[str, ...], value: object) -> None:
    """NUL and lone surrogates, in values and keys, become U+FFFD; an escaped backslash is left alone."""
    envelope = accepted(raw(text))
    assert envelope.repaired == repaired
    assert json.loads(bytes(envelope.input)) == value


def test_bytes_that_are_no_utf_8_are_repaired_wherever_they_stand() -> None:
    """Also inside a field that is never decoded here."""
    envelope = accepted(line(input=None)[:-1] + b', "input": {"k": "\xff\xed\xa0\x80"}}')
    assert envelope.repaired == ("utf8",)
    assert "\ufffd" in bytes(envelope.input).decode()


@given(st.binary(max_size=300))
def test_no_bytes_whatsoever_raise(data: bytes) -> None:
    """Every line has an outcome."""
    assert isinstance(parse(data), Envelope | Rejected)


@given(st.integers(0, len(line())), st.binary(max_size=20))
def test_a_good_line_cut_and_garbled_anywhere_never_raises(at: int, garbage: bytes) -> None:
    """Whatever was torn out of a line or spliced into it."""
    assert isinstance(parse(line()[:at] + garbage + line()[at + len(garbage) :]), Envelope | Rejected)
