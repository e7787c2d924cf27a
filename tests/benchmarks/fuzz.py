"""Random bytes into every entry that takes foreign ones: python -m tests.benchmarks.fuzz --minutes 10 [--seed 1].

Inputs are those of tests/data/fuzz and lines of the recordings, cut up and put together again by hypothesis, which
also shrinks what fails. An entry fails by an error that it does not document, by an answer that contradicts itself,
or by taking long. What fails is printed as a file for the corpus, which the tests run. Exit code 1 when anything did.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from agent_trace_sidecar.limits.sqlite import first_row
from agent_trace_sidecar.opencode import dialects, usual, wire
from agent_trace_sidecar.opencode.events import CallDone
from agent_trace_sidecar.postgres.address import AddressError, check, resolve, without_password
from agent_trace_sidecar.postgres.authentication import AuthenticationError, Handshake
from agent_trace_sidecar.postgres.connection import one_host_each
from agent_trace_sidecar.postgres.require_auth import methods
from agent_trace_sidecar.records.build import Builder, BuildSettings
from agent_trace_sidecar.records.diffs import added, carried, merged, parse_diff, removed
from agent_trace_sidecar.redaction import Redacted, Redactor
from agent_trace_sidecar.sources.trace_file import TraceFileError, traces
from agent_trace_sidecar.spool.spool import Spool
from agent_trace_sidecar.workspace.revision import Revisions
from agent_trace_sidecar.workspace.vcs import Repositories

ROOT: Final = Path(__file__).parents[1] / "data"
MAX_BYTES: Final = 16 * 1024
"""Of an input: what is wrong shows in small ones, and they are fast."""
SLOW_S: Final = 2.0
"""Processor time that no input of this size may take."""
_ROUND: Final = 200
"""Inputs for one entry before the next has its turn."""
_MAX_LINE: Final = 2**31 - 1

TOKENS: Final = [
    b"", b"\0", b"\xff", b"\xed\xa0\x80", b"\\u0000", b"\\ud800", b"\\u006f", b"\r", b"\n", b"\t", b" ", b'"', b"'",
    b"\\", b"{", b"}", b"[", b"]", b":", b",", b"null", b"true", b"-1", b"0", b"1e999", b"9223372036854775807",
    b"18446744073709551616", b"2147483648", b"NaN", b"@@ -1 +1 @@\n", b"@@ -0,0 +1,2147483647 @@", b"+", b"-",
    b"\\ No newline at end of file\n", b"%", b"%00", b"@", b"/", b"?", b"&", b"#", b"=", b"../", b"\xe2\x80\xae",
    b'"observed":{"known":true}', b'"withheld":{"bytes":1,"reason":"x"}', b"[" * 2000, b'{"a":' * 2000, b"x" * 4000,
]  # fmt: skip
"""What stands at borders: of JSON, of numbers, of diffs, of URLs."""


class FailedError(AssertionError):
    """An entry's answer contradicts itself."""


def hold(truth: object, what: str) -> None:
    """Fail unless it is so."""
    if not truth:
        raise FailedError(what)


# -- the entries -----------------------------------------------------------------------------------------------


def line(data: bytes, _: Path) -> None:
    """A line of the wire: through the sidecar's own fields and both dialects into rows."""
    data = data.replace(b"\n", b" ")
    before = wire.identity(data)
    made = wire.with_own_fields(data, {}, b'{"late":true}')
    found = wire.parse(made)
    if isinstance(found, wire.Envelope):
        hold(found.observed is None or found.observed == wire.Observed(late=True), "a foreign observation is believed")
        hold(before is None or before == wire.identity(made), "the sidecar's own fields change whose line it is")
        _built(found)
        own = wire.with_own_fields(data, {}, None)
        alone = usual.parse(own)
        hold(isinstance(alone, wire.Envelope), "a line is an event only with an observation")
        if isinstance(alone, wire.Envelope):
            same = wire.content_hash(own, alone) == wire.content_hash(made, found)
            hold(same, "an observation makes another event of a line")
            _built(alone)
    wire.parse(wire.stub(data, "fuzz"))
    wire.parse(wire.head_stub(data[:100], len(data), wire.TOO_LONG))
    wire.head(data)


