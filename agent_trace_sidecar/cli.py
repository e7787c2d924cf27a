"""The command line: the table of commands, and how their errors end the process.

A command is a module of `commands/` with `arguments(parser)` and `run(config, given)`. Only the one that is called is
imported: `run` must answer its first line within a fraction of a second, and `--help` needs none of them.
Exit codes: 0 success, 1 failure, 2 wrong usage.
"""

import argparse
import gc
import os
import sys
from importlib import import_module

from agent_trace_sidecar import __version__
from agent_trace_sidecar.commands.common import PROGRAM, CommandError, UsageError

TYPE_CHECKING = False  # typing itself takes longer to import than `--help` to print
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from agent_trace_sidecar.config import Config

    class Command(Protocol):
        """What a module of `commands/` holds."""

        def arguments(self, parser: argparse.ArgumentParser) -> None:
            """Declare the command's arguments."""

        def run(self, config: Config, given: argparse.Namespace) -> int:
            """Do it; return the exit code."""


COMMANDS = {
    "init": "Install the shim into a project, so that OpenCode records there.",
    "status": "Show recording health. Exits 1 if unhealthy.",
    "sessions": "List recorded sessions: title, time, model, calls, lines, cost.",
    "usage": "Add up tokens and cost by day, model, repository, user, session or tool.",
    "watch": "Show what is being recorded, as it is stored. Ctrl-C ends it.",
    "blame": "Show who wrote each line of a file.",
    "stats": "Summarise AI-written lines: written, surviving, changed, lost, cost.",
    "report": "Write an HTML page that shows who wrote what. It makes no network requests.",
    "export": "Print stored records as Agent Trace JSON lines.",
    "backfill": "Store sessions that were not recorded, from OpenCode's own database.",
    "reconcile": "Compare OpenCode's own store with what is recorded. Exits 1 if something is missing.",
    "notes": "Write who wrote the lines of commits as git notes and push them, or print them.",
    "import": "Store Agent Trace files of other tools, for blame and stats.",
    "validate": "Check Agent Trace files against the schema, and against the repository. Exits 1 on errors.",
    "doctor": "Check everything that recording needs. Exits 1 if something is missing.",
    "demo": "Record bundled sessions of OpenCode, and show blame, cost and pages of them.",
    "psql": "Open psql on the configured database. All arguments are passed to psql.",
    "migrate": "Create or update the tables.",
    "prune": "Delete old rows, or the rows of a session, a repository or a user.",
    "redact": "Mask stored rows again after the rules have improved.",
    "dead-letters": "List, retry or discard events that could not be stored.",
    "replay": "Store finished event logs. An interrupted replay resumes where it stopped.",
    "tail": "Follow event logs through rotation, until SIGTERM.",
    "run": "Record what the shim sends to stdin. The shim starts this by itself.",
    "uninstall": "Remove the shim; with --data, also what is stored on this machine.",
    "completion": "Print a completion script for bash, zsh or fish.",
}
"""Each command with its one-line help, those of every day first. Its module is `commands/<name>.py`."""

_KEYWORDS = {"import": "import_"}
"""Commands whose name can't be a module's."""


