"""Long random values near secret-like words and names of services: prose, logs, arguments, where no separator joins them.

Never on randomness alone: a word must stand on the same line, or a service's name a few lines above, shortly before,
and nothing between it and the value may say that the value is a hash, a revision or an id.
"""

# ruff: noqa: E501 - a pattern is read as one line

import bisect
import re
import string
from collections.abc import Iterator
from typing import Final

from agent_trace_sidecar.redaction.deadline import check_deadline
from agent_trace_sidecar.redaction.encoded import says_something
from agent_trace_sidecar.redaction.providers import PROVIDERS
from agent_trace_sidecar.redaction.rules import Late, Overload
from agent_trace_sidecar.redaction.spans import BREAK, Span, reach_back
from agent_trace_sidecar.redaction.surroundings import (
    CHANGES,
    UUID,
    is_keyed,
    is_revision,
    is_token,
    is_used,
    numbers_thing,
    reads,
)
from agent_trace_sidecar.redaction.values import entropy, is_segmented, is_wordy

_REACH: Final = 90
"""How far behind the word a value may begin."""
_WORD: Final = re.compile(
    rb"(?i)(?:^|[^a-z])(?:[a-z0-9_]*(?:secret|token|passw(?:or)?d|passphrase|api[ _.-]?key|apikey|access[ _.-]?key|"
    rb"private[ _.-]?key|auth[ _.-]?key|credentials?|bearer)[a-z]?|key)(?:[^a-z]|$)"
)
_HARMLESS: Final = re.compile(
    rb"(?i)(?:sha\d*|hash|digest|checksum|commit|revision|\brev\b|integrity|fingerprint|md5|uuid|guid|public|blob|tree|etag|"
    rb"signature|snapshot|cache|object|version|image|layer|trace|span|request|session_?id|node|thumbprint|serial|"
    rb"tokens\b|tokenize|import|keyword|http|certificate|keyid|ssh-|merkle|address|block|tx|model|h1:|resolved|\.tgz|"
    rb"registry|arn:|verifier|challenge|tracking|partition|primary|foreign|idempotency|shard|routing|\b(?:inspect|plan|apply|exec|pull|push|stop|start|logs)\b|(?:next|change|page|action|request|continuation|pagination)_?token|git_?head|\(#\d|uses:|rev=|ref=|\breference\b|\b(?:for|of|in) session\b|/commit/|/blob/|/tree/|content-length|boundary)"
)
_CHARACTERS: Final = (string.ascii_letters + string.digits + "_+/=.~-").encode()
_SHORTEST: Final = 16
_VALUE: Final = Late(
    b"(?:"
    + b"|".join(rb"[A-Za-z_+/=.~-]{%d}[0-9][A-Za-z0-9_+/=.~-]{%d}" % (n, _SHORTEST - 1 - n) for n in range(_SHORTEST))
    + rb")[A-Za-z0-9_+/=.~-]*"
)
"""A run with a digit early in it. RE2 has no look-ahead, and to leave the few of them to Python is what makes it fast."""
_SHAPE: Final = re.compile(rb"(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9_+/=.~-]+$")
_SURE: Final = 20
"""A run of this length can't be a name with a number."""
_MANY_CHANGES: Final = 8
"""No word turns from letters to digits and back so often."""
_HEX: Final = re.compile(rb"[0-9a-fA-F]+$")
_LONGEST: Final = 600
MOST_RUNS: Final = 12_000
"""More runs of this kind in one text are a list that no tool prints to an agent."""
_MOST_LINES: Final = 2
"""How many line ends may lie between a service's name and the value."""
_BLOCK_LINE: Final = 40
_CONSTANT: Final = re.compile(rb"(?:[a-z]\w*\.)?[a-z]{0,2}(?:[A-Z0-9]+_)+[A-Z0-9]+$")
_ID: Final = re.compile(
    rb"(?:msg|prt|ses|evt|call|per|que|toolu)_|[a-z]{2,8}_01[A-Za-z0-9]{22}$|__[a-z]|(?:price|prod|cus|sub|pi|ch|in|txn|seti|pm|card|src|req)_[A-Za-z0-9]{14,30}$"
)
"""How the ids of an agent's session begin, those of a model's interface, and names that a compiler makes."""
_COUNTED: Final = re.compile(rb"(?i)(?:00)?01020304|00112233|0123456789ABCDEFF")
"""A key of a test: its bytes count up."""
_KEY_ID: Final = re.compile(rb"(?i)key[ _-]?ids?\b")
"""What a UUID may be where a key is spoken of."""
_IN_PATH: Final = re.compile(rb"[a-z]/passwd")
"""A file, behind which its digest stands."""
_SNAKE: Final = re.compile(rb"_*[a-z]{1,12}\d?(?:_[a-z]{1,12}\d?){2,}$")
"""A name of words, one of which may have a number."""
_VERSION: Final = re.compile(rb"\d+(?:\.\d+)+[+~-]")
_ADJACENT: Final = re.compile(rb"(?i)\b(?:secret|token|pwd|password|passwd)[ ]$")
_ADDRESS: Final = re.compile(rb"(?:^|[\s\"'\x60(])[\w.-]+/[\w./-]+ $")
"""A module or a repository, behind which its revision stands."""
_ASSIGNED: Final = re.compile(rb"(?i)[:=(>,]\s*\\*[\"'`]?$|(?:key|token|secret|auth|\bone|\bis)\W{1,4}$")
"""What stands right before a value that is given a name."""
_LISTED: Final = re.compile(rb" [ *][\w./]")
"""What stands behind a checksum: two blanks and a path."""
_RESOURCE: Final = re.compile(rb"\barn:aws[\w:*/-]*$")
_DRAWING: Final = re.compile(rb"[\dMLHVCSQTAZmlhvcsqtaz.,-]+$")
"""The path of a vector graphic."""
_NOT_BEFORE: Final = frozenset((b"@", b"#", b"/", b"%", b".", b"?", b"&", b"\\"))
"""Before a value they make it a revision, a fragment, a part of a path or of a number."""
_PROVIDERS: Final = frozenset(PROVIDERS)
_LONGEST_NAME: Final = 40
_TURN: Final = re.compile(rb"[a-z0-9][A-Z]")
_ENDS: Final = re.compile(
    rb"(?:[^A-Za-z]|$|(?:api|key|token|secret|auth|access|client|app|id|pass|user|sdk|io|com|hq|dev|bot|web|hook|url|account|"
    rb"login|cloud|mail|sms|pay|service|api)s?(?:[^a-z]|$))"
)
"""What a name may be followed by without being another word."""
_PART_BEFORE: Final = _NOT_BEFORE - {b"/"}
_NOT_BEHIND: Final = frozenset((b"@", b"."))


