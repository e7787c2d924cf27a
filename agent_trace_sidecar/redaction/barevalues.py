"""Values without quotes behind a secret-like name: settings, shell, YAML, URLs, XML, command lines, or just code.

In code what stands there is an expression; only where the line says that it is a setting, the value is literal.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from agent_trace_sidecar.redaction.names import Kind
from agent_trace_sidecar.redaction.spans import Span, reach_back
from agent_trace_sidecar.redaction.values import LONGEST, Form, is_chosen, is_random, is_secret, is_segmented


class Candidate(NamedTuple):
    """A name with something like a separator behind it."""

    kind: Kind
    name: bytes
    quote: bytes
    """The closing quote or bracket between name and separator."""
    operator: bytes
    begin: int
    """Where the name begins in the text."""


_LEAD: Final = re.compile(
    rb"[ \t]*(?:[+\-<>|][ \t]*)?(?:\d+[:|\t][ \t]?|L?\d+:[ \t])?[+\-<>|#;/*]*[ \t]*"
    rb"(?:export[ \t]+|set(?:[ \t]+-\w+)*[ \t]+|setx[ \t]+|setenv[ \t]+|ENV[ \t]+|ARG[ \t]+|declare[ \t]+-\w[ \t]+"
    rb"|\#[ \t]*define[ \t]+|-[ \t]+|\$env:|\$|:|\\*[\"'])*$"
)
"""What may stand before a setting on its line: diff marks, line numbers, comment signs, `export`."""
_SETS: Final = re.compile(rb"(?m)(?:^|\s)(?:ENV|ARG|setx|setenv|set[ \t]+-\w*x\w*)\s+$")
_PROSE: Final = re.compile(
    rb"(?:[a-z]+[.,;:)]+(?:</\w+>)?|[A-Z_]+[\])}.,|]*$|(?:an?|the|is|was|are|to|and|or|of|for|with|if|in|on|when|from|as|can|must|will|not|it|"
    rb"that|this|by|at|be|file|flag|flags|option|options|argument|arguments|parameter|switch|value|values|string|text|"
    rb"token|password|stdin|prompt|field|instead|should|may|only|use|used|using|takes|sets|has|does)\b.*)$"
)
"""What follows a flag where it is spoken of: `use --password to log in`, `--token TOKEN`."""
_CODE_TAIL: Final = re.compile(rb"[A-Za-z_][\w.]*(?:\)+[):;,]*|:|\}+[.,])$")
_SYMBOLS: Final = re.compile(rb"[!@#%^&{}~?|;$]|\d[a-zA-Z]|[a-zA-Z]\d")
_MIXED: Final = re.compile(rb"(?=[^ ]*[A-Za-z])(?=[^ ]*[\d!#$%^&*@])[^\s()\[\]{}<>=,;\"']{6,}$")
_LITERAL: Final = re.compile(rb"[^\s()\[\]{}<>=,;\"':]{4,}$")
_USER_ABOVE: Final = re.compile(rb"(?m)^[ \t]*(?:user(?:name)?|login|account|from)[ \t]+\S+[ \t\r]*\n[ \t]*\Z")
"""user bob, and on the next line: password word."""
_GIVES: Final = re.compile(
    rb"--(?:from-literal|set|set-string|build-arg|env)[= ]$|\bvault[ ](?:kv[ ]put|write)[ ]\S+[ ](?:\S+=\S+[ ])*$"
)
"""What hands a pair to a program."""
_CONNECTS: Final = re.compile(rb"(?i)[\"'\s](?:user|username|uid|host|hostaddr|dbname|port)=[^\s\"'(){},]+[ \t]+$")
_PAIRS: Final = re.compile(rb"(?:^|\s)\w+=\S+\s")
_CODE: Final = re.compile(
    rb"![A-Za-z_][\w.]*(?:\(\))?[;)\],]*$|[A-Za-z_][\w:]*<[\w:, *&]+>[\s({;]*$|[A-Z]\w*<[A-Z]\w*,$"
)
"""What can only be an expression or a type: `!req.headers.authorization;`, `Base<Pass>`."""
_INI: Final = re.compile(rb"[+\- ]?(?:\[[\w. :/-]+\]|[A-Za-z][\w.-]* = [^\"'()\[\]{};=]+)\r?$")
_SECTION: Final = re.compile(rb"(?m)^\[[\w. :/-]+\]\r?\n(?:[ \t]+[A-Za-z][\w.-]* = [^\"'()\[\]{};=\n]+\n)*\Z")
"""Above an indented setting: the head of its section, and other settings."""
_INDENTED: Final = re.compile(rb"[+\-]?[ \t]")
_CALLED: Final = re.compile(rb"[A-Za-z_][\w.:]*[?!]?(?:\(|\[|\{|->)")
_VALUE: Final = re.compile(rb"(?:[^\s\\\"'\x60\x00\x1e\x1f]|\\(?![nrt\"'u]))+")
_URL_VALUE: Final = re.compile(rb"[^\s&\\\"'\x60<>#;,)\x1e\x1f]+")
_TOKEN: Final = re.compile(rb"[A-Za-z0-9+/=_.~-]*\d[A-Za-z0-9+/=_.~-]*$")
_TROFF: Final = re.compile(rb"\\f[A-Z]")
_TYPE: Final = re.compile(
    rb"[&*?]{0,2}(?:[A-Za-z_$][A-Za-z_$.]*(?:::[A-Za-z_$.]+)*(?:<|\[\]|\[[\"'A-Z]|[;?]+$)|\[[&\w]+\],?$|[&?][A-Za-z_]\w*,?$|[a-z]\w*\.[A-Z]\w*;?$)"
)
"""What stands behind a colon in code: Option<str>, &Secrets, string;."""
_EXPRESSION: Final = re.compile(
    rb"!!?\(|!!\w|[a-z-]+\{[a-z-]+:|\d\*\(|![01][,;)]|&[A-Za-z_][\w.]*\{|(?:[A-Z]\w{4,}|[a-z]+[A-Z]\w+)\{|[+-]?[A-Za-z_$][\w$]*(?:\.[A-Za-z_$][\w$]*)+\(|"
    rb"\[\][\w.]+\{|\?[A-Z_]+\(|\(?#[a-z_]+\{|\w+/binary|@{1,2}[a-z_]+(?:\.[a-z_]+[?!]?)*(?:[\[(),;].*)?$|[*&\[\]]*(?:u?int|float|complex)\d{1,3}[,;)]?$|[\w$]+\$jscomp\$|"
    rb"[A-Za-z_$]\w*=(?:void|new|null|this|function)\b|"
    rb"\([A-Z]\w*\||[A-Za-z_$][\w$]*(?:\??\.[A-Za-z_$][\w$]*)+[=;),\[({?]"
)
_OWN: Final = (b"this.", b"self.")
"""What is given to a field without quotes is an expression."""
_MORE: Final = re.compile(rb"&[\w.-]{1,40}=")
"""Behind a value that is sent as a form's."""
_IDENTIFIER: Final = re.compile(rb"[a-z]+(?:[A-Z][a-z0-9]*)+[,;]?$")
_MEMBER: Final = re.compile(rb"[a-z]+(?:[A-Z][a-z0-9]*)+,$")
"""A variable, as a member of an object has it."""
_SPOKEN: Final = re.compile(rb"(?i)password|passwd|secret|token|pwd|key")
_TYPED: Final = re.compile(rb"(?:[A-Z][a-z]+)+[A-Z]?\d*,$")
"""A type in mixed case, as a field of a struct has it."""
_NAME_TAIL: Final = re.compile(rb"[A-Z.)\[$]|_[a-z_]+(?:$|\W)")
_FIELDS: Final = re.compile(rb"[A-Za-z_$][\w$]*(?:\??\.[A-Za-z_$][\w$]*)+$")
_ARN: Final = re.compile(rb"\barn:[\w:*-]*$")
"""Before a kind of resource: arn:aws:secretsmanager:region:account:secret:name."""
_COLON: Final = (b":", b"::")
_COMPARES: Final = frozenset((b"==", b"===", b"!=", b"!=="))
_ELEMENT: Final = re.compile(rb"(?i)</?(?:[\w-]+:)?$|\b(?:name|key|id|property|param)\s?=\s?\\*[\"']$")
_ANCHOR: Final = re.compile(rb"(?i)<(?:h\d|a|span|div|section|li|dt|dd|p|td)\s[^<>]*$")
"""A place in a page that is named: <h2 id="password">Heading."""
_ATTRIBUTE_REACH: Final = 24
_NAMED: Final = re.compile(rb"[A-Za-z_$][\w$]*\s*[.(\[,;})<\n]")
_KEY: Final = re.compile(rb"[A-Za-z0-9+/=_.~-]+[;,)}\]]*$")
_DENSE: Final = 600
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
    return _LEAD.match(text, _line_start(text, begin), begin) is not None


