r"""A real, offline OpenCode for tests: installed once by npm, run in a home and a project of its own.

    with fake_model() as model, opencode(model) as oc:
        project = oc.project("shop", {"a.txt": "one\n"})           # a git repository with a commit
        oc.add_plugin(project, SHIM)                                # or run `agent-trace-sidecar init` in it
        oc.env["AGENT_TRACE_SIDECAR"] = "..."                       # for everything started from now on
        model.script("buy milk", Step([Call("write", {...})]))      # see fake_model.py
        done = oc.run(project, "buy milk")                          # done.code, done.stdout, done.stderr
        with oc.start(project, "buy milk") as process: ...          # to be killed in the middle
        with oc.tui(project) as tui: tui.type("buy milk\r"); ...    # in a pseudo-terminal
        with oc.serve() as server: server.prompt(project, server.session(project), "buy milk")

Models are called `fake/m1`, `openai/gpt-5-x` (which gets apply_patch instead of edit and write) and
`anthropic/claude-x`; all are the one fake model. Whatever is still running when `opencode(...)` ends is killed then.
"""

import fcntl
import json
import os
import platform
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from tests.support.fake_model import FakeModel
from tests.support.postgres import guarded_folder
from tests.support.waiting import eventually, output, patient

VERSION = "1.18.33"
ROOT = Path(__file__).resolve().parents[2]
SHIM = ROOT / "opencode-shim" / "index.js"

_TOOLS = ROOT / ".tools" / "opencode"
_OFFLINE = {
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
    "npm_config_offline": "true",
    "NO_PROXY": "127.0.0.1,localhost",
    "AGENT_TRACE_PG_LINGER_S": "0",  # nothing outlives a test
    "BUN_JSC_useFTLJIT": "0",  # the last of its compilers is for programs that run for minutes: a tenth of a run
}
_ESCAPES = re.compile(r"\x1b\][^\x07\x1b]*(\x07|\x1b\\)|\x1b[P_^][^\x1b]*\x1b\\|\x1b\[[0-?]*[ -/]*[@-~]|\x1b.")
_MODELS = {"fake": "m1", "openai": "gpt-5-x", "anthropic": "claude-x"}


def installed() -> Path:
    """Return OpenCode's binary, installed by npm at first use."""
    system = {"Linux": "linux", "Darwin": "darwin"}[platform.system()]
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}[platform.machine().lower()]
    # The platform's package is an optional dependency: no install script is needed to get its binary.
    modules = npm_install(_TOOLS, "opencode-ai", VERSION)
    return modules / f"opencode-{system}-{machine}" / "bin" / "opencode"


