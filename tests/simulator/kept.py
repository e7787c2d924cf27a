"""What must stay right: merged worktrees, reverts of reverts, notebooks, sparse checkouts, restarts, servers."""

import json
import random
import signal
import subprocess
import time
from typing import Final

from tests.simulator.acts import Acts, Project
from tests.simulator.pool import new_word
from tests.simulator.situation_score import Situation, Truth
from tests.simulator.variants import Drafts, appended
from tests.support.fake_model import Step
from tests.support.sidecars import alive, send
from tests.support.waiting import eventually


def merged_worktree(acts: Acts, name: str, rng: random.Random) -> Truth:
    """The AI works in a linked worktree and a person beside it; both are merged, and the AI goes on in the result."""
    drafts = Drafts(rng)
    project = acts.project(name, {"a.py": drafts.human(12, 16), "b.py": drafts.human(12, 16)})
    tree = acts.oc.folder / f"{name}_tree"
    project.git("worktree", "add", "-q", "-b", "work", str(tree))
    first = (tree / "a.py").read_text().splitlines()[0]
    Project(acts, tree).turn(
        Step([acts.tools.edit("a.py", first, drafts.made() + first)]),
        Step([acts.tools.run(appended("c.py", drafts.made()))]),
    )
    project.git("add", "a.py", "c.py", folder=tree)
    project.git("commit", "-qm", "Work", folder=tree)
    for path in ("a.py", "b.py"):
        project.append(path, drafts.human())
    project.git("commit", "-qam", "Beside")
    project.git("merge", "-q", "--no-edit", "work")
    project.turn(
        Step([acts.tools.run(appended("a.py", drafts.made()))]), Step([acts.tools.write("d.py", drafts.made())])
    )
    project.append("c.py", drafts.human())
    return drafts.truth(project, ("a.py", "b.py", "c.py", "d.py"))


def reverted_revert(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A person reverts the AI's commit, types, stashes, reverts the revert, and takes the stash back."""
    drafts = Drafts(rng)
    project = acts.project(name, {"a.py": drafts.human(8, 12), "b.py": drafts.human()})
    first = (project.folder / "a.py").read_text().splitlines()[0]
    project.turn(
        Step([acts.tools.edit("a.py", first, drafts.made(3, 6) + first)]),
        Step([acts.tools.write("n.py", drafts.made())]),
    )
    project.git("add", "-A")
    project.git("commit", "-qm", "AI")
    project.git("revert", "--no-edit", "HEAD")
    project.append("a.py", drafts.human())
    project.append("b.py", drafts.human())
    project.git("stash", "-q")
    project.git("revert", "--no-edit", "HEAD")
    project.git("stash", "pop", "-q")
    project.turn(Step([acts.tools.run(appended("b.py", drafts.made()))]))
    return drafts.truth(project, ("a.py", "b.py", "n.py"))


def undone_beside(acts: Acts, name: str, rng: random.Random) -> Truth:
    """Two sessions work in turn; the first one's last turn is undone, and redone, after the second has gone on."""
    drafts = Drafts(rng)
    project = acts.project(name, {"a.py": drafts.human(), "b.py": drafts.human()})
    other = project.other()
    project.turn(Step([acts.tools.run(appended("a.py", drafts.made()))]))
    other.turn(Step([acts.tools.run(appended("b.py", drafts.made()))]))
    acts.served.revert(project.folder, project.session, prompt=-1)
    other.turn(Step([acts.tools.write("n.py", drafts.made())]))
    eventually(lambda: acts.void(project.session) > 0, 30, "what is undone is void")
    if rng.random() < 0.5:
        acts.served.unrevert(project.folder, project.session)
        eventually(lambda: acts.void(project.session) == 0, 30, "it counts again")
    project.append("a.py", drafts.human())
    return drafts.truth(project, ("a.py", "b.py", "n.py"))


def notebook(acts: Acts, name: str, rng: random.Random) -> Truth:
    """The AI writes a notebook; a person adds lines to a cell in Jupyter, which saves it with another indentation."""

    def source(owner: str) -> list[str]:
        return [f"{owner}_{new_word(rng)} = {new_word(rng)}({at}, 2)\n" for at in range(rng.randint(3, 6))]

    sources = [source("made") for _ in range(3)]

    def book(indent: int) -> str:
        cells = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": lines} for lines in sources]
        return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}, indent=indent) + "\n"

    project = acts.project(name, {"o.py": "o = 1\n"})
    project.turn(Step([acts.tools.write("n.ipynb", book(2))]))
    chosen = rng.choice(sources)
    at = rng.randrange(1, len(chosen))
    chosen[at:at] = source("own")
    file = project.folder / "n.ipynb"
    file.write_text(book(1))
    return {file: "".join("h" if "own_" in line else "a" for line in file.read_text().splitlines())}


