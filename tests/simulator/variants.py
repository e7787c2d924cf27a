"""Variants of the situations of `situations.py`: other commands, other files, other moments, drawn at random.

The lines that a person and the AI write here are unique, so that the truth of a file is read off its lines; the files
differ in indentation, line endings, script, names, and in whether their last line ends.
"""

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.simulator.acts import ASKED, Acts, Project
from tests.simulator.pool import new_word
from tests.simulator.situation_score import Situation, Truth
from tests.support.fake_model import Call, Step
from tests.support.opencode import SHIM
from tests.support.waiting import eventually

_NAMES: Final = (
    "{}.py",
    "{} of ours.py",
    "größe-{}.py",
    "sub dir/{}.txt",
    "日本/{}.md",
    "it's {}.py",
    "[{}] (1).tsx",
    "-{}.py",
)
_FORMS: Final = (
    "{0} = {1}({2}, {2})",
    "    return {0}[{2}] + {1}",
    "\tif {0} > {2}:  // {1}",
    '  "größe {0}": ["日本 {1}", {2}],',
    "{0}: {1}, naïve café no. {2} — “quoted”",
    "<{0} id='{1}'>{2}</{0}>",
    "        self.{0}.append({1} % {2})  ",
)


class Drafts:
    """Unique lines, and who wrote them."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._serial = 0
        self.ai: set[str] = set()

    def human(self, least: int = 4, most: int = 12) -> str:
        """Lines of a person."""
        return "".join(self._lines(least, most, "own"))

    def made(self, least: int = 2, most: int = 9) -> str:
        """Lines of the AI."""
        lines = self._lines(least, most, "made")
        self.ai |= {line.strip() for line in lines}
        return "".join(lines)

    def letters(self, file: Path) -> str:
        """The truth of a file of such lines."""
        text = file.read_bytes().decode()
        lines = text.removesuffix("\n").split("\n") if text else []
        return "".join("a" if line.strip() in self.ai else "h" for line in lines)

    def truth(self, project: Project, paths: Iterable[str]) -> Truth:
        """The truth of some files."""
        return {project.folder / path: self.letters(project.folder / path) for path in paths}

    def _lines(self, least: int, most: int, owner: str) -> list[str]:
        lines = []
        for _ in range(self._rng.randint(least, most)):
            self._serial += 1
            form = self._rng.choice(_FORMS)
            word = f"{owner}_{new_word(self._rng)}"
            lines.append(form.format(word, new_word(self._rng), self._serial) + "\n")
        return lines


def quoted(path: str) -> str:
    """A path for a shell."""
    return "'" + path.replace("'", "'\\''") + "'"


def appended(path: str, text: str) -> str:
    """A command that appends a text."""
    return f"cat >> {quoted(path)} <<'END'\n{text}END"


def _inserted(text: str, at: int, new: str) -> str:
    lines = text.splitlines(keepends=True)
    return "".join([*lines[:at], new, *lines[at:]])


# -- files of every form ---------------------------------------------------------------------------------------------


def odd_files(acts: Acts, name: str, rng: random.Random) -> Truth:
    """Edits, overwrites and commands at the start, in the middle and at the end of files of every form and name."""
    drafts = Drafts(rng)
    texts: dict[str, str] = {}
    for number, form in enumerate(rng.sample(_NAMES[:-1], 5)):
        text = drafts.human(6, 14)
        text = text.replace("\n", "\r\n") if number % 2 else text
        texts[form.format(f"f{number}")] = text.rstrip("\r\n") if number in {0, 3} else text
    project = acts.project(name, texts)
    calls = [_change(acts, rng, path, texts, drafts) for path in texts for _ in range(2)]
    project.turn(*(Step([call]) for call in calls))
    return drafts.truth(project, texts)


def _change(acts: Acts, rng: random.Random, path: str, texts: dict[str, str], drafts: Drafts) -> Call:
    """One call that inserts some lines before another."""
    lines = texts[path].splitlines(keepends=True)
    at = rng.choice([0, len(lines) // 2, len(lines) - 1])
    eol = "\r\n" if "\r\n" in texts[path] else "\n"
    new, old = drafts.made(1, 4).replace("\n", eol), lines[at]
    texts[path] = "".join([*lines[:at], new, *lines[at:]])
    how = rng.choice(["edit", "write", "python"])
    if how == "edit":
        plain = [one.replace("\r\n", "\n").rstrip("\n") for one in (old, new + old)]
        return acts.tools.edit(path, *plain)
    if how == "write":
        return acts.tools.write(path, texts[path])
    return acts.tools.run(f"python3 - <<'END'\nopen({path!r}, 'wb').write({texts[path]!r}.encode())\nEND")


def no_last_newline(acts: Acts, name: str, rng: random.Random) -> Truth:
    """Lines after a last line that has no line feed, by a call, by a command and by a person."""
    drafts = Drafts(rng)
    texts = {f"{one}.py": drafts.human().rstrip("\n") for one in "abc"}
    project = acts.project(name, texts)
    last = texts["a.py"].splitlines()[-1]
    project.turn(
        Step([acts.tools.edit("a.py", last, last + "\n" + drafts.made().rstrip("\n"))]),
        Step([acts.tools.run(f"printf '\\n%s' {quoted(drafts.made().rstrip(chr(10)))} >> b.py")]),
        Step([acts.tools.write("d.py", drafts.made().rstrip("\n"))]),
    )
    for path in ("c.py", "d.py"):
        project.append(path, "\n" + drafts.human().rstrip("\n"))
    return drafts.truth(project, ("a.py", "b.py", "c.py", "d.py"))


def repeated_lines(acts: Acts, name: str, rng: random.Random) -> Truth:
    """Blank lines, braces and ends that stand many times, in a person's functions and between them in the AI's."""
    drafts = Drafts(rng)

    def function(text: str) -> str:
        first, *rest = text.splitlines()
        return "\n".join([first + " {", *rest, "    return", "}", "", ""])

    own = [function(drafts.human(3, 5)) for _ in range(4)]
    new = [function(drafts.made(3, 5)) for _ in range(2)]
    project = acts.project(name, {"f.js": "".join(own), "g.js": "".join(own)})
    at = rng.choice([1, 2, 3])
    first = own[at].splitlines()[0]
    project.turn(
        Step([acts.tools.edit("f.js", first, new[0] + first)]),
        Step([acts.tools.run(appended("g.js", new[1]))]),
    )
    size, ai = [one.count("\n") for one in own], [one.count("\n") for one in new]
    f = "h" * sum(size[:at]) + "a" * ai[0] + "h" * sum(size[at:])
    return {project.folder / "f.js": f, project.folder / "g.js": "h" * sum(size) + "a" * ai[1]}


# -- ways to write and to bring --------------------------------------------------------------------------------------


def ways_to_write(acts: Acts, name: str, rng: random.Random) -> Truth:
    """Commands that write lines of the AI into a person's files, each in its own way."""
    drafts = Drafts(rng)
    texts = {f"w{number}.py": drafts.human() for number in range(10)}
    project = acts.project(name, texts)
    new = {path: drafts.made() for path in texts}
    plain = [line for line in new["w0.py"].splitlines() if "'" not in line]
    firsts = {path: text.splitlines()[0] for path, text in texts.items()}
    diff = "".join(f"+{line}\n" for line in new["w5.py"].splitlines())
    hunk = f"--- a/w5.py\n+++ b/w5.py\n@@ -1 +1,{1 + diff.count(chr(10))} @@\n {firsts['w5.py']}\n{diff}"
    script = "echo \"import sys; s = open('w3.py').read(); open('w3.py', 'w').write(sys.stdin.read() + s)\" > .py"
    commands = [
        "; ".join(f"echo {quoted(line)} >> w0.py" for line in plain) or "true",
        f"cat > .w1 <<'END'\n{new['w1.py']}END\ncat w1.py >> .w1; mv .w1 w1.py",
        f"awk '{{print}}' w2.py > .w2; cat >> .w2 <<'END'\n{new['w2.py']}END\nmv .w2 w2.py",
        f"{script}\npython3 .py <<'END'\n{new['w3.py']}END",
        f"sed -i '1r /dev/stdin' w4.py <<'END'\n{new['w4.py']}END",
        f"git apply --recount <<'END'\n{hunk}END",
        f"d=$(mktemp); cat > $d <<'END'\n{new['w6.py']}END\ncat $d >> w6.py; rm $d",
        f"tee -a w7.py > /dev/null <<'END'\n{new['w7.py']}END",
        f"f=w8; cat >> $f.py <<'END'\n{new['w8.py']}END",
        f"for f in w9*; do cat >> $f <<'END'\n{new['w9.py']}END\ndone",
    ]
    rng.shuffle(commands)
    cut = rng.randint(1, 9)
    project.turn(*(Step([acts.tools.run(one)]) for one in commands[:cut]), Step([*map(acts.tools.run, commands[cut:])]))
    return drafts.truth(project, texts)


