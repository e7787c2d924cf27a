"""Which sessions wait in spools, read on from where the last question ended, is what reading everything finds."""

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent_trace_sidecar.limits import KIB
from agent_trace_sidecar.pipeline.undelivered import Undelivered
from agent_trace_sidecar.redaction import Redacted
from agent_trace_sidecar.spool.segments import frame
from agent_trace_sidecar.spool.spool import Spool
from tests.support.envelopes import INSTANCE, Shim

SESSION = st.sampled_from(["ses_1", "ses_2", "ses_3", "ses_4"])
FOLDERS = [f"{INSTANCE}.0000000{number}" for number in range(2)]


SHIM = Shim()


def line(session_id: str, size: int = 0) -> bytes:
    """A line of a session."""
    event = {"type": "session.idle", "properties": {"sessionID": session_id, "more": "x" * size}}
    return SHIM.line("event", {"event": event})


def framed(sessions: list[str]) -> bytes:
    """Lines as a segment has them."""
    return b"".join(frame(line(one)) for one in sessions)


class UndeliveredMachine(RuleBasedStateMachine):
    """Two spools whose files do what they may, and what they may not; after each step both ways find the same."""

    @initialize()
    def begin(self) -> None:
        """No spool."""
        self.root = Path(tempfile.mkdtemp(prefix="ats-undelivered-"))
        self.positions: dict[Path, int] = {}
        self.undelivered = Undelivered(self.root)

    def teardown(self) -> None:
        """Leave nothing behind."""
        if hasattr(self, "root"):
            shutil.rmtree(self.root)

    def _last(self, number: int) -> Path:
        folder = self.root / FOLDERS[number]
        folder.mkdir(exist_ok=True)
        return max(folder.iterdir(), default=folder / f"{0:020d}.jsonl")

    @rule(number=st.integers(0, 1), sessions=st.lists(SESSION, min_size=1, max_size=4), cut=st.integers(0, 300))
    def append(self, number: int, sessions: list[str], cut: int) -> None:
        """Lines, the last of which may be torn."""
        data = framed(sessions)
        with self._last(number).open("ab") as file:
            file.write(data[: len(data) - cut] if cut < 200 else data)

    @rule(number=st.integers(0, 1))
    def rotate(self, number: int) -> None:
        """The next segment begins where the last one ends."""
        last = self._last(number)
        if last.exists():
            (last.parent / f"{int(last.stem) + last.stat().st_size:020d}.jsonl").touch()

    @rule(
        number=st.integers(0, 1), sessions=st.lists(SESSION, max_size=3), part=st.floats(0, 1), in_place=st.booleans()
    )
    def replace(self, number: int, sessions: list[str], part: float, *, in_place: bool) -> None:
        """The last segment is cut, and written on or anew, in its file or in another one of its name."""
        last = self._last(number)
        kept = last.read_bytes() if last.exists() else b""
        if not in_place:
            last.unlink(missing_ok=True)
        with last.open("r+b" if in_place and last.exists() else "wb") as file:
            file.truncate(int(len(kept) * part))
            file.seek(0, os.SEEK_END)
            file.write(framed(sessions))

    @rule(number=st.integers(0, 1), whole=st.booleans())
    def remove(self, number: int, *, whole: bool) -> None:
        """The first segment, or the spool, is shipped."""
        folder = self._last(number).parent
        if whole:
            shutil.rmtree(folder)
        else:
            min(folder.iterdir(), default=folder / "0").unlink(missing_ok=True)

    @rule(number=st.integers(0, 1), part=st.floats(0, 1))
    def deliver(self, number: int, part: float) -> None:
        """The database's position goes on, or back, to the end of a line."""
        ends = [0]
        for path in sorted(self._last(number).parent.iterdir()):
            at = int(path.stem)
            ends += [at := at + len(one) for one in path.read_bytes().splitlines(keepends=True)]
        self.positions[self.root / FOLDERS[number]] = ends[int(part * (len(ends) - 1))]

    @invariant()
    def finds_the_same(self) -> None:
        """As one that has read nothing before."""
        if hasattr(self, "root"):
            found = self.undelivered.sessions_after(self.positions)
            assert found == Undelivered(self.root).sessions_after(self.positions)


TestUndelivered = UndeliveredMachine.TestCase


def test_only_what_was_added_is_read(tmp_path: Path) -> None:
    """A second question about the same spool reads nothing of it, and one after a line about that line only."""
    with_lines = Spool.create(tmp_path, INSTANCE)
    append(with_lines, *("ses_1" for _ in range(300)))
    undelivered = Undelivered(tmp_path)
    before = bytes_read()
    assert undelivered.sessions_after({}) == {"ses_1"}
    whole = bytes_read() - before
    assert whole > 300 * KIB
    assert undelivered.sessions_after({}) == {"ses_1"}
    append(with_lines, "ses_2")
    assert undelivered.sessions_after({}) == {"ses_1", "ses_2"}
    assert undelivered.sessions_after({with_lines.folder: with_lines.end}) == set()
    assert bytes_read() - before - whole < 20 * KIB
    with_lines.close()


def append(spool: Spool, *sessions: str) -> None:
    """Durable lines of 1 KB."""
    spool.append([Redacted.from_spool(line(one, KIB)) for one in sessions])
    spool.sync()


def bytes_read() -> int:
    """By this process so far."""
    fields = dict(one.split(": ") for one in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])
