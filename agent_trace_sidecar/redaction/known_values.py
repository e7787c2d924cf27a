"""Values that are known to be secrets: those of our own environment, and those that a session has already shown.

Kept in memory only, never hashed or stored, and bounded: the oldest session and the oldest value go first.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final
from urllib.parse import quote

from ahocorasick_rs import BytesAhoCorasick, MatchKind

from agent_trace_sidecar.redaction.judge import Form, is_secret, is_wordy
from agent_trace_sidecar.redaction.names import kind_of
from agent_trace_sidecar.redaction.spans import Span

MOST_SESSIONS: Final = 64
MOST_VALUES: Final = 512
_MOST_CLEAN: Final = 6_000
_MOST_CLEAN_BYTES: Final = 1 << 20
_MOST_HELD: Final = 1_000
_MOST_HELD_BYTES: Final = 1 << 20
"""How many strings, and how much of their text, is kept to know them again."""
_MOST_LATEST: Final = 16
"""More new values than these are worth an automaton."""
_SHORTEST: Final = 8
_LONGEST: Final = 512
_FEWEST_CHARACTERS: Final = 5
"""Different ones: aaaa1111 is everywhere."""
_USERINFO: Final = re.compile(r"(?i)^[a-z][a-z0-9+.-]*://[^/@\s]*:([^/@\s]+)@")


class Known:
    """A bounded set of values, each with the rule that found it first, and the automaton that finds them all."""

    def __init__(self, on_new: Callable[[bytes], None]) -> None:
        """`on_new` is called with each value that is added."""
        self._on_new = on_new
        self._rules: OrderedDict[bytes, str] = OrderedDict()
        self._automaton: BytesAhoCorasick | None = None
        self._order: list[str] = []

    def add(self, value: bytes, rule: str) -> None:
        """Remember a value, and its form in URLs; one that could be a word is not."""
        if value in self._rules or not is_distinct(value):
            return
        for form in {value, _in_url(value)} - self._rules.keys():
            self._rules[form] = rule
            self._automaton = None
            self._on_new(form)
        while len(self._rules) > MOST_VALUES:
            self._rules.popitem(last=False)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._rules)

    def find(self, text: bytes) -> Iterator[Span]:
        """Where the values stand."""
        if not self._rules:
            return
        if self._automaton is None:
            self._order = list(self._rules.values())
            self._automaton = BytesAhoCorasick(list(self._rules), matchkind=MatchKind.LeftmostLongest)
        for index, start, end in self._automaton.find_matches_as_indexes(text):
            yield Span(start, end, self._order[index])


@dataclass(slots=True)
class Held:
    """What a string holds by itself."""

    spans: list[Span]
    values: list[tuple[str, bytes]]
    """The secrets in it, each with its rule."""
    depends_on_line: bool
    """Whether it takes its line to know what else it holds, or what it means for other strings."""
    begins_key: bool = False
    """Whether a private key begins in it that the next strings may go on with."""
    masked: bytes | None = None
    """The string without its secrets; None where it depends on its line."""


class Memory:
    """What the redactor knows: the environment's values for all events, a session's values for its own."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._everything: BytesAhoCorasick | None = None
        """Finds what any session has shown, but for `_latest`; for a while also what a forgotten session has shown."""
        self._latest: list[bytes] = []
        self.learned: list[bytes] = []
        """Values shown in the portion of lines at hand: strings that were clean before may not be any more."""
        self.environment = Known(self._learn)
        self._sessions: OrderedDict[bytes, Known] = OrderedDict()
        self.clean: set[bytes] = set()
        """Strings, escaped as in their lines, that were scanned before and hold nothing."""
        self._clean_texts = bytearray()
        """The same unescaped."""
        self.held: dict[bytes, Held] = {}
        """The other strings that were scanned before: a line with one of them must be opened."""
        for value in secret_values(environ):
            self.environment.add(value, "known-value")

    def places(self, text: bytes) -> list[tuple[int, int]]:
        """Where values begin and end in the text that any session has shown."""
        if len(self._latest) > _MOST_LATEST:
            self._everything = BytesAhoCorasick([*{*self.environment, *chain.from_iterable(self._sessions.values())}])
            self._latest.clear()
        found = [match.span() for one in self._latest if one in text for match in re.finditer(re.escape(one), text)]
        if self._everything is not None:
            found += [(start, end) for _, start, end in self._everything.find_matches_as_indexes(text)]
        return found

    def tidy(self) -> None:
        """Keep within bounds; before a portion of lines is scanned, and not while they are masked."""
        self.learned.clear()
        if len(self.clean) > _MOST_CLEAN or len(self._clean_texts) > _MOST_CLEAN_BYTES:
            self._doubt()
        if len(self.held) > _MOST_HELD or sum(map(len, self.held)) > _MOST_HELD_BYTES:
            self.held.clear()

    def remember(self, tokens: Sequence[bytes], texts: Sequence[bytes], found: Mapping[int, Held]) -> None:
        """What was found in strings, by their indexes; a token is a text as it is escaped in its line."""
        self.held.update((tokens[index], held) for index, held in found.items())
        self.clean.update(tokens)
        self.clean.difference_update([tokens[index] for index in found])
        self._clean_texts += b"\n".join([text for index, text in enumerate(texts) if index not in found]) + b"\n"

    def _doubt(self) -> None:
        self.clean.clear()
        self._clean_texts.clear()

    def session(self, key: bytes) -> Known:
        """What this session has shown so far."""
        known = self._sessions.pop(key, None) or Known(self._learn)
        self._sessions[key] = known
        while len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return known

    def _learn(self, value: bytes) -> None:
        self._latest.append(value)
        self.learned.append(value)
        if value in self._clean_texts:
            self._doubt()


def _in_url(value: bytes) -> bytes:
    return quote(value, safe="").encode()


def secret_values(environ: Mapping[str, str]) -> Iterator[bytes]:
    """The values of an environment that have the form of secrets; a path never is one."""
    for name, value in environ.items():
        if userinfo := _USERINFO.match(value):
            yield userinfo[1].encode("utf-8", "replace")
        raw, raw_name = value.encode("utf-8", "replace"), name.encode("utf-8", "replace")
        if is_secret(raw_name, kind_of(raw_name), raw, Form.CONFIG):
            yield raw


def is_distinct(value: bytes) -> bool:
    """Whether a value is so peculiar that it is the same secret wherever it occurs."""
    if not _SHORTEST <= len(value) <= _LONGEST:
        return False
    text = value.decode("utf-8", "replace")
    letters, digits = any(c.isalpha() for c in text), any(c.isdigit() for c in text)
    return letters and (digits or not is_wordy(text)) and len(set(text)) >= _FEWEST_CHARACTERS
