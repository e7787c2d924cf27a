"""A JSON line as its string tokens: masked where they stand, everything between them untouched.

The line is not decoded and encoded again: it is cut at its quotes, so that numbers, order, doubled keys and white space
survive byte for byte. All strings are unescaped and laid out in one buffer, so that everything runs once per line and
not once per string.
"""

import bisect
import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Final, NamedTuple

import msgspec

from agent_trace_sidecar.redaction.detectors.nearby import is_key, is_service
from agent_trace_sidecar.redaction.judge import Form, is_secret
from agent_trace_sidecar.redaction.known_values import Known, Memory
from agent_trace_sidecar.redaction.names import Kind, kind_of
from agent_trace_sidecar.redaction.scanner import Scanner
from agent_trace_sidecar.redaction.secret_files import is_secret_path, reads_secret_file, values_of_file
from agent_trace_sidecar.redaction.spans import BORDER, BREAK, Effort, Span, applied, blanked, by_line, merged

MOST_ROUNDS: Final = 4
"""How often a text is scanned again after something was masked."""
Scanned = tuple[bytes, list[Span]]
"""The text of a string, and the secrets in it."""
Found = set[tuple[str, bytes]]
"""What was masked, as rule and value: a secret that stands in a text several times is one."""

_NUMBER: Final = re.compile(rb"(\s*:\s*)\d{4,40}(?=[\s,}\]])")
_RAW: Final = msgspec.json.Decoder(msgspec.Raw)
_SESSION: Final = re.compile(rb'"sessionI[Dd]":\s?"([^"\\]{1,80})"')
_PATH_KEYS: Final = frozenset((b"filePath", b"filepath", b"path", b"file", b"relativePath", b"movePath", b"title"))
_CONTENT_KEYS: Final = frozenset(
    (b"content", b"output", b"oldString", b"newString", b"diff", b"patch", b"patchText", b"preview", b"text", b"error")
)
_COMMAND_KEY: Final = b"command"
_ENVELOPE: Final = frozenset(
    (b"v", b"id", b"seq", b"at", b"instance", b"hook", b"api", b"directory", b"worktree", b"input", b"output", b"lost")
)
"""Names that identify the event; never masked, whatever is found around them."""
_ID: Final = re.compile(
    rb"(?:msg|prt|ses|evt|call|per|que|toolu)_[A-Za-z0-9_]{1,40}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
)
_ID_KEYS: Final = (b"id", b"ID", b"Id", b"instance")
_HOOK: Final = re.compile(rb"[a-z.]{1,40}")
_ESCAPED_BACKSLASH: Final = re.compile(rb"\\\\")
_ESCAPED_QUOTE: Final = re.compile(rb'\\"')
_PLAIN: Final = re.compile(rb"[^\\\x01\x02\x80-\xff]*")
_UNESCAPED: Final = re.compile(rb"[^\x00-\x1f\"\\]+")
"""What no writer of JSON must escape ..."""
_HIDING: Final = re.compile(rb"\\(?:u(?!00[01])|/)")
"""... and how one may do it all the same."""


def with_plain_quotes(line: bytes) -> bytes:
    """The same JSON, in which every quote is the border of a string.

    The two escapes that hide where a string ends become bytes that JSON does not have.
    """
    return _ESCAPED_QUOTE.sub(b"\x02", _ESCAPED_BACKSLASH.sub(b"\x01", line))


def _with_escapes(text: bytes) -> bytes:
    return text.replace(b"\x02", b'\\"').replace(b"\x01", b"\\\\")


def masked_line(
    raw: bytes, scanner: Scanner, found: Found, memory: Memory, known: Mapping[bytes, list[Span]] | None = None
) -> bytes:
    """A line of JSON with every secret replaced by its label; what it shows is remembered for its session.

    `known` is what the scanner finds in its strings, if they were scanned before. Raises Overload.
    """
    shown, effort = _shown(raw, memory), Effort(len(raw))
    line = with_plain_quotes(raw)
    for _ in range(MOST_ROUNDS):
        layout = _Layout(line)
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
        found.update(("assignment", number) for number in layout.numbers)
        line, changed = layout.rewritten(spans)
        if layout.is_settled(spans) and not _says_more(changed, scanner, memory, shown, effort):
            break  # what the next round would find out, without laying the line out again
        known = None
    return _with_escapes(line)


