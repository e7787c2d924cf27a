"""The identity of a dead letter; pure."""

import hashlib
from typing import Final
from uuid import UUID, uuid5

from agent_trace_sidecar.opencode.wire import head, with_own_fields
from agent_trace_sidecar.records.rows import DeadLetter, GateKey

_NO_RUN: Final = UUID(int=0)
"""For a line that was cut off before it named its run."""


def dead_letter_key(letter: DeadLetter) -> GateKey:
    """The deduplication key of a line that is no event: its id and bytes; without an id, its place and bytes.

    So it is dead once when the shim sends it twice, and a whole line is not taken for one that was cut off. What a
    sidecar adds to the line does not count: another one may observe something else.
    """
    known = head(letter.line)
    source = (known.instance or _NO_RUN) if known else letter.source_id
    namespace = known.id if known else uuid5(letter.source_id, str(letter.position))
    sent = with_own_fields(letter.line, {}, None)
    return GateKey(source, uuid5(namespace, hashlib.sha256(sent).hexdigest()))
