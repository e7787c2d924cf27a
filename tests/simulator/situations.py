"""Situations where people and the AI meet, with text and sizes drawn at random, on a real OpenCode of either major.

Each kind of docs/attribution.md is one function: it plays in a project of its own and gives the true author of every
line in the files that it asks for.
"""

import random
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from agent_trace_sidecar.records.fingerprints import is_evidence
from tests.simulator.acts import ASKED, Acts, Project
from tests.simulator.pool import block, new_word
from tests.simulator.situation_score import Situation, Truth
from tests.support.fake_model import Step
from tests.support.waiting import eventually

_HEADERS: Final = ("# Copyright {} and others", "# Licensed under the {} licence", "# See the file {} for details", "#")
_LOGGER: Final = ("import logging", "", "logger = logging.getLogger(__name__)", "logger.setLevel(logging.INFO)")
_FRAMES: Final = Path(__file__).parents[1] / "data" / "frames"
"""Frames of programs, configurations and tests."""
_IDENTITY: Final = "-c user.name=Test -c user.email=test@example.invalid"
_PRUNED: Final = 8
"""Outputs of 45,000 characters: more than OpenCode keeps of a session's outputs before it prunes."""


# -- text that people and the AI both type ---------------------------------------------------------------------------


def shared_text(acts: Acts, name: str, rng: random.Random) -> Truth:
    """The same licence, imports, logger, frames and own block in files of a person, before and after the AI's."""
    text, own, shared, typed = _boilerplate(rng), _code(rng, 1), _code(rng, 1, 8, 12), _code(rng, 1, 8, 12)
    project = acts.project(name, {"before.py": text + own + shared})
    project.append("untracked.py", text + typed + "mine = 1\n")
    project.turn(Step([acts.tools.write("ai.py", text + shared + typed + _code(rng, 2))]))
    project.append("untracked.py", "mine = 3\n")
    project.append("after.py", shared + text + "mine = 2\n")
    human = ("before.py", "untracked.py", "after.py")
    return {**_all(project, human, "h"), **_all(project, ("ai.py",), "a")}


# -- permissions -----------------------------------------------------------------------------------------------------