def _built(envelope: wire.Envelope) -> None:
    builder = Builder(BuildSettings())
    for _ in range(2):  # the second time it is told of again
        built = builder.feed(envelope)
        payload = built.event.payload
        msgspec.json.decode(payload)
        hold("\\u0000" not in payload.replace("\\\\", ""), "jsonb refuses the payload")
        for row in built.ranges:
            hold(1 <= row.start_line <= row.end_line <= _MAX_LINE, "a range is not one")
    builder.load(envelope.instance, builder.dump(envelope.instance))
    builder.summary(envelope.instance)
    event = dialects.read(envelope).event
    with contextlib.suppress(ValueError, RecursionError):
        args = dialects.before_args(envelope)
        dialects.named_paths(envelope.api, "edit", args)
        dialects.working_folder(args)
    if isinstance(event, CallDone):
        with contextlib.suppress(ValueError, RecursionError):
            dialects.file_edits(envelope.api, event)


def diff(data: bytes, _: Path) -> None:
    """The unified diff of one file."""
    changes = parse_diff(data.decode("utf-8", "replace"))
    if changes is not None:
        spans = [*added(changes), *removed(changes)]
        hold(all(1 <= first <= last <= _MAX_LINE for first, last in spans), "a span is not one")
        hold(merged(added(changes)) == added(changes) or len(changes) > 1, "spans of a hunk touch")
        carried(merged(spans), changes)


def sqlite(data: bytes, folder: Path) -> None:
    """The database of a Subversion working copy."""
    (folder / ".svn").mkdir(exist_ok=True)
    (folder / ".svn" / "wc.db").write_bytes(data)
    found = first_row(folder / ".svn" / "wc.db", "NODES", "SELECT revision FROM nodes WHERE op_depth = 0")
    hold(found is None or len(found) == 1, "a row of one column has more")
    seen = Repositories(Revisions()).of(folder)
    hold(seen is None or (seen.type == "svn" and seen.revision.lstrip("-").isdigit()), "a revision is no number")


def mercurial(data: bytes, folder: Path) -> None:
    """The dirstate of a Mercurial repository."""
    (folder / ".hg").mkdir(exist_ok=True)
    (folder / ".hg" / "dirstate").write_bytes(data)
    seen = Repositories(Revisions()).of(folder)
    hold(seen is None or len(seen.revision) == 40, "a node has another length")


_REDACTOR: Final = Redactor(enabled=False)


def trace(data: bytes, folder: Path) -> None:
    """A file of Agent Trace records of another tool."""
    file = folder / "trace.jsonl"
    file.write_bytes(data)
    with contextlib.suppress(TraceFileError):
        for found in traces(file, _REDACTOR):
            hold(found.number >= 1, "a record has no place")


def spool(data: bytes, folder: Path) -> None:
    """A segment that a sidecar left which was killed, on a disk that forgets."""
    (folder / "spool").mkdir(exist_ok=True)
    for old in (folder / "spool").iterdir():
        old.unlink()
    (folder / "spool" / f"{0:020d}.jsonl").write_bytes(data)
    opened = Spool(folder / "spool")
    try:
        mine = Redacted.from_spool(b'{"mine":1}')
        ends = opened.append([mine])
        opened.sync()
        position, last = opened.start, None
        while found := opened.read(position, MAX_BYTES):
            hold(all(a.end < b.end for a, b in pairwise(found)), "positions go back")
            hold(found[0].end > position, "reading stands still")
            position, last = found[-1].end, found[-1].line
        hold(position == ends[-1] and last == mine, "a line after the damage is lost")
    finally:
        opened.close()


def url(data: bytes, _: Path) -> None:
    """The URL of a database."""
    text = data.decode("utf-8", "surrogateescape").partition("\n")[0]
    shown = f"postgresql://anna:sesame-{text}"
    for one in (text, f"postgresql://{text}", f"postgresql://h/d?{text}", f"{shown}@h/d"):
        try:
            check(one)
            address = resolve(one, {"HOME": "/nonexistent"})
            hold(len(one_host_each(address.url)) >= 1, "no host is left")
            without_password(one)
        except AddressError as exc:
            hold("sesame" not in str(exc), "an error shows the password")
    with contextlib.suppress(ValueError):
        methods(text)


