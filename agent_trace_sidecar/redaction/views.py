"""Other readings of a text: without its JSON escapes, without its percent escapes; with the way back to the text.

Patterns on escaped text lose half of what they would find, so each layer also looks at the text as it was meant.
"""

import bisect
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from agent_trace_sidecar.redaction.rules import Overload
from agent_trace_sidecar.redaction.spans import BORDER, BREAK

MOST_PARTS: Final = 150_000
"""More escapes than this in one text are no text that anybody wrote."""

Part = tuple[int, int, bytes]
Place = Callable[[int], int]

_ESCAPE: Final = re.compile(rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_TELLING_ESCAPE: Final = re.compile(rb'\\["nru]')
_PERCENT: Final = re.compile(rb"%([0-9a-fA-F]{2})")
_TELLING_PERCENT: Final = re.compile(rb"(?i)%(?:3[ad]|40|22|27|2[0bdf])")
_ENTITY: Final = re.compile(rb"&(?:quot|amp|apos|lt|gt|#3[49]);")
_ENTITIES: Final = {
    b"&quot;": b'"',
    b"&#34;": b'"',
    b"&apos;": b"'",
    b"&#39;": b"'",
    b"&amp;": b"&",
    b"&lt;": b"<",
    b"&gt;": b">",
}
_SIMPLE: Final = {b'"': b'"', b"\\": b"\\", b"/": b"/", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def unescaped(text: bytes) -> tuple[bytes, Place] | None:
    """The lines that hold JSON inside a string, unescaped once; None when there are none."""
    lines = list(_escaped_lines(text))
    return substituted(text, _parts(text, lines, _ESCAPE, _of_escape)) if lines else None


def _escaped_lines(text: bytes) -> Iterator[tuple[int, int]]:
    """Lines with escaped quotes; lines with escaped line ends only where these are not just a literal in code."""
    for start, end, telling in _lines_with(_TELLING_ESCAPE, text):
        if telling not in {b"\\n", b"\\r"} or _is_meant(text, start, end):
            yield start, end


def _is_meant(text: bytes, start: int, end: int) -> bool:
    """Whether an escaped line end in this line belongs to an inner text: it is alone, or has JSON in it."""
    alone = (start == 0 or text[start - 2 : start] == BREAK + b"\n") and (
        end >= len(text) or text[end + 1 : end + 2] == BREAK
    )
    return (
        alone
        or text.find(b'\\"', start, end) >= 0
        or text.find(b'": "', start, end) >= 0
        or text.find(b'":"', start, end) >= 0
    )


def _of_escape(match: re.Match[bytes]) -> bytes:
    body = match.group()[1:]
    return _SIMPLE.get(body) or chr(int(body[1:], 16)).encode("utf-8", "replace")


def unquoted(text: bytes) -> tuple[bytes, Place] | None:
    """The lines with percent escapes that could hide a separator, without these; None when there are none."""
    lines = [(start, end) for start, end, _ in _lines_with(_TELLING_PERCENT, text)]
    return substituted(text, _parts(text, lines, _PERCENT, _of_percent)) if lines else None


def _of_percent(match: re.Match[bytes]) -> bytes:
    value = int(match.group(1), 16)
    return bytes([value]) if 32 <= value < 127 else b"?"  # noqa: PLR2004 - printable ASCII


def _lines_with(pattern: re.Pattern[bytes], text: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The lines in which a pattern matches, and what it matches first in each."""
    at = 0
    while match := pattern.search(text, at):
        start = text.rfind(b"\n", at, match.start()) + 1 or at
        end = text.find(b"\n", match.start())
        at = len(text) if end < 0 else end
        yield start, at, match.group()


def _parts(
    text: bytes, lines: list[tuple[int, int]], pattern: re.Pattern[bytes], of: Callable[[re.Match[bytes]], bytes]
) -> Iterator[Part]:
    """What the matches in these lines become; what lies between the lines is left out."""
    at = 0
    for start, end in lines:
        if start > at:
            yield at, start, BORDER
        for match in pattern.finditer(text, start, end):
            yield *match.span(), of(match)
        at = end
    if at < len(text):
        yield at, len(text), BORDER


def without_entities(text: bytes) -> tuple[bytes, Place]:
    """The lines with the quotes that HTML writes as entities, with these as they are meant."""
    lines = [(start, end) for start, end, _ in _lines_with(_ENTITY, text)]
    return substituted(text, _parts(text, lines, _ENTITY, lambda match: _ENTITIES[match.group()]))


def substituted(text: bytes, parts: Iterable[Part]) -> tuple[bytes, Place]:
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
        if len(outs) > 2 * MOST_PARTS:
            raise Overload
    pieces.append(text[at:])

    def place(position: int) -> int:
        index = bisect.bisect_right(outs, position) - 1
        return ins[index] + position - outs[index]

    return b"".join(pieces), place
