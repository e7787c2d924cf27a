"""A JSON line as its string tokens: masked where they stand, everything between them untouched.

The line is not decoded and encoded again: numbers, order, doubled keys and white space survive byte for byte. All
strings are unescaped and laid out in one buffer, so that everything runs once per line and not once per string.
"""

import bisect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Self

import msgspec

from agent_trace_sidecar.redaction.detectors.nearby import is_key_of
from agent_trace_sidecar.redaction.judge import Form, is_secret
from agent_trace_sidecar.redaction.known_values import Known, Memory
from agent_trace_sidecar.redaction.names import Kind, kind_of
from agent_trace_sidecar.redaction.scanner import Scanner
from agent_trace_sidecar.redaction.secret_files import is_secret_path, reads_secret_file, values_of_file
from agent_trace_sidecar.redaction.spans import BORDER, BREAK, Effort, Span, applied, blanked, by_line, merged

MOST_ROUNDS: Final = 4
"""How often a text is scanned again after something was masked."""
Found = set[tuple[str, bytes]]
"""What was masked, as rule and value: a secret that stands in a text several times is one."""

_TOKEN: Final = re.compile(rb'"([^"\\]*(?:\\.[^"\\]*)*)"(\s*:)?', re.DOTALL)
_NUMBER: Final = re.compile(rb"\s*(\d{4,40})(?=[\s,}\]])")
_RAW: Final = msgspec.json.Decoder(msgspec.Raw)
_SESSION: Final = re.compile(rb'"sessionI[Dd]":\s?"([^"\\]{1,80})"')
_PATH_KEYS: Final = frozenset((b"filePath", b"filepath", b"path", b"file", b"relativePath", b"movePath", b"title"))
_CONTENT_KEYS: Final = frozenset(
    (b"content", b"output", b"oldString", b"newString", b"diff", b"patch", b"patchText", b"preview", b"text", b"error")
)
_COMMAND_KEY: Final = b"command"
_FILE_KEYS: Final = frozenset((*_PATH_KEYS, *_CONTENT_KEYS, _COMMAND_KEY))
_ENVELOPE: Final = frozenset(
    (b"v", b"id", b"seq", b"at", b"instance", b"hook", b"api", b"directory", b"worktree", b"input", b"output", b"lost")
)
"""Names that identify the event; never masked, whatever is found around them."""
_ID: Final = re.compile(
    rb"(?:msg|prt|ses|evt|call|per|que|toolu)_[A-Za-z0-9_]{1,40}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
)
_ID_KEYS: Final = (b"id", b"ID", b"Id", b"instance", b"hook")
_HOOK: Final = re.compile(rb"[a-z.]{1,40}")


