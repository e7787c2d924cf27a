"""Who wrote this line, in the situations that other tools get wrong; real git, real rows, a real Postgres."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from agent_trace_sidecar.redaction import Redacted
from agent_trace_sidecar.spool.folders import SPOOL_FOLDER
from agent_trace_sidecar.spool.spool import Spool
from tests.support.attributed import Project, run_git
from tests.support.envelopes import Shim
from tests.support.sidecar import sidecar_command, sidecar_env

DATA = Path(__file__).parents[1] / "data"
AI_FUNCTION = (
    "def total(prices):",
    "    result = 0",
    "    for price in prices:",
    "        result += price",
    "    return result",
)
HUMAN_FUNCTION = (
    "def largest(prices):",
    "    best = prices[0]",
    "    for price in prices[1:]:",
    "        best = max(best, price)",
    "    return best",
)


@pytest.fixture(name="project")
def _project(tmp_path: Path, migrated_url: str) -> Project:
    """A repository with a person's file."""
    project = Project(tmp_path / "repo", migrated_url)
    project.write("human.py", *HUMAN_FUNCTION)
    project.commit()
    return project


def test_a_new_file_of_the_ai_is_the_ais(project: Project) -> None:
    """With model, session, message, tool and time."""
    project.ai_write("a.py", *AI_FUNCTION)
    lines = project.blame("a.py")
    assert [line.contributor for line in lines] == ["ai"] * 5
    assert [line.line for line in lines] == [1, 2, 3, 4, 5]
    first = lines[0]
    assert (first.model_id, first.session_id, first.message_id, first.tool) == (
        "anthropic/claude-x",
        "ses_1",
        "msg_1",
        "write",
    )
    assert first.at is not None
    assert first.method == "content"
    assert first.confidence > 0.9


def test_a_file_that_the_store_does_not_know_is_unknown(project: Project) -> None:
    """Nothing is claimed of it."""
    assert project.authors("human.py") == "uuuuu"


def test_an_edit_leaves_the_lines_around_it_to_the_person(project: Project) -> None:
    """Not the whole replaced block is the AI's."""
    project.ai_edit(
        "human.py", "    best = prices[0]\n", "    if not prices:\n        return None\n    best = prices[0]\n"
    )
    assert project.authors("human.py") == "haahhhh"


def test_a_human_line_typed_after_an_ai_line_is_human(project: Project) -> None:
    """At the end of the file, and between two lines of the AI."""
    project.ai_write("a.py", *AI_FUNCTION)
    project.write("a.py", *AI_FUNCTION[:2], "    checked = sorted(prices)", *AI_FUNCTION[2:], "print(total([1, 2]))")
    assert project.authors("a.py") == "aahaaah"


def test_a_human_rewrite_of_an_ai_line_is_human(project: Project) -> None:
    """Nothing of it is left."""
    project.ai_write("a.py", *AI_FUNCTION)
    project.replace("a.py", "        result += price\n", "        print('skipping everything else')\n")
    assert project.authors("a.py") == "aaaha"


def test_a_human_change_of_an_ai_line_is_mixed(project: Project) -> None:
    """Most of it is still there."""
    project.ai_write("a.py", *AI_FUNCTION)
    project.replace("a.py", "        result += price\n", "        result += price * rate\n")
    assert project.authors("a.py") == "aaama"


def test_a_change_between_two_calls_of_the_ai_is_remembered(project: Project) -> None:
    """A later call does not take over what a person did before it."""
    project.ai_write("a.py", *AI_FUNCTION)
    project.replace("a.py", "        result += price\n", "        result += price * rate\n        print(price)\n")
    project.ai_edit("a.py", "    return result\n", "    assert result >= 0\n    return result\n", model="claude-y")
    lines = project.blame("a.py")
    assert "".join(line.contributor[0] for line in lines) == "aaamhaa"
    assert [line.model_id for line in lines[5:]] == ["anthropic/claude-y", "anthropic/claude-x"]


def test_blank_lines_are_whose_they_are(project: Project) -> None:
    """A blank line that a person puts between two functions of the AI is the person's."""
    project.ai_write("a.py", *AI_FUNCTION, "", *AI_FUNCTION[:1], "    return sum(prices)")
    project.write("a.py", *AI_FUNCTION, "", *AI_FUNCTION[:1], "    return sum(prices)", "", "# end of the file")
    assert project.authors("a.py") == "aaaaaaaahh"


