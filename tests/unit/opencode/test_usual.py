"""A usual line read in one pass becomes the same rows, and leaves the same state, as read by the general way."""

import json
import random
from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent_trace_sidecar.opencode import usual, wire
from agent_trace_sidecar.opencode.usual import Usual
from agent_trace_sidecar.records.build import Builder, BuildSettings
from agent_trace_sidecar.records.rows import Built
from tests.support.envelopes import INSTANCE, RECORDINGS, Shim, recorded_lines

_INSERTED = [
    b'"id":"x",', b'"hook":"event",', b'"hook":"tool.execute.before",', b'"v":2,', b'"api":1,', b'"api":2,',
    b'"lost":3,', b'"notes":["x"],', b'"output":{"a":1},', b'"input":{"event":{"type":"session.idle"}},',
    b'"observed":{"late":true},', b'"redacted":{"rule":1},', b'"withheld":{"bytes":1,"reason":"too_long"},',
    b'"directory":null,', b'"worktree":"/",', b'"synthetic":true,', b'"unknown":2,', b'"time":{"completed":1},',
    b'"state":{"status":"completed"},', b'"part":{"type":"step-finish"},', b'"revert":{"messageID":"m"},',
    b'"type":"message.removed",', b'"type":"session.step.ended",', b'"type":"tool.execute.after",', b"\\u0000",
    b"\\ud83d", b"\\ud83d\\ude00", b"\\\\u0000", b"\xff", "\u00e9".encode(), b"null", b"1e400", b"-1", b"{", b"}",
    b" ", b'"', b"9" * 20, b"x" * 600,
]  # fmt: skip
"""What matters to one of the two ways of reading, or to Postgres."""


def rows(built: Built) -> tuple[object, ...]:
    """A line's rows as Postgres holds them: of a payload the last of equal keys counts, and no key's place."""
    payload = json.loads(built.event.payload, parse_float=Decimal, parse_constant=str)
    others = (getattr(built, name) for name in Built.__struct_fields__ if name != "event")
    return (built.event._replace(payload=""), payload, *others)


def check(lines: list[bytes]) -> int:
    """Read lines in both ways, one after the other; return how many were usual."""
    quick, general = Builder(BuildSettings()), Builder(BuildSettings())
    count = 0
    for line in lines:
        one, other = usual.parse(line), wire.parse(line)
        if isinstance(other, wire.Rejected):
            assert one == other
            continue
        assert isinstance(one, wire.Envelope)
        count += isinstance(one, Usual)
        assert usual.content_hash(line, one) == wire.content_hash(line, other)
        assert rows(quick.feed(one)) == rows(general.feed(other))
        assert quick.dump(one.instance) == general.dump(other.instance)
        assert (one.worktree, one.redacted, one.observed) == (other.worktree, other.redacted, other.observed)
    return count


def as_sent_today(line: bytes) -> bytes:
    """A recorded line with its fields in the order of today's shim."""
    fields = json.loads(line)
    place = {name: fields.pop(name) for name in ("directory", "worktree") if name in fields}
    contents = {name: fields.pop(name) for name in ("input", "output") if name in fields}
    return json.dumps({**fields, **place, **contents}, ensure_ascii=False, separators=(",", ":")).encode()


@pytest.mark.parametrize("order", [bytes, as_sent_today])
@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_becomes_the_same_rows_in_both_ways(name: str, order: Callable[[bytes], bytes]) -> None:
    """Of each recording most lines are usual."""
    lines = [order(line) for line in recorded_lines(name)]
    assert check(lines) > len(lines) / 2


@st.composite
def mutated(draw: st.DrawFn) -> list[bytes]:
    """Some lines of a recording that follow each other, one or two of them cut, doubled, or with bytes put in."""
    lines = recorded_lines(draw(st.sampled_from(RECORDINGS)))
    first = draw(st.integers(0, len(lines) - 1))
    some = lines[first : first + 8]
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(some) - 1))
        some[at] = _mutated(draw, some[at])
    return some


def _mutated(draw: st.DrawFn, line: bytes) -> bytes:
    """Changes at places where JSON has borders are read on more often than those elsewhere."""
    borders = [at for at, byte in enumerate(line, 1) if byte in b'{},:"'] or [0]
    start = draw(st.sampled_from(borders))
    end = draw(st.sampled_from([start, *(at for at in borders if at >= start)][:30]))
    put = draw(st.sampled_from([b"", line[start:end] * 2, *_INSERTED]))
    return line[:start] + put + line[end:]


@given(mutated())
def test_mutated_lines_become_the_same_rows_in_both_ways(lines: list[bytes]) -> None:
    """Whatever a line has become, both ways read the same of it."""
    check(lines)


