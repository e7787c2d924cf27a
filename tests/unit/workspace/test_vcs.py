"""Where a repository stands: real hg and svn repositories, and a made-up layout of jj.

Neither Debian nor PyPI brings jj, so its is the folders of one, with a program that answers like jj. What a real svn
does not do at will, a table with its columns does.
"""

import os
import sqlite3
from pathlib import Path

import pytest

from agent_trace_sidecar.opencode.wire import VcsObserved
from agent_trace_sidecar.workspace import vcs
from agent_trace_sidecar.workspace.revision import Revisions
from agent_trace_sidecar.workspace.vcs import Repositories
from tests.support.debian import program, run
from tests.support.mercurial import hg
from tests.support.waiting import patient

NODES = """
CREATE TABLE NODES (wc_id INTEGER NOT NULL, local_relpath TEXT NOT NULL, op_depth INTEGER NOT NULL,
parent_relpath TEXT, repos_id INTEGER, repos_path TEXT, revision INTEGER, presence TEXT NOT NULL,
moved_here INTEGER, moved_to TEXT, kind TEXT NOT NULL, PRIMARY KEY (wc_id, local_relpath, op_depth))
"""
CHANGE = "qpvuntsmwlqtpsluzzsnyyzlmlwvmlnu"


def where(folder: Path) -> VcsObserved | None:
    """Where the repository around a folder stands."""
    return Repositories(Revisions()).of(folder)


@pytest.mark.parametrize("form", ["v1", "v2"])
def test_hg_says_its_working_parent(tmp_path: Path, form: str) -> None:
    """In both forms of its dirstate, and nothing before the first commit."""
    hg(tmp_path, "init", "--config", f"format.use-dirstate-v2={form == 'v2'}")
    assert where(tmp_path) is None
    for text in ("one", "two"):
        (tmp_path / "a").write_text(text)
        hg(tmp_path, "commit", "-q", "--addremove", "-m", text, "-u", "Test")
    (tmp_path / "sub").mkdir()
    assert where(tmp_path / "sub") == VcsObserved("hg", hg(tmp_path, "log", "-r", ".", "-T", "{node}"))
    hg(tmp_path, "update", "-q", "0")
    assert where(tmp_path) == VcsObserved("hg", hg(tmp_path, "log", "-r", "0", "-T", "{node}"))


@pytest.mark.needs("svn", "svnadmin")
def test_a_real_svn_working_copy_says_its_revision(tmp_path: Path) -> None:
    """Before and after a commit is fetched; from a folder below the root as well."""
    svn = program("svn")
    run(program("svnadmin"), "create", str(tmp_path / "server"))
    copy = tmp_path / "copy"
    run(svn, "checkout", "-q", f"file://{tmp_path}/server", str(copy))
    assert where(copy) == VcsObserved("svn", "0")
    (copy / "sub").mkdir()
    (copy / "sub" / "a.txt").write_text("one\n")
    run(svn, "add", "-q", str(copy / "sub"))
    run(svn, "commit", "-q", "-m", "One", str(copy))
    run(svn, "update", "-q", str(copy))
    assert where(copy / "sub") == VcsObserved("svn", "1")


def test_svn_says_the_revision_of_the_root(tmp_path: Path) -> None:
    """Read again only when its database was written."""
    (tmp_path / ".svn").mkdir()
    database = tmp_path / ".svn" / "wc.db"
    repositories = Repositories(Revisions())

    def at(revision: int) -> None:
        with sqlite3.connect(database) as connection:
            connection.execute("DELETE FROM NODES")
            for path, number, depth in (("", revision, 0), ("a", revision + 9, 0), ("", revision + 5, 1)):
                row = (1, path, depth, None, 1, path, number, "normal", None, None, "dir")
                connection.execute("INSERT INTO NODES VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        connection.close()
        os.utime(database, ns=(revision, revision))

    with sqlite3.connect(database) as connection:
        connection.execute(NODES)
    connection.close()
    assert repositories.of(tmp_path) is None
    at(41)
    assert repositories.of(tmp_path) == VcsObserved("svn", "41")
    at(42)
    assert repositories.of(tmp_path) == VcsObserved("svn", "42")


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0 and not more", b"\xff" * 4096])
def test_an_svn_database_that_is_none_says_nothing(tmp_path: Path, content: bytes) -> None:
    """Unknown is left out."""
    (tmp_path / ".svn").mkdir()
    (tmp_path / ".svn" / "wc.db").write_bytes(content)
    assert where(tmp_path) is None


@pytest.fixture(name="jj")
def _jj(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with jj's layout, and a program that counts how often it is asked."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "jj"
    program.write_text(f'#!/bin/sh\necho asked >> "{tmp_path}/asked"\ncat "{tmp_path}/change"\n')
    program.chmod(0o755)
    (tmp_path / "change").write_text(CHANGE)
    heads = tmp_path / "repo" / ".jj" / "repo" / "op_heads" / "heads"
    heads.mkdir(parents=True)
    os.utime(heads, (1, 1))  # the next operation is later than a tick of the clock that stamps files
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(vcs, "JJ_TIMEOUT_S", patient(30))
    return tmp_path / "repo"


def test_jj_says_its_change_and_is_asked_once_for_each_operation(jj: Path) -> None:
    """Its heads' folder changes with each of them."""
    repositories = Repositories(Revisions())
    assert [repositories.of(jj) for _ in range(3)] == [VcsObserved("jj", CHANGE)] * 3
    assert (jj.parent / "asked").read_text().split() == ["asked"]
    (jj.parent / "change").write_text("z" * 32)
    (jj / ".jj" / "repo" / "op_heads" / "heads" / "abc").touch()
    assert repositories.of(jj) == VcsObserved("jj", "z" * 32)


def test_a_further_workspace_of_jj_asks_the_repository_it_belongs_to(jj: Path) -> None:
    """Its `.jj/repo` is a file."""
    other = jj.parent / "other"
    (other / ".jj").mkdir(parents=True)
    (other / ".jj" / "repo").write_text("../../repo/.jj/repo")
    assert where(other) == VcsObserved("jj", CHANGE)


@pytest.mark.parametrize("answer", ["", "Error: nothing here"])
def test_without_an_answer_of_jj_the_git_repository_beside_it_has_the_word(jj: Path, answer: str) -> None:
    """Both may share a folder."""
    (jj.parent / "change").write_text(answer)
    assert where(jj) is None
    (jj / ".git").mkdir()
    (jj / ".git" / "HEAD").write_text("a" * 40)
    assert where(jj) == VcsObserved("git", "a" * 40)
