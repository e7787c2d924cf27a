"""Finds and masks the secrets of one text: every layer once over the text and once over its unescaped view."""

import bisect
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from agent_trace_sidecar.redaction.assignments import assignments
from agent_trace_sidecar.redaction.rulebook import Rulebook, windows
from agent_trace_sidecar.redaction.spans import Span, applied, blanked, by_line, merged
from agent_trace_sidecar.redaction.structures import structures

_ESCAPE: Final = re.compile(rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_ESCAPED_TEXT: Final = re.compile(rb'\\["nrtu]')
_SIMPLE: Final = {b'"': b'"', b"\\": b"\\", b"/": b"/", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
MOST_ROUNDS: Final = 4
MOST_DEPTH: Final = 3


class Masker:
    """The stateless part of the funnel: a text in, spans or a masked text out."""

    def __init__(self, rulebook: Rulebook) -> None:
        self._rulebook = rulebook

    def mask(self, text: bytes, counts: Counter[str]) -> bytes:
        """`text` without secrets; what was masked is added to `counts`. Repeats until nothing is left to be found."""
        for _ in range(MOST_ROUNDS):
            spans = self.find(text)
            if not spans:
                break
            counts.update(span.rule for span in spans)
            text = applied(text, spans)
        return text

    def find(self, text: bytes, depth: int = 0) -> list[Span]:
        """The secrets of `text`, in order, none across a line end."""
        view = blanked(text)
        return merged(by_line(view, self._all(view, depth)))

    def _all(self, view: bytes, depth: int) -> Iterator[Span]:
        lowered = view.lower()
        yield from structures(view, lowered)
        yield from self._patterns(view, lowered)
        yield from assignments(view)
        if depth < MOST_DEPTH and _ESCAPED_TEXT.search(view):
            inner, place = _unescaped(view)
            for span in self.find(inner, depth + 1):
                yield span._replace(start=place(span.start), end=place(span.end), quote=b"")

    def _patterns(self, view: bytes, lowered: bytes) -> Iterator[Span]:
        for rule, positions in self._rulebook.hits(lowered).values():
            regex = rule.regex()
            for low, high in windows(positions, len(view)):
                for match in regex.finditer(view, low, high):
                    yield _span_of(rule.id, match, rule.group, spread=rule.spread)


def _span_of(rule_id: str, match: object, group: int, *, spread: bool) -> Span:
    if group < 0:
        groups = match.groups()  # type: ignore[attr-defined]
        group = next((n for n, value in enumerate(groups, 1) if value), 0)
    return Span(*match.span(group), rule_id, spread)  # type: ignore[attr-defined]


def _unescaped(text: bytes):  # type: ignore[no-untyped-def]
    """`text` with its JSON escapes undone once, and the way back from its positions to those of `text`."""
    pieces: list[bytes] = []
    outs, ins = [0], [0]
    at = size = 0
    for match in _ESCAPE.finditer(text):
        start, end = match.span()
        body = match.group()[1:]
        char = _SIMPLE.get(body) or chr(int(body[1:], 16)).encode("utf-8", "replace")
        pieces += (text[at:start], char)
        size += start - at
        outs.append(size)
        ins.append(start)
        size += len(char)
        outs.append(size)
        ins.append(end)
        at = end
    pieces.append(text[at:])

    def place(position: int) -> int:
        index = bisect.bisect_right(outs, position) - 1
        return ins[index] + position - outs[index]

    return b"".join(pieces), place