def main(argv: "Sequence[str] | None" = None) -> int:
    """Run one command and return its exit code."""
    gc.disable()  # until `_call`: collections find nothing in what is imported, and take a tenth of its time
    _guard_standard_descriptors()
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        _parser(()).print_help()
        return UsageError.code
    try:
        return _call(_parsed(words))
    except CommandError as exc:
        return _fail(str(exc), exc.code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python would complain once more when it flushes stdout
        return 1
    except KeyboardInterrupt:
        return 130


def _parsed(words: "list[str]") -> argparse.Namespace:
    """The command and its arguments.

    Raises:
        UsageError: there is no such command, or it does not take one of the arguments.
    """
    if not words[0].startswith("-") and words[0] not in COMMANDS:
        raise UsageError(_unknown(words[0]))
    rest = words[1:] if words[:1] == ["psql"] else []  # psql's own options are not ours to understand
    given, unknown = _parser(words[:1]).parse_known_args(words[: len(words) - len(rest)])
    if unknown:
        raise UsageError(_unknown_argument(unknown[0], given))
    given.rest, given.whole_parser = rest, whole_parser
    return given


def _call(given: argparse.Namespace) -> int:
    from agent_trace_sidecar.commands.output import complain  # noqa: PLC0415 - `--help` needs none of it
    from agent_trace_sidecar.config import ConfigError, load, unknown_settings  # noqa: PLC0415 - nor any settings
    from agent_trace_sidecar.limits import GARBAGE_OBJECTS  # noqa: PLC0415 - as above

    gc.set_threshold(GARBAGE_OBJECTS)
    gc.freeze()
    gc.enable()
    for sentence in unknown_settings(os.environ):
        complain(f"warning: {sentence}")
    try:
        return _command(given.command).run(load(os.environ), given)
    except ConfigError as exc:
        raise UsageError(str(exc)) from None


def whole_parser() -> argparse.ArgumentParser:
    """The parser with the arguments of every command, for completion scripts and for checks of the documentation."""
    return _parser(list(COMMANDS))


def _parser(called: "Sequence[str]") -> argparse.ArgumentParser:
    """The parser; only the commands that are called know their arguments."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Record OpenCode sessions in Postgres, and show who wrote which lines.",
        formatter_class=_formatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(  # type: ignore[call-overload] # of the class only the call is needed
        metavar="COMMAND", required=True, dest="command", parser_class=_Subparsers(called)
    )
    for name, text in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text)
        if name in called:
            _command(name).arguments(sub)
            sub.set_defaults(usage=sub.format_usage)
    return parser


class _Subparsers:
    """Makes the parsers of the commands that are called; of the others, help shows only what `COMMANDS` holds."""

    def __init__(self, called: "Sequence[str]") -> None:
        self._called = called

    def __call__(self, prog: str, description: str) -> argparse.ArgumentParser | None:
        if prog.rsplit(maxsplit=1)[-1] not in self._called:
            return None
        return argparse.ArgumentParser(prog, description=description, formatter_class=_formatter)


def _formatter(prog: str) -> argparse.HelpFormatter:
    """As wide as the terminal: argparse finds that out by `shutil`, whose archives take a third of `--help`'s time."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return argparse.HelpFormatter(prog, width=int(columns) - 2)
    try:
        size = os.get_terminal_size()
    except OSError:  # stdout is no terminal, or is closed
        return argparse.HelpFormatter(prog, width=78)
    return argparse.HelpFormatter(prog, width=(size.columns or 80) - 2)


def _unknown(word: str) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - only a mistake needs it

    found = get_close_matches(word, list(COMMANDS), 1)
    meant = f" Did you mean {found[0]}?" if found else ""
    return f"{word!r} is not a command.{meant} `{PROGRAM} --help` lists all."


def _unknown_argument(word: str, given: argparse.Namespace) -> str:
    import re  # noqa: PLC0415 - only a mistake needs it
    from difflib import get_close_matches  # noqa: PLC0415 - as above

    found = get_close_matches(word.partition("=")[0], re.findall(r"--[a-z-]+", given.usage()), 1)
    meant = f" Did you mean {found[0]}?" if found else ""
    return f"{given.command} does not take {word!r}.{meant} `{PROGRAM} {given.command} --help` lists its arguments."


def _command(name: str) -> "Command":
    module = _KEYWORDS.get(name, name.replace("-", "_"))
    command: Command = import_module(f"agent_trace_sidecar.commands.{module}")
    return command


def _guard_standard_descriptors() -> None:
    """Open what was closed: otherwise the first file that we open becomes our stdin or stdout."""
    for _ in range(3):
        fd = os.open(os.devnull, os.O_RDWR)
        if fd > 2:  # noqa: PLR2004 - stderr is the last of the three
            os.close(fd)
            return


def _fail(sentence: str, code: int) -> int:
    from agent_trace_sidecar.commands.output import complain  # noqa: PLC0415 - `--help` needs none of it

    complain(sentence)
    return code
