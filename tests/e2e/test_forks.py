"""A session that is forked: OpenCode publishes its history again, and nothing of it counts twice."""

import json
import subprocess
from pathlib import Path

from tests.support.envelopes import INSTANCE, MESSAGE, SESSION, Shim
from tests.support.fake_model import Call, Step, fake_model
from tests.support.figures import Figure, figures
from tests.support.opencode import SHIM, opencode
from tests.support.postgres import fetch
from tests.support.sidecar import sidecar_command, sidecar_env
from tests.support.waiting import patient

TOTALS = """
SELECT (SELECT count(*) FROM agent_trace_steps) AS steps, (SELECT sum(input_tokens) FROM agent_trace_steps) AS tokens,
       (SELECT count(*) FROM agent_trace_calls) AS calls, (SELECT sum(steps) FROM agent_trace_sessions) AS of_sessions,
       (SELECT sum(calls) FROM agent_trace_sessions) AS calls_of_sessions,
       (SELECT sum(steps) FROM agent_trace_usage_by_day) AS of_days,
       (SELECT sum(calls) FROM agent_trace_calls_by_day) AS calls_of_days
"""


def totals(url: str) -> tuple[int, ...]:
    """Steps, their input tokens and calls, and the same by session and by day."""
    return tuple(int(value or 0) for value in fetch(url, TOTALS)[0])


def replay(tmp_path: Path, url: str, *files: Path) -> None:
    """Store these logs."""
    command = sidecar_command("replay", *map(str, files))
    subprocess.run(
        command, env=sidecar_env(tmp_path / "state", url), check=True, capture_output=True, timeout=patient(60)
    )


def test_a_fork_counts_what_it_did_itself(migrated_url: str, tmp_path: Path) -> None:
    """By a real OpenCode: one edit in two steps, then a fork with one step of its own; in either order of replay."""
    logs = tmp_path / "logs"
    logs.mkdir()
    with fake_model() as model, opencode(model) as oc:
        project = oc.project("shop", {"a.txt": "one\n"})
        oc.add_plugin(project, SHIM)
        oc.env["AGENT_TRACE_LOG_DIR"] = str(logs)
        model.script("buy milk", Step([Call("write", {"filePath": "b.txt", "content": "x\n"})]), Step(text="done"))
        model.script("hi", Step(text="hello"))
        assert oc.run(project, "buy milk").code == 0
        assert oc.run(project, "hi", "-c", "--fork").code == 0
        first, fork = sorted(logs.glob("*.jsonl"))
        assert fork.read_text().count('"type":"step-finish"') == 3
        replay(tmp_path, migrated_url, fork)
        assert totals(migrated_url) == (1, 10, 0, 1, 0, 1, 0)
        replay(tmp_path, migrated_url, first)
        assert totals(migrated_url) == (3, 30, 1, 3, 1, 3, 1)
        found = figures(migrated_url, project, oc.environment(project))
        assert set(found.values()) == {Figure(0, 3 * 15)}, found


def test_a_part_that_is_sent_twice_counts_once(migrated_url: str, tmp_path: Path) -> None:
    """Under another event id, by the same run or another, on the day of the work; what has no price has no cost."""
    shim = Shim()
    tokens = {"input": 7, "output": 3, "reasoning": 0, "cache": {"read": 0, "write": 0}}
    part = {
        "id": "prt_1",
        "type": "step-finish",
        "sessionID": SESSION,
        "messageID": MESSAGE,
        "cost": 0,
        "tokens": tokens,
    }
    priced = {**part, "id": "prt_2", "cost": 0.5}
    lines = [shim.assistant(), *(shim.event("message.part.updated", {"part": one}) for one in (part, part, priced))]
    again = shim.event("message.part.updated", {"part": priced})
    other = json.loads(again) | {"instance": str(INSTANCE)[:-1] + "6", "at": json.loads(again)["at"] + 86_400_000}
    log = tmp_path / "log.jsonl"
    log.write_bytes(b"\n".join([*lines, again, json.dumps(other).encode()]) + b"\n")
    replay(tmp_path, migrated_url, log)
    assert totals(migrated_url)[:2] == (2, 14)
    [row] = fetch(migrated_url, "SELECT steps, cost::float, unpriced_steps FROM agent_trace_usage_by_day")
    assert tuple(row) == (2, 0.5, 1)
    [row] = fetch(migrated_url, "SELECT steps, cost::float, unpriced_steps FROM agent_trace_sessions")
    assert tuple(row) == (2, 0.5, 1)
