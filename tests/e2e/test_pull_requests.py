"""The share of the AI in a pull request: through the commands, on real repositories."""

import io
import json
import os
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from agent_trace_sidecar.cli import main
from tests.support.attributed import Project, run_git
from tests.support.postgres import PostgresServers

LINES = ("def total(prices):", "    result = 0", "    for price in prices:", "        result += price")


def call(folder: Path, url: str, *words: str, code: int = 0) -> str:
    """Run a command in a folder, and give what it printed."""
    said = io.StringIO()
    env = {"AGENT_TRACE_DATABASE_URL": url}
    with chdir(folder), patch.dict(os.environ, env), redirect_stdout(said), redirect_stderr(said):
        try:
            ended: object = main(words)
        except SystemExit as exc:  # of argparse
            ended = exc.code
    assert ended == code, said.getvalue()
    return said.getvalue()


@pytest.fixture(name="module_url", scope="module")
def _module_url(postgres_servers: PostgresServers) -> Iterator[str]:
    with postgres_servers.database(migrated=True) as url:
        yield url


class Topic:
    """A branch `topic`: four lines of the AI's, of which a person changed one, and two of a person's."""

    def __init__(self, root: Path, url: str) -> None:
        self.url = url
        self.project = Project(root, url)
        self.project.git("config", "user.email", "t@example.org")
        self.project.git("config", "user.name", "t")
        for number in range(3):
            self.project.write("README", f"Version {number}.")
            self.project.commit()
        self.project.git("checkout", "-qb", "topic")
        self.project.ai_write("lib/a.py", *LINES)
        self.project.commit("the call's")
        self.project.replace("lib/a.py", "for price in prices:", "for price in prices[1:]:")
        self.project.write("b.py", "import sys", "print(sys.argv)")
        self.project.commit("a person's")

    def run(self, *words: str, code: int = 0) -> str:
        """Run a command in the repository."""
        return call(self.project.root, self.url, *words, code=code)

    def stats(self, *words: str) -> dict[str, Any]:
        """The shares of the topic."""
        found: dict[str, Any] = json.loads(self.run("stats", "--range", "main...topic", "--format", "json", *words))
        return found


@pytest.fixture(name="topic", scope="module")
def _topic(tmp_path_factory: pytest.TempPathFactory, module_url: str) -> Topic:
    return Topic(tmp_path_factory.mktemp("pr") / "repo", module_url)


def test_the_shares_of_a_range(topic: Topic) -> None:
    """The names are a contract; the working tree and other branches don't matter."""
    found = topic.stats()
    session = found["sessions"][0]
    assert found == {
        "range": "main...topic",
        "added": 6,
        "ai": 3,
        "mixed": 1,
        "human": 2,
        "unknown": 0,
        "by_model": [{"model_id": "anthropic/claude-x", "lines": 4}],
        "by_file": [
            {"path": "b.py", "added": 2, "ai": 0, "mixed": 0, "human": 2, "unknown": 0},
            {"path": "lib/a.py", "added": 4, "ai": 3, "mixed": 1, "human": 0, "unknown": 0},
        ],
        "sessions": [{"session_id": "ses_1", "title": session["title"], "lines": 4, "cost": session["cost"]}],
        "cost": found["cost"],
    }
    assert json.loads(topic.run("stats", "--range", "main...topic", "--json")) == found
    assert topic.stats("lib")["added"] == 4
    assert json.loads(topic.run("stats", "--range", "topic~..topic", "--json"))["by_model"][0]["lines"] == 1


def test_only_added_lines_count(topic: Topic) -> None:
    """An empty range has none, and its share is 0."""
    found = json.loads(topic.run("stats", "--range", "topic..topic", "--json", "--fail-above", "0"))
    assert (found["added"], found["by_file"], found["sessions"], found["cost"]) == (0, [], [], None)
    assert "0 lines added" in topic.run("stats", "--range", "topic..topic")


