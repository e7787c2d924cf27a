"""The oracle under random faults: python -m tests.benchmarks.soak --minutes 60 [--seed 1] [--out FILE].

A real sidecar, a real private Postgres behind the test's own proxy, a shim's double that sends lines in bursts, and
every 1 to 30 seconds something breaks. Beside it a hostile neighbour writes into a log folder that `tail` follows.
Among the lines are those that once stopped recording: repeated statements, huge and malformed lines, fields of the
sidecar's own, repeated ids, and worktrees whose files never end. All kinds of faults come in each round, in another
order. At the end nothing may be lost, twice or altered; the ledger says so, with how often each fault was really hit.
Exit code 1 when not.
"""

import argparse
import itertools
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

from tests.support.oracle import Ledger, Oracle
from tests.support.postgres import OwnServer, PostgresServers, execute, fetch, guarded_folder
from tests.support.proxy import PHASES, Break, Error, Proxy
from tests.support.sidecar import ShimDouble, Watch, sidecar_command, sidecar_env
from tests.support.waiting import eventually, exit_code, join, patient

_SHORT_MINUTES: Final = 20
"""Shorter runs break something every 1 to 8 seconds, so that every fault has its turn."""
_KEPT_MAX: Final = 20 << 20
"""The generator waits for the shim above this, as the soak is about losing, not about giving up."""
_SPOOL_DISK_BYTES: Final = 48 << 20
_SQLSTATES: Final = "57P03 53300 57014 55P03 40P01 40001 53100 25006 58030 08006 XX000 42P01 42501 28P01 3D000".split()  # noqa: SIM905
_SQLSTATES_A_TURN: Final = 3
_NEIGHBOUR_RATE: Final = 20
_LINES_OF_A_LOG: Final = 500
_LINES_BETWEEN: Final = 1000
"""So many lines of a neighbour to the next huge one."""
_PROBE_S: Final = 10.0
_RSS_MAX: Final = 300 << 20


class Plan(NamedTuple):
    """What the command line asks for."""

    minutes: float
    seed: int
    rate: int
    only: str
    rounds: int


