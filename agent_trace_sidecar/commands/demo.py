"""`demo`: records bundled sessions of OpenCode into an embedded Postgres, and shows on one screen what that gives.

The sessions' log, with what a sidecar observed then, and the history of the repository that they worked in are bundled;
both get a place in the state folder, which is also where the demo's database is. Running it again stores nothing twice;
after an upgrade that changed the tables it starts anew.
"""

import argparse
import asyncio
import hashlib
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg

from agent_trace_sidecar.blame.blame import Blame, blame
from agent_trace_sidecar.blame.stats import Stats, stats
from agent_trace_sidecar.commands import blame as blame_command
from agent_trace_sidecar.commands import report
from agent_trace_sidecar.commands import stats as stats_command
from agent_trace_sidecar.commands.common import PROGRAM, CommandError
from agent_trace_sidecar.commands.database import command_error, with_database, with_url
from agent_trace_sidecar.commands.init import own_command
from agent_trace_sidecar.commands.output import say
from agent_trace_sidecar.commands.uninstall import delete_state
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits import processes
from agent_trace_sidecar.limits.files import private_folder, read_part, state_folder, write_whole
from agent_trace_sidecar.opencode import wire
from agent_trace_sidecar.pipeline.replay import replay
from agent_trace_sidecar.postgres.errors import StoreError
from agent_trace_sidecar.postgres.migrate import migration_files
from agent_trace_sidecar.telemetry import logging as log

_BUNDLED: Final = (
    Path(__file__).parents[1] / "_data" / "demo",  # in the wheel
    Path(__file__).parents[2] / "tests" / "data" / "demo",  # in a checkout
)
_FILE: Final = "prices.py"
_PLACE: Final = b"/home/anna/shop"
"""Where the repository stood when the sessions were recorded."""
_GIT_S: Final = 60.0
_GIT_BYTES: Final = 1024 * 1024

_STORED: Final = """
SELECT count(*) AS events, count(DISTINCT source_id) AS runs, min(occurred_at) AS began,
       (SELECT count(*) FROM agent_trace_records) AS records
FROM agent_trace_events
"""
_MASKED: Final = r"""
SELECT count(*) AS secrets, count(DISTINCT event_id) AS events,
       (SELECT payload #>> '{input,args,command}' FROM agent_trace_events
        WHERE event_name = 'tool.execute.after' AND payload::text LIKE '%[REDACTED:%' LIMIT 1) AS command
FROM agent_trace_events, regexp_matches(payload::text, '\[REDACTED:[a-z0-9_.-]+\]', 'g')
"""
_SESSION: Final = "SELECT session_id FROM agent_trace_sessions ORDER BY started_at LIMIT 1"


class _Shown(NamedTuple):
    stored: asyncpg.Record
    masked: asyncpg.Record
    session: str
    blame: Blame
    stats: Stats


def arguments(_: argparse.ArgumentParser) -> None:
    """It has none."""


def run(config: Config, _: argparse.Namespace) -> int:
    """Record, show, and print the next commands; return the exit code."""
    folder = config.state_path / "demo"
    config = Config(
        state_dir=str(folder), pg_bin=config.pg_bin, pg_linger_s=config.pg_linger_s
    )  # all other settings are for recordings of one's own
    _start_anew_after_an_upgrade(folder)
    bundled = next(path for path in _BUNDLED if path.is_dir())
    project = folder / "shop"
    _make_repository(bundled / "repository.fast-import", project)
    events = folder / "sessions.jsonl"
    write_whole(events, (bundled / "sessions.jsonl").read_bytes().replace(_PLACE, str(project).encode()))
    try:
        asyncio.run(replay(config, log.logger(), [events], lambda *_: None, wire.observation))
    except StoreError as exc:
        raise command_error(exc.verdict) from None
    finally:
        events.unlink()  # it holds what is masked in the database
    # The embedded server is up as long as the thread works, which opens and closes connections as commands do.
    with_url(config, lambda _: asyncio.to_thread(_show, config, project))
    return 0


