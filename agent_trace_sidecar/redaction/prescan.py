"""The prefilter of a portion of lines: which of them must be opened.

Most strings of a line came before, in it or in an earlier one, and most of the rest hold nothing. So the strings of
many lines that are new are laid into one buffer, each once, and everything runs over it once: what a rule costs to
start is paid once per portion. Only the strings are scanned, without the keys that they stand under; a key that
announces a secret is a string as well, and is never clean.
"""

import bisect
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from agent_trace_sidecar.redaction.detectors.nearby import is_key_of
from agent_trace_sidecar.redaction.json_line import are_json, is_json, is_utf8, unescaped
from agent_trace_sidecar.redaction.known_values import Memory
from agent_trace_sidecar.redaction.names import Kind, kind_of
from agent_trace_sidecar.redaction.scanner import Scanner
from agent_trace_sidecar.redaction.secret_files import is_secret_path, reads_secret_file, secret_paths
from agent_trace_sidecar.redaction.spans import BORDER, Span

_NO_ID: Final = re.compile(
    rb"^(?!(?:(?:msg|prt|ses|evt|call|per|que|toolu)_[A-Za-z0-9_]{1,40}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    rb"|[0-9a-f]{40})$).+",
    re.MULTILINE,
)
_PLAIN: Final = re.compile(rb"[^\x00-\x1f\"\\]+")
"""What no writer of JSON must escape ..."""
_HIDING: Final = re.compile(rb"\\(?:u(?!00[01])|/)")
"""... and how one may do it all the same."""
_KEY: Final = b" PRIVATE KEY"
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
        self.suspects = set(range(len(lines)))
        """The indexes of the lines that may hold a secret; of the others, the memory knows now that they don't."""
        self.spans: Mapping[bytes, list[Span]] | None = None
        """What the layers found in each string of the suspects, unescaped, which is the same wherever it stands. None
        where all of it must be scanned again."""
        self._whole = b""

    def run(self, scanner: Scanner, memory: Memory) -> None:
        """Scan the lines together."""
        unreadable = self._lay_out()
        fresh = self._fresh(memory)
        seen = _seen([unescaped(text) for text in fresh], b'"command"' in self._whole, scanner, memory)
        seen.suspects.update(index for index, text in enumerate(fresh) if _LONE.match(text) and self._is_keyed(text))
        memory.remember_clean([text for index, text in enumerate(fresh) if index not in seen.suspects])
        if len(seen.suspects) <= _MOST_SUSPECTS:
            self.suspects, self.spans = unreadable, seen.spans
            self._suspect([fresh[index] for index in seen.suspects])

    def _is_keyed(self, text: bytes) -> bool:
        """Whether a string stands behind the name of a service, as its key."""
        at = self._whole.find(b'"%b"' % text)
        name = _NAME.search(self._whole, max(0, at - _LONGEST_SERVICE), at)
        return name is not None and is_key_of(name[1], text)

    def _lay_out(self) -> set[int]:
        """Cut the lines into strings; return the indexes of those that are no JSON."""
        lines, unreadable = self._lines, set[int]()
        whole = b"\n".join(lines)
        if not are_json(whole, lines) or not is_utf8(whole):
            lines = [line if is_json(line) and is_utf8(line) else b"" for line in lines]
            unreadable = {index for index, line in enumerate(lines) if not line}
        self._whole = b"\n".join([_with_plain_quotes(line) if b'\\"' in line else line for line in lines])
        return unreadable

    def _fresh(self, memory: Memory) -> list[bytes]:
        """The strings, keys too, that are no ids and not known to be clean; each once.

        They are escaped as they stand in the lines, but for their quotes and backslashes.
        """
        unknown = set(self._whole.split(b'"')[1::2]) - memory.clean
        return [text for text in _NO_ID.findall(b"\n".join(unknown)) if not memory.is_long_clean(text)]

    def learn(self, values: Collection[bytes]) -> None:
        """These turned out to be secrets: lines that repeat them must be opened too."""
        if not values or len(self.suspects) == len(self._lines):
            return
        if len(values) > _MOST_SUSPECTS:
            self.suspects = set(range(len(self._lines)))
            return
        plain = all(map(_PLAIN.fullmatch, values))
        self.suspects.update(
            index
            for index, line in enumerate(self._lines)
            if b"\\" in line and (not plain or ((b"\\u" in line or b"\\/" in line) and _HIDING.search(line)))
        )
        starts = self._starts()
        for value in values:
            self.suspects.update(_holding(value, self._whole, starts))

    def _starts(self) -> list[int]:
        """Where each line begins, and where the last one ends."""
        return list(accumulate((len(line) + 1 for line in self._whole.split(b"\n")), initial=0))

    def _suspect(self, texts: Collection[bytes]) -> None:
        """The lines with these strings must be opened."""
        if not texts:
            return
        starts = self._starts()
        for text in texts:
            self.suspects.update(_holding(b'"%b"' % text, self._whole, starts))


