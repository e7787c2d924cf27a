"""Made-up credentials of documentation and tests: they have a secret's form and protect nothing.

Only in a text of some length, and only with two signs at once: the value (that it is an example, or nothing
but words about passwords), and its place (in a comment, below a heading that promises examples, among
tests). In a file of settings or a short message the same value is a secret.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from agent_trace_sidecar.redaction.judge import is_random
from agent_trace_sidecar.redaction.rules import Gates
from agent_trace_sidecar.redaction.spans import BREAK, Span, reach_back

G: Final = Gates("filters")

_SHORTEST: Final = 1500
"""What is shorter may be a note, a message or a file of settings."""
_LONGEST_VALUE: Final = 60
_LINE_REACH: Final = 200
_SECTION: Final = 6000
"""How far below its heading an example may stand."""
_CIPHERTEXT: Final = 4096
_EXAMPLE: Final = b"EXAMPLE"


def without_samples(text: bytes, spans: Iterable[Span]) -> Iterator[Span]:
    """The spans that are neither samples nor ciphertext."""
    for span in spans:
        value = text[span.start : span.end]
        if not (G.spelt_out.fullmatch(value) or _is_ciphertext(text, span) or _is_sample(text, span.start, value)):
            yield span


def _is_ciphertext(text: bytes, span: Span) -> bool:
    """Whether a value was encrypted to be committed: by SOPS, or for a SealedSecret."""
    opening = text.rfind(b"ENC[", reach_back(text, span.start, _CIPHERTEXT), span.start + 4)
    if opening >= 0 and text.find(b"]", opening, span.start) < 0 and text.find(b"\n", opening, span.start) < 0:
        return True
    sealed = G.sealed.match(text, span.start, span.end)
    return sealed is not None and text.rfind(b"encryptedData", reach_back(text, span.start, _SECTION), span.start) >= 0


def _is_sample(text: bytes, at: int, value: bytes) -> bool:
    end = text.find(BREAK, at, at + _SHORTEST)
    end = min(len(text), at + _SHORTEST) if end < 0 else end
    if end - reach_back(text, at, _SHORTEST) < _SHORTEST:
        return False
    if _EXAMPLE in value or G.published.fullmatch(value):
        return True
    if len(value) > _LONGEST_VALUE or is_random(value.decode("utf-8", "replace"), least=8):
        return False
    above = text[reach_back(text, at, _SECTION) : at]
    if b"xample" in above or _EXAMPLE in above:
        headings = [match.end() for match in G.heading.finditer(above)]
        if headings and not G.closes.search(above, headings[-1]):
            return True
    return G.dummy.match(value) is not None and (G.tests.search(above) is not None or _is_comment(text, at))


def _is_comment(text: bytes, at: int) -> bool:
    start = text.rfind(b"\n", reach_back(text, at, _LINE_REACH), at) + 1
    return start > 0 and G.comment.match(text, start) is not None


def is_example_url(text: bytes, start: int, end: int) -> bool:
    """Whether the URL around a value is one of documentation: by its account, or by an example host."""
    return G.example_url.search(text, reach_back(text, start, 60), end + 40) is not None
