"""A repository is somebody else's work: whatever its files are, recording goes on, and a hand tool ends."""

import itertools
import os
import resource
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import msgspec
import pytest

from agent_trace_sidecar.limits.files import NotRegularError, TooLargeError, read_part, read_whole
from agent_trace_sidecar.limits.sqlite import first_row
from agent_trace_sidecar.opencode.wire import Observed
from agent_trace_sidecar.records.fingerprints import line_hash
from agent_trace_sidecar.workspace.checkout import Checkout, CheckoutError, ManyFiles
from agent_trace_sidecar.workspace.identity import Identity, remote_url
from agent_trace_sidecar.workspace.observer import Observer
from agent_trace_sidecar.workspace.revision import Revisions
from agent_trace_sidecar.workspace.scope import Below, own
from agent_trace_sidecar.workspace.vcs import Repositories
from agent_trace_sidecar.workspace.watched import WatchedObserver
from tests.support.envelopes import Shim
from tests.support.postgres import fetch
from tests.support.sidecar import ShimDouble, sidecar_env
from tests.support.tailing import tailing
from tests.support.waiting import Deadline, eventually, patient

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS revision FROM n"
AT_ONCE_S = 2.0
SHA = "a" * 40


def pipe(path: Path) -> None:
    """A FIFO that nobody writes, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def git_repository(root: Path) -> None:
    """What is read of one, by hand."""
    (root / ".git" / "logs").mkdir(parents=True)
    (root / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (root / ".git" / "packed-refs").write_text(f"{SHA} refs/heads/main\n")


def svn_database(root: Path, *statements: str) -> Path:
    """A working copy's database with these tables."""
    (root / ".svn").mkdir(parents=True, exist_ok=True)
    database = root / ".svn" / "wc.db"
    database.unlink(missing_ok=True)
    with closing(sqlite3.connect(database)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
    return database


def _git_with_a_pipe(name: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        git_repository(root)
        pipe(root / ".git" / name)

    return make


def _pipe(name: str) -> Callable[[Path], None]:
    return lambda root: pipe(root / name)


def _jj(name: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        (root / ".jj" / "repo" / "op_heads" / "heads").mkdir(parents=True)
        (root / ".jj" / "repo" / "op_heads" / "heads").rmdir()
        (root / ".jj" / "repo" / "op_heads").rmdir()
        (root / ".jj" / "repo").rmdir()
        pipe(root / name)

    return make


def _svn(*statements: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        svn_database(root, *statements)

    return make


def _svn_with_a_pipe(name: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        svn_database(root, "CREATE TABLE nodes (local_relpath, op_depth, revision)")
        pipe(root / ".svn" / name)

    return make


def _link_to(target: str, name: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(target)

    return make


HOSTILE = {
    **{f"git {name}": _git_with_a_pipe(name) for name in ("HEAD", "packed-refs", "config", "logs/HEAD", "commondir")},
    **{f"git {name}": _git_with_a_pipe(name) for name in ("refs/stash", "refs/heads/main")},
    "git": _pipe(".git"),
    "git HEAD is a device without an end": _link_to("/dev/zero", ".git/HEAD"),
    "git packed-refs is a terminal": _link_to("/dev/tty", ".git/packed-refs"),
    "hg": _pipe(".hg/dirstate"),
    "hg without an end": _link_to("/dev/zero", ".hg/dirstate"),
    "jj": _jj(".jj/repo"),
    "svn": _pipe(".svn/wc.db"),
    "svn journal": _svn_with_a_pipe("wc.db-journal"),
    "svn log": _svn_with_a_pipe("wc.db-wal"),
    "svn view": _svn(f"CREATE VIEW nodes AS SELECT '' AS local_relpath, 0 AS op_depth, revision FROM ({ENDLESS})"),
    "svn column": _svn(
        "CREATE TABLE nodes (local_relpath, op_depth)",
        "INSERT INTO nodes VALUES ('', 0)",
        "ALTER TABLE nodes ADD COLUMN revision AS (length(replace(hex(zeroblob(400000000)), '0', '12')))",
    ),
    "svn virtual table": _svn("CREATE VIRTUAL TABLE nodes USING fts5(local_relpath, op_depth, revision)"),
    "a file that is edited": _pipe("a.txt"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_repository_whose_files_block_is_read_at_once(tmp_path: Path, kind: str) -> None:
    """Every file that is read of any repository, as a pipe, a device or a database that never ends."""
    root = tmp_path / "repo"
    root.mkdir()
    HOSTILE[kind](root)
    shim = Shim(str(root), at=round(time.time() * 1000))
    observer = Observer(lambda _: False)
    args = {"filePath": str(root / "a.txt"), "oldString": "a", "newString": "b"}
    step = {"part": {"type": "step-start", "sessionID": "ses_1", "messageID": "msg_1", "snapshot": SHA}}
    deadline = Deadline(AT_ONCE_S)
    observer.observe(shim.event("message.part.updated", step))
    observer.observe(shim.before("edit", args))
    observer.observe(shim.after("edit", args, {"diff": ""}))
    remote_url(root)
    assert not deadline.passed()


def test_one_event_of_a_hostile_repository_stops_nobody(migrated_url: str, tmp_path: Path) -> None:
    """`run` acknowledges and stores what comes behind it."""
    for name in ("git packed-refs", "hg", "svn view"):
        (tmp_path / name).mkdir()
        HOSTILE[name](tmp_path / name)
    lines = [
        line
        for number, name in enumerate(("git packed-refs", "hg", "svn view"))
        for line in [Shim(str(tmp_path / name)).after("bash", {"command": "ls"}, {}, call=f"call_{number}")]
    ]
    shim = Shim("/w")
    numbered = [
        line.replace(b'"seq":1,', b'"seq":%d,' % seq).replace(b"000000000001", b"%012d" % seq)
        for seq, line in enumerate([*lines, *(shim.event("session.idle", {"sessionID": "ses_1"}) for _ in range(1))], 1)
    ]
    with ShimDouble(sidecar_env(tmp_path / "state", migrated_url), log=tmp_path / "said") as double:
        for seq, line in enumerate(numbered, 1):
            double.send(seq, line)
        double.drained(20)
        assert double.close() == 0
    assert fetch(migrated_url, "SELECT count(*) AS n FROM agent_trace_events")[0]["n"] == len(numbered)


def test_svn_reads_a_plain_table_and_nothing_while_it_is_written(tmp_path: Path) -> None:
    """A real table says its revision; beside a journal its pages may be half of one transaction."""
    table = "CREATE TABLE nodes (local_relpath, op_depth, revision)"
    database = svn_database(tmp_path, table, "INSERT INTO nodes VALUES ('', 0, 41)")
    repositories = Repositories(Revisions())
    seen = repositories.of(tmp_path)
    assert seen is not None
    assert seen.revision == "41"
    assert first_row(database, "nodes", "SELECT revision FROM nodes") == (41,)
    assert first_row(database, "nodes", "SELECT abs(revision) FROM nodes") is None, "a function"
    (tmp_path / ".svn" / "wc.db-journal").write_bytes(b"x")
    assert first_row(database, "nodes", "SELECT revision FROM nodes") is None


def test_a_query_ends_at_its_deadline(tmp_path: Path) -> None:
    """A table may be joined with itself without end."""
    rows = ", ".join("(1)" for _ in range(500))
    database = svn_database(tmp_path, "CREATE TABLE nodes (a)", f"INSERT INTO nodes VALUES {rows}")
    deadline = Deadline(AT_ONCE_S)
    query = "SELECT 1 FROM nodes a, nodes b, nodes c, nodes d, nodes e WHERE a.a + b.a + c.a + d.a + e.a = 0"
    assert first_row(database, "nodes", query, timeout_s=0.1) is None
    assert not deadline.passed()


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    """The one way to read says what else it met."""
    regular = tmp_path / "regular"
    regular.write_bytes(b"0123456789")
    pipe(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(regular)
    (tmp_path / "tty").symlink_to("/dev/tty")
    assert read_whole(regular, 10).data == b"0123456789"
    assert read_part(regular, 4, offset=3) == b"3456"
    assert read_whole(tmp_path / "link", 10).data == b"0123456789"
    with pytest.raises(TooLargeError):
        read_whole(regular, 9)
    for name in ("pipe", "tty", "."):
        assert read_part(tmp_path / name, 10) == b""
        with pytest.raises(NotRegularError):
            read_whole(tmp_path / name, 10)
    with pytest.raises(NotRegularError):
        read_whole(tmp_path / "link", 10, follow_links=False)
    assert read_part(tmp_path / "none", 10) == b""


# -- the watchdog ----------------------------------------------------------------------------------------------


class Hanging:
    """Makes observers for which the first one's look blocks in the kernel until it is released."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        self.made = 0

    def make(self) -> Observer:
        """Every observer but the first answers at once."""
        self.made += 1
        first = self.made == 1
        return Observer(lambda _: first and not os.read(self.read, 1))


def edits(root: Path) -> list[bytes]:
    """An edit, before and after."""
    shim = Shim(str(root), at=4_000_000_000_000)
    args = {"filePath": str(root / "a.txt"), "content": "two\n"}
    return [shim.before("write", args), shim.after("write", args, {"exists": True})]


def observed(seen: bytes | None) -> Observed:
    """What was written beside a line."""
    assert seen is not None
    return msgspec.json.decode(seen, type=Observed)


def test_a_repository_that_never_answers_costs_one_events_facts(tmp_path: Path) -> None:
    """The event says that it was not observed; those of other repositories are, and of this one not for a while."""
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("one\n")
    hanging = Hanging()
    late: list[str] = []
    watched = WatchedObserver(
        hanging.make,
        on_late=lambda: late.append("late"),
        on_error=lambda error: late.append(repr(error)),
        deadline_s=0.3,
    )
    deadline = Deadline(AT_ONCE_S)
    results = [watched.observe(line) for line in edits(tmp_path / "here")]
    assert not deadline.passed()
    assert results[0] is None
    assert observed(results[1]).late
    assert hanging.made == 2
    assert late == ["late"]
    assert not observed(watched.observe(edits(tmp_path / "there")[1])).late
    deadline = Deadline(0.1)
    again = edits(tmp_path / "here")[1].replace(b"call_1", b"call_2")
    assert observed(watched.observe(again)).late
    assert not deadline.passed()
    os.write(hanging.write, b"x")


def test_an_event_whose_observation_fails_says_so(tmp_path: Path) -> None:
    """What its step's commands wrote is in doubt, as where a repository does not answer in time."""
    (tmp_path / "a.txt").write_text("two\n")
    failures: list[Exception] = []

    class Failing(Observer):
        def look(self, *_: object) -> bytes | None:
            raise PermissionError

    make = partial(Failing, lambda _: False)
    watched = WatchedObserver(make, on_late=lambda: None, on_error=failures.append)
    found = [watched.observe(line) for line in edits(tmp_path)]
    assert observed(found[1]).late
    assert {type(error) for error in failures} == {PermissionError}


def test_a_wait_for_the_redaction_rules_costs_no_facts(tmp_path: Path) -> None:
    """On a busy machine their export takes longer than a repository may; the lines have their hashes all the same."""
    (tmp_path / "a.txt").write_text("two\n")
    exported = threading.Event()
    late: list[str] = []
    inquiries = itertools.count(1)

    def is_loading() -> bool:
        loading = not exported.is_set()
        if next(inquiries) == 4:
            exported.set()
        return loading

    watched = WatchedObserver(
        lambda: Observer(lambda _: not exported.wait(AT_ONCE_S)),
        on_late=lambda: late.append("late"),
        on_error=lambda error: late.append(repr(error)),
        is_excused=is_loading,
        deadline_s=0.05,
    )
    found = [watched.observe(line) for line in edits(tmp_path)]
    assert [one.line_hashes for one in observed(found[1]).files[0].ranges] == [line_hash(b"two").hex()]
    assert late == []


# -- tail ------------------------------------------------------------------------------------------------------


def test_tail_looks_only_at_worktrees_that_its_operator_named(migrated_url: str, tmp_path: Path) -> None:
    """Below `--worktree-root`, after links; without it at those of its own user."""
    logs = tmp_path / "logs"
    logs.mkdir()
    for name in ("named/repo", "elsewhere/repo"):
        git_repository(tmp_path / name)
    (tmp_path / "named" / "link").symlink_to(tmp_path / "elsewhere" / "repo")
    places = ["named/repo", "elsewhere/repo", "named/link"]
    lines = []
    for number, name in enumerate(places, 1):
        shim = Shim(str(tmp_path / name), at=round(time.time() * 1000))
        args = {"filePath": str(tmp_path / name / "a.txt"), "oldString": "a", "newString": "b"}
        line = shim.after("edit", args, {"filediff": {"file": "a.txt", "before": "a\n", "after": "b\n"}})
        lines.append(
            line.replace(b'"seq":1,', b'"seq":%d,' % number)
            .replace(b"000000000001", b"%012d" % number)
            .replace(b"call_1", b"call_%d" % number)
        )
    env = sidecar_env(tmp_path / "state", migrated_url, flush_ms="50")
    count = "SELECT count(*) AS n FROM agent_trace_events"
    with tailing(env, tmp_path / "said", logs, "--worktree-root", tmp_path / "named") as tail:
        (logs / "a.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
        eventually(lambda: fetch(migrated_url, count)[0]["n"] == len(places), 20)
        assert tail.stop() == 0
    found = fetch(
        migrated_url,
        "SELECT e.payload->>'worktree' AS place, r.vcs_revision AS revision FROM agent_trace_records r"
        " JOIN agent_trace_events e USING (event_id)",
    )
    assert {row["place"]: row["revision"] for row in found} == {
        str(tmp_path / "named/repo"): SHA,
        str(tmp_path / "elsewhere/repo"): None,
        str(tmp_path / "named/link"): None,
    }


@pytest.mark.skipif("os.geteuid() != 0", reason="only root can give files to others")
def test_tail_reads_no_repository_for_a_file_of_another_user(migrated_url: str, tmp_path: Path) -> None:
    """Whoever writes a log file would learn by its rows what only the user of `tail` may read."""
    logs, project = tmp_path / "logs", tmp_path / "project"
    logs.mkdir()
    git_repository(project)
    args = {"filePath": str(project / "a.txt"), "oldString": "a", "newString": "b"}
    shim = Shim(str(project), at=round(time.time() * 1000))
    filediff = {"filediff": {"file": "a.txt", "before": "a\n", "after": "b\n"}}
    for name, owner in (("mine", 0), ("theirs", 65534)):
        (logs / name).write_bytes(shim.after("edit", args, filediff, call=name) + b"\n")
        os.chown(logs / name, owner, owner)
        (logs / name).rename(logs / f"{name}.jsonl")
    env = sidecar_env(tmp_path / "state", migrated_url, flush_ms="50")
    with tailing(env, tmp_path / "said", logs) as tail:
        eventually(lambda: fetch(migrated_url, "SELECT count(*) AS n FROM agent_trace_records")[0]["n"] == 2, 20)
        assert tail.stop() == 0
    query = "SELECT e.call_id, r.vcs_revision FROM agent_trace_records r JOIN agent_trace_events e USING (event_id)"
    assert {row[0]: row[1] for row in fetch(migrated_url, query)} == {"mine": SHA, "theirs": None}


def test_a_worktree_of_another_user_is_not_ours(tmp_path: Path) -> None:
    """The default of `tail`: what its user owns."""
    assert own(tmp_path)
    assert not own(tmp_path / "none")
    assert not own(Path("/proc/1")) or os.geteuid() == 0
    if os.geteuid() == 0:
        os.chown(tmp_path, 65534, 65534)
        assert not own(tmp_path)


def test_a_repository_out_of_scope_has_no_url(tmp_path: Path) -> None:
    """The URL is in its files, too."""
    git_repository(tmp_path / "repo")
    (tmp_path / "repo" / ".git" / "config").write_text('[remote "origin"]\n\turl = https://example.com/r\n')
    place = str(tmp_path / "repo")
    inside = Identity(recorder=True, environ={}, allows=Below([tmp_path]))
    outside = Identity(recorder=True, environ={}, allows=Below([tmp_path / "other"]))
    assert inside.repositories([place]) == {place: "https://example.com/r"}
    assert outside.repositories([place]) == {place: None}


# -- hand tools ------------------------------------------------------------------------------------------------


def git(folder: Path, *args: str) -> None:
    """Run git with nobody's configuration."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.invalid"]
    subprocess.run(["git", "-C", str(folder), *identity, *args], check=True, env=environment, capture_output=True)


def test_hand_tools_read_no_pipe_and_nothing_huge(tmp_path: Path) -> None:
    """A tracked file that is a pipe has no lines; one of 3 GiB is not taken into memory to find out its size."""
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("one\n")
    git(tmp_path, "add", "a")
    pipe(tmp_path / "a")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(3 << 30)
    checkout = Checkout(tmp_path, is_git=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert checkout.content("a", None) is None
    with pytest.raises(CheckoutError, match="huge is larger than 64 MiB"):
        checkout.content("huge", None)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


def test_a_huge_file_of_a_revision_is_not_read_either(tmp_path: Path) -> None:
    """Git says its size first; what is asked for after it is found."""
    git(tmp_path, "init", "-q")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(65 << 20)
    (tmp_path / "small").write_text("one\n")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "Start")
    checkout = Checkout(tmp_path, is_git=True)
    commit = checkout.commit("HEAD")
    with pytest.raises(CheckoutError, match="huge is larger"):
        checkout.content("huge", commit)
    with ManyFiles(checkout, commit) as many:
        with pytest.raises(CheckoutError, match="huge is larger"):
            many.content("huge", commit)
        assert many.content("small", commit) == b"one\n"


def test_stats_of_a_repository_with_a_pipe_and_a_huge_file_end(migrated_url: str, tmp_path: Path) -> None:
    """As a person would run it."""
    project = tmp_path / "project"
    project.mkdir()
    git(project, "init", "-q")
    (project / "a").write_text("one\n")
    git(project, "add", "a")
    git(project, "commit", "-q", "-m", "Start")
    env = sidecar_env(tmp_path / "state", migrated_url)
    with ShimDouble(env) as shim:
        shim.send(1, Shim(str(project)).event("session.idle", {"sessionID": "ses_1"}))
        assert shim.close() == 0
    pipe(project / "a")
    with (project / "huge").open("wb") as file:
        file.truncate(3 << 30)
    done = subprocess.run(
        [sys.executable, "-m", "agent_trace_sidecar", "stats"],
        cwd=project,
        env={**env, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=patient(30),
        check=False,
    )
    assert done.returncode == 0, done.stderr
