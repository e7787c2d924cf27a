"""Situations where people and the AI meet, with text and sizes drawn at random, on a real OpenCode.

Each kind of docs/attribution.md is one function: it plays in a project of its own and gives the true author of every
line in the files that it asks for, a letter each: a(i), h(uman), m(ixed), u(nknown).
"""

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.e2e.test_attribution import Project, Site, bash, edit, write
from tests.e2e.test_attribution_kinds import answering, append, begun, lines
from tests.simulator.pool import block, new_word
from tests.support.fake_model import Step

Truth = Mapping[Path, str]
Situation = Callable[[Site, str, random.Random], Truth]

_HEADERS: Final = ("# Copyright {} and others", "# Licensed under the {} licence", "# See the file {} for details", "#")
_LOGGER: Final = ("import logging", "", "logger = logging.getLogger(__name__)", "logger.setLevel(logging.INFO)")


@dataclass
class Score:
    """What `blame` said of the lines of one kind."""

    lines: int = 0
    right: int = 0
    humans: int = 0
    human_as_ai: int = 0
    human_unknown: int = 0
    ai: int = 0
    ai_found: int = 0
    claimed: int = 0

    def line(self, true: str, said: str) -> None:
        """Take one line into account; of what nobody can know, only `unknown` is right."""
        self.lines += 1
        self.right += true == said
        self.humans += true == "h"
        self.human_as_ai += true == "h" and said in {"a", "m"}
        self.human_unknown += true == "h" and said == "u"
        self.ai += true == "a"
        self.ai_found += true == said == "a"
        self.claimed += said == "a"

    def row(self, name: str) -> str:
        """A row of the table."""
        precision = 100 * self.ai_found / self.claimed if self.claimed else 100.0
        recall = 100 * self.ai_found / self.ai if self.ai else 100.0
        return (
            f"{name:<22}{self.lines:>8}{self.right:>8}{precision:>11.2f}{recall:>9.2f}"
            f"{self.human_as_ai:>13}{self.human_unknown:>15}"
        )


HEAD: Final = (
    f"{'situation':<22}{'lines':>8}{'right':>8}{'precision':>11}{'recall':>9}{'human as ai':>13}{'human unknown':>15}"
)


def _boilerplate(rng: random.Random) -> str:
    header = [text.format(rng.choice(["MIT", "Apache", "BSD"])) for text in _HEADERS]
    imports = [f"from {new_word(rng)} import {new_word(rng)}" for _ in range(rng.randint(3, 9))]
    return "".join(f"{line}\n" for line in [*header, *imports, *_LOGGER])


def _code(rng: random.Random, part: int, least: int = 6, most: int = 25) -> str:
    return "".join(f"{line}\n" for line in block(rng, part, least, most))


def shared_text(site: Site, name: str, rng: random.Random) -> Truth:
    """The same boilerplate in files of a person, before and after the AI's."""
    text, own = _boilerplate(rng), _code(rng, 1)
    project = begun(site, name, {"before.py": text + own})
    append(project, "untracked.py", text + "mine = 1\n")
    project.prompt(f"{name}work", Step([write("ai.py", text + _code(rng, 2))]))
    append(project, "after.py", text + "mine = 2\n")
    human = ("before.py", "untracked.py", "after.py")
    return {**_all(project, human, "h"), **_all(project, ("ai.py",), "a")}


def permission(site: Site, name: str, rng: random.Random) -> Truth:
    """A person types while a command waits."""
    own, typed = _code(rng, 1), _code(rng, 1, 3, 9)
    project = begun(site, name, {"a.py": own})
    with answering(project, lambda: append(project, "a.py", typed)):
        project.prompt(f"{name}work", Step([bash(f"true asked; cat > c.py <<'END'\n{_code(rng, 2)}END")]))
    return {**_all(project, ("a.py",), "h"), **_all(project, ("c.py",), "a")}


def fork(site: Site, name: str, rng: random.Random) -> Truth:
    """A session is forked after a person has appended lines to what it wrote, and goes on."""
    project = begun(site, name, {"a.py": _code(rng, 1)})
    first, second, typed = _code(rng, 2), _code(rng, 2), _code(rng, 1, 3, 9)
    project.prompt(f"{name}work", Step([write("n.py", first)]))
    append(project, "n.py", typed)
    forked = site.server.request("POST", f"/session/{project.session}/fork", project.folder, {})
    project.session = str(forked["id"])
    project.prompt(f"in{name}", Step([write("m.py", second)]))
    return {
        project.folder / "n.py": "a" * first.count("\n") + "h" * typed.count("\n"),
        **_all(project, ("m.py",), "a"),
    }


def white_space(site: Site, name: str, rng: random.Random) -> Truth:
    """A formatter run by a command over a person's files."""
    project = begun(site, name, {"crlf.py": _code(rng, 1).replace("\n", "\r\n"), "tabs.py": _code(rng, 1)})
    command = "sed -i 's/\\r$//' crlf.py; sed -i 's/    /\\t/g' tabs.py"
    project.prompt(f"{name}work", Step([bash(command)]))
    return _all(project, ("crlf.py", "tabs.py"), "h")


def brought(site: Site, name: str, rng: random.Random) -> Truth:
    """Copies, moves and older revisions of a person's files."""
    old = _code(rng, 1)
    project = begun(site, name, {"f.py": old, "g.py": _code(rng, 1)})
    append(project, "f.py", _code(rng, 1))
    site.oc.git(project.folder, "commit", "-qam", "Second")
    project.prompt(
        f"{name}work",
        Step([bash("git show HEAD~1:f.py > f.py; cp g.py copy.py")]),
        Step([bash("cp g.py g.bak; echo spoiled > g.py")]),
        Step([bash("mv g.bak g.py")]),
    )
    return _all(project, ("f.py", "g.py", "copy.py"), "h")


