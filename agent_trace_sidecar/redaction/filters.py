"""Made-up credentials of documentation and tests, and ciphertext: they have a secret's form and protect nothing."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from agent_trace_sidecar.redaction.judge import is_random
from agent_trace_sidecar.redaction.rules import Decisions, Fields, Gates
from agent_trace_sidecar.redaction.spans import BREAK, Span, reach_back

G: Final = Gates("filters")
SAMPLE: Final = Decisions("sample")

_SHORTEST: Final = 1500
"""What is shorter may be a note, a message or a file of settings."""
_LINE_REACH: Final = 200
_SECTION: Final = 6000
"""How far below its heading an example may stand."""


def without_samples(text: bytes, spans: Iterable[Span]) -> Iterator[Span]:
    """The spans that are neither samples nor ciphertext."""
    for span in spans:
        if not SAMPLE.says_yes(Fields(_FIELDS, text=text, at=span.start, value=text[span.start : span.end])):
            yield span


def is_example_url(text: bytes, start: int, end: int) -> bool:
    """Whether the URL around a value is one of documentation: by its account, or by an example host."""
    return G.example_url.search(text, reach_back(text, start, 60), end + 40) is not None


def _line(of: Fields) -> bytes:
    start = of["text"].rfind(b"\n", reach_back(of["text"], of["at"], _LINE_REACH), of["at"]) + 1
    return of["text"][start : of["at"]] if start else b""


def _room(of: Fields) -> bytes:
    end = of["text"].find(BREAK, of["at"], of["at"] + _SHORTEST)
    end = min(len(of["text"]), of["at"] + _SHORTEST) if end < 0 else end
    return b"short" if end - reach_back(of["text"], of["at"], _SHORTEST) < _SHORTEST else b"long"


def _heading(of: Fields) -> bytes:
    above = of["above"]
    headings = [match.end() for match in G.heading.finditer(above)] if b"xample" in above or b"EXAMPLE" in above else []
    return b"open" if headings and not G.closes.search(above, headings[-1]) else b""


_FIELDS: Final[dict[str, Callable[[Fields], Any]]] = {
    "above": lambda of: of["text"][reach_back(of["text"], of["at"], _SECTION) : of["at"]],
    "line": _line,
    "room": _room,
    "random": lambda of: b"yes" if is_random(of["value"].decode("utf-8", "replace"), least=8) else b"no",
    "heading": _heading,
}
