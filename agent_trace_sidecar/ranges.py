"""Which lines a change added or altered, and which it took away; pure.

A diff's hunk headers are right, its text is not (OpenCode removes common indentation and CR), so ranges come from
the headers and hashes never from the text. Line numbers count from 1, both ends are included, and a list of spans is
always sorted, disjoint and joined where it touches.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

from agent_trace_sidecar.events import FileEdit
from agent_trace_sidecar.wire import FileChange, LineRange

Span: TypeAlias = tuple[int, int]

MAX_LINE: Final = 999_999_999
"""Nine digits: what a line number may have, and less than the columns can hold."""

_HUNK: Final = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")


class Change(NamedTuple):
    """A run of lines replaced by another, either of them possibly empty."""

    old_start: int
    old_count: int
    new_start: int
    new_lines: tuple[str, ...]
    """As the diff shows them: for comparing with the file, not for hashing."""

    @property
    def new_count(self) -> int:
        """How many lines stand where the old ones stood."""
        return len(self.new_lines)


def parse_diff(text: str) -> tuple[Change, ...] | None:
    """The changes of a unified diff of one file, without its context; None when it contradicts its own headers."""
    lines = text.split("\n")
    changes: list[Change] = []
    at = 0
    while at < len(lines):
        header = _HUNK.match(lines[at])
        at += 1
        if header:
            end = _parse_hunk(lines, at, header, changes)
            if end is None:
                return None
            at = end
    ordered = all(
        one.old_start + one.old_count <= two.old_start and one.new_start + one.new_count <= two.new_start
        for one, two in pairwise(changes)
    )
    return (
        tuple(changes)
        if ordered and all(change.new_start + change.new_count <= MAX_LINE for change in changes)
        else None
    )


def _parse_hunk(lines: Sequence[str], at: int, header: re.Match[str], changes: list[Change]) -> int | None:
    """Read one hunk by its counts: a removed line `-- a` would else look like a file's header."""
    old_left, new_left = int(header[2] or 1), int(header[4] or 1)
    old = int(header[1]) + (old_left == 0)
    new = int(header[3]) + (new_left == 0)
    removed, added = 0, []
    while old_left > 0 or new_left > 0:
        if at >= len(lines):
            return None
        line, at = lines[at], at + 1
        mark = line[:1]
        if mark == "+":
            added.append(line[1:])
            new_left -= 1
        elif mark == "-":
            removed += 1
            old_left -= 1
        elif mark in {" ", ""}:
            _close(changes, old, new, removed, added)
            old, new = old + removed + 1, new + len(added) + 1
            removed, added = 0, []
            old_left, new_left = old_left - 1, new_left - 1
        elif mark != "\\":
            return None
    _close(changes, old, new, removed, added)
    return at if old_left == new_left == 0 else None


def _close(changes: list[Change], old: int, new: int, removed: int, added: list[str]) -> None:
    if removed or added:
        changes.append(Change(old, removed, new, tuple(added)))


def added(changes: Iterable[Change]) -> list[Span]:
    """The spans of the new file that a diff added."""
    return merged((change.new_start, change.new_start + change.new_count - 1) for change in changes if change.new_count)


def removed(changes: Iterable[Change]) -> list[Span]:
    """The spans of the old file that a diff took away."""
    return merged((change.old_start, change.old_start + change.old_count - 1) for change in changes if change.old_count)


def merged(spans: Iterable[Span]) -> list[Span]:
    """Sorted and disjoint; spans that touch become one."""
    result: list[Span] = []
    for start, end in sorted(spans):
        if result and start <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result


