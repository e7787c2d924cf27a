"""A formatter of code, as OpenCode runs one on a file it has written: `python formatter.py FILE`.

Tabs become blanks, blanks at the end go, and what `;; ` joined gets lines of its own. A file in order stays as it is.
"""

import sys
from pathlib import Path


def format_line(text: str) -> list[str]:
    """The lines that one line becomes."""
    line = text.expandtabs(4)
    indent = line[: len(line) - len(line.lstrip(" "))]
    first, *others = line.split(";; ")
    return [first.rstrip(), *(indent + other.strip() for other in others)]


def main() -> None:
    """Format a file in place, each line with the ending that it has."""
    path = Path(sys.argv[1])
    lines = path.read_bytes().decode().split("\n")
    result = []
    for line in lines:
        ending = "\r" if line.endswith("\r") else ""
        result += [part + ending for part in format_line(line.removesuffix("\r"))]
    path.write_bytes("\n".join(result).encode())


if __name__ == "__main__":
    main()
