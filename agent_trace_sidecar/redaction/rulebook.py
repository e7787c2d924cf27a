"""Which rules look at a text, and where: one pass over the text for the literals of all rules at once.

A rule whose literals are rare runs only around them, and is compiled when one is first seen. Rules without a rare
literal are asked all together by one automaton whether any of them matches at all.
"""

# ruff: noqa: SIM905, E501 - long lists of words are read and sorted as text

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple, Self

import re2
from ahocorasick_rs import BytesAhoCorasick, Implementation, MatchKind

from agent_trace_sidecar.redaction.deadline import check_deadline
from agent_trace_sidecar.redaction.names import CORES, STRONG_CORES, Kind
from agent_trace_sidecar.redaction.providers import PROVIDERS
from agent_trace_sidecar.redaction.rules import Late, Overload, Rule
from agent_trace_sidecar.redaction.spans import BREAK, Span, reach_back
from agent_trace_sidecar.redaction.surroundings import numbers_thing
from agent_trace_sidecar.redaction.tables import OWNERS, STATEMENTS
from agent_trace_sidecar.redaction.values import Form, holds_random, is_chosen, is_placeholder, is_plain, is_secret

_LEAD: Final = 320
"""How far before its literal a match may begin."""
_SHORTEST_LITERAL: Final = 3
_COMMON: Final = frozenset(
    "token tokens test_ access key keys password private storage secret account client address user login http auth "
    "code data file type name pass live_ http:// https:// linear host pat fal ct_ re_ ar_ aa_ ion_ app box wiz woo exo al- "
    "pa- pt_ ps_ acc ace aca key cio fw_ cog hub api com sts. s.ca 00d ske typeform poly".split()
)
_LONGEST_PLACEHOLDER: Final = 30
_SET_MEMORY: Final = 64 << 20
_HUGE: Final = 256 * 1024
_SPARSE: Final = 100
"""More than one hit in so many bytes: encoded data, or a text about secrets."""
_LONG_TEXT: Final = 16 * 1024
_BLOB: Final = Late(rb"[A-Za-z0-9+/_-]{400,}")
_EDGE: Final = 1000
_WORTH_BYTES: Final = 4 << 20
"""After so much text the fastest automaton pays: it takes 20 ms and 7 MB to make, the other one 3 ms."""
_EXAMPLE_URL: Final = re.compile(
    rb"""(?xi)://(?:
      (?:(?:my|some|proxy)?_?user(?:name|id)?|usr|login|name|you|me|foo|<\w+>|\w)?:
      (?:(?:my|some|proxy)?_?pass(?:word|wd)?|pwd|pw|secret|bar|p(?:@|%40)ss|\w)@
      (?:(?:proxy)?host(?:name)?|server|localhost|127\.0\.0\.1|1\.2\.3\.4|domain|ip|addr(?:ess)?|proxy|db|foo|host\.com|[\w.]*\.example|\w)
    | [^\s:/@]*:(?:pass(?:word|wd)?|pwd|pw|p(?:@|%40)ss(?:word)?|secret|secre|bar|[a-z])\d{0,3}@[\w.-]*\bexample\.\w+
    )(?:[:/?\s\"'`)\]]|$)"""
)
"""The names that documentation gives to whoever logs in, and where; at a host of documentation, any user's."""
_SHOUTED: Final = frozenset((b"PASSWORD", b"PASS", b"SECRET", b"TOKEN"))
_SPOKEN_OF: Final = re.compile(
    rb"(?i)(?:my|your|some|the|a|test)?[-_]?(?:secret|token|password|pass|key|foo|abc)[-_]?\d{0,4}$|credential=,?$"
)
"""What stands for a token where headers are explained: secret123."""
_REST: Final = re.compile(rb"[A-Za-z0-9_\-+/=.%]*")

MOST_MATCHES: Final = 15_000
MOST_HITS: Final = 100_000
"""More hits than this in one text are no text that anybody wrote: the redactor withholds it rather than stand still."""


class Places(NamedTuple):
    """Where words stand that say something of the value behind them, in order."""

    cores: list[int]
    """The cores of secret-like names."""
    strong: list[int]
    """Those behind which a random value is looked for even without a separator."""
    providers: list[int]
    """Names of services."""
    statements: list[int]
    """Statements of SQL that hold rows."""
    owners: list[int]
    """Names of what may map accounts to passwords."""

    @classmethod
    def none(cls) -> Self:
        """To be filled."""
        return cls([], [], [], [], [])


_MARKS: Final = (frozenset(CORES), STRONG_CORES, frozenset(PROVIDERS), frozenset(STATEMENTS), frozenset(OWNERS))
"""The words of each field of `Places`."""