def masked_strings(
    raw: bytes, texts: Mapping[bytes, Scanned], scanner: Scanner, found: Found, memory: Memory
) -> bytes | None:
    """The same for a line that holds secrets in these strings and nowhere else; None where the line must be opened.

    It may be that one of them is a name, that a secret is repeated elsewhere, or that masking has uncovered another.
    """
    shown, line = _shown(raw, memory), with_plain_quotes(raw)
    for text, (body, spans) in texts.items():
        for span in spans:
            if shown.add(value := body[span.start : span.end], span.rule):
                memory.doubt(value)
            found.add((span.rule, value))
        around = line.split(b'"%b"' % text)
        if any(behind.lstrip()[:1] == b":" for behind in around[1:]):
            return None
        line = _as_json(applied(body, spans)).join(around)
    if memory.learned and (may_hide(line, memory.learned) or any(value in line for value in memory.learned)):
        return None
    masked = [applied(body, spans) for body, spans in texts.values()]
    return None if _says_more(masked, scanner, memory, shown, Effort(len(raw))) else _with_escapes(line)


def may_hide(json: bytes, values: Collection[bytes]) -> bool:
    """Whether JSON may hold one of these values in another spelling, with escapes where there need be none."""
    return not all(map(_UNESCAPED.fullmatch, values)) or _HIDING.search(json) is not None


def _shown(raw: bytes, memory: Memory) -> Known:
    session = _SESSION.search(raw)
    return memory.session(session.group(1) if session else b"")


def _as_json(text: bytes) -> bytes:
    return with_plain_quotes(msgspec.json.encode(text.decode("utf-8", "replace")))


def _says_more(masked: Sequence[bytes], scanner: Scanner, memory: Memory, shown: Known, effort: Effort) -> bool:
    """Whether strings of which something was masked hold something still; most of them come several times."""
    new = memory.unknown(
        {BREAK + text for text in masked} - memory.clean
    )  # these are not escaped, as all others there are
    left = BORDER + b"\n".join([text.replace(BREAK, BORDER, 1) for text in new])
    if new and (scanner.find(left, effort) or any(shown.find(blanked(left)))):
        return True
    memory.remember_clean(new)
    return False


class _Role(NamedTuple):
    """What the name of a member means for its value."""

    kind: Kind
    is_service: bool
    is_id: bool
    is_file: bool


@lru_cache(maxsize=4096)
def _role(name: bytes) -> _Role | None:
    """None for a name that means nothing."""
    kind, is_file = kind_of(name), name in _PATH_KEYS or name in _CONTENT_KEYS or name == _COMMAND_KEY
    role = _Role(kind, kind is Kind.NONE and is_service(name), name == b"hook" or name.endswith(_ID_KEYS), is_file)
    return role if any(role) else None


