"""Columns of secrets: SQL INSERT and COPY statements, and comma-separated files, whose first line names the columns.

In a table the name stands once, far from the values; what counts is the place of the value in its row.
"""

import re
from collections.abc import Generator, Iterable, Iterator
from typing import Final

from agent_trace_sidecar.redaction.deadline import check_deadline
from agent_trace_sidecar.redaction.names import Kind, kind_of
from agent_trace_sidecar.redaction.rules import Overload
from agent_trace_sidecar.redaction.spans import BREAK, Span
from agent_trace_sidecar.redaction.values import Form, is_chosen, is_secret

_INSERT: Final = re.compile(
    rb"(?i)insert[ \t]+(?:ignore[ \t]+)?into[ \t]+([^\s(]{1,120})\s{0,3}(?:\(([^()\x1e]{1,2000})\)\s{0,3})?"
    rb"values?\s{0,3}(?=\()"
)
_FIELD: Final = re.compile(
    rb"\s{0,20}(?:[NEx]?\\*'((?:[^'\\\r\n]|''|\\.)*)\\*'|\\*\"([^\"\r\n\\]*)\\*\"|([^,()'\"\r\n]*))\s{0,20}([,)])"
)
_NEXT: Final = re.compile(rb"\s{0,20},\s{0,20}\(")
_ACCOUNTS: Final = re.compile(
    rb"(?i)user|account|member|admin|login|customer|password|auth|credential|person|staff|employee"
)
_DIGEST: Final = re.compile(rb"(?:[0-9a-fA-F]{32}|[0-9a-fA-F]{40}|[0-9a-fA-F]{64}|[0-9a-fA-F]{128})$")
_COPY: Final = re.compile(rb"(?im)^copy[ \t]+[^\s(]{1,120}[ \t]*\(([^()\n]{1,2000})\)[ \t]+from[ \t]+stdin[^\n]*\n")
_NAMES: Final = rb"(\"?[A-Za-z_][\w .-]{0,40}\"?(?:([,;\t|])\"?[A-Za-z_][\w .-]{0,40}\"?){1,99}\r?\n)"
_HEADER: Final = re.compile(_NAMES)
_LATER_HEADER: Final = re.compile(BREAK + rb"\n" + _NAMES)
_MARKDOWN: Final = re.compile(rb"(?m)^[ \t]*(\|[^\r\n]{3,300}\|)[ \t\r]*\n[ \t]*\|[-:| ]{3,300}\|[ \t\r]*\n")
OWNERS: Final = ("users", "accounts", "passwords", "credentials", "logins")
_MAP: Final = re.compile(
    rb"(?i)(?:users|accounts|passwords|credentials|logins)[\"']?[ \t]{0,2}(?::=|=>|[:=])\s{0,3}"
    rb"(?:dict\()?(?:map\[\w+\]\w+)?\{"
)
"""What is called accounts or passwords, and maps one word to another."""
_PAIR: Final = re.compile(
    rb"\s{0,20}\\*[\"'][\w.@-]{2,40}\\*[\"']\s{0,3}(?::|=>)\s{0,3}\\*[\"']([^\"'\r\n\\]{4,80})\\*[\"']\s{0,3}(?:,|(?=\}))"
)
STATEMENTS: Final = ("insert into", "insert ignore", "from stdin")
"""Lower-case words of which one is in every statement that is looked for."""
_NO_ROW: Final = (BREAK, b"\\.")
"""What ends a table: the string in which it stands, or the mark that ends the rows of COPY."""
_MOST_ROWS: Final = 20_000
"""In one text; more rows than this no tool prints to an agent."""
_MOST_COLUMNS: Final = 100


class _Rows:
    """The rows that a text may have, of all its tables."""

    def __init__(self) -> None:
        self._left = _MOST_ROWS

    def take(self) -> None:
        """Count a row. Raises Overload when there are too many, or when they have taken too long."""
        self._left -= 1
        if self._left < 0:
            raise Overload
        check_deadline()


