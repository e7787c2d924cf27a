"""Manifests of Kubernetes Secrets, in YAML or JSON: every value of `data` and `stringData` goes, whatever its name."""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

from agent_trace_sidecar.redaction.judge import is_placeholder
from agent_trace_sidecar.redaction.rules import Gates
from agent_trace_sidecar.redaction.spans import BREAK, Span, View, reach_back

G: Final = Gates("manifests")

_LONGEST: Final = 256 * 1024


def manifests(view: View) -> Iterator[Span]:
    """The values of all Secrets in the text; each part of it is read once."""
    text, done = view.text, 0
    for start, end in view.marks.get("secrets", ()):
        if start < done:
            continue
        view.effort.spend()
        low = max(done, reach_back(text, start, _LONGEST))
        high = text.find(BREAK, end, end + _LONGEST)
        high = high if high >= 0 else min(len(text), end + _LONGEST)
        if text[start - 1 : start] == b'"':
            low = _edge(reversed([*G.brace.finditer(text, low, start)]), b"{", low)
            done = _edge(G.brace.finditer(text, start, high), b"}", high)
            data, value = G.data_object, G.member
        elif G.kind_line.match(text, end, high):
            edge, data, value = _at(start - (text.rfind(b"\n", low, start) + 1 or low))
            low = max((line.end() for line in edge.finditer(text, low, start)), default=low)
            done = min((line.start() for line in edge.finditer(text, end, high)), default=high)
        else:
            continue
        for members in data.finditer(text, low, done):
            for found in value.finditer(text, *members.span(1)):
                if (group := found.lastindex) and not is_placeholder(found[group]):
                    yield Span(found.start(group), found.end(group), "kubernetes-secret")


def _edge(braces: Iterable[re.Match[bytes]], outwards: bytes, default: int) -> int:
    """JSON: where the object ends on one side, by the braces on that side, the nearest first."""
    depth = 0
    for brace in braces:
        depth += 1 if brace[0] == outwards else -1
        if depth == 1:
            return brace.start()
    return default


@lru_cache(maxsize=64)
def _at(column: int) -> list[re.Pattern[bytes]]:
    """YAML: the patterns of a block at this column, for which `{0}` stands in them."""
    patterns = (G.edge, G.data_block, G.value)
    return [re.compile(one.pattern.replace(b"{0}", b"{%d}" % column)) for one in patterns]
