"""A finished tool call and what it changed, as one Agent Trace record and its rows; pure.

The record names the lines; what the specification has no field for (deletions, moves, how a range was found) is
metadata under `io.opencode.`. No argument and no output of a tool is repeated in a record.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID, uuid5

import msgspec

from agent_trace_sidecar.opencode.wire import FileChange, Repository, Uncovered
from agent_trace_sidecar.records.fingerprints import LOOSE_BYTES, line_keys, loose_of
from agent_trace_sidecar.records.ranges import sound
from agent_trace_sidecar.records.rows import UNCOVERED, FileStateRow, RangeRow, RecordRow
from agent_trace_sidecar.records.times import moment
from agent_trace_sidecar.records.trace import (
    Contributor,
    Conversation,
    File,
    Range,
    Related,
    Tool,
    TraceRecord,
    Vcs,
    encode,
    session_url,
)
from agent_trace_sidecar.records.wrapped import sound as sound_blocks

RECORD_NAMESPACE: Final = UUID("6ba9b2b6-34a4-5f0e-9c39-2f3e4f1f7d11")
"""A record's id is uuid5 of its event's id in this namespace: the same event gives the same record, always."""

CONTRIBUTOR: Final = "ai"
"""Only calls that a model made come here."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is known of a finished call, but for what it changed."""

    source_id: UUID
    event_id: UUID
    at: datetime
    spec_version: str
    tool_name: str
    """The tool in the specification's sense: the agent, not what it called."""
    tool_version: str
    tool: str
    """What the agent called."""
    session_id: str | None = None
    message_id: str | None = None
    call_id: str | None = None
    part_id: str | None = None
    """The part of the message that the call is."""
    parent_session_id: str | None = None
    parent_message_id: str | None = None
    """The message of the parent session that started this one."""
    model_id: str | None = None
    agent: str | None = None
    directory: str | None = None
    worktree: str | None = None
    project: str | None = None
    """What the files belong to, see `rows.FileStateRow.project`."""
    vcs: Vcs | None = None


class Rows(NamedTuple):
    """A call's record, its ranges, and the states of the files around it."""

    record: RecordRow
    ranges: tuple[RangeRow, ...]
    states: tuple[FileStateRow, ...]


def record_rows(call: Call, changes: Iterable[FileChange]) -> Iterator[Rows]:
    """The rows of a call's records: one for each repository in which it changed something that can be recorded."""
    own: dict[Repository | None, list[FileChange]] = {}
    for change in changes:
        own.setdefault(change.repository, []).append(change)
    for repository, changed in own.items():
        files = _by_path(changed)
        if any(one.ranges or one.deleted or one.kind in {"delete", "move"} for one in files):
            yield _rows(_placed(call, repository), record_id(call.event_id, repository), files)


def uncovered_rows(call: Call, one: Uncovered) -> Iterator[FileStateRow]:
    """The marks that a call may have changed a file, or with an empty path any file, unobserved.

    At its end, and at its beginning where that is given: a state of the file in between shows what this call had
    written by then, and nothing about what it wrote afterwards.
    """
    end = _uncovered_row(call, one, call.at)
    if one.began_ms is not None:
        began = min(moment(one.began_ms), call.at)
        yield end._replace(record_id=uuid5(end.record_id, "began"), recorded_at=began)
    if not one.is_over:
        yield end


def _uncovered_row(call: Call, one: Uncovered, at: datetime) -> FileStateRow:
    placed = _placed(call, one.repository)
    return FileStateRow(
        source_id=call.source_id,
        # its own: the call may have a record too, and a command in the background be uncovered in several ways
        record_id=uuid5(record_id(call.event_id, one.repository), f"{UNCOVERED} {one.path}\0{one.covered or ''}"),
        recorded_at=at,
        project=placed.project or "",
        worktree=placed.worktree or "",
        path=one.path,
        old_path=one.covered,
        kind=UNCOVERED,
        before_hashes=None,
        after_hashes=None,
        line_keys=[],
    )


def _placed(call: Call, repository: Repository | None) -> Call:
    """The same call as one of the repository whose files it changed."""
    if repository is None:
        return call
    vcs = call.vcs
    if repository.vcs is not None:
        vcs = Vcs(repository.vcs.type, repository.vcs.revision)  # type: ignore[arg-type]
    return msgspec.structs.replace(call, worktree=repository.root, project=repository.project, vcs=vcs)


def _rows(call: Call, own_id: UUID, files: list[FileChange]) -> Rows:
    record = TraceRecord(
        version=call.spec_version,
        id=own_id,
        timestamp=call.at,
        files=_files(call, files),
        vcs=call.vcs,
        tool=Tool(call.tool_name, call.tool_version),
        metadata=_metadata(call, files),
    )
    row = RecordRow(
        source_id=call.source_id,
        record_id=own_id,
        recorded_at=call.at,
        event_id=call.event_id,
        session_id=call.session_id,
        spec_version=call.spec_version,
        vcs_type=call.vcs.type if call.vcs else None,
        vcs_revision=call.vcs.revision if call.vcs else None,
        tool_name=call.tool_name,
        tool_version=call.tool_version,
        model_id=call.model_id,
        contributor=CONTRIBUTOR,
        record=encode(record),
    )
    return Rows(row, tuple(_range_rows(call, own_id, files)), tuple(_state_rows(call, own_id, files)))