def test_a_share_above_the_bound_is_exit_code_3(topic: Topic) -> None:
    """Four of six lines are AI or mixed: 66.7 %."""
    assert "more than 66 %" in topic.run("stats", "--range", "main...topic", "--fail-above", "66", code=3)
    topic.run("stats", "--range", "main...topic", "--fail-above", "66.7")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("--range", "nowhere..topic"), 1, "unknown revision 'nowhere'"),
        (("--range", "topic"), 1, "give A..B or A...B"),
        (("--fail-above", "5"), 2, "--fail-above needs --range"),
        (("--range", "main..topic", "--by", "day"), 2, "excludes --rev and --by"),
        (("--range", "main..topic", "--fail-above", "x"), 2, "not a percentage"),
        (("--range", "main..topic", "--fail-above", "nan"), 2, "not a percentage"),
        (("--range", "main..topic", "--json", "--format", "text"), 2, "--json excludes"),
    ],
)
def test_wrong_usage_is_one_sentence(topic: Topic, words: tuple[str, ...], code: int, sentence: str) -> None:
    """It names what is wrong."""
    assert sentence in topic.run("stats", *words, code=code)


def test_text_and_markdown_show_the_same(topic: Topic) -> None:
    """One for terminals, one for a comment."""
    text = topic.run("stats", "--range", "main...topic")
    assert text.startswith("main...topic: 6 lines added: 3 AI (50.0 %), 1 mixed (16.7 %), 2 human (33.3 %)\n")
    assert "lib/a.py" in text
    markdown = topic.run("stats", "--range", "main...topic", "--format", "markdown")
    assert markdown.startswith("### 66.7 % of 6 added lines are AI-written, in whole or in part\n")
    assert "| AI | 3 | 50.0 % |" in markdown
    assert "| <code>lib/a&#46;py</code> | 4 | 3 | 1 | 0 | 0 |" in markdown


def test_the_readme_shows_a_comment_as_it_is(topic: Topic) -> None:
    """Up to the sessions."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8").splitlines()
    shown = [line.removeprefix(">").strip() for line in readme if line.startswith(">")]
    printed = topic.run("stats", "--range", "main...topic", "--format", "markdown").splitlines()
    at = printed.index(shown[0])
    assert printed[at : at + len(shown)] == shown


def test_a_hostile_name_formats_nothing(tmp_path: Path, module_url: str) -> None:
    """Neither a table's cell, nor a link, a mention, or HTML."""
    project = Project(tmp_path / "repo", module_url)
    project.ai_write("a|b`*_@everyone[x](y)<img>\n.py", "print('one')")
    project.commit()
    markdown = call(project.root, module_url, "stats", "--range", "HEAD~..HEAD", "--format", "markdown")
    (row,) = [line for line in markdown.splitlines() if "everyone" in line]
    assert row.count("|") == 7
    assert len(row) < 600
    assert not set("`*_@[]<>") & set(row.replace("<code>", "").replace("</code>", ""))


def test_a_repository_that_is_not_recorded_is_named(topic: Topic, tmp_path: Path) -> None:
    """Its lines are unknown, not a person's."""
    root = tmp_path / "other"
    root.mkdir()
    for words in (("init", "-q"), ("config", "user.email", "t@example.org"), ("config", "user.name", "t")):
        run_git(root, *words)
    for number in range(2):
        (root / "a.py").write_text("print(1)\n" * (number + 1))
        run_git(root, "add", "-A")
        run_git(root, "commit", "-qm", "work")
    printed = call(root, topic.url, "stats", "--range", "HEAD~..HEAD")
    assert "1 unknown (100.0 %)" in printed
    assert "nothing is recorded of this repository" in printed
    file = str(tmp_path / "authors.jsonl")
    assert "names no lines" in call(root, topic.url, "export", "--range", "HEAD~..HEAD", "--output", file)
    assert "0 notes written" in call(root, topic.url, "notes", "push", "HEAD~..HEAD")
    assert "1 unknown (100.0 %)" in call(root, NOWHERE, "stats", "--range", "HEAD~..HEAD", "--from", file)
    assert "is not in a git repository" in call(tmp_path, topic.url, "stats", "--range", "A..B", code=1)


# -- without a database ----------------------------------------------------------------------------------------

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


