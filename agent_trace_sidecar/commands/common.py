"""What all commands share: the program's name and the errors that end a command."""

PROGRAM = "agent-trace-sidecar"


class CommandError(Exception):
    """A command can't do its work; the text is the sentence that the user sees."""

    code = 1


class UsageError(CommandError):
    """A command was called with something that it does not understand."""

    code = 2