def record_id(event_id: UUID, repository: Repository | None = None) -> UUID:
    """The id of the record that an event gives, in another repository than the session's if one is named."""
    return uuid5(RECORD_NAMESPACE, f"{event_id}\n{repository.root}" if repository else str(event_id))


def _range_rows(call: Call, own_id: UUID, files: list[FileChange]) -> Iterable[RangeRow]:
    spans = ((change, span) for change in files for span in change.ranges)
    for ordinal, (change, span) in enumerate(spans):
        yield RangeRow(
            source_id=call.source_id,
            record_id=own_id,
            recorded_at=call.at,
            ordinal=ordinal,
            project=call.project,
            worktree=call.worktree,
            path=change.path,
            start_line=span.start,
            end_line=span.end,
            content_hash=span.content_hash,
            contributor=CONTRIBUTOR,
            model_id=call.model_id,
            session_id=call.session_id,
            message_id=call.message_id,
            call_id=call.call_id,
            tool=call.tool,
            method=span.method,
            line_hashes=_unhex(span.line_hashes),
            line_tokens=_unhex(span.line_tokens),
        )


def _state_rows(call: Call, own_id: UUID, files: list[FileChange]) -> Iterable[FileStateRow]:
    for change in files:
        known = [span for span in change.ranges if span.line_hashes is not None]
        hashes = b"".join(_unhex(span.line_hashes) or b"" for span in known)
        tokens = [_unhex(span.line_tokens) for span in known]
        packed = b"".join(own for own in tokens if own is not None) if None not in tokens else None
        yield FileStateRow(
            source_id=call.source_id,
            record_id=own_id,
            recorded_at=call.at,
            project=call.project or "",
            worktree=call.worktree or "",
            path=change.path,
            old_path=change.old_path,
            kind=change.kind,
            before_hashes=_unhex(change.before_hashes),
            after_hashes=_unhex(change.after_hashes),
            line_keys=_keys(call, change, hashes, packed),
        )


def _keys(call: Call, change: FileChange, hashes: bytes, tokens: bytes | None) -> list[int]:
    """The keys of the lines that may be found elsewhere as this call's: not of those that stood elsewhere before."""
    keys, packed = line_keys(call.project or "", hashes, tokens), _unhex(change.stood) or b""
    stood = {int.from_bytes(packed[at : at + LOOSE_BYTES], "big") for at in range(0, len(packed), LOOSE_BYTES)}
    return [key for key in keys if loose_of(key) not in stood] if stood else keys


def _unhex(text: str | None) -> bytes | None:
    """The bytes of an observed hex text; empty where it is no hex, since a log may come from anywhere."""
    try:
        return bytes.fromhex(text) if text is not None else None
    except ValueError:
        return None


def _by_path(changes: Iterable[FileChange]) -> list[FileChange]:
    """One entry for each path, its ranges sorted and disjoint."""
    files: dict[str, FileChange] = {}
    for change in changes:
        before = files.get(change.path)
        files[change.path] = FileChange(
            path=change.path,
            kind=change.kind,
            old_path=change.old_path or (before.old_path if before else None),
            ranges=sound((*before.ranges, *change.ranges) if before else change.ranges),
            deleted=(*before.deleted, *change.deleted) if before else change.deleted,
            before_hashes=before.before_hashes if before else change.before_hashes,
            after_hashes=change.after_hashes,
            stood=(before.stood or "" if before else "") + (change.stood or "") or None,
            wrapped=() if before else sound_blocks(change.wrapped),
        )
    return list(files.values())


def _files(call: Call, files: list[FileChange]) -> tuple[File, ...]:
    """The files with ranges; one whose lines were only taken away has nothing to attribute."""
    url = session_url(call.session_id) if call.session_id else None
    contributor, related = Contributor(CONTRIBUTOR, call.model_id), _related(call)
    return tuple(
        File(
            change.path,
            (
                Conversation(
                    tuple(Range(span.start, span.end, span.content_hash) for span in change.ranges),
                    url,
                    contributor,
                    related,
                ),
            ),
        )
        for change in files
        if change.ranges
    )


def _related(call: Call) -> tuple[Related, ...]:
    if not call.session_id:
        return ()
    links = [Related("session", session_url(call.session_id))]
    if call.message_id:
        links.append(Related("message", session_url(call.session_id, call.message_id)))
    if call.parent_session_id:
        links.append(Related("parent_session", session_url(call.parent_session_id)))
    return tuple(links)


def _metadata(call: Call, files: list[FileChange]) -> dict[str, object]:
    deleted = [
        {"path": change.old_path or change.path, "start_line": start, "end_line": end}
        for change in files
        for start, end in change.deleted
    ]
    known = {
        "session_id": call.session_id,
        "message_id": call.message_id,
        "call_id": call.call_id,
        "part_id": call.part_id,
        "parent_session_id": call.parent_session_id,
        "parent_message_id": call.parent_message_id,
        "agent": call.agent,
        "tool": call.tool,
        "directory": call.directory,
        "files": [_file_metadata(change) for change in files],
        "deleted": deleted or None,
    }
    return {"io.opencode." + name: value for name, value in known.items() if value is not None}


def _file_metadata(change: FileChange) -> dict[str, object]:
    ranges = [{"start_line": span.start, "end_line": span.end, "method": span.method} for span in change.ranges]
    moved = {"old_path": change.old_path} if change.old_path else {}
    found: dict[str, object] = {"path": change.path, "kind": change.kind, **moved, "ranges": ranges}
    if change.wrapped:
        found["wrapped"] = change.wrapped
    return found
