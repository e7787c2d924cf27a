"""The processor time of `blame` of a file with 5,000 lines and of `status`, the server's included, as the store grows.

The file has 200 recorded calls with a person's changes between them, and another one 1,500, that is 3,000 ranges. The
rest of the store belongs to a thousand other repositories, which have a file of the same path, and to other files of
this one. Beside it that of `stats` in a repository of 2,000 files, of which half have recorded calls that also took
lines away.
"""

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final
from uuid import UUID, uuid5

import asyncpg

from agent_trace_sidecar.records.fingerprints import line_hashes, line_keys, packed_tokens
from agent_trace_sidecar.records.rows import FileStateRow, RangeRow
from tests.benchmarks.harness import Bench, Row, run, say, server_cpu_s, sidecar
from tests.support.attributed import run_git
from tests.support.postgres import execute

LINES: Final = 5000
CALLS: Final = 200
RANGES_OF_A_CALL: Final = 2
PATH: Final = "src/large.py"
BUSY_CALLS: Final = 1500
BUSY_PATH: Final = "src/busy.py"
_AT_ONCE: Final = 500_000
_START: Final = datetime(2026, 1, 1, tzinfo=UTC)
_SOURCE: Final = UUID(int=1)
_TARGET_S: Final = 1.0
_FILES: Final = 2000
_STATS_TARGET_S: Final = 5.0
_GROWTH: Final = 1.3
"""How many times as long blame may take when the store has ten times as many rows: a logarithm's growth, and noise."""

# Rows of others: half a thousand bytes of hashes for each state, eight keys. Ranges per state: two.
_OTHERS: Final = (
    """
    INSERT INTO agent_trace_file_states (source_id, record_id, recorded_at, project, worktree, path, kind,
                                         before_hashes, after_hashes, line_keys)
    SELECT md5((i / 5000)::text)::uuid, md5(i::text)::uuid, timestamptz '2026-01-01' + i * interval '1 second',
           'project' || i % 1000,
           '/w' || i % 1000,
           CASE WHEN i % 50 = 0 THEN 'src/large.py' ELSE 'src/file' || i % 997 || '.py' END, 'update',
           decode(repeat(md5(i::text), 16), 'hex'), decode(repeat(md5(i::text), 16), 'hex'),
           ARRAY(SELECT (random() * 9e18)::bigint FROM generate_series(1, 8 + i % 2))
    FROM generate_series({first}, {last}) AS i
    """,
    """
    INSERT INTO agent_trace_ranges (source_id, record_id, recorded_at, ordinal, path, start_line, end_line, contributor,
                                    model_id, session_id, method, message_id, call_id, tool, project, line_hashes,
                                    line_tokens)
    SELECT md5((i / 5000)::text)::uuid, md5(i::text)::uuid, timestamptz '2026-01-01' + i * interval '1 second', n,
           CASE WHEN i % 50 = 0 THEN 'src/large.py' ELSE 'src/file' || i % 997 || '.py' END, 10 * n, 10 * n + 7, 'ai',
           'anthropic/claude-x', 'ses_' || i / 40, 'snapshot', 'msg_' || i / 4, 'call_' || i, 'edit',
           'project' || i % 1000,
           decode(repeat(md5(i::text), 4), 'hex'), decode(repeat(md5(i::text), 4), 'hex')
    FROM generate_series({first}, {last}) AS i, generate_series(1, 2) AS n
    """,
)

_RECORDS: Final = """
INSERT INTO agent_trace_records (source_id, record_id, recorded_at, event_id, session_id, spec_version, tool_name,
                                 tool_version, contributor, record)
SELECT source_id, record_id, recorded_at, record_id, 'ses', '0.1.0', 'opencode', '1', 'ai', jsonb_build_object(
           'metadata', jsonb_build_object('io.opencode.deleted', jsonb_build_array(
               jsonb_build_object('path', path, 'start_line', 21, 'end_line', 30))))
FROM agent_trace_file_states
"""
"""One record of a session for each state, which took ten lines away."""


