"""Looks at the files a tool call names, before and after it, and at the revision the repository stands at.

A line that tells of no change to files costs one look at its first bytes. For the others there is a time budget:
what is not looked at in time is left to what the tool says of itself.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from agent_trace_sidecar import opencode
from agent_trace_sidecar.content import Content
from agent_trace_sidecar.events import CallDone, FileEdit
from agent_trace_sidecar.ranges import attributed, deleted, observed
from agent_trace_sidecar.trace import relative_path
from agent_trace_sidecar.wire import Envelope, FileChange, Observed, VcsObserved, parse
from agent_trace_sidecar.workspace import files
from agent_trace_sidecar.workspace.revision import Revisions

HEAD_BYTES: Final = 400
"""The shim writes `hook` and the event's type into a line's first bytes."""
BUDGET_S: Final = 0.25
"""How long the files of one call may be looked at; the shim's pipe waits meanwhile."""
MAX_BEFORE_BYTES: Final = 16 * 1024 * 1024
"""Contents that are kept for calls that have begun; the oldest give way."""
MAX_CALLS: Final = 512
CLOCK_SLACK_NS: Final = 10_000_000
"""A file written less than this before the hook fired may as well have been written after: kernels stamp files with
a clock that ticks every few milliseconds."""

_Key = tuple[str | None, str | None]
_Place = tuple[Path, str]


class _BeforeOutput(msgspec.Struct):
    args: msgspec.Raw = msgspec.Raw()


_before_output = msgspec.json.Decoder(_BeforeOutput)


class Observer:
    """Watches the calls of one sidecar's lines; for one thread."""

    def __init__(
        self,
        is_secret: Callable[[str], bool],
        *,
        is_secret_path: Callable[[str], bool] = lambda _: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make an observer.

        Args:
            is_secret: whether a text may hold a secret; such a line gets no hash.
            is_secret_path: whether a file is secret as a whole by its path, e.g. `.env`; no line of it gets a hash.
            clock: seconds that only go forward, for the time budget.
        """
        self._is_secret = is_secret
        self._is_secret_path = is_secret_path
        self._clock = clock
        self._revisions = Revisions()
        self._before: OrderedDict[_Key, dict[_Place, bytes]] = OrderedDict()
        self._before_bytes = 0
        self._seen: OrderedDict[_Key, None] = OrderedDict()

    def observe(self, line: bytes) -> bytes | None:
        """What the repository says about a line, as the JSON of `wire.Observed`; None where it says nothing.

        Never raises: a file that can't be read is a file that is not known.
        """
        head = line[:HEAD_BYTES]
        if b'"tool.execute.' not in head and not (
            b'"message.part.updated"' in head and b'"status":"completed"' in line
        ):
            return None
        envelope = parse(line)
        if not isinstance(envelope, Envelope) or not (envelope.worktree or envelope.directory):
            return None
        seen = opencode.read(envelope)
        if seen.tool is None or not opencode.changes_files(envelope.api, seen.tool):
            return None
        key = (seen.session_id, seen.call_id)
        if seen.name == "tool.execute.before":
            self._remember(key, envelope, seen.tool)
        elif isinstance(seen.event, CallDone) and key not in self._seen:
            self._seen[key] = None
            while len(self._seen) > MAX_CALLS:
                self._seen.popitem(last=False)
            return self._look(key, envelope, seen.event)
        return None

    def _remember(self, key: _Key, envelope: Envelope, tool: str) -> None:
        """Keep what the call's files hold, if it is certain that the call has not written them yet."""
        self._seen.pop(key, None)  # the same call id in a later turn is another call
        self._drop(key)
        try:
            named = opencode.named_paths(envelope.api, tool, _before_output.decode(envelope.output).args)
        except (ValueError, RecursionError):
            return
        deadline = self._clock() + BUDGET_S
        fired_ns = int(min(max(envelope.at, 0), 2**53)) * 1_000_000
        kept = {}
        for name in named:
            place = _place(envelope, name)
            content = _read(place) if place and self._clock() < deadline else None
            if place and content is not None and content.written_ns < fired_ns - CLOCK_SLACK_NS:
                kept[place] = content.data
        self._before[key] = kept
        self._before_bytes += sum(map(len, kept.values()))
        while self._before and (self._before_bytes > MAX_BEFORE_BYTES or len(self._before) > MAX_CALLS):
            self._drop(next(iter(self._before)))

    def _drop(self, key: _Key) -> dict[_Place, bytes]:
        kept = self._before.pop(key, {})
        self._before_bytes -= sum(map(len, kept.values()))
        return kept

    def _look(self, key: _Key, envelope: Envelope, done: CallDone) -> bytes | None:
        before = self._drop(key)
        deadline = self._clock() + BUDGET_S
        try:
            edits = opencode.file_edits(envelope.api, done)
        except (ValueError, RecursionError):
            edits = ()
        changes = (self._change(envelope, edit, before, deadline) for edit in edits)
        saw = Observed(self._revision(envelope), tuple(change for change in changes if change is not None))
        return msgspec.json.encode(saw) if saw.vcs or saw.files else None

    def _change(
        self, envelope: Envelope, edit: FileEdit, before: dict[_Place, bytes], deadline: float
    ) -> FileChange | None:
        """What one edit did; None for a file outside the worktree, or one whose very name may hold a secret."""
        place = _place(envelope, edit.path)
        old_place = _place(envelope, edit.old_path) if edit.old_path else None
        if place is None or any(self._secret(one[1]) for one in (place, old_place) if one):
            return None
        old_path = old_place[1] if old_place else None
        old = before.get(old_place or place)
        known = self._judged(old_place or place, old, deadline) if old is not None else None
        if edit.kind == "delete" and known is not None:
            return deleted(place[1], known)
        content = _read(place) if edit.kind != "delete" and self._clock() < deadline else None
        if content is None or not content.written_ns:
            return attributed(edit, place[1], old_path, exact_text=False)
        return observed(edit, place[1], old_path, before=known, after=self._judged(place, content.data, deadline))

    def _judged(self, place: _Place, data: bytes, deadline: float) -> Content:
        secret = self._is_secret_path(place[1])
        return Content.judged(data, lambda text: secret or self._clock() > deadline or self._secret(text))

    def _secret(self, text: str) -> bool:
        try:
            return self._is_secret(text)
        except Exception:  # noqa: BLE001 - fails closed: a text that no rule could judge counts as a secret
            return True

    def _revision(self, envelope: Envelope) -> VcsObserved | None:
        root = _root(envelope)
        try:
            return self._revisions.of(root) if root else None
        except (OSError, ValueError):
            return None


def _root(envelope: Envelope) -> Path | None:
    """The worktree; the directory where there is no repository (OpenCode then says "/")."""
    worktree = envelope.worktree
    name = worktree if worktree and worktree != "/" else envelope.directory
    root = Path(name) if name else None
    return root if root is not None and root.is_absolute() else None


def _place(envelope: Envelope, name: str) -> _Place | None:
    """A file by its root and its path from there; None outside of it."""
    root, relative = _root(envelope), relative_path(name, envelope.worktree, envelope.directory)
    return (root, relative) if root and relative else None


def _read(place: _Place) -> files.Content | None:
    try:
        return files.read(*place)
    except (OSError, ValueError):
        return None