def sparse_checkout(acts: Acts, name: str, rng: random.Random) -> Truth:
    """The AI works where git has checked out one folder only; then a person gets the rest back."""
    drafts = Drafts(rng)
    project = acts.project(name, {"in/a.py": drafts.human(), "out/b.py": drafts.human(), "out/c.py": drafts.human()})
    project.turn(Step([acts.tools.run(appended("out/b.py", drafts.made()))]))
    project.git("add", "-A")
    project.git("commit", "-qm", "AI")
    project.git("sparse-checkout", "set", "in", ".opencode")
    first = (project.folder / "in/a.py").read_text().splitlines()[0]
    project.turn(
        Step([acts.tools.run(appended("in/a.py", drafts.made()))]),
        Step([acts.tools.edit("in/a.py", first, drafts.made() + first)]),
    )
    project.git("sparse-checkout", "disable")
    project.append("out/c.py", drafts.human())
    return drafts.truth(project, ("in/a.py", "out/b.py", "out/c.py"))


def restarted(acts: Acts, name: str, rng: random.Random) -> Truth:
    """The sidecar is killed between two turns; a person types before it is started again."""
    drafts = Drafts(rng)
    project = acts.project(name, {"a.py": drafts.human(), "b.py": drafts.human()})
    project.turn(
        Step([acts.tools.run(appended("a.py", drafts.made()))]), Step([acts.tools.write("n.py", drafts.made())])
    )
    send(alive(acts.oc.folder), signal.SIGKILL)
    for path in ("a.py", "n.py"):
        project.append(path, drafts.human())
    last = (project.folder / "b.py").read_text().splitlines()[-1]
    project.turn(Step(text="It is recorded again."))  # OpenCode does not wait for the sidecar that is started meanwhile
    project.turn(
        Step([acts.tools.run("ls")]),
        Step([acts.tools.edit("b.py", last, last + "\n" + drafts.made().rstrip("\n"))]),
        Step([acts.tools.run(appended("n.py", drafts.made()))]),
    )
    return drafts.truth(project, ("a.py", "b.py", "n.py"))


