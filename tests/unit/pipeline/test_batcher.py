"""Portions of lines: what is read while the database works."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

from agent_trace_sidecar.pipeline.batcher import Reader
from agent_trace_sidecar.redaction import Redactor
from agent_trace_sidecar.sources.file_log import FileLog
from agent_trace_sidecar.sources.log import LogLine
from tests.support.envelopes import Shim


class Counted(FileLog):
    """A log that notes how many steps of other tasks had run at each read."""

    steps = 0

    def __init__(self, path: Path) -> None:
        super().__init__(path, Redactor(enabled=False))
        self.at_reads: list[int] = []

    def read(self, position: int, max_bytes: int) -> list[LogLine]:
        """As any log."""
        self.at_reads.append(self.steps)
        return super().read(position, max_bytes)


def _lines() -> Iterator[bytes]:
    shim = Shim()
    for _ in range(400):
        yield shim.event("session.idle", {"sessionID": "ses_1", "text": "x" * 1000}) + b"\n"


async def test_reading_ahead_leaves_the_statements_of_a_batch_their_turns(tmp_path: Path) -> None:
    """A statement takes some turns of the event loop; were there fewer between two slices, it would wait for both."""
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"".join(_lines()))
    with Counted(path) as log:

        async def statements() -> None:
            while True:
                await asyncio.sleep(0)
                log.steps += 1

        writing = asyncio.create_task(statements())
        await Reader(log, batch_size=50, flush_s=0.5).read_ahead(0, lambda: False)
        writing.cancel()
    turns = [later - earlier for earlier, later in zip(log.at_reads, log.at_reads[1:], strict=False)]
    assert len(turns) >= 3
    assert min(turns) >= 4
