"""Lines of which the records were pruned: nobody can know any more who wrote them. Real git, a real Postgres."""

import asyncio
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from agent_trace_sidecar.blame.authors import PRUNED
from agent_trace_sidecar.blame.history import Change, Doubt
from agent_trace_sidecar.blame.store import Period, Stored, in_doubt
from agent_trace_sidecar.commands.prune import prune
from agent_trace_sidecar.postgres.imported import SOURCE_ID
from tests.support.attributed import Project
from tests.support.envelopes import SESSION
from tests.support.postgres import connected, execute, fetch

PERSONS = ("def largest(prices):", "    best = prices[0]", "    return best")
LATER = timedelta(microseconds=1)


@pytest.fixture(name="project")
def _project(tmp_path: Path, migrated_url: str) -> Project:
    """A repository with two files of a person, one of which the AI has edited."""
    project = Project(tmp_path / "repo", migrated_url)
    project.write("a.py", *PERSONS)
    project.write("b.py", *PERSONS)
    project.commit()
    project.ai_edit("a.py", "    best = prices[0]\n", "    assert prices, 'none given'\n    best = prices[0]\n")
    return project


def erase(project: Project, *options: str) -> None:
    """Erase its only session."""
    command = [sys.executable, "-P", "-m", "agent_trace_sidecar", "prune", "--session", SESSION, *options]
    env = os.environ | {"AGENT_TRACE_DATABASE_URL": project.url, "AGENT_TRACE_STATE_DIR": str(project.root / ".state")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def prune_before(project: Project, at: datetime) -> None:
    """What `prune --older-than` does."""

    async def work() -> None:
        async with connected(project.url) as connection:
            await prune(connection, at)

    asyncio.run(work())


def last(project: Project) -> datetime:
    """When the youngest record was made."""
    at: datetime = fetch(project.url, "SELECT max(recorded_at) AS at FROM agent_trace_records")[0]["at"]
    return at


def test_lines_of_an_erased_session_are_unknown_and_what_git_had_before_stays_a_persons(project: Project) -> None:
    """Also where nothing else is recorded of the repository: that is known of the files that records named."""
    project.ai_write("n.py", "print('all new')")
    erase(project, "--dry-run")
    assert (project.authors("a.py"), fetch(project.url, "SELECT FROM agent_trace_pruned")) == ("hahh", [])
    erase(project, "--yes")
    assert fetch(project.url, "SELECT FROM agent_trace_file_states") == []
    lines = project.blame("a.py")
    assert [(line.contributor, line.reason) for line in lines] == [
        ("human", None), ("unknown", "pruned"), ("human", None), ("human", None),
    ]  # fmt: skip
    assert project.authors("n.py") == "u"
    assert {line.reason for line in project.blame("b.py")} == {"unseen"}


def test_the_end_of_a_pruned_call_may_have_been_reported_late(project: Project) -> None:
    """What was committed in between is not what git had before the call."""
    execute(project.url, "UPDATE agent_trace_ended_calls SET seconds = 0")
    began = "SELECT occurred_at AS at FROM agent_trace_events WHERE event_name = 'tool.execute.before'"
    (before,) = fetch(project.url, began)
    assert before["at"] < last(project)
    erase(project, "--yes")
    assert {row["first_at"] for row in fetch(project.url, "SELECT first_at FROM agent_trace_pruned")} == {before["at"]}


def test_lines_of_an_erased_session_are_unknown_under_a_new_name_too(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git knows what the file was called, whether the move is committed or not."""
    project.ai_write("n.py", "print('all new')")
    erase(project, "--yes")
    project.git("mv", "a.py", "moved.py")
    assert project.authors("moved.py") == "huhh"
    execute(project.url, "UPDATE agent_trace_pruned SET first_at = '2050-01-01'")
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2090-01-01T00:00:00")  # calls of the test are at work in 2096
    project.commit("Move")
    project.git("mv", "moved.py", "again.py")
    assert project.authors("again.py") == "huhh"
    assert project.authors("moved.py", "HEAD") == "huhh"


@pytest.mark.parametrize("is_committed", [True, False])
def test_lines_moved_by_hand_out_of_a_pruned_file_are_unknown(
    project: Project, monkeypatch: pytest.MonkeyPatch, *, is_committed: bool
) -> None:
    """Into another file and into a new one, as far as git has them; never a person's, never the AI's."""
    lines = ("def written_by_a_model(first, second):", "    return compute(first, second, 3)")
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2090-01-01T00:00:00")  # calls of the test are at work in 2096
    project.ai_write("n.py", *lines)
    project.commit()
    erase(project, "--yes")
    execute(project.url, "UPDATE agent_trace_pruned SET first_at = '2050-01-01'")
    project.git("rm", "-q", "n.py")
    project.write("b.py", *PERSONS, *lines, "typed = by(a, person)")
    typed = [f"typed_{at} = by(a, person, {at})" for at in range(9)]
    project.write("new.py", *typed, *lines)  # too unlike the old file to be called a move
    project.ai_write("kept.py", "observed = 1")  # so that what has no record here is a person's
    if is_committed:
        project.commit()
    assert project.authors("b.py") == "hhhuuh"
    assert project.authors("new.py") == "h" * len(typed) + "uu"
    assert {line.reason for line in project.blame("new.py")} == {None, "pruned"}


def test_lines_that_only_the_pruned_file_itself_has_are_judged_by_what_is_known_of_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that it had before the kept record began are unknown, and those that came after it a person's."""
    end = last(project) + LATER
    project.replace(
        "a.py", "    return best\n", "    return best\n\n\ndef typed_first(by, a, person):\n    return 1, 2, 3\n"
    )
    project.ai_edit(
        "a.py", "    return 1, 2, 3\n", "    return 1, 2, 3\n\n\ndef kept(by, a, model):\n    return 4, 5, 6\n"
    )
    project.replace(
        "a.py", "    return 4, 5, 6\n", "    return 4, 5, 6\n\n\ndef typed(by, another, person):\n    return 7, 8\n"
    )
    prune_before(project, end)
    execute(project.url, "UPDATE agent_trace_pruned SET first_at = '2050-01-01'")
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2090-01-01T00:00:00")  # calls of the test are at work in 2096
    project.commit()
    assert project.authors("a.py") == "huhh" + "uuuu" + "aaaa" + "hhhh"


def test_by_age_the_kept_records_show_what_came_after_them(project: Project) -> None:
    """What stood there before them may be of a call that is gone."""
    first = last(project)
    project.replace("a.py", "    return best\n", "    return best or None\n")
    project.ai_edit(
        "a.py", "    assert prices, 'none given'\n", "    assert prices, 'none given'\n    print(prices, 1)\n"
    )
    project.replace("a.py", "    return best or None\n", "    return best or None\n    # typed at the end of it\n")
    prune_before(project, first + LATER)
    assert project.authors("a.py") == "huahuh"
    assert project.authors("b.py") == "hhh"


def test_retention_keeps_one_row_for_a_file_however_often_it_runs(project: Project) -> None:
    """From the first of its calls to the last one."""
    times = [last(project)]
    for number in range(2):
        project.ai_edit("a.py", "    return best\n", f"    print({number})\n    return best\n")
        times.append(last(project))
    for at in times:
        prune_before(project, at + LATER)
    (row,) = fetch(project.url, "SELECT first_at, last_at FROM agent_trace_pruned")
    assert (row["first_at"] <= times[0], row["last_at"]) == (True, times[-1])
    assert project.authors("a.py") == "huhuuh"


def test_what_was_undone_leaves_no_trace(project: Project) -> None:
    """Its lines are gone."""
    execute(project.url, "UPDATE agent_trace_ranges SET voided_at = now()")
    erase(project, "--yes")
    assert fetch(project.url, "SELECT FROM agent_trace_pruned") == []


def test_pruned_calls_that_no_snapshot_covered_leave_everything_in_doubt_but_what_one_covered(project: Project) -> None:
    """As they did before."""
    project.write("pkg/c.py", *PERSONS)
    project.write("b.py", *PERSONS, "print('who was that?')")
    execute(
        project.url,
        "INSERT INTO agent_trace_file_states SELECT source_id, gen_random_uuid(), recorded_at, project, worktree, '', "
        "'pkg', 'uncovered', NULL, NULL, '{}' FROM agent_trace_file_states",
    )
    project.ai_write("x.py", "print('it is observed')")
    before = [project.authors(path) for path in ("b.py", "pkg/c.py")]
    prune_before(project, last(project))
    assert before == [project.authors(path) for path in ("b.py", "pkg/c.py")] == ["hhhu", "hhh"]


def test_of_an_imported_record_nobody_knows_what_stood_before(project: Project) -> None:
    """Its time is that of a trace, not of a call."""
    execute(project.url, f"UPDATE agent_trace_ranges SET source_id = '{SOURCE_ID}'")
    execute(project.url, f"UPDATE agent_trace_file_states SET source_id = '{SOURCE_ID}'")
    prune_before(project, last(project) + LATER)
    assert project.authors("a.py") == "uuuu"


def test_a_doubt_reaches_the_states_of_a_file_under_the_name_that_it_had() -> None:
    """A pruned call wrote to the file before a kept one moved it."""
    at = [datetime.fromisoformat(f"2026-01-0{day}T00:00:00+00:00") for day in range(1, 6)]
    state = Change("/w", "new.py", "old.py", b"12345678", b"12345678", ())
    moved = Stored(at[2], UUID(int=1), state)
    period = Period(at[0], at[1], "old.py")
    found = in_doubt([moved], "new.py", [], [period])
    assert [(one.at, one.change.path, one.change.doubt) for one in found] == [
        (at[0], "old.py", Doubt(at[0], PRUNED, "old.py")),
        (at[2], "new.py", None),
    ]
