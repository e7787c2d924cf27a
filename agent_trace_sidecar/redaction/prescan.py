"""The prefilter of a portion of lines: which of them must be opened.

Most strings of a line came before, in it or in an earlier one, and most of the rest hold nothing. So the strings of
many lines that are new are laid into one buffer, each once, and everything runs over it once: what a rule costs to
start is paid once per portion. Only the strings are scanned, without the keys that they stand under; a key that
announces a secret is a string as well, and is never clean.
"""

import bisect
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate, islice
from typing import Final, NamedTuple

from agent_trace_sidecar.opencode import wire
from agent_trace_sidecar.redaction.detectors.nearby import is_key, is_service
from agent_trace_sidecar.redaction.json_line import (
    Scanned,
    are_json,
    is_json,
    is_utf8,
    may_hide,
    unescaped,
    with_plain_quotes,
)
from agent_trace_sidecar.redaction.known_values import Memory
from agent_trace_sidecar.redaction.names import Kind, kind_of
from agent_trace_sidecar.redaction.scanner import Scanner
from agent_trace_sidecar.redaction.secret_files import is_secret_path, reads_secret_file
from agent_trace_sidecar.redaction.spans import BORDER, Span

_NO_ID: Final = re.compile(
    rb"^(?!(?:(?:msg|prt|ses|evt|call|per|que|toolu)_[A-Za-z0-9_]{1,40}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    rb"|[0-9a-f]{40})$).+",
    re.MULTILINE,
)
_ALL: Final = b'"'
"""In place of a suspect string, which it can't be: all of the line is suspect."""
_LONE: Final = re.compile(rb"[\w+/=-]{16,200}$")
"""A string that may be a key and nothing else ..."""
_NAME: Final = re.compile(rb'"([\w.-]{2,40})"\s?:\s?$')
"""... and the name that it stands under."""
_LONGEST_SERVICE: Final = 48
_SHORT_CORE: Final = (b"pat", b"Pat", b"PAT")
"""Announces a token at the end of a name, and is too frequent elsewhere to be a keyword."""
_LONGEST_NAME: Final = 256
_LONGEST_COMMAND: Final = 2000
_MOST_SUSPECTS: Final = 64
"""With more of them it is cheaper to open all lines than to find which ones hold which."""


class Prescan:
    """What a portion of lines holds; before it is run, each of them must be opened."""

    def __init__(self, lines: Sequence[bytes]) -> None:
        self._lines = lines
        self.suspects: dict[int, list[bytes]] = {index: [_ALL] for index in range(len(lines))}
        """The indexes of the lines that may hold a secret, with the strings that make them suspect; of the others, the
        memory knows now that they don't."""
        self.spans: Mapping[bytes, list[Span]] | None = None
        """What the layers found in each string of the suspects, unescaped, which is the same wherever it stands. None
        where all of it must be scanned again."""
        self._found: Mapping[bytes, Scanned] = {}
        self._has_own_names = True
        """Whether a string of the lines may be the name of one of the sidecar's own fields."""
        self._whole = b""

    def run(self, scanner: Scanner, memory: Memory) -> None:
        """Scan the lines together."""
        unreadable = self._lay_out()
        strings = set(islice(self._whole.split(b'"'), 1, None, 2))
        rest = b"\n".join(strings - memory.clean)
        self._has_own_names = bool(unreadable) or not strings.isdisjoint(wire.OWN_FIELDS)
        digests = memory.unknown(_NO_ID.findall(rest))
        fresh = list(digests)
        texts = [unescaped(text) for text in fresh]
        found, others, self.spans = _seen(texts, b"command" in strings, scanner, memory)
        others.update(index for index, text in enumerate(fresh) if _LONE.match(text) and self._is_keyed(text))
        suspects = found.keys() | others
        self._found = {fresh[index]: (texts[index], spans) for index, spans in found.items() if index not in others}
        for index in suspects:
            del digests[fresh[index]]
        memory.remember_clean(digests)
        if len(suspects) <= _MOST_SUSPECTS:
            self.suspects = {index: [_ALL] for index in unreadable}
            self._suspect([fresh[index] for index in suspects])

    def may_have_own_fields(self, index: int) -> bool:
        """Whether a line may have one of the sidecar's own fields, which must be removed; its name may be escaped."""
        return self._has_own_names or b"\\u" in self._lines[index]

    def only_in(self, index: int) -> Mapping[bytes, Scanned] | None:
        """The strings of a suspect that hold secrets, when nothing else in it is suspect."""
        texts = self.suspects[index]
        return {text: self._found[text] for text in texts} if self._found.keys() >= set(texts) else None

    def _is_keyed(self, text: bytes) -> bool:
        """Whether a string stands behind the name of a service, as its key."""
        at = self._whole.find(b'"%b"' % text)
        name = _NAME.search(self._whole, max(0, at - _LONGEST_SERVICE), at)
        return name is not None and is_service(name[1]) and is_key(text)

    def _lay_out(self) -> set[int]:
        """Cut the lines into strings; return the indexes of those that are no JSON."""
        lines, unreadable = self._lines, set[int]()
        whole = b"\n".join(lines)
        if not are_json(whole, lines) or not is_utf8(whole):
            lines = [line if is_json(line) and is_utf8(line) else b"" for line in lines]
            unreadable = {index for index, line in enumerate(lines) if not line}
        self._whole = with_plain_quotes(whole if not unreadable else b"\n".join(lines))
        return unreadable

    def learn(self, values: Collection[bytes]) -> None:
        """These turned out to be secrets: lines that repeat them must be opened too."""
        if len(values) > _MOST_SUSPECTS or (values and may_hide(self._whole, values)):
            self.suspects.update({index: [_ALL] for index in range(len(self._lines))})
            return
        for value in values:
            for index in self._lines_with(value):
                self.suspects.setdefault(index, [_ALL])

    def _suspect(self, texts: Collection[bytes]) -> None:
        """The lines in which these strings stand must be opened."""
        for text in texts:
            for index in self._lines_with(b'"%b"' % text):
                self.suspects.setdefault(index, []).append(text)

    @cached_property
    def _ends(self) -> list[int]:
        """Where each line ends, with its newline."""
        return list(accumulate(len(line) + 1 for line in self._whole.split(b"\n")))

    def _lines_with(self, text: bytes) -> Iterator[int]:
        at = self._whole.find(text)
        while at >= 0:
            line = bisect.bisect_right(self._ends, at)
            yield line
            at = self._whole.find(text, self._ends[line])


