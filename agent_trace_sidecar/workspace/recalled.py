"""What calls did to files, reconstructed afterwards: from OpenCode's snapshot trees alone, while they exist.

The worktree has moved on, so nothing of it is read. A step's two trees hold each file before and after it; what its
calls report of their files is checked against that, as `observer` checks it against the files themselves. Where the
trees are gone, the tools' reports are all there is, and the method of the ranges shows it. Of the repository itself
only the log of HEAD is read: it has where HEAD stood at a time, and what git brought.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from agent_trace_sidecar.limits.files import read_part
from agent_trace_sidecar.opencode import dialects
from agent_trace_sidecar.opencode.events import (
    BackgroundEnded,
    CallDone,
    CallFailed,
    CallOpened,
    FileEdit,
    Seen,
    StepBegan,
    StepEnded,
)
from agent_trace_sidecar.opencode.wire import Envelope, Observed, VcsObserved
from agent_trace_sidecar.records.content import Content, text_lines
from agent_trace_sidecar.records.ranges import attributed, deleted, observed
from agent_trace_sidecar.workspace import commands
from agent_trace_sidecar.workspace.copies import Known, copied, with_moves
from agent_trace_sidecar.workspace.places import Place, place_inside, session_root
from agent_trace_sidecar.workspace.revision import Revisions, git_dir
from agent_trace_sidecar.workspace.rewrites import LOG_ENTRY, Rewrites
from agent_trace_sidecar.workspace.snapshot import Snapshots, TreeChange
from agent_trace_sidecar.workspace.step_attribution import Facts, allotted, may_have_more_files
from agent_trace_sidecar.workspace.steps import Call, Edited, Heads, Step, Steps

_MAX_LOG_BYTES: Final = 16 * 1024 * 1024


@dataclass(slots=True)
class StepPlan:
    """What is known of a step before its first event is handled."""

    before: str | None = None
    """OpenCode's tree at its begin."""
    after: str | None = None
    ended_ms: float | None = None
    named: Counter[str] = field(default_factory=Counter)
    """How often its calls name a file."""
    silent: bool = False
    """One of its calls may change files without saying so."""


class _Calls:
    """The calls of some sessions: which message made one, and whether it has had its outcome."""

    def __init__(self) -> None:
        self._messages: dict[tuple[str | None, str | None], str] = {}
        self._done: set[tuple[str | None, str | None]] = set()

    def open(self, opened: CallOpened) -> None:
        """A call begins; the same id may come again in a later turn."""
        key = (opened.session_id, opened.call_id)
        if self._messages.get(key) != opened.message_id:
            self._messages[key] = opened.message_id
            self._done.discard(key)

    def finish(self, seen: Seen) -> str | None:
        """The message of a call that has its outcome now; None where it had it before, or is unknown."""
        key = (seen.session_id, seen.call_id)
        message = seen.message_id or self._messages.get(key)
        if message is not None and self._messages.setdefault(key, message) != message:
            self._messages[key] = message
            self._done.discard(key)
        if key in self._done:
            return None
        self._done.add(key)
        return message


class Plan:
    """The steps of some sessions, by message; fed with their events once, before they are handled."""

    def __init__(self) -> None:
        self.steps: dict[str, StepPlan] = {}
        self._calls = _Calls()

    def learn(self, envelope: Envelope, seen: Seen) -> None:
        """Take note of one event."""
        match seen.event:
            case StepBegan(_, message_id, tree):
                self._step(message_id).before = tree
            case StepEnded(_, message_id, tree):
                step = self._step(message_id)
                step.after, step.ended_ms = tree, float(envelope.at)
            case CallOpened() as opened:
                self._calls.open(opened)
            case (CallDone() | CallFailed()) as outcome if maker := self._calls.finish(seen):
                step = self._step(maker)
                if isinstance(outcome, CallDone) and dialects.changes_files(envelope.api, outcome.tool):
                    step.named.update(place[1] for _, place, _ in _edits(envelope, outcome))
                step.silent |= dialects.may_change_unseen(envelope.api, outcome.tool)
            case _:
                pass

    def _step(self, message_id: str) -> StepPlan:
        return self.steps.setdefault(message_id, StepPlan())


