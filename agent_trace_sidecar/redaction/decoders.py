"""Other readings of a text: without its JSON, percent or HTML escapes, or decoded; with the way back to the text.

Patterns on escaped text lose half of what they would find, so everything also runs over the text as it was meant.
"""

import binascii
import bisect
import re
from collections.abc import Callable, Iterable, Iterator
from html import unescape
from typing import Final

from agent_trace_sidecar.redaction.rules import Gates
from agent_trace_sidecar.redaction.spans import BORDER, BREAK, Overload

Reading = tuple[bytes, Callable[[int], int]]
"""A text as it was meant, and the function that maps its positions to those of the text it was read from."""
_Part = tuple[int, int, bytes]

MOST_PARTS: Final = 150_000
"""More escapes than this in one text are no text that anybody wrote."""
_AROUND: Final = 1024
"""How far before and behind an escape its line is read."""
_ENTITY: Final = re.compile(rb"&(?:quot|amp|apos|lt|gt|#3[49]);")
_JSON_ESCAPE: Final = re.compile(
    rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})|(?<=[:,\[(=\s])"(?=(?:[^"\\\r\n]|\\[^n\r\n])*\\n)'
)
"""Also the quote before a text of several lines, whose first line begins there."""
_SIMPLE: Final = {
    b"": b'"\n', b'"': b'"', b"\\": b"\\", b"/": b"/", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t",
}  # fmt: skip
"""What stands for a character behind a backslash; for none, a line's end behind the quote."""

G: Final = Gates("decoders")
_HEX: Final = re.compile(rb"(?:[0-9a-fA-F]{2}){16,}$")
_LONGEST_RUN: Final = 4 * 1024 * 1024
_PROBE: Final = 24
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
_INNER: Final = (b'\\"', b'": "', b'":"')
"""What JSON in a string has."""
_NOT_TEXT: Final = bytes(sorted(set(range(256)) - set(range(32, 127)) - {9, 10, 13}))


def unescaped(text: bytes, kind: str) -> Reading | None:
    """The lines with escapes of a kind that could hide something, without these; None when there are none.

    Of `json` lines with escaped line ends alone count only where these are not just a literal in code.
    """
    sign, telling, escape, meaning = KINDS[kind]
    if sign not in text:
        return None
    lines = [(low, high) for low, high, sign in _lines_with(telling, text) if _is_meant(text, low, high, sign)]
    return _substituted(text, _parts(text, lines, escape, meaning)) if lines else None


def _is_meant(text: bytes, start: int, end: int, sign: bytes) -> bool:
    """Whether an escaped line end in this line belongs to an inner text: it is alone, or has JSON in it."""
    alone = (start == 0 or text[start - 2 : start] == BREAK + b"\n") and text[end + 1 : end + 2] in {BREAK, b""}
    return sign not in {b"\\n", b"\\r"} or alone or any(text.find(one, start, end) >= 0 for one in _INNER)


def _of_json(match: re.Match[bytes]) -> bytes:
    body = match.group()[1:]
    return _SIMPLE.get(body) or chr(int(body[1:], 16)).encode("utf-8", "replace")


def _of_percent(match: re.Match[bytes]) -> bytes:
    value = int(match[1], 16)
    return bytes([value]) if 32 <= value < 127 else b"?"  # noqa: PLR2004 - printable ASCII


KINDS: Final[dict[str, tuple[bytes, re.Pattern[bytes], re.Pattern[bytes], Callable[[re.Match[bytes]], bytes]]]] = {
    "json": (b"\\", re.compile(rb'\\["nru]'), _JSON_ESCAPE, _of_json),
    "percent": (b"%", re.compile(rb"(?i)%(?:3[ad]|40|22|27|2[0bdf])"), re.compile(rb"%([0-9a-fA-F]{2})"), _of_percent),
    "entity": (b"&", _ENTITY, _ENTITY, lambda match: unescape(match[0].decode()).encode()),
}
"""How every such escape begins, what shows that there is something to read, what is replaced, and by what."""


def _lines_with(pattern: re.Pattern[bytes], text: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The lines in which a pattern matches, and what it matches first in each; of long lines what is around it."""
    at = 0
    while match := pattern.search(text, at):
        start = max(text.rfind(b"\n", at, match.start()) + 1 or at, match.start() - _AROUND)
        line_end = text.find(b"\n", match.start())
        line_end = len(text) if line_end < 0 else line_end
        at = last = match.end()
        while at < line_end and (more := pattern.search(text, last, min(line_end, at + _AROUND))):
            at = last = more.end()
        at = min(line_end, at + _AROUND)
        yield start, at, match.group()


def _parts(
    text: bytes, lines: list[tuple[int, int]], pattern: re.Pattern[bytes], of: Callable[[re.Match[bytes]], bytes]
) -> Iterator[_Part]:
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


def _substituted(text: bytes, parts: Iterable[_Part]) -> Reading:
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

    def place(position: int) -> int:
        index = bisect.bisect_right(outs, position) - 1
        return ins[index] + position - outs[index]

    return b"".join((*pieces, text[at:])), place


def encoded(text: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The runs of base64 or hex that hold text: their place, and the decoded text."""
    for match in G.text_run.finditer(text):
        start, end = match.span(1)
        if plain := _decoded(text[start : min(end, start + _LONGEST_RUN)]):
            yield start, end, plain


def is_readable_text(run: bytes) -> bool:
    """Whether a run is text in base64: encoded by a program, and not drawn at random."""
    head = run[: len(run) // 4 * 4][:_PROBE].translate(_URL_SAFE)
    try:
        return _HEX.match(run) is None and not _binary(binascii.a2b_base64(head))
    except ValueError:
        return False


def _decoded(run: bytes) -> bytes | None:
    """The decoded text of the run, when it is text in base64 or hex, also in another encoding or with a torn end."""
    if _HEX.match(run) and not _binary(plain := bytes.fromhex(run.decode())):
        return plain
    body = run.rstrip(b"=").translate(_URL_SAFE)
    body = body[: len(body) - (len(body) % 4 == 1)]
    plain = binascii.a2b_base64(body + b"=" * (-len(body) % 4))
    return plain if (len(plain) - len(plain.translate(None, _NOT_TEXT))) * 20 <= len(plain) else None


def _binary(data: bytes) -> bool:
    return len(data.translate(None, _NOT_TEXT)) != len(data)
