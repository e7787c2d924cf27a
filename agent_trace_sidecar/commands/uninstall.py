"""`uninstall`: removes the shim, and with `--data` what is stored on this machine; prints what stays."""

import argparse
import os
import shutil
from pathlib import Path
from typing import Final

from agent_trace_sidecar.commands.common import PROGRAM, CommandError, project_argument
from agent_trace_sidecar.commands.database import database_place
from agent_trace_sidecar.commands.init import PLUGIN, global_plugin, remove
from agent_trace_sidecar.commands.output import confirmed, say
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.spool.folders import SPOOL_FOLDER, is_owned, spool_folders

_HINT: Final = f"The program stays: remove it with `uv tool uninstall {PROGRAM}` or `pip uninstall {PROGRAM}`."


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to remove."""
    project_argument(parser)
    parser.add_argument(
        "--data", action="store_true", help="also delete the state folder with the embedded database and the spools"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(config: Config, given: argparse.Namespace) -> int:
    """Remove the shim from the project and from OpenCode's own folder."""
    state = config.state_path
    if given.data:
        _check_unused(state)
        if not given.yes and state.exists() and not confirmed(f"Delete {state} and everything that is stored there?"):
            raise CommandError("nothing was removed.")
    for target, below in ((given.folder / PLUGIN, given.folder), (global_plugin(os.environ), None)):
        say(f"{target} {'removed' if remove(target, below=below) else 'is not there'}.")
    if given.data:
        delete_state(state)
        say(f"{state} deleted.")
    say("", *_staying(config, deleted=given.data))
    return 0


def _check_unused(state: Path) -> None:
    running = [folder.name for folder in spool_folders(state / SPOOL_FOLDER) if is_owned(folder)]
    if running:
        raise CommandError("a sidecar is recording: close OpenCode, then run `uninstall --data` again.")


def delete_state(state: Path) -> None:
    """Stop the embedded server of a state folder, and delete the folder.

    Raises:
        CommandError: the database is in use, or a file can't be deleted.
    """
    from agent_trace_sidecar.postgres.embedded import EmbeddedError, EmbeddedPostgres  # noqa: PLC0415 - rarely needed

    if not state.exists():
        return
    try:
        if EmbeddedPostgres(state).stop_if_idle(0) is not None:
            raise CommandError(f"another command uses the database in {state}: end it, then try again.")
        shutil.rmtree(state)
    except EmbeddedError as exc:
        raise CommandError(f"{exc}.") from None
    except OSError as exc:
        raise CommandError(f"{exc.filename or state} can't be deleted: {exc.strerror}.") from None


def _staying(config: Config, *, deleted: bool) -> list[str]:
    """What is still there, and how to remove it."""
    staying = []
    if config.database_url is not None:
        staying.append(
            f"The tables in {database_place(config)} stay: `psql` deletes them by the statements in the documentation."
        )
    if not deleted:
        staying.append(
            f"{config.state_path} stays, with what is recorded there: `{PROGRAM} uninstall --data` deletes it."
        )
    staying.append("The shim stays in other projects: run `uninstall` in each.")
    return [*staying, _HINT]
