"""The command `report`: one HTML file that shows a repository, a session or a span of time."""

import argparse
import os
import re
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import asyncpg

from agent_trace_sidecar.command import CommandError, UsageError
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.daemon import make_funnel
from agent_trace_sidecar.database import with_database
from agent_trace_sidecar.progress import Counting
from agent_trace_sidecar.query.blame import BlameError
from agent_trace_sidecar.redaction import Funnel
from agent_trace_sidecar.report import repository
from agent_trace_sidecar.report.page import Page, render
from agent_trace_sidecar.report.repository import ReportError, Said
from agent_trace_sidecar.report.repository_page import repository_page
from agent_trace_sidecar.workspace.checkout import CheckoutError

_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]+")


def report(config: Config, arguments: argparse.Namespace) -> int:
    """Make a page, write it, and say where it is."""
    output: Path = arguments.output or Path(_name(arguments))
    if output.is_dir():
        raise UsageError(f"{output} is a folder: name a file with --output.")
    with closing(Counting("report")) as progress:
        page = _page(config, arguments, progress.update)
        size = _write(output, render(page, datetime.now(UTC)))
    print(f"{output}  {size / 1e6:.1f} MB  {page.title}")
    for note in page.notes:
        print(f"  {note}")
    return 0


def _page(config: Config, arguments: argparse.Namespace, said: Said) -> Page:
    contents = not arguments.metadata_only
    funnel = make_funnel(config)

    async def work(connection: asyncpg.Connection) -> Page:
        folder = arguments.repo.resolve()
        if not folder.is_dir():
            raise ReportError(f"{arguments.repo} is no folder.")
        found = await repository.gather(connection, folder, arguments.rev, arguments.path or [], said)
        return repository_page(found, _mask(funnel), contents=contents)

    try:
        return with_database(config, work)
    except (BlameError, CheckoutError, ReportError) as exc:
        raise CommandError(str(exc)) from None


def _mask(funnel: Funnel) -> Callable[[str, str], str]:
    """What a page shows of a file goes where every stored line went; what that can't work through is withheld."""

    def mask(text: str, path: str) -> str:
        try:
            return funnel.text(text, path)
        except Exception:  # noqa: BLE001 - fails closed, like the funnel itself
            return ""

    return mask


def _name(arguments: argparse.Namespace) -> str:
    what = arguments.repo.resolve().name
    return f"agent-trace-{_NOT_IN_NAMES.sub('-', what).strip('-.')[:80] or 'report'}.html"


def _write(output: Path, text: str) -> int:
    """Write all of it or nothing."""
    whole = text.encode()
    draft = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        draft.write_bytes(whole)
        draft.replace(output)
    except OSError as exc:
        raise CommandError(f"{output} can't be written: {exc.strerror}.") from None
    finally:
        draft.unlink(missing_ok=True)
    return len(whole)