def bare_value(text: bytes, found: Candidate, start: int) -> Iterator[Span]:
    """The value that begins at `start`, when it is a secret."""
    sign = found.operator.strip()
    if text[found.begin - 5 : found.begin] == b".svg?":
        return  # a badge's token is there to be shown
    if text[found.begin - 1 : found.begin] in {b"?", b"&"} and sign == b"=":
        match = _URL_VALUE.match(text, start, start + _LONGEST_BARE)
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
    if b"&" in value and sign == b"=" and (more := _MORE.search(value)):
        ends = start + more.start(), ends[1]
        value = text[start : ends[0]]
    if _is_code(text, found, start, value):
        return
    if is_secret(found.name, found.kind, value, ends[1]):
        is_member = found.quote.endswith(b'"') and b":" in sign
        yield Span(start, ends[0], "assignment", quote=found.quote if is_member else b"")


def _is_code(text: bytes, found: Candidate, start: int, value: bytes) -> bool:
    """Whether a value without quotes is an expression, a type, a resource's name or a part of man's markup."""
    sign, before = found.operator.strip(), text[found.begin - 1 : found.begin]
    if _is_name_of(found, value) or _is_of_path(text, found, sign):
        return True
    if (sign == b"::" and not text[start - 1 : start].isspace()) or (before != b";" and _EXPRESSION.match(value)):
        return True  # std::pin::Pin
    if sign == b":" and _ARN.search(text, reach_back(text, found.begin, _REST), found.begin):
        return True
    if not sign.endswith(b">") and (_TROFF.search(value) or (sign.endswith(_COLON) and _TYPE.match(value))):
        return True
    if sign == b":" and not found.quote and _TYPED.match(value):
        return True
    return (sign in _COMPARES or _is_dense(text, found.begin, start + len(value))) and not _is_key(value)


