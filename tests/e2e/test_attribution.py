"""Which lines are whose, with a real OpenCode: formatters, bash, parallel calls, subagents, people, git, undoing."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent_trace_sidecar.fingerprints import line_hashes
from tests.support.fake_model import Call, FakeModel, Step, fake_model
from tests.support.opencode import OpenCode, opencode
from tests.support.postgres import fetch
from tests.support.records import checked
from tests.support.waiting import eventually

FILES = {
    "a.txt": "one\ntwo\nthree\nfour\n",
    "b.py": "x=1\ny=2\n",
    "c.py": "p=1\nq=2\n",
    "mv.txt": "m\nn\no\np\n",
    "mv2.txt": "".join(f"line {n}\n" for n in range(20)),
    "gone.txt": "a\nb\n",
    ".gitignore": "ignored/\n",
}
FORMAT = """sed -i 's/ *= */ = /' "$0"; grep -q formatted "$0" || sed -i '1i # formatted' "$0" """
RANGES = """
SELECT path, start_line, end_line, tool, method, session_id, message_id, model_id, voided_at IS NOT NULL AS void
FROM agent_trace_ranges ORDER BY recorded_at, record_id, path, start_line
"""


def bash(command: str) -> Call:
    """A call of bash."""
    return Call("bash", {"command": command, "description": "do it"})


@dataclass
class Attribution:
    """An OpenCode that records into a database of its own."""

    oc: OpenCode
    url: str

    def project(self, name: str, files: dict[str, Any]) -> Path:
        """Make a project and run `init` there."""
        project = self.oc.project(name, files)
        command = [sys.executable, "-m", "agent_trace_sidecar", "init", str(project)]
        subprocess.run(command, check=True, capture_output=True)
        self.oc.git(project, "add", "-A")
        self.oc.git(project, "commit", "-q", "-m", "Record")
        return project

    def run(self, project: Path, prompt: str, *args: str) -> None:
        """Do a prompt, and wait until all of it is stored."""
        done = self.oc.run(project, prompt, *args)
        assert done.code == 0, done.stderr
        self.wait("bye")

    def rows(self, query: str = RANGES, *args: object) -> list[dict[str, Any]]:
        """Ask the database."""
        return [dict(row) for row in fetch(self.url, query, *args)]

    def wait(self, event_name: str, number: int = 1) -> None:
        """Wait until so many events of this name are stored."""
        query = "SELECT count(*) AS n FROM agent_trace_events WHERE event_name = $1"
        eventually(lambda: self.rows(query, event_name)[0]["n"] >= number, 20, f"{number} {event_name} stored")

    def spans(self) -> set[tuple[str, int, int, str, str]]:
        """All ranges in short; and every record is a valid one."""
        for row in self.rows("SELECT record::text AS record FROM agent_trace_records"):
            checked(row["record"])
        return {(r["path"], r["start_line"], r["end_line"], r["tool"], r["method"]) for r in self.rows()}

    def kinds(self) -> set[tuple[str, str | None, str]]:
        """Every file of every record: where it stands, where it stood, and what happened to it."""
        return {(r["path"], r["old_path"], r["kind"]) for r in self.rows("SELECT * FROM agent_trace_file_states")}

    def state(self, path: str) -> tuple[bytes | None, bytes | None]:
        """What the last record that touched a file says of it before and after."""
        query = (
            "SELECT * FROM agent_trace_file_states WHERE path = $1 ORDER BY recorded_at DESC, record_id DESC LIMIT 1"
        )
        (row,) = self.rows(query, path)
        return row["before_hashes"], row["after_hashes"]


def hashes(text: str) -> bytes:
    """What is kept of a file's lines."""
    return line_hashes(text.encode().splitlines())


@pytest.fixture
def model() -> Iterator[FakeModel]:
    """A scripted model."""
    with fake_model() as served:
        yield served


@pytest.fixture
def recorder(model: FakeModel, migrated_url: str) -> Iterator[Attribution]:
    """An OpenCode with a formatter, that records."""
    with opencode(model) as oc:
        oc.env["AGENT_TRACE_DATABASE_URL"] = migrated_url
        oc.env["AGENT_TRACE_STATE_DIR"] = str(oc.folder / "state")
        oc.config["formatter"] = {"ours": {"command": ["sh", "-c", FORMAT, "$FILE"], "extensions": [".py"]}}
        yield Attribution(oc, migrated_url)


def test_what_bash_and_formatters_wrote_is_the_ais_and_nothing_else(recorder: Attribution, model: FakeModel) -> None:
    """Each call has its own lines, also of calls that ran side by side; moves and deletions are data."""
    project = recorder.project("shop", FILES)
    first: Sequence[Call] = (
        Call("write", {"filePath": "new.py", "content": "a=1\n"}),
        bash("sleep 0.2; sed -i s/two/TWO/ a.txt; mkdir -p ignored; echo x > ignored/x.txt"),
        Call("edit", {"filePath": "b.py", "oldString": "y=2", "newString": "y=3\nz=4"}),
    )
    model.script(
        "bashwork",
        Step(first),
        Step([bash("git mv mv.txt moved.txt; mv mv2.txt mv3.txt; sed -i 's/line 7/LINE/' mv3.txt; rm gone.txt")]),
        Step(
            [bash("printf 'tee 1\\ntee 2\\n' | tee tee.txt"), bash("python3 -c \"open('py.txt','w').write('p\\n')\"")]
        ),
        Step([bash("echo five >> a.txt; false")]),
    )
    recorder.run(project, "bashwork")
    assert recorder.spans() == {
        ("new.py", 1, 2, "write", "content"),
        ("a.txt", 2, 2, "bash", "snapshot"),
        ("b.py", 1, 4, "edit", "diff"),
        ("mv3.txt", 8, 8, "bash", "snapshot"),
        ("tee.txt", 1, 2, "bash", "snapshot"),
        ("py.txt", 1, 1, "bash", "snapshot"),
        ("a.txt", 5, 5, "bash", "snapshot"),
    }
    assert recorder.kinds() >= {
        ("moved.txt", "mv.txt", "move"),
        ("mv3.txt", "mv2.txt", "move"),
        ("gone.txt", None, "delete"),
    }
    assert recorder.state("a.txt") == (hashes("one\nTWO\nthree\nfour\n"), hashes("one\nTWO\nthree\nfour\nfive\n"))
    assert recorder.state("moved.txt") == (hashes(FILES["mv.txt"]), hashes(FILES["mv.txt"]))
    assert recorder.state("gone.txt") == (hashes(FILES["gone.txt"]), b"")
    assert {row["model_id"] for row in recorder.rows()} == {"fake/m1"}
    records = recorder.rows("SELECT record::text AS record, vcs_revision, event_id FROM agent_trace_records")
    assert {row["vcs_revision"] for row in records} == {recorder.oc.git(project, "rev-parse", "HEAD").strip()}
    deleted = [gone for row in records for gone in json.loads(row["record"])["metadata"].get("io.opencode.deleted", [])]
    assert {"path": "gone.txt", "start_line": 1, "end_line": 2} in deleted
    known = "SELECT event_id FROM agent_trace_events WHERE event_name = 'tool.execute.after' AND event_id = $1"
    assert all(recorder.rows(known, row["event_id"]) for row in records)
