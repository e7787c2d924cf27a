"""Where people and the AI meet: every kind of situation of docs/attribution.md, with a real OpenCode.

One server records all projects into one database. `letters` is what `blame` says: a(i), h(uman), m(ixed), u(nknown).
"""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_attribution import Project, Site, Store, bash, edit, write
from tests.support.fake_model import Call, Step, fake_model
from tests.support.majors import PERSON_S, answering, served_by
from tests.support.opencode import SHIM, Server, opencode
from tests.support.postgres import PostgresServers
from tests.support.sidecars import noted_sidecar, stopped
from tests.support.waiting import beside, eventually

HEADER = "".join(f"# {text}\n" for text in ("Copyright the authors", "Licensed under MIT", "See LICENSE", "All rights"))
IMPORTS = "".join(f"from package.module{at} import name{at}\n" for at in range(8))
LOGGING = "import logging\n\nlogger = logging.getLogger(__name__)\nlogger.setLevel(logging.INFO)\n"
WAITS = "until test -e ignored/go; do sleep 0.1; done; "
"""What a command begins with that is to write after its files were read; see `going_on`."""
PLUGIN = {".gitignore": "ignored/\n"}


@contextmanager
def recorded(url: str) -> Iterator[Site]:
    """A server that records everything into a database; it asks before commands and edits that say so."""
    with fake_model() as model, opencode(model) as oc:
        oc.env["AGENT_TRACE_DATABASE_URL"] = url
        oc.env["AGENT_TRACE_SIDECAR"] = noted_sidecar(oc.folder)
        oc.env["AGENT_TRACE_STATE_DIR"] = str(oc.folder / "state")
        oc.config["permission"] = {
            "bash": {"*": "allow", "true asked*": "ask"},
            "edit": {"*": "allow", "*asked*": "ask"},
            "external_directory": "allow",
        }
        store = Store(url)
        with closing(store), oc.serve() as server:
            yield Site(oc, model, server, store)


@pytest.fixture(scope="module", name="site")
def _site(postgres_servers: PostgresServers) -> Iterator[Site]:
    """One server for all tests of this file."""
    with postgres_servers.database(migrated=True) as url, recorded(url) as site:
        yield site


def begun(site: Site, name: str, files: dict[str, str]) -> Project:
    """A recorded repository with these files of a person."""
    return site.project(name, PLUGIN | files)


def ran(
    site: Site, *arguments: str, cwd: Path, given: bytes | None = None, code: int = 0
) -> "subprocess.CompletedProcess[bytes]":
    """Run a command of ours, which exits with this code."""
    command = [sys.executable, "-P", "-m", "agent_trace_sidecar", *arguments]
    env = os.environ | {"AGENT_TRACE_DATABASE_URL": site.oc.env["AGENT_TRACE_DATABASE_URL"]}
    done = subprocess.run(command, cwd=cwd, env=env, input=given, capture_output=True, check=False)
    assert done.returncode == code, done.stderr.decode()
    return done


def asked(site: Site, *arguments: str, cwd: Path, given: bytes | None = None) -> str:
    """What a command of ours prints."""
    return ran(site, *arguments, cwd=cwd, given=given).stdout.decode()


def lines(site: Site, file: Path, *options: str) -> list[dict[str, Any]]:
    """What `blame` says of each line."""
    answer: list[dict[str, Any]] = json.loads(asked(site, "blame", str(file), "--json", *options, cwd=file.parent))
    return answer


def letters(project: Project, path: str, *options: str) -> str:
    """The same in a letter for each line."""
    return "".join(one["contributor"][0] for one in lines(project.site, project.folder / path, *options))


def counted(project: Project) -> dict[str, Any]:
    """What `stats` says of all."""
    answer: dict[str, Any] = json.loads(asked(project.site, "stats", "--json", cwd=project.folder))
    return answer


def append(project: Project, path: str, text: str) -> None:
    """A person writes at the end of a file."""
    with (project.folder / path).open("a") as file:
        file.write(text)


def permitting(
    project: Project, meanwhile: Callable[[], None], *, after_s: float = PERSON_S
) -> AbstractContextManager[None]:
    """Permit what the project's session asks for, so long after something was done meanwhile."""
    project.session = project.session or project.site.server.session(project.folder)
    return answering(served_by(project.site.server), project.folder, project.session, meanwhile, after_s=after_s)


