"""`backfill`: sessions that OpenCode remembers and the sidecar has not recorded, out of OpenCode's own store."""

import argparse
import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path

import asyncpg

from agent_trace_sidecar.commands.chosen import moment
from agent_trace_sidecar.commands.common import CommandError
from agent_trace_sidecar.commands.database import CONNECTION_ERRORS, command_error
from agent_trace_sidecar.commands.output import complain, say, say_json
from agent_trace_sidecar.commands.progress import Counting
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits.files import open_regular
from agent_trace_sidecar.limits.text import counted
from agent_trace_sidecar.opencode.store import ExportedSession, SessionSource, Store, StoreError, Wanted
from agent_trace_sidecar.opencode.store_files import store_files
from agent_trace_sidecar.pipeline.backfill import Backfill, Filled, Progress
from agent_trace_sidecar.postgres.errors import StoreError as DatabaseError
from agent_trace_sidecar.postgres.errors import verdict
from agent_trace_sidecar.postgres.sink import FencedError
from agent_trace_sidecar.sources.forms import HEAD_BYTES, REMEDY, Form, form_of
from agent_trace_sidecar.telemetry import logging as log


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which sessions, and from where."""
    chosen_arguments(parser)
    parser.add_argument("files", metavar="FILE", type=Path, nargs="*", help="a file written by `opencode export ID`")
    parser.add_argument("--dry-run", action="store_true", help="only report what is missing")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def chosen_arguments(parser: argparse.ArgumentParser) -> None:
    """Which sessions of which store."""
    parser.add_argument("--since", metavar="AGE", help="only sessions used since, e.g. 30d, 36h or 2026-01-31")
    parser.add_argument("--session", metavar="ID", help="only this session, with its subagents")
    parser.add_argument("--project", metavar="DIR", type=Path, help="only sessions of this folder and those below it")
    parser.add_argument(
        "--store", metavar="FILE", type=Path, action="append", help="OpenCode's database (default: all on this machine)"
    )


def run(config: Config, given: argparse.Namespace) -> int:
    """Store what is missing."""
    chosen = wanted(given)
    with ExitStack() as opened:
        sources = [*opened_stores(given, opened, needed=not given.files), *map(exported, given.files)]
        done = asyncio.run(_fill(config, sources, chosen, dry_run=given.dry_run))
    _print(done, given)
    complain_of(done.waiting)
    return 1 if done.waiting else 0


def complain_of(waiting: Sequence[str]) -> None:
    """Name the sessions that were left out."""
    for session_id in waiting:
        complain(
            f"{session_id} was left out: a sidecar on this machine has events of it that are not in the database yet; "
            "backfill would store them twice. Run it again when `agent-trace-sidecar status` shows none waiting."
        )


def wanted(given: argparse.Namespace) -> Wanted:
    """The sessions that the arguments choose.

    Raises:
        UsageError: the time is none.
    """
    return Wanted(
        moment("--since", given.since), given.session, str(given.project.resolve()) if given.project else None
    )


def opened_stores(given: argparse.Namespace, opened: ExitStack, *, needed: bool) -> list[SessionSource]:
    """The stores named by the options, or those of this machine; `opened` closes them.

    Raises:
        CommandError: there is none although one is needed, or one can't be read.
    """
    files = given.store or (store_files(os.environ) if needed else [])
    if needed and not files:
        raise CommandError("OpenCode has no database on this machine; name it with --store, or set XDG_DATA_HOME.")
    try:
        return [opened.enter_context(Store(file)) for file in files]
    except StoreError as exc:
        raise CommandError(str(exc)) from None


def exported(file: Path) -> SessionSource:
    """The file of an export.

    Raises:
        CommandError: it can't be read, or is something else.
    """
    try:
        with open_regular(file) as head:
            form = form_of(head.read(HEAD_BYTES))
        if form is Form.SQLITE:
            return Store(file)
        if form is not None and form is not Form.EXPORT:
            raise CommandError(f"{file} is {form.value}; {REMEDY[form]}.")
        return ExportedSession(file)
    except StoreError as exc:
        raise CommandError(str(exc)) from None
    except OSError as exc:
        raise CommandError(f"{file} can't be read: {exc.strerror}.") from None


@asynccontextmanager
async def filling(config: Config) -> AsyncIterator[tuple[Backfill, asyncpg.Connection]]:
    """What fills up, and a connection for looking up what is stored; its errors become sentences."""
    backfill = Backfill(config, log.logger())
    try:
        connection = await backfill.connect()
        try:
            yield backfill, connection
        finally:
            connection.terminate()
    except StoreError as exc:
        raise CommandError(str(exc)) from None
    except DatabaseError as exc:
        raise command_error(exc.verdict) from None
    except CONNECTION_ERRORS as exc:
        raise command_error(verdict(exc)) from None
    except FencedError:
        raise CommandError("another backfill of the same session has taken over.") from None
    finally:
        await backfill.close()


async def _fill(config: Config, sources: Sequence[SessionSource], chosen: Wanted, *, dry_run: bool) -> Filled:
    done: list[Filled] = []
    with closing(Counting("backfill")) as counting:
        async with filling(config) as (backfill, connection):
            for source in sources:
                found = await backfill.fill(
                    connection, source, chosen, dry_run=dry_run, progress=lambda at: _show(counting, at)
                )
                done.append(found)
    return _sum(done)


def _show(counting: Counting, at: Progress) -> None:
    counting.update("sessions", at.done, at.total)


def _sum(done: Sequence[Filled]) -> Filled:
    kinds = Counter[str]()
    for one in done:
        kinds.update(dict(one.kinds))
    return Filled(
        sum(one.sessions for one in done),
        sum(one.changed for one in done),
        sum(one.events for one in done),
        tuple(sorted(kinds.items())),
        tuple(dict.fromkeys(name for one in done for name in one.waiting)),
        sum(one.denied for one in done),
    )


def _print(done: Filled, given: argparse.Namespace) -> None:
    if given.json:
        say_json(json.dumps({**done._asdict(), "kinds": dict(done.kinds), "dry_run": given.dry_run}))
        return
    say(*_sentences(done, dry_run=given.dry_run))


def denied_sentence(number: int) -> str:
    """Report how many sessions are left out on purpose."""
    return f"Left out: {counted(number, 'session')} of repositories that AGENT_TRACE_REPOSITORIES denies."


def _sentences(done: Filled, *, dry_run: bool) -> Iterator[str]:
    if done.denied:
        yield denied_sentence(done.denied)
    if not done.events and not done.waiting:
        yield f"Nothing is missing in {counted(done.sessions, 'session')}."
        return
    kinds = ", ".join(f"{count} {kind}" for kind, count in done.kinds)
    verb = "would be stored" if dry_run else "stored"
    events, changed = counted(done.events, "event"), counted(done.changed, "session")
    yield f"{events} of {changed} {verb} ({kinds}); read: {counted(done.sessions, 'session')}."
