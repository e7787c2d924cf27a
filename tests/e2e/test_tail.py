"""`tail` as a process on real files, against a real Postgres."""

import json
import os
import shutil
import signal
import sys
import urllib.request
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.opencode import VERSION
from tests.support.postgres import OwnServer, execute, fetch, free_port
from tests.support.sidecar import resident_bytes, sidecar_command, sidecar_env
from tests.support.tailing import TailProcess, Writer, all_stored, stored_ids, tailing
from tests.support.waiting import completed, eventually

RECORDINGS = Path(__file__).parents[1] / "data" / "recordings"
COUNTS = "SELECT sum((state->>'{}')::int)::int AS n FROM agent_trace_sources WHERE kind = 'file'"


@pytest.fixture(name="logs")
def _logs(tmp_path: Path) -> Path:
    """An empty folder to follow."""
    folder = tmp_path / "logs"
    folder.mkdir()
    return folder


def env_of(tmp_path: Path, url: str, **settings: str) -> dict[str, str]:
    """Settings that make a test quick."""
    return sidecar_env(tmp_path / "state", url, flush_ms="50", **settings)


def duplicates(url: str) -> int:
    """How many lines were read again although they had been stored."""
    found: int = fetch(url, COUNTS.format("duplicate"))[0]["n"]
    return found


def append(path: Path, data: bytes) -> None:
    """Append as a writer does that opens its file each time."""
    with path.open("ab") as file:
        file.write(data)


def test_lines_arrive_while_they_are_written_and_the_last_ones_at_the_end(
    migrated_url: str, tmp_path: Path, logs: Path
) -> None:
    """New files and new lines are found; what was written before SIGTERM is delivered after it."""
    writer = Writer()
    with tailing(env_of(tmp_path, migrated_url), tmp_path / "said", logs) as tail:
        append(logs / "a.jsonl", writer.lines(3))
        all_stored(migrated_url, [writer])
        append(logs / "a.jsonl", writer.lines(2))
        append(logs / "b.jsonl", writer.lines(2))
        all_stored(migrated_url, [writer])
        append(logs / "c.jsonl", writer.lines(50))
        append(logs / "a.jsonl", writer.lines(50))
        assert tail.stop() == 0
    all_stored(migrated_url, [writer], 0)
    assert duplicates(migrated_url) == 0


def test_rotation_of_every_kind_and_kills_in_between(migrated_url: str, tmp_path: Path, logs: Path) -> None:
    """A log that is renamed, copied and truncated while `tail` is killed again and again: every line once."""
    writer = Writer()
    log = logs / "app.log"
    for round_ in range(6):
        before = len(stored_ids(migrated_url))
        with tailing(env_of(tmp_path, migrated_url), tmp_path / "said", log) as tail:
            append(log, writer.lines(40, 300))
            eventually(lambda before=before: len(stored_ids(migrated_url)) > before, 10, "it is at work")  # type: ignore[misc]
            append(log, writer.line()[:-20])
            older = log.with_name(f"app.log.{round_ + 1}")
            if round_ % 2:
                log.rename(older)
                with log.open("wb") as new:
                    new.write(writer.lines(2))
            else:
                shutil.copyfile(log, older)
                os.truncate(log, 0)
                append(log, writer.lines(2))
            cut = writer.ids[-3]
            writer.ids.remove(cut)
            tail.kill()
    with tailing(env_of(tmp_path, migrated_url), tmp_path / "said", log) as tail:
        eventually(lambda: stored_ids(migrated_url) >= set(writer.ids), 20, "every whole line is stored")
        assert tail.stop() == 0
    assert stored_ids(migrated_url) == set(writer.ids)


def test_one_run_over_rotated_files_makes_the_rows_of_one_file(
    postgres_servers: Any,  # noqa: ANN401 - see conftest
    migrated_url: str,
    tmp_path: Path,
    logs: Path,
) -> None:
    """The builder's state goes from file to file: models, messages and OpenCode's version of earlier lines count."""
    lines = (RECORDINGS / "basic-edit-write-bash.jsonl").read_bytes().splitlines(keepends=True)
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "a.jsonl").write_bytes(b"".join(lines))
    for number, start in enumerate(range(0, len(lines), 7)):
        (logs / f"run.{number + 1}.done.jsonl").write_bytes(b"".join(lines[start : start + 7]))
    query = "SELECT record_id, record - 'observed' AS record FROM agent_trace_records ORDER BY record_id"
    with postgres_servers.database(migrated=True) as other_url:
        for url, folder in ((migrated_url, logs), (other_url, whole)):
            with tailing(env_of(tmp_path, url), tmp_path / "said", folder) as tail:
                eventually(lambda url=url: len(stored_ids(url)) == len(lines), 20, "all is stored")  # type: ignore[misc]
                assert tail.stop() == 0
        records = [tuple(row) for row in fetch(migrated_url, query)]
        assert records == [tuple(row) for row in fetch(other_url, query)]
    assert len(records) >= 3
    tools = fetch(migrated_url, "SELECT DISTINCT tool_version FROM agent_trace_records")
    assert [row["tool_version"] for row in tools] == [VERSION]


