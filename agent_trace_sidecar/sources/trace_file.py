"""Files of Agent Trace records, cut into records: JSON lines, one record, an array, or an object that holds one."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from agent_trace_sidecar.limits.files import open_regular
from agent_trace_sidecar.opencode.wire import repair_escapes
from agent_trace_sidecar.records.trace import InvalidRecordError, Reading, TraceError, read_record
from agent_trace_sidecar.sources.forms import HEAD_BYTES, REMEDY, Form, form_of

if TYPE_CHECKING:  # who reads records of their own need no redactor
    from agent_trace_sidecar.redaction import Redacted, Redactor

_BOM: Final = b"\xef\xbb\xbf"
_HOLDERS: Final = ("traces", "records")
"""Names under which tools keep their records in one object."""


class TraceFileError(Exception):
    """The file is of another form; the text is a sentence with the remedy."""


class Entry(NamedTuple):
    """A record's place in its file, and its JSON text."""

    number: int
    """The line, or in an array the place, counted from 1."""
    text: bytes


class Unread(NamedTuple):
    """A record that can't be read, and why."""

    number: int
    error: TraceError


class Traced(NamedTuple):
    """A record without its secrets."""

    number: int
    redacted: "Redacted"
    reading: Reading


def traces(file: Path, redactor: "Redactor") -> Iterator[Traced | Unread]:
    """The records of a file, each through the redactor before anything of it is read.

    Raises:
        OSError: the file can't be read.
        TraceFileError: it holds no records, but something that another command reads.
    """
    for number, text in entries(file):
        found = redactor.document(text)
        try:
            yield Traced(number, found, _read(found.line))
        except TraceError as exc:
            yield Unread(number, exc)


def entries(file: Path) -> Iterator[Entry]:
    """The records of a file as they stand there; errors as for `traces`."""
    with open_regular(file) as opened:
        form = form_of(opened.read(HEAD_BYTES))
        if form is not None and form is not Form.TRACE:
            raise TraceFileError(f"it is {form.value}; {REMEDY[form]}.")
        opened.seek(0)
        first = opened.readline().removeprefix(_BOM)
        lines = _is_object(first) and not _holder(first)
        opened.seek(0)
        if lines:
            yield from _lines(opened)
            return
        data = opened.read()
    try:
        whole = msgspec.json.decode(data.removeprefix(_BOM))
    except (ValueError, RecursionError):
        yield from _lines(data.split(b"\n"))
        return
    yield from (Entry(at, msgspec.json.encode(one)) for at, one in enumerate(_held(whole), 1))


def _lines(lines: Iterable[bytes]) -> Iterator[Entry]:
    """JSON lines: they end at LF, and at nothing else that a text may take for a line's end."""
    for number, line in enumerate(lines, 1):
        text = line.strip() if number > 1 else line.removeprefix(_BOM).strip()
        if text:
            yield Entry(number, text)


def _read(text: bytes) -> Reading:
    fixed = _utf8(text)
    repaired: list[str] = []
    repair_escapes(fixed, repaired)
    if "nul" in repaired:
        raise InvalidRecordError("a text in the record holds a NUL, which no database keeps")
    if "surrogate" in repaired:
        fixed = repair_escapes(fixed, [])
    return read_record(fixed)


def _utf8(text: bytes) -> bytes:
    return text if text.isascii() else text.decode(errors="replace").encode()


def _is_object(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):
        return False
    return True


def _held(whole: object) -> Sequence[object]:
    """The records of a document."""
    if isinstance(whole, dict) and "version" not in whole:
        return next((whole[name] for name in _HOLDERS if isinstance(whole.get(name), list)), [whole])
    return whole if isinstance(whole, list) else [whole]


def _holder(line: bytes) -> bool:
    fields = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    return "version" not in fields and any(name in fields for name in _HOLDERS)


def grouped(unread: Sequence[Unread]) -> Iterator[str]:
    """A sentence for each kind of error, with the places where it is."""
    places: dict[str, list[int]] = {}
    for number, error in unread:
        places.setdefault(str(error), []).append(number)
    for text, numbers in places.items():
        many = f"{len(numbers)} records" if len(numbers) > 1 else "a record"
        yield f"line{'s' * (len(numbers) > 1)} {_spans(numbers)}: {many} can't be read: {text}"


_MOST_PLACES: Final = 10


def _spans(numbers: Sequence[int]) -> str:
    """Numbers as `1-3, 7`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    shown = [f"{first}-{last}" if last > first else str(first) for first, last in runs[:_MOST_PLACES]]
    return ", ".join(shown) + (" and more" if len(runs) > _MOST_PLACES else "")