def generated(acts: Acts, name: str, rng: random.Random) -> Truth:
    """The AI writes a script, and its next command lets it write two files that it does not name."""
    drafts = Drafts(rng)
    own, new = drafts.human(), [drafts.made() for _ in range(2)]
    project = acts.project(name, {"old.txt": own})
    script = f"import base64\nfor stem, text in zip(('ol', 'ne'), {[one.encode().hex() for one in new]!r}):\n"
    script += "    open(stem + ('d' if stem == 'ol' else 'w') + '.txt', 'a').write(bytes.fromhex(text).decode())\n"
    project.turn(Step([acts.tools.write("gen.py", script)]), Step([acts.tools.run("python3 gen.py")]))
    return {**drafts.truth(project, ("old.txt", "new.txt")), project.folder / "gen.py": "aaa"}


def ways_to_bring(acts: Acts, name: str, rng: random.Random) -> Truth:
    """Commands that copy, cut, order and join a person's files, or restore them, each in its own way."""
    drafts = Drafts(rng)
    texts = {f"{one}.py": drafts.human(8, 14) for one in "abcdefhi"}
    project = acts.project(name, texts)
    for key, value in (("name", "Test"), ("email", "test@example.invalid")):
        project.git("config", f"user.{key}", value)
    project.append("h.py", drafts.human())
    (project.folder / "h.diff").write_text(project.git("diff", "h.py"))
    project.git("checkout", "-q", "h.py")
    project.git("checkout", "-q", "-b", "side")
    project.append("i.py", drafts.human())
    project.git("commit", "-qam", "Side")
    project.git("checkout", "-q", "main")
    project.git("checkout", "-q", "-b", "feature")
    for path in ("c.py", "d.py"):
        project.append(path, drafts.human())
        project.git("commit", "-qam", f"Feature {path}")
    project.git("checkout", "-q", "main")
    project.append("e.py", drafts.human())
    project.git("commit", "-qam", "Second")
    commands = [
        "cat a.py b.py > joined.py",
        "head -n 5 a.py > head.py; tail -n +6 b.py >> head.py",
        "sort a.py > sorted.py; tac b.py > reversed.py",
        "sed -n '3,7p' a.py > part.py",
        "install -m 644 a.py i1.py; dd if=b.py of=i2.py status=none; ln a.py i3.py",
        "python3 -c \"import shutil; shutil.copy('a.py', 'py.py')\"",
        "mkdir -p lib && git mv f.py lib/f.py && git mv lib/f.py lib/g.py",
        "git show feature:c.py > theirs.py; cut -d' ' -f2- a.py > cut.py",
        "git checkout -q feature -- c.py",
        "git restore --source=HEAD~1 e.py",
        "git commit -qm Restored; git cherry-pick feature || git cherry-pick --abort",
        "git stash -q; git stash pop -q",
        "git apply h.diff; rm h.diff",
        "git add h.py; git merge -q --squash side; git commit -qm Squashed",
    ]
    project.turn(*(Step([acts.tools.run(one)]) for one in commands))
    paths = [str(one.relative_to(project.folder)) for one in project.folder.rglob("*.py")]
    return drafts.truth(project, sorted(paths))


