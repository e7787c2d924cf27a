"""Finds the secrets of one text: one pass for the keywords of everything, then each rule and detector near its own.

A rule whose keywords are rare runs only around them, and is compiled when one is first seen. Rules without a rare
keyword are tried all together by one automaton, which decides whether any of them matches at all.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

import re2
from ahocorasick_rs import BytesAhoCorasick, Implementation, MatchKind

from agent_trace_sidecar.redaction import decoders
from agent_trace_sidecar.redaction.detectors import DETECTORS, Detectors
from agent_trace_sidecar.redaction.filters import is_example_url, without_samples
from agent_trace_sidecar.redaction.judge import passes
from agent_trace_sidecar.redaction.rules import Gates, Rule, Words, compiled, known
from agent_trace_sidecar.redaction.spans import (
    BREAK,
    Effort,
    Overload,
    Span,
    View,
    blanked,
    by_line,
    joined,
    merged,
    reach_back,
)

G: Final = Gates("scanner")
W: Final = Words("scanner")

_LEAD: Final = 320
"""How far before its keyword a match may begin."""
_SHORTEST_KEYWORD: Final = 3
_SET_MEMORY: Final = 64 << 20
_HUGE: Final = 256 * 1024
_SPARSE: Final = 100
"""More than one hit in so many bytes: encoded data, or a text about secrets."""
_LONG_TEXT: Final = 16 * 1024
_EDGE: Final = 1000
"""What is read of each end of a long run of encoded data."""
_WORTH_BYTES: Final = 4 << 20
"""After so much text the fastest automaton pays: it takes 20 ms and 7 MB to make, the other one 3 ms."""
_MOST_HITS: Final = 100_000
_READING: Final = 8
"""Candidates that a decoded run counts: all of the scanner is started for it."""
_MOST_DEPTH: Final = 3
"""How often a text may be escaped within itself."""


@lru_cache(maxsize=2048)
def _regex(pattern: str) -> Any:  # noqa: ANN401 - google-re2 is untyped
    return compiled(pattern)


class Scanner:
    """All rules and detectors, ready for any thread."""

    def __init__(self, rules: Sequence[Rule], detectors: Detectors = DETECTORS, *, readings: bool = True) -> None:
        """`readings`: whether texts are also read without their escapes, and decoded."""
        self._readings = readings
        self._detectors = detectors
        self._rules = rules
        self._shapes: list[Rule] = []
        words: dict[str, list[int | str]] = defaultdict(list)
        for number, rule in enumerate(rules):
            if rule.keywords and all(len(w) >= _SHORTEST_KEYWORD and w not in W.common for w in rule.keywords):
                for word in rule.keywords:
                    words[word].append(number)
            else:
                self._shapes.append(rule)
        for mark, kind in known().words["marks"].items():
            for word in set(kind):
                words[word].append(mark)
        self._words = [word.encode() for word in words]
        self._starts = list(words.values())
        """By word: the rules, by their number, and the kinds of marks that start from it."""
        self._automaton = self._made(Implementation.ContiguousNFA)
        self._left_bytes = _WORTH_BYTES
        self._set: Any = None

    def find(self, text: bytes, effort: Effort | None = None) -> list[Span]:
        """The secrets of `text`, in order, none across a line end. Raises Overload."""
        return self.scan(View(blanked(text), effort or Effort(len(text))))

    def scan(self, view: View, depth: int = 0) -> list[Span]:
        """The same, with what the view is told on the way. `depth`: how often its text was unescaped."""
        found = list(without_samples(view.text, self._layers(view, depth)))
        view.reaches_across = any(BREAK in view.text[one.start : one.end] for one in found)
        return merged(by_line(view.text, found))

    def _layers(self, view: View, depth: int) -> Iterator[Span]:
        yield from self._matches(view)
        for detector in self._detectors.values():
            yield from detector(view)
        if self._readings:
            yield from self._inner(view, depth)

    def _inner(self, view: View, depth: int) -> Iterator[Span]:
        """The secrets of other readings of the text, where they stand in the text itself."""
        for kind in decoders.KINDS if depth == 0 else ["json"] if depth < _MOST_DEPTH else ():
            if reading := decoders.unescaped(view.text, kind):
                text, place = reading
                for span in self.scan(View(text, view.effort), depth + 1 if kind == "json" else _MOST_DEPTH):
                    yield Span(place(span.start), place(span.end), span.rule)
        for start, end, plain in decoders.encoded(view.text) if view.is_encoded and depth == 0 else ():
            view.effort.spend(_READING)
            if inside := self.scan(View(blanked(plain), view.effort), _MOST_DEPTH):
                yield Span(start, end, inside[0].rule)

    def _matches(self, view: View) -> Iterator[Span]:
        """What the rules find; where words stand that detectors start from is added to the view's marks."""
        by_word: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for word, start, end in self._hits(view.text):
            by_word[word].append((start, end))
        places: dict[int | str, list[tuple[int, int]]] = defaultdict(list)
        for word, where in by_word.items():
            for what in self._starts[word]:
                places[what] += where
        view.marks = {what: sorted(where) for what, where in places.items() if isinstance(what, str)}
        for number in sorted(what for what in places if isinstance(what, int)):  # whatever stands first in the text
            rule = self._rules[number]
            for low, high in joined(_window(view.text, position, rule.reach) for position, _ in places[number]):
                yield from _spans(rule, view, low, high)
        for index in self._shapes_in(view.text):
            if index == len(self._shapes):
                view.is_encoded = True
            else:
                yield from _spans(self._shapes[index], view, 0, len(view.text))

    def _hits(self, text: bytes) -> list[tuple[int, int, int]]:
        if self._left_bytes > 0:
            self._left_bytes -= len(text)
            if self._left_bytes <= 0:
                self._automaton = self._made(Implementation.DFA)
        lowered = text.lower() if len(text) < _HUGE else _without_blobs(text.lower())
        hits: list[tuple[int, int, int]] = self._automaton.find_matches_as_indexes(lowered, overlapping=True)
        if len(text) > _LONG_TEXT and len(hits) > len(text) // _SPARSE:
            hits = self._automaton.find_matches_as_indexes(_without_blobs(lowered), overlapping=True)
        if len(hits) > _MOST_HITS:
            raise Overload
        return hits

    def _made(self, implementation: Implementation) -> BytesAhoCorasick:
        return BytesAhoCorasick(self._words, matchkind=MatchKind.Standard, implementation=implementation)

    def _shapes_in(self, text: bytes) -> list[int]:
        """The rules without a rare keyword that match somewhere; one more where something may be encoded."""
        if self._set is None:
            options = re2.Options()
            options.log_errors = False
            options.max_mem = _SET_MEMORY
            shapes = re2.Set.SearchSet(options)
            for pattern in (*(rule.pattern.encode() for rule in self._shapes), decoders.G.text_run.pattern):
                shapes.Add(pattern)
            shapes.Compile()
            self._set = shapes
        return sorted(self._set.Match(text) or ())


