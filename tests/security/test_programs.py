"""Programs are ours and the user's, never the project's: where they are found, what they know, what git may run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent_trace_sidecar.commands.init import own_command
from agent_trace_sidecar.limits import processes
from agent_trace_sidecar.workspace.checkout import Checkout, CheckoutError, ManyFiles
from tests.support.sidecar import sidecar_env
from tests.support.waiting import patient

SECRET = {
    "AGENT_TRACE_DATABASE_URL": "postgresql://u:hunter2@h/d",
    "DATABASE_URL": "x:hunter2",
    "PGPASSWORD": "hunter2",
}


def script(path: Path, body: str) -> Path:
    """An executable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def git(folder: Path, *args: str) -> str:
    """Run git with nobody's configuration."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    settings = ["-c", "user.name=Test", "-c", "user.email=test@example.invalid", "-c", "protocol.file.allow=always"]
    done = subprocess.run(
        ["git", "-C", str(folder), *settings, *args], check=True, env=environment, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("path", [".", "", "bin", ".:bin", "{}/none::.", "./bin:"])
def test_a_relative_entry_of_path_never_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Not for any program, and an empty entry is one too: it means the working directory."""
    for name in ("git", "psql", "opencode", "bin/git"):
        script(tmp_path / name, "exit 0")
    monkeypatch.chdir(tmp_path)
    environ = {"PATH": path.replace("{}", str(tmp_path))}
    assert [processes.find(name, environ) for name in ("git", "psql", "opencode", "./git", "bin/git")] == [None] * 5
    assert processes.environment(environ=environ)["PATH"] in {"", f"{tmp_path}/none"}


def test_commands_run_no_program_of_the_project(tmp_path: Path) -> None:
    """`psql`, `doctor` and `blame`, started in a project with such programs by a user with `.` first on PATH."""
    for name in ("git", "psql", "opencode", "agent-trace-sidecar"):
        script(tmp_path / name, f"echo ran {name} >> {tmp_path}/ran")
    (tmp_path / ".git").mkdir()
    (tmp_path / "a.txt").write_text("one\n")
    env = {**sidecar_env(tmp_path / "state", "postgresql://nobody@127.0.0.1:1/none"), "PATH": f".:{os.environ['PATH']}"}
    for words in (["psql", "-c", "SELECT 1"], ["doctor"], ["blame", "a.txt"], ["stats"]):
        command = [sys.executable, "-I", "-m", "agent_trace_sidecar", *words]
        subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, check=False, timeout=patient(60))
    assert not (tmp_path / "ran").exists()


def test_a_program_is_told_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the database's URL nor a password; and it runs where it was told to, for as long as it may."""
    for name, value in SECRET.items():
        monkeypatch.setenv(name, value)
    program = script(tmp_path / "bin" / "tell", 'env; pwd; cat; echo "$1"')
    done = processes.run(
        [program, "argument"],
        cwd=tmp_path,
        env=processes.environment(),
        given=b"stdin\n",
        timeout_s=patient(20),
        max_bytes=10**6,
    )
    assert done.code == 0
    assert b"hunter2" not in done.output
    assert done.output.endswith(b"%b\nstdin\nargument\n" % os.fsencode(tmp_path))


@pytest.mark.parametrize(
    ("body", "why"),
    [("exec sleep 60", "took more than"), ("sleep 60 & exec yes", "printed more than"), (None, "did not start")],
)
def test_a_program_that_does_not_end_is_ended(tmp_path: Path, body: str | None, why: str) -> None:
    """With what it has started."""
    program = script(tmp_path / "program", body) if body else tmp_path / "missing"
    with pytest.raises(processes.ProcessError, match=why):
        processes.run([program], cwd=tmp_path, env=processes.environment(), timeout_s=0.5, max_bytes=1000)


def test_a_command_by_its_name_alone_is_a_mistake_of_ours(tmp_path: Path) -> None:
    """What was not looked up would be looked up in the working directory as well."""
    with pytest.raises(ValueError, match="not an absolute path"):
        processes.run(["git"], cwd=tmp_path, env={}, timeout_s=1, max_bytes=1)