class _Layout:
    """All strings of a line, unescaped, one after the other in a buffer, and the way back."""

    def __init__(self, line: bytes) -> None:
        self._parts = line.split(b'"')
        texts, behind = self._parts[1::2], self._parts[2::2]
        self._bodies = texts if _PLAIN.fullmatch(line) else [unescaped(text) for text in texts]
        self._bases = list(accumulate([len(body) + len(BORDER) for body in self._bodies], initial=len(BORDER)))
        self.buffer = BORDER + BORDER.join(self._bodies) + BORDER
        self._names = {index for index, rest in enumerate(behind) if rest.lstrip()[:1] == b":"}
        self._fixed = {index for index in self._names if self._bodies[index] in _ENVELOPE}
        """Strings that are never masked: the names of the envelope, and the ids by which events belong together."""
        self.keyed: list[Span] = []
        """Values whose key announces a secret."""
        self.numbers: list[bytes] = []
        """The same for numbers."""
        self._contents: list[int] = []
        self._holds_file = False
        """Whether the line is about a file that holds secrets only."""
        key, role = b"", None
        for index, body in enumerate(self._bodies):
            if index in self._names:
                key, role = body, _role(body)
                if role and role.kind is Kind.PASSWORD and (number := _NUMBER.match(rest := behind[index])):
                    self.numbers.append(rest[number.end(1) : number.end()])
                    self._parts[2 * index + 2] = number[1] + b'"[REDACTED:assignment]"' + rest[number.end() :]
            elif role:
                self._value(index, key, role, body)

    def _value(self, index: int, key: bytes, role: _Role, body: bytes) -> None:
        at = self._bases[index]
        if role.kind and is_secret(key, role.kind, body, Form.CONFIG):
            self.keyed.append(Span(at, at + len(body), "assignment"))
        if role.is_service and is_key(body):
            self.keyed.append(Span(at, at + len(body), "near-provider"))
        if role.is_id and (_HOOK if key == b"hook" else _ID).fullmatch(body):
            self._fixed.add(index)
        if key in _CONTENT_KEYS:
            self._contents.append(index)
        elif role.is_file and not self._holds_file:
            text = body.decode("utf-8", "replace")
            self._holds_file = is_secret_path(text) if key in _PATH_KEYS else reads_secret_file(text)

    def file_values(self, view: bytes) -> Iterator[Span]:
        """What the contents of a file of secrets hold."""
        for index in self._contents if self._holds_file else ():
            start = self._bases[index]
            for span in values_of_file(view[start : start + len(self._bodies[index])]):
                yield span._replace(start=span.start + start, end=span.end + start)

    def maskable(self, spans: Iterable[Span]) -> list[Span]:
        """The spans that may be masked: none in what is fixed, and no name between the strings of a key."""
        strings = ((span, self._string_of(span)) for span in spans)
        return [span for span, at in strings if at not in self._fixed and not (span.apart and at in self._names)]

    def is_settled(self, spans: list[Span]) -> bool:
        """Whether masking these spans leaves the names, and so what they announce, as they are."""
        return not self._holds_file and not any(self._string_of(span) in self._names for span in spans)

    def _string_of(self, span: Span) -> int:
        return bisect.bisect_right(self._bases, span.start) - 1

    def placed(self, known: Mapping[bytes, list[Span]]) -> Iterator[Span]:
        """The spans of each string where it stands in the buffer."""
        for base, body in zip(self._bases, self._bodies, strict=False):
            for span in known.get(body, ()):
                yield span._replace(start=span.start + base, end=span.end + base)

    def rewritten(self, spans: list[Span]) -> tuple[bytes, list[bytes]]:
        """The line with the strings that hold a span replaced and nothing else, and these strings' new texts."""
        inside: dict[int, list[Span]] = defaultdict(list)
        for span in spans:
            index = self._string_of(span)
            base = self._bases[index]
            inside[index].append(Span(span.start - base, span.end - base, span.rule))
        changed = {index: applied(self._bodies[index], found) for index, found in inside.items()}
        for index, text in changed.items():
            self._parts[2 * index + 1] = _as_json(text)[1:-1]
        return b'"'.join(self._parts), list(changed.values())


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
    """The text of a JSON string with plain quotes; NUL, a lone surrogate, or what is no UTF-8, becomes U+FFFD.

    So it is stored, too: a text that is masked again, when it was stored, must be read as it was before.
    """
    if _PLAIN.fullmatch(body):
        return body
    quoted = b'"' + _with_escapes(body) + b'"'
    try:
        return str(msgspec.json.decode(quoted)).replace("\0", "\ufffd").encode()
    except ValueError:
        text = str(json.loads(quoted.decode("utf-8", "replace"), strict=False))
        return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