def test_an_outage_of_the_database_costs_nothing(own_server: OwnServer, tmp_path: Path, logs: Path) -> None:
    """Files that come, rotate and vanish while the database is away are delivered when it is back."""
    writer = Writer()
    with tailing(env_of(tmp_path, own_server.url), tmp_path / "said", logs) as tail:
        append(logs / "a.jsonl", writer.lines(3))
        all_stored(own_server.url, [writer])
        own_server.stop("immediate")
        append(logs / "a.jsonl", writer.lines(30))
        eventually(lambda: "database_failed" in tail.said, 10, "the outage is noticed")
        append(logs / "b.jsonl", writer.lines(30))
        eventually(lambda: str(logs / "b.jsonl") in tail.open_files, 10, "the new file is seen")
        (logs / "a.jsonl").rename(logs / "a.jsonl.1")
        (logs / "b.jsonl").unlink()
        append(logs / "a.jsonl", writer.lines(30))
        own_server.start()
        all_stored(own_server.url, [writer], 30)
        assert tail.stop() == 0


def test_a_stop_while_the_database_is_away_leaves_the_rest_in_the_files(
    own_server: OwnServer, tmp_path: Path, logs: Path
) -> None:
    """The second signal ends it at once; the next `tail` goes on."""
    writer = Writer()
    own_server.stop("immediate")
    with tailing(env_of(tmp_path, own_server.url), tmp_path / "said", logs) as tail:
        append(logs / "a.jsonl", writer.lines(30))
        eventually(lambda: "database_failed" in tail.said, 10, "the outage is noticed")
        tail.process.send_signal(signal.SIGTERM)
        with pytest.raises(Exception, match="timed out"):
            tail.process.wait(0.5)
        assert tail.stop() == 1
    own_server.start()
    with tailing(env_of(tmp_path, own_server.url), tmp_path / "said", logs):
        all_stored(own_server.url, [writer])


def test_shipped_and_closed_files_are_removed_when_told_so(migrated_url: str, tmp_path: Path, logs: Path) -> None:
    """A file that is open, is reached by a link or was just stored stays."""
    writer = Writer()
    target = tmp_path / "elsewhere"
    target.write_bytes(writer.lines(2))
    (logs / "link.done.jsonl").symlink_to(target)
    (logs / "a.1.done.jsonl").write_bytes(writer.lines(5))
    (logs / "a.2.jsonl").write_bytes(writer.lines(5))
    arguments = (logs, logs / "link.done.jsonl", "--remove-shipped", "--keep-seconds", "0.5")
    with tailing(env_of(tmp_path, migrated_url), tmp_path / "said", *arguments) as tail:
        all_stored(migrated_url, [writer])
        eventually(lambda: not (logs / "a.1.done.jsonl").exists(), 10, "the closed file is removed")
        (logs / "a.2.jsonl").rename(logs / "a.2.done.jsonl")
        eventually(lambda: not (logs / "a.2.done.jsonl").exists(), 10, "so is the next one")
        (logs / "a.3.jsonl").write_bytes(writer.lines(1))
        all_stored(migrated_url, [writer])
        assert tail.stop() == 0
    assert sorted(path.name for path in logs.iterdir()) == ["a.3.jsonl", "link.done.jsonl"]
    assert target.exists()


OFTEN = "import runpy; from agent_trace_sidecar import limits; limits.TAIL_RENEW_S = 0.2; "
OFTEN += "runpy.run_module('agent_trace_sidecar', run_name='__main__')"


def test_the_row_of_a_file_that_is_still_there_never_grows_old(migrated_url: str, tmp_path: Path, logs: Path) -> None:
    """So `prune` keeps it, however quiet the file is; a row that went all the same costs a second reading, no more."""
    writer = Writer()
    env = env_of(tmp_path, migrated_url)
    old = "UPDATE agent_trace_sources SET updated_at = updated_at - interval '1 year' WHERE kind = 'file'"
    young = (
        "SELECT count(*) AS n FROM agent_trace_sources WHERE kind = 'file' AND updated_at > now() - interval '1 day'"
    )
    append(logs / "a.jsonl", writer.lines(20))
    with tailing(env, tmp_path / "said", logs, command=[sys.executable, "-c", OFTEN, "tail"]):
        all_stored(migrated_url, [writer])
        execute(migrated_url, old)
        eventually(lambda: fetch(migrated_url, young)[0]["n"] == 1, 10, "it is renewed")
        assert duplicates(migrated_url) == 0
        execute(migrated_url, "DELETE FROM agent_trace_sources WHERE kind = 'file'")
        append(logs / "a.jsonl", writer.lines(1))
        all_stored(migrated_url, [writer])
        assert duplicates(migrated_url) == 20


