"""`report --site DIR`: a folder of linked pages, of which only those are made anew that something has changed for.

A manifest in the folder has the version of each page. A page is removed when what it shows is gone from the database,
and nothing is removed that the manifest does not name.
"""

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg
import msgspec

from agent_trace_sidecar import __version__
from agent_trace_sidecar.commands.chosen import NO_SESSION
from agent_trace_sidecar.commands.common import CommandError, UsageError
from agent_trace_sidecar.limits.files import make_folders, read_own, remove_file, write_whole
from agent_trace_sidecar.report import repository, session, since, site
from agent_trace_sidecar.report.index_page import index_page
from agent_trace_sidecar.report.page import Page, render
from agent_trace_sidecar.report.repository import Progress
from agent_trace_sidecar.report.repository_page import Mask, repository_page
from agent_trace_sidecar.report.session_page import session_page
from agent_trace_sidecar.report.since_page import since_page

_MANIFEST: Final = ".agent-trace-site.json"
_MAX_MANIFEST_BYTES: Final = 16 * 1024 * 1024
_INDEX: Final = "index.html"
_NAME: Final = re.compile(r"index\.html|(?:sessions|repositories|periods)/[A-Za-z0-9_-]{1,100}\.html")


class SiteOptions(NamedTuple):
    """What kind of site."""

    folder: Path
    repository: Path | None
    """One that is read besides those that were recorded on this machine."""
    contents: bool
    """Whether code, prompts, outputs and titles are in the pages."""
    mask: Mask
    rules: str
    """The version of the redaction rules."""
    now: datetime


class Written(NamedTuple):
    """How many pages."""

    made: int
    unchanged: int
    removed: int
    notes: list[str]


class _Manifest(msgspec.Struct):
    """By page its version; empty while it is being made."""

    pages: dict[str, str]


class _Planned(NamedTuple):
    version: str
    make: Callable[[], Awaitable[Page]]


async def write_site(connection: asyncpg.Connection, options: SiteOptions, progress: Progress) -> Written:
    """Bring the pages up to date.

    Raises:
        UsageError: the folder holds something else.
        CommandError: nothing is recorded, or the folder can't be read or written.
        ReportError, CheckoutError: a page can't be made.
    """
    before = _known(options.folder)
    found = await site.gather(connection, options.repository, options.now)
    if not found.sessions:
        raise CommandError(NO_SESSION)
    planned = dict(_Pages(connection, found, options, progress).planned())
    due = [name for name, one in planned.items() if before.get(name) != one.version or not _is_there(options, name)]
    gone = before.keys() - planned.keys()
    try:
        if due or gone:
            await _update(options, before, planned, due, progress)
    except OSError as exc:
        raise CommandError(f"{exc.filename or options.folder} can't be written: {exc.strerror}.") from None
    return Written(len(due), len(planned) - len(due), len(gone), found.notes())


async def _update(
    options: SiteOptions,
    before: dict[str, str],
    planned: dict[str, _Planned],
    due: list[str],
    progress: Progress,
) -> None:
    """Make what is due and remove what is not planned; interrupted anywhere, the next run completes it."""
    if not before:  # a repository that the folder is in does not change by its pages
        _write(options, ".gitignore", b"*\n")
    manifest = _Manifest(before | dict.fromkeys(due, ""))
    _write(options, _MANIFEST, msgspec.json.encode(manifest))
    for at, name in enumerate(due):
        progress("pages written", at, len(due))
        page = await planned[name].make()
        _write(options, name, render(page, options.now, "" if name == _INDEX else f"../{_INDEX}").encode())
        manifest.pages[name] = planned[name].version
    for name in before.keys() - planned.keys():
        with suppress(FileNotFoundError):
            remove_file(options.folder / name, below=options.folder)
        del manifest.pages[name]
    _write(options, _MANIFEST, msgspec.json.encode(manifest))


def _known(folder: Path) -> dict[str, str]:
    """The versions of the pages that are there."""
    try:
        manifest = msgspec.json.decode(read_own(folder / _MANIFEST, _MAX_MANIFEST_BYTES), type=_Manifest)
    except FileNotFoundError:
        if folder.is_dir() and any(folder.iterdir()):
            raise UsageError(
                f"{folder} holds other files: name a new folder, or one that --site made before."
            ) from None
        return {}
    except OSError as exc:
        raise CommandError(f"{folder / _MANIFEST} can't be read: {exc.strerror}.") from None
    except msgspec.DecodeError:
        manifest = _Manifest({"": ""})
    if not all(_NAME.fullmatch(name) for name in manifest.pages):
        raise CommandError(f"{folder / _MANIFEST} is damaged: delete the folder {folder}, or name a new one.")
    return manifest.pages


def _is_there(options: SiteOptions, name: str) -> bool:
    return (options.folder / name).is_file()


def _write(options: SiteOptions, name: str, data: bytes) -> None:
    make_folders((options.folder / name).parent)
    write_whole(options.folder / name, data, below=options.folder)


def _nothing_recorded(_what: str, _done: int, _total: int) -> None:
    """A session is read at once: the pages are counted instead."""


class _Pages:
    """The pages of a site, each made when it is due."""

    def __init__(
        self, connection: asyncpg.Connection, found: site.Site, options: SiteOptions, progress: Progress
    ) -> None:
        self._connection, self._site, self._options, self._progress = connection, found, options, progress
        self._surviving: tuple[since.Surviving, list[str]] | None = None

    def planned(self) -> Iterator[tuple[str, _Planned]]:
        """Every page by its name, the index last: what it links to is there before."""
        found, repositories = self._site, []
        for family in found.families:
            version = self._version(found.session_version(family))
            yield f"sessions/{family.name}.html", _Planned(version, partial(self._session, family))
        for one in found.repositories:
            version = self._version(found.repository_version(one), self._options.rules)
            repositories.append(version)
            if one.checkout is not None:
                yield f"repositories/{one.name}.html", _Planned(version, partial(self._repository, one))
        for period in found.periods:
            version = self._version(found.period_version(period, repositories))
            yield f"periods/{period.name}.html", _Planned(version, partial(self._period, period))
        yield _INDEX, _Planned(self._version(found.index_version()), self._index)

    def _version(self, *parts: str) -> str:
        return site.digest(__version__, self._options.contents, parts)

    async def _session(self, family: site.Family) -> Page:
        found = await session.gather(self._connection, family.root.session_id, _nothing_recorded)
        return session_page(found, contents=self._options.contents, links=self._site.links)

    async def _repository(self, one: site.SiteRepository) -> Page:
        root = one.checkout.root if one.checkout is not None else Path(one.label)
        found = await repository.gather(self._connection, root, None, [], self._progress)
        return repository_page(
            found, self._options.mask, self._progress, contents=self._options.contents, links=self._site.links
        )

    async def _period(self, period: site.Period) -> Page:
        recorded = await since.places(self._connection, period.since)
        surviving, notes = await self._survivors()
        own = surviving.after(period.since, recorded)
        found = await since.figures(self._connection, period.since, own, notes)
        return since_page(found, self._options.now, self._site.links)

    async def _survivors(self) -> tuple[since.Surviving, list[str]]:
        """Of the longest period, read once."""
        if self._surviving is None:
            first = self._site.periods[-1].since
            recorded = await since.places(self._connection, first)
            readable = await since.checkouts(self._connection, recorded, self._options.repository)
            self._surviving = await since.survivors(self._connection, first, recorded, readable, self._progress)
        return self._surviving

    async def _index(self) -> Page:
        return index_page(self._site, contents=self._options.contents)
