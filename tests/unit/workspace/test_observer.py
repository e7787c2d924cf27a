"""The observer against real files and real git repositories."""

import os
import subprocess
from pathlib import Path

import msgspec
import pytest

from agent_trace_sidecar.limits import files as files_module
from agent_trace_sidecar.opencode.wire import Observed, Wrapped
from agent_trace_sidecar.records.build import Builder, BuildSettings
from agent_trace_sidecar.records.content import content_hash, text_lines
from agent_trace_sidecar.records.diffs import compared
from agent_trace_sidecar.records.fingerprints import NO_HASH, line_hashes
from agent_trace_sidecar.workspace.observer import Observer
from tests.support.envelopes import RECORDINGS, Shim, envelope, recorded_lines


def git(folder: Path, *args: str) -> str:
    """Run git as nobody in particular, without anyone's settings."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    done = subprocess.run(
        ["git", "-c", "init.defaultBranch=main", "-c", "protocol.file.allow=always", *args],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture(name="repo")
def _repo(tmp_path: Path) -> Path:
    """A repository with one commit."""
    folder = tmp_path / "repo"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "a.txt").write_bytes(b"one\ntwo\nthree\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    return folder


class Live:
    """An observer and a shim whose clock says that files here were written long ago."""

    def __init__(self, root: Path, *secrets: str) -> None:
        self.root = root
        self.shim = Shim(str(root), at=4_000_000_000_000)
        self.observer = Observer(lambda text: any(secret in text for secret in secrets))

    def before(self, tool: str, args: object) -> None:
        """A call begins."""
        assert self.observer.observe(self.shim.before(tool, args)) is None

    def after(self, tool: str, args: object, metadata: object) -> Observed:
        """A call has ended."""
        seen = self.observer.observe(self.shim.after(tool, args, metadata))
        assert seen is not None
        return msgspec.json.decode(seen, type=Observed)

    def write(self, name: str, content: bytes, *, exists: bool) -> Observed:
        """OpenCode's write tool: hook, file, hook."""
        args = {"filePath": name, "content": content.decode()}
        self.before("write", args)
        (self.root / name).write_bytes(content)
        return self.after("write", args, {"exists": exists})


def spans(observed: Observed) -> list[tuple[str, int, int, str]]:
    """What was observed, in short."""
    return [(file.path, span.start, span.end, span.method) for file in observed.files for span in file.ranges]


@pytest.mark.parametrize("name", RECORDINGS)
def test_lines_without_a_change_to_files_are_let_through(name: str) -> None:
    """Only finished calls and steps are looked at; of a missing worktree nothing is told but that it was not seen."""
    observer = Observer(lambda _: False)
    looked = [line for line in recorded_lines(name) if observer.observe(line) is not None]
    ends = [line for line in recorded_lines(name) if b'"tool.execute.after"' in line[:400] or b'"step-finish"' in line]
    assert set(looked) <= set(ends)
    assert looked or name in {"killed-mid-tool", "slash-command"}


def test_an_overwrites_lines_are_those_that_differ_from_the_old_file(repo: Path) -> None:
    """The log alone can't know them; the file before and after the call can."""
    live = Live(repo)
    observed = live.write("a.txt", b"one\nTWO\nthree\nfour\n", exists=True)
    assert spans(observed) == [("a.txt", 2, 2, "diff"), ("a.txt", 4, 4, "diff")]
    assert observed.files[0].deleted == ((2, 2),)
    assert observed.files[0].ranges[0].content_hash == content_hash([b"TWO"])
    assert observed.files[0].ranges[0].line_hashes == line_hashes([b"TWO"]).hex()


def test_a_file_is_remembered_as_it_stood_right_before_and_after_the_call(repo: Path) -> None:
    """Blame carries lines forward by the hashes of all of them."""
    change = Live(repo).write("a.txt", b"one\nTWO\n", exists=True).files[0]
    assert change.before_hashes == line_hashes([b"one", b"two", b"three"]).hex()
    assert change.after_hashes == line_hashes([b"one", b"TWO"]).hex()
    change = Live(repo).write("new.txt", b"one\n", exists=False).files[0]
    assert (change.before_hashes, change.after_hashes) == ("", line_hashes([b"one"]).hex())


