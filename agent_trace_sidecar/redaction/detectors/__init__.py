"""Detectors find what a pattern can't express: each takes a view of a text and yields the spans of secrets."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from agent_trace_sidecar.redaction.detectors.assignments import assignments
from agent_trace_sidecar.redaction.detectors.manifests import manifests
from agent_trace_sidecar.redaction.detectors.nearby import nearby
from agent_trace_sidecar.redaction.detectors.tables import tables
from agent_trace_sidecar.redaction.key_blocks import key_blocks
from agent_trace_sidecar.redaction.spans import Span, View

__all__ = ["DETECTORS", "Detectors"]

Detectors = Mapping[str, Callable[[View], Iterator[Span]]]

DETECTORS: Final[Detectors] = {
    "key blocks": key_blocks,
    "manifests": manifests,
    "tables": tables,
    "assignments": assignments,
    "nearby": nearby,
}
