"""`python -m tests.benchmarks.against COMMIT`: processor time per event of a replay, beside another commit.

Both replay the same log, in turn, each into a database of its own that its own `migrate` made. The other commit is
checked out into a temporary folder, and runs with the packages of this one.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

from tests.benchmarks.__main__ import table
from tests.benchmarks.harness import (
    ROOT,
    Bench,
    Row,
    Series,
    header,
    number,
    run,
    say,
    server_cpu_s,
    sidecar,
    with_database_of,
)
from tests.benchmarks.lines import write_log
from tests.support.postgres import PostgresServers, execute, fetch, guarded_folder

GROUP: Final = "against"
_MOST: Final = {"sidecar": 0.45, "Postgres": 0.85}
_OPTIONS: Final = {"as set": {}, "redaction off": {"AGENT_TRACE_REDACTION": "off"}}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.against", description=__doc__)
    parser.add_argument("commit", help="what to compare with")
    parser.add_argument("--events", type=int, default=100_000, help="of the log (default 100000)")
    parser.add_argument("--rounds", type=int, default=5, help="of each (default 5)")
    given = parser.parse_args()
    with guarded_folder() as scratch, _checkout(given.commit, scratch / "other") as other:
        bench = Bench(given.events < 100_000, given.rounds, scratch, PostgresServers(scratch))
        log = scratch / "log.jsonl"
        write_log(log, given.events)
        trees = {"this": ROOT, given.commit: other}
        rows = [row for what, options in _OPTIONS.items() for row in _rows(bench, log, trees, what, options)]
        print(table(header(bench), rows))
    return 0


@contextmanager
def _checkout(commit: str, folder: Path) -> Iterator[Path]:
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(folder), commit], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def _rows(bench: Bench, log: Path, trees: Mapping[str, Path], what: str, options: Mapping[str, str]) -> Iterator[Row]:
    events = log.read_bytes().count(b"\n")
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in trees}
    for tree in trees.values():
        _replay(bench, log, events, tree, options)  # makes caches, as the first start of a version does
    names = list(trees)
    for turn in range(bench.rounds):
        for name in names[turn % 2 :] + names[: turn % 2]:
            found[name].append(_replay(bench, log, events, trees[name], options))
            say(f"  {what}, {name}: {', '.join(map(number, found[name][-1]))} us per event (sidecar, Postgres, clock)")
    ours, theirs = (found[name] for name in names)
    for at, part in enumerate(("sidecar", "Postgres", "clock")):
        one, other = (Series("us", tuple(times[at] for times in series)) for series in (ours, theirs))
        ratio, most = one.median / other.median, _MOST.get(part) if not options else None
        measured = f"replay of {number(events)} events, {what}: {part} per event"
        reached = ratio <= most if most else None
        yield Row(GROUP, measured, one, names[1], other, ratio, f"<= {most}" if most else "", reached)


def _replay(bench: Bench, log: Path, events: int, tree: Path, options: Mapping[str, str]) -> tuple[float, float, float]:
    """Microseconds per event: of our processor time, of the server's, and of the clock."""
    name = f"b_{uuid4().hex[:12]}"
    execute(bench.server.url, f"CREATE DATABASE {name}")
    url = with_database_of(bench.server.url, name)
    try:
        env = {**bench.environment(url), "PYTHONPATH": str(tree), **options}
        env["AGENT_TRACE_STATE_DIR"] = str(bench.scratch / f"state-{tree.name}")
        run(sidecar("migrate"), env, cwd=tree)
        bench.settle()
        before = server_cpu_s(bench.server)
        done = run(sidecar("replay", str(log)), env, cwd=tree)
        server_s = server_cpu_s(bench.server) - before
        if fetch(url, "SELECT count(*) FROM agent_trace_events")[0][0] != events:
            raise RuntimeError(f"not all events were stored: {done.stdout}")
    finally:
        execute(bench.server.url, f"DROP DATABASE {name} WITH (FORCE)")
    return done.cpu_s * 1e6 / events, server_s * 1e6 / events, done.wall_s * 1e6 / events


if __name__ == "__main__":
    sys.exit(main())
