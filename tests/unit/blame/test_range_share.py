"""Which lines a range adds, held against git's own count, and how their authors add up."""

import os
from pathlib import Path

import pytest

from agent_trace_sidecar.blame.range_authors import added_by
from agent_trace_sidecar.blame.range_share import LineAuthor, SessionCost, share
from agent_trace_sidecar.workspace.checkout import Checkout, CheckoutError
from tests.support.attributed import run_git


class Repository:
    """A git repository with one commit, tagged `first`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        self.git("init", "-q")
        self.commit({"old.py": b"one\ntwo\nthree\n", "mode.sh": b"echo\n", "crlf.txt": b"a\r\nb\r\n"})
        self.git("tag", "first")
        self.checkout = Checkout(root, is_git=True)

    def git(self, *words: str) -> str:
        """Run git here."""
        return run_git(self.root, *words)

    def commit(self, files: dict[str, bytes]) -> None:
        """Write some files and commit everything."""
        for path, content in files.items():
            file = self.root / os.fsencode(path).decode(errors="surrogateescape")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        self.git("add", "-A")
        self.git("commit", "-qm", "work")

    def added(self, wanted: str = "first..HEAD") -> dict[str, list[int]]:
        """The numbers of the added lines."""
        return {path: list(lines) for path, lines in added_by(self.checkout, wanted).lines.items()}


@pytest.fixture(name="repository")
def _repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repo")


@pytest.mark.parametrize(
    ("files", "added"),
    [
        ({"old.py": b"zero\none\ntwo\n2.5\nthree\n"}, {"old.py": [1, 4]}),
        ({"old.py": b"one\ntwo\nthree"}, {"old.py": [3]}),
        ({"crlf.txt": b"a\r\nb\r\nc\r\n"}, {"crlf.txt": [3]}),
        ({"new.py": b"@@ -1 +1 @@\ndiff --git a/x b/x\n+++ x\n-- y"}, {"new.py": [1, 2, 3, 4]}),
        ({"empty.py": b""}, {}),
        ({"a.bin": b"\0\1\n\2\n"}, {}),
        ({'a b\tc"é\nd.py': b"x\n"}, {'a b\tc"é\nd.py': [1]}),
        ({"bad\udcff.py": b"x\n"}, {"bad\udcff.py": [1]}),
        ({"sub/deep/a.py": b"x\r\r\ny\x0cz\x85\n"}, {"sub/deep/a.py": [1, 2]}),
    ],
    ids=["hunks", "newline-lost", "crlf", "like-a-patch", "empty", "binary", "odd-name", "no-utf8", "odd-lines"],
)
def test_added_lines_are_those_of_git(repository: Repository, files: dict[str, bytes], added: object) -> None:
    """Their number is that of `git diff --numstat`."""
    repository.commit(files)
    found = repository.added()
    assert found == added
    counted = [line.split("\t")[0] for line in repository.git("diff", "--numstat", "first", "HEAD").splitlines()]
    assert sum(map(len, found.values())) == sum(int(count) for count in counted if count != "-")


def test_moves_deletions_and_modes_add_nothing(repository: Repository) -> None:
    """Of a moved file only the changed lines count; what follows in the diff is not confused by it."""
    repository.git("mv", "old.py", "moved.py")
    repository.git("rm", "-q", "crlf.txt")
    (repository.root / "mode.sh").chmod(0o755)
    repository.commit({"moved.py": b"one\ntwo\nthree\nfour\n", "z.py": b"z\n"})
    assert repository.added() == {"moved.py": [4], "z.py": [1]}


def test_links_and_submodules_are_no_lines(repository: Repository) -> None:
    """A file that becomes a link has two sections in the diff."""
    (repository.root / "mode.sh").unlink()
    (repository.root / "mode.sh").symlink_to("old.py")
    head = repository.git("rev-parse", "HEAD")
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{head},module")
    (repository.root / "z.py").write_bytes(b"z\n")
    repository.git("add", "mode.sh", "z.py")
    repository.git("commit", "-qm", "link")
    assert repository.added() == {"z.py": [1]}
    repository.git("tag", "link")
    (repository.root / "mode.sh").unlink()
    (repository.root / "mode.sh").write_bytes(b"echo\necho\n")
    (repository.root / "zz.py").write_bytes(b"z\n")
    repository.git("add", "mode.sh", "zz.py")
    repository.git("commit", "-qm", "file again")
    assert repository.added("link..HEAD") == {"mode.sh": [1, 2], "zz.py": [1]}


def test_settings_of_the_user_change_nothing(repository: Repository) -> None:
    """Prefixes, colours, context and external programs of `git diff`."""
    repository.commit({"old.py": b"zero\none\ntwo\n2.5\nthree\n"})
    for setting in ("diff.noprefix=true", "color.ui=always", "diff.context=9", "diff.external=/bin/false"):
        repository.git("config", *setting.split("="))
    assert repository.added() == {"old.py": [1, 4]}


def test_two_dots_compare_ends_and_three_the_merge_base(repository: Repository) -> None:
    """As `git diff` does: what main deleted since is added by the topic's end, but not by the topic."""
    repository.git("checkout", "-qb", "topic")
    repository.commit({"topic.py": b"t\n"})
    repository.git("checkout", "-q", "main")
    repository.commit({"old.py": b"one\n"})
    assert repository.added("main...topic") == {"topic.py": [1]}
    assert repository.added("main..topic") == {"old.py": [2, 3], "topic.py": [1]}
    assert repository.added("topic..topic") == {}


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ("nowhere..HEAD", "unknown revision 'nowhere'"),
        ("HEAD", "give A..B or A...B"),
        ("..", "give A..B or A...B"),
        ("--output=x..HEAD", "unknown revision"),
        ("first..HEAD:old.py", "unknown revision"),
        ("other...main", "no merge base"),
    ],
)
def test_what_is_no_range_is_one_sentence(repository: Repository, wanted: str, sentence: str) -> None:
    """Nothing of it is taken as an option of git."""
    repository.git("checkout", "-q", "--orphan", "other")
    repository.commit({"x": b"x\n"})
    with pytest.raises(CheckoutError, match=sentence):
        repository.added(wanted)


