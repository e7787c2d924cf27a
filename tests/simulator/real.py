"""The real driver: a real OpenCode does the calls of a scripted model, the real shim and sidecar record them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.simulator.lines import Doc
from tests.simulator.play import Script
from tests.simulator.world import Effect, World
from tests.support.fake_model import Call, Step
from tests.support.opencode import OpenCode, Server


class RealDriver:
    """Prompts one project of `opencode serve`."""

    def __init__(self, world: World, oc: OpenCode, server: Server) -> None:
        self._world = world
        self._oc = oc
        self._server = server
        self._session = ""
        self._asked = ""

    def session(self) -> None:
        """Begin a new session."""
        self._session = self._server.session(self._world.root)

    def prompt(self, model_id: str, script: Script) -> None:
        """Do one turn to its end."""
        self._script(script)
        answer = self._server.prompt(self._world.root, self._session, script.marker, model_id)
        self._asked = str(answer["info"]["parentID"])
        if script.aside:  # the steps are too quick to get between
            self._world.write(script.aside)
        self._oc.model.requests.clear()

    def undo(self, docs: Mapping[str, Doc]) -> None:
        """Revert the last turn."""
        del docs
        self._server.request("POST", f"/session/{self._session}/revert", self._world.root, {"messageID": self._asked})

    def redo(self, docs: Mapping[str, Doc]) -> None:
        """Take the revert back."""
        del docs
        self._server.request("POST", f"/session/{self._session}/unrevert", self._world.root, {})

    def shell(self, model_id: str, command: str, effect: Effect) -> None:
        """Run a command of the user's own, in the session."""
        del effect
        provider, _, name = model_id.partition("/")
        body = {"agent": "build", "command": command, "model": {"providerID": provider, "modelID": name}}
        self._server.request("POST", f"/session/{self._session}/shell", self._world.root, body)

    def _script(self, script: Script) -> None:
        steps = [Step([Call(call.tool, call.arguments) for call in step]) for step in script.steps]
        self._oc.model.script(script.marker, *steps)
        for child in script.children:
            self._script(child)


def formatter_config(script: Path, python: str) -> dict[str, Any]:
    """OpenCode's configuration of a formatter for stubs."""
    return {"formatter": {"simulated": {"command": [python, str(script), "$FILE"], "extensions": [".pyi"]}}}