def test_a_review_that_changes_nothing_changes_nothing(project: Project) -> None:
    """Reading, saving and committing is no authorship."""
    project.ai_write("a.py", *AI_FUNCTION)
    (project.root / "a.py").write_bytes((project.root / "a.py").read_bytes())
    project.commit("reviewed")
    assert project.authors("a.py") == "aaaaa"


def test_lines_that_occur_many_times_are_settled_by_position(project: Project) -> None:
    """A brace is the AI's where the AI put it."""
    human = ("int f() {", "    return 1;", "}", "", "int g() {", "    return 2;", "}")
    project.write("a.c", *human)
    project.ai_edit("a.c", "    return 1;\n}\n", "    return 1;\n}\n\nint between() {\n    return 3;\n}\n")
    assert project.authors("a.c") in {"hhhaaaahhhh", "hhaaaahhhhh"}


def test_a_commit_and_an_amend_change_nothing(project: Project) -> None:
    """Commits are not what attribution hangs on."""
    project.ai_write("a.py", *AI_FUNCTION)
    project.commit()
    project.git("commit", "-q", "--amend", "-m", "better words")
    assert project.authors("a.py") == "aaaaa"
    assert project.authors("a.py", "HEAD") == "aaaaa"


def test_an_amend_of_the_first_commit_changes_nothing(project: Project) -> None:
    """The first commit is the repository's name: the amended one is read in git's reflog."""
    project.ai_write("a.py", *AI_FUNCTION)
    project.git("add", "-A")
    project.git("commit", "-q", "--amend", "-m", "better words")
    assert project.authors("a.py") == "aaaaa"
    assert project.authors("human.py") == "hhhhh"


def test_a_squash_changes_nothing(project: Project) -> None:
    """Two commits become one."""
    project.ai_write("a.py", *AI_FUNCTION)
    project.commit()
    project.ai_edit("a.py", "    result = 0\n", "    result = 0.0\n")
    project.write("a.py", *project.read("a.py"), "print('by hand')")
    project.commit()
    project.git("reset", "-q", "--soft", "HEAD~2")
    project.commit("squashed")
    assert project.authors("a.py", "HEAD") == "aaaaah"


def test_a_rebase_onto_a_changed_file_changes_nothing(project: Project) -> None:
    """The commit's id, the line numbers and the file around it are new."""
    project.write("a.py", *HUMAN_FUNCTION)
    project.commit()
    project.git("checkout", "-q", "-b", "topic")
    project.write("a.py", *HUMAN_FUNCTION, "")
    project.ai_edit("a.py", "    return best\n\n", "    return best\n\n" + "\n".join(AI_FUNCTION) + "\n")
    project.commit()
    project.git("checkout", "-q", "main")
    project.write("a.py", "import sys", "", *HUMAN_FUNCTION)
    project.commit()
    project.git("rebase", "-q", "main", "topic")
    assert project.authors("a.py") == "hhhhhhhhaaaaa"


def test_a_cherry_pick_brings_the_ai_along(project: Project) -> None:
    """Onto a branch that never saw the call."""
    project.write("a.py", *HUMAN_FUNCTION)
    project.commit()
    project.git("checkout", "-q", "-b", "topic")
    project.ai_edit("a.py", "    best = prices[0]\n", "    assert prices, 'none given'\n    best = prices[0]\n")
    picked = project.commit()
    project.git("checkout", "-q", "main")
    project.write("a.py", *HUMAN_FUNCTION, "", "print('main')")
    project.commit()
    project.git("cherry-pick", picked)
    assert project.authors("a.py") == "hahhhhhh"


def test_a_merge_keeps_both_sides(project: Project) -> None:
    """Calls on two branches of one file, one after the other in time."""
    project.write("a.py", *HUMAN_FUNCTION, "", "# middle of the file", "", *(f"print({n})" for n in range(5)))
    project.commit()
    project.git("checkout", "-q", "-b", "topic")
    project.ai_edit("a.py", "    best = prices[0]\n", "    assert prices, 'none given'\n    best = prices[0]\n")
    project.commit()
    project.git("checkout", "-q", "main")
    project.ai_edit("a.py", "print(4)\n", "print(4)\nprint('the last one', 5)\n")
    project.commit()
    project.git("merge", "-q", "--no-edit", "topic")
    assert project.authors("a.py") == "ha" + "h" * 12 + "a"