def carried(spans: Sequence[Span], changes: Iterable[Change], *, back: bool = False) -> list[Span]:
    """Where the spans' lines stand after a later diff; `back`: where a newer file's lines stood before it.

    Lines that the diff took away (or, going back, had not yet) are left out.
    """
    kept, start, shift = [], 1, 0
    for change in changes:
        kept.append((start, change.old_start - 1, shift))
        start = change.old_start + change.old_count
        shift += change.new_count - change.old_count
    kept.append((start, MAX_LINE, shift))
    if back:
        kept = [(first + by, last + by, -by) for first, last, by in kept]
    result, at = [], 0
    for first, last, by in kept:
        while at < len(spans) and spans[at][0] <= last:
            low, high = max(first, spans[at][0]), min(last, spans[at][1])
            if low <= high:
                result.append((low + by, high + by))
            if spans[at][1] > last:
                break
            at += 1
    return merged(result)


def composed(diffs: Sequence[Sequence[Change]]) -> tuple[list[Span], list[Span]]:
    """Several diffs one after the other as (added in the last file, taken away from the first)."""
    grown: list[Span] = []
    gone: list[Span] = []
    for at, changes in enumerate(diffs):
        grown = merged([*carried(grown, changes), *added(changes)])
        lost = removed(changes)
        for earlier in reversed(diffs[:at]):
            lost = carried(lost, earlier, back=True)
        gone = merged([*gone, *lost])
    return grown, gone


def attributed(edit: FileEdit, path: str, old_path: str | None, *, exact_text: bool) -> FileChange:
    """What a tool's own words say it did to a file.

    Args:
        edit: the words.
        path: the file's path relative to the worktree.
        old_path: where a moved file came from, if inside the worktree.
        exact_text: the text of the edit is as the tool got it: nothing masked or repaired.
    """
    diffs = [parse_diff(diff) for diff in edit.diffs]
    known = [changes for changes in diffs if changes is not None]
    grown, gone = composed(known) if known and len(known) == len(diffs) else ([], [])
    if edit.kind == "delete":
        return FileChange(path, edit.kind, deleted=tuple(gone))
    if edit.content is not None:
        method = "content" if edit.kind == "add" else "fallback"
        lines = text_lines(edit.content.encode())
        whole = ((1, len(lines)),) if lines else ()
        digest = content_hash(lines) if exact_text else None
        ranges = tuple(LineRange(start, end, method, digest) for start, end in whole)
    elif known and len(known) == len(diffs):
        ranges = tuple(LineRange(start, end, "diff") for start, end in grown)
    else:
        ranges = fallback(edit)
    return FileChange(path, edit.kind, old_path, ranges, tuple(gone))


def fallback(edit: FileEdit) -> tuple[LineRange, ...]:
    """As many lines from the top as the longest new text has: kept for compatibility, known to be a guess."""
    counts = [len(text_lines(new.encode())) for _, new in edit.replaced]
    return (LineRange(1, max(counts), "fallback"),) if any(counts) else ()


def sound(ranges: Iterable[LineRange]) -> tuple[LineRange, ...]:
    """The same ranges sorted and disjoint, whoever gave them; of lines named twice the first range keeps them."""
    result: list[LineRange] = []
    for one in sorted(ranges, key=lambda given: given.start):
        last = result[-1].end if result else 0
        if one.start < 1 or one.end > MAX_LINE or one.end < one.start or one.end <= last:
            continue
        result.append(one if one.start > last else LineRange(last + 1, one.end, one.method))
    return tuple(result)


def text_lines(content: bytes) -> list[bytes]:
    """The lines of a file as git counts them: cut at LF; a CR before it stays, a last LF opens no line."""
    lines = content.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines


def content_hash(lines: Iterable[bytes]) -> str:
    """`blake2s:` and the hex digest of a range's true bytes.

    The bytes are those of the file from the range's first to its last line without the LF that ends the last one;
    a CR belongs to its line. So it is blake2s over the lines of `text_lines`, joined by LF.
    """
    return "blake2s:" + hashlib.blake2s(b"\n".join(lines)).hexdigest()


NO_HASH: Final = "-" * 16
"""Stands in `line_hashes` for a line that may hold a secret."""


def line_hash(line: bytes) -> str:
    """16 hex digits of a line's content without its line ending, so that a change from LF to CRLF keeps it."""
    return hashlib.blake2s(line.removesuffix(b"\r"), digest_size=8).hexdigest()
