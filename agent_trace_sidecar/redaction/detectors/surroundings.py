"""Surroundings that make a high-entropy value a key, though neither its name nor a known service does.

Two kinds of surroundings: how the value is used (in a header, as a client's argument, in the address of a hook), and,
in a text that is no longer than a note, that a name is all that stands before it. A hash, a revision or an id has
surroundings too: such words, anywhere near, decide.
"""

from typing import Final

from agent_trace_sidecar.redaction.judge import is_revision, is_uuid, numbers_thing
from agent_trace_sidecar.redaction.rules import Gates, Words
from agent_trace_sidecar.redaction.spans import BREAK, reach_back

G: Final = Gates("surroundings")
L: Final = Gates("surroundings", linear=True)
W: Final = Words("surroundings")

LONGEST_NOTE: Final = 700
"""How long a note may be: a snippet, a message, a few lines of settings or of a log."""
_NEAR: Final = 100
"""How far before a value a word can mark it as something else."""
_SIGN_REACH: Final = 4
_SIGNS: Final = frozenset((b'"', b"'", b"`", b"=", b":", b"/", b",", b"(", b">", b"{", b"["))
FARTHEST: Final = 200
"""How far behind what uses it a value may begin."""
_REVISION_LENGTH: Final = 40
_CLOSE: Final = 20

_MOST_ABOVE: Final = 3


def may_be_keyed(text: bytes, start: int, end: int) -> bool:
    """Whether it is worth asking: behind a sign that hands something over, or in a note."""
    sign = text[reach_back(text, start, _SIGN_REACH) : start].rstrip(b" ")[-1:]
    return sign in _SIGNS or _note(text, start, end) is not None


def is_keyed(text: bytes, start: int, end: int, value: bytes) -> bool:
    """Whether the place of a value with the form of a token makes it a key."""
    return is_used(text, start) or _is_labelled(text, start, end, value)


def is_used(text: bytes, start: int) -> bool:
    """Whether what stands before `start` has a key behind it, and nothing else."""
    before = text[reach_back(text, start, FARTHEST) : start]
    before = before[before.rfind(BREAK) + 1 :]
    match = L.used.search(before)
    return match is not None and not L.other.search(before, match.start())


def _note(text: bytes, start: int, end: int) -> tuple[int, int] | None:
    """Where the string around a value begins and ends, when it is no longer than a note."""
    low = text.rfind(BREAK, max(0, start - LONGEST_NOTE), start) + 1 or (0 if start < LONGEST_NOTE else -1)
    high = text.find(BREAK, end, start + LONGEST_NOTE)
    high = high if high >= 0 else (len(text) if len(text) - start < LONGEST_NOTE else -1)
    return None if low < 0 or high < 0 or high - low > LONGEST_NOTE else (low, high)


def _is_labelled(text: bytes, start: int, end: int, value: bytes) -> bool:
    """Whether a name is all that stands before the value, in a text of the length of a note."""
    around = _note(text, start, end)
    if around is None or text[start - 2 : start] == BREAK + b"\n" or not G.tail.match(text, end, around[1]):
        return False
    low, high = around
    note = text[low:start]
    label = None if numbers_thing(note, len(note), _NEAR) else _label(note)
    if label is not None and is_revision(value) and not _is_no_checksum(text[low:high], note, label, value):
        return False
    return label is not None and not L.other.search(note, max(0, len(note) - _NEAR)) and _names(label, value)


def _is_no_checksum(whole: bytes, note: bytes, label: bytes, value: bytes) -> bool:
    """Whether 40 or 64 hex digits are a key: by name, by the environment, or 64 as the one setting of a word."""
    if G.opens.search(label) or G.opens.search(note, max(0, len(note) - _CLOSE)) or G.exported.search(note):
        return True
    return len(value) > _REVISION_LENGTH and bool(G.setting.search(note)) and len(G.checksum.findall(whole)) == 1


def _label(note: bytes) -> bytes | None:
    """The name before the value: of the member or setting that it is, or of the heading above."""
    above, _, line = note.rpartition(b"\n")
    if G.directive.match(line):
        return None
    match = next(
        (found for form in (G.label, G.member, G.called, G.row, G.flagged) if (found := form.search(line))), None
    )
    if match and not G.alone.match(line) and not _is_common(match[1]):
        return bytes(match[1])
    if not match and not G.alone.match(line):
        return None
    for heading in reversed(above.rstrip().rsplit(b"\n", _MOST_ABOVE)[-_MOST_ABOVE:]):
        if found := None if heading.startswith(b"-----") else G.heading.match(heading):
            return bytes(found[1])
    return bytes(match[1]) if match else None


def _is_common(label: bytes) -> bool:
    return all(len(word) < 3 or word.lower().decode() in W.common for word in G.word.findall(label))  # noqa: PLR2004 - as below


def _names(label: bytes, value: bytes) -> bool:
    """Whether a label may be the name of a service: not the words of everyday, and of an id only a client's."""
    words = [word.lower().decode() for word in G.word.findall(label)]
    if any(word in W.lookup for word in words):
        return False
    if G.client.search(label):
        return True
    if not words or words[-1] in {"id", "ids", "arn", "uid"} or is_uuid(value) or G.file.search(label):
        return False
    return not _is_common(label)
