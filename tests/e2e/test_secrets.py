"""No secret of a real OpenCode session is left anywhere: tables, spools, health files, logs, the database's own files.

Each channel through which an agent meets secrets carries one of each kind, all different: a value that was seen in
one channel would be masked in the next one because it is known, and not because it was found there. Beside them stands
a word that is no secret, to show that the channel was recorded at all.
"""

import base64
import os
import random
import shlex
import signal
import string
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent_trace_sidecar.postgres.embedded import EmbeddedPostgres
from agent_trace_sidecar.records.content import content_hash
from agent_trace_sidecar.records.fingerprints import line_hash
from tests.support.fake_model import Call, FakeModel, Step, fake_model
from tests.support.opencode import SHIM, Finished, OpenCode, opencode
from tests.support.postgres import OwnServer, PostgresServers, fetch, is_running
from tests.support.sidecar import folder_contents
from tests.support.waiting import eventually, exit_code

_LETTERS = string.ascii_letters + string.digits
_HEX = "0123456789abcdef"
_KINDS = {
    "github": ("push with ghp_{}", _LETTERS, 36),
    "aws": ("aws_secret_access_key = {}", _LETTERS + "/+", 40),
    "anthropic": ("sk-ant-api03-{}AA", _LETTERS, 40),
    "url": ("postgres://app:{}@db.example.org/shop", _LETTERS, 14),
    "env": ("export DB_PASSWORD={}", _LETTERS + "%_", 12),
    "yaml": ("  password: {}", _LETTERS, 11),
    "code": ('client = Client(api_key="{}")', _HEX, 32),
    "json": ('{{"client_secret": "{}", "n": 1}}', _LETTERS, 24),
    "bearer": ("curl -H 'Authorization: Bearer {}' https://api.example.org", _LETTERS, 40),
    "cookie": ("Set-Cookie: session={}; Path=/", _LETTERS, 32),
    "hash": ("bob:$6$saltsalt${}:18000:0:99999:7:::", _LETTERS, 60),
    "flag": ("mysql -uroot -p{} shop", _LETTERS, 10),
    "pem": ("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----", _LETTERS, 64),
    "xml": ("<password>{}</password>", _LETTERS, 10),
}
_EVERYTHING = """
SELECT c.oid::regclass::text AS name FROM pg_class c
WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace ORDER BY 1
"""


@dataclass
class Channel:
    """A way into the recording: its text, the secrets in it, and a word that is none."""

    name: str
    text: str
    secrets: list[str]
    word: str


@dataclass
class Channels:
    """All that a session was fed with."""

    rng: random.Random = field(default_factory=lambda: random.Random(4711))  # noqa: S311 - made-up secrets
    all: list[Channel] = field(default_factory=list)

    def draw(self, alphabet: str, length: int) -> str:
        """A value with a digit, a capital and a small letter where the alphabet has them."""
        while True:
            value = "".join(self.rng.choices(alphabet, k=length))
            if any(c.isdigit() for c in value) and any(c.islower() for c in value):
                return value

    def add(self, name: str, *, encoded: bool = False) -> str:
        """The text of a new channel: one secret of each kind, a line or more for each."""
        secrets = {kind: self.draw(alphabet, length) for kind, (_, alphabet, length) in _KINDS.items()}
        word = f"harmless{name}word"
        text = "\n".join([word, *(_KINDS[kind][0].format(secret) for kind, secret in secrets.items())]) + "\n"
        if encoded:
            hidden = self.draw(_LETTERS, 12)
            text += base64.b64encode(f"password={hidden}".encode()).decode() + "\n"
        self.all.append(Channel(name, text, list(secrets.values()), word))
        return text

    def secrets(self) -> list[str]:
        """Every secret of every channel."""
        return [secret for channel in self.all for secret in channel.secrets]

    def lines(self) -> list[str]:
        """Every line that holds one."""
        return [line for c in self.all for line in c.text.splitlines() if any(s in line for s in c.secrets)]


@dataclass
class Recorder:
    """An OpenCode with the real sidecar, whose error output and process id are kept."""

    oc: OpenCode
    channels: Channels
    project: Path

    @property
    def state(self) -> Path:
        """The sidecar's folder."""
        return Path(self.oc.env["AGENT_TRACE_STATE_DIR"])

    @property
    def stderr(self) -> Path:
        """All that sidecars have said."""
        return self.oc.folder / "sidecar.log"

    def run(self, prompt: str, *args: str) -> Finished:
        """Do a prompt to its end."""
        done = self.oc.run(self.project, prompt, *args, deadline_s=120)
        assert done.code == 0, done.stderr
        return done

    def sidecar_pid(self) -> int:
        """The sidecar that was started last."""
        pids = self.oc.folder / "pids"
        text = eventually(lambda: pids.read_text() if pids.exists() else "", 20, "a sidecar has started")
        return int(text.split()[-1])

    def files(self) -> bytes:
        """All that is on disk now: state folder and error output."""
        self.stderr.touch()
        return b"\n".join([*folder_contents(self.state).values(), self.stderr.read_bytes()])

    def deliver(self) -> None:
        """What a later sidecar does with what dead ones left, when the last one has ended."""
        eventually(lambda: not is_running(self.sidecar_pid()), 60, "the sidecar has ended")
        done = subprocess.run(
            [sys.executable, "-m", "agent_trace_sidecar", "run"],
            env=self.oc.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
        )
        with self.stderr.open("ab") as log:
            log.write(done.stdout + done.stderr)


