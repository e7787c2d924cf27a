"""A random session: operations of a model, a person and git in turn, and the list of what each call truly did."""

import random
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, TypeVar

from tests.simulator import history, model, person, shell
from tests.simulator.lines import HUMAN, Change, Doc
from tests.simulator.model import MODELS, PATCHER, Planned, Turn
from tests.simulator.pool import new_word
from tests.simulator.world import FORMATTED, Effect, World, person_line
from tests.support.waiting import eventually

T = TypeVar("T")

_UNDONE: Final = 0.1
"""The share of turns that the user takes back."""
_ASIDE: Final = 0.15
"""The share of turns in which a person edits meanwhile."""
_BETWEEN: Final = 0.15
"""The share of steps before which a person types or commits."""
_THINKS_S: Final = 0.05
"""How long the model thinks after that: what was typed within the tick of the clock that stamps files is nobody's."""

Steps = Sequence[Sequence[Planned]]


@dataclass(frozen=True)
class Script:
    """What a model will do for the prompt that contains `marker`; its subagents' scripts stand beside it."""

    marker: str
    steps: Steps
    children: "tuple[Script, ...]" = ()
    aside: str | None = None
    """A file that a person changes while the last of the steps is going on."""
    meanwhile: Mapping[int, Callable[[], None]] = field(default_factory=dict)
    """What a person does while the model thinks about a step."""

    def call_id(self, step: int, index: int) -> str:
        """The id that the scripted model gives to a call."""
        return f"call_{self.marker}_{step}_{index}"


class Driver(Protocol):
    """Something that has the calls done in the project and recorded."""

    def session(self) -> None:
        """Begin a new session."""

    def prompt(self, model_id: str, script: Script) -> None:
        """Do one turn to its end."""

    def undo(self, docs: Mapping[str, Doc]) -> None:
        """Revert the last turn; the files are then these again."""

    def redo(self, docs: Mapping[str, Doc]) -> None:
        """Take the revert back; the files are then these."""

    def shell(self, model_id: str, command: str, effect: Effect) -> None:
        """Run a command of the user's own, in the session."""


@dataclass(frozen=True)
class Unit:
    """What happened to one file in one call: the truth that the stored ranges are measured against."""

    calls: tuple[str, ...]
    """The calls that may rightly claim it: those of a step that say nothing of files share theirs."""
    path: str
    change: Change
    source: str
    model: str
    moved: bool = False


