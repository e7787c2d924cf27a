"""Observes what tool calls do to files.

At the files they name, before and after them; at the revision the repository stands at; and, when a step ends, at
OpenCode's snapshots before and after it.

An event that concerns none of this costs one search of its bytes. For the others there is a time budget: what is not
observed in time is left to what the tool itself reports.
"""

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from agent_trace_sidecar.limits import files
from agent_trace_sidecar.opencode import dialects
from agent_trace_sidecar.opencode.events import (
    BackgroundEnded,
    CallDone,
    CallFailed,
    FileEdit,
    PermissionAsked,
    PermissionReplied,
    Seen,
    SessionSeen,
    StepBegan,
    StepEnded,
    StepPatched,
)
from agent_trace_sidecar.opencode.wire import Envelope, Observed, Repository, VcsObserved, parse
from agent_trace_sidecar.records.content import Content, text_lines
from agent_trace_sidecar.records.ranges import attributed, deleted, observed
from agent_trace_sidecar.records.repeated import RepeatedHistory
from agent_trace_sidecar.records.trace import relative_path
from agent_trace_sidecar.workspace import commands, scripts
from agent_trace_sidecar.workspace.places import Place, Projects, place_of, repository_root, session_root
from agent_trace_sidecar.workspace.revision import Revisions
from agent_trace_sidecar.workspace.rewrites import Rewrites
from agent_trace_sidecar.workspace.scope import everywhere
from agent_trace_sidecar.workspace.step_attribution import may_have_more_files
from agent_trace_sidecar.workspace.step_end import Finisher
from agent_trace_sidecar.workspace.steps import Call, Edited, Named, Step, Steps
from agent_trace_sidecar.workspace.vcs import Repositories

HEAD_BYTES: Final = 16 * 1024
"""The shim writes `hook`, two paths and the event's type into a line's first bytes."""
BUDGET_S: Final = 0.25
"""Processor time in which the files of one call may be observed; the shim's pipe waits meanwhile."""
MAX_BEFORE_BYTES: Final = 16 * 1024 * 1024
"""Contents that are kept for calls that have begun; the oldest give way."""
MAX_CALLS: Final = 512
CLOCK_SLACK_NS: Final = 10_000_000
"""A file written less than this before the hook fired may as well have been written after: kernels stamp files with
a clock that ticks every few milliseconds."""

_HOOKS: Final = (
    b'"tool.execute.',
    b'"session.step.',
    b'"permission.',
    b'"session.created"',
    b'"session.inbox.enqueued"',
    b'"shell.exited"',
)
_PARTS: Final = (b'"status":"completed"', b'"status":"error"', b'"type":"step-', b'"type":"patch"')
_Key = tuple[str | None, str | None]
_NOTHING: Final = Observed()


