"""Fifty sidecars on one server through PgBouncer, beside a single one that gets all of their lines."""

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Final
from urllib.parse import parse_qs, quote, urlsplit
from uuid import uuid4

from agent_trace_sidecar.postgres.embedded.binaries import server_identity
from tests.benchmarks.harness import Bench, Row
from tests.benchmarks.live import Sidecar, numbered, ready, running
from tests.support.opencode import killed_after
from tests.support.postgres import fetch
from tests.support.waiting import eventually

GROUP: Final = "fleet"
SIDECARS: Final = 50
_RATE: Final = 1000
"""Lines a second, of all together: 50 agents at work."""
_copies = count(50_000_000, 1_000_000)


def rows(bench: Bench) -> Iterator[Row]:
    """The row of this group."""
    events = bench.size(10_000, 60_000)
    with bench.database() as url, running(bench, url) as one:
        ready(one, numbered(uuid4(), 1, 0)[0])  # makes the rules' cache, which each of the fleet gets a copy of
        one.end()
    found = bench.alternate(
        "events/s", {"fleet": lambda: _rate(bench, SIDECARS, events), "one": lambda: _rate(bench, 1, events)}
    )
    ours, other = found["fleet"], found["one"]
    ratio = ours.median / other.median
    what = f"{SIDECARS} sidecars through PgBouncer, {_RATE} lines/s in all"
    yield Row(GROUP, what, ours, "one sidecar", other, ratio, ">= 0.95", ratio >= 0.95)


def _rate(bench: Bench, sidecars: int, events: int) -> float:
    """Events in a second from the first line sent to the last row visible; every row must have come."""
    each = events // sidecars
    with bench.database() as url, pgbouncer(bench, url) as pooled, ExitStack() as stack:
        feeds = [numbered(uuid4(), each, next(_copies)) for _ in range(sidecars)]
        ones = []
        for number in range(sidecars):
            state = bench.scratch / f"fleet-{next(_copies)}"
            shutil.copytree(bench.scratch / "state", state, ignore=shutil.ignore_patterns("spool"), dirs_exist_ok=True)
            ones.append(stack.enter_context(running(bench, pooled, AGENT_TRACE_STATE_DIR=str(state))))
            if number % 5 == 4:
                _started(ones, feeds)
        _started(ones, feeds)
        began = time.perf_counter()
        threads = [
            threading.Thread(target=_feed, args=(*pair, _RATE / sidecars)) for pair in zip(ones, feeds, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        eventually(lambda: _stored(url) >= each * sidecars, 120, "every row is there")
        seconds = time.perf_counter() - began
        if _stored(url) != each * sidecars:
            raise RuntimeError("more rows than lines")
    return (each - 1) * sidecars / seconds


def _started(ones: list[Sidecar], feeds: list[list[bytes]]) -> None:
    for one, feed in zip(ones, feeds, strict=False):
        if not one.acked:
            ready(one, feed[0])


def _stored(url: str) -> int:
    stored: int = fetch(url, "SELECT count(*) FROM agent_trace_events")[0][0]
    return stored


def _feed(one: Sidecar, feed: list[bytes], rate: float) -> None:
    due = time.perf_counter()
    for line in feed[1:]:
        due += 1 / rate
        if (left := due - time.perf_counter()) > 0:
            threading.Event().wait(left)
        one.send(line)


@contextmanager
def pgbouncer(bench: Bench, url: str) -> Iterator[str]:
    """A pooler in transaction mode in front of the server; its URL."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise RuntimeError("pgbouncer is not installed")
    parts = urlsplit(url.replace("@/", "@socket/"))
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    folder = bench.scratch / f"pgb{next(_copies)}"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)  # pgbouncer gives root's rights up
    port = query["port"]
    (folder / "users.txt").write_text(f'"{parts.username}" ""\n')
    (folder / "pgbouncer.ini").write_text(
        "[databases]\n"
        f"* = host={query['host']} port={port}\n"
        "[pgbouncer]\n"
        f"unix_socket_dir = {folder}\nlisten_port = {port}\nlisten_addr =\n"
        f"auth_type = trust\nauth_file = {folder}/users.txt\n"
        "pool_mode = transaction\nmax_client_conn = 300\ndefault_pool_size = 10\n"
        "ignore_startup_parameters = extra_float_digits\n"
    )
    command = [program, str(folder / "pgbouncer.ini")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*server_identity().prefix, *command], stdout=log, stderr=log, cwd="/", start_new_session=True
        )
    with process, killed_after(process.pid):
        eventually((folder / f".s.PGSQL.{port}").exists, 10, "pgbouncer listens")
        yield f"postgresql://{parts.username}@{parts.path}?host={quote(str(folder), safe='')}&port={port}"
