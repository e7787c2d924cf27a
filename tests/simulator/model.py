"""What a model does: each function plans one tool call, and takes what it will do into the truth beforehand.

The effect is worked out here from what the tool is documented to do; after the call the files on disk are compared.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tests.simulator.lines import AI, Line
from tests.simulator.pool import altered, block, new_word, untidy
from tests.simulator.world import FORMATTED, Effect, World, model_line, reworded, tidied

PATCHER: Final = "openai/gpt-5-x"
MODELS: Final = ("fake/m1", "anthropic/claude-x", PATCHER)

WORD: Final = re.compile(r"[A-Za-z_]{5,}")


@dataclass(frozen=True)
class Planned:
    """A call and what it will have done; `children`: the steps of the subagent that it starts."""

    tool: str
    arguments: dict[str, Any]
    effects: tuple[Effect, ...]
    children: "tuple[Sequence[Planned], ...]" = ()
    source: str = ""
    """What the call is counted as: `edit`, `write-new`, `overwrite`, `apply_patch`, `bash`."""


@dataclass
class Turn:
    """The calls of one step may not touch the same file: OpenCode runs them at once."""

    world: World
    model: str
    busy: set[str] = field(default_factory=set)

    @property
    def part(self) -> int:
        """The part of the pool that this model's text is from."""
        return 2 + MODELS.index(self.model)

    def pick(self, least: int = 8, *, crlf: bool = True) -> str | None:
        """A file that no other call of this step touches."""
        for _ in range(20):
            path = self.world.pick(least, crlf=crlf)
            if path not in self.busy:
                self.busy.add(path)
                return path
        return None

    def name(self, suffix: str = ".py") -> str:
        """A path that was never used."""
        path = self.world.name(suffix)
        self.busy.add(path)
        return path

    def lines(self, path: str, texts: Sequence[str], source: str) -> list[Line]:
        """New lines of the model; careless where a formatter comes by."""
        if path.endswith(FORMATTED):
            texts = untidy(self.world.rng, list(texts))
        return [model_line(text, self.model, source) for text in texts]

    def stored(self, path: str, lines: Sequence[Line], old_path: str | None = None) -> Effect:
        """Take a file that OpenCode writes itself into the truth, the formatter included."""
        raw = tuple(line.text for line in lines)
        if path.endswith(FORMATTED):
            lines = tidied(lines, AI, self.model)
        return replace(self.world.put(path, lines, AI, old_path), raw=raw)


def spliced(turn: Turn, path: str, lines: list[Line], source: str) -> tuple[list[Line], int, int, int]:
    """One change of a run of lines: the new lines, where the run began, and how long it was and is."""
    rng = turn.world.rng
    start = rng.randrange(len(lines))
    kind = rng.choice(["insert", "replace", "replace", "alter", "alter", "delete"])
    size = 0 if kind == "insert" else min(rng.randint(1, 5), len(lines) - start)
    old = lines[start : start + size]
    if kind == "alter":
        new = [
            reworded(line, altered(rng, line.text), AI, turn.model, source) if line.text.strip() else line
            for line in old
        ]
    elif kind == "delete" and len(lines) > size + 8:
        new = []
    else:
        new = turn.lines(path, block(rng, turn.part, 1, 8), source)
    return lines[:start] + new + lines[start + size :], start, size, len(new)


def edit(turn: Turn) -> Planned | None:
    """Replace some lines, with as much around them as makes the place unique."""
    path = turn.pick()
    if path is None:
        return None
    world = turn.world
    before = list(world.docs[path].lines)
    after, start, size, new_size = spliced(turn, path, before, "edit")
    plain = world.docs[path].plain()
    low, high = start, start + size
    while low == high or plain.count(joined(before[low:high])) != 1:
        low, high = max(0, low - 1), min(len(before), high + 1)
    old, new = joined(before[low:high]), joined(after[low : high + new_size - size])
    if old == new or new.strip() == "" or (low == 0 and high == len(before)):
        return None
    effect = turn.stored(path, after)
    return Planned("edit", {"filePath": path, "oldString": old, "newString": new}, (effect,), source="edit")


def replace_all(turn: Turn) -> Planned | None:
    """Replace a word everywhere in a file."""
    path = turn.pick()
    if path is None:
        return None
    doc = turn.world.docs[path]
    words = sorted({word for word in WORD.findall(doc.plain()) if 2 <= doc.plain().count(word) <= 9})
    if not words:
        return None
    word, new = turn.world.rng.choice(words), new_word(turn.world.rng)
    effect = turn.stored(path, replaced(turn, doc.lines, word, new, "edit"))
    arguments = {"filePath": path, "oldString": word, "newString": new, "replaceAll": True}
    return Planned("edit", arguments, (effect,), source="edit")


