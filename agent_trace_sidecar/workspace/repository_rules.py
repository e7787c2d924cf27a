"""Which repositories are recorded, by the patterns of AGENT_TRACE_REPOSITORIES. The shim holds the same rules.

    patterns = pattern *("," pattern)
    pattern  = ["!"] (path / URL / "*")     "!" denies; a path begins with "/" or "~/"
    wildcard = "*" within a segment, "**" also across "/"

A pattern matches a folder or repository and everything below it. What a pattern with "!" matches is not recorded; if
there are patterns without, only what one of them matches is. A repository is known by its worktree and by the directory
that OpenCode was opened in, both also with links resolved, and by the URLs of all its remotes. A URL has one form,
however it is written: `host/path` in small letters, without scheme, user, port and `.git`.

Git's configuration is read from its file, as in `identity`: `insteadOf` and `include` are not followed.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import re2

from agent_trace_sidecar.limits import IDENTITY_S
from agent_trace_sidecar.limits.files import read_whole
from agent_trace_sidecar.limits.watchdog import LateError, Watchdog
from agent_trace_sidecar.workspace.identity import MAX_CONFIG_BYTES, remotes
from agent_trace_sidecar.workspace.revision import common_dir
from agent_trace_sidecar.workspace.scope import everywhere

_MAX_PATTERN_CHARS: Final = 1000
_MAX_PLACES: Final = 256
"""Directories whose answer is kept; each is read once."""
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*)://([^/]*)(.*)", re.IGNORECASE | re.DOTALL)
_SCP: Final = re.compile(r"(?:[^/@]*@)?([^/:]+):(.*)", re.DOTALL)
_PORT: Final = re.compile(r":\d*$")
_NO_WILDCARD: Final = re.compile(r"[?\[\]{}\\]")
_WILDCARD: Final = re.compile(r"(\*\*/|\*\*|\*)")
_DIRECTORY: Final = re.compile(rb'"(directory|worktree)":\s*("(?:[^"\\]|\\.)*")')
_HOW: Final = (
    "give paths (/work, ~/private) or URLs (github.com/acme, https://gitlab/acme), with ! before what is denied"
)


class PatternError(ValueError):
    """A pattern that can't be read; the text is a sentence that names it and says what to give."""


class Rule(NamedTuple):
    """A pattern."""

    denies: bool
    is_url: bool
    matches: tuple[Callable[[str], bool], ...]
    """One for the pattern, and one for what a link in it leads to."""

    def has(self, names: Iterable[str]) -> bool:
        """Whether one of a repository's names is meant."""
        return any(match(name) for name in names for match in self.matches)


class _Place(msgspec.Struct):
    """What a line says of where it comes from."""

    directory: str | None = None
    worktree: str | None = None


_PLACE: Final = msgspec.json.Decoder(_Place)


class RepositoryRules:
    """The rules of one process. Any thread may use them, one after the other."""

    def __init__(
        self, patterns: str | None, *, home: str | None = None, allows: Callable[[Path], bool] = everywhere
    ) -> None:
        """Read the patterns; None or a blank text records everything.

        Args:
            patterns: AGENT_TRACE_REPOSITORIES.
            home: what `~` stands for, if not the user's home folder.
            allows: whether a worktree's remotes may be read; those of others are not known.

        Raises:
            PatternError: one can't be read.
        """
        self._rules = list(_parsed(patterns or "", home))
        self._allows = allows
        self._watchdog: Watchdog[set[str]] = Watchdog(IDENTITY_S)
        self._known: dict[tuple[str | None, str | None], bool] = {}

    def denies_line(self, line: bytes) -> bool:
        """Whether an event's line, or the beginning of one, comes from a repository that is not to be recorded."""
        if not self._rules:
            return False
        try:
            place = _PLACE.decode(line)
        except (ValueError, RecursionError):
            place = _beginning(line)
        return self.denies(place.directory, place.worktree)

    def denies(self, directory: str | None, worktree: str | None) -> bool:
        """The same for the two folders of an event; what is not known matches no pattern."""
        if not self._rules:
            return False
        key = (directory, worktree)
        if key not in self._known:
            if len(self._known) >= _MAX_PLACES:
                self._known.clear()
            self._known[key] = self._decide([place for place in key if place])
        return self._known[key]

    def _decide(self, places: list[str]) -> bool:
        names = {_path(place) for place in places}
        root = next((place for place in places if place.startswith("/") and place != "/"), None)
        if root is not None:
            try:
                names |= self._watchdog.call(root, partial(self._names, Path(root), places))
            except (LateError, OSError, ValueError):
                if any(rule.is_url for rule in self._rules):
                    return True  # a configuration that can't be read may name what is denied
        allowing = [rule for rule in self._rules if not rule.denies]
        denied = any(rule.has(names) for rule in self._rules if rule.denies)
        return denied or bool(allowing and not any(rule.has(names) for rule in allowing))

    def _names(self, root: Path, places: list[str]) -> set[str]:
        """What the disk says: the folders without links, and the URLs of all remotes."""
        names = {_path(os.path.realpath(place)) for place in places}
        folder = common_dir(root) if self._allows(root) else None
        if folder is not None:
            text = read_whole(folder / "config", MAX_CONFIG_BYTES).data.decode(errors="replace")
            names.update(canonical(remote.url, str(root)) for remote in remotes(text))
        return names