def server(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A server in the background names a file, its script another; a person types into these and others."""
    drafts = Drafts(rng)
    texts = {path: drafts.human() for path in ("a.py", "b.py", "app.py", "page.py")}
    waiting = "until test -e ignored/stop; do echo at work >> ignored/log; sleep 0.1; done; touch ignored/gone\n"
    project = acts.project(name, texts | {"serve.sh": ": page.py\n" + waiting})
    exited = acts.stored("", "shell.exited")
    project.turn(
        Step([acts.later("sh serve.sh app.py > out.log")]), Step([acts.tools.run(appended("b.py", drafts.made()))])
    )
    typed = {path: drafts.human() for path in ("app.py", "page.py")}
    for path in ("a.py", "b.py", "n.py", *typed):
        project.append(path, typed.get(path) or drafts.human())
    project.turn(*(Step([acts.tools.run(appended(path, drafts.made()))]) for path in ("b.py", "app.py")))
    for path in ("a.py", "app.py", "m.py"):
        project.append(path, drafts.human())
    (project.folder / "ignored" / "stop").touch()
    eventually((project.folder / "ignored" / "gone").exists, 30, "the server has ended")
    if acts.major == 2:
        eventually(lambda: acts.stored("", "shell.exited") > exited, 30, "its end is stored")
    project.turn(Step(text="Hello."))
    truth = dict(drafts.truth(project, ("a.py", "b.py", "n.py", "m.py", "app.py", "page.py")))
    for path, text in typed.items():  # the server may have written it; that of OpenCode 1 has no end
        letters, start, count = truth[project.folder / path], texts[path].count("\n"), text.count("\n")
        later = letters[start + count :]
        later = later.replace("h", "u") if acts.major == 1 else later
        truth[project.folder / path] = letters[:start] + "u" * count + later
    return truth


def from_folders(acts: Acts, name: str, rng: random.Random) -> Truth:
    """Commands take a person's files from folders outside and ignored ones, and a draft of the AI's from there."""
    drafts = Drafts(rng)
    project = acts.project(name, {"a.py": drafts.human()})
    outside, ignored = acts.oc.folder / f"{name}_outside", project.folder / "ignored"
    for folder in ("lib", "moved", "packed"):
        (outside / folder).mkdir(parents=True)
        (outside / folder / f"in_{folder}.py").write_text(drafts.human())
    for file in (outside / "one.txt", outside / "two.md", ignored / "three.py"):
        file.write_text(drafts.human())
    subprocess.run(["tar", "czf", outside / "packed.tgz", "-C", outside, "packed"], check=True)
    written = time.monotonic()
    eventually(lambda: time.monotonic() - written > 2.5, 5, "the files are older than the step")
    commands = [
        f"cp -r {outside}/lib lib; cp {outside}/*.txt .",
        f"D={outside}; cat $D/two.md > two.md",
        f"mv {outside}/moved moved; tar xzf {outside}/packed.tgz",
        "cp ignored/*.py .; cat a.py *.txt > all.py",
        f"cat > {outside}/draft.py <<'END'\n{drafts.made()}END",
    ]
    project.turn(*(Step([acts.tools.run(one)]) for one in commands))
    project.turn(Step([acts.tools.run(f"mv {outside}/draft.py draft.py")]))  # the sidecar has read the draft by now
    paths = ("lib/in_lib.py", "one.txt", "two.md", "moved/in_moved.py", "packed/in_packed.py", "three.py", "draft.py")
    return drafts.truth(project, ("a.py", "all.py", *paths))


def drafts_outside(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A command moves files in: one of a person, and one that a script of an earlier command has written outside."""
    drafts = Drafts(rng)
    outside, text = acts.oc.folder / f"{name}_outside", drafts.made()
    project = acts.project(name, {"a.py": drafts.human()})
    outside.mkdir()
    (outside / "own.py").write_text(drafts.human())
    written = time.monotonic()
    eventually(lambda: time.monotonic() - written > 0.3, 5, "the person has typed")
    script = f"open('dra' + 'ft.py', 'w').write(bytes.fromhex('{text.encode().hex()}').decode())"
    project.turn(Step([acts.tools.run(f'cd {outside}; python3 -c "{script}"')]))
    written = time.monotonic()
    eventually(lambda: time.monotonic() - written > 4, 9, "the files are older than the step")
    project.turn(Step([acts.tools.run(f"mv {outside}/*.py .")]))
    return {**drafts.truth(project, ("own.py",)), project.folder / "draft.py": "u" * text.count("\n")}


def undone_below(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A turn of a session in a folder is undone: OpenCode takes back what is in the folder, and leaves the rest."""
    drafts = Drafts(rng)
    project = acts.project(name, {path: drafts.human() for path in ("a.py", "sub/b.py", "sub/größe.py")})
    below = Project(acts, project.folder / "sub")
    below.turn(Step([acts.tools.write("kept.py", drafts.made())]))
    first = (project.folder / "a.py").read_text().splitlines()[0]
    below.turn(
        Step([acts.tools.edit("../a.py", first, drafts.made() + first)]),
        Step([acts.tools.run(appended("b.py", drafts.made()))]),
        Step([acts.tools.run(f"mv größe.py moved.py\n{appended('moved.py', drafts.made())}")]),
    )
    acts.served.revert(below.folder, below.session, prompt=-1)
    eventually(lambda: acts.void(below.session) > 0, 30, "what is undone is void")
    assert "made_" in (project.folder / "a.py").read_text()
    project.append("sub/b.py", drafts.human())
    below.turn(Step([acts.tools.write("n.py", drafts.made())]))
    return drafts.truth(project, ("a.py", "sub/b.py", "sub/kept.py", "sub/n.py"))


KEPT: Final[tuple[Situation, ...]] = (
    merged_worktree, reverted_revert, undone_beside, notebook, sparse_checkout, restarted, server,
    from_folders, undone_below, drafts_outside,
)  # fmt: skip
"""What OpenCode 1 and 2 both have."""
