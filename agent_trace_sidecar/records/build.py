"""One line in, its rows out. Pure: the same line after the same state gives the same rows.

`feed` never raises on an envelope that `wire.parse` let through: what can't be understood is stored as an event
with a note in its payload, and makes no record.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final
from uuid import UUID

import msgspec
from msgspec import structs

from agent_trace_sidecar.opencode import dialects
from agent_trace_sidecar.opencode.events import (
    BackgroundEnded,
    CallDone,
    CallFailed,
    CallOpened,
    CallTimes,
    Event,
    Hello,
    MessageRemoved,
    MessageSeen,
    PermissionAsked,
    PermissionReplied,
    RevertKept,
    Seen,
    SessionSeen,
    StepBegan,
    StepEnded,
    StepPatched,
    UserCommand,
)
from agent_trace_sidecar.opencode.usual import Usual
from agent_trace_sidecar.opencode.wire import Envelope, FileChange, Observed, Uncovered, VcsObserved
from agent_trace_sidecar.records.ranges import attributed
from agent_trace_sidecar.records.record import Call, Rows, record_id, record_rows, uncovered_rows
from agent_trace_sidecar.records.repeated import is_history
from agent_trace_sidecar.records.rows import Built, EventRow
from agent_trace_sidecar.records.session import MAX_JUMP, Background, Ended, Message, Session, Summary, call_key
from agent_trace_sidecar.records.times import MAX_AT_MS, moment
from agent_trace_sidecar.records.trace import Vcs, model_id, relative_path
from agent_trace_sidecar.records.undo import keep_undone, removal_voids, session_voids
from agent_trace_sidecar.records.usage import count

MAX_COLUMN_CHARS: Final = 500
"""OpenCode's ids have 30 characters. What is longer is no id and would not fit into an index; the payload has it."""


class BuildSettings(msgspec.Struct, frozen=True):
    """The recorder's metadata of a record; the settings of the same names."""

    spec_version: str = "0.1.0"
    tool_name: str = "opencode"
    tool_version: str = "local"


_FOLLOWED: Final = frozenset(
    {CallDone, CallFailed, StepBegan, StepEnded, StepPatched, SessionSeen, MessageRemoved, RevertKept}
)
"""The events that make records or void ranges, or end calls whose records are made later."""


