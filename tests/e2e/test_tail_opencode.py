"""The container's way: a real OpenCode appends to files, `tail` is another process."""

import json
from pathlib import Path
from uuid import UUID

import pytest

from tests.support.fake_model import Call, Step, fake_model
from tests.support.opencode import ROOT, opencode
from tests.support.pooler import pgbouncer
from tests.support.postgres import OwnServer, execute, fetch
from tests.support.sidecar import sidecar_env
from tests.support.tailing import small_files, stored_ids, tailing
from tests.support.waiting import eventually, exit_code

EDITS = tuple(
    Step([Call("write", {"filePath": f"new{number}.txt", "content": "a line\n" * (number + 1)})]) for number in range(6)
)


@pytest.mark.needs("pgbouncer")
def test_sessions_in_many_files_with_kills_in_between_are_stored_once(own_server: OwnServer, tmp_path: Path) -> None:
    """Three sessions and their rotation, with `tail` killed by force in two of them, as a writer through PgBouncer."""
    logs = tmp_path / "logs"
    server_url = own_server.url
    execute(server_url, (ROOT / "deploy" / "roles.sql").read_text())
    with pgbouncer(server_url, ["agent_trace_writer"]) as pooled, fake_model() as model, opencode(model) as oc:
        url = pooled.replace("///", "//agent_trace_writer@/", 1)
        env = sidecar_env(tmp_path / "state", url, flush_ms="50", batch_size="5")
        model.script("filework", *EDITS)
        project = oc.project("shop", {"a.txt": "one\n"})
        revision = oc.git(project, "rev-parse", "HEAD").strip()
        oc.add_plugin(project, small_files(tmp_path))
        oc.env["AGENT_TRACE_LOG_DIR"] = str(logs)
        for _ in range(2):
            before = len(stored_ids(server_url))
            with (
                tailing(env, tmp_path / "said", logs) as tail,
                oc.start(project, "filework please") as process,
            ):
                eventually(lambda before=before: len(stored_ids(server_url)) > before + 10, 30, "it is at work")  # type: ignore[misc]
                tail.kill()
                assert exit_code(process, 60) == 0
        with tailing(env, tmp_path / "said", logs) as tail:
            assert oc.run(project, "filework please").code == 0
            assert tail.stop() == 0
    files = sorted(logs.iterdir())
    lines = [json.loads(line) for file in files for line in file.read_bytes().splitlines()]
    assert len(files) > 9
    assert all(file.name.endswith(".done.jsonl") for file in files)
    assert stored_ids(server_url) == {UUID(line["id"]) for line in lines}
    records = fetch(server_url, "SELECT count(*) AS n, count(DISTINCT event_id) AS m FROM agent_trace_records")
    assert [tuple(row) for row in records] == [(18, 18)]
    observed = fetch(
        server_url, "SELECT vcs_revision AS revision FROM agent_trace_records ORDER BY recorded_at DESC LIMIT 6"
    )
    assert {row["revision"] for row in observed} == {revision}
    gaps = fetch(server_url, "SELECT state->'sequence'->>'missing' AS n FROM agent_trace_sources WHERE kind <> 'file'")
    assert [row["n"] for row in gaps] == ["0"] * 3