class Recaller:
    """Goes through the events of some sessions in order, after `Plan` has."""

    def __init__(
        self,
        plan: Plan,
        is_secret: Callable[[str], bool],
        *,
        is_secret_path: Callable[[str], bool],
        data_home: Path | None,
        records: Mapping[tuple[str, str], tuple[str, float, str]],
    ) -> None:
        """Begin before the first event.

        Args:
            plan: the steps.
            is_secret: whether a text may hold a secret; such a line gets no hash.
            is_secret_path: whether a file is secret as a whole by its path.
            data_home: the folder in which OpenCode's own lies; None where there are no snapshots.
            records: by message and call what of them is recorded already, see `wire.Observed.recorded`.
        """
        self._plan = plan
        self._is_secret = is_secret
        self._is_secret_path = is_secret_path
        self._records = records
        self._snapshots = Snapshots(data_home) if data_home is not None else None
        self._rewrites = Rewrites(Revisions())
        self._logs: dict[Path, _HeadLog] = {}
        self._steps = Steps()
        self._changes: dict[str, list[TreeChange]] = {}
        """Of the open step of each session."""
        self._contents: dict[str, dict[str, list[bytes]]] = {}
        """What files hold by now, where several calls of a step change the same."""
        self._calls = _Calls()
        self._left: dict[str, Counter[str]] = {}
        """How often the rest of a step's calls names a file."""

    def observe(self, envelope: Envelope, seen: Seen) -> Observed | None:
        """The observation of an event; None where there is none."""
        match seen.event:
            case StepBegan() as began:
                return self._begin(envelope, began)
            case BackgroundEnded(name):
                self._steps.end_background(name, float(envelope.at))
            case StepEnded() as ended:
                return self._end(envelope, ended)
            case CallOpened() as opened:
                self._calls.open(opened)
            case (CallDone() | CallFailed()) as outcome:
                return self._call(envelope, seen, outcome)
            case _:
                pass
        return None

    def _begin(self, envelope: Envelope, began: StepBegan) -> Observed | None:
        root, plan = session_root(envelope), self._plan.steps.get(began.message_id, StepPlan())
        self._contents.pop(began.session_id, None)
        self._changes.pop(began.session_id, None)
        if root is None or not began.tree:
            return None
        gap = self._steps.gap(began.session_id, began.message_id)
        found = None
        if gap is not None and gap.root == str(root) and self._snapshots is not None and gap.tree != began.tree:
            changes = self._snapshots.compare(gap.root, gap.tree, began.tree) or []
            found = self._allotted(gap, changes, float(envelope.at))
        step = Step(began.session_id, began.message_id, str(root), began.tree, float(envelope.at))
        step.heads = self._log(root).heads(step.began_ms, plan.ended_ms)
        self._steps.open(step)
        if plan.after and plan.after != began.tree and self._snapshots is not None and (plan.named or plan.silent):
            self._changes[began.session_id] = self._snapshots.compare(step.root, began.tree, plan.after) or []
        return found

    def _call(self, envelope: Envelope, seen: Seen, outcome: CallDone | CallFailed) -> Observed | None:
        edits = dialects.changes_files(envelope.api, outcome.tool)
        silent = dialects.may_change_unseen(envelope.api, outcome.tool)
        message_id = self._calls.finish(seen)
        if message_id is None or not (edits or silent):
            return None
        step = self._steps.of(seen.session_id)
        call = Call(seen.call_id or "", outcome.tool, silent, step.began_ms if step else float(envelope.at))
        call.ended_ms, call.vcs = float(envelope.at), self._revision(envelope)
        with suppress(ValueError, RecursionError):
            if silent:
                call.command, call.writes, call.confined, call.lingers, _ = commands.read(outcome.args)
        self._steps.began(seen.session_id, call)
        if isinstance(outcome, CallDone) and outcome.background:
            self._steps.keep_background(seen.session_id, call, outcome.background)
        recorded = self._records.get((message_id, call.call_id))
        if isinstance(outcome, CallFailed) or not edits:
            return Observed(recorded=recorded) if recorded else None
        edited = list(self._edited(envelope, seen.session_id or "", message_id, outcome))
        self._steps.edited(seen.session_id, call, edited)
        return Observed(call.vcs, tuple(one.change for one in edited), recorded=recorded)

    def _edited(self, envelope: Envelope, session_id: str, message_id: str, done: CallDone) -> Iterator[Edited]:
        plan = self._plan.steps.get(message_id, StepPlan())
        left = self._left.setdefault(message_id, plan.named.copy())
        changes = {one.path: one for one in self._changes.get(session_id, ())}
        changes |= {one.old_path: one for one in changes.values() if one.old_path and one.old_path not in changes}
        now = self._contents.setdefault(session_id, {})
        exact = not envelope.repaired
        for edit, place, old_place in _edits(envelope, done):
            path, old_path = place.path, old_place.path if old_place else None
            if any(self._secret(name) for name in (path, old_path) if name):
                continue
            left[path] -= 1
            tree = changes.get(path)
            before = now.get(old_path or path, _before(path, tree))
            last = left[path] <= 0 and not plan.silent and tree is not None and tree.path == path
            after = _after(edit, before, tree, last=last)
            if before is None or after is None:
                now.pop(path, None)
                yield Edited(attributed(edit, path, old_path, exact_text=exact))
                continue
            now[path] = after
            known = self._judged(old_path or path, before)
            if edit.kind == "delete":
                change = deleted(path, known)
            else:
                change = observed(edit, path, old_path, before=known, after=self._judged(path, after))
            yield Edited(change, _joined(before), _joined(after))

    def _end(self, envelope: Envelope, ended: StepEnded) -> Observed | None:
        step = self._steps.close(ended.session_id)
        changes = self._changes.pop(ended.session_id, [])
        self._contents.pop(ended.session_id, None)
        if step is None or step.message_id != ended.message_id:
            return None
        if ended.tree:
            self._steps.remember(step, ended.tree, float(envelope.at))
        return self._allotted(step, changes, float(envelope.at))

    def _allotted(self, step: Step, changes: Sequence[TreeChange], at_ms: float) -> Observed | None:
        if not changes or not may_have_more_files(step):
            return None
        known = [one for one in changes if not any(self._secret(name) for name in (one.path, one.old_path) if name)]
        known = with_moves(known)
        brought = self._rewrites.brought(step, known)
        held = self._snapshots.ids(step.root, step.tree) if self._snapshots is not None else frozenset[str]()
        versions, others = self._rewrites.versions(step, known), self._rewrites.named(step)
        copies = copied(step, known, Known(held, versions, others, self._steps.has_written, self._steps.has_made))
        facts = Facts(
            at_ms,
            stamp_ms=lambda _: None,
            brought=lambda change: brought.get(change.path, frozenset()),
            copied=lambda change: copies.get(change.key, frozenset()),
            judge=lambda path, lines: self._judged(path, list(lines)),
            rivals=list(self._steps.rivals(step)),
        )
        calls = allotted(step, known, facts)
        self._steps.claim(step, [one for call in calls for one in call.files])
        self._steps.note(calls, step)
        return Observed(calls=tuple(calls)) if calls else None

    def _judged(self, path: str, lines: list[bytes]) -> Content:
        secret = self._is_secret_path(path)
        return Content.judged(lines, lambda text: secret or self._secret(text))

    def _secret(self, text: str) -> bool:
        try:
            return self._is_secret(text)
        except Exception:  # noqa: BLE001 - fails closed: a text that no rule could judge counts as a secret
            return True

    def _revision(self, envelope: Envelope) -> VcsObserved | None:
        root = session_root(envelope)
        head = self._log(root).at(float(envelope.at)) if root is not None else ""
        return VcsObserved("git", head) if head else None

    def _log(self, root: Path) -> "_HeadLog":
        if root not in self._logs:
            self._logs[root] = _HeadLog.of(root)
        return self._logs[root]