def _is_of_path(text: bytes, found: Candidate, sign: bytes) -> bool:
    """Whether the name is the last part of a path, behind which its digest stands: /etc/passwd: 429b22."""
    before = text[found.begin - 2 : found.begin]
    return sign in {b":", b""} and before[1:] == b"/" and before[:1].isalnum()


def _is_name_of(found: Candidate, value: bytes) -> bool:
    """Whether a value is the name again, or a field or a variable that is called like it."""
    word, name = value.rstrip(_CLOSERS), found.name.rpartition(b".")[2].lstrip(b"$@-")
    if _MEMBER.match(value) and found.operator.strip() == b":" and not found.quote:
        return True
    if _IDENTIFIER.match(value) and _SPOKEN.search(value):
        return True
    if word.lower().startswith(name.lower()):
        return _NAME_TAIL.match(word, len(name)) is not None
    if word.lower().endswith(name.lower()) and word[-len(name) : -len(name) + 1].isupper() and _IDENTIFIER.match(word):
        return True
    if word.endswith(b"_" + name):
        return True
    return word.endswith(b"." + name) and _FIELDS.match(word) is not None


def _of_element(text: bytes, found: Candidate, sign: bytes, start: int) -> tuple[int, Form] | None:
    """<password>value</password>."""
    end, begin = text.find(b"<", start, start + LONGEST), found.begin
    if sign.startswith((b"=", b"-")) or end < 0 or b"\n" in text[start:end]:
        return None
    before = text[reach_back(text, begin, _ATTRIBUTE_REACH) : begin]
    if not sign.startswith(b"</") and (not _ELEMENT.search(before) or _ANCHOR.search(before)):
        return None
    return end, Form.CONFIG


def _of_command(text: bytes, found: Candidate, start: int) -> tuple[int, Form] | None:
    """--password value, ENV NAME value, `the password is value`."""
    match = _VALUE.match(text, start, start + _LONGEST_BARE)
    begin = found.begin
    flag = found.name.startswith(b"-") and text[begin - 1 : begin] in _BEFORE_FLAG
    literal = flag or _SETS.search(text, _line_start(text, begin), begin) is not None
    if match is None or (found.operator.strip() in _AIMS and len(found.name) < _PROSE_NAME):
        return None
    if not literal and not found.operator.strip():
        return _of_line(text, found, start, match.end())
    if flag and len(found.operator) > 1:
        return None  # what stands in a column of its own explains the flag
    if flag and _is_shouted(text[start : match.end()]):
        return None  # --password PASSWORD, in any alphabet
    if text[start : start + 1] == b"-" or _PROSE.match(text, start, match.end()):
        return None
    return match.end(), Form.CONFIG if literal else Form.BARE


def _is_shouted(value: bytes) -> bool:
    word = value.decode("utf-8", "replace")
    return word.isalpha() and word.isupper()


def _of_line(text: bytes, found: Candidate, start: int, end: int) -> tuple[int, Form] | None:
    """`password value` on a line of its own; a heading reads the same, so a word is no value."""
    if _rest_of_line(text, end) or not is_alone(text, found.begin):
        return None
    said = b"." in found.name.strip(b".") or _USER_ABOVE.search(text, reach_back(text, found.begin, _REST), found.begin)
    if said and found.name.islower():
        return (end, Form.CONFIG) if _LITERAL.match(text, start, end) else None
    if not _SYMBOLS.search(text, start, end):
        return None
    return (end, Form.CONFIG) if _MIXED.match(text, start, end) else None


