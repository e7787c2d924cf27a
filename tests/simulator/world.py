"""The project that is worked on: its files on disk, beside them the truth about every line, and its git repository."""

import difflib
import os
import random
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from tests.simulator.formatter import format_line
from tests.simulator.lines import AI, EMPTY, HUMAN, MIXED, Change, Doc, Line, settled
from tests.simulator.pool import accented, modules

FORMATTED: Final = ".pyi"
"""Files of this kind are formatted after each of OpenCode's own writes."""

_TABS: Final = 0.2
_CRLF: Final = 0.1
"""The shares of a person's files that are indented by tabs, and whose lines end so."""
_FOLDERS: Final = ("", "src/", "lib/", "größe/", "of ours/")
_NAMES: Final = ("made_", "made_", "made by ", "größe_", "日本_")

_GIT_ENV: Final = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_EDITOR": "true"}
_IDENTITY: Final = ("-c", "user.name=Test", "-c", "user.email=test@example.invalid")
_PLAIN: Final = ("-c", "core.autocrlf=false", "-c", "merge.directoryRenames=false")


class WorldError(AssertionError):
    """The files are not what the simulator expects: the simulator, not the sidecar, is at fault."""


@dataclass(frozen=True)
class Effect:
    """What one call did to one file."""

    path: str
    change: Change
    old_path: str | None = None
    raw: tuple[str, ...] = ()
    """The lines as the tool wrote them, before a formatter."""
    eol: str = "\n"


@dataclass
class World:
    """The files of a project by path, as they ought to stand on disk."""

    root: Path
    rng: random.Random
    docs: dict[str, Doc] = field(default_factory=dict)
    head: dict[str, Doc] = field(default_factory=dict)
    """The files as they were last committed."""
    serial: int = 0

    @classmethod
    def begin(cls, root: Path, rng: random.Random, files: int = 6) -> "World":
        """Fill an empty folder with modules, and commit them."""
        world = cls(root, rng)
        for at, (name, texts) in enumerate(rng.sample(modules(0), files)):
            suffix = FORMATTED if at % 3 == 2 else ".py"
            folder = "src/" if at % 2 else ""
            tabs = suffix != FORMATTED and rng.random() < _TABS
            lines = accented(rng, [text.replace("    ", "\t") if tabs else text for text in texts])
            doc = Doc(tuple(person_line(text, "start") for text in lines), "\r\n" if rng.random() < _CRLF else "\n")
            world.docs[f"{folder}{Path(name).stem}{suffix}"] = doc
        for path in world.docs:
            world.write(path)
        (root / ".gitignore").write_text(".opencode/\n")
        world.git("init", "-q", "-b", "main")
        for key, value in (("name", "Test"), ("email", "test@example.invalid")):
            world.git("config", f"user.{key}", value)  # the model commits, too
        world.git("add", "-A")
        world.git("commit", "-q", "-m", "Start")
        world.committed()
        return world

    # -- truth -----------------------------------------------------------------------------------------------

    def put(self, path: str, lines: Sequence[Line], author: str, old_path: str | None = None) -> Effect:
        """Note that an operation of `author` left these lines in a file, which it may have moved there."""
        before = self.docs.get(old_path or path, EMPTY)
        doc, change = settled(before, Doc(tuple(lines), before.eol), author)
        if old_path:
            del self.docs[old_path]
        self.docs[path] = doc
        return Effect(path, change, old_path, eol=doc.eol)

    def committed(self) -> None:
        """Note that everything was committed as it stands."""
        self.head = dict(self.docs)

    def restored(self, path: str) -> Effect:
        """Note that a file is again as it was committed: its lines are those of then, and nobody wrote them now."""
        before, self.docs[path] = self.docs[path], self.head[path]
        return Effect(path, Change(before.texts, self.head[path].texts, frozenset()))

    def changed(self) -> list[str]:
        """The files that were committed and have changed since."""
        return sorted(path for path, doc in self.docs.items() if path in self.head and doc is not self.head[path])

    def drop(self, path: str) -> Effect:
        """Note that a file was deleted."""
        return Effect(path, Change(self.docs.pop(path).texts, [], frozenset()))

    def name(self, suffix: str = ".py") -> str:
        """A path that was never used."""
        self.serial += 1
        return f"{self.rng.choice(_FOLDERS)}{self.rng.choice(_NAMES)}{self.serial}{suffix}"

    def pick(self, least: int = 8, *, crlf: bool = True) -> str:
        """A file with at least so many lines."""
        paths = [path for path, doc in self.docs.items() if len(doc.lines) >= least and (crlf or doc.eol == "\n")]
        return self.rng.choice(sorted(paths))

    # -- disk ------------------------------------------------------------------------------------------------

    def write(self, path: str) -> None:
        """Bring a file on disk to what it ought to be."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(self.docs[path].encoded())

    def remove(self, path: str) -> None:
        """Take a file away on disk."""
        (self.root / path).unlink()

    def on_disk(self) -> dict[str, bytes]:
        """The project's files, but for git's and OpenCode's."""
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and path.relative_to(self.root).parts[0] not in {".git", ".opencode", ".gitignore"}
        }

    def check(self, what: str) -> None:
        """Compare disk and truth.

        Raises:
            WorldError: they differ.
        """
        found = self.on_disk()
        for path in found.keys() | self.docs.keys():
            wanted = self.docs[path].encoded() if path in self.docs else None
            if found.get(path) != wanted:
                true, there = (repr(content or b"")[2:-1].split("\\n") for content in (wanted, found.get(path)))
                raise WorldError(
                    f"after {what}: {path}\n" + "\n".join(difflib.unified_diff(true, there, "true", "found"))
                )

    def git(self, *args: str, check: bool = True) -> str:
        """Run git as a person does, and return what it prints."""
        command = ["git", "-C", str(self.root), *_IDENTITY, *_PLAIN, *args]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ | _GIT_ENV)
        if check and done.returncode:
            raise WorldError(f"git {' '.join(args)}: {done.stdout}{done.stderr}")
        return done.stdout


def person_line(text: str, source: str = "person") -> Line:
    """A line that a person typed."""
    return Line(text, HUMAN, frozenset({HUMAN}), source=source)


def model_line(text: str, model: str, source: str, *also: str) -> Line:
    """A line that a model wrote; `also`: other answers that are not wrong."""
    return Line(text, AI, frozenset({AI, *also}), model, source=source)


def reworded(line: Line, text: str, author: str, model: str | None, source: str) -> Line:
    """A line of which a part was changed: by a model it is the model's, by a person mixed if it was a model's."""
    if author == AI:
        also = set() if line.accepted == {AI} else {MIXED}
        return Line(text, AI, frozenset({AI, *also}), model, source=source)
    if line.author == HUMAN:
        return Line(text, HUMAN, line.accepted | {HUMAN}, also=line.also, source=source)
    return replace(line, text=text, author=MIXED, accepted=(line.accepted - {AI}) | {MIXED})


def tidied(lines: Sequence[Line], author: str, model: str | None) -> list[Line]:
    """The lines after a formatter; what it touched keeps its author, but may be called its starter's as well."""
    result = []
    for line in lines:
        parts = format_line(line.text)
        if parts == [line.text]:
            result.append(line)
            continue
        also = {author, MIXED} if author != line.author else set()
        models = line.also | ({model} if model and line.model else set())
        result += [
            replace(line, text=part, accepted=line.accepted | also, model=line.model or model, also=models)
            for part in parts
        ]
    return result
