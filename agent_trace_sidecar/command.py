"""What all commands share."""

from typing import Final

PROGRAM: Final = "agent-trace-sidecar"


class CommandError(Exception):
    """A command can't do what was asked; the text is the sentence that the user sees."""

    code = 1


class UsageError(CommandError):
    """A command was called with something that it does not understand."""

    code = 2
