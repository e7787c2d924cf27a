"""Files of nothing but secrets, and commands that print one: whatever is read or written, values go and names stay."""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final

from agent_trace_sidecar.redaction.judge import passes
from agent_trace_sidecar.redaction.rules import Gates
from agent_trace_sidecar.redaction.spans import Span

Values = Callable[[bytes], Iterator[Span]]
"""Finds the secrets of a text that is known to hold some."""

G: Final = Gates("secret_files")
T: Final = Gates("secret_files", text=True)

_LONGEST_PATH: Final = 4096
_LONGEST_COMMAND: Final = 2000
_LONGEST_SHORT: Final = 400
"""How far into a command one stands that prints a single secret; this is asked of every text that may be a command."""
_WORDS: Final = re.compile(r"[^\s\"'`|;&<>()=]+")
_PART: Final = 3
"""A line of so many fields is an account; its last field is the password, not its second."""


@lru_cache(maxsize=2048)
def is_secret_path(path: str) -> bool:
    """Whether a file of this name holds secrets only."""
    return len(path) < _LONGEST_PATH and T.path.search(path) is not None


def values_printed(command: str) -> Values | None:
    """What finds the secrets that a shell command prints, those of a file or a single one; None if it prints none."""
    command = command[:_LONGEST_COMMAND]
    if G.prints.search(command[:_LONGEST_SHORT].encode("utf-8", "replace")):
        return _printed_value
    reads = T.readers.search(command) and any(is_secret_path(word) for word in _WORDS.findall(command))
    return values_of_file if reads else None


def _printed_value(text: bytes) -> Iterator[Span]:
    """The word that such a command has printed; several are a message."""
    if (word := G.lone.match(text)) and passes("unplain", text, word.start(1), word.end(1)):
        yield Span(word.start(1), word.end(1), "printed-value")


def values_of_file(text: bytes) -> Iterator[Span]:
    """Every value in the text of such a file; names, comments, sections and the marks of diffs stay."""
    for match in G.line.finditer(text):
        line = match.group()
        offset = match.start() + G.prefix.match(line).end()
        body = text[offset : match.end()].rstrip()
        if body and not G.kept_line.match(body):
            yield from (Span(offset + start, offset + end, "secret-file") for start, end in _values_of_line(body))


def _values_of_line(body: bytes) -> Iterator[tuple[int, int]]:
    if G.machine.match(body) or body.startswith(b"password "):
        yield from (m.span(1) for m in G.netrc.finditer(body))
    elif found := G.pair.match(body) or G.element.match(body):
        value = found["value"]
        inner = value.rstrip(b",;").strip(b"\"'")
        if inner and inner not in {b"{", b"[", b"|", b">", b"[]", b"{}"}:
            at = found.start("value") + value.find(inner)
            yield at, at + len(inner)
    elif G.separated.match(body):
        at = body.find(b":") + 1 if body.count(b":") < _PART or b"$" in body else body.rfind(b":") + 1
        end = body.find(b":", at) if b"$" in body and body.find(b":", at) > 0 else len(body)
        if end > at:
            yield at, end
    else:
        yield 0, len(body)