def permission(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A person types into two files while a command waits, which then writes to one of them."""
    own, typed, more = _code(rng, 1), _code(rng, 1, 3, 9), _code(rng, 2)
    project = acts.project(name, {"a.py": own, "b.py": own})
    command = f"{ASKED}{project.waits}cat > c.py <<'END'\n{more}END\ncat >> b.py <<'END'\n{more}END"

    def typing() -> None:
        project.append("a.py", typed)
        project.append("b.py", typed)

    with project.answering(typing), project.reading("permission.replied"):
        project.turn(Step([acts.tools.run(command)]))
    b = "h" * (own + typed).count("\n") + "a" * more.count("\n")
    return {**_all(project, ("a.py",), "h"), project.folder / "b.py": b, **_all(project, ("c.py",), "a")}


def typed_first(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A person types into a file, and makes one, while a command waits that names neither and then writes to both."""
    own, typed, more = _code(rng, 1), _code(rng, 1, 3, 9), _code(rng, 2, 3, 9)
    project = acts.project(name, {"a.py": own, "b.py": own, "run.sh": _script("b.py new.py", more)})

    def typing() -> None:
        project.append("a.py", typed)
        project.append("b.py", typed)
        project.git("commit", "-qam", "Meanwhile")
        project.append("new.py", typed)

    with project.answering(typing), project.reading("permission.replied"):
        project.turn(Step([acts.tools.run("sleep 0.2"), acts.tools.run(f"{ASKED}{project.waits}sh run.sh")]))
    b = "h" * (own + typed).count("\n") + "a" * more.count("\n")
    new = "h" * typed.count("\n") + "a" * more.count("\n")
    return {**_all(project, ("a.py",), "h"), project.folder / "b.py": b, project.folder / "new.py": new}


def beside_commands(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A person types while commands run: one that only reads, tests, and one that writes to the file that it names."""
    own, typed, more = _code(rng, 1), _code(rng, 1, 3, 9), _code(rng, 2, 3, 9)
    project = acts.project(name, {"a.py": own, "b.py": own})
    project.open()
    for number, work in enumerate(("grep -rn def .", "python3 -m unittest", f"cat >> b.py <<'END'\n{more}END")):
        waiting = f"until test -e ignored/{number}; do sleep 0.1; done"
        thread = project.beside(Step([acts.tools.run(f"{waiting}; {work}")]))
        project.begun(number + 1)
        project.append("a.py", typed)
        project.append(f"new{number}.py", typed)
        (project.folder / "ignored" / str(number)).touch()
        thread.join()
    b = "h" * own.count("\n") + "a" * more.count("\n")
    return {**_all(project, ("a.py", "new0.py", "new1.py", "new2.py"), "h"), project.folder / "b.py": b}


def unchanged(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A session in which no call writes: one reads, one copies, one is rejected while a person types."""
    project = acts.project(name, {"a.py": _code(rng, 1)})
    project.turn(Step([acts.tools.run("ls; cp a.py copy.py")]))
    with project.answering(lambda: project.append("a.py", _code(rng, 1, 3, 9)), allow=False):
        project.turn(Step([acts.tools.run(f"{ASKED}sed -i d a.py")]))
    return _all(project, ("a.py", "copy.py"), "h")


def rejected(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A person types while a command waits, and rejects it."""
    project = acts.project(name, {"a.py": _code(rng, 1)})
    project.turn(Step([acts.tools.write("n.py", _code(rng, 2))]))
    typed = _code(rng, 1, 3, 9)
    with project.answering(lambda: project.append("a.py", typed), allow=False):
        project.turn(Step([acts.tools.run(f"{ASKED}cat >> a.py <<'END'\n{_code(rng, 2)}END")]))
    return _all(project, ("a.py",), "h")


# -- history that is sent again --------------------------------------------------------------------------------------


def fork(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A session is forked after a person has appended lines to what it wrote, and goes on; and the fork again."""
    project = acts.project(name, {"a.py": _code(rng, 1)})
    first, typed = _code(rng, 2), _code(rng, 1, 3, 9)
    project.turn(Step([acts.tools.write("n.py", first)]))
    project.append("n.py", typed)
    for path in ("m.py", "o.py"):
        project.fork()
        project.turn(Step([acts.tools.write(path, _code(rng, 2))]))
    n = "a" * first.count("\n") + "h" * typed.count("\n")
    return {project.folder / "n.py": n, **_all(project, ("m.py", "o.py"), "a")}


def continued(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A session goes on in another process, after a person has appended lines to what it wrote."""
    project = acts.project(name, {"a.py": _code(rng, 1)})
    first, typed, more = _code(rng, 2), _code(rng, 1, 3, 9), _code(rng, 2, 3, 9)
    project.turn(Step([acts.tools.write("n.py", first)]))
    project.append("n.py", typed)
    with acts.another() as again:
        Project(again, project.folder, project.session).turn(Step([acts.tools.run(f"cat >> n.py <<'END'\n{more}END")]))
    return {project.folder / "n.py": "a" * first.count("\n") + "h" * typed.count("\n") + "a" * more.count("\n")}


def pruned(acts: Acts, name: str, rng: random.Random) -> Truth:
    """Another process goes on with a session and prunes the outputs of its old calls, which are sent again."""
    project = acts.project(name, {"a.py": _code(rng, 1)})
    first, typed = _code(rng, 2), _code(rng, 1, 3, 9)
    project.turn(Step([acts.tools.write("n.py", first)]))
    project.turn(*(Step([acts.tools.run("head -c 45000 /dev/zero | tr '\\0' x")]) for _ in range(_PRUNED)))
    project.append("n.py", typed)
    with acts.another() as again:
        later = Project(again, project.folder, project.session)
        for _ in range(3):
            later.turn(Step(text="Hello."))
        eventually(lambda: acts.compacted(project.session), 30, "the old parts are sent again")
    return {project.folder / "n.py": "a" * first.count("\n") + "h" * typed.count("\n")}


def erased(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A session is erased by `prune`, and another one stays: nobody can know who wrote in between, or copied what."""
    own, first, second, more, new = _code(rng, 1), *(_code(rng, 2, 3, 9) for _ in range(4))
    typed = _apart(rng, 5, 1)
    project = acts.project(name, {"a.py": own, "mine.py": own})
    command = (
        f"cat >> a.py <<'END'\n{second}END\nhead -2 n.py > m.py; git add -A; git {_IDENTITY} commit -qm Own; sleep 2"
    )
    project.turn(Step([acts.tools.write("n.py", first)]), Step([acts.tools.run(command)]))
    assert project.git("log", "-1", "--format=%s") == "Own\n"
    project.append("n.py", typed[0])
    project.append("copy.py", typed[0])
    project.append("mine.py", typed[1])
    other = project.other()
    other.turn(Step([acts.tools.run(f"cat >> n.py <<'END'\n{more}END"), acts.tools.write("k.py", new)]))
    project.append("a.py", typed[2])
    project.append("n.py", typed[3])
    project.append("k.py", typed[4])
    acts.prune(project.session)
    parts = {
        "a.py": (("h", own), ("u", second), ("u", typed[2])),
        "n.py": (("u", first), ("u", typed[0]), ("a", more), ("h", typed[3])),
        "m.py": (("u", "".join(first.splitlines(keepends=True)[:2])),),
        "k.py": (("a", new), ("h", typed[4])),
        "copy.py": (("u", typed[0]),),
        "mine.py": (("h", own), ("h", typed[1])),
    }
    return {
        project.folder / path: "".join(letter * text.count("\n") for letter, text in own) for path, own in parts.items()
    }


# -- white space only ------------------------------------------------------------------------------------------------


def white_space(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A formatter run by a command over a person's files."""
    project = acts.project(name, {"crlf.py": _code(rng, 1).replace("\n", "\r\n"), "tabs.py": _code(rng, 1)})
    project.turn(Step([acts.tools.run("sed -i 's/\\r$//' crlf.py; sed -i 's/    /\\t/g' tabs.py")]))
    return _all(project, ("crlf.py", "tabs.py"), "h")


def formatter(acts: Acts, name: str, rng: random.Random) -> Truth:
    """OpenCode's formatter over whole files of a person, of which one is wrapped, after edits that add a line."""
    untidy = "".join(f"{line}  \n" if line else "\n" for line in _code(rng, 1).replace("    ", "\t").splitlines())
    calls = "".join(f"{new_word(rng)} = {new_word(rng)}({new_word(rng)}, {one})\n" for one in range(4))
    project = acts.project(name, {"a.pyi": untidy, "b.pyw": calls})
    added = f"{new_word(rng)} = {new_word(rng)}(1, 2)\n"
    last = "last_line = of(the, file)\n"
    project.append("a.pyi", last)
    project.append("b.pyw", last)
    new = added.replace(", 2)", ")")  # one argument, which stays where it is
    project.turn(
        Step([acts.tools.edit("a.pyi", last, last + added)]), Step([acts.tools.edit("b.pyw", last, last + new)])
    )
    assert "\t" not in (project.folder / "a.pyi").read_text()
    assert _count(project, "b.pyw") == 4 * 4 + 4 + 1
    return {project.folder / path: "h" * (_count(project, path) - 1) + "a" for path in ("a.pyi", "b.pyw")}


# -- what git or cp brings, and what only moves ----------------------------------------------------------------------


def brought(acts: Acts, name: str, rng: random.Random) -> Truth:
    """Copies, moves and older revisions of a person's files."""
    project = acts.project(name, {"f.py": _code(rng, 1), "g.py": _code(rng, 1)})
    project.append("f.py", _code(rng, 1))
    project.git("commit", "-qam", "Second")
    project.turn(
        Step([acts.tools.run("git show HEAD~1:f.py > f.py; cp g.py copy.py")]),
        Step([acts.tools.run("cp g.py g.bak; echo spoiled > g.py")]),
        Step([acts.tools.run("mv g.bak g.py")]),
    )
    return _all(project, ("f.py", "g.py", "copy.py"), "h")


def moved_lines(acts: Acts, name: str, rng: random.Random) -> Truth:
    """Blocks of a person's lines that a command and two edits move from file to file."""
    rest, blocks = _code(rng, 1), [_telling(rng, 1, 4, 12) for _ in range(2)]
    project = acts.project(name, {"a.py": rest + blocks[0], "b.py": rest + blocks[1], "to.py": "first = line(1)\n"})
    start, end = rest.count("\n") + 1, (rest + blocks[0]).count("\n")
    own = f"{new_word(rng)} = {new_word(rng)}(1, 2)\n"
    moving = f"sed -n {start},{end}p a.py >> to.py; sed -i {start},{end}d a.py"
    project.turn(
        Step([acts.tools.run(moving)]),
        Step([acts.tools.edit("to.py", "first = line(1)\n", f"first = line(1)\n{own}{blocks[1]}")]),
        Step([acts.tools.write("b.py", rest)]),
    )
    count = _count(project, "to.py")
    return {project.folder / "to.py": "ha" + "h" * (count - 2), **_all(project, ("a.py", "b.py"), "h")}


# -- two writers -----------------------------------------------------------------------------------------------------


def two_sessions(acts: Acts, name: str, rng: random.Random) -> Truth:
    """Two sessions wait for permission to edit the same file; the second has begun before the first is permitted."""
    own = _code(rng, 1, 20, 30)
    first, second = (f"{new_word(rng)} = {new_word(rng)}(1, 2)\n" for _ in range(2))
    project = acts.project(name, {"asked.py": f"top = line(1)\n{own}end = line(2)\n"})
    other = project.other()
    threads = []

    def meanwhile() -> None:
        threads.append(other.beside(Step([acts.tools.edit("asked.py", "end = line(2)\n", f"end = line(2)\n{second}")])))
        other.begun()

    with project.answering(meanwhile):
        project.turn(Step([acts.tools.edit("asked.py", "top = line(1)\n", f"top = line(1)\n{first}")]))
    with other.answering(lambda: None):
        threads[0].join()
    return {project.folder / "asked.py": "ha" + "h" * own.count("\n") + "ha"}


def parallel(acts: Acts, name: str, rng: random.Random) -> Truth:
    """Calls of one step write to one file at once: four edits; two commands and an edit."""
    own = [f"{new_word(rng)} = {new_word(rng)}({at}, 2)\n" for at in range(30)]
    places = sorted(rng.sample(range(30), 4))
    project = acts.project(name, {"a.py": "".join(own), "b.py": "".join(own)})
    edits = [acts.tools.edit("a.py", own[at], f"{own[at]}made_{at} = by(edit, {at})\n") for at in places]
    edit = acts.tools.edit("b.py", own[places[1]], f"{own[places[1]]}made = by(edit, 1)\n")
    commands = ("echo 'made = by(echo, 2)' >> b.py", "sed -i '1s/^/made = by(sed, 3)\\n/' b.py")
    project.turn(Step(edits), Step([*map(acts.tools.run, commands), edit]))
    found = {project.folder / path: (project.folder / path).read_text().splitlines() for path in ("a.py", "b.py")}
    return {file: "".join("a" if line.startswith("made") else "h" for line in lines) for file, lines in found.items()}


def two_commands(acts: Acts, name: str, rng: random.Random) -> Truth:
    """The commands of two sessions, at work at the same time, write to one file."""
    own, texts = _code(rng, 1), [_code(rng, 2, 3, 9) for _ in range(2)]
    project = acts.project(name, {"a.py": own})
    sessions = [project, project.other()]
    project.open()
    threads = []
    for number, session in enumerate(sessions):
        waiting = f"touch ignored/{number}; until test -e ignored/{1 - number}; do sleep 0.1; done; sleep 0.3"
        command = f"cat >> a.py <<'END'\n{texts[number]}END\n{waiting}"
        threads.append(session.beside(Step([acts.tools.run(command)])))
        project.at_work(f"ignored/{number}")
    for thread in threads:
        thread.join()
    return {project.folder / "a.py": "h" * own.count("\n") + "a" * "".join(texts).count("\n")}


def two_processes(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A command of one process runs while another process edits a person's file and writes one."""
    own, more = _code(rng, 1), _code(rng, 2)
    project = acts.project(name, {"a.py": f"{own}end = line(2)\n"})
    project.open()
    # Both have one index for their snapshots: where two steps end at once, OpenCode may fail to make one.
    slow = f"until test -e ignored/go; do sleep 0.1; done; cat > c.py <<'END'\n{more}END"
    thread = project.beside(Step([acts.tools.run(slow)]))
    project.begun()
    with acts.another() as again:
        other = project.other(again)
        edit = acts.tools.edit("a.py", "end = line(2)\n", "end = line(2)\nadded = by(another, process)\n")
        other.turn(Step([edit]), Step([acts.tools.write("b.py", _code(rng, 2))]))
        (project.folder / "ignored" / "go").touch()
    thread.join()
    return {project.folder / "a.py": "h" * own.count("\n") + "ha", **_all(project, ("b.py", "c.py"), "a")}


# -- the file's own repository ---------------------------------------------------------------------------------------


def repositories(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A repository inside of the session's, and a linked worktree beside it."""
    own, more = _code(rng, 1), _code(rng, 2, 3, 9)
    project = acts.project(name, {"o.py": _code(rng, 1)})
    inner, outside = project.folder / "inner", acts.oc.folder / f"{name}_outside"
    inner.mkdir()
    (inner / "asked.py").write_text(own)
    for command in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-qm", "Inner")):
        project.git(*command, folder=inner)
    project.git("worktree", "add", "-q", "-b", "wt", str(outside))
    writes = {"inner/asked.py": more + own, str(outside / "w.py"): _code(rng, 2)}
    with project.answering(lambda: None):
        project.turn(Step([acts.tools.write(path, text) for path, text in writes.items()]))
    w = (outside / "w.py").read_bytes().count(b"\n")
    return {inner / "asked.py": "a" * more.count("\n") + "h" * own.count("\n"), outside / "w.py": "a" * w}


def plain_folder(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A session in a folder without git that holds two repositories: a call edits one, a command the other."""
    own, more = _code(rng, 1), _code(rng, 2, 3, 9)
    project = acts.project(name, {"a/i.py": f"{own}end = line(2)\n", "b/i.py": own}, commit=False)
    for inner in (project.folder / "a", project.folder / "b"):
        for command in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-qm", inner.name)):
            project.git(*command, folder=inner)
    with project.reading(more=2):
        project.turn(
            Step([acts.tools.edit("a/i.py", "end = line(2)\n", "end = line(2)\nadded = by(an, edit)\n")]),
            Step([acts.tools.run(f"{project.waits}cat >> b/i.py <<'END'\n{more}END")]),
        )
    start = "h" * own.count("\n")
    return {project.folder / "a" / "i.py": f"{start}ha", project.folder / "b" / "i.py": start + "a" * more.count("\n")}


def submodule(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A person's file in a submodule, edited by a call and by a command."""
    own, more = _code(rng, 1), _code(rng, 2, 3, 9)
    library = acts.oc.project(f"{name}_library", {"i.py": f"{own}end = line(2)\n"})
    project = acts.project(name, {"o.py": _code(rng, 1)})
    project.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library), "sub")
    project.git("commit", "-qm", "Submodule")
    with project.reading(more=2):
        project.turn(
            Step([acts.tools.edit("sub/i.py", "end = line(2)\n", "end = line(2)\nadded = by(an, edit)\n")]),
            Step([acts.tools.run(f"{project.waits}cat >> sub/i.py <<'END'\n{more}END")]),
        )
    return {project.folder / "sub" / "i.py": "h" * own.count("\n") + "ha" + "a" * more.count("\n")}


# -- commands that the snapshots miss --------------------------------------------------------------------------------


def missed(acts: Acts, name: str, rng: random.Random) -> Truth:
    """Commands that write beside the session's folder, by name, and without a name."""
    own, more, named = _code(rng, 1), _code(rng, 2, 3, 9), _code(rng, 2, 3, 9)
    files = {"pkg/a/f.py": own, "pkg/b/g.py": own, "pkg/b/h.py": own}
    project = acts.project(name, files | {"pkg/a/run.sh": _script("../b/h.py", more)})
    below = Project(acts, project.folder / "pkg" / "a")
    command = f"{below.waits}cat >> ../b/g.py <<'END'\n{named}END"
    with below.reading(more=2):
        below.turn(Step([acts.tools.run(command), acts.tools.run("sh run.sh")]))
    start = "h" * own.count("\n")
    return {
        project.folder / "pkg/b/g.py": start + "a" * named.count("\n"),
        project.folder / "pkg/b/h.py": start + "u" * more.count("\n"),
    }


def ignored(acts: Acts, name: str, rng: random.Random) -> Truth:
    """Scripts that write to a tracked file that git ignores: the snapshots show the first time only."""
    own, first, second = _code(rng, 1), _code(rng, 2, 3, 9), _code(rng, 2, 3, 9)
    scripts = {f"{at}.sh": _script("trac*.py", text) for at, text in enumerate((first, second))}
    project = acts.project(name, {"tracked.py": own, "mine.py": own} | scripts)
    (project.folder / ".gitignore").write_text("tracked.py\nmine.py\n")
    project.git("commit", "-qam", "Ignore")
    for at in range(2):
        project.turn(Step([acts.tools.run(f"sh {at}.sh")]))
    project.append("mine.py", _code(rng, 1, 3, 9))
    tracked = "h" * own.count("\n") + "a" * first.count("\n") + "u" * second.count("\n")
    return {project.folder / "tracked.py": tracked, **_all(project, ("mine.py",), "h")}


def aborted(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A turn is aborted while its command runs, after it has written."""
    own, more = _code(rng, 1), _code(rng, 2, 3, 9)
    project = acts.project(name, {"a.py": own})
    project.turn(Step(text="Hello."))
    thread = project.beside(Step([acts.tools.run(f"cat >> a.py <<'END'\n{more}END\necho n > n.py; sleep 30")]))
    project.at_work("n.py")
    project.abort()
    thread.join()
    project.turn(Step(text="Hello."))  # an aborted turn is over before all of it is reported
    return {project.folder / "a.py": "h" * own.count("\n") + "a" * more.count("\n"), **_all(project, ("n.py",), "a")}


def background(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A command goes on after its call and an edit, and so does its script: OpenCode 2 reports its end, 1 does not."""
    own, new = "top = line(1)\n" + _code(rng, 1), "added = by(an, edit)\n"
    more, other = _apart(rng, 2, 2, 3, 9)
    waiting = "until test -e ignored/go; do sleep 0.1; done; "
    project = acts.project(name, {"b.py": own, "c.py": own, "run.sh": waiting + _script("c.py", other)})
    command = f"{waiting}cat >> 'b.py' <<'END'\n{more}END\nsh run.sh; touch ignored/gone"
    project.turn(Step([acts.later(command)]))
    project.turn(Step([acts.tools.edit("b.py", "top = line(1)\n", f"{new}top = line(1)\n")]))
    exited = acts.stored("", "shell.exited")
    (project.folder / "ignored" / "go").touch()
    eventually((project.folder / "ignored" / "gone").exists, 30, "the command has written")
    if acts.major == 2:
        eventually(lambda: acts.stored("", "shell.exited") > exited, 30, "the command's end is stored")
    project.turn(Step(text="Hello."))
    start = "h" * own.count("\n")
    b = start + ("u" if acts.major == 1 else "a") * more.count("\n")
    return {project.folder / "b.py": "a" + b, project.folder / "c.py": start + "u" * other.count("\n")}


# -- a repository by another name ------------------------------------------------------------------------------------


def shallow(acts: Acts, name: str, rng: random.Random) -> Truth:
    """What CI clones."""
    own, more = _code(rng, 1), _code(rng, 2)
    project = acts.project(name, {"a.py": own})
    project.turn(
        Step([acts.tools.write("n.py", more)]), Step([acts.tools.edit("a.py", own, own + "ai_line = added(here)\n")])
    )
    project.git("add", "-A")
    project.git("commit", "-qm", "AI")
    clone = acts.oc.folder / f"{name}_clone"
    project.git("clone", "-q", "--depth", "1", f"file://{project.folder}", str(clone), folder=acts.oc.folder)
    return {clone / "n.py": "a" * more.count("\n"), clone / "a.py": "h" * own.count("\n") + "a"}


def unborn(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A clone of a repository that was recorded before its first commit, and one made of a recorded folder."""
    first, second = _code(rng, 2), _code(rng, 2)
    project = acts.project(name, {"x.py": _code(rng, 1)}, commit=False)
    plain = acts.project(f"{name}_plain", {"x.py": _code(rng, 1)}, commit=False)
    plain.turn(Step([acts.tools.write("n.py", first)]))
    for command in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-qm", "First")):
        plain.git(*command)
    project.git("init", "-q", "-b", "main")
    for path, text in (("n.py", first), ("m.py", second)):
        project.turn(Step([acts.tools.write(path, text)]))
        project.git("add", "-A")
        project.git("commit", "-qm", path)
    clone = acts.oc.folder / f"{name}_clone"
    project.git("clone", "-q", str(project.folder), str(clone), folder=acts.oc.folder)
    found = {clone / "n.py": "a" * first.count("\n"), clone / "m.py": "a" * second.count("\n")}
    return {**found, **_all(plain, ("n.py",), "a"), **_all(plain, ("x.py",), "h")}


# -- long lines, byte order marks, busy machines ---------------------------------------------------------------------


def long_lines(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A person changes one call of a very long line, and an editor takes a byte order mark away."""
    calls = [f"{new_word(rng)}({new_word(rng)})" for _ in range(rng.randint(80, 2500))]
    text = _code(rng, 2)
    project = acts.project(name, {"o.py": "o\n"})
    long = ";".join(calls) + "\nsecond = 2\n"
    project.turn(Step([acts.tools.write("m.js", long), acts.tools.write("b.py", "\ufeff" + text)]))
    calls[rng.randrange(len(calls))] = "typed(by_hand)"
    (project.folder / "m.js").write_text(";".join(calls) + "\nsecond = 2\n")
    (project.folder / "b.py").write_text(text)
    return {project.folder / "m.js": "ma", **_all(project, ("b.py",), "a")}


def large(acts: Acts, name: str, rng: random.Random) -> Truth:
    """One of several parallel edits is of a file of 25,000 lines, on a busy machine."""
    count = 25_000
    at = rng.randrange(count)
    text = "".join(f"value_{one} = {one}\n" for one in range(count))
    project = acts.project(name, {"big.py": text})
    calls = [acts.tools.write(f"w{one}.py", f"w{one} = 1\n") for one in range(6)]
    with _busy():
        project.turn(Step([*calls, acts.tools.edit("big.py", f"value_{at} = {at}\n", f"value_{at} = changed\n")]))
    return {project.folder / "big.py": "h" * at + "a" + "h" * (count - at - 1)}


BOTH: Final[tuple[Situation, ...]] = (
    shared_text, permission, typed_first, beside_commands, rejected, unchanged, fork, continued, erased, white_space,
    formatter, brought, moved_lines, two_sessions, parallel, two_commands, two_processes, repositories, plain_folder,
    submodule, missed, ignored, aborted, background, shallow, unborn, long_lines, large,
)  # fmt: skip
"""What OpenCode 1 and 2 both have."""
FIRST: Final[tuple[Situation, ...]] = (*BOTH, pruned)
"""Pruning is switched on by a setting of OpenCode 1."""


def _boilerplate(rng: random.Random) -> str:
    header = [text.format(rng.choice(["MIT", "Apache", "BSD"])) for text in _HEADERS]
    imports = [f"from {new_word(rng)} import {new_word(rng)}" for _ in range(rng.randint(3, 9))]
    chosen = rng.sample(sorted(_FRAMES.iterdir()), 2)
    frames = [line for file in chosen for line in file.read_text().splitlines()]
    return "".join(f"{line}\n" for line in [*header, *imports, *_LOGGER, *frames])


def _code(rng: random.Random, part: int, least: int = 6, most: int = 25) -> str:
    return "".join(f"{line}\n" for line in block(rng, part, least, most))


def _telling(rng: random.Random, part: int, least: int, most: int) -> str:
    """Lines of which three are more than braces: of fewer it is not certain that two calls have moved them."""
    while True:
        text = _code(rng, part, least, most)
        if sum(is_evidence(line.encode()) for line in text.splitlines()) >= 3:
            return text


def _apart(rng: random.Random, count: int, part: int, least: int = 6, most: int = 25) -> list[str]:
    """Texts that have no line in common but braces and the like."""
    texts: list[str] = []
    while len(texts) < count:
        text = _code(rng, part, least, most)
        known = {line for one in texts for line in one.splitlines() if is_evidence(line.encode())}
        texts += [text] if known.isdisjoint(text.splitlines()) else []
    return texts


def _script(pattern: str, text: str) -> str:
    """A script that appends a text to some files, and that does not hold it, so that nothing is only copied."""
    encoded = b64encode(text.encode()).decode()
    return f"for one in {pattern}; do\nbase64 -d >> $one <<'END'\n{encoded}\nEND\ndone\n"


def _all(project: Project, paths: Iterable[str], letter: str) -> Truth:
    return {project.folder / path: letter * _count(project, path) for path in paths}


def _count(project: Project, path: str) -> int:
    return (project.folder / path).read_bytes().count(b"\n")


@contextmanager
def _busy() -> Iterator[None]:
    """Two processes that do nothing but count."""
    with ExitStack() as stack:
        for _ in range(2):
            process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield
