"""Where people and the AI meet, with a real OpenCode 2: the situations of `test_attribution_kinds.py` in one run."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_model import Call, FakeModel, Step, fake_model
from tests.support.opencode2 import OpenCode2, Service, opencode2
from tests.support.recorder import Recorder
from tests.support.waiting import eventually

pytestmark = pytest.mark.needs("OpenCode 2")

CODE = "def f(x):\n    if x:\n        return compute(x)\n    return other(x)\n"
VALUES = "".join(f"value_{at} = compute({at}) + offset\n" for at in range(8))
FILES = {
    "asked.py": "hu1\n",
    "crlf.py": CODE.replace("\n", "\r\n"),
    "tabs.py": CODE,
    "nest.py": CODE,
    "old.py": VALUES,
    "source.py": VALUES.replace("value", "other"),
    "two.py": "".join(f"line_{at} = {at}\n" for at in range(20)),
    ".gitignore": "inner/\n",
}
NEST = ("    if x:\n        return compute(x)\n", "    while ready():\n        if x:\n            return compute(x)\n")


def shell(command: str) -> Call:
    """A call of shell."""
    return Call("shell", {"command": command, "description": "do it"})


def edit(path: str, old: str, new: str) -> Call:
    """A call of edit."""
    return Call("edit", {"path": path, "oldString": old, "newString": new})


@pytest.fixture
def model() -> Iterator[FakeModel]:
    """A scripted model."""
    with fake_model() as served:
        served.script("askingwork", Step([shell("true asked; echo ai > granted.py")]))
        served.script(
            "blankswork",
            Step([shell("sed -i 's/\\r$//' crlf.py; sed -i 's/    /\\t/g' tabs.py")]),
            Step([edit("nest.py", *NEST)]),
        )
        served.script(
            "broughtwork",
            Step([shell("git show HEAD~1:old.py > old.py; cp source.py copied.py")]),
            Step([shell("cp source.py extended.py; echo 'extra = extended(1, 2)' >> extended.py")]),
        )
        served.script(
            "innerwork",
            Step([edit("inner/i.py", "hu1\n", "hu1\nai1\n")]),
            Step([shell("echo ai2 >> inner/i.py")]),
        )
        served.script("firstofwork", Step([edit("two.py", "line_5 = 5\n", "line_5 = 5\nfirst = 1\n")]))
        served.script("secondwork", Step([edit("two.py", "line_15 = 15\n", "line_15 = 15\nsecond = 2\n")]))
        yield served


@pytest.fixture
def oc(model: FakeModel) -> Iterator[OpenCode2]:
    """An OpenCode 2 that asks before commands that say so."""
    with opencode2(model) as installed:
        installed.config["permissions"] = [
            {"action": "*", "resource": "*", "effect": "allow"},
            {"action": "shell", "resource": "true asked*", "effect": "ask"},
        ]
        yield installed


@pytest.fixture
def recorder(oc: OpenCode2, migrated_url: str) -> Recorder:
    """The same, when it records."""
    return Recorder(oc, migrated_url)


def letters(recorder: Recorder, file: Path) -> str:
    """What `blame` says of each line: a(i), h(uman), m(ixed), u(nknown)."""
    command = [sys.executable, "-P", "-m", "agent_trace_sidecar", "blame", str(file), "--json"]
    env = os.environ | {"AGENT_TRACE_DATABASE_URL": recorder.url}
    done = subprocess.run(command, cwd=file.parent, env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return "".join(one["contributor"][0] for one in json.loads(done.stdout))


def permitted(service: Service, session: str, file: Path) -> None:
    """A person types into a file while a permission is asked, and then gives it."""
    place = f"/api/session/{session}/permission"
    (asked,) = eventually(lambda: service.api("GET", place)["data"], 15, "a permission is asked")
    with file.open("a") as opened:
        opened.write("hu2\n")
    service.api("POST", f"{place}/{asked['id']}/reply", {"decision": "once"})


def test_people_and_the_ai_meet_in_one_run(oc: OpenCode2, recorder: Recorder) -> None:
    """Permissions, white space, what commands bring, a nested repository, two sessions on one file."""
    project = recorder.project("shop", FILES)
    with (project / "old.py").open("a") as file:
        file.write("second_version = True\n")
    oc.git(project, "commit", "-qam", "Second")
    inner = project / "inner"
    inner.mkdir()
    (inner / "i.py").write_text("hu1\n")
    for command in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-qm", "Inner")):
        oc.git(inner, *command)
    with oc.service(project) as service:
        first, second = service.session(), service.session()
        person = threading.Thread(target=permitted, args=(service, first, project / "asked.py"))
        person.start()
        service.prompt(first, "do the askingwork")
        person.join()
        for marker in ("blankswork", "broughtwork", "innerwork"):
            service.prompt(first, f"do the {marker}")
        other = threading.Thread(target=service.prompt, args=(second, "do the secondwork"))
        other.start()
        service.prompt(first, "do the firstofwork")
        other.join()
        service.stop()
    recorder.wait_for("bye")

    recorder.assert_complete()
    found = {path.name: letters(recorder, path) for path in (*project.glob("*.py"), inner / "i.py")}
    two, nested = found.pop("two.py"), found.pop("i.py")
    assert found == {
        "asked.py": "hh",
        "granted.py": "a",
        "crlf.py": "hhhh",
        "tabs.py": "hhhh",
        "nest.py": "hahhh",
        "old.py": "h" * 8,
        "source.py": "h" * 8,
        "copied.py": "h" * 8,
        "extended.py": "h" * 8 + "a",
    }
    assert nested in {"haa", "hau"}  # unknown where the hook came after the command had written
    assert (two.count("a"), len(two)) == (2, 22)
    rows = recorder.rows(
        "SELECT session_id, end_line - start_line AS more FROM agent_trace_ranges WHERE path = 'two.py'"
    )
    assert {(row["session_id"], row["more"]) for row in rows} == {(first, 0), (second, 0)}
