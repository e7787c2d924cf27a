"""Columns of secrets: SQL INSERT and COPY statements, and comma-separated files, whose first line names the columns.

In a table the name stands once, far from the values; what counts is the place of the value in its row.
"""

import re
from collections.abc import Generator, Iterator
from typing import Final

from agent_trace_sidecar.redaction.judge import Form, is_chosen, is_secret
from agent_trace_sidecar.redaction.names import Kind, kind_of
from agent_trace_sidecar.redaction.rules import Gates
from agent_trace_sidecar.redaction.spans import BREAK, Span, View

G: Final = Gates("tables")

_MOST_COLUMNS: Final = 100


def tables(view: View) -> Iterator[Span]:
    """The values in columns of secrets, and in maps of accounts to passwords."""
    text = view.text
    if view.marks.get("statements"):
        yield from _inserts(view)
        yield from _bodies(view, G.copy, b",", b"\t")
    for place, _ in view.marks.get("owners", ()):
        if opening := G.map.match(text, place):
            yield from _pairs(text, opening.end())
    if not view.marks.get("cores"):
        return  # no column is named like a secret
    if view.marks.get("rulers"):
        yield from _bodies(view, G.markdown, b"|", b"|")
    for header in _headers(text):
        names = header[1].strip(b"\r\n").split(header[2])
        yield from _lines(view, header.end(), _kinds(names), header[2])


def _bodies(view: View, head: re.Pattern[bytes], between: bytes, separator: bytes) -> Iterator[Span]:
    """The tables whose heads a pattern finds; what is in one of them begins no other."""
    at = 0
    while match := head.search(view.text, at):
        at = yield from _lines(view, match.end(), _kinds(match[1].split(between)), separator)


def _headers(text: bytes) -> Iterator[re.Match[bytes]]:
    """Lines of names with which the text begins, or a string of it does."""
    if first := G.header.match(text):
        yield first
    yield from G.later_header.finditer(text)


def _pairs(text: bytes, at: int) -> Iterator[Span]:
    """The values of a map from accounts to passwords that seem chosen, and are no role or name."""
    while pair := G.pair.match(text, at):
        if is_chosen(pair[1].decode("utf-8", "replace")):
            yield Span(pair.start(1), pair.end(1), "table-column")
        at = pair.end()


def _kinds(names: list[bytes]) -> list[tuple[bytes, Kind]]:
    bare = [name.strip(b" \t\r\n`\"'[]") for name in names[:_MOST_COLUMNS]]
    return [(name, kind_of(name)) for name in bare]


def _inserts(view: View) -> Iterator[Span]:
    text = view.text
    for match in G.insert.finditer(text):
        columns = _kinds(match[2].split(b",")) if match[2] else []
        accounts = G.accounts.search(match[1]) is not None
        if not accounts and all(kind is Kind.NONE for _, kind in columns):
            continue
        at = match.end() + 1
        while at:
            view.effort.spend()
            end = yield from _row(text, at, columns, accounts=accounts)
            following = G.next.match(text, end) if end else None
            at = following.end() if following else 0


def _row(text: bytes, at: int, columns: list[tuple[bytes, Kind]], *, accounts: bool) -> Generator[Span, None, int]:
    """One row of values; returns where it ends, or 0 where it is none."""
    place = 0
    while field := G.field.match(text, at):
        group = 1 if field[1] is not None else 2
        value = field[group]
        if value:
            name, kind = columns[place] if place < len(columns) else (b"", Kind.NONE)
            if is_secret(name, kind, value, Form.CERTAIN) or (accounts and G.digest.match(value)):
                yield Span(field.start(group), field.end(group), "table-column")
        place, at = place + 1, field.end()
        if field[4] == b")":
            return at
    return 0


def _lines(view: View, at: int, columns: list[tuple[bytes, Kind]], separator: bytes) -> Generator[Span, None, int]:
    """The rows below a line of names, as long as they have as many fields; in COPY, up to its end mark.

    A table ends where its string does. Returns where.
    """
    text = view.text
    if all(kind is Kind.NONE for _, kind in columns):
        return at
    while at < len(text):
        view.effort.spend()
        end = text.find(b"\n", at)
        line = text[at : end if end >= 0 else len(text)]
        fields = line.split(separator)
        if len(fields) != len(columns) or line.startswith((BREAK, b"\\.")):
            return at
        start = at
        for (name, kind), field in zip(columns, fields, strict=True):
            value = field.strip(b" \r\"'`*")
            if is_secret(name, kind, value, Form.CONFIG):
                begin = start + field.find(value)
                yield Span(begin, begin + len(value), "table-column")
            start += len(field) + len(separator)
        at = end + 1 if end >= 0 else len(text)
    return at
