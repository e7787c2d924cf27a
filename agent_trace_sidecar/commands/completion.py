"""`completion`: a shell's completion script, made from the parser, so that it knows every command and option."""

import argparse
from collections.abc import Iterator
from typing import Final, Literal

import shtab

from agent_trace_sidecar.commands.common import PROGRAM
from agent_trace_sidecar.commands.output import say
from agent_trace_sidecar.config import Config

_IDS: Final = f"{PROGRAM} sessions --ids 2>/dev/null"
_SESSIONS: Final = {
    "bash": "_agent_trace_sidecar_sessions",
    "zsh": "_agent_trace_sidecar_sessions",
    "fish": f"(echo latest; {_IDS})",
    "preamble": {
        "bash": f'_agent_trace_sidecar_sessions() {{\n  compgen -W "latest $({_IDS})" -- "$1"\n}}',
        "zsh": f'_agent_trace_sidecar_sessions() {{\n  compadd -- latest ${{(f)"$({_IDS})"}}\n}}',
    },
}
"""The database is read when an id is completed, not when a shell loads the script, as with `shtab.cmd` in zsh."""
_COMPLETED: Final = {"FILE": shtab.FILE, "PATH": shtab.FILE, "DIR": shtab.DIRECTORY, "SESSION": _SESSIONS}
"""What to complete, by the name that an argument has in the help."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The shell."""
    parser.add_argument("shell", choices=["bash", "zsh", "fish"])


def run(_: Config, given: argparse.Namespace) -> int:
    """Print the script."""
    say(*script(given.whole_parser(), given.shell).split("\n"))
    return 0


def script(parser: argparse.ArgumentParser, shell: Literal["bash", "zsh", "fish"]) -> str:
    """The script, to be put where the shell reads completions."""
    for action in _actions(parser):
        if action.metavar in _COMPLETED:
            action.complete = _COMPLETED[action.metavar]  # type: ignore[attr-defined] # shtab's interface
    found: str = shtab.complete(parser, shell)
    return found


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to list them
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for sub in action.choices.values():
                yield from _actions(sub)
