"""Values without quotes behind a secret-like name: settings, shell, YAML, URLs, XML, command lines, or just code.

In code what stands there is an expression; only where the line is a setting, the value is literal.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from agent_trace_sidecar.redaction.judge import LONGEST, Form, is_secret
from agent_trace_sidecar.redaction.names import Kind
from agent_trace_sidecar.redaction.rules import Gates
from agent_trace_sidecar.redaction.spans import Span, reach_back

G: Final = Gates("bare_values")


class Candidate(NamedTuple):
    """A name with something like a separator behind it."""

    kind: Kind
    name: bytes
    quote: bytes
    """The closing quote or bracket between name and separator."""
    operator: bytes
    begin: int
    """Where the name begins in the text."""


_OWN: Final = (b"this.", b"self.")
"""What is given to a field without quotes is an expression."""
_COLON: Final = (b":", b"::")
_COMPARES: Final = frozenset((b"==", b"===", b"!=", b"!=="))
_ATTRIBUTE_REACH: Final = 24
_LINE_REACH: Final = 600
"""A line longer than this is no setting: minified code, or data."""
_PROSE_NAME: Final = 6
_AIMS: Final = frozenset((b"to", b"of"))
"""What we pass to it."""
_LONGEST_BARE: Final = 1024
_BEFORE_FLAG: Final = frozenset((b"", b" ", b"\t", b"\n", b"'", b'"', b"`", b"[", b"(", b","))
_CLOSERS: Final = b",;)]}"
_REST: Final = 80


def is_alone(text: bytes, begin: int) -> bool:
    """Whether a name begins its line, but for marks."""
    return G.lead.match(text, _line_start(text, begin), begin) is not None


def bare_value(text: bytes, found: Candidate, start: int) -> Iterator[Span]:
    """The value that begins at `start`, when it is a secret."""
    sign = found.operator.strip()
    if text[found.begin - 1 : found.begin] in {b"?", b"&"} and sign == b"=":
        match = G.url_value.match(text, start, start + _LONGEST_BARE)
        ends = (match.end(), Form.QUOTED) if match else None
    elif sign.endswith(b">"):
        ends = _of_element(text, found, sign, start)
    elif not sign or sign.isalpha():
        ends = _of_command(text, found, start)
    else:
        ends = _of_setting(text, found, sign, start)
    if ends is None or ends[0] - start >= _LONGEST_BARE:
        return
    value = text[start : ends[0]]
    if b"&" in value and sign == b"=" and (more := G.more.search(value)):
        ends = start + more.start(), ends[1]
        value = text[start : ends[0]]
    if _is_code(text, found, value):
        return
    if is_secret(found.name, found.kind, value, ends[1]):
        is_member = found.quote.endswith(b'"') and b":" in sign
        yield Span(start, ends[0], "assignment", quote=found.quote if is_member else b"")


def _is_code(text: bytes, found: Candidate, value: bytes) -> bool:
    """Whether a value without quotes is an expression, a type, or a part of man's markup."""
    sign = found.operator.strip()
    if _is_name_of(found, value) or (not sign.endswith(b">") and G.troff.search(value)):
        return True
    if G.expression.match(value) and (text[found.begin - 1 : found.begin] != b";" or b"." in found.name):
        return True
    if sign.endswith(_COLON) and (G.type.match(value) or (not found.quote and G.typed.match(value))):
        return True
    return sign in _COMPARES


def _is_name_of(found: Candidate, value: bytes) -> bool:
    """Whether a value is the name again, or a field or a variable that is called like it."""
    word, name = value.rstrip(_CLOSERS), found.name.rpartition(b".")[2].lstrip(b"$@-")
    if G.member.match(value) and found.operator.strip() == b":" and not found.quote:
        return True
    if G.identifier.match(value) and G.spoken.search(value):
        return True
    if word.lower().startswith(name.lower()):
        return G.name_tail.match(word, len(name)) is not None
    if word.lower().endswith(name.lower()) and word[-len(name) : -len(name) + 1].isupper() and G.identifier.match(word):
        return True
    if word.endswith(b"_" + name):
        return True
    return word.endswith(b"." + name) and G.fields.match(word) is not None


def _of_element(text: bytes, found: Candidate, sign: bytes, start: int) -> tuple[int, Form] | None:
    """<password>value</password>."""
    end, begin = text.find(b"<", start, start + LONGEST), found.begin
    if sign.startswith((b"=", b"-")) or end < 0 or b"\n" in text[start:end]:
        return None
    before = text[reach_back(text, begin, _ATTRIBUTE_REACH) : begin]
    if not sign.startswith(b"</") and (not G.element.search(before) or G.anchor.search(before)):
        return None
    return end, Form.CONFIG


