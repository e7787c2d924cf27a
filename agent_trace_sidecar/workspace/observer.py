"""Looks at what tool calls do to files.

At the files they name, before and after them; at the revision the repository stands at; and, when a step ends, at
OpenCode's snapshots before and after it.

A line that tells of none of this costs one look at its bytes. For the others there is a time budget: what is not
looked at in time is left to what the tool says of itself.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from agent_trace_sidecar import opencode
from agent_trace_sidecar.limits import files
from agent_trace_sidecar.opencode.events import (
    BackgroundEnded,
    CallDone,
    CallFailed,
    FileEdit,
    Seen,
    StepBegan,
    StepEnded,
)
from agent_trace_sidecar.opencode.wire import Envelope, Observed, VcsObserved, parse
from agent_trace_sidecar.records.content import Content, text_lines
from agent_trace_sidecar.records.ranges import attributed, deleted, observed
from agent_trace_sidecar.records.trace import relative_path
from agent_trace_sidecar.workspace.revision import Revisions
from agent_trace_sidecar.workspace.rewrites import Rewrites
from agent_trace_sidecar.workspace.scope import everywhere
from agent_trace_sidecar.workspace.step_end import Finisher
from agent_trace_sidecar.workspace.steps import Call, Edited, Step, Steps
from agent_trace_sidecar.workspace.vcs import Repositories

HEAD_BYTES: Final = 16 * 1024
"""The shim writes `hook`, two paths and the event's type into a line's first bytes."""
BUDGET_S: Final = 0.25
"""How long the files of one call may be looked at; the shim's pipe waits meanwhile."""
MAX_BEFORE_BYTES: Final = 16 * 1024 * 1024
"""Contents that are kept for calls that have begun; the oldest give way."""
MAX_CALLS: Final = 512
MAX_COMMAND_CHARS: Final = 64 * 1024
CLOCK_SLACK_NS: Final = 10_000_000
"""A file written less than this before the hook fired may as well have been written after: kernels stamp files with
a clock that ticks every few milliseconds."""

_HOOKS: Final = (b'"tool.execute.', b'"session.step.', b'"shell.exited"', b'"session.inbox.enqueued"')
_PARTS: Final = (b'"status":"completed"', b'"status":"error"', b'"type":"step-')
_Key = tuple[str | None, str | None]
_Place = tuple[Path, str]


