"""Agent Trace files of other tools, as they were seen in public repositories: what `import` makes of each kind."""

import io
import json
import os
from collections.abc import Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import pytest

from agent_trace_sidecar.cli import main
from agent_trace_sidecar.records.foreign_hashes import murmur3
from tests.support.attributed import Project
from tests.support.postgres import fetch

TOKEN = "ghp_" + "Zk3vQ9xT1mB7nR5cW2yD8fH4jL6pS0aE1uGo"
WIN = ("const a = alpha();", "const b = beta();", "const c = gamma();", "const d = delta();")


@pytest.fixture(name="project")
def _project(tmp_path: Path, migrated_url: str) -> Project:
    """A repository with one commit."""
    return Project(tmp_path / "repo", migrated_url)


@pytest.fixture(name="tool")
def _tool(project: Project, migrated_url: str, tmp_path: Path) -> "Tool":
    return Tool(project, migrated_url, tmp_path)


class Tool:
    """A tool that writes records, and the commands that read them."""

    def __init__(self, project: Project, url: str, folder: Path) -> None:
        self._project, self._url, self._folder = project, url, folder

    def record(self, path: str, *spans: dict[str, Any], **fields: object) -> dict[str, Any]:
        """A record that was made right after HEAD was committed, which it names."""
        conversation = {"contributor": {"type": "ai", "model_id": "anthropic/claude-opus-x"}, "ranges": list(spans)}
        record = {
            "version": "0.1.0",
            "id": str(uuid4()),
            "timestamp": self.time(),
            "vcs": {"type": "git", "revision": self._project.git("rev-parse", "HEAD")},
            "tool": {"name": "cursor"},
            "files": [{"path": path, "conversations": [conversation]}],
        }
        return record | fields

    def time(self, after_s: float = 1) -> str:
        """A time so long after HEAD was committed."""
        committed = int(self._project.git("show", "-s", "--format=%ct", "HEAD"))
        return (datetime.fromtimestamp(committed, UTC) + timedelta(seconds=after_s)).isoformat()

    def run(self, *words: str, code: int = 0) -> str:
        """Run a command in the repository, and give what it printed."""
        said = io.StringIO()
        env = {"AGENT_TRACE_DATABASE_URL": self._url}
        with chdir(self._project.root), patch.dict(os.environ, env), redirect_stdout(said), redirect_stderr(said):
            assert main(words) == code, said.getvalue()
        return said.getvalue()

    def write(self, *records: object, end: str = "\n", start: str = "") -> str:
        """Write a file of JSON lines."""
        file = self._folder / "traces.jsonl"
        file.write_text(start + end.join(json.dumps(one, ensure_ascii=False) for one in records) + end)
        return str(file)

    def imported(self, *records: object, code: int = 0) -> str:
        """Import records."""
        return self.run("import", self.write(*records), code=code)

    def authors(self, path: str, *more: str) -> str:
        """A letter for each line."""
        lines = json.loads(self.run("blame", "--json", path, *more))
        return "".join(line["contributor"][0] for line in lines)

    def exported(self) -> list[dict[str, Any]]:
        """What `export` gives back."""
        return [json.loads(line) for line in self.run("export").split("\n")[:-1]]


def span(start: int, end: int, **more: object) -> dict[str, Any]:
    """A range."""
    return {"start_line": start, "end_line": end, **more}


def commit(project: Project, path: str, lines: Sequence[str], *, end: str = "\n", at: str = "") -> str:
    """Write and commit a file, at a time if one is given."""
    project.write(path, *lines, end=end)
    if not at:
        return project.commit()
    project.git("add", "-A")
    env = {name: os.environ.get(name) for name in ("GIT_COMMITTER_DATE", "GIT_AUTHOR_DATE")}
    os.environ |= {"GIT_COMMITTER_DATE": at, "GIT_AUTHOR_DATE": at}
    try:
        project.git("commit", "-qm", "work")
    finally:
        for name, value in env.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return project.git("rev-parse", "HEAD")


