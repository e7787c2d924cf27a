"""Disks that are full, broken or read-only: the shim keeps its lines, status says so, and nothing is lost."""

import json
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agent_trace_sidecar.pipeline.intake import Intake
from agent_trace_sidecar.redaction import Redacted, Redactor
from agent_trace_sidecar.spool.spool import Spool
from agent_trace_sidecar.telemetry.logging import logger
from tests.support.oracle import Oracle
from tests.support.postgres import OwnServer, fetch
from tests.support.sidecar import ShimDouble, sidecar_command, sidecar_env
from tests.support.waiting import eventually


@pytest.fixture
def env(migrated_url: str, tmp_path: Path) -> dict[str, str]:
    """A sidecar's."""
    return sidecar_env(tmp_path / "state", migrated_url, batch_size="10", flush_ms="30")


@pytest.fixture
def shim(env: dict[str, str], tmp_path: Path) -> Iterator[ShimDouble]:
    """A shim and its sidecar."""
    with ShimDouble(env, log=tmp_path / "sidecar.log") as made:
        yield made


def status(env: dict[str, str]) -> tuple[int, dict[str, Any]]:
    """The exit code and the answer of `status --json`."""
    done = subprocess.run(sidecar_command("status", "--json"), env=env, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout)


def blocked(log: Path) -> bool:
    """Whether the sidecar says that it takes no lines."""
    return log.exists() and "intake_blocked" in log.read_text()


def test_the_disk_takes_no_byte_and_then_does(env: dict[str, str], shim: ShimDouble, migrated_url: str) -> None:
    """Every write to a file fails (the process's limit on file sizes): nothing is acknowledged until it is durable."""
    oracle = Oracle(100)
    shim.send(*oracle.line())
    shim.drained(20)
    pid = shim.pid
    assert pid is not None
    usual = resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    for _ in range(50):
        shim.send(*oracle.line())
    eventually(lambda: status(env)[0] == 1, 20, "status is unhealthy")
    code, found = status(env)
    assert code == 1
    assert any("accepts no events" in problem for problem in found["problems"])
    assert shim.kept == 50
    resource.prlimit(pid, resource.RLIMIT_FSIZE, usual)
    shim.drained(20)
    eventually(lambda: status(env)[0] == 0, 20, "status is healthy again")
    assert shim.close() == 0
    assert shim.starts == 1
    assert oracle.check(migrated_url, []).problems == []


def test_the_folder_can_not_be_made_and_then_can(env: dict[str, str], migrated_url: str, tmp_path: Path) -> None:
    """Where the state belongs stands a file: the sidecar waits, and goes on when it is gone."""
    oracle = Oracle(101)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "spool").write_text("in the way")
    with ShimDouble(env, log=tmp_path / "log") as shim:
        for _ in range(20):
            shim.send(*oracle.line())
        eventually(lambda: blocked(tmp_path / "log"), 20)
        assert shim.kept == 20
        (tmp_path / "state" / "spool").unlink()
        shim.drained(20)
        assert shim.close() == 0
    assert oracle.check(migrated_url, []).problems == []


def test_sigterm_ends_a_sidecar_that_waits_for_the_disk(env: dict[str, str], migrated_url: str, tmp_path: Path) -> None:
    """The second one at once; the shim keeps the lines for the next sidecar."""
    oracle = Oracle(102)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "spool").write_text("in the way")
    with ShimDouble(env, log=tmp_path / "log") as shim:
        shim.send(*oracle.line())
        eventually(lambda: blocked(tmp_path / "log"), 20)
        shim.signal(signal.SIGTERM)
        eventually(lambda: shim.signal(signal.SIGTERM) and shim.exit_codes, 5)
        (tmp_path / "state" / "spool").unlink()
        shim.drained(20)
        assert shim.close() == 0
    assert oracle.check(migrated_url, []).problems == []


