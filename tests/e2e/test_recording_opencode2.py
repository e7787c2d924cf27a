"""A real OpenCode 2 with our shim: a run with a server of its own, and runs on the background server."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.support.fake_model import Call, FakeModel, Step, fake_model
from tests.support.opencode2 import VERSION, OpenCode2, opencode2
from tests.support.recorder import Recorder
from tests.support.waiting import eventually

pytestmark = pytest.mark.needs("OpenCode 2")

PATCH = "*** Begin Patch\n*** Update File: a.txt\n@@\n-two\n+zwei\n*** Add File: added.txt\n+hello\n*** End Patch"
RECORDS = "SELECT DISTINCT model_id, vcs_revision, tool_version, contributor FROM agent_trace_records"


@pytest.fixture
def model() -> Iterator[FakeModel]:
    """A scripted model."""
    with fake_model() as served:
        served.script(
            "editwork",
            Step([Call("write", {"path": "new.txt", "content": "x\ny\n"})]),
            Step([Call("edit", {"path": "a.txt", "oldString": "one", "newString": "eins"})]),
            Step([Call("shell", {"command": "echo made > made.txt"})]),
        )
        served.script("patchwork", Step([Call("patch", {"patchText": PATCH})]))
        yield served


@pytest.fixture
def oc(model: FakeModel) -> Iterator[OpenCode2]:
    """An OpenCode 2."""
    with opencode2(model) as installed:
        yield installed


@pytest.fixture
def recorder(oc: OpenCode2, migrated_url: str) -> Recorder:
    """The same, when it records."""
    return Recorder(oc, migrated_url)


def test_a_run_with_a_server_of_its_own_is_recorded(recorder: Recorder) -> None:
    """Three tools: each file's lines, with model, revision and OpenCode's version."""
    project = recorder.project("shop", {"a.txt": "one\ntwo\n"})
    done = recorder.oc.run(project, "do the editwork")
    assert done.code == 0, done.stderr
    recorder.wait_for("bye")

    recorder.assert_complete()
    assert recorder.ranges() == {"a.txt": [(1, 1)], "made.txt": [(1, 1)], "new.txt": [(1, 2)]}
    head = recorder.oc.git(project, "rev-parse", "HEAD").strip()
    assert [tuple(row.values()) for row in recorder.rows(RECORDS)] == [("fake/m1", head, VERSION, "ai")]


def test_two_runs_on_the_background_server_are_recorded_by_one_sidecar(oc: OpenCode2, recorder: Recorder) -> None:
    """The second continues the session of the first, with a model that patches; `service stop` ends the recording."""
    project = recorder.project("shop", {"a.txt": "one\ntwo\n"})
    with oc.service(project) as service:
        session = service.session()
        service.prompt(session, "do the editwork")
        done = service.run("patchwork", "--session", session, "--model", "openai/gpt-5-x")
        assert done.code == 0, done.stderr
        assert {message["type"] for message in service.api("GET", f"/api/session/{session}/message")["data"]} >= {
            "user",
            "assistant",
        }
        service.stop()
        assert service.pid is None
    recorder.wait_for("bye")

    recorder.assert_complete()
    assert recorder.ranges()["added.txt"] == [(1, 1)]
    assert len(recorder.rows("SELECT source_id FROM agent_trace_sources WHERE kind = 'stdin'")) == 1


def test_what_only_opencode_2_tells_is_recorded(oc: OpenCode2, model: FakeModel, recorder: Recorder) -> None:
    """Prompts, the cost of titles, commands in the background, and that the stream is complete."""
    model.script(
        "backwork",
        Step([Call("shell", {"command": "sleep 1; echo late > late.txt", "description": "x", "background": True})]),
        Step([Call("edit", {"path": "a.txt", "oldString": "one", "newString": "eins"})]),
    )
    price = {"input": 1000, "output": 2000}
    priced = {"tool_call": True, "limit": {"context": 100_000, "output": 4000}, "cost": price}
    options = {"baseURL": model.base_url, "apiKey": "x"}
    provider = {"npm": "@ai-sdk/openai-compatible", "options": options, "models": {"m1": priced}}
    oc.config["provider"] = {"fake": provider}
    project = recorder.project("shop", {"a.txt": "one\ntwo\n"})
    with oc.service(project) as service:
        session = service.session()
        service.prompt(session, "do the backwork")
        recorder.wait_for("shell.exited")
        eventually(lambda: "late.txt" in recorder.ranges(), 10, "the lines of the command in the background are stored")
        service.stop()
    recorder.wait_for("bye")

    recorder.assert_complete()
    assert recorder.ranges() == {"a.txt": [(1, 1)], "late.txt": [(1, 1)]}
    (late,) = recorder.rows("SELECT tool, method, message_id, call_id FROM agent_trace_ranges WHERE path = 'late.txt'")
    (called,) = recorder.rows(
        "SELECT tool, message_id, call_id FROM agent_trace_events "
        "WHERE event_name = 'tool.execute.after' AND tool = 'shell'"
    )
    assert late == {**called, "method": "snapshot"}
    assert recorder.rows("SELECT prompt FROM agent_trace_prompts") == [{"prompt": "do the backwork"}]
    (found,) = recorder.rows("SELECT cost, input_tokens FROM agent_trace_sessions")
    store = oc.folder / "home" / "data" / "opencode" / "opencode.db"
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        cost, tokens = connection.execute("SELECT cost, tokens_input FROM session_v2").fetchone()
    assert cost > 0
    assert float(found["cost"]) == pytest.approx(cost)
    assert found["input_tokens"] == tokens
    (state,) = recorder.rows("SELECT state -> 'streams' AS streams FROM agent_trace_sources WHERE kind = 'instance'")
    assert [(name, missing) for name, (_, _, missing, *_) in json.loads(state["streams"])] == [(session, 0)]
    (unknown,) = recorder.rows("SELECT state -> 'unknown' AS unknown FROM agent_trace_sources WHERE kind = 'instance'")
    assert json.loads(unknown["unknown"]) == []
    assert recorder.rows("SELECT event_name FROM agent_trace_events WHERE event_name = 'session.created'") != []
