"""A long log is masked by a process of its own: the same rows, and nothing unmasked when that process dies."""

import asyncio
import multiprocessing
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from agent_trace_sidecar import daemon, log
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.masking import MaskingDiedError, MaskingProcess
from tests.benchmarks.lines import write_log
from tests.support.postgres import PostgresServers, fetch
from tests.support.waiting import eventually

EVENTS = 13_000
"""Of 0.75 KB: a long log."""
STORED = """
SELECT count(*) AS events, md5(string_agg(md5(payload::text), '' ORDER BY event_id)) AS payloads,
       count(*) FILTER (WHERE payload ? 'redacted') AS masked
FROM agent_trace_events
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A long log."""
    path = tmp_path / "long.jsonl"
    assert write_log(path, EVENTS) > 9_000_000
    return path


@pytest.fixture
def masking(tmp_path: Path) -> Iterator[MaskingProcess]:
    """A process that masks."""
    process = MaskingProcess(partial(daemon.make_funnel, Config(state_dir=str(tmp_path))))
    yield process
    process.close()


def replay(tmp_path: Path, url: str, path: Path, masking: MaskingProcess | None = None) -> None:
    """Replay a file."""
    config = Config(database_url=url, state_dir=str(tmp_path))
    asyncio.run(daemon.replay(config, log.logger(), [path], lambda *_: None, masking=masking))


def test_the_same_rows_come_of_it(
    postgres_servers: PostgresServers, tmp_path: Path, path: Path, masking: MaskingProcess
) -> None:
    """As of a replay that masks by itself."""
    with postgres_servers.database(migrated=True) as alone, postgres_servers.database(migrated=True) as aside:
        replay(tmp_path, alone, path)
        replay(tmp_path, aside, path, masking)
        (found,) = fetch(aside, STORED)
        assert (found["events"], found["masked"] > 0) == (EVENTS, True)
        assert [found] == fetch(alone, STORED)


def test_a_replay_fails_with_its_masking_process_and_goes_on_where_it_was(
    migrated_url: str, tmp_path: Path, path: Path, masking: MaskingProcess
) -> None:
    """It does not go on with a funnel that has forgotten what the session has shown."""

    def kill() -> None:
        eventually(multiprocessing.active_children, 60, "the masking process is there")[0].kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(MaskingDiedError):
        replay(tmp_path, migrated_url, path, masking)
    killer.join()
    replay(tmp_path, migrated_url, path)
    assert fetch(migrated_url, STORED)[0]["events"] == EVENTS
