"""The arguments of `stats --range`, apart from its work: `stats` and its help need none of that."""

import argparse
from typing import Final

from agent_trace_sidecar.commands.common import UsageError

EXIT_ABOVE: Final = 3
"""The exit code when the share of AI lines is above `--fail-above`."""
_PERCENT: Final = 100.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """The range, the form, and the bound."""
    group = parser.add_argument_group("lines that a range of commits adds")
    group.add_argument(
        "--range",
        metavar="A..B",
        help="compare as git diff does: A..B compares A and B, A...B compares B and the merge base (pull requests)",
    )
    group.add_argument(
        "--from",
        dest="source",
        metavar="FILE",
        help="use a file of `export --range A..B --output FILE`, or the git notes of `notes push` if FILE is `notes`; "
        "needs no database",
    )
    group.add_argument("--format", choices=["text", "markdown", "json"], help="default: text")
    group.add_argument(
        "--fail-above",
        metavar="PERCENT",
        type=_percent,
        help=f"exit with code {EXIT_ABOVE} if more of the added lines are AI or mixed",
    )


def is_asked(given: argparse.Namespace) -> bool:
    """Whether the options name a range of commits.

    Raises:
        UsageError: options that exclude each other.
    """
    if given.range is None:
        for name, option in (("source", "from"), ("format", "format"), ("fail_above", "fail-above")):
            if getattr(given, name) is not None:
                raise UsageError(f"--{option} needs --range A..B.")
        return False
    if given.rev is not None or given.by is not None:
        raise UsageError("--range excludes --rev and --by.")
    if given.json and given.format not in {None, "json"}:
        raise UsageError(f"--json excludes --format {given.format}.")
    return True


def _percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= _PERCENT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage from 0 to 100.")
    return value
