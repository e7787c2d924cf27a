"""How all commands print: foreign text can neither begin a line of its own nor command the terminal."""

import sys

from agent_trace_sidecar.commands.common import PROGRAM
from agent_trace_sidecar.limits.text import printable_json, printable_line


def say(*lines: str) -> None:
    """Print lines; a newline in one of them is foreign."""
    for line in lines:
        print(printable_line(line))


def say_json(document: str) -> None:
    """Print one JSON document."""
    print(printable_json(document))


def complain(sentence: str) -> None:
    """Print one line to stderr."""
    print(f"{PROGRAM}: {printable_line(sentence)}", file=sys.stderr)


def overwrite(line: str) -> None:
    """Put a line in place of the last one on stderr, which is a terminal; an empty one clears it."""
    print(f"\r{printable_line(line)}\x1b[K", end="", file=sys.stderr, flush=True)
