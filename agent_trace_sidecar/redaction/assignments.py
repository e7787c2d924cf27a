"""A secret-like name and its value, in the forms of env, shell, JSON, YAML, XML, PHP, SQL, command lines and code.

One linear pattern finds names with something like a separator behind them; what follows is decided here, on the few
bytes after the name.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from agent_trace_sidecar.redaction.barevalues import Candidate, bare_value, is_alone
from agent_trace_sidecar.redaction.deadline import check_deadline
from agent_trace_sidecar.redaction.names import CORES, Kind, kind_of
from agent_trace_sidecar.redaction.rules import Late, Overload
from agent_trace_sidecar.redaction.spans import Span, reach_back
from agent_trace_sidecar.redaction.values import LONGEST, Form, is_chosen, is_random, is_secret

_CORE: Final = b"(?:" + b"|".join(core.encode() for core in CORES) + b")"
_NAME: Final = rb"[\w.$-]*" + _CORE + "(?:ña)?".encode() + rb"[\w.$-]*"
_OPERATOR: Final = (
    rb"(?:</(?:key|name|param-name)>|[ \t]*>)\s{0,40}<(?:value|string|param-value)(?:[ \t][^<>]{0,40})?>|"
    rb"</[A-Za-z]{1,12}>\s{0,40}<[A-Za-z]{1,12}[ \t]name=[\"'][\w.]{0,20}value[\"']>|"
    rb"[ \t]*\{[ \t]?get;[^{}\n]{0,40}\}[ \t]*=|"
    rb"(?:[ \t]+[\w:-]+=\\*[\"'][^\"'<>]{0,160}\\*[\"'])*[ \t]*>|"
    rb"[ \t]*(?:=>|->|<-)|"
    rb"(?:[ \t]*:[ \t]*[&A-Za-z_][\w<>\[\]?*& |.]{0,24}[ \t]*"
    rb"|[ \t]+[A-Za-z_][\w?*.]{0,24}(?:\(\w{1,5}\)|[ \t]+[A-Za-z]\w{0,15})?[ \t]*)?"
    rb"(?:\[\d*\])?[ \t]*"  # a type, an index, and then
    rb"(?::=|\?=|\|\|=|\+=|={1,3}|!={1,2})"
    rb"|[ \t]*:[ \t]*\{\s{0,20}\\*[\"']value\\*[\"'][ \t]*:|\.equals(?:IgnoreCase)?\("
    rb"|[ \t]*:{1,2}|" + "\N{FULLWIDTH COLON}".encode() + rb""
    rb"|[ \t]*\?[:?][ \t]*|,\\*[\"']value\\*[\"'][ \t]*:|[ \t]*[-|~]+[ \t]*|[ \t]*,|[ \t]*\("
    rb"|[,;]?\\*[ntr]?\s{1,40}[\"']?value\\*[\"']?\s{0,3}[=:]"
    rb"|[ \t]+(?:is|was|to|eq|ne|of)[ \t]|[ \t]+|%3[dD]|&#61;"
)
_CANDIDATE: Final = (
    rb"(?i)((?:\b(?:api|access|secret|private|client|license|auth|shared|signing|encryption)[ \t])?" + _NAME + rb")"
    rb"((?:\(\))?\\*[\"'\x60]?[\])]?)(" + _OPERATOR + rb")[ \t]*(?:\*\*[ \t]+)?"
    rb"(?:[\[({]?[ \t]*(?:new[ \t]+)?"
    rb"(?:(?-i:[A-Z][A-Za-z.]{1,20}|_T|str|bytes|string|bytes\.fromhex|(?:base64\.)?b64decode)\()?"
    rb"(?:\([\w *]{1,16}\))?[@bBrRuUfFLN$]?(\\*(?:\"\"\"|'''|[\"'\x60]))"
    rb"|([^\s\"'\x60\x00\x1e\x1f]))"
)

_FIND: Final = Late(re.sub(rb"(?<!\\)\((?!\?)", b"(?:", _CANDIDATE))
"""The same without groups: RE2 finds several times faster when it need not say what was where."""
_TAKE_APART: Final = re.compile(_CANDIDATE)
_LONGEST_CANDIDATE: Final = 2000

_REVERSED: Final = Late(
    rb"(?i)\\*[\"']([^\"'\r\n\x1e\x1f]{4,300})\\*[\"'][ \t]*(?:[!=]==?|\.equals\()[ \t]*(" + _NAME + rb")"
)

_TYPED: Final = re.compile(rb"[ \t]*:[ \t]*(\w+)[ \t]")
"""What stands where a type would, `password: str = x`; when it is random it is the value, and the rest is another's."""
_COMPARED_TYPE: Final = re.compile(rb"[ \t]+[A-Za-z_].*[!=]=$")
_NAMED_WORD: Final = re.compile(rb"[ \t]+[A-Za-z_][\w?*.]{0,24}[ \t]*=$")
_TYPE_WORD: Final = re.compile(rb"(?i)[ \t]+[\w?*.]*(?:str|text|char|bytes?|type|value|token|key|data)[\w?*.]*[ \t]*=$")
"""What stands between a name and its sign: var password string="x", but not: pass encoding="x"."""
_LABELS: Final = re.compile(
    rb"(?i)(?:label|lang|messages?|msg|texts?|strings?|trans\w*|i18n|l10n|locale|captions?|titles?|helps?)s?\w{0,12}\[\\*[\"']$"
)
"""What is said of a password in every language: $labels['password']."""
_MARKED: Final = re.compile(rb"\d|[^\w\s=-]")
_ONE_WORD: Final = re.compile(rb"[a-z]{6,}$")
_NUMBERED: Final = re.compile(rb"[A-Za-z_.]*\d?[.*$]?$")
_JOINTS: Final = frozenset(b"-|~")
_CALL: Final = re.compile(rb"[(\[][ \t]*(?:\\*[\"'][^\"'\n]{0,60}\\*[\"'][ \t]*,[ \t]*){0,2}\\*[\"']?$")
_WORD: Final = re.compile(rb"[a-z]{4,}$|[A-Za-z]{3,}\d{1,4}$")
_NUMBERED_WORD: Final = re.compile(rb"[A-Za-z]{5,}\d{1,4}$")
_VERB: Final = re.compile(
    rb"(?i)\.?(?:set|check|verify|validate|update|change|with|assert|test|reset)_?[a-z_]*(?:password|passwd|pwd)$"
)
_EQUALS: Final = (b".equals", b".Equals", b".equalsIgnoreCase", b".compareTo")
_LISP: Final = re.compile(rb"\((?:setq|defvar|defparameter|def|define|set!)[ \t]+$")
_TUPLE: Final = re.compile(rb"\{[ \t]*$|\bset[ \t]+:$")
"""Erlang's pairs and Ruby's settings: {db_password, "value"}, set :db_password, "value"."""
_SETTER: Final = re.compile(
    rb"(?i)\.(?:option|property|put|add|set\w*|with\w*|param|header|string(?:var)?)\([ \t]*(?:&\w+,[ \t]*)?\\*[\"']$"
)
"""What is given a name and its value: .option("password", "word")."""
_OWNER: Final = re.compile(rb"(?i)\"(?:jwt\w*|auth\w*|security|encryption|signing|tokens?\w*)\\*\"\s?:\s?\{[^{}]*\Z")
_OWNER_REACH: Final = 160
"""What a key belongs to: "Jwt": {"Issuer": "...", "Key": "..."}."""
_COMPARED: Final = re.compile(rb"(?i)(?:strn?cmp|equals|compare\w*|verify|match\w*)\([ \t]*$")
_ATTRIBUTE: Final = re.compile(rb"[ \t]+(?!value)[A-Za-z_][\w-]*[ \t]*=")
_SAID: Final = re.compile(rb"([A-Za-z]{3,20}) $")
_SAID_REACH: Final = 21
_IS_KEY: Final = re.compile(rb"[ \t]*:[ \t]*\\*[\"'\[{\d]")
_TERNARY: Final = re.compile(rb"\?[ \t]*\\*[\"']$")
_CALL_REACH: Final = 80
_PROSE_NAME: Final = 6
"""A name shorter than this is a word of prose when only a blank or a verb follows it: `pass "this"`."""