def npm_install(folder: Path, package: str, version: str) -> Path:
    """Install exactly this version into a folder and return its `node_modules`; several test runs may do so at once."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        manifest = folder / "node_modules" / package / "package.json"
        if not manifest.exists() or json.loads(manifest.read_text())["version"] != version:
            command = ["npm", "install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", "."]
            command += ["--fetch-retries", "5"]
            done = subprocess.run(
                [*command, f"{package}@{version}"], cwd=folder, check=False, capture_output=True, text=True
            )
            assert done.returncode == 0, f"npm could not install {package} {version}:\n{done.stderr[-3000:]}"
    return folder / "node_modules"


@contextmanager
def opencode(model: FakeModel, user: tuple[int, int] | None = None) -> Iterator["OpenCode"]:
    """Give an OpenCode with a home of its own, which talks to `model`; nothing of it is left after the block.

    With `user` (a user's and a group's number) `start` and `run` run it as that user, to whom all in its folder belongs
    then; that takes root.
    """
    binary = installed()
    with guarded_folder() as folder:
        if user is not None:
            folder.chmod(0o755)
            binary = Path(shutil.copy(binary, folder / "opencode"))  # where it is installed he may not be let in
        yield OpenCode(binary=binary, folder=folder, model=model, user=user)


@dataclass(frozen=True)
class Finished:
    """How a run of OpenCode ended."""

    code: int
    stdout: str
    stderr: str
    seconds: float


@dataclass
class OpenCode:
    """One user's OpenCode. `env` is added to the environment of each start, and `config` to its configuration."""

    binary: Path
    folder: Path
    model: FakeModel
    user: tuple[int, int] | None = None
    env: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    run_arguments: ClassVar[Sequence[str]] = ("run",)

    def project(self, name: str, files: Mapping[str, str | bytes], commit: bool = True) -> Path:
        """Make a git repository with these files committed an hour ago; without `commit` a plain folder.

        Git counts whole seconds: of what is committed within the second of a call, nobody knows whether it was before.
        """
        project = self.folder / name
        project.mkdir()
        for path, content in files.items():
            (project / path).parent.mkdir(parents=True, exist_ok=True)
            (project / path).write_bytes(content.encode() if isinstance(content, str) else content)
        if commit:
            self.git(project, "init", "-q", "-b", "main")
            self.git(project, "add", "-A")
            date = {"GIT_COMMITTER_DATE": f"@{int(time.time()) - 3600} +0000"}
            self.git(project, "commit", "-q", "--allow-empty", "-m", "Start", env=date)
        return project

    def git(self, project: Path, *args: str, env: Mapping[str, str] = MappingProxyType({})) -> str:
        """Run git there, as a made-up user, with more in its environment, and return what it prints."""
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.invalid"]
        command = ["git", "-C", str(project), *identity, *args]
        own = {**self.environment(), **env}
        return subprocess.run(command, check=True, capture_output=True, text=True, env=own).stdout

    def add_plugin(self, project: Path, source: Path, name: str = "plugin.js") -> None:
        """Copy a plugin to where OpenCode finds it by itself."""
        target = project / ".opencode" / "plugins" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)

    def add_package(self, folder: Path) -> None:
        """Mark OpenCode's own package as installed in a configuration folder and the user's.

        With a plugin in `opencode.json` it waits for that package, without a network for over a minute.
        """
        lock = {"packages": {"": {"dependencies": {"@opencode-ai/plugin": VERSION}}}}
        for one in (folder, self.folder / "home" / "config" / "opencode"):
            (one / "node_modules").mkdir(parents=True)
            (one / "package-lock.json").write_text(json.dumps(lock))

    def add_command(self, project: Path, name: str, template: str) -> None:
        """Define a slash command."""
        target = project / ".opencode" / "command" / f"{name}.md"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"---\ndescription: {name}\n---\n{template}\n")

    def environment(self, cwd: Path | None = None) -> dict[str, str]:
        """Return the environment of a start in `cwd`; PWD is part of it, as OpenCode trusts it over the real one."""
        home = self.folder / "home"
        xdg = {f"XDG_{name}_HOME": str(home / name.lower()) for name in ("CONFIG", "DATA", "STATE", "CACHE")}
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        pwd = {"PWD": str(cwd)} if cwd else {}
        own = {"HOME": str(home), "TERM": "xterm-256color", "OPENCODE_MODELS_PATH": str(home / "models.json")}
        quiet_git = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
        return kept | own | xdg | _OFFLINE | quiet_git | pwd | self.env

    def command(self, *args: str) -> list[str]:
        """Write the configuration, and return the command line.

        The list of the world's models, which OpenCode reads for each project, is empty: ours are in the configuration,
        and a run of OpenCode 1 takes a third less.
        """
        providers = {
            name: {
                "npm": "@ai-sdk/openai-compatible",
                "options": {"baseURL": self.model.base_url, "apiKey": "x"},
                "models": {model: {"tool_call": True, "limit": {"context": 100_000, "output": 4000}}},
            }
            for name, model in _MODELS.items()
        }
        config: dict[str, Any] = {
            "model": "fake/m1",
            "small_model": "fake/m1",
            "share": "disabled",
            "autoupdate": False,
            "permission": {"edit": "allow", "bash": "allow"},
            "provider": providers,
        }
        target = self.folder / "home" / "config" / "opencode" / "opencode.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(config | self.config))
        (self.folder / "home" / "models.json").write_text("{}")
        return [str(self.binary), *args]

    def run(self, project: Path, prompt: str, *args: str, deadline_s: float = 60) -> Finished:
        """Do one prompt to its end, as `opencode run ARGS PROMPT`, e.g. with "--model", "openai/gpt-5-x"."""
        began = time.monotonic()
        with self.start(project, prompt, *args) as process:
            stdout, stderr = output(process, deadline_s)
        return Finished(process.returncode, stdout, stderr, time.monotonic() - began)

    @contextmanager
    def start(self, project: Path, prompt: str, *args: str) -> "Iterator[subprocess.Popen[str]]":
        """Start `opencode run` in a process group of its own, to be signalled; the group is killed at the end."""
        command = self.command(*self.run_arguments, *args, prompt)
        process = subprocess.Popen(
            command,
            cwd=project,
            env=self.environment(project),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **self._as_user(),
        )
        with process, killed_after(process.pid):
            yield process

    def _as_user(self) -> dict[str, Any]:
        """Hand everything over to the user, and say to Popen who that is."""
        if self.user is None:
            return {}
        for path in (self.folder, *self.folder.rglob("*")):
            os.chown(path, *self.user, follow_symlinks=False)
        return {"user": self.user[0], "group": self.user[1], "extra_groups": []}

    @contextmanager
    def tui(self, project: Path, *args: str) -> Iterator["Tui"]:
        """Start the terminal interface in a pseudo-terminal of 120 columns and 40 lines."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        process = subprocess.Popen(
            self.command(*args),
            cwd=project,
            env=self.environment(project),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        tui = Tui(process, master)
        try:
            with process, killed_after(process.pid):
                yield tui
        finally:
            tui.close()

    @contextmanager
    def serve(self, cwd: Path | None = None) -> Iterator["Server"]:
        """Start `opencode serve` on a free port; the projects are named in its requests, so `cwd` hardly matters."""
        cwd = cwd or self.folder
        process = subprocess.Popen(
            self.command("serve", "--port", "0", "--hostname", "127.0.0.1"),
            cwd=cwd,
            env=self.environment(cwd),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        with process, killed_after(process.pid):
            server = Server(process)
            eventually(lambda: server.url, 30, "opencode serve says where it listens")
            yield server


def asked(method: str, url: str, body: object = None, headers: Mapping[str, str] = MappingProxyType({})) -> Any:  # noqa: ANN401 (JSON)
    """Make a request of an OpenCode, and return the answer decoded."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 (our own server)
    with urllib.request.urlopen(request, timeout=patient(60)) as response:  # noqa: S310
        text = response.read()
    return json.loads(text) if text.strip() else None


