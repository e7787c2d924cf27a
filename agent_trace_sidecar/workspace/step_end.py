"""The end of a step: what has changed, given to the step's calls.

OpenCode's snapshots show it, and where they don't reach, the files themselves that a command names. Gathers the facts
that `step_attribution` decides by: the differences, when each file was last changed, and what was brought from
elsewhere. What may have been written unobserved is recorded as well.
"""

import os
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from agent_trace_sidecar.limits import files
from agent_trace_sidecar.opencode.wire import CallChange, FileChange, Observed, Repository, Uncovered
from agent_trace_sidecar.records.content import Content, text_lines
from agent_trace_sidecar.records.diffs import added
from agent_trace_sidecar.workspace import folders
from agent_trace_sidecar.workspace.copies import Known, copied, with_moves
from agent_trace_sidecar.workspace.places import Place
from agent_trace_sidecar.workspace.rewrites import Rewrites
from agent_trace_sidecar.workspace.snapshot import MAX_FILES, Snapshots, TreeChange, blob_id, change_of
from agent_trace_sidecar.workspace.standing import Standing
from agent_trace_sidecar.workspace.step_attribution import (
    EARLY_MS,
    Facts,
    allotted,
    may_have_more_files,
)
from agent_trace_sidecar.workspace.steps import Call, Step, Steps, Typed
from agent_trace_sidecar.workspace.typed import changed_between
from agent_trace_sidecar.workspace.unheld import Changed, Unheld

LOOK_S: Final = 0.5
"""Processor time in which the files of a step may be read, after git has listed them."""
OLD_MS: Final = 2000.0
"""By so much a file must have been written before the step in which it came."""
MAX_HASHES_BYTES: Final = 2 * 1024 * 1024
"""Of hashes of whole files in one line; files beyond it have only those of their changed lines."""