def stored_text(url: str) -> str:
    """Everything that is stored, as text."""
    tables = [
        row[0]
        for row in fetch(
            url,
            "SELECT relname FROM pg_class WHERE relname LIKE 'agent_trace_%' AND relkind IN ('r', 'p') "
            "AND NOT relispartition",
        )
    ]
    return "\n".join(str(row[0]) for table in tables for row in fetch(url, f"SELECT t::text FROM {table} t"))


def test_no_secret_of_a_record_is_stored(project: Project, tool: Tool, migrated_url: str) -> None:
    """Wherever in the record it stands; and no hash of a line that holds one."""
    commit(project, "src/win.ts", (WIN[0], f'const token = "{TOKEN}";', *WIN[2:]))
    line = f'const token = "{TOKEN}";'
    record = tool.record(
        "src/win.ts",
        span(1, 1),
        span(2, 2, content_hash=f"murmur3:{murmur3(line.encode())}"),
        metadata={"command": f"export GITHUB_TOKEN={TOKEN}", "nested": [{"env": TOKEN}]},
    )
    record["files"][0]["conversations"][0]["url"] = f"https://user:{TOKEN}@example.org/c/1"
    assert "2 of 2 ranges" in tool.imported(record)
    stored = stored_text(migrated_url)
    assert TOKEN not in stored
    assert murmur3(line.encode()) not in stored
    rows = fetch(
        migrated_url, "SELECT start_line, line_hashes, content_hash FROM agent_trace_ranges ORDER BY start_line"
    )
    assert [(row[0], any(row[1]), row[2] is None) for row in rows] == [(1, True, False), (2, False, True)]


@pytest.mark.parametrize(
    "spelling",
    ["src\\win.ts", "./src/win.ts", "src//win.ts", "src/../src/win.ts", "{root}/src/win.ts", "link/win.ts"],
)
def test_a_path_is_understood_in_each_spelling(project: Project, tool: Tool, spelling: str) -> None:
    """Separators, dots, absolute inside the repository, and through a link."""
    (project.root / "link").symlink_to("src")
    commit(project, "src/win.ts", WIN)
    tool.imported(tool.record(spelling.format(root=project.root), span(1, 4)))
    assert tool.authors("src/win.ts") == "aaaa"


@pytest.mark.parametrize("path", ["/elsewhere/src/win.ts", "../src/win.ts", "C:\\repo\\src\\win.ts", ".shell-history"])
def test_a_path_of_no_file_here_claims_nothing(project: Project, tool: Tool, migrated_url: str, path: str) -> None:
    """Outside of the repository, of another machine, or no file at all; nor is it counted as lost."""
    commit(project, "src/win.ts", WIN)
    assert "0 of 1 range" in tool.imported(tool.record(path, span(1, 4)))
    assert fetch(migrated_url, "SELECT count(*) FROM agent_trace_ranges")[0][0] == 0
    assert json.loads(tool.run("stats", "--json"))["total"]["written"] == 0


@pytest.mark.parametrize("hashed", [True, False])
def test_a_count_that_is_one_too_high_is_understood(project: Project, tool: Tool, hashed: bool) -> None:
    """Tools that count line endings name a line after the last."""
    commit(project, "a.ts", WIN[:3])
    text = "".join(line + "\n" for line in WIN[:3])
    more = {"content_hash": f"murmur3:{murmur3(text.encode())}"} if hashed else {}
    tool.imported(tool.record("a.ts", span(1, 4, **more)))
    assert tool.authors("a.ts") == "aaa"