@pytest.fixture
def model() -> Iterator[FakeModel]:
    """A scripted model."""
    with fake_model() as served:
        yield served


@pytest.fixture
def recorder(model: FakeModel) -> Iterator[Recorder]:
    """An OpenCode that records with today's rules."""
    with opencode(model) as oc:
        run = (
            f"echo $$ >> {oc.folder}/pids; exec {sys.executable} -m agent_trace_sidecar run 2>> {oc.folder}/sidecar.log"
        )
        oc.env["AGENT_TRACE_SIDECAR"] = f"sh -c {shlex.quote(run)}"
        oc.env["AGENT_TRACE_STATE_DIR"] = str(oc.folder / "state")
        oc.config["permission"] = {"*": "allow"}
        channels = Channels()
        files = {
            ".env": channels.add("env"),
            "notes.md": channels.add("read", encoded=True),
            "config.txt": channels.add("output"),
            "broken.sh": f"cat errors.txt >&2; sh -c 'cat errors.txt; exit 3'{chr(10)}",
            "errors.txt": channels.add("error"),
            "src/app.py": channels.add("edited") + "timeout = 1\n",
        }
        project = oc.project("shop", files)
        oc.add_plugin(project, SHIM)
        yield Recorder(oc, channels, project)


def script(recorder: Recorder, model: FakeModel) -> str:
    """Script a session that meets secrets in every way; returns the prompt."""
    channels, project = recorder.channels, recorder.project
    recorder.oc.git(
        project, "remote", "add", "origin", f"https://bob:{channels.draw(_LETTERS, 20)}@git.example.org/r.git"
    )
    token = "ghp_" + channels.draw(_LETTERS, 36)
    channels.all.append(Channel("path", token, [token], ""))
    model.title = channels.add("title")
    password = channels.draw(_LETTERS, 12)
    channels.all.append(Channel("url", "", [password], "harmlessurlword"))
    url = f"http://bob:{password}@127.0.0.1:1/harmlessurlword"
    below = "subwork " + channels.add("sub")
    todo = {"content": channels.add("todo"), "status": "pending", "priority": "low"}
    made = f"cat > made.cfg <<'EOF'\n{channels.add('heredoc')}EOF\n"
    model.script(
        "secretwork",
        Step(
            [
                Call("bash", {"command": "cat config.txt", "description": channels.add("description")}),
                Call("read", {"filePath": ".env"}),
                Call("read", {"filePath": "notes.md"}),
                Call("bash", {"command": "sh broken.sh", "description": "fail"}),
                Call("webfetch", {"url": url, "format": "text"}),
                Call("write", {"filePath": ".env.local", "content": channels.add("written")}),
                Call("write", {"filePath": "deploy.sh", "content": channels.add("script", encoded=True)}),
            ]
        ),
        Step(
            [
                Call("grep", {"pattern": "DB_PASSWORD", "path": "."}),
                Call("write", {"filePath": f"{token}.txt", "content": "named\n"}),
                Call("bash", {"command": made, "description": "make"}),
                Call("edit", {"filePath": "src/app.py", "oldString": "timeout = 1", "newString": channels.add("new")}),
                Call("edit", {"filePath": "src/app.py", "oldString": channels.add("missing"), "newString": "x"}),
                Call("todowrite", {"todos": [todo]}),
                Call("task", {"description": "sub", "prompt": below, "subagent_type": "general"}),
            ]
        ),
        Step(text=channels.add("answer")),
    )
    model.script("subwork", Step([Call("bash", {"command": "true", "description": channels.add("below")})]))
    return "secretwork\n" + channels.add("prompt")


def dumped(url: str) -> str:
    """Every row of every table as text; bytes as they read and as hex."""
    text = []
    for table in fetch(url, _EVERYTHING):
        text += [row["t"] for row in fetch(url, f"SELECT t::text AS t FROM {table['name']} t")]
    text += [row["t"] for row in fetch(url, "SELECT encode(line, 'escape') AS t FROM agent_trace_dead_letters")]
    return "\n".join(text)


