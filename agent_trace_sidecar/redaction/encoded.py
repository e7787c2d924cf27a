"""One decoding pass: a run of base64 or hex that hides a secret is masked."""

import binascii
import re
from collections.abc import Callable, Iterator
from typing import Final

from agent_trace_sidecar.redaction.deadline import check_deadline
from agent_trace_sidecar.redaction.rules import Late
from agent_trace_sidecar.redaction.spans import Span

_RUN: Final = Late(rb"[A-Za-z0-9+/_-]{24,}={0,2}")
_HEX: Final = re.compile(rb"(?:[0-9a-fA-F]{2}){16,}$")
_LONGEST: Final = 4 * 1024 * 1024
_PROBE: Final = 24
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
_PRINTABLE: Final = frozenset(range(32, 127)) | {9, 10, 13}
_NOT_TEXT: Final = bytes(sorted(set(range(256)) - _PRINTABLE))

Finder = Callable[[bytes], list[Span]]


def encoded(text: bytes, find: Finder) -> Iterator[Span]:
    """Runs whose decoded text holds a secret; `find` looks into the decoded text."""
    for match in _RUN.finditer(text):
        check_deadline()
        start, end = match.span()
        if _is_text(text[start : start + _PROBE]):
            plain = _decoded(text[start : min(end, start + _LONGEST)])
            if plain is not None and (inside := find(plain)):
                yield Span(start, end, inside[0].rule)


def says_something(run: bytes) -> bool:
    """Whether a run is text in base64: encoded by a program, and not drawn at random."""
    return _HEX.match(run) is None and _is_text(run[: len(run) // 4 * 4][:_PROBE])


def _is_text(head: bytes) -> bool:
    """Whether the first bytes of a run decode to text: what nearly no run does."""
    try:
        return not _binary(binascii.a2b_base64(head.translate(_URL_SAFE))) or (
            head.isalnum() and not _binary(bytes.fromhex(head.decode()))
        )
    except ValueError:
        return False


def _decoded(run: bytes) -> bytes | None:
    """What the run says, when it is text in base64 or hex."""
    if _HEX.match(run):
        plain = bytes.fromhex(run.decode())
        if not _binary(plain):
            return plain
    body = run.rstrip(b"=").translate(_URL_SAFE)
    body = body[: len(body) - (len(body) % 4 == 1)]
    plain = binascii.a2b_base64(body + b"=" * (-len(body) % 4))
    return plain if _is_mostly_text(plain) else None


def _is_mostly_text(data: bytes) -> bool:
    """Text in another encoding or with a torn end is text all the same."""
    return (len(data) - len(data.translate(None, _NOT_TEXT))) * 20 <= len(data)


def _binary(data: bytes) -> bool:
    return len(data.translate(None, _NOT_TEXT)) != len(data)
