"""A secret-like name and its value, in the forms of env, shell, JSON, YAML, XML, PHP, SQL, command lines and code.

One linear pattern finds names with something like a separator behind them; what follows is decided here, on the few
bytes after the name.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from agent_trace_sidecar.redaction.names import CORES, Kind, kind_of
from agent_trace_sidecar.redaction.spans import Span
from agent_trace_sidecar.redaction.rules import Overload, compiled
from agent_trace_sidecar.redaction.values import LONGEST, Form, is_secret

_CORE: Final = b"(?:" + b"|".join(core.encode() for core in CORES) + b")"
_NAME: Final = rb"[\w.$-]*" + _CORE + rb"[\w.$-]*"
_OPERATOR: Final = (
    rb"(?:[ \t]+[\w:-]+=\\*[\"'][^\"'<>]{0,40}\\*[\"'])*[ \t]*>|"
    rb"[ \t]*(?:=>|->|<-)|"
    rb"(?:[ \t]*(?::[ \t]*)?[&A-Za-z_][\w<>\[\]?*& |.]{0,24}[ \t]*)?(?:\[\d*\])?[ \t]*(?::=|\?=|\|\|=|\+=|={1,3}|!={1,2})"  # typed, then =
    rb"|[ \t]*:{1,2}"
    rb"|[ \t]*,|[ \t]*\("
    rb"|[,;]?\\*[ntr]?\s{1,40}[\"']?value\\*[\"']?\s{0,3}[=:]|[ \t]+(?:is|was|to|eq|ne|of)[ \t]|[ \t]+|%3[dD]|&#61;"
)
_CANDIDATE: Final = compiled(
    rb"(?i)((?:\b(?:api|access|secret|private|client|license|auth)[ \t])?" + _NAME + rb")"
    rb"(\\*[\"'\x60]?[\])]?)(" + _OPERATOR + rb")[ \t]*"
    rb"(?:[\[({]?[ \t]*(?:new[ \t]+)?(?:(?-i:[A-Z][A-Za-z.]{1,20}|str|bytes|string|bytes\.fromhex|(?:base64\.)?b64decode)\()?(?:\([\w *]{1,16}\))?[@bBrRuUfFLN$]?(\\*(?:\"\"\"|'''|[\"'\x60]))|([^\s\"'\x60\x1e\x1f]))"
)

_REVERSED: Final = compiled(
    rb"(?i)\\*[\"']([^\"'\r\n\x1e\x1f]{4,300})\\*[\"'][ \t]*(?:[!=]==?|\.equals\()[ \t]*(" + _NAME + rb")"
)

_LEAD: Final = re.compile(
    rb"^[ \t]*(?:[+\-<>|][ \t]*)?(?:\d+[:|\t][ \t]?|L?\d+:[ \t])?[+\-<>|#;/*]*[ \t]*"
    rb"(?:export[ \t]+|set[ \t]+|setx[ \t]+|setenv[ \t]+|ENV[ \t]+|ARG[ \t]+|declare[ \t]+-\w[ \t]+|-[ \t]+|\$env:|\$|\\*[\"'])*$"
)
_MARKED: Final = re.compile(rb"\d|[^\w\s=-]")
_SETS: Final = re.compile(rb"(?:^|\s)(?:ENV|ARG|setx|setenv)\s+$")
_PROSE: Final = re.compile(rb"[a-z]+[.,;:)]*$")
_CODE_TAIL: Final = re.compile(rb"[A-Za-z_][\w.]*(?:\)+[):;,]*|:)$")
_NUMBERED: Final = re.compile(rb"[A-Za-z_.]*\d?[.*$]?$")
_SYMBOLS: Final = re.compile(rb"[!@#%^&{}~?|;$]|\d[a-zA-Z]|[a-zA-Z]\d")
_CALLED: Final = re.compile(rb"[A-Za-z_][\w.:]*(?:\(|\[|\{|->)")
_BARE_VALUE: Final = re.compile(rb"(?:[^\s\\\"'\x60\x1e\x1f]|\\(?![nrt\"'u]))+")
_URL_VALUE: Final = re.compile(rb"[^\s&\\\"'\x60<>#;,)\x1e\x1f]+")

_LONGEST_BARE: Final = 1024
MOST_CANDIDATES: Final = 15_000
"""More names with a separator than this in one text are no text that anybody wrote."""


def assignments(text: bytes, spans_of_lines: Iterable[tuple[int, int]]) -> Iterator[Span]:
    """Values beside secret-like names that do not look like placeholders, references, code or words."""
    count = 0
    for low, high in spans_of_lines:
        for match in _CANDIDATE.finditer(text, low, high):
            count += 1
            if count > MOST_CANDIDATES:
                raise Overload
            kind = kind_of(match.group(1))
            if kind is Kind.NONE:
                continue
            span = _quoted(text, match, kind) if match.start(4) >= 0 else _bare(text, match, kind)
            if span is not None:
                yield span
        if text.find(b"==", low, high) < 0 and text.find(b"!=", low, high) < 0 and text.find(b"equals", low, high) < 0:
            continue
        for match in _REVERSED.finditer(text, low, high):
            kind = kind_of(match.group(2))
            if is_secret(match.group(2), kind, match.group(1), Form.QUOTED):
                yield Span(*match.span(1), "assignment")


def _line_start(text: bytes, at: int) -> int:
    return text.rfind(b"\n", max(0, at - LONGEST), at) + 1 or max(0, at - LONGEST)


def _quoted(text: bytes, match: object, kind: Kind) -> Span | None:
    name, operator = match.group(1), match.group(3)  # type: ignore[attr-defined]
    opening: bytes = match.group(4)  # type: ignore[attr-defined]
    start: int = match.end(4)  # type: ignore[attr-defined]
    end = _closing(text, start, opening)
    if end < 0:
        return None
    value = text[start:end]
    form = Form.QUOTED
    if not operator.strip() and (len(name) < 6 or opening.endswith(b"`") or not _MARKED.search(value)):  # noqa: PLR2004
        return None  # prose: `pass "this"`, the token 'x'
    sign = operator.strip()
    if sign in {b",", b"("} and not _is_argument(text, match.start(1), sign, value):  # type: ignore[attr-defined]
        return None
    if sign.isalpha() and (len(name) < 6 or opening.endswith(b"`")):  # noqa: PLR2004 - `pass to "this"`
        return None
    if match.group(2)[-1:] in b"\"'" and match.group(2) and b":" in operator:  # type: ignore[attr-defined]
        form = Form.CONFIG if opening.endswith(b'"') else Form.QUOTED
    elif operator.strip() in {b"=", b":"} and _LEAD.match(text, _line_start(text, match.start(1)), match.start(1)):  # type: ignore[attr-defined]
        rest = text[end + len(opening) : end + len(opening) + 40].split(b"\n", 1)[0].strip()
        form = Form.CONFIG if not rest and b" " not in operator and name.isupper() else Form.QUOTED
    return Span(start, end, "assignment") if is_secret(name, kind, value, form) else None


def _is_argument(text: bytes, begin: int, sign: bytes, value: bytes) -> bool:
    """Whether name and value are the arguments of one call, as in env("NAME", "value"), and not two words of a list."""
    if sign == b"," and not text[max(0, begin - 6) : begin - 1].rstrip().endswith((b"(", b"[")):
        return False
    return _MARKED.search(value) is not None and not _NUMBERED.match(value)


def _closing(text: bytes, start: int, opening: bytes) -> int:
    """Where the string that `opening` began ends, on its line, or -1."""
    limit = min(len(text), start + LONGEST)
    line_end = text.find(b"\n", start, limit)
    limit = line_end if line_end >= 0 else limit
    at = text.find(opening, start, limit)
    while at > start and not opening.startswith(b"\\") and text[at - 1 : at] == b"\\" and text[at - 2 : at - 1] != b"\\":
        at = text.find(opening, at + 1, limit)
    return at


def _bare(text: bytes, match: object, kind: Kind) -> Span | None:
    name, operator = match.group(1), match.group(3)  # type: ignore[attr-defined]
    sign = operator.strip()
    start: int = match.start(5)  # type: ignore[attr-defined]
    begin: int = match.start(1)  # type: ignore[attr-defined]
    if text[begin - 1 : begin] in {b"?", b"&"} and sign == b"=":
        found = _URL_VALUE.match(text, start, start + _LONGEST_BARE)
        return _judged(name, kind, text, found.span(), Form.QUOTED, b"") if found else None
    if sign == b">" or sign.endswith(b">"):
        end = text.find(b"<", start, start + LONGEST)
        if sign.startswith((b"=", b"-")) or end < 0 or b"\n" in text[start:end]:
            return None
        return _judged(name, kind, text, (start, end), Form.CONFIG, b"")
    found = _BARE_VALUE.match(text, start, start + _LONGEST_BARE)
    if found is None or sign in {b",", b"("}:
        return None
    end = found.end()
    first = _line_start(text, begin)
    alone = _LEAD.match(text, first, begin) is not None
    if not sign or sign.isalpha():
        flag = text[max(0, begin - 2) : begin] == b"--" or name.startswith(b"--") or b" -" in text[max(0, begin - 3) : begin]
        flag = flag or _SETS.search(text, first, begin) is not None
        if not flag and not (sign and sign.isalpha()):
            return None
        if text[start : start + 1] == b"-" or _PROSE.match(text, start, end):
            return None
        return _judged(name, kind, text, (start, end), Form.CONFIG if flag else Form.BARE, b"")
    if _CODE_TAIL.match(text, start, end):
        return None
    line_end = text.find(b"\n", end, end + 80)
    rest = text[end : line_end if line_end >= 0 else end + 80].strip()
    whole = not rest or rest.startswith((b"#", b"//")) or rest in {b'"', b"'", b"`", b'",', b"',"}
    while end > start and text[end - 1 : end] in {b",", b";", b")", b"]", b"}"} and (not alone or b" " in operator or not whole):
        end -= 1
    key_quote = match.group(2)  # type: ignore[attr-defined]
    json_key = key_quote.endswith(b'"') and b":" in sign
    form = Form.BARE
    plain = b" " in operator and sign != b":" and not _SYMBOLS.search(text, start, end)
    if json_key or sign.startswith((b"value", b",", b";")) or text[begin - 1 : begin] == b";" or (alone and whole and not plain and not _CALLED.match(text, start, end)):
        form = Form.CONFIG
    return _judged(name, kind, text, (start, end), form, key_quote if json_key else b"")


def _judged(name: bytes, kind: Kind, text: bytes, at: tuple[int, int], form: Form, quote: bytes) -> Span | None:
    start, end = at
    return Span(start, end, "assignment", quote=quote) if is_secret(name, kind, text[start:end], form) else None
