"""Private keys in PEM form: the lines between their marks, whole or cut, in files, diffs, literals and lists."""

from collections.abc import Iterator
from typing import Final

from agent_trace_sidecar.redaction.rules import Gates
from agent_trace_sidecar.redaction.spans import Span, View

G: Final = Gates("key_blocks")

_CANDIDATES: Final = 16
"""What a key counts: its body is read several times."""
_SHORT: Final = 24
"""Characters; the last line of a body is the short one."""
_LONGEST: Final = 64 * 1024


def key_blocks(view: View) -> Iterator[Span]:
    """The body of every private key: BEGIN and END lines stay; without an END, everything up to the next mark."""
    text, at = view.text, 0
    if not view.marks.get("keys"):
        return
    while begin := G.begin.search(text, at):
        view.effort.spend(_CANDIDATES)
        limit = min(len(text), begin.end() + _LONGEST)
        mark = G.mark.search(text, begin.end(), limit)
        stop = mark.start() if mark else limit
        if apart := _end_in_strings(text, begin.end(), limit):
            stop = apart
        elif mark is None or not G.end.match(text, stop) or G.prose.search(text, begin.end(), stop):
            stop = _body_end(text, begin.end(), stop)
        if G.body.search(text, begin.end(), stop):
            yield Span(begin.end(), stop, "private-key")
        at = max(stop, begin.end())


def _end_in_strings(text: bytes, start: int, limit: int) -> int:
    """Where END stands when the lines of the key are strings of their own, as in the hunks of a patch; else 0."""
    if not G.string_end.match(text, start):
        return 0
    end = G.end.search(text, start, limit)
    return end.start() if end and G.strings.fullmatch(text, start, end.start()) else 0


def _body_end(text: bytes, start: int, limit: int) -> int:
    """Where the body of a key that was cut ends: before the first line that no key has, or at the limit."""
    at, lines = start, 0
    while at < limit:
        end = text.find(b"\n", at, limit)
        end = end if end >= 0 else limit
        line = G.line.match(text, at, end)
        if line is None or (lines and b" " in (line[1] or b"").strip()):
            return at
        at = min(limit, end + 1)
        if lines and line[1] is not None and 0 < len(line[1].strip()) < _SHORT:
            return at  # the last line of the body is the short one
        lines += 1
    return limit
