"""AGENT_TRACE_REPOSITORIES: what is denied reaches nothing, and what the sidecar leaves out is counted."""

import asyncio
import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent_trace_sidecar.config import Config, ConfigError, load
from agent_trace_sidecar.pipeline.replay import replay
from agent_trace_sidecar.telemetry import logging as log
from tests.support.fake_model import Call, FakeModel, Step, fake_model
from tests.support.opencode import OpenCode, opencode
from tests.support.opencode2 import OpenCode2, opencode2
from tests.support.postgres import fetch, free_port
from tests.support.recorder import Recorder
from tests.support.sidecar import ShimDouble, folder_contents, sidecar_command, sidecar_env
from tests.support.tailing import Writer, stored_ids, tailing
from tests.support.waiting import completed, eventually, patient

MAJORS = [pytest.param(1, id="1.18"), pytest.param(2, id="2.0", marks=pytest.mark.needs("OpenCode 2"))]
HIDDEN = "do the hidden work"
WRITTEN = "text that nobody else may see"
COUNTS = """
SELECT coalesce(sum((state->>'stored')::int), 0) AS stored, coalesce(sum((state->>'denied')::int), 0) AS denied,
       coalesce(sum((state->>'read')::int), 0) AS read
FROM agent_trace_sources WHERE kind IN ('stdin', 'file')
"""


GAPS = "SELECT state->'sequence'->>'missing' AS n FROM agent_trace_sources WHERE kind = 'instance'"


def counts(url: str) -> tuple[int, int, int]:
    """Events read, stored and denied."""
    (row,) = fetch(url, COUNTS)
    return row["read"], row["stored"], row["denied"]


