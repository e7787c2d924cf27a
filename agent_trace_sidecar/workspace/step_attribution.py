"""Whose a step's changes are: the files of its snapshot, given to its calls; pure.

Rules, in order:
1. A file that a call named is that call's. The call's own report stands where the contents right before and after
   it were observed; else, if it is the only call that named the file, the snapshot's lines replace the report.
   What happened to such a file before, between or after these calls is another's: see 3.
2. A file that a call of another session changed in the meantime (a subagent's, inside its parent's step) is not ours,
   but for the lines that the other has not written, if a call of ours names the file.
3. Any other file can only be the work of a call whose tool reports no files: bash, MCP, custom ones; and not of one
   that only reads, or that writes to files that it names, and to no others. Each call
   has a time window, and the file a time of its last change (ctime, which no program sets and a move renews):
   - right before a person permitted the call: it is attributed to no call, as the clock of file systems ticks too
     slowly to tell;
   - in no window: a person's, or a program's that runs on its own; it is attributed to no call;
   - in the windows of several calls: the one whose arguments name the file, else the last to begin before it;
   - in the window of a command in the background alone that ended before the step's event: that command, as the
     step's snapshot is older than its event;
   - where the time is not known (deleted, changed again since): the last call that names the file, else the last.
4. Where there was no such call, it is attributed to none.
"""

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final, NamedTuple

from agent_trace_sidecar.opencode.wire import CallChange, FileChange
from agent_trace_sidecar.records.content import Content, text_lines
from agent_trace_sidecar.records.diffs import Change, Span, added, carried, compared, merged, removed
from agent_trace_sidecar.records.fingerprints import is_evidence, line_hash
from agent_trace_sidecar.records.wrapped import wrapped
from agent_trace_sidecar.workspace.places import Place
from agent_trace_sidecar.workspace.snapshot import TreeChange
from agent_trace_sidecar.workspace.steps import Call, Edited, Step

EARLY_MS: Final = 12.0
"""A file may be stamped so much before the hook fired: kernels stamp with a clock that ticks every few milliseconds."""
LATE_MS: Final = 5.0
STRANGE_MS: Final = 60_000.0
"""A stamp so far outside of the step is of another clock (a network folder's): it is no evidence."""
_NOBODYS: Final[AbstractSet[str]] = frozenset()

Judge = Callable[[str, Sequence[bytes]], Content]
"""Makes a content of a path's lines, with the lines hidden that may hold a secret."""


class Facts(NamedTuple):
    """What was found out about a step at its end."""

    finished_ms: float
    stamp_ms: Callable[[TreeChange], float | None]
    """When the file was last changed, if it still is what the second tree holds."""
    brought: Callable[[TreeChange], frozenset[bytes]]
    """The lines of versions of the file that a git command of this step brought back."""
    judge: Judge
    copied: Callable[[TreeChange], frozenset[int]] = lambda _: frozenset()
    """The numbers of lines that a command of this step brought from another file or version."""
    rivals: Sequence[Call] = ()


def may_have_more_files(step: Step) -> bool:
    """Whether the snapshots may show more than the calls: else `allotted` finds nothing, whatever they hold."""
    found = any(call.may_write_unseen or any(map(_is_unsure, call.edited)) for call in step.calls.values())
    return found or bool(step.earlier)


def allotted(step: Step, changes: Iterable[TreeChange], facts: Facts) -> list[CallChange]:
    """What each call did, for the calls of which the snapshot shows more than they report."""
    calls = list(step.calls.values())
    known = {call.call_id: call for call in (*step.earlier, *calls)}
    found: dict[str, list[FileChange]] = {}
    for tree in _as_named(calls, changes):
        edits = [(call, one) for call in calls for one in call.edited if one.is_own and one.change.path == tree.path]
        if tree.place is None and (edits or any(call.names(tree.path) for call in calls)):
            owner, change = _named(step, edits, tree, facts) if edits else (None, None)
        else:
            theirs = step.foreign.get(tree.path, _NOBODYS) if tree.place is None else _NOBODYS
            owner = _owner(step, tree, facts) or _earlier(step, tree, facts) if theirs is not None else None
            if owner and theirs and not owner.mentions(tree.path):
                owner = None
            change = _file_change(tree, facts, theirs or _NOBODYS) if owner else None
        if owner and change:
            found.setdefault(owner.call_id, []).append(change)
    return [CallChange(name, _whole(call, found[name]), call.vcs) for name, call in known.items() if name in found]


def _whole(call: Call, found: Iterable[FileChange]) -> tuple[FileChange, ...]:
    """Everything that a call changed: what it reported, replaced by what was found."""
    files = {_file(one.change): one.change for one in call.edited}
    files.update((_file(change), change) for change in found)
    return tuple(files.values())


