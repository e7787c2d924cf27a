"""The spool against a list of lines, under random steps: a kill, a power cut and errors of the disk among them."""

import errno
import os
import tempfile
from pathlib import Path
from shutil import rmtree

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent_trace_sidecar.redaction import Redacted
from agent_trace_sidecar.spool.spool import Spool, SpoolFullError
from tests.unit.spool.test_spool import Disk, failing_write

LINE = st.one_of(
    st.integers(0, 400).map(lambda size: b'{"a":"%b"}' % (b"x" * size)),
    st.binary(max_size=60).map(lambda data: data.replace(b"\n", b" ")),
)


class SpoolMachine(RuleBasedStateMachine):
    """`lines` is what must be read back: the line and the position after it. `durable` of them are promised."""

    @initialize(segment_bytes=st.sampled_from([1, 200, 1000]))
    def begin(self, segment_bytes: int) -> None:
        """Open an empty spool."""
        self.patch = pytest.MonkeyPatch()
        self.disk = Disk(self.patch)
        self.root = Path(tempfile.mkdtemp(prefix="ats-spool-"))
        self.folder = self.root / "spool"
        self.segment_bytes = segment_bytes
        self.lines: list[tuple[bytes, int]] = []
        self.durable = 0
        self.released = 0
        self.spool = self._open()

    def teardown(self) -> None:
        """Leave nothing behind."""
        if hasattr(self, "spool"):
            self.spool.close()
            self.patch.undo()
            rmtree(self.root)

    def _open(self) -> Spool:
        return Spool(self.folder, segment_bytes=self.segment_bytes, max_bytes=20_000)

    @rule(lines=st.lists(LINE, min_size=1, max_size=5))
    def append(self, lines: list[bytes]) -> None:
        """All lines are taken, or none."""
        try:
            ends = self.spool.append([Redacted.from_spool(line) for line in lines])
        except SpoolFullError:
            assert self.spool.unshipped_bytes + sum(map(len, lines)) > 15_000
            return
        self.lines += zip(lines, ends, strict=True)

    @rule(lines=st.lists(LINE, min_size=1, max_size=5), after=st.integers(0, 500), eio=st.booleans())
    def append_to_a_broken_disk(self, lines: list[bytes], after: int, eio: bool) -> None:
        """The disk takes some bytes and fails: none of the lines is there, and those before it are."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "write", failing_write(errno.EIO if eio else errno.ENOSPC, after))
            try:
                ends = self.spool.append([Redacted.from_spool(line) for line in lines])
            except (OSError, SpoolFullError):
                return
        self.lines += zip(lines, ends, strict=True)

    @rule()
    def sync(self) -> None:
        """Everything is durable."""
        assert self.spool.sync() == self.spool.end == (self.lines[-1][1] if self.lines else 0)
        self.durable = len(self.lines)

    @rule()
    def sync_fails(self) -> None:
        """No line is durable that was not before."""
        self.disk.broken = True
        before = self.spool.durable
        due = bool(self.lines) and before < self.lines[-1][1]  # `end` falls back while lines wait to be written again
        try:
            self.spool.sync()
        except OSError:
            assert not self.disk.broken
        assert due == (not self.disk.broken)
        assert self.spool.durable == before
        self.disk.broken = False

    @precondition(lambda self: self.durable > 0)
    @rule(data=st.data())
    def ship(self, data: st.DataObject) -> None:
        """Some durable lines are in the database."""
        self.released = max(self.released, self.lines[data.draw(st.integers(0, self.durable - 1))][1])
        self.spool.release(self.released)

    @rule()
    def kill(self) -> None:
        """The process dies: the file holds whatever was written."""
        self.spool.close()
        self._reopened()

    @rule(keep=st.floats(0, 1))
    def lose_power(self, keep: float) -> None:
        """The machine dies: what was not synced is there in part, or not at all."""
        self.spool.close()
        self.disk.lose_power(self.folder, lambda size: int(size * keep))
        self._reopened()

    def _reopened(self) -> None:
        self.spool = self._open()
        kept = [item for item in self.lines if item[1] <= self.spool.end]
        assert len(kept) >= self.durable
        assert self.spool.end == (kept[-1][1] if kept else 0)
        self.lines, self.durable = kept, len(kept)
        self.spool.release(self.released)

    @invariant()
    def reads_back(self) -> None:
        """What is promised is read from every place, in order, and nothing else."""
        if not hasattr(self, "spool"):
            return
        durable = [item for item in self.lines if item[1] <= self.spool.durable]
        assert len(durable) >= self.durable
        found = [
            (item.line.line if item.line else None, item.end) for item in self.spool.read(self.spool.start, 1 << 20)
        ]
        assert found == [item for item in durable if item[1] > self.spool.start]
        if durable:
            middle = durable[len(durable) // 2][1]
            if middle >= self.spool.start:
                assert [item.end for item in self.spool.read(middle, 1 << 20)] == [e for _, e in durable if e > middle]


TestSpool = SpoolMachine.TestCase
TestSpool.settings = settings(max_examples=60, stateful_step_count=30)