class Finisher:
    """Compares the snapshots around a step."""

    def __init__(
        self,
        data_home: Path | None,
        rewrites: Rewrites,
        judged: Callable[[str, list[bytes], float], Content],
        secret: Callable[[str], bool],
        *,
        clock: Callable[[], float],
        repository: Callable[[Place], Repository | None],
    ) -> None:
        """Make one.

        Args:
            data_home: where OpenCode keeps its data, if not in the environment's folder.
            rewrites: finds what git and commands brought.
            judged: makes a content of a path's lines until a time of the clock.
            secret: whether a file's very name may hold a secret.
            clock: seconds of processor time.
            repository: what a file that no snapshot holds belongs to.
        """
        self._snapshots = Snapshots(data_home)
        self._rewrites = rewrites
        self._judged = judged
        self._secret = secret
        self._clock = clock
        self._repository = repository
        self._unheld = Unheld(self._snapshots)
        self._standing = Standing(self._snapshots)

    def finish(self, steps: Steps, step: Step, tree: str, finished_ms: float) -> Observed | None:
        """What the calls of a step did, where more is known than the calls report; None where it is not."""
        if not may_have_more_files(step):  # a git process for each step would cost more than the rest
            again = _news(step, self._again(steps, step, ()))
            return Observed(uncovered=again) if again else None
        if tree and tree == step.tree:
            return self._result(steps, step, [], finished_ms)
        return self._result(steps, step, self._snapshots.compare(step.root, step.tree, tree), finished_ms)

    def typed(self, step: Step, call: Call) -> Typed:
        """What files of a step hold that were changed before a call of it begins."""
        return changed_between(self._snapshots, step, call)

    def marked(self, step: Step | None, change: FileChange) -> FileChange:
        """A change with those of its lines that stood in another file of the session's folder before the step."""
        return self._standing.marked(step, change)

    def patched(self, steps: Steps, step: Step, listed: Sequence[str], finished_ms: float) -> Observed | None:
        """The same for a step that was aborted: the files that OpenCode lists hold now what they held at its end."""
        if not may_have_more_files(step):
            return None
        prefix = step.root.rstrip("/") + "/"
        paths = [file.removeprefix(prefix) for file in listed if file.startswith(prefix)][:MAX_FILES]
        before = self._snapshots.contents(step.root, step.tree, paths)
        if before is None:
            return self._result(steps, step, None, finished_ms)
        known = ((Place(Path(step.root), path), _content(Path(step.root), path)) for path in paths)
        changes = [
            change_of(place, before.get(place.path, b""), now.data, now.changed_ns) for place, now in known if now
        ]
        changes = [change._replace(place=None) for change in changes if change.old_id != change.new_id]
        return self._result(steps, step, changes, finished_ms)

    def _result(
        self, steps: Steps, step: Step, trees: Sequence[TreeChange] | None, finished_ms: float
    ) -> Observed | None:
        root = Path(step.root)
        there = (_ignored(root, change) if change.status == "D" else change for change in trees or ())
        changes = [_with_moved(root, change)._replace(repository=step.repository) for change in there if change]
        covered = {path for one in changes for path in (one.path, one.old_path) if path}
        since = [_since_call(step, change) for change in changes]
        drafted = [_drafted(steps, step, change, finished_ms) for change, _ in since]
        changes = with_moves(change for change, _ in drafted)
        silent = [one._replace(repository=self._repository(one.place)) for one in _named(step, covered) if one.place]
        named = self._kept(step, trees, silent) if trees is not None else silent
        dropped = {one.place for one in silent if one not in named}
        known = [
            change
            for change in (*changes, *named)
            if not any(self._secret(path) for path in (change.path, change.old_path) if path)
        ]
        facts = self._facts(steps, step, [*known, *(one for one in silent if one not in known)], finished_ms)
        calls = allotted(step, known, facts) if known else []
        steps.wrote_lines(line for one in silent for line in _fresh(one, facts.copied(one)))
        calls = [
            msgspec.structs.replace(call, files=tuple(self._standing.marked(step, one) for one in call.files))
            for call in calls
        ]
        steps.claim(step, [one for call in calls for one in call.files if one.repository is None])
        steps.note(calls, step)
        doubted = (
            *(one for _, doubted in (*since, *drafted) for one in doubted),
            *self._uncovered(steps, step, trees, named, dropped),
            *self._written_unseen(step, trees or (), known, calls),
            *self._again(steps, step, calls),
        )
        uncovered = _news(step, doubted)
        return Observed(calls=tuple(_bounded(calls)), uncovered=uncovered) if calls or uncovered else None

    def _facts(self, steps: Steps, step: Step, changes: Sequence[TreeChange], finished_ms: float) -> Facts:
        root = Path(step.root)
        deadline = self._clock() + LOOK_S
        brought = self._rewrites.brought(step, changes)
        copies = self._copied(steps, step, changes, finished_ms)
        rivals: list[Call] = list(steps.rivals(step))
        return Facts(
            finished_ms,
            stamp_ms=lambda change: _stamp_ms(root, change) if self._clock() < deadline else None,
            brought=lambda change: brought.get(change.key, frozenset()),
            copied=lambda change: copies.get(change.key, frozenset()),
            judge=lambda path, lines: self._judged(path, list(lines), deadline),
            rivals=rivals,
        )

    def _copied(
        self, steps: Steps, step: Step, changes: Sequence[TreeChange], finished_ms: float
    ) -> dict[str, frozenset[int]]:
        """The lines that a command brought from elsewhere."""
        writing = [call for call in step.calls.values() if call.may_write_unseen]
        fresh = [one for one in changes if one.after and any(change.new_count for change in one.changes or ())]
        if not writing or not fresh:
            return {}
        names = {one.path.rpartition("/")[2] for one in fresh}
        covered = self._snapshots.paths(step.root, step.tree) or frozenset()
        prefix = step.root.rstrip("/") + "/"
        known = Known(
            self._snapshots.ids(step.root, step.tree),
            self._rewrites.versions(step, fresh),
            [*self._rewrites.named(step), *folders.standing(writing, names)],
            steps.has_written,
            steps.has_made,
            lambda file, line: file.removeprefix(prefix) not in covered and steps.has_written_line(line),
            frozenset(one.key for one in fresh if _written_before_ms(step, one, finished_ms) is not None),
        )
        return copied(step, changes, known)

    def _uncovered(
        self,
        steps: Steps,
        step: Step,
        trees: Sequence[TreeChange] | None,
        named: Sequence[TreeChange],
        dropped: Container[Place | None],
    ) -> Iterator[Uncovered]:
        """Calls that may have written unobserved files, or files that are not recorded."""
        writing = [call for call in step.calls.values() if call.may_write_unseen]
        blind = trees is None or (not trees and bool(writing) and self._stands_still(step, named))
        prefix = step.scope + "/" if step.scope else ""
        for call in writing:
            began_ms = call.began_ms - EARLY_MS if steps.is_read_beside(step, call) else None
            if blind and not call.confined:
                yield Uncovered(call.call_id, repository=step.repository, began_ms=began_ms)
            elif step.scope and not call.confined:
                yield Uncovered(call.call_id, "", step.scope, step.repository, began_ms)
            for place, one in call.named.items():
                is_covered = place.is_own and place.path.startswith(prefix) and not blind
                if (call.lingers and not one.is_only_run) or (one.missed and not is_covered) or place in dropped:
                    yield Uncovered(call.call_id, place.path, None, self._repository(place), began_ms)

    def _again(self, steps: Steps, step: Step, calls: Iterable[CallChange]) -> Iterator[Uncovered]:
        """Files that this step has changed while a command of an earlier one may still write them in the background."""
        changed = {one.file: call.call_id for call in step.calls.values() for one in call.edited}
        changed |= {f"{step.root}/{one.path}": call.call_id for call in calls for one in call.files}
        for place in steps.lingering(step):
            if place.file in changed:
                yield Uncovered(changed[place.file], place.path, repository=self._repository(place))

    def _written_unseen(
        self, step: Step, trees: Sequence[TreeChange], known: Sequence[TreeChange], calls: Sequence[CallChange]
    ) -> Iterator[Uncovered]:
        """Files that were written since a call began, or right before it was permitted, and nothing tells by whom."""
        root = Path(step.root)
        writing = [call for call in step.calls.values() if call.may_write_unseen]
        if not writing:
            return
        claimed = {one.path for call in calls for one in call.files}
        shown = {one.path for one in trees if one.status != "D"}  # as a file that git brought and tracks now
        began_ms = min(call.began_ms for call in writing) - EARLY_MS
        unheld = [*self._unheld.changed_since(step, began_ms), *_dropped(root, trees)]
        unheld = [one for one in unheld if one.path not in claimed | shown]
        early = [one for one in known if one.place is None] if any(call.permitted for call in writing) else []
        stamped = [(one.path, _stamp_ms(root, one)) for one in early]
        for call in writing:
            for path, changed_ms in unheld:
                if call.began_ms - EARLY_MS <= changed_ms:  # since then others may have changed it again
                    yield Uncovered(call.call_id, path, repository=step.repository)
            for path, stamp_ms in stamped if call.permitted else ():
                if stamp_ms is not None and call.began_ms - EARLY_MS <= stamp_ms < call.began_ms:
                    yield Uncovered(call.call_id, path, repository=step.repository)

    def _kept(self, step: Step, trees: Sequence[TreeChange], named: Sequence[TreeChange]) -> list[TreeChange]:
        """The files that the snapshots should hold and don't, but for those that git ignores and does not track."""
        prefix = step.scope + "/" if step.scope else ""
        silent = [one.path for one in named if one.place and one.place.is_own and one.path.startswith(prefix)]
        if not silent:
            return list(named)
        held = self._snapshots.contents(step.root, step.tree, silent) or {}
        if held and not trees:
            return list(named)  # OpenCode could not take another snapshot
        tracked = self._rewrites.tracked(step, silent) | held.keys()
        return [one for one in named if one.path not in silent or one.path in tracked]

    def _stands_still(self, step: Step, named: Sequence[TreeChange]) -> bool:
        """Whether a file of the snapshot has changed and the snapshot has not: OpenCode could not take another one."""
        own = [one.path for one in named if one.place and one.place.is_own and one.status != "A"]
        held = self._snapshots.contents(step.root, step.tree, own) if own else None
        return bool(held)


