"""`init`: puts the shim where OpenCode finds it by itself: into a project's `.opencode/plugins`, or the user's."""

import argparse
import json
import os
import sys
import sysconfig
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from agent_trace_sidecar import __version__
from agent_trace_sidecar.commands.common import PROGRAM, CommandError, project_argument
from agent_trace_sidecar.commands.output import say
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits import processes
from agent_trace_sidecar.limits.files import (
    FileRefusedError,
    make_folders,
    read_part,
    remove_file,
    state_folder,
    write_whole,
)

PLUGIN: Final = Path(".opencode") / "plugins" / "agent-trace-sidecar.js"
"""`.js`: OpenCode does not load `.mjs` from there."""

_PLACES: Final = (
    Path(__file__).parents[1] / "_data" / "shim" / "index.js",  # in the wheel
    Path(__file__).parents[2] / "opencode-shim" / "index.js",  # in a checkout
)
_COMMAND_FILE: Final = "sidecar.json"
"""In the state folder, for the shim: how to start this installation. The shim itself names no path of this machine."""
_NEXT: Final = (
    "Next:",
    "  1. Restart OpenCode there, and let it change a file.",
    "  2. agent-trace-sidecar status      is this project recorded?",
    "  3. agent-trace-sidecar sessions    what was recorded, and what it cost",
    "  4. agent-trace-sidecar blame FILE  which session wrote each line",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The project."""
    project_argument(parser)
    parser.add_argument(
        "--global", dest="everywhere", action="store_true", help="all projects of this user: OpenCode's own folder"
    )
    parser.add_argument("--remove", action="store_true", help="remove the shim; what is recorded stays")


def run(config: Config, given: argparse.Namespace) -> int:
    """Write the shim, or remove it."""
    target = global_plugin(os.environ) if given.everywhere else given.folder / PLUGIN
    if given.remove:
        removed = remove(target, below=None if given.everywhere else given.folder)
        say(f"{target} removed. What is recorded stays." if removed else f"There is no {target}: nothing to remove.")
        return 0
    if given.everywhere:
        say(*init_everywhere(target))
    else:
        say(*init(given.folder))
    remember_command(config.state_path)
    from agent_trace_sidecar.commands.database import database_place  # noqa: PLC0415 - brings the driver with it

    say(f"Recorded into {database_place(config)}, by {processes.find(PROGRAM) or ' '.join(own_command())}.", "")
    say(*_NEXT)
    return 0


def init(folder: Path) -> list[str]:
    """Write the shim into a project and return, line by line, what was done.

    Raises:
        CommandError: the folder is not there, or can't be written.
    """
    target = folder / PLUGIN
    if not folder.is_dir():
        raise CommandError(f"{folder} is not a folder: give the project's folder.")
    return [
        f"{target} {_write(target, below=folder)} (shim {__version__}). It may be committed.",
        f"OpenCode sessions in {folder.resolve()} are recorded from the next start of OpenCode.",
    ]


def init_everywhere(target: Path) -> list[str]:
    """The same for all projects of this user."""
    return [
        f"{target} {_write(target, below=None)} (shim {__version__}).",
        "All OpenCode sessions of this user are recorded from the next start of OpenCode.",
    ]


def global_plugin(environ: Mapping[str, str]) -> Path:
    """The folder from which OpenCode loads the plugins of all projects.

    Raises:
        CommandError: the environment does not name the folder of the user's files.
    """
    base = environ.get("XDG_CONFIG_HOME") or (os.path.join(environ["HOME"], ".config") if "HOME" in environ else "")  # noqa: PTH118 - a str
    if not base:
        raise CommandError("neither HOME nor XDG_CONFIG_HOME is set: give a project's folder instead.")
    return Path(base) / "opencode" / "plugins" / PLUGIN.name


def _write(target: Path, below: Path | None) -> str:
    """Write the shim, and describe the result."""
    shim = shim_source().encode()
    try:
        before = read_part(target, len(shim) + 1)
        if before != shim or target.is_symlink():
            if below is None:
                make_folders(target.parent)
            write_whole(target, shim, mode=0o644, below=below)
    except FileRefusedError as exc:
        raise CommandError(f"{target} can't be written: {exc.strerror}. Remove it, if the project is yours.") from None
    except OSError as exc:
        raise CommandError(f"{target} can't be written: {exc.strerror}.") from None
    return "is up to date" if before == shim else "updated" if before else "written"


def remove(target: Path, *, below: Path | None) -> bool:
    """Remove a shim, and the folders that are empty then; whether there was one.

    No link below the project's folder is followed.

    Raises:
        CommandError: it can't be removed.
    """
    try:
        remove_file(target, below=below)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as exc:
        raise CommandError(f"{target} can't be removed: {exc.strerror}.") from None
    for folder in (target.parent, target.parent.parent):
        with suppress(OSError):
            if folder.name in PLUGIN.parts:
                folder.rmdir()
    return True


def remember_command(state_path: Path) -> None:
    """Leave in the state folder how the shim starts this installation when none is on OpenCode's PATH.

    Raises:
        CommandError: it can't be written.
    """
    try:
        state_folder(state_path)
        write_whole(state_path / _COMMAND_FILE, json.dumps({"command": [*own_command(), "run"]}).encode())
    except OSError as exc:
        raise CommandError(f"{state_path} can't be written: {exc.strerror}. Set AGENT_TRACE_STATE_DIR.") from None


def shim_source() -> str:
    """The shim, as it is published.

    Raises:
        CommandError: the installation carries no shim.
    """
    place = next((path for path in _PLACES if path.is_file()), None)
    if place is None:
        raise CommandError("this installation does not contain the shim: reinstall agent-trace-sidecar.")
    return place.read_text(encoding="utf-8")


def own_command() -> list[str]:
    """How to start this installation when it is not on PATH."""
    folders = (Path(sys.executable).parent, Path(sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user"))))
    script = next((found for folder in folders if (found := folder / PROGRAM).is_file()), None)
    return [str(script)] if script else [sys.executable, "-I", "-m", "agent_trace_sidecar"]