def repositories(site: Site, name: str, rng: random.Random) -> Truth:
    """A repository inside of the session's, and a linked worktree beside it."""
    own = _code(rng, 1)
    project = begun(site, name, {"o.py": _code(rng, 1)})
    inner = project.folder / "inner"
    inner.mkdir()
    (inner / "i.py").write_text(own)
    for command in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-qm", "Inner")):
        site.oc.git(inner, *command)
    outside = site.oc.folder / f"{name}_outside"
    site.oc.git(project.folder, "worktree", "add", "-q", "-b", "wt", str(outside))
    first = own.split("\n", 1)[0]
    more = _code(rng, 2, 3, 9)
    changed = more + own
    project.prompt(
        f"{name}work",
        Step([write("inner/i.py", changed), write(str(outside / "w.py"), _code(rng, 2))]),
    )
    assert changed.split("\n")[more.count("\n")] == first
    return {
        inner / "i.py": "a" * more.count("\n") + "h" * own.count("\n"),
        outside / "w.py": "a" * _count(outside / "w.py"),
    }


def missed(site: Site, name: str, rng: random.Random) -> Truth:
    """Commands that write beside the session's folder, by name, and without a name."""
    own, more, named = _code(rng, 1), _code(rng, 2, 3, 9), _code(rng, 2, 3, 9)
    files = {"pkg/a/f.py": own, "pkg/b/g.py": own, "pkg/b/h.py": own}
    script = f"cat >> ../b/h.py <<'END'\n{more}END\n"
    project = begun(site, name, files | {"pkg/a/run.sh": script})
    sub = Project(site, project.folder / "pkg" / "a", "")
    sub.prompt(f"{name}work", Step([bash(f"cat >> ../b/g.py <<'END'\n{named}END"), bash("sh run.sh")]))
    start = own.count("\n")
    return {
        project.folder / "pkg/b/g.py": "h" * start + "a" * named.count("\n"),
        project.folder / "pkg/b/h.py": "h" * start + "u" * more.count("\n"),
    }


def long_lines(site: Site, name: str, rng: random.Random) -> Truth:
    """A person changes one call of a very long line."""
    calls = [f"{new_word(rng)}({new_word(rng)})" for _ in range(rng.randint(80, 2500))]
    project = begun(site, name, {"o.py": "o\n"})
    project.prompt(f"{name}work", Step([write("m.js", ";".join(calls) + "\nsecond = 2\n")]))
    calls[rng.randrange(len(calls))] = "typed(by_hand)"
    (project.folder / "m.js").write_text(";".join(calls) + "\nsecond = 2\n")
    return {project.folder / "m.js": "ma"}


def shallow(site: Site, name: str, rng: random.Random) -> Truth:
    """What CI clones."""
    own, more = _code(rng, 1), _code(rng, 2)
    project = begun(site, name, {"a.py": own})
    last = own.splitlines()[-1]
    project.prompt(
        f"{name}work", Step([write("n.py", more)]), Step([edit("a.py", own, own + "ai_line = added(here)\n")])
    )
    site.oc.git(project.folder, "add", "-A")
    site.oc.git(project.folder, "commit", "-qm", "AI")
    clone = site.oc.folder / f"{name}_clone"
    site.oc.git(site.oc.folder, "clone", "-q", "--depth", "1", f"file://{project.folder}", str(clone))
    assert last in (clone / "a.py").read_text()
    return {clone / "n.py": "a" * more.count("\n"), clone / "a.py": "h" * own.count("\n") + "a"}


def large(site: Site, name: str, rng: random.Random) -> Truth:
    """One of several parallel edits is of a file of 25,000 lines."""
    count = 25_000
    at = rng.randrange(count)
    text = "".join(f"value_{one} = {one}\n" for one in range(count))
    project = begun(site, name, {"big.py": text})
    calls = [write(f"w{one}.py", f"w{one} = 1\n") for one in range(6)]
    project.prompt(f"{name}work", Step([*calls, edit("big.py", f"value_{at} = {at}\n", f"value_{at} = changed\n")]))
    return {project.folder / "big.py": "h" * at + "a" + "h" * (count - at - 1)}


SITUATIONS: Final[tuple[Situation, ...]] = (
    shared_text,
    permission,
    fork,
    white_space,
    brought,
    repositories,
    missed,
    long_lines,
    shallow,
    large,
)


def play(site: Site, seed: int, rounds: int, chosen: Iterable[Situation] = SITUATIONS) -> dict[str, Score]:
    """Play each situation some times, and hold what `blame` says against the truth."""
    scores: dict[str, Score] = {}
    for situation in chosen:
        name = situation.__name__
        score = scores[name] = Score()
        for number in range(rounds):
            rng = random.Random(f"{seed}/{name}/{number}")  # noqa: S311 - a simulation is to be repeated
            for file, truth in situation(site, f"{name}{number}x", rng).items():
                said = [str(one["contributor"])[0] for one in lines(site, file)]
                assert len(said) == len(truth), file
                for true, answer in zip(truth, said, strict=True):
                    score.line(true, answer)
    return scores


def table(scores: Mapping[str, Score]) -> str:
    """A row for each kind, and one for all."""
    whole = Score()
    for one in scores.values():
        for field in vars(whole):
            setattr(whole, field, getattr(whole, field) + getattr(one, field))
    return "\n".join([HEAD, *(one.row(name) for name, one in scores.items()), whole.row("all")])


def _all(project: Project, paths: Iterable[str], letter: str) -> Truth:
    return {project.folder / path: letter * _count(project.folder / path) for path in paths}


def _count(file: Path) -> int:
    return file.read_bytes().count(b"\n")
