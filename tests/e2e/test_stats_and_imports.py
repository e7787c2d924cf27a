"""What became of the AI's lines, and traces of other tools: through the commands, on real repositories."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from agent_trace_sidecar.records.foreign_hashes import agrees, murmur3
from tests.support.attributed import Project
from tests.support.postgres import fetch

LINES = (
    "def total(prices):",
    "    result = 0",
    "    for price in prices:",
    "        result += price",
    "    return result",
)


@pytest.fixture(name="project")
def _project(tmp_path: Path, migrated_url: str) -> Project:
    """A repository with one commit."""
    return Project(tmp_path / "repo", migrated_url)


class Commands:
    """The program, in a repository."""

    def __init__(self, root: Path, url: str) -> None:
        self._root = root
        self._env = os.environ | {"AGENT_TRACE_DATABASE_URL": url}

    def run(self, *words: str, code: int = 0) -> str:
        """Run a command, and give what it printed."""
        command = [sys.executable, "-P", "-m", "agent_trace_sidecar", *words]
        done = subprocess.run(command, cwd=self._root, env=self._env, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    def authors(self, path: str) -> str:
        """A letter for each line."""
        return "".join(line["contributor"][0] for line in json.loads(self.run("blame", "--json", path)))


@pytest.fixture(name="commands")
def _commands(project: Project, migrated_url: str) -> Commands:
    return Commands(project.root, migrated_url)


def foreign(project: Project, *, version: str, ranges: list[dict[str, Any]], path: str = "a.py") -> dict[str, Any]:
    """A record as another tool writes it."""
    return {
        "version": version,
        "id": str(uuid4()),
        "timestamp": "2026-01-31T12:00:00Z",
        "vcs": {"type": "git", "revision": project.git("rev-parse", "HEAD")},
        "tool": {"name": "cursor", "version": "2.4.0"},
        "files": [
            {
                "path": path,
                "conversations": [
                    {
                        "url": "https://example.org/conversations/1",
                        "contributor": {"type": "ai", "model_id": "anthropic/claude-opus-x"},
                        "ranges": ranges,
                    }
                ],
            }
        ],
    }


def test_blame_prints_lines_like_git_blame(project: Project, commands: Commands) -> None:
    """Who, session, tool, time, number and text; colours are for terminals only."""
    project.ai_write("a.py", *LINES)
    project.write("a.py", *LINES, "print(1)")
    printed = commands.run("blame", "a.py").splitlines()
    assert len(printed) == 6
    assert printed[0].startswith("ai claude-x")
    assert printed[0].endswith("1) def total(prices):")
    assert printed[5].startswith("human")
    assert "\x1b" not in "".join(printed)


def test_blame_json_has_what_others_build_on(project: Project, commands: Commands) -> None:
    """The names are a contract."""
    project.ai_write("a.py", *LINES)
    lines = json.loads(commands.run("blame", "a.py", "--json"))
    wanted = {"line", "contributor", "model_id", "session_id", "message_id", "tool", "at", "method", "confidence"}
    assert wanted <= set(lines[0])
    assert [line["line"] for line in lines] == [1, 2, 3, 4, 5]


def test_a_question_that_has_no_answer_is_one_sentence(project: Project, commands: Commands) -> None:
    """With exit code 1."""
    assert "nothing.py does not exist" in commands.run("blame", "nothing.py", code=1)
    assert "unknown revision" in commands.run("blame", "README", "--rev", "nowhere", code=1)
    (project.root / "b.bin").write_bytes(b"\0\1")
    assert "binary" in commands.run("blame", "b.bin", code=1)
    assert "not a range" in commands.run("export", "--range", "nowhere..else", code=1)


def test_stats_count_what_lives_and_what_is_lost(project: Project, commands: Commands) -> None:
    """Five lines written; one deleted, one changed, and a copy counts once."""
    project.ai_write("a.py", *LINES)
    project.write("a.py", LINES[0], LINES[1], "    for price in prices[1:]:", LINES[3], "print('by hand')")
    found = json.loads(commands.run("stats", "--json"))
    total = found["total"]
    assert (total["written"], total["living"], total["changed"], total["lost"]) == (5, 3, 1, 1)
    assert found["lines"] == {"ai": 3, "mixed": 1, "human": 1, "unknown": 0}
    assert [group["name"] for group in found["groups"]] == ["anthropic/claude-x"]


@pytest.mark.parametrize(
    ("by", "name"),
    [("session", "ses_1"), ("path", "lib/a.py"), ("tool", "write"), ("day", "2096-")],
)
def test_stats_are_grouped_as_asked(project: Project, commands: Commands, by: str, name: str) -> None:
    """And restricted to a folder."""
    project.ai_write("lib/a.py", *LINES)
    project.ai_write("b.py", "print('elsewhere')")
    found = json.loads(commands.run("stats", "lib", "--by", by, "--json"))
    (group,) = found["groups"]
    assert (group["written"], group["living"]) == (5, 5)
    assert group["name"].startswith(name)
    assert "written" in commands.run("stats", "lib", "--by", by)


def test_stats_at_a_revision_count_what_lived_then(project: Project, commands: Commands) -> None:
    """Later deletions don't matter."""
    project.ai_write("a.py", *LINES)
    early = project.commit()
    project.write("a.py", "print('nothing is left')")
    project.commit()
    assert json.loads(commands.run("stats", "--json", "--rev", early))["total"]["living"] == 5
    assert json.loads(commands.run("stats", "--json"))["total"]["living"] == 0


