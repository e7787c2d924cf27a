"""Which lines a tool call added or altered, which it took away, and how sure that is; pure.

`attributed` knows only what the tool reported, `observed` also the file as it stood before and after. A method names
how the lines were found, and a hash is given only where the true bytes of the lines are known; of a line that a diff
shows, whose indentation is lost, the half of the hash that does not depend on it.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from agent_trace_sidecar.opencode.events import FileEdit
from agent_trace_sidecar.opencode.wire import FileChange, LineRange
from agent_trace_sidecar.records.content import Content, text_lines
from agent_trace_sidecar.records.diffs import (
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
from agent_trace_sidecar.records.fingerprints import HASH_BYTES, line_hash, packed_tokens
from agent_trace_sidecar.records.wrapped import wrapped

_EXACT_UNKNOWN: Final = bytes(HASH_BYTES // 2)
"""The second half of a line's hash where its indentation is not known."""


class _Found(NamedTuple):
    """Lines and how they were found; `exact`: the file's lines at these numbers are what the call wrote."""

    method: str
    spans: Sequence[Span]
    gone: Sequence[Span] = ()
    exact: bool = False
    between: Sequence[Change] = ()
    """What lies between the contents before and after the call, where both are known and it is all this call's."""


def attributed(edit: FileEdit, path: str, old_path: str | None, *, exact_text: bool) -> FileChange:
    """The ranges by a tool's own report of what it did to a file.

    Args:
        edit: the words.
        path: the file's path relative to the worktree.
        old_path: where a moved file came from, if inside the worktree.
        exact_text: the text of the edit is as the tool got it: nothing masked or repaired.
    """
    diffs = _parsed(edit)
    found = _from_tool(edit, diffs)
    known = Content(text_lines(edit.content.encode())) if edit.content is not None and exact_text else None
    if known is not None:
        ranges = [known.span(start, end, found.method) for start, end in found.spans]
    elif exact_text and found.method == "diff":
        ranges = _shown_ranges(found.spans, diffs)
    else:
        ranges = [LineRange(start, end, found.method) for start, end in found.spans]
    return FileChange(
        path,
        edit.kind,
        old_path,
        tuple(ranges),
        tuple(found.gone),
        before_hashes="" if edit.kind == "add" else None,
        after_hashes="" if edit.kind == "delete" else known.vector() if known else None,
    )


def observed(
    edit: FileEdit, path: str, old_path: str | None, *, before: Content | None, after: Content, alone: bool = True
) -> FileChange:
    """What a tool did to a file, checked against the file itself.

    Args:
        edit: what the tool reports.
        path: the file's path relative to the worktree.
        old_path: where a moved file came from, if inside the worktree.
        before: its content before the call (empty where there was no file); None where that is not known.
        after: its content after the call.
        alone: no other call may have changed the file in between; else what lies between the two contents is not
            this call's, only what its diff holds and explains is.
    """
    found = _from_contents(edit, before.lines if before else None, after.lines, alone=alone)
    if found.exact:
        ranges = [after.span(start, end, found.method) for start, end in found.spans if end <= len(after.lines)]
    else:
        ranges = [LineRange(start, end, found.method) for start, end in found.spans]
    return FileChange(
        path,
        edit.kind,
        old_path,
        tuple(ranges),
        tuple(found.gone),
        before_hashes=before.vector() if before else "" if edit.kind == "add" else None,
        after_hashes=after.vector(),
        wrapped=wrapped(before.lines, after.lines, found.between) if before else (),
    )


def deleted(path: str, before: Content) -> FileChange:
    """A file that is gone, with what it held."""
    gone = tuple(_whole(len(before.lines)))
    return FileChange(path, "delete", deleted=gone, before_hashes=before.vector(), after_hashes="")


def _shown_ranges(spans: Iterable[Span], diffs: Sequence[Sequence[Change]]) -> list[LineRange]:
    """The spans with what a single diff shows of their lines."""
    texts: dict[int, bytes] = {}
    for change in diffs[0] if len(diffs) == 1 else ():
        texts.update(enumerate((line.encode(errors="replace") for line in change.new_lines), change.new_start))
    ranges = []
    for start, end in spans:
        own = [texts[at] for at in range(start, end + 1) if at in texts]
        hashes = b"".join(line_hash(line)[: HASH_BYTES // 2] + _EXACT_UNKNOWN for line in own)
        known = len(own) == end - start + 1
        tokens = packed_tokens(own).hex() if known else None
        ranges.append(LineRange(start, end, "diff", None, hashes.hex() if known else None, tokens))
    return ranges


def _from_tool(edit: FileEdit, diffs: Sequence[tuple[Change, ...]]) -> _Found:
    """What the tool's report alone says; `diffs` are the edit's, parsed."""
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


def _from_contents(edit: FileEdit, before: Sequence[bytes] | None, lines: Sequence[bytes], *, alone: bool) -> _Found:
    diffs = _parsed(edit)
    claimed = _from_tool(edit, diffs)
    if edit.kind == "add" and edit.content is not None:
        return _Found("content", _whole(len(lines)), exact=True)
    if before is not None and (len(diffs) == 1 or edit.content is not None):
        # Where it fits the file alone, another writer came between the observation before and the call.
        explained = bool(diffs) and explains(diffs[0], before, lines)
        if explained or (diffs and added(diffs[0]) and shown(diffs[0], lines)):
            return claimed._replace(exact=True, between=diffs[0] if explained else ())
        own = alone or (edit.content is not None and text_lines(edit.content.encode()) == lines)
        changes = compared(before, lines) if before != lines and own else None
        if changes is not None:
            return _Found("diff", added(changes), removed(changes), exact=True, between=changes)
    if edit.content is not None:
        return _Found("fallback", _whole(len(lines)), exact=True)
    if diffs and shown(diffs[-1], lines):
        return claimed._replace(exact=True)
    spans = _localised_changes(diffs[0], lines) if len(diffs) == 1 else _localised_texts(edit, lines)
    return _Found("localised", spans, claimed.gone, exact=True) if spans is not None else claimed


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


def _localised_texts(edit: FileEdit, after: Sequence[bytes]) -> list[Span] | None:
    """Where the new texts stand now, without the lines they share with the old; None unless each stands once."""
    text = b"\n".join(after).replace(b"\r\n", b"\n")
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


def sound(ranges: Iterable[LineRange]) -> tuple[LineRange, ...]:
    """The same ranges sorted and disjoint; of lines named twice the first range keeps them."""
    result: list[LineRange] = []
    for one in sorted(ranges, key=lambda given: given.start):
        last = result[-1].end if result else 0
        if one.start < 1 or one.end > MAX_LINE or one.end < one.start or one.end <= last:
            continue
        result.append(one if one.start > last else LineRange(last + 1, one.end, one.method, None, *_tail(one, last)))
    return tuple(result)


def _tail(one: LineRange, last: int) -> tuple[str | None]:
    """The hashes of the lines after `last`; their tokens have no fixed length and are left out."""
    return (one.line_hashes[(last + 1 - one.start) * 2 * HASH_BYTES :] if one.line_hashes else None,)