class Soak:
    """One run: what is there to break, and how."""

    def __init__(  # noqa: PLR0917 - called once
        self,
        server: OwnServer,
        proxy: Proxy,
        shim: ShimDouble,
        neighbour: "Neighbour",
        state_dir: Path,
        rnd: random.Random,
    ) -> None:
        self.server, self.proxy, self.shim, self.state_dir, self.rnd = server, proxy, shim, state_dir, rnd
        self.neighbour = neighbour
        self.hits: Counter[str] = Counter()
        self.pause = threading.Event()

    def faults(self) -> dict[str, Callable[[], bool]]:
        """Every kind of fault; each returns whether it was really hit, and leaves everything whole."""
        return {
            "sidecar_kill9": lambda: self.shim.signal(signal.SIGKILL),
            "sidecar_sigterm": lambda: self.shim.signal(signal.SIGTERM),
            "sidecar_frozen": self._sidecar_frozen,
            "tail_kill9": lambda: self.neighbour.again(signal.SIGKILL),
            "tail_sigterm": lambda: self.neighbour.again(signal.SIGTERM),
            "sidecar_kill9_before_commit": lambda: self._kill_at(Break.BLACK_HOLE),
            "sidecar_kill9_after_commit": lambda: self._kill_at(Break.ANSWER_LOST),
            "postgres_stop_fast": lambda: self._stopped(lambda: self.server.stop("fast")),
            "postgres_stop_immediate": lambda: self._stopped(lambda: self.server.stop("immediate")),
            "postgres_kill9": lambda: self._stopped(self.server.kill),
            "postgres_kill9_in_copy": self._killed_in_copy,
            "backend_frozen": self._backend_frozen,
            "backend_terminated": lambda: self._backend("pg_terminate_backend"),
            "backend_cancelled": lambda: self._backend("pg_cancel_backend"),
            "reset": lambda: self._broken(Break.RESET),
            "half_open": lambda: self._broken(Break.HALF_OPEN),
            "black_hole": lambda: self._broken(Break.BLACK_HOLE),
            "commit_answer_lost": lambda: self._broken(Break.ANSWER_LOST, "commit"),
            "sqlstate": self._sqlstate,
            "network_black_hole": self._network_black_hole,
            "table_missing": self._table_missing,
            "table_locked": self._table_locked,
            "read_only": self._read_only,
            "spool_disk_full": self._disk_full,
            "spool_write_error": self._write_error,
        }

    def wait(self, low: float, high: float) -> None:
        """A random pause."""
        self.pause.wait(self.rnd.uniform(low, high))

    def _sidecar_frozen(self) -> bool:
        done = self.shim.signal(signal.SIGSTOP)
        self.wait(0.5, 4)
        self.shim.signal(signal.SIGCONT)
        return done

    def _kill_at(self, how: Break) -> bool:
        hit = self._wait_for_hit("commit", how)
        return self.shim.signal(signal.SIGKILL) and hit

    def _wait_for_hit(self, phase: str, action: Break | Error) -> bool:
        name = f"{phase}:{action.sqlstate if isinstance(action, Error) else action.value}"
        before = self.proxy.hits[name]
        self.proxy.arm(phase, action)
        if phase in ("connect", "startup", "open"):
            self.proxy.cut()
        with suppress(AssertionError):
            eventually(lambda: self.proxy.hits[name] > before, 8)
        self.proxy.disarm()
        return self.proxy.hits[name] > before

    def _stopped(self, stop: Callable[[], None]) -> bool:
        stop()
        self.wait(0.1, 8)
        self.server.start()
        return True

    def _killed_in_copy(self) -> bool:
        hit = self._wait_for_hit("copy_data", Break.BLACK_HOLE)
        return self._stopped(self.server.kill) and hit

    def _backend_pids(self) -> list[int]:
        query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'agent-trace-sidecar'"
        return [row["pid"] for row in fetch(self.server.url, query)]

    def _backends(self) -> list[int]:
        """The sidecar's backends; it may be about to connect."""
        with suppress(AssertionError):
            return eventually(self._backend_pids, 8)
        return []

    def _backend_frozen(self) -> bool:
        pids = self._backends()
        for pid in pids:
            _send(pid, signal.SIGSTOP)
        self.wait(1, 20)
        for pid in pids:
            _send(pid, signal.SIGCONT)
        return bool(pids)

    def _backend(self, function: str) -> bool:
        pids = self._backends()
        for pid in pids:
            fetch(self.server.url, f"SELECT {function}($1)", pid)
        return bool(pids)

    def _broken(self, how: Break, phase: str = "") -> bool:
        hit = self._wait_for_hit(phase or self.rnd.choice(PHASES), how)
        self.wait(0, 6)
        self.proxy.cut()
        return hit

    def _sqlstate(self) -> bool:
        """Some of the codes that were hit least so far, each at another phase."""
        codes = sorted(_SQLSTATES, key=lambda code: (self.hits[f"sqlstate {code}"], self.rnd.random()))
        hits = 0
        for code in codes[:_SQLSTATES_A_TURN]:
            hit = self._wait_for_hit(self.rnd.choice(PHASES[1:]), Error(code))
            self.hits[f"sqlstate {code}"] += hit
            hits += hit
        return hits > 0

    def _network_black_hole(self) -> bool:
        before = self.proxy.hits.total()
        self.proxy.swallow(on=True)
        self.wait(1, 15)
        self.proxy.swallow(on=False)
        return self.proxy.hits.total() > before

    def _table_missing(self) -> bool:
        table = self.rnd.choice(("agent_trace_events", "agent_trace_dedupe", "agent_trace_sources"))
        execute(self.server.url, f"ALTER TABLE {table} RENAME TO away")
        self.wait(1, 5)
        execute(self.server.url, f"ALTER TABLE away RENAME TO {table}")
        return True

    def _table_locked(self) -> bool:
        seconds = self.rnd.uniform(1, 20)
        query = f"BEGIN; LOCK TABLE agent_trace_events IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep({seconds}); COMMIT"
        execute(self.server.url, query)
        return True

    def _read_only(self) -> bool:
        self._set("ALTER SYSTEM SET default_transaction_read_only = on")
        self.proxy.cut()
        self.wait(1, 5)
        self._set("SET default_transaction_read_only = off; ALTER SYSTEM RESET default_transaction_read_only")
        return True

    def _set(self, query: str) -> None:
        for statement in query.split("; "):
            if statement.startswith("ALTER"):
                execute(self.server.url, statement, "SELECT pg_reload_conf()")

    def _held_up(self) -> bool:
        """Whether lines soon wait for their acknowledgement."""
        for _ in range(20):
            self.pause.wait(0.3)
            if self.shim.kept:
                return True
        return False

    def _disk_full(self) -> bool:
        """Fill the file system of the spool, where it is one of its own; otherwise this fault is not hit."""
        if self.state_dir.stat().st_dev == self.state_dir.parent.stat().st_dev:
            return False
        filler = self.state_dir / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(65536))
        hit = self._held_up()
        self.wait(0, 5)
        filler.unlink()
        return hit

    def _write_error(self) -> bool:
        """Let every write to a file fail (EFBIG), by the process's limit on the size of files."""
        pid = self.shim.pid
        if pid is None:
            return False
        try:
            old = resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            hit = self._held_up()
            resource.prlimit(pid, resource.RLIMIT_FSIZE, old)
        except ProcessLookupError:
            return False
        return hit


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


