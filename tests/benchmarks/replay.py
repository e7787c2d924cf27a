"""Replay of a log: from lines in a file to committed rows, beside other ways to get lines or rows into the server.

The limit is what the server itself takes: the very same rows, which a replay has left in each table, dumped in the
binary form of COPY beforehand and copied back, one statement for each table, nothing else to do. The other three get
the same lines and store less: no masking, no records, no ranges, no gate beside the table, no checkpoint.
"""

import io
import os
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

import asyncpg

from tests.benchmarks.harness import TOOLS, Bench, Row, Series, number, run, say, server_cpu_s, sidecar
from tests.benchmarks.lines import write_log
from tests.support.postgres import execute, fetch, run_apart

GROUP: Final = "replay"
TABLES: Final = (
    "agent_trace_dedupe",
    "agent_trace_events",
    "agent_trace_records",
    "agent_trace_ranges",
    "agent_trace_file_states",
    "agent_trace_usage",
    "agent_trace_ended_calls",
    "agent_trace_masked",
)
_LARGE: Final = """
INSERT INTO agent_trace_dedupe SELECT {source}, {id}, {at} FROM generate_series({first}::bigint, {last}) AS i;
INSERT INTO agent_trace_events
SELECT {id}, {at}, {source}, i % 5000, 'ses_' || i / 150, 'msg_' || i / 8, 'call_' || i % 7, 'message.part.updated',
       'bash', jsonb_build_object('directory', '/home/dev/project', 'input', jsonb_build_object('event',
           jsonb_build_object('type', 'message.part.updated', 'id', 'evt_' || i, 'properties', jsonb_build_object(
               'text', repeat(md5(i::text), 12), 'sessionID', 'ses_' || i / 150))))
FROM generate_series({first}::bigint, {last}) AS i;
INSERT INTO agent_trace_ranges (source_id, record_id, recorded_at, ordinal, path, start_line, end_line, contributor,
                                session_id, method)
SELECT {source}, {id}, {at}, 0, 'src/module_' || i % 3000 || '.py', i % 400 + 1, i % 400 + 9, 'ai',
       'ses_' || i / 150, 'diff'
FROM generate_series({first}::bigint, {last}, 40) AS i;
"""
_ID: Final = (
    "(lpad(to_hex((1790000000000 + i * 500)::bigint), 12, '0') || '7' || substr(md5(i::text), 1, 3) || '8' "
    "|| substr(md5(i::text), 4, 15))::uuid"
)
_AT: Final = "to_timestamp((1790000000000 + i * 500) / 1000.0)"
_SOURCE: Final = "md5((i / 5000)::text)::uuid"
_INSERT: Final = """
INSERT INTO agent_trace_events VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING
"""
_NODE_SCRIPT: Final = Path(__file__).with_name("node_insert.mjs")


@dataclass
class Cost:
    """Seconds of the processor per million events, round by round."""

    ours: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)


def rows(bench: Bench) -> Iterator[Row]:
    """The rows of this group."""
    events = bench.size(50_000, 300_000)
    log = bench.scratch / "replay.jsonl"
    size = write_log(log, events)
    say(f"{events} lines, {size / events:.0f} bytes on average")
    clean = _without_nul(log)
    few = events // 5
    prepared = _Prepared(bench, log)
    cost = Cost()
    found = bench.alternate(
        "events/s",
        {
            "ours": lambda: replay_rate(bench, log, events, cost),
            "limit": prepared.copy_rate,
            "psql": lambda: _psql_rate(bench, clean, events),
            "node": lambda: _node_rate(bench, clean, few),
            "executemany": lambda: prepared.executemany_rate(few),
        },
    )
    ours = found["ours"]
    for name, beside, least in [
        ("limit", "binary COPY of the same rows, prepared", None),
        ("psql", "psql \\copy of the lines into one jsonb column", 0.32),
        ("node", "Node pg, multi-row INSERT of 50, ON CONFLICT", 1.6),
        ("executemany", "asyncpg executemany of prepared event rows", None),
    ]:
        ratio = ours.median / found[name].median
        target = f">= {least}" if least else ""
        what = f"replay of {number(events)} lines, {size / events:.0f} B"
        yield Row(GROUP, what, ours, beside, found[name], ratio, target, ratio >= least if least else None)
    yield Row(
        GROUP,
        "CPU per million events: ours",
        Series("s", tuple(cost.ours)),
        "Postgres",
        Series("s", tuple(cost.server)),
        target="report",
    )


def large_rows(bench: Bench) -> Iterator[Row]:
    """The same with millions of rows in the tables."""
    filled = bench.size(1_000_000, 10_000_000)
    events = bench.size(30_000, 100_000)
    copies = count(10_000_000, events)
    with bench.database() as full:
        began = time.monotonic()
        for first in range(0, filled, 500_000):
            last = min(filled, first + 500_000) - 1
            execute(full, _LARGE.format(id=_ID, at=_AT, source=_SOURCE, first=first, last=last))
        execute(full, "VACUUM ANALYZE")
        say(f"{filled} rows made in {time.monotonic() - began:.0f} s")
        logs: list[Path] = []

        def into(url: str, log: Path) -> float:
            bench.settle()
            return _rate(events, run(sidecar("replay", str(log)), bench.environment(url)).wall_s)

        def empty() -> float:
            with bench.database() as url:
                return into(url, logs[-1])

        def next_log() -> Path:
            log = bench.scratch / f"large-{len(logs)}.jsonl"
            write_log(log, events, next(copies))
            logs.append(log)
            return log

        found: dict[str, list[float]] = {"full": [], "empty": []}
        for _ in range(bench.rounds):
            log = next_log()
            found["full"].append(into(full, log))
            found["empty"].append(empty())
            log.unlink()
    ours, other = (Series("events/s", tuple(found[name])) for name in ("full", "empty"))
    ratio = ours.median / other.median
    yield Row(
        GROUP, f"the same into {number(filled)} rows", ours, "into empty tables", other, ratio, ">= 0.9", ratio >= 0.9
    )


