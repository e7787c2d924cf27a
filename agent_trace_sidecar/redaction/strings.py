"""The strings of lines that follow each other, each scanned once.

Most strings of a line came before, in it or in an earlier one, and most of the rest hold nothing. So the strings of
many lines that are new are laid into one buffer, each once, and everything runs over it once: what a rule costs to
start is paid once per portion. A line is opened only when one of its strings holds something by itself, or may do so
by where it stands: the name of a password, a key, a file of secrets.
"""

import bisect
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Final

from agent_trace_sidecar.opencode import wire
from agent_trace_sidecar.redaction.detectors.nearby import is_key
from agent_trace_sidecar.redaction.json_syntax import (
    are_json,
    escaped,
    is_json,
    may_hide,
    unescaped,
    with_plain_quotes,
)
from agent_trace_sidecar.redaction.known_values import Held, Memory
from agent_trace_sidecar.redaction.names import Kind, kind_of
from agent_trace_sidecar.redaction.scanner import Scanner
from agent_trace_sidecar.redaction.secret_files import is_secret_path, reads_secret_file
from agent_trace_sidecar.redaction.spans import BORDER, Effort, Span, applied, blanked

ID: Final = re.compile(
    rb"(?:msg|prt|ses|evt|call|per|que|toolu)_[A-Za-z0-9_]{1,40}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
)
HOOK: Final = re.compile(rb"[a-z.]{1,40}")
_NO_ID: Final = re.compile(
    rb"^(?!(?:(?:msg|prt|ses|evt|call|per|que|toolu)_[A-Za-z0-9_]{1,40}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    rb"|[0-9a-f]{40})$).+",
    re.MULTILINE,
)
_LONE: Final = re.compile(rb"[\w+/=-]{16,200}$")
"""A string that may be a key and nothing else."""
_SHORT_CORE: Final = (b"pat", b"Pat", b"PAT")
"""Announces a token at the end of a name, and is too frequent elsewhere to be a keyword."""
_REPLACEMENT: Final = "\ufffd".encode()
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
        self._whole = with_plain_quotes(whole)
        strings = set(self._whole.split(b'"')[1::2])
        scan(strings, scanner, memory)
        self.suspects = set(self.unreadable)
        """The indexes of the lines that may hold a secret."""
        self._suspect([b'"%b"' % token for token in strings & memory.held.keys()])

    def learn(self, values: Sequence[bytes]) -> None:
        """These turned out to be secrets: lines that repeat them must be opened too."""
        if values and may_hide(self._whole, values):
            self.suspects.update(range(len(self._lines)))
        else:
            self._suspect(values)

    def _suspect(self, texts: Sequence[bytes]) -> None:
        """The lines in which these texts stand must be opened."""
        if len(texts) > _MOST_SUSPECTS:
            self.suspects.update(range(len(self._lines)))
            return
        for text in texts:
            self.suspects.update(self._lines_with(text))

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


def scan(tokens: set[bytes], scanner: Scanner, memory: Memory, effort: Effort | None = None) -> None:
    """Scan those of the strings that are new; the memory knows then what they hold.

    They are escaped as in JSON, with plain quotes. Raises Overload.
    """
    masked = _scan(tokens, scanner, memory, effort)
    _scan({one for _, one in masked}, scanner, memory, effort)  # beside a label something else may be a secret
    for held, one in masked:
        held.masked = one if one in memory.clean else None


def _scan(tokens: set[bytes], scanner: Scanner, memory: Memory, effort: Effort | None) -> list[tuple[Held, bytes]]:
    """Scan each of them once; return those that hold secrets wherever they stand, and what they are without these."""
    fresh = _NO_ID.findall(b"\n".join((tokens - memory.clean) - memory.held.keys()))
    texts = [unescaped(token) for token in fresh]
    masked = []
    for token, text, seen in zip(fresh, texts, _seen(texts, scanner, memory, effort), strict=True):
        spans, is_contextual, begins_key = seen
        held = None
        if spans or is_contextual:
            view = blanked(text)
            held = Held(spans, [(span.rule, view[span.start : span.end]) for span in spans], begins_key)
            if not (is_contextual or ID.fullmatch(text) or HOOK.fullmatch(text)):
                masked.append((held, escaped(applied(text, spans))))
        memory.remember(token, text, held)
    return masked


_Seen = tuple[list[Span], bool, bool]
"""What was found in a text, whether its line decides what else it holds, and whether a private key begins in it."""


def _seen(texts: list[bytes], scanner: Scanner, memory: Memory, effort: Effort | None) -> list[_Seen]:
    """What is in each of these texts, which stand beside each other by chance."""
    if not texts:
        return []
    spans, across, view = scanner.find_apart(BORDER + BORDER.join(texts) + BORDER, effort)
    if across and len(texts) > 1:  # a private key that is cut: what stands behind is not its own
        half = len(texts) // 2
        return _seen(texts[:half], scanner, memory, effort) + _seen(texts[half:], scanner, memory, effort)
    bases = list(accumulate((len(text) + len(BORDER) for text in texts), initial=len(BORDER)))

    def indexes(places: Iterable[tuple[int, int]]) -> set[int]:
        return {bisect.bisect_right(bases, start) - 1 for start, _ in places}

    inside: dict[int, list[Span]] = defaultdict(list)
    for span in spans:
        index = bisect.bisect_right(bases, span.start) - 1
        inside[index].append(span._replace(start=span.start - bases[index], end=span.end - bases[index]))
    named = indexes(view.marks.get("cores", ()))
    named.update(index for index, text in enumerate(texts) if text.endswith(_SHORT_CORE))
    keys = indexes(view.marks.get("keys", ()))  # its lines may be the line's next strings
    contextual = {
        *keys,
        *indexes(place for place in memory.places(view.text) if not _is_covered(spans, *place)),
        *(index for index in named if _is_secret_name(texts[index])),
        *(index for index in indexes(view.marks.get("files", ())) if _names_secret_file(texts[index])),
        *(index for index, text in enumerate(texts) if (_LONE.match(text) and is_key(text)) or _is_rewritten(text)),
    }
    return [(inside[index], index in contextual, index in keys) for index in range(len(texts))]


def _is_covered(spans: Sequence[Span], start: int, end: int) -> bool:
    """Whether one of the spans, in order, reaches from `start` to `end`."""
    at = bisect.bisect_right(spans, start, key=lambda span: span.start) - 1
    return at >= 0 and spans[at].end >= end


def _is_rewritten(text: bytes) -> bool:
    """Whether `wire.with_own_fields` makes another line of one with such a string: its own field, or half a pair."""
    return text in wire.OWN_FIELDS or _REPLACEMENT in text


def _is_secret_name(text: bytes) -> bool:
    """Whether a string, as a key, announces a secret."""
    return len(text) <= _LONGEST_NAME and kind_of(text) is not Kind.NONE


def _names_secret_file(text: bytes) -> bool:
    """Whether a string is a file of secrets, or may be a command that prints one."""
    name = text[:_LONGEST_COMMAND].decode("utf-8", "replace")
    return (len(text) <= _LONGEST_NAME and is_secret_path(name)) or reads_secret_file(name)
