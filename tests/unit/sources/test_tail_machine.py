"""Random actions on log files against a model of what a follower owes."""

import contextlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from agent_trace_sidecar.limits import TAIL_QUIET_POLLS
from agent_trace_sidecar.redaction import Redactor
from agent_trace_sidecar.sources.cursor import masked_by
from agent_trace_sidecar.sources.tail import Tail, TailFile, look
from agent_trace_sidecar.sources.tail_log import TailLog

T = TypeVar("T")

_NAMES = ("a.jsonl", "b.jsonl", "app.log")
_LINK = "current.log"
_SAME_FIRST_LINE = b'{"header":"the same in every file"}\n'


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("it waits for something")


@dataclass
class Ledger:
    """What the database is to a shipper: a checkpoint per log, and what was delivered."""

    checkpoints: dict[UUID, tuple[int, str]] = field(default_factory=dict)
    delivered: Counter[bytes] = field(default_factory=Counter)
    order: list[bytes] = field(default_factory=list)

    def ship(self, file: TailFile, max_bytes: int) -> None:
        """One turn of a file, as a shipper does it."""

        async def not_now() -> bool:
            return False

        log = TailLog(file, masked_by(Redactor(enabled=False)), not_now)
        position, check = self.checkpoints.get(log.name.log_id, (0, ""))
        if position > log.end or (position and check != log.check(position)):
            position = 0
        log.rewind(position)
        while at_once(log.more(position)):
            lines = log.read(position, max_bytes)
            if not lines:
                break
            for line in lines:
                assert line.line is not None
                if line.line.line.strip():
                    self.delivered[line.line.line] += 1
                    self.order.append(line.line.line)
            position = lines[-1].end
            self.checkpoints[log.name.log_id] = (position, log.check(position))
            log.release(position)


@dataclass(eq=False)
class Life:
    """One file between its creation and its removal: what stands in it, and who writes it."""

    fd: int
    lines: list[bytes] = field(default_factory=list)
    half: bytes = b""
    """What is missing of the line that was begun."""
    begun: bytes = b""
    closed: bool = False
    """Marked as such: nobody writes it any more."""

    def key(self) -> tuple[int, int]:
        """Device and inode."""
        status = os.fstat(self.fd)
        return status.st_dev, status.st_ino


