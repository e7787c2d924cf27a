"""The strings of lines that follow each other, each scanned once.

Most strings of a line came before, in it or in an earlier one, and most of the rest hold nothing. So the strings of
many lines that are new are laid into one buffer, each once, and everything runs over it once: what a rule costs to
start is paid once per portion. A line is opened only when one of its strings holds something by itself, or may do so
by where it stands: the name of a password, a key, a file of secrets.
"""

import bisect
import re
from collections.abc import Iterable, Sequence
from itertools import filterfalse
from typing import Final

from agent_trace_sidecar.opencode import wire
from agent_trace_sidecar.redaction.detectors.nearby import is_key
from agent_trace_sidecar.redaction.json_syntax import (
    are_json,
    escaped,
    is_json,
    is_plain,
    may_hide,
    unescaped,
    with_escapes,
    with_plain_quotes,
)
from agent_trace_sidecar.redaction.known_values import Held, Memory
from agent_trace_sidecar.redaction.names import Kind, kind_of
from agent_trace_sidecar.redaction.scanner import Scanner
from agent_trace_sidecar.redaction.secret_files import is_secret_path, values_printed
from agent_trace_sidecar.redaction.spans import Effort, Joined, Span, View, applied, blanked

ID: Final = re.compile(
    rb"(?:msg|prt|ses|evt|call|per|que|toolu)_\w{1,40}|[\da-fA-F]{8}-(?:[\da-fA-F]{4}-){3}[\da-fA-F]{12}|[\da-f]{40}"
)
"""What joins events, and revisions: no secret by itself."""
HOOK: Final = re.compile(rb"[a-z.]{1,40}")
_LONE: Final = re.compile(rb"[\w+/=-]{16,200}$")
"""A string that may be a key and nothing else."""
_SHORT_CORE: Final = (b"pat", b"Pat", b"PAT")
"""Announces a token at the end of a name, and is too frequent elsewhere to be a keyword."""
_HALF_PAIR: Final = re.compile("\ufffd".encode())
"""What a surrogate alone becomes; a line with one is written anew where the sidecar's own fields are removed."""
_LONGEST_NAME: Final = 256
_LONGEST_COMMAND: Final = 2000
_MOST_SUSPECTS: Final = 64
"""With more of them it is cheaper to open all lines than to find which ones hold which."""


class Portion:
    """Lines whose strings were scanned together, and which of them must be opened."""

    def __init__(self, lines: Sequence[bytes], scanner: Scanner, memory: Memory) -> None:
        """Raises Overload when the lines together are too much."""
        memory.tidy()
        whole, self.unreadable = b"\n".join(lines), frozenset[int]()
        """The indexes of the lines that are no JSON."""
        if not are_json(whole, lines):
            self.unreadable = frozenset(index for index, line in enumerate(lines) if not is_json(line))
            whole = b"\n".join([b"" if index in self.unreadable else line for index, line in enumerate(lines)])
        self._lines = lines
        self._whole = whole
        strings = set(with_plain_quotes(whole).split(b'"')[1::2])
        scan(strings, scanner, memory, Effort(len(whole)))
        self.suspects = set(self.unreadable)
        """The indexes of the lines that may hold a secret."""
        self._suspect([with_escapes(b'"%b"' % token) for token in strings & memory.held.keys()])

    def learn(self, values: Sequence[bytes]) -> None:
        """These turned out to be secrets: lines that repeat them must be opened too."""
        if values and may_hide(self._whole, values):
            self.suspects.update(range(len(self._lines)))
        else:
            self._suspect(values)

    def _suspect(self, parts: Sequence[bytes]) -> None:
        """The lines in which these parts stand must be opened."""
        if len(parts) > _MOST_SUSPECTS or (parts and len(self._lines) == 1):
            self.suspects.update(range(len(self._lines)))
            return
        for part in parts:
            self.suspects.update([index for index, line in enumerate(self._lines) if part in line])


