"""What `status` and `doctor` report of one project: whether it is recorded, since when, and what went wrong."""

import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import asyncpg
import msgspec

from agent_trace_sidecar.commands.common import PROGRAM
from agent_trace_sidecar.commands.init import PLUGIN, shim_source
from agent_trace_sidecar.commands.output import ago, local_time
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits.files import read_part
from agent_trace_sidecar.opencode.store_files import store_files
from agent_trace_sidecar.telemetry.failures import Failure, failures

_CONFIGS: Final = ("opencode.json", "opencode.jsonc", ".opencode/opencode.json", ".opencode/opencode.jsonc")
_MAX_CONFIG_BYTES: Final = 1024 * 1024
_SECRETS_DAYS: Final = 30
_LAST: Final = """
SELECT max(updated_at) FILTER (WHERE repositories ? $1) AS here, max(updated_at) AS anywhere
FROM agent_trace_sources WHERE kind = 'instance'
"""
_MASKED: Final = "SELECT coalesce(sum(masked), 0)::bigint FROM agent_trace_secrets_by_day WHERE day >= $1"


class Shim(msgspec.Struct, frozen=True):
    """What OpenCode finds when it is started in a folder."""

    place: str
    """The file that has it, or names it; empty where there is none."""
    is_current: bool = True
    """False: it is of another version."""


class Stored(msgspec.Struct, frozen=True):
    """The facts from the database and from OpenCode's own store."""

    last_event_at: datetime | None
    """When an event of this project was stored last."""
    last_anywhere_at: datetime | None
    """The same of all projects."""
    opencode_sessions: int | None
    """Sessions of this project in OpenCode's own store; None where it can't be read."""
    recorded_sessions: int | None
    """Those of them that are recorded."""
    masked: int
    """Secrets masked in the last 30 days, in all projects."""


class Recording(msgspec.Struct, frozen=True):
    """A project's recording; what only the database knows is in `stored`, None without it."""

    project: str
    enabled: bool
    shim: Shim
    failing: tuple[Failure, ...]
    """Directories that are not recorded now, and why."""
    recovered: tuple[Failure, ...]
    """Those that were not, and are again."""
    stored: Stored | None = None
    denied: bool = False
    """AGENT_TRACE_REPOSITORIES denies it."""

    def problems(self) -> Iterator[str]:
        """A sentence for each thing that keeps events from being recorded."""
        for failure in self.failing:
            yield f"In {failure.directory}, {ago(failure.at / 1000)}: {failure.message}"

    def text(self) -> Iterator[str]:
        """Yield the lines for a person that need no database."""
        yield f"project  {self.project}: {self._state()}"
        for failure in self.recovered:
            when = local_time(datetime.fromtimestamp(failure.at / 1000, UTC))
            yield f"  not recorded in {failure.directory} at {when}, recorded again since: {failure.message}"
        if self.recovered:
            yield f"  `{PROGRAM} backfill` stores what was missed, from OpenCode's own store"

    def _state(self) -> str:
        if not self.enabled:
            return "not recorded, AGENT_TRACE_ENABLED is off"
        if self.denied:
            return "not recorded, AGENT_TRACE_REPOSITORIES denies it"
        if not self.shim.place:
            return f"not recorded, no shim: run `{PROGRAM} init` there"
        if any(Path(self.project) in (place := Path(one.directory), *place.parents) for one in self.failing):
            return "NOT recorded, see below"
        return f"recorded, by {self.shim.place}"

    def stored_text(self) -> Iterator[str]:
        """Yield the others."""
        stored = self.stored
        if stored is None:
            return
        if stored.last_event_at is not None:
            yield f"last     {local_time(stored.last_event_at)}, {ago(stored.last_event_at.timestamp())}"
        elif stored.last_anywhere_at is not None:
            yield f"last     nothing recorded here yet; elsewhere {ago(stored.last_anywhere_at.timestamp())}"
        else:
            yield "last     nothing recorded yet"
        if stored.opencode_sessions is not None and stored.recorded_sessions is not None and not self.denied:
            number, known = stored.opencode_sessions, stored.recorded_sessions
            hint = f"; `{PROGRAM} reconcile` lists the others" if known < number else ""
            yield f"sessions {known} recorded of {number} that OpenCode has here{hint}"
        yield f"secrets  {stored.masked} masked in {_SECRETS_DAYS} days"


def look(config: Config, folder: Path, environ: Mapping[str, str]) -> Recording:
    """The facts that need no database."""
    known = [one for one in failures(config.state_path) if Path(one.directory).is_dir()]
    return Recording(
        str(folder),
        config.enabled,
        find_shim(folder, environ),
        tuple(one for one in known if one.recovered_at is None),
        tuple(one for one in known if one.recovered_at is not None),
        denied=_is_denied(config, str(folder)),
    )


def _is_denied(config: Config, folder: str) -> bool:
    if config.repositories is None:
        return False
    from agent_trace_sidecar.workspace.repository_rules import RepositoryRules  # noqa: PLC0415 - seldom set

    return RepositoryRules(config.repositories).denies(folder, folder)


async def look_up(connection: asyncpg.Connection, folder: Path) -> Stored:
    """The facts from the database; its tables must exist."""
    last = await connection.fetchrow(_LAST, str(folder))
    assert last is not None  # noqa: S101 - an aggregate has one row
    in_store, known = await _in_store(connection, folder) if store_files(os.environ) else (0, 0)
    masked: int = await connection.fetchval(_MASKED, (datetime.now(UTC) - timedelta(days=_SECRETS_DAYS)).date())
    return Stored(last["here"], last["anywhere"], in_store, known, masked)


async def _in_store(connection: asyncpg.Connection, folder: Path) -> tuple[int | None, int | None]:
    """Sessions of the folder that OpenCode has, and how many of them are recorded; None where that is not known."""
    from agent_trace_sidecar.commands.stored_sessions import recorded_sessions  # noqa: PLC0415 - brings SQLite with it
    from agent_trace_sidecar.opencode.store import StoreError  # noqa: PLC0415 - as above

    try:
        return await recorded_sessions(connection, folder)
    except (StoreError, OSError):
        return None, None


def find_shim(folder: Path, environ: Mapping[str, str]) -> Shim:
    """Whether OpenCode, started in this folder, finds the shim: in the project, or in the user's configuration."""
    homes = [
        Path(environ[name]) / tail / "opencode"
        for name, tail in (("XDG_CONFIG_HOME", ""), ("HOME", ".config"))
        if name in environ
    ]
    source = shim_source()
    for place in (folder / PLUGIN, *(home / "plugins" / PLUGIN.name for home in homes)):
        if place.is_file():
            return Shim(str(place), read_part(place, len(source) * 4).decode(errors="replace") == source)
    for file in (*(folder / name for name in _CONFIGS), *(home / name for home in homes for name in _CONFIGS[:2])):
        if PROGRAM.encode() in read_part(file, _MAX_CONFIG_BYTES):
            return Shim(str(file))
    return Shim("")


def project_of(folder: Path) -> Path:
    """The root of the folder's repository, or the folder itself."""
    folder = folder.resolve()
    return next((one for one in (folder, *folder.parents) if (one / ".git").exists()), folder)