def test_a_stash_brings_its_lines_back(project: Project) -> None:
    """Also when the AI has changed the file meanwhile."""
    project.write("a.py", *HUMAN_FUNCTION, "", "# middle of the file", "", *(f"print({n})" for n in range(5)))
    project.commit()
    project.ai_edit("a.py", "    best = prices[0]\n", "    assert prices, 'none given'\n    best = prices[0]\n")
    project.git("stash", "-q")
    project.ai_edit("a.py", "print(4)\n", "print(4)\nprint('the last one', 5)\n")
    project.commit()
    project.git("stash", "pop", "-q")
    assert project.authors("a.py") == "ha" + "h" * 12 + "a"


def test_a_formatter_that_indents_leaves_the_lines_to_the_ai(project: Project) -> None:
    """The same words, other white space."""
    project.ai_write("a.py", *AI_FUNCTION)
    project.write("a.py", *("\t" + line.replace("    ", "\t") for line in AI_FUNCTION))
    assert project.authors("a.py") == "aaaaa"


def test_a_brace_that_a_call_indents_alone_stays_a_persons(project: Project) -> None:
    """It says little by itself; but nothing else is where it was."""
    project.write("a.py", "call(first, second) {", "  }", "other(third, fourth)")
    project.commit()
    project.ai_edit("a.py", "  }\n", "    }\n")
    project.ai_edit("a.py", "other(third, fourth)\n", "other(third, fourth)\nwritten(by, a, model)\n")
    assert project.authors("a.py") == "hhha"


def test_a_formatter_that_wraps_leaves_the_lines_to_the_ai(project: Project) -> None:
    """One line becomes five, and quotes change."""
    project.ai_write("a.py", "call(first_argument, second_argument, 'third')", "x = 1")
    project.write("a.py", "call(", "    first_argument,", "    second_argument,", '    "third",', ")", "x = 1")
    assert project.authors("a.py") == "aaaaaa"


def test_a_call_that_wraps_lines_leaves_them_to_their_authors(project: Project) -> None:
    """One line becomes five, and three become one, beside a line that the call adds."""
    long, wrapped = (
        "call(first_argument, second_argument, 'third')",
        ["call(", "  first_argument,", "  second_argument,"],
    )
    end = ['  "third",', ")"]
    project.write("a.py", long, "x = 1")
    project.commit()
    project.ai_write("b.py", long.replace("call", "other"), "y = 2")
    for path, name in (("a.py", "call("), ("b.py", "other(")):
        first = project.read(path)[0]
        project.ai_edit(path, first, "\n".join([name, *wrapped[1:], *end, "added = by(a_model, 3)"]), model="claude-y")
    assert project.authors("a.py") == "hhhhhah"
    models = [(line.model_id or "").rpartition("/")[2] for line in project.blame("b.py")]
    assert models == [*["claude-x"] * 5, "claude-y", "claude-x"]
    project.ai_edit("a.py", "\n".join([*wrapped, *end]), long)
    project.ai_edit("b.py", "\n".join(["other(", *wrapped[1:], *end]), long.replace("call", "other"), model="claude-y")
    assert project.authors("a.py") == "hah"
    assert project.blame("b.py")[0].model_id == "anthropic/claude-x"


def test_crlf_changes_nothing(project: Project) -> None:
    """A line's ending is not the line."""
    project.ai_write("a.py", *AI_FUNCTION)
    project.write("a.py", *AI_FUNCTION, end="\r\n")
    assert project.authors("a.py") == "aaaaa"


def test_a_block_moved_inside_its_file_stays_the_ais(project: Project) -> None:
    """Across a person's function."""
    project.write("a.py", *HUMAN_FUNCTION, "", "")
    project.ai_edit("a.py", "    return best\n\n\n", "    return best\n\n\n" + "\n".join(AI_FUNCTION) + "\n")
    project.write("a.py", *AI_FUNCTION, "", "", *HUMAN_FUNCTION)
    assert project.authors("a.py").replace("h", "") == "aaaaa"
    assert project.authors("a.py")[:5] == "aaaaa"