def _fields(line: bytes) -> Iterator[bytes]:
    """The line with each of the inserted texts as a field behind each border of its first bytes."""
    borders = [at for at, byte in enumerate(line, 1) if byte in b"{,"]
    for at in borders:
        for put in _INSERTED:
            yield line[:at] + put + line[at:]


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_field_put_in_anywhere_is_read_in_both_ways(name: str) -> None:
    """Also one that stands twice, in the head, or in the payload."""
    drawn = random.Random(0)  # noqa: S311 - the same fields in every run
    lines = [line for line in recorded_lines(name) if isinstance(usual.parse(line), Usual)]
    known = usual_ones = 0
    for line in drawn.sample(lines, min(6, len(lines))):
        for other in drawn.sample(list(_fields(line)), 150):
            usual_ones += check([other])
            known += 1
    assert 0 < usual_ones < known


@given(st.integers(-1, 2**64), st.one_of(st.integers(-1, 2**60), st.floats(allow_nan=False, allow_infinity=False)))
@example(20_000_000, 1)
@example(1, 253_402_300_800_000)
def test_numbers_out_of_range_are_noted_in_both_ways(seq: int, at: float) -> None:
    """A number far ahead, and a time that no calendar has, are notes of the payload."""
    check([Shim().event("session.idle", {"sessionID": "ses_1"}, seq=seq, at=at)])


_HEAD = f'{{"v":1,"id":"{INSTANCE}","seq":1,"at":1,"instance":"{INSTANCE}","hook":"event",'
_PLACE = '"directory":"/w","worktree":"/w",'


@pytest.mark.parametrize(
    "event",
    [
        '{"type":"session.idle","properties":{"sessionID":"a\\u0000b"}}',
        '{"type":"session.idle","properties":{"sessionID":"ses_1","title":"\\ud83d"}}',
        '{"type":"session.idle","properties":{"sessionID":"ses_1","title":"\udcff"}}',
        '{"type":"session.idle"}},"worktree":null,"input":{"event":{"type":"session.idle"}',
        '{"type":"message.part.updated","properties":{"part":7}}',
        '{"type":7}',
        "null",
    ],
)
def test_a_line_that_means_more_is_not_usual(event: str) -> None:
    """What must be repaired, or is not as it should be."""
    line = f'{_HEAD}{_PLACE}"input":{{"event":{event}}}}}'.encode(errors="surrogateescape")
    assert check([line]) == 0


_STEP = '{"type":"step-finish","messageID":"m","tokens":{"input":3,"cache":7},"cost":1}'
_STATE = '{"status":"error","time":{"start":"1","end":2}}'


@pytest.mark.parametrize(
    ("event", "counted"),
    [
        ('{"type":"session.step.ended","properties":{"sessionID":"ses_1","tokens":{"input":3},"cost":1}}', 1),
        ('{"type":"session.step.ended","properties":{"sessionID":"ses_1","part":{"type":"text"},"cost":1}}', 1),
        (f'{{"type":"message.part.updated","properties":{{"part":{_STEP}}}}}', 1),
        (f'{{"type":"message.part.updated","properties":{{"part":{{"type":"x","tool":"y","state":{_STATE}}}}}}}', 1),
        ('{"type":"message.part.updated","properties":{"part":{"type":"x","tool":"y","state":{"status":"new"}}}}', 0),
        ('{"type":"message.part.updated","properties":{"tokens":3}}', 0),
        ('{"type":"tool.execute.after"},"status":"completed","tool":"bash"', 0),
    ],
)
def test_steps_and_calls_are_counted_in_both_ways(event: str, counted: int) -> None:
    """Also where a member is not of the type that it should be: the others count."""
    line = f'{_HEAD}{_PLACE}"input":{{"event":{event}}}}}'.encode()
    assert check([line]) == 1
    parsed = usual.parse(line)
    assert isinstance(parsed, Usual)
    built = Builder(BuildSettings()).feed(parsed)
    assert len(built.steps) + len(built.calls) == counted


def test_a_note_is_added_to_the_payload_of_a_usual_line() -> None:
    """It stands beside the line's fields, also where the line ends with a space."""
    head = _HEAD.replace('"seq":1,', '"seq":20000000,')
    sent = head + _PLACE + '"input":{"event":{"type":"session.idle"}}} '
    parsed = usual.parse(sent.encode())
    assert isinstance(parsed, Usual)
    built = Builder(BuildSettings()).feed(parsed)
    payload = json.loads(built.event.payload)
    assert list(payload) == ["directory", "worktree", "input", "notes"]
    assert len(payload["notes"]) == 1
