"""JSON as JavaScript writes it, cut at its quotes and not decoded.

Numbers, order, doubled keys and white space of a line survive byte for byte.
"""

import json
import re
from collections.abc import Collection, Sequence
from typing import Final

import msgspec

_RAW: Final = msgspec.json.Decoder(msgspec.Raw)
_ESCAPED_BACKSLASH: Final = re.compile(rb"\\\\")
_ESCAPED_QUOTE: Final = re.compile(rb'\\"')
_UNESCAPED: Final = re.compile(rb"[^\x00-\x1f\"\\]+")
"""What no writer of JSON must escape ..."""
_HIDING: Final = re.compile(rb"\\(?:u(?!00[01])|/)")
"""... and how one may do it all the same."""


def with_plain_quotes(line: bytes) -> bytes:
    """The same JSON, in which every quote is the border of a string.

    The two escapes that hide where a string ends become bytes that JSON does not have.
    """
    return _ESCAPED_QUOTE.sub(b"\x02", _ESCAPED_BACKSLASH.sub(b"\x01", line))


def with_escapes(line: bytes) -> bytes:
    """The way back."""
    return line.replace(b"\x02", b'\\"').replace(b"\x01", b"\\\\")


def escaped(text: bytes) -> bytes:
    """A text as a JSON string with plain quotes, without those around it."""
    return with_plain_quotes(msgspec.json.encode(text.decode("utf-8", "replace")))[1:-1]


is_plain: Final = re.compile(rb"[^\\\x01\x02\x80-\xff]*").fullmatch
"""Whether a string of JSON with plain quotes is the text that it means."""


def unescaped(body: bytes) -> bytes:
    """The text of a JSON string with plain quotes; NUL, a lone surrogate, or what is no UTF-8, becomes U+FFFD.

    So it is stored, too: a text that is masked again, when it was stored, must be read as it was before. Most strings
    are plain: callers ask `is_plain` first, which spares the call.
    """
    quoted = b'"' + with_escapes(body) + b'"'
    try:
        return str(msgspec.json.decode(quoted)).replace("\0", "\ufffd").encode()
    except ValueError:
        text = str(json.loads(quoted.decode("utf-8", "replace"), strict=False))
        return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def may_hide(line: bytes, values: Collection[bytes]) -> bool:
    """Whether JSON may hold one of these values in another spelling, with escapes where there need be none."""
    return not all(map(_UNESCAPED.fullmatch, values)) or _HIDING.search(line) is not None


def is_json(raw: bytes) -> bool:
    """Whether the line is JSON as JavaScript writes it: a cut emoji leaves a lone surrogate, which msgspec refuses."""
    try:
        _RAW.decode(raw)
    except (ValueError, RecursionError):
        try:
            json.loads(raw.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return False
    return True


def are_json(whole: bytes, lines: Sequence[bytes]) -> bool:
    """Whether each of these lines, joined in `whole`, is JSON and nothing beside it; if not, each must be tried."""
    try:
        values = _RAW.decode_lines(whole)
    except (ValueError, RecursionError):
        return False
    # A value that reaches over a line's end, or two values in a line, would have other lengths.
    return list(map(len, values)) == list(map(len, lines))