def test_a_block_moved_to_another_file_stays_the_ais(project: Project) -> None:
    """Nothing was recorded of that file."""
    project.write("a.py", *HUMAN_FUNCTION, "")
    project.ai_edit("a.py", "    return best\n\n", "    return best\n\n" + "\n".join(AI_FUNCTION) + "\n")
    project.write("a.py", *HUMAN_FUNCTION)
    project.write("b.py", "import sys", "", *AI_FUNCTION)
    assert project.authors("b.py") == "hhaaaaa"
    assert project.authors("a.py") == "hhhhh"
    assert project.blame("b.py")[2].origin_path == "a.py"


def test_a_rename_keeps_everyones_lines(project: Project) -> None:
    """The new name has no record of its own."""
    project.ai_edit("human.py", "    best = prices[0]\n", "    assert prices, 'none given'\n    best = prices[0]\n")
    project.commit()
    project.git("mv", "human.py", "renamed.py")
    assert project.authors("renamed.py") == "hahhhh"
    project.ai_edit("renamed.py", "    return best\n", "    print(best, 'is it')\n    return best\n")
    assert project.authors("renamed.py") == "hahhhah"


def test_a_copy_of_an_ai_block_is_the_ais(project: Project) -> None:
    """And of both blocks neither loses its author."""
    project.ai_write("a.py", *AI_FUNCTION)
    project.write("b.py", "import sys", *AI_FUNCTION)
    assert project.authors("b.py") == "haaaaa"
    assert project.authors("a.py") == "aaaaa"


def test_a_common_line_in_another_file_is_not_taken_for_the_ais(project: Project) -> None:
    """Everybody writes such lines."""
    project.ai_write("a.py", "import os", "from pathlib import Path", *AI_FUNCTION)
    project.write("b.py", "import os", "from pathlib import Path", "print(os.sep, Path())")
    assert "a" not in project.authors("b.py")


def test_frames_that_everybody_types_are_no_copies(project: Project) -> None:
    """Licences, configurations, tests, frames of programs in many languages: the AI has them first, then a person."""
    frames = {file.stem: file.read_text().splitlines() for file in sorted((DATA / "frames").iterdir())}
    for name, lines in frames.items():
        project.ai_write(f"ai/{name}", *lines, "last = made(1, 2)")
        project.write(f"own/{name}", "first = typed(1, 2)", *lines, "last = typed(3, 4)")
    assert {name: project.authors(f"own/{name}").strip("h") for name in frames} == dict.fromkeys(frames, "")


def test_another_repository_with_the_same_path_knows_nothing(
    project: Project, tmp_path: Path, migrated_url: str
) -> None:
    """Many repositories share one database."""
    project.ai_write("a.py", *AI_FUNCTION)
    other = Project(tmp_path / "other", migrated_url)
    other.write("a.py", *AI_FUNCTION)
    assert other.authors("a.py") == "uuuuu"


def test_a_repository_at_the_path_where_another_was_recorded_knows_nothing_of_it(
    migrated_url: str, tmp_path: Path
) -> None:
    """Containers and runners have their repositories at the same path."""
    log, root, env = tmp_path / "log.jsonl", tmp_path / "work", sidecar_env(tmp_path / "state", migrated_url)
    log.write_text((DATA / "recordings" / "apply-patch.jsonl").read_text().replace("/home/dev/project", str(root)))
    subprocess.run(sidecar_command("replay", str(log)), env=env, check=True, capture_output=True)
    root.mkdir()
    (root / "a.txt").write_text("one\n")
    for git in (False, True):
        if git:
            run_git(root, "init", "-q")
            run_git(root, "add", "-A")
            run_git(root, "commit", "-qm", "First")
        done = subprocess.run(
            sidecar_command("blame", "a.txt"), cwd=root, env=env, check=False, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout.split()[0]) == (1, "unknown")


