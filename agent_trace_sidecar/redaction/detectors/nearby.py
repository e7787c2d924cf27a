"""Long random values near secret-like words and names of services, in prose, logs and arguments.

Never on randomness alone: a word must stand on the same line, a service's name a few lines above, or something around
the value must use it as a key; and nothing between may mark the value as a hash, a revision or an id. The cheap
questions come first: whether a word is in reach at all, and what the character before the value is.
"""

import bisect
import string
from collections.abc import Iterator
from typing import Final

from agent_trace_sidecar.redaction.decoders import is_readable_text
from agent_trace_sidecar.redaction.detectors.surroundings import FARTHEST, LONGEST_NOTE, is_keyed, is_used, may_be_keyed
from agent_trace_sidecar.redaction.judge import is_drawn, is_revision, is_token, is_uuid, numbers_thing
from agent_trace_sidecar.redaction.rules import Gates, Words
from agent_trace_sidecar.redaction.spans import BORDER, BREAK, Span, View, reach_back

G: Final = Gates("nearby")
L: Final = Gates("nearby", linear=True)
W: Final = Words("marks")

_REACH: Final = 90
"""How far behind the word a value may begin."""
_CHARACTERS: Final = (string.ascii_letters + string.digits + "_+/=.~-").encode()
_HASH_REACH: Final = 12
_SHORTEST: Final = 16
_LONGEST: Final = 600
_BLOB: Final = 24
_MOST_LINES: Final = 2
"""How many line ends may lie between a service's name and the value."""
_NOT_BEFORE: Final = frozenset((b"@", b"#", b"%", b".", b"?", b"&", b"\\", b"/"))
"""Before a value they make it a revision, a fragment, or a part of a number or a name."""
_NOT_BEHIND: Final = frozenset((b"@", b"."))


def nearby(view: View) -> Iterator[Span]:
    """Random values behind a secret-like word on the same line, shortly behind a service's name, or used as a key."""
    text = view.text
    words = sorted(start for start, _ in view.marks.get("strong", ()))
    services = sorted(start for start, end in view.marks.get("services", ()) if _is_word(text, start, end))
    uses = [start for start, _ in view.marks.get("uses", ())]
    for start, end in _runs(view, [*words, *services, *uses]):
        if text[start : start + 2] == b"//" and text[start - 1 : start] == b":":
            yield from _in_address(text, start, end)
        word = _is_in_reach(words, start)
        service = _is_in_reach(services, start) and text[start - 1 : start] not in _NOT_BEFORE
        value = text[start:end].rstrip(b"=.-")
        if (b"/" in value and b"." in value) or G.hashed.search(text, reach_back(text, start, _HASH_REACH), start + 12):
            continue  # a path, an address, or a checksum
        announced = word and _is_announced(text, start)
        served = service and _is_behind(text, services, start)
        if not (announced or served or may_be_keyed(text, start, end)) or G.id.match(value):
            continue
        if not is_drawn(value) or G.counted.match(value) or G.listed.match(text, start + len(value)):
            continue
        if announced and not _is_named(text, start, end):
            yield Span(start, end, "near-secret-word")
        elif served and _is_of_service(text, start, value):
            yield Span(start, end, "near-provider")
        elif is_token(value) and is_keyed(text, start, end, value):
            yield Span(start, end, "surroundings")


def is_service(name: bytes) -> bool:
    """Whether a member of JSON is called like a service that issues keys."""
    return name.lower().decode("latin-1") in W.services


def is_key(value: bytes) -> bool:
    """Whether a value is nothing but a key, which the name of a service before it makes a secret: {"acme": "value"}."""
    if not _SHORTEST <= len(value) <= _LONGEST:
        return False
    return is_drawn(value) and is_token(value) and not (is_uuid(value) or is_revision(value) or G.id.match(value))


def _is_in_reach(places: list[int], start: int) -> bool:
    index = bisect.bisect_left(places, start) - 1
    return index >= 0 and places[index] >= start - _REACH


def _runs(view: View, places: list[int]) -> Iterator[tuple[int, int]]:
    """Where runs of characters stand that may be random, shortly behind one of the places or in a note.

    Of name=value it is the value.
    """
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
    """Where such runs begin; between two stretches it is searched only once."""
    ahead = 0
    for low, high in _windows(text, places):
        at = low
        while ahead <= high:
            match = L.value.search(text, at)
            if match is None:
                return
            ahead, at = match.span()
            if ahead <= high:
                yield ahead
                ahead = at


