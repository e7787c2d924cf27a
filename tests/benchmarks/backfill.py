"""Backfill of a large store: its speed and its largest resident size, also where one session is most of the store."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.harness import Bench, Row, Series, number, run, sidecar
from tests.support.postgres import fetch

GROUP: Final = "backfill"
_TABLES: Final = """
CREATE TABLE project (id text PRIMARY KEY, worktree text NOT NULL);
CREATE TABLE session (id text PRIMARY KEY, project_id text, parent_id text, directory text, title text, version text,
                      time_created integer, time_updated integer);
CREATE TABLE message (id text PRIMARY KEY, session_id text, time_created integer, data text);
CREATE TABLE part (id text PRIMARY KEY, message_id text, session_id text, time_created integer, data text);
CREATE TABLE event (id text PRIMARY KEY, aggregate_id text, seq integer, type text, data text);
CREATE UNIQUE INDEX event_aggregate_seq_idx ON event (aggregate_id, seq);
INSERT INTO project VALUES ('shop', '/home/dev/shop');
"""
_RUNNING: Final = 20
"""OpenCode publishes a running command again and again, with all of its output: most of what a store holds."""
_OUTPUT: Final = "".join(f"test_{at} passed in {at % 7}.{at % 10} s\n" for at in range(900))
_FIRST_MS: Final = 1_795_000_000_000
_TOKENS: Final = {"input": 1000, "output": 100, "reasoning": 0, "cache": {"read": 0, "write": 0}}


def rows(bench: Bench) -> Iterator[Row]:
    """The rows of this group."""
    for what, sessions in (("in 100 sessions", 100), ("in one session", 1)):
        size = bench.size(100, 2600 if sessions > 1 else 500) * 1_000_000
        store = bench.scratch / "opencode.db"
        events = make_store(store, size, sessions)
        size = store.stat().st_size
        with bench.database() as url:
            done = run(sidecar("backfill", "--store", str(store)), bench.environment(url))
            (stored,) = fetch(url, "SELECT count(*) AS n FROM agent_trace_events")
            assert stored["n"] == events
            again = run(sidecar("backfill", "--store", str(store)), bench.environment(url))
            assert "Nothing is missing" in again.stdout
        store.unlink()
        named = f"{number(size / 1e6)} MB {what}"
        yield Row(GROUP, f"backfill of {named}", Series("MB/s", (size / 1e6 / done.wall_s,)))
        peak = Series("MiB", (max(done.peak_mib, again.peak_mib),))
        yield Row(GROUP, f"peak RSS, backfill of {named}", peak, target="<= 160 MiB", reached=peak.median <= 160)


def make_store(path: Path, size: int, sessions: int, *, running: int = _RUNNING) -> int:
    """Write a store of OpenCode 1.18 of about `size` bytes; the number of events in it that a shim would send.

    Args:
        path: its file, which is not there yet.
        size: in bytes.
        sessions: into how many sessions it is divided.
        running: how often OpenCode publishes each command while it runs; the shim sends none of these.
    """
    sent = 0
    with closing(sqlite3.connect(path)) as store:
        store.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _TABLES)
        numbers = count(1)
        for session in range(sessions):
            name, began = f"ses_{session:026d}", _FIRST_MS + session * 3_600_000
            values = (name, "shop", None, "/home/dev/shop", f"Session {session}", "1.18.33", began, began)
            store.execute("INSERT INTO session VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
            written, seq = 0, 0
            for kind, data, is_sent in _events(name, began, size // sessions, running):
                text = json.dumps({"sessionID": name, **data})
                at = began + seq * 50
                own = f"evt_{(at * 4096 + next(numbers) % 4096) & 0xFFFFFFFFFFFF:012x}{next(numbers):014d}"
                store.execute("INSERT INTO event VALUES (?, ?, ?, ?, ?)", (own, name, seq, f"{kind}.1", text))
                seq, written, sent = seq + 1, written + len(text), sent + is_sent
                if seq % 1000 == 0:
                    store.commit()
            store.commit()
    return sent


def _events(session: str, began: int, size: int, running: int) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """The events of a session: one long command after the other."""
    yield "session.created", {"info": {"id": session, "directory": "/home/dev/shop", "title": "x"}}, True
    for turn in range(max(1, size // ((1 + running) * len(_OUTPUT)))):
        message = f"msg_{session[-8:]}{turn:018d}"
        at = began + turn * 1000
        info: dict[str, Any] = {"id": message, "sessionID": session, "role": "assistant", "time": {"created": at}}
        info |= {"providerID": "fake", "modelID": "m1", "path": {"cwd": "/home/dev/shop", "root": "/home/dev/shop"}}
        yield "message.updated", {"info": info}, True
        part = {"sessionID": session, "messageID": message}
        yield "message.part.updated", {"part": {**part, "id": f"prt_a{message}", "type": "step-start"}}, True
        tool = {**part, "id": f"prt_b{message}", "type": "tool", "tool": "bash", "callID": f"call_{turn}"}
        given: dict[str, Any] = {"input": {"command": "make test"}}
        yield "message.part.updated", {"part": {**tool, "state": {**given, "status": "pending"}}}, True
        for lap in range(running):
            shown = {**given, "status": "running", "metadata": {"output": _OUTPUT[: len(_OUTPUT) * (lap + 1) // 10]}}
            yield "message.part.updated", {"part": {**tool, "state": shown}}, False
        ended = {"output": _OUTPUT, "title": "make test", "time": {"start": at, "end": at + 900}, "metadata": {}}
        yield "message.part.updated", {"part": {**tool, "state": {**given, "status": "completed", **ended}}}, True
        finish = {**part, "id": f"prt_c{message}", "type": "step-finish", "tokens": _TOKENS, "cost": 0.01}
        yield "message.part.updated", {"part": finish}, True
        yield "message.updated", {"info": {**info, "time": {"created": at, "completed": at + 950}}}, True