def test_what_opencode_2_recorded_before_there_was_a_repository_is_known(migrated_url: str, tmp_path: Path) -> None:
    """It calls a folder without one by a hash of its path."""
    root = tmp_path / "plain"
    identity = hashlib.sha1(f"directory:{root}".encode(), usedforsecurity=False).hexdigest()
    project = Project(root, migrated_url, with_git=False, identity=identity)
    project.write("a.py", *HUMAN_FUNCTION)
    project.ai_edit("a.py", "    best = prices[0]\n", "    assert prices\n    best = prices[0]\n")
    assert project.authors("a.py") == "hahhhh"
    project.git("init", "-q")
    project.commit()
    assert project.authors("a.py") == "hahhhh"


def test_a_clone_elsewhere_knows_everything(project: Project, tmp_path: Path, migrated_url: str) -> None:
    """The project is known by its first commit, not by its folder."""
    project.ai_write("a.py", *AI_FUNCTION)
    project.commit()
    project.git("clone", "-q", str(project.root), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone", migrated_url)
    assert clone.authors("a.py") == "aaaaa"


def test_a_revision_is_blamed_as_it_was(project: Project) -> None:
    """Before and after later changes of both."""
    project.ai_write("a.py", *AI_FUNCTION)
    early = project.commit()
    project.replace("a.py", "    result = 0\n", "    result = 0\n    print('by hand')\n")
    middle = project.commit()
    project.ai_write("a.py", "print('all anew')")
    project.commit()
    assert project.authors("a.py", early) == "aaaaa"
    assert project.authors("a.py", middle) == "aahaaa"
    assert project.authors("a.py") == "a"


def test_a_line_with_a_secret_is_known_by_the_lines_around_it(project: Project) -> None:
    """It has no hash; unless more than itself has changed there, it is taken for the same, with less confidence."""
    project.ai_write("a.py", "import client", "client.login('hunter2')", "client.ask('who')", "client.close()")
    lines = project.blame("a.py")
    assert [line.contributor for line in lines] == ["ai"] * 4
    assert lines[1].confidence < 0.8
    project.replace("a.py", "client.ask('who')", "print('nothing of that')")
    assert project.authors("a.py") == "auha"


@pytest.mark.parametrize(
    ("typed", "authors"),
    [
        (("first = 1", "client.login('hunter2')"), "auuaa"),
        (("client.login('hunter2')", "last = 3"), "auuaa"),
        (("first = 1", "client.login('hunter2')", "last = 3"), "auuuaa"),
    ],
)
def test_a_line_beside_one_with_a_secret_may_be_it(project: Project, typed: tuple[str, ...], authors: str) -> None:
    """What was typed before or after it has moved it."""
    project.ai_write("a.py", "import client", "client.login('hunter2')", "client.ask('who')", "client.close()")
    project.write("a.py", "import client", *typed, "client.ask('who')", "client.close()")
    assert project.authors("a.py") == authors


def test_lines_beside_a_secret_of_a_persons_are_the_persons(project: Project) -> None:
    """Whichever of them it is."""
    project.write("a.py", "import client", "client.login('hunter2')", "client.close()")
    project.ai_edit("a.py", "client.close()\n", "client.ask('who')\nclient.close()\n")
    project.write(
        "a.py", "import client", "first = 1", "client.login('hunter2')", "client.ask('who')", "client.close()"
    )
    assert project.authors("a.py") == "hhhah"


def test_a_line_that_a_person_restores_is_the_persons(project: Project) -> None:
    """Discarding the AI's version of it leaves nothing of the AI, however alike the two are."""
    project.write("a.py", *HUMAN_FUNCTION)
    project.commit()
    project.ai_edit("a.py", "    return best\n", "    return best, prices\n")
    assert project.authors("a.py") == "hhhha"
    project.git("checkout", "-q", "--", "a.py")
    project.ai_edit("a.py", "    best = prices[0]\n", "    assert prices\n    best = prices[0]\n")
    assert project.authors("a.py") == "hahhhh"


def test_a_folder_without_git_is_known_by_its_path(tmp_path: Path, migrated_url: str) -> None:
    """Also a file in a folder below the one that OpenCode was started in."""
    project = Project(tmp_path / "plain", migrated_url, with_git=False)
    project.write("lib/a.py", *HUMAN_FUNCTION)
    project.ai_edit("lib/a.py", "    best = prices[0]\n", "    assert prices\n    best = prices[0]\n")
    assert project.authors("lib/a.py") == "hahhhh"


def test_a_file_of_two_lines_like_one_of_the_ai_is_nobodys(project: Project) -> None:
    """Everybody has such a file."""
    project.ai_write("a/__init__.py", '"""Package."""', "__all__ = []")
    project.write("b/__init__.py", '"""Package."""', "__all__ = []")
    assert "a" not in project.authors("b/__init__.py")


def command(
    project: Project,
    *arguments: str,
    name: str = "blame",
    cwd: Path | None = None,
    given: bytes = b"",
    code: int = 0,
) -> "subprocess.CompletedProcess[bytes]":
    """Run `blame`, or the named command, which exits with this code."""
    program = [sys.executable, "-m", "agent_trace_sidecar", name, *arguments]
    state = {"AGENT_TRACE_STATE_DIR": str(project.root.parent / "state")}
    env = os.environ | state | {"AGENT_TRACE_DATABASE_URL": project.url, "TZ": "Asia/Tokyo"}
    done = subprocess.run(program, cwd=cwd or project.root, env=env, input=given, capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    return done


def test_blame_for_people_names_a_call_once_and_its_time_with_the_zone(project: Project) -> None:
    """Equal neighbours stand together; a line of a person's begins a new group."""
    project.ai_write("a.py", *AI_FUNCTION)
    project.write("a.py", *AI_FUNCTION[:2], "mine = 1", *AI_FUNCTION[2:])
    shown = command(project, "a.py").stdout.decode().splitlines()
    assert [line.split()[0] for line in shown] == ["ai", "2)", "human", "ai", "5)", "6)"]
    assert "claude-x" in shown[0]
    assert " JST " in shown[0]
    assert shown[2].endswith("3) mine = 1")


def test_blame_of_an_unsaved_buffer_is_of_what_stdin_holds(project: Project) -> None:
    """The file on disk is as it was."""
    project.ai_write("a.py", *AI_FUNCTION)
    buffer = "\n".join(("typed = 1", *AI_FUNCTION, "")).encode()
    found = json.loads(command(project, "a.py", "--contents", "-", "--json", given=buffer).stdout)
    assert "".join(line["contributor"][0] for line in found) == "haaaaa"
    assert project.authors("a.py") == "aaaaa"


def porcelain(text: str) -> list[dict[str, str]]:
    """Read the format as its manual page describes it: a commit's facts are given once, a file's if they are others."""
    facts: dict[str, dict[str, str]] = {}
    lines: list[dict[str, str]] = []
    rest = 0
    commit = origin = number = ""
    for line in text.removesuffix("\n").split("\n"):
        if header := re.fullmatch(r"([0-9a-f]{40}) (\d+) (\d+)(?: (\d+))?", line):
            assert (header[4] is None) == (rest > 0), line
            rest = int(header[4] or rest) - 1
            commit, origin, number = header[1], header[2], header[3]
            facts.setdefault(commit, {})
        elif line.startswith("\t"):
            lines.append({**facts[commit], "commit": commit, "origin": origin, "line": number, "text": line[1:]})
        else:
            name, _, value = line.partition(" ")
            facts[commit][name] = value
    assert rest == 0
    return lines


def test_porcelain_is_gits_format_with_the_ais_records_as_commits(project: Project) -> None:
    """A person's line has git's own commit; what is known of a commit is told once."""
    project.ai_edit("human.py", "    return best\n", "    print(best, 'is it')\n    print(1)\n    return best\n")
    out = command(project, "human.py", "--porcelain").stdout.decode()
    lines, gits = porcelain(out), porcelain(project.git("blame", "--porcelain", "human.py") + "\n")
    assert [line["author"] for line in lines] == ["t@example.org"] * 4 + ["anthropic/claude-x"] * 2 + ["t@example.org"]
    assert [line["text"] for line in lines] == project.read("human.py")
    assert [line for at, line in enumerate(lines) if at not in {4, 5}] == [gits[at] for at in (0, 1, 2, 3, 6)]
    assert out.count("\nauthor ") == 2
    assert set(gits[0]) - {"boundary"} <= set(lines[4])


def test_line_porcelain_repeats_everything_as_gits_does(project: Project) -> None:
    """Some readers know no other form."""
    project.ai_edit("human.py", "    return best\n", "    print(best, 'is it')\n    print(1)\n    return best\n")
    out = command(project, "human.py", "--line-porcelain").stdout.decode()
    assert out.count("\nsummary ") == out.count("\nfilename ") == 7
    assert porcelain(out) == porcelain(command(project, "human.py", "--porcelain").stdout.decode())


def test_porcelain_names_files_as_git_does(project: Project) -> None:
    """Also a commit's lines that come from several files, and names that git quotes."""
    old, new = "pri\u00e9 1.py", 'the "new".py'
    project.write(old, *HUMAN_FUNCTION)
    project.commit()
    project.ai_edit(old, "    return best\n", "    print(best, 'is it')\n    return best\n")
    project.git("mv", old, new)
    project.ai_edit(new, "    return best\n", "    print(best, 'once more')\n    return best\n")
    lines = porcelain(command(project, new, "--porcelain").stdout.decode())
    gits = porcelain(project.git("blame", "--porcelain", new) + "\n")
    assert [lines[at]["filename"] for at in (0, 4, 5, 6)] == [
        gits[0]["filename"], '"pri\\303\\251 1.py"', '"the \\"new\\".py"', gits[6]["filename"],
    ]  # fmt: skip
    assert gits[0]["filename"] == '"pri\\303\\251 1.py"'


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (["2,4"], [2, 3, 4]),
        (["4,2"], [2, 3, 4]),
        (["4,+9"], [4, 5]),
        (["4,-2"], [3, 4]),
        (["4"], [4, 5]),
        ([",2"], [1, 2]),
        (["1,1", "3,3"], [1, 3]),
        (["5,5", "1,2", "2,3"], [1, 2, 3, 5]),
        (["/price in/,+1"], [3]),
        (["/price in/,-2"], [2, 3]),
        (["2,/price/"], [2, 3]),
        (["/result =/,/result +=/"], [2, 3, 4]),
        (["/result$/"], [5]),
        (["/pr[a-z]*s:/,+1", "/price/,+1"], [3, 4]),
        (["3,3", "^/price/,+1"], [1, 3]),
        ([r"/\(total\)(p/,+1"], [1]),
        ([":total"], [1, 2, 3, 4, 5]),
    ],
)
def test_ranges_of_lines_are_gits(project: Project, wanted: list[str], numbers: list[int]) -> None:
    """In every form of the answer."""
    project.ai_write("a.py", *AI_FUNCTION)
    project.commit()
    options = [word for one in wanted for word in ("-L", one)]
    found = json.loads(command(project, "a.py", "--json", *options).stdout)
    gits = porcelain(project.git("blame", "--porcelain", *options, "a.py") + "\n")
    assert [line["line"] for line in found] == [int(line["line"]) for line in gits] == numbers
    lines = porcelain(command(project, "a.py", "--porcelain", *options).stdout.decode())
    assert [int(line["line"]) for line in lines] == numbers
    assert len(command(project, "a.py", *options).stdout.splitlines()) == len(numbers)


