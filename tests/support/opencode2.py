r"""A real, offline OpenCode 2 for tests, in the shape of `tests/support/opencode.py`.

    with fake_model() as model, opencode2(model) as oc:
        project = oc.project("shop", {"a.txt": "one\n"})
        oc.add_plugin(project, SHIM)
        done = oc.run(project, "buy milk")                          # `run --standalone --auto`: a server of its own
        with oc.service(project) as service:                        # the background server, stopped at the end
            service.run("buy milk", "--session", session)           # `run --auto` against it
            session = service.session()
            service.prompt(session, "buy milk")                     # to its end, over the HTTP API
            service.api("GET", f"/api/session/{session}/message")   # any request, decoded

Tools name a file by `path`; they are called `edit`, `write`, `shell`, `patch` (instead of edit and write, for models
named like `openai/gpt-5-x`), and `subagent`. A run takes about 2 s, a prompt to a running service 0.2 s.
"""

import base64
import json
import os
import platform
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

from tests.support.fake_model import FakeModel
from tests.support.opencode import ROOT, Finished, OpenCode, asked, npm_install
from tests.support.postgres import free_port, guarded_folder
from tests.support.waiting import completed

VERSION = "2.0.15"

_PACKAGE = "@opencode/cli-linux-x64-baseline"
"""The only platform for which this release is published on npm."""


def installed() -> Path:
    """Return OpenCode 2's binary, installed by npm at first use."""
    machine = platform.system(), platform.machine().lower()
    assert machine in {("Linux", "x86_64"), ("Linux", "amd64")}, f"{_PACKAGE} does not run on {machine}"
    return npm_install(ROOT / ".tools" / "opencode2", _PACKAGE, VERSION) / _PACKAGE / "bin" / "opencode"


@contextmanager
def opencode2(model: FakeModel) -> Iterator["OpenCode2"]:
    """Give an OpenCode 2 with a home of its own, which talks to `model`; nothing of it is left after the block."""
    binary = installed()
    with guarded_folder() as folder:
        yield OpenCode2(binary=binary, folder=folder, model=model)


class OpenCode2(OpenCode):
    """One user's OpenCode 2: `project`, `add_plugin`, `run`, `start` and `tui` are those of `OpenCode`."""

    run_arguments: ClassVar[Sequence[str]] = ("run", "--standalone", "--auto")

    @contextmanager
    def service(self, project: Path) -> Iterator["Service"]:
        """Start the background server of this user, and stop it after the block."""
        service = Service(self, project)
        service.start()
        try:
            yield service
        finally:
            service.kill()


class Service:
    """The background server. It serves all projects; requests without another one are about `project`."""

    def __init__(self, oc: OpenCode2, project: Path) -> None:
        """Start nothing yet. On its usual port a second user's server would wait for ever for the first to end."""
        self._oc = oc
        self.project = project
        settings = oc.folder / "home" / "config" / "opencode" / "service.json"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(json.dumps({"port": free_port()}))

    @property
    def pid(self) -> int | None:
        """The server's process id while it is running, as the server has published it."""
        published = self._published()
        return int(published["pid"]) if published else None

    def start(self) -> None:
        """Start it, also after `stop` or `kill`."""
        self._command("service", "start")

    def stop(self) -> None:
        """End it as a user does, which awaits the plugins' clean-up."""
        self._command("service", "stop")

    def kill(self) -> None:
        """Kill it and what it has started, if it is running."""
        pid = self.pid
        if pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def run(self, prompt: str, *args: str, deadline_s: float = 60) -> Finished:
        """Do one prompt to its end, as `opencode run --auto ARGS PROMPT`; without `--session` in a new session."""
        began = time.monotonic()
        done = self._process("run", "--auto", *args, prompt, deadline_s=deadline_s)
        return Finished(done.returncode, done.stdout, done.stderr, time.monotonic() - began)

    def api(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 (JSON)
        """Make a request of the HTTP API, as `opencode api` does in half a second, and return the answer decoded."""
        published = self._published()
        assert published, "the service is not running"
        credentials = base64.b64encode(f"opencode:{published['password']}".encode()).decode()
        return asked(method, f"{published['url']}{path}", body, {"Authorization": f"Basic {credentials}"})

    def session(self, project: Path | None = None) -> str:
        """Create a session, and return its id."""
        location = {"directory": str(project or self.project)}
        return str(self.api("POST", "/api/session", {"location": location})["data"]["id"])

    def prompt(self, session: str, text: str) -> None:
        """Do one prompt to its end."""
        self.api("POST", f"/api/session/{session}/prompt", {"text": text})
        self.api("POST", f"/api/experimental/session/{session}/wait")

    def _published(self) -> dict[str, Any]:
        """What the server has published of itself: nothing while it is not running."""
        file = self._oc.folder / "home" / "state" / "opencode" / "service.json"
        published: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return published

    def _command(self, *args: str) -> None:
        done = self._process(*args)
        assert done.returncode == 0, f"opencode {args}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"

    def _process(self, *args: str, deadline_s: float = 60) -> "subprocess.CompletedProcess[str]":
        environment = self._oc.environment(self.project)
        return completed(self._oc.command(*args), deadline_s, cwd=self.project, env=environment)
