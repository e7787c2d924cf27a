"""`replay`: stores finished logs; a replay that was stopped continues where it was."""

import argparse
import asyncio
from contextlib import closing
from pathlib import Path

from agent_trace_sidecar.commands.common import CommandError, UsageError
from agent_trace_sidecar.commands.database import command_error
from agent_trace_sidecar.commands.output import complain, say
from agent_trace_sidecar.commands.progress import Progress
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.pipeline.replay import replay
from agent_trace_sidecar.postgres.errors import StoreError
from agent_trace_sidecar.postgres.sink import FencedError
from agent_trace_sidecar.sources.plain import NotALogError
from agent_trace_sidecar.telemetry import logging as log


def arguments(parser: argparse.ArgumentParser) -> None:
    """The files."""
    parser.add_argument("files", metavar="FILE", type=Path, nargs="+", help="event log in the wire format")


def run(config: Config, given: argparse.Namespace) -> int:
    """Store the files one after the other."""
    with closing(Progress(given.files)) as progress:
        try:
            done = asyncio.run(replay(config, log.logger(), given.files, progress.update))
        except KeyboardInterrupt:
            complain("stopped. The same command resumes where it stopped.")
            return 130
        except NotALogError as exc:
            raise UsageError(str(exc)) from None
        except OSError as exc:
            raise CommandError(f"{exc.filename or 'a file'} can't be read: {exc.strerror}.") from None
        except StoreError as exc:
            raise command_error(exc.verdict) from None
        except FencedError:
            raise CommandError("another replay of the same file has taken over.") from None
    for replayed in done:
        say(replayed.sentence())
    return 0