MOST_CANDIDATES: Final = 15_000
"""More names with a separator than this in one text are no text that anybody wrote."""


def assignments(text: bytes, stretches: Iterable[tuple[int, int]]) -> Iterator[Span]:
    """Values beside secret-like names that do not look like placeholders, references, code or words."""
    count = 0
    for low, high in stretches:
        at = low
        while place := _FIND.search(text, at, high):
            count += 1
            if count > MOST_CANDIDATES:
                raise Overload
            check_deadline()
            start, at = place.span()
            yield from _candidate(text, start, at)
            at -= _step_back(text, start, at)
        if any(text.find(sign, low, high) >= 0 for sign in (b"==", b"!=", b"equals")):
            yield from _reversed(text, low, high)


def _step_back(text: bytes, start: int, at: int) -> int:
    """How far before the end of a candidate the next may begin: the dash of a flag, or the name in an element."""
    if text[at - 1 : at] == b"-" or text[at - 2 : at - 1] == b">":
        return 1
    return 2 if text[at - 2 : at - 1] == b"-" and at - 2 > start else 0


def _candidate(text: bytes, start: int, end: int) -> Iterator[Span]:
    match = _TAKE_APART.match(text, start, end) if end - start <= _LONGEST_CANDIDATE else None
    if match is not None and match[2][-1:] in {b'"', b"'"} and _ATTRIBUTE.match(match[3]):
        return  # <input id="password" class="wide">
    if match is None or (kind := kind_of(match[1])) is Kind.NONE:
        return
    if _COMPARED_TYPE.match(match[3]) or (_NAMED_WORD.match(match[3]) and not _TYPE_WORD.match(match[3])):
        return
    if kind is Kind.KEY and _is_qualified(text, start, match[1]):
        return
    if kind is Kind.KEY and _OWNER.search(text, reach_back(text, start, _OWNER_REACH), start):
        kind = Kind.TOKEN
    found = Candidate(kind, match[1], match[2], match[3], start)
    if (typed := _TYPED.match(match[3])) and is_random(typed[1].decode(), least=8):
        yield from bare_value(text, found._replace(operator=b": "), match.start(3) + typed.start(1))
        return
    if match[4] is not None:
        yield from _quoted(text, found, match[4], match.end(4))
    else:
        yield from bare_value(text, found, match.start(5))


