"""Finds and masks the secrets of one text: every layer once over the text and once over its unescaped view."""

import bisect
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from agent_trace_sidecar.redaction.assignments import assignments
from agent_trace_sidecar.redaction.encoded import encoded, has_percent, percent_pieces
from agent_trace_sidecar.redaction.files import values_of_file
from agent_trace_sidecar.redaction.memory import Known
from agent_trace_sidecar.redaction.nearby import near_words
from agent_trace_sidecar.redaction.rulebook import Rulebook
from agent_trace_sidecar.redaction.spans import Span, applied, blanked, by_line, merged
from agent_trace_sidecar.redaction.structures import key_blocks

_ESCAPE: Final = re.compile(rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_ESCAPED_TEXT: Final = re.compile(rb'\\["nrtu]')
_SIMPLE: Final = {b'"': b'"', b"\\": b"\\", b"/": b"/", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
MOST_ROUNDS: Final = 4
MOST_DEPTH: Final = 3
DECODED: Final = 2
"""The depth of decoded text: nothing in it is decoded again."""
_NAME_REACH: Final = 100
_VALUE_REACH: Final = 300


class Masker:
    """The stateless part of the funnel: a text in, spans or a masked text out."""

    def __init__(self, rulebook: Rulebook) -> None:
        self._rulebook = rulebook

    def mask(self, text: bytes, counts: Counter[str], known: Sequence[Known] = (), *, secret_file: bool = False) -> bytes:
        """`text` without secrets; what was masked is added to `counts`. Repeats until nothing is left to be found."""
        for _ in range(MOST_ROUNDS):
            view = blanked(text)
            extra = [span for k in known for span in k.find(view)]
            if secret_file:
                extra += values_of_file(view)
            spans = merged(by_line(view, [*self._all(view, 0), *extra]))
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
        cores: list[int] = []
        yield from self._rulebook.spans(view, view.lower(), cores)
        yield from key_blocks(view)
        stretches = list(_around(view, cores))
        yield from assignments(view, stretches)
        yield from near_words(view, stretches)
        if depth >= MOST_DEPTH:
            return
        if _ESCAPED_TEXT.search(view):
            yield from self._through(*_substituted(view, _escapes(view)), depth + 1)
        if depth < DECODED:
            if has_percent(view):
                yield from self._through(*_substituted(view, percent_pieces(view)), DECODED)
            yield from encoded(view, lambda plain: self.find(plain, DECODED))

    def _through(self, inner: bytes, place: Callable[[int], int], depth: int) -> Iterator[Span]:
        """The secrets of a decoded view, where they stand in the text itself."""
        for span in self.find(inner, depth):
            yield span._replace(start=place(span.start), end=place(span.end), quote=b"")


def _around(text: bytes, cores: list[int]) -> Iterator[tuple[int, int]]:
    """The stretches of lines around the cores, where a name, its separator and the start of a value can stand."""
    low = high = -1
    for core in cores:
        if core < high - _NAME_REACH:
            continue
        start = max(text.rfind(b"\n", max(0, core - _NAME_REACH), core) + 1, core - _NAME_REACH)
        end = text.find(b"\n", core, core + _VALUE_REACH)
        end = min(len(text), core + _VALUE_REACH) if end < 0 else end
        if start <= high:
            high = max(high, end)
            continue
        if high >= 0:
            yield low, high
        low, high = start, end
    if high >= 0:
        yield low, high


def _escapes(text: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Every JSON escape: where it stands and what it means."""
    for match in _ESCAPE.finditer(text):
        body = match.group()[1:]
        char = _SIMPLE.get(body) or chr(int(body[1:], 16)).encode("utf-8", "replace")
        yield *match.span(), char


def _substituted(text: bytes, parts: Iterable[tuple[int, int, bytes]]) -> tuple[bytes, Callable[[int], int]]:
    """`text` with the parts replaced, and the way back from its positions to those of `text`."""
    pieces: list[bytes] = []
    outs, ins = [0], [0]
    at = size = 0
    for start, end, char in parts:
        pieces += (text[at:start], char)
        size += start - at
        outs += (size, size + len(char))
        ins += (start, end)
        size += len(char)
        at = end
    pieces.append(text[at:])

    def place(position: int) -> int:
        index = bisect.bisect_right(outs, position) - 1
        return ins[index] + position - outs[index]

    return b"".join(pieces), place