@contextmanager
def apart(site: Site, server: Server | None = None) -> Iterator[Site]:
    """The same with a connection of its own, for another thread."""
    with closing(Store(site.oc.env["AGENT_TRACE_DATABASE_URL"])) as store:
        yield Site(site.oc, site.model, server or site.server, store)


def has_begun(site: Site, project: Project) -> bool:
    """Whether a call of the session has begun."""
    return Project(site, project.folder, project.session).stored("tool.execute.before") > 0


@contextmanager
def going_on(project: Project, event_name: str, count: int) -> Iterator[None]:
    """Make `ignored/go`, for which a command waits, when so many events are stored, and files were read with them."""
    project.session = project.session or project.site.server.session(project.folder)

    def go_on() -> None:
        with apart(project.site) as own:
            session = Project(own, project.folder, project.session)
            eventually(lambda: session.stored(event_name) >= count, 30, "the files are read")
        (project.folder / "ignored/go").touch()

    with beside(go_on):
        yield


# -- text that people and the AI both type ---------------------------------------------------------------------------


def test_a_line_that_stood_before_the_record_is_no_copy_of_it(site: Site) -> None:
    """Licence header, imports, logger: in files of before, and in one that a person writes afterwards."""
    files = {f"h{at}.py": text + f"hu{at} = 1\n" for at, text in enumerate((HEADER, IMPORTS, LOGGING))}
    project = begun(site, "shared", files)
    append(project, "untracked.py", HEADER + "mine = 1\n")
    project.prompt(
        "sharedwork",
        Step([write(f"a{at}.py", text + f"ai{at} = 1\n") for at, text in enumerate((HEADER, IMPORTS, LOGGING))]),
    )
    append(project, "later.py", HEADER + "later = 1\n")
    assert {path: letters(project, path) for path in (*files, "untracked.py", "later.py")} == {
        "h0.py": "hhhhh",
        "h1.py": "hhhhhhhhh",
        "h2.py": "hhhhh",
        "untracked.py": "hhhhh",
        "later.py": "hhhhh",
    }
    assert letters(project, "a1.py") == "a" * 9


def test_boilerplate_that_the_ai_typed_first_is_nobodys_evidence(site: Site) -> None:
    """A person's file with the same header and imports is the person's; a copied function is not."""
    function = (
        "def total(prices):\n    result = 0\n    for price in prices:\n        result += price\n    return result\n"
    )
    project = begun(site, "first", {"old.py": "old = 1\n"})
    project.prompt("firstwork", Step([write("a.py", HEADER + IMPORTS + LOGGING + function)]))
    append(project, "header.py", HEADER + "mine = 1\n")
    append(project, "imports.py", IMPORTS + "mine = 1\n")
    append(project, "logs.py", LOGGING + "mine = 1\n")
    append(project, "copy.py", "mine = 1\n" + function)
    found = {path: letters(project, path) for path in ("header.py", "imports.py", "logs.py", "copy.py", "old.py")}
    assert found == {
        "header.py": "hhhhh",
        "imports.py": "hhhhhhhhh",
        "logs.py": "hhhhh",
        "copy.py": "haaaaa",
        "old.py": "h",
    }


# -- waiting for permission ------------------------------------------------------------------------------------------


def test_what_a_person_types_before_permitting_a_command_is_the_persons(site: Site) -> None:
    """The call begins to work when it is permitted."""
    project = begun(site, "asking", {"a.py": "hu1\n"})
    with permitting(project, lambda: append(project, "a.py", "hu2\n")):
        project.prompt("askingwork", Step([bash("true asked; echo ai > c.py")]))
    assert project.spans() == {("c.py", 1, 1, "bash", "snapshot")}
    assert (letters(project, "a.py"), letters(project, "c.py")) == ("hh", "a")


