"""What all commands share: the program's name, the errors that end a command, and arguments of several of them."""

TYPE_CHECKING = False  # typing itself takes longer to import than `--help` to print
if TYPE_CHECKING:
    import argparse

PROGRAM = "agent-trace-sidecar"


class CommandError(Exception):
    """A command can't do its work; the text is the sentence that the user sees."""

    code = 1


class UsageError(CommandError):
    """A command was called with something that it does not understand."""

    code = 2


def project_argument(parser: "argparse.ArgumentParser") -> None:
    """`folder`: the project that a command is about."""
    from pathlib import Path  # noqa: PLC0415 - `--help` needs no paths

    parser.add_argument(
        "folder",
        metavar="DIR",
        type=Path,
        nargs="?",
        default=Path(),
        help="project folder (default: the current folder)",
    )


def record_arguments(parser: "argparse.ArgumentParser") -> None:
    """`files` with Agent Trace records, and the `repository` that they describe."""
    from pathlib import Path  # noqa: PLC0415 - as above

    parser.add_argument("files", metavar="FILE", type=Path, nargs="+", help="Agent Trace records: JSON or JSON lines")
    parser.add_argument(
        "--repository",
        metavar="DIR",
        type=Path,
        default=Path(),
        help="repository that the records describe (default: the current folder)",
    )