class Files(RuleBasedStateMachine):
    """The writers, the one who rotates, and the follower."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="tail-"))
        self.folder, self.elsewhere = self.root / "logs", self.root / "elsewhere"
        self.folder.mkdir()
        self.elsewhere.mkdir()
        self.lives: dict[Path, Life] = {}
        self.nameless: list[Life] = []
        self.number = 0
        self.now = 0.0
        self.ledger = Ledger()
        self.forgiven: set[bytes] = set()
        self.written: set[bytes] = set()
        self.copied: set[bytes] = set()
        self.broken = False
        """Whether any line may legitimately be in pieces."""
        self.tail = Tail(max_open=32)
        self.paths = [self.folder, self.elsewhere / "app.log", self.elsewhere / _LINK]

    # -- helpers ---------------------------------------------------------------------------------------------

    def place(self, name: str) -> Path:
        """Where a name stands: the one that is followed by its own name is in a folder that is not."""
        return (self.elsewhere if name.startswith("app") else self.folder) / name

    def line(self, size: int) -> bytes:
        """A new line."""
        self.number += 1
        return json.dumps({"n": self.number, "pad": "x" * size}).encode()

    def held(self, life: Life) -> bool:
        """Whether the follower has the file open, and so need not lose it with its name."""
        return any(f.key == life.key() and f.present_size() is not None and self.knows(f) for f in self.tail.files)

    def knows(self, file: TailFile) -> bool:
        """Whether the follower would find the file to be what it was; asking must not tell it."""
        replaced = file.replaced
        intact = not replaced and file.intact()
        file.replaced = replaced
        return intact

    def forgive(self, life: Life) -> None:
        """What is in this file and nowhere else need not be delivered any more."""
        others = {line for other in [*self.lives.values(), *self.nameless] if other is not life for line in other.lines}
        self.forgiven |= set(life.lines) - others

    def finish_half(self, life: Life) -> None:
        """Write the rest of a line that was begun."""
        if life.half:
            os.write(life.fd, life.half + b"\n")
            life.lines.append(life.begun)
            self.written.add(life.begun)
            life.half = b""

    # -- what writers do -------------------------------------------------------------------------------------

    @initialize(append=st.booleans())
    def start(self, append: bool) -> None:
        """There is one file from the start."""
        self.create(_NAMES[0], append, header=False)

    @rule(name=st.sampled_from(_NAMES), append=st.booleans(), header=st.booleans())
    def create(self, name: str, append: bool, header: bool) -> None:
        """Create a file that is not there; some writers don't append, some begin each file with the same line."""
        path = self.place(name)
        if path in self.lives:
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | (os.O_APPEND if append else 0)
        self.lives[path] = Life(os.open(path, flags))
        if header:
            os.write(self.lives[path].fd, _SAME_FIRST_LINE)

    def pick(self, index: int) -> tuple[Path, Life] | None:
        """One of the files that have a name and a writer."""
        found = [(path, life) for path, life in self.lives.items() if not life.closed]
        return found[index % len(found)] if found else None

    @rule(index=st.integers(0, 9), sizes=st.lists(st.sampled_from([0, 10, 1500]), min_size=1, max_size=5))
    def append_lines(self, index: int, sizes: list[int]) -> None:
        """Append lines to any file, rotated ones too: their writers may not have reopened."""
        if (picked := self.pick(index)) is None:
            return
        self.write(picked[1], sizes)

    def write(self, life: Life, sizes: list[int]) -> None:
        """Append lines."""
        self.finish_half(life)
        for size in sizes:
            line = self.line(size)
            os.write(life.fd, line + b"\n")
            life.lines.append(line)
            self.written.add(line)

    @rule(index=st.integers(0, 9), cut=st.integers(1, 20))
    def begin_line(self, index: int, cut: int) -> None:
        """Write a part of a line."""
        if (picked := self.pick(index)) is None or picked[1].half:
            return
        life = picked[1]
        line = self.line(30)
        os.write(life.fd, line[:cut])
        life.begun, life.half = line, line[cut:]

    @rule(index=st.integers(0, 9))
    def append_to_nameless(self, index: int) -> None:
        """A writer goes on after its file's name is gone.

        No precondition: whether the follower held the file depends on the file system (a new file may get its
        inode), and hypothesis must be able to draw the same steps again.
        """
        if not self.nameless or (life := self.nameless[index % len(self.nameless)]).closed:
            return
        held = self.held(life)
        before = len(life.lines)
        self.write(life, [5])
        if not held:
            self.forgiven |= set(life.lines[before:])

    # -- what rotation does ----------------------------------------------------------------------------------

    def shift(self, path: Path) -> Path:
        """Make room for `path.1`; what was `path.2` falls off."""
        first, second = path.with_name(f"{path.name}.1"), path.with_name(f"{path.name}.2")
        if second in self.lives:
            self.drop(second)
        if first in self.lives:
            first.rename(second)
            self.lives[second] = self.lives.pop(first)
        return first

    def drop(self, path: Path) -> None:
        """Delete a file."""
        life = self.lives.pop(path)
        path.unlink()
        if self.held(life):
            self.nameless.append(life)
        else:
            self.forgive(life)
            os.close(life.fd)

    @rule(name=st.sampled_from(_NAMES), reopen=st.booleans())
    def rotate_by_rename(self, name: str, reopen: bool) -> None:
        """Rename the file; its writer goes on in it or in a new one."""
        path = self.place(name)
        if path not in self.lives:
            return
        first = self.shift(path)
        path.rename(first)
        self.lives[first] = self.lives.pop(path)
        if reopen:
            self.create(name, append=True, header=False)

    @rule(name=st.sampled_from(_NAMES), regrow=st.integers(0, 12))
    def rotate_by_copytruncate(self, name: str, regrow: int) -> None:
        """Copy the file and truncate it; it may be longer than it was before anybody looks again."""
        path = self.place(name)
        life = self.lives.get(path)
        if life is None:
            return
        first = self.shift(path)
        shutil.copyfile(path, first)
        self.lives[first] = Life(os.open(first, os.O_WRONLY | os.O_APPEND), list(life.lines))
        self.copied |= set(life.lines)
        if life.half:
            self.broken = True
            os.write(self.lives[first].fd, b"\n")
            life.half = b""
        os.ftruncate(life.fd, 0)
        life.lines = []
        self.write(life, [20] * regrow)

    @rule(index=st.integers(0, 9), regrow=st.integers(0, 12), header=st.booleans())
    def truncate(self, index: int, regrow: int, header: bool) -> None:
        """Truncate a file without a copy: what was not delivered is lost, by no fault of the follower."""
        if (picked := self.pick(index)) is None:
            return
        life = picked[1]
        self.forgive(life)
        os.ftruncate(life.fd, 0)
        life.lines, life.half = [], b""
        if header:
            os.write(life.fd, _SAME_FIRST_LINE)
        self.write(life, [20] * regrow)

    @rule(index=st.integers(0, 9), recreate=st.booleans())
    def delete(self, index: int, recreate: bool) -> None:
        """Delete a file; a new one of its name may get its inode."""
        if not self.lives:
            return
        path = list(self.lives)[index % len(self.lives)]
        self.drop(path)
        if recreate and path.name in _NAMES:
            self.create(path.name, append=True, header=True)
            self.write(self.lives[path], [20, 20])

    @rule(index=st.integers(0, 9))
    def close_and_mark(self, index: int) -> None:
        """Close a file for good, as the shim does."""
        picked = self.pick(index)
        if picked is None or not picked[0].name.endswith(".jsonl"):
            return
        path, life = picked
        self.number += 1
        target = path.with_name(f"{path.stem}.{self.number}.done.jsonl")
        path.rename(target)
        del self.lives[path]
        self.broken = self.broken or bool(life.half)
        life.half = b""
        life.closed = True
        self.lives[target] = life

    @rule()
    def switch_link(self) -> None:
        """Let the name that is followed as such become a link to a file outside of the folders."""
        path = self.elsewhere / _LINK
        if path in self.lives:
            return
        self.number += 1
        target = self.elsewhere / f"target.{self.number}"
        self.lives[path] = Life(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
        path.symlink_to(target)
        self.write(self.lives[path], [1])

    # -- what the follower does ------------------------------------------------------------------------------

    @rule()
    def poll(self) -> None:
        """Look at the files."""
        self.now += 25
        self.tail.update(look(self.paths, known=self.tail.quiet(self.now)), self.now)

    @rule(max_bytes=st.sampled_from([1, 200, 100_000]))
    def ship(self, max_bytes: int) -> None:
        """Give each file with something unread its turn; let go of files that are gone and done."""
        for file in self.tail.files:
            if file.unread:
                self.ledger.ship(file, max_bytes)

    @rule()
    def poll_and_ship(self) -> None:
        """Both, which is what mostly happens."""
        self.poll()
        self.ship(100_000)

    @rule()
    def restart(self) -> None:
        """The follower is killed: files without a name are lost."""
        self.tail.close()
        self.tail = Tail(max_open=32)
        while self.nameless:
            life = self.nameless.pop()
            self.forgive(life)
            os.close(life.fd)

    # -- what must be true -----------------------------------------------------------------------------------

    def teardown(self) -> None:
        """After two more looks everything that is owed has been delivered, once, whole and in order."""
        try:
            for _ in range(TAIL_QUIET_POLLS + 2):  # every file's turn comes
                self.poll_and_ship()
            self.judge()
        finally:
            self.tail.close()
            for life in [*self.lives.values(), *self.nameless]:
                with contextlib.suppress(OSError):
                    os.close(life.fd)
            shutil.rmtree(self.root)

    def judge(self) -> None:
        """Compare the ledger with the model."""
        delivered = self.ledger.delivered
        assert self.written - self.forgiven <= set(delivered)
        assert [line for line, times in delivered.items() if times > 1 and self.owned(line)] == []
        if not self.broken:
            assert set(delivered) <= self.written | {_SAME_FIRST_LINE.strip()}
        first_at = {line: at for at, line in reversed(list(enumerate(self.ledger.order)))}
        for life in self.lives.values():
            numbers = [first_at[line] for line in life.lines if line in first_at and line not in self.copied]
            assert numbers == sorted(numbers)

    def owned(self, line: bytes) -> bool:
        """Whether a line stands in one file only, so that reading it twice would be for nothing."""
        return line in self.written and line not in self.copied


TestFiles: Callable[..., object] = Files.TestCase
Files.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