class Rulebook:
    """All rules, ready to be asked."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        words: dict[str, list[Rule]] = {}
        self._shapes: list[Rule] = []
        for rule in rules:
            if rule.literals and all(len(w) >= _SHORTEST_LITERAL and w not in _COMMON for w in rule.literals):
                for word in rule.literals:
                    words.setdefault(word, []).append(rule)
            else:
                self._shapes.append(rule)
        for word in (word for kind in _MARKS for word in kind):
            words.setdefault(word, [])
        self._marks = [tuple(n for n, kind in enumerate(_MARKS) if word in kind) for word in words]
        self._by_word = list(words.values())
        self._words = [word.encode() for word in words]
        self._automaton = self._made(Implementation.ContiguousNFA)
        self._left_bytes = _WORTH_BYTES
        self._set: Any = None

    def spans(self, text: bytes, places: Places) -> Iterator[Span]:
        """What the rules find; where words stand that other layers look for is added to `places`."""
        found: dict[int, tuple[Rule, list[int]]] = {}
        if self._left_bytes > 0:
            self._count(text)
        lowered = text.lower() if len(text) < _HUGE else _without_blobs(text.lower())
        hits = self._automaton.find_matches_as_indexes(lowered, overlapping=True)
        if len(text) > _LONG_TEXT and len(hits) > len(text) // _SPARSE:
            hits = self._automaton.find_matches_as_indexes(_without_blobs(lowered), overlapping=True)
        if len(hits) > MOST_HITS:
            raise Overload
        for word, start, _end in hits:
            for mark in self._marks[word]:
                places[mark].append(start)
            for rule in self._by_word[word]:
                found.setdefault(id(rule), (rule, []))[1].append(start)
        for rule, positions in found.values():
            for low, high in _windows(positions, text, rule.reach):
                yield from _matches(rule, text, low, high)
        for index in self._shapes_in(text):
            yield from _matches(self._shapes[index], text, 0, len(text))

    def _count(self, text: bytes) -> None:
        self._left_bytes -= len(text)
        if self._left_bytes <= 0:
            self._automaton = self._made(Implementation.DFA)

    def _made(self, implementation: Implementation) -> BytesAhoCorasick:
        return BytesAhoCorasick(self._words, matchkind=MatchKind.Standard, implementation=implementation)

    def _shapes_in(self, text: bytes) -> list[int]:
        """The rules without a rare literal that match somewhere."""
        if self._set is None:
            options = re2.Options()
            options.log_errors = False
            options.max_mem = _SET_MEMORY
            shapes = re2.Set.SearchSet(options)
            for rule in self._shapes:
                shapes.Add(rule.pattern.encode())
            shapes.Compile()
            self._set = shapes
        return sorted(self._set.Match(text) or ())


def _without_blobs(text: bytes) -> bytes:
    """The text without the middles of long runs of encoded data.

    In megabytes of base64 every literal occurs by chance, and each would cost its rules a look.
    """
    pieces: list[bytes] = []
    at = 0
    for match in _BLOB.finditer(text):
        start, end = match.start() + _EDGE, match.end() - _EDGE
        if end > start:
            pieces += (text[at:start], b" " * (end - start))
            at = end
    pieces.append(text[at:])
    return b"".join(pieces)


def _windows(positions: list[int], text: bytes, reach: int) -> Iterator[tuple[int, int]]:
    """The stretches in which a rule with literals at `positions` can match, merged and in order; each in one string."""
    start = end = 0
    for position in sorted(positions):
        low = reach_back(text, position, _LEAD)
        if end and low <= end:
            low = start
        elif end:
            yield start, end
        if end < position + reach:
            stop = text.find(BREAK, max(position, end), position + reach)
            end = stop if stop >= 0 else min(len(text), position + reach)
        start = low
    yield start, end


def _matches(rule: Rule, text: bytes, low: int, high: int) -> Iterator[Span]:
    for count, match in enumerate(_apart(rule.regex(), text, low, high)):
        if count > MOST_MATCHES:
            raise Overload
        check_deadline()
        start, end = match.span(_group(rule, match))
        if match.end() >= high and (rest := _REST.match(text, end)):
            end = rest.end()  # the window cut the token
        if _is_meant(rule, text, start, end):
            yield Span(start, end, rule.id, rule.spread)


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


def _is_meant(rule: Rule, text: bytes, start: int, end: int) -> bool:
    """Whether what a rule matched is a secret, or only has the form of one."""
    value = text[start:end]
    if len(value) <= _LONGEST_PLACEHOLDER and is_placeholder(value):
        return False
    if rule.id == "bare-userinfo" and text[start - 7 : start].lower() == b"mailto:":
        return False
    if rule.judged:
        return _JUDGES[rule.judged](value)
    if rule.id == "url-userinfo" or b"://" in value:
        return value not in _SHOUTED and not _EXAMPLE_URL.search(text, reach_back(text, start, 60), end + 40)
    if rule.id == "authorization":
        return not _SPOKEN_OF.match(value)
    return rule.group >= 0 or not (is_plain(value) or numbers_thing(text, start))


_JUDGES: Final[dict[str, Callable[[bytes], bool]]] = {
    "form": lambda _: True,
    "password": lambda value: is_secret(b"", Kind.PASSWORD, value, Form.CERTAIN),
    "chosen": lambda value: is_chosen(value.decode("utf-8", "replace")),
    "random": lambda value: holds_random(value.decode("utf-8", "replace")),
    "mixed": lambda value: any(48 <= c <= 57 for c in value) and not value.isdigit(),  # noqa: PLR2004 - "0" to "9"
    "unplain": lambda value: not is_plain(value),
}
"""What a value must look like where the form around it proves too little."""


def _group(rule: Rule, match: Any) -> int:  # noqa: ANN401 - google-re2 is untyped
    if rule.group >= 0:
        return rule.group
    groups = match.groups()
    return max((n for n, value in enumerate(groups, 1) if value), key=lambda n: len(groups[n - 1]), default=0)
