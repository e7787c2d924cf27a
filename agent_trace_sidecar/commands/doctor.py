"""`doctor`: checks everything that recording needs, and prints what to do about what is missing.

It changes nothing. What is `wrong` keeps lines from being recorded; a `note` is worth knowing.
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, NamedTuple

import asyncpg

from agent_trace_sidecar.commands.common import CommandError, project_argument
from agent_trace_sidecar.commands.database import database_place, with_database
from agent_trace_sidecar.commands.output import say
from agent_trace_sidecar.commands.recording import Recording, look
from agent_trace_sidecar.config import Config, unknown_settings
from agent_trace_sidecar.limits import files, processes
from agent_trace_sidecar.postgres import authentication
from agent_trace_sidecar.postgres.explain import lacking, wrong
from agent_trace_sidecar.postgres.migrate import migration_files, schema_version
from agent_trace_sidecar.postgres.partitions import PARTITIONED, months

_PACKAGE: Final = "agent-trace-sidecar"
_MAX_OUTPUT_BYTES: Final = 1024 * 1024
_MAY_CREATE: Final = "SELECT coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)"
_VERSION_S: Final = 20.0
_SKEW_MAX_S: Final = 5.0
"""Times in the rows are this machine's; more than this and sessions of two machines can't be put in order."""
_FREE_MIN_BYTES: Final = 1024 * 1024 * 1024
"""What the spool may grow to during an outage of the database."""


class Check(NamedTuple):
    """One check; where it failed, the text has the remedy."""

    what: str
    state: Literal["ok", "note", "wrong"]
    text: str


def arguments(parser: argparse.ArgumentParser) -> None:
    """The project."""
    project_argument(parser)


def run(config: Config, given: argparse.Namespace) -> int:
    """Check everything that recording needs."""
    checks = [*recording(look(config, given.folder.resolve(), os.environ)), *programs(os.environ)]
    checks += [Check("settings", "note", sentence) for sentence in unknown_settings(os.environ)]
    checks += settings(enabled=config.enabled, redaction=config.redaction, log_dir=config.log_dir)
    checks += state_folder(config.state_path)
    try:
        # The embedded database is ours to create; another one is left as it is.
        checks += with_database(config, database, prepare=config.database_url is None)
    except CommandError as exc:
        checks.append(Check("database", "wrong", f"{database_place(config)}: {exc}"))
    say(*as_text(checks))
    return 1 if any(check.state == "wrong" for check in checks) else 0


def recording(found: Recording) -> Iterator[Check]:
    """Whether OpenCode, started in this folder, finds the shim, and whether that could record the last time."""
    place = found.shim.place
    if not place:
        yield Check("shim", "wrong", f"not installed in {found.project}: run `agent-trace-sidecar init` there")
    elif not found.shim.is_current:
        yield Check("shim", "note", f"{place} is of another version: run `agent-trace-sidecar init` there")
    else:
        yield Check("shim", "ok", place)
    for problem in found.problems():
        yield Check("shim", "wrong", problem)


def programs(environ: Mapping[str, str]) -> Iterator[Check]:
    """What the shim and the sidecar start."""
    found = processes.find(_PACKAGE, environ)
    if found:
        yield Check("sidecar", "ok", found)
    else:
        how = "the shim starts the one that `init` was run from; install it with `uv tool install agent-trace-sidecar`"
        yield Check("sidecar", "note", f"not on PATH: {how}")
    opencode = processes.find("opencode", environ)
    if opencode is None:
        yield Check("opencode", "note", "not on PATH here: check that it is where you start OpenCode")
    else:
        yield Check("opencode", "ok", f"{opencode} {_version(opencode)}")
    if processes.find("git", environ) is None:
        yield Check("git", "note", "not on PATH: lines changed by shell commands cannot be attributed")


def settings(*, enabled: bool, redaction: bool, log_dir: str | None) -> Iterator[Check]:
    """What was switched off."""
    if not enabled:
        yield Check("settings", "wrong", "AGENT_TRACE_ENABLED is off: nothing is recorded")
    if not redaction:
        yield Check("settings", "note", "AGENT_TRACE_REDACTION is off: secrets are stored unmasked")
    if log_dir:
        yield Check("settings", "note", f"the shim writes to {log_dir}: `agent-trace-sidecar tail {log_dir}` must run")


def state_folder(path: Path) -> Iterator[Check]:
    """Whether the spool can be written, and has room."""
    try:
        files.state_folder(path)
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(b"x")
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as exc:
        yield Check("state", "wrong", f"{path} can't be written ({exc.strerror}): set AGENT_TRACE_STATE_DIR")
        return
    free = shutil.disk_usage(path).free
    if free < _FREE_MIN_BYTES:
        yield Check(
            "state", "note", f"{path} has {free // 2**20} MiB free: an outage of the database may need 1024 MiB"
        )
    else:
        yield Check("state", "ok", str(path))


async def database(connection: asyncpg.Connection) -> list[Check]:
    """The schema's version, the clock, and the months to come."""
    server = connection.get_server_version()
    checks = [Check("database", "ok", f"PostgreSQL {server.major}.{server.minor} answers")]
    if authentication.is_readable_by_others(connection):
        why = "everybody on the way can read what is recorded: add sslmode=verify-full to the URL"
        checks.append(Check("database", "note", f"the connection has no TLS, {why}"))
    checks += [Check("database", "wrong", sentence) for sentence in await wrong(connection)]
    if sentence := await lacking(connection):
        checks.append(Check("privileges", "wrong", sentence))
    version, newest = await schema_version(connection), migration_files()[-1][0]
    if version is None and await connection.fetchval(_MAY_CREATE):
        checks.append(Check("schema", "ok", "none yet: it is created with the first event"))
        return [*checks, await _clock(connection)]
    if version != newest:
        has = f"at {version}" if version else "missing"
        checks.append(
            Check("schema", "wrong", f"{has}, this version needs {newest}: run `agent-trace-sidecar migrate`")
        )
        return [*checks, await _clock(connection)]
    checks.append(Check("schema", "ok", version))
    return [*checks, await _clock(connection), *await _months(connection), *await _stores(connection)]