def near_words(text: bytes, providers: list[int], *, words: bool) -> Iterator[Span]:
    """Random values behind a secret-like word on the same line, or shortly behind a provider's name.

    Args:
        text: what to look through.
        providers: where the names of providers begin.
        words: whether there are secret-like words at all.
    """
    providers = sorted(providers)  # words that overlap are reported in the order of their ends
    for start, end in _runs(text):
        value = text[start:end].rstrip(b"=.-")
        if text[start : start + 2] == b"//" and text[start - 1 : start] == b":":
            yield from _in_address(text, start, end)
        if (
            _ID.match(value)
            or not (_is_random(value) or (words and _is_adjacent(text, start, value)))
            or _COUNTED.match(value)
            or _LISTED.match(text, start + len(value))
        ):
            continue
        if words and _is_announced(text, start) and not _is_named(text, start, end):
            yield Span(start, end, "near-secret-word")
        elif providers and _is_of_provider(text, providers, start, value):
            yield Span(start, end, "near-provider")
        elif _is_whole(text, start, end) and is_token(value) and is_keyed(text, start, end, value):
            yield Span(start, end, "surroundings")


def is_key_of(name: bytes, value: bytes) -> bool:
    """Whether a member of JSON is called like a service and its value is nothing but a key: {"acme": "value"}."""
    if not _SHORTEST <= len(value) <= _LONGEST or name.lower().decode("latin-1") not in _PROVIDERS:
        return False
    return _is_random(value) and is_token(value) and not (UUID.match(value) or is_revision(value) or _ID.match(value))


def _is_whole(text: bytes, start: int, end: int) -> bool:
    """Whether a value is no part of an address, a number or a name."""
    return text[start - 1 : start] not in _PART_BEFORE and text[end : end + 1] not in _NOT_BEHIND


def _runs(text: bytes) -> Iterator[tuple[int, int]]:
    """Where runs of characters stand that may be random; of name=value it is the value."""
    for count, match in enumerate(_VALUE.finditer(text)):
        if count > MOST_RUNS:
            raise Overload
        check_deadline()
        start, end = match.span()
        lead = text[max(0, start - _LONGEST) : start]
        start -= len(lead) - len(lead.rstrip(_CHARACTERS))
        head, sign, _ = text[start:end].rstrip(b"=").rpartition(b"=")
        start += len(head) + len(sign)
        value = text[start:end].rstrip(b"=.-")
        if not _SHAPE.match(value) or text[end : end + 1] == b"(" or len(value) > _LONGEST:
            continue
        if not (sign and _HARMLESS.search(head)):  # sha256=...
            yield start, end


def _in_address(text: bytes, start: int, end: int) -> Iterator[Span]:
    """The random parts of the path of an address that hands out a secret with it."""
    at = text.find(b"/", start + 2, end) + 1
    while at and at < end:
        stop = text.find(b"/", at, end)
        stop = stop if stop >= 0 else end
        part = text[at:stop]
        if _is_random(part) and is_token(part) and not UUID.match(part) and is_used(text, at):
            yield Span(at, stop, "surroundings")
        at = stop + 1


