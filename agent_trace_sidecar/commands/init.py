"""`init`: puts the shim into a project's `.opencode/plugins`, where OpenCode finds it by itself."""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Final

from agent_trace_sidecar import __version__
from agent_trace_sidecar.commands.common import CommandError
from agent_trace_sidecar.config import Config

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
    print("\n".join(init(given.folder)))
    return 0


def init(folder: Path) -> list[str]:
    """Write the shim and return, line by line, what was done.

    Raises:
        CommandError: the folder is not there, or can't be written.
    """
    target = folder / PLUGIN
    if not folder.is_dir():
        raise CommandError(f"{folder} is not a folder: give the project's folder.")
    shim = shim_source()
    try:
        before = target.read_text(encoding="utf-8") if target.exists() else None
        if before != shim:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(shim, encoding="utf-8")
    except OSError as exc:
        raise CommandError(f"{target} can't be written: {exc.strerror}.") from None
    did = "is up to date" if before == shim else "updated" if before is not None else "written"
    command = shutil.which("agent-trace-sidecar") or " ".join([*own_command(), "run"])
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
    script = Path(sys.executable).with_name("agent-trace-sidecar")
    return [str(script)] if script.is_file() else [sys.executable, "-m", "agent_trace_sidecar"]