def test_a_deleted_file_is_remembered_with_its_lines(repo: Path) -> None:
    """What the AI took away is data too: the path and the old lines."""
    live = Live(repo)
    args = {"patchText": "*** Begin Patch\n*** Delete File: a.txt\n*** End Patch"}
    live.before("apply_patch", args)
    (repo / "a.txt").unlink()
    file = {"filePath": str(repo / "a.txt"), "relativePath": "a.txt", "type": "delete", "patch": ""}
    change = live.after("apply_patch", args, {"files": [file]}).files[0]
    assert (change.kind, change.deleted, change.ranges) == ("delete", ((1, 3),), ())
    assert (change.before_hashes, change.after_hashes) == (line_hashes([b"one", b"two", b"three"]).hex(), "")


def test_a_file_that_may_have_been_written_already_is_not_taken_for_the_old_one(repo: Path) -> None:
    """The hook's line can come late: then an overwrite's lines are a guess and say so."""
    live = Live(repo)
    live.shim = Shim(str(repo), at=1_000_000_000_000)
    observed = live.write("a.txt", b"one\nTWO\nthree\n", exists=True)
    assert spans(observed) == [("a.txt", 1, 3, "fallback")]
    assert observed.files[0].ranges[0].content_hash == content_hash([b"one", b"TWO", b"three"])


def test_a_new_file_is_hashed_as_it_stands_formatter_included(repo: Path) -> None:
    """The formatter's line is the AI's as well."""
    live = Live(repo)
    args = {"filePath": "n.py", "content": "x=1\n"}
    live.before("write", args)
    (repo / "n.py").write_bytes(b"x = 1\n\n")
    observed = live.after("write", args, {"exists": False})
    assert spans(observed) == [("n.py", 1, 2, "content")]
    assert observed.files[0].ranges[0].content_hash == content_hash([b"x = 1", b""])


def test_a_diff_is_checked_against_the_file_but_for_indentation_and_cr(repo: Path) -> None:
    """What OpenCode shows has lost both; the hash is of the true bytes."""
    (repo / "c.txt").write_bytes(b"    a\r\n    B1\r\n    B2\r\n    c\r\n")
    live = Live(repo)
    diff = "--- c.txt\n+++ c.txt\n@@ -1,3 +1,4 @@\n a\n-b\n+B1\n+B2\n c\n"
    observed = live.after("edit", {"filePath": "c.txt", "oldString": "b", "newString": "B1\nB2"}, {"diff": diff})
    assert spans(observed) == [("c.txt", 2, 3, "diff")]
    span = observed.files[0].ranges[0]
    assert span.content_hash == content_hash([b"    B1\r", b"    B2\r"])
    assert span.line_hashes == line_hashes([b"    B1", b"    B2"]).hex()


def test_a_diff_that_the_file_has_left_behind_is_found_again_or_left_unhashed(repo: Path) -> None:
    """Lines that moved are localised if they stand in one place only; else the tool's word stands without a hash."""
    diff = "--- c.txt\n+++ c.txt\n@@ -1,1 +1,2 @@\n a\n+new line\n"
    args = {"filePath": "c.txt", "oldString": "a", "newString": "a\nnew line"}
    (repo / "c.txt").write_bytes(b"header\na\n  new line\n")
    assert spans(Live(repo).after("edit", args, {"diff": diff})) == [("c.txt", 3, 3, "localised")]
    (repo / "c.txt").write_bytes(b"header\na\nnew line\nnew line\n")
    observed = Live(repo).after("edit", args, {"diff": diff})
    assert spans(observed) == [("c.txt", 2, 2, "diff")]
    assert observed.files[0].ranges[0].content_hash is None


def test_an_edit_without_a_diff_is_localised_without_the_lines_it_kept(repo: Path) -> None:
    """Older versions say only what was replaced."""
    (repo / "c.txt").write_bytes(b"x\n  keep\n  new\n  end\ny\n")
    args = {"filePath": "c.txt", "oldString": "  keep\n  end", "newString": "  keep\n  new\n  end"}
    assert spans(Live(repo).after("edit", args, {})) == [("c.txt", 3, 3, "localised")]
    (repo / "c.txt").write_bytes(b"other\n")
    assert spans(Live(repo).after("edit", args, {})) == [("c.txt", 1, 3, "fallback")]


