"""OpenCode's dialects; `Envelope.api` says which one a line is in."""

from agent_trace_sidecar.events import Seen
from agent_trace_sidecar.opencode import v1
from agent_trace_sidecar.wire import Envelope


def read(envelope: Envelope) -> Seen:
    """Translate a line into what the builder understands; a dialect we don't speak is stored, not interpreted."""
    if envelope.api == 1:
        return v1.read(envelope)
    return Seen(envelope.hook, note=f"plugin API {envelope.api} is not known: stored, not interpreted")
