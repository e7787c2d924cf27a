"""The manifest of `export --signed`: what is stored of a period, as a chain of hashes that ends with its counts.

    {"manifest": 1, "made_at", "since", "until", "sessions"}               the head: what was chosen
    {"kind": "event", "id", "run", "seq", "at", "content"}                 each event, by run and number
    {"kind": "record", "id", "run", "at", "content"}                       each Agent Trace record, by run and time
    {"kind": "run", "id", "missing": [[3, 4]], "lost"}                     what never came of each of these runs
    {"end": {"events", "records", "runs", "missing", "lost", "dead_letters"}}

Each line ends with `"chain"`: the SHA-256, in hexadecimal digits, of the chain of the line before and of the line
without it. So no line can be altered, moved or removed without breaking the chain, and a file that was cut off has no
end. `content` is the SHA-256 of what is stored. The signature covers the whole file.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

VERSION: Final = 1
_CHAIN: Final = re.compile(rb',"chain":"([0-9a-f]{64})"\}')
_CHAIN_BYTES: Final = len(b',"chain":""}') + 64
_SHOWN: Final = 3
"""Ids that a sentence names; the number covers all."""


class ManifestError(ValueError):
    """The file is no manifest; the text is a sentence."""


class Entry(NamedTuple):
    """Something that is stored."""

    kind: str
    """event or record."""
    id: str
    run: str
    at: str
    """ISO 8601, UTC."""
    content: str
    """SHA-256 of what is stored, in hexadecimal digits."""
    seq: int | None = None
    """Of an event, its number in the run."""

    def fields(self) -> dict[str, Any]:
        """The fields of its line."""
        return {name: value for name, value in self._asdict().items() if value is not None}


class Run(NamedTuple):
    """What never came of a run, by its numbers."""

    id: str
    missing: Sequence[tuple[int, int]]
    """First and last number of each gap."""
    lost: int
    """Events that the shim had to drop."""


class Chain:
    """Makes lines that follow from each other."""

    def __init__(self) -> None:
        self.value = "0" * 64

    def line(self, fields: Mapping[str, Any]) -> bytes:
        """The next line, without its newline."""
        body = msgspec.json.encode(fields)
        self.value = _next(self.value, body)
        return body[:-1] + b',"chain":"' + self.value.encode() + b'"}'


def _next(before: str, body: bytes) -> str:
    return hashlib.sha256(before.encode() + body).hexdigest()


def made(
    head: Mapping[str, Any], entries: Iterable[Entry], runs: Sequence[Run], dead_letters: Mapping[str, int]
) -> bytes:
    """The bytes of a manifest.

    Args:
        head: `made_at`, `since`, `until`, `sessions`.
        entries: events and records, in their order.
        runs: those that the events are of.
        dead_letters: those of the period, by reason.
    """
    chain, counts = Chain(), Counter[str]()
    lines = [chain.line({"manifest": VERSION, **head})]
    for entry in entries:
        counts[entry.kind] += 1
        lines.append(chain.line(entry.fields()))
    lines += [chain.line({"kind": "run", **run._asdict()}) for run in runs]
    lines.append(chain.line({"end": _end(counts, runs, dead_letters)}))
    return b"\n".join(lines) + b"\n"


def _end(counts: Counter[str], runs: Sequence[Run], dead_letters: Mapping[str, int]) -> dict[str, Any]:
    return {
        "events": counts["event"],
        "records": counts["record"],
        "runs": len(runs),
        "missing": sum(last - first + 1 for run in runs for first, last in run.missing),
        "lost": sum(run.lost for run in runs),
        "dead_letters": dict(sorted(dead_letters.items())),
    }


class Manifest(NamedTuple):
    """A manifest that was read, and what is wrong with it by itself."""

    head: Mapping[str, Any]
    entries: Sequence[Entry]
    end: Mapping[str, Any]
    """Empty where there is none."""
    errors: Sequence[str]


def read(data: bytes) -> Manifest:
    """Read a manifest and check its chain, its end and its counts.

    Raises:
        ManifestError: it is something else.
    """
    lines = data.split(b"\n")
    errors = [] if lines[-1] == b"" else [f"line {len(lines)} is cut off"]
    documents = [_document(line) for line in lines[: len(lines) if lines[-1] else -1]]
    head = documents[0] if documents else {}
    if head.get("manifest") != VERSION:
        raise ManifestError(f"it is not a manifest of version {VERSION}: `export --signed KEY` makes one.")
    errors += _breaks(lines[: len(documents)])
    entries, runs, end = [], [], dict[str, Any]()
    for number, document in enumerate(documents[1:], 2):
        if end:
            errors.append(f"line {number} stands after the end")
            break
        match document:
            case {"kind": "event" | "record"}:
                entries.append(_entry(document))
            case {"kind": "run"}:
                runs.append(Run(str(document.get("id")), _spans(document.get("missing")), _count(document.get("lost"))))
            case {"end": dict(found)}:
                end = found
            case _:
                errors.append(f"line {number} is not a line of a manifest")
    if not end:
        errors.append(f"the end is missing: the manifest was cut off after line {len(documents)}")
    else:
        errors += _miscounted(end, entries, runs)
    return Manifest(head, entries, end, errors)


def _breaks(lines: Sequence[bytes]) -> Iterator[str]:
    """Where the chain breaks; after a break it is followed from what the line claims."""
    before = "0" * 64
    for number, line in enumerate(lines, 1):
        found = _CHAIN.fullmatch(line[-_CHAIN_BYTES:])
        claimed = found[1].decode() if found else ""
        if claimed != _next(before, line[:-_CHAIN_BYTES] + b"}"):
            yield f"line {number} does not follow from the line before: one of them was altered, moved or removed"
        before = claimed


def _miscounted(end: Mapping[str, Any], entries: Sequence[Entry], runs: Sequence[Run]) -> Iterator[str]:
    counted = _end(Counter(entry.kind for entry in entries), runs, {})
    for name, number in counted.items():
        if name != "dead_letters" and end.get(name) != number:
            yield f"the end counts {end.get(name)} {name}, and the manifest lists {number}"


def _document(line: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except (ValueError, RecursionError):
        return {}


def _entry(document: Mapping[str, Any]) -> Entry:
    kind, of_id, run, at, content = (str(document.get(name)) for name in ("kind", "id", "run", "at", "content"))
    seq = document.get("seq")
    return Entry(kind, of_id, run, at, content, seq if isinstance(seq, int) else None)


def _spans(found: object) -> list[tuple[int, int]]:
    try:
        return msgspec.convert(found, list[tuple[int, int]])
    except msgspec.ValidationError:
        return []


def _count(found: object) -> int:
    return found if isinstance(found, int) else 0


class Difference(NamedTuple):
    """What the database has else than the manifest, as sentences."""

    errors: Sequence[str]
    warnings: Sequence[str]


def compare(manifest: Manifest, stored: Iterable[Entry]) -> Difference:
    """Compare what is listed with what is stored now."""
    now = {(one.kind, one.run, one.id): one for one in stored}
    listed = {(one.kind, one.run, one.id): one for one in manifest.entries}
    errors, warnings = [], []
    for kind in ("event", "record"):
        of_kind = [key for key in listed if key[0] == kind]
        missing = [key[2] for key in of_kind if key not in now]
        altered = [key[2] for key in of_kind if key in now and now[key] != listed[key]]
        added = [key[2] for key in now if key[0] == kind and key not in listed]
        errors += [f"{_named(kind, missing)} missing from the database"] if missing else []
        errors += [f"{_named(kind, altered)} stored with other content"] if altered else []
        warnings += [f"{_named(kind, added)} stored and not listed: added later"] if added else []
    return Difference(errors, warnings)


def _named(kind: str, ids: Sequence[str]) -> str:
    more = ", ..." if len(ids) > _SHOWN else ""
    plural, verb = ("s", "are") if len(ids) > 1 else ("", "is")
    return f"{len(ids)} {kind}{plural} ({', '.join(ids[:_SHOWN])}{more}) {verb}"