def test_apply_patch_before_a_formatter_is_told_by_the_contents(repo: Path) -> None:
    """Its diff is older than the formatter's work; the file before and after the call is not."""
    live = Live(repo)
    args = {"patchText": "*** Begin Patch\n*** Update File: a.txt\n@@\n one\n+1.5\n*** End Patch"}
    live.before("apply_patch", args)
    (repo / "a.txt").write_bytes(b"# fmt\none\n1.5 \ntwo\nthree\n")
    patch = "--- a.txt\n+++ a.txt\n@@ -1,3 +1,4 @@\n one\n+1.5\n two\n three\n"
    file = {"filePath": str(repo / "a.txt"), "relativePath": "a.txt", "type": "update", "patch": patch}
    assert spans(live.after("apply_patch", args, {"files": [file]})) == [
        ("a.txt", 1, 1, "diff"),
        ("a.txt", 3, 3, "diff"),
    ]


@pytest.mark.parametrize("tool", ["edit", "write"])
def test_lines_that_a_formatter_wraps_are_reported_with_those_they_were(repo: Path, tool: str) -> None:
    """By an edit whose diff explains the two contents, and by an overwrite that has none."""
    old, new = "foo(one, two)\n", "foo(\none,\ntwo,\n)\n"
    (repo / "a.txt").write_text(old + "kept\n")
    live = Live(repo)
    texts = {"oldString": old, "newString": new} if tool == "edit" else {"content": new + "kept\n"}
    live.before(tool, {"filePath": "a.txt", **texts})
    (repo / "a.txt").write_text(new + "kept\n")
    diff = {"diff": "@@ -1,2 +1,5 @@\n-foo(one, two)\n+foo(\n+one,\n+two,\n+)\n kept\n"} if tool == "edit" else {}
    (file,) = live.after(tool, {"filePath": "a.txt", **texts}, {"exists": True, **diff}).files
    assert file.wrapped == (Wrapped(1, 4, 1, 1),)


@pytest.mark.parametrize("change", ["", "@@ -2,1 +2,1 @@\n-two\n+TWO\n"])
def test_a_patch_that_moves_a_file_keeps_what_it_was_before(repo: Path, change: str) -> None:
    """Its old path, and the hashes of its lines there."""
    live = Live(repo)
    args = {"patchText": "*** Begin Patch\n*** Update File: a.txt\n*** Move to: b.txt\n*** End Patch"}
    live.before("apply_patch", args)
    (repo / "a.txt").unlink()
    (repo / "b.txt").write_bytes(b"one\nTWO\nthree\n" if change else b"one\ntwo\nthree\n")
    file = {"filePath": str(repo / "a.txt"), "type": "move", "movePath": str(repo / "b.txt")}
    (moved,) = live.after("apply_patch", args, {"files": [{**file, "patch": f"--- a.txt\n+++ b.txt\n{change}"}]}).files
    assert (moved.kind, moved.old_path, moved.path) == ("move", "a.txt", "b.txt")
    assert moved.before_hashes == line_hashes([b"one", b"two", b"three"]).hex()
    assert moved.after_hashes == line_hashes([b"one", b"TWO" if change else b"two", b"three"]).hex()
    assert [(span.start, span.end) for span in moved.ranges] == ([(2, 2)] if change else [])


@pytest.mark.parametrize("kind", ["move", "delete"])
def test_a_file_that_is_gone_when_the_hook_comes_was_not_empty(repo: Path, kind: str) -> None:
    """A patch moves or deletes what was there: what it held is not known then, and nothing is new in the file."""
    live = Live(repo)
    (repo / "a.txt").rename(repo / "b.txt") if kind == "move" else (repo / "a.txt").unlink()
    words = "Update File: a.txt\n*** Move to: b.txt" if kind == "move" else "Delete File: a.txt"
    args = {"patchText": f"*** Begin Patch\n*** {words}\n*** End Patch"}
    live.before("apply_patch", args)
    moved = {"movePath": str(repo / "b.txt")} if kind == "move" else {}
    file = {"filePath": str(repo / "a.txt"), "relativePath": "a.txt", "type": kind, "patch": "", **moved}
    (change,) = live.after("apply_patch", args, {"files": [file]}).files
    assert (change.kind, change.ranges, change.before_hashes) == (kind, (), None)