def test_what_a_person_types_into_the_file_of_a_command_that_waits_is_the_persons(site: Site) -> None:
    """Long before it is permitted and in the very moment, in a file that it names and in another one."""
    project = begun(site, "samefile", {"a.py": "hu1\n", "b.py": "hu1\n"})
    typing = permitting(project, lambda: append(project, "a.py", "hu2\n"), after_s=0.5)
    with typing, going_on(project, "permission.replied", 1):
        project.prompt("samefilework", Step([bash(f"true asked; {WAITS}echo ai >> a.py")]))
    assert letters(project, "a.py") == "hha"
    with permitting(project, lambda: append(project, "b.py", "hu2\n"), after_s=0):
        project.prompt("atoncework", Step([bash("true asked; echo ai > c.py")]))
    assert letters(project, "b.py") in {"hh", "hu"}
    assert letters(project, "c.py") == "a"


# -- history told again ----------------------------------------------------------------------------------------------


def test_a_fork_tells_history_and_makes_no_record(site: Site) -> None:
    """Of a fork, and of a fork of that."""
    project = begun(site, "fork", {"a.py": "hu1\n"})
    project.prompt(
        "forkwork",
        Step(
            [
                Call("read", {"filePath": "a.py"}),
                edit("a.py", "hu1", "hu1\nai1"),
                write("n.py", "n1\nn2\n"),
                bash("echo b > b.py"),
            ]
        ),
    )
    first = project.session
    for number in range(2):
        forked = site.server.request("POST", f"/session/{project.session}/fork", project.folder, {})
        project.session = forked["id"]
        project.prompt(f"infork{number}x", Step([write(f"f{number}.py", "f\n")]))
    found = {(row["path"], row["start_line"], row["end_line"], row["session_id"] == first) for row in project.ranges()}
    assert found == {
        ("a.py", 2, 2, True),
        ("n.py", 1, 2, True),
        ("b.py", 1, 1, True),
        ("f0.py", 1, 1, False),
        ("f1.py", 1, 1, False),
    }
    total = counted(project)["total"]
    assert (total["written"], total["living"], total["lost"]) == (6, 6, 0)


def revert(project: Project, number: int) -> None:
    """Undo a session from one of its prompts on, by OpenCode's own revert."""
    server, folder, path = project.site.server, project.folder, f"/session/{project.session}"
    infos = [one["info"] for one in server.request("GET", f"{path}/message", folder)]
    users = [info["id"] for info in infos if info["role"] == "user"]
    server.request("POST", f"{path}/revert", folder, {"messageID": users[number]})


def test_what_a_revert_leaves_in_its_file_stays_the_ais(site: Site) -> None:
    """OpenCode 1 reverts no name that git quotes, nothing outside of the session's folder, nothing without git."""
    project = begun(site, "left", {'q"x.py': "hu\n", "s/é.py": "hu\n", "a.py": "hu\n"})
    inner = Project(site, project.folder / "s", "")
    outside = [edit(str(project.folder / path), "hu\n", "hu\nai\n") for path in ("a.py", 'q"x.py')]
    inner.prompt("leftfirst", Step([write("kept.py", "ai\n")]))
    inner.prompt("leftwork", Step([edit("é.py", "hu\n", "hu\nai\n")]), Step([*outside, write('n"m.py', "ai\n")]))
    revert(inner, 1)
    eventually(lambda: {path for path, *_ in inner.spans(void=True)} == {"s/é.py"}, 20, "what was reverted is void")
    inner.prompt("lefton", Step([write("on.py", "ai\n")]))
    assert {path for path, *_ in inner.spans(void=True)} == {"s/é.py"}
    append(project, "s/é.py", "ai\n")
    found = {path: letters(project, path) for path in ("a.py", 'q"x.py', 's/n"m.py', "s/é.py", "s/kept.py")}
    assert found == {"a.py": "ha", 'q"x.py': "ha", 's/n"m.py': "a", "s/é.py": "hh", "s/kept.py": "a"}

    plain = Project(site, site.oc.project("bare", {"a.py": "hu\n"}, commit=False), "")
    shutil.rmtree(plain.folder / ".git", ignore_errors=True)
    site.oc.add_plugin(plain.folder, SHIM)
    plain.prompt("plainfirst", Step([write("kept.py", "ai\n")]))
    plain.prompt("plainwork", Step([edit("a.py", "hu\n", "hu\nai\n")]))
    revert(plain, 1)
    plain.prompt("plainon", Step([write("on.py", "ai\n")]))
    assert ((plain.folder / "a.py").read_text(), letters(plain, "a.py")) == ("hu\nai\n", "ha")