def test_a_range_that_is_none_is_named(project: Project) -> None:
    """Wrong usage, and a file that is shorter."""
    project.ai_write("a.py", *AI_FUNCTION)
    assert b"-L '0,3' is not a range of lines" in command(project, "a.py", "-L", "0,3", code=2).stderr
    assert b"a.py has only 5 lines." in command(project, "a.py", "-L", "6,7", code=1).stderr
    for wanted in ("/nothing/", r"/\(/", "/price/,x", ":nothing"):
        error = command(project, "a.py", "-L", "1,1", "-L", wanted, code=1).stderr
        assert f"-L {wanted!r} is not a range of lines of a.py".encode() in error


def test_a_pattern_finds_lines_of_any_content(project: Project) -> None:
    """Of a file that git does not know, of a revision, of an editor's buffer; functions by the file's attributes."""
    project.write(".gitattributes", "*.md diff=markdown")
    project.write("a.md", "# One", "first", "## Two", "second")
    first = project.commit()
    project.write("a.md", "new", "# One", "# Two", "third")
    (project.root / "sub").mkdir()
    project.write("sub/new é.py", "one = 1", "two = 2")

    def numbers(*arguments: str, given: bytes = b"") -> list[int]:
        done = command(project, *arguments, "--json", given=given)
        return [line["line"] for line in json.loads(done.stdout)]

    assert numbers("sub/new é.py", "-L", "/two/") == [2]
    assert numbers("a.md", "-L", "/# Two/") == [3, 4]
    assert numbers("a.md", "-L", "/# Two/", "--rev", first) == [3, 4]
    assert numbers("a.md", "-L", ":One", "--rev", first) == [1, 2]
    assert numbers("a.md", "-L", "/x/", "--contents", "-", given=b"\n\nx\n") == [3]
    assert project.git("status", "--porcelain") == "M a.md\n?? sub/"


