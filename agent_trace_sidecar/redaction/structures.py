"""Secrets that their surroundings give away: URL userinfo, Authorization and Cookie headers, key blocks, crypt hashes."""

# ruff: noqa: SIM905 - long lists of words are read and sorted as text

# ruff: noqa: E501 - a pattern is read as one line

import re
from collections.abc import Iterator
from typing import Final

from agent_trace_sidecar.redaction.deadline import check_deadline
from agent_trace_sidecar.redaction.rules import Overload, Rule
from agent_trace_sidecar.redaction.spans import Span

_SCHEMES: Final = (
    r"(?:basic|bearer|token|apikey|api-key|digest|negotiate|key|ssws|pat|splunk|bot|oauth|genie-?key|client-id|"
    r"aws4-hmac-sha256|ntlm|[a-z-]{2,20}-token|zoho-oauthtoken)"
)

STRUCTURE_RULES: Final = (
    Rule(
        "url-userinfo",
        r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#@:\"'<>\\`\x1e\x1f]*:([^\s/?\"'<>\\`\x1e\x1f]*[^\s/?@\"'<>\\`\x1e\x1f])@[A-Za-z0-9\[_.%$-]",
        ("://",),
        group=1,
    ),
    Rule(
        "url-signature",
        r"(?i)[?&](?:X-Amz-Signature|X-Goog-Signature|Signature|sig)=([A-Za-z0-9%+/=_-]{20,})",
        ("signature=", "sig="),
    ),
    Rule(
        "authorization",
        rf"(?i)authorization\\*[\"']?\]?\s{{0,4}}(?:=>|[:=,])\s{{0,4}}[\\\"'`fbu({{]{{0,4}}(?:{_SCHEMES}[ :=]{{1,2}}\s{{0,3}})"
        r"\\*[\"']?([A-Za-z0-9._~/][A-Za-z0-9._~+/=:|@!-]{5,})",
        ("authorization",),
    ),
    Rule(
        "authorization",
        r"(?i)authorization\\*[\"']?\]?\s{0,4}(?:=>|[:=,])\s{0,4}[\\\"'`fbu({]{0,4}(?:[A-Za-z][\w-]{1,24} {1,2})?([A-Za-z0-9._~+/=|-]*\d[A-Za-z0-9._~+/=|-]{15,})",
        ("authorization",),
    ),
    Rule("bearer", r"(?i)\bbearer\s{1,3}([A-Za-z0-9._~+/=-]{16,})", ("bearer",)),
    Rule(
        "basic-auth",
        r"(?i)\bbasic[ \t]{1,3}((?:[A-Za-z0-9+/]{4}){3,}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4}))",
        ("basic ",),
        judged="unplain",
    ),
    Rule(
        "cookie",
        r"(?i)(?:^|[\s\"'\\])(?:set-)?cookie\\*[\"']?\s?:\s{0,4}[\\\"']{0,2}([A-Za-z0-9_.-]{1,64}=[^\s\"'\\<>\x1e\x1f][^\r\n\"'\\\x1e\x1f]{7,})",
        ("cookie",),
        judged="random",
    ),
    Rule(
        "crypt-hash",
        r"(\$(?:[1256789]|2[abxy]?|y|gy|apr1|P|H|S|sha1|md5|bcrypt[a-z0-9-]*|argon2(?:id?|d)|scrypt|pbkdf2[a-z0-9-]*)\$[A-Za-z0-9./$=,+-]{16,})",
        tuple(
            "$1$ $2$ $2a$ $2b$ $2x$ $2y$ $5$ $6$ $7$ $8$ $9$ $y$ $gy$ $apr1$ $p$ $h$ $s$ $sha1$ $md5$ $bcrypt $argon2 $scrypt $pbkdf2".split()
        ),
    ),
    Rule(
        "django-hash",
        r"((?:pbkdf2_sha\d+|bcrypt_sha256|sha1|md5|argon2)\$[A-Za-z0-9.$=,+/-]{20,})",
        ("pbkdf2_sha", "bcrypt_sha256$", "sha1$", "md5$", "argon2$"),
    ),
    Rule(
        "dump-hash",
        r"(?i)\binsert\s{1,3}into\s{1,3}[\w`\"'.\[\]]{0,60}(?:user|account|member|admin|login|customer|password|auth)[^\r\n;]*?['\"]([0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f]{128})['\"]",
        ("insert into",),
    ),
)