def _beginning(line: bytes) -> _Place:
    """The folders of a line that is not whole, or no JSON; they stand before its contents."""
    found = {name.decode(): text for name, text in _DIRECTORY.findall(line.partition(b'"input"')[0])}
    try:
        return _Place(**{name: msgspec.json.decode(text, type=str) for name, text in found.items()})
    except ValueError:
        return _Place()


def canonical(name: str, base: str = "/") -> str:
    """The one form of a remote's URL: `host/path` in small letters, or an absolute path, relative ones below `base`."""
    scheme, scp = _SCHEME.fullmatch(name), _SCP.fullmatch(name)
    if scheme and scheme[1].lower() != "file":
        host = _PORT.sub("", scheme[2].rpartition("@")[2])
        return _url(f"{host}/{re.split('[?#]', scheme[3], maxsplit=1)[0]}")
    if scp and not scheme:
        return _url(f"{scp[1]}/{scp[2]}")
    return _path(os.path.join(base, scheme[3] if scheme else name))  # noqa: PTH118 - Path keeps no `..` apart


def _url(name: str) -> str:
    tidy = re.sub("//+", "/", name).rstrip("/").lower()
    return tidy.removesuffix(".git").rstrip("/")


def _path(name: str) -> str:
    tidy = os.path.normpath(name).strip("/").encode(errors="replace").decode()
    return f"/{tidy}" if tidy else ""


# -- patterns -------------------------------------------------------------------------------------------------------


def _parsed(text: str, home: str | None) -> Iterator[Rule]:
    if not text.strip():
        return
    for entry in text.split(","):
        pattern = entry.strip()
        denies = pattern.startswith("!")
        pattern = pattern.removeprefix("!").strip()
        if not pattern or len(pattern) > _MAX_PATTERN_CHARS:
            raise PatternError(f"a pattern is {'too long' if pattern else 'empty'}: {_HOW}.")
        if odd := _NO_WILDCARD.search(pattern):
            raise PatternError(f"{pattern!r} has {odd[0]!r}: the wildcards are * (within a segment) and ** (across /).")
        yield _rule(pattern, denies=denies, home=home)


def _rule(pattern: str, *, denies: bool, home: str | None) -> Rule:
    if pattern in ("*", "**"):
        return Rule(denies, is_url=False, matches=(lambda _: True,))
    if pattern.startswith(("/", "~/")) or pattern == "~":
        whole = (home or str(Path.home())) + pattern[1:] if pattern.startswith("~") else pattern
        forms = dict.fromkeys((_path(whole), _path(_resolved(whole))))
        return Rule(denies, is_url=False, matches=tuple(_matcher(form) for form in forms))
    first = pattern.split("/", 1)[0]
    named = bool(_SCHEME.fullmatch(pattern) or _SCP.fullmatch(pattern))
    if not named and (first in (".", "..") or not re.search(r"[.*]", first)):
        raise PatternError(f"{pattern!r} is neither a path nor a URL: {_HOW}.")
    return Rule(denies, is_url=True, matches=(_matcher(canonical(pattern) if named else _url(pattern)),))


def _resolved(pattern: str) -> str:
    """A path with the links before its first wildcard resolved."""
    segments = pattern.split("/")
    plain = next((at for at, segment in enumerate(segments) if "*" in segment), len(segments))
    return "/".join([os.path.realpath("/".join(segments[:plain]) or "/"), *segments[plain:]])


def _matcher(pattern: str) -> Callable[[str], bool]:
    """Match a name, and whatever lies below it."""
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    body = "".join(parts.get(part) or re2.escape(part) for part in _WILDCARD.split(pattern))
    found = re2.compile(f"(?s){body}(?:/.*)?")
    return lambda name: found.fullmatch(name) is not None