def _file(change: FileChange) -> tuple[str, str]:
    """One name for one file."""
    return change.repository.root if change.repository else "", change.path


def _named(
    step: Step, edits: Sequence[tuple[Call, Edited]], tree: TreeChange, facts: Facts
) -> tuple[Call | None, FileChange | None]:
    """A file that calls named: correct the report of the only one, or find what none of them has written."""
    silent = any(call.may_write(tree.path) for call in step.calls.values())
    call, one = edits[0]
    if tree.path in step.foreign:
        return None, None  # the snapshot holds the work of another session too
    if len(edits) == 1 and _is_unsure(one):
        stamp = facts.stamp_ms(tree) if silent else None
        own = not silent or (stamp is not None and _within(call, stamp, facts))
        known = own and (one.change.kind == "move") == (tree.status == "R")
        change = _file_change(tree, facts) if known else None
        if own or one.after is None or _is_guessed(one):
            return (call, change) if change and _differs(change, one.change) else (None, None)
    owner = _owner(step, tree, facts) if silent else None
    if owner is None and silent:
        return _beside(step, [one for _, one in edits], tree, facts)
    return owner, _rest(tree, [one for _, one in edits], facts) if owner else None


def _beside(
    step: Step, edits: Sequence[Edited], tree: TreeChange, facts: Facts
) -> tuple[Call | None, FileChange | None]:
    """What a command has written into a file that an edit has changed since: its time is the edit's then.

    The file right before and after the command shows it.
    """
    place = Place(Path(step.root), tree.path)
    best: tuple[Call | None, FileChange | None] = None, None
    most = 0
    for call in step.calls.values():
        named = call.named.get(place)
        if named is None or named.before is None or named.after is None:
            continue
        new = set(text_lines(named.after)).difference(text_lines(named.before))
        change = _rest(tree, edits, facts, new)
        count = sum(one.end - one.start + 1 for one in change.ranges) if change else 0
        if count > most:
            best, most = (call, change), count
    return best


def _is_unsure(one: Edited) -> bool:
    """Whether a call's report of a file was not confirmed by the file itself, right before and after it."""
    return _is_guessed(one) or one.before is None or one.after is None


def _is_guessed(one: Edited) -> bool:
    return any(span.method == "fallback" for span in one.change.ranges)


def _as_named(calls: Sequence[Call], changes: Iterable[TreeChange]) -> Iterable[TreeChange]:
    """The changes, with a move taken apart where a call named one of its files: likeness is no move then."""
    edited = [one for call in calls for one in call.edited]
    for change in changes:
        named = change.old_path is not None and any(
            call.names(path) for call in calls for path in (change.path, change.old_path)
        )
        is_reported = any((one.change.path, one.change.old_path) == (change.path, change.old_path) for one in edited)
        if not named or is_reported or change.old_path is None:
            yield change
            continue
        before, after = change.before, change.after
        gone = None if before is None else (Change(1, len(before), 1, ()),)
        come = None if after is None else (Change(1, 0, 1, ("",) * len(after)),)
        yield TreeChange(
            change.old_path, None, "D", change.old_id, "", before, [] if before is not None else None, gone
        )
        yield TreeChange(change.path, None, "A", "", change.new_id, [] if after is not None else None, after, come)


def _rest(
    tree: TreeChange, edits: Sequence[Edited], facts: Facts, only: AbstractSet[bytes] | None = None
) -> FileChange | None:
    """The lines of a named file that none of the calls that named it has written; None where that is not known.

    Each call's lines are carried forward through what happened to the file after it. With `only`, other lines are left
    out.
    """
    if tree.after is None or tree.changes is None or not edits:
        return None
    mine: list[Span] = []
    last: list[bytes] = []
    for one in edits:
        lines = text_lines(one.after) if one.after is not None else None
        moved = compared(last, lines) if lines is not None else None
        if lines is None or moved is None:
            return None
        mine = merged([*carried(mine, moved), *((span.start, span.end) for span in one.change.ranges)])
        last = lines
    moved = compared(last, tree.after)
    if moved is None:
        return None
    taken = {at for start, end in carried(mine, moved) for at in range(start, end + 1)}
    brought, elsewhere, after = facts.brought(tree), facts.copied(tree), tree.after
    taken |= elsewhere
    left = _kept(added(tree.changes), lambda at: at not in taken and after[at - 1] not in brought)
    if only is not None:
        left = _kept(left, lambda at: after[at - 1] in only)
    if not left:
        return None
    new = facts.judge(tree.path, after)
    return FileChange(
        tree.path,
        "update",
        None,
        tuple(new.span(start, end, "snapshot") for start, end in left),
        tuple(removed(moved)),
        before_hashes=facts.judge(tree.path, last).vector(),
        after_hashes=new.vector(),
        repository=tree.repository,
        wrapped=wrapped(last, after, moved),
    )


