"""Lines to the rows of a batch, built on what the database knows of each run."""

from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Final
from uuid import UUID

from agent_trace_sidecar.limits import MAX_INSTANCES
from agent_trace_sidecar.opencode import usual
from agent_trace_sidecar.opencode.wire import DENIED, Envelope, Rejected
from agent_trace_sidecar.pipeline.batcher import Parsed
from agent_trace_sidecar.records.build import Builder
from agent_trace_sidecar.records.dead_letter import dead_letter_key
from agent_trace_sidecar.records.rows import Batch, Built, Checkpoint, DeadItem, DeadLetter, Item, State
from agent_trace_sidecar.sources.log import Log, LogLine
from agent_trace_sidecar.telemetry.logging import Logger
from agent_trace_sidecar.telemetry.metrics import Metrics

_DAMAGED_BYTES: Final = 64 * 1024
"""Of damaged bytes, which may be a whole segment, this much goes to the dead letters."""


class BatchBuilder:
    """Builds batches, one after the other: each on the state that the one before has left."""

    def __init__(
        self, make_builder: Callable[[], Builder], metrics: Metrics, on_stored: Callable[[Iterable[Built]], None]
    ) -> None:
        """`on_stored` is called after each commit, with what was not stored before."""
        self._make_builder = make_builder
        self._metrics = metrics
        self._on_stored = on_stored
        self._builder = make_builder()
        self._known: dict[UUID, State] = {}
        """The state that the database has of each instance the builder knows; the one seen last is the last."""

    async def know(
        self, instances: set[UUID], load: Callable[[Collection[UUID]], Awaitable[dict[UUID, State]]]
    ) -> None:
        """Give the builder what the database remembers of these instances, before their first line."""
        unknown = instances - self._known.keys()
        if unknown:
            found = await load(unknown)
            for instance in unknown:
                self._known[instance] = found.get(instance, State(0))
                self._builder.load(instance, self._known[instance].data)
        for instance in instances:
            self._known[instance] = self._known.pop(instance)

    def add(self, batch: Batch, lines: Iterable[Parsed], move: int = 0) -> None:
        """Add the rows of these lines, which follow those that the log `move` of the batch has there already."""
        of, place = batch.moves[move], None
        events: list[tuple[Built, bytes, int, Envelope]] = []
        for line in lines:
            at, of.new_position = of.new_position, line.source.end
            if not isinstance(envelope := line.found, Envelope):
                self._add_other(batch, move, at, line)
                continue
            if (envelope.instance, envelope.worktree) != place:
                place = envelope.instance, envelope.worktree
                if envelope.worktree:
                    batch.worktrees.setdefault(envelope.instance, set()).add(envelope.worktree)
            built = self._builder.feed(envelope)
            if envelope.redacted:
                self._metrics.masked(envelope.redacted, built.event.session_id, built.event.call_id)
            if envelope.observed is not None and envelope.observed.known:
                batch.voids += built.voids
                continue
            events.append((built, line.data, at, envelope))
            batch.encoded_bytes += len(built.event.payload)
        # All at once: alternating with the above, the hash finds nothing of its own in the processor's caches.
        batch.items += [
            Item(built, data, at, usual.content_hash(data, envelope), move) for built, data, at, envelope in events
        ]

    def _add_other(self, batch: Batch, move: int, at: int, line: Parsed) -> None:
        log_id = batch.moves[move].name.log_id
        match line.found:
            case Rejected(reason, error):
                if line.instance is not None:
                    self._builder.account(line.instance, line.seq)
                if reason == DENIED:
                    batch.moves[move].denied += 1
                    return
                letter = DeadLetter(log_id, at, reason, error, line.data, batch.at)
                batch.dead.append(_dead(letter, move))
            case None if line.source.line is None:
                batch.dead.append(_dead(_damaged(batch, log_id, at, line.source), move))
            case None:
                pass  # an empty line

    def finish(self, batch: Batch, instances: Iterable[UUID]) -> None:
        """Add the states of these instances, after all lines."""
        for instance in instances:
            state, before = self._builder.dump(instance), self._known[instance]
            if state != before.data:
                highest = self._builder.summary(instance).highest_seq
                batch.states[instance] = State(before.version + 1, state, highest)

    def committed(self, batch: Batch) -> None:
        """The database has the batch: the next one builds on its states."""
        self._known.update(batch.states)
        self._on_stored(item.built for item in batch.stored)
        for dead in batch.dead:
            self._metrics.dead(dead.letter.reason)
        for instance in batch.states:
            found = self._builder.summary(instance)
            self._metrics.gaps(instance, found.missing, found.lost)
        while len(self._known) > MAX_INSTANCES:  # bound what is remembered: the database has it
            eldest = next(iter(self._known))
            del self._known[eldest]
            self._builder.forget(eldest)

    def forget_all(self) -> None:
        """Before the next line, read the state of its instance from the database again."""
        self._builder = self._make_builder()
        self._known.clear()


def position_in(log: Log, found: Checkpoint, logger: Logger) -> int:
    """Where to read a log from: at the database's position, or from its start when that is none of this log."""
    position = found.position
    known = position == 0 or found.check == log.check(position)
    if log.start <= position <= log.end and known:
        return position
    logger.warning("log_position_reset", log=log.name.label, database=position, start=log.start, end=log.end)
    return log.start


def instances_of(lines: Iterable[Parsed]) -> set[UUID]:
    """Whose lines these are; hashing each line's would take longer than reading it."""
    found: set[UUID] = set()
    last = None
    for line in lines:
        if line.instance is not None and line.instance is not last:
            last = line.instance
            found.add(last)
    return found


def _dead(letter: DeadLetter, move: int) -> DeadItem:
    return DeadItem(dead_letter_key(letter), letter, move)


def _damaged(batch: Batch, log_id: UUID, at: int, line: LogLine) -> DeadLetter:
    """What becomes of bytes that are no line any more."""
    if not line.damaged:
        return DeadLetter(log_id, at, "missing", f"{line.end - at} bytes of the log are gone", b"", batch.at)
    error = f"{line.end - at} bytes of the log do not match their checksum"
    return DeadLetter(log_id, at, "damaged", error, line.damaged[:_DAMAGED_BYTES], batch.at)
