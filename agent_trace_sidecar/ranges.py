"""Which lines a tool call added or altered, which it took away, and how sure that is; pure.

`attributed` knows only what the tool said, `observed` also the file as it stood before and after. A method names how
the lines were found, and a hash is given only where the true bytes of the lines are known.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from agent_trace_sidecar.diffs import (
    MAX_LINE,
    Change,
    Span,
    added,
    compared,
    composed,
    explains,
    located,
    merged,
    parse_diff,
    removed,
    shown,
)
from agent_trace_sidecar.events import FileEdit
from agent_trace_sidecar.wire import FileChange, LineRange


class _Found(NamedTuple):
    """Lines and how they were found; `exact`: the file's lines at these numbers are what the call wrote."""

    method: str
    spans: Sequence[Span]
    gone: Sequence[Span] = ()
    exact: bool = False


def attributed(edit: FileEdit, path: str, old_path: str | None, *, exact_text: bool) -> FileChange:
    """What a tool's own words say it did to a file.

    Args:
        edit: the words.
        path: the file's path relative to the worktree.
        old_path: where a moved file came from, if inside the worktree.
        exact_text: the text of the edit is as the tool got it: nothing masked or repaired.
    """
    found, digest = _told(edit), None
    if edit.content is not None and exact_text:
        digest = content_hash(text_lines(edit.content.encode()))
    ranges = tuple(LineRange(start, end, found.method, digest) for start, end in found.spans)
    return FileChange(path, edit.kind, old_path, ranges, tuple(found.gone))


def observed(
    edit: FileEdit,
    path: str,
    old_path: str | None,
    *,
    before: bytes | None,
    after: bytes,
    is_secret: Callable[[str], bool],
) -> FileChange:
    """What a tool did to a file, checked against the file itself.

    Args:
        edit: what the tool says.
        path: the file's path relative to the worktree.
        old_path: where a moved file came from, if inside the worktree.
        before: its content before the call (empty where there was no file); None where that is not known.
        after: its content after the call.
        is_secret: whether a line may hold a secret; such a line gets no hash, nor does a range with one.
    """
    lines = text_lines(after)
    found = _seen(edit, None if before is None else text_lines(before), lines, after)
    spans = [(start, end) for start, end in found.spans if end <= len(lines)] if found.exact else found.spans
    ranges = tuple(
        _hashed(start, end, found.method, lines, is_secret) if found.exact else LineRange(start, end, found.method)
        for start, end in spans
    )
    return FileChange(path, edit.kind, old_path, ranges, tuple(found.gone))


def _told(edit: FileEdit) -> _Found:
    diffs = _parsed(edit)
    grown, gone = composed(diffs) if diffs else ([], [])
    if edit.kind == "delete":
        return _Found("diff", (), gone)
    if edit.content is not None:
        count = len(text_lines(edit.content.encode()))
        return _Found("content" if edit.kind == "add" else "fallback", _whole(count), gone)
    if diffs:
        return _Found("diff", grown, gone)
    # The predecessor's guess, kept for compatibility: as many lines from the top as the longest new text has.
    return _Found("fallback", _whole(max((len(text_lines(new.encode())) for _, new in edit.replaced), default=0)))


def _seen(edit: FileEdit, before: list[bytes] | None, lines: list[bytes], after: bytes) -> _Found:
    told = _told(edit)
    if edit.kind == "add" and edit.content is not None:
        return _Found("content", _whole(len(lines)), exact=True)
    diffs = _parsed(edit)
    if before is not None and (len(diffs) == 1 or edit.content is not None):
        if diffs and explains(diffs[0], before, lines):
            return told._replace(exact=True)
        changes = compared(before, lines) if before != lines else None
        if changes is not None:
            return _Found("diff", added(changes), removed(changes), exact=True)
    if edit.content is not None:
        return _Found("fallback", _whole(len(lines)), exact=True)
    if diffs and shown(diffs[-1], lines):
        return told._replace(exact=True)
    spans = _localised_changes(diffs[0], lines) if len(diffs) == 1 else _localised_texts(edit, after)
    return _Found("localised", spans, told.gone, exact=True) if spans is not None else told


def _parsed(edit: FileEdit) -> list[tuple[Change, ...]]:
    """The edit's diffs; none at all when one of them can't be trusted."""
    diffs = [parse_diff(diff) for diff in edit.diffs]
    known = [changes for changes in diffs if changes is not None]
    return known if len(known) == len(diffs) else []


def _localised_changes(changes: Iterable[Change], lines: Sequence[bytes]) -> list[Span] | None:
    """Where the added runs of a diff stand now; None unless each stands in exactly one place."""
    spans: list[Span] = []
    for change in changes:
        if change.new_count:
            at = located([line.encode() for line in change.new_lines], lines)
            if at is None:
                return None
            spans.append((at + 1, at + change.new_count))
    return merged(spans)


def _localised_texts(edit: FileEdit, after: bytes) -> list[Span] | None:
    """Where the new texts stand now, without the lines they share with the old; None unless each stands once."""
    text = after.replace(b"\r\n", b"\n")
    spans: list[Span] = []
    for old, new in edit.replaced:
        wanted = new.strip().replace("\r\n", "\n").encode()
        at = text.find(wanted)
        if not wanted or at < 0 or text.find(wanted, at + 1) >= 0:
            return None
        first = text.count(b"\n", 0, at)
        new_lines = text_lines(wanted)
        changes = compared(text_lines(old.strip().replace("\r\n", "\n").encode()), new_lines)
        inner = _whole(len(new_lines)) if changes is None else added(changes)
        spans.extend((first + start, first + end) for start, end in inner)
    return merged(spans) if edit.replaced else None


def _whole(count: int) -> list[Span]:
    return [(1, count)] if count else []


def _hashed(start: int, end: int, method: str, lines: Sequence[bytes], is_secret: Callable[[str], bool]) -> LineRange:
    """The range with its hashes; line by line is only asked where the whole may hold a secret."""
    own = lines[start - 1 : end]
    if not is_secret(b"\n".join(own).decode(errors="replace")):
        return LineRange(start, end, method, content_hash(own), "".join(map(line_hash, own)))
    hashes = [NO_HASH if is_secret(line.decode(errors="replace")) else line_hash(line) for line in own]
    if NO_HASH not in hashes:  # the secret is longer than a line
        hashes = [NO_HASH] * len(own)
    return LineRange(start, end, method, None, "".join(hashes))


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
