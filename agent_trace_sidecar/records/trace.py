"""The Agent Trace specification's words: a record as types, written in one version and read in every known one.

Written is 0.1.0. Read are all forms that were seen: any 0.x, "1.0" of the reference implementation's hook, and later
numbers of the same shape. They differ from 0.1.0 in their version, in what they leave out and in what they add: what is
known becomes the same types, the rest is kept beside it (`Reading.document`). Nothing that a record does not hold is
added.
"""

import ntpath
import posixpath
import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, NamedTuple
from urllib.parse import quote
from uuid import UUID, uuid5

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
    """A record that does not follow its version of the specification."""


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


class Reading(NamedTuple):
    """A record as it was written, and what is understood of it."""

    record: TraceRecord
    document: dict[str, Any]
    """Everything in the record: what is known in the terms of 0.1.0, the rest as it stands there."""
    notes: tuple[str, ...] = ()
    """What had to be read in another way than it was written."""


def encode(record: TraceRecord) -> str:
    """The record as JSON text; empty fields are left out."""
    return msgspec.json.encode(record).decode()


def parse_record(data: bytes | str) -> TraceRecord:
    """What is understood of a stored or foreign record; errors as for `read_record`."""
    return read_record(data).record


def read_record(data: bytes | str) -> Reading:
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
    found = _VERSION.fullmatch(version)
    numbers = tuple(int(part or 0) for part in found.groups()) if found else (_FIRST_UNKNOWN,)
    if numbers[0] >= _FIRST_UNKNOWN or (numbers[0] == 2 and numbers[1]):  # noqa: PLR2004 - of 2 only 2.0 was seen
        raise UnknownVersionError(f"unknown specification version {version[:40]!r}")
    notes: list[str] = []
    if numbers[:2] > (0, 1) and numbers[:2] != (1, 0):
        notes.append(f"version {version} is newer than 0.1.0: unknown fields are kept, not interpreted")
    known = _identified({**fields, "version": version.removeprefix("v")}, notes)
    record = _checked(known if numbers[:2] == (0, 1) and found and found[3] else _lenient(known))
    return Reading(record, _merged(known, msgspec.to_builtins(record)), tuple(notes))


_VERSION: Final = re.compile(r"v?([0-9]{1,4})\.([0-9]{1,4})(?:\.([0-9]{1,4}))?")
_FIRST_UNKNOWN: Final = 3
_FOREIGN_IDS: Final = UUID("0f4cf1c6-3c5c-5b0e-9d1c-6f4f6d1f1c0a")
FOREIGN_ID: Final = "io.opencode.foreign_id"
"""Where the metadata keep the id of a record whose id is no UUID."""


def _identified(fields: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """The record under a UUID: another id gives the same one each time, and stays in the metadata."""
    own = fields.get("id")
    try:
        UUID(own if isinstance(own, str) else "")
    except ValueError:
        if not isinstance(own, str | int) or not str(own):
            raise InvalidRecordError("the record has no id") from None
        notes.append("the id is not a UUID: the record is stored under one derived from it")
        metadata = fields.get("metadata")
        kept = {**(metadata if isinstance(metadata, dict) else {}), FOREIGN_ID: own}
        tool = fields.get("tool")
        name = str(tool.get("name", "")) if isinstance(tool, dict) else ""
        return {**fields, "id": str(uuid5(_FOREIGN_IDS, f"{name}\n{own}")), "metadata": kept}
    return fields


def _checked(fields: dict[str, Any]) -> TraceRecord:
    try:
        record = msgspec.convert(fields, TraceRecord)
    except ValueError as exc:
        raise InvalidRecordError(f"the record is invalid for version {fields['version']}: {exc}") from None
    for file in record.files:
        for conversation in file.conversations:
            if any(span.end_line < span.start_line for span in conversation.ranges):
                raise InvalidRecordError("a range ends before it starts")
    return record


def _lenient(fields: dict[str, Any]) -> dict[str, Any]:
    """The looser forms: optional parts may be null, ranges may run backwards or from line 0."""
    known = {**_without_null(fields), "files": [_lenient_file(file) for file in _items(fields.get("files"))]}
    vcs = known.get("vcs")
    if isinstance(vcs, dict) and not isinstance(vcs.get("revision"), str):
        del known["vcs"]
    return known


def _lenient_file(file: dict[str, Any]) -> dict[str, Any]:
    conversations = [
        {**_without_null(one), "ranges": [_lenient_range(span) for span in _items(one.get("ranges"))]}
        for one in _items(file.get("conversations"))
    ]
    return {**file, "conversations": conversations}


def _lenient_range(span: dict[str, Any]) -> dict[str, Any]:
    start, end = span.get("start_line"), span.get("end_line")
    if isinstance(start, int) and isinstance(end, int):
        start, end = max(1, start), max(1, end)
        return {**_without_null(span), "start_line": min(start, end), "end_line": max(start, end)}
    return span


def _items(value: object) -> list[dict[str, Any]]:
    if value is None:
        return []
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return value
    raise InvalidRecordError("files, conversations and ranges must be arrays of objects")


def _without_null(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _merged(original: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """The known fields over the original ones: fields that no type here has stay, and so does their order."""
    merged = {name: value for name, value in original.items() if value is not None or name not in _OPTIONAL}
    for name, value in known.items():
        old = original.get(name)
        if name == "metadata" and isinstance(old, dict):
            continue
        if isinstance(value, dict) and isinstance(old, dict):
            merged[name] = _merged(old, value)
        elif isinstance(value, list | tuple) and isinstance(old, list) and len(old) == len(value):
            merged[name] = [
                _merged(one, two) if isinstance(one, dict) and isinstance(two, dict) else two
                for one, two in zip(old, value, strict=True)
            ]
        elif name != "timestamp" or not isinstance(old, str):
            merged[name] = list(value) if isinstance(value, tuple) else value
    return merged


_OPTIONAL: Final = frozenset(
    {"vcs", "tool", "metadata", "url", "contributor", "related", "content_hash", "model_id", "files", "conversations"}
)
"""Fields for which null means absent."""

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


@lru_cache(maxsize=256)
def session_url(session_id: str, message_id: str | None = None) -> str:
    """A conversation's name as a URI; OpenCode sessions have no address of their own."""
    url = "opencode://session/" + quote(session_id, safe="")
    return f"{url}/message/{quote(message_id, safe='')}" if message_id else url


_WINDOWS: Final = re.compile(r"[A-Za-z]:[\\/]|\\\\")


def relative_path(path: str, worktree: str | None, directory: str | None) -> str | None:
    """A file's path from the repository's root, with forward slashes; None when it lies outside of it.

    Args:
        path: as a tool names it: absolute, or relative to the directory.
        worktree: the repository's root; "/" is what OpenCode reports where there is no repository.
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