def test_a_shallow_clone_is_named_as_the_cause(repository: Repository, tmp_path: Path) -> None:
    """Where a revision or the merge base is missing."""
    repository.commit({"old.py": b"1\n"})
    run_git(tmp_path, "clone", "-q", "--depth", "1", f"file://{repository.root}", "shallow")
    checkout = Checkout(tmp_path / "shallow", is_git=True)
    with pytest.raises(CheckoutError, match="This clone is shallow"):
        added_by(checkout, "first..HEAD")


def test_shares_add_up() -> None:
    """By author, model, file and session; a session without a price leaves the cost of the others."""
    ai, other = LineAuthor("ai", "a/x", "ses_1"), LineAuthor("mixed", None, "ses_2")
    authors = {"b.py": [ai, ai, other], "a.py": [LineAuthor("human"), LineAuthor("unknown")]}
    found = share("A...B", authors, {"ses_1": SessionCost("ses_1", "Title", 0.5)})
    assert (found.added, found.ai, found.mixed, found.human, found.unknown) == (5, 2, 1, 1, 1)
    assert [(one.model_id, one.lines) for one in found.by_model] == [("a/x", 2), ("unknown", 1)]
    assert [(one.path, one.added, one.ai) for one in found.by_file] == [("a.py", 2, 0), ("b.py", 3, 2)]
    assert [(one.session_id, one.lines, one.cost) for one in found.sessions] == [("ses_1", 2, 0.5), ("ses_2", 1, None)]
    assert (found.cost, found.ai_percent) == (0.5, 60.0)
    assert share("A..A", {}, {}).ai_percent == 0