def test_a_file_system_that_is_full(migrated_url: str, tmp_path: Path) -> None:
    """A real one, where this machine lets us mount it (elsewhere the limit of the test above stands in for it)."""
    small = tmp_path / "state"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(small)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        oracle = Oracle(103)
        env = sidecar_env(small, migrated_url, batch_size="10", flush_ms="30")
        with ShimDouble(env, log=tmp_path / "log") as shim:
            shim.send(*oracle.line())
            shim.drained(20)
            filler = small / "filler"
            with filler.open("wb", buffering=0) as file, suppress(OSError):  # the sidecar writes beside it
                while mounted and (free := shutil.disk_usage(small).free):
                    file.write(bytes(free))
            for _ in range(100):
                shim.send(*oracle.line())
            if mounted:
                eventually(lambda: blocked(tmp_path / "log"), 20)
                assert shim.kept
            filler.unlink()
            shim.drained(20)
            assert shim.close() == 0
        assert oracle.check(migrated_url, []).problems == []
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(small)], check=False)


def test_a_spool_at_its_cap_holds_the_shim_back(tmp_path: Path) -> None:
    """In this process: no line is dropped; the pipe fills, and the intake goes on when lines are shipped."""
    spools: list[Spool] = []

    def opened(spool: Spool) -> None:
        spool._max_bytes = 20_000
        spools.append(spool)

    oracle = Oracle(104, hostile=False)
    lines = [oracle.line("middle") for _ in range(40)]
    reader, writer = os.pipe()
    answers, to_shim = os.pipe()
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    intake = Intake(
        tmp_path / "spool",
        Redactor(enabled=False),
        _NoObserver(),
        logger(fd=log),
        on_spool=opened,
        on_durable=lambda: None,
        on_end=lambda: None,
    )
    intake.start(reader, to_shim)
    os.set_blocking(writer, False)
    data = b"".join(line + b"\n" for _, line in lines)
    sent = _write(writer, data[:15_000])
    eventually(lambda: spools, 10)
    spool = spools[0]

    def blocked() -> bool:
        nonlocal sent
        sent += _write(writer, data[sent : sent + 5_000])
        return "size limit" in intake.blocked

    eventually(blocked, 10)
    assert spool.unshipped_bytes <= 20_000

    def all_taken() -> bool:
        nonlocal sent
        spool.release(spool.durable)
        if sent < len(data):
            sent += _write(writer, data[sent:])
        return spool.end >= len(data)

    eventually(all_taken, 10)
    os.close(writer)
    eventually(lambda: _last(answers) == len(lines), 10)
    spool.release(spool.durable)
    spool.close()
    assert not intake.failed


class _NoObserver:
    def observe(self, line: bytes) -> bytes | None:
        del line
        return None


def _write(fd: int, data: bytes) -> int:
    try:
        return os.write(fd, data)
    except BlockingIOError:
        return 0


def _last(answers: int) -> int:
    found = os.read(answers, 65536).splitlines()
    ack: int = json.loads(found[-1])["ack"]
    return ack


def test_the_shim_counts_what_it_gives_up(own_server: OwnServer, tmp_path: Path) -> None:
    """No sidecar takes lines and the shim's own bound is reached: those are counted, all others are stored."""
    oracle = Oracle(105, hostile=False)
    env = sidecar_env(tmp_path / "state", own_server.url, flush_ms="30")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "spool").write_text("in the way")
    with ShimDouble(env, keep_max_bytes=50_000) as shim:
        for _ in range(100):
            shim.send(*oracle.line("middle"))
        assert 0 < len(shim.given_up) < 100
        (tmp_path / "state" / "spool").unlink()
        shim.drained(20)
        assert shim.close() == 0
    ledger = oracle.check(own_server.url, shim.given_up)
    assert ledger.problems == []
    assert ledger.stored == 100 - len(shim.given_up)
    _, found = status(env)
    assert found["gaps"] == len([seq for seq in shim.given_up if seq < max(set(range(1, 101)) - set(shim.given_up))])


