"""Both majors of OpenCode behind one face, for tests that hold them to the same rows.

with at_work(2) as oc: ...                                  # an OpenCode with a scripted model that has a price
with server(oc) as served:                                  # `serve`, or the background service
    session = served.session(project)
    served.prompt(project, session, "buy milk")
    served.revert(project, session, prompt=1)
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import pytest

from tests.support.fake_model import Call, fake_model
from tests.support.opencode import OpenCode, Server, opencode
from tests.support.opencode2 import OpenCode2, Service, opencode2
from tests.support.waiting import beside, eventually, exit_code

MAJORS: Final = [pytest.param(1, id="1.18"), pytest.param(2, id="2.0", marks=pytest.mark.needs("OpenCode 2"))]
PATCHING: Final = "openai/gpt-5-x"
"""A model that patches instead of editing and writing."""
PERSON_S: Final = 0.1
"""A person's time between typing a line and permitting a command."""


@dataclass(frozen=True)
class Dialect:
    """How a major names its tools, and where it counts."""

    path: str
    shell: str
    patch: str
    subagent: str
    agent: str
    sessions: str
    """The table of its own store."""

    def write(self, path: str, content: str) -> Call:
        """A call that writes a file."""
        return Call("write", {self.path: path, "content": content})

    def edit(self, path: str, old: str, new: str) -> Call:
        """A call that edits one."""
        return Call("edit", {self.path: path, "oldString": old, "newString": new})

    def run(self, command: str, **more: object) -> Call:
        """A call of the shell."""
        return Call(self.shell, {"command": command, "description": "x", **more})

    def apply(self, text: str) -> Call:
        """A call that patches."""
        return Call(self.patch, {"patchText": text})

    def start(self, prompt: str) -> Call:
        """A call that starts a subagent."""
        return Call(self.subagent, {"description": "sub", "prompt": prompt, self.agent: "general"})


DIALECTS: Final = {
    1: Dialect("filePath", "bash", "apply_patch", "task", "subagent_type", "session"),
    2: Dialect("path", "shell", "patch", "subagent", "agent", "session_v2"),
}
TOOLS: Final = {"bash": "shell", "apply_patch": "patch", "task": "subagent"}
"""What OpenCode 2 calls the tools of OpenCode 1."""


def major_of(oc: OpenCode) -> int:
    """Its major version."""
    return 2 if isinstance(oc, OpenCode2) else 1


@contextmanager
def at_work(major: int) -> Iterator[OpenCode]:
    """An OpenCode of a major version, with a scripted model that has a price."""
    with fake_model() as model, (opencode if major == 1 else opencode2)(model) as oc:
        priced: dict[str, Any] = {"tool_call": True, "limit": {"context": 100_000, "output": 4000}}
        priced["cost"] = {"input": 1000, "output": 2000}
        options = {"baseURL": model.base_url, "apiKey": "x"}
        oc.config["provider"] = {
            name: {"npm": "@ai-sdk/openai-compatible", "options": options, "models": {one: priced}}
            for name, one in (("fake", "m1"), ("openai", "gpt-5-x"))
        }
        yield oc


class Served(Protocol):
    """A server of either major."""

    def session(self, project: Path) -> str:
        """Create a session, and return its id."""

    def prompt(self, project: Path, session: str, text: str, model: str = "fake/m1") -> None:
        """Do one prompt to its end."""

    def begin(self, project: Path, session: str, text: str) -> None:
        """Do one, and wait for nothing."""

    def shell(self, project: Path, session: str, command: str, model: str = "fake/m1") -> None:
        """Run a command of the user's own to its end."""

    def revert(self, project: Path, session: str, prompt: int) -> None:
        """Undo everything from one of the prompts on; 0 is the first."""

    def unrevert(self, project: Path, session: str) -> None:
        """Take that back."""

    def fork(self, project: Path, session: str) -> str:
        """Fork a session, and return the new one's id."""

    def abort(self, project: Path, session: str) -> None:
        """Abort what a session does."""

    def requests(self, project: Path, session: str) -> list[str]:
        """The permissions that a session waits for."""

    def reply(self, project: Path, session: str, request: str, *, allow: bool) -> None:
        """Give a permission once, or reject it."""

    def close(self) -> None:
        """Close the projects, as OpenCode does when it ends in order."""

    def kill(self) -> None:
        """End the server as a crash does."""


@contextmanager
def server(oc: OpenCode, project: Path) -> Iterator[Served]:
    """Start a server; what is left of it after the block is killed."""
    if isinstance(oc, OpenCode2):
        with oc.service(project) as service:
            yield _Service(service)
    else:
        with oc.serve(project) as serve:
            yield _Serve(serve)


def served_by(serve: Server) -> Served:
    """The same of an `opencode serve` that runs."""
    return _Serve(serve)