@contextmanager
def killed_after(pid: int) -> Iterator[None]:
    """Kill the process group of `pid` when the block ends, however it does."""
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


class Tui:
    """The terminal interface. A thread reads all the time, as a terminal does, and answers what the program asks."""

    def __init__(self, process: "subprocess.Popen[bytes]", master: int) -> None:
        """Take over a process and the master side of its terminal."""
        self.process = process
        self.raw = b""
        self._master = master
        self._closing = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def text(self) -> str:
        """Everything that was printed so far, without escape sequences."""
        text = self.raw.decode("utf-8", "replace")
        return re.sub(
            r"\x1b\][^\x07\x1b]*(\x07|\x1b\\)|\x1b[P_^][^\x1b]*\x1b\\|\x1b\[[0-?]*[ -/]*[@-~]|\x1b.", "", text
        )

    def type(self, text: str) -> None:
        r"""Press keys; `\r` is the return key."""
        os.write(self._master, text.encode())

    def close(self) -> None:
        """End the reading, after the program has ended."""
        self._closing.set()
        self._reader.join()
        os.close(self._master)

    def _read(self) -> None:
        while not self._closing.is_set():
            if not select.select([self._master], [], [], 0.05)[0]:
                continue
            try:
                chunk = os.read(self._master, 65536)
            except OSError:
                return  # EIO: the program has ended
            self.raw += chunk
            if b"\x1b[6n" in chunk:
                self.type("\x1b[1;1R")


class Server:
    """`opencode serve`, driven over its HTTP API."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        """Begin to read what the server prints, its address among it."""
        self.process = process
        self.printed = ""
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens, or "" as long as it has not said so."""
        found = re.search(r"listening on (http://\S+)", self.printed)
        return found.group(1) if found else ""

    def request(self, method: str, path: str, project: Path, body: object = None) -> Any:  # noqa: ANN401 (JSON)
        """Make a request for a project, and return the answer decoded."""
        return asked(method, f"{self.url}{path}?{urllib.parse.urlencode({'directory': str(project)})}", body)

    def session(self, project: Path) -> str:
        """Create a session, and return its id."""
        return str(self.request("POST", "/session", project, {})["id"])

    def prompt(self, project: Path, session: str, text: str, model: str = "fake/m1") -> Any:  # noqa: ANN401 (JSON)
        """Do one prompt to its end, and return the last message."""
        provider, _, name = model.partition("/")
        parts: Sequence[object] = [{"type": "text", "text": text}]
        body = {"model": {"providerID": provider, "modelID": name}, "parts": parts}
        return self.request("POST", f"/session/{session}/message", project, body)

    def dispose(self, project: Path) -> None:
        """Close a project, as OpenCode does when it ends in order."""
        self.request("POST", "/instance/dispose", project, {})

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.printed += line
