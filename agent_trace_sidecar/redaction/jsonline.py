"""A JSON line as its string tokens: masked where they stand, everything between them untouched.

The line is not decoded and encoded again: numbers, order, doubled keys and white space survive byte for byte. All
strings are unescaped and laid out in one buffer, so that each layer looks once per line and not once per string.
"""

import bisect
import json
import re
from collections import Counter
from typing import Final, Self

import msgspec

from agent_trace_sidecar.redaction.assignments import is_secret_key
from agent_trace_sidecar.redaction.masker import MOST_ROUNDS, Masker
from agent_trace_sidecar.redaction.spans import Span, applied, by_line, merged
from agent_trace_sidecar.redaction.values import Context, is_secret

_TOKEN: Final = re.compile(rb'"([^"\\]*(?:\\.[^"\\]*)*)"(\s*:)?', re.DOTALL)
_NUMBER: Final = re.compile(rb"\s*(-?\d[\d.eE+-]*)")
_BORDER: Final = b"\x1e\n"


class JsonLine:
    """One line of JSON, opened."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    @classmethod
    def parse(cls, raw: bytes) -> Self | None:
        """The line, or None when it is no JSON."""
        try:
            msgspec.json.decode(raw, type=msgspec.Raw)
        except (ValueError, RecursionError):
            return None
        return cls(raw)

    def masked(self, masker: Masker, counts: Counter[str]) -> bytes:
        """The line with every secret replaced by its label."""
        for _ in range(MOST_ROUNDS):
            found = self._round(masker, counts)
            if found is None:
                break
            self._raw = found
        return self._raw

    def _round(self, masker: Masker, counts: Counter[str]) -> bytes | None:
        raw = self._raw
        tokens: list[tuple[int, int, int]] = []  # where in the line, and where its text starts in the buffer
        pieces: list[bytes] = []
        keyed: list[Span] = []
        numbers: list[tuple[int, int]] = []
        size = 0
        key = b""
        for match in _TOKEN.finditer(raw):
            body = match.group(1)
            if b"\\" in body:
                body = _unescaped(body)
            start, end = match.span(1)
            tokens.append((start, end, size))
            if match.group(2):
                key = body
                if is_secret_key(key) and (number := _NUMBER.match(raw, match.end())):
                    numbers.append(number.span(1))
            elif is_secret_key(key) and is_secret(key, body, Context.JSON):
                keyed.append(Span(size, size + len(body), "assignment"))
            pieces += (body, _BORDER)
            size += len(body) + 2
        buffer = b"".join(pieces)
        spans = merged(by_line(buffer, [*keyed, *masker.find(buffer)]))
        if not spans:
            return None
        counts.update(span.rule for span in spans)
        return _rewritten(raw, tokens, buffer, spans)


def _unescaped(body: bytes) -> bytes:
    try:
        return str(msgspec.json.decode(b'"' + body + b'"')).encode("utf-8", "replace")
    except ValueError:
        text = json.loads(b'"' + body + b'"', strict=False)
        return str(text).encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode()


def _rewritten(raw: bytes, tokens: list[tuple[int, int, int]], buffer: bytes, spans: list[Span]) -> bytes:
    """The line with the tokens that hold a span replaced, and nothing else."""
    starts = [token[2] for token in tokens]
    by_token: dict[int, list[Span]] = {}
    for span in spans:
        index = bisect.bisect_right(starts, span.start) - 1
        base = starts[index]
        by_token.setdefault(index, []).append(span._replace(start=span.start - base, end=span.end - base, quote=b""))
    pieces: list[bytes] = []
    at = 0
    for index, inside in by_token.items():
        start, end, base = tokens[index]
        after = starts[index + 1] - 2 if index + 1 < len(starts) else len(buffer) - 2
        text = applied(buffer[base:after], inside)
        pieces += (raw[at : start - 1], msgspec.json.encode(text.decode("utf-8", "replace")))
        at = end + 1
    pieces.append(raw[at:])
    return b"".join(pieces)
