"""Words of other tools that the specification leaves open: a session's name, and how a path is spelt; pure."""

import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit

_MAX_CHARS: Final = 500
"""Of a session's name; what is longer is no name."""
_SESSION_FIELDS: Final = (
    "io.opencode.session_id",
    "session_id",
    "sessionId",
    "sessionID",
    "conversation_id",
    "conversationId",
    "thread_id",
    "generation_id",
)
"""Where tools put the name of a session, the surest first: OpenCode, Claude Code, Cursor's hooks, Codex."""
_ID: Final = re.compile(r"(?=.*\d)[A-Za-z0-9_-]{8,}")
_WINDOWS_ROOT: Final = re.compile(r"/?[A-Za-z]:[\\/]|\\\\")


def session_of(
    record: Mapping[str, Any], file: Mapping[str, Any], conversation: Mapping[str, Any], url: str | None
) -> str | None:
    """The session that a conversation of a record belongs to, None where none of the known places names one.

    Args:
        record: the whole record as it was written.
        file: the entry of `files` that the conversation stands in.
        conversation: the entry of its `conversations`.
        url: the conversation's address.
    """
    for place in _places(conversation, file, record):
        for name in _SESSION_FIELDS:
            value = place.get(name)
            if isinstance(value, str) and 0 < len(value) <= _MAX_CHARS:
                return value
    return _named_by(url) if url and len(url) <= _MAX_CHARS else None


def _places(*levels: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The objects that may name a session: the level itself, its metadata, and what a tool keeps in there."""
    for level in levels:
        metadata = level.get("metadata")
        inner = metadata if isinstance(metadata, Mapping) else {}
        yield inner
        yield level
        yield from (value for value in inner.values() if isinstance(value, Mapping))
        for name in _SESSION_FIELDS:
            dotted = next((key for key in inner if key.endswith("." + name)), None)
            if dotted is not None:
                yield {name: inner[dotted]}


def _named_by(url: str) -> str:
    """A transcript's file is called by its session; other addresses are the name themselves."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    if parts.scheme == "opencode" and parts.netloc == "session":
        return unquote(parts.path.lstrip("/").partition("/")[0]) or url
    if parts.scheme == "file":
        stem = posixpath.basename(unquote(parts.path).replace("\\", "/")).partition(".")[0]
        return stem if _ID.fullmatch(stem) else url
    return url


def relative_spellings(path: str, roots: tuple[str, ...]) -> Iterator[str]:
    """How a path may be meant as one from the repository's root, the literal reading first; none where it lies outside.

    Args:
        path: as a record has it: relative or absolute, with either separator, with `.`, `..` and doubled separators.
        roots: names of the repository's root, absolute.
    """
    plain = unquote(urlsplit(path).path) if path.startswith("file://") else path
    for spelling in dict.fromkeys((plain, plain.replace("\\", "/"))):
        found = _relative(spelling, roots)
        if found is not None:
            yield found


def _relative(path: str, roots: tuple[str, ...]) -> str | None:
    full = posixpath.normpath(path) if path else ""
    if full.startswith("//"):
        full = full[1:]
    if full.startswith("/"):
        inside = (full[len(root) + 1 :] for root in roots if full.startswith(root.rstrip("/") + "/"))
        return next(inside, None)
    outside = not full or full in {".", ".."} or full.startswith("../") or _WINDOWS_ROOT.match(full)
    return None if outside or "\0" in full else full