def _of_setting(  # noqa: PLR0911 - one return per form
    text: bytes, found: Candidate, sign: bytes, start: int
) -> tuple[int, Form] | None:
    """NAME=value, name: value."""
    match = _VALUE.match(text, start, start + _LONGEST_BARE)
    if (
        match is None
        or sign in {b",", b"("}
        or (b" " in found.operator and found.name.startswith(_OWN))
        or _CODE_TAIL.match(text, start, match.end())
    ):
        return None
    end = match.end()
    stripped = start + len(text[start:end].rstrip(_CLOSERS))
    if sign.startswith(b"--"):
        return None
    if sign in {b"-", b"|", b"~"}:
        return _of_joint(text, found, start, end)
    if _CODE.match(text, start, end) or (found.quote == b"]" and text[found.begin - 1 : found.begin] == b"["):
        return None
    member = (found.quote.endswith(b'"') and b":" in sign) or sign.startswith((b"value", b",", b";"))
    if (
        member
        and not sign.startswith((b"value", b",", b";"))
        and not _is_key(text[start:stripped])
        and _NAMED.match(text, start)
    ):
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
    marked = _SYMBOLS.search(text, start, stripped) is not None
    whole = (
        not rest
        or rest.startswith((b"#", b"//", b"*/", b"-->"))
        or (marked and rest.rstrip(b",") in {b'"', b"'", b"`"})
    )
    words = spaced and sign != b":" and not marked and not _is_ini(text, found.begin, end)
    open_ended = text[end - 1 : end] in {b",", b"[", b"(", b"{", b"|"} and not marked
    if not whole or words or open_ended or not is_alone(text, found.begin) or _CALLED.match(text, start, end):
        return stripped, Form.BARE
    return (stripped if spaced else end), Form.CONFIG


def _of_joint(text: bytes, found: Candidate, start: int, end: int) -> tuple[int, Form] | None:
    """NAME - value: a list or a table reads the same, so the value must be random, or chosen and all there is."""
    if found.kind is Kind.PASSWORD and found.operator.endswith(b" ") and is_alone(text, found.begin):
        word = text[start:end].decode("utf-8", "replace")
        return (end, Form.CONFIG) if is_chosen(word) and not _rest_of_line(text, end) else None
    stripped = start + len(text[start:end].rstrip(_CLOSERS))
    value = text[start:stripped].decode("utf-8", "replace")
    if not _TOKEN.match(text, start, stripped) or "." in value:
        return None
    return (stripped, Form.BARE) if is_random(value, least=12) and not is_segmented(value) else None


def _is_dense(text: bytes, begin: int, end: int) -> bool:
    """Whether a setting stands in the middle of a line that nobody typed."""
    before, after = text.rfind(b"\n", max(0, begin - _DENSE), begin), text.find(b"\n", end, end + _DENSE)
    return (before < 0 and begin > _DENSE) or (after < 0 and len(text) - end > _DENSE)


def _is_key(value: bytes) -> bool:
    """Whether a value is one run of characters, drawn at random."""
    return _KEY.match(value) is not None and is_random(value.rstrip(_CLOSERS).decode("utf-8", "replace"), least=8)


def _is_ini(text: bytes, begin: int, end: int) -> bool:
    """Whether a setting with blanks around its sign stands among others, or in a section, and not among code."""
    start = _line_start(text, begin)
    if _INDENTED.match(text, start):
        return _SECTION.search(text, reach_back(text, start, 3 * _REST), start) is not None
    before = text[max(0, start - _REST) : max(0, start - 1)].rpartition(b"\n")[2]
    after = text[end : end + 2 * _REST].partition(b"\n")[2].partition(b"\n")[0]
    return any(_INI.match(line) for line in (before, after))


def _is_shell(text: bytes, found: Candidate, end: int) -> bool:
    """Whether NAME=value stands in a command: as a variable, behind a dash, or among other pairs without commas."""
    begin = found.begin
    before = text[begin - 1 : begin]
    if before == b"-" or found.name.startswith(b"-"):
        return True
    if before not in {b" ", b"\t", b"", b"="}:
        return False
    line = text[_line_start(text, begin) : begin]
    if _GIVES.search(line):
        return True
    if found.name.isupper():
        return not line.rstrip().endswith((b",", b"(", b"[", b"{"))
    if _CONNECTS.search(line):
        return True
    rest = text[end : end + _REST].split(b"\n", 1)[0]
    return _PAIRS.search(line + b" ") is not None and not any(sign in line + rest for sign in (b",", b"(", b"{", b"["))


def _rest_of_line(text: bytes, end: int) -> bytes:
    line_end = text.find(b"\n", end, end + _REST)
    return text[end : line_end if line_end >= 0 else end + _REST].strip()


def _line_start(text: bytes, at: int) -> int:
    return text.rfind(b"\n", max(0, at - LONGEST), at) + 1 or max(0, at - LONGEST)
