"""What is remembered of the calls of a step until it ends: which files they named, and when they ran.

A session has one step at a time, from step-start to step-finish. What a call of one session has claimed while steps
of others were open (a subagent works inside a step of its parent) is foreign to those.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from agent_trace_sidecar.opencode.wire import CallChange, FileChange, Repository, Uncovered, VcsObserved
from agent_trace_sidecar.records.content import text_lines
from agent_trace_sidecar.records.fingerprints import HASH_BYTES, LOOSE_BYTES, NO_HASH, is_evidence, line_hash
from agent_trace_sidecar.workspace.commands import sends_output_to
from agent_trace_sidecar.workspace.places import Place

MAX_STEPS: Final = 64
"""Sessions of one OpenCode at work at the same time."""
MAX_CALLS: Final = 512
"""Calls of one step."""
MAX_NEIGHBOURS: Final = 32
MAX_WRITTEN: Final = 2000
"""Files that calls have changed."""
MAX_TIMES: Final = 2000
"""Commands of which it is remembered when they were at work."""
MAX_LINES: Final = 50_000
"""Lines that are remembered of such files as no snapshot holds."""
MAX_FOREIGN: Final = 20_000
MAX_FOREIGN_LINES: Final = 50_000
"""Of a step's foreign files; with more, nothing in the further ones is the step's."""
MAX_BACKGROUND: Final = 64
"""Commands at work in the background at the same time."""
SLACK_MS: Final = 12.0
"""By so much the time of a file and that of an event may differ: kernels stamp with a clock that ticks every few
milliseconds."""
MAX_CONTENT_BYTES: Final = 32 * 1024 * 1024
"""Contents that are kept of the calls of all open steps; without them a step is compared less closely."""


class Edited(msgspec.Struct):
    """A file that a call named, as it was recorded; the contents are None where they were not known."""

    change: FileChange
    before: bytes | None = None
    after: bytes | None = None
    file: str = ""
    """See `Place.file`."""
    is_own: bool = True
    """See `Place.is_own`."""


class Call(msgspec.Struct):
    """A call of a step; `silent`: its tool reports no files, but may write them."""

    call_id: str
    tool: str
    silent: bool
    began_ms: float
    """When it may have begun to write: after its hook, and after a person has permitted it."""
    permitted: bool = False
    """It began when a person permitted it: what was written right before that is not certainly its work."""
    waits: bool = False
    """A permission was asked for it and has not been given, or never was: it does nothing."""
    ended_ms: float | None = None
    requested: frozenset[str] = frozenset()
    """Files that an edit-like call is to change, before it has reported what it did."""
    command: str = ""
    """All texts of a silent call's arguments: a name in them shows which of several calls changed a file."""
    edited: list[Edited] = msgspec.field(default_factory=list)
    vcs: VcsObserved | None = None
    background: str | None = None
    """The name under which its command continues after the call has ended; `ended_ms` is then the command's."""
    named: "dict[Place, Named]" = msgspec.field(default_factory=dict)
    """Files that a silent call's arguments name, as they stood before and after it."""
    folders: tuple[str, ...] = ()
    """Folders that its arguments name, also by a pattern of files in them."""
    writes: bool = True
    """False for a command that only reads."""
    confined: bool = False
    """It writes to files that it names, and to no others."""
    lingers: bool = False
    """It may continue after it has ended: a command in the background."""
    typed: "Typed" = msgspec.field(default_factory=lambda: Typed({}, frozenset()))
    uncovered: list[Uncovered] = msgspec.field(default_factory=list)
    """What an earlier step has recorded of it."""

    hooked_ms: float = 0.0
    """When its hook fired: what it holds of files before it is of this time or later."""

    @property
    def may_write_unseen(self) -> bool:
        """Whether it may have written files without reporting them."""
        return self.silent and self.writes and not self.waits

    def names(self, path: str) -> bool:
        """Whether the call reported this file, or its move."""
        return any(path in (one.change.path, one.change.old_path) for one in self.edited if one.is_own)

    def may_write(self, path: str) -> bool:
        """Whether a silent call may have changed a file of the session's folder.

        In the time of one in the background, as of a server, a person works on: only its output is certainly its work.
        """
        if not self.may_write_unseen:
            return False
        if self.background:
            return sends_output_to(self.command, path.rsplit("/", 1)[-1])
        return not self.confined or self.mentions(path) or any(one.is_own and one.path == path for one in self.named)

    def held(self, place: Place) -> bytes | None:
        """What a file held when the call began, if that was read: because it names it, or because it had changed."""
        named, typed = self.named.get(place), self.typed.files.get(place.path)
        return (named and named.before) or (typed.data if typed else None)

    def is_late(self, place: Place) -> bool:
        """Whether a file may have been written by the call already when it was read."""
        named = self.named.get(place)
        return (named is None or named.before is None) and self.typed.is_late(place.path)

    def typed_out(self, line: bytes) -> bool:
        """Whether a line that says something stands in the command: the call has written it, whoever wrote the rest."""
        return is_evidence(line) and line.strip().decode(errors="replace") in self.command

    def was_at_work(self, at_ms: float) -> bool:
        """Whether a file that was changed at a time may be its work."""
        return self.began_ms - SLACK_MS <= at_ms and (self.ended_ms is None or at_ms <= self.ended_ms + SLACK_MS)

    def mentions(self, path: str) -> bool:
        """Whether the arguments of a silent call hold a file's name."""
        return path.rsplit("/", 1)[-1] in self.command


