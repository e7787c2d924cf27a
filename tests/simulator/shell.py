"""What a model does by shell commands: each function plans one call of bash. OpenCode formats nothing of this."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from tests.simulator.lines import AI, HUMAN, Line
from tests.simulator.model import WORD, Planned, Turn, joined_lines, replaced, spliced
from tests.simulator.pool import block, new_word
from tests.simulator.world import Effect, model_line

MOVED_LEAST: Final = 20
"""Letters and digits that make a moved block known again, as many as `git blame -M` wants."""


def _bash(command: str, *effects: Effect) -> Planned:
    return Planned("bash", {"command": command, "description": "work"}, effects, source="bash")


def sed_word(turn: Turn) -> Planned | None:
    """`sed -i s/word/other/g`."""
    path = turn.pick()
    if path is None:
        return None
    doc = turn.world.docs[path]
    words = sorted({word for word in WORD.findall(doc.plain()) if doc.plain().count(word) <= 9})
    if not words:
        return None
    word, new = turn.world.rng.choice(words), new_word(turn.world.rng)
    effect = turn.world.put(path, replaced(turn, doc.lines, word, new, "bash"), AI)
    return _bash(f"sed -i 's/{word}/{new}/g' {shlex.quote(path)}", effect)


def sed_delete(turn: Turn) -> Planned | None:
    """`sed -i 3,5d`."""
    path = turn.pick(20)
    if path is None:
        return None
    lines = list(turn.world.docs[path].lines)
    start = turn.world.rng.randrange(len(lines) - 5)
    size = turn.world.rng.randint(1, 4)
    effect = turn.world.put(path, lines[:start] + lines[start + size :], AI)
    return _bash(f"sed -i {start + 1},{start + size}d {shlex.quote(path)}", effect)


def append(turn: Turn) -> Planned | None:
    """`cat >>` or `tee -a` of a few lines."""
    path = turn.pick(crlf=False)
    if path is None:
        return None
    new = _written(turn, 1, 12)
    effect = turn.world.put(path, [*turn.world.docs[path].lines, *new], AI)
    command = turn.world.rng.choice([f"cat >> {shlex.quote(path)}", f"tee -a {shlex.quote(path)} > /dev/null"])
    return _bash(f"{command} <<'END_OF_TEXT'\n{joined_lines(new)}END_OF_TEXT", effect)


def create(turn: Turn) -> Planned:
    """`cat >` or `tee` of a new file."""
    path = turn.name()
    new = _written(turn, 3, 30)
    effect = turn.world.put(path, new, AI)
    folder = path.rpartition("/")[0] or "."
    command = turn.world.rng.choice([f"cat > {shlex.quote(path)}", f"tee {shlex.quote(path)} > /dev/null"])
    return _bash(f"mkdir -p {shlex.quote(folder)}\n{command} <<'END_OF_TEXT'\n{joined_lines(new)}END_OF_TEXT", effect)


def insert(turn: Turn) -> Planned | None:
    """`sed -i` that reads lines in after a line."""
    path = turn.pick(crlf=False)
    if path is None:
        return None
    lines = list(turn.world.docs[path].lines)
    at = turn.world.rng.randint(1, len(lines))
    new = _written(turn, 1, 8)
    effect = turn.world.put(path, lines[:at] + new + lines[at:], AI)
    return _bash(
        f"sed -i '{at}r /dev/stdin' {shlex.quote(path)} <<'END_OF_TEXT'\n{joined_lines(new)}END_OF_TEXT", effect
    )


def script(turn: Turn) -> Planned | None:
    """A script that rewrites a file in several places."""
    path = turn.pick()
    if path is None:
        return None
    doc = turn.world.docs[path]
    lines = list(doc.lines)
    for _ in range(turn.world.rng.randint(1, 3)):
        lines = spliced(turn, "", lines, "bash")[0]
    content = "".join(line.text + doc.eol for line in lines)
    effect = turn.world.put(path, lines, AI)
    code = f"open({path!r}, 'wb').write({content!r}.encode())\n"
    return _bash(f"python3 - <<'END_OF_TEXT'\n{code}END_OF_TEXT", effect)


def move(turn: Turn) -> Planned | None:
    """`git mv` or `mv`, now and then with a change on the way."""
    path = turn.pick()
    if path is None:
        return None
    new = turn.name(path[path.rindex(".") :])
    folder = new.rpartition("/")[0] or "."
    tracked = path in turn.world.git("ls-files", "-z").split("\0")
    verb = turn.world.rng.choice(["git mv", "mv"]) if tracked else "mv"
    command = f"mkdir -p {shlex.quote(folder)} && {verb} {shlex.quote(path)} {shlex.quote(new)}"
    lines = list(turn.world.docs[path].lines)
    words = sorted(set(WORD.findall(turn.world.docs[path].plain())))
    if turn.world.rng.random() < 0.3 and words:
        word, other = turn.world.rng.choice(words), new_word(turn.world.rng)
        lines = replaced(turn, lines, word, other, "bash")
        command += f" && sed -i 's/{word}/{other}/g' {shlex.quote(new)}"
    return _bash(command, turn.world.put(new, lines, AI, path))


def move_lines(turn: Turn) -> Planned | None:
    """Append a block to another file and take it out of its own."""
    path, target = turn.pick(30, crlf=False), turn.pick(crlf=False)
    if path is None or target is None:
        return None
    lines = list(turn.world.docs[path].lines)
    size = turn.world.rng.randint(2, 8)
    start = turn.world.rng.randrange(len(lines) - size)
    taken = [_moved(line, turn.model) for line in lines[start : start + size]]
    if sum(map(str.isalnum, joined_lines(taken))) < MOVED_LEAST:
        taken = [replace(line, accepted=line.accepted | {AI}) for line in taken]
    effects = (
        turn.world.put(target, [*turn.world.docs[target].lines, *taken], AI),
        turn.world.put(path, lines[:start] + lines[start + size :], AI),
    )
    span = f"{start + 1},{start + size}"
    return _bash(
        f"sed -n {span}p {shlex.quote(path)} >> {shlex.quote(target)} && sed -i {span}d {shlex.quote(path)}", *effects
    )


def _moved(line: Line, model: str) -> Line:
    """A line that a command took elsewhere stays whose it was; one of a model may be called the command's as well."""
    return line if line.author == HUMAN else replace(line, accepted=line.accepted | {AI}, also=line.also | {model})


def harmless(turn: Turn) -> Planned:
    """Commands that write no line, though some touch files."""
    changed = turn.world.changed()
    if changed and turn.world.rng.random() < 0.25:
        path = turn.world.rng.choice(changed)
        return _bash(f"git checkout -- {shlex.quote(path)}", turn.world.restored(path))
    first = min(turn.world.docs)
    choices = [
        "git status --short",
        f"touch {shlex.quote(first)}",
        "git add -A && git commit -q --allow-empty -m 'By the model'",
    ]
    choices.append("git add -A && git stash push -q --include-untracked && git stash pop -q || true")
    command = turn.world.rng.choice(choices)
    if "commit" in command:
        turn.world.committed()
    return _bash(command)


def _written(turn: Turn, least: int, most: int) -> list[Line]:
    return [model_line(text, turn.model, "bash") for text in block(turn.world.rng, turn.part, least, most)]


OPERATIONS: Final[dict[Callable[[Turn], Planned | None], int]] = {
    sed_word: 4,
    sed_delete: 2,
    append: 3,
    create: 3,
    insert: 3,
    script: 4,
    move: 2,
    move_lines: 1,
    harmless: 2,
}
"""With how often each is done among them."""