def _news(step: Step, uncovered: Iterable[Uncovered]) -> tuple[Uncovered, ...]:
    """What was not recorded yet: a command in the background is a call of several steps."""
    fresh = []
    for one in uncovered:
        known = step.calls[one.call_id].uncovered
        if not any((one.path, one.covered, one.repository) == (old.path, old.covered, old.repository) for old in known):
            known.append(one)
            fresh.append(one)
    return tuple(fresh)


def _since_call(step: Step, change: TreeChange) -> tuple[TreeChange, list[Uncovered]]:
    """A change without what happened to the file before the first call that may have written to it.

    A person may have typed into it since the step began: while the model was answering, or a permission was awaited.
    Where a call waited for a permission and the file was read too late, only what stands in the command is certainly
    its work. Where a person typed between two calls, the change is that of the later one. The rest is in doubt then.
    """
    writing = sorted((one for one in step.calls.values() if one.may_write(change.path)), key=lambda one: one.began_ms)
    if not writing or change.status not in {"A", "M"} or change.after is None:
        return change, []
    if any(call.names(change.path) for call in step.calls.values()):
        return change, []
    place = Place(Path(step.root), change.path)
    late = [one for one in writing if one.permitted and one.is_late(place)] if change.status == "M" else []
    if late:
        certain = (line for line in change.after if any(call.typed_out(line) for call in writing))
        return change._replace(certain=frozenset(certain)), _doubted(step, writing, change.path)
    held, earlier = writing[0].held(place), 0
    for at, call in enumerate(writing):
        typed = call.typed.files.get(change.path) if call.permitted and at else None
        if typed and not any(one.was_at_work(typed.changed_ms) for one in writing[:at]):
            held, earlier = typed.data, at
    doubted = _doubted(step, writing[:earlier], change.path)
    since = change_of(place, held, b"".join(line + b"\n" for line in change.after), 0) if held else None
    if since is None or since.changes is None or since.status != "M" or since.before == change.before:
        return change, doubted
    return since._replace(new_id=change.new_id, place=None, after=change.after), doubted