def test_a_hint_says_that_nothing_is_recorded(project: Project) -> None:
    """With exit code 1 and what to do; on stderr, so that what reads the lines is not disturbed."""
    done = command(project, "human.py", code=1)
    assert b"nothing is recorded of this repository" in done.stderr
    assert b"`agent-trace-sidecar init`" in done.stderr
    assert done.stdout.splitlines()[0].split() == [b"unknown", b"1)", b"def", b"largest(prices):"]


@contextmanager
def undelivered(project: Project) -> Iterator[None]:
    """An event that waits in a spool of this machine."""
    spool = Spool.create(project.root.parent / "state" / SPOOL_FOLDER, uuid4())
    with closing(spool):
        spool.append([Redacted.from_spool(Shim().event("session.idle", {"sessionID": "ses_a"}))])
        spool.sync()
        yield


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("blame", ("human.py",), 1),
        ("stats", (), 1),
        ("report", ("--repo", ".", "--output", "x.html"), 1),
        ("stats", ("--range", "HEAD~1..HEAD"), 0),
    ],
)
def test_a_hint_counts_the_events_that_are_not_delivered_yet(
    project: Project, name: str, arguments: tuple[str, ...], code: int
) -> None:
    """Right after a session the database may still be starting: that is no reason to install anything."""
    new = project.root.parent / "new"
    new.mkdir()
    run_git(new, "init", "-q")
    for number in range(2):
        (new / "human.py").write_text(f"number = {number}\n")
        run_git(new, "add", "human.py")
        run_git(new, "commit", "-q", "-m", "change")
    with undelivered(project):
        done = command(project, *arguments, name=name, code=code, cwd=new)
    assert b"not delivered from this machine: 1 event." in done.stderr
    assert b"`agent-trace-sidecar status`" in done.stderr