class Observer:
    """Watches the calls of one sidecar's lines; for one thread."""

    def __init__(
        self,
        is_secret: Callable[[str], bool],
        *,
        is_secret_path: Callable[[str], bool] = lambda _: False,
        clock: Callable[[], float] = time.monotonic,
        data_home: Path | None = None,
        allows: Callable[[Path], bool] = everywhere,
    ) -> None:
        """Make an observer.

        Args:
            is_secret: whether a text may hold a secret; such a line gets no hash.
            is_secret_path: whether a file is secret as a whole by its path, e.g. `.env`; no line of it gets a hash.
            clock: seconds that only go forward, for the time budget.
            data_home: where OpenCode keeps its data, if not where the environment says.
            allows: whether a worktree may be looked at.
        """
        self._is_secret = is_secret
        self._is_secret_path = is_secret_path
        self._clock = clock
        self._allows = allows
        revisions = Revisions()
        self._repositories = Repositories(revisions)
        self._rewrites = Rewrites(revisions)
        self._steps = Steps()
        self._finisher = Finisher(data_home, self._rewrites, self._judged, self._secret)
        self._before: OrderedDict[_Key, dict[_Place, bytes]] = OrderedDict()
        self._before_bytes = 0
        self._seen: OrderedDict[_Key, None] = OrderedDict()

    def observe(self, line: bytes) -> bytes | None:
        """What the repository says about a line, as the JSON of `wire.Observed`; None where it says nothing.

        Never raises: a file that can't be read is a file that is not known.
        """
        worth = worth_a_look(line)
        return self.look(*worth) if worth else None

    def look(self, envelope: Envelope, seen: Seen) -> bytes | None:
        """As `observe`, for what `worth_a_look` has found."""
        root = root_of(envelope)
        saw = self._observe(envelope, seen) if root and self._allows(root) else None
        return msgspec.json.encode(saw) if saw and (saw.vcs or saw.files or saw.calls) else None

    def _observe(self, envelope: Envelope, seen: Seen) -> Observed | None:
        event = seen.event
        if isinstance(event, StepBegan):
            return self._begin(envelope, event)
        if isinstance(event, StepEnded):
            step = self._steps.close(event.session_id)
            if step is not None and step.message_id == event.message_id and event.tree:
                self._steps.remember(step, event.tree, float(envelope.at))
                return self._finisher.finish(self._steps, step, event.tree, float(envelope.at))
        elif isinstance(event, BackgroundEnded):
            self._steps.end_background(event.name, float(envelope.at))
        elif seen.name == "tool.execute.before" and seen.tool is not None:
            self._remember(envelope, seen, seen.tool)
        elif isinstance(event, CallDone | CallFailed):
            return self._ended(envelope, seen, event)
        return None

    def _begin(self, envelope: Envelope, event: StepBegan) -> Observed | None:
        """A step begins; what commands in the background have changed since the last one is known now."""
        root = root_of(envelope)
        if root is None or not event.tree:
            return None
        gap = self._steps.gap(event.session_id, event.message_id)
        found = None
        if gap is not None and gap.root == str(root):
            found = self._finisher.finish(self._steps, gap, event.tree, float(envelope.at))
        step = Step(event.session_id, event.message_id, str(root), event.tree, float(envelope.at))
        step.heads = self._rewrites.heads(root)
        self._steps.open(step)
        return found

    def _remember(self, envelope: Envelope, seen: Seen, tool: str) -> None:
        """Keep what the call's files hold, if it is certain that the call has not written them yet."""
        key = (seen.session_id, seen.call_id)
        self._seen.pop(key, None)  # the same call id in a later turn is another call
        self._drop(key)
        call = Call(seen.call_id or "", tool, opencode.may_change_unseen(envelope.api, tool), float(envelope.at))
        try:
            args = opencode.before_args(envelope)
            named = opencode.named_paths(envelope.api, tool, args)
            call.command = texts_of(args) if call.silent else ""
        except (ValueError, RecursionError):
            return
        places = [place for place in (place_of(envelope, name) for name in named) if place]
        call.asked = frozenset(relative for _, relative in places)
        self._steps.began(seen.session_id, call)
        if places:
            self._keep(key, places, envelope.at)

    def _keep(self, key: _Key, places: list[_Place], at: float) -> None:
        deadline = self._clock() + BUDGET_S
        fired_ns = int(min(max(at, 0), 2**53)) * 1_000_000
        kept = {}
        for place in places:
            content = _read(place) if self._clock() < deadline else None
            if content is not None and content.written_ns < fired_ns - CLOCK_SLACK_NS:
                kept[place] = content.data
        self._before[key] = kept
        self._before_bytes += sum(map(len, kept.values()))
        while self._before and (self._before_bytes > MAX_BEFORE_BYTES or len(self._before) > MAX_CALLS):
            self._drop(next(iter(self._before)))

    def _drop(self, key: _Key) -> dict[_Place, bytes]:
        kept = self._before.pop(key, {})
        self._before_bytes -= sum(map(len, kept.values()))
        return kept

    def _ended(self, envelope: Envelope, seen: Seen, event: CallDone | CallFailed) -> Observed | None:
        """A call has had its outcome; the part that follows a hook is the same one again."""
        key = (seen.session_id, seen.call_id)
        edits = opencode.changes_files(envelope.api, event.tool)
        silent = opencode.may_change_unseen(envelope.api, event.tool)
        if key in self._seen or not (edits or silent):
            return None
        self._seen[key] = None
        while len(self._seen) > MAX_CALLS:
            self._seen.popitem(last=False)
        step = self._steps.of(seen.session_id)
        call = step.calls.get(seen.call_id or "") if step else None
        if call is None:
            call = Call(seen.call_id or "", event.tool, silent, step.began_ms if step else float(envelope.at))
            self._steps.began(seen.session_id, call)
        call.ended_ms, call.vcs = float(envelope.at), self._revision(envelope)
        if isinstance(event, CallDone) and event.background:
            self._steps.keep_background(seen.session_id, call, event.background)
        if isinstance(event, CallFailed) or not edits:
            self._drop(key)
            return None
        edited = list(self._look(envelope, seen, event, call))
        self._steps.edited(seen.session_id, call, edited)
        return Observed(call.vcs, tuple(one.change for one in edited))

    def _look(self, envelope: Envelope, seen: Seen, done: CallDone, call: Call) -> Iterator[Edited]:
        before = self._drop((seen.session_id, seen.call_id))
        deadline = self._clock() + BUDGET_S
        try:
            edits = opencode.file_edits(envelope.api, done)
        except (ValueError, RecursionError):
            return
        others = self._steps.overlapping(seen.session_id, call)
        for edit in edits:
            place = place_of(envelope, edit.path)
            old_place = place_of(envelope, edit.old_path) if edit.old_path else None
            if place is None or any(self._secret(one[1]) for one in (place, old_place) if one):
                continue  # outside the worktree, or its very name may hold a secret
            old = _latest(others, (old_place or place)[1], before.get(old_place or place))
            yield self._changed(edit, place, old_place, old, deadline, alone=not others)

    def _changed(
        self,
        edit: FileEdit,
        place: _Place,
        old_place: _Place | None,
        old: bytes | None,
        deadline: float,
        *,
        alone: bool,
    ) -> Edited:
        """What one edit did to its file."""
        old_path = old_place[1] if old_place else None
        known = self._judged((old_place or place)[1], text_lines(old), deadline) if old is not None else None
        if edit.kind == "delete" and known is not None:
            return Edited(deleted(place[1], known), old, b"")
        content = _read(place) if edit.kind != "delete" and self._clock() < deadline else None
        if content is None or not content.written_ns:
            return Edited(attributed(edit, place[1], old_path, exact_text=False), old, None)
        after = self._judged(place[1], text_lines(content.data), deadline)
        change = observed(edit, place[1], old_path, before=known, after=after, alone=alone)
        return Edited(change, old, content.data)

    def _judged(self, path: str, lines: list[bytes], deadline: float | None = None) -> Content:
        secret = self._is_secret_path(path)
        end = deadline if deadline is not None else self._clock() + BUDGET_S
        return Content.judged(lines, lambda text: secret or self._clock() > end or self._secret(text))

    def _secret(self, text: str) -> bool:
        try:
            return self._is_secret(text)
        except Exception:  # noqa: BLE001 - fails closed: a text that no rule could judge counts as a secret
            return True

    def _revision(self, envelope: Envelope) -> VcsObserved | None:
        root = root_of(envelope)
        try:
            return self._repositories.of(root) if root else None
        except (OSError, ValueError):
            return None


