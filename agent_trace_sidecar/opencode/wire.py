"""The wire protocol, version 1: one line in, an `Envelope` or a `Rejected` out.

The shim mints the ids; this module only checks. `input` and `output` stay raw JSON here: most lines are stored
without ever being opened. Whatever Postgres' jsonb would refuse is settled here, so that one line never costs its
neighbours their place in a batch: what can be repaired (NUL, lone surrogates, bytes that are no UTF-8) becomes
U+FFFD and is noted in `Envelope.repaired`, what can't is rejected with its reason.
"""

import json
import re
from hashlib import sha256
from typing import Annotated, Final, NamedTuple, TypeVar
from uuid import UUID

import msgspec

EMPTY: Final = msgspec.Raw(b"")
"""What an absent `input` or `output` decodes to."""
MASK: Final = "[REDACTED:"
"""What stands where a secret was."""


TOO_LONG: Final = "too_long"
DENIED: Final = "denied"
"""Why a line is not stored: it is too large to be kept, or AGENT_TRACE_REPOSITORIES denies its repository."""


class VcsObserved(msgspec.Struct, frozen=True):
    """Where the repository stood when the hook fired."""

    type: str
    revision: str


class LineRange(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Lines of a file after a change that the change added or altered, counted from 1, both ends included."""

    start: int
    end: int
    method: str
    """How they were found: snapshot, diff, localised, content or fallback."""
    content_hash: str | None = None
    """See `content.content_hash`; None where the lines' true bytes are not known, or hold a secret."""
    line_hashes: str | None = None
    """See `fingerprints.line_hashes`, as hex text: 16 characters for each line."""
    line_tokens: str | None = None
    """See `fingerprints.packed_tokens`, as hex text."""


class Repository(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a file belongs to, where that is not the session's own repository as the session names it."""

    root: str
    """The absolute path of its worktree, or of a folder without a repository; no link is in it."""
    project: str
    """See `rows.FileStateRow.project`."""
    vcs: VcsObserved | None = None


class Wrapped(msgspec.Struct, frozen=True, gc=False):
    """Lines of the new file that are lines of the old one wrapped anew; they count from 1, both ends included."""

    start_line: int
    end_line: int
    old_start_line: int
    old_end_line: int


class FileChange(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What happened to one file; the paths are relative to the worktree, with forward slashes."""

    path: str
    kind: str
    """add, update, delete or move."""
    old_path: str | None = None
    ranges: tuple[LineRange, ...] = ()
    deleted: tuple[tuple[int, int], ...] = ()
    """Lines of the old file that are gone, counted as the old file counted them."""
    before_hashes: str | None = None
    """The hashes of all its lines right before the change, as hex text; empty where there was no file, None where that
    is not known or the file is too long."""
    after_hashes: str | None = None
    """The same right after the change; empty where there is no file any more."""
    repository: Repository | None = None
    """Whose file it is, if not the session's."""
    stood: str | None = None
    """The first halves of the hashes of those lines of the ranges, as hex text, that stood in another file before."""
    wrapped: tuple[Wrapped, ...] = ()
    """The lines of the ranges that hold the text of the lines they replaced."""


class CallChange(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """All that a call of a step changed, by OpenCode's snapshots of the step."""

    call_id: str
    files: tuple[FileChange, ...]
    vcs: VcsObserved | None = None
    """Where the repository stood when the call ended."""


class Uncovered(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A call that may have written files of which nothing is known, since no snapshot covers them."""

    call_id: str
    path: str = ""
    """The one file that it names; all of the folder without one."""
    covered: str | None = None
    """The part of the folder that a snapshot covers, if there is one."""
    repository: Repository | None = None
    began_ms: float | None = None
    """When the call began to work, where another call may have read the file since; else only its end matters."""
    is_over: bool = False
    """A state of the file after the call is known: what appears later is not in doubt."""


class Observed(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the sidecar saw in the user's repository when the line arrived; written into the spool beside the line."""

    vcs: VcsObserved | None = None
    files: tuple[FileChange, ...] = ()
    """On a finished tool call: what the call changed."""
    calls: tuple[CallChange, ...] = ()
    """On a finished step: those of its calls of which the snapshots show more than the calls reported."""
    uncovered: tuple[Uncovered, ...] = ()
    """On a finished step: those of its calls that may have written unobserved files."""
    message_id: str | None = None
    """The message whose step `calls` and `uncovered` are of, where that is not the line's own."""
    known: bool = False
    """The event is stored already: it is read once more for what follows from it."""
    recorded: tuple[str, float, str] | None = None
    """On a finished tool call whose record is stored already: id and time (ms) of the event that it was made of, and
    the run that the event is of."""
    late: bool = False
    """The repository could not be observed, or did not answer in time: nothing is known of it."""


class Withheld(msgspec.Struct, frozen=True):
    """A line that was too long or too hostile to keep; only its size and the reason are left."""

    bytes: int
    reason: str


class Envelope(msgspec.Struct):
    """One well-formed line. `at` is milliseconds since the epoch."""

    v: int
    id: UUID
    seq: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    at: int | float
    instance: UUID
    hook: str
    api: int = 1
    directory: str | None = None
    worktree: str | None = None
    input: msgspec.Raw = EMPTY
    output: msgspec.Raw = EMPTY
    lost: int = 0
    """Lines that the shim had to give up since its start."""
    redacted: dict[str, int] | None = None
    """Secrets masked in this line, by rule; added by the redactor."""
    observed: Observed | None = None
    withheld: Withheld | None = None
    repaired: tuple[str, ...] = ()
    """What had to be repaired, e.g. ("nul", "surrogate"); filled by `parse`."""


class Rejected(msgspec.Struct, frozen=True):
    """A line that is no event: `reason` is a stable word for counting, `error` a sentence without content."""

    reason: str
    error: str
    instance: UUID | None = None
    seq: int | None = None


class Head(NamedTuple):
    """The ids with which a line of the shim's begins."""

    id: UUID
    seq: int | None
    instance: UUID | None


SUSPECT: Final = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
"""Escapes that jsonb may refuse: NUL, and halves of a surrogate pair."""
_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u(0000|[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_DECODER: Final = msgspec.json.Decoder(Envelope)
_OBSERVED: Final = b',"observed":'
_WITHHELD: Final = b"[WITHHELD]"
_STUB: Final = re.compile(rb'\{"withheld":\{"bytes":\d+,"reason":"\w+"\}\}')
"""What stands for contents that metadata mode, or a stub, leaves out."""


_UUID: Final = rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_HEAD: Final = re.compile(
    rb'\{"v":\d{1,9},"id":"(%b)"(?:,"seq":(\d{1,18}),"at":\d{1,20},"instance":"(%b)")?' % (_UUID, _UUID)
)


def head(line: bytes) -> Head | None:
    """Whose line this is, even if the rest of it can't be read; None if it does not begin as the shim's lines do."""
    found = _HEAD.match(line)
    if found is None:
        return None
    event_id, seq, instance = found.groups()
    return Head(UUID(event_id.decode()), int(seq) if seq else None, UUID(instance.decode()) if instance else None)


def instance_of(first_line: bytes) -> UUID | None:
    """The run that a log begins with; None where its first line does not begin as the shim's lines do."""
    found = head(first_line)
    return found.instance if found is not None else None


def parse(line: bytes) -> Envelope | Rejected:
    """Decode and check one line, without its newline. Never raises."""
    repaired: list[str] = []
    if not line.isascii():
        line = _repair_utf8(line, repaired)
    if b"\\u" in line and SUSPECT.search(line):
        line = repair_escapes(line, repaired)
    try:
        envelope = _DECODER.decode(line)
    except msgspec.ValidationError as exc:
        return _cut_down(line) or Rejected(_reason(str(exc)), str(exc))
    except RecursionError:
        return Rejected("too_deep", "nested too deeply to be parsed")
    except ValueError as exc:
        truncated = "truncated" in str(exc)
        return Rejected("truncated" if truncated else "invalid_json", _without_content(str(exc)))
    if envelope.v != 1:
        return Rejected("unsupported_version", f"unknown version {envelope.v} of the wire format")
    if envelope.withheld is not None:
        return _withheld(envelope)
    if repaired:
        envelope.repaired = tuple(repaired)
    return envelope


def content_hash(line: bytes, envelope: Envelope) -> int | None:
    """8 bytes of a hash of the line as the shim wrote it, as a signed number: equal each time that it is delivered.

    None where the line is another one by now: what is masked, repaired or withheld depends on the rules, on the lines
    before and on the time that masking took.

    Args:
        line: one line of the wire, with the sidecar's own fields.
        envelope: the same, parsed.
    """
    if envelope.redacted or envelope.repaired or _STUB.fullmatch(envelope.input):
        return None
    line = line.strip()
    if envelope.observed is not None:
        own = _OBSERVED + bytes(_OWN.decode(line).observed) + b"}"
        if not line.endswith(own):
            return None
        line = line[: -len(own)] + b"}"
    return plain_hash(line)


def plain_hash(line: bytes) -> int | None:
    """As `content_hash`, of a line that has none of the sidecar's own fields and is no stub."""
    if b"W" in line and _WITHHELD in line:  # a single byte is found much faster
        return None
    return int.from_bytes(sha256(line).digest()[:8], signed=True)


def _repair_utf8(line: bytes, repaired: list[str]) -> bytes:
    try:
        line.decode()
    except UnicodeDecodeError:
        repaired.append("utf8")
        return line.decode(errors="replace").encode()
    return line


def repair_escapes(line: bytes, repaired: list[str]) -> bytes:
    """Replace NUL and lone surrogates, walking escape by escape: an escaped backslash before u0000 is no NUL."""

    def repair(match: re.Match[bytes]) -> bytes:
        code = match[1]
        if code is None:
            return match[0]
        kind = "nul" if code == b"0000" else "surrogate"
        if kind not in repaired:
            repaired.append(kind)
        return b"\\ufffd"

    return _ESCAPE.sub(repair, line)


def _reason(message: str) -> str:
    return "missing_field" if "missing required" in message else "wrong_type"


def _without_content(message: str) -> str:
    """Syntax errors of msgspec name a place, not the text; anything else is not repeated."""
    return message if message.startswith(("JSON is malformed", "Input data was truncated", "Invalid")) else "not JSON"


class _Stub(msgspec.Struct):
    """What may be left of a line that was too long, if its ids did not stand at its beginning."""

    withheld: Withheld
    instance: UUID | None = None
    seq: int | None = None


def _cut_down(line: bytes) -> Rejected | None:
    """The content of a stub without all its fields."""
    try:
        return _withheld(msgspec.json.decode(line, type=_Stub)) if b'"withheld"' in line else None
    except ValueError:
        return None


def _withheld(stub: Envelope | _Stub) -> Rejected:
    assert stub.withheld is not None  # noqa: S101 - the callers checked
    return Rejected(stub.withheld.reason, f"{stub.withheld.bytes} bytes were withheld", stub.instance, stub.seq)


# -- what the sidecar adds to a line, and what it leaves of one that it withholds -----------------------------------


class _Own(msgspec.Struct, gc=False):
    """The sidecar's own fields. Decoding finds them however their names are written, as fast as a search would."""

    observed: msgspec.Raw = EMPTY
    redacted: msgspec.Raw = EMPTY
    repaired: msgspec.Raw = EMPTY


OWN_FIELDS: Final = frozenset(name.encode() for name in _Own.__struct_fields__)
_OWN: Final = msgspec.json.Decoder(_Own)
_HEAD_BYTES: Final = 8192
_HEAD_FIELD: Final = re.compile(
    rb'"(v|seq|at)":\s*(\d{1,16})\s*[,}]|"(id|instance)":\s*"([0-9a-fA-F-]{36})"|"(hook)":\s*"([a-z.]{1,40})"'
)


class Identity(msgspec.Struct):
    """The identity of an event: it must be the same before and after masking."""

    v: int
    id: UUID
    seq: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    at: int | float
    instance: UUID
    hook: str
    api: int = 1


class _Kept(msgspec.Struct, omit_defaults=True):
    """The content of a stub for a withheld line: fields whose types leave no room for a secret."""

    v: int | None = None
    id: UUID | None = None
    seq: int | None = None
    at: int | float | None = None
    instance: UUID | None = None
    hook: Annotated[str, msgspec.Meta(pattern=r"^[a-z.]{1,40}$")] | None = None
    api: int | None = None


_Fields = TypeVar("_Fields", Identity, _Kept)


def identity(line: bytes) -> Identity | None:
    """The fields that identify an event; None for what is no event."""
    return _fields(line, Identity)


def _fields(line: bytes, kind: type[_Fields]) -> _Fields | None:
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.ValidationError:
        return None
    except (ValueError, RecursionError):  # bytes that are no UTF-8, or half an emoji: `parse` repairs them
        try:
            return msgspec.convert(json.loads(line.decode("utf-8", "replace")), kind)
        except (ValueError, RecursionError):
            return None


def with_own_fields(line: bytes, redacted: dict[str, int], observed: bytes | None) -> bytes:
    """`line` with the sidecar's own fields at its end, when it is a JSON object; what came in under their names goes.

    Args:
        line: one line of the wire.
        redacted: secrets masked in it, by rule.
        observed: JSON of an `Observed`, or None.
    """
    foreign = _may_have_own_fields(line)
    if observed is None and not redacted and not foreign:
        return line
    extra = []
    if redacted:
        extra.append(b'"redacted":' + msgspec.json.encode(dict(sorted(redacted.items()))))
    if observed is not None:
        extra.append(b'"observed":' + observed)
    stripped = line.strip()
    if not stripped.endswith(b"}") or not stripped.startswith(b"{"):
        return line
    if foreign:
        line = stripped = _without_own_fields(stripped)
    if not extra:
        return line
    body = stripped[:-1]
    comma = b"" if body.strip() == b"{" else b","
    return body + comma + b",".join(extra) + b"}"


def observation(line: bytes) -> bytes | None:
    """The `observed` of a line that a trusted sidecar wrote, as JSON; None where there is none."""
    return bytes(_OWN.decode(line).observed) or None


def _may_have_own_fields(line: bytes) -> bool:
    """Whether a line has such a field, or can't be read before it is repaired."""
    try:
        own = _OWN.decode(line)
    except (ValueError, RecursionError):
        return True
    return bool(len(own.observed) or len(own.redacted) or len(own.repaired))


def _without_own_fields(line: bytes) -> bytes:
    try:
        fields = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):  # what `parse` repairs is repaired first: it must find nothing of it either
        fixed = repair_escapes(_repair_utf8(line, []), [])
        return line if fixed == line else _without_own_fields(fixed)
    return msgspec.json.encode({k: v for k, v in fields.items() if k not in _Own.__struct_fields__})


def stub(line: bytes, reason: str) -> bytes:
    """What is stored of a line whose contents are withheld: which event it was, how many bytes, and why."""
    found = _fields(line, _Kept)
    fields = _head_fields(line[:_HEAD_BYTES]) if found is None else msgspec.to_builtins(found)
    return msgspec.json.encode({**fields, "input": {"withheld": {"bytes": len(line), "reason": reason}}})


def head_stub(head: bytes, total_bytes: int, reason: str) -> bytes:
    """The same for a line that is not stored, TOO_LONG or DENIED; `head` is how it began."""
    return msgspec.json.encode({**_head_fields(head), "withheld": {"bytes": total_bytes, "reason": reason}})


def _head_fields(head: bytes) -> dict[str, object]:
    """The identity out of the beginning of a line that is not whole, up to where its contents begin."""
    fields: dict[str, object] = {}
    for match in _HEAD_FIELD.finditer(head[: head.find(b'"input"')]):
        number, value, name, text, hook, word = match.groups()
        if number is not None:
            fields.setdefault(number.decode(), int(value))
        elif name is not None:
            fields.setdefault(name.decode(), text.decode())
        else:
            fields.setdefault(hook.decode(), word.decode())
    return fields