@dataclass
class Play:
    """One project with its driver, and what happened so far."""

    world: World
    driver: Driver
    name: str
    rng: random.Random
    units: list[Unit] = field(default_factory=list)
    calls: dict[str, str] = field(default_factory=dict)
    """The source of every call that was made, also of those that change nothing."""
    log: list[str] = field(default_factory=list)
    model: str = MODELS[0]
    _serial: int = 0

    def run(self, operations: int) -> None:
        """Do so many operations, comparing files and truth after each."""
        for at in range(operations):
            if at % 12 == 0:
                self.driver.session()
                self.model = self.rng.choice(MODELS)
            kind = self.rng.choices([self._turn, self._person, self._history, self._user_command], [10, 8, 4, 1])[0]
            did = kind()
            self.log.append(did)
            self.world.check(f"operation {at} of {self.name}, {did}")

    def _person(self) -> str:
        return drawn(self.rng, person.OPERATIONS)(self.world)

    def _history(self) -> str:
        return drawn(self.rng, history.OPERATIONS)(self.world)

    def _user_command(self) -> str:
        """The user's own `!echo`."""
        path = self.world.pick(crlf=False)
        text = f"{new_word(self.rng)} = {self.rng.randrange(1000)}"
        effect = self.world.put(path, [*self.world.docs[path].lines, person_line(text)], HUMAN)
        self.driver.shell(self.model, f"echo '{text}' >> {shlex.quote(path)}", effect)
        return f"user command on {path}"

    def _turn(self) -> str:
        before, done = dict(self.world.docs), len(self.units)
        did, typed = self._prompt()
        # OpenCode does not bring back what was moved, and OpenCode 1 no file whose name is not ASCII.
        stays = any(unit.moved or not unit.path.isascii() for unit in self.units[done:])
        if not stays and not typed and self.rng.random() < _UNDONE:
            after = dict(self.world.docs)
            self.world.docs = before
            self.driver.undo(before)
            self.world.check(f"undo of {did}")
            did += ", undone"
            if self.rng.random() < 0.5:
                self.world.docs = after
                self.driver.redo(after)
                did += ", redone"
        return did

    def _prompt(self) -> tuple[str, bool]:
        """One turn: what it did, and whether a person has done something meanwhile."""
        planned: list[list[Planned]] = []
        meanwhile: dict[int, Callable[[], None]] = {}
        for _ in range(self.rng.choices([1, 2, 3], [6, 3, 1])[0]):
            if self.rng.random() < _BETWEEN and len(planned) not in meanwhile:
                meanwhile[len(planned)] = drawn(self.rng, {self._types: 2, self._commits: 1})()
            step = self._step()
            planned += [step] if step else []
        aside = self._aside(planned[-1]) if planned and self.rng.random() < _ASIDE else None
        script = replace(self._script(planned, ""), aside=aside, meanwhile=meanwhile)
        self.driver.prompt(self.model, script)
        did = "turn: " + " | ".join(
            " + ".join(f"{call.tool} {[effect.path for effect in call.effects]}" for call in step)
            for step in script.steps
        )
        return did, bool(aside or meanwhile)

    def _types(self) -> Callable[[], None]:
        """A person inserts lines into a file that the turn may have changed, and may change again."""
        path = self.world.pick()
        lines = list(self.world.docs[path].lines)
        at = self.rng.randrange(len(lines))
        lines[at:at] = person.typed(self.world, 1, 4)
        self.world.put(path, lines, HUMAN)
        content = self.world.docs[path].encoded()

        def typing() -> None:
            (self.world.root / path).write_bytes(content)
            typed = time.monotonic()
            eventually(lambda: time.monotonic() - typed > _THINKS_S, 5, "the person has typed")

        return typing

    def _commits(self) -> Callable[[], None]:
        """A person commits everything."""
        self.world.committed()

        def committing() -> None:
            self.world.git("add", "-A")
            self.world.git("commit", "-q", "--allow-empty", "-m", "Meanwhile")

        return committing

    def _aside(self, step: Sequence[Planned]) -> str | None:
        """Let a person type into a file that no call of the step names; not beside commands, which may change any."""
        path = self.world.pick()
        paths = {name for call in step for effect in call.effects for name in (effect.path, effect.old_path)}
        if path in paths or any(call.tool in {"bash", "task"} for call in step):
            return None
        lines = list(self.world.docs[path].lines)
        at = self.rng.randrange(len(lines))
        lines[at:at] = person.typed(self.world, 1, 4)
        self.world.put(path, lines, HUMAN)
        return path

    def _step(self, *, nested: bool = False) -> list[Planned]:
        """One to three calls on different files; now and then a subagent, or a command that touches everything."""
        if not nested and self.rng.random() < 0.06:
            return [shell.harmless(Turn(self.world, self.model))]
        turn = Turn(self.world, self.model)
        if not nested and self.rng.random() < 0.12:
            steps = tuple(step for step in (self._step(nested=True) for _ in range(self.rng.randint(1, 2))) if step)
            arguments = {"description": "sub", "prompt": "", "subagent_type": "general"}
            return [Planned("task", arguments, (), steps, "subagent")]
        telling = model.PATCHING if self.model == PATCHER else model.EDITING
        calls = []
        for _ in range(self.rng.choices([1, 2, 3], [7, 2, 1])[0]):
            operation = drawn(self.rng, telling if self.rng.random() < 0.7 else shell.OPERATIONS)
            call = None if operation is shell.harmless else operation(turn)
            if call:
                calls.append(call)
        return calls

    def _script(self, steps: Steps, source: str) -> Script:
        """Give the script its marker, and note what its calls do."""
        self._serial += 1
        marker = f"mark{self.name}x{self._serial:05d}x"
        children: list[Script] = []
        placed: list[list[Planned]] = []
        for number, step in enumerate(steps):
            placed.append([])
            for call in step:
                if call.tool == "task":
                    child = self._script(call.children, "subagent")
                    children.append(child)
                    arguments = call.arguments | {"prompt": child.marker}
                    placed[-1].append(Planned("task", arguments, (), (), "subagent"))
                else:
                    placed[-1].append(call)
            self._note(Script(marker, placed), number, placed[-1], source)
        return Script(marker, placed, tuple(children))

    def _note(self, script: Script, number: int, step: Sequence[Planned], source: str) -> None:
        ids = [script.call_id(number, index) for index in range(len(step))]
        silent = tuple(call_id for call_id, call in zip(ids, step, strict=True) if call.tool == "bash")
        for call_id, call in zip(ids, step, strict=True):
            self.calls[call_id] = source or call.source
            for effect in call.effects:
                formatted = call.tool != "bash" and effect.path.endswith(FORMATTED)
                name = source or ("formatter" if formatted else call.source)
                calls = silent if call.tool == "bash" else (call_id,)
                self.units.append(Unit(calls, effect.path, effect.change, name, self.model, bool(effect.old_path)))


def drawn(rng: random.Random, weights: Mapping[T, int]) -> T:
    """One of the keys, by weight."""
    return rng.choices(list(weights), list(weights.values()))[0]
