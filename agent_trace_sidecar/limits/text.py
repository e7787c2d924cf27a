r"""The one way to show a text that somebody else wrote: a name, a title or an error may hold what a terminal obeys.

ESC and what follows it moves the cursor, changes the clipboard or the window's title; a newline begins a line that
looks like ours; marks of direction show a text in another order than it has.
"""

import re
from typing import Final

_OBEYED: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_OBEYED_IN_LINES: Final = re.compile(
    r"(?!\x1b\[[0-9;]{0,12}m)(?!\n)[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""A text for one line: what a terminal would obey is written as Python would write it, e.g. `\x1b` or `\n`."""
    return text if text.isprintable() else _OBEYED.sub(_escaped, text)


def printable_lines(text: str) -> str:
    """As `printable`, for lines that we made of such texts: newlines and our own colours are left."""
    return _OBEYED_IN_LINES.sub(_escaped, text)


def printable_json(text: str) -> str:
    """The same JSON, without what a terminal would obey: JSON itself leaves some of it in its strings."""
    return _OBEYED_IN_LINES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    short = {9: "\\t", 10: "\\n", 13: "\\r"}.get(code)
    return short or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")  # noqa: PLR2004 - two digits