_PEM_BEGIN: Final = re.compile(rb"-----BEGIN (?:[A-Z0-9 ]{0,40} )?PRIVATE KEY(?: BLOCK)?-----")
_PEM_END: Final = re.compile(rb"-----END (?:[A-Z0-9 ]{0,40} )?PRIVATE KEY(?: BLOCK)?-----")
_PEM_MARK: Final = re.compile(rb"-----(?:END|BEGIN) [A-Z0-9 ]{3,60}-----|\x1e")
_MOST_KEYS: Final = 2000
_PEM_LINE: Final = re.compile(
    rb"[ \t>|+*#/\d:\"'-]{0,24}([A-Za-z0-9+/=\\.\xe2\x80\xa6 ]*)[\"'\x60]?[ \t,;+.)\\]{0,8}\r?$|[\s\"']*(?:Proc-Type|DEK-Info|Version|Comment|Hash|Charset):"
)
"""A line of a key's body, or of its head, as it stands in files, diffs and literals."""
_STRING_END: Final = re.compile(rb"\s*\x1e")
_PEM_STRINGS: Final = re.compile(
    rb"(?:\s*\x1e\s*[+>|-]?(?:[A-Za-z0-9+/=]{0,100}|(?:Proc-Type|DEK-Info|Version|Comment|Hash|Charset): [^\n\x1e]{0,100}))*\s*\x1e\s*[+>|-]?"
)
_PEM_SHORT: Final = 24
_PEM_MOST: Final = 64 * 1024
_PEM_BODY: Final = re.compile(rb"(?:[A-Za-z0-9+/=]|\\[nrt]){4,}")
_PEM_PROSE: Final = re.compile(rb"[a-z]{2,} [a-z]{2,} |[\w)] ?[(]|[\w)]\[")
"""Sentences and calls between the marks: they are spoken of, and nothing is between them."""


def key_blocks(text: bytes) -> Iterator[Span]:
    """The body of every private key: BEGIN and END lines stay; without an END, everything up to the next mark."""
    if b"PRIVATE KEY" not in text:
        return
    at = count = 0
    while begin := _PEM_BEGIN.search(text, at):
        count += 1
        if count > _MOST_KEYS:
            raise Overload
        check_deadline()
        limit = min(len(text), begin.end() + _PEM_MOST)
        mark = _PEM_MARK.search(text, begin.end(), limit)
        stop = mark.start() if mark else limit
        if apart := _end_in_strings(text, begin.end(), limit):
            stop = apart
        elif mark is None or not _PEM_END.match(text, stop) or _PEM_PROSE.search(text, begin.end(), stop):
            stop = _body_end(text, begin.end(), stop)
        if _PEM_BODY.search(text, begin.end(), stop):
            yield Span(begin.end(), stop, "private-key")
        at = max(stop, begin.end())


def _end_in_strings(text: bytes, start: int, limit: int) -> int:
    """Where END stands when the lines of the key are strings of their own, as in the hunks of a patch; else 0."""
    if not _STRING_END.match(text, start):
        return 0
    end = _PEM_END.search(text, start, limit)
    return end.start() if end and _PEM_STRINGS.fullmatch(text, start, end.start()) else 0


def _body_end(text: bytes, start: int, limit: int) -> int:
    """Where the body of a key that was cut ends: before the first line that no key has, or at the limit."""
    at, lines = start, 0
    while at < limit:
        end = text.find(b"\n", at, limit)
        end = end if end >= 0 else limit
        line = _PEM_LINE.match(text, at, end)
        if line is None or (lines and b" " in (line[1] or b"").strip()):
            return at
        at = min(limit, end + 1)
        if lines and line[1] is not None and 0 < len(line[1].strip()) < _PEM_SHORT:
            return at  # the last line of the body is the short one
        lines += 1
    return limit
