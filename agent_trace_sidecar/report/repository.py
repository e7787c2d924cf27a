"""What the page of a repository shows: whose the lines of its files are, and what stood in their place."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

from agent_trace_sidecar.blame.authors import Origin
from agent_trace_sidecar.blame.blame import Blame, FileBlamer, placed, projects_of
from agent_trace_sidecar.blame.lineage import Trail, lineage
from agent_trace_sidecar.blame.lines import Line
from agent_trace_sidecar.blame.weight import Weights
from agent_trace_sidecar.records.fingerprints import hashes_of, line_hashes
from agent_trace_sidecar.report.cost import SessionFacts, prompts_of, sessions_of
from agent_trace_sidecar.workspace.checkout import CheckoutError, ManyFiles

Progress = Callable[[str, int, int], None]
"""Called with the stage, how much of it is done, and how much there is."""

MAX_SCANNED: Final = 20_000
"""Files that are searched for recorded lines."""
MAX_FILES: Final = 2_000
"""Files whose lines are attributed."""
MAX_LINES: Final = 200_000
"""Lines that a page holds: about 20 MB, which a phone still opens."""
MAX_FILE_LINES: Final = 20_000
MAX_FILE_BYTES: Final = 2 * 1024 * 1024

KNOWN: Final = "SELECT DISTINCT path FROM agent_trace_file_states WHERE project = ANY($1::text[]) AND path <> ''"


class ReportError(Exception):
    """The page can't be made; the text is a sentence."""


class FileLines(NamedTuple):
    """A file of which something is recorded."""

    path: str
    text: list[bytes]
    lines: list[Line]
    trails: list[Trail]


class Repository(NamedTuple):
    """All that the page shows."""

    root: Path
    revision: str | None
    files: list[FileLines]
    unknown: dict[str, int]
    """Lines of recorded files of which no line is known; -1 for what is no text or too large."""
    unrecorded: dict[str, int]
    """The same of files of which nothing is recorded."""
    calls: dict[UUID, Origin]
    prompts: dict[tuple[str, str], str]
    """By session and message."""
    sessions: dict[str, SessionFacts]
    notes: list[str]


class Found(NamedTuple):
    """The files before their lines are attributed."""

    chosen: list[str]
    known: set[str]
    """Those that records name."""
    unrecorded: dict[str, int]
    """Lines of the files that are not chosen; -1 for what is no text or too large."""
    notes: list[str]


async def gather(
    connection: asyncpg.Connection, folder: Path, revision: str | None, paths: Sequence[str], progress: Progress
) -> Repository:
    """Attribute all files of a repository.

    Args:
        connection: to the store.
        folder: the repository's, or one inside of it.
        revision: what the user calls it; None for the files as they stand.
        paths: only these files and folders, from the repository's root; none means all.
        progress: called with the progress.

    Raises:
        ReportError: there is nothing of that name.
        CheckoutError: git knows no such revision, or a file can't be read.
    """
    checkout = await placed(connection, folder / "x")
    commit = checkout.commit(revision) if revision is not None else None
    projects = await projects_of(connection, checkout)
    with ManyFiles(checkout, commit) as contents:
        asking = FileBlamer(connection, contents, projects, commit)
        known = {row["path"] for row in await connection.fetch(KNOWN, projects)}
        there = list(_chosen(checkout.files(commit) if checkout.is_git else sorted(known), paths))
        if not there:
            where = f" under {', '.join(paths)}" if paths else ""
            raise ReportError(f"no files in {checkout.root}{where}" + (f" at {revision}." if commit else "."))
        found = await searched(asking, contents, there, known, progress)
        files, unknown, cut = await _blamed(asking, contents, found, progress)
    calls = {origin.record_id: origin for file in files for origin in _origins(file)}
    sessions = await sessions_of(connection, (one.session_id for one in calls.values() if one.session_id))
    prompts = {}
    for session in sessions:
        for message, prompt in (await prompts_of(connection, session)).items():
            prompts[session, message] = prompt
    notes = found.notes + cut
    return Repository(checkout.root, commit, files, unknown, found.unrecorded, calls, prompts, sessions, notes)


def _chosen(there: Iterable[str], paths: Sequence[str]) -> Iterator[str]:
    wanted = [path.strip("/") for path in paths if path.strip("/") not in {"", "."}]
    return (path for path in there if not wanted or any(path == one or path.startswith(one + "/") for one in wanted))


