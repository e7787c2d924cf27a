"""Long random values near secret-like words: prose, logs and call arguments, where no separator joins the two.

Never on randomness alone: the word must stand on the same line, shortly before, and nothing between it and the value
may say that the value is a hash, a revision or an id.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from agent_trace_sidecar.redaction.rules import compiled
from agent_trace_sidecar.redaction.spans import Span
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
    rb"tokens\b|tokenize|import|keyword|http|certificate|keyid|ssh-|merkle|address|block|tx|model)"
)
_VALUE: Final = compiled(rb"[A-Za-z0-9_+/=.~-]{20,}")
_SHAPE: Final = re.compile(rb"(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9_+/=.~-]+$")
_HEX: Final = re.compile(rb"[0-9a-fA-F]+$")
_UUID: Final = re.compile(rb"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$")
_LONGEST: Final = 600


def near_words(text: bytes, stretches: Iterable[tuple[int, int]]) -> Iterator[Span]:
    """Random values behind a secret-like word on the same line."""
    for low, high in stretches:
        for match in _VALUE.finditer(text, low, min(len(text), high + _LONGEST)):
            start, end = match.span()
            head, sign, _ = text[start:end].rstrip(b"=").rpartition(b"=")
            if sign and _HARMLESS.search(head):
                continue  # sha256=...
            start += len(head) + len(sign)  # of name=value the value is what counts
            value = text[start:end].rstrip(b"=.-")
            if len(value) <= _LONGEST and _is_random(value) and _is_announced(text, start):
                yield Span(start, end, "near-secret-word")


def _is_announced(text: bytes, start: int) -> bool:
    before = text[max(0, start - _REACH) : start]
    before = before[before.rfind(b"\n") + 1 :]
    before = before[before.rfind(b"\x1e") + 1 :]
    words = [m.start() for m in _WORD.finditer(before)]
    return bool(words) and not _HARMLESS.search(before, max(0, words[-1] - 12))


def _is_random(value: bytes) -> bool:
    if len(value) < 20 or not _SHAPE.match(value):  # noqa: PLR2004 - the shortest that can't be a name with a number
        return False
    if _HEX.match(value):
        return entropy(value.decode()) > 2.8  # noqa: PLR2004 - 4 is the most for hex
    if _UUID.match(value):
        return True
    if b"/" in value and b"." in value:
        return False
    text = value.decode()
    return not is_wordy(text) and not is_segmented(text) and entropy(text) >= 3.5  # noqa: PLR2004 - English identifiers stay below