def test_a_disabled_tail_lives_and_does_nothing(migrated_url: str, tmp_path: Path, logs: Path) -> None:
    """In a pod OpenCode starts only after its sidecar has, so it must not end."""
    writer = Writer()
    append(logs / "a.jsonl", writer.lines(1))
    port = free_port()
    env = env_of(tmp_path, migrated_url, enabled="off", http=f"127.0.0.1:{port}")
    with tailing(env, tmp_path / "said", logs) as tail:
        eventually(lambda: "http_serving" in tail.said, 10, "it serves its health")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez") as answer:
            assert answer.status == 200
        assert tail.stop() == 0
    assert "recording_disabled" in tail.said
    assert stored_ids(migrated_url) == set()


def test_two_tails_of_the_same_files_store_nothing_twice(migrated_url: str, tmp_path: Path, logs: Path) -> None:
    """Whoever finds that the other one has taken over ends with code 1 and says so; a restart goes on."""
    writer = Writer()
    env = env_of(tmp_path, migrated_url)
    with tailing(env, tmp_path / "first", logs) as first, tailing(env, tmp_path / "second", logs) as second:
        for number in range(12):
            append(logs / f"{number % 3}.jsonl", writer.lines(20))
            if number == 4:
                first.process.send_signal(signal.SIGSTOP)
            if number == 8:
                first.process.send_signal(signal.SIGCONT)
            reading = [second] if 4 <= number < 8 else [first, second]
            before = len(stored_ids(migrated_url))

            def stored_or_over(before: int = before, reading: Sequence[TailProcess] = reading) -> bool:
                over = all(tail.process.poll() is not None for tail in reading)
                return over or len(stored_ids(migrated_url)) > before

            with suppress(AssertionError):  # one that was stopped within a transaction keeps the other one waiting
                eventually(stored_or_over, 0.25)
        for tail in (first, second):
            assert tail.process.poll() in (None, 1)
            assert tail.process.poll() is None or "tail_taken_over" in tail.said
    with tailing(env, tmp_path / "third", logs):
        all_stored(migrated_url, [writer])


def test_many_files_need_few_descriptors_and_little_memory(migrated_url: str, tmp_path: Path, logs: Path) -> None:
    """Six hundred files of as many runs, one connection."""
    writers = [Writer() for _ in range(600)]
    for number, writer in enumerate(writers):
        (logs / f"{number}.jsonl").write_bytes(writer.lines(5))
    with tailing(env_of(tmp_path, migrated_url), tmp_path / "said", logs) as tail:
        peaks: Counter[str] = Counter()

        def done() -> bool:
            peaks["files"] = max(peaks["files"], sum(name.startswith(str(logs)) for name in tail.open_files))
            peaks["bytes"] = max(peaks["bytes"], resident_bytes(tail.pid))
            return len(stored_ids(migrated_url)) == 3000

        eventually(done, 60, "all is stored")
        for number, writer in enumerate(writers[::60]):
            append(logs / f"{number * 60}.jsonl", writer.lines(1))
        all_stored(migrated_url, writers)
        assert tail.stop() == 0
    assert 1 <= peaks["files"] <= 65
    assert peaks["bytes"] < 120 << 20


def test_status_names_a_project_that_the_sidecar_cannot_see(migrated_url: str, tmp_path: Path, logs: Path) -> None:
    """As in a container without the project's mount; one that is there is not named."""
    seen = tmp_path / "project"
    seen.mkdir()
    writers = [Writer("/not/mounted"), Writer(str(seen))]
    env = env_of(tmp_path, migrated_url)
    with tailing(env, tmp_path / "said", logs) as tail:
        for number, writer in enumerate(writers):
            append(logs / f"{number}.jsonl", writer.lines(2))
        all_stored(migrated_url, writers)
        assert tail.stop() == 0
    status = completed(sidecar_command("status"), 60, cwd=tmp_path, env=env)
    assert status.returncode == 0, status.stdout
    hidden = [line for line in status.stdout.splitlines() if "project not visible" in line]
    assert [line.split()[1] for line in hidden] == ["/not/mounted:"]
    told = completed(sidecar_command("status", "--json"), 60, cwd=tmp_path, env=env)
    assert json.loads(told.stdout)["stored"]["not_visible"] == ["/not/mounted"]
