"""A secret-like name and its value, in the forms of env, shell, JSON, YAML, XML, PHP, SQL, command lines and code.

One linear pattern finds names with something like a separator behind them; what follows is decided by the lists of
`decisions.toml`, on the few bytes around the name.
"""

import string
from collections.abc import Callable, Iterator
from typing import Any, Final

from agent_trace_sidecar.redaction.judge import LONGEST, Form, is_random, is_secret
from agent_trace_sidecar.redaction.names import Kind, kind_of
from agent_trace_sidecar.redaction.rules import Decisions, Fields, Gates
from agent_trace_sidecar.redaction.spans import BREAK, Span, View, joined, reach_back

G: Final = Gates("assignments")
V: Final = Gates("values")
NAMED: Final = Decisions("named", by=("kind",))
BARE: Final = Decisions("bare", by=("operator", "quote"))
CODE: Final = Decisions("code", by=("operator", "quote"))
QUOTED: Final = Decisions("quoted", by=("operator", "quote", "kind"))

_NAME: Final = (string.ascii_letters + string.digits + "_.$-").encode()
_LONGEST_NAME: Final = 60
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
_OWNER_REACH: Final = 160
"""What a key belongs to: "Jwt": {"Issuer": "...", "Key": "..."}."""
_CLOSERS: Final = b",;)]}"
_FORMS: Final = {"none": None, "config": Form.CONFIG, "quoted": Form.QUOTED, "bare": Form.BARE}


def assignments(view: View) -> Iterator[Span]:
    """Values beside secret-like names that are no placeholders, references, code or words."""
    text = view.text
    cores = (core for core, _ in view.marks.get("cores", ()))
    for low, high in joined(_around(text, core) for core in cores if _promises(text, core)):
        at = low
        while place := G.find.search(text, at, high):
            view.effort.spend(_CANDIDATES)
            span, at = _candidate(text, place.start(), place.end())
            if span is not None:
                yield span
        if any(text.find(sign, low, high) >= 0 for sign in (b"==", b"!=", b"equals")):
            for match in G.reversed.finditer(text, low, high):  # the value first: "hunter2" == password
                if is_secret(match[2], kind_of(match[2]), match[1], Form.QUOTED):
                    yield Span(match.start(1), match.end(1), "assignment")


def _promises(text: bytes, core: int) -> bool:
    """Whether the name around a core may have a secret beside it; in code most are keywords, tokens and authors."""
    if text[core] > 127:  # noqa: PLR2004 - a name that is not ASCII
        return True
    before, after = text[max(0, core - _LONGEST_NAME) : core], text[core : core + _LONGEST_NAME]
    start, end = core - len(before) + len(before.rstrip(_NAME)), core + len(after) - len(after.lstrip(_NAME))
    if kind_of(text[start:end]) is Kind.NONE:
        return False
    return G.idle.match(text, end) is None or G.compared_to.search(text, max(0, start - _NEXT_LINE), start) is not None


def _around(text: bytes, core: int) -> tuple[int, int]:
    """The stretch of lines around a core, where a name, its separator and the start of a value can stand."""
    start = max(text.rfind(b"\n", reach_back(text, core, _NAME_REACH), core) + 1, core - _NAME_REACH)
    end = text.find(b"\n", core, core + _VALUE_REACH)
    end = end if end >= 0 else min(len(text), core + _VALUE_REACH)
    if G.next_line.search(text, end, end + _NEXT_LINE):
        end = min(len(text), end + 3 * _NEXT_LINE)  # name and value are members of one object, on two lines
    border = text.find(BREAK, core, end)
    return start, border if border >= 0 else end


def _candidate(text: bytes, start: int, end: int) -> tuple[Span | None, int]:
    """The secret beside the name at `start`, and where the next name may begin."""
    match = G.take_apart.match(text, start, end) if end - start <= _LONGEST_CANDIDATE else None
    if match is None:
        return None, end
    name, quote, operator = match.group(1, 2, 3)
    kind = kind_of(name)
    found = Fields(_FIELDS, text=text, begin=start, name=name, quote=quote, operator=operator, kind=kind.name.encode())
    if row := NAMED.of(found):
        kind, found["kind"] = Kind[row["form"]], row["form"].encode()
    if kind is Kind.NONE:
        return None, match.end(1)
    if (typed := G.typed.match(operator)) and is_random(typed[1].decode(), least=8):
        found["operator"] = b": "
        span = _bare(found, kind, match.start(3) + typed.start(1))
    elif match[4] is not None:
        span = _quoted(found, kind, match[4], match.end(4))
    else:
        span = _bare(found, kind, match.start(5))
    return span, end if span else match.end(1)


