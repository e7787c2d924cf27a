"""Columns of secrets: SQL INSERT and COPY statements, and comma-separated files, whose first line names the columns.

In a table the name stands once, far from the values; what counts is the place of the value in its row.
"""

import re
from collections.abc import Generator, Iterator
from typing import Final

from agent_trace_sidecar.redaction.judge import Form, is_chosen, is_listed, is_secret
from agent_trace_sidecar.redaction.names import Kind, kind_of
from agent_trace_sidecar.redaction.rules import Gates
from agent_trace_sidecar.redaction.spans import BREAK, Span, View

G: Final = Gates("tables")

_RULE: Final = "table-column"
_MOST_COLUMNS: Final = 100
_Columns = list[tuple[bytes, Kind]]


def tables(view: View) -> Iterator[Span]:
    """The values in columns of secrets, and in maps of accounts to passwords."""
    text = view.text
    if view.marks.get("statements"):
        for insert in G.insert.finditer(text):
            yield from _statement(view, insert)
        yield from _bodies(view, G.copy, b",", b"\t")
    yield from _maps(view)
    if not view.marks.get("cores"):
        return  # no column is named like a secret
    if view.marks.get("rulers"):
        yield from _bodies(view, G.ruled, b"|", b"|")
    for header in (G.header.match(text), *G.later_header.finditer(text)):
        if header is not None:
            names = header[1].strip(b"\r\n").split(header[2])
            yield from _lines(view, header.end(), _columns(names), header[2])


def _maps(view: View) -> Iterator[Span]:
    """The chosen values of what maps accounts to passwords; what is in one of them begins no other."""
    at = 0
    for place, _ in view.marks.get("owners", ()):
        if place < at or not (opening := G.map.match(view.text, place)):
            continue
        at = opening.end()
        while pair := G.pair.match(view.text, at):
            view.effort.spend()
            group = pair.lastindex or 0
            if is_listed(opening[0], pair[0], pair[group]):
                yield Span(pair.start(group), pair.end(group), _RULE)
            at = pair.end()


def _columns(names: list[bytes]) -> _Columns:
    bare = [name.strip(b" \t\r\n`\"'[]") for name in names[:_MOST_COLUMNS]]
    return [(name, kind_of(name)) for name in bare]


def _statement(view: View, insert: re.Match[bytes]) -> Iterator[Span]:
    """The rows of values of an INSERT statement; of a table of accounts whatever is a digest goes too."""
    columns = _columns(insert[2].split(b",")) if insert[2] else []
    accounts = G.accounts.search(insert[1]) is not None
    is_nameless = not columns and G.logins.search(insert[1]) is not None
    if not accounts and all(kind is Kind.NONE for _, kind in columns):
        return
    row, place, at = True, 0, insert.end() + 1
    while row and (field := G.field.match(view.text, at)):
        view.effort.spend()
        group = 1 if field[1] is not None else 2
        name, kind = columns[place] if place < len(columns) else (b"", Kind.NONE)
        value = field[group] or b""
        chosen = is_nameless and place > 0 and G.opaque.match(value) and is_chosen(value.decode("utf-8", "replace"))
        if chosen or is_secret(name, kind, value, Form.CERTAIN) or (accounts and G.digest.match(value)):
            yield Span(field.start(group), field.end(group), _RULE)
        place, at = place + 1, field.end()
        if field[4] == b")":
            row = G.next.match(view.text, at)
            place, at = 0, row.end() if row else at


def _bodies(view: View, head: re.Pattern[bytes], between: bytes, separator: bytes) -> Iterator[Span]:
    """The tables whose heads a pattern finds; what is in one of them begins no other."""
    at = 0
    while match := head.search(view.text, at):
        at = yield from _lines(view, match.end(), _columns(match[1].split(between)), separator)


def _lines(view: View, at: int, columns: _Columns, separator: bytes) -> Generator[Span, None, int]:
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
        for (name, kind), field in zip(columns, fields, strict=True):
            value = field.strip(b" \r\"'`*")
            if is_secret(name, kind, value, Form.CONFIG):
                begin = at + field.find(value)
                yield Span(begin, begin + len(value), _RULE)
            at += len(field) + len(separator)
        at = end + 1 if end >= 0 else len(text)
    return at
