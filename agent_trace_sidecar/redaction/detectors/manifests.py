"""Manifests of Kubernetes Secrets, in YAML or JSON: every value of `data` and `stringData` goes, whatever its name."""

import re
from collections.abc import Generator, Iterator
from typing import Final

from agent_trace_sidecar.redaction.judge import is_placeholder
from agent_trace_sidecar.redaction.rules import Gates
from agent_trace_sidecar.redaction.spans import BREAK, Span, View, reach_back

G: Final = Gates("manifests")

_RULE: Final = "kubernetes-secret"
_LONGEST: Final = 256 * 1024
_ITEM: Final = b"- "
"""Before the column of a block: it is an element of a list, and begins here."""
_BRACE: Final = re.compile(rb"[{}]")


def manifests(view: View) -> Iterator[Span]:
    """The values of all Secrets in the text; each part of it is read once."""
    done = 0
    for start, end in view.marks.get("secrets", ()):
        if start < done:
            continue
        low = max(done, reach_back(view.text, start, _LONGEST))
        high = view.text.find(BREAK, end, end + _LONGEST)
        high = high if high >= 0 else min(len(view.text), end + _LONGEST)
        if view.text[start - 1 : start] == b'"':
            done = yield from _of_object(view, low, start, high)
        elif G.kind_line.match(view.text, end, high):
            done = yield from _of_block(view, low, start, high)


def _of_object(view: View, low: int, at: int, high: int) -> Generator[Span, None, int]:
    """JSON: the members of `data` in the object that the kind is a member of. Returns where it ends."""
    depth = 0
    for match in reversed([*_BRACE.finditer(view.text, low, at)]):
        view.effort.spend()
        depth += 1 if match[0] == b"{" else -1
        if depth == 1:
            low = match.end()
            break
    for match in _BRACE.finditer(view.text, at, high):
        view.effort.spend()
        depth += 1 if match[0] == b"{" else -1
        if depth <= 0:
            high = match.start()
            break
    for data in G.data_object.finditer(view.text, low, high):
        for member in G.member.finditer(view.text, *data.span(1)):
            yield Span(member.start(1), member.end(1), _RULE)
    return high


def _of_block(view: View, low: int, at: int, high: int) -> Generator[Span, None, int]:
    """YAML: the lines below `data:` in the block whose member the kind is, at its column. Returns where it ends."""
    text = view.text
    column = at - (text.rfind(b"\n", low, at) + 1 or low)
    inside = False
    at = first = _block_start(view, low, at, column)
    while at < high:
        view.effort.spend()
        end = text.find(b"\n", at, high)
        end = end if end >= 0 else high
        margin, line = text[at : at + column], text[min(at + column, end) : end]
        if at > first and (_is_beyond(margin, line) or margin.endswith(_ITEM)):
            return at
        if line[:1] not in {b" ", b"\t", b"\r", b""}:
            inside = G.data_line.match(line) is not None
        elif inside and (found := G.value.match(line)):
            start, stop = found.span(found.lastindex or 0)
            if found.lastindex and not is_placeholder(line[start:stop]):
                yield Span(at + column + start, at + column + stop, _RULE)
        at = end + 1
    return high


def _block_start(view: View, low: int, at: int, column: int) -> int:
    """Where the first line of the block begins: below the line that belongs to another."""
    text = view.text
    start = text.rfind(b"\n", low, at) + 1 or low
    while start > low and not text[start : start + column].endswith(_ITEM):
        view.effort.spend()
        above = text.rfind(b"\n", low, start - 1) + 1 or low
        if _is_beyond(text[above : above + column], text[min(above + column, start - 1) : start - 1]):
            break
        start = above
    return start


def _is_beyond(margin: bytes, line: bytes) -> bool:
    """Whether a line is no part of the block: it begins another document, or stands further left."""
    return bool(line.strip()) and (G.document.match(line) is not None or not G.margin.fullmatch(margin))
