"""Values that are known to be secrets: those of our own environment, and those that a session has already shown.

Kept in memory only, never hashed or stored, and bounded: the oldest session and the oldest value go first.
"""

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from ahocorasick_rs import BytesAhoCorasick

from agent_trace_sidecar.redaction.judge import Form, is_secret, is_wordy
from agent_trace_sidecar.redaction.names import kind_of
from agent_trace_sidecar.redaction.spans import Span

MOST_SESSIONS: Final = 64
MOST_VALUES: Final = 512
_MOST_STRINGS: Final = 6_000
_MOST_BYTES: Final = 1 << 20
"""How many strings, and how much of their text, is kept to know them again."""
_MOST_LATEST: Final = 16
"""More new values than these are worth an automaton."""
_SHORTEST: Final = 8
_LONGEST: Final = 512
_FEWEST_CHARACTERS: Final = 5
"""Different ones: aaaa1111 is everywhere."""
_USERINFO: Final = re.compile(r"(?i)^[a-z][a-z0-9+.-]*://[^/@\s]*:([^/@\s]+)@")


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
    """What the redactor knows: the environment's values for all events, a session's values for its own, and strings."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._sessions: OrderedDict[bytes | None, OrderedDict[bytes, str]] = OrderedDict({None: OrderedDict()})
        """The values that each has shown, with the rule that found them first; under None the environment's."""
        self.values: set[bytes] = set()
        """All of them; for a while also what a forgotten session has shown."""
        self._automaton: BytesAhoCorasick | None = None
        """Finds them, but for the latest."""
        self._latest: list[bytes] = []
        self.learned: list[bytes] = []
        """Values shown in the portion of lines at hand: strings that were clean before may not be any more."""
        self.seen: set[bytes] = set()
        """Strings, escaped as in their lines, that were scanned before."""
        self.held: dict[bytes, Held] = {}
        """Those of them that hold something: a line with one of them must be opened."""
        self._clean_texts = bytearray()
        """The text of the others, unescaped."""
        self._bytes = 0
        for value in secret_values(environ):
            self.add(None, value, "known-value")

    def add(self, session: bytes | None, value: bytes, rule: str) -> None:
        """Remember a value, and its form in URLs, for a session in use; one that could be a word is not."""
        shown = self._sessions[session]
        if value in shown or not is_distinct(value):
            return
        for form in {value, quote(value, safe="").encode()} - shown.keys():
            shown[form] = rule
            self.values.add(form)
            self._latest.append(form)
            self.learned.append(form)
            if form in self._clean_texts:
                self.seen = set(self.held)
                self._clean_texts.clear()
        while len(shown) > MOST_VALUES:
            shown.popitem(last=False)

    def places(self, text: bytes) -> list[tuple[int, int]]:
        """Where values begin and end in the text that the environment or any session has shown."""
        if len(self._latest) > _MOST_LATEST:
            self.values = set().union(*self._sessions.values())
            self._automaton = BytesAhoCorasick([*self.values])
            self._latest.clear()
        found = [match.span() for one in self._latest if one in text for match in re.finditer(re.escape(one), text)]
        if self._automaton is not None:
            found += [place[1:] for place in self._automaton.find_matches_as_indexes(text, overlapping=True)]
        return found

    def find(self, text: bytes, session: bytes | None = None) -> Iterator[Span]:
        """Where values stand in the text that the environment or this session has shown."""
        shown = (self._sessions[None], self._sessions[session])
        for start, end in self.places(text):
            if rule := next((rules[text[start:end]] for rules in shown if text[start:end] in rules), None):
                yield Span(start, end, rule)

    def use(self, session: bytes) -> None:
        """Keep this session's values longest; the one that was used least recently goes."""
        if session not in self._sessions:
            self._sessions[session] = OrderedDict()
        self._sessions.move_to_end(session)
        while len(self._sessions) > MOST_SESSIONS:
            del self._sessions[next(one for one in self._sessions if one is not None)]

    def tidy(self) -> None:
        """Keep within bounds; before a portion of lines is scanned, and not while they are masked."""
        self.learned.clear()
        if len(self.seen) > _MOST_STRINGS or self._bytes > _MOST_BYTES:
            self.seen.clear()
            self.held.clear()
            self._clean_texts.clear()
            self._bytes = 0

    def remember(self, tokens: Sequence[bytes], texts: Sequence[bytes], found: Mapping[int, Held]) -> None:
        """What was found in strings, by their indexes; a token is a text as it is escaped in its line."""
        self.seen.update(tokens)
        self.held.update((tokens[index], held) for index, held in found.items())
        self._clean_texts += b"\n".join([text for index, text in enumerate(texts) if index not in found]) + b"\n"
        self._bytes += sum(map(len, tokens))

    def are_clean(self, tokens: AbstractSet[bytes]) -> bool:
        """Whether all of these strings were scanned and hold nothing."""
        return tokens <= self.seen and self.held.keys().isdisjoint(tokens)


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
