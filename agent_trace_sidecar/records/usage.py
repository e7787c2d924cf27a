"""Steps and calls that count, as narrow rows beside the events: what figures by day are summed from; pure.

OpenCode publishes parts again: a fork copies all of its parent's under new ids. A part that is published after its
message was completed is such a copy, and has no row here. One that is merely sent twice has two, with one `part_id`.
"""

from decimal import Decimal, InvalidOperation
from typing import Final

from agent_trace_sidecar.opencode.usage import COUNTED, CallEnd, Used, usage, usage_in
from agent_trace_sidecar.opencode.usual import Usual
from agent_trace_sidecar.opencode.wire import Envelope
from agent_trace_sidecar.records.rows import Built, CallRow, MaskedRow, StepRow
from agent_trace_sidecar.records.session import Message, Session

_LAG_MS: Final = 5000
"""Older versions don't report when they published a part: their hooks come this much later at most."""
_MILLI: Final = Decimal("0.001")


def count(session: Session, envelope: Envelope, built: Built) -> None:
    """Add the rows of what this event counts."""
    event = built.event
    for rule, masked in (envelope.redacted or {}).items():
        ids = event.source_id, event.event_id, rule, event.occurred_at, event.session_id, event.call_id
        built.masked += (MaskedRow(*ids, masked),)
    if event.event_name == "tool.execute.before" and event.message_id and event.call_id and envelope.api > 1:
        session.starts.put(f"{event.session_id}:{event.call_id}", envelope.at)
    if event.event_name not in COUNTED:
        return
    name = event.event_name
    found = usage_in(name, envelope.payload) if isinstance(envelope, Usual) else usage(name, envelope.input)
    if found is None:
        return
    message = session.messages.get(event.message_id or "") or Message()
    published = found.published_ms if found.published_ms is not None else Decimal(envelope.at) - _LAG_MS
    late = message.completed_ms is not None and envelope.api == 1 and message.completed_ms < published
    if isinstance(found, Used):
        if not late:
            row = StepRow(
                event.source_id,
                event.event_id,
                event.occurred_at,
                event.session_id,
                event.message_id,
                found.part_id or str(event.event_id),
                message.model_id,
                message.agent,
                envelope.worktree or None,
                found.input_tokens,
                found.output_tokens,
                found.reasoning_tokens,
                found.cache_read_tokens,
                found.cache_write_tokens,
                found.cost,
            )
            built.steps = (row,)
        return
    if event.tool is None or (late and found.end_ms is not None and found.end_ms <= (message.completed_ms or 0)):
        return
    call = CallRow(
        event.source_id,
        event.event_id,
        event.occurred_at,
        event.session_id,
        event.message_id,
        found.part_id or str(event.event_id),
        event.tool,
        found.status,
        _seconds(session, envelope, built, found),
    )
    built.calls = (call,)


def _seconds(session: Session, envelope: Envelope, built: Built, found: CallEnd) -> Decimal | None:
    start, end = found.start_ms, found.end_ms
    if built.event.event_name == "tool.execute.after":
        began = session.starts.get(f"{built.event.session_id}:{built.event.call_id}")
        start, end = (None if began is None else Decimal(began)), Decimal(envelope.at)
    if start is None or end is None:
        return None
    try:
        return ((end - start) / 1000).quantize(_MILLI, "ROUND_HALF_UP")
    except InvalidOperation:
        return None