def _doubted(step: Step, calls: Iterable[Call], path: str) -> list[Uncovered]:
    """That these calls may have changed a file which is known again after the step."""
    began = ((one.call_id, one.began_ms - EARLY_MS) for one in calls)
    return [Uncovered(name, path, None, step.repository, began_ms, is_over=True) for name, began_ms in began]


def _named(step: Step, covered: set[str]) -> Iterator[TreeChange]:
    """The files that commands name, that have changed, and that no snapshot holds."""
    found: dict[Place, tuple[bytes, bytes, int]] = {}
    for call in step.calls.values():
        for place, named in call.named.items():
            if named.before is None or named.after is None or (place.is_own and place.path in covered):
                continue
            first = found[place][0] if place in found else named.before
            found[place] = (first, named.after, named.changed_ns)
    edited = {one.file for call in step.calls.values() for one in call.edited}
    for place, (before, after, changed_ns) in found.items():
        if place.file not in edited and before != after:
            yield change_of(place, before, after, changed_ns)


def _stamp_ms(root: Path, change: TreeChange) -> float | None:
    """When a file was last changed, if it holds what the second tree has."""
    if change.place:
        return change.changed_ms
    content = _content(root, change.path) if change.status != "D" else None
    known = content is not None and blob_id(content.data) == change.new_id
    return content.changed_ns / 1e6 if known and content is not None else None


