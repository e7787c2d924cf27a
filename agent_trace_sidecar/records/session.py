"""What must be remembered from one line to the next, for one run of the shim.

It is bounded, and small enough to be saved with every batch. Every map drops its oldest entries by the bytes they
take in the dump, at the moment of insertion: so a session that was dumped and loaded between any two lines holds
exactly what an uninterrupted one holds, and builds the same rows.
"""

from bisect import bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import msgspec

if TYPE_CHECKING:  # `status` reads a state without them
    from agent_trace_sidecar.opencode.events import Seen
    from agent_trace_sidecar.opencode.wire import Envelope

STATE_VERSION: Final = 1
MAX_GAPS: Final = 512
"""Intervals of missing sequence numbers that are kept, to be filled by lines that come late; of older ones only the
count."""
MAX_JUMP: Final = 10_000_000
"""Sequence numbers that may be missing between two lines. A number further on is not the shim's, which counts by one
and does not live that long; were it believed, the run would be incomplete for ever."""
MAX_TEXT_BYTES: Final = 2048
"""A version or directory longer than this is not remembered."""

_MESSAGES_BYTES: Final = 14 * 1024
_PARENTS_BYTES: Final = 6 * 1024
_CALLS_BYTES: Final = 10 * 1024
_DONE_BYTES: Final = 10 * 1024
_PROJECTS_BYTES: Final = 3 * 1024
_ENDED_BYTES: Final = 8 * 1024
_UNDONE_BYTES: Final = 2 * 1024
_BACKGROUND_BYTES: Final = 4 * 1024
_STREAMS_BYTES: Final = 6 * 1024
_UNKNOWN_BYTES: Final = 2 * 1024
_BEGUN_BYTES: Final = 5 * 1024
_CREATED_BYTES: Final = 3 * 1024
_STARTS_BYTES: Final = 2 * 1024
_DOUBTS_BYTES: Final = 1024

V = TypeVar("V")


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who writes a message: `by_user` is True for the calls of a command that a person ran."""

    model_id: str | None = None
    agent: str | None = None
    by_user: bool = False
    completed_ms: int | float | None = None
    """When it was completed: what is published of it later is a copy, or sent twice."""


class Ended(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A call that has ended while its step continues: whose event and time its record has, or will have."""

    event_id: str
    at_ms: int | float
    tool: str
    recorded: bool
    """Its record is made already; the step's end replaces it."""
    source_id: str | None = None
    """The run whose record it is, if not this one."""


