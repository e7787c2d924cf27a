"""What a detector gets: a text, where the words stand that may start something, and the work that is left."""

from dataclasses import dataclass, field

from agent_trace_sidecar.redaction.spans import Effort


@dataclass(slots=True)
class View:
    """A text in which labels are blanks, and whose strings are apart if there are several."""

    text: bytes
    effort: Effort
    marks: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Where the words stand that detectors start from, by kind of word, in the order of their ends."""
