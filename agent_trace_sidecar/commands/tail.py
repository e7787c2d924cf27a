"""`tail`: follows logs that others write, through rotation, until SIGTERM."""

import argparse
import asyncio
import os
from pathlib import Path

from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits import TAIL_KEEP_S
from agent_trace_sidecar.pipeline.tail import Follow
from agent_trace_sidecar.telemetry import logging as log


def arguments(parser: argparse.ArgumentParser) -> None:
    """The paths, and what happens to stored files."""
    parser.add_argument("paths", metavar="PATH", type=Path, nargs="+", help="a folder of .jsonl files, or a file")
    parser.add_argument("--remove-shipped", action="store_true", help="remove files that are closed and stored")
    parser.add_argument(
        "--keep-seconds",
        metavar="N",
        type=float,
        default=TAIL_KEEP_S,
        help="with --remove-shipped: keep a stored file for N seconds (default %(default)s)",
    )
    parser.add_argument(
        "--worktree-root",
        metavar="DIR",
        type=Path,
        action="append",
        default=[],
        help="read only repositories below this folder; repeatable "
        "(default: those that you own, for log files that you own)",
    )


def run(config: Config, given: argparse.Namespace) -> int:
    """Follow the logs until SIGTERM."""
    os.umask(0o077)
    logger = log.logger()
    paths = given.paths if config.enabled else []
    if not config.enabled:  # in a pod nothing would start after a sidecar that ends
        logger.warning("recording_disabled", setting="AGENT_TRACE_ENABLED")

    async def work() -> int:
        keep_s = max(0.0, given.keep_seconds)
        following = Follow(
            config,
            logger,
            paths,
            worktree_roots=given.worktree_root,
            remove_shipped=given.remove_shipped,
            keep_s=keep_s,
        )
        async with following.watched():
            return await following.run()

    return asyncio.run(work())