class Builder:
    """Turns lines into rows, keeping one `Session` per run of the shim."""

    def __init__(self, settings: BuildSettings) -> None:
        self._settings = settings
        self._sessions: dict[UUID, Session] = {}
        self._latest: tuple[UUID | None, Session] = None, Session()

    def load(self, instance: UUID, state: bytes) -> None:
        """Continue from a `dump`; a state that can't be read starts empty."""
        self._sessions[instance] = session = Session.load(state)
        self._latest = instance, session

    def dump(self, instance: UUID) -> bytes:
        """The state after the lines fed so far: compact JSON, at most 80 KiB."""
        return self._session(instance).dump()

    def forget(self, instance: UUID) -> None:
        """Drop an instance from memory; `load` brings it back."""
        self._sessions.pop(instance, None)
        self._latest = None, Session()

    def knows(self, instance: UUID) -> bool:
        """Whether a line of this instance was fed, or its state loaded."""
        return instance in self._sessions

    def summary(self, instance: UUID) -> Summary:
        """What is known of the instance's completeness."""
        return self._session(instance).summary()

    def account(self, instance: UUID, seq: int) -> None:
        """Note that a line came which can't be fed: it is no gap in the instance's numbers."""
        self._session(instance).sequence.see(seq)

    def feed(self, envelope: Envelope) -> Built:
        """Build the rows of one line and learn from it."""
        session = self._session(envelope.instance)
        believed = session.see(envelope)
        seen = envelope.seen if isinstance(envelope, Usual) else dialects.read(envelope)
        session.count(seen)
        notes = [seen.note] if seen.note else []
        if not believed:
            notes.append(f"the sequence number is more than {MAX_JUMP} ahead of the run's: it was not counted")
        if envelope.observed and envelope.observed.late:
            notes.append("the repository was not observed: it could not be read, or not in time")
        session_id, message_id, call_id, tool = seen.session_id, seen.message_id, seen.call_id, seen.tool
        if call_id and not message_id:
            message_id = session.message_of(session_id, call_id)
        name = _learn(session, seen, envelope)
        if not 0 <= envelope.at <= MAX_AT_MS:
            notes.append("`at` is out of range: moved to the nearest valid time")
        event = EventRow(
            envelope.id,
            moment(envelope.at),
            envelope.instance,
            envelope.seq,
            session_id if session_id is None or len(session_id) <= MAX_COLUMN_CHARS else None,
            message_id if message_id is None or len(message_id) <= MAX_COLUMN_CHARS else None,
            call_id if call_id is None or len(call_id) <= MAX_COLUMN_CHARS else None,
            name if len(name) <= MAX_COLUMN_CHARS else name[:MAX_COLUMN_CHARS],
            tool if tool is None or len(tool) <= MAX_COLUMN_CHARS else None,
            envelope.payload if isinstance(envelope, Usual) and not notes else _payload(envelope, notes),
        )
        built = Built(event)
        if not isinstance(envelope, Usual) or envelope.counts:
            count(session, envelope, built)
        if name == "tool.execute.before" and tool is not None:
            self._begin_unseen(session, envelope, tool, event)
        if type(seen.event) in _FOLLOWED:
            known = len(notes)
            self._follow(session, envelope, seen.event, built, notes)
            if len(notes) > known:
                built.event = event._replace(payload=_payload(envelope, notes))
        return built

    def _follow(
        self, session: Session, envelope: Envelope, event: Event | None, built: Built, notes: list[str]
    ) -> None:
        """Make the records, or void the ranges, that an event calls for."""
        if isinstance(event, (CallDone, CallFailed)):  # a tuple: a union takes ten times as long
            if self._is_history(session, envelope, event.times, built.event):
                return
            if isinstance(event, CallDone):
                self._attribute(session, envelope, event, built, notes)
            else:
                self._finish_unseen(session, envelope, event.tool, built.event)
        elif isinstance(event, (StepBegan, StepEnded, StepPatched)):
            self._end_step(session, envelope, event, built)
        elif isinstance(event, SessionSeen):
            built.voids = session_voids(session, event, envelope.at)
        elif isinstance(event, MessageRemoved):
            built.voids = removal_voids(session, event, envelope.at)
        elif isinstance(event, RevertKept):
            keep_undone(session, event.session_id)
        if session.sequence.missing and any(record.model_id is None for record in built.records):
            notes.append("unknown model: earlier events are missing, or arrive later")

    def _is_history(self, session: Session, envelope: Envelope, times: CallTimes | None, event: EventRow) -> bool:
        """Whether a call that ended before is reported again; else it has ended now."""
        key = call_key(event.session_id, event.call_id)
        since = max(session.began_ms, session.created.get(event.session_id or "") or 0.0)
        if is_history(times, envelope.at, begun=session.begun.get(key) is not None, since_ms=since):
            return True
        session.begun.drop(key)
        return False

    def _attribute(self, session: Session, envelope: Envelope, done: CallDone, built: Built, notes: list[str]) -> None:
        """Make the record of a finished call, once for each call, if it changed files and was the AI's."""
        event, observed = built.event, envelope.observed
        if observed and observed.recorded:
            self._finish_unseen(session, envelope, done.tool, event)
            return
        if not (observed and observed.files) and not dialects.changes_files(envelope.api, done.tool):
            self._finish_unseen(session, envelope, done.tool, event)
            if done.background and event.session_id and event.call_id:
                ended = session.ended_call(event.session_id, event.message_id or "", event.call_id)
                if ended is not None:
                    kept = Background(ended, event.message_id)
                    session.keep_background(event.session_id, event.call_id, kept)
            return
        message = session.messages.get(event.message_id or "") or Message()
        if not session.finish_call(event.session_id, event.message_id, event.call_id) or message.by_user:
            return
        try:
            changes = observed.files if observed and observed.files else _computed(envelope, done, notes)
        except (ValueError, RecursionError):
            notes.append(f"{done.tool} with invalid arguments: no record")
            return
        call = self._call(session, envelope, event, done.tool)
        found = list(record_rows(structs.replace(call, vcs=_vcs(observed.vcs if observed else None)), changes))
        _remember(session, envelope, event, done.tool, recorded=bool(found))
        for rows in found:
            _add(built, rows)

    def _begin_unseen(self, session: Session, envelope: Envelope, tool: str, event: EventRow) -> None:
        """A call begins that does not report its files: OpenCode 2 sends no outcome of one that is interrupted."""
        message = session.messages.get(event.message_id or "") or Message()
        if dialects.may_change_unseen(envelope.api, tool) and not message.by_user:
            _remember(session, envelope, event, tool, recorded=False)

    def _finish_unseen(self, session: Session, envelope: Envelope, tool: str, event: EventRow) -> None:
        """A call that does not report the files it changes has ended: the end of its step may show them."""
        known = envelope.observed is not None and envelope.observed.recorded is not None
        if not known and not dialects.may_change_unseen(envelope.api, tool):
            return
        message = session.messages.get(event.message_id or "") or Message()
        if session.finish_call(event.session_id, event.message_id, event.call_id) and not message.by_user:
            _remember(session, envelope, event, tool, recorded=known)

    def _end_step(
        self, session: Session, envelope: Envelope, step: StepBegan | StepEnded | StepPatched, built: Built
    ) -> None:
        """Make the records of calls that reported nothing, and correct those of calls that reported something wrong.

        They are records of the calls: their ids and times are those of the calls' own events. At a step's begin they
        are of commands in the background, which were at work since the last one ended.
        """
        observed = envelope.observed or Observed()
        message_id = observed.message_id or step.message_id
        for change in observed.calls:
            call, recorded = self._ended(session, envelope, (step.session_id, message_id, change.call_id), built.event)
            if call is None:
                continue
            _keep_background(session, step.session_id, change.call_id)
            if recorded:
                built.refined += ((call.source_id, record_id(call.event_id), call.at),)
            for rows in record_rows(structs.replace(call, vcs=_vcs(change.vcs)), change.files):
                if rows.record.record_id != record_id(call.event_id):
                    built.refined += ((call.source_id, rows.record.record_id, call.at),)
                _add(built, rows)
        uncovered = [*observed.uncovered, *_doubted(session, envelope.api, step, observed)]
        for one in uncovered:
            call, _ = self._ended(session, envelope, (step.session_id, message_id, one.call_id), built.event)
            if call is not None:
                states = tuple(uncovered_rows(call, one))
                built.states += states
                if session.background_call(step.session_id, one.call_id):  # the end of each step may repeat it
                    built.refined += tuple((row.source_id, row.record_id, row.recorded_at) for row in states)
        if isinstance(step, StepEnded) or observed.calls or observed.uncovered:
            session.end_step(step.session_id, message_id)

    def _ended(
        self, session: Session, envelope: Envelope, ids: tuple[str, str, str], event: EventRow
    ) -> tuple[Call | None, bool]:
        """A call of a step that ends now, and whether it has a record."""
        session_id, message_id, call_id = ids
        background = session.background_call(session_id, call_id)
        if background is not None and background.message_id:
            message_id = background.message_id
        ended = background.ended if background else session.ended_call(session_id, message_id, call_id)
        if ended is None:
            return None, False
        row = event._replace(
            event_id=UUID(ended.event_id),
            occurred_at=moment(ended.at_ms),
            message_id=_column(message_id),
            call_id=_column(call_id),
        )
        if ended.source_id is not None:
            row = row._replace(source_id=UUID(ended.source_id))
        return self._call(session, envelope, row, ended.tool), ended.recorded

    def _call(self, session: Session, envelope: Envelope, row: EventRow, tool: str) -> Call:
        """What is known of the call whose event this is."""
        message = session.messages.get(row.message_id or "") or Message()
        parent_session, parent_message = session.parent_of(row.session_id)
        return Call(
            source_id=row.source_id,
            event_id=row.event_id,
            at=row.occurred_at,
            spec_version=self._settings.spec_version,
            tool_name=self._settings.tool_name,
            tool_version=self._tool_version(session),
            tool=tool,
            session_id=row.session_id,
            message_id=row.message_id,
            part_id=session.part_of(row.session_id, row.call_id),
            call_id=row.call_id,
            parent_session_id=parent_session,
            parent_message_id=parent_message,
            model_id=message.model_id,
            agent=message.agent,
            directory=envelope.directory,
            worktree=_root(envelope),
            project=session.project(_root(envelope)),
        )

    def _tool_version(self, session: Session) -> str:
        version = self._settings.tool_version
        return session.version or version if version == "local" else version

    def _session(self, instance: UUID) -> Session:
        latest = self._latest
        if instance is latest[0]:  # as nearly always: UUIDs take long to hash
            return latest[1]
        session = self._sessions.get(instance)
        if session is None:
            session = self._sessions[instance] = Session()
        self._latest = instance, session
        return session


