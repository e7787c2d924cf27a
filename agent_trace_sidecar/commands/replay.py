"""`replay`: stores finished logs; a replay that was stopped continues where it was."""

import argparse
import asyncio
from contextlib import closing
from pathlib import Path

from agent_trace_sidecar.commands.output import complain, say
from agent_trace_sidecar.commands.progress import Progress
from agent_trace_sidecar.commands.replay_jobs import replay_at_once, replay_error
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits import MOST_JOBS
from agent_trace_sidecar.pipeline.replay import replay
from agent_trace_sidecar.postgres.errors import StoreError
from agent_trace_sidecar.postgres.sink import FencedError
from agent_trace_sidecar.sources.plain import NotALogError
from agent_trace_sidecar.telemetry import logging as log


def arguments(parser: argparse.ArgumentParser) -> None:
    """The files, and how many at once."""
    parser.add_argument("files", metavar="FILE", type=Path, nargs="+", help="event log in the wire format")
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=_jobs,
        default=1,
        help="replay logs of up to N runs of OpenCode at once, each in a process of its own (default: 1)",
    )


def run(config: Config, given: argparse.Namespace) -> int:
    """Store the files; exit with the code of the first that failed."""
    with closing(Progress(given.files)) as progress:
        try:
            if given.jobs > 1 and len(given.files) > 1:
                return _at_once(config, given, progress)
            done = asyncio.run(replay(config, log.logger(), given.files, progress.update))
        except KeyboardInterrupt:
            complain("stopped. The same command resumes where it stopped.")
            return 130
        except (NotALogError, OSError, StoreError, FencedError) as exc:
            raise replay_error(exc) from None
    for replayed in done:
        say(replayed.sentence())
    return 0


def _at_once(config: Config, given: argparse.Namespace, progress: Progress) -> int:
    results = replay_at_once(config, given.files, given.jobs, progress.reached)
    progress.close()
    for result in results:
        (complain if result.code else say)(result.sentence)
    return next((result.code for result in results if result.code), 0)


def _jobs(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_JOBS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MOST_JOBS}.")
    return int(text)