# -- white space only ------------------------------------------------------------------------------------------------


def test_who_changes_white_space_alone_takes_no_line_over(site: Site) -> None:
    """Line endings and indentation by commands, indentation by an edit that adds a line."""
    code = "def f(x):\n    if x:\n        return compute(x)\n    return other(x)\n"
    project = begun(site, "blanks", {"crlf.py": code.replace("\n", "\r\n"), "tabs.py": code, "nest.py": code})
    project.prompt(
        "blankswork",
        Step([bash("sed -i 's/\\r$//' crlf.py; sed -i 's/    /\\t/g' tabs.py")]),
        Step(
            [
                edit(
                    "nest.py",
                    "    if x:\n        return compute(x)\n",
                    "    while ready():\n        if x:\n            return compute(x)\n",
                )
            ]
        ),
    )
    assert (letters(project, "crlf.py"), letters(project, "tabs.py")) == ("hhhh", "hhhh")
    assert letters(project, "nest.py") == "hahhh"


def test_who_wraps_lines_takes_none_over(site: Site) -> None:
    """A formatter that a command runs: a person's lines, the AI's, and both in one file, in either direction."""
    split = r"sed -Ei 's/^(\w+ = \w+\()(.*), (.*)\)$/\1\n    \2,\n    \3,\n)/'"
    join = r"sed -Ezi 's/\(\n    ([^\n]*),\n    ([^\n]*),\n\)/(\1, \2)/g'"
    project = begun(site, "wrapped", {"p.py": "total = of(the_first, the_second)\nkept = 1\n"})
    project.prompt("wrappedwork", Step([write("m.py", "count = by(some_model, and_more)\n")]))
    append(project, "m.py", "other = by(a_person, and_others)\n")
    project.prompt("wrapwork", Step([bash(f"{split} p.py m.py; echo 'added = 1' >> p.py")]))
    assert (project.folder / "m.py").read_text().count("\n") == 8
    assert (letters(project, "p.py"), letters(project, "m.py")) == ("hhhhha", "aaaahhhh")
    project.prompt("joinwork", Step([bash(f"{join} p.py m.py")]))
    assert (letters(project, "p.py"), letters(project, "m.py")) == ("hha", "ah")
    assert lines(site, project.folder / "m.py")[0]["tool"] == "write"


# -- what git or cp brings -------------------------------------------------------------------------------------------


def test_what_a_command_brings_is_not_written_by_it(site: Site) -> None:
    """From an older revision, by copying a person's file there and back, by a patch taken back, by a move."""
    text = "".join(f"value_{at} = compute({at}) + offset\n" for at in range(8))
    project = begun(
        site,
        "brought",
        {"f.py": text, "g.py": text.replace("value", "other"), "Case.py": text.replace("value", "case")},
    )
    append(project, "f.py", "second_version = True\n")
    site.oc.git(project.folder, "commit", "-qam", "Second")
    more = "".join(f"made_{at} = build({at}, 'x')\n" for at in range(18))
    project.prompt(
        "broughtwork",
        Step([bash("git show HEAD~1:f.py > f.py")]),
        Step([bash("cp g.py g.bak; echo spoiled > g.py")]),
        Step([bash("mv g.bak g.py; cp g.py copied.py; git show HEAD > /dev/null")]),
        Step([bash(f'git mv Case.py case.py; printf "{more}" >> case.py')]),
        Step([bash("git show HEAD > ignored/p.diff; git apply ignored/p.diff; git apply -R ignored/p.diff")]),
        Step([bash("cp g.py extended.py; echo 'extra = extended(1, 2)' >> extended.py")]),
    )
    found = {path: letters(project, path) for path in ("f.py", "g.py", "copied.py", "case.py", "extended.py")}
    assert found == {
        "f.py": "h" * 8,
        "g.py": "h" * 8,
        "copied.py": "h" * 8,
        "case.py": "h" * 8 + "a" * 18,
        "extended.py": "h" * 8 + "a",
    }
    assert counted(project)["total"]["living"] == 19


