"""`run`: records what the shim sends to stdin, until stdin ends."""

import argparse
import asyncio
import os
import sys
from contextlib import suppress

from agent_trace_sidecar.config import Config, ConfigError
from agent_trace_sidecar.pipeline.run import Run
from agent_trace_sidecar.telemetry import logging as log


def arguments(_: argparse.ArgumentParser) -> None:
    """It has none: the shim starts it."""


def run(config: Config, _: argparse.Namespace) -> int:
    """Record until stdin ends or SIGTERM comes."""
    if not config.enabled:
        return 0
    _check_paths(config)
    os.umask(0o077)
    _step_back()

    async def work() -> int:
        recording = Run(config, log.logger())
        async with recording.watched():
            return await recording.run()

    code = asyncio.run(work())
    sys.stdout = None  # its reader may be gone: don't fail while flushing
    os._exit(code)  # a thread that waits for stdin for ever must not keep us


def _check_paths(config: Config) -> None:
    """The shim starts us in `/`: a relative path would lead anywhere but to where its writer meant.

    Raises:
        ConfigError: a path is relative.
    """
    for name, value in (("STATE_DIR", config.state_dir), ("REDACTION_RULES", config.redaction_rules)):
        if value and not os.path.isabs(value):  # noqa: PTH117 - a str
            raise ConfigError(f"AGENT_TRACE_{name} is {value!r}: give an absolute path.")


def _step_back() -> None:
    """Let a hook that wakes us by writing a line continue: Linux would often give its processor to the one woken."""
    if hasattr(os, "SCHED_BATCH"):
        with suppress(OSError):  # a sandbox may forbid it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