def _windows(text: bytes, places: list[int]) -> Iterator[tuple[int, int]]:
    """The stretches in which a value can begin, merged and in order: behind the places, and all of a short string."""
    if all(len(string) <= LONGEST_NOTE for string in text.split(BREAK)):
        yield 0, len(text)
        return
    stretches = [(place, place + FARTHEST) for place in places]
    low = 0
    while low < len(text):
        high = text.find(BREAK, low)
        high = high if high >= 0 else len(text)
        if _SHORTEST <= high - low <= LONGEST_NOTE:
            stretches.append((low, high))
        low = high + 1
    stretches.sort()
    low, high = -1, -1
    for start, end in stretches:
        if start <= high + len(BORDER):
            high = max(high, end)
        else:
            if high >= 0:
                yield low, high
            low, high = start, end
    if high >= 0:
        yield low, high


def _in_address(text: bytes, start: int, end: int) -> Iterator[Span]:
    """The random parts of the path of an address that hands out a secret with it."""
    at = text.find(b"/", start + 2, end) + 1
    while at and at < end:
        stop = text.find(b"/", at, end)
        stop = stop if stop >= 0 else end
        part = text[at:stop]
        if is_drawn(part) and is_token(part) and not is_uuid(part) and is_used(text, at):
            yield Span(at, stop, "surroundings")
        at = stop + 1


def _is_announced(text: bytes, start: int) -> bool:
    before = text[reach_back(text, start, _REACH) : start]
    before = before[max(before.rfind(b"\n"), before.rfind(BREAK)) + 1 :]
    words = [m.start() for m in G.word.finditer(before) if not G.in_path.match(before, max(0, m.start() - 1))]
    return bool(words) and not G.harmless.search(before, max(0, words[-1] - 12))


def _is_named(text: bytes, start: int, end: int) -> bool:
    """Whether an announced value is a constant, a type, a version, a part of man's markup, or left out."""
    value = text[start:end]
    if text[start - 1 : start + 1] in {b"\\f", b"\\x"} or value.endswith(b"...") or text[end : end + 2] == b")(":
        return True
    if is_uuid(value) and G.key_id.search(text, reach_back(text, start, _REACH), start):
        return True
    return any(pattern.match(value) for pattern in (G.constant, G.version, G.snake))


def _is_behind(text: bytes, services: list[int], start: int) -> bool:
    """Whether the service named last is near, and nothing between marks the value as something else."""
    between = text[services[bisect.bisect_left(services, start) - 1] : start]
    return between.count(b"\n") <= _MOST_LINES and BREAK not in between and not G.harmless.search(between)


def _is_of_service(text: bytes, start: int, value: bytes) -> bool:
    """Whether a value behind the name of a service is its key."""
    if not value[:1].isalnum() or b"." in value or text[start + len(value) : start + len(value) + 1] in _NOT_BEHIND:
        return False
    if not is_token(value) or G.constant.match(value) or G.drawing.match(value) or is_readable_text(value):
        return False
    before = text[reach_back(text, start, _REACH) : start]
    if is_revision(value) and not G.assigned.search(before):
        return False  # what `git checkout` or a deployment is given
    return not (_is_thing(text, start, value) or G.address.search(before))


def _is_thing(text: bytes, start: int, value: bytes) -> bool:
    """Whether a value is the id of a class, {e3c9e316-...}, of a thing, or a part of a resource's name."""
    braced = text[start - 1 : start] == b"{" and is_uuid(value)
    return (
        braced
        or numbers_thing(text, start)
        or G.resource.search(text, reach_back(text, start, _REACH), start) is not None
    )


def _is_word(text: bytes, start: int, end: int) -> bool:
    """Whether the name of a service is a word, also inside of camelCase, or begins one about access."""
    before = text[start - 1 : start]
    if before.isalpha() and not (before.islower() and text[start : start + 1].isupper()):
        return False
    if not (G.ends.match(text, end) or G.turn.match(text, end - 1)):
        return False
    return not (
        G.blob.match(text, end) or G.blob.match(text, max(0, start - _BLOB), start)
    )  # by chance, in a certificate
