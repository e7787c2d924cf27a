"""A formatter of code, as OpenCode runs one on a file it has written: `python formatter.py FILE`.

Tabs become blanks, blanks at the end go, and what `;; ` joined gets lines of its own. A file in order stays as it is.
In a `.pyw` each argument of a call gets a line of its own instead.
"""

import re
import sys
from pathlib import Path
from typing import Final

_CALL: Final = re.compile(r"( *)([^()'\"#]*\()([^()'\"#]+,[^()'\"#]+)(\)[:,]?)")
"""A line that is one simple call."""


def format_line(text: str) -> list[str]:
    """The lines that one line becomes."""
    line = text.expandtabs(4)
    indent = line[: len(line) - len(line.lstrip(" "))]
    first, *others = line.split(";; ")
    return [first.rstrip(), *(indent + other.strip() for other in others)]


def wrapped_line(text: str) -> list[str]:
    """The lines that a call becomes, with a comma after its last argument too."""
    found = _CALL.fullmatch(text)
    if not found:
        return [text]
    indent, opening, arguments, closing = found.groups()
    return [indent + opening, *(f"{indent}    {one.strip()}," for one in arguments.split(",")), indent + closing]


def main() -> None:
    """Format a file in place, each line with the ending that it has."""
    path = Path(sys.argv[1])
    formatted = wrapped_line if path.suffix == ".pyw" else format_line
    lines = path.read_bytes().decode().split("\n")
    result = []
    for line in lines:
        ending = "\r" if line.endswith("\r") else ""
        result += [part + ending for part in formatted(line.removesuffix("\r"))]
    path.write_bytes("\n".join(result).encode())


if __name__ == "__main__":
    main()