def _root(envelope: Envelope) -> str | None:
    """The folder that paths are relative to; the directory where there is no repository (OpenCode then reports "/")."""
    worktree = envelope.worktree
    return worktree if worktree and worktree != "/" else envelope.directory


def _learn(session: Session, seen: Seen, envelope: Envelope) -> str:
    """Take the event into the state, and return its name: the first sight of a message has its own."""
    if seen.event is None:
        if seen.name == "tool.execute.before":
            session.begun.put(call_key(seen.session_id, seen.call_id), 1)
        return seen.name
    match seen.event.by if isinstance(seen.event, StepBegan) else seen.event:
        case None:
            pass
        case MessageSeen() as message:
            return _learn_message(session, message, seen.name)
        case UserCommand(message_id):
            session.messages.put(message_id, Message(by_user=True))
        case CallOpened(session_id, message_id, call_id, part_id):
            session.open_call(session_id, message_id, call_id, part_id)
        case SessionSeen() as known:
            _learn_session(session, known, _root(envelope))
        case Hello(version, project):
            session.set_version(version)
            session.set_project(_root(envelope), project)
        case (
            CallDone()
            | CallFailed()
            | BackgroundEnded()
            | PermissionAsked()
            | PermissionReplied()
            | StepBegan()
            | StepEnded()
            | StepPatched()
            | MessageRemoved()
            | RevertKept()
        ):
            pass
    return seen.name