@contextmanager
def answering(
    served: Served,
    project: Path,
    session: str,
    meanwhile: Callable[[], None],
    *,
    allow: bool = True,
    after_s: float = PERSON_S,
) -> Iterator[None]:
    """Answer the permissions that a session asks for, so long after something was done meanwhile."""

    def answer() -> None:
        eventually(lambda: served.requests(project, session), 30, "a permission is asked")
        meanwhile()
        typed = time.monotonic()  # nobody permits within the tick of the clock that stamps files
        eventually(lambda: time.monotonic() - typed >= after_s, 5, "a person looks up")
        for one in served.requests(project, session):
            served.reply(project, session, one, allow=allow)

    with beside(answer):
        yield


class _Serve:
    """`opencode serve`."""

    def __init__(self, serve: Server) -> None:
        self._serve = serve
        self._projects: set[Path] = set()

    def session(self, project: Path) -> str:
        self._projects.add(project)
        return self._serve.session(project)

    def prompt(self, project: Path, session: str, text: str, model: str = "fake/m1") -> None:
        self._projects.add(project)
        self._serve.prompt(project, session, text, model)

    def begin(self, project: Path, session: str, text: str) -> None:
        parts = [{"type": "text", "text": text}]
        self._serve.request("POST", f"/session/{session}/prompt_async", project, {"parts": parts})

    def shell(self, project: Path, session: str, command: str, model: str = "fake/m1") -> None:
        provider, _, name = model.partition("/")
        body = {"agent": "build", "command": command, "model": {"providerID": provider, "modelID": name}}
        self._serve.request("POST", f"/session/{session}/shell", project, body)

    def revert(self, project: Path, session: str, prompt: int) -> None:
        messages = self._serve.request("GET", f"/session/{session}/message", project)
        prompts = [one["info"]["id"] for one in messages if one["info"]["role"] == "user"]
        self._serve.request("POST", f"/session/{session}/revert", project, {"messageID": prompts[prompt]})

    def unrevert(self, project: Path, session: str) -> None:
        self._serve.request("POST", f"/session/{session}/unrevert", project, {})

    def fork(self, project: Path, session: str) -> str:
        return str(self._serve.request("POST", f"/session/{session}/fork", project, {})["id"])

    def abort(self, project: Path, session: str) -> None:
        self._serve.request("POST", f"/session/{session}/abort", project, {})

    def requests(self, project: Path, session: str) -> list[str]:
        found = self._serve.request("GET", "/permission", project)
        return [one["id"] for one in found if one["sessionID"] == session]

    def reply(self, project: Path, session: str, request: str, *, allow: bool) -> None:
        del session
        body = {"reply": "once" if allow else "reject"}
        self._serve.request("POST", f"/permission/{request}/reply", project, body)

    def kill(self) -> None:
        self._serve.process.kill()
        exit_code(self._serve.process, 20)

    def close(self) -> None:
        for project in self._projects:
            self._serve.dispose(project)


class _Service:
    """The background service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def session(self, project: Path) -> str:
        return self._service.session(project)

    def prompt(self, project: Path, session: str, text: str, model: str = "fake/m1") -> None:
        del project
        provider, _, name = model.partition("/")
        self._service.api("POST", f"/api/session/{session}/model", {"model": {"providerID": provider, "id": name}})
        self._service.prompt(session, text)

    def begin(self, project: Path, session: str, text: str) -> None:
        del project
        self._service.api("POST", f"/api/session/{session}/prompt", {"text": text})

    def shell(self, project: Path, session: str, command: str, model: str = "fake/m1") -> None:
        del project, model
        self._service.api("POST", f"/api/session/{session}/shell", {"command": command})

    def revert(self, project: Path, session: str, prompt: int) -> None:
        del project
        messages = self._service.api("GET", f"/api/session/{session}/message")["data"]
        prompts = sorted(one["id"] for one in messages if one["type"] == "user")
        body = {"messageID": prompts[prompt], "files": True}
        self._service.api("POST", f"/api/session/{session}/revert/stage", body)

    def unrevert(self, project: Path, session: str) -> None:
        del project
        self._service.api("DELETE", f"/api/session/{session}/revert")

    def fork(self, project: Path, session: str) -> str:
        del project
        return str(self._service.api("POST", f"/api/session/{session}/fork", {})["data"]["id"])

    def abort(self, project: Path, session: str) -> None:
        del project
        self._service.api("POST", f"/api/session/{session}/interrupt")

    def requests(self, project: Path, session: str) -> list[str]:
        del project
        return [one["id"] for one in self._service.api("GET", f"/api/session/{session}/permission")["data"]]

    def reply(self, project: Path, session: str, request: str, *, allow: bool) -> None:
        del project
        body = {"decision": "once" if allow else "reject"}
        self._service.api("POST", f"/api/session/{session}/permission/{request}/reply", body)

    def close(self) -> None:
        self._service.stop()

    def kill(self) -> None:
        self._service.kill()