def test_lines_with_a_secret_have_no_hash(repo: Path) -> None:
    """A hash of a short secret could be guessed: neither its line nor its range gets one."""
    observed = Live(repo, "hunter2").write("s.env", b"a=1\npw=hunter2\n", exists=False)
    span = observed.files[0].ranges[0]
    assert span.content_hash is None
    assert span.line_hashes == line_hashes([b"a=1"]).hex() + NO_HASH.hex()


def test_a_secret_of_several_lines_takes_the_hash_of_each(repo: Path) -> None:
    """No single line gives it away, the whole does."""
    observed = Live(repo, "BEGIN\nEND").write("k.txt", b"BEGIN\nEND\n", exists=False)
    assert observed.files[0].ranges[0].line_hashes == NO_HASH.hex() * 2
    assert observed.files[0].ranges[0].content_hash is None


def test_a_file_whose_name_may_be_a_secret_is_not_named(repo: Path) -> None:
    """What is observed goes past the masking."""
    assert Live(repo, "hunter2").write("hunter2.txt", b"x\n", exists=False).files == ()


def test_no_line_of_a_secret_file_has_a_hash_nor_one_that_no_rule_could_judge(repo: Path) -> None:
    """A doubt counts as a secret."""

    def fails(text: str) -> bool:
        if text == "a.txt":
            return False
        raise ValueError

    line = Shim(str(repo)).after("write", {"filePath": "a.txt", "content": "one\n"}, {"exists": False})
    for observer in (Observer(lambda _: False, is_secret_path=lambda path: path == "a.txt"), Observer(fails)):
        seen = observer.observe(line)
        assert seen is not None
        assert msgspec.json.decode(seen, type=Observed).files[0].ranges[0].line_hashes == NO_HASH.hex() * 3


@pytest.mark.parametrize("kind", ["link", "folder link", "pipe", "huge", "folder", "unreadable name"])
def test_only_regular_files_of_the_worktree_are_read(repo: Path, kind: str) -> None:
    """Nothing is read through a link out of it, from a pipe or beyond the bound; the tool's word stands, unhashed."""
    outside = repo.parent / "outside.txt"
    outside.write_text("secret\n")
    name = "x.txt"
    if kind == "link":
        (repo / name).symlink_to(outside)
    elif kind == "folder link":
        (repo / "d").symlink_to(repo.parent)
        name = "d/outside.txt"
    elif kind == "pipe":
        os.mkfifo(repo / name)
    elif kind == "huge":
        (repo / name).write_bytes(b"x\n" * files_module.MAX_FILE_BYTES)
    elif kind == "folder":
        (repo / name).mkdir()
    else:
        name = "x" * 300
    observed = Live(repo).after("write", {"filePath": name, "content": "secret\n"}, {"exists": False})
    assert spans(observed) == [(name, 1, 1, "content")]
    assert observed.files[0].ranges[0].content_hash is None


def test_the_time_budget_bounds_what_is_looked_at(repo: Path) -> None:
    """When time is up, the tool's own words have to do."""
    ticks = iter(range(1000))
    observer = Observer(lambda _: False, clock=lambda: float(next(ticks)))
    seen = observer.observe(
        Shim(str(repo)).after("write", {"filePath": "a.txt", "content": "one\n"}, {"exists": False})
    )
    assert seen is not None
    assert msgspec.json.decode(seen, type=Observed).files[0].ranges[0].content_hash is None


