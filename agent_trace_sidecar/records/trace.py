"""The Agent Trace specification's words: a record as types, written in one version and read in every known one.

Written is 0.1.0. Read are also the forms that were in use before it: "1.0" of the reference implementation's hook,
and the 0.0 drafts. They differ from 0.1.0 in their version and in what they leave out, so each has a parser that
turns it into the same types; nothing that a record does not say is added.
"""

import ntpath
import posixpath
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Final, Literal
from urllib.parse import quote
from uuid import UUID

import msgspec

MAX_MODEL_ID_CHARS: Final = 250
"""The specification's bound."""

Line = Annotated[int, msgspec.Meta(ge=1)]
ContributorType = Literal["human", "ai", "mixed", "unknown"]


class TraceError(ValueError):
    """A record that can't be read."""


class UnknownVersionError(TraceError):
    """A record of a specification version that no parser here knows."""


class InvalidRecordError(TraceError):
    """A record that is not what its version says it is."""


class Vcs(msgspec.Struct, frozen=True, omit_defaults=True):
    """The revision the repository stood at."""

    type: Literal["git", "jj", "hg", "svn"]
    revision: str


class Tool(msgspec.Struct, frozen=True, omit_defaults=True):
    """The tool that made the trace."""

    name: str | None = None
    version: str | None = None


class Contributor(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who wrote the lines; `model_id` follows models.dev: provider/model."""

    type: ContributorType
    model_id: Annotated[str, msgspec.Meta(max_length=MAX_MODEL_ID_CHARS)] | None = None


class Related(msgspec.Struct, frozen=True, omit_defaults=True):
    """A link to something that belongs to the conversation."""

    type: str
    url: str


class Range(msgspec.Struct, frozen=True, omit_defaults=True):
    """Lines of the file as it stood after the change, counted from 1, both ends included."""

    start_line: Line
    end_line: Line
    content_hash: str | None = None
    contributor: Contributor | None = None


class Conversation(msgspec.Struct, frozen=True, omit_defaults=True):
    """The lines that one conversation gave to a file."""

    ranges: tuple[Range, ...]
    url: str | None = None
    contributor: Contributor | None = None
    related: tuple[Related, ...] = ()


class File(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file by its path from the repository's root."""

    path: str
    conversations: tuple[Conversation, ...]


class TraceRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One Agent Trace record."""

    version: str
    id: UUID
    timestamp: datetime
    files: tuple[File, ...]
    vcs: Vcs | None = None
    tool: Tool | None = None
    metadata: Mapping[str, object] | None = None


def encode(record: TraceRecord) -> str:
    """The record as JSON text; fields that say nothing are left out."""
    return msgspec.json.encode(record).decode()


def parse_record(data: bytes | str) -> TraceRecord:
    """Read a stored or foreign record of any known version.

    Raises:
        UnknownVersionError: its version is not known here.
        InvalidRecordError: it is no record of its version.
    """
    try:
        fields = msgspec.json.decode(data)
    except (ValueError, RecursionError) as exc:
        raise InvalidRecordError("the record is not JSON") from exc
    version = fields.get("version") if isinstance(fields, dict) else None
    if not isinstance(version, str):
        raise InvalidRecordError("the record has no version")
    for pattern, parser in _PARSERS:
        if pattern.fullmatch(version):
            return parser(fields)
    raise UnknownVersionError(f"unknown specification version {version[:40]!r}")


def _parse_0_1(fields: dict[str, object]) -> TraceRecord:
    try:
        record = msgspec.convert(fields, TraceRecord)
    except ValueError as exc:
        raise InvalidRecordError(f"the record is invalid for version {fields['version']}: {exc}") from None
    for file in record.files:
        for conversation in file.conversations:
            if any(span.end_line < span.start_line for span in conversation.ranges):
                raise InvalidRecordError("a range ends before it starts")
    return record


def _parse_draft(fields: dict[str, object]) -> TraceRecord:
    """Read the looser forms: optional parts may be null, ranges may run backwards or from line 0."""
    files = [_draft_file(file) for file in _items(fields.get("files"))]
    return _parse_0_1({**_without_null(fields), "files": files})


def _draft_file(file: dict[str, object]) -> dict[str, object]:
    conversations = [
        {**_without_null(one), "ranges": [_draft_range(span) for span in _items(one.get("ranges"))]}
        for one in _items(file.get("conversations"))
    ]
    return {**file, "conversations": conversations}


def _draft_range(span: dict[str, object]) -> dict[str, object]:
    start, end = span.get("start_line"), span.get("end_line")
    if isinstance(start, int) and isinstance(end, int):
        start, end = max(1, start), max(1, end)
        return {**_without_null(span), "start_line": min(start, end), "end_line": max(start, end)}
    return span


def _items(value: object) -> list[dict[str, object]]:
    if value is None:
        return []
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return value
    raise InvalidRecordError("files, conversations and ranges must be arrays of objects")


def _without_null(fields: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


_PARSERS: Final[tuple[tuple[re.Pattern[str], Callable[[dict[str, object]], TraceRecord]], ...]] = (
    (re.compile(r"0\.1\.\d+"), _parse_0_1),
    (re.compile(r"0\.0(\.\d+)?|0\.1|1\.0(\.0)?"), _parse_draft),
)

_CERTAIN_PROVIDERS: Final = (
    (re.compile(r"claude-"), "anthropic"),
    (re.compile(r"gpt-(?!oss|j\b|neo)|chatgpt-|codex-|o[1-9](-|$)"), "openai"),
    (re.compile(r"gemini-"), "google"),
    (re.compile(r"grok-"), "xai"),
)
"""Model names that only one maker uses. `gpt-oss` and the like run anywhere: they stay as they are."""


def model_id(provider: str | None, model: str | None) -> str | None:
    """The model in the words of models.dev, `provider/model`; the provider is added only where it is certain."""
    if not model:
        return None
    if provider:
        full = model if model.startswith(provider + "/") else f"{provider}/{model}"
    elif "/" in model:
        full = model
    else:
        known = next((name for pattern, name in _CERTAIN_PROVIDERS if pattern.match(model)), None)
        full = f"{known}/{model}" if known else model
    return full[:MAX_MODEL_ID_CHARS]


def session_url(session_id: str, message_id: str | None = None) -> str:
    """A conversation's name as a URI; OpenCode sessions have no address of their own."""
    url = "opencode://session/" + quote(session_id, safe="")
    return f"{url}/message/{quote(message_id, safe='')}" if message_id else url


_WINDOWS: Final = re.compile(r"[A-Za-z]:[\\/]|\\\\")


def relative_path(path: str, worktree: str | None, directory: str | None) -> str | None:
    """A file's path from the repository's root, with forward slashes; None when it lies outside of it.

    Args:
        path: as a tool names it: absolute, or relative to the directory.
        worktree: the repository's root; "/" is what OpenCode says where there is no repository.
        directory: where OpenCode works; the root where there is no repository.
    """
    root = worktree if worktree and worktree != "/" else directory
    if not root or not path:
        return None
    windows = _WINDOWS.match(root) is not None
    flavour = ntpath if windows else posixpath
    full = flavour.normpath(flavour.join(directory or root, path))
    prefix = flavour.normpath(root).rstrip(flavour.sep) + flavour.sep
    inside = full[: len(prefix)].lower() == prefix.lower() if windows else full.startswith(prefix)
    relative: str = full[len(prefix) :]
    if not inside or not relative:
        return None
    return relative.replace("\\", "/") if windows else relative
