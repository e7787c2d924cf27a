"""The real driver: a real OpenCode does the calls of a scripted model, the real shim and sidecar record them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.simulator.lines import Doc
from tests.simulator.model import Planned
from tests.simulator.play import Script
from tests.simulator.world import Effect, World
from tests.support.fake_model import Call, Step
from tests.support.majors import DIALECTS, TOOLS, Served, major_of
from tests.support.opencode import OpenCode


class RealDriver:
    """Prompts one project of a server of either major."""

    def __init__(self, world: World, oc: OpenCode, served: Served) -> None:
        self._world = world
        self._oc = oc
        self._served = served
        self._session = ""

    def session(self) -> None:
        """Begin a new session."""
        self._session = self._served.session(self._world.root)

    def prompt(self, model_id: str, script: Script) -> None:
        """Do one turn to its end."""
        self._script(script)
        self._served.prompt(self._world.root, self._session, script.marker, model_id)
        if script.aside:  # the steps are too quick to get between
            self._world.write(script.aside)
        self._oc.model.requests.clear()

    def undo(self, docs: Mapping[str, Doc]) -> None:
        """Revert the last turn."""
        del docs
        self._served.revert(self._world.root, self._session, prompt=-1)

    def redo(self, docs: Mapping[str, Doc]) -> None:
        """Take the revert back."""
        del docs
        self._served.unrevert(self._world.root, self._session)

    def shell(self, model_id: str, command: str, effect: Effect) -> None:
        """Run a command of the user's own, in the session."""
        del effect
        self._served.shell(self._world.root, self._session, command, model_id)

    def _script(self, script: Script) -> None:
        major = major_of(self._oc)
        steps = [*script.steps, ()]  # the last answer ends the turn
        self._oc.model.script(
            script.marker,
            *(
                Step([_call(one, major) for one in step], "Work.", script.meanwhile.get(number))
                for number, step in enumerate(steps)
            ),
        )
        for child in script.children:
            self._script(child)


def _call(planned: Planned, major: int) -> Call:
    """The call as a major names it and its arguments."""
    first, own = DIALECTS[1], DIALECTS[major]
    names = {first.path: own.path, first.agent: own.agent}
    arguments = {names.get(name, name): value for name, value in planned.arguments.items()}
    return Call(planned.tool if major == 1 else TOOLS.get(planned.tool, planned.tool), arguments)


def formatter_config(script: Path, python: str) -> dict[str, Any]:
    """OpenCode's configuration of a formatter for stubs."""
    return {"formatter": {"simulated": {"command": [python, str(script), "$FILE"], "extensions": [".pyi"]}}}
