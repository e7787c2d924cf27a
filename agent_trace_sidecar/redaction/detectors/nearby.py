"""Long random values that what stands around them makes a key: a word, the name of a service, a use, or a label.

Never on randomness alone: on the same line a secret-like word must stand before it, or a few lines above a service's
name; or it is used as a key (in a header, as a client's argument, in the address of a hook); or, in a text that is no
longer than a note, a name is all that stands before it. Which of these is there, and what marks the value as a hash, a
revision or an id, are the fields of a decision; the rows of `decisions.near` ask the cheap ones first.
"""

import bisect
import re
import string
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from agent_trace_sidecar.redaction.judge import looks
from agent_trace_sidecar.redaction.rules import Decisions, Fields, Gates, Words
from agent_trace_sidecar.redaction.spans import BORDER, BREAK, Span, View, joined, reach_back

G: Final = Gates("nearby")
W: Final = Words("marks")
NEAR: Final = Decisions("near", by=("reach",))

_REACH: Final = 90
"""How far behind a word or a service's name a value may begin ..."""
_USE_REACH: Final = 200
"""... and behind what uses it."""
_AROUND: Final = 100
"""How far before a value a word can mark it as something else."""
_EDGE: Final = 12
_BLOB: Final = 24
_LONGEST_NOTE: Final = 700
"""How long a note may be: a snippet, a message, a few lines of settings or of a log."""
_MOST_ABOVE: Final = 3
_MOST_LINES: Final = 2
"""How many line ends may lie between a service's name and the value."""
_CHARACTERS: Final = (string.ascii_letters + string.digits + "_+/=.~-").encode()
_SHORTEST: Final = 16
_LONGEST: Final = 600
_SIGN_REACH: Final = 4
_SIGNS: Final = frozenset((b'"', b"'", b"`", b"=", b":", b"/", b",", b"(", b">", b"{", b"["))
_PART: Final = re.compile(rb"[^/]+")


def nearby(view: View) -> Iterator[Span]:
    """Random values that a word, a service, a use or a label makes keys."""
    text = view.text
    words = [start for start, _ in view.marks.get("strong", ())]
    services = [start for start, end in view.marks.get("services", ()) if _is_service(text, start, end)]
    uses = [start for start, _ in view.marks.get("uses", ())]
    for start, end in _runs(view, [*words, *services, *uses]):
        if text[start : start + 2] == b"//" and text[start - 1 : start] == b":":
            parts = [*_PART.finditer(text, start, end)][1:]
            runs = [_run(text, *part.span(), -1, b"address") for part in parts]
        else:
            service, sign = _last(services, start), text[reach_back(text, start, _SIGN_REACH) : start].rstrip(b" ")[-1:]
            place = b"place" if sign in _SIGNS or _note(text, start, end) else b""
            reach = (b"word " if _last(words, start) >= 0 else b"") + (b"service " if service >= 0 else b"") + place
            runs = [_run(text, start, end, service, reach)] if reach else []
        for run in runs:
            if (row := NEAR.of(run)) and row["form"] != "none":
                yield Span(run["start"], run["end"], row["form"])


def _run(text: bytes, start: int, end: int, service: int, reach: bytes) -> Fields:
    """A run of characters; `service` is where the name of one stands before it, `reach` names what is in reach."""
    return Fields(_FIELDS, text=text, start=start, end=end, service=service, reach=reach)


def is_service(name: bytes) -> bool:
    """Whether a member of JSON is called like a service that issues keys."""
    return name.lower().decode("latin-1") in W.services


def is_key(value: bytes) -> bool:
    """Whether a value is nothing but a key, which the name of a service before it makes a secret: {"acme": "value"}."""
    return _SHORTEST <= len(value) <= _LONGEST and looks(value) == b"token" and not G.id.match(value)


def _is_service(text: bytes, start: int, end: int) -> bool:
    """Whether the name of a service is a word, also inside of camelCase, and not in encoded data by chance."""
    return (
        G.begins.match(text, start) is not None
        and G.ends.match(text, end) is not None
        and not (G.blob.match(text, end) or G.blob.match(text, max(0, start - _BLOB), start))
    )


def _last(places: Sequence[int], start: int) -> int:
    """The last of the places before `start` if it is in reach, or -1."""
    index = bisect.bisect_left(places, start) - 1
    return places[index] if index >= 0 and places[index] >= start - _REACH else -1