def _is_qualified(text: bytes, start: int, name: bytes) -> bool:
    """Whether the word before a key says that it opens nothing: `cache key`."""
    said = _SAID.search(text, reach_back(text, start, _SAID_REACH), start)
    return said is not None and kind_of(said[1] + b"_" + name) is Kind.NONE


def _reversed(text: bytes, low: int, high: int) -> Iterator[Span]:
    """The value first: "hunter2" == password."""
    for match in _REVERSED.finditer(text, low, high):
        if is_secret(match.group(2), kind_of(match.group(2)), match.group(1), Form.QUOTED):
            yield Span(match.start(1), match.end(1), "assignment")


def _quoted(text: bytes, found: Candidate, opening: bytes, start: int) -> Iterator[Span]:
    end = _closing(text, start, opening)
    if end < 0:
        return
    value = text[start:end]
    sign = found.operator.strip()
    if _is_whole(text, found, opening) or _LABELS.search(text, reach_back(text, found.begin, _CALL_REACH), found.begin):
        return
    prose = not sign or sign.isalpha()
    if prose and (len(found.name) < _PROSE_NAME or (opening.endswith(b"`") and not _is_said(found, value))):
        return
    if (
        not sign
        and not opening.endswith(b"`")
        and not _MARKED.search(value)
        and not _is_line(text, found.begin, end + len(opening))
    ):
        return
    asked = found.quote[-1:] in {b")", b"]"} or b"env." in found.name.lower()
    default = asked and sign in {b"||", b"?:", b"??"}  # getenv("PASSWORD") ?: "value"
    if sign and not default and _JOINTS.issuperset(sign) and not is_random(value.decode("utf-8", "replace"), least=12):
        return
    member = not sign.endswith(b":") or not _is_no_member(text, found, end + len(opening))
    if not member or (sign in {b",", b"("} and not _is_argument(text, found, sign, value)):
        return
    if is_secret(found.name, found.kind, value, _form(text, found, opening, end)):
        yield Span(start, end, "assignment")


