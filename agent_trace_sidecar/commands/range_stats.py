"""`stats --range`: who wrote the lines that a range of commits adds, as text, Markdown or JSON."""

import argparse
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import asyncpg
import msgspec

from agent_trace_sidecar.blame.range_authors import (
    Added,
    Authors,
    added_by,
    authors_by_notes,
    authors_by_records,
    authors_of,
)
from agent_trace_sidecar.blame.range_share import RangeShare, share
from agent_trace_sidecar.blame.stats import chosen_paths
from agent_trace_sidecar.commands.chosen import nothing_recorded
from agent_trace_sidecar.commands.common import CommandError
from agent_trace_sidecar.commands.database import with_database
from agent_trace_sidecar.commands.output import complain, say, say_json
from agent_trace_sidecar.commands.range_arguments import EXIT_ABOVE
from agent_trace_sidecar.commands.tables import Column, show_table
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits.text import counted, printable
from agent_trace_sidecar.records.trace import Reading, TraceError, read_record
from agent_trace_sidecar.sources.trace_file import TraceFileError, entries
from agent_trace_sidecar.workspace.checkout import NOTES_REF, Checkout, CheckoutError, checkout_of

_SHALLOW: Final = "this clone is shallow, so some records may not be found: `git fetch --unshallow` completes it."
_NAMES: Final = {"ai": "AI", "mixed": "mixed", "human": "human", "unknown": "unknown"}
_MAX_ROWS: Final = 60
_MAX_NAME_CHARS: Final = 80
"""Of a name in Markdown: with the rows' bound it keeps a comment below the 65,536 characters that forges accept."""


def run(config: Config, given: argparse.Namespace) -> int:
    """Print the shares; exit code 3 when the AI's is too large."""
    places = [path.resolve() for path in given.paths]
    checkout = checkout_of((places[0] if places else Path.cwd()) / "x")
    try:
        added = added_by(checkout, given.range, chosen_paths(checkout, places) if places else None)
        found = _authors(config, checkout, added, given.source)
    except CheckoutError as exc:
        raise CommandError(str(exc)) from None
    shares = share(given.range, found.lines, found.sessions)
    _print(shares, "json" if given.json else given.format or "text")
    if not found.is_recorded or (shares.unknown and checkout.is_shallow):
        complain(_SHALLOW if checkout.is_shallow else nothing_recorded(config, "this repository"))
    if given.fail_above is not None and shares.ai_percent > given.fail_above:
        complain(f"{shares.ai_percent:.1f} % of the added lines are AI or mixed: more than {given.fail_above:g} %.")
        return EXIT_ABOVE
    return 0


def _authors(config: Config, checkout: Checkout, added: Added, source: str | None) -> Authors:
    if source == "notes":
        return authors_by_notes(checkout, added, _notes(checkout, added))
    if source is not None:
        return authors_by_records(checkout, added, records_of(Path(source)))

    async def work(connection: asyncpg.Connection) -> Authors:
        return await authors_of(connection, checkout, added)

    return with_database(config, work)


def _notes(checkout: Checkout, added: Added) -> dict[str, list[Reading]]:
    """The records in the notes of the range's commits."""
    kept = checkout.notes()
    if not kept:
        raise CommandError(f"there are no notes here: fetch them with `git fetch origin {NOTES_REF}:{NOTES_REF}`.")
    commits = [one for one in checkout.commits_between(added.base, added.commit) if one in kept]
    texts = {commit: checkout.note(kept[commit]).split(b"\n") for commit in commits}
    return {commit: list(_read(f"the note of {commit}", enumerate(text, 1))) for commit, text in texts.items()}


def records_of(file: Path) -> list[Reading]:
    """The records of a file; what can't be read is named.

    Raises:
        CommandError: there is no record in it.
    """
    try:
        found = list(_read(str(file), entries(file)))
    except TraceFileError as exc:
        raise CommandError(f"{file} holds no Agent Trace records: {exc}") from None
    except OSError as exc:
        raise CommandError(f"{file} can't be read: {exc.strerror}.") from None
    if not found:
        raise CommandError(f"{file} holds no Agent Trace records: `export --range A..B --output FILE` writes them.")
    return found