def _fresh(change: TreeChange, copied: Container[int]) -> Iterator[bytes]:
    """The new lines of a file that were not brought."""
    for start, end in added(change.changes or ()):
        yield from ((change.after or ())[at - 1] for at in range(start, end + 1) if at not in copied)


def _written_before_ms(step: Step, change: TreeChange, finished_ms: float) -> float | None:
    """When a file was written that holds what is of before the step: it was moved, unpacked, or copied with its times.

    The two times of a file are of one clock, which need not be the events'.
    """
    place = change.place or Place(Path(step.root), change.path)
    try:
        status = os.lstat(place.file)
    except (OSError, ValueError):
        return None
    age_ms = (status.st_ctime_ns - status.st_mtime_ns) / 1e6
    if age_ms < finished_ms - step.began_ms + OLD_MS:
        return None
    content = _content(place.root, place.path)
    is_it = content is not None and content.written_ns == status.st_mtime_ns and blob_id(content.data) == change.new_id
    return status.st_mtime_ns / 1e6 if is_it else None


def _drafted(steps: Steps, step: Step, change: TreeChange, finished_ms: float) -> tuple[TreeChange, list[Uncovered]]:
    """A new file that was written elsewhere while a command was at work: it may be a draft of the AI's, or a person's.

    Only lines that a call is known to have written there are certain.
    """
    writing = [call for call in step.calls.values() if call.may_write(change.path)]
    if change.status != "A" or change.after is None or not writing:
        return change, []
    written_ms = _written_before_ms(step, change, finished_ms)
    if written_ms is None or not steps.was_command_at_work(written_ms):
        return change, []
    certain = frozenset(line for line in change.after if steps.has_written_line(line))
    return change._replace(certain=certain), _doubted(step, writing, change.path)


def _with_moved(root: Path, change: TreeChange) -> TreeChange:
    """Git does not list the content of a file that was moved as it was; it is read where it is now."""
    if change.status != "R" or change.after is not None or change.old_id != change.new_id:
        return change
    content = _content(root, change.path)
    if content is None or blob_id(content.data) != change.new_id or b"\0" in content.data[:8000]:
        return change
    lines = text_lines(content.data)
    return change._replace(before=lines, after=lines, changes=())


def _ignored(root: Path, change: TreeChange) -> TreeChange | None:
    """A file that the second tree does not have: gone, or ignored by git. OpenCode drops such a file when it changes.

    None for one that is there as it was, or that can't be read.
    """
    if not os.path.lexists(root / change.path):
        return change
    content = _content(root, change.path)
    if content is None or change.before is None:
        return None
    before = b"".join(line + b"\n" for line in change.before)
    found = change_of(Place(root, change.path), before, content.data, content.changed_ns)
    return found._replace(place=None, changed_ms=None) if found.changes else None


def _dropped(root: Path, trees: Iterable[TreeChange]) -> Iterator[Changed]:
    """The files that the second tree does not have, and that are there."""
    for change in trees:
        content = _content(root, change.path) if change.status == "D" else None
        if content is not None:
            yield Changed(change.path, content.changed_ns / 1e6)


def _content(root: Path, path: str) -> files.Content | None:
    try:
        if os.path.islink(root / path):  # noqa: PTH114 - raises nothing
            return None
        return files.read_inside(root, path)
    except (OSError, ValueError):
        return None


def _bounded(calls: Iterable[CallChange]) -> Iterable[CallChange]:
    """The same without the hashes of whole files beyond the bound."""
    room = MAX_HASHES_BYTES
    for call in calls:
        kept: list[FileChange] = []
        for one in call.files:
            room -= len(one.before_hashes or "") + len(one.after_hashes or "")
            kept.append(one if room > 0 else _without_hashes(one))
        yield CallChange(call.call_id, tuple(kept), call.vcs)


def _without_hashes(one: FileChange) -> FileChange:
    return FileChange(one.path, one.kind, one.old_path, one.ranges, one.deleted, repository=one.repository)