def test_a_count_that_is_one_too_high_does_not_take_the_next_line(project: Project, tool: Tool) -> None:
    """The hash tells; without one it is the lines that stood there before."""
    base = commit(project, "a.ts", ("// by hand", "// more by hand"))
    record = tool.record("a.ts", span(1, 5), timestamp=tool.time(3600))
    hashed = "".join(line + "\n" for line in WIN)
    other = tool.record("b.ts", span(1, 5, content_hash=f"murmur3:{murmur3(hashed.encode())}"))
    commit(project, "b.ts", (*WIN, "// by hand"))
    commit(project, "a.ts", (*WIN, "// by hand", "// more by hand"))
    assert record["vcs"]["revision"] == base
    tool.imported(record, other)
    assert tool.authors("a.ts")[:4] == "aaaa"
    assert "a" not in tool.authors("a.ts")[4:]
    assert tool.authors("b.ts")[:4] == "aaaa"
    assert "a" not in tool.authors("b.ts")[4:]


@pytest.mark.parametrize("content_hash", ["murmur3:" + "0" * 32, "xxh128:" + "f" * 32, "tlsh:1", "abc", "sha256:zz"])
def test_a_hash_that_cannot_be_checked_decides_nothing(project: Project, tool: Tool, content_hash: str) -> None:
    """Neither for the lines nor against them: it is as if there were none."""
    commit(project, "a.ts", WIN)
    gone = tool.record("a.ts", span(1, 2, content_hash=content_hash), vcs={"type": "git", "revision": "0" * 40})
    assert "0 of 1 range" in tool.imported(gone)
    assert "1 of 1 range" in tool.imported(tool.record("a.ts", span(1, 2, content_hash=content_hash)))
    assert tool.authors("a.ts")[:2] == "aa"


def test_lines_end_at_lf_only(project: Project, tool: Tool) -> None:
    """JSON allows U+2028 and others in its texts as they are."""
    commit(project, "a.ts", WIN)
    record = tool.record("a.ts", span(1, 4), metadata={"note": "one\u2028two\u0085three\x7ffour"})
    assert "1 record stored" in tool.imported(record, tool.record("a.ts", span(1, 1)), code=0).replace(
        "2 records", "1 record"
    )
    assert any(one.get("metadata") == record["metadata"] for one in tool.exported())


@pytest.mark.parametrize("bounds", [(1, 99_999_999), (5, 9), (3, 6)])
def test_a_range_without_lines_claims_and_counts_nothing(
    project: Project, tool: Tool, migrated_url: str, bounds: tuple[int, int]
) -> None:
    """Its record is kept."""
    commit(project, "a.ts", WIN)
    assert "1 record stored, 0 already stored; lines of 0 of 1 range" in tool.imported(
        tool.record("a.ts", span(*bounds))
    )
    assert "a" not in tool.authors("a.ts")
    assert fetch(migrated_url, "SELECT count(*) FROM agent_trace_ranges")[0][0] == 0
    assert len(tool.exported()) == 1


def test_numbers_at_a_revision_that_is_gone_say_nothing(project: Project, tool: Tool) -> None:
    """After an amend or a squash only a hash finds the lines."""
    commit(project, "a.ts", WIN)
    gone = {"type": "git", "revision": "1234567890" * 4}
    hashed = f"murmur3:{murmur3(WIN[3].encode())}"
    tool.imported(
        tool.record("a.ts", span(1, 2), vcs=gone), tool.record("a.ts", span(4, 4, content_hash=hashed), vcs=gone)
    )
    assert tool.authors("a.ts") == tool.authors("a.ts")[:3] + "a"
    assert "a" not in tool.authors("a.ts")[:3]


@pytest.mark.parametrize("version", ["0.1.0", "1.0"])
def test_lines_that_stood_there_before_are_not_its_work(project: Project, tool: Tool, version: str) -> None:
    """A guessed range covers the whole file; of that only the line that was changed is the tool's."""
    base = commit(project, "a.ts", WIN, end="\r\n")
    changed = (WIN[0], "const b = better();", *WIN[2:])
    whole = "".join(line + "\r\n" for line in changed)
    record = tool.record(
        "a.ts",
        span(1, 4, content_hash=f"murmur3:{murmur3(whole.encode())}"),
        version=version,
        timestamp=tool.time(3600),
    )
    assert record["vcs"]["revision"] == base
    commit(project, "a.ts", changed, end="\r\n")
    tool.imported(record)
    authors = tool.authors("a.ts")
    assert authors[1] == "a"
    assert "a" not in authors[0] + authors[2:]