def ours(env: Mapping[str, str], cwd: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of ours there."""
    return completed(sidecar_command(*words), 60, cwd=cwd, env=env)


def scraped(port: int) -> str:
    """The metrics; empty until they are served."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=patient(10)) as answer:
            return str(answer.read().decode())
    except urllib.error.URLError:
        return ""


@contextmanager
def working(major: int) -> Iterator[OpenCode]:
    """An OpenCode of a major version."""
    path = "filePath" if major == 1 else "path"
    with fake_model() as model, (opencode if major == 1 else opencode2)(model) as oc:
        _scripts(model, path)
        yield oc


def _scripts(model: FakeModel, path: str) -> None:
    model.script("open work", Step([Call("write", {path: "new.txt", "content": "x\n"})]))
    model.script("hidden work", Step([Call("write", {path: "new.txt", "content": f"{WRITTEN}\n"})]))


def _work(oc: OpenCode, projects: Mapping[Path, str]) -> None:
    """One OpenCode process works in all projects."""
    first = next(iter(projects))
    if isinstance(oc, OpenCode2):
        with oc.service(first) as service:
            for project, prompt in projects.items():
                service.prompt(service.session(project), prompt)
            service.stop()
        return
    with oc.serve() as server:
        for project, prompt in projects.items():
            server.prompt(project, server.session(project), prompt)
        for project in projects:
            server.dispose(project)


@pytest.mark.parametrize("major", MAJORS)
def test_a_denied_repository_reaches_neither_disk_nor_database(major: int, migrated_url: str) -> None:
    """Beside one that is recorded, in one OpenCode; `status` and `backfill` say so."""
    with working(major) as oc:
        recorder = Recorder(oc, migrated_url)
        projects = {recorder.project(name, {"a.txt": "one\n"}): f"do the {name} work" for name in ("open", "hidden")}
        shown, hidden = projects
        oc.git(hidden, "remote", "add", "origin", "git@example.com:Hidden/thing.git")
        oc.env["AGENT_TRACE_REPOSITORIES"] = "!https://example.com/hidden"
        _work(oc, projects)
        assert (hidden / "new.txt").read_text() == f"{WRITTEN}\n"
        recorder.wait_for("bye")

        recorder.assert_complete()
        assert recorder.ranges() == {"new.txt": [(1, 1)]}
        assert {row["worktree"] for row in recorder.rows("SELECT worktree FROM agent_trace_sessions")} == {str(shown)}
        state = oc.folder / "state"
        kept = b"".join(folder_contents(state).values())
        kept += json.dumps(recorder.rows("SELECT payload::text FROM agent_trace_events")).encode()
        kept += json.dumps(recorder.rows("SELECT state::text, repositories::text FROM agent_trace_sources")).encode()
        for text in (WRITTEN, HIDDEN, str(hidden)):
            assert text.encode() not in kept
        assert b"do the open work" in kept

        env = oc.environment(hidden)
        status = ours(env, hidden, "status").stdout
        assert "not recorded, AGENT_TRACE_REPOSITORIES denies it" in status
        assert "`agent-trace-sidecar reconcile` lists" not in status
        filled = ours(env, hidden, "backfill")
        assert filled.returncode == 0, filled.stderr
        assert "Left out: 1 session of repositories that AGENT_TRACE_REPOSITORIES denies." in filled.stdout
        compared = ours(env, hidden, "reconcile", "--json")
        assert json.loads(compared.stdout)["denied"] == 1, compared.stderr
        assert json.loads(compared.stdout)["sessions"][0]["directory"] == str(shown)
        assert recorder.rows("SELECT count(*) AS n FROM agent_trace_sessions")[0]["n"] == 1


@pytest.mark.parametrize("how", ["run", "tail", "replay"])
def test_denied_lines_are_left_out_and_counted(how: str, migrated_url: str, tmp_path: Path) -> None:
    """Of a shim without the setting; no number of the run counts as lost."""
    env = sidecar_env(tmp_path / "state", migrated_url, flush_ms="20", repositories="!/hidden")
    writer = Writer("/open")
    lines = writer.lines(4)
    writer.worktree = "/hidden/deep"
    lines += writer.lines(4, 100) + writer.line(100)[:-50] + b"\n"  # the last one is cut off
    writer.worktree = "/open"
    lines += writer.line()
    (tmp_path / "a.jsonl").write_bytes(lines)
    if how == "run":
        with ShimDouble(env) as shim:
            for seq, line in enumerate(lines.splitlines(), 1):
                assert shim.send(seq, line)
            assert shim.close() == 0
    elif how == "tail":
        with tailing(env, tmp_path / "said", tmp_path / "a.jsonl") as tail:
            eventually(lambda: counts(migrated_url)[0] == 10, 20, "everything is read")
            assert tail.stop() == 0
    else:
        done = ours(env, tmp_path, "replay", str(tmp_path / "a.jsonl"))
        assert done.stdout.endswith(
            "10 events read, 5 stored, 0 duplicate, 0 dead, 5 denied by AGENT_TRACE_REPOSITORIES\n"
        )
        again = ours(env, tmp_path, "replay", str(tmp_path / "a.jsonl"))
        assert again.stdout.endswith("nothing new, all 5 events are already stored, 5 denied\n")
    assert counts(migrated_url) == (10, 5, 5)
    assert stored_ids(migrated_url) == {*writer.ids[:4], writer.ids[-1]}
    assert fetch(migrated_url, "SELECT reason FROM agent_trace_dead_letters") == []
    gaps = fetch(migrated_url, GAPS)
    assert {row["n"] for row in gaps} == {"0"}
    status = ours(env, tmp_path, "status")
    assert "10 read = 5 stored + 0 duplicate + 0 dead + 5 denied by AGENT_TRACE_REPOSITORIES" in status.stdout


def test_denied_lines_are_a_metric(migrated_url: str, tmp_path: Path) -> None:
    """From the start, so that an alert sees the first one."""
    port = free_port()
    settings = {"http": f"127.0.0.1:{port}", "repositories": "/open", "flush_ms": "20"}
    name = 'agent_trace_sidecar_events_total{outcome="denied"}'
    with tailing(sidecar_env(tmp_path / "state", migrated_url, **settings), tmp_path / "said", tmp_path / "a.jsonl"):
        eventually(lambda: f"{name} 0\n" in scraped(port), 20, "it is there")
        (tmp_path / "a.jsonl").write_bytes(Writer("/elsewhere").lines(3))
        eventually(lambda: f"{name} 3\n" in scraped(port), 20, "it counts")


def test_import_into_a_denied_repository_is_refused(migrated_url: str, tmp_path: Path) -> None:
    """Before a record is read."""
    env = sidecar_env(tmp_path / "state", migrated_url, repositories=f"!{tmp_path}")
    (tmp_path / "records.jsonl").write_text("{}\n")
    done = ours(env, tmp_path, "import", "records.jsonl")
    assert (done.returncode, f"AGENT_TRACE_REPOSITORIES denies {tmp_path}" in done.stderr) == (1, True), done.stderr


def test_a_wrong_pattern_is_an_error_at_start(tmp_path: Path) -> None:
    """One sentence that names the setting and the choices."""
    with pytest.raises(
        ConfigError, match=r"^AGENT_TRACE_REPOSITORIES: 'acme/\*' is neither a path nor a URL: give paths"
    ):
        load({"HOME": str(tmp_path), "AGENT_TRACE_REPOSITORIES": "/web,acme/*"})


def test_a_log_whose_repositories_cannot_be_seen_is_not_recorded_where_only_some_are(
    migrated_url: str, tmp_path: Path
) -> None:
    """A URL is known by the repository alone; what is not known is not among what is wanted."""
    (tmp_path / "a.jsonl").write_bytes(Writer("/nowhere").lines(2))
    config = Config(database_url=migrated_url, state_dir=str(tmp_path / "state"), repositories="example.com/open")
    (done,) = asyncio.run(replay(config, log.logger(), [tmp_path / "a.jsonl"], lambda *_: None))
    assert done.counts == (2, 0, 0, 0, 2)
