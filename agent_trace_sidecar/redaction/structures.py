"""Secrets that their surroundings give away: URL userinfo, Authorization and Cookie headers, key blocks, crypt hashes.

Each entry is a cheap literal and a pattern; the first group is the secret. Linear-time patterns only.
"""

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import re2

from agent_trace_sidecar.redaction.spans import Span


def compiled(pattern: bytes) -> Any:  # noqa: ANN401 - google-re2 is untyped
    """A pattern of re2 for bytes, quiet about errors and with room for long counted repeats."""
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)


class _Structure(NamedTuple):
    rule: str
    literals: tuple[bytes, ...]
    pattern: bytes
    spread: bool = True


_STRUCTURES: Final = (
    _Structure(
        "url-password",
        (b"://",),
        rb"[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#@:\"'<>\\\x60\x1e\x1f]*:([^\s/?#@\"'<>\\\x60\x1e\x1f]{1,})@[A-Za-z0-9\[_.%$-]",
    ),
    _Structure(
        "authorization",
        (b"authorization",),
        rb"(?i)authorization\\?[\"']?\]?\s{0,4}(?:=>|[:=,])\s{0,4}[\\\"'\x60fbu({]{0,4}(?:(?:basic|bearer|token|apikey|api-key|digest|negotiate|key|ssws|pat|splunk|bot|oauth)[ :=]{1,2}\s{0,3})([A-Za-z0-9._~+/=:|@!-]{6,})",
    ),
    _Structure("bearer", (b"bearer ",), rb"(?i)\bbearer\s{1,3}([A-Za-z0-9._~+/=-]{16,})"),
    _Structure(
        "cookie",
        (b"cookie",),
        rb"(?i)(?:^|[\s\"'\\])(?:set-)?cookie\\?[\"']?:\s{0,4}[\\\"']{0,2}([A-Za-z0-9_.-]{1,64}=[^\s\"'\\<>\x1e\x1f][^\r\n\"'\\\x1e\x1f]{7,})",
    ),
    _Structure(
        "crypt-hash",
        (b"$",),
        rb"(\$(?:1|2[abxy]?|5|6|7|y|gy|apr1|P|H|S|sha1|md5|argon2(?:id?|d)|scrypt|pbkdf2[a-z0-9-]*|bcrypt[a-z0-9-]*)\$[A-Za-z0-9./$=,+-]{16,256})",
    ),
)

_COMPILED: dict[str, Any] = {}

_PEM_BEGIN: Final = re.compile(rb"-----BEGIN (?:[A-Z0-9 ]{0,40} )?PRIVATE KEY(?: BLOCK)?-----")
_PEM_END: Final = re.compile(rb"-----END (?:[A-Z0-9 ]{0,40} )?PRIVATE KEY(?: BLOCK)?-----")
_PEM_BODY_MOST: Final = 64 * 1024


def structures(text: bytes, lowered: bytes) -> Iterator[Span]:
    """Secrets given away by the form of what stands around them."""
    for structure in _STRUCTURES:
        if not any(literal in lowered for literal in structure.literals):
            continue
        regex = _COMPILED.get(structure.rule)
        if regex is None:
            regex = _COMPILED[structure.rule] = compiled(structure.pattern)
        for match in regex.finditer(text):
            yield Span(*match.span(1), structure.rule, structure.spread)
    if b"PRIVATE KEY" in text:
        yield from _key_blocks(text)


def _key_blocks(text: bytes) -> Iterator[Span]:
    """The body of every private key: BEGIN and END lines stay; without an END, everything that looks like a body."""
    at = 0
    while begin := _PEM_BEGIN.search(text, at):
        limit = min(len(text), begin.end() + _PEM_BODY_MOST)
        border = text.find(b"\x1e", begin.end(), limit)
        limit = limit if border < 0 else border
        end = _PEM_END.search(text, begin.end(), limit)
        stop = end.start() if end else limit
        yield Span(begin.end(), stop, "private-key")
        at = end.end() if end else stop