def test_lines_that_a_call_moves_stay_whose_they_were(site: Site) -> None:
    """Between two files that both last, within one, by a command, by edits in either order; with a line of its own."""
    block = "".join(f"    value_{at} = compute({at}, name) + offset\n" for at in range(5))
    rest = "".join(f"rest_{at} = other({at}, 'rest')\n" for at in range(6))
    code = rest + block
    names = ("sed", "cut", "paste", "within")
    files = {f"{name}.py": code.replace("value", name) for name in names} | {f"to_{name}.py": rest for name in names}
    project = begun(site, "moving", files)
    cut, paste, within = (block.replace("value", name) for name in ("cut", "paste", "within"))
    top = "rest_0 = other(0, 'rest')\n"
    project.prompt(
        "movingwork",
        Step([bash("sed -n 7,11p sed.py >> to_sed.py; sed -i 7,11d sed.py; echo 'own = line(1, 2)' >> to_sed.py")]),
        Step([edit("cut.py", cut, "# gone\n"), edit("to_paste.py", top, top + paste)]),
        Step([edit("to_cut.py", top, top + "def added(name, offset):\n" + cut), edit("paste.py", paste, "")]),
        Step([write("within.py", within + rest)]),
        Step([write("new.py", "def fresh(name, offset):\n" + block.replace("value", "fresh"))]),
    )
    found = {path: letters(project, path) for path in ("to_sed.py", "to_cut.py", "to_paste.py", "within.py", "new.py")}
    assert found == {
        "to_sed.py": "h" * 11 + "a",
        "to_cut.py": "h" + "a" + "h" * 10,
        "to_paste.py": "h" * 11,
        "within.py": "h" * 11,
        "new.py": "a" * 6,
    }
    assert counted(project)["total"]["living"] == counted(project)["total"]["written"] == 9


# -- two writers on one file -----------------------------------------------------------------------------------------


def test_two_sessions_that_wait_for_one_file_have_each_their_own_line(site: Site) -> None:
    """The second has begun before the first one's edit is permitted."""
    project = begun(site, "two", {"asked.py": "".join(f"line_{at} = {at}\n" for at in range(20))})
    session = site.server.session(project.folder)

    def second() -> None:
        with apart(site) as own:
            other = Project(own, project.folder, session)
            other.prompt("secondwork", Step([edit("asked.py", "line_15 = 15\n", "line_15 = 15\nsecond = 2\n")]))

    thread = threading.Thread(target=second)

    def meanwhile() -> None:
        thread.start()
        with apart(site) as own:
            eventually(lambda: has_begun(own, Project(own, project.folder, session)), 20, "the second has begun")

    with permitting(project, meanwhile):
        project.prompt("firstofwork", Step([edit("asked.py", "line_5 = 5\n", "line_5 = 5\nfirst = 1\n")]))
    with permitting(Project(site, project.folder, session), lambda: None):
        thread.join()
    found = {(row["start_line"], row["end_line"], row["session_id"] == project.session) for row in project.ranges()}
    assert found == {(7, 7, True), (18, 18, False)}


def test_two_processes_in_one_folder_count_a_line_once(site: Site) -> None:
    """The snapshot of one holds what the other one's write made: the tool's own word decides."""
    project = begun(site, "processes", {"a.py": "hu1\n"})
    # Both have one index for their snapshots: where two steps end at once, OpenCode may fail to make one.
    wait = f"{WAITS}echo x > c.py"
    session = site.server.session(project.folder)

    def first() -> None:
        with apart(site) as own:
            Project(own, project.folder, session).prompt("slowsilent", Step([bash(wait)]))

    thread = threading.Thread(target=first)
    with site.oc.serve() as server, apart(site, server) as own:
        thread.start()
        eventually(lambda: has_begun(own, Project(own, project.folder, session)), 20, "the command has begun")
        Project(own, project.folder, "").prompt("otherwrite", Step([write("b.py", "b1\nb2\n")]))
        (project.folder / "ignored/go").touch()
        thread.join()
    found = lines(site, project.folder / "b.py")
    assert {(one["contributor"], one["tool"]) for one in found} == {("ai", "write")}
    assert counted(project)["total"]["written"] == 3


