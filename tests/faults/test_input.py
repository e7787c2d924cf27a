"""Bytes that nobody expects: each line is stored as it should be or is a dead letter, and its neighbours are stored."""

import json
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import pytest

from agent_trace_sidecar.redaction import Redactor
from agent_trace_sidecar.sources.lines import Line, LineSplitter
from tests.support.oracle import Oracle
from tests.support.postgres import fetch
from tests.support.shipping import Shipping

MIB = 1 << 20
INSTANCE = "11111111-2222-4333-8444-555555555555"


def line(given: str, *, seq: int = 1, hook: str = "tool.execute.before", more: str = "") -> bytes:
    """A line with this raw JSON as its input."""
    text = f'{{"v":1,"id":"{uuid4()}","seq":{seq},"at":1795000000000,"instance":"{INSTANCE}","hook":"{hook}"'
    return f'{text}{more},"input":{given}}}'.encode("utf-8", "surrogatepass")


async def ship(folder: Path, url: str, lines: Sequence[bytes]) -> None:
    """Put these lines through the redactor and ship them, a good one before and after each."""
    redactor = Redactor(enabled=False)
    async with Shipping(folder, url, batch_size=1000, segment_bytes=64 * MIB) as shipping:
        masked = []
        for given in lines:
            masked += [line('"before"'), redactor.line(given).line, line('"after"')]
        shipping.append(list(enumerate(masked)))
        await shipping.delivered(60)
        assert shipping.causes == []


def inputs(url: str) -> list[object]:
    """What is stored as `input`, without the good lines around."""
    rows = fetch(url, "SELECT payload->'input' AS input FROM agent_trace_events")
    found = [json.loads(row["input"]) for row in rows]
    return [item for item in found if item not in ("before", "after")]


def neighbours(url: str) -> int:
    """How many of the good lines around are stored."""
    query = "SELECT count(*) AS n FROM agent_trace_events WHERE payload->>'input' IN ('before', 'after')"
    count: int = fetch(url, query)[0]["n"]
    return count


REPAIRED = {
    "NUL in a value": ('{"a":"x\\u0000y"}', {"a": "x\ufffdy"}),
    "NUL in a key": ('{"x\\u0000":1}', {"x\ufffd": 1}),
    "NUL in a typed field": ('{"tool":"ba\\u0000sh","sessionID":"s\\u0000","callID":"c"}', None),
    "escaped backslash before u0000": ('{"a":"\\\\u0000"}', {"a": "\\u0000"}),
    "three backslashes before u0000": ('{"a":"\\\\\\u0000"}', {"a": "\\\ufffd"}),
    "high surrogate alone": ('{"a":"\\ud83d"}', {"a": "\ufffd"}),
    "low surrogate alone": ('{"a":"\\ude42"}', {"a": "\ufffd"}),
    "surrogates in the wrong order": ('{"a":"\\ude42\\ud83d"}', {"a": "\ufffd\ufffd"}),
    "a pair of surrogates": ('{"a":"\\ud83d\\ude42"}', {"a": "\U0001f642"}),
    "surrogate in a key": ('{"\\ud83d":1}', {"\ufffd": 1}),
    "2^63": ('{"a":9223372036854775808}', {"a": 2**63}),
    "-2^63-1": ('{"a":-9223372036854775809}', {"a": -(2**63) - 1}),
    "1e400 in a number": ('{"a":1e3}', {"a": 1000}),
    "duplicate keys": ('{"a":1,"a":2}', {"a": 2}),
    "an id of 10 KB": ('{"callID":"' + "i" * 10_240 + '","sessionID":"s"}', None),
    "other types than expected": ('{"tool":{"a":1},"callID":[1]}', {"tool": {"a": 1}, "callID": [1]}),
    "nested 500 deep": ("[" * 500 + "]" * 500, None),
    "no object at all": ("[1,null,true]", [1, None, True]),
    "our own names": ('{"crc":"00000000","observed":{"files":1}}', {"crc": "00000000", "observed": {"files": 1}}),
    "line ends in text": ('{"a":"one\\r\\ntwo\\u2028three"}', {"a": "one\r\ntwo\u2028three"}),
    "controls": ('{"a":"\\u0001\\u001f\\u007f"}', {"a": "\x01\x1f\x7f"}),
}  # fmt: skip


