"""A fleet's front door: log folders, a real rsyslog at both ends, one `tail`, Postgres."""

import os
from pathlib import Path

import pytest

from tests.support.carrier import Carrier, carrier
from tests.support.sidecar import sidecar_env
from tests.support.tailing import Writer, all_stored, stored_ids, tailing
from tests.support.waiting import eventually

ODD = 'é \u2028 \x7f %msg% $ # <13> \\u0000 \\" \\\\n'.encode()
"""What a carrier may be tempted to expand, escape or cut at."""


class Runs:
    """Three shims that write and rotate their files in one folder."""

    def __init__(self, folder: Path) -> None:
        self.writers = [Writer(), Writer(), Writer()]
        self._folder = folder
        self._parts = [1, 1, 1]

    def path(self, index: int) -> Path:
        """The file that a shim writes."""
        return self._folder / f"{self.writers[index].instance}.{self._parts[index]}.jsonl"

    def write(self, number: int) -> None:
        """So many lines of each."""
        for index, writer in enumerate(self.writers):
            with self.path(index).open("ab") as file:
                file.write(writer.lines(number, 300))

    def rotate(self, index: int) -> None:
        """Close a file, as the shim does."""
        path = self.path(index)
        path.rename(path.with_suffix(".done.jsonl"))
        self._parts[index] += 1


@pytest.mark.needs("rsyslogd")
def test_what_breaks_on_the_way_costs_no_event_and_stores_none_twice(migrated_url: str, tmp_path: Path) -> None:
    """Rotation, kill -9 of either end, a cut network, an orderly stop in a silent one."""
    env = sidecar_env(tmp_path / "state", migrated_url, flush_ms="50")
    with carrier(tmp_path / "carrier") as way, tailing(env, tmp_path / "said", way.received) as tail:
        runs = Runs(way.sent)

        def half_way(before: int) -> None:
            eventually(lambda: len(stored_ids(migrated_url)) > before, 20, f"events arrive: {way.sender.said}")

        runs.write(100)
        all_stored(migrated_url, runs.writers)
        with runs.path(0).open("ab") as file:
            file.write(runs.writers[0].line(300).replace(b"x" * 100, ODD))
            file.write(runs.writers[0].line(3 << 20))
        all_stored(migrated_url, runs.writers)
        assert way.lines(way.received) == way.lines(way.sent), "nothing is altered, and nothing is sent twice"

        before = len(stored_ids(migrated_url))
        runs.write(200)
        half_way(before)
        way.receiver.kill()
        runs.rotate(0)
        before = len(stored_ids(migrated_url))
        runs.write(200)
        way.receiver.start()
        half_way(before)
        way.sender.kill()
        runs.rotate(1)
        runs.write(200)
        way.sender.start()
        all_stored(migrated_url, runs.writers, 30)

        way.cut()
        runs.write(200)
        runs.rotate(2)
        runs.write(200)
        way.sender.kill()
        runs.write(50)
        way.sender.start()
        way.mend()
        all_stored(migrated_url, runs.writers, 30)

        way.network.swallow(on=True)
        runs.write(50)
        eventually(lambda: way.network.hits[":swallowed"], 10, "lines are sent that nobody acknowledges")
        way.sender.stop()
        way.network.swallow(on=False)
        way.sender.start()
        all_stored(migrated_url, runs.writers, 30)
        assert tail.stop() == 0

    assert set(way.lines(way.received)) == set(way.lines(way.sent))


def stored_in_the_end(url: str, tmp_path: Path, way: Carrier, runs: Runs) -> None:
    """Follow the receiver's folder until all that was written is stored."""
    env = sidecar_env(tmp_path / "state", url, flush_ms="50")
    with tailing(env, tmp_path / "said", way.received) as tail:
        all_stored(url, runs.writers, 30)
        assert tail.stop() == 0


@pytest.mark.needs("rsyslogd")
def test_what_the_receiver_has_not_written_is_not_acknowledged(migrated_url: str, tmp_path: Path) -> None:
    """Its disk hangs, as a pipe without a reader does, and it is killed: with a queue in memory all would be lost."""
    with carrier(tmp_path / "carrier") as way:
        runs = Runs(way.sent)
        hanging = [way.received / f"{writer.instance}.jsonl" for writer in runs.writers]
        for path in hanging:
            os.mkfifo(path)
        runs.write(50)
        eventually(lambda: way.network.passed > 50_000, 20, "lines reach the receiver")
        way.receiver.kill()
        for path in hanging:
            path.unlink()
        way.receiver.start()
        stored_in_the_end(migrated_url, tmp_path, way, runs)


@pytest.mark.needs("rsyslogd")
def test_what_a_full_disk_refused_comes_when_the_senders_start_again(migrated_url: str, tmp_path: Path) -> None:
    """Rsyslog acknowledges a line whose writing fails: the senders' folders still hold it."""
    with carrier(tmp_path / "carrier") as way:
        runs = Runs(way.sent)
        full = [way.received / f"{writer.instance}.jsonl" for writer in runs.writers]
        for path in full:
            path.symlink_to("/dev/full")
        runs.write(50)
        eventually(lambda: way.network.passed > 90_000, 20, "all lines reach the receiver")
        for path in full:
            path.unlink()
        way.receiver.kill()
        way.receiver.start()
        way.sender.stop()
        way.sender.start()
        stored_in_the_end(migrated_url, tmp_path, way, runs)