def test_a_shallow_clone_is_completed_first_whatever_is_not_delivered(project: Project) -> None:
    """Without its first commit nothing that is recorded could be found."""
    run_git(project.root.parent, "clone", "-q", "--depth", "1", f"file://{project.root}", "shallow")
    with undelivered(project):
        done = command(project, "../shallow/human.py", code=1)
    assert b"`git fetch --unshallow`" in done.stderr
    assert b"not delivered" not in done.stderr


def test_programs_get_unknown_lines_of_what_is_not_recorded(project: Project) -> None:
    """That is an answer, so the exit code is 0: an editor would discard the output of a command that fails."""
    lines = json.loads(command(project, "human.py", "--json").stdout)
    assert {line["contributor"] for line in lines} == {"unknown"}
    done = command(project, "human.py", "--porcelain")
    assert b"nothing is recorded of this repository" in done.stderr


def test_a_file_of_a_recorded_repository_needs_no_hint(project: Project) -> None:
    """Nothing is recorded of the file itself, because no model wrote in it."""
    project.ai_write("a.py", *AI_FUNCTION)
    done = command(project, "human.py")
    assert (done.stdout.splitlines()[0].split()[0], done.stderr) == (b"human", b"")


def test_lines_that_a_later_call_takes_away_were_not_moved_here_from_there(project: Project) -> None:
    """A call writes a file, another one removes a part, or moves it on: at the commit between they are the first's."""
    project.ai_write("a.py", *AI_FUNCTION, "", "rest = of(the, file)")
    project.ai_write("b.py", "first = line(1)")
    commit = project.commit()
    function = "".join(line + "\n" for line in AI_FUNCTION)
    project.ai_edit("b.py", "first = line(1)\n", "first = line(1)\n" + function)
    project.ai_edit("b.py", function, "")
    project.ai_edit("a.py", function, "")
    assert project.authors("a.py", commit) == "a" * (len(AI_FUNCTION) + 2)
    assert project.authors("a.py") == "aa"
