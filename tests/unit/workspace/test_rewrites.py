"""What git itself brings into the worktree, with real repositories and the commands that people and AIs run."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_trace_sidecar.workspace.places import Place
from agent_trace_sidecar.workspace.revision import Revisions
from agent_trace_sidecar.workspace.rewrites import Rewrites
from agent_trace_sidecar.workspace.snapshot import TreeChange
from agent_trace_sidecar.workspace.steps import Call, Heads, Step
from tests.support.snapshots import EARLIER, Work, git

FILES = {"a.txt": "one\ntwo\nthree\n", "b.txt": "1\n2\n3\n"}
LATER_MS = 1e15
"""Of a step that begins after everything that has happened."""
Lines = dict[str, list[int]]


@pytest.fixture(name="work")
def _work(tmp_path: Path) -> Work:
    """A repository with a side branch and a stash."""
    work = Work(tmp_path, FILES)
    git(work.root, "checkout", "-qb", "side", **EARLIER)
    work.files({"a.txt": "one\ntwo\nthree\nside\n", "side.txt": "side\n", "b.txt": None})
    git(work.root, "add", "-A", **EARLIER)
    git(work.root, "commit", "-qm", "side", **EARLIER)
    git(work.root, "checkout", "-q", "main", **EARLIER)
    work.files({"b.txt": "1\n2\n3\nstashed\n"})
    git(work.root, "stash", "-q", **EARLIER)
    return work


def run(work: Work, command: str, act: Callable[[], object]) -> Lines:
    """The lines that a bash command gets for what it did; an empty list for a file that it changed without new ones."""
    work.start()
    work.before("c1", "bash", {"command": command}, -1)
    act()
    work.after("c1", "bash", {"command": command}, {}, 10)
    return {
        file.path: [line for span in file.ranges for line in range(span.start, span.end + 1)]
        for call in work.finish().values()
        for file in call.files
    }


def do(work: Work, *steps: str | dict[str, str | None]) -> Callable[[], object]:
    """Run git commands and write files, in order."""

    def act() -> None:
        for step in steps:
            if isinstance(step, str):
                git(work.root, *step.split())
            else:
                work.files(step)

    return act


CASES: list[tuple[str, list[str | dict[str, str | None]], Lines]] = [
    ("git checkout side", ["checkout -q side"], {}),
    ("git switch side && echo ai > ai.txt", ["switch -q side", {"ai.txt": "ai\n"}], {"ai.txt": [1]}),
    ("git merge side", ["merge -q side"], {}),
    ("git checkout side -- a.txt", ["checkout -q side -- a.txt"], {}),
    ("git restore -s side a.txt", ["restore -s side a.txt"], {}),
    ("git stash pop", ["stash pop -q"], {}),
    (
        "git stash pop; echo ai >> b.txt",
        ["stash pop -q", {"b.txt": "1\n2\n3\nstashed\nai\n"}],
        {"b.txt": [5]},
    ),
    (
        "git merge side; sed -i s/one/ONE/ a.txt",
        ["merge -q side", {"a.txt": "ONE\ntwo\nthree\nside\n"}],
        {"a.txt": [1]},
    ),
    ("git checkout -b new; rm b.txt", ["checkout -qb new", {"b.txt": None}], {"b.txt": []}),
    ("echo ai > n.txt; git commit", [{"n.txt": "ai\n"}, "add -A", "commit -qm ai"], {"n.txt": [1]}),
    (
        "echo ai > n.txt; git commit; git checkout -b x",
        [{"n.txt": "ai\n"}, "add -A", "commit -qm ai", "checkout -qb x"],
        {"n.txt": [1]},
    ),
    ("git apply x.patch", [{"a.txt": "one\nPATCH\nthree\n"}], {"a.txt": [2]}),
    ("git cherry-pick side", ["cherry-pick side"], {}),
    ("git reset --hard side", ["reset -q --hard side"], {}),
    ("make update", ["checkout -q side"], {}),
    ("cat a.txt > b.txt", [{"b.txt": "one\ntwo\nthree\n"}], {"b.txt": []}),
    ("cat a.txt > b.txt; echo four >> b.txt", [{"b.txt": "one\ntwo\nthree\nfour\n"}], {"b.txt": [1, 2, 3, 4]}),
    ("git revert HEAD~0", [{"new.txt": "x\n"}, "add -A", "commit -qm x", "revert --no-edit HEAD"], {}),
]


@pytest.mark.parametrize(("command", "steps", "expected"), CASES, ids=[case[0] for case in CASES])
def test_of_a_command_only_its_own_lines_are_the_ais(
    work: Work, command: str, steps: list[str | dict[str, str | None]], expected: Lines
) -> None:
    """What a branch, the stash or another commit brought is not."""
    assert run(work, command, do(work, *steps)) == expected


@pytest.mark.parametrize(
    ("command", "source", "expected"),
    [
        ("git show side:a.txt > copy.txt", "side:a.txt", {"copy.txt": []}),
        ("git show 'side:./a.txt' > copy.txt", "side:a.txt", {"copy.txt": []}),
        ("git archive side a.txt | tar xO > copy.txt", "side:a.txt", {"copy.txt": []}),
        ("git log > copy.txt", "side:a.txt", {"copy.txt": [1, 2, 3, 4]}),
    ],
)
def test_what_a_command_takes_from_a_revision_is_brought_into_any_file(
    work: Work, command: str, source: str, expected: Lines
) -> None:
    """The command names the revision, and the path that the file has there."""
    text = git(work.root, "show", source)
    assert run(work, command, do(work, {"copy.txt": text})) == expected


def test_what_a_command_takes_from_its_own_commit_is_its_work(work: Work) -> None:
    """A commit of the step is no source."""
    text = "made = by(the, model)\n"
    act = do(work, {"ai.txt": text}, "add -A", "commit -qm ai", {"copy.txt": text})
    expected = {"ai.txt": [1], "copy.txt": [1]}
    assert run(work, "sh x; git add -A; git commit -m ai; git show HEAD:ai.txt > copy.txt", act) == expected


def test_a_stash_brings_the_untracked_files_that_it_holds(work: Work) -> None:
    """They stand in a commit of their own."""
    work.files({"untracked.txt": "mine\n"})
    git(work.root, "stash", "-qu")
    assert run(work, "git stash pop; echo ai > ai.txt", do(work, "stash pop -q", {"ai.txt": "ai\n"})) == {"ai.txt": [1]}


def test_a_rebase_brings_what_others_wrote(work: Work) -> None:
    """Of both sides: neither was written now."""
    work.files({"mine.txt": "mine\n"})
    git(work.root, "add", "-A")
    git(work.root, "commit", "-qm", "mine")
    assert run(work, "git pull --rebase", do(work, "rebase -q side")) == {}


def test_a_person_who_changes_the_branch_meanwhile_gives_nothing_to_the_ai(work: Work) -> None:
    """The log of HEAD tells of it, whatever the command says."""
    act = do(work, "checkout -q side", {"ai.txt": "ai\n"})
    assert run(work, "sleep 9; echo ai > ai.txt", act) == {"ai.txt": [1]}


def test_the_markers_of_a_conflict_are_nobodys(work: Work) -> None:
    """Nor are the lines between them."""
    work.files({"a.txt": "one\ntwo\nthree\nmain\n"})
    git(work.root, "commit", "-qam", "main")

    def act() -> None:
        with pytest.raises(Exception, match="merge"):
            git(work.root, "merge", "-q", "side")

    assert run(work, "git merge side", act) == {}


def step_at(root: str, heads: Heads | None) -> Step:
    """A step that has begun."""
    return Step("ses_1", "msg_1", root, "", 0.0, heads=heads)


def test_tracked_files_are_those_of_the_commit_before_the_step(work: Work) -> None:
    """Whatever their names are; what was made or deleted since does not change it."""
    work.files({"größe.txt": "x\n", "sub/a b.txt": "x\n"})
    git(work.root, "add", "-A")
    git(work.root, "commit", "-qm", "names")
    rewrites = Rewrites(Revisions())
    step = step_at(str(work.root), rewrites.heads(work.root, LATER_MS))
    work.files({"a.txt": None, "new.txt": "new\n"})
    names = ["a.txt", "new.txt", "größe.txt", "sub", "sub/a b.txt", "two\nlines", "b.txt"]
    assert rewrites.tracked(step, names) == {"a.txt", "größe.txt", "sub/a b.txt", "b.txt"}


@pytest.mark.parametrize("is_born", [True, False])
def test_a_step_that_is_read_late_began_before_its_own_commits(tmp_path: Path, *, is_born: bool) -> None:
    """Git records whole seconds: what it did in the second in which the step began counts as the step's."""
    root, began = tmp_path / "repo", int(time.time())
    git(tmp_path, "init", "-q", "repo")

    def commit(second: int) -> None:
        git(root, "commit", "--allow-empty", "-qm", "x", GIT_COMMITTER_DATE=f"@{second} +0100")

    for second in (began - 20, began - 1) if is_born else ():
        commit(second)
    rewrites = Rewrites(Revisions())
    before = rewrites.heads(root, LATER_MS)
    assert before is not None
    assert before.head == (git(root, "rev-parse", "HEAD") if is_born else "")
    for second in (began, began + 1):
        commit(second)
    assert rewrites.heads(root, began * 1000) == before
    assert rewrites.heads(root, LATER_MS) != before