def assert_no_secret(channels: Channels, found: str | bytes) -> None:
    """Neither whole, nor half of it, nor as hex, nor as the hash of its line."""
    data = found if isinstance(found, bytes) else found.encode()
    left = []
    for channel in channels.all:
        for secret in channel.secrets:
            half = secret[: max(8, len(secret) // 2)].encode()
            left += [(channel.name, secret) for form in (half, half.hex().encode()) if form in data]
    assert left == []
    for line in channels.lines():
        assert line_hash(line.encode()).hex().encode() not in data
        assert content_hash([line.encode()]).encode() not in data


def stored_words(channels: Channels, found: str) -> set[str]:
    """The channels that arrived."""
    return {channel.name for channel in channels.all if channel.word and channel.word in found}


def test_no_secret_of_a_session_is_stored_anywhere(
    recorder: Recorder, model: FakeModel, postgres_servers: PostgresServers
) -> None:
    """Prompt, arguments, outputs, files read and written, errors, subagent, title, names of files."""
    recorder.oc.env["AGENT_TRACE_STATE_DIR"] = str(postgres_servers.state_dir())
    recorder.run(script(recorder, model))
    recorder.deliver()
    with EmbeddedPostgres(recorder.state) as server:
        found = dumped(server.url)
    assert_no_secret(recorder.channels, found)
    assert_no_secret(recorder.channels, recorder.files())
    unseen = {c.name for c in recorder.channels.all if c.word} - stored_words(recorder.channels, found)
    # The first two are files of secrets, of which the names alone are kept; of the third only some lines were shown.
    assert unseen <= {"env", "written", "edited"}
    assert "DB_PASSWORD=[REDACTED:" in found


def test_no_secret_waits_on_disk_while_the_database_is_down_and_the_sidecar_is_killed(
    recorder: Recorder, model: FakeModel, own_server: OwnServer
) -> None:
    """Nor is one stored when another sidecar delivers what was spooled, with no memory of what was shown before."""
    recorder.oc.env["AGENT_TRACE_DATABASE_URL"] = own_server.url
    prompt = script(recorder, model)
    wait = "touch waiting; while [ ! -e go ]; do sleep 0.05; done"
    steps = list(model.scripts["secretwork"])
    pause = Step([Call("bash", {"command": wait, "description": "wait"})])
    model.script("secretwork", steps[0], pause, *steps[1:])
    own_server.stop()
    with recorder.oc.start(recorder.project, prompt) as process:
        eventually((recorder.project / "waiting").exists, 30, "half of the session is over")
        killed = recorder.sidecar_pid()
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: recorder.sidecar_pid() != killed, 20, "the shim has started another sidecar")
        assert_no_secret(recorder.channels, recorder.files())
        (recorder.project / "go").touch()
        exit_code(process, 120)
    eventually(lambda: b"harmlessanswerword" in recorder.files(), 20, "the whole session is spooled")
    assert_no_secret(recorder.channels, recorder.files())
    own_server.start()
    recorder.deliver()
    found = dumped(own_server.url)
    assert_no_secret(recorder.channels, found)
    assert_no_secret(recorder.channels, recorder.files())
    assert {"prompt", "output", "answer"} <= stored_words(recorder.channels, found)


def test_metadata_capture_stores_no_contents(recorder: Recorder, model: FakeModel, migrated_url: str) -> None:
    """Not even the words that are no secrets; the names of tools and files are all there is."""
    recorder.oc.env |= {"AGENT_TRACE_DATABASE_URL": migrated_url, "AGENT_TRACE_CAPTURE": "metadata"}
    recorder.run(script(recorder, model))
    recorder.deliver()
    found = dumped(migrated_url)
    assert_no_secret(recorder.channels, found)
    assert stored_words(recorder.channels, found + recorder.files().decode(errors="replace")) == set()
    assert "todowrite" in found
    assert "src/app.py" in found


@pytest.mark.parametrize("line", [b"not JSON: %s", b'{"v":1,"hook":"event","input":{"x":"%s"}', b'{"v":9,"x":"%s"}'])
def test_dead_letters_hold_no_secret(line: bytes, migrated_url: str, tmp_path: Path) -> None:
    """Whatever is wrong with a line, it goes through the redactor first."""
    channels = Channels()
    text = channels.add("dead").encode().replace(b'"', b"'").replace(b"\n", b" ; ")
    env: dict[str, Any] = {"AGENT_TRACE_DATABASE_URL": migrated_url, "AGENT_TRACE_STATE_DIR": str(tmp_path / "state")}
    done = subprocess.run(
        [sys.executable, "-m", "agent_trace_sidecar", "run"],
        env={**os.environ, **env},
        input=line % text + b"\n",
        capture_output=True,
        check=True,
    )
    found = dumped(migrated_url)
    assert "harmlessdeadword" in found
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert_no_secret(channels, b"\n".join([found.encode(), done.stdout, done.stderr, *files]))