def _learn_message(session: Session, message: MessageSeen, name: str) -> str:
    known = session.messages.get(message.message_id)
    parent = session.messages.get(message.parent_id) if message.parent_id else None
    by_user = bool((known and known.by_user) or (parent and parent.by_user))
    model = model_id(message.provider, message.model)
    completed = message.completed_ms or (known.completed_ms if known else None)
    session.messages.put(message.message_id, Message(model, message.agent, by_user, completed))
    return "message.created" if known is None and name == "message.updated" else name


def _learn_session(session: Session, seen: SessionSeen, root: str | None) -> None:
    if seen.created_ms is not None:
        session.created.put(seen.session_id, seen.created_ms)
    session.set_version(seen.version)
    session.set_project(root, seen.project_id)
    if seen.parent_id:
        session.set_parent(seen.session_id, seen.parent_id)


def _computed(envelope: Envelope, done: CallDone, notes: list[str]) -> tuple[FileChange, ...]:
    """What a call reports to have done, file by file.

    A file outside the worktree has no path from the repository's root, and an absolute path would reveal the
    machine: it is in no record, which is noted. Its event holds everything about it.
    """
    exact = not envelope.redacted and not envelope.repaired
    changes = []
    for edit in dialects.file_edits(envelope.api, done):
        path = relative_path(edit.path, envelope.worktree, envelope.directory)
        if path is None:
            notes.append("a file outside the worktree is not recorded")
            continue
        old_path = relative_path(edit.old_path, envelope.worktree, envelope.directory) if edit.old_path else None
        changes.append(attributed(edit, path, old_path, exact_text=exact))
    return tuple(changes)