def _owner(step: Step, tree: TreeChange, facts: Facts) -> Call | None:
    """The silent call that changed a file; None for no call of this step."""
    path = tree.old_path or tree.path
    own = sorted((call for call in step.calls.values() if _may_write(call, tree)), key=lambda call: call.began_ms)
    if not own:
        return None
    telling = [call for call in own if call.mentions(path)]
    stamp = facts.stamp_ms(tree)
    if stamp is None or not -STRANGE_MS < stamp - step.began_ms < facts.finished_ms - step.began_ms + STRANGE_MS:
        return (telling or own)[-1]
    hits = [call for call in own if _within(call, stamp, facts)]
    rivals = [call for call in facts.rivals if _within(call, stamp, facts)]
    telling = [call for call in hits if call in telling]
    if rivals and not telling and any(call.mentions(path) for call in rivals):
        return None
    return (telling or hits)[-1] if hits else None


def _earlier(step: Step, tree: TreeChange, facts: Facts) -> Call | None:
    """The command that ended before the step's event and was at work when the file was last changed."""
    stamp = facts.stamp_ms(tree) if step.earlier else None
    fitting = (call for call in step.earlier if stamp is not None and _within(call, stamp, facts))
    return next((call for call in fitting if _may_write(call, tree)), None)


def _may_write(call: Call, tree: TreeChange) -> bool:
    if tree.place and not tree.place.is_own:
        return tree.place in call.named
    return any(call.may_write(path) for path in (tree.path, tree.old_path) if path)


def _within(call: Call, stamp_ms: float, facts: Facts) -> bool:
    early = 0.0 if call.permitted else EARLY_MS
    ended = call.ended_ms if call.ended_ms is not None else facts.finished_ms
    return call.began_ms - early <= stamp_ms <= ended + LATE_MS


def _file_change(tree: TreeChange, facts: Facts, theirs: AbstractSet[str] = _NOBODYS) -> FileChange | None:
    """The change as a record has it; None when git's own command, or another session, made all of it.

    Args:
        tree: the change.
        facts: what is known of the step.
        theirs: the hashes of lines that other sessions have written into the file, as hex text.
    """
    kind = {"A": "add", "D": "delete", "R": "move"}.get(tree.status, "update")
    before = facts.judge(tree.old_path or tree.path, tree.before) if tree.before is not None else None
    after = facts.judge(tree.path, tree.after) if tree.after is not None else None
    grown, gone = added(tree.changes or ()), removed(tree.changes or ())
    brought = facts.brought(tree)
    if brought:
        lines = tree.after or ()
        grown = _kept(grown, lambda at: lines[at - 1] not in brought)
        if not grown:
            return None
    if theirs:
        lines = tree.after or ()
        grown = _kept(grown, lambda at: not (is_evidence(lines[at - 1]) and line_hash(lines[at - 1]).hex() in theirs))
        if not grown:
            return None
    elsewhere = facts.copied(tree)
    if elsewhere:
        grown = _kept(grown, lambda at: at not in elsewhere)
    certain = tree.certain
    if certain is not None:
        lines = tree.after or ()
        grown, gone, before = _kept(grown, lambda at: lines[at - 1] in certain), [], None
        if not grown:
            return None
    return FileChange(
        tree.path,
        kind,
        tree.old_path,
        tuple(after.span(start, end, "snapshot") for start, end in grown) if after else (),
        tuple(gone),
        before_hashes="" if kind == "add" else before.vector() if before else None,
        after_hashes="" if kind == "delete" else after.vector() if after else None,
        repository=tree.repository,
        wrapped=wrapped(before.lines, after.lines, tree.changes or ()) if before and after else (),
    )


def _kept(spans: Iterable[Span], keep: Callable[[int], bool]) -> list[Span]:
    """The lines of some spans that are to be kept."""
    return merged((at, at) for start, end in spans for at in range(start, end + 1) if keep(at))


def _differs(one: FileChange, two: FileChange) -> bool:
    return _shape(one) != _shape(two) or (one.before_hashes, one.after_hashes) != (two.before_hashes, two.after_hashes)


def _shape(change: FileChange) -> tuple[object, ...]:
    return change.kind, [(span.start, span.end, span.content_hash) for span in change.ranges]
