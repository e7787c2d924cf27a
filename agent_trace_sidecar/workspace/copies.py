"""Lines that a command brought from elsewhere instead of writing them; pure.

By `cp`, `mv`, `git show HEAD~1:file > file`, `git apply -R` or a script: what counts is that the text was there before,
whatever its white space. Lines are brought where a source has them one after the other: all that is new in the file, or
a run with at least `LEAST` lines that are evidence; or where other files have all that is new in the file, in any order
(`sort`, `grep`); and a line that is a piece of one of another file (`cut`, `head -c`), unless it stands in the command.
Sources are the files that the step took away or changed, the files that a command names, on disk or at a revision, all
files of the step's first snapshot with the very same content, and versions of the file itself that git has. Of a patch
that a command names, and that no call has written, its lines are a source, too.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from agent_trace_sidecar.records.diffs import added, compared
from agent_trace_sidecar.records.fingerprints import is_evidence, without_space
from agent_trace_sidecar.workspace.snapshot import TreeChange
from agent_trace_sidecar.workspace.steps import Call, Step

LEAST: Final = 3
MAX_LINES: Final = 200_000
"""Of all sources of one step: of a command that moves more than that about, nothing is called brought."""
_MAX_PLACES: Final = 20
_LEAST_PIECE: Final = 8
"""Bytes without white space of a line that is taken for a piece of another one."""
_MAX_SEARCHED_BYTES: Final = 512 * 1024 * 1024
"""Of all searches for such pieces in one file."""
_MOVED: Final = 0.5
"""The part of a file that is gone that a new file must hold for being the same one moved."""

_HUNK: Final = re.compile(rb"@@ ?-\d{1,9}(?:,\d{1,9})? ?\+\d{1,9}(?:,\d{1,9})? ?@@")

Lines = Sequence[bytes]


class Known(NamedTuple):
    """Where the lines of a step may come from, beside the files that it changed and those that its commands name."""

    held: frozenset[str]
    """The ids of all contents in the step's first snapshot."""
    versions: Mapping[str, Sequence[Lines]]
    """Contents that git has of a changed file, by `TreeChange.key`."""
    others: Sequence[tuple[str, Lines]]
    """Contents of other files that commands name, at a revision or by their folder, by any name or `Place.file`."""
    has_written: Callable[[str], bool]
    """Whether a call has changed a file, by `Place.file`."""
    has_made: Callable[[str], bool]
    """Whether a call has made one."""
    is_model_line: Callable[[str, bytes], bool] = lambda _file, _line: False
    """Whether a call has written a line of a file, by `Place.file`, that no snapshot holds: nothing else knows it."""
    old: frozenset[str] = frozenset()
    """The changed files that hold what was written before the step, by `TreeChange.key`: moved or unpacked."""


def with_moves(changes: Iterable[TreeChange]) -> list[TreeChange]:
    """The changes with a file that is gone and a new one that has most of its lines made one that moved."""
    found = list(changes)
    gone = [one for one in found if one.status == "D" and one.before and one.place is None]
    for fresh in [one for one in found if one.status == "A" and one.after and one.place is None]:
        best = max(gone, key=lambda one: _shared(one.before or (), fresh.after or ()), default=None)
        if best is None or _shared(best.before or (), fresh.after or ()) < _MOVED * len(best.before or ()):
            continue
        between = compared(best.before or (), fresh.after or ())
        if between is None:
            continue
        gone.remove(best)
        moved = fresh._replace(old_path=best.path, status="R", old_id=best.old_id, before=best.before, changes=between)
        found = [moved if one is fresh else one for one in found if one is not best]
    return found


def copied(step: Step, changes: Sequence[TreeChange], known: Known) -> dict[str, frozenset[int]]:
    """The numbers of the lines in each changed file that were brought, by `TreeChange.key`."""
    root, silent = Path(step.root), [call for call in step.calls.values() if call.silent]
    # A block that moves from one file that stays to another is work; their author is decided by `blame`.
    shorter = [one.key for one in changes if one.status == "M" and any(gone.old_count for gone in one.changes or ())]
    rewritten = {*shorter, *(str(root / key) for key in shorter)}
    sources = _sources(root, silent, changes, known)
    if sources is None:
        return {}
    typed = without_space("\n".join(call.command for call in silent).encode(errors="surrogateescape"))
    found = {}
    for change in changes:
        after = change.after or ()
        fresh = [at for start, end in added(change.changes or ()) for at in range(start, end + 1)]
        alone = len([at for at in fresh if after[at - 1].strip()]) == 1 and not any(map(is_evidence, after))
        if change.new_id in known.held and not alone:  # a file of one word may be like another by chance
            found[change.key] = frozenset(fresh)
            continue
        if change.key in known.old:
            found[change.key] = frozenset(at for at in fresh if not known.is_model_line("", after[at - 1]))
            continue
        names = {change.key, str(root / change.key)}
        own = (lines for name, lines in sources if name in names and name != change.path)
        earlier = (list(map(without_space, lines)) for lines in known.versions.get(change.key, ()))
        others = [
            (name, lines)
            for name, lines in sources
            if name not in names and not (change.status == "M" and name in rewritten)
        ]
        draft = _Fresh(after, list(map(without_space, after)), fresh)
        brought = _brought(draft, [lines for _, lines in others], _without(change.before or (), (*own, *earlier)))
        persons = (lines for name, lines in others if not _is_models(str(root / name), lines, known))
        brought |= _pieces(draft, set(fresh) - brought, persons, typed)
        if brought:
            found[change.key] = frozenset(brought)
    return found