async def _stores(connection: asyncpg.Connection) -> list[Check]:
    """What an upgrade of OpenCode has taken from its own store."""
    from agent_trace_sidecar.commands.stored_sessions import emptied_stores  # noqa: PLC0415 - brings SQLite with it
    from agent_trace_sidecar.opencode.store import StoreError  # noqa: PLC0415 - as above

    try:
        found = await emptied_stores(connection)
    except StoreError as exc:
        return [Check("store", "note", str(exc))]
    how = "run `agent-trace-sidecar backfill` to store them from their messages, which have fewer details"
    return [
        Check("store", "note", f"the upgrade to OpenCode 2 emptied table event of {file}; unrecorded: {left}; {how}")
        for file, left in found.items()
    ]


async def _clock(connection: asyncpg.Connection) -> Check:
    """The server's clock against ours, half-way between asking and hearing."""
    before = datetime.now(UTC)
    theirs: datetime = await connection.fetchval("SELECT clock_timestamp()")
    after = datetime.now(UTC)
    skew_s = (before + (after - before) / 2 - theirs).total_seconds()
    if abs(skew_s) > _SKEW_MAX_S:
        which = "ahead of" if skew_s > 0 else "behind"
        text = f"this machine is {abs(skew_s):.0f} s {which} the database: synchronise the clocks (NTP)"
        return Check("clock", "wrong", text)
    return Check("clock", "ok", f"{abs(skew_s):.1f} s difference to the database")


async def _months(connection: asyncpg.Connection) -> list[Check]:
    now = datetime.now(UTC)
    for table in PARTITIONED:
        if not any(month.first <= now < month.after for month in await months(connection, table)):
            why = "its rows go to the default partition, where `prune` is slower"
            return [
                Check("months", "note", f"{table} has no partition for this month: run `migrate`; until then {why}")
            ]
    return [Check("months", "ok", "this month has partitions")]


def as_text(checks: Sequence[Check]) -> list[str]:
    """One line each."""
    return [f"{check.state:<6}{check.what:<10}{check.text}" for check in checks]


def _version(program: str) -> str:
    try:
        done = processes.run(
            [program, "--version"],
            cwd=Path("/"),
            env=processes.environment(),
            timeout_s=_VERSION_S,
            max_bytes=_MAX_OUTPUT_BYTES,
        )
    except processes.ProcessError:
        return "(version unknown)"
    return done.output.decode(errors="replace").strip()[:40]