def without_titles(found: dict[str, Any]) -> dict[str, Any]:
    """What a file and notes know: titles stay in the database."""
    return found | {"sessions": [one | {"title": None} for one in found["sessions"]]}


def elsewhere(folder: Path, source: str, code: int = 0) -> str:
    """The shares of the topic in another clone, where no database can be reached."""
    return call(folder, NOWHERE, "stats", "--range", "origin/main...HEAD", "--json", "--from", source, code=code)


def cloned(topic: Topic, folder: Path, *options: str) -> Path:
    """A clone with the topic checked out."""
    run_git(folder, "clone", "-q", "--no-single-branch", *options, "-b", "topic", f"file://{topic.project.root}", "ci")
    return folder / "ci"


def test_a_file_says_the_same_without_a_database(topic: Topic, tmp_path: Path) -> None:
    """In a clone as shallow as the range allows; the file is an Agent Trace record that `validate` accepts."""
    file = tmp_path / "authors.jsonl"
    topic.run("export", "--range", "main...topic", "--output", str(file))
    assert "1 record: 0 errors" in topic.run("validate", str(file))
    clone = cloned(topic, tmp_path, "--depth", "3")
    assert (clone / ".git" / "shallow").exists()
    assert json.loads(elsewhere(clone, str(file))) == without_titles(topic.stats()) | {"range": "origin/main...HEAD"}


def test_a_file_of_another_commit_claims_what_is_found_again(topic: Topic, tmp_path: Path) -> None:
    """Ranges that moved are found by their hash; the line that was changed and single common lines are unknown."""
    file = tmp_path / "authors.jsonl"
    topic.run("export", "--range", "main...topic", "--output", str(file))
    clone = cloned(topic, tmp_path)
    (clone / "lib/a.py").write_text("import os\n\n" + "\n".join(LINES[:2]) + "\n    pass\n" + LINES[3] + "\n")
    run_git(clone, "commit", "-qam", "more")
    found = json.loads(elsewhere(clone, str(file)))
    of_a = next(one for one in found["by_file"] if one["path"] == "lib/a.py")
    assert (of_a["ai"], of_a["mixed"], of_a["human"], of_a["unknown"]) == (3, 0, 0, 3)


def test_notes_say_the_same_and_survive_a_rebase(topic: Topic, tmp_path: Path) -> None:
    """They are pushed to the remote, fetched in CI, and copied when git rewrites the commits."""
    run_git(tmp_path, "init", "-q", "--bare", "remote.git")
    topic.project.git("remote", "add", "origin", f"file://{tmp_path}/remote.git")
    topic.project.git("push", "-q", "origin", "main", "topic")
    assert "refs/notes/agent-trace" not in topic.project.git("for-each-ref")
    assert "2 notes written" in topic.run("notes", "push", "main...topic")
    assert topic.run("notes", "push", "main...topic") == topic.run("notes", "push", "main...topic")
    (shown,) = topic.run("notes", "show", "topic").splitlines()
    assert json.loads(shown)["vcs"]["revision"] == topic.project.git("rev-parse", "topic")
    assert len(topic.run("notes", "show", "main..topic").splitlines()) == 2
    run_git(tmp_path, "clone", "-q", "-b", "topic", f"file://{tmp_path}/remote.git", "ci")
    assert "git fetch origin refs/notes" in elsewhere(tmp_path / "ci", "notes", code=1)
    run_git(tmp_path / "ci", "fetch", "-q", "origin", "refs/notes/agent-trace:refs/notes/agent-trace")
    wanted = without_titles(topic.stats())
    assert json.loads(elsewhere(tmp_path / "ci", "notes")) == wanted | {"range": "origin/main...HEAD"}

    topic.project.git("checkout", "-q", "--detach", "main")
    topic.project.write("README", "Another beginning.")
    topic.project.commit("on the side")
    topic.project.git("tag", "side")
    topic.project.git("checkout", "-qB", "rebased", "topic")
    topic.project.git("rebase", "-q", "side")
    again = json.loads(topic.run("stats", "--range", "side..rebased", "--from", "notes", "--json"))
    assert again == wanted | {"range": "side..rebased"}