class Held(NamedTuple):
    """What a file held, and when it was last changed then."""

    data: bytes
    changed_ms: float


class Typed(NamedTuple):
    """The files of the session's folder that had changed since the step began when a silent call began."""

    files: dict[str, Held]
    late: frozenset[str] | None
    """Those that the call may have changed already when they were read; None where any may be such a file."""

    def is_late(self, path: str) -> bool:
        """Whether it is not known what a file held when the call began."""
        return self.late is None or path in self.late


class Named(msgspec.Struct):
    """A file that a command names; a content is None where it is not known, and empty where there is no file."""

    before: bytes | None
    after: bytes | None = None
    changed_ns: int = 0
    missed: bool = False
    """It was written since the call began, but the hook came too late to know what it held before."""
    is_only_run: bool = False
    """The command names it as the program that it runs, and not otherwise."""


class Step(msgspec.Struct):
    """A step that has begun; `tree` is OpenCode's snapshot before it, empty where it took none.

    A snapshot holds the files below the folder that OpenCode works in, `scope` by its path from the root.
    """

    session_id: str
    message_id: str
    root: str
    tree: str
    began_ms: float
    scope: str = ""
    calls: dict[str, Call] = msgspec.field(default_factory=dict)
    foreign: dict[str, set[str] | None] = msgspec.field(default_factory=dict)
    """Files that calls of other sessions have changed since the step began, with the hashes of the lines they wrote as
    hex text; None where these are not known."""
    foreign_lines: int = 0
    earlier: list[Call] = msgspec.field(default_factory=list)
    """Commands in the background that ended between the last step and the event of this one. Its snapshot is older than
    its event, so they may have written after it."""
    neighbours: list[Call] = msgspec.field(default_factory=list)
    """Calls of other sessions' steps that have ended while calls of this one were at work."""
    heads: "Heads | None" = None
    repository: Repository | None = None
    """What `root` is, if its name is not its real one."""

    def add_foreign(self, path: str, written: set[str]) -> None:
        """Another session has written lines with these hashes into a file."""
        known = self.foreign.setdefault(path, set())
        self.foreign_lines += len(written)
        if known is None or NO_HASH.hex() in written or self.foreign_lines > MAX_FOREIGN_LINES:
            self.foreign[path] = None
        else:
            known |= written


class _Last(msgspec.Struct, frozen=True):
    """A step that has ended while a command in the background continues."""

    step: Step
    tree: str
    at_ms: float


class Heads(msgspec.Struct, frozen=True):
    """Where the repository stood when the step began: what git itself has written since is recognised by it."""

    head: str
    stash: str
    log_size: int
    log_end: int | None = None
    """Where the log's entries of this step end, if later ones may stand behind them."""


