r"""The one way to show a foreign text: a name, a title or an error may hold what a terminal obeys.

ESC and what follows it moves the cursor, changes the clipboard or the window's title; a newline begins a line that
looks like ours; marks of direction show a text in another order than it has.
"""

import re
from typing import Final

_OBEYED: Final = r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
"""Everything of the kind but the tab. Compiled at first use: most commands print nothing of it."""
_IN_LINE: Final = rf"(?!\x1b\[[0-9;]{{0,12}}m){_OBEYED}"
_IN_JSON: Final = rf"(?!\n){_OBEYED}"
_SHORT: Final = {"\n": "\\n", "\r": "\\r"}


def printable(text: str) -> str:
    r"""A foreign text: what a terminal would obey is written as Python would write it, e.g. `\x1b` or `\n`."""
    return text if text.isprintable() else re.sub(_OBEYED, _escaped, text)


def printable_line(line: str) -> str:
    """As `printable`, for a line of ours that holds such texts: its colours stay."""
    return line if line.isprintable() else re.sub(_IN_LINE, _escaped, line)


def printable_json(document: str) -> str:
    """The same JSON; by itself it leaves some of it in its strings."""
    return document if document.isprintable() else re.sub(_IN_JSON, lambda found: f"\\u{ord(found[0]):04x}", document)


def counted(number: int, one: str, many: str = "") -> str:
    """`3 lines`, `1 line`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return _SHORT.get(found[0]) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")  # noqa: PLR2004 - two digits