class JsonLine:
    """One line of JSON, opened."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._open = unescaped if is_utf8(raw) else _repaired

    @classmethod
    def parse(cls, raw: bytes) -> Self | None:
        """The line, or None when it is no JSON."""
        return cls(raw) if is_json(raw) else None

    def masked(
        self, scanner: Scanner, found: Found, memory: Memory, known: Mapping[bytes, list[Span]] | None = None
    ) -> bytes:
        """The line with every secret replaced by its label; what it shows is remembered for its session.

        `known` is what the scanner finds in its strings, if they were scanned before. Raises Overload.
        """
        session = _SESSION.search(self._raw)
        shown = memory.session(session.group(1) if session else b"")
        effort = Effort(len(self._raw))
        for _ in range(MOST_ROUNDS):
            layout = _Layout(self._raw, self._open)
            view = blanked(layout.buffer)
            spans = [*layout.keyed, *(scanner.find(view, effort) if known is None else layout.placed(known))]
            for span in layout.maskable(spans):
                effort.spend()
                if shown.add(value := view[span.start : span.end], span.rule):
                    memory.doubt(value)
            spans += [*memory.environment.find(view), *shown.find(view), *layout.file_values(view)]
            spans = layout.maskable(merged(by_line(view, spans)))
            if not spans and not layout.numbers:
                break
            found.update((span.rule, view[span.start : span.end]) for span in spans)
            found.update(("assignment", self._raw[start:end]) for start, end in layout.numbers)
            self._raw, changed = layout.rewritten(spans)
            if layout.is_settled(spans) and not _says_more(changed, scanner, memory, shown, effort):
                break  # what the next round would find out, without laying the line out again
            known = None
        return self._raw


def _says_more(masked: Sequence[bytes], scanner: Scanner, memory: Memory, shown: Known, effort: Effort) -> bool:
    """Whether strings of which something was masked hold something still; most of them come several times."""
    new = [text for text in masked if not memory.is_clean(BREAK + text)]
    left = BORDER + BORDER.join(new)
    if new and (scanner.find(left, effort) or any(shown.find(blanked(left)))):
        return True
    memory.remember_clean([BREAK + text for text in new])  # these are not escaped, as all others there are
    return False


class _Layout:
    """All strings of a line, unescaped, one after the other in a buffer, and the way back."""

    def __init__(self, raw: bytes, open_: Callable[[bytes], bytes]) -> None:
        self._raw = raw
        self._tokens: list[tuple[int, int]] = []
        self._bases: list[int] = []
        self._names: set[int] = set()
        self._fixed: set[int] = set()
        """Strings that are never masked: the names of the envelope, and the ids by which events belong together."""
        self.keyed: list[Span] = []
        """Values whose key announces a secret."""
        self.numbers: list[tuple[int, int]] = []
        """The same for numbers: where they stand in the line."""
        self._contents: list[tuple[int, int]] = []
        self._holds_file = False
        """Whether the line is about a file that holds secrets only."""
        self._bodies: list[bytes] = []
        size = len(BORDER)
        key, kind = b"", Kind.NONE
        plain = raw.isascii() and b"\\" not in raw
        for index, match in enumerate(_TOKEN.finditer(raw)):
            body, colon = match.groups()
            if not plain and (b"\\" in body or not body.isascii()):
                body = open_(body)
            self._tokens.append(match.span(1))
            self._bases.append(size)
            self._bodies.append(body)
            if colon:
                self._names.add(index)
                if body in _ENVELOPE:
                    self._fixed.add(index)
                key, kind = body, kind_of(body)
                if kind is Kind.PASSWORD and (number := _NUMBER.match(raw, match.end())):
                    self.numbers.append(number.span(1))
            else:
                if kind is not Kind.NONE and is_secret(key, kind, body, Form.CONFIG):
                    self.keyed.append(Span(size, size + len(body), "assignment"))
                elif kind is Kind.NONE and is_key_of(key, body):
                    self.keyed.append(Span(size, size + len(body), "near-provider"))
                if key.endswith(_ID_KEYS) and _is_id(key, body):
                    self._fixed.add(index)
                if key in _FILE_KEYS:
                    self._file(key, body, size)
            size += len(body) + len(BORDER)
        self.buffer = BORDER + BORDER.join(self._bodies) + BORDER

    def _file(self, key: bytes, body: bytes, at: int) -> None:
        """Note whether the line is about a file of secrets, and where its contents stand."""
        if key in _CONTENT_KEYS:
            self._contents.append((at, at + len(body)))
        elif not self._holds_file:
            text = body.decode("utf-8", "replace")
            self._holds_file = is_secret_path(text) if key in _PATH_KEYS else reads_secret_file(text)

    def file_values(self, view: bytes) -> Iterator[Span]:
        """What the contents of a file of secrets hold."""
        for start, end in self._contents if self._holds_file else ():
            for span in values_of_file(view[start:end]):
                yield span._replace(start=span.start + start, end=span.end + start)

    def maskable(self, spans: Iterable[Span]) -> list[Span]:
        """The spans that may be masked: none in what is fixed, and no name between the strings of a key."""
        tokens = ((span, self._token_of(span)) for span in spans)
        return [span for span, at in tokens if at not in self._fixed and not (span.apart and at in self._names)]

    def is_settled(self, spans: list[Span]) -> bool:
        """Whether masking these spans leaves the names, and so what they announce, as they are."""
        return not self._holds_file and not any(self._token_of(span) in self._names for span in spans)

    def _token_of(self, span: Span) -> int:
        return bisect.bisect_right(self._bases, span.start) - 1

    def placed(self, known: Mapping[bytes, list[Span]]) -> Iterator[Span]:
        """The spans of each string where it stands in the buffer."""
        for base, body in zip(self._bases, self._bodies, strict=True):
            for span in known.get(body, ()):
                yield span._replace(start=span.start + base, end=span.end + base)

    def rewritten(self, spans: list[Span]) -> tuple[bytes, list[bytes]]:
        """The line with the strings that hold a span replaced and nothing else, and these strings' new texts."""
        inside: dict[int, list[Span]] = {}
        for span in spans:
            index = self._token_of(span)
            base = self._bases[index]
            inside.setdefault(index, []).append(Span(span.start - base, span.end - base, span.rule))
        edits = [(*number, b'"[REDACTED:assignment]"') for number in self.numbers]
        changed: list[bytes] = []
        for index, found in inside.items():
            start, end = self._tokens[index]
            changed.append(applied(self._bodies[index], found))
            edits.append((start - 1, end + 1, msgspec.json.encode(changed[-1].decode("utf-8", "replace"))))
        pieces: list[bytes] = []
        at = 0
        for start, end, new in sorted(edits):
            pieces += (self._raw[at:start], new)
            at = end
        return b"".join((*pieces, self._raw[at:])), changed


def _is_id(key: bytes, body: bytes) -> bool:
    """Whether a member is the hook, or an id of the wire's or of OpenCode's."""
    if key == b"hook":
        return _HOOK.fullmatch(body) is not None
    return _ID.fullmatch(body) is not None


def is_json(raw: bytes) -> bool:
    """Whether the line is JSON as JavaScript writes it: a cut emoji leaves a lone surrogate, which msgspec refuses."""
    try:
        _RAW.decode(raw)
    except (ValueError, RecursionError):
        try:
            json.loads(raw.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return False
    return True


def are_json(whole: bytes, lines: Sequence[bytes]) -> bool:
    """Whether each of these lines, joined in `whole`, is JSON and nothing beside it; if not, each must be tried."""
    try:
        values = _RAW.decode_lines(whole)
    except (ValueError, RecursionError):
        return False
    # A value that reaches over a line's end, or two values in a line, would have other lengths.
    return list(map(len, values)) == list(map(len, lines))


def is_utf8(raw: bytes) -> bool:
    """Whether every byte is part of a character."""
    try:
        return raw.isascii() or bool(raw.decode())
    except UnicodeDecodeError:
        return False


def unescaped(body: bytes) -> bytes:
    """The text of a JSON string, in UTF-8; a lone surrogate becomes U+FFFD."""
    if b"\\" not in body:
        return body
    try:
        return str(msgspec.json.decode(b'"' + body + b'"')).encode()
    except ValueError:
        text = str(json.loads(b'"' + body + b'"', strict=False))
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _repaired(body: bytes) -> bytes:
    """The same for a line with bytes that are no UTF-8: no pattern matches past such a byte."""
    return unescaped(body.decode("utf-8", "replace").encode())