def test_hook_and_part_of_one_call_are_looked_at_once(repo: Path) -> None:
    """By the time the part comes, the file may be another."""
    live = Live(repo)
    live.write("n.txt", b"x\n", exists=False)
    done = {"status": "completed", "input": {"filePath": "n.txt", "content": "x\n"}, "metadata": {}}
    assert live.observer.observe(live.shim.part("write", done)) is None
    assert Live(repo).observer.observe(live.shim.part("write", done)) is not None


@pytest.mark.parametrize(
    "line", [b"", b"null", b'{"hook":"tool.execute.after"', b'"tool.execute.after"' * 9, b"\xff" * 99]
)
def test_a_line_that_is_no_event_is_nothing_to_see(line: bytes) -> None:
    """The redactor and the parser judge it."""
    assert Observer(lambda _: False).observe(line) is None


def test_observed_ranges_are_what_git_says_was_added(repo: Path) -> None:
    """The record made of an observed line holds git's own line numbers, and the revision of that moment."""
    live = Live(repo)
    content = b"zero\none\ntwo\n2.5\nthree\nend\n"
    args = {"filePath": str(repo / "a.txt"), "content": content.decode()}
    live.before("write", args)
    (repo / "a.txt").write_bytes(content)
    line = live.shim.after("write", args, {"exists": True})
    seen = live.observer.observe(line)
    assert seen is not None
    built = Builder(BuildSettings()).feed(envelope(line[:-1] + b',"observed":' + seen + b"}"))
    added = [part.split()[2] for part in git(repo, "diff", "-U0").splitlines() if part.startswith("@@")]
    assert added == ["+1", "+4", "+6"]
    assert [(row.start_line, row.end_line) for row in built.ranges] == [(1, 1), (4, 4), (6, 6)]
    assert built.records[0].vcs_revision == git(repo, "rev-parse", "HEAD")


def revision(root: Path) -> str | None:
    """The revision that a call in this folder is given."""
    seen = Live(root).write("probe.txt", b"x\n", exists=False)
    return seen.vcs.revision if seen.vcs else None


@pytest.mark.parametrize("state", ["branch", "packed", "repacked", "detached", "subfolder", "symbolic"])
def test_the_revision_is_what_git_says(repo: Path, state: str) -> None:
    """However the reference is kept."""
    root = repo
    if state in {"packed", "repacked"}:
        git(repo, "pack-refs", "--all")
    if state == "repacked":
        assert revision(repo) == git(repo, "rev-parse", "HEAD")
        git(repo, "commit", "-qm", "second", "--allow-empty")
        git(repo, "pack-refs", "--all")
    elif state == "detached":
        git(repo, "checkout", "-q", "--detach")
    elif state == "subfolder":
        root = repo / "deep" / "er"
        root.mkdir(parents=True)
    elif state == "symbolic":
        git(repo, "symbolic-ref", "refs/heads/alias", "refs/heads/main")
        git(repo, "symbolic-ref", "HEAD", "refs/heads/alias")
    assert revision(root) == git(repo, "rev-parse", "HEAD")


def test_a_linked_worktree_and_a_submodule_have_their_own_revision(repo: Path) -> None:
    """Their `.git` is a file that leads elsewhere."""
    tree = repo.parent / "tree"
    git(repo, "worktree", "add", "-q", "-b", "side", str(tree))
    git(tree, "commit", "-qm", "side", "--allow-empty")
    assert revision(tree) == git(tree, "rev-parse", "HEAD") != git(repo, "rev-parse", "HEAD")
    outer = repo.parent / "outer"
    outer.mkdir()
    git(outer, "init", "-q")
    git(outer, "submodule", "add", "-q", str(repo), "sub")
    assert revision(outer / "sub") == git(repo, "rev-parse", "HEAD")


def test_no_commit_and_no_repository_have_no_revision(tmp_path: Path) -> None:
    """Unknown is left out."""
    assert revision(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert revision(tmp_path) is None


def test_text_lines_are_gits(repo: Path) -> None:
    """Cut at LF only, whatever else Unicode calls a line break."""
    content = "a\x0bb\u2028c\rd\n\ne".encode()
    (repo / "a.txt").write_bytes(content)
    assert git(repo, "diff", "--numstat").split()[0] == str(len(text_lines(content)))
    assert compared((), text_lines(content)) is not None
