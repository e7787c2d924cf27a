"""What goes to the store: one plain type per table, made by `build.py`, written by `postgres/sink.py`.

Every id and time in a row is made by the shim or the sidecar, never by the server, so a row that is built twice
from the same line is the same row.
"""

from datetime import datetime
from decimal import Decimal
from typing import Final, NamedTuple
from uuid import UUID

import msgspec


class EventRow(NamedTuple):
    """One row of `agent_trace_events`; the fields are its columns, in order."""

    event_id: UUID
    occurred_at: datetime
    source_id: UUID
    """The `instance` of the shim: `(source_id, seq)` counts its lines without a gap."""
    seq: int
    session_id: str | None
    message_id: str | None
    call_id: str | None
    event_name: str
    tool: str | None
    payload: str
    """JSON text, accepted by jsonb: no NUL, no lone surrogate."""


class RangeRow(NamedTuple):
    """One row of `agent_trace_ranges`; the fields are its columns, in order."""

    source_id: UUID
    """See `EventRow.source_id`."""
    record_id: UUID
    recorded_at: datetime
    ordinal: int
    """Place of the range in its record, from 0."""
    project: str | None
    """See `FileStateRow.project`."""
    worktree: str | None
    path: str
    start_line: int
    end_line: int
    content_hash: str | None
    contributor: str
    model_id: str | None
    session_id: str | None
    message_id: str | None
    call_id: str | None
    tool: str | None
    """What the agent called: edit, write, bash ..."""
    method: str
    line_hashes: bytes | None = None
    """See `fingerprints.line_hashes`: 8 bytes for each line of the range; None where they are not known."""
    line_tokens: bytes | None = None
    """See `fingerprints.packed_tokens`."""


UNCOVERED: Final = "uncovered"
"""The kind of a row that means: from here on, until the file is observed again, a call may have changed it."""


class FileStateRow(NamedTuple):
    """One row of `agent_trace_file_states`: a file before and after a change; the fields are its columns, in order."""

    source_id: UUID
    record_id: UUID
    recorded_at: datetime
    project: str
    """What the file belongs to, the same in every clone: OpenCode's project id (of a git repository that is its first
    commit); the worktree's absolute path where there is none, or none but "global"."""
    worktree: str
    """The absolute path of the folder that `path` is relative to."""
    path: str
    old_path: str | None
    """Where a moved file stood before."""
    kind: str
    """add, update, delete or move."""
    before_hashes: bytes | None
    """See `fingerprints.line_hashes`: all lines of the file before the call; empty where there was no file, None where
    that is not known."""
    after_hashes: bytes | None
    """All lines of the file after the call; empty where there is none any more, None where that is not known."""
    line_keys: list[int]
    """See `fingerprints.line_keys`, of the lines in the record's ranges."""


class RecordRow(NamedTuple):
    """One row of `agent_trace_records`; the fields are its columns, in order."""

    source_id: UUID
    record_id: UUID
    recorded_at: datetime
    event_id: UUID
    session_id: str | None
    spec_version: str
    vcs_type: str | None
    vcs_revision: str | None
    tool_name: str | None
    tool_version: str | None
    model_id: str | None
    contributor: str
    record: str
    """The canonical Agent Trace record as JSON text."""


class StepRow(NamedTuple):
    """One row of `agent_trace_usage`; the fields are its columns, in order."""

    source_id: UUID
    event_id: UUID
    finished_at: datetime
    session_id: str | None
    message_id: str | None
    part_id: str
    model_id: str | None
    agent: str | None
    worktree: str | None
    input_tokens: Decimal | None
    output_tokens: Decimal | None
    reasoning_tokens: Decimal | None
    cache_read_tokens: Decimal | None
    cache_write_tokens: Decimal | None
    cost: Decimal | None


class CallRow(NamedTuple):
    """One row of `agent_trace_ended_calls`; the fields are its columns, in order."""

    source_id: UUID
    event_id: UUID
    finished_at: datetime
    session_id: str | None
    message_id: str | None
    part_id: str
    tool: str
    status: str
    seconds: Decimal | None


class MaskedRow(NamedTuple):
    """One row of `agent_trace_masked`; the fields are its columns, in order."""

    source_id: UUID
    event_id: UUID
    rule: str
    occurred_at: datetime
    session_id: str | None
    call_id: str | None
    masked: int


class Void(NamedTuple):
    """Undoing, or undoing that: what becomes of the ranges that a session's messages have made up to a time.

    Calls of a subagent go with the message that started it.
    """

    session_id: str
    message_id: str
    part_id: str | None
    onward: bool
    """All later messages too; in the message itself all later parts, if a part is named. Else just this one."""
    at: datetime
    """When it was undone: the value of `voided_at`."""
    restore: bool
    """Give back what was voided at this very time."""
    paths: tuple[str, ...] | None = None
    """The files that were taken back: the lines of others are still there. None is all of them."""


