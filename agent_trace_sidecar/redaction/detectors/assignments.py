"""A secret-like name and its value, in the forms of env, shell, JSON, YAML, XML, PHP, SQL, command lines and code.

One linear pattern finds names with something like a separator behind them; what follows is decided here, on the few
bytes after the name.
"""

import string
from collections.abc import Iterator
from typing import Final

from agent_trace_sidecar.redaction.detectors.bare_values import Candidate, bare_value, is_alone
from agent_trace_sidecar.redaction.judge import LONGEST, Form, is_random, is_secret
from agent_trace_sidecar.redaction.names import Kind, kind_of
from agent_trace_sidecar.redaction.rules import Gates
from agent_trace_sidecar.redaction.spans import BREAK, Span, View, reach_back

G: Final = Gates("assignments")
L: Final = Gates("assignments", linear=True)

_NAME: Final = (string.ascii_letters + string.digits + "_.$-").encode()
_LONGEST_NAME: Final = 60
_BEFORE: Final = 12
_NAME_REACH: Final = 100
_VALUE_REACH: Final = 300
_NEXT_LINE: Final = 40
_CANDIDATES: Final = 4
"""What a name with a value counts: it is taken apart, and judged."""
_LONGEST_CANDIDATE: Final = 2000


_JOINTS: Final = frozenset(b"-|~")
_OWNER_REACH: Final = 160
"""What a key belongs to: "Jwt": {"Issuer": "...", "Key": "..."}."""
_SAID_REACH: Final = 21
_CALL_REACH: Final = 80
_PROSE_NAME: Final = 6
"""A name shorter than this is a word of prose when only a blank or a verb follows it: `pass "this"`."""


def assignments(view: View) -> Iterator[Span]:
    """Values beside secret-like names that are no placeholders, references, code or words."""
    text = view.text
    promising = [core for core, _ in view.marks.get("cores", ()) if _promises(text, core)]
    for low, high in _around(text, promising):
        at = low
        while place := L.find.search(text, at, high):
            view.effort.spend(_CANDIDATES)
            start, at = place.span()
            yield from _candidate(text, start, at)
            at -= _step_back(text, start, at)
        if any(text.find(sign, low, high) >= 0 for sign in (b"==", b"!=", b"equals")):
            yield from _reversed(text, low, high)


def _promises(text: bytes, core: int) -> bool:
    """Whether the name around a core may have a secret beside it; in code most are keywords, tokens and authors."""
    if text[core] > 127:  # noqa: PLR2004 - a name that is not ASCII
        return True
    before, after = text[max(0, core - _LONGEST_NAME) : core], text[core : core + _LONGEST_NAME]
    start, end = core - len(before) + len(before.rstrip(_NAME)), core + len(after) - len(after.lstrip(_NAME))
    if kind_of(text[start:end]) is Kind.NONE:
        return False
    return G.idle.match(text, end) is None or bool(G.compared_to.search(text, max(0, start - _BEFORE), start))


def _around(text: bytes, cores: list[int]) -> Iterator[tuple[int, int]]:
    """The stretches of lines around the cores, where a name, its separator and the start of a value can stand."""
    low = high = -1
    for core in cores:
        if core < high - _NAME_REACH:
            continue
        start = max(text.rfind(b"\n", reach_back(text, core, _NAME_REACH), core) + 1, core - _NAME_REACH)
        end = text.find(b"\n", core, core + _VALUE_REACH)
        end = min(len(text), core + _VALUE_REACH) if end < 0 else end
        if text.find(b"value", end, end + _NEXT_LINE) >= 0 or text.find(b"<string>", end, end + _NEXT_LINE) >= 0:
            end = min(len(text), end + 3 * _NEXT_LINE)  # name and value are members of one object, on two lines
        border = text.find(BREAK, core, end)
        end = border if border >= 0 else end
        if high >= 0 and start <= high + _NAME_REACH and BREAK not in text[high:start]:
            high = max(high, end)
            continue
        if high >= 0:
            yield low, high
        low, high = start, end
    if high >= 0:
        yield low, high


def _step_back(text: bytes, start: int, at: int) -> int:
    """How far before the end of a candidate the next may begin: the dash of a flag, or the name in an element."""
    if text[at - 1 : at] == b"-" or text[at - 2 : at - 1] == b">":
        return 1
    return 2 if text[at - 2 : at - 1] == b"-" and at - 2 > start else 0


def _candidate(text: bytes, start: int, end: int) -> Iterator[Span]:
    match = G.take_apart.match(text, start, end) if end - start <= _LONGEST_CANDIDATE else None
    if match is not None and match[2][-1:] in {b'"', b"'"} and G.attribute.match(match[3]):
        return  # <input id="password" class="wide">
    if match is None or (kind := kind_of(match[1])) is Kind.NONE:
        return
    low = reach_back(text, start, _CALL_REACH)
    if G.harmless_before.search(text, low, start) or G.harmless_from.match(text, start):
        return
    if kind is Kind.KEY and G.harmless_key.search(text, low, start):
        return
    if kind is Kind.KEY and G.owner.search(text, reach_back(text, start, _OWNER_REACH), start):
        kind = Kind.TOKEN
    found = Candidate(kind, match[1], match[2], match[3], start)
    if (typed := G.typed.match(match[3])) and is_random(typed[1].decode(), least=8):
        yield from bare_value(text, found._replace(operator=b": "), match.start(3) + typed.start(1))
    elif match[4] is not None:
        yield from _quoted(text, found, match[4], match.end(4))
    else:
        yield from bare_value(text, found, match.start(5))


def _reversed(text: bytes, low: int, high: int) -> Iterator[Span]:
    """The value first: "hunter2" == password."""
    for match in L.reversed.finditer(text, low, high):
        if is_secret(match.group(2), kind_of(match.group(2)), match.group(1), Form.QUOTED):
            yield Span(match.start(1), match.end(1), "assignment")


def _quoted(text: bytes, found: Candidate, opening: bytes, start: int) -> Iterator[Span]:
    end = _closing(text, start, opening)
    if end < 0:
        return
    value = text[start:end]
    sign = found.operator.strip()
    if G.labels.search(text, reach_back(text, found.begin, _CALL_REACH), found.begin):
        return
    if (not sign or sign.isalpha()) and len(found.name) < _PROSE_NAME:
        return
    asked = found.quote[-1:] in {b")", b"]"} or b"env." in found.name.lower()
    default = asked and sign in {b"||", b"?:", b"??"}  # getenv("PASSWORD") ?: "value"
    if sign and not default and _JOINTS.issuperset(sign) and not is_random(value.decode("utf-8", "replace"), least=12):
        return
    if sign in {b",", b"("} and not _is_argument(text, found, sign, value):
        return
    if is_secret(found.name, found.kind, value, _form(text, found, opening, end)):
        yield Span(start, end, "assignment")


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
    if sign == b"," and G.compared.search(text, reach_back(text, begin, _CALL_REACH), begin):
        return True  # strcmp(password, "value")
    if sign == b",":
        before = text[reach_back(text, begin, _CALL_REACH) : begin]
        if G.tuple.search(before) or (found.kind is Kind.PASSWORD and G.setter.search(before) and G.word.match(value)):
            return True
        if not G.call.search(before) and not before.rstrip().endswith((b"(", b"[")) and b"()" not in quote:
            return False
        if name.isupper() and len(name) >= _PROSE_NAME:
            return True  # setdefault("DB_PASSWORD", "word")
    marked = G.marked.search(value) and (not G.numbered.match(value) or is_random(value.decode(), least=12))
    return bool(marked) or (sign == b"(" and name.startswith(b"."))  # .password("word")


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