def write_new(turn: Turn) -> Planned:
    """Write a new file."""
    path = turn.name(turn.world.rng.choice([".py", ".py", FORMATTED]))
    lines = turn.lines(path, block(turn.world.rng, turn.part, 5, 40), "write-new")
    effect = turn.stored(path, lines)
    return Planned("write", {"filePath": path, "content": joined_lines(lines)}, (effect,), source="write-new")


def overwrite(turn: Turn) -> Planned | None:
    """Write a file that is there, mostly as it was."""
    path = turn.pick()
    if path is None:
        return None
    doc = turn.world.docs[path]
    lines = list(doc.lines)
    if turn.world.rng.random() < 0.15:
        lines = turn.lines(path, block(turn.world.rng, turn.part, 10, 60), "overwrite")
    else:
        for _ in range(turn.world.rng.randint(1, 4)):
            lines = spliced(turn, path, lines, "overwrite")[0]
    content = "".join(line.text + doc.eol for line in lines)
    effect = turn.stored(path, lines)
    return Planned("write", {"filePath": path, "content": content}, (effect,), source="overwrite")


def apply_patch(turn: Turn) -> Planned | None:
    """Patch one to three files: change, add, delete, move."""
    parts, effects = [], []
    for _ in range(turn.world.rng.randint(1, 3)):
        kind = turn.world.rng.choices(["update", "add", "move", "delete"], [6, 2, 2, 1])[0]
        made = _patch_part(turn, kind)
        if made:
            parts.append(made[0])
            effects.append(made[1])
    if not parts:
        return None
    text = "*** Begin Patch\n" + "\n".join(parts) + "\n*** End Patch"
    return Planned("apply_patch", {"patchText": text}, tuple(effects), source="apply_patch")


def _patch_part(turn: Turn, kind: str) -> tuple[str, Effect] | None:
    world = turn.world
    if kind == "add":
        added = turn.name(world.rng.choice([".py", FORMATTED]))
        lines = turn.lines(added, block(world.rng, turn.part, 3, 20), "apply_patch")
        return f"*** Add File: {added}\n" + "\n".join(f"+{line.text}" for line in lines), turn.stored(added, lines)
    path = turn.pick(crlf=False)
    if path is None:
        return None
    if kind == "delete":
        return (f"*** Delete File: {path}", world.drop(path)) if len(world.docs) > 6 else None
    before = list(world.docs[path].lines)
    after, start, size, new_size = spliced(turn, path, before, "apply_patch")
    low, high = max(0, start - 3), min(len(before), start + size + 3)
    plain = "\n" + world.docs[path].plain()
    while plain.count("\n" + joined_lines(before[low:high])) != 1:
        low, high = max(0, low - 3), min(len(before), high + 3)
    if after == before or (low == 0 and high == len(before)):
        return None
    hunk = [f" {line.text}" for line in before[low:start]]
    hunk += [f"-{line.text}" for line in before[start : start + size]]
    hunk += [f"+{line.text}" for line in after[start : start + new_size]]
    hunk += [f" {line.text}" for line in before[start + size : high]]
    if not after[-1].text:
        after = after[:-1]  # OpenCode takes a blank last line for the line feed of the one before
    new = turn.name(path[path.rindex(".") :]) if kind == "move" else None
    moved = f"*** Move to: {new}\n" if new else ""
    effect = turn.stored(new or path, after, path if new else None)
    return f"*** Update File: {path}\n{moved}@@\n" + "\n".join(hunk), effect


def replaced(turn: Turn, lines: Sequence[Line], word: str, new: str, source: str) -> list[Line]:
    """The lines with a word replaced by another."""
    return [
        reworded(line, line.text.replace(word, new), AI, turn.model, source) if word in line.text else line
        for line in lines
    ]


def joined(lines: Sequence[Line]) -> str:
    """The lines as one text, without a line feed at its end."""
    return "\n".join(line.text for line in lines)


def joined_lines(lines: Sequence[Line]) -> str:
    """The lines as one text, each with its line feed."""
    return "".join(line.text + "\n" for line in lines)


EDITING: Final[dict[Callable[[Turn], Planned | None], int]] = {edit: 6, replace_all: 1, write_new: 2, overwrite: 3}
"""With how often each is done among them, by models that get these tools."""

PATCHING: Final[dict[Callable[[Turn], Planned | None], int]] = {apply_patch: 1}
"""By models that get apply_patch instead."""