def git_by_the_ai(acts: Acts, name: str, rng: random.Random) -> Truth:
    """The AI merges a person's branch, reverts a person's commit, and commits its own work in between."""
    drafts = Drafts(rng)
    project = acts.project(name, {"a.py": drafts.human(), "b.py": drafts.human()})
    for key, value in (("name", "Test"), ("email", "test@example.invalid")):
        project.git("config", f"user.{key}", value)
    project.append("b.py", drafts.human())
    project.git("commit", "-qam", "To be reverted")
    project.git("checkout", "-q", "-b", "feature", "HEAD~1")
    project.append("a.py", drafts.human())
    project.append("new.py", drafts.human())
    project.git("add", "-A")
    project.git("commit", "-qm", "Feature")
    project.git("checkout", "-q", "main")
    project.turn(
        Step([acts.tools.run(f"{appended('b.py', drafts.made())}\ngit commit -qam 'Work'")]),
        Step([acts.tools.run("git merge -q --no-edit feature")]),
        Step([acts.tools.write("ai.py", drafts.made())]),
        Step([acts.tools.run("git add -A; git commit -qm More; git revert --no-edit HEAD~3 || git revert --abort")]),
        Step([acts.tools.run(appended("a.py", drafts.made()))]),
        Step([acts.tools.run("git commit -qam Last; git rebase -q --root; git checkout -q -b other")]),
    )
    return drafts.truth(project, ("a.py", "b.py", "new.py", "ai.py"))


