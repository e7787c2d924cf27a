"""The command `report`: one HTML file that shows a repository, a session or a span of time, or a site of them."""

import argparse
import re
from collections.abc import Callable, Coroutine
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import asyncpg

from agent_trace_sidecar.commands.chosen import check_recorded, moment, session_of
from agent_trace_sidecar.commands.common import PROGRAM, CommandError, UsageError
from agent_trace_sidecar.commands.database import with_database
from agent_trace_sidecar.commands.output import say
from agent_trace_sidecar.commands.progress import Counting
from agent_trace_sidecar.commands.site import SiteOptions, write_site
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits.files import write_whole
from agent_trace_sidecar.pipeline.daemon import make_redactor
from agent_trace_sidecar.redaction import Redactor
from agent_trace_sidecar.report import repository, session, since
from agent_trace_sidecar.report.page import Page, render
from agent_trace_sidecar.report.repository import Progress, ReportError
from agent_trace_sidecar.report.repository_page import repository_page
from agent_trace_sidecar.report.session_page import session_page
from agent_trace_sidecar.report.since_page import since_page
from agent_trace_sidecar.workspace.checkout import CheckoutError

T = TypeVar("T")

_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]+")
_ANY_SINCE: Final = "SELECT EXISTS (SELECT FROM agent_trace_events WHERE occurred_at >= $1)"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to show, and where to write it."""
    parser.add_argument(
        "--session",
        metavar="SESSION",
        help="a session with its subagents, as a time line: its id, a part of it, or latest",
    )
    parser.add_argument(
        "--since", metavar="AGE", help="report on a period, e.g. 30d; --repo adds a checkout recorded elsewhere"
    )
    parser.add_argument("--repo", metavar="DIR", type=Path, help="a repository: who wrote the lines of each file")
    parser.add_argument("--rev", metavar="REV", help="with --repo: this revision (default: the working tree)")
    parser.add_argument(
        "--path", metavar="PATH", action="append", help="with --repo: only this file or folder, from its root"
    )
    parser.add_argument(
        "--output", metavar="FILE", type=Path, help="output file (default: a name derived from the subject)"
    )
    parser.add_argument(
        "--site",
        metavar="DIR",
        type=Path,
        help="a folder of linked pages of all sessions, repositories and periods; run again, it updates what changed",
    )
    parser.add_argument("--metadata-only", action="store_true", help="leave out code, prompts, outputs and titles")


def run(config: Config, given: argparse.Namespace) -> int:
    """Make a page, write it, and print its path."""
    if given.site is not None:
        _run_site(config, given)
        return 0
    output, size, page = write_page(config, given)
    say(f"{output}  {size / 1e6:.1f} MB  {page.title}", *(f"  {note}" for note in page.notes))
    return 0


def write_page(config: Config, given: argparse.Namespace) -> tuple[Path, int, Page]:
    """Make a page and write it; where it is, and its bytes.

    Raises:
        CommandError: it can't be made or written.
    """
    _check(given)
    output: Path = given.output or Path(f"agent-trace-{_name(given)}.html")
    with closing(Counting("report")) as progress:
        page = _page(config, given, progress.update)
    return output, _write(output, render(page, datetime.now(UTC))), page


def _run_site(config: Config, given: argparse.Namespace) -> None:
    """Bring a site up to date, and print what was made."""
    _check(given)
    redactor = make_redactor(config)
    folder = given.repo.resolve() if given.repo is not None else None
    contents = not given.metadata_only
    options = SiteOptions(given.site.absolute(), folder, contents, _mask(redactor), redactor.version, datetime.now(UTC))
    with closing(Counting("report")) as progress:
        done = _with_database(config, lambda connection: write_site(connection, options, progress.update))
    pages = (
        f"{done.made} {'page' if done.made == 1 else 'pages'} made, {done.unchanged} unchanged, {done.removed} removed"
    )
    say(f"{given.site / 'index.html'}  {pages}", *(f"  {note}" for note in done.notes))


def _check(given: argparse.Namespace) -> None:
    """Reject options that exclude each other before the database is read."""
    chosen = [name for name in ("repo", "session", "since", "site") if getattr(given, name) is not None]
    if chosen not in (["repo"], ["session"], ["since"], ["site"], ["repo", "since"], ["repo", "site"]):
        raise UsageError(
            "choose what to show: --repo DIR, --session ID, --since AGE or --site DIR (the last two optionally with "
            "--repo DIR)."
        )
    if given.site is not None and given.output is not None:
        raise UsageError("--site names the folder to write: leave out --output.")
    if chosen != ["repo"] and (given.rev is not None or given.path):
        raise UsageError("--rev and --path require --repo without --since and --site.")
    if given.since is not None:
        _first_day(given.since)
    if given.output is not None and given.output.is_dir():
        raise UsageError(f"{given.output} is a folder: name a file with --output.")
    if given.repo is not None and not given.repo.is_dir():
        raise CommandError(f"{given.repo} is not a folder.")


def _first_day(text: str) -> datetime:
    """The beginning of the period's first day (UTC)."""
    return moment("--since", text).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _page(config: Config, given: argparse.Namespace, progress: Progress) -> Page:
    contents = not given.metadata_only
    folder = given.repo.resolve() if given.repo is not None else None
    mask = _mask(make_redactor(config))

    async def work(connection: asyncpg.Connection) -> Page:
        if given.session is not None:
            return session_page(
                await session.gather(connection, await session_of(connection, given.session), progress),
                contents=contents,
            )
        if given.since is not None:
            first = _first_day(given.since)
            if not await connection.fetchval(_ANY_SINCE, first):
                raise CommandError(f"nothing is recorded since {first:%Y-%m-%d}: `{PROGRAM} sessions` lists what is.")
            return since_page(await since.gather(connection, first, folder, progress), datetime.now(UTC))
        assert folder is not None  # noqa: S101 - checked above
        await check_recorded(config, connection, folder / "x")
        found = await repository.gather(connection, folder, given.rev, given.path or [], progress)
        return repository_page(found, mask, progress, contents=contents)

    return _with_database(config, work)


def _with_database(config: Config, work: Callable[[asyncpg.Connection], Coroutine[Any, Any, T]]) -> T:
    try:
        return with_database(config, work)
    except (CheckoutError, ReportError) as exc:
        raise CommandError(str(exc)) from None


def _mask(redactor: Redactor) -> Callable[[str, str], str]:
    """What a page shows of a file goes where every stored line went; what that can't work through is withheld."""

    def mask(text: str, path: str) -> str:
        try:
            return redactor.text(text, path)
        except Exception:  # noqa: BLE001 - fails closed, like the redactor itself
            return ""

    return mask


def _name(given: argparse.Namespace) -> str:
    """A file's name made of what is shown, which may be any text."""
    what = given.session or (f"since-{given.since}" if given.since else given.repo.resolve().name)
    return _NOT_IN_NAMES.sub("-", what).strip("-.")[:80] or "report"


def _write(output: Path, text: str) -> int:
    """Write all of it or nothing; its mode is for the user to widen."""
    whole = text.encode()
    try:
        write_whole(output, whole)
    except OSError as exc:
        raise CommandError(f"{output} can't be written: {exc.strerror}.") from None
    return len(whole)