def _line(found: Fields) -> int:
    low = max(0, found["begin"] - _LINE_REACH)
    return found["text"].rfind(b"\n", low, found["begin"]) + 1 or low  # type: ignore[no-any-return]


def _tail(found: Fields) -> bytes:
    """From the value to the end of its line, or not much further."""
    text, end = found["text"], found["end"]
    stop = text.find(b"\n", end, end + _REST)
    return text[found["start"] : stop + 1 if stop >= 0 else end + _REST]  # type: ignore[no-any-return]


_FIELDS: Final[dict[str, Callable[[Fields], Any]]] = {
    "line": _line,
    "before": lambda of: of["text"][of["line"] : of["begin"]],
    "near": lambda of: of["text"][reach_back(of["text"], of["begin"], _REST) : of["begin"]],
    "owner": lambda of: of["text"][reach_back(of["text"], of["begin"], _OWNER_REACH) : of["begin"]],
    "above": lambda of: of["text"][reach_back(of["text"], of["line"], 3 * _REST) : of["line"]],
    "from": lambda of: of["text"][of["begin"] : of["begin"] + _VALUE_REACH],
    "value": lambda of: of["text"][of["start"] : of["end"]],
    "core": lambda of: of["value"].rstrip(_CLOSERS),
    "tail": _tail,
    "rest": lambda of: of["tail"][of["end"] - of["start"] + len(of.get("opening", b"")) :].rstrip(b"\n"),
    "below": lambda of: of["text"][of["start"] + len(of["tail"]) :][:_REST].partition(b"\n")[0],
    "looks": lambda of: b"random" if is_random(of["value"].decode("utf-8", "replace"), least=12) else b"words",
    "pair": lambda of: of["name"].rpartition(b".")[2].lstrip(b"$@-") + b"=" + of["core"],
}
"""What rows may read beyond what was found: the fields that are told at the top of `decisions.toml`."""


def _quoted(found: Fields, kind: Kind, opening: bytes, start: int) -> Span | None:
    text = found["text"]
    limit = min(len(text), start + LONGEST)
    line_end = text.find(b"\n", start, limit)
    limit = line_end if line_end >= 0 else limit
    end = text.find(opening, start, limit)
    while end > start and opening[:1] != b"\\" and text[end - 1 : end] == b"\\" and text[end - 2 : end - 1] != b"\\":
        end = text.find(opening, end + 1, limit)
    if end < 0:
        return None
    found |= {"opening": opening, "start": start, "end": end}
    row = QUOTED.of(found)
    form = _FORMS[row["form"]] if row else None
    return Span(start, end, "assignment") if form and is_secret(found["name"], kind, found["value"], form) else None


def _bare(found: Fields, kind: Kind, start: int) -> Span | None:
    """A value without quotes: in code it is an expression; only where the line is a setting it is literal."""
    text, limit = found["text"], start + _LONGEST_BARE
    match = V.value.match(text, start, limit)
    found |= {"start": start, "end": match.end() if match else start}
    row = BARE.of(found)
    form, take = (_FORMS[row["form"]], row.get("take", "value")) if row else (None, "")
    if form is None:
        return None
    match = getattr(V, take).match(text, start, limit) if take != "core" else None
    value = found["core"] if take == "core" else match[0] if match else b""
    if found["operator"].strip() == b"=" and (more := V.more.search(value)):
        value = value[: more.start()]
    of_code = Fields(_FIELDS, **{**found, "value": value, "core": value.rstrip(_CLOSERS)})
    of_code.pop("pair", None)
    if not 0 < len(value) < _LONGEST_BARE or CODE.of(of_code) or not is_secret(found["name"], kind, value, form):
        return None
    is_member = found["quote"].endswith(b'"') and b":" in found["operator"]
    return Span(start, start + len(value), "assignment", quote=found["quote"] if is_member else b"")