def rows(bench: Bench) -> Iterator[Row]:
    """Blame and status with a small store, and with larger ones."""
    sizes = (10_000, 100_000) if bench.quick else (1_000_000, 10_000_000)
    root = bench.scratch / "blamed"
    with bench.database() as small, bench.database() as large:
        asyncio.run(_own_files((small, large), root))
        for url, size in zip((small, large), sizes, strict=True):
            _fill(url, size // RANGES_OF_A_CALL)
        questions: tuple[tuple[str, tuple[str | Path, ...]], ...] = (
            (f"blame of {LINES:,} lines", ("blame", root / PATH)),
            (f"blame of {LINES:,} lines with {BUSY_CALLS * RANGES_OF_A_CALL:,} ranges", ("blame", root / BUSY_PATH)),
            ("status", ("status",)),
        )
        for what, arguments in questions:
            found = bench.alternate(
                "s",
                {
                    "large": partial(_cpu_s, bench, large, arguments),
                    "small": partial(_cpu_s, bench, small, arguments),
                },
            )
            ours, other = found["large"], found["small"]
            ratio = ours.median / other.median
            yield Row(
                "blame",
                f"{what}, {sizes[1]:,} ranges stored, processor time",
                ours,
                f"{sizes[0]:,} ranges stored",
                other,
                ratio,
                f"<= {_TARGET_S:g} s, x{_GROWTH}",
                ratio <= _GROWTH and ours.median <= _TARGET_S,
            )

    with bench.database() as url:
        root = bench.scratch / "counted"
        asyncio.run(_many_files(url, root))
        found = bench.alternate("s", {"stats": lambda: _cpu_s(bench, url, ("stats", root))})
        ours = found["stats"]
        what = f"stats of {_FILES:,} files, processor time"
        target = f"<= {_STATS_TARGET_S:g} s"
        yield Row("blame", what, ours, "the target", None, None, target, ours.median <= _STATS_TARGET_S)


def _cpu_s(bench: Bench, url: str, arguments: Sequence[str | Path]) -> float:
    """Of a command and of the server."""
    command, *rest = map(str, arguments)
    before = server_cpu_s(bench.server)
    ran = run([*sidecar(command), "--json", *rest], bench.environment(url))
    return ran.cpu_s + server_cpu_s(bench.server) - before


def _fill(url: str, states: int) -> None:
    """Add rows of others; their keys are indexed at once, which is quicker than one by one."""
    began = time.monotonic()
    columns = "USING gin (line_keys) WITH (gin_pending_list_limit = 64)"
    index = f"CREATE INDEX agent_trace_file_states_keys ON agent_trace_file_states {columns}"
    execute(url, "DROP INDEX agent_trace_file_states_keys")
    for first in range(1, states + 1, _AT_ONCE):
        last = min(states, first + _AT_ONCE - 1)
        execute(url, *(one.format(first=first, last=last) for one in _OTHERS))
    execute(url, index)
    execute(url, "VACUUM ANALYZE agent_trace_file_states", "VACUUM ANALYZE agent_trace_ranges")
    say(f"  {states * RANGES_OF_A_CALL:,} ranges after {time.monotonic() - began:.0f} s")


async def _own_files(urls: Sequence[str], root: Path) -> None:
    """Make the two files, as they grew by calls and by hand: the second one by rewriting what was there."""
    (root / PATH).parent.mkdir(parents=True)
    run_git(root, "init", "-q")
    (root / "first").write_text("first\n")
    run_git(root, "add", "-A")
    run_git(root, "commit", "-qm", "first")
    project = run_git(root, "rev-parse", "HEAD")
    for path, calls, replaced in ((PATH, CALLS, 0), (BUSY_PATH, BUSY_CALLS, 5)):
        chance = random.Random(5)  # noqa: S311 - the same file every time
        text = [b"    human_%d = compute(%d, name)" % (n, n) for n in range(LINES - (0 if replaced else calls * 12))]
        states: list[FileStateRow] = []
        ranges: list[RangeRow] = []
        for call in range(calls):
            for _ in range(2):
                at = chance.randrange(len(text))
                text[at : at + (replaced > 0)] = [b"    by_hand = %d" % chance.getrandbits(40)]
            before, spans = line_hashes(text), []
            for start in sorted(chance.sample(range(0, len(text) - 20, 20), RANGES_OF_A_CALL)):
                own = [b"    written_%d = call(by, model=%d)" % (chance.getrandbits(40), n) for n in range(5)]
                text[start : start + replaced] = own
                spans.append((start + 1, own))
            vectors = before, line_hashes(text)
            state, own_ranges = _record(call, (project, str(root)), vectors, spans, path)
            states.append(state)
            ranges += own_ranges
        (root / path).write_bytes(b"\n".join(text) + b"\n")
        run_git(root, "add", "-A")
        for url in urls:
            await _store(url, states, ranges)


async def _store(url: str, states: Sequence[FileStateRow], ranges: Sequence[RangeRow]) -> None:
    connection = await asyncpg.connect(url, statement_cache_size=0)
    await connection.copy_records_to_table("agent_trace_file_states", columns=FileStateRow._fields, records=states)
    await connection.copy_records_to_table("agent_trace_ranges", columns=RangeRow._fields, records=ranges)
    await connection.close()


async def _many_files(url: str, root: Path) -> None:
    """Make a repository of 2,000 files, and the records of calls that added lines to every second of them."""
    (root / "src").mkdir(parents=True)
    run_git(root, "init", "-q")
    chance = random.Random(6)  # noqa: S311 - the same files every time
    text = {
        f"src/part{n % 40}/file{n}.py": [
            b"    human_%d = compute(%d, name)" % (chance.getrandbits(40), n) for n in range(60)
        ]
        for n in range(_FILES)
    }
    for path, lines in text.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"\n".join(lines) + b"\n")
    run_git(root, "add", "-A")
    run_git(root, "commit", "-qm", "first")
    project = run_git(root, "rev-parse", "HEAD")
    states: list[FileStateRow] = []
    ranges: list[RangeRow] = []
    for call, (path, lines) in enumerate(list(text.items())[::2]):
        own = [b"    written_%d = call(by, model=%d)" % (chance.getrandbits(40), n) for n in range(10)]
        after = [*lines[:20], *own, *lines[30:]]
        (root / path).write_bytes(b"\n".join(after) + b"\n")
        vectors = line_hashes(lines), line_hashes(after)
        state, own_ranges = _record(call, (project, str(root)), vectors, [(21, own)], path)
        states.append(state)
        ranges += own_ranges
    run_git(root, "commit", "-qam", "written")
    await _store(url, states, ranges)
    execute(url, _RECORDS, "ANALYZE")


def _record(
    call: int,
    place: tuple[str, str],
    vectors: tuple[bytes, bytes],
    spans: list[tuple[int, list[bytes]]],
    path: str = PATH,
) -> tuple[FileStateRow, list[RangeRow]]:
    """The rows of one call; the place is project and worktree."""
    project, worktree = place
    ranges: list[RangeRow] = []
    record_id, at = uuid5(_SOURCE, f"{path} {call}"), _START + timedelta(minutes=call)
    for start, own in spans:
        ranges.append(
            RangeRow(
                _SOURCE, record_id, at, len(ranges), project, worktree, path, start, start + len(own) - 1, None, "ai",
                "anthropic/claude-x", "ses", "msg", f"call_{call}", "edit", "snapshot", line_hashes(own),
                packed_tokens(own),
            )
        )  # fmt: skip
    written = [line for _, own in spans for line in own]
    keys = line_keys(project, line_hashes(written), packed_tokens(written))
    return FileStateRow(_SOURCE, record_id, at, project, worktree, path, None, "update", *vectors, keys), ranges