def tables(text: bytes, *, statements: bool, owners: Iterable[int]) -> Iterator[Span]:
    """The values in columns of secrets; whether one of `STATEMENTS` is in the text, and where those of `OWNERS` are."""
    rows = _Rows()
    if statements:
        yield from _inserts(text, rows)
        for match, end in _with_ends(_COPY, text):
            yield from _lines(text, (match.end(), end), _kinds(match[1].split(b",")), b"\t", rows)
    if b"|\n" in text:
        for table, end in _with_ends(_MARKDOWN, text):
            yield from _lines(text, (table.end(), end), _kinds(table[1].split(b"|")), b"|", rows)
    for place in owners:
        if opening := _MAP.match(text, place):
            yield from _pairs(text, opening.end())
    for header in _headers(text):
        names = header[1].strip(b"\r\n").split(header[2])
        yield from _lines(text, (header.end(), len(text)), _kinds(names), header[2], rows)


def _with_ends(header: re.Pattern[bytes], text: bytes) -> Iterator[tuple[re.Match[bytes], int]]:
    """The heads of tables, and where the body of each ends at the latest: where the next one begins."""
    found = list(header.finditer(text))
    return zip(found, [*(match.start() for match in found[1:]), len(text)], strict=False)


def _headers(text: bytes) -> Iterator[re.Match[bytes]]:
    """Lines of names with which the text begins, or a string of it does."""
    if first := _HEADER.match(text):
        yield first
    yield from _LATER_HEADER.finditer(text)


def _pairs(text: bytes, at: int) -> Iterator[Span]:
    """The values of a map from accounts to passwords that look chosen, and not like a role or a name."""
    while pair := _PAIR.match(text, at):
        if is_chosen(pair[1].decode("utf-8", "replace")):
            yield Span(*pair.span(1), "table-column")
        at = pair.end()


def _kinds(names: list[bytes]) -> list[tuple[bytes, Kind]]:
    bare = [name.strip(b" \t\r\n`\"'[]") for name in names[:_MOST_COLUMNS]]
    return [(name, kind_of(name)) for name in bare]


def _inserts(text: bytes, rows: _Rows) -> Iterator[Span]:
    for match in _INSERT.finditer(text):
        columns = _kinds(match[2].split(b",")) if match[2] else []
        accounts = _ACCOUNTS.search(match[1]) is not None
        if not accounts and all(kind is Kind.NONE for _, kind in columns):
            continue
        at = match.end() + 1
        while True:
            rows.take()
            end = yield from _row(text, at, columns, accounts=accounts)
            following = _NEXT.match(text, end) if end else None
            if following is None:
                break
            at = following.end()


def _row(text: bytes, at: int, columns: list[tuple[bytes, Kind]], *, accounts: bool) -> Generator[Span, None, int]:
    """One row of values; returns where it ends, or 0 where it is none."""
    place = 0
    while field := _FIELD.match(text, at):
        group = 1 if field[1] is not None else 2
        value = field[group]
        if value:
            name, kind = columns[place] if place < len(columns) else (b"", Kind.NONE)
            if is_secret(name, kind, value, Form.CERTAIN) or (accounts and _DIGEST.match(value)):
                yield Span(*field.span(group), "table-column")
        place, at = place + 1, field.end()
        if field[4] == b")":
            return at
    return 0


def _lines(
    text: bytes, body: tuple[int, int], columns: list[tuple[bytes, Kind]], separator: bytes, rows: _Rows
) -> Iterator[Span]:
    """The rows below a line of names, as long as they have as many fields, and no further than the string goes."""
    at, limit = body
    if all(kind is Kind.NONE for _, kind in columns):
        return
    while at < limit:
        rows.take()
        end = text.find(b"\n", at, limit)
        line = text[at : end if end >= 0 else limit]
        fields = line.split(separator)
        if len(fields) != len(columns) or line.startswith(_NO_ROW):
            return
        start = at
        for (name, kind), field in zip(columns, fields, strict=True):
            value = field.strip(b" \r\"'`*")
            if is_secret(name, kind, value, Form.CONFIG):
                begin = start + field.find(value)
                yield Span(begin, begin + len(value), "table-column")
            start += len(field) + len(separator)
        at = end + 1 if end >= 0 else limit