def _sources(
    root: Path, silent: Iterable[Call], changes: Iterable[TreeChange], known: Known
) -> list[tuple[str, Lines]] | None:
    """Names of files, or of what is in their place, and their lines without white space; None where too many."""
    named: list[tuple[str, Lines]] = [
        (place.file, one.before.split(b"\n")) for call in silent for place, one in call.named.items() if one.before
    ]
    named += [
        (f"{name} {mark!r}", own) for name, lines in named if not known.has_written(name) for mark, own in _hunks(lines)
    ]
    before = [(one.key, one.before) for one in changes if one.before]
    room = MAX_LINES - sum(len(lines) for _, lines in (*named, *before))
    if room < 0:
        return None
    further = known.others if sum(len(lines) for _, lines in known.others) <= room else ()
    return [(name, _source(lines, str(root / name), known)) for name, lines in (*named, *before, *further)]


class _Fresh(NamedTuple):
    """A file with new lines."""

    after: Lines
    bare: Lines
    """The same lines, see `without_space`."""
    numbers: Sequence[int]
    """Of the new ones."""


def _source(lines: Lines, file: str, known: Known) -> Lines:
    """The lines of a file, see `without_space`, without those that are a model's by what a call has written there."""
    return [b"" if known.is_model_line(file, line) else without_space(line) for line in lines]


def _is_models(file: str, lines: Lines, known: Known) -> bool:
    """Whether a call has made a file, or has written the patch that it is."""
    return known.has_made(file) or (known.has_written(file) and any(map(_HUNK.match, lines)))


def _hunks(lines: Lines) -> Iterator[tuple[bytes, Lines]]:
    """What a patch adds, and what it takes away: it may be applied in either direction."""
    if any(_HUNK.match(line) for line in lines):
        for mark in (b"+", b"-"):
            yield mark, [line[1:] if line.startswith(mark) else b"" for line in lines]


def _without(before: Lines, sources: Iterable[Lines]) -> Iterator[Lines]:
    """Versions of the file itself: what stands there anyway was not brought from them."""
    there = set(map(without_space, before))
    for source in sources:
        yield [line if line not in there else b"" for line in source]


def _brought(draft: _Fresh, others: Sequence[Lines], own: Iterable[Lines]) -> set[int]:
    """The fresh lines that other files have, or versions of the file itself."""
    after, bare, fresh = draft
    wanted = {at for at in fresh if bare[at - 1]}
    there = {line for source in others for line in source}
    if all(bare[at - 1] in there for at in wanted) and any(is_evidence(after[at - 1]) for at in wanted):
        return set(fresh)
    found: set[int] = set()
    for source, is_own in (*((one, False) for one in others), *((one, True) for one in own)):
        places: dict[bytes, list[int]] = defaultdict(list)
        for at, line in enumerate(source):
            places[line].append(at)
        left = set(fresh) - found
        for at in sorted(wanted - found):
            if at in found:
                continue
            runs = (_run(bare, source, at, place, left) for place in places[bare[at - 1]][:_MAX_PLACES])
            run = max(runs, key=len, default=range(0))
            telling = sum(1 for one in run if is_evidence(after[one - 1]))
            everything = bool(run) and wanted.issubset(run)
            whole = everything and len(run) >= sum(1 for line in source if line)
            if telling >= LEAST or (everything and (telling or is_own or whole)):
                found.update(run)
    return found


def _run(bare: Lines, source: Lines, at: int, place: int, fresh: set[int]) -> range:
    """The fresh lines around one that stand in a source in the same order."""
    start, origin = at, place
    while start - 1 in fresh and origin and bare[start - 2] == source[origin - 1]:
        start, origin = start - 1, origin - 1
    end, to = at, place
    while end + 1 in fresh and to + 1 < len(source) and bare[end] == source[to + 1]:
        end, to = end + 1, to + 1
    return range(start, end + 1)


def _pieces(draft: _Fresh, left: Iterable[int], others: Iterable[Lines], typed: bytes) -> set[int]:
    """The lines among these that are pieces of lines of other files, and that no command has in its text."""
    lines = {at: draft.bare[at - 1] for at in left if is_evidence(draft.after[at - 1])}
    lines = {at: line for at, line in lines.items() if len(line) >= _LEAST_PIECE and line not in typed}
    text = b"\n".join(line for source in others for line in source)
    if len(lines) * len(text) > _MAX_SEARCHED_BYTES:
        return set()
    return {at for at, line in lines.items() if line in text}


def _shared(before: Lines, after: Lines) -> int:
    """How many lines that are evidence two files have in common."""
    there = set(after)
    return sum(1 for line in before if line in there and (line.strip() or len(before) < LEAST))