@pytest.fixture(name="trap")
def _trap(tmp_path: Path) -> tuple[Path, str]:
    """A repository of somebody else's: every setting that makes git run something runs a program that leaves a mark."""
    source, clone = tmp_path / "source", tmp_path / "clone"
    source.mkdir()
    git(source, "init", "-q", "-b", "main")
    (source / "a.txt").write_text("one\n")
    (source / ".gitattributes").write_text("*.txt diff=evil filter=evil\n")
    git(source, "add", "-A")
    git(source, "commit", "-q", "-m", "Start")
    git(source, "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "-q", "--filter=blob:none", "--no-checkout", f"file://{source}", str(clone))
    program = script(tmp_path / "evil", f'echo "$0 $* $AGENT_TRACE_DATABASE_URL" >> {tmp_path}/mark; exit 1')
    for key in (
        "remote.origin.uploadpack", "core.fsmonitor", "core.sshCommand", "core.askPass", "core.pager", "core.editor",
        "core.gitProxy", "core.alternateRefsCommand", "credential.helper", "diff.external", "diff.evil.textconv",
        "diff.evil.command", "filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "gpg.program",
        "pager.log", "pager.rev-list", "pager.cat-file", "pager.ls-files", "sequence.editor",
    ):  # fmt: skip
        git(clone, "config", key, str(program))
    git(clone, "config", "log.showSignature", "true")
    hooks = clone / ".git" / "hooks"
    shutil.rmtree(hooks, ignore_errors=True)
    for hook in ("post-index-change", "post-checkout", "reference-transaction", "fsmonitor-watchman"):
        script(hooks / hook, f"echo {hook} >> {tmp_path}/mark")
    (clone / "a.txt").write_text("two\n")
    return clone, git(source, "rev-parse", "HEAD")


def test_hand_tools_run_nothing_of_a_repositorys_configuration(
    tmp_path: Path, trap: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing object is not fetched: it is not there."""
    for name, value in SECRET.items():
        monkeypatch.setenv(name, value)
    clone, commit = trap
    checkout = Checkout(clone, is_git=True)
    assert checkout.content("a.txt", commit) is None
    assert checkout.content("a.txt", None) == b"two\n"
    assert checkout.commit("HEAD") == commit
    checkout.files(None)
    checkout.files(commit)
    checkout.projects()
    checkout.commits(f"{commit}..HEAD")
    checkout.commits_after(commit, "a.txt")
    with ManyFiles(checkout, commit) as many:
        assert many.content("a.txt", commit) is None
    for name in ("--upload-pack=touch x", "--output=x", "main\n--exec=x"):
        with pytest.raises(CheckoutError):
            checkout.commit(name)
    assert not (tmp_path / "mark").exists()


def test_the_trap_is_one(tmp_path: Path, trap: tuple[Path, str]) -> None:
    """Git as it is runs the program: the test above can fail."""
    clone, commit = trap
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    command = ["git", "-C", str(clone), "cat-file", "blob", f"{commit}:a.txt"]
    subprocess.run(command, env=environment, capture_output=True, check=False, timeout=patient(60))
    assert (tmp_path / "mark").exists()


def test_the_command_of_an_installation_imports_nothing_of_the_project(tmp_path: Path) -> None:
    """What `init` leaves for the shim, started in a project with a package of our name."""
    package = tmp_path / "agent_trace_sidecar"
    package.mkdir()
    for name in ("__init__", "__main__"):
        (package / f"{name}.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\n")
    command = [*own_command(), "run"]
    isolated = [sys.executable, "-I", "-m", "agent_trace_sidecar", "run"]
    env = {**sidecar_env(tmp_path / "state", "postgresql://nobody@127.0.0.1:1/none"), "PYTHONPATH": "."}
    for words, folder in ((command, Path("/")), (isolated, tmp_path)):  # the shim starts either in `/`
        subprocess.run([*words[:-1], "--version"], cwd=folder, env=env, capture_output=True, check=True)
    assert not (tmp_path / "mark").exists()
    assert command == isolated or Path(command[0]).is_absolute()
    subprocess.run([sys.executable, "-m", "agent_trace_sidecar"], cwd=tmp_path, env=env, check=False)
    assert (tmp_path / "mark").exists(), "the package of the project is imported where nothing is done about it"