class Steps:
    """The open steps of all sessions of one OpenCode."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, Step] = OrderedDict()
        self._content_bytes = 0
        self._background: OrderedDict[str, tuple[str, Call]] = OrderedDict()
        """Commands at work between steps: their sessions and calls, by name."""
        self._exited: OrderedDict[str, float] = OrderedDict()
        """When commands ended, by name, of which nothing else is known yet: the event of a short one comes first."""
        self._lingering: deque[tuple[str, Call]] = deque(maxlen=MAX_BACKGROUND)
        """Calls of ended steps with their roots, of which a part may work on: no event ends it."""
        self._written: OrderedDict[str, bool] = OrderedDict()
        """Files that calls have changed, the last ones, and whether a call made them."""
        self._lines: OrderedDict[bytes, None] = OrderedDict()
        """The last lines that calls have written beside the snapshots, by their hashes without white space."""
        self._times: deque[tuple[float, float]] = deque(maxlen=MAX_TIMES)
        """When the last commands began and ended, of all sessions: what they wrote elsewhere may come here later."""
        self._ended: OrderedDict[str, _Last] = OrderedDict()
        """Where the last step of each session with such commands ended."""

    def open(self, step: Step) -> None:
        """A step begins; one of the same session that never ended is forgotten."""
        self.close(step.session_id)
        self._open[step.session_id] = step
        for name, (session_id, call) in list(self._background.items()):
            if session_id == step.session_id and call.ended_ms is None:
                step.calls[call.call_id] = call
            elif session_id == step.session_id:
                step.earlier.append(call)
                del self._background[name]
        while len(self._open) > MAX_STEPS:
            self.close(next(iter(self._open)))

    def of(self, session_id: str | None) -> Step | None:
        """The open step of a session."""
        return self._open.get(session_id or "")

    def close(self, session_id: str) -> Step | None:
        """A step ends."""
        step = self._open.pop(session_id, None)
        for other in self._open.values() if step else ():
            if step and other.root == step.root and any(call.ended_ms is None for call in other.calls.values()):
                other.neighbours += [call for call in step.calls.values() if call.edited]
                del other.neighbours[:-MAX_NEIGHBOURS]
        if step:
            self._lingering.extend(
                (step.root, one) for one in step.calls.values() if one.lingers and not one.background
            )
        for call in step.calls.values() if step else ():
            self._content_bytes -= sum(map(_size, call.edited))
            if call.may_write_unseen and call.ended_ms is not None and not call.background:
                self._times.append((call.began_ms - SLACK_MS, call.ended_ms + SLACK_MS))
        return step

    def keep_background(self, session_id: str | None, call: Call, name: str) -> None:
        """A call has ended, and its command continues."""
        call.background, call.ended_ms = name, self._exited.pop(name, None)
        self._background[name] = (session_id or "", call)
        while len(self._background) > MAX_BACKGROUND:
            self._background.popitem(last=False)

    def end_background(self, name: str, at_ms: float) -> None:
        """A command that went on has ended."""
        if name in self._background:
            self._background[name][1].ended_ms = at_ms
            return
        self._exited[name] = at_ms
        while len(self._exited) > MAX_BACKGROUND:
            self._exited.popitem(last=False)

    def remember(self, step: Step, tree: str, at_ms: float) -> None:
        """A step has ended with this tree: commands that continue may change files until the next one begins."""
        self._ended.pop(step.session_id, None)
        if any(session_id == step.session_id for session_id, _ in self._background.values()):
            self._ended[step.session_id] = _Last(step, tree, at_ms)
        while len(self._ended) > MAX_STEPS:
            self._ended.popitem(last=False)

    def gap(self, session_id: str, message_id: str) -> Step | None:
        """What lies between the last step of a session and its next, if a command was at work meanwhile."""
        last = self._ended.pop(session_id, None)
        calls = {call.call_id: call for own, call in self._background.values() if own == session_id}
        if last is None or not calls:
            return None
        gap = Step(session_id, message_id, last.step.root, last.tree, last.at_ms, calls=calls)
        gap.scope, gap.repository, gap.heads = last.step.scope, last.step.repository, last.step.heads
        return gap

    def note(self, changes: Iterable[CallChange], step: Step) -> None:
        """What was found of commands in the background stays theirs: their next records repeat it."""
        for change in changes:
            for one in change.files:
                self._wrote(f"{one.repository.root if one.repository else step.root}/{one.path}", one)
            call = step.calls.get(change.call_id) or next(
                (one for one in step.earlier if one.call_id == change.call_id), None
            )
            if call is not None and call.background:
                call.edited = [Edited(one) for one in change.files]

    def began(self, session_id: str | None, call: Call) -> None:
        """A call begins."""
        step = self.of(session_id)
        if step is not None and len(step.calls) < MAX_CALLS:
            step.calls.setdefault(call.call_id, call)

    def edited(self, session_id: str | None, call: Call, edited: Iterable[Edited]) -> None:
        """A call has reported what it changed."""
        step = self.of(session_id)
        if step is None or step.calls.get(call.call_id) is not call:
            return
        edited = list(edited)
        for one in edited:
            self._wrote(one.file, one.change)
            if not one.is_own:
                self.wrote_lines(set(text_lines(one.after or b"")).difference(text_lines(one.before or b"")))
            if self._content_bytes + _size(one) > MAX_CONTENT_BYTES:
                one.before = one.after = None
            self._content_bytes += _size(one)
            call.edited.append(one)
        self.claim(step, [one.change for one in call.edited if one.is_own])

    def _wrote(self, file: str, change: FileChange) -> None:
        self._written[file] = self._written.get(file, change.kind == "add")
        while len(self._written) > MAX_WRITTEN:
            self._written.popitem(last=False)

    def wrote_lines(self, lines: Iterable[bytes]) -> None:
        """A call has written lines that no snapshot holds: copied from there they are still a model's."""
        self._lines.update(dict.fromkeys(line_hash(line)[:LOOSE_BYTES] for line in islice(lines, MAX_LINES)))
        while len(self._lines) > MAX_LINES:
            self._lines.popitem(last=False)

    def has_written_line(self, line: bytes) -> bool:
        """Whether a call has written such a line beside the snapshots."""
        return line_hash(line)[:LOOSE_BYTES] in self._lines

    def was_command_at_work(self, at_ms: float) -> bool:
        """Whether a command of an ended step was at work at a time: it may have written what is of that time."""
        return any(began_ms <= at_ms <= ended_ms for began_ms, ended_ms in self._times)

    def has_written(self, file: str) -> bool:
        """Whether a call has changed a file, by `Place.file`."""
        return file in self._written

    def has_made(self, file: str) -> bool:
        """Whether a call has made a file, by `Place.file`: nothing in it was a person's then."""
        return self._written.get(file, False)

    def overlapping(self, session_id: str | None, call: Call) -> list[Call]:
        """Calls in the same folder, of any session, that were at work meanwhile and may have written the same files.

        A silent call is one of them only if it names such a file: a command that runs beside an edit has its own.
        """
        step = self.of(session_id)
        names = {path.rsplit("/", 1)[-1] for path in call.requested}
        others = [one for at in self._open.values() if step and at.root == step.root for one in at.calls.values()]
        others += step.neighbours if step else []
        found = [
            other
            for other in others
            if other is not call
            and (other.ended_ms is None or other.ended_ms >= call.hooked_ms)
            and (not call.requested.isdisjoint(other.requested) or any(name in other.command for name in names))
        ]
        return sorted(found, key=lambda other: other.ended_ms or 0.0)

    def claim(self, step: Step, changes: Iterable[FileChange]) -> None:
        """These changes are this session's work: the open steps of the others leave them alone."""
        claimed = [(path, one) for one in changes for path in (one.path, one.old_path) if path]
        for other in self._open.values():
            if other.root != step.root or other.session_id == step.session_id:
                continue
            for path, one in claimed:
                if len(other.foreign) < MAX_FOREIGN or path in other.foreign:
                    other.add_foreign(path, set(_hashes(one)))

    def lingering(self, step: Step) -> Iterator[Place]:
        """Files in the step's folder that commands of earlier steps may still write in the background."""
        for root, call in self._lingering:
            if root == step.root and call.call_id not in step.calls:
                yield from (place for place, one in call.named.items() if not one.is_only_run)

    def is_read_beside(self, step: Step, call: Call) -> bool:
        """Whether a call that names files may have ended, and its files been read, while another one was at work."""
        others = [one for at in self._open.values() if at.root == step.root for one in at.calls.values()]
        found = (one for one in (*step.calls.values(), *step.neighbours, *others) if one.edited and one is not call)
        return any(one.ended_ms is not None and call.was_at_work(one.ended_ms) for one in found)

    def rivals(self, step: Step) -> Iterator[Call]:
        """Silent calls of other sessions at work in the same folder."""
        for other in self._open.values():
            if other.root == step.root and other.session_id != step.session_id:
                yield from (call for call in other.calls.values() if call.may_write_unseen)


def _hashes(change: FileChange) -> Iterator[str]:
    """The hashes of the lines that a change wrote, as hex text."""
    for span in change.ranges:
        text = span.line_hashes or ""
        yield from (text[at : at + 2 * HASH_BYTES] for at in range(0, len(text), 2 * HASH_BYTES))


def _size(one: Edited) -> int:
    return len(one.before or b"") + len(one.after or b"")
