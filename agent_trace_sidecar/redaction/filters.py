"""Made-up credentials of documentation and tests: they have a secret's form and protect nothing.

Only in a text of some length, and only with two signs at once: the value (that it is an example, or nothing
but words about passwords), and its place (in a comment, below a heading that promises examples, among
tests). In a file of settings or a short message the same value is a secret.
"""

import bisect
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from agent_trace_sidecar.redaction.judge import is_random
from agent_trace_sidecar.redaction.rules import Gates
from agent_trace_sidecar.redaction.spans import BREAK, Span, reach_back

G: Final = Gates("filters")

_SHORTEST: Final = 1500
"""What is shorter may be a note, a message or a file of settings."""
_LONGEST: Final = 400_000
_LONGEST_VALUE: Final = 60
_LINE_REACH: Final = 200
_SECTION: Final = 6000
"""How far below its heading an example may stand."""

_CIPHERTEXT: Final = 4096
_EXAMPLE: Final = b"EXAMPLE"
_FENCE: Final = b"\n```"


class _Body(NamedTuple):
    """One string of the text, and its features."""

    start: int
    end: int
    teaches: bool
    """Whether it has tests, or code between prose."""
    headings: list[int]
    """Where examples begin."""


def without_samples(text: bytes, spans: Iterable[Span]) -> Iterator[Span]:
    """The spans that are no samples."""
    body = _Body(0, -1, teaches=False, headings=[])
    for span in spans:
        if G.spelt_out.fullmatch(text, span.start, span.end) or _is_ciphertext(text, span):
            continue
        if not body.start <= span.start < body.end:
            body = _body(text, span.start)
        if not _SHORTEST <= body.end - body.start <= _LONGEST or not _is_sample(text, body, span):
            yield span


def _is_ciphertext(text: bytes, span: Span) -> bool:
    """Whether a value was encrypted to be committed: by SOPS, or for a SealedSecret."""
    opening = text.rfind(b"ENC[", reach_back(text, span.start, _CIPHERTEXT), span.start + 4)
    if opening >= 0 and text.find(b"]", opening, span.start) < 0 and text.find(b"\n", opening, span.start) < 0:
        return True
    sealed = G.sealed.match(text, span.start, span.end)
    return sealed is not None and text.rfind(b"encryptedData", reach_back(text, span.start, _SECTION), span.start) >= 0


def _body(text: bytes, at: int) -> _Body:
    start = text.rfind(BREAK, 0, at) + 1
    end = text.find(BREAK, at)
    end = end if end >= 0 else len(text)
    if not _SHORTEST <= end - start <= _LONGEST:
        return _Body(start, end, teaches=False, headings=[])
    teaches = text.find(_FENCE, start, end) >= 0 or G.tests.search(text, start, end) is not None
    return _Body(start, end, teaches, [match.end() for match in G.heading.finditer(text, start, end)])


def _is_sample(text: bytes, body: _Body, span: Span) -> bool:
    value = text[span.start : span.end]
    if _EXAMPLE in value:
        return True
    if len(value) > _LONGEST_VALUE or is_random(value.decode("utf-8", "replace"), least=8):
        return False
    if _is_below(text, body.headings, span.start):
        return True
    return G.dummy.match(value) is not None and (body.teaches or _is_comment(text, span.start))


def _is_below(text: bytes, headings: list[int], at: int) -> bool:
    """Whether the last heading of examples is near, and what it opened is not closed."""
    index = bisect.bisect_right(headings, at) - 1
    above = headings[index] if index >= 0 else -_SECTION
    return at - above < _SECTION and G.closes.search(text, above, at) is None


def _is_comment(text: bytes, at: int) -> bool:
    start = text.rfind(b"\n", reach_back(text, at, _LINE_REACH), at) + 1
    return start > 0 and G.comment.match(text, start) is not None


def is_example_url(text: bytes, start: int, end: int) -> bool:
    """Whether the URL around a value is one of documentation: by its account, or by an example host."""
    return G.example_url.search(text, reach_back(text, start, 60), end + 40) is not None
