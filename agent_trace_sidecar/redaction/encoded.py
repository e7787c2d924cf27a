"""One decoding pass: a run of base64, hex or percent escapes that hides a secret is masked."""

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from typing import Final

from agent_trace_sidecar.redaction.spans import Span
from agent_trace_sidecar.redaction.rules import compiled

_RUN: Final = compiled(rb"[A-Za-z0-9+/_-]{24,}={0,2}")
_HEX: Final = re.compile(rb"(?:[0-9a-fA-F]{2}){16,}$")
_PERCENT: Final = re.compile(rb"%([0-9a-fA-F]{2})")
_TELLING: Final = re.compile(rb"(?i)%(?:3[ad]|40|22|27|2[0bdf])")
_LONGEST: Final = 256 * 1024
_PROBE: Final = 24
_PRINTABLE: Final = frozenset(range(32, 127)) | {9, 10, 13}
_NOT_TEXT: Final = bytes(sorted(set(range(256)) - _PRINTABLE))

Finder = Callable[[bytes], list[Span]]


def encoded(text: bytes, find: Finder) -> Iterator[Span]:
    """Runs whose decoded text holds a secret; `find` looks into the decoded text."""
    for match in _RUN.finditer(text):
        start, end = match.span()
        plain = _decoded(text[start : min(end, start + _LONGEST)])
        if plain is not None and (inside := find(plain)):
            yield Span(start, end, inside[0].rule)


def _decoded(run: bytes) -> bytes | None:
    """What the run says, when it is text in base64 or hex."""
    if _HEX.match(run):
        head = bytes.fromhex(run[:_PROBE].decode())
        return bytes.fromhex(run.decode()) if not _binary(head) else None
    try:
        head = base64.b64decode(run[:_PROBE], altchars=b"-_" if b"-" in run or b"_" in run else None)
    except (binascii.Error, ValueError):
        return None
    if _binary(head):
        return None
    body = run.rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
    body = body[: len(body) - (len(body) % 4 == 1)]
    plain = base64.b64decode(body + b"=" * (-len(body) % 4))
    return plain if not _binary(plain) else None


def _binary(data: bytes) -> bool:
    return len(data.translate(None, _NOT_TEXT)) != len(data)


def has_percent(text: bytes) -> bool:
    """Whether percent escapes stand where they could hide a separator."""
    return _TELLING.search(text) is not None


def percent_pieces(text: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Every percent escape: where it stands and what it means."""
    for match in _PERCENT.finditer(text):
        value = int(match.group(1), 16)
        yield *match.span(), bytes([value]) if 32 <= value < 127 else b"?"  # noqa: PLR2004 - printable ASCII