def _runs(view: View, places: list[int]) -> Iterator[tuple[int, int]]:
    """Where runs of characters stand that may be random; of name=value it is the value."""
    text = view.text
    for begin in _begins(text, places):
        view.effort.spend()
        lead, rest = text[max(0, begin - _LONGEST) : begin], text[begin : begin + _LONGEST + 1]
        start = begin - len(lead) + len(lead.rstrip(_CHARACTERS))
        end = begin + len(rest) - len(rest.lstrip(_CHARACTERS))
        head, sign, _ = text[start:end].rstrip(b"=").rpartition(b"=")
        start += len(head) + len(sign)
        if not _SHORTEST <= end - start <= _LONGEST or text[end : end + 1] == b"(":
            continue
        if not (sign and G.harmless.search(head)):  # sha256=...
            yield start, end


def _begins(text: bytes, places: list[int]) -> Iterator[int]:
    """Where such runs begin behind one of the places, or in a string of the length of a note; each is searched once."""
    ranges, low = [(place, place + _USE_REACH) for place in places], 0
    for note in text.split(BREAK):
        if _SHORTEST <= len(note) <= _LONGEST_NOTE:
            ranges.append((low, low + len(note)))
        low += len(note) + 1
    ahead = 0
    for low, high in joined(ranges, len(BORDER)):
        at = low
        while ahead <= high:
            match = G.value.search(text, at)
            if match is None:
                return
            ahead, at = match.span()
            if ahead <= high:
                yield ahead
                ahead = at


def _before(run: Fields, reach: int) -> bytes:
    """What stands before the value, up to its string's begin."""
    return run["text"][reach_back(run["text"], run["start"], reach) : run["start"]]  # type: ignore[no-any-return]


def _announced(run: Fields) -> bytes:
    """What stands on the line from the last secret-like word to the value, with what the word is a part of."""
    before = _before(run, _REACH).rpartition(b"\n")[2]
    words = [match.start() for match in G.word.finditer(before)]
    return before[max(0, words[-1] - _EDGE) :] if words else b""


def _served(run: Fields) -> bytes:
    """What stands between the name of a service and the value, a few lines below at the most."""
    between = run["text"][run["service"] : run["start"]]
    return between if between.count(b"\n") <= _MOST_LINES and BREAK not in between else b""


def _used(run: Fields) -> bytes:
    """What stands before the value and has a key behind it, and nothing else."""
    before = _before(run, _USE_REACH)
    match = G.used.search(before)
    return before[match.start() :] if match and not G.other.search(before, match.start()) else b""


def _note(text: bytes, start: int, end: int) -> bytes:
    """The string around a value, when it is no longer than a note."""
    low = text.rfind(BREAK, max(0, start - _LONGEST_NOTE), start) + 1 or (0 if start < _LONGEST_NOTE else -1)
    high = text.find(BREAK, end, start + _LONGEST_NOTE)
    high = high if high >= 0 else (len(text) if len(text) - start < _LONGEST_NOTE else -1)
    return b"" if low < 0 or high < 0 or high - low > _LONGEST_NOTE else text[low:high]


def _label(run: Fields) -> bytes:
    """In a note, the name before the value: of the member or setting that it is, or of the heading above."""
    note = _note(run["text"], run["start"], run["end"])
    before = _before(run, len(note))
    if not before or before == b"\n":
        return b""
    above, _, line = before.rpartition(b"\n")
    if G.other.search(before, max(0, len(before) - _AROUND)):
        return b""
    forms = (G.label, G.member, G.called, G.row, G.flagged)
    match = next((found for form in forms if (found := form.search(line))), None)
    alone = G.alone.match(line) is not None
    if match and not alone and not G.common.match(_words(match[1])):
        return bytes(match[1])
    for heading in reversed(above.rstrip().split(b"\n")[-_MOST_ABOVE:]) if match or alone else ():
        if found := G.heading.match(heading):
            return bytes(found[1])
    return bytes(match[1]) if match else b""


def _words(label: bytes) -> bytes:
    return b" ".join(G.part.findall(label)).lower()


_FIELDS: Final[dict[str, Callable[[Fields], bytes]]] = {
    "value": lambda run: run["text"][run["start"] : run["end"]].rstrip(b"=.-"),
    "looks": lambda run: looks(run["value"]),
    "edge": lambda run: _before(run, _EDGE) + run["value"][:_EDGE],
    "before": lambda run: _before(run, _AROUND),
    "behind": lambda run: run["text"][run["start"] + len(run["value"]) : run["end"] + _EDGE],
    "announced": _announced,
    "served": _served,
    "used": _used,
    "note": lambda run: _note(run["text"], run["start"], run["end"]),
    "label": _label,
    "words": lambda run: _words(run["label"]),
}
