"""What all rows of the table share: alternating rounds, medians, a server with production settings, processes.

A round runs every contender once, each round in another order, so that whatever else the machine does meanwhile hits
all of them. A figure is the median of the rounds with its minimum and maximum.
"""

import contextlib
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Final

from tests.support.postgres import MIGRATED, OwnServer, PostgresServers, execute, fetch, with_database

ROOT: Final = Path(__file__).parents[2]
TOOLS: Final = ROOT / ".tools"

# What a server is given that has the machine for itself. Everything that keeps its promises is as delivered: on.
_PRODUCTION: Final[Mapping[str, str]] = {
    "fsync": "on",
    "full_page_writes": "on",
    "autovacuum": "on",
    "synchronous_commit": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "max_connections": "200",
    "dynamic_shared_memory_type": "posix",
}


@dataclass(frozen=True)
class Series:
    """One figure, measured in several rounds."""

    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The figure."""
        return statistics.median(self.values)

    def __str__(self) -> str:
        """The median, and in brackets the smallest and the largest."""
        low, high = number(min(self.values)), number(max(self.values))
        spread = f" ({low} - {high})" if len(self.values) > 1 else ""
        return f"{number(self.median)} {self.unit}{spread}"


@dataclass(frozen=True)
class Row:
    """One row of the table: ours beside something else."""

    group: str
    what: str
    ours: Series
    beside: str = ""
    other: Series | None = None
    ratio: float | None = None
    target: str = ""
    reached: bool | None = None
    note: str = ""


@dataclass
class Bench:
    """What a module of rows is given."""

    quick: bool
    rounds: int
    scratch: Path
    servers: PostgresServers
    _server: OwnServer | None = field(default=None, init=False)

    @property
    def server(self) -> OwnServer:
        """The one server of the run, on disk."""
        if self._server is None:
            self._server = self.servers.own(settings=_PRODUCTION)
        return self._server

    def size(self, quick: int, full: int) -> int:
        """The one that goes with the mode."""
        return quick if self.quick else full

    def alternate(self, unit: str, contenders: Mapping[str, Callable[[], float]]) -> dict[str, Series]:
        """Measure contenders against each other; each returns its figure of one round."""
        found: dict[str, list[float]] = {name: [] for name in contenders}
        names = list(contenders)
        for turn in range(self.rounds):
            at = turn % len(names)
            for name in names[at:] + names[:at]:
                found[name].append(contenders[name]())
                say(f"  {name}: {number(found[name][-1])} {unit}")
        return {name: Series(unit, tuple(values)) for name, values in found.items()}

    @contextmanager
    def database(self) -> Iterator[str]:
        """A fresh database with the schema, dropped afterwards."""
        name = f"b_{uuid.uuid4().hex[:12]}"
        execute(self.server.url, f"CREATE DATABASE {name} TEMPLATE {MIGRATED}")
        url = with_database_of(self.server.url, name)
        try:
            yield url
        finally:
            execute(self.server.url, f"DROP DATABASE {name} WITH (FORCE)")

    def environment(self, url: str, **settings: str) -> dict[str, str]:
        """The environment of a sidecar whose rules are loaded from a warm cache, as in every start but the first."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "PYTHONPATH") if name in os.environ}
        state = {"AGENT_TRACE_STATE_DIR": str(self.scratch / "state"), "AGENT_TRACE_DATABASE_URL": url}
        return kept | state | settings

    def settle(self) -> None:
        """Write out what a round has left dirty, so that the next one does not pay for it."""
        execute(self.server.url, "CHECKPOINT")


def with_database_of(url: str, name: str) -> str:
    """The same server's other database; the URL of a private server names the schema's."""
    return url.replace(f"/{MIGRATED}?", f"/{name}?") if f"/{MIGRATED}?" in url else with_database(url, name)


def number(value: float) -> str:
    """Three significant digits, thousands apart."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def say(text: str) -> None:
    """Tell how it goes, beside the table."""
    print(text, file=sys.stderr, flush=True)


# -- processes -------------------------------------------------------------------------------------------------


def sidecar(*arguments: str) -> list[str]:
    """The command line of ours."""
    return [sys.executable, "-m", "agent_trace_sidecar", *arguments]


@dataclass(frozen=True)
class Ran:
    """How a process went: seconds on the clock and of the processor, and its largest resident size in MiB."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    stdout: str


def run(command: Sequence[str], env: Mapping[str, str], *, cwd: Path = ROOT, codes: Sequence[int] = (0,)) -> Ran:
    """Run to the end; times and memory are those of the process with all its children.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(env),
        cwd=cwd,
        text=True,
    )
    totals: list[float] = []
    watching = threading.Event()
    watch = threading.Thread(target=_watch, args=(process.pid, totals, watching), daemon=True)
    watch.start()
    said: list[str] = []
    assert process.stderr is not None
    errors = threading.Thread(target=lambda stream: said.append(stream.read()), args=(process.stderr,))
    errors.start()
    with process:
        assert process.stdout is not None
        stdout = process.stdout.read()
        errors.join()
        watching.set()
        watch.join()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in codes:
        raise RuntimeError(f"{command[0]} failed: {''.join(said)[-2000:]}")
    wall = time.perf_counter() - began
    return Ran(wall, usage.ru_utime + usage.ru_stime, max(totals, default=0.0), stdout)


def _watch(pid: int, totals: list[float], done: threading.Event) -> None:
    """Note the peak of a process and what its children have besides, what they share counted once.

    Not by wait4: that counts what we had ourselves when we forked.
    """
    children = Path(f"/proc/{pid}/task/{pid}/children")
    while not done.wait(0.1):
        with contextlib.suppress(OSError, StopIteration):
            totals.append(peak_mib(pid) + sum(map(_proportional_mib, map(int, children.read_text().split()))))


def _proportional_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def server_cpu_s(server: OwnServer) -> float:
    """Seconds of the processor that a server's processes, living and dead, have used."""
    ticks = 0
    for index, pid in enumerate(server.processes()):
        fields = _stat(pid)
        ticks += sum(fields[:2]) + (sum(fields[2:]) if index == 0 else 0)  # the postmaster's dead children
    return ticks / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[int]:
    """The times of a process: its own in user and kernel mode, and those of its dead children."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return [0, 0, 0, 0]
    return [int(field) for field in text.rpartition(")")[2].split()[11:15]]


def cpu_s(pid: int) -> float:
    """Seconds of the processor that a living process has used."""
    return sum(_stat(pid)[:2]) / os.sysconf("SC_CLK_TCK")


def peak_mib(pid: int) -> float:
    """The largest resident size of a living process so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


# -- the header ------------------------------------------------------------------------------------------------


def header(bench: Bench) -> dict[str, str]:
    """The machine and the versions."""
    cpu = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((line.split(": ")[1] for line in info.read_text().splitlines() if "model name" in line), cpu)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    loads = os.getloadavg()
    system = f"{platform.system()} {platform.release()}"
    return {
        "machine": f"{os.cpu_count()} cores ({cpu.strip()}), {memory:.0f} GiB, {system}",
        "load before": f"{loads[0]:.1f} (1 min), {loads[1]:.1f} (5 min)",
        "python": platform.python_version(),
        "postgres": str(fetch(bench.server.url, "SHOW server_version")[0][0]),
        "commit": _commit(),
        **{name: version(name) for name in ("asyncpg", "msgspec", "google-re2")},
        "mode": f"{'quick' if bench.quick else 'full'}, {bench.rounds} rounds",
    }


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "no repository"