def test_new_line_endings_are_no_new_lines(project: Project, tool: Tool) -> None:
    """All lines differ, but for a CR none does."""
    commit(project, "a.ts", WIN, end="\r\n")
    record = tool.record("a.ts", span(1, 4), timestamp=tool.time(3600))
    commit(project, "a.ts", (*WIN[:3], "const d = other();"))
    tool.imported(record)
    authors = tool.authors("a.ts")
    assert authors[3] == "a"
    assert "a" not in authors[:3]


def test_whether_a_record_speaks_of_before_or_after_its_commit_is_decided_by_the_times(
    project: Project, tool: Tool
) -> None:
    """The same range, without a hash: made before the next commit it is of that one."""
    first = commit(project, "a.ts", WIN, at="2090-01-01T10:00:00Z")
    commit(project, "a.ts", ("// new", *WIN), at="2090-01-01T12:00:00Z")
    vcs = {"type": "git", "revision": first}
    tool.imported(tool.record("a.ts", span(1, 1), vcs=vcs, timestamp="2090-01-01T11:00:00Z"))
    assert tool.authors("a.ts")[0] == "a"
    assert "a" not in tool.authors("a.ts")[1:]
    tool.imported(tool.record("a.ts", span(2, 2), vcs=vcs, timestamp="2090-01-01T09:59:00Z"))
    assert tool.authors("a.ts")[2] == "a"


def test_every_field_is_given_back(project: Project, tool: Tool) -> None:
    """On each level, also where the version is newer than any that is known, which is said."""
    commit(project, "a.ts", WIN)
    record = tool.record(
        "a.ts", span(1, 4, line_hashes=["x"], confidence=0.4), version="0.2.0", sig="abc", agent={"n": 1}
    )
    record["files"][0]["language"] = "typescript"
    record["files"][0]["conversations"][0]["summary"] = "x"
    foreign_id = tool.record("a.ts", span(1, 1), id="trace-17")
    assert "0.2.0 is newer" in tool.imported(record, foreign_id)
    by_version = {one["version"]: one for one in tool.exported()}
    assert by_version["0.2.0"] == record
    assert by_version["0.1.0"]["metadata"]["io.opencode.foreign_id"] == "trace-17"
    assert "0 records stored, 2 already stored" in tool.imported(record, foreign_id)


def test_an_escaped_backslash_before_u0000_is_no_nul(project: Project, tool: Tool) -> None:
    """Values are judged, not the text."""
    commit(project, "a.ts", WIN)
    record = tool.record("a.ts", span(1, 1), metadata={"command": "printf '\\u0000'"})
    assert "1 record stored" in tool.imported(record)
    assert tool.exported() == [record]


@pytest.mark.parametrize(
    ("fields", "url", "session"),
    [
        ({"metadata": {"session_id": "abc-1"}}, None, "abc-1"),
        ({"metadata": {"cursor": {"session_id": "abc-2"}}}, None, "abc-2"),
        ({"metadata": {"dev.cursor.session_id": "abc-3"}}, "https://example.org/x", "abc-3"),
        ({"metadata": {"conversation_id": "abc-4"}}, None, "abc-4"),
        ({"session_id": "abc-5"}, None, "abc-5"),
        (
            {},
            "file:///home/u/.claude/projects/p/0d1f2c3b-aaaa-4bbb-8ccc-0123456789ab.jsonl",
            "0d1f2c3b-aaaa-4bbb-8ccc-0123456789ab",
        ),
        ({}, "https://example.org/c/1", "https://example.org/c/1"),
        ({}, None, None),
    ],
)
def test_a_session_is_found_where_tools_name_it(
    project: Project, tool: Tool, fields: dict[str, Any], url: str | None, session: str | None
) -> None:
    """In the record, in its metadata, and as the file of a transcript; where it is nowhere it is not made up."""
    commit(project, "a.ts", WIN)
    record = tool.record("a.ts", span(1, 4), **fields)
    if url:
        record["files"][0]["conversations"][0]["url"] = url
    tool.imported(record)
    assert {line["session_id"] for line in json.loads(tool.run("blame", "--json", "a.ts"))} == {session}


