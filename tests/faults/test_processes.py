"""The sidecar as a process: killed at every moment, signalled, doubled, and fed in every way. Real processes."""

import contextlib
import json
import os
import pty
import random
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.oracle import Ledger, Oracle
from tests.support.postgres import OwnServer, fetch
from tests.support.proxy import Break, Proxy
from tests.support.sidecar import ShimDouble, folder_contents, shrink_pipe, sidecar_command, sidecar_env
from tests.support.waiting import eventually, exit_code

FAST = {"batch_size": "10", "flush_ms": "30"}


@pytest.fixture
def env(migrated_url: str, tmp_path: Path) -> dict[str, str]:
    """A sidecar's, with small batches."""
    return sidecar_env(tmp_path / "state", migrated_url, **FAST)


@pytest.fixture
def shim(env: dict[str, str], tmp_path: Path) -> Iterator[ShimDouble]:
    """A shim and its sidecar."""
    with ShimDouble(env, log=tmp_path / "sidecar.log") as made:
        yield made


def clean(oracle: Oracle, url: str) -> Ledger:
    """The oracle's verdict, which must be that nothing is wrong."""
    ledger = oracle.check(url, [])
    assert ledger.problems == []
    return ledger


def stored(url: str) -> int:
    """How many lines are in the database."""
    query = "SELECT (SELECT count(*) FROM agent_trace_events) + (SELECT count(*) FROM agent_trace_dead_letters) AS n"
    count: int = fetch(url, query)[0]["n"]
    return count


def all_stored(oracle: Oracle, url: str, deadline_s: float = 30.0) -> None:
    """Wait until everything that was issued is there."""
    eventually(lambda: stored(url) == oracle.seq, deadline_s, f"{oracle.seq} lines are stored")


def test_kill_9_at_random_points(tmp_path: Path, migrated_url: str) -> None:
    """30 rounds: while lines come in, after COPY before COMMIT, after COMMIT before its answer."""
    oracle = Oracle(30)
    rnd = random.Random(30)  # noqa: S311 - must be repeatable
    moments = [("commit", Break.BLACK_HOLE), ("commit", Break.ANSWER_LOST), ("copy_data", Break.BLACK_HOLE), None]
    with Proxy(migrated_url) as proxy:
        env = sidecar_env(tmp_path / "state", proxy.url, **FAST)
        with ShimDouble(env, log=tmp_path / "log") as shim:
            for round_ in range(30):
                moment = moments[round_ % 4]
                acked, reached = shim.acked, proxy.hits.total() + 1
                if moment:
                    proxy.arm(*moment)
                for _ in range(rnd.randrange(1, 40)):
                    shim.send(*oracle.line())
                if moment:
                    eventually(partial(_reached, proxy, reached), 15, f"{moment} is reached")
                elif rnd.random() < 0.5:
                    eventually(partial(_acked, shim, acked + 1), 15)
                eventually(lambda: shim.signal(signal.SIGKILL), 10)
                eventually(partial(_killed, shim, round_ + 1), 10)
                proxy.disarm()
            shim.send(*oracle.line())
            shim.drained(30)
            assert shim.close() == 0
        assert shim.exit_codes.count(-signal.SIGKILL) == 30
        assert proxy.hits["commit:answer_lost"] == 8
        assert proxy.hits["commit:black_hole"] == 8
    ledger = clean(oracle, migrated_url)
    assert ledger.stored + ledger.dead == ledger.issued


def _reached(proxy: Proxy, hits: int) -> bool:
    return proxy.hits.total() >= hits


def _killed(shim: ShimDouble, times: int) -> bool:
    return len(shim.exit_codes) >= times


def _acked(shim: ShimDouble, seq: int) -> bool:
    return shim.acked >= seq


def _spooled(spool: Path, lines: int) -> bool:
    segments = (data for path, data in folder_contents(spool).items() if path.suffix == ".jsonl")
    return sum(data.count(b"\n") for data in segments) >= lines