def worth_a_look(line: bytes) -> tuple[Envelope, Seen] | None:
    """The event of a line about which a repository may say something; no file is looked at for this."""
    head = line[:HEAD_BYTES]
    if not any(mark in head for mark in _HOOKS) and not (
        b'"message.part.updated"' in head and any(mark in line for mark in _PARTS)
    ):
        return None
    envelope = parse(line)
    if not isinstance(envelope, Envelope) or not (envelope.worktree or envelope.directory):
        return None
    seen = opencode.read(envelope)
    match seen.event:
        case StepBegan() | StepEnded():
            return envelope, seen
        case CallDone(tool=tool) | CallFailed(tool=tool):
            changes = opencode.changes_files(envelope.api, tool) or opencode.may_change_unseen(envelope.api, tool)
            return (envelope, seen) if changes else None
        case _:
            return (envelope, seen) if seen.name == "tool.execute.before" and seen.tool is not None else None


def root_of(envelope: Envelope) -> Path | None:
    """The worktree; the directory where there is no repository (OpenCode then says "/")."""
    worktree = envelope.worktree
    name = worktree if worktree and worktree != "/" else envelope.directory
    root = Path(name) if name else None
    return root if root is not None and root.is_absolute() else None


def place_of(envelope: Envelope, name: str) -> _Place | None:
    """A file by its root and its path from there; None outside of it."""
    root, relative = root_of(envelope), relative_path(name, envelope.worktree, envelope.directory)
    return (root, relative) if root and relative else None


def _latest(others: list[Call], path: str, before: bytes | None) -> bytes | None:
    """What a file held right before a call: what a call at work at the same time has left of it, if one was done."""
    for other in reversed(others):
        for one in other.edited:
            if one.change.path == path:
                return one.after
    return before


def texts_of(args: msgspec.Raw) -> str:
    """All texts in a call's arguments, whatever the tool."""
    found: list[str] = []
    left = [msgspec.json.decode(args)] if len(args) else []
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
        elif isinstance(value, str):
            found.append(value[:MAX_COMMAND_CHARS])
    return "\n".join(found)[:MAX_COMMAND_CHARS]


def _read(place: _Place) -> files.Content | None:
    try:
        return files.read_inside(*place)
    except (OSError, ValueError):
        return None