def history_between(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A person commits, amends, renames, stashes, squashes and rebases between the AI's calls, and after them."""
    drafts = Drafts(rng)
    project = acts.project(name, {"a.py": drafts.human(6, 12), "b.py": drafts.human(6, 12)})
    path = "a.py"
    for number in range(4):
        text = (project.folder / path).read_text()
        lines = text.splitlines()
        old = lines[rng.randrange(len(lines))]
        call = acts.tools.edit(path, old, drafts.made(1, 4) + old)
        command = acts.tools.run(appended(path, drafts.made(1, 3)))
        project.turn(Step([rng.choice([call, command])]), Step([acts.tools.run(appended("b.py", drafts.made(1, 3)))]))
        text = (project.folder / path).read_text()
        (project.folder / path).write_text(_inserted(text, rng.randrange(text.count("\n")), drafts.human(1, 3)))
        path = _rewritten(project, path, f"moved {number}.py", rng)
    return drafts.truth(project, (path, "b.py"))


def _rewritten(project: Project, path: str, new: str, rng: random.Random) -> str:
    """Do something to history; the name of the file after it."""
    kind = rng.choice(["commit", "amend", "rename", "stash", "squash", "rebase", "switch"])
    if kind == "stash":
        project.git("stash", "-q")
        project.append("other.txt", "x\n")
        project.git("stash", "pop", "-q")
        return path
    if kind == "rename":
        project.git("mv", path, new)
    project.git("add", "-A")
    project.git("commit", "-q", "--allow-empty", "-m", kind, *(["--amend"] if kind == "amend" else []))
    if kind == "squash":
        project.git("reset", "-q", "--soft", "HEAD~1")
        project.git("commit", "-q", "--allow-empty", "--amend", "-m", "Squashed")
    if kind == "rebase":
        project.git("checkout", "-q", "-b", "side", "HEAD~1")
        project.git("commit", "-q", "--allow-empty", "-m", "Side")
        project.git("checkout", "-q", "main")
        project.git("rebase", "-q", "side")
        project.git("branch", "-q", "-D", "side")
    if kind == "switch":
        project.git("checkout", "-q", "HEAD~1")
        project.git("checkout", "-q", "main")
    return new if kind == "rename" else path


# -- permissions, sessions, processes --------------------------------------------------------------------------------


def edit_waits(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A person types into files while an edit of one waits, and the overwriting of another."""
    drafts = Drafts(rng)
    texts = {"asked1.py": drafts.human(6, 10), "asked2.py": drafts.human(6, 10), "b.py": drafts.human()}
    project = acts.project(name, texts)
    first = texts["asked1.py"].splitlines()[rng.randrange(4)]
    calls = [
        acts.tools.edit("asked1.py", first, drafts.made(1, 3) + first),
        acts.tools.write("asked2.py", texts["asked2.py"] + drafts.made()),
    ]

    def typing() -> None:
        for path in texts:
            project.append(path, drafts.human(1, 3))

    for call in calls:
        with project.answering(typing):
            project.turn(Step([call]))
    return drafts.truth(project, texts)


def one_of_two_waits(acts: Acts, name: str, rng: random.Random) -> Truth:
    """Of two commands of a step one waits; a person types into its file while the other is done, and permits it."""
    drafts = Drafts(rng)
    project = acts.project(name, {path: drafts.human() for path in ("a.py", "b.py", "c.py")})
    waits = ASKED + project.waits + appended("a.py", drafts.made())
    free = appended("b.py", drafts.made())

    def typing() -> None:
        for path in ("a.py", "c.py"):
            project.append(path, drafts.human(1, 4))

    with project.answering(typing), project.reading("permission.replied"):
        project.turn(Step([acts.tools.run(free), acts.tools.run(waits)]))
    return drafts.truth(project, ("a.py", "b.py", "c.py"))


def aborted_waiting(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A turn is aborted while a command waits, after a person has typed into its file; then the session goes on."""
    drafts = Drafts(rng)
    project = acts.project(name, {"a.py": drafts.human(), "b.py": drafts.human()})
    project.turn(Step([acts.tools.run(appended("b.py", drafts.made()))]))
    thread = project.beside(Step([acts.tools.run(ASKED + appended("a.py", "never = written(1)\n"))]))
    eventually(lambda: acts.served.requests(project.folder, project.session), 30, "a permission is asked")
    project.append("a.py", drafts.human())
    project.abort()
    thread.join()
    project.turn(Step([acts.tools.run(appended("b.py", drafts.made()))]))
    return drafts.truth(project, ("a.py", "b.py"))


def subagents(acts: Acts, name: str, rng: random.Random) -> Truth:
    """Two subagents work at once, one by commands and one by edits, beside a command of their parent; then a person."""
    drafts = Drafts(rng)
    texts = {path: drafts.human() for path in ("a.py", "b.py", "c.py")}
    project = acts.project(name, texts)
    first = texts["a.py"].splitlines()[0]
    prompts = [
        project.scripted(
            Step([acts.tools.edit("a.py", first, drafts.made(1, 3) + first)]),
            Step([acts.tools.write("n.py", drafts.made())]),
        ),
        project.scripted(
            Step([acts.tools.run(appended("b.py", drafts.made()))]), Step([acts.tools.run("grep -rn own .")])
        ),
    ]
    command = acts.tools.run(appended("c.py", drafts.made()))
    project.turn(Step([*map(acts.tools.start, prompts), command]))
    for path in (*texts, "n.py"):
        project.append(path, drafts.human(1, 3))
    return drafts.truth(project, (*texts, "n.py"))


def commands_of_two_processes(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A command of one process appends to a file, then one of another process, while the first still runs."""
    drafts = Drafts(rng)
    project = acts.project(name, {"a.py": drafts.human(), "b.py": drafts.human()})
    project.open()
    first = (
        f"{appended('a.py', drafts.made())}\ntouch ignored/1; until test -e ignored/2; do sleep 0.1; done; sleep 0.3"
    )
    thread = project.beside(Step([acts.tools.run(first)]))
    project.at_work("ignored/1")
    with acts.another() as again:
        other = project.other(again)
        other.turn(Step([acts.tools.run(f"{appended('a.py', drafts.made())}\n{appended('b.py', drafts.made())}")]))
        (project.folder / "ignored" / "2").touch()
    thread.join()
    return drafts.truth(project, ("a.py", "b.py"))


def undone(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A turn is undone; a person types one of its lines again, and others; the next turn goes on."""
    drafts = Drafts(rng)
    project = acts.project(name, {"a.py": drafts.human(), "b.py": drafts.human()})
    project.turn(Step([acts.tools.run(appended("b.py", drafts.made()))]))
    project.turn(Step([acts.tools.run(appended("a.py", "again = typed(by, hand, 1)\nnever = again(2)\n"))]))
    acts.served.revert(project.folder, project.session, prompt=-1)
    project.append("a.py", "again = typed(by, hand, 1)\n" + drafts.human())
    project.turn(Step([acts.tools.write("n.py", drafts.made())]))
    return drafts.truth(project, ("a.py", "b.py", "n.py"))


# -- places ----------------------------------------------------------------------------------------------------------


def links(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A session opened through a link to its folder, and a file named through a link to another folder."""
    drafts = Drafts(rng)
    project = acts.project(name, {"a.py": drafts.human(), "b.py": drafts.human(), "real/c.py": drafts.human()})
    (project.folder / "short").symlink_to("real")
    link = acts.oc.folder / f"{name}_link"
    link.symlink_to(project.folder)
    first = (project.folder / "a.py").read_text().splitlines()[0]
    last = (project.folder / "real/c.py").read_text().splitlines()[-1]
    linked = Project(acts, link)
    edits = {
        "b.py": acts.tools.edit("a.py", first, drafts.made() + first),
        "short/c.py": acts.tools.edit("short/c.py", last, last + "\n" + drafts.made().rstrip("\n")),
    }
    for path, edit in edits.items():
        with linked.reading(more=2):
            linked.turn(Step([edit]), Step([acts.tools.run(linked.waits + appended(path, drafts.made()))]))
    return {**drafts.truth(project, ("a.py", "b.py", "real/c.py")), link / "b.py": drafts.letters(link / "b.py")}


def outwards(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A session in an inner repository whose command and edit change the outer one, and one of a worktree inside."""
    drafts = Drafts(rng)
    project = acts.project(name, {"o.py": drafts.human(), "p.py": drafts.human()})
    inner = project.folder / "ignored" / "inner"
    inner.mkdir()
    (inner / "i.py").write_text(drafts.human())
    for command in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-qm", "Inner")):
        project.git(*command, folder=inner)
    acts.oc.add_plugin(inner, SHIM)
    project.git("worktree", "add", "-q", "-b", "wt", str(project.folder / "ignored" / "wt"))
    first = (project.folder / "p.py").read_text().splitlines()[0]
    below = Project(acts, inner)
    with below.reading():
        below.turn(
            Step([acts.tools.run(f"{below.waits}cd ../..\n{appended('o.py', drafts.made())}")]),
            Step([acts.tools.edit("../../p.py", first, drafts.made() + first)]),
            Step([acts.tools.run(appended("i.py", drafts.made()))]),
        )
    with project.reading():
        project.turn(Step([acts.tools.run(project.waits + appended("ignored/wt/o.py", drafts.made()))]))
    return drafts.truth(project, ("o.py", "p.py", "ignored/inner/i.py", "ignored/wt/o.py"))


def first_commits(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A person amends the first commit between two sessions, and merges a branch with a first commit of its own."""
    drafts = Drafts(rng)
    project = acts.project(name, {"a.py": drafts.human()})
    project.git("reset", "-q", "--soft", "HEAD~1")
    project.turn(Step([acts.tools.run(appended("a.py", drafts.made()))]))
    project.git("add", "-A")
    project.git("commit", "-q", "--amend", "-m", "Amended")
    project.other().turn(Step([acts.tools.write("b.py", drafts.made())]))
    project.git("add", "-A")
    project.git("commit", "-qm", "Second")
    project.git("checkout", "-q", "--orphan", "pages")
    project.git("rm", "-rqf", "a.py", "b.py")
    project.append("page.html", drafts.human())
    project.git("add", "page.html")
    project.git("commit", "-qm", "Pages")
    project.git("checkout", "-q", "main")
    project.git("merge", "-q", "--allow-unrelated-histories", "--no-edit", "pages")
    project.other().turn(Step([acts.tools.run(appended("page.html", drafts.made()))]))
    return drafts.truth(project, ("a.py", "b.py", "page.html"))


# -- texts in common, white space ------------------------------------------------------------------------------------


def shared_edits(acts: Acts, name: str, rng: random.Random) -> Truth:
    """Files of a person with one header: the AI overwrites one, renames one, and changes the year in all."""
    drafts = Drafts(rng)
    header = [f"# Copyright 2024 {new_word(rng)}", "# Licensed under the MIT licence", "import os", "import sys", ""]
    texts = {f"{one}.py": "\n".join(header) + "\n" + drafts.human() for one in "abcd"}
    project = acts.project(name, texts)
    project.turn(
        Step([acts.tools.write("new.py", "\n".join(header) + "\n" + drafts.made())]),
        Step([acts.tools.write("a.py", texts["a.py"] + drafts.made())]),
        Step([acts.tools.run("git mv b.py e.py")]),
        Step([acts.tools.run("sed -i 's/ht 2024/ht 2025/' ?.py")]),
    )
    project.append("typed.py", "\n".join(header[1:]) + "\n" + drafts.human())
    letters = {path: drafts.letters(project.folder / path) for path in ("a.py", "c.py", "d.py", "e.py", "typed.py")}
    changed = {path: "a" + said[1:] if path != "typed.py" else said for path, said in letters.items()}
    new = "a" * (project.folder / "new.py").read_text().count("\n")
    return {project.folder / path: said for path, said in {**changed, "new.py": new}.items()}


def white_space_by_calls(acts: Acts, name: str, rng: random.Random) -> Truth:
    """The AI re-indents a person's lines by an edit and by an overwrite, and strips the ends of lines by commands."""
    drafts = Drafts(rng)
    texts = {f"{one}.py": drafts.human(8, 14) for one in "abcd"}
    project = acts.project(name, texts)
    lines = texts["a.py"].splitlines()
    old = "\n".join(lines[2:6])
    head = drafts.made(1, 1)
    new = head + "\n".join("    " + line for line in lines[2:6])
    project.turn(
        Step([acts.tools.edit("a.py", old, new)]),
        Step([acts.tools.write("b.py", texts["b.py"].replace("    ", "\t") + drafts.made())]),
        Step([acts.tools.run("sed -i 's/[[:space:]]*$//' c.py; sed -i 's/^/  /' c.py")]),
        Step([acts.tools.run("sed -i 's/$/\\r/' d.py")]),
    )
    return drafts.truth(project, texts)


def byte_order_marks(acts: Acts, name: str, rng: random.Random) -> Truth:
    """The AI adds a mark to a person's file, a person one to the AI's, and the AI edits a file with one."""
    drafts = Drafts(rng)
    texts = {"a.py": drafts.human(), "c.py": "\ufeff" + drafts.human()}
    project = acts.project(name, texts)
    first = texts["c.py"].removeprefix("\ufeff").splitlines()[1]
    project.turn(
        Step([acts.tools.run("sed -i '1s/^/\\xef\\xbb\\xbf/' a.py")]),
        Step([acts.tools.write("b.py", drafts.made())]),
        Step([acts.tools.edit("c.py", first, drafts.made() + first)]),
    )
    b = (project.folder / "b.py").read_text()
    (project.folder / "b.py").write_text("\ufeff" + b)
    count = {path: (project.folder / path).read_text().count("\n") for path in ("a.py", "b.py")}
    truth = {project.folder / "a.py": "h" * count["a.py"], project.folder / "b.py": "a" * count["b.py"]}
    return {**truth, **drafts.truth(project, ("c.py",))}


def paragraphs(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A paragraph a line: a person changes a word in one of the AI's, the AI appends to a person's page."""
    drafts = Drafts(rng)

    def paragraph(owner: str) -> str:
        return " ".join(f"{owner}{new_word(rng)}" for _ in range(rng.randint(70, 400)))

    own, new = [[paragraph(owner) for _ in range(3)] for owner in ("own", "made")]
    project = acts.project(name, {"page.md": "\n\n".join(own) + "\n"})
    project.turn(
        Step([acts.tools.write("ai.md", "\n\n".join(new) + "\n")]),
        Step([acts.tools.run(appended("page.md", "\n" + new[0] + " more\n"))]),
    )
    words = new[1].split()
    words[rng.choice([0, len(words) // 2, len(words) - 1])] = "changed_by_hand"
    (project.folder / "ai.md").write_text("\n\n".join([new[0], " ".join(words), new[2]]) + "\n")
    del drafts
    return {project.folder / "ai.md": "aamaa", project.folder / "page.md": "hhhhhaa"}


def large_by_commands(acts: Acts, name: str, rng: random.Random) -> Truth:
    """A command changes one line of 25,000, and another appends to a file of 39,000."""
    at = rng.randrange(25_000)
    texts = {
        path: "".join(f"{path[0]}_{one} = {one}\n" for one in range(count))
        for path, count in (("big.py", 25_000), ("huge.py", 39_000))
    }
    drafts = Drafts(rng)
    project = acts.project(name, texts)
    new = drafts.made()
    project.turn(
        Step(
            [
                acts.tools.run(f"sed -i 's/^b_{at} = .*/b_{at} = changed/' big.py"),
                acts.tools.run(appended("huge.py", new)),
            ]
        )
    )
    big = "h" * at + "a" + "h" * (24_999 - at)
    return {project.folder / "big.py": big, project.folder / "huge.py": "h" * 39_000 + "a" * new.count("\n")}


VARIANTS: Final[tuple[Situation, ...]] = (
    odd_files, no_last_newline, repeated_lines, ways_to_write, generated, ways_to_bring, git_by_the_ai, history_between,
    edit_waits, one_of_two_waits, aborted_waiting, subagents, commands_of_two_processes, undone, links, outwards,
    first_commits, shared_edits, white_space_by_calls, byte_order_marks, paragraphs, large_by_commands,
)  # fmt: skip
"""What OpenCode 1 and 2 both have."""