def _is_said(found: Candidate, value: bytes) -> bool:
    """Whether prose gives a password in the marks of code: sign in with the password `value`."""
    return found.kind is Kind.PASSWORD and is_chosen(value.decode("utf-8", "replace"))


def _is_whole(text: bytes, found: Candidate, opening: bytes) -> bool:
    """Whether the quote ends a string that is a name and a sign, and begins none: url + "&apiKey=" + key."""
    before = text[found.begin - 1 : found.begin]
    return (
        found.operator == b"="
        and not found.quote
        and before == opening
        and text[found.begin - 2 : found.begin - 1] != b"="
    )


def _is_no_member(text: bytes, found: Candidate, end: int) -> bool:
    """Whether what stands around a colon is no member: {"password": {"type": 1}}, or ok ? "PASS" : "FAIL"."""
    chosen = found.quote and _TERNARY.search(text, reach_back(text, found.begin, _CALL_REACH), found.begin)
    return bool(chosen) or _IS_KEY.match(text, end) is not None


def _is_line(text: bytes, begin: int, end: int) -> bool:
    """Whether name and value are all that stands on their line, or a definition in Lisp."""
    if _LISP.search(text, reach_back(text, begin, _SAID_REACH), begin):
        return True
    return is_alone(text, begin) and not text[end : end + 40].split(b"\n", 1)[0].strip(b" \t\r;,")


def _form(text: bytes, found: Candidate, opening: bytes, end: int) -> Form:
    """Whether a quoted value is a member of JSON or a setting of the shell, and not a literal in code."""
    if found.quote[-1:] in {b'"', b"'"} and b":" in found.operator:
        return Form.CONFIG if opening.endswith(b'"') else Form.QUOTED
    after = end + len(opening)
    ends = not text[after : after + 40].split(b"\n", 1)[0].strip()
    setting = found.operator in {b"=", b":"} and found.name.isupper() and ends and is_alone(text, found.begin)
    return Form.CONFIG if setting else Form.QUOTED


def _is_argument(text: bytes, found: Candidate, sign: bytes, value: bytes) -> bool:
    """Whether name and value are the arguments of one call, as in env("NAME", "value"), and not two words of a list."""
    begin, name, quote = found.begin, found.name, found.quote
    if sign == b"," and _COMPARED.search(text, reach_back(text, begin, _CALL_REACH), begin):
        return True  # strcmp(password, "value")
    if sign == b",":
        before = text[reach_back(text, begin, _CALL_REACH) : begin]
        if _TUPLE.search(before) or (found.kind is Kind.PASSWORD and _SETTER.search(before) and _WORD.match(value)):
            return True
        if not _CALL.search(before) and not before.rstrip().endswith((b"(", b"[")) and b"()" not in quote:
            return False
        if name.isupper() and len(name) >= _PROSE_NAME:
            return True  # setdefault("DB_PASSWORD", "word")
    if sign == b"(" and _sets(text, found, value):
        return True
    return _MARKED.search(value) is not None and (not _NUMBERED.match(value) or is_random(value.decode(), least=12))


def _sets(text: bytes, found: Candidate, value: bytes) -> bool:
    """Whether a call takes a password and nothing else: .password("word"), check_password("word1")."""
    if found.name.endswith(_EQUALS) and found.kind is Kind.PASSWORD:
        return True
    if text[found.begin : found.begin + 1] == b"." and _ONE_WORD.match(value):
        return True
    return found.kind is Kind.PASSWORD and bool(_VERB.match(found.name)) and bool(_NUMBERED_WORD.match(value))


def _closing(text: bytes, start: int, opening: bytes) -> int:
    """Where the string that `opening` began ends, on its line, or -1."""
    limit = min(len(text), start + LONGEST)
    line_end = text.find(b"\n", start, limit)
    limit = line_end if line_end >= 0 else limit
    at = text.find(opening, start, limit)
    while at > start and not opening.startswith(b"\\") and _is_escaped(text, at):
        at = text.find(opening, at + 1, limit)
    return at


def _is_escaped(text: bytes, at: int) -> bool:
    return text[at - 1 : at] == b"\\" and text[at - 2 : at - 1] != b"\\"