def _is_announced(text: bytes, start: int) -> bool:
    before = text[reach_back(text, start, _REACH) : start]
    before = before[before.rfind(b"\n") + 1 :]
    before = before[before.rfind(b"\x1e") + 1 :]
    words = [m.start() for m in _WORD.finditer(before) if not _IN_PATH.match(before, max(0, m.start() - 1))]
    return bool(words) and not _HARMLESS.search(before, max(0, words[-1] - 12))


def _is_adjacent(text: bytes, start: int, value: bytes) -> bool:
    """Whether a word for secrets stands right before a value that mixes capitals, small letters and a digit."""
    mixed = value.isalnum() and not value.islower() and not value.isupper() and not reads(value)
    return mixed and _ADJACENT.search(text, reach_back(text, start, _REACH), start) is not None


def _is_named(text: bytes, start: int, end: int) -> bool:
    """Whether an announced value is a constant, a type, a version, a part of man's markup, or left out."""
    value = text[start:end]
    if text[start - 1 : start + 1] in {b"\\f", b"\\x"} or value.endswith(b"...") or text[end : end + 2] == b")(":
        return True
    if UUID.match(value) and _KEY_ID.search(text, reach_back(text, start, _REACH), start):
        return True
    return any(pattern.match(value) for pattern in (_CONSTANT, _VERSION, _SNAKE)) or reads(value)


def _is_random(value: bytes) -> bool:
    """Whether a run of characters was drawn at random, and is no name with numbers in it."""
    if not _SHAPE.match(value) or (len(value) < _SURE and not _is_motley(value)):
        return False
    if _HEX.match(value):
        return entropy(value.decode()) > 2.8  # noqa: PLR2004 - 4 is the most for hex
    if UUID.match(value):
        return True
    return not (b"/" in value and b"." in value) and _is_unspoken(value)


def _is_unspoken(value: bytes) -> bool:
    """Whether no words can be read in a run."""
    text = value.decode()
    if entropy(text) < 3.5:  # noqa: PLR2004 - English identifiers stay below
        return False
    if text.isalnum():
        return len(CHANGES.findall(value)) >= _MANY_CHANGES or not is_wordy(text)
    return not is_wordy(text) and not is_segmented(text)


def _is_motley(value: bytes) -> bool:
    """Whether a short run mixes small letters, capitals and digits as no name does."""
    mixed = not value.islower() and not value.isupper() and value.isalnum()
    return mixed and is_token(value) and len(CHANGES.findall(value)) >= 3  # noqa: PLR2004 - there, back and there again


def _is_checked_out(text: bytes, start: int, value: bytes) -> bool:
    """Whether a value is a revision that nothing gives a name to, as in `git checkout` or `deploy`."""
    return is_revision(value) and not _ASSIGNED.search(text, reach_back(text, start, _REACH), start)


def _is_of_provider(text: bytes, places: list[int], start: int, value: bytes) -> bool:
    """Whether a service is named shortly before, and nothing between says that the value is something else."""
    if text[start - 1 : start] in _NOT_BEFORE or not value[:1].isalnum() or b"." in value or _CONSTANT.match(value):
        return False
    if text[start + len(value) : start + len(value) + 1] in _NOT_BEHIND or not is_token(value) or _DRAWING.match(value):
        return False
    if (
        _is_block(text, start, value)
        or _is_thing(text, start, value)
        or says_something(value)
        or _is_checked_out(text, start, value)
    ):
        return False
    for index in range(bisect.bisect_left(places, start) - 1, -1, -1):
        place = places[index]
        if place < start - _REACH:
            return False
        if _is_word(text, place):
            between = text[place:start]
            return (
                not _ADDRESS.search(text, reach_back(text, start, _REACH), start)
                and between.count(b"\n") <= _MOST_LINES
                and BREAK not in between
                and not _HARMLESS.search(between)
            )
    return False


def _is_block(text: bytes, start: int, value: bytes) -> bool:
    """Whether a value is one of several lines of encoded data."""
    if len(value) < _BLOCK_LINE or text[start - 1 : start] != b"\n":
        return False
    above = text[max(0, start - 1 - len(value)) : start - 1]
    return len(above.rpartition(b"\n")[2]) >= _BLOCK_LINE and b" " not in above


def _is_thing(text: bytes, start: int, value: bytes) -> bool:
    """Whether a value is the id of a class, {e3c9e316-...}, of a thing, or a part of a resource's name."""
    braced = text[start - 1 : start] == b"{" and UUID.match(value) is not None
    return (
        braced
        or numbers_thing(text, start)
        or _RESOURCE.search(text, reach_back(text, start, _REACH), start) is not None
    )


def _is_word(text: bytes, place: int) -> bool:
    """Whether the name is a word, also inside of camelCase, or begins one that speaks of access."""
    before = text[place - 1 : place]
    if before.isalpha() and not (before.islower() and text[place : place + 1].isupper()):
        return False
    name = text[place : place + _LONGEST_NAME]
    lowered = name.lower().decode("latin-1")
    for end in range(3, len(name) + 1):
        if lowered[:end] in _PROVIDERS and (_ENDS.match(name, end) or _TURN.match(name, end - 1)):
            return True
    return False
