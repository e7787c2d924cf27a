"""What a person does to files, by hand and with git: each function is one operation, done on disk and in the truth."""

import difflib
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from tests.simulator.formatter import wrapped_line
from tests.simulator.lines import AI, HUMAN, MIXED, Doc, Line
from tests.simulator.pool import altered, block
from tests.simulator.world import World, person_line, reworded

_WIDTH: Final = 60
_RESEMBLES: Final = 0.5
"""Lines that have at least this much in common may pass for one another's new wording."""


def _store(world: World, path: str, lines: Sequence[Line]) -> None:
    world.put(path, lines, HUMAN)
    world.write(path)


def _spot(world: World, lines: Sequence[Line], size: int) -> int:
    """Where to edit: half of the time at a line that a model wrote."""
    own = [at for at, line in enumerate(lines) if line.author == AI]
    at = world.rng.choice(own) if own and world.rng.random() < 0.5 else world.rng.randrange(len(lines))
    return max(0, min(at, len(lines) - size))


def typed(world: World, least: int, most: int) -> list[Line]:
    """New lines of a person."""
    return [person_line(text) for text in block(world.rng, 1, least, most)]


def insert(world: World) -> str:
    """Type some lines."""
    path = world.pick()
    lines = list(world.docs[path].lines)
    at = _spot(world, lines, 1)
    lines[at:at] = typed(world, 1, 6)
    _store(world, path, lines)
    return f"insert {path}"


def reword(world: World) -> str:
    """Change a part of one to three lines."""
    path = world.pick()
    lines = list(world.docs[path].lines)
    size = world.rng.randint(1, 3)
    start = _spot(world, lines, size)
    for at in range(start, min(start + size, len(lines))):
        if len(lines[at].text.strip()) >= 16:
            lines[at] = partly(world.rng, lines[at])
    _store(world, path, lines)
    return f"reword {path}"


def partly(rng: random.Random, line: Line) -> Line:
    """A line of which a person changed a part; where little is left of it, it may pass for the person's."""
    new = reworded(line, altered(rng, line.text), HUMAN, None, "person")
    if line.author != HUMAN and difflib.SequenceMatcher(None, line.text, new.text).ratio() < 0.75:
        return replace(new, accepted=new.accepted | {HUMAN})
    return new


def delete(world: World) -> str:
    """Delete some lines."""
    path = world.pick(20)
    lines = list(world.docs[path].lines)
    size = world.rng.randint(1, 5)
    start = _spot(world, lines, size)
    del lines[start : start + size]
    _store(world, path, lines)
    return f"delete {path}"


def retype(world: World) -> str:
    """Replace some lines by others."""
    path = world.pick()
    lines = list(world.docs[path].lines)
    size = world.rng.randint(1, 4)
    start = _spot(world, lines, size)
    old = lines[start : start + size]
    new = []
    for line in typed(world, 1, 4):
        alike = any(
            other.author != HUMAN and difflib.SequenceMatcher(None, other.text, line.text).ratio() >= _RESEMBLES
            for other in old
        )
        new.append(replace(line, accepted=frozenset({HUMAN, MIXED})) if alike else line)
    lines[start : start + size] = new
    _store(world, path, lines)
    return f"retype {path}"


def move(world: World) -> str:
    """Move a block to another place of its file."""
    path = world.pick(30)
    lines = list(world.docs[path].lines)
    size = world.rng.randint(3, 10)
    start = _spot(world, lines, size)
    taken = lines[start : start + size]
    del lines[start : start + size]
    at = world.rng.randrange(len(lines))
    lines[at:at] = taken
    _store(world, path, lines)
    return f"move {path}"


def move_between(world: World) -> str:
    """Move a block to another file."""
    source, target = world.pick(30), world.pick()
    if source == target:
        return move(world)
    lines = list(world.docs[source].lines)
    size = world.rng.randint(3, 10)
    start = _spot(world, lines, size)
    taken = lines[start : start + size]
    del lines[start : start + size]
    others = list(world.docs[target].lines)
    at = world.rng.randrange(len(others))
    others[at:at] = taken
    _store(world, source, lines)
    _store(world, target, others)
    return f"move {source} to {target}"


def indent(world: World) -> str:
    """Indent a block by one more level."""
    path = world.pick()
    lines = list(world.docs[path].lines)
    size = world.rng.randint(3, 15)
    start = _spot(world, lines, size)
    for at in range(start, min(start + size, len(lines))):
        line = lines[at]
        if line.text.strip():
            lines[at] = replace(line, text="    " + line.text)
    _store(world, path, lines)
    return f"indent {path}"


def reformat(world: World) -> str:
    """Run a formatter over a file: here, two blanks where there were four."""
    path = world.pick()
    lines = []
    for line in world.docs[path].lines:
        body = line.text.lstrip(" ")
        width = len(line.text) - len(body)
        text = " " * (width // 2) + body
        lines.append(replace(line, text=text) if width >= 4 else line)
    _store(world, path, lines)
    return f"reformat {path}"


def wrap(world: World) -> str:
    """Run a formatter that puts each argument of long calls on a line of its own."""
    path = world.pick()
    lines: list[Line] = []
    for line in world.docs[path].lines:
        lines += [replace(line, text=text) for text in wrapped_line(line.text)] if len(line.text) > _WIDTH else [line]
    _store(world, path, lines)
    return f"wrap {path}"


def requote(world: World) -> str:
    """Run a formatter that prefers double quotes."""
    path = world.pick()
    lines = [
        replace(line, text=line.text.replace("'", '"')) if line.text.count("'") == 2 and '"' not in line.text else line
        for line in world.docs[path].lines
    ]
    _store(world, path, lines)
    return f"requote {path}"


def copy(world: World) -> str:
    """Copy a block to another file: the copies are the first author's words, and the person's doing."""
    source, target = world.pick(30), world.pick()
    if source == target:
        return "copy nothing"
    lines = world.docs[source].lines
    size = world.rng.randint(3, 10)
    start = _spot(world, lines, size)
    others = list(world.docs[target].lines)
    at = world.rng.randrange(len(others))
    others[at:at] = [replace(line, accepted=line.accepted | {HUMAN}) for line in lines[start : start + size]]
    _store(world, target, others)
    return f"copy {source} to {target}"


def line_endings(world: World) -> str:
    """Change a file from LF to CRLF or back."""
    path = world.pick(8)
    doc = world.docs[path]
    world.docs[path] = Doc(doc.lines, "\r\n" if doc.eol == "\n" else "\n")
    world.write(path)
    return f"line endings {path}"


def rename(world: World) -> str:
    """Rename a file."""
    path = world.pick(1)
    new = world.name(path[path.rindex(".") :])
    world.docs[new] = world.docs.pop(path)
    world.write(new)
    world.remove(path)
    return f"rename {path} to {new}"


OPERATIONS: Final[dict[Callable[[World], str], int]] = {
    insert: 6,
    reword: 6,
    delete: 3,
    retype: 3,
    move: 2,
    move_between: 2,
    indent: 2,
    reformat: 1,
    wrap: 1,
    requote: 1,
    copy: 1,
    line_endings: 1,
    rename: 1,
}
"""With how often each is done among them."""