# -- the file's own repository ---------------------------------------------------------------------------------------


def test_a_file_is_filed_under_its_own_repository(site: Site) -> None:
    """An inner repository, a linked worktree inside and outside, a link to a folder, and a folder without git."""
    project = begun(site, "outer", {"o.py": "o\n"})
    inner = project.folder / "inner"
    inner.mkdir()
    (inner / "i.py").write_text("hu1\n")
    for command in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-qm", "Inner")):
        site.oc.git(inner, *command)
    outside = site.oc.folder / "outside"
    site.oc.git(project.folder, "worktree", "add", "-q", "-b", "wt", str(outside))
    site.oc.git(project.folder, "worktree", "add", "-q", "-b", "wt2", str(project.folder / "wt2"))
    link = site.oc.folder / "link"
    link.symlink_to(project.folder)
    plain = site.oc.folder / "plain_outside"
    plain.mkdir()
    with going_on(project, "tool.execute.before", 6):
        project.prompt(
            "outerwork",
            Step([edit("inner/i.py", "hu1\n", "hu1\nai1\n")]),
            Step([write(str(outside / "w.py"), "w\n"), write(str(project.folder / "wt2" / "w2.py"), "w2\n")]),
            Step([edit(str(link / "o.py"), "o\n", "o\nai\n"), write(str(plain / "p.py"), "p\n")]),
            Step([bash(f"{WAITS}echo ai2 >> inner/i.py; echo ai >> {plain / 'q.py'}")]),
        )
    assert (letters(project, "inner/i.py"), letters(project, "o.py")) == ("haa", "ha")
    found = {
        str(file): "".join(one["contributor"][0] for one in lines(site, file))
        for file in (outside / "w.py", project.folder / "wt2" / "w2.py", plain / "p.py", plain / "q.py")
    }
    assert set(found.values()) == {"a"}, found


# -- commands that the snapshots miss --------------------------------------------------------------------------------


def test_what_a_command_writes_outside_of_the_snapshots_is_never_a_persons(site: Site) -> None:
    """Beside the session's folder, though the file was read after the next edit of it only."""
    files = {"pkg/a/f.py": "hu\n", "pkg/b/g.py": "hu\n", "pkg/b/unnamed.py": "hu\n", "pkg/b/late.py": "hu\n"}
    script = "for one in ../b/unn*.py ../b/lat*.py; do echo ai >> $one; done\n"
    project = begun(site, "missed", files | {"pkg/a/run.sh": script})
    sub = Project(site, project.folder / "pkg" / "a", "")
    (sub.folder / "ignored").mkdir()
    with going_on(sub, "tool.execute.before", 2):
        sub.prompt("missedwork", Step([bash(f"{WAITS}echo ai >> ../b/g.py"), bash("sh run.sh")]))
    sub.prompt("missededit", Step([edit(str(project.folder / "pkg/b/unnamed.py"), "hu\n", "hu\nai2\n")]))
    with stopped(site.oc.folder):
        late = Step([edit(str(project.folder / "pkg/b/late.py"), "hu\n", "hu\nai2\n")])
        site.model.script("missedlate", late)
        site.server.prompt(sub.folder, sub.session, "do missedlate")
    sub.prompt("missedend", Step(text="Hello."))
    found = {path: letters(project, f"pkg/b/{path}.py") for path in ("g", "unnamed", "late")}
    assert found == {"g": "ha", "unnamed": "hau", "late": "hau"}


def test_a_tracked_file_that_git_ignores_and_a_repository_without_a_commit(site: Site) -> None:
    """OpenCode's snapshots don't hold the one, and stand still because of the other."""
    files = {f"{name}.py": "hu\n" for name in ("t", "unnamed", "mine", "a", "b")}
    project = begun(site, "still", files | {"run.sh": "for one in unn*.py; do echo ai >> $one; done\n"})
    (project.folder / ".gitignore").write_text("t.py\nunnamed.py\nmine.py\n")
    site.oc.git(project.folder, "commit", "-qam", "Ignore")
    project.prompt("ignoredwork", Step([bash("echo ai >> t.py")]), *(Step([bash("sh run.sh")]) for _ in range(2)))
    append(project, "mine.py", "hu\n")
    assert (letters(project, "t.py"), letters(project, "unnamed.py"), letters(project, "mine.py")) == (
        "ha",
        "hau",
        "hh",
    )
    site.oc.git(project.folder, "init", "-q", "nested")
    project.prompt("stillwork", Step([bash("echo ai >> a.py; echo i > nested/i.py; cat a.py >> b.py")]))
    assert letters(project, "a.py") == "ha"