def _remember(session: Session, envelope: Envelope, event: EventRow, tool: str, *, recorded: bool) -> None:
    """Keep what the record of a call is made of until its step has ended."""
    if event.call_id:
        earlier = envelope.observed.recorded if envelope.observed else None
        event_id, at_ms, source_id = earlier or (str(event.event_id), envelope.at, None)
        ended = Ended(event_id, at_ms, tool, recorded, source_id)
        session.end_call((event.session_id, event.message_id, event.call_id), ended)


def _doubted(
    session: Session, api: int, step: StepBegan | StepEnded | StepPatched, observed: Observed
) -> Iterator[Uncovered]:
    """The calls of a step that may have changed any file, because the repository was not observed."""
    if not isinstance(step, StepEnded) or not session.end_doubt(step.session_id):
        return
    shown = {change.call_id for change in observed.calls} | {one.call_id for one in observed.uncovered}
    for call_id, ended in session.ended_calls(step.session_id, step.message_id):
        if not ended.recorded and call_id not in shown and dialects.may_change_unseen(api, ended.tool):
            yield Uncovered(call_id)


def _keep_background(session: Session, session_id: str, call_id: str) -> None:
    """A command in the background has a record now, which its next one replaces."""
    known = session.background_call(session_id, call_id)
    if known is not None:
        ended = structs.replace(known.ended, recorded=True)
        session.keep_background(session_id, call_id, Background(ended, known.message_id))


def _add(built: Built, rows: Rows) -> None:
    built.records += (rows.record,)
    built.ranges += rows.ranges
    built.states += rows.states


def _vcs(seen: VcsObserved | None) -> Vcs | None:
    """The revision, if the specification has a word for its system."""
    if seen is None:
        return None
    match seen.type:
        case "git" | "jj" | "hg" | "svn" as known:
            return Vcs(known, seen.revision)
        case _:
            return None


def _payload(envelope: Envelope, notes: list[str]) -> str:
    """Splice the payload from the raw JSON of the line; nothing is decoded and encoded again."""
    if isinstance(envelope, Usual):
        return f'{envelope.payload.rstrip()[:-1]},"notes":{_json(notes)}}}' if notes else envelope.payload
    parts = []
    if len(envelope.input):
        parts.append('"input":' + str(envelope.input, "utf-8"))
    if len(envelope.output):
        parts.append('"output":' + str(envelope.output, "utf-8"))
    place = _place(envelope.directory, envelope.worktree)
    if place:
        parts.append(place)
    if envelope.redacted:
        parts.append('"redacted":' + _json(envelope.redacted))
    if envelope.repaired:
        parts.append('"repaired":' + _json(envelope.repaired))
    if notes:
        parts.append('"notes":' + _json(notes))
    return "{" + ",".join(parts) + "}"


@lru_cache(maxsize=256)
def _place(directory: str | None, worktree: str | None) -> str:
    named = (("directory", directory), ("worktree", worktree))
    return ",".join(f'"{name}":{_json(value)}' for name, value in named if value is not None)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _column(value: str | None) -> str | None:
    return value if value is None or len(value) <= MAX_COLUMN_CHARS else None
