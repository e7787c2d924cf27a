"""The views, over recordings of real sessions and over payloads that are not what they should be."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.support.envelopes import DATA, MESSAGE, RECORDINGS, Shim, recorded_lines
from tests.support.postgres import PostgresServers, execute, fetch

LOGS = [str(DATA / "recordings" / f"{name}.jsonl") for name in RECORDINGS]
BY_DAY = ("calls_by_day", "dead_letters_by_day", "lines_by_day", "secrets_by_day", "usage_by_day")
BY_USER = ("calls_by_user", "lines_by_user", "secrets_by_user", "usage_by_user")
VIEWS = sorted((*BY_DAY, *BY_USER, "calls", "lines", "messages", "prompts", "requests", "sessions", "steps", "titles"))


def parts() -> list[dict[str, Any]]:
    """All parts of messages in the recordings, as they came."""
    events = [json.loads(line) for name in RECORDINGS for line in recorded_lines(name)]
    bus = [event["input"]["event"] for event in events if event["hook"] == "event"]
    return [event["properties"]["part"] for event in bus if event["type"] == "message.part.updated"]


def test_every_call_that_ended_is_there_once(recordings_url: str) -> None:
    """With its tool, its end and its duration."""
    told = Counter(
        (p["sessionID"], p["messageID"], p["callID"], p["tool"], p["state"]["status"])
        for p in parts()
        if p["type"] == "tool" and p["state"]["status"] in ("completed", "error")
    )
    rows = fetch(recordings_url, "SELECT session_id, message_id, call_id, tool, status FROM agent_trace_calls")
    assert Counter(tuple(row) for row in rows) == told
    assert {"completed", "error"} == {row["status"] for row in rows}
    assert (
        fetch(recordings_url, "SELECT count(*) FROM agent_trace_calls WHERE seconds IS NULL OR seconds < 0")[0][0] == 0
    )


def test_a_secret_that_the_events_of_a_call_repeat_counts_once(recordings_url: str) -> None:
    """The key of the recordings stands in arguments, results and messages of the same calls."""
    (row,) = fetch(
        recordings_url, "SELECT sum(masked)::int AS masked, sum(events)::int AS events FROM agent_trace_secrets_by_day"
    )
    calls = "SELECT count(DISTINCT (session_id, coalesce(call_id, event_id::text)))::int FROM agent_trace_events"
    assert row["masked"] == fetch(recordings_url, f"{calls} WHERE payload ? 'redacted'")[0][0]
    assert row["masked"] < row["events"]


def test_a_call_of_opencode_2_lasts_from_its_last_start_to_its_end(migrated_url: str) -> None:
    """Ids of calls come again in later messages; a start that never ended is no call, nor is a hook of OpenCode 1."""
    told: list[tuple[str, int, str, dict[str, Any]]] = [
        ("before", 1, "c1", {"messageID": "m1"}),
        ("after", 3, "c1", {"messageID": "m1", "status": "completed"}),
        ("before", 10, "c1", {"messageID": "m2"}),
        ("before", 11, "c2", {"messageID": "m2"}),
        ("after", 14, "c1", {"messageID": "m2", "status": "error", "error": {"message": "no"}}),
        ("after", 20, "c3", {"messageID": "m3", "status": "completed"}),
        ("before", 21, "c4", {}),
        ("after", 22, "c4", {}),
    ]
    for hook, second, call, given in told:
        message = given.get("messageID")
        execute(
            migrated_url,
            "INSERT INTO agent_trace_events "
            f"VALUES (gen_random_uuid(), '2026-01-02T00:00:{second:02}Z', gen_random_uuid(), 1, 's', "
            f"{repr(message) if message else 'NULL'}, '{call}', 'tool.execute.{hook}', 'edit', "
            f"'{json.dumps({'worktree': '/w', 'input': given})}')",
        )
    rows = fetch(
        migrated_url,
        "SELECT message_id, call_id, status, seconds::float, error, worktree FROM agent_trace_calls "
        "ORDER BY finished_at",
    )
    assert [tuple(row) for row in rows] == [
        ("m1", "c1", "completed", 2.0, None, "/w"),
        ("m2", "c1", "error", 4.0, "no", "/w"),
        ("m3", "c3", "completed", None, None, "/w"),
    ]


def test_tokens_and_cost_add_up(recordings_url: str) -> None:
    """By step, by session and by day they are the same sums."""
    steps = [part for part in parts() if part["type"] == "step-finish"]
    expected = (len(steps), sum(s["tokens"]["input"] for s in steps), sum(s["tokens"]["output"] for s in steps))
    cost = sum(s["cost"] for s in steps)
    for query in (
        "SELECT count(*), sum(input_tokens), sum(output_tokens), sum(cost) FROM agent_trace_steps",
        "SELECT sum(steps), sum(input_tokens), sum(output_tokens), sum(cost) FROM agent_trace_sessions",
        "SELECT sum(steps), sum(input_tokens), sum(output_tokens), sum(cost) FROM agent_trace_usage_by_day",
    ):
        row = fetch(recordings_url, query)[0]
        assert tuple(map(int, row[:3])) == expected
        assert float(row[3]) == pytest.approx(cost)
    models = fetch(recordings_url, "SELECT DISTINCT model_id FROM agent_trace_steps ORDER BY 1")
    assert [row[0] for row in models] == ["anthropic/claude-sonnet-4-5", "mock/gpt-4o", "openai/gpt-5-codex"]


RAW = {
    """
    SELECT day, model_id, steps, sessions, input_tokens, output_tokens, reasoning_tokens, cache_read_tokens,
           cache_write_tokens, cost, unpriced_steps FROM agent_trace_usage_by_day
    """: """
    SELECT (finished_at AT TIME ZONE 'UTC')::date, model_id, count(*), count(DISTINCT session_id), sum(input_tokens),
           sum(output_tokens), sum(reasoning_tokens), sum(cache_read_tokens), sum(cache_write_tokens), sum(cost),
           count(*) FILTER (WHERE cost IS NULL) FROM agent_trace_steps GROUP BY 1, 2
    """,
    "SELECT day, tool, calls, failed, mean_seconds, max_seconds FROM agent_trace_calls_by_day": """
    SELECT (finished_at AT TIME ZONE 'UTC')::date, tool, count(*), count(*) FILTER (WHERE status = 'error'),
           round(avg(seconds), 3), max(seconds) FROM agent_trace_calls GROUP BY 1, 2
    """,
    "SELECT day, rule, masked, events FROM agent_trace_secrets_by_day": """
    SELECT day, rule, sum(masked), sum(events)::bigint FROM (
        SELECT (e.occurred_at AT TIME ZONE 'UTC')::date AS day, m.key AS rule,
               max(agent_trace_number(m.value)) AS masked, count(*) AS events
        FROM agent_trace_events e, jsonb_each(e.payload -> 'redacted') m
        GROUP BY 1, 2, e.session_id, coalesce(e.call_id, e.event_id::text)
    ) calls GROUP BY 1, 2
    """,
    """
    SELECT r.session_id, r.message_id, r.part_id, r.finished_at, r.model_id, r.agent, r.input_tokens, r.output_tokens,
           r.reasoning_tokens, r.cache_read_tokens, r.cache_write_tokens, r.cost, r.source_id, r.worktree
    FROM agent_trace_requests r
    """: """
    SELECT s.session_id, s.message_id, s.part_id, s.finished_at, s.model_id, s.agent, s.input_tokens, s.output_tokens,
           s.reasoning_tokens, s.cache_read_tokens, s.cache_write_tokens, s.cost, s.source_id,
           (SELECT min(e.payload ->> 'worktree') FROM agent_trace_events e WHERE e.source_id = s.source_id)
    FROM agent_trace_steps s
    """,
    "SELECT session_id, parent_session_id, title FROM agent_trace_titles": """
    SELECT session_id, parent_session_id, title FROM agent_trace_sessions WHERE title IS NOT NULL
    """,
}
"""For each view over narrow rows, or over an index, the same figures from the events themselves."""


@pytest.fixture(scope="module")
def odd_url(postgres_servers: PostgresServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The recordings, a run with secrets, parts that were sent again, and calls of OpenCode 2; all replayed twice."""
    shim, folder = Shim(), tmp_path_factory.mktemp("odd")
    tokens = {"input": 7, "output": 3.5, "reasoning": None, "cache": {"read": 2, "write": "x"}}
    part = {"id": "p1", "type": "step-finish", "sessionID": "s", "messageID": MESSAGE, "cost": 0.1, "tokens": tokens}
    call = {"id": "p2", "type": "tool", "tool": "bash", "callID": "c", "sessionID": "s", "messageID": MESSAGE}
    state = {"status": "completed", "time": {"start": 1000, "end": 2500.4}}
    lines = [
        shim.assistant(session="s"),
        *(
            shim.event("message.part.updated", {"part": one, "time": 2600})
            for one in (part, part, {**part, "id": "p3"})
        ),
        *(shim.event("message.part.updated", {"part": {**call, "state": state}, "time": 2600}) for _ in range(2)),
        shim.assistant(session="s", time={"created": 1, "completed": 3000}),
        shim.event("message.part.updated", {"part": {**part, "id": "p4"}, "time": 9000}),
        shim.event("message.part.updated", {"part": {**call, "id": "p5", "state": state}, "time": 9000}),
        shim.event("message.part.updated", {"part": {**part, "id": "p6", "cost": 0}, "time": 2700}),
        *(
            shim.line(
                f"tool.execute.{hook}",
                {"tool": "edit", "sessionID": "s2", "messageID": "m2", "id": "c2", **more},
                api=2,
            )
            for hook, more in (
                ("before", {}),
                ("after", {"status": "error"}),
                ("before", {}),
                ("after", {"status": "completed"}),
            )
        ),
        shim.event(
            "session.step.ended", {"sessionID": "s2", "assistantMessageID": "m2", "tokens": tokens, "cost": 2}, api=2
        ),
        shim.line("tool.execute.before", {"tool": "bash"}, {"args": {"command": "export DB_PASSWORD=Tr0ub4dor-and-3"}}),
    ]
    (folder / "odd.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    with postgres_servers.database(migrated=True) as url:
        for _ in range(2):
            subprocess.run(
                [sys.executable, "-m", "agent_trace_sidecar", "replay", *LOGS, str(folder / "odd.jsonl")],
                env={**os.environ, "DATABASE_URL": url, "AGENT_TRACE_STATE_DIR": str(folder)},
                check=True,
                capture_output=True,
            )
        yield url


@pytest.mark.parametrize("summed", RAW, ids=["usage", "calls", "secrets", "requests", "titles"])
def test_figures_are_those_of_the_events(odd_url: str, summed: str) -> None:
    """The narrow tables beside the events say the same as their payloads."""
    rows = sorted(map(repr, map(tuple, fetch(odd_url, summed))))
    assert rows == sorted(map(repr, map(tuple, fetch(odd_url, RAW[summed]))))
    assert len(rows) > 1


def test_a_session_says_what_it_did(recordings_url: str) -> None:
    """A subagent's names its parent, and the numbers are those of the other views."""
    rows = fetch(recordings_url, "SELECT * FROM agent_trace_sessions WHERE parent_session_id IS NOT NULL")
    assert [row["title"] for row in rows] == ["sub work (@general subagent)"]
    for table, column in (("calls", "calls"), ("steps", "steps")):
        different = fetch(
            recordings_url,
            f"SELECT s.session_id FROM agent_trace_sessions s WHERE s.{column} <> "
            f"(SELECT count(*) FROM agent_trace_{table} o WHERE o.session_id = s.session_id)",
        )
        assert different == []
    lines = fetch(recordings_url, "SELECT sum(ai_lines) FROM agent_trace_sessions")[0][0]
    assert lines == fetch(recordings_url, "SELECT sum(end_line - start_line + 1) FROM agent_trace_ranges")[0][0]
    assert lines == fetch(recordings_url, "SELECT sum(lines) FROM agent_trace_lines_by_day")[0][0]


def test_undone_lines_are_nobodys(migrated_url: str) -> None:
    """And what a repository is called comes from the source that recorded."""
    source, record = uuid4(), uuid4()
    execute(
        migrated_url,
        f"INSERT INTO agent_trace_sources VALUES ('{source}', 'instance', 'h', 0, 0, '{{}}', now(), now(), NULL, "
        "'anna', "
        '\'{"/w": "https://example.com/r"}\')',
        *(
            "INSERT INTO agent_trace_ranges (source_id, record_id, recorded_at, ordinal, worktree, path, start_line, "
            f"end_line, contributor, method, voided_at) "
            f"VALUES ('{source}', '{record}', '2026-01-02', {end}, '/w', 'a', 1, {end}, 'ai', 'diff', {voided})"
            for end, voided in ((10, "NULL"), (500, "now()"))
        ),
    )
    [row] = fetch(migrated_url, "SELECT day::text, repository, lines FROM agent_trace_lines_by_day")
    assert tuple(row) == ("2026-01-02", "https://example.com/r", 10)
    assert fetch(migrated_url, "SELECT os_user FROM agent_trace_lines")[0][0] == "anna"


@pytest.mark.parametrize("odd", ["x", [], {}, None, True, -1, 1e300, 10**40])
def test_odd_values_fail_no_query(migrated_url: str, odd: object) -> None:
    """Whatever stands where a number, a time or an object should."""
    state = {"status": "completed", "time": {"start": odd, "end": odd}}
    shapes = [
        ("message.part.updated", {"part": {"type": "tool", "state": state}}),
        ("message.part.updated", {"part": {"type": "step-finish", "tokens": odd, "cost": odd}}),
        (
            "message.part.updated",
            {"part": {"type": "step-finish", "tokens": {"input": odd, "cache": odd}, "cost": odd}},
        ),
        ("message.updated", {"info": odd}),
        ("session.created", {"info": odd}),
        ("session.step.ended", {"tokens": {"input": odd}, "cost": odd}),
        ("session.step.started", {"model": odd}),
    ]
    for name, properties in shapes:
        payload = json.dumps(
            {"input": {"event": {"properties": properties}}, "redacted": {"rule": odd}, "worktree": odd}
        )
        execute(
            migrated_url,
            "INSERT INTO agent_trace_events VALUES (gen_random_uuid(), now(), gen_random_uuid(), 1, 's', 'm', 'c', "
            f"'{name}', 'edit', '{payload}')",
            "INSERT INTO agent_trace_events VALUES (gen_random_uuid(), now(), gen_random_uuid(), 1, 's', 'm', 'c', "
            f"'tool.execute.after', 'edit', '{json.dumps({'input': odd, 'redacted': odd})}')",
        )
    for view in VIEWS:
        fetch(migrated_url, f"SELECT * FROM agent_trace_{view}")


def test_every_view_is_explained_and_named_here(migrated_url: str) -> None:
    """In the database itself, where a dashboard's author looks."""
    rows = fetch(
        migrated_url,
        "SELECT relname, obj_description(oid) FROM pg_class WHERE relkind = 'v' AND relname LIKE 'agent_trace%'",
    )
    assert sorted(row[0] for row in rows) == [f"agent_trace_{view}" for view in VIEWS]
    assert all(row[1] for row in rows)
