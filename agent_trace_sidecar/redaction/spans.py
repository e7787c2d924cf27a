"""Where the secrets stand in a text, and how their labels take their place."""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

LABEL: Final = re.compile(rb"\[REDACTED:[a-z0-9_.-]{1,60}\]")
"""What stands in place of a secret. Masking never looks inside one, so masking twice is masking once."""

BLANK: Final = b"\x1f"
"""Stands for the bytes of a label while the layers look: no pattern's value class holds it."""

BREAK: Final = b"\x1e"
"""Stands between two strings of one line while the layers look: no secret reaches across it."""


BORDER: Final = b"\n" + BREAK + b"\n"
"""... so that each of them begins and ends a line."""


def reach_back(text: bytes, at: int, reach: int) -> int:
    """How far back a look from `at` may begin: `reach` bytes, and not into another string."""
    low = max(0, at - reach)
    return text.rfind(BREAK, low, at) + 1 or low


class Span(NamedTuple):
    """The bytes `start` to `end` are a secret, found by `rule`."""

    start: int
    end: int
    rule: str
    spread: bool = True
    """Whether the value is unmistakable enough to be masked wherever else it occurs."""
    quote: bytes = b""
    """What the label must be wrapped in, where a bare JSON number would turn into a string."""


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
            last = result[-1]
            if span.end > last.end:
                result[-1] = last._replace(end=span.end, spread=last.spread and span.spread)
        else:
            result.append(span)
    return result


_LINE: Final = re.compile(rb"[^\r\n\x1e\x1f]+")


def by_line(text: bytes, spans: Iterable[Span]) -> list[Span]:
    """The spans cut at line ends, labels and string borders, so that every line stays a line of its own."""
    result: list[Span] = []
    for span in spans:
        piece = text[span.start : span.end]
        if not _BORDER.search(piece):
            result.append(span)
            continue
        for match in _LINE.finditer(piece):
            body = match.group()
            lead = len(body) - len(body.lstrip(b" \t"))
            inner = body.strip(b" \t")
            if inner:
                start = span.start + match.start() + lead
                result.append(span._replace(start=start, end=start + len(inner)))
    return result


_BORDER: Final = re.compile(rb"[\r\n\x1e\x1f]")


def applied(text: bytes, spans: Iterable[Span]) -> bytes:
    """`text` with a label in place of every span; the spans are in order and do not overlap."""
    pieces: list[bytes] = []
    at = 0
    for span in spans:
        pieces += (text[at : span.start], span.quote, b"[REDACTED:%s]" % span.rule.encode(), span.quote)
        at = span.end
    pieces.append(text[at:])
    return b"".join(pieces)
