"""A JSON line as its string tokens: masked where they stand, everything between them untouched.

What each string holds by itself is known (`strings`); here comes on top what it holds where it stands: as the value of
a password's name, as the content of a file of secrets, as a line of a private key, or because its session has shown the
same value before.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from agent_trace_sidecar.redaction.detectors.nearby import is_key, is_service
from agent_trace_sidecar.redaction.filters import without_samples
from agent_trace_sidecar.redaction.json_syntax import (
    escaped,
    is_plain,
    may_hide,
    unescaped,
    with_escapes,
    with_plain_quotes,
)
from agent_trace_sidecar.redaction.judge import Form, is_secret
from agent_trace_sidecar.redaction.key_blocks import key_blocks
from agent_trace_sidecar.redaction.known_values import Held, Memory
from agent_trace_sidecar.redaction.names import Kind, kind_of
from agent_trace_sidecar.redaction.rules import Words
from agent_trace_sidecar.redaction.scanner import Scanner
from agent_trace_sidecar.redaction.secret_files import Values, is_secret_path, values_of_file, values_printed
from agent_trace_sidecar.redaction.spans import (
    Effort,
    Joined,
    Span,
    View,
    applied,
    blanked,
    by_line,
    merged,
    moved,
)
from agent_trace_sidecar.redaction.strings import HOOK, ID, scan

W: Final = Words("json_line")

MOST_ROUNDS: Final = 4
"""How often a text is scanned again after something was masked."""
_MOST_REPLACED: Final = 16
"""Strings of a line; with more it takes less to go through the line once."""
Found = set[tuple[str, bytes]]
"""What was masked, as rule and value: a secret that stands in a text several times is one."""

_NUMBER: Final = re.compile(rb"(\s*:\s*)\d{4,40}(?=[\s,}\]])")
_FLAG: Final = re.compile(rb"--?[A-Za-z][\w-]{0,60}")
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
_ID_KEYS: Final = (b"id", b"ID", b"Id", b"instance")


def masked_line(raw: bytes, scanner: Scanner, memory: Memory, found: Found) -> bytes:
    """A line whose strings were scanned, with every secret replaced by its label and added to `found`.

    What it shows is remembered for its session. Raises Overload.
    """
    match, line = _SESSION.search(raw), with_plain_quotes(raw)
    memory.use(session := match[1] if match else b"")
    masked = _replaced(line, memory, session, found)
    return with_escapes(_laid_out(line, scanner, memory, session, found) if masked is None else masked)


def _replaced(line: bytes, memory: Memory, session: bytes, found: Found) -> bytes | None:
    """The line with its strings masked one by one; None where one of them takes the line to know what it holds."""
    strings = [(b'"%b"' % token, memory.held[token]) for token in memory.held.keys() & line.split(b'"')[1::2]]
    if len(strings) > _MOST_REPLACED:
        return None
    values = [pair for _, held in strings for pair in held.values]
    for string, held in strings:
        around = line.split(string)
        if held.masked is None or any(b":" in behind.partition(b'"')[0] for behind in around[1:]):
            return None  # a name says something about its value
        line = (b'"%b"' % held.masked).join(around)
    for rule, value in values:
        memory.add(session, value, rule)
    if memory.learned and (may_hide(line, memory.learned) or any(value in line for value in memory.learned)):
        return None
    found.update(values)
    return line


def _laid_out(line: bytes, scanner: Scanner, memory: Memory, session: bytes, found: Found) -> bytes:
    """The line with all that it holds masked, until nothing is left."""
    effort = Effort(len(line))
    for _ in range(MOST_ROUNDS):
        layout = _Layout(line, memory.held)
        view = blanked(layout.strings.buffer)
        spans = layout.maskable([*layout.found, *layout.key_blocks(view, effort)])
        for span in spans:
            effort.spend()
            memory.add(session, view[span.start : span.end], span.rule)
        spans += [*memory.find(view, session), *layout.file_values(view)]
        spans = layout.maskable(merged(by_line(view, spans)))
        if not spans and not layout.numbers:
            break
        found.update((span.rule, view[span.start : span.end]) for span in spans)
        found.update(("assignment", number) for number in layout.numbers)
        line, changed = layout.rewritten(spans)
        scan(changed, scanner, memory, effort)
        if layout.is_settled(spans) and memory.are_clean(changed):
            break  # what the next round would find out, without laying the line out again
    return line


class _Role(NamedTuple):
    """What the name of a member means for its value."""

    kind: Kind
    is_service: bool
    is_id: bool
    is_file: bool
    is_label: bool
    """Whether it says what another member of its object holds: {"name": "password", "value": "..."}."""
    is_content: bool


@lru_cache(maxsize=4096)
def _role(name: bytes) -> _Role | None:
    """None for a name that means nothing."""
    kind, is_file = kind_of(name), name in _PATH_KEYS or name in _CONTENT_KEYS or name == _COMMAND_KEY
    is_id, plain = name == b"hook" or name.endswith(_ID_KEYS), name.decode("latin-1").lower()
    service = kind is Kind.NONE and is_service(name)
    role = _Role(kind, service, is_id, is_file, plain in W.labels, plain in W.contents)
    return role if any(role) else None


class _Layout:
    """All strings of a line, unescaped, one after the other in a buffer, and the way back."""

    def __init__(self, line: bytes, held: Mapping[bytes, Held]) -> None:
        self._parts = line.split(b'"')
        tokens, behind = self._parts[1::2], self._parts[2::2]
        self._bodies = [token if is_plain(token) else unescaped(token) for token in tokens]
        self.strings = Joined(self._bodies)
        self._names = {index for index, rest in enumerate(behind) if b":" in rest}
        self._fixed = {index for index in self._names if self._bodies[index] in _ENVELOPE}
        """Strings that are never masked: the names of the envelope, and the ids by which events belong together."""
        self.found: list[Span] = []
        """What its strings hold by themselves, and the values whose name announces a secret."""
        self.numbers: list[bytes] = []
        """The same for numbers."""
        self._contents: list[int] = []
        self._values: Values | None = None
        """Finds the secrets in what the line holds of a file of secrets, or of what a command has printed."""
        self._holds_key = False
        """Whether a private key begins in it."""
        self._label = b""
        key, role = b"", None
        for index, body in enumerate(self._bodies):
            if index in self._names:
                key, role = body, _role(body)
                if role and role.kind is Kind.PASSWORD and (number := _NUMBER.match(rest := behind[index])):
                    self.numbers.append(rest[number.end(1) : number.end()])
                    self._parts[2 * index + 2] = number[1] + b'"[REDACTED:assignment]"' + rest[number.end() :]
            elif behind[index - 1].strip() == b"," and _FLAG.fullmatch(self._bodies[index - 1]):
                self._judge(index, self._bodies[index - 1], body)  # ["--password", "value"]
            elif role:
                self._value(index, key, role, body)
            self._label = b"" if b"}" in behind[index] else self._label
        for index in [index for index, token in enumerate(tokens) if token in held]:
            known = held[tokens[index]]
            self._holds_key = self._holds_key or known.begins_key
            self.found += [moved(span, self.strings.bases[index]) for span in known.spans]

    def _judge(self, index: int, name: bytes, body: bytes) -> None:
        at = self.strings.bases[index]
        if is_secret(name, kind_of(name), body, Form.CONFIG) and not body.startswith(b"--"):
            self.found.append(Span(at, at + len(body), "assignment"))

    def _value(self, index: int, key: bytes, role: _Role, body: bytes) -> None:
        at = self.strings.bases[index]
        if role.kind:
            self._judge(index, key, body)
        if role.is_label:
            self._label = body
        elif role.is_content and self._label:
            self._judge(index, self._label, body)
        if role.is_service and is_key(body):
            self.found.append(Span(at, at + len(body), "near-provider"))
        if role.is_id and (HOOK if key == b"hook" else ID).fullmatch(body):
            self._fixed.add(index)
        if key in _CONTENT_KEYS:
            self._contents.append(index)
        elif role.is_file and self._values is None:
            text = body.decode("utf-8", "replace")
            if key not in _PATH_KEYS:
                self._values = values_printed(text)
            elif is_secret_path(text):
                self._values = values_of_file

    def key_blocks(self, view: bytes, effort: Effort) -> list[Span]:
        """The private keys whose lines are strings of their own, string by string."""
        if not self._holds_key:
            return []
        return by_line(view, without_samples(view, key_blocks(View(view, effort, {"keys": [(0, 0)]}))))

    def file_values(self, view: bytes) -> Iterator[Span]:
        """What the contents of a file of secrets hold, or what a command has printed."""
        if self._values is None:
            return
        for index in self._contents:
            start = self.strings.bases[index]
            for span in self._values(view[start : start + len(self._bodies[index])]):
                yield moved(span, start)

    def maskable(self, spans: Iterable[Span]) -> list[Span]:
        """The spans that may be masked: none in what is fixed, and no name between the strings of a key."""
        strings = ((span, self.strings.index(span.start)) for span in spans)
        return [span for span, at in strings if at not in self._fixed and not (span.apart and at in self._names)]

    def is_settled(self, spans: list[Span]) -> bool:
        """Whether masking these spans leaves the names, and so what they announce, as they are."""
        return self._values is None and self._names.isdisjoint(self.strings.index(span.start) for span in spans)

    def rewritten(self, spans: list[Span]) -> tuple[bytes, set[bytes]]:
        """The line with the strings that hold a span replaced and nothing else, and what these strings are now."""
        inside: dict[int, list[Span]] = defaultdict(list)
        for index, span in self.strings.apart(spans):
            inside[index].append(span._replace(quote=b""))
        changed = {index: escaped(applied(self._bodies[index], found)) for index, found in inside.items()}
        for index, token in changed.items():
            self._parts[2 * index + 1] = token
        return b'"'.join(self._parts), set(changed.values())