def test_kill_9_between_append_and_acknowledgement(env: dict[str, str], migrated_url: str, tmp_path: Path) -> None:
    """The answers go nowhere: everything is sent again to the next sidecar, and stored once."""
    oracle = Oracle(31)
    lines = [oracle.line()[1] for _ in range(50)]
    spool = tmp_path / "state" / "spool"
    for round_ in range(1, 4):
        reader, writer = os.pipe()
        with subprocess.Popen(sidecar_command(), stdin=subprocess.PIPE, stdout=writer, env=env) as process:
            os.close(writer)
            assert process.stdin is not None
            process.stdin.write(b"\n".join(lines) + b"\n")
            process.stdin.flush()
            eventually(partial(_spooled, spool, round_ * len(lines)), 15)
            process.kill()
        os.close(reader)
    done = subprocess.run(sidecar_command(), input=b"", env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert clean(oracle, migrated_url).duplicate == 100


def test_sigterm_delivers_and_ends(shim: ShimDouble, migrated_url: str) -> None:
    """With the database up everything that was taken is delivered before the sidecar ends with 0."""
    oracle = Oracle(32)
    for _ in range(100):
        shim.send(*oracle.line())
    shim.drained(20)
    assert shim.signal(signal.SIGTERM)
    eventually(lambda: shim.exit_codes, 20)
    assert shim.exit_codes == [0]
    all_stored(oracle, migrated_url, 0.5)
    clean(oracle, migrated_url)


def test_sigterm_in_mid_batch(tmp_path: Path, migrated_url: str) -> None:
    """A batch is held at its COMMIT when the signal comes: it is delivered once, by this sidecar or the next."""
    oracle = Oracle(33)
    with Proxy(migrated_url) as proxy:
        env = sidecar_env(tmp_path / "state", proxy.url, **FAST)
        with ShimDouble(env) as shim:
            proxy.arm("commit", Break.BLACK_HOLE)
            for _ in range(20):
                shim.send(*oracle.line())
            shim.drained(20)
            eventually(lambda: proxy.hits["commit:black_hole"], 10)
            shim.signal(signal.SIGTERM)
            proxy.cut()
            all_stored(oracle, migrated_url)
    clean(oracle, migrated_url)


def test_sigterm_twice_ends_at_once_and_the_next_sidecar_delivers(own_server: OwnServer, tmp_path: Path) -> None:
    """The database is away: the first SIGTERM waits for it, the second one does not; the spool holds the lines."""
    oracle = Oracle(34)
    own_server.stop()
    env = sidecar_env(tmp_path / "state", own_server.url, **FAST)
    with ShimDouble(env) as shim:
        for _ in range(30):
            shim.send(*oracle.line())
        shim.drained(20)
        shim.signal(signal.SIGTERM)
        assert shim.exit_codes == []
        eventually(lambda: shim.signal(signal.SIGTERM) and shim.exit_codes, 5)
        own_server.start()
        all_stored(oracle, own_server.url)
    clean(oracle, own_server.url)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_and_hang_up_are_not_for_the_sidecar(
    shim: ShimDouble, migrated_url: str, number: signal.Signals
) -> None:
    """They reach OpenCode's whole process group; the end of stdin is what ends the sidecar."""
    oracle = Oracle(35)
    shim.send(*oracle.line())
    shim.drained(20)
    for _ in range(3):
        assert shim.signal(number)
    for _ in range(20):
        shim.send(*oracle.line())
    shim.drained(20)
    assert shim.close() == 0
    assert shim.starts == 1
    clean(oracle, migrated_url)


def test_two_sidecars_get_the_same_lines(env: dict[str, str], migrated_url: str) -> None:
    """One instance, one state directory, two sidecars: each has a spool of its own, each line is stored once."""
    oracle = Oracle(36)
    with ShimDouble(env) as one, ShimDouble(env) as two:
        for _ in range(200):
            line = oracle.line()
            one.send(*line)
            two.send(*line)
        assert one.close() == two.close() == 0
    ledger = clean(oracle, migrated_url)
    assert (ledger.stored + ledger.dead, ledger.duplicate) == (200, 200)


def test_spools_of_dead_sidecars_are_adopted(env: dict[str, str], own_server: OwnServer, tmp_path: Path) -> None:
    """Three sidecars died while the database was away; a fourth, of another OpenCode, delivers their lines."""
    env = sidecar_env(tmp_path / "state", own_server.url, **FAST)
    own_server.stop()
    oracles = [Oracle(seed) for seed in (37, 38, 39)]
    for oracle in oracles:
        with ShimDouble(env) as shim:
            for _ in range(10):
                shim.send(*oracle.line("small"))
            shim.drained(20)
            shim.kill_for_good()
    own_server.start()
    done = subprocess.run(sidecar_command(), input=b"", env=env, capture_output=True, check=False)
    assert done.returncode == 0
    assert stored(own_server.url) == 30


# -- standard input --------------------------------------------------------------------------------------------


def _pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    shrink_pipe(writer)
    return reader, writer


def _socket_pair() -> tuple[int, int]:
    one, two = socket.socketpair()
    return one.detach(), two.detach()


def _pty() -> tuple[int, int]:
    import tty  # noqa: PLC0415 - not on every system

    master, slave = pty.openpty()
    tty.setraw(slave)
    return slave, master


@pytest.mark.parametrize("make", [_pipe, _socket_pair, _pty])
def test_stdin_is_a_pipe_a_socket_or_a_terminal(
    env: dict[str, str], migrated_url: str, make: Callable[[], tuple[int, int]]
) -> None:
    """Every line is taken, and its end ends the sidecar."""
    oracle = Oracle(40)
    data = b"".join(oracle.line("small")[1] + b"\n" for _ in range(50))
    reader, writer = make()
    with subprocess.Popen(sidecar_command(), stdin=reader, stdout=subprocess.DEVNULL, env=env) as process:
        os.close(reader)
        while data:
            data = data[os.write(writer, data[:1000]) :]
        if make is _pty:
            all_stored(oracle, migrated_url)  # closing a terminal throws away what was not read
        os.close(writer)
        assert exit_code(process, 30) == 0
    clean(oracle, migrated_url)


@pytest.mark.parametrize("newline", [b"\n", b""])
def test_stdin_is_a_file(env: dict[str, str], migrated_url: str, tmp_path: Path, newline: bytes) -> None:
    """Read to its end; a last line without a newline is one."""
    oracle = Oracle(41)
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\n".join(oracle.line()[1] for _ in range(50)) + newline)
    with path.open("rb") as file:
        done = subprocess.run(sidecar_command(), stdin=file, env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    clean(oracle, migrated_url)


def _with_closed(descriptors: str) -> list[str]:
    """The sidecar's command, started by a shell that closes these descriptors."""
    return ["sh", "-c", f'exec "$@" {descriptors}', "sh", *sidecar_command()]


@pytest.mark.parametrize("command", [sidecar_command(), _with_closed("<&-")], ids=["dev_null", "closed"])
def test_stdin_is_nothing(env: dict[str, str], command: list[str]) -> None:
    """/dev/null or closed: there is nothing to record, which is no error."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("how", ["unread", "closed"])
def test_nobody_listens(env: dict[str, str], migrated_url: str, how: str) -> None:
    """Stdout and stderr are full pipes, or closed: lines are recorded all the same."""
    oracle = Oracle(42)
    reader, writer = os.pipe()
    shrink_pipe(writer)
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 512)
    os.set_blocking(writer, True)

    with subprocess.Popen(
        _with_closed(">&- 2>&-") if how == "closed" else sidecar_command(),
        stdin=subprocess.PIPE,
        stdout=writer,
        stderr=writer,
        env={**env, "AGENT_TRACE_BATCH_SIZE": "1"},
    ) as process:
        assert process.stdin is not None
        for _ in range(50):
            process.stdin.write(oracle.line()[1] + b"\n")
            process.stdin.flush()
        process.stdin.close()
        assert exit_code(process, 40) == 0
    os.close(reader)
    os.close(writer)
    clean(oracle, migrated_url)


def test_a_writer_of_one_byte_at_a_time(env: dict[str, str], migrated_url: str) -> None:
    """Each byte is a write of its own; the line is acknowledged when its newline has come."""
    oracle = Oracle(43)
    with subprocess.Popen(
        sidecar_command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, bufsize=0
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(3):
            seq, line = oracle.line("foreign")
            for byte in line + b"\n":
                process.stdin.write(bytes([byte]))
            assert json.loads(process.stdout.readline()) == {"ack": seq}
        process.stdin.close()
        assert exit_code(process, 30) == 0
    clean(oracle, migrated_url)


def test_lines_without_secrets_pass_the_redaction_unchanged(env: dict[str, str], migrated_url: str) -> None:
    """With redaction on, as it is by default."""
    oracle = Oracle(45, hostile=False)
    with ShimDouble({**env, "AGENT_TRACE_REDACTION": "on"}) as shim:
        for _ in range(100):
            shim.send(*oracle.line())
        assert shim.close() == 0
    clean(oracle, migrated_url)


def test_an_endless_line_does_not_fill_the_memory(shim: ShimDouble, env: dict[str, str], migrated_url: str) -> None:
    """100 MiB without a newline become one dead letter with their size; the lines around them are stored."""
    oracle = Oracle(44)
    first, last = oracle.line("small")[1], oracle.line("small")[1]
    shim.kill_for_good()
    with subprocess.Popen(sidecar_command(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=env) as process:
        assert process.stdin is not None
        process.stdin.write(first + b"\n")
        for _ in range(100):
            process.stdin.write(b"x" * (1 << 20))
        peak = Path(f"/proc/{process.pid}/status").read_text() if Path("/proc").exists() else "VmHWM: 0 kB"
        process.stdin.write(b"\n" + last + b"\n")
        process.stdin.close()
        assert exit_code(process, 40) == 0
    rows = fetch(migrated_url, "SELECT reason, error FROM agent_trace_dead_letters")
    assert [row["reason"] for row in rows] == ["too_long"] or "104857601 bytes" in rows[0]["error"]
    assert stored(migrated_url) == 3
    kib = int(peak.partition("VmHWM:")[2].split()[0])
    assert kib < 150 * 1024
