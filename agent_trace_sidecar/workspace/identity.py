"""Who records: host, container and user of this process, and what the repositories in front of it are called.

Git's configuration is read from its file; no process is started for it. A URL is kept without user, password and
query: any of them may be a secret.
"""

import os
import pwd
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from agent_trace_sidecar.limits import IDENTITY_S
from agent_trace_sidecar.limits.files import read_part, read_small
from agent_trace_sidecar.limits.watchdog import LateError, Watchdog
from agent_trace_sidecar.workspace.places import Projects
from agent_trace_sidecar.workspace.revision import common_dir
from agent_trace_sidecar.workspace.scope import everywhere

_CONTAINER_ID: Final = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_SECTION: Final = re.compile(r'\[\s*remote\s+"((?:[^"\\]|\\.)*)"\s*\]', re.IGNORECASE)
_URL: Final = re.compile(r'(push)?url\s*=\s*"?([^"\s;#]+)', re.IGNORECASE)
MAX_CONFIG_BYTES: Final = 256 * 1024
_MAX_PATH_CHARS: Final = 4096
_MAX_WORKTREES: Final = 64
_FRESH_S: Final = 60.0
"""How long a repository's URL is kept before it is read again."""


class Identity:
    """Of one process. `recorder` is False where logs of other machines are read: nothing here is theirs then."""

    def __init__(
        self,
        *,
        recorder: bool,
        environ: Mapping[str, str],
        proc: Path = Path("/proc/self"),
        allows: Callable[[Path], bool] = everywhere,
    ) -> None:
        """`allows`: whether a worktree may be read."""
        self.container = _container(proc, environ) if recorder else None
        self.os_user = _user() if recorder else None
        self._recorder = recorder
        self._allows = allows
        self._watchdog: Watchdog[str | None] = Watchdog(IDENTITY_S)
        self._names: Watchdog[str | None] = Watchdog(IDENTITY_S)
        self._known = Projects()
        self._urls: dict[str, tuple[float, str | None]] = {}

    def repositories(self, worktrees: Iterable[str]) -> dict[str, str | None]:
        """The URL of each worktree, None where there is none or it can't be seen from here; a bounded number."""
        short = (worktree for worktree in worktrees if 0 < len(worktree) <= _MAX_PATH_CHARS)
        return {worktree: self._url(worktree) for worktree in sorted(short)[:_MAX_WORKTREES]}

    def projects(self, worktrees: Iterable[str]) -> dict[str, str]:
        """The worktrees by what they are called now, see `rows.FileStateRow.project`; those that can't be seen are not.

        A repository has another name before its first commit, so that is read each time.
        """
        found = {}
        for worktree in sorted(worktrees)[:_MAX_WORKTREES] if self._recorder else ():
            try:
                name = self._names.call(worktree, partial(self._read_name, Path(worktree)))
            except LateError:
                continue
            if name is not None:
                found[name] = worktree
        return found

    def _read_name(self, root: Path) -> str | None:
        allowed = root.is_absolute() and self._allows(root)
        return self._known.name(root) if allowed and (root / ".git").exists() else None

    def _url(self, worktree: str) -> str | None:
        if not self._recorder:
            return None
        now = time.monotonic()
        read_at, url = self._urls.get(worktree, (-_FRESH_S, None))
        if now - read_at >= _FRESH_S:
            if len(self._urls) >= _MAX_WORKTREES:
                self._urls.clear()
            try:
                url = self._watchdog.call(worktree, partial(self._read_url, Path(worktree)))
            except LateError:
                url = None
            self._urls[worktree] = (now, url)
        return url

    def _read_url(self, root: Path) -> str | None:
        return remote_url(root) if self._allows(root) else None


def remote_url(root: Path) -> str | None:
    """The URL of the remote `origin`, else of the first one, without credentials; None where there is none."""
    try:
        folder = common_dir(root)
        text = read_small(folder / "config", MAX_CONFIG_BYTES) if folder is not None else ""
    except (OSError, ValueError):
        return None
    urls: dict[str, str] = {}
    for remote in remotes(text):
        if not remote.is_push:
            urls.setdefault(remote.name, remote.url)
    url = urls.get("origin") or next(iter(urls.values()), None)
    return without_credentials(url) if url else None


class Remote(NamedTuple):
    """A URL of git's configuration, as it stands there: it may hold a password."""

    name: str
    url: str
    is_push: bool


def remotes(text: str) -> Iterator[Remote]:
    """The URLs of all remotes in the text of git's configuration."""
    name = None
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("["):
            section = _SECTION.match(stripped)
            name = section[1] if section else None
            stripped = stripped[section.end() :].strip() if section else ""
        found = _URL.match(stripped)
        if found and name is not None:
            yield Remote(name, found[2], is_push=found[1] is not None)


def without_credentials(url: str) -> str:
    """A repository's URL as it is kept: no user, password, query or fragment. `git@host:path` keeps its `git@`."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{re.split('[?#]', path, maxsplit=1)[0]}"


def _container(proc: Path, environ: Mapping[str, str]) -> str | None:
    """The container's id; the host's name where the id is hidden; None outside of one."""
    for name, keep in (("cgroup", ""), ("mountinfo", "/hostname ")):
        try:
            lines = read_part(proc / name, MAX_CONFIG_BYTES).decode(errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            found = _CONTAINER_ID.search(line) if keep in line else None
            if found:
                return found[0]
    inside = Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()
    return socket.gethostname() if inside or "KUBERNETES_SERVICE_HOST" in environ else None


def _user() -> str:
    """The user's name, the number where it has none, as in many containers."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