def test_an_aborted_turn_and_a_command_in_the_background(site: Site) -> None:
    """The first has no end but a list of files; of the second nobody can tell who writes later."""
    project = begun(site, "abort", {"a.py": "hu\n", "b.py": "hu\n"})
    project.prompt("hellowork", Step(text="Hello."))
    site.model.script("abortwork", Step([bash("sh -c 'echo ai >> a.py'; echo n > n.py; sleep 30")]))
    with beside(lambda: site.server.prompt(project.folder, project.session, "do abortwork")):
        eventually((project.folder / "n.py").exists, 20, "the command is at work")
        site.server.request("POST", f"/session/{project.session}/abort", project.folder, {})
    project.prompt(
        "backwork",
        Step(
            [
                bash(
                    "(until test -e ignored/go; do sleep 0.1; done; echo late >> b.py; touch ignored/gone) "
                    ">/dev/null 2>&1 &"
                )
            ]
        ),
    )
    (project.folder / "ignored" / "go").touch()
    eventually((project.folder / "ignored" / "gone").exists, 20, "the command in the background has written")
    assert (letters(project, "a.py"), letters(project, "n.py"), letters(project, "b.py")) == ("ha", "a", "hu")
    assert lines(site, project.folder / "b.py")[1]["reason"]


# -- a repository by another name ------------------------------------------------------------------------------------


def test_a_shallow_clone_and_a_clone_of_a_repository_born_later_know_everything(site: Site) -> None:
    """What CI makes, and what was recorded before the first commit."""
    project = begun(site, "origin", {"a.py": "hu\n"})
    project.prompt("originwork", Step([write("n.py", "n1\nn2\n"), edit("a.py", "hu\n", "hu\nai\n")]))
    site.oc.git(project.folder, "add", "-A")
    site.oc.git(project.folder, "commit", "-qm", "AI")
    site.oc.git(project.folder, "commit", "-q", "--allow-empty", "-m", "More")
    shallow = site.oc.folder / "shallow"
    site.oc.git(site.oc.folder, "clone", "-q", "--depth", "1", f"file://{project.folder}", str(shallow))
    clone = Project(site, shallow, "")
    assert (letters(clone, "n.py"), letters(clone, "a.py")) == ("aa", "ha")
    assert counted(clone)["total"]["living"] == 3

    unborn = site.oc.project("unborn", {"x.py": "hu\n"}, commit=False)
    site.oc.add_plugin(unborn, SHIM)
    site.oc.git(unborn, "init", "-q", "-b", "main")
    early = Project(site, unborn, "")
    early.prompt("unbornwork", Step([write("n.py", "n1\nn2\n")]))
    site.oc.git(unborn, "add", "-A")
    site.oc.git(unborn, "commit", "-qm", "First")
    early.prompt("bornwork", Step([write("m.py", "m1\n")]))
    site.oc.git(unborn, "add", "-A")
    site.oc.git(unborn, "commit", "-qm", "Second")
    site.oc.git(site.oc.folder, "clone", "-q", str(unborn), str(site.oc.folder / "born"))
    born = Project(site, site.oc.folder / "born", "")
    assert (letters(born, "n.py"), letters(born, "m.py"), letters(early, "n.py")) == ("aa", "a", "aa")


def amended(site: Site, project: Project) -> None:
    """Make all commits of a repository one new one."""
    first = site.oc.git(project.folder, "rev-list", "--max-parents=0", "HEAD").strip()
    site.oc.git(project.folder, "add", "-A")
    site.oc.git(project.folder, "reset", "-q", "--soft", first)
    site.oc.git(project.folder, "commit", "-q", "--amend", "-m", "Amended")