@pytest.mark.parametrize("name", REPAIRED)
async def test_what_can_be_stored_is_stored(migrated_url: str, tmp_path: Path, name: str) -> None:
    """As it came, or with U+FFFD in the place of what Postgres refuses."""
    given, expected = REPAIRED[name]
    await ship(tmp_path / "spool", migrated_url, [line(given)])
    assert neighbours(migrated_url) == 2
    found = inputs(migrated_url)
    assert len(found) == 1
    if expected is not None:
        assert found == [expected]


DEAD = {
    "no JSON": (b"not JSON at all", "invalid_json"),
    "cut off": (line('{"a":1}')[:-3], "truncated"),
    "nested 100,000 deep": (line("[" * 100_000 + "]" * 100_000), "too_deep"),
    "another version": (line("1").replace(b'"v":1', b'"v":2'), "unsupported_version"),
    "no id": (b'{"v":1,"seq":1,"at":1,"instance":"%b","hook":"event"}' % INSTANCE.encode(), "missing_field"),
    "seq below zero": (line("1").replace(b'"seq":1', b'"seq":-1'), "wrong_type"),
    "seq beyond bigint": (line("1").replace(b'"seq":1', b'"seq":9223372036854775808'), "wrong_type"),
    "an array": (b"[1,2,3]", "wrong_type"),
    "only a newline's worth of blanks and a bracket": (b"   {", None),
    "not UTF-8, and no JSON": (b"\xff\xfe\x00{", None),
    "a number that no numeric holds": (line('{"a":1e200000}'), "refused"),
    "a number of 140,000 digits": (line('{"a":' + "9" * 140_000 + "}"), "refused"),
}


@pytest.mark.parametrize("name", DEAD)
async def test_what_can_not_be_stored_is_a_dead_letter(migrated_url: str, tmp_path: Path, name: str) -> None:
    """With its bytes and its reason; its neighbours are stored."""
    given, reason = DEAD[name]
    await ship(tmp_path / "spool", migrated_url, [given])
    assert neighbours(migrated_url) == 2
    rows = fetch(migrated_url, "SELECT reason, error, line FROM agent_trace_dead_letters")
    assert len(rows) == 1
    assert reason in (None, rows[0]["reason"])
    assert rows[0]["error"]


async def test_bytes_that_are_no_utf8_are_mended(migrated_url: str, tmp_path: Path) -> None:
    """In keys and values, in typed, unknown and raw fields."""
    bad = line('{"a":"x?y","b?":1}', more=',"directory":"/w?","unknown":"?"').replace(b"?", b"\xff")
    await ship(tmp_path / "spool", migrated_url, [bad])
    assert neighbours(migrated_url) == 2
    assert inputs(migrated_url) == [{"a": "x\ufffdy", "b\ufffd": 1}]


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, MIB, 15 * MIB])
async def test_long_lines(migrated_url: str, tmp_path: Path, size: int) -> None:
    """Stored whole."""
    text = "x" * (size - len(line('""')))
    given = line(f'"{text}"')
    assert len(given) == size
    await ship(tmp_path / "spool", migrated_url, [given])
    assert inputs(migrated_url) == [text]


def test_a_line_is_the_same_however_it_is_split() -> None:
    """At every byte, and byte by byte."""
    oracle = Oracle(70)
    lines = [oracle.line("foreign")[1], b"", oracle.line("crlf")[1], b"not JSON"]
    stream = b"".join(item + b"\n" for item in lines)
    expected = [Line(item, len(item) + 1) for item in lines]
    for cut in range(len(stream) + 1):
        splitter = LineSplitter(1 << 20)
        assert splitter.feed(stream[:cut]) + splitter.feed(stream[cut:]) == expected
    splitter = LineSplitter(1 << 20)
    assert [found for at in range(len(stream)) for found in splitter.feed(stream[at : at + 1])] == expected