def _of_command(text: bytes, found: Candidate, start: int) -> tuple[int, Form] | None:
    """--password value, ENV NAME value, `the password is value`."""
    match = G.value.match(text, start, start + _LONGEST_BARE)
    begin = found.begin
    flag = found.name.startswith(b"-") and text[begin - 1 : begin] in _BEFORE_FLAG
    literal = flag or G.sets.search(text, _line_start(text, begin), begin) is not None
    if match is None or (found.operator.strip() in _AIMS and len(found.name) < _PROSE_NAME):
        return None
    if not literal and not found.operator.strip():
        return _of_line(text, found, start, match.end())
    if flag and len(found.operator) > 1:
        return None  # what stands in a column of its own explains the flag
    if text[start : start + 1] == b"-" or G.prose.match(text, start, match.end()) or G.sentence.match(text, start):
        return None
    return match.end(), Form.CONFIG if literal else Form.BARE


def _of_line(text: bytes, found: Candidate, start: int, end: int) -> tuple[int, Form] | None:
    """`password value` on a line of its own; a heading reads the same, so a word is no value."""
    if _rest_of_line(text, end) or not is_alone(text, found.begin):
        return None
    said = b"." in found.name.strip(b".") or G.user_above.search(
        text, reach_back(text, found.begin, _REST), found.begin
    )
    if said and found.name.islower():
        return (end, Form.CONFIG) if G.literal.match(text, start, end) else None
    if not G.symbols.search(text, start, end):
        return None
    return (end, Form.CONFIG) if G.mixed.match(text, start, end) else None


def _of_setting(  # noqa: PLR0911 - one return per form
    text: bytes, found: Candidate, sign: bytes, start: int
) -> tuple[int, Form] | None:
    """NAME=value, name: value."""
    match = G.value.match(text, start, start + _LONGEST_BARE)
    if (
        match is None
        or sign in {b",", b"("}
        or (b" " in found.operator and found.name.startswith(_OWN))
        or G.code_tail.match(text, start, match.end())
    ):
        return None
    end = match.end()
    stripped = start + len(text[start:end].rstrip(_CLOSERS))
    if sign[:1] in {b"-", b"|", b"~"}:
        return None
    if G.code.match(text, start, end) or (found.quote == b"]" and text[found.begin - 1 : found.begin] == b"["):
        return None
    member = (found.quote.endswith(b'"') and b":" in sign) or sign.startswith((b"value", b",", b";"))
    if member and not sign.startswith((b"value", b",", b";")) and G.named.match(text, start):
        return None  # an expression in code: what JSON has without quotes is no word
    if member or text[found.begin - 1 : found.begin] == b";":
        return stripped, Form.CONFIG
    spaced = b" " in found.operator
    rest = _rest_of_line(text, end)
    if (
        sign == b"="
        and not spaced
        and text[end : end + 1] in {b" ", b"\t", b"\n", b"", b'"', b"'"}
        and _is_shell(text, found, end)
    ):
        return end, Form.CONFIG
    marked = G.symbols.search(text, start, stripped) is not None
    whole = (
        not rest
        or rest.startswith((b"#", b"//", b"*/", b"-->"))
        or (marked and rest.rstrip(b",") in {b'"', b"'", b"`"})
    )
    words = spaced and sign != b":" and not marked and not _is_ini(text, found.begin, end)
    open_ended = text[end - 1 : end] in {b",", b"[", b"(", b"{", b"|"} and not marked
    if not whole or words or open_ended or not is_alone(text, found.begin) or G.called.match(text, start, end):
        return stripped, Form.BARE
    return (stripped if spaced else end), Form.CONFIG


def _is_ini(text: bytes, begin: int, end: int) -> bool:
    """Whether a setting with blanks around its sign stands among others, or in a section, and not among code."""
    start = _line_start(text, begin)
    if G.indented.match(text, start):
        return G.section.search(text, reach_back(text, start, 3 * _REST), start) is not None
    before = text[reach_back(text, start, _REST) : max(0, start - 1)].rpartition(b"\n")[2]
    after = text[end : end + 2 * _REST].partition(b"\n")[2].partition(b"\n")[0]
    return any(G.ini.match(line) for line in (before, after))


def _is_shell(text: bytes, found: Candidate, end: int) -> bool:
    """Whether NAME=value stands in a command: as a variable, behind a dash, or among other pairs without commas."""
    begin = found.begin
    before = text[begin - 1 : begin]
    if before == b"-" or found.name.startswith(b"-"):
        return True
    if before not in {b" ", b"\t", b"\n", b"", b"="}:
        return False
    line = text[_line_start(text, begin) : begin]
    if G.gives.search(line):
        return True
    if found.name.isupper():
        return not line.rstrip().endswith((b",", b"(", b"[", b"{"))
    if G.connects.search(line):
        return True
    rest = text[end : end + _REST].split(b"\n", 1)[0]
    return G.pairs.search(line + b" ") is not None and not any(sign in line + rest for sign in (b",", b"(", b"{", b"["))


def _rest_of_line(text: bytes, end: int) -> bytes:
    line_end = text.find(b"\n", end, end + _REST)
    return text[end : line_end if line_end >= 0 else end + _REST].strip()


def _line_start(text: bytes, at: int) -> int:
    return text.rfind(b"\n", max(0, at - _LINE_REACH), at) + 1 or max(0, at - _LINE_REACH)