def _bases(texts: Iterable[bytes]) -> list[int]:
    """Where each of them begins in a buffer in which there is a border between them, and where the buffer ends."""
    return list(accumulate((len(text) + len(BORDER) for text in texts), initial=len(BORDER)))


class _Seen(NamedTuple):
    """What was seen in texts that stand beside each other by chance."""

    found: dict[int, list[Span]]
    """What was found, by the index of the text."""
    others: set[int]
    """The indexes of those that announce a secret elsewhere, or hold one that was shown before."""
    spans: dict[bytes, list[Span]] | None
    """What was found, text by text; None where it takes the lines to decide."""


def _seen(texts: Sequence[bytes], command: bool, scanner: Scanner, memory: Memory) -> _Seen:
    if not texts:
        return _Seen({}, set(), {})
    buffer = BORDER + BORDER.join(texts) + BORDER
    bases = _bases(texts)

    def which(places: Iterable[tuple[int, int]]) -> set[int]:
        return {bisect.bisect_right(bases, start) - 1 for start, _ in places}

    spans, across, view = scanner.find_apart(buffer)
    found: dict[int, list[Span]] = {}
    for span in spans:
        index = bisect.bisect_right(bases, span.start) - 1
        found.setdefault(index, []).append(span._replace(start=span.start - bases[index], end=span.end - bases[index]))
    named = which(view.marks.get("cores", ())) | {
        index for index, text in enumerate(texts) if text.endswith(_SHORT_CORE)
    }
    keys = which(view.marks.get("keys", ()))  # its lines may be the line's next strings
    others = {
        *(found if across else ()),
        *keys,
        *which(place for place in memory.places(buffer) if not _is_covered(spans, *place)),
        *(index for index in named if _is_secret_name(texts[index])),
        *(index for index in which(view.marks.get("files", ())) if _names_secret_file(texts[index], command)),
    }
    return _Seen(found, others, None if keys or across else {texts[index]: one for index, one in found.items()})


def _is_covered(spans: Sequence[Span], start: int, end: int) -> bool:
    """Whether one of the spans, in order, reaches from `start` to `end`."""
    at = bisect.bisect_right(spans, start, key=lambda span: span.start) - 1
    return at >= 0 and spans[at].end >= end


def _is_secret_name(text: bytes) -> bool:
    """Whether a string, as a key, announces a secret."""
    return len(text) <= _LONGEST_NAME and kind_of(text) is not Kind.NONE


def _names_secret_file(text: bytes, command: bool) -> bool:
    """Whether a string is a file of secrets, or may be a command that prints one."""
    name = text[:_LONGEST_COMMAND].decode("utf-8", "replace")
    return (len(text) <= _LONGEST_NAME and is_secret_path(name)) or (command and reads_secret_file(name))