def scan(tokens: set[bytes], scanner: Scanner, memory: Memory, effort: Effort) -> None:
    """Scan those of the strings that are new; the memory knows then what they hold.

    They are escaped as in JSON, with plain quotes. Raises Overload.
    """
    whole = _scan(tokens, scanner, memory, effort)
    _scan({masked for _, masked in whole}, scanner, memory, effort)  # beside a label something else may be a secret
    for held, masked in whole:
        held.masked = masked if memory.are_clean({masked}) else None


def _scan(tokens: set[bytes], scanner: Scanner, memory: Memory, effort: Effort) -> list[tuple[Held, bytes]]:
    """Scan each of them once; return those that hold the same wherever they stand, and what they are without it."""
    new = tokens - memory.seen
    fresh = sorted({*filterfalse(ID.fullmatch, new), *(new & memory.values)})
    texts = [token if is_plain(token) else unescaped(token) for token in fresh]
    found = _held(texts, scanner, memory, effort) if texts else {}
    memory.remember(fresh, texts, found)
    whole = [(held, texts[index]) for index, held in found.items() if not held.depends_on_line]
    return [(held, escaped(applied(text, held.spans))) for held, text in whole]


def _held(texts: list[bytes], scanner: Scanner, memory: Memory, effort: Effort) -> dict[int, Held]:
    """What those of these texts hold that hold something, by their indexes; they stand beside each other by chance."""
    joined = Joined(texts)
    spans = scanner.scan(view := View(blanked(joined.buffer), effort))
    if view.reaches_across and len(texts) > 1:  # a private key that is cut: what stands behind is not its own
        half = len(texts) // 2
        behind = _held(texts[half:], scanner, memory, effort)
        return _held(texts[:half], scanner, memory, effort) | {half + index: held for index, held in behind.items()}

    def indexes(places: Iterable[tuple[int, int]]) -> set[int]:
        return {joined.index(start) for start, _ in places}

    keys = indexes(view.marks.get("keys", ()))  # its lines may be the line's next strings
    named = indexes(view.marks.get("cores", ())).union(i for i, text in enumerate(texts) if text.endswith(_SHORT_CORE))
    depending = {
        *keys,
        *indexes(place for place in memory.places(view.text) if not _is_covered(spans, *place)),
        *(index for index in named if _is_secret_name(texts[index])),
        *(index for index in indexes(view.marks.get("files", ())) if _names_secret_file(texts[index])),
        *(index for index, text in enumerate(texts) if _LONE.match(text) and _is_key(text, effort)),
        *(texts.index(name) for name in wire.OWN_FIELDS.intersection(texts)),
        *indexes(match.span() for match in _HALF_PAIR.finditer(view.text)),
    }
    found = {index: Held([], [], depends_on_line=True, begins_key=index in keys) for index in depending}
    for index, span in joined.apart(spans):
        depends = ID.fullmatch(texts[index]) or HOOK.fullmatch(texts[index])
        held = found.setdefault(index, Held([], [], depends_on_line=depends is not None))
        held.spans.append(span)
        held.values.append((span.rule, texts[index][span.start : span.end]))
    return found


def _is_covered(spans: Sequence[Span], start: int, end: int) -> bool:
    """Whether one of the spans, in order, reaches from `start` to `end`."""
    at = bisect.bisect_right(spans, start, key=lambda span: span.start) - 1
    return at >= 0 and spans[at].end >= end


def _is_key(text: bytes, effort: Effort) -> bool:
    effort.spend()
    return is_key(text)


def _is_secret_name(text: bytes) -> bool:
    """Whether a string, as a key, announces a secret."""
    return len(text) <= _LONGEST_NAME and kind_of(text) is not Kind.NONE


def _names_secret_file(text: bytes) -> bool:
    """Whether a string is a file of secrets, or may be a command that prints some."""
    name = text[:_LONGEST_COMMAND].decode("utf-8", "replace")
    return (len(text) <= _LONGEST_NAME and is_secret_path(name)) or values_printed(name) is not None