def test_errors_name_their_lines_and_are_grouped(project: Project, tool: Tool, tmp_path: Path) -> None:
    """What is readable is read: after a byte order mark, and in an object that holds the records."""
    commit(project, "a.ts", WIN)
    good = tool.record("a.ts", span(1, 1))
    file = tool.write(*[{"event": "x"}] * 35, good, {"version": "9.0"}, start="\ufeff")
    said = tool.run("import", file, code=1)
    assert "1 record stored" in said
    assert "lines 1-35: 35 records can't be read" in said
    assert "line 37: a record can't be read" in said
    assert said.count("can't be read") == 2
    held = tmp_path / "held.json"
    held.write_text("\ufeff" + json.dumps({"traces": [tool.record("a.ts", span(2, 2))]}, indent=2))
    assert "1 record stored" in tool.run("import", str(held))


@pytest.mark.parametrize(
    ("head", "command"),
    [
        ('{"v":1,"id":"x","seq":1}', "replay"),
        ('{\n  "info": {\n    "id": "ses_1"\n  },\n  "messages": []\n}', "backfill"),
        ("SQLite format 3\0", "backfill --store"),
        ('{"type":"step_start","timestamp":1795975041333,"sessionID":"ses_1"}', "backfill"),
        ('data: {"type":"server.connected"}', "backfill"),
    ],
)
def test_a_file_for_another_command_is_said_to_be_one(tool: Tool, tmp_path: Path, head: str, command: str) -> None:
    """By its first bytes."""
    file = tmp_path / "other"
    file.write_text(head + "\n")
    assert f"agent-trace-sidecar {command}" in tool.run("import", str(file), code=1)


def test_validate_checks_files_by_the_schema_and_beyond(project: Project, tool: Tool) -> None:
    """Each problem with its line and field; exit code 1 on errors."""
    commit(project, "a.ts", WIN)
    right = tool.record("a.ts", span(1, 2, content_hash=f"murmur3:{murmur3(chr(10).join(WIN[:2]).encode())}"))
    assert "1 record: 0 errors, 0 warnings" in tool.run("validate", tool.write(right))
    wrong = [
        {**right, "id": str(uuid4()), "timestamp": 5},
        right,
        right,
        tool.record("a.ts", span(1, 2, content_hash="murmur3:00000000")),
        tool.record("/elsewhere/a.ts", span(1, 2)),
        tool.record("a.ts", span(1, 5)),
        tool.record("a.ts", span(1, 99)),
        tool.record("a.ts", span(1, 1), vcs={"type": "git", "revision": "0" * 40}),
    ]
    found = json.loads(tool.run("validate", "--json", tool.write(*wrong), code=1))
    said = {(one["number"], one["level"], one["where"]) for one in found["problems"]}
    place = "$.files[0].conversations[0].ranges[0]"
    assert said >= {
        (1, "error", "$.timestamp"),
        (3, "error", "$.id"),
        (4, "error", f"{place}.content_hash"),
        (5, "error", "$.files[0].path"),
        (6, "error", f"{place}.end_line"),
        (7, "warning", place),
        (8, "warning", "$.vcs.revision"),
    }
    assert found["records"] == len(wrong)
    assert not any(one["number"] == 2 for one in found["problems"])
    assert "line" not in tool.run("validate", "--no-repository", tool.write(right))
