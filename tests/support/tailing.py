"""`agent-trace-sidecar tail` as a process, and writers of logs for it."""

import json
import signal
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Final

from tests.support.opencode import SHIM, killed_after
from tests.support.postgres import fetch
from tests.support.sidecar import sidecar_command
from tests.support.waiting import eventually, exit_code

IDS: Final = "SELECT event_id FROM agent_trace_events"


def small_files(folder: Path) -> Path:
    """The shim with a rotation that a short session reaches many times."""
    whole = SHIM.read_text()
    patched = whole.replace("const LOG_FILE_MAX_BYTES = 64 * 2 ** 20;", "const LOG_FILE_MAX_BYTES = 6000;")
    assert patched != whole
    target = folder / "shim.js"
    target.write_text(patched)
    return target


class TailProcess:
    """A running `tail`; `log` is what it said."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def said(self) -> str:
        """Its log lines so far."""
        return self._log.read_text()

    @property
    def open_files(self) -> list[str]:
        """The targets of its descriptors."""
        found = []
        for link in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                found.append(str(link.readlink()))
        return found

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        exit_code(self.process, 10)

    def stop(self, deadline_s: float = 20) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return exit_code(self.process, deadline_s)


@contextmanager
def tailing(
    env: Mapping[str, str], log: Path, *arguments: str | Path, command: Sequence[str] = ()
) -> Iterator[TailProcess]:
    """Start `tail` with these arguments; it is gone after the block. `command` is another way to start it."""
    with (
        log.open("ab") as errors,
        subprocess.Popen(
            [*(command or sidecar_command("tail")), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=dict(env),
            start_new_session=True,
        ) as process,
        killed_after(process.pid),
    ):
        yield TailProcess(process, log)


class Writer:
    """Lines of one run of a shim."""

    def __init__(self, worktree: str = "/w") -> None:
        self.instance = uuid.uuid4()
        self.worktree = worktree
        self.ids: list[uuid.UUID] = []
        self._seq = count(1)

    def line(self, size: int = 20) -> bytes:
        """The next line, with its newline."""
        self.ids.append(uuid.uuid4())
        given = {"event": {"type": "todo.updated", "properties": {"sessionID": "ses_1", "text": "x" * size}}}
        fields = {"v": 1, "id": str(self.ids[-1]), "seq": next(self._seq), "at": 1_795_327_000_000}
        place = {"instance": str(self.instance), "directory": self.worktree, "worktree": self.worktree}
        return json.dumps({**fields, **place, "hook": "event", "input": given}).encode() + b"\n"

    def lines(self, number: int, size: int = 20) -> bytes:
        """Some lines."""
        return b"".join(self.line(size) for _ in range(number))


def stored_ids(url: str) -> set[uuid.UUID]:
    """The ids of all stored events, checked to be there once."""
    ids = [row["event_id"] for row in fetch(url, IDS)]
    assert len(ids) == len(set(ids))
    return set(ids)


def all_stored(url: str, writers: list[Writer], deadline_s: float = 20) -> None:
    """Wait until exactly the lines of these writers are stored, without a gap in any run's numbers."""
    wanted = {id_ for writer in writers for id_ in writer.ids}
    eventually(lambda: stored_ids(url) >= wanted, deadline_s, "every line is stored")
    assert stored_ids(url) == wanted
    gaps = fetch(url, "SELECT state->'sequence'->>'missing' AS n FROM agent_trace_sources WHERE kind = 'instance'")
    assert {row["n"] for row in gaps} == {"0"}