async def searched(
    asking: FileBlamer, contents: ManyFiles, there: list[str], known: set[str], progress: Progress
) -> Found:
    """Separate the files that may hold recorded lines from the others, and count the lines of those."""
    notes, unrecorded = [], dict[str, int]()
    others = [path for path in there if path not in known]
    if len(others) > MAX_SCANNED:
        notes.append(_rest(f"{len(others) - MAX_SCANNED:,} of {len(there):,} files were not searched"))
    others = others[:MAX_SCANNED]

    def read() -> Iterator[tuple[str, bytes]]:
        for at, path in enumerate(others):
            progress("files searched", at, len(others))
            content = content_of(contents, path)
            unrecorded[path] = _count(content)
            if unrecorded[path] >= 0 and content:
                yield path, content

    holding = await asking.may_hold(read())
    for path in holding:
        del unrecorded[path]
    chosen = sorted([path for path in there if path in known] + holding)
    if len(chosen) > MAX_FILES:
        notes.append(_rest(f"{len(chosen) - MAX_FILES:,} of {len(chosen):,} files with recorded lines are not shown"))
    return Found(chosen[:MAX_FILES], known, unrecorded, notes)


async def _blamed(
    asking: FileBlamer, contents: ManyFiles, found: Found, progress: Progress
) -> tuple[list[FileLines], dict[str, int], list[str]]:
    """The lines of the files of which something is recorded; files that tell nothing; what was cut."""
    files, unknown, large, total, chosen = list[FileLines](), dict[str, int](), 0, 0, found.chosen
    for at, path in enumerate(chosen):
        progress("files attributed", at, len(chosen))
        content = content_of(contents, path)
        count = _count(content)
        if content is None or count < 0:
            unknown[path] = -1
            large += content is not None and b"\0" not in content
            continue
        if total + count > MAX_LINES:
            left = _rest(f"{len(chosen) - at:,} files are left out: a page has at most {MAX_LINES:,} lines")
            return files, unknown, [left, *_too_large(large)]
        total += count
        file = await _with_trails(asking, await asking.about(path, content))
        authors = set(shares(file.lines))
        if path not in found.known and authors.isdisjoint({"ai", "mixed"}):
            found.unrecorded[path] = count
        elif authors <= {"unknown"}:
            unknown[path] = count  # nothing recorded: its text need not be in the page
        else:
            files.append(file)
    progress("files attributed", len(chosen), len(chosen))
    return files, unknown, _too_large(large)


async def _with_trails(asking: FileBlamer, blame: Blame) -> FileLines:
    packed = line_hashes(blame.text)
    weights = Weights()
    weights.learn_lines(hashes_of(packed), blame.text)
    changes = [one.change for one in await asking.changes([blame.path])]
    return FileLines(blame.path, blame.text, blame.lines, lineage(changes, blame.path, packed, weights.is_weak))


def content_of(contents: ManyFiles, path: str) -> bytes | None:
    """A file's bytes, None where there is none; what can't be read is nothing that could be shown."""
    try:
        return contents.content(path, contents.revision)
    except CheckoutError:
        return b"\0"


def _count(content: bytes | None) -> int:
    """The number of lines; -1 for what is no text or too large to be shown."""
    if content is None or b"\0" in content or len(content) > MAX_FILE_BYTES:
        return -1
    count = content.count(b"\n") + (not content.endswith(b"\n") and bool(content))
    return count if count <= MAX_FILE_LINES else -1


def _rest(what: str) -> str:
    return f"{what}: choose files or folders with --path to see the rest."


def _too_large(number: int) -> list[str]:
    limit = f"{MAX_FILE_LINES:,} lines or {MAX_FILE_BYTES >> 20} MiB"
    return [f"{number:,} files with recorded lines have more than {limit}: `blame FILE` shows them."] if number else []


def _origins(file: FileLines) -> Iterator[Origin]:
    for line in file.lines:
        if line.record_id is not None and line.at is not None:
            yield origin_of(line, line.record_id, line.at)
    for trail in file.trails:
        yield from trail


def origin_of(line: Line, record_id: UUID, at: datetime) -> Origin:
    """The call behind a line."""
    who = "ai" if line.contributor == "mixed" else line.contributor
    return Origin(
        record_id, at, who, line.method or "", line.model_id, line.session_id, line.message_id, line.call_id, line.tool
    )


def shares(lines: Iterable[Line]) -> Counter[str]:
    """How many lines each kind of author has."""
    return Counter(line.contributor for line in lines)