def _start_anew_after_an_upgrade(folder: Path) -> None:
    """Delete a demo whose tables another version created: all that it holds is bundled."""
    schema = hashlib.sha256("".join(sql for _, sql in migration_files()).encode()).hexdigest().encode()
    mark = folder / "schema"
    if read_part(mark, len(schema)) != schema:
        delete_state(folder)
        try:
            state_folder(folder)
            write_whole(mark, schema)
        except OSError as exc:
            raise CommandError(f"{folder} can't be written ({exc.strerror}): set AGENT_TRACE_STATE_DIR.") from None


def _make_repository(history: Path, project: Path) -> None:
    """Make the repository with its commits, if it is not there yet."""
    if (project / _FILE).is_file():
        return
    git = processes.find("git")
    if git is None:
        raise CommandError("the demo makes a git repository: install git.")
    shutil.rmtree(project, ignore_errors=True)  # of a demo that was interrupted
    private_folder(project)
    env = {**processes.environment(), "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    commits = history.read_bytes()
    for command, given in (("init -q -b main", b""), ("fast-import --quiet", commits), ("checkout -q main", b"")):
        try:
            done = processes.run(
                [git, *command.split()], cwd=project, env=env, given=given, timeout_s=_GIT_S, max_bytes=_GIT_BYTES
            )
        except processes.ProcessError as exc:
            raise CommandError(f"`git {command}` {exc}.") from None
        if done.code:
            raise CommandError(f"`git {command}` failed in {project}.")


def _show(config: Config, project: Path) -> None:
    """Print everything."""

    async def gathered(connection: asyncpg.Connection) -> _Shown:
        stored, masked = await connection.fetchrow(_STORED), await connection.fetchrow(_MASKED)
        assert stored is not None  # noqa: S101 - counts always give a row
        assert masked is not None  # noqa: S101 - as above
        return _Shown(
            stored,
            masked,
            await connection.fetchval(_SESSION),
            await blame(connection, project / _FILE),
            await stats(connection, [project], None, "model"),
        )

    shown = with_database(config, gathered)
    stored, masked = shown.stored, shown.masked
    say(f"{stored['runs']} runs of OpenCode: {stored['events']} events and {stored['records']} records stored.", "")
    say(f"Who wrote shop/{_FILE}:")
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    say(*blame_command.as_text(shown.blame, shown.blame.lines, colour=colour))
    say("", "AI-written lines and their cost:")
    stats_command.show(shown.stats, {})
    say(
        "",
        f"Secrets in the output of `{masked['command']}` were masked before storage: {masked['secrets']} values in "
        f"{masked['events']} events.",
    )
    say("", "Reports, for a browser:")
    for page in _pages(config, project, shown):
        say(f"  {page}")
    say("", "Next commands:")
    for command in _next_commands(config.state_path, project):
        say(f"  {command}")


def _pages(config: Config, project: Path, shown: _Shown) -> list[Path]:
    """Make the three kinds of report pages."""
    day = f"{shown.stored['began']:%Y-%m-%d}"
    kinds = {
        "repository": ["--repo", str(project)],
        "session": ["--session", shown.session],
        "period": ["--since", day],
    }
    parser = argparse.ArgumentParser()
    report.arguments(parser)
    pages = []
    for name, options in kinds.items():
        page = config.state_path / f"{name}.html"
        report.write_page(config, parser.parse_args([*options, "--output", str(page)]))
        pages.append(page)
    return pages


def _next_commands(folder: Path, project: Path) -> list[str]:
    """Commands for the user's shell: they call a script that names the demo's data, and may stand anywhere."""
    script = folder / PROGRAM
    words = " ".join(map(shlex.quote, own_command()))
    text = (
        f"#!/bin/sh\n# {PROGRAM} on the data of its demo.\n"
        f"unset DATABASE_URL AGENT_TRACE_DATABASE_URL\n"
        f'AGENT_TRACE_STATE_DIR={shlex.quote(str(folder))} exec {words} "$@"\n'
    )
    write_whole(script, text.encode(), mode=0o700)
    commands = ["sessions", "usage --by model", "export"]
    if processes.find("psql"):
        commands.append("psql -c 'SELECT title, ai_lines, cost FROM agent_trace_sessions'")
    return [f"cd {shlex.quote(str(project))}", *(f"../{PROGRAM} {command}" for command in commands)]