def test_status_tells_what_waits_and_why(own_server: OwnServer, tmp_path: Path) -> None:
    """The database is away: how many lines wait, for how long, the last error and what to do; exit code 1."""
    oracle = Oracle(106, hostile=False)
    env = sidecar_env(tmp_path / "state", own_server.url, flush_ms="30", retry_max="0")
    with ShimDouble(env) as shim:
        shim.send(*oracle.line("small"))
        shim.drained(20)
        eventually(lambda: status(env)[1]["pending_lines"] == 0, 20)
        own_server.stop()
        for _ in range(7):
            shim.send(*oracle.line("small"))
        shim.drained(20)
        eventually(lambda: any("cannot deliver events" in problem for problem in status(env)[1]["problems"]), 20)
        code, found = status(env)
        assert code == 1
        assert (found["pending_lines"], found["spools"][0]["pending_lines"]) == (7, 7)
        assert found["lag_s"] > 0
        assert found["spools"][0]["hint"]
        text = subprocess.run(sidecar_command("status"), env=env, capture_output=True, text=True, check=False).stdout
        assert "7 events" in text
        own_server.start()
        eventually(lambda: status(env)[0] == 0, 20)
        assert shim.close() == 0
    assert oracle.check(own_server.url, []).problems == []


def test_a_part_of_a_dead_spool_can_not_be_read(env: dict[str, str], migrated_url: str, tmp_path: Path) -> None:
    """What is left of it is delivered, the gap is a dead letter, and the living sidecar records as always."""
    dead = Oracle(107, hostile=False)
    folder = tmp_path / "state" / "spool" / f"{dead.instance}.00000000"
    spool = Spool(folder, segment_bytes=1)
    for _ in range(3):
        spool.append([Redacted.from_spool(dead.line("small")[1])])
    spool.sync()
    spool.close()
    segment = sorted(folder.glob("*.jsonl"))[1]
    segment.unlink()
    segment.mkdir()

    oracle = Oracle(108, hostile=False)
    with ShimDouble(env) as shim:
        for _ in range(20):
            shim.send(*oracle.line())
        shim.drained(20)
        assert shim.close() == 0
        assert shim.starts == 1
    stored = fetch(migrated_url, "SELECT event_id, seq FROM agent_trace_events")
    assert {row["event_id"] for row in stored} >= set(oracle.issued)
    assert {row["seq"] for row in stored if row["event_id"] in dead.issued} == {1, 3}
    assert [row["reason"] for row in fetch(migrated_url, "SELECT reason FROM agent_trace_dead_letters")] == ["missing"]


def test_strange_things_among_the_spools(env: dict[str, str], migrated_url: str, tmp_path: Path) -> None:
    """Files in the place of folders, pipes, devices and broken links in that of segments: nothing hangs or is lost."""
    root = tmp_path / "state" / "spool"
    root.mkdir(parents=True)
    names = [root / f"11111111-2222-4333-8444-55555555555{n}.00000000" for n in range(5)]
    names[0].write_text("no folder")
    segments = [name / f"{0:020d}.jsonl" for name in names]
    for name in names[1:]:
        name.mkdir()
    os.mkfifo(segments[1])
    segments[2].symlink_to("/dev/zero")
    segments[3].symlink_to("/nowhere")
    (names[4] / f"{'9' * 20}.jsonl").write_bytes(b"{}\n")
    (names[4] / "health.json").write_text("{")
    (names[4] / "shipped").write_text("-5")
    oracle = Oracle(109)
    with ShimDouble(env) as shim:
        for _ in range(20):
            shim.send(*oracle.line())
        shim.drained(20)
        assert status(env)[0] == 0
        assert shim.close() == 0
        assert shim.starts == 1
    assert oracle.check(migrated_url, []).problems == []


def test_status_tells_that_no_spool_can_be_made(env: dict[str, str], tmp_path: Path) -> None:
    """Where no sidecar can say so, as it has no folder to say it in."""
    assert status(env)[1]["spool_trouble"] == ""
    (tmp_path / "state").write_text("in the way")
    assert "is not a folder" in status(env)[1]["spool_trouble"]
    text = subprocess.run(sidecar_command("status"), env=env, capture_output=True, text=True, check=False).stdout
    assert "cannot accept events" in text