@pytest.mark.parametrize("version", ["0.1.0", "1.0"])
def test_an_imported_trace_is_blamed(project: Project, commands: Commands, tmp_path: Path, version: str) -> None:
    """The lines are looked up in the repository, so that they are known wherever they go."""
    project.write("a.py", "import sys", *LINES)
    project.commit()
    file = tmp_path / "traces.jsonl"
    file.write_text(json.dumps(foreign(project, version=version, ranges=[{"start_line": 2, "end_line": 6}])) + "\n")
    assert "1 record stored" in commands.run("import", str(file))
    project.write("a.py", "import os", "import sys", "", *LINES)
    lines = json.loads(commands.run("blame", "a.py", "--json"))
    assert [line["contributor"] for line in lines[3:]] == ["ai"] * 5
    assert "ai" not in [line["contributor"] for line in lines[:3]]
    assert (lines[3]["model_id"], lines[3]["tool"], lines[3]["method"]) == (
        "anthropic/claude-opus-x",
        "cursor",
        "imported",
    )
    assert lines[3]["confidence"] < 0.8


def test_an_import_is_stored_once(project: Project, commands: Commands, tmp_path: Path, migrated_url: str) -> None:
    """However often, and from however many files, also as an array."""
    project.write("a.py", *LINES)
    project.commit()
    record = foreign(project, version="0.1.0", ranges=[{"start_line": 1, "end_line": 5}])
    (tmp_path / "one.jsonl").write_text(json.dumps(record) + "\n" + json.dumps(record) + "\n")
    (tmp_path / "two.json").write_text(json.dumps([record], indent=2))
    commands.run("import", str(tmp_path / "one.jsonl"), str(tmp_path / "two.json"))
    assert "0 records stored, 1 already stored" in commands.run("import", str(tmp_path / "two.json"))
    assert fetch(migrated_url, "SELECT count(*) FROM agent_trace_ranges")[0][0] == 1


def test_a_hash_that_agrees_with_no_lines_claims_nothing(project: Project, commands: Commands, tmp_path: Path) -> None:
    """And one that agrees finds them at the commit after, where the reference hook's lines stand."""
    before = foreign(project, version="1.0", ranges=[])
    project.write("a.py", *LINES)
    project.commit()
    right = f"murmur3:{murmur3(chr(10).join(LINES[:2]).encode())}"
    conversation = before["files"][0]["conversations"][0]
    conversation["ranges"] = [
        {"start_line": 1, "end_line": 2, "content_hash": right},
        {"start_line": 3, "end_line": 5, "content_hash": "murmur3:00000000"},
    ]
    file = tmp_path / "traces.jsonl"
    file.write_text(json.dumps(before))
    assert "1 of 2 ranges" in commands.run("import", str(file))
    assert commands.authors("a.py")[:2] == "aa"
    assert "a" not in commands.authors("a.py")[2:]


def test_what_cannot_be_read_is_told_and_the_rest_is_stored(
    project: Project, commands: Commands, tmp_path: Path
) -> None:
    """A broken line, an unknown version, a NUL, a path out of the repository."""
    project.write("a.py", *LINES)
    project.commit()
    good = foreign(project, version="0.1.0", ranges=[{"start_line": 1, "end_line": 1}])
    outside = foreign(project, version="0.1.0", ranges=[{"start_line": 1, "end_line": 1}], path="../../etc/passwd")
    nul = foreign(project, version="0.1.0", ranges=[], path="a\0b")
    newer = foreign(project, version="7.0.0", ranges=[])
    file = tmp_path / "traces.jsonl"
    file.write_text("\n".join([json.dumps(one) for one in (good, outside, nul, newer)] + ["{"]))
    said = commands.run("import", str(file), code=1)
    assert "2 records stored" in said
    assert "1 of 2 ranges" in said
    assert said.count("can't be read") == 3


def test_an_export_can_be_imported_elsewhere(project: Project, commands: Commands, tmp_path: Path) -> None:
    """Into the same store it changes nothing; the records name the revision, so a range of them can be chosen."""
    project.write("a.py", "import sys")
    first = project.commit()
    project.ai_edit("a.py", "import sys\n", "import sys\nprint(sys.argv, 'from the call')\n")
    second = project.commit()
    project.ai_edit("a.py", "import sys\n", "import sys\nprint('another', 'call')\n")
    project.commit()
    everything = commands.run("export").splitlines()
    assert len(everything) == 2
    ranged = commands.run("export", "--range", f"{first}..{second}").splitlines()
    assert [json.loads(line)["vcs"]["revision"] for line in ranged] == [first, second]
    assert commands.run("export", "--range", f"{second}..HEAD").splitlines() == everything[1:]
    (tmp_path / "all.jsonl").write_text("\n".join(everything))
    assert "0 records stored, 2 already stored" in commands.run("import", str(tmp_path / "all.jsonl"))


@pytest.mark.parametrize(
    ("content_hash", "agreed"),
    [
        ("murmur3:248bfa47", True),
        ("sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", True),
        ("sha256:2cf24dba5fb0a30e", True),
        ("md5:00000000000000000000000000000000", False),
        ("xxh64:1234", None),
        ("nothing", None),
    ],
)
def test_hashes_of_others_are_understood_or_left_alone(content_hash: str, agreed: bool | None) -> None:
    """A shortened digest is one too; an unknown algorithm proves nothing."""
    assert agrees(content_hash, [b"hello"]) is agreed
