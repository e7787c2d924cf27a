"""What a situation needs of an OpenCode, the same for both majors: a server that records, projects, turns, people.

It asks before commands that begin with `ASKED` and edits of files named `asked`, and formats `.pyi` and `.pyw` by
`formatter.py`.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.simulator import formatter
from tests.support.blaming import blamed_lines
from tests.support.fake_model import Call, Step, fake_model
from tests.support.majors import DIALECTS, Dialect, Served, answering, server
from tests.support.opencode import SHIM, OpenCode, opencode
from tests.support.opencode2 import opencode2
from tests.support.postgres import fetch
from tests.support.sidecars import noted_sidecar
from tests.support.waiting import beside, eventually

ASKED: Final = "true asked; "
"""Before such a command a permission is asked."""
_FORMATTERS: Final = {
    "simulated": {"command": [sys.executable, formatter.__file__, "$FILE"], "extensions": [".pyi", ".pyw"]},
}
_ENDS: Final = {
    1: ("session.idle",),
    2: ("session.execution.succeeded", "session.execution.failed", "session.execution.interrupted"),
}
"""Events that end a turn."""
_EVENTS: Final = """
SELECT count(*) AS n FROM agent_trace_events
WHERE event_name = ANY($1::text[]) AND $2 IN ('', session_id) AND occurred_at >= $3
"""
_EVER: Final = datetime.fromtimestamp(0, UTC)
_COMPACTED: Final = """
SELECT count(*) AS n FROM agent_trace_events WHERE session_id = $1 AND event_name = 'message.part.updated'
AND payload #> '{input,event,properties,part,state,time,compacted}' IS NOT NULL
"""
_VOID: Final = "SELECT count(*) AS n FROM agent_trace_ranges WHERE session_id = $1 AND voided_at IS NOT NULL"


class NotBegunError(AssertionError):
    """OpenCode has not begun a call: nothing was there to record."""


@dataclass(frozen=True)
class Acts:
    """One OpenCode that records all projects into one database."""

    major: int
    oc: OpenCode
    url: str
    served: Served

    @property
    def tools(self) -> Dialect:
        """How its tools are called."""
        return DIALECTS[self.major]

    def project(self, name: str, files: dict[str, str], *, commit: bool = True) -> "Project":
        """Make a repository with these files of a person, where everything is recorded."""
        folder = self.oc.project(name, {".gitignore": "ignored/\n"} | files, commit)
        self.oc.add_plugin(folder, SHIM)
        if commit:
            self.oc.git(folder, "add", "-A")
            self.oc.git(folder, "commit", "-q", "-m", "Record")
        (folder / "ignored").mkdir()
        return Project(self, folder)

    def later(self, command: str) -> Call:
        """A call of the shell whose command goes on after it."""
        if self.major == 1:
            return self.tools.run(f"({command}) >/dev/null 2>&1 &")
        return self.tools.run(command, background=True)

    @contextmanager
    def another(self) -> Iterator["Acts"]:
        """Give a second process of the same user; of OpenCode 2 one for each turn."""
        if self.major == 1:
            with server(self.oc, self.oc.folder) as served:
                yield replace(self, served=served)
        else:
            yield _Standalone(self.major, self.oc, self.url, self.served)

    def prompt(self, folder: Path, session: str, text: str) -> None:
        """Do one prompt to its end."""
        self.served.prompt(folder, session, text)

    def stored(self, session: str, *event_names: str, since: datetime = _EVER) -> int:
        """How many such events of a session are stored; of all without one."""
        return int(fetch(self.url, _EVENTS, list(event_names), session, since)[0]["n"])

    def compacted(self, session: str) -> int:
        """How many parts of a session were sent again because their output was pruned."""
        return int(fetch(self.url, _COMPACTED, session)[0]["n"])

    def void(self, session: str) -> int:
        """How many ranges of a session are void."""
        return int(fetch(self.url, _VOID, session)[0]["n"])

    def prune(self, session: str) -> None:
        """Erase a session from the database."""
        command = [sys.executable, "-P", "-m", "agent_trace_sidecar", "prune", "--session", session, "--yes"]
        env = os.environ | {
            "AGENT_TRACE_DATABASE_URL": self.url,
            "AGENT_TRACE_STATE_DIR": self.oc.env["AGENT_TRACE_STATE_DIR"],
        }
        done = subprocess.run(command, env=env, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()

    def letters(self, file: Path) -> str:
        """What `blame` says of each line of a file: a(i), h(uman), m(ixed), u(nknown)."""
        return "".join(str(one["contributor"])[0] for one in blamed_lines(self.url, file))


class _Standalone(Acts):
    """OpenCode 2 beside its service."""

    def prompt(self, folder: Path, session: str, text: str) -> None:
        """See `Acts`."""
        done = self.oc.run(folder, text, "--session", session)
        assert done.code == 0, done.stderr


@dataclass
class Project:
    """A repository, and a session that works in it."""

    acts: Acts
    folder: Path
    session: str = ""

    def turn(self, *steps: Step) -> None:
        """Let the model take these steps, and wait until all of it is stored."""
        text = self.scripted(*steps)
        self.open()
        ends, began = _ENDS[self.acts.major], datetime.now(UTC)  # the end of an aborted turn may be stored later
        self.acts.prompt(self.folder, self.session, text)
        eventually(lambda: self.acts.stored(self.session, *ends, since=began) > 0, 30, "the turn is stored")

    def open(self) -> None:
        """Create the session, if there is none."""
        self.session = self.session or self.acts.served.session(self.folder)

    def fork(self) -> None:
        """Go on in a fork of the session."""
        self.session = self.acts.served.fork(self.folder, self.session)

    def abort(self) -> None:
        """Abort what the session does."""
        self.acts.served.abort(self.folder, self.session)

    def scripted(self, *steps: Step) -> str:
        """A prompt that the model answers with these steps."""
        marker = f"m{len(self.acts.oc.model.scripts):04d}x"
        self.acts.oc.model.script(marker, *steps)
        return f"do {marker}"

    def other(self, acts: Acts | None = None) -> "Project":
        """Another session in the same folder, of another process if that is given."""
        other = Project(acts or self.acts, self.folder)
        other.open()
        return other

    def beside(self, *steps: Step) -> threading.Thread:
        """Begin a turn in a thread."""
        thread = threading.Thread(target=self.turn, args=steps)
        thread.start()
        return thread

    def begun(self, calls: int = 1) -> None:
        """Wait until so many calls of the session have begun."""
        eventually(lambda: self.acts.stored(self.session, "tool.execute.before") >= calls, 30, "a call has begun")

    def at_work(self, path: str) -> None:
        """Wait until a command that the model calls has written a file.

        Raises:
            NotBegunError: OpenCode has not begun it.
        """
        try:
            eventually((self.folder / path).exists, 30, "the command is at work")
        except AssertionError as exc:
            raise NotBegunError(*exc.args) from None

    @property
    def waits(self) -> str:
        """What a command begins with that must not write before the sidecar has read its files; see `reading`."""
        self.open()
        return f"until test -e {self._read}; do sleep 0.1; done; "

    @contextmanager
    def reading(self, event_name: str = "tool.execute.before", more: int = 1) -> Iterator[None]:
        """Let such commands go on when so many more events of the session are stored, and files were read with them.

        Nothing else makes it certain on a busy machine: OpenCode waits for no sidecar.
        """
        self.open()
        self._read.unlink(missing_ok=True)
        wanted = self.acts.stored(self.session, event_name) + more

        def go_on() -> None:
            eventually(lambda: self.acts.stored(self.session, event_name) >= wanted, 60, "the files are read")
            self._read.touch()

        with beside(go_on):
            yield

    @property
    def _read(self) -> Path:
        return self.acts.oc.folder / f"read_{self.session}"

    def append(self, path: str, text: str) -> None:
        """A person writes at the end of a file."""
        with (self.folder / path).open("a") as file:
            file.write(text)

    def git(self, *args: str, folder: Path | None = None) -> str:
        """A person uses git."""
        return self.acts.oc.git(folder or self.folder, *args)

    def answering(self, meanwhile: Callable[[], None], *, allow: bool = True) -> AbstractContextManager[None]:
        """Answer what is asked, a while after something was done."""
        self.open()
        return answering(self.acts.served, self.folder, self.session, meanwhile, allow=allow)


@contextmanager
def acting(major: int, url: str) -> Iterator[Acts]:
    """A server of a major version that records into a database."""
    with fake_model() as model, (opencode if major == 1 else opencode2)(model) as oc:
        oc.env["AGENT_TRACE_DATABASE_URL"] = url
        oc.env["AGENT_TRACE_SIDECAR"] = noted_sidecar(oc.folder)
        oc.env["AGENT_TRACE_STATE_DIR"] = str(oc.folder / "state")
        oc.config["formatter"] = _FORMATTERS
        if major == 1:
            oc.config["compaction"] = {"auto": False, "prune": True}
            oc.config["permission"] = {
                "bash": {"*": "allow", "true asked*": "ask"},
                "edit": {"*": "allow", "*asked*": "ask"},
                "external_directory": "allow",
            }
        else:
            effects = (("*", "*", "allow"), ("shell", "true asked*", "ask"), ("edit", "*asked*", "ask"))
            oc.config["permissions"] = [
                dict(zip(("action", "resource", "effect"), one, strict=True)) for one in effects
            ]
        with server(oc, oc.project("home_project", {"x": "x\n"})) as served:
            acts = Acts(major, oc, url, served)
            # OpenCode does not wait for the sidecar, which reads the first turn after its start too late.
            acts.project("first", {"x": "x\n"}).turn(Step(text="It is recorded."))
            yield acts
