"""A repository that the sidecar's user may not read costs its facts, and neither the event nor what comes behind it."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.security.test_foreign_files import SHA, git_repository, svn_database
from tests.support.envelopes import Shim
from tests.support.postgres import fetch
from tests.support.sidecar import ShimDouble, sidecar_command, sidecar_env
from tests.support.snapshots import git
from tests.support.waiting import completed

# Modes mean nothing to root, unless it gives these capabilities up.
BOUND_BY_MODES = [] if os.geteuid() else ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


def _git(*closed: str) -> Callable[[Path], list[Path]]:
    def make(root: Path) -> list[Path]:
        git_repository(root)
        (root / ".git" / "config").write_text('[remote "origin"]\n\turl = https://example.com/a\n')
        return [root / name for name in closed]

    return make


def _file(name: str) -> Callable[[Path], list[Path]]:
    def make(root: Path) -> list[Path]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(bytes(40))
        return [root / name]

    return make


def _svn(root: Path) -> list[Path]:
    table = "CREATE TABLE nodes (local_relpath, op_depth, revision)"
    return [svn_database(root, table, "INSERT INTO nodes VALUES ('', 0, 41)")]


CLOSED: dict[str, tuple[Callable[[Path], list[Path]], str | None]] = {
    "nothing": (_git(), SHA),
    "git config": (_git(".git/config"), SHA),
    "git": (_git(".git"), None),
    "git file": (_file(".git"), None),
    "git HEAD": (_git(".git/HEAD"), None),
    "git packed-refs": (_git(".git/packed-refs"), None),
    "git logs": (_git(".git/logs"), SHA),
    "hg": (_file(".hg/dirstate"), None),
    "jj": (_file(".jj/repo"), None),
    "svn": (_svn, None),
}
"""What is closed to the sidecar, and the revision that it sees."""


@pytest.fixture(name="roots")
def _roots(tmp_path: Path) -> dict[str, Path]:
    """A repository of each kind, with the file that is edited."""
    roots = {name: tmp_path / name.replace(" ", "-") for name in CLOSED}
    for name, (make, _) in CLOSED.items():
        roots[name].mkdir()
        (roots[name] / "a.txt").write_text("b\n")
        for path in make(roots[name]):
            path.chmod(0)
    return roots


def test_what_may_not_be_read_costs_its_facts_alone(migrated_url: str, tmp_path: Path, roots: dict[str, Path]) -> None:
    """The edit in each repository is recorded with its line; only the revision is missing."""
    filediff = {"filediff": {"file": "a.txt", "before": "a\n", "after": "b\n"}}
    at = round(time.time() * 1000)
    log = tmp_path / "log"
    command = [*BOUND_BY_MODES, *sidecar_command()]
    with ShimDouble(sidecar_env(tmp_path / "state", migrated_url), command=command, log=log) as shim:
        for seq, root in enumerate(roots.values(), 1):
            args = {"filePath": str(root / "a.txt"), "oldString": "a", "newString": "b"}
            line = Shim(str(root), at=at).after("edit", args, filediff, call=f"call_{seq}")
            shim.send(seq, line.replace(b'"seq":1,', b'"seq":%d,' % seq).replace(b"000000000001", b"%012d" % seq))
        assert shim.close() == 0
    assert log.read_text() == ""
    query = """
        SELECT worktree, vcs_revision, array_agg(DISTINCT (path, start_line, end_line, line_hashes IS NOT NULL)::text)
        FROM agent_trace_records JOIN agent_trace_ranges USING (source_id, record_id, recorded_at) GROUP BY 1, 2
    """
    found = {row[0]: (row[1], row[2]) for row in fetch(migrated_url, query)}
    assert found == {str(roots[name]): (revision, ["(a.txt,1,1,t)"]) for name, (_, revision) in CLOSED.items()}


HAND_TOOLS = {
    "blame": ("blame", "a.txt"),
    "stats": ("stats",),
    "report": ("report", "--repo", ".", "--output", "page.html"),
    "stats of a range": ("stats", "--range", "HEAD~1..HEAD"),
    "export of a range": ("export", "--range", "HEAD~1..HEAD"),
    "import": ("import", "record.json"),
}
PARTS = (".git", ".git/objects", ".git/HEAD", ".git/refs")


@pytest.mark.parametrize("tool", HAND_TOOLS)
def test_a_hand_tool_names_what_may_not_be_read(migrated_url: str, tmp_path: Path, tool: str) -> None:
    """In one sentence, with the repository; and the database is not blamed for it."""
    root, env = tmp_path / "repo", sidecar_env(tmp_path / "state", migrated_url)
    root.mkdir()
    git(root, "init", "-q")
    for text in ("a\n", "b\n"):
        (root / "a.txt").write_text(text)
        git(root, "add", "-A")
        git(root, "commit", "-qm", "one")
    filediff = {"filediff": {"file": "a.txt", "before": "a\n", "after": "b\n"}}
    args = {"filePath": str(root / "a.txt"), "oldString": "a", "newString": "b"}
    (tmp_path / "log.jsonl").write_bytes(Shim(str(root)).after("edit", args, filediff) + b"\n")
    command = [*BOUND_BY_MODES, *sidecar_command()][:-1]
    replayed = completed([*command, "replay", str(tmp_path / "log.jsonl")], 60, cwd=root, env=env)
    assert replayed.returncode == 0, replayed.stderr
    exported = completed([*command, "export"], 60, cwd=root, env=env)
    (root / "record.json").write_text(exported.stdout)
    for part in PARTS:
        mode = (root / part).stat().st_mode & 0o777
        (root / part).chmod(0)
        done = completed([*command, *HAND_TOOLS[tool]], 60, cwd=root, env=env)
        (root / part).chmod(mode)
        assert done.returncode == 1, (part, done.stdout, done.stderr)
        assert done.stderr.startswith("agent-trace-sidecar: "), (part, done.stderr)
        assert done.stderr.count("\n") == 1, (part, done.stderr)
        assert any(name in done.stderr for name in (str(root), "'HEAD~1'", "'HEAD~1..HEAD'")), (part, done.stderr)
        assert "database" not in done.stderr, (part, done.stderr)
