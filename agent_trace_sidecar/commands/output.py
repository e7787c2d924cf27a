"""How all commands print: foreign text can neither begin a line of its own nor command the terminal."""

import os
import sys
import time
from collections.abc import Sequence
from datetime import datetime

from agent_trace_sidecar.commands.common import PROGRAM, CommandError
from agent_trace_sidecar.limits.text import printable_json, printable_line


def say(*lines: str) -> None:
    """Print lines; a newline in one of them is foreign."""
    for line in lines:
        print(printable_line(line))


def page(lines: Sequence[str]) -> None:
    """Print lines; what does not fit a terminal through the user's pager, by default `less`."""
    if not sys.stdout.isatty() or _fits(lines) or not _paged(lines):
        say(*lines)


def _paged(lines: Sequence[str]) -> bool:
    """Show lines through the pager; False where there is none."""
    import shlex  # noqa: PLC0415 - these take a fifth of the time of a command that prints a few lines
    import tempfile  # noqa: PLC0415 - as above

    from agent_trace_sidecar.limits import processes  # noqa: PLC0415 - as above

    command = shlex.split(os.environ.get("PAGER") or "less")
    program = processes.find(command[0]) if command else None
    if program is None:
        return False
    with tempfile.NamedTemporaryFile("w", prefix="agent-trace-", suffix=".txt") as file:
        file.writelines(f"{printable_line(line)}\n" for line in lines)
        file.flush()
        env = processes.environment("LESS*", "TERM", "COLUMNS", "LINES")
        processes.interact([program, *command[1:], file.name], env={"LESS": "FRX"} | env)
    return True


def _fits(lines: Sequence[str]) -> bool:
    """Whether a terminal shows all lines at once, and its prompt below them; colours count as characters."""
    width, height = screen_size()
    return sum(1 + max(0, len(line) - 1) // width for line in lines) < height


def screen_size() -> tuple[int, int]:
    """Columns and lines of the terminal; COLUMNS and LINES win, as for other programs."""
    try:
        found = tuple(os.get_terminal_size())
    except OSError:
        found = (0, 0)
    given = [os.environ.get(name, "") for name in ("COLUMNS", "LINES")]
    width, height = (int(text) if text.isdecimal() else 0 for text in given)
    return width or found[0] or 80, height or found[1] or 24


def say_json(document: str) -> None:
    """Print one JSON document."""
    print(printable_json(document))


def complain(sentence: str) -> None:
    """Print one line to stderr."""
    print(f"{PROGRAM}: {printable_line(sentence)}", file=sys.stderr)


def confirmed(question: str) -> bool:
    """Prompt for a yes.

    Raises:
        CommandError: there is no terminal to prompt on.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise CommandError("confirm with --yes: there is no terminal to ask on.")
    print(f"{printable_line(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def dollars(cost: float | None, unpriced_steps: int, digits: int = 4) -> str:
    """A cost for a person; steps without a price are not free."""
    if cost is None:
        return "no price" if unpriced_steps else ""
    return f"{'> ' if unpriced_steps else ''}{cost:.{digits}f}"


def local_time(at: datetime) -> str:
    """A time for a person: of this machine's zone, which is named."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def ago(seconds_since_epoch: float) -> str:
    """How long ago something was, in one unit."""
    age = max(0.0, time.time() - seconds_since_epoch)
    for unit, size in (("days", 86_400), ("hours", 3600), ("min", 60)):
        if age >= 2 * size:
            return f"{age / size:.0f} {unit} ago"
    return f"{age:.0f} s ago"


def overwrite(line: str) -> None:
    """Put a line in place of the last one on stderr, which is a terminal; an empty one clears it."""
    print(f"\r{printable_line(line)}\x1b[K", end="", file=sys.stderr, flush=True)