class Generator:
    """Sends lines in bursts in a thread of its own, about `rate` a second."""

    def __init__(self, oracle: Oracle, shim: ShimDouble, rate: int) -> None:
        self._oracle, self._shim, self._rate = oracle, shim, rate
        self._random = random.Random(oracle.seed + 1)  # noqa: S311 - must be repeatable
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Send nothing any more."""
        self._stop.set()
        join(self._thread, 30)

    def _work(self) -> None:
        while not self._stop.is_set():
            burst = self._random.choice((1, 1, 5, 30, 200))
            for _ in range(burst):
                self._shim.send(*self._oracle.line())
            self._stop.wait(burst / self._rate)
            while self._shim.kept_bytes > _KEPT_MAX and not self._stop.wait(0.1):
                pass


class Neighbour:
    """Writes hostile lines into a log folder, and `tail`, which follows it into the same database."""

    def __init__(self, oracle: Oracle, env: Mapping[str, str], folder: Path, log: Path) -> None:
        self.oracle = oracle
        self._env, self._folder, self._log = env, folder, log
        self._folder.mkdir()
        self._tail = self._start()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _start(self) -> "subprocess.Popen[bytes]":
        command = [*sidecar_command("tail"), str(self._folder)]
        with self._log.open("ab") as errors:
            return subprocess.Popen(command, env=self._env, stdin=subprocess.DEVNULL, stderr=errors)

    def again(self, number: signal.Signals) -> bool:
        """End `tail` by this signal and start it anew; whether it was running."""
        running = self._tail.poll() is None
        self._tail.send_signal(number)
        exit_code(self._tail, 60)
        self._tail = self._start()
        return running

    def stop(self) -> None:
        """Write nothing any more."""
        self._stop.set()
        join(self._thread, 30)

    def close(self, url: str) -> int:
        """Wait until all of it is in the database, end `tail` and return its exit code."""
        query = "SELECT count(*) AS n FROM agent_trace_dedupe WHERE source_id = $1"
        wanted = len(self.oracle.issued) + sum(map(len, self.oracle.rivals.values()))
        eventually(lambda: fetch(url, query, self.oracle.instance)[0]["n"] >= wanted, 120, "all of the logs is stored")
        self._tail.send_signal(signal.SIGTERM)
        return exit_code(self._tail, 60)

    def kill(self) -> None:
        """Leave nothing running."""
        self._stop.set()
        self._tail.kill()
        self._tail.wait()

    def _work(self) -> None:
        for number in itertools.count():
            with (self._folder / f"{number // _LINES_OF_A_LOG}.jsonl").open("ab") as file:
                kind = {0: "huge", 1: "far"}.get(number % _LINES_BETWEEN)
                file.write(self.oracle.line(kind)[1] + b"\n")
            if self._stop.wait(1 / _NEIGHBOUR_RATE):
                return


def hostile_worktrees(folder: Path) -> list[str]:
    """Worktrees whose files never answer, or never end."""
    for name in (".hg/dirstate", ".git/packed-refs", ".svn/wc.db", ".git/HEAD"):
        root = folder / name.replace("/", "-").strip(".")
        target = root / name
        target.parent.mkdir(parents=True)
        if name == ".git/HEAD":
            target.symlink_to("/dev/zero")
        else:
            os.mkfifo(target)
        if name == ".git/packed-refs":
            (root / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    return [str(root) for root in folder.iterdir()]


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a small file system at `folder`, where we may; whether we could."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_SPOOL_DISK_BYTES}", "none", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


def soak(plan: Plan, say: Callable[[str], None]) -> bool:
    """Run, and print the ledger through `say`; whether nothing was lost, twice or altered."""
    rnd = random.Random(plan.seed)  # noqa: S311 - must be repeatable
    with guarded_folder() as scratch, small_disk(scratch / "state") as small:
        servers = PostgresServers(scratch)
        server = servers.own()
        log = scratch / "sidecar.log"
        worktrees = hostile_worktrees(scratch / "work")
        oracle, other = (Oracle(seed, worktrees=worktrees) for seed in (plan.seed, plan.seed + 1_000_000))
        env = sidecar_env(scratch / "state", "", redaction="on")
        with Proxy(server.url) as proxy, ExitStack() as stack:
            env["AGENT_TRACE_DATABASE_URL"] = proxy.url
            env_of_tail = env | {"AGENT_TRACE_STATE_DIR": str(scratch / "tail")}
            neighbour = Neighbour(other, env_of_tail, scratch / "logs", scratch / "tail.log")
            stack.callback(neighbour.kill)
            with ShimDouble(env, log=log) as shim:
                try:
                    run = Soak(server, proxy, shim, neighbour, scratch / "state", rnd)
                    watch = Watch(lambda: shim.pid, scratch / "state" / "spool")
                    ok = _run(run, oracle, plan, watch, small, say)
                finally:
                    lines = "".join(
                        one.read_text("utf-8", "replace") for one in (log, scratch / "tail.log") if one.exists()
                    )
                    names = Counter(re.findall(r" event=(\S+)(?:.* cause=(\S+))?", lines))
                    for (name, cause), count in sorted(names.items()):
                        say(f"  log {count:6} {name} {cause}")
                    odd = [line for line in lines.splitlines() if "event=" not in line or "event=unexpected" in line]
                    for line in odd[:40]:
                        say(f"  stderr {line}")
        server.close()
    return ok


def _run(  # noqa: PLR0917 - called once
    run: Soak, oracle: Oracle, plan: Plan, watch: Watch, small: bool, say: Callable[[str], None]
) -> bool:
    start = time.monotonic()
    generator = Generator(oracle, run.shim, plan.rate)
    _break_things(run, plan, say)
    generator.stop()
    run.neighbour.stop()
    problems = _settle(run, oracle)
    watch.stop()
    oracle.add(run.neighbour.oracle)
    ledger = oracle.check(run.server.url, run.shim.given_up)
    ledger.problems += problems + _bounds(run, watch, small)
    _print(run, ledger, watch, time.monotonic() - start, say)
    return not ledger.problems


def _break_things(run: Soak, plan: Plan, say: Callable[[str], None]) -> None:
    faults = {name: fault for name, fault in run.faults().items() if plan.only in name}
    pauses = (1.0, 30.0) if plan.minutes >= _SHORT_MINUTES else (0.5, 6.0)
    pauses = (0.0, 1.0) if plan.rounds else pauses
    run.hits.update(dict.fromkeys(faults, 0))
    turn: list[str] = []
    end = time.monotonic() + plan.minutes * 60
    rounds = 0
    while rounds < plan.rounds if plan.rounds else time.monotonic() < end:
        rounds += 1
        if not turn:
            turn = run.rnd.sample(sorted(faults), len(faults))
        name = turn.pop()
        run.hits[name] += faults[name]()
        say(f"{time.strftime('%H:%M:%S')} {name} hit={run.hits[name]} acked={run.shim.acked} kept={run.shim.kept}")
        run.wait(*pauses)


def _settle(run: Soak, oracle: Oracle) -> list[str]:
    """Faults have stopped: everything is taken, a fresh line is there within its time, and the sidecar ends well."""
    problems = []
    try:
        run.shim.drained(120)
        seq, line = oracle.line("small")
        run.shim.send(seq, line)
        probe = UUID(json.loads(line)["id"])
        start = time.monotonic()
        query = "SELECT 1 FROM agent_trace_events WHERE event_id = $1"
        eventually(lambda: fetch(run.server.url, query, probe), 120, "the probe is stored")
        if time.monotonic() - start > patient(_PROBE_S):
            problems.append(f"the probe took {time.monotonic() - start:.1f} s")
        if (code := run.neighbour.close(run.server.url)) != 0:
            problems.append(f"tail ended with exit code {code}")
        if (code := run.shim.close()) != 0:
            problems.append(f"the last sidecar ended with exit code {code}")
        done = subprocess.run(
            sidecar_command("status", "--json"), env=run.shim.env, capture_output=True, text=True, check=False
        )
        status = json.loads(done.stdout)
        if done.returncode or status["pending_bytes"]:
            problems.append(f"status: {status['problems']}, {status['pending_bytes']} bytes pending")
        if status["gaps"] and not run.shim.given_up:
            problems.append(f"{status['gaps']} lines are reported as missing")
    except (AssertionError, ValueError, KeyError):
        problems.append(traceback.format_exc(limit=1))
    return problems


def _bounds(run: Soak, watch: Watch, small: bool) -> list[str]:
    found = [
        f"never hit: {name}" for name, count in run.hits.items() if not count and (small or name != "spool_disk_full")
    ]
    if watch.peak_rss > _RSS_MAX:
        found.append(f"a sidecar took {watch.peak_rss >> 20} MiB of memory")
    return found


def _print(run: Soak, ledger: Ledger, watch: Watch, seconds: float, say: Callable[[str], None]) -> None:
    say(f"\nseconds {seconds:.0f}, sidecars {run.shim.starts}, connections {run.proxy.accepted}")
    say(f"issued {ledger.issued}, dropped by the shim {ledger.given_up}: {dict(ledger.by_kind)}")
    say(f"stored {ledger.stored}, duplicate {ledger.duplicate}, dead {ledger.dead}")
    say(f"peak RSS {watch.peak_rss / 2**20:.1f} MiB, peak spool {watch.peak_folder / 2**20:.1f} MiB")
    say("RSS by minute, MiB: " + " ".join(f"{rss / 2**20:.0f}" for _, rss in watch.rss))
    for name, count in sorted(run.hits.items()):
        say(f"  hit {count:6} {name}")
    say(
        "PROBLEMS: " + "; ".join(ledger.problems) if ledger.problems else "nothing lost, nothing twice, nothing altered"
    )


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=int, default=80, help="lines a second, on average")
    parser.add_argument("--out", type=Path, help="write there instead of to the standard output")
    parser.add_argument("--only", default="", help="only faults with this in their name, e.g. sidecar_kill9")
    parser.add_argument("--rounds", type=int, default=0, help="so many faults, in place of minutes")
    arguments = parser.parse_args()
    with arguments.out.open("w") if arguments.out else nullcontext(sys.stdout) as out:
        plan = Plan(arguments.minutes, arguments.seed, arguments.rate, arguments.only, arguments.rounds)
        ok = soak(plan, lambda text: print(text, file=out, flush=True))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