def _without_blobs(text: bytes) -> bytes:
    """The text without the middles of long runs of encoded data, in which every keyword occurs by chance."""
    pieces: list[bytes] = []
    at = 0
    for match in G.blob.finditer(text):
        start, end = match.start() + _EDGE, match.end() - _EDGE
        if end > start:
            pieces += (text[at:start], b" " * (end - start))
            at = end
    return b"".join((*pieces, text[at:]))


def _window(text: bytes, position: int, reach: int) -> tuple[int, int]:
    """Where a rule with a keyword at `position` can match: in one string."""
    stop = text.find(BREAK, position, position + reach)
    return reach_back(text, position, _LEAD), stop if stop >= 0 else min(len(text), position + reach)


def _spans(rule: Rule, view: View, low: int, high: int) -> Iterator[Span]:
    """The matches of a rule between `low` and `high` that are secrets, and not only have the form of one."""
    text = view.text
    for match in _apart(_regex(rule.pattern), text, low, high):
        view.effort.spend()
        start, end = match.span(_group(rule, match))
        if match.end() >= high and (rest := G.rest.match(text, end)):
            end = rest.end()  # the window cut the token
        if rule.unless and _regex(rule.unless).search(match.group()):
            continue
        if b"://" in match.group() and is_example_url(text, start, end):
            continue
        if passes(rule.check, text, start, end):
            yield Span(start, end, rule.id)


def _apart(regex: Any, text: bytes, low: int, high: int) -> Iterator[Any]:  # noqa: ANN401 - google-re2 is untyped
    """The matches, of which none reaches from one string into the next."""
    at = low
    while at < high:
        for match in regex.finditer(text, at, high):
            border = text.find(BREAK, match.start(), match.end())
            if border >= 0:
                yield from regex.finditer(text, match.start(), border)
                at = border + 1
                break
            yield match
        else:
            return


def _group(rule: Rule, match: Any) -> int:  # noqa: ANN401 - google-re2 is untyped
    if rule.secret_group >= 0:
        return rule.secret_group
    groups = match.groups()
    return max((n for n, value in enumerate(groups, 1) if value), key=lambda n: len(groups[n - 1]), default=0)