def test_notes_of_two_people_meet_at_the_remote(tmp_path: Path, module_url: str) -> None:
    """What one has pushed is taken in before the other's; a note of another tool is kept."""
    first = Project(tmp_path / "one", module_url)
    first.git("config", "user.email", "t@example.org")
    first.git("config", "user.name", "t")
    run_git(tmp_path, "init", "-q", "--bare", "remote.git")
    first.git("remote", "add", "origin", f"file://{tmp_path}/remote.git")
    first.ai_write("a.py", *LINES)
    other = first.commit()
    first.git("push", "-q", "origin", "main")
    run_git(tmp_path, "clone", "-q", f"file://{tmp_path}/remote.git", "two")
    author = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    foreign = '{"version":"0.1.0","tool":{"name":"cursor"},"files":[]}'
    run_git(tmp_path / "two", *author, "notes", "--ref=agent-trace", "add", "-m", "theirs", "HEAD~")
    run_git(tmp_path / "two", "push", "-q", "origin", "refs/notes/agent-trace")
    first.git("notes", "--ref=agent-trace", "add", "-m", foreign, other)
    printed = call(first.root, module_url, "notes", "push", "HEAD~..HEAD")
    assert "pushed to origin" in printed
    notes = run_git(tmp_path / "remote.git", "notes", "--ref=agent-trace", "list").splitlines()
    assert len(notes) == 2
    assert call(first.root, module_url, "notes", "show").splitlines()[0] == foreign


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("notes", "push"), 2, "push needs the commits"),
        (("notes", "show", "main"), 1, "no note at main"),
        (("notes", "push", "main...topic", "--remote", "nowhere"), 1, "not pushed"),
        (("export", "--output", "x"), 2, "--output needs --range"),
        (("export", "--range", "main..topic", "--output", "x", "--session", "y"), 2, "--output excludes"),
        (("export", "--range", "main..topic", "--output", "no/folder/x"), 1, "can't be written"),
        (("stats", "--from", "x"), 2, "--from needs --range"),
        (("stats", "--range", "main..topic", "--from", "README"), 1, "holds no Agent Trace records"),
        (("stats", "--range", "main..topic", "--from", "nothing"), 1, "can't be read"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(topic: Topic, words: tuple[str, ...], code: int, sentence: str) -> None:
    """It names what is wrong and what to do."""
    assert sentence in topic.run(*words, code=code)


def test_a_topic_that_has_merged_main_counts_its_own_lines(tmp_path: Path, module_url: str) -> None:
    """By the store, by a file and by notes; with a name that git quotes, from a folder of a linked worktree."""
    project = Project(tmp_path / "repo", module_url)
    project.git("config", "user.email", "t@example.org")
    project.git("config", "user.name", "t")
    name = 'a b\tc"é.py'
    project.git("checkout", "-qb", "topic")
    project.ai_write(name, *LINES)
    project.commit()
    project.git("checkout", "-q", "main")
    project.write("main.py", "print('from main')")
    project.commit()
    project.git("checkout", "-q", "topic")
    project.git("merge", "-q", "--no-edit", "main")
    project.write("sub/b.py", "import os\r", "print(os.name)\r")
    project.git("mv", name, "sub/moved.py")
    project.commit()
    project.git("worktree", "add", "-q", "--detach", str(tmp_path / "linked"), "topic")
    folder = tmp_path / "linked" / "sub"
    command = ("stats", "--range", "main...topic", "--json")
    found = json.loads(call(folder, module_url, *command))
    assert [(one["path"], one["ai"], one["human"]) for one in found["by_file"]] == [
        ("sub/b.py", 0, 2),
        ("sub/moved.py", 4, 0),
    ]
    call(folder, module_url, "export", "--range", "main...topic", "--output", "authors.jsonl")
    assert json.loads(call(folder, NOWHERE, *command, "--from", "authors.jsonl")) == without_titles(found)
    assert "2 notes written" in call(folder, module_url, "notes", "push", "main...topic", "--local")
    assert json.loads(call(folder, NOWHERE, *command, "--from", "notes")) == without_titles(found)
    assert json.loads(call(folder, NOWHERE, *command, "--from", "notes", "b.py"))["added"] == 2