class _Moved(NamedTuple):
    at_ms: float
    head: str
    begin: int
    """Where the entry begins in the file."""


class _HeadLog:
    """Where HEAD stood at which time, by git's own log of it."""

    def __init__(self, entries: Sequence[_Moved], size: int) -> None:
        self._entries, self._size = entries, size

    @classmethod
    def of(cls, root: Path) -> "_HeadLog":
        """Read it; an empty one where there is none."""
        try:
            folder = git_dir(root)
            data = read_part(folder / "logs" / "HEAD", _MAX_LOG_BYTES) if folder else b""
        except (OSError, ValueError):
            data = b""
        found = [_Moved(int(one[3]) * 1000, one[2].decode(), one.start()) for one in LOG_ENTRY.finditer(data)]
        return cls(found, len(data))

    def at(self, at_ms: float) -> str:
        """The revision that HEAD stood at; empty where that is not known."""
        before = [one.head for one in self._entries if one.at_ms <= at_ms]
        return before[-1] if before else ""

    def heads(self, began_ms: float, ended_ms: float | None) -> Heads | None:
        """What `rewrites` needs of a step; git records whole seconds."""
        if not self._entries or ended_ms is None:
            return None
        begin = next((one.begin for one in self._entries if one.at_ms > began_ms - 1000), self._size)
        end = next((one.begin for one in self._entries if one.at_ms > ended_ms + 1000), self._size)
        return Heads(self.at(began_ms - 1000), "", begin, end)


def _edits(envelope: Envelope, done: CallDone) -> Iterator[tuple[FileEdit, Place, Place | None]]:
    """The edits of a call inside the worktree, with their places."""
    try:
        edits = dialects.file_edits(envelope.api, done)
    except (ValueError, RecursionError):
        return
    for edit in edits:
        place = place_inside(envelope, edit.path)
        if place is not None:
            yield edit, place, place_inside(envelope, edit.old_path) if edit.old_path else None


def _before(path: str, tree: TreeChange | None) -> list[bytes] | None:
    """A file at the begin of its step."""
    if tree is None:
        return None
    if tree.status == "A" and tree.path == path:
        return []
    return tree.before


def _after(edit: FileEdit, before: list[bytes] | None, tree: TreeChange | None, *, last: bool) -> list[bytes] | None:
    """A file after an edit: at the step's end for the last one that may have changed it, else as the edit reports."""
    if edit.kind == "delete":
        return []
    if last and tree is not None and tree.status != "D":
        return tree.after
    if edit.content is not None:
        return text_lines(edit.content.encode())
    if before is None or len(edit.replaced) != 1:
        return None
    old, new = edit.replaced[0]
    text = _joined(before).decode(errors="surrogateescape")
    if not old or text.count(old) != 1:
        return None
    changed = text_lines(text.replace(old, new).encode(errors="surrogateescape"))
    held = tree is None or tree.after is None or last or set(_added(before, changed)) <= set(tree.after)
    return changed if held else None


def _added(before: Sequence[bytes], after: Sequence[bytes]) -> set[bytes]:
    return set(after) - set(before)


def _joined(lines: Sequence[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)
