"""What a daemon says of a fault that nobody awaited: where it arose, and nothing of what it held."""

import asyncio
import os
from pathlib import Path

import pytest

from agent_trace_sidecar.config import Config
from agent_trace_sidecar.pipeline.daemon import Daemon
from agent_trace_sidecar.pipeline.run import Run
from agent_trace_sidecar.pipeline.tail import Follow
from agent_trace_sidecar.telemetry.logging import logger


def _fail() -> None:
    raise ValueError("a row's content")


@pytest.mark.parametrize("kind", ["run", "tail", "replay"])
async def test_a_fault_that_nobody_awaits_is_one_log_line_without_its_text(kind: str, tmp_path: Path) -> None:
    """Asyncio would print a traceback to stderr, which may block, and with the text."""
    reading, writing = os.pipe()
    config = Config(database_url="postgresql://nobody@127.0.0.1:1/none", state_dir=str(tmp_path))
    if kind == "run":
        daemon: Daemon = Run(config, logger(fd=writing))
    elif kind == "tail":
        daemon = Follow(config, logger(fd=writing), [tmp_path])
    else:
        daemon = Daemon(config, logger(fd=writing), recorder=False)
    loop = asyncio.get_running_loop()
    loop.call_soon(_fail)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert daemon.trouble() == ""
    os.close(writing)
    with os.fdopen(reading) as said:
        text = said.read()
    assert "event=unexpected" in text
    assert "error=ValueError" in text
    assert f"{Path(__file__).name}:" in text
    assert "content" not in text