def _read(where: str, lines: Iterable[tuple[int, bytes]]) -> Iterator[Reading]:
    for number, text in lines:
        if text.strip():
            try:
                yield read_record(text)
            except TraceError as exc:
                complain(f"{where}, line {number}: {exc}")


def _print(found: RangeShare, form: str) -> None:
    if form == "json":
        say_json(msgspec.json.encode(found).decode())
    elif form == "markdown":
        say(*as_markdown(found))
    else:
        say(*_summary(found))
        if found.by_file:
            say("")
            columns = [Column("file", may_be_cut=True), *(Column(head, is_number=True) for head in ("added", *_NAMES))]
            show_table(columns, [(one.path, *map(str, _counts(one))) for one in found.by_file])


def _summary(found: RangeShare) -> Iterator[str]:
    counts = ", ".join(f"{count} {name} ({found.percent(count):.1f} %)" for name, count in _by_author(found) if count)
    yield f"{printable(found.range)}: {counted(found.added, 'line')} added" + (f": {counts}" if counts else "")
    for model in found.by_model:
        yield f"  {printable(model.model_id)}: {model.lines}"
    for session in found.sessions:
        title = printable(session.title or "")
        cost = "no price" if session.cost is None else f"$ {session.cost:.4f}"
        lines = counted(session.lines, "line")
        yield f"  session {printable(session.session_id)}: {lines}, {cost}" + (f", {title}" * bool(title))
    if found.cost is not None:
        yield f"  cost of these sessions: $ {found.cost:.4f}"


def as_markdown(found: RangeShare) -> Iterator[str]:
    """Yield the lines of a comment for a pull request; names of others can neither format, link nor mention."""
    yield f"### {found.ai_percent:.1f} % of {found.added} added lines are AI-written, in whole or in part"
    yield ""
    yield from _table(
        ("author", "lines", "share"),
        [(name, str(count), f"{found.percent(count):.1f} %") for name, count in _by_author(found)],
    )
    if found.by_model:
        yield ""
        yield from _table(("model", "lines"), [(_code(one.model_id), str(one.lines)) for one in found.by_model])
    if found.sessions:
        cost = "no known price" if found.cost is None else f"$ {found.cost:.4f}"
        yield ""
        yield f"Sessions: {len(found.sessions)}, whole cost: {cost}"
    if found.by_file:
        yield ""
        yield "<details><summary>By file</summary>"
        yield ""
        rows = [(_code(one.path), *map(str, _counts(one))) for one in found.by_file]
        yield from _table(("file", "added", *_NAMES.values()), rows)
        yield ""
        yield "</details>"
    yield ""
    yield f"Range: {_code(found.range)}"


def _by_author(found: RangeShare) -> list[tuple[str, int]]:
    return [(shown, getattr(found, name)) for name, shown in _NAMES.items()]


def _counts(one: object) -> list[int]:
    return [getattr(one, name) for name in ("added", *_NAMES)]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield "|---|" + "--:|" * (len(heads) - 1)
    for row in rows[:_MAX_ROWS]:
        yield f"| {' | '.join(row)} |"
    if len(rows) > _MAX_ROWS:
        yield f"| {len(rows) - _MAX_ROWS} more |" + " |" * (len(heads) - 1)


def _code(name: str) -> str:
    """A name as code: what Markdown or HTML could read becomes entities."""
    short = name if len(name) <= _MAX_NAME_CHARS else "…" + name[1 - _MAX_NAME_CHARS :]
    escaped = re.sub(r"[!-,.:-@\[-`{-~]", lambda found: f"&#{ord(found[0])};", printable(short))
    return f"<code>{escaped}</code>"