def _with_plain_quotes(line: bytes) -> bytes:
    """The same JSON, in which every quote is the border of a string."""
    return line.replace(b"\\\\", b"\\u005c").replace(b'\\"', b"\\u0022")


def _bases(texts: Iterable[bytes]) -> list[int]:
    """Where each of them begins in a buffer in which there is a border between them, and where the buffer ends."""
    return list(accumulate((len(text) + len(BORDER) for text in texts), initial=len(BORDER)))


def _holding(value: bytes, buffer: bytes, bases: Sequence[int]) -> Iterator[int]:
    """The indexes of the parts of a buffer in which a value stands."""
    at = buffer.find(value)
    while at >= 0:
        index = bisect.bisect_right(bases, at) - 1
        yield index
        at = buffer.find(value, bases[index + 1])


class _Seen(NamedTuple):
    """What was seen in texts that stand beside each other by chance."""

    suspects: set[int]
    """The indexes of those in which something was found, or which announce a secret elsewhere."""
    spans: dict[bytes, list[Span]] | None
    """What was found, text by text; None where it takes the lines to decide."""


def _seen(texts: Sequence[bytes], command: bool, scanner: Scanner, memory: Memory) -> _Seen:
    if not texts:
        return _Seen(set(), {})
    buffer = BORDER + BORDER.join(texts) + BORDER
    bases = _bases(texts)

    def which(places: Iterable[int]) -> set[int]:
        return {bisect.bisect_right(bases, place) - 1 for place in places}

    spans, across, cores = scanner.find_apart(buffer)
    found: dict[int, list[Span]] = {}
    for span in spans:
        index = bisect.bisect_right(bases, span.start) - 1
        found.setdefault(index, []).append(span._replace(start=span.start - bases[index], end=span.end - bases[index]))
    named = which(cores) | {index for index, text in enumerate(texts) if text.endswith(_SHORT_CORE)}
    keys = {index for index, text in enumerate(texts) if _KEY in text}  # its lines may be the line's next strings
    # The border before a path belongs to what was found.
    paths = which(at + 1 for at in secret_paths(buffer))
    suspects = {
        *found,
        *keys,
        *which(memory.places(buffer)),
        *(index for index in named if _is_secret_name(texts[index])),
        *(index for index in paths if _names_secret_file(texts[index], command)),
    }
    return _Seen(suspects, None if keys or across else {texts[index]: one for index, one in found.items()})


def _is_secret_name(text: bytes) -> bool:
    """Whether a string, as a key, announces a secret."""
    return len(text) <= _LONGEST_NAME and kind_of(text) is not Kind.NONE


def _names_secret_file(text: bytes, command: bool) -> bool:
    """Whether a string is a file of secrets, or may be a command that prints one."""
    name = text[:_LONGEST_COMMAND].decode("utf-8", "replace")
    return (len(text) <= _LONGEST_NAME and is_secret_path(name)) or (command and reads_secret_file(name))
