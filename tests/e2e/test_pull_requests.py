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
from tests.support.attributed import Project
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


def test_a_hostile_name_formats_nothing(tmp_path: Path, module_url: str) -> None:
    """Neither a table's cell, nor a link, a mention, or HTML."""
    project = Project(tmp_path / "repo", module_url)
    project.ai_write("a|b`*_@everyone[x](y)<img>\n.py", "print('one')")
    project.commit()
    markdown = call(project.root, module_url, "stats", "--range", "HEAD~..HEAD", "--format", "markdown")
    (row,) = [line for line in markdown.splitlines() if "everyone" in line]
    assert row.count("|") == 7
    assert not set("`*_@[]<>") & set(row.replace("<code>", "").replace("</code>", ""))