def jobs_rows(bench: Bench) -> Iterator[Row]:
    """Two logs, one after the other and at once."""
    events = bench.size(30_000, 100_000)
    logs = [bench.scratch / f"jobs-{place}.jsonl" for place in range(2)]
    for place, log in enumerate(logs):
        write_log(log, events, place * 10_000_000)

    def rate(jobs: int) -> float:
        with bench.database() as url:
            bench.settle()
            command = sidecar("replay", "--jobs", str(jobs), *map(str, logs))
            return _rate(len(logs) * events, run(command, bench.environment(url)).wall_s)

    found = bench.alternate("events/s", {"at once": lambda: rate(2), "in turn": lambda: rate(1)})
    both, one = found["at once"], found["in turn"]
    what = f"replay --jobs 2 of two logs of {number(events)} events"
    yield Row(GROUP, what, both, "--jobs 1", one, both.median / one.median, "report")


def replay_rate(bench: Bench, log: Path, events: int, cost: Cost | None = None) -> float:
    """Events in a second of one `replay`, from its start to its end, into an empty database."""
    with bench.database() as url:
        bench.settle()
        before = server_cpu_s(bench.server)
        done = run(sidecar("replay", str(log)), bench.environment(url))
        stored = fetch(url, "SELECT count(*) FROM agent_trace_events")[0][0]
        if stored != events:
            raise RuntimeError(f"{stored} of {events} events were stored: {done.stdout}")
        if cost is not None:
            cost.ours.append(done.cpu_s * 1e6 / events)
            cost.server.append((server_cpu_s(bench.server) - before) * 1e6 / events)
    return _rate(events, done.wall_s)


def _rate(events: int, seconds: float) -> float:
    return events / seconds


class _Prepared:
    """The rows of a finished replay, in the form in which the server takes them fastest, and as Python values."""

    def __init__(self, bench: Bench, log: Path) -> None:
        self._bench = bench
        with bench.database() as url:
            run(sidecar("replay", str(log)), bench.environment(url))
            self._data = {table: run_apart(lambda t=table: _dump(url, t)) for table in TABLES}  # type: ignore[misc]
            self._events = [tuple(row) for row in fetch(url, "SELECT * FROM agent_trace_events ORDER BY event_id")]

    def copy_rate(self) -> float:
        """Events in a second when all that is left to do is COPY."""

        async def work(connection: asyncpg.Connection) -> None:
            async with connection.transaction():
                for table, data in self._data.items():
                    await connection.copy_to_table(table, source=io.BytesIO(data), format="binary")

        return self._timed(work, len(self._events))

    def executemany_rate(self, events: int) -> float:
        """Events in a second by INSERT, a thousand in a transaction."""

        async def work(connection: asyncpg.Connection) -> None:
            for at in range(0, events, 1000):
                async with connection.transaction():
                    await connection.executemany(_INSERT, self._events[at : min(at + 1000, events)])

        return self._timed(work, events)

    def _timed(self, work: Callable[[asyncpg.Connection], Awaitable[None]], events: int) -> float:
        async def measured(url: str) -> float:
            connection = await asyncpg.connect(url)
            began = time.perf_counter()
            await work(connection)
            seconds = time.perf_counter() - began
            await connection.close()
            return seconds

        with self._bench.database() as url:
            self._bench.settle()
            return _rate(events, run_apart(lambda: measured(url)))


async def _dump(url: str, table: str) -> bytes:
    connection = await asyncpg.connect(url)
    out = io.BytesIO()
    await connection.copy_from_query(f"SELECT * FROM {table}", output=out, format="binary")
    await connection.close()
    return out.getvalue()


def _without_nul(log: Path) -> Path:
    """The same lines for those who could not store them as they are: jsonb takes no NUL and no half character."""
    clean = log.with_suffix(".clean.jsonl")
    with log.open("rb") as source, clean.open("wb") as target:
        for line in source:
            target.write(line.replace(b"\\u0000", b"\\ufffd"))
    return clean


def _psql_rate(bench: Bench, log: Path, events: int) -> float:
    with bench.database() as url:
        execute(url, "CREATE TABLE lines (line jsonb NOT NULL)")
        bench.settle()
        copy = rf"\copy lines FROM '{log}' WITH (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02')"
        done = run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", copy], dict(os.environ))
    return _rate(events, done.wall_s)


def _node_rate(bench: Bench, log: Path, events: int) -> float:
    with bench.database() as url:
        bench.settle()
        done = run(
            ["node", str(_NODE_SCRIPT), url, str(log), str(events)], {**os.environ, "NODE_PATH": _node_modules()}
        )
        stored: Any = fetch(url, "SELECT count(*) FROM agent_trace_events")[0][0]
        if stored != events:
            raise RuntimeError(f"Node stored {stored} of {events}: {done.stdout}")
    return _rate(events, done.wall_s)


def _node_modules() -> str:
    """Where `pg` is, installed by npm at first use."""
    folder = TOOLS / "pg"
    if not (folder / "node_modules" / "pg").exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [
            "npm",
            "install",
            "--no-save",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--prefix",
            ".",
            "pg@8",
        ]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return str(folder / "node_modules")
