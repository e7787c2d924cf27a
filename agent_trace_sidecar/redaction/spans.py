"""Where the secrets stand in a text, and how their labels take their place."""

import bisect
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, NamedTuple

LABEL: Final = re.compile(rb"\[REDACTED:[a-z0-9_.-]{1,60}\]")
"""What stands in place of a secret. Masking never reads inside one, so masking twice is masking once."""
BLANK: Final = b"\x1f"
"""Stands for the bytes of a label while the detectors run: no pattern's value class holds it."""
BREAK: Final = b"\x1e"
"""Stands between two strings of one event while the detectors run: no secret reaches across it."""
BORDER: Final = b"\n" + BREAK + b"\n"
"""A break on a line of its own, so that each string begins and ends a line."""

_BASE_S: Final = 1.0
_PER_MIB_S: Final = 2.0
"""Processor time that a text may cost: ten times what the slowest of real events takes."""
_MOST_CANDIDATES: Final = 60_000
"""Candidates in one text; a text that a person wrote has a hundredth of them."""
_CANDIDATES_PER_CHECK: Final = 64

_CUTS: Final = re.compile(rb"[\r\n\x1e\x1f]")
_LINE: Final = re.compile(rb"[^\r\n\x1e\x1f]+")


class Overload(Exception):  # noqa: N818 - not an error of ours: the text is hostile
    """A text has so many candidates that masking it would take seconds; it is withheld instead."""


class Overdue(Overload):
    """A text has used up its processor time."""


class Effort:
    """The work that one text may cost, counted in candidates and in processor time of this thread.

    Not the clock's time: on a busy machine it would withhold what is harmless. Each loop over candidates counts them; a
    single pattern can't be interrupted, which is why all of them are linear.
    """

    def __init__(self, size: int) -> None:
        """For a text of `size` bytes."""
        self._candidates = 0
        self._until = time.thread_time() + _BASE_S + _PER_MIB_S * size / (1 << 20)

    def spend(self, candidates: int = 1) -> None:
        """Count candidates. Raises Overload or Overdue when the text has used up what a text may cost."""
        before = self._candidates
        self._candidates += candidates
        if self._candidates > _MOST_CANDIDATES:
            raise Overload
        due = before // _CANDIDATES_PER_CHECK != self._candidates // _CANDIDATES_PER_CHECK
        if due and time.thread_time() > self._until:
            raise Overdue


@dataclass(slots=True)
class View:
    """A text in which labels are blanks, and whose strings are apart if there are several."""

    text: bytes
    effort: Effort
    marks: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Where the words stand that detectors start from, by kind of word, in order."""
    is_encoded: bool = False
    """Whether it holds a run that may be text in base64 or hex."""
    reaches_across: bool = False
    """Whether a secret was found that reaches from one string into the next."""


def reach_back(text: bytes, at: int, reach: int) -> int:
    """How far back a search from `at` may begin: `reach` bytes, and not into another string."""
    low = max(0, at - reach)
    return text.rfind(BREAK, low, at) + 1 or low


class Span(NamedTuple):
    """The bytes `start` to `end` are a secret, found by the rule or detector `rule`."""

    start: int
    end: int
    rule: str
    quote: bytes = b""
    """What the label must be wrapped in, where a bare JSON number would turn into a string."""
    apart: bool = False
    """Whether this is a piece of what reaches over several strings."""


class Joined:
    """Texts one after the other in a buffer, a border between them, and the way back."""

    def __init__(self, texts: Sequence[bytes]) -> None:
        self.buffer: Final = BORDER + BORDER.join(texts) + BORDER
        self.bases: Final = list(accumulate([len(text) + len(BORDER) for text in texts], initial=len(BORDER)))
        """Where each text begins."""

    def index(self, place: int) -> int:
        """Which text stands there."""
        return bisect.bisect_right(self.bases, place) - 1

    def apart(self, spans: Iterable[Span]) -> Iterator[tuple[int, Span]]:
        """The text of each span, and the span as it stands in that text."""
        for span in spans:
            index = self.index(span.start)
            yield index, moved(span, -self.bases[index])


def moved(span: Span, by: int) -> Span:
    """The span at another place."""
    return span._replace(start=span.start + by, end=span.end + by)


def blanked(text: bytes) -> bytes:
    """`text` with the labels of an earlier pass made invisible, at the same length."""
    if b"[REDACTED:" not in text:
        return text
    return LABEL.sub(lambda m: BLANK * len(m.group()), text)


def merged(spans: Iterable[Span]) -> list[Span]:
    """The spans in order and without overlap: of two that touch the same bytes, the union under the first's rule."""
    result: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start, -s.end)):
        if span.end <= span.start:
            continue
        if result and span.start < result[-1].end:
            result[-1] = result[-1]._replace(end=max(span.end, result[-1].end))
        else:
            result.append(span)
    return result


def by_line(text: bytes, spans: Iterable[Span]) -> list[Span]:
    """The spans cut at line ends, labels and string borders, so that every line stays a line of its own."""
    result: list[Span] = []
    for span in spans:
        piece = text[span.start : span.end]
        if not _CUTS.search(piece):
            result.append(span)
            continue
        apart = BREAK in piece
        for match in _LINE.finditer(piece):
            if inner := match.group().strip(b" \t"):
                start = span.start + match.start() + match.group().find(inner)
                result.append(span._replace(start=start, end=start + len(inner), apart=apart))
    return result


def applied(text: bytes, spans: Iterable[Span]) -> bytes:
    """`text` with a label in place of every span; the spans are in order and do not overlap."""
    pieces: list[bytes] = []
    at = 0
    for span in spans:
        pieces += (text[at : span.start], span.quote, b"[REDACTED:%s]" % span.rule.encode(), span.quote)
        at = span.end
    return b"".join((*pieces, text[at:]))


def joined(ranges: Iterable[tuple[int, int]], gap: int = 0) -> Iterator[tuple[int, int]]:
    """Ranges in order, as one where they overlap or are no more than `gap` apart."""
    low = high = -1
    for start, end in sorted(ranges):
        if low >= 0 and start <= high + gap:
            high = max(high, end)
            continue
        if low >= 0:
            yield low, high
        low, high = start, end
    if low >= 0:
        yield low, high