def cloned(site: Site, project: Project, name: str) -> Project:
    """A clone of a bare clone, which has no reflog."""
    bare = site.oc.folder / f"{name}_bare.git"
    site.oc.git(site.oc.folder, "clone", "-q", "--bare", str(project.folder), str(bare))
    site.oc.git(site.oc.folder, "clone", "-q", f"file://{bare}", name)
    return Project(site, site.oc.folder / name, "")


def test_a_clone_with_another_first_commit_is_known_by_its_remote(site: Site) -> None:
    """The repository was amended since it was recorded; also when the clone has records of its own."""
    project = begun(site, "amended", {"a.py": "hu\n"})
    site.oc.git(project.folder, "remote", "add", "origin", f"file://{site.oc.folder}/remote_bare.git")
    project.prompt("amendedwork", Step([write("n.py", "n1\nn2\n"), edit("a.py", "hu\n", "hu\nai\n")]))
    amended(site, project)
    clone = cloned(site, project, "remote")
    assert (letters(clone, "n.py"), letters(clone, "a.py")) == ("aa", "ha")
    assert "2 ai" in asked(site, "stats", "n.py", cwd=clone.folder)
    clone.prompt("clonedwork", Step([write("m.py", "m1\n")]))
    assert (letters(clone, "n.py"), letters(clone, "a.py"), letters(clone, "m.py")) == ("aa", "ha", "a")


def test_of_a_clone_with_another_first_commit_and_remote_the_way_out_is_named(site: Site) -> None:
    """Nothing shows that it is the same repository; who knows it gives the clone its former id."""
    project = begun(site, "rewritten", {"a.py": "hu\n"})
    project.prompt("rewrittenwork", Step([write("n.py", "n1\nn2\n"), edit("a.py", "hu\n", "hu\nai\n")]))
    amended(site, project)
    clone = cloned(site, project, "stray copy")
    for words in (("stats",), ("blame", "n.py")):
        done = ran(site, *words, cwd=clone.folder, code=1).stderr.decode()
        assert f"nothing is recorded of {'this repository' if words[0] == 'blame' else clone.folder}" in done
    assert f"n.py is recorded in {project.folder}. If that is the same repository" in done
    subprocess.run(["sh", "-c", done.rpartition("too: ")[2]], check=True)
    assert (letters(clone, "n.py"), letters(clone, "a.py")) == ("aa", "ha")
    assert "2 ai" in asked(site, "stats", "n.py", cwd=clone.folder)


# -- long lines, byte order marks, busy machines ---------------------------------------------------------------------


def test_a_long_line_and_a_byte_order_mark(site: Site) -> None:
    """A person replaces the last of eighty calls; an editor takes the mark away."""
    calls = "; ".join(f"call_{at}(argument_{at})" for at in range(80))
    huge = ";".join(f"f{at}(x{at})" for at in range(3000))
    project = begun(site, "long", {"o.py": "o\n"})
    project.prompt(
        "longwork",
        Step(
            [
                write("l.py", calls + "\nsecond = 2\n"),
                write("m.js", huge + "\n"),
                write("b.py", "\ufefffirst = 1\nsecond = 2\n"),
            ]
        ),
    )
    (project.folder / "l.py").write_text(calls.replace("call_79(argument_79)", "mine(other)") + "\nsecond = 2\n")
    (project.folder / "m.js").write_text(huge.replace("f1500(x1500)", "mine(other)") + "\n")
    (project.folder / "b.py").write_text("first = 1\nsecond = 2\n")
    assert (letters(project, "l.py"), letters(project, "m.js"), letters(project, "b.py")) == ("ma", "m", "aa")


def test_a_large_file_edited_beside_others_is_known(site: Site) -> None:
    """Nine calls at once, one of them on 25,000 lines."""
    text = "".join(f"value_{at} = {at}\n" for at in range(25_000))
    project = begun(site, "busy", {"big.py": text})
    calls = [write(f"w{at}.py", f"w{at} = 1\n") for at in range(8)]
    project.prompt("busywork", Step([*calls, edit("big.py", "value_20000 = 20000\n", "value_20000 = 0\n")]))
    found = lines(site, project.folder / "big.py")
    assert {one["line"] for one in found if one["contributor"] == "ai"} == {20_001}
    assert {one["contributor"] for one in found} == {"ai", "human"}