def test_versions_are_those_of_files_of_the_repository_itself(work: Work) -> None:
    """At the commit before the step; where a command calls git, also at earlier ones and at those that it names."""
    work.files({"a.txt": "four\n"})
    git(work.root, "commit", "-qam", "second")
    rewrites = Rewrites(Revisions())
    step = step_at(str(work.root), rewrites.heads(work.root, LATER_MS))
    ids = "b" * 40, "c" * 40
    names = [("a.txt", None), ("a.txt", Place(work.root.parent, "a.txt", is_own=False)), ("a.txt\nb.txt", None)]
    changes = [TreeChange(name, None, "M", *ids, [b"a"], [b"b"], None, place) for name, place in names]
    assert rewrites.versions(step, changes) == {"a.txt": [[b"four"]]}
    step.calls["c1"] = Call("c1", "bash", silent=True, began_ms=0.0, command="git show side:a.txt > a.txt")
    base = [b"one", b"two", b"three"]
    assert rewrites.versions(step, changes) == {"a.txt": [[b"four"], base, [*base, b"side"]]}
    step.calls["c1"].silent = False
    assert rewrites.versions(step, changes) == {"a.txt": [[b"four"]]}


@pytest.mark.parametrize("kind", ["no repository", "no commit", "no path", "not known"])
def test_without_a_commit_nothing_is_known_of_other_versions(tmp_path: Path, kind: str) -> None:
    """A folder, an empty repository, a name that is none, a step whose begin was not seen."""
    rewrites, root = Rewrites(Revisions()), str(tmp_path)
    if kind in ("no commit", "not known"):
        git(tmp_path, "init", "-q")
    heads = {"no commit": rewrites.heads(tmp_path, LATER_MS), "not known": None}.get(kind, Heads("a" * 40, "", 0))
    step = step_at(f"{root}\0" if kind == "no path" else root, heads)
    change = TreeChange("a.txt", None, "M", "b" * 40, "c" * 40, [b"a"], [b"b"], None)
    assert rewrites.tracked(step, ["a.txt"]) == set()
    assert rewrites.versions(step, [change]) == {}
    assert rewrites.brought(step, [change]) == {}