class Observer:
    """Watches the calls of one sidecar's lines; for one thread."""

    def __init__(
        self,
        is_secret: Callable[[str], bool],
        *,
        is_secret_path: Callable[[str], bool] = lambda _: False,
        clock: Callable[[], float] = time.thread_time,
        data_home: Path | None = None,
        allows: Callable[[Path], bool] = everywhere,
    ) -> None:
        """Make an observer.

        Args:
            is_secret: whether a text may hold a secret; such a line gets no hash.
            is_secret_path: whether a file is secret as a whole by its path, e.g. `.env`; no line of it gets a hash.
            clock: seconds of processor time of the calling thread, for the budget: a busy machine costs no lines.
            data_home: where OpenCode keeps its data, if not in the environment's folder.
            allows: whether a worktree may be read.
        """
        self._is_secret = is_secret
        self._is_secret_path = is_secret_path
        self._clock = clock
        self._allows = allows
        revisions = Revisions()
        self._repositories = Repositories(revisions)
        self._rewrites = Rewrites(revisions)
        self._steps = Steps()
        self._finisher = Finisher(
            data_home, self._rewrites, self._judged, self._secret, clock=clock, repository=self._repository
        )
        self._projects = Projects()
        self._repeated = RepeatedHistory()
        self._requested: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._before: OrderedDict[_Key, dict[Place, bytes]] = OrderedDict()
        self._before_bytes = 0
        self._seen: OrderedDict[_Key, None] = OrderedDict()

    def observe(self, line: bytes) -> bytes | None:
        """The observation of an event, as the JSON of `wire.Observed`; None where there is none.

        Never raises: a file that can't be read is a file that is not known.
        """
        worth = is_observable(line)
        return self.look(*worth) if worth else None

    def may_wait(self, envelope: Envelope, seen: Seen) -> bool:
        """Whether `look` would touch the disk for this event; about half of them only change what is remembered."""
        event = seen.event
        if self._allows is not everywhere or isinstance(event, StepBegan):
            return True
        if isinstance(event, StepEnded):
            step = self._steps.of(event.session_id)
            return step is not None and event.tree != step.tree and may_have_more_files(step)
        if isinstance(event, CallDone | CallFailed):
            return (seen.session_id, seen.call_id) not in self._seen
        if isinstance(event, PermissionReplied):
            return event.allowed
        return seen.tool is not None and (
            dialects.changes_files(envelope.api, seen.tool) or dialects.may_change_unseen(envelope.api, seen.tool)
        )

    def look(self, envelope: Envelope, seen: Seen) -> bytes | None:
        """As `observe`, for what `is_observable` has found."""
        root = session_root(envelope)
        saw = self._observe(envelope, seen) if root and self._allows(root) else None
        return msgspec.json.encode(saw) if saw and saw != _NOTHING else None

    def _observe(self, envelope: Envelope, seen: Seen) -> Observed | None:
        event, at = seen.event, float(envelope.at)
        match event:
            case StepBegan():
                return self._begin(envelope, event)
            case StepEnded():
                return self._end(event, at)
            case StepPatched():
                step = self._steps.of(event.session_id)
                if step is None or step.message_id != event.message_id or not self._steps.close(event.session_id):
                    return None
                return self._finisher.patched(self._steps, step, event.files, at)
            case CallDone() | CallFailed():
                return self._ended(envelope, seen, event)
            case BackgroundEnded(name):
                self._steps.end_background(name, at)
            case SessionSeen(session_id, created_ms=created_ms) if created_ms is not None:
                self._repeated.created(session_id, created_ms)
            case PermissionAsked() | PermissionReplied():
                self._permission(envelope, event)
            case _ if seen.name == "tool.execute.before" and seen.tool is not None:
                self._remember(envelope, seen, seen.tool)
            case _:
                pass
        return None

    def _permission(self, envelope: Envelope, event: PermissionAsked | PermissionReplied) -> None:
        if isinstance(event, PermissionReplied):
            self._permit(envelope, event)
            return
        self._requested[event.session_id, event.request_id] = event.call_id
        _shorten(self._requested)
        step = self._steps.of(event.session_id)
        if step is not None and event.call_id in step.calls:
            step.calls[event.call_id].waits = True

    def _end(self, event: StepEnded, at: float) -> Observed | None:
        step = self._steps.close(event.session_id)
        if step is None or step.message_id != event.message_id:
            return None
        if event.tree:
            self._steps.remember(step, event.tree, at)
        return self._finisher.finish(self._steps, step, event.tree or "", at)

    def _begin(self, envelope: Envelope, event: StepBegan) -> Observed | None:
        """A step begins; one of the same session that had no end has its end here, and so has what lies between."""
        root = session_root(envelope)
        if root is None:
            return None
        last = self._steps.close(event.session_id)
        unended = last is not None and last.message_id != event.message_id and last.calls
        saw = (
            self._finisher.finish(self._steps, last, event.tree or "", float(envelope.at)) if last and unended else None
        )
        gap = self._steps.gap(event.session_id, event.message_id)
        if saw is None and gap is not None and gap.root == str(root) and event.tree:
            saw, last = self._finisher.finish(self._steps, gap, event.tree, float(envelope.at)), gap
        step = Step(event.session_id, event.message_id, str(root), event.tree or "", float(envelope.at))
        step.scope = (relative_path(".", envelope.worktree, envelope.directory) or "") if event.tree else ""
        step.repository = self._projects.repository(root)
        step.heads = self._rewrites.heads(root, step.began_ms)
        self._steps.open(step)
        return msgspec.structs.replace(saw, message_id=last.message_id) if saw and last else None

    def _remember(self, envelope: Envelope, seen: Seen, tool: str) -> None:
        """Keep what the call's files hold, if it is certain that the call has not written them yet."""
        key = (seen.session_id, seen.call_id)
        self._seen.pop(key, None)  # the same call id in a later turn is another call
        self._drop(key)
        self._repeated.begins(seen.session_id, seen.call_id)
        at = float(envelope.at)
        command = ""
        call = Call(seen.call_id or "", tool, dialects.may_change_unseen(envelope.api, tool), at, hooked_ms=at)
        try:
            args = dialects.before_args(envelope)
            named = dialects.named_paths(envelope.api, tool, args)
            if call.silent:
                call.command, call.writes, call.confined, call.lingers, command = commands.read(args)
        except (ValueError, RecursionError):
            return
        places = [place for place in (self._place(envelope, name) for name in named) if place]
        call.requested = frozenset(place.file for place in places)
        if call.silent:
            call.lingers |= dialects.in_background(args)
            places = list(self._named(envelope, call, args)) if call.writes else []
            call.folders = tuple(self._folders(envelope, call, args)) if call.writes else ()
        self._steps.began(seen.session_id, call)
        if places:
            self._keep(key, places, envelope.at, call)
        if call.silent:
            kept = self._before.get(key, {})
            call.named = {
                place: Named(kept.get(place), is_only_run=scripts.is_only_run(place.name, command)) for place in places
            }
            self._keep_typed(seen.session_id, call)

    def _keep_typed(self, session_id: str | None, call: Call) -> None:
        """Keep what files hold that a person has changed since the step began."""
        step = self._steps.of(session_id)
        if step is not None and call.writes and (call.permitted or not call.confined):
            call.typed = self._finisher.typed(step, call)

    def _named(self, envelope: Envelope, call: Call, args: msgspec.Raw) -> Iterator[Place]:
        """Files that the text of a command may name: those that exist, and names that may come to exist.

        Names are stored as they are. A text that shows a secret may have it in a word that is no file: of such a text
        only files that exist are taken.
        """
        folder = dialects.working_folder(args) or ""
        found: dict[str, Place] = {}
        coming: dict[str, Place] = {}
        new = self._names_in(envelope, call.command, folder, found, commands.looks_like_a_path)
        if new and not self._secret(call.command):
            coming |= new
        # A script's work in the background is shown by nothing else.
        for name, text in self._scripts(call.command, list(found.values())) if call.lingers else ():
            new = self._names_in(envelope, scripts.naming_text(name, text), folder, found, scripts.is_file_name)
            if new and not self._secret(text):
                coming |= new
        yield from islice((found | coming).values(), commands.MAX_NAMES)

    def _folders(self, envelope: Envelope, call: Call, args: msgspec.Raw) -> list[str]:
        """Folders that the text of a command names, also by a pattern of files in them."""
        base = os.path.join(envelope.directory or "", dialects.working_folder(args) or "")  # noqa: PTH118 - texts
        found: dict[str, None] = {}
        for inner, word in commands.folders(call.command):
            name = os.path.join(base, inner or "", word)  # noqa: PTH118
            if len(found) < commands.MAX_FOLDERS and "\0" not in name and os.path.isdir(name):  # noqa: PTH112
                real = os.path.realpath(name)
                if self._allows(Path(repository_root(f"{real}/x") or real)):
                    found[real] = None
        return list(found)

    def _scripts(self, command: str, found: Iterable[Place]) -> Iterator[tuple[str, str]]:
        """The scripts among the files that a command names: name and text."""
        for place in found:
            if self._is_secret_path(place.path):
                continue
            try:
                text = files.read_small(Path(place.file), scripts.MAX_BYTES)
            except (OSError, ValueError):
                continue
            if scripts.is_script(place.name, text, command):
                yield place.name, text

    def _names_in(
        self,
        envelope: Envelope,
        text: str,
        folder: str,
        found: dict[str, Place],
        is_name: Callable[[str], bool],
    ) -> dict[str, Place]:
        """Add the files to `found` that a text names, and return names that may come to exist."""
        coming: dict[str, Place] = {}
        for inner, word in commands.names(text):
            if len(found) >= commands.MAX_NAMES:
                break
            base = os.path.join(folder, inner or "") or None  # noqa: PTH118 - both may be absolute
            place = self._place(envelope, word, base)
            if place is None or place.file in found or place.path.startswith((".git/", ".opencode/")):
                continue
            exists = os.path.isfile(place.file)  # noqa: PTH113 - a text
            parent = os.path.isdir(os.path.dirname(place.file))  # noqa: PTH112, PTH120 - as above
            if exists:
                found[place.file] = place
            elif parent and is_name(word) and not os.path.lexists(place.file):
                coming[place.file] = place
        return coming

    def _permit(self, envelope: Envelope, event: PermissionReplied) -> None:
        """A person has answered: the call begins to work now, or never; its files are read again."""
        call_id = self._requested.pop((event.session_id, event.request_id), None)
        step = self._steps.of(event.session_id)
        call = step.calls.get(call_id) if step and call_id else None
        if call is None or call.ended_ms is not None or not event.allowed:
            return
        call.began_ms, call.permitted, call.waits = float(envelope.at), True, False
        if call.silent:
            self._keep_typed(event.session_id, call)
        key = (event.session_id, call_id)
        before = self._drop(key)
        if before:
            self._keep(key, list(before), envelope.at, call)
            now = self._before.get(key, {})
            call.named = {
                place: Named(now.get(place), is_only_run=one.is_only_run) for place, one in call.named.items()
            }
            if not call.silent:  # it may have written already; then its own report counts
                self._before[key] = before | now
                self._before_bytes += sum(len(content) for place, content in before.items() if place not in now)

    def _keep(self, key: _Key, places: list[Place], at: float, call: Call) -> None:
        """Keep what files hold; a command may as well have moved one here, which keeps the time of its content."""
        deadline = self._clock() + BUDGET_S
        fired_ns = int(min(max(at, 0), 2**53)) * 1_000_000
        kept: dict[Place, bytes] = {}
        for place in places:
            content = _read(place) if self._clock() < deadline else None
            if content is None:
                continue
            touched_ns = content.changed_ns if call.silent else content.written_ns
            if touched_ns < fired_ns - CLOCK_SLACK_NS:
                kept[place] = content.data
        self._before[key] = kept
        self._before_bytes += sum(map(len, kept.values()))
        while self._before and (self._before_bytes > MAX_BEFORE_BYTES or len(self._before) > MAX_CALLS):
            self._drop(next(iter(self._before)))

    def _drop(self, key: _Key) -> dict[Place, bytes]:
        kept = self._before.pop(key, {})
        self._before_bytes -= sum(map(len, kept.values()))
        return kept

    def _ended(self, envelope: Envelope, seen: Seen, event: CallDone | CallFailed) -> Observed | None:
        """A call has had its outcome; the part that follows a hook is the same one again."""
        key = (seen.session_id, seen.call_id)
        edits = dialects.changes_files(envelope.api, event.tool)
        silent = dialects.may_change_unseen(envelope.api, event.tool)
        if key in self._seen or not (edits or silent):
            return None
        if self._repeated.is_repeated(seen.session_id, seen.call_id, event.times, float(envelope.at)):
            return None
        self._repeated.ends(seen.session_id, seen.call_id)
        self._seen[key] = None
        _shorten(self._seen)
        step = self._steps.of(seen.session_id)
        call = step.calls.get(seen.call_id or "") if step else None
        if call is None:
            began = step.began_ms if step else float(envelope.at)
            call = Call(seen.call_id or "", event.tool, silent, began, hooked_ms=began)
            self._steps.began(seen.session_id, call)
        call.ended_ms, call.vcs = float(envelope.at), self._revision(session_root(envelope))
        call.waits &= isinstance(event, CallFailed)  # what has done its work was permitted
        if isinstance(event, CallDone) and event.background:
            self._steps.keep_background(seen.session_id, call, event.background)
        if isinstance(event, CallFailed) or not edits:
            self._drop(key)
            self._observe_again(call)
            return None
        edited = list(self._look(envelope, seen, event, call))
        self._steps.edited(seen.session_id, call, edited)
        return Observed(call.vcs, tuple(one.change for one in edited))

    def _observe_again(self, call: Call) -> None:
        """What the files that a command names hold after it."""
        deadline = self._clock() + BUDGET_S
        for place, named in call.named.items():
            content = _read(place) if self._clock() < deadline else None
            if content is not None and named.before is None:
                named.missed = content.changed_ns >= call.began_ms * 1e6 - CLOCK_SLACK_NS
                self._steps.wrote_lines(
                    line for line in text_lines(content.data) if named.missed and call.typed_out(line)
                )
            elif content is not None and content.data != named.before:
                named.after, named.changed_ns = content.data, content.changed_ns

    def _look(self, envelope: Envelope, seen: Seen, done: CallDone, call: Call) -> Iterator[Edited]:
        before = self._drop((seen.session_id, seen.call_id))
        deadline = self._clock() + BUDGET_S
        try:
            edits = dialects.file_edits(envelope.api, done)
        except (ValueError, RecursionError):
            return
        others = self._steps.overlapping(seen.session_id, call)
        for edit in edits:
            place = self._place(envelope, edit.path)
            old_place = self._place(envelope, edit.old_path) if edit.old_path else None
            if place is None or any(self._secret(one.path) for one in (place, old_place) if one):
                continue  # it has no place, or its very name may hold a secret
            if old_place and old_place.root != place.root:
                old_place = None  # moved from one repository to another
            old = _latest(others, (old_place or place).file, before.get(old_place or place))
            if edit.kind in {"move", "delete"}:
                old = old or None  # no file: the hook came when the call had taken it away
            edited = self._changed(edit, place, old_place, old, deadline, alone=not others)
            edited.file, edited.is_own = place.file, place.is_own
            if place.is_own:
                edited.change = self._finisher.marked(self._steps.of(seen.session_id), edited.change)
            yield self._filed(edited, place)

    def _filed(self, edited: Edited, place: Place) -> Edited:
        """The same with the repository that the file belongs to, if that is not the session's."""
        repository = self._repository(place)
        if repository is not None:
            edited.change = msgspec.structs.replace(edited.change, repository=repository)
        return edited

    def _repository(self, place: Place) -> Repository | None:
        if place.is_own:
            return self._projects.repository(place.root)
        return Repository(str(place.root), self._projects.name(place.root), self._revision(place.root))

    def _place(self, envelope: Envelope, name: str, folder: str | None = None) -> Place | None:
        place = place_of(envelope, name, folder)
        return place if place and (place.is_own or self._allows(place.root)) else None

    def _changed(
        self,
        edit: FileEdit,
        place: Place,
        old_place: Place | None,
        old: bytes | None,
        deadline: float,
        *,
        alone: bool,
    ) -> Edited:
        """What one edit did to its file."""
        old_path = old_place.path if old_place else None
        known = self._judged((old_place or place).path, text_lines(old), deadline) if old is not None else None
        if edit.kind == "delete" and known is not None:
            return Edited(deleted(place.path, known), old, b"")
        content = _read(place) if edit.kind != "delete" and self._clock() < deadline else None
        if content is None or not content.written_ns:
            return Edited(attributed(edit, place.path, old_path, exact_text=False), old, None)
        after = self._judged(place.path, text_lines(content.data), deadline)
        change = observed(edit, place.path, old_path, before=known, after=after, alone=alone)
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

    def _revision(self, root: Path | None) -> VcsObserved | None:
        try:
            return self._repositories.of(root) if root else None
        except (OSError, ValueError):
            return None


