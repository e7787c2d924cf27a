"""`validate`: Agent Trace files against the specification's schema, and against the repository that they name."""

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from agent_trace_sidecar.commands.common import CommandError, UsageError, record_arguments
from agent_trace_sidecar.commands.output import say, say_json
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits.text import counted
from agent_trace_sidecar.records.foreign_hashes import agrees
from agent_trace_sidecar.records.trace import Range, Reading, TraceError, TraceRecord, read_record
from agent_trace_sidecar.sources.trace_file import TraceFileError, entries
from agent_trace_sidecar.workspace.checkout import Checkout, CheckoutError, checkout_of
from agent_trace_sidecar.workspace.located import Locator

_SCHEMA: Final = "agent-trace-record-0.1.0.schema.json"
_PLACES: Final = (
    Path(__file__).parents[1] / "_data" / _SCHEMA,  # in the wheel
    Path(__file__).parents[2] / "tests" / "data" / _SCHEMA,  # in a checkout
)
_AHEAD: Final = timedelta(days=1)
"""So far a clock may be ahead of ours."""


class Problem(NamedTuple):
    """Something that is wrong with a record: an error, or a warning where it may be right elsewhere."""

    file: str
    number: int
    """The line, or in an array the place, counted from 1."""
    level: str
    where: str
    """The field, as a JSON path."""
    text: str

    def sentence(self) -> str:
        """For a person."""
        return f"{self.file}:{self.number}: {self.level}: {self.where}: {self.text}"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The files, and the repository that they belong to."""
    record_arguments(parser)
    parser.add_argument("--no-repository", action="store_true", help="check the files by themselves only")
    parser.add_argument("--json", action="store_true", help="print the problems as JSON")
    parser.add_argument(
        "--signed",
        metavar="KEY",
        type=Path,
        help="check manifests of `export --signed` against this public key, and against the database",
    )
    parser.add_argument("--no-database", action="store_true", help="with --signed: check the files by themselves only")


def run(config: Config, given: argparse.Namespace) -> int:
    """Check the files; exit code 1 where one has an error."""
    if given.signed is not None:
        from agent_trace_sidecar.commands.audit import validate_signed  # noqa: PLC0415 - brings the builder with it

        return validate_signed(config, given)
    if given.no_database:
        raise UsageError("--no-database needs --signed KEY.")
    checkout = None if given.no_repository else checkout_of(given.repository.resolve() / "x")
    checker = Checker(checkout)
    problems: list[Problem] = []
    for file in given.files:
        try:
            problems += checker.check(file)
        except TraceFileError as exc:
            raise CommandError(f"{file} holds no Agent Trace records: {exc}") from None
        except OSError as exc:
            raise CommandError(f"{file} can't be read: {exc.strerror}.") from None
        except CheckoutError as exc:
            raise CommandError(str(exc)) from None
    levels = Counter(one.level for one in problems)
    if given.json:
        found = {"records": checker.records, "errors": levels["error"], "warnings": levels["warning"]}
        say_json(json.dumps({**found, "problems": [one._asdict() for one in problems]}))
    else:
        say(*(one.sentence() for one in problems))
        result = f"{counted(levels['error'], 'error')}, {counted(levels['warning'], 'warning')}"
        say(f"{counted(checker.records, 'record')}: {result}")
    return 1 if levels["error"] else 0


class Checker:
    """Checks records one after the other."""

    def __init__(self, checkout: Checkout | None) -> None:
        """`checkout` is the repository that the records name; None leaves it out."""
        schema = json.loads(next(place for place in _PLACES if place.is_file()).read_text())
        import jsonschema  # noqa: PLC0415 - `completion` loads this module for its arguments alone

        self._schema = jsonschema.Draft202012Validator(schema)
        self._checkout = checkout
        self._locator = Locator(checkout) if checkout is not None else None
        self._ids: dict[str, str] = {}
        self.records = 0

    def check(self, file: Path) -> Iterator[Problem]:
        """What is wrong with a file's records; errors as for `trace_file.entries`."""
        for number, text in entries(file):
            self.records += 1
            for level, where, problem in self._entry(f"{file}:{number}", text):
                yield Problem(str(file), number, level, where, problem)

    def _entry(self, place: str, text: bytes) -> Iterator[tuple[str, str, str]]:
        try:
            document = msgspec.json.decode(text)
        except (ValueError, RecursionError) as exc:
            yield "error", "$", f"not JSON: {exc}"
            return
        yield from (("error", where, problem) for where, problem in self._by_schema(document))
        try:
            reading = read_record(text)
        except TraceError as exc:
            yield "error", "$", str(exc)
            return
        yield from (("warning", "$", note) for note in reading.notes)
        yield from self._twice(place, reading.record)
        yield from _by_itself(reading)
        if self._locator is not None:
            yield from self._in_repository(reading.record)

    def _by_schema(self, document: object) -> Iterator[tuple[str, str]]:
        for error in sorted(self._schema.iter_errors(document), key=lambda one: one.json_path):
            yield error.json_path, error.message

    def _twice(self, place: str, record: TraceRecord) -> Iterator[tuple[str, str, str]]:
        first = self._ids.setdefault(str(record.id), place)
        if first != place:
            yield "error", "$.id", f"the id is that of {first}"

    def _in_repository(self, record: TraceRecord) -> Iterator[tuple[str, str, str]]:
        assert self._locator is not None  # noqa: S101 - the caller checked
        assert self._checkout is not None  # noqa: S101 - as above
        revision = record.vcs.revision if record.vcs else None
        if revision and self._checkout.is_git and self._checkout.commit_time(revision) is None:
            yield "warning", "$.vcs.revision", f"{revision} is not a commit of this repository"
        for at, file in enumerate(record.files):
            where = f"$.files[{at}]"
            path = self._locator.path(file.path, revision)
            if path is None:
                yield "error", f"{where}.path", f"{file.path!r} lies outside of the repository"
                continue
            for of, conversation in enumerate(file.conversations):
                for number, span in enumerate(conversation.ranges):
                    place = f"{where}.conversations[{of}].ranges[{number}]"
                    yield from self._range(record, path, span, place)

    def _range(self, record: TraceRecord, path: str, span: Range, place: str) -> Iterator[tuple[str, str, str]]:
        assert self._locator is not None  # noqa: S101 - the caller checked
        located = self._locator.locate(record, path, span)
        lines = f"{path}:{span.start_line}-{span.end_line}"
        if span.content_hash is not None and agrees(span.content_hash, []) is None:
            yield "warning", f"{place}.content_hash", "the hash can't be checked: its algorithm or form is not known"
        elif located is None and span.content_hash is not None:
            yield "error", f"{place}.content_hash", f"no version of {lines} has this hash"
        if located is None and span.content_hash is None:
            yield "warning", place, f"{lines}: no version of the file has such lines that this record may have added"
        elif located is not None and located.end != span.end_line:
            yield "error", f"{place}.end_line", f"{lines}: end_line is one higher than the last line"
        elif located is not None and not located.spans:
            yield "warning", place, f"{lines}: these lines stood there before"


def _by_itself(reading: Reading) -> Iterator[tuple[str, str, str]]:
    """What the schema can't express."""
    record = reading.record
    if record.timestamp.tzinfo is None:
        yield "error", "$.timestamp", "the time has no offset"
    elif record.timestamp > datetime.now(UTC) + _AHEAD:
        yield "warning", "$.timestamp", "the time lies in the future"
    for at, file in enumerate(record.files):
        where = f"$.files[{at}]"
        if "\\" in file.path or file.path.startswith(("/", "./")) or ".." in file.path.split("/"):
            yield "error", f"{where}.path", f"{file.path!r} is not a relative path with forward slashes"
        for of, conversation in enumerate(file.conversations):
            last = 0
            for number, span in enumerate(conversation.ranges):
                if span.start_line <= last:
                    yield "warning", f"{where}.conversations[{of}].ranges[{number}]", "it overlaps an earlier range"
                last = max(last, span.end_line)
