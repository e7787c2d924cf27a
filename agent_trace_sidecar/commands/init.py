"""`init`: puts the shim into a project's `.opencode/plugins`, where OpenCode finds it by itself."""

import argparse
import json
import sys
import sysconfig
from pathlib import Path
from typing import Final

from agent_trace_sidecar import __version__
from agent_trace_sidecar.commands.common import PROGRAM, CommandError
from agent_trace_sidecar.commands.output import say
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits import processes
from agent_trace_sidecar.limits.files import FileRefusedError, read_part, write_whole

PLUGIN: Final = Path(".opencode") / "plugins" / "agent-trace-sidecar.js"
"""`.js`: OpenCode does not look for `.mjs` there."""

_PLACES: Final = (
    Path(__file__).parents[1] / "_data" / "shim" / "index.js",  # in the wheel
    Path(__file__).parents[2] / "opencode-shim" / "index.js",  # in a checkout
)
_SLOT: Final = "const INSTALLED = [];"
"""The shim's line that says which sidecar `init` was run from; it comes after the one on PATH."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The project."""
    parser.add_argument(
        "folder",
        metavar="DIR",
        type=Path,
        nargs="?",
        default=Path(),
        help="project folder (default: the current folder)",
    )


def run(_: Config, given: argparse.Namespace) -> int:
    """Write the shim."""
    say(*init(given.folder))
    return 0


def init(folder: Path) -> list[str]:
    """Write the shim and return, line by line, what was done.

    Raises:
        CommandError: the folder is not there, or can't be written.
    """
    target = folder / PLUGIN
    if not folder.is_dir():
        raise CommandError(f"{folder} is not a folder: give the project's folder.")
    shim = shim_source().encode()
    try:
        before = read_part(target, len(shim) + 1)
        if before != shim or target.is_symlink():
            write_whole(target, shim, mode=0o644, below=folder)
    except FileRefusedError as exc:
        raise CommandError(f"{target} can't be written: {exc.strerror}. Remove it, if the project is yours.") from None
    except OSError as exc:
        raise CommandError(f"{target} can't be written: {exc.strerror}.") from None
    did = "is up to date" if before == shim else "updated" if before else "written"
    command = processes.find(PROGRAM) or " ".join([*own_command(), "run"])
    return [
        f"{target} {did} (shim {__version__}).",
        f"OpenCode sessions in {folder.resolve()} are recorded from now on, by {command}.",
        "`agent-trace-sidecar status` shows recording health; remove the file to stop recording.",
    ]


def shim_source() -> str:
    """The shim, with the command that runs this very installation in its slot.

    Raises:
        CommandError: the installation carries no shim.
    """
    place = next((path for path in _PLACES if path.is_file()), None)
    if place is None:
        raise CommandError("this installation does not contain the shim: reinstall agent-trace-sidecar.")
    source = place.read_text(encoding="utf-8")
    command = [*own_command(), "run"]
    return source.replace(_SLOT, f"const INSTALLED = {json.dumps(command)};", 1)


def own_command() -> list[str]:
    """How to start this installation when it is not on PATH."""
    folders = (Path(sys.executable).parent, Path(sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user"))))
    script = next((found for folder in folders if (found := folder / PROGRAM).is_file()), None)
    return [str(script)] if script else [sys.executable, "-I", "-m", "agent_trace_sidecar"]