class DeadLetter(NamedTuple):
    """One row of `agent_trace_dead_letters`; the fields are its columns, in order."""

    source_id: UUID
    """The log the line was read from (a row of `agent_trace_sources`)."""
    position: int
    reason: str
    error: str
    line: bytes
    seen_at: datetime


class Built(msgspec.Struct):
    """What is built from one line: the event's row, and what was learned from it."""

    event: EventRow
    records: tuple[RecordRow, ...] = ()
    ranges: tuple[RangeRow, ...] = ()
    states: tuple[FileStateRow, ...] = ()
    refined: tuple[tuple[UUID, UUID, datetime], ...] = ()
    """Records whose earlier rows go before the ones above come: `source_id`, `record_id` and `recorded_at` stay."""
    voids: tuple[Void, ...] = ()
    steps: tuple[StepRow, ...] = ()
    calls: tuple[CallRow, ...] = ()
    masked: tuple[MaskedRow, ...] = ()


class Item(msgspec.Struct, frozen=True, gc=False):
    """One line on its way: its rows, the line itself, and its place in its log."""

    built: Built
    line: bytes
    position: int
    content_hash: int | None = None
    """See `wire.content_hash`."""
    move: int = 0
    """Which of the batch's logs it was read from."""


class GateKey(NamedTuple):
    """What `agent_trace_dedupe` knows an event by: its run and its id, which are equal whichever log delivers it."""

    source_id: UUID
    event_id: UUID


def key_number(key: GateKey | EventRow) -> int:
    """A key as one number, run and id one after the other: UUIDs take several times as long to hash and compare."""
    return key.source_id.int << 128 | key.event_id.int


def numbered_key(number: int) -> GateKey:
    """The key that is this number."""
    return GateKey(UUID(int=number >> 128), UUID(int=number & (1 << 128) - 1))


class DeadItem(NamedTuple):
    """A dead letter on its way, and its deduplication key: a line that comes twice is dead once."""

    key: GateKey
    letter: DeadLetter
    move: int = 0
    """See `Item.move`."""


class State(NamedTuple):
    """What the builder knows of one instance, as its row holds it."""

    version: int
    """How often it was saved; 0 where there is no row. Who saves another one must have built on this one."""
    data: bytes = b""
    highest_seq: int = 0


class Batch(msgspec.Struct):
    """Everything that one transaction writes, and how far the logs are read with it."""

    moves: list["Move"]
    at: datetime
    """The sidecar's clock: the value of `seen_at` and `updated_at`."""
    items: list[Item] = msgspec.field(default_factory=list)
    dead: list[DeadItem] = msgspec.field(default_factory=list)
    stored: list[Item] = msgspec.field(default_factory=list)
    """After an attempt to write it: those of the items that were not stored before."""
    voids: list[Void] = msgspec.field(default_factory=list)
    """Of events that are stored already: what they undo may be stored only now."""
    states: dict[UUID, State] = msgspec.field(default_factory=dict)
    """For each instance whose state changed: what is to be saved."""
    worktrees: dict[UUID, set[str]] = msgspec.field(default_factory=dict)
    """Where the instances of these lines worked."""
    encoded_bytes: int = 0
    patience: float = 1.0
    """How many times the usual deadline it gets: a line by itself can't be sent in smaller parts."""


class Counts(NamedTuple):
    """Counts of the lines of a log so far; `read` is always the sum of the others."""

    read: int = 0
    stored: int = 0
    duplicate: int = 0
    dead: int = 0
    denied: int = 0
    """Of repositories that are not recorded: nothing of them is stored."""

    def plus(self, other: "Counts") -> "Counts":
        """Add up two counts."""
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


class Checkpoint(NamedTuple):
    """What the database knows of a log: who may write it (`epoch`), how far it is, and its counts."""

    epoch: int
    position: int
    counts: Counts
    check: str
    """The log's check at `position`, see `sources.log.Log.check`."""


class Move(msgspec.Struct):
    """The move of one log's checkpoint."""

    name: "LogName"
    known: Checkpoint
    """From where."""
    new_position: int
    check: str = ""
    """The log's check at `new_position`."""
    denied: int = 0
    """Lines of repositories that are not recorded."""


class LogKey(NamedTuple):
    """The key of a log's row in `agent_trace_sources`."""

    source_id: UUID
    """The run that the log begins with, whose rows its checkpoint is stored beside; where none is known the log."""
    log_id: UUID


class LogName(NamedTuple):
    """What a log is called in `agent_trace_sources`: `label` is what a person knows it by."""

    source_id: UUID
    """See `LogKey.source_id`."""
    log_id: UUID
    kind: str
    host: str
    label: str

    @property
    def key(self) -> LogKey:
        """The key of its row."""
        return LogKey(self.source_id, self.log_id)
