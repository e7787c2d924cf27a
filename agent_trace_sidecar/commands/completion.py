"""`completion`: a shell's completion script, made from the parser, so that it knows every command and option."""

import argparse
from collections.abc import Iterator
from typing import Final, Literal

import shtab

from agent_trace_sidecar.commands.output import say
from agent_trace_sidecar.config import Config

_FILES: Final = {"FILE": shtab.FILE, "PATH": shtab.FILE, "DIR": shtab.DIRECTORY}
"""What to complete, by the name that an argument has in the help."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The shell."""
    parser.add_argument("shell", choices=["bash", "zsh", "fish"])


def run(_: Config, given: argparse.Namespace) -> int:
    """Print the script."""
    say(*script(given.whole_parser(), given.shell).split("\n"))
    return 0


def script(parser: argparse.ArgumentParser, shell: Literal["bash", "zsh", "fish"]) -> str:
    """The script, to be put where the shell looks for completions."""
    for action in _actions(parser):
        if action.metavar in _FILES:
            action.complete = _FILES[action.metavar]  # type: ignore[attr-defined] # shtab's way to be told
    found: str = shtab.complete(parser, shell)
    return found


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to ask
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for sub in action.choices.values():
                yield from _actions(sub)