def is_observable(line: bytes) -> tuple[Envelope, Seen] | None:
    """The event of a line about which a repository may hold evidence; no file is read for this."""
    head = line[:HEAD_BYTES]
    if not any(mark in head for mark in _HOOKS) and not (
        b'"message.part.updated"' in head and any(mark in line for mark in _PARTS)
    ):
        return None
    envelope = parse(line)
    if not isinstance(envelope, Envelope) or not (envelope.worktree or envelope.directory):
        return None
    seen = dialects.read(envelope)
    match seen.event:
        case StepBegan() | StepEnded() | StepPatched() | PermissionAsked() | PermissionReplied() | SessionSeen():
            return envelope, seen
        case BackgroundEnded():
            return envelope, seen
        case CallDone(tool=tool) | CallFailed(tool=tool):
            changes = dialects.changes_files(envelope.api, tool) or dialects.may_change_unseen(envelope.api, tool)
            return (envelope, seen) if changes else None
        case _:
            return (envelope, seen) if seen.name == "tool.execute.before" and seen.tool is not None else None


def _latest(others: list[Call], path: str, before: bytes | None) -> bytes | None:
    """What a file held right before a call: what a call at work at the same time has left of it, if one was done."""
    for other in reversed(others):
        for one in other.edited:
            if one.file == path:
                return one.after
    return before


def _shorten(known: OrderedDict[Any, Any]) -> None:
    while len(known) > MAX_CALLS:
        known.popitem(last=False)


def _read(place: Place) -> files.Content | None:
    try:
        return files.read_inside(place.root, place.path)
    except (OSError, ValueError):
        return None