def handshake(data: bytes, _: Path) -> None:
    """What a server sends before it is ready: in one piece as byte by byte."""

    def outcome(pieces: Sequence[bytes]) -> str:
        shake = Handshake(None, readable=True)
        try:
            for piece in pieces:
                shake.feed(piece)
        except AuthenticationError as exc:
            return str(exc)
        return "over" if shake.is_over else ""

    hold(outcome([data]) == outcome([data[at : at + 1] for at in range(len(data))]), "pieces make a difference")


Entry = Callable[[bytes, Path], None]
ENTRIES: Final[Mapping[str, Entry]] = {
    "line": line,
    "diff": diff,
    "sqlite": sqlite,
    "mercurial": mercurial,
    "trace": trace,
    "spool": spool,
    "url": url,
    "handshake": handshake,
}


# -- inputs ----------------------------------------------------------------------------------------------------


def corpus(name: str) -> list[bytes]:
    """The inputs that an entry begins with."""
    own = [file.read_bytes() for file in sorted((ROOT / "fuzz" / name).iterdir())]
    if name in ("line", "spool", "trace"):
        recorded = [text for file in sorted((ROOT / "recordings").iterdir()) for text in file.read_bytes().splitlines()]
        own += [text for text in recorded if len(text) < MAX_BYTES][::7]
    return own


class _Edit(NamedTuple):
    """Put `text`, or the piece of another input, in the place of a piece."""

    at: float
    length: int
    text: bytes | None
    other: int
    other_at: float


_EDITS: Final = st.lists(
    st.builds(
        _Edit,
        st.floats(0, 1),
        st.sampled_from([0, 0, 1, 2, 8, 64, 1000]),
        st.one_of(st.none(), st.sampled_from(TOKENS), st.binary(max_size=8)),
        st.integers(0, 1000),
        st.floats(0, 1),
    ),
    max_size=8,
)


def _edited(seeds: Sequence[bytes], base: int, edits: Sequence[_Edit]) -> bytes:
    data = seeds[base % len(seeds)]
    for edit in edits:
        text = edit.text
        if text is None:
            other = seeds[edit.other % len(seeds)]
            begin = int(edit.other_at * len(other))
            text = other[begin : begin + (edit.length or 32)]
        at = int(edit.at * len(data))
        data = data[:at] + text + data[at + edit.length :]
    return data[:MAX_BYTES]


def attempt(entry: Entry, data: bytes, folder: Path) -> None:
    """Give an entry one input.

    Raises:
        FailedError: its answer is wrong, or it took too long.
        Exception: it raised what it does not document.
    """
    own = folder / entry.__name__
    own.mkdir(exist_ok=True)
    began = time.process_time()
    entry(data, own)
    spent = time.process_time() - began
    hold(spent < SLOW_S, f"{len(data)} bytes took {spent:.1f} s")


def fuzz(name: str, inputs: int, number: int, folder: Path) -> bytes | None:
    """Give an entry so many inputs; the smallest that fails, if one does."""
    seeds = corpus(name)
    failing: list[bytes] = []

    @seed(number)
    @settings(
        max_examples=inputs,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        print_blob=False,
    )
    @given(st.integers(0, 1000), _EDITS)
    def run(base: int, edits: list[_Edit]) -> None:
        data = _edited(seeds, base, edits)
        try:
            attempt(ENTRIES[name], data, folder)
        except Exception:
            failing.append(data)
            raise

    try:
        run()
    except Exception:  # noqa: BLE001 - whatever it is, it is what is looked for
        traceback.print_exc()
        return failing[-1]
    return None


def main() -> int:
    """Give each entry its turn until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)))
    given_ = parser.parse_args()
    end, number, done, failed = time.monotonic() + given_.minutes * 60, given_.seed, Counter[str](), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end:
            for name in ENTRIES:
                if name in failed:
                    continue
                found = fuzz(name, _ROUND, number, Path(folder))
                done[name] += _ROUND
                if found is not None:
                    failed.append(name)
                    place = Path(tempfile.gettempdir()) / f"fuzz-{name}-{number}"
                    place.write_bytes(found)
                    print(f"{name} fails (seed {number}): {found[:200]!r}; move {place} to tests/data/fuzz/{name}/")
            number += 1
    for name in ENTRIES:
        print(f"{name:<10} {done[name]:>8} inputs   {'FAILED' if name in failed else 'ok'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
