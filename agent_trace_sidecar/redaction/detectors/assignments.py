"""A secret-like name and its value, in the forms of env, shell, JSON, YAML, XML, PHP, SQL, command lines and code.

One linear pattern finds names with something like a separator behind them; what follows is decided by the lists of
`decisions.toml`, on the few bytes around the name.
"""

import string
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from agent_trace_sidecar.redaction.judge import LONGEST, Form, is_random, is_secret
from agent_trace_sidecar.redaction.names import Kind, kind_of
from agent_trace_sidecar.redaction.rules import Decisions, Gates
from agent_trace_sidecar.redaction.spans import BREAK, Span, View, reach_back

G: Final = Gates("assignments")
L: Final = Gates("assignments", linear=True)
V: Final = Gates("values")
BARE: Final = Decisions("bare", by=("operator", "quote"))
CODE: Final = Decisions("code", by=("operator", "quote"))
QUOTED: Final = Decisions("quoted", by=("operator", "quote", "kind"))

_NAME: Final = (string.ascii_letters + string.digits + "_.$-").encode()
_LONGEST_NAME: Final = 60
_BEFORE: Final = 12
_NAME_REACH: Final = 100
_VALUE_REACH: Final = 300
_NEXT_LINE: Final = 40
_CANDIDATES: Final = 4
"""What a name with a value counts: it is taken apart, and judged."""
_LONGEST_CANDIDATE: Final = 2000

_LONGEST_BARE: Final = 1024
_LINE_REACH: Final = 600
"""A line longer than this is no setting: minified code, or data."""
_REST: Final = 80
_CLOSERS: Final = b",;)]}"
_OWNER_REACH: Final = 160
"""What a key belongs to: "Jwt": {"Issuer": "...", "Key": "..."}."""
_CALL_REACH: Final = 80


class Candidate(NamedTuple):
    """A name with something like a separator behind it."""

    kind: Kind
    name: bytes
    quote: bytes
    """The closing quote or bracket between name and separator."""
    operator: bytes
    begin: int
    """Where the name begins in the text."""


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
        yield from _bare(text, found._replace(operator=b": "), match.start(3) + typed.start(1))
    elif match[4] is not None:
        yield from _quoted(text, found, match[4], match.end(4))
    else:
        yield from _bare(text, found, match.start(5))


def _reversed(text: bytes, low: int, high: int) -> Iterator[Span]:
    """The value first: "hunter2" == password."""
    for match in L.reversed.finditer(text, low, high):
        if is_secret(match.group(2), kind_of(match.group(2)), match.group(1), Form.QUOTED):
            yield Span(match.start(1), match.end(1), "assignment")


def _surroundings(text: bytes, found: Candidate, start: int, end: int) -> dict[str, bytes]:
    """The fields of a decision about the value from `start` to `end`; the end of the line is its own."""
    line = text.rfind(b"\n", max(0, found.begin - _LINE_REACH), found.begin) + 1 or max(0, found.begin - _LINE_REACH)
    line_end = text.find(b"\n", end, end + _REST)
    line_end = line_end if line_end >= 0 else min(len(text), end + _REST)
    value = text[start:end]
    core, word = value.rstrip(_CLOSERS), found.name.rpartition(b".")[2].lstrip(b"$@-")
    return {
        "name": found.name,
        "quote": found.quote,
        "operator": found.operator,
        "before": text[line : found.begin],
        "near": text[reach_back(text, found.begin, _CALL_REACH) : found.begin],
        "above": text[reach_back(text, line, 3 * _REST) : line],
        "below": text[line_end + 1 : line_end + _REST].partition(b"\n")[0],
        "value": value,
        "core": core,
        "tail": text[start : line_end + 1],
        "rest": text[end:line_end],
        "pair": word + b"=" + core,
        "kind": found.kind.name.encode(),
    }


def _quoted(text: bytes, found: Candidate, opening: bytes, start: int) -> Iterator[Span]:
    end = _closing(text, start, opening)
    if end < 0:
        return
    fields = _surroundings(text, found, start, end)
    fields["rest"], fields["opening"] = fields["rest"][len(opening) :], opening
    is_drawn = found.operator.strip() and is_random(fields["value"].decode("utf-8", "replace"), least=12)
    row = QUOTED.of({**fields, "looks": b"random" if is_drawn else b"words"})
    if row and (form := _FORMS[row["form"]]) and is_secret(found.name, found.kind, fields["value"], form):
        yield Span(start, end, "assignment")


def _bare(text: bytes, found: Candidate, start: int) -> Iterator[Span]:
    """A value without quotes: in code it is an expression; only where the line is a setting it is literal."""
    match = V.value.match(text, start, start + _LONGEST_BARE)
    fields = _surroundings(text, found, start, match.end() if match else start)
    row = BARE.of(fields)
    form = _FORMS[row["form"]] if row else None
    end = _TAKES[row.get("take", "value")](text, start, fields) if row and form else start
    value = text[start:end]
    if b"&" in value and found.operator.strip() == b"=" and (more := V.more.search(value)):
        value = value[: more.start()]
    if form is None or not 0 < len(value) < _LONGEST_BARE:
        return
    pair = fields["pair"].partition(b"=")[0] + b"=" + value.rstrip(_CLOSERS)
    if CODE.of({**fields, "value": value, "pair": pair}) is None and is_secret(found.name, found.kind, value, form):
        is_member = found.quote.endswith(b'"') and b":" in found.operator
        yield Span(start, start + len(value), "assignment", quote=found.quote if is_member else b"")


def _of_parameter(text: bytes, start: int, _: Mapping[str, bytes]) -> int:
    match = V.url_value.match(text, start, start + _LONGEST_BARE)
    return match.end() if match else start


def _of_element(text: bytes, start: int, _: Mapping[str, bytes]) -> int:
    end = text.find(b"<", start, start + LONGEST)
    return end if end >= 0 and b"\n" not in text[start:end] else start


_TAKES: Final[dict[str, Callable[[bytes, int, Mapping[str, bytes]], int]]] = {
    "value": lambda _, start, fields: start + len(fields["value"]),
    "core": lambda _, start, fields: start + len(fields["core"]),
    "url": _of_parameter,
    "element": _of_element,
}
"""Where the value ends, by what a row says to take."""
_FORMS: Final = {"none": None, "config": Form.CONFIG, "quoted": Form.QUOTED, "bare": Form.BARE}


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