class Background(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A call whose command continues after it has ended: what its record is made of, also in later steps."""

    ended: Ended
    message_id: str | None


class Stream(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Which of a session's durable events have come, by OpenCode's own numbers: of OpenCode 2."""

    first: int
    last: int
    missing: int = 0
    unexplained_usage: int = 0
    """Reports of the session's usage since the last durable event that no step's end explains."""

    def seen(self, number: int, skipped: int, *, ends_step: bool) -> "Stream":
        """After a durable event with this number; `skipped` ones before it were left out by the shim.

        What titles and compactions cost is a durable event that no plugin gets, but its report of usage is.
        """
        if number <= self.last:
            return self
        hole = max(0, number - self.last - 1 - skipped)
        missing = self.missing + hole - min(hole, self.unexplained_usage)
        return Stream(self.first, number, missing, -1 if ends_step else 0)

    def used(self) -> "Stream":
        """After a report of usage."""
        return Stream(self.first, self.last, self.missing, self.unexplained_usage + 1)


class Undo(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """From where on a session is undone, and since when."""

    message_id: str
    part_id: str | None
    at_ms: int | float
    removed: bool = False
    """The messages are gone for good: they don't come back."""
    paths: tuple[str, ...] | None = None
    """See `Undone.paths`."""


class Bounded(Generic[V]):
    """A map that forgets its least recently set entries beyond a size in bytes of JSON."""

    __slots__ = ("_costs", "_entries", "_max_bytes", "_used")

    def __init__(self, max_bytes: int) -> None:
        self._entries: dict[str, V] = {}
        self._costs: dict[str, int] = {}
        self._max_bytes = max_bytes
        self._used = 0

    def get(self, key: str) -> V | None:
        """The entry, or None; looking does not make it younger."""
        return self._entries.get(key)

    def put(self, key: str, value: V) -> None:
        """Set an entry and make it the youngest; one that is too big alone is not kept."""
        old = self._entries.pop(key, None)
        if old is not None and old == value:
            self._entries[key] = old
            return
        if old is not None:
            self._used -= self._costs.pop(key)
        cost = len(msgspec.json.encode((key, value))) + 1
        if cost > self._max_bytes:
            return
        self._entries[key] = value
        self._costs[key] = cost
        self._used += cost
        while self._used > self._max_bytes:
            eldest = next(iter(self._entries))
            del self._entries[eldest]
            self._used -= self._costs.pop(eldest)

    def drop(self, key: str) -> None:
        """Forget an entry, if there is one."""
        if self._entries.pop(key, None) is not None:
            self._used -= self._costs.pop(key)

    def __iter__(self) -> Iterator[tuple[str, V]]:
        return iter(self._entries.items())


class Sequence(msgspec.Struct):
    """Which of the shim's sequence numbers have come: all up to `highest`, but for the gaps."""

    highest: int = 0
    missing: int = 0
    """How many numbers below `highest` never came, also those whose interval is no longer listed."""
    gaps: list[tuple[int, int]] = []
    """The youngest `MAX_GAPS` intervals of missing numbers, both ends included, in order."""

    def see(self, seq: int) -> bool:
        """Note that a line with this number came; a second time changes nothing.

        Returns:
            False for a number that is too far on to be believed, which changes nothing either.
        """
        if seq == self.highest + 1:
            self.highest = seq
        elif seq > self.highest + MAX_JUMP:
            return False
        elif seq > self.highest:
            self.missing += seq - self.highest - 1
            self.gaps.append((self.highest + 1, seq - 1))
            del self.gaps[:-MAX_GAPS]
            self.highest = seq
        else:
            self._fill(seq)
        return True

    def _fill(self, seq: int) -> None:
        at = bisect_right(self.gaps, seq, key=_first) - 1
        if at < 0:
            return
        first, last = self.gaps[at]
        if seq <= last:
            parts = [(first, seq - 1), (seq + 1, last)]
            self.gaps[at : at + 1] = [part for part in parts if part[0] <= part[1]]
            del self.gaps[:-MAX_GAPS]
            self.missing -= 1


def _first(gap: tuple[int, int]) -> int:
    return gap[0]


class _Dump(msgspec.Struct):
    """The saved form; the maps are lists of pairs, oldest first."""

    v: int
    sequence: Sequence
    lost: int = 0
    version: str | None = None
    directory: str | None = None
    messages: list[tuple[str, Message]] = []
    parents: list[tuple[str, str]] = []
    calls: list[tuple[str, str]] = []
    done: list[tuple[str, int]] = []
    projects: list[tuple[str, str]] = []
    ended: list[tuple[str, Ended]] = []
    undone: list[tuple[str, Undo]] = []
    began_ms: int | float = 0
    begun: list[tuple[str, int]] = []
    created: list[tuple[str, int | float]] = []
    background: list[tuple[str, Background]] = []
    streams: list[tuple[str, Stream]] = []
    unknown: list[tuple[str, int]] = []
    starts: list[tuple[str, int | float]] = []
    late_ms: int | float = 0
    doubts: list[tuple[str, int | float]] = []


class Summary(msgspec.Struct, frozen=True):
    """What `status` reports of one run of the shim."""

    highest_seq: int
    missing: int
    """Sequence numbers that never came."""
    gaps: tuple[tuple[int, int], ...]
    """Their intervals, both ends included; at most `MAX_GAPS` of the youngest."""
    lost: int
    """Events that the shim reports as dropped."""
    opencode_version: str | None
    directory: str | None


class Session:
    """Everything that is known of one run of the shim; several OpenCode sessions share it."""

    __slots__ = (
        "background",
        "began_ms",
        "begun",
        "calls",
        "created",
        "directory",
        "done",
        "doubts",
        "ended",
        "late_ms",
        "lost",
        "messages",
        "parents",
        "projects",
        "sequence",
        "starts",
        "streams",
        "undone",
        "unknown",
        "version",
    )

    def __init__(self) -> None:
        self.sequence = Sequence()
        self.lost = 0
        """Events that the shim reports as dropped since its start."""
        self.version: str | None = None
        """OpenCode's."""
        self.directory: str | None = None
        self.messages: Bounded[Message] = Bounded(_MESSAGES_BYTES)
        self.parents: Bounded[str] = Bounded(_PARENTS_BYTES)
        self.calls: Bounded[str] = Bounded(_CALLS_BYTES)
        self.done: Bounded[int] = Bounded(_DONE_BYTES)
        self.projects: Bounded[str] = Bounded(_PROJECTS_BYTES)
        self.ended: Bounded[Ended] = Bounded(_ENDED_BYTES)
        self.undone: Bounded[Undo] = Bounded(_UNDONE_BYTES)
        self.background: Bounded[Background] = Bounded(_BACKGROUND_BYTES)
        self.streams: Bounded[Stream] = Bounded(_STREAMS_BYTES)
        """By session."""
        self.unknown: Bounded[int] = Bounded(_UNKNOWN_BYTES)
        """Types of events that the shim does not know, and how often they came."""
        self.began_ms: int | float = 0
        """When the run's first event fired."""
        self.begun: Bounded[int] = Bounded(_BEGUN_BYTES)
        """Calls that have begun and not ended, by `call_key`."""
        self.created: Bounded[int | float] = Bounded(_CREATED_BYTES)
        """When a session was created."""
        self.starts: Bounded[int | float] = Bounded(_STARTS_BYTES)
        """When OpenCode 2 started a call; version 1 reports it at the call's end."""
        self.late_ms: int | float = 0
        """When the repository last could not be observed; 0 if it always could."""
        self.doubts: Bounded[int | float] = Bounded(_DOUBTS_BYTES)
        """By session, for which `late_ms` the step that it was in has ended."""

    def see(self, envelope: "Envelope") -> bool:
        """Note what every line carries; returns whether its number is believed, see `Sequence.see`."""
        believed = self.sequence.see(envelope.seq)
        self.began_ms = self.began_ms or envelope.at
        if envelope.lost > self.lost:
            self.lost = min(envelope.lost, 2**63 - 1)
        if envelope.directory is not None and envelope.directory != self.directory:
            self.directory = _short(envelope.directory) or self.directory
        if envelope.observed is not None and envelope.observed.late:
            self.late_ms = envelope.at
        return believed

    def set_version(self, version: str | None) -> None:
        """Remember OpenCode's version, if there is one."""
        self.version = (_short(version) if version else None) or self.version

    def set_project(self, root: str | None, project_id: str | None) -> None:
        """Remember what OpenCode calls the repository of a worktree; "global" is what it calls no repository."""
        if root and project_id and project_id != "global":
            self.projects.put(root, project_id)

    def project(self, root: str | None) -> str | None:
        """What the files of a worktree belong to: its repository, or the folder itself."""
        return self.projects.get(root or "") or root

    def open_call(self, session_id: str, message_id: str, call_id: str, part_id: str | None = None) -> None:
        """A call id means this message from now on: the same id may come again in a later turn."""
        self.calls.put(_key(session_id, call_id), _key(message_id, part_id or ""))

    def message_of(self, session_id: str | None, call_id: str | None) -> str | None:
        """The message that made a call, if its announcement was seen."""
        known = self.calls.get(_key(session_id or "", call_id)) if call_id else None
        return known.partition("\n")[0] if known else None

    def part_of(self, session_id: str | None, call_id: str | None) -> str | None:
        """The part of the message that a call is."""
        known = self.calls.get(_key(session_id or "", call_id)) if call_id else None
        return (known.partition("\n")[2] or None) if known else None

    def set_parent(self, session_id: str, parent_id: str) -> None:
        """A subagent belongs to the message that its parent is at when the subagent is first seen."""
        known = self.parents.get(session_id)
        if known is None or known.partition("\n")[0] != parent_id:
            opened = [value for key, value in self.calls if key.partition("\n")[0] == parent_id]
            self.parents.put(session_id, _key(parent_id, opened[-1].partition("\n")[0] if opened else ""))

    def parent_of(self, session_id: str | None) -> tuple[str | None, str | None]:
        """The session that started this one, and the message that did."""
        parent, _, message = (self.parents.get(session_id or "") or "").partition("\n")
        return parent or None, message or None

    def end_call(self, ids: tuple[str | None, str | None, str | None], ended: Ended) -> None:
        """Remember a call until its step has ended."""
        self.ended.put(_key(*(part or "" for part in ids)), ended)

    def ended_call(self, session_id: str, message_id: str, call_id: str) -> Ended | None:
        """The call of a step that ends now."""
        return self.ended.get(_key(session_id, message_id, call_id)) or self.ended.get(_key(session_id, "", call_id))

    def ended_calls(self, session_id: str, message_id: str) -> list[tuple[str, Ended]]:
        """The calls of a step that ends now, by their ids; the message of some is not known."""
        steps = {(session_id, message_id), (session_id, "")}
        found = ((key.split("\n", 2), ended) for key, ended in self.ended)
        return [(call, ended) for (session, message, call), ended in found if (session, message) in steps]

    def end_step(self, session_id: str, message_id: str) -> None:
        """Forget the calls of a step."""
        for call_id, _ in self.ended_calls(session_id, message_id):
            self.ended.drop(_key(session_id, message_id, call_id))
            self.ended.drop(_key(session_id, "", call_id))

    def end_doubt(self, session_id: str) -> bool:
        """Whether the repository was not observed in the step of a session that ends now."""
        doubted = self.late_ms > max(self.doubts.get(session_id) or 0, self.created.get(session_id) or 0)
        if doubted:
            self.doubts.put(session_id, self.late_ms)
        return doubted

    def keep_background(self, session_id: str, call_id: str, call: Background) -> None:
        """Remember a call beyond its step."""
        self.background.put(_key(session_id, call_id), call)

    def background_call(self, session_id: str, call_id: str) -> Background | None:
        """A call whose command continues, or continued, after its end."""
        return self.background.get(_key(session_id, call_id))

    def count(self, seen: "Seen") -> None:
        """Note an event's place among those of its session, and types that are not known."""
        if seen.unknown:
            self.unknown.put(seen.name[:100], max(seen.unknown, self.unknown.get(seen.name[:100]) or 0))
        if seen.session_id is None:
            return
        if seen.number is not None and seen.number >= 0:
            ends_step = seen.name in {"session.step.ended", "session.step.failed"}
            first = max(0, seen.number - seen.skipped)
            known = self.streams.get(seen.session_id) or Stream(first, first - 1)
            self.streams.put(seen.session_id, known.seen(seen.number, seen.skipped, ends_step=ends_step))
        elif seen.name == "session.usage.updated" and (stream := self.streams.get(seen.session_id)) is not None:
            self.streams.put(seen.session_id, stream.used())

    def finish_call(self, session_id: str | None, message_id: str | None, call_id: str | None) -> bool:
        """Note that a call has had its outcome; False if it had it before.

        An after-hook whose announcement was lost names no message: its outcome then counts for any message, so
        that the part that follows it does not count the call twice.
        """
        if not call_id:
            return True
        key = _key(session_id or "", message_id or "", call_id)
        unknown = _key(session_id or "", "", call_id)
        if self.done.get(key) or (
            message_id and self.message_of(session_id, call_id) != message_id and self.done.get(unknown)
        ):
            return False
        self.done.put(key, 1)
        return True

    def summary(self) -> Summary:
        """What is known of the run's completeness."""
        sequence = self.sequence
        return Summary(
            sequence.highest, sequence.missing, tuple(sequence.gaps), self.lost, self.version, self.directory
        )

    def dump(self) -> bytes:
        """The state as compact JSON of at most 80 KiB."""
        return msgspec.json.encode(
            _Dump(
                STATE_VERSION,
                self.sequence,
                self.lost,
                self.version,
                self.directory,
                list(self.messages),
                list(self.parents),
                list(self.calls),
                list(self.done),
                list(self.projects),
                list(self.ended),
                list(self.undone),
                self.began_ms,
                list(self.begun),
                list(self.created),
                list(self.background),
                list(self.streams),
                list(self.unknown),
                list(self.starts),
                self.late_ms,
                list(self.doubts),
            )
        )

    @classmethod
    def load(cls, state: bytes) -> "Session":
        """Read a dump; one that can't be read, or is of another version, starts empty."""
        session = cls()
        try:
            saved = msgspec.json.decode(state, type=_Dump)
        except (ValueError, RecursionError):
            return session
        if saved.v != STATE_VERSION:
            return session
        session.sequence, session.lost = saved.sequence, saved.lost
        session.version, session.directory = saved.version, saved.directory
        session.began_ms, session.late_ms = saved.began_ms, saved.late_ms
        for name in _MAPS:
            target = getattr(session, name)
            for key, value in getattr(saved, name):
                target.put(key, value)
        return session


_MAPS: Final = (
    "messages", "parents", "calls", "done", "projects", "ended", "undone", "begun", "created", "background",
    "streams", "unknown", "starts", "doubts",
)  # fmt: skip


def call_key(session_id: str | None, call_id: str | None) -> str:
    """The key of a running call."""
    return _key(session_id or "", call_id or "")


def _key(*parts: str) -> str:
    """OpenCode's ids hold no line break."""
    return "\n".join(parts)


def _short(text: str) -> str | None:
    return text if len(msgspec.json.encode(text)) <= MAX_TEXT_BYTES else None
