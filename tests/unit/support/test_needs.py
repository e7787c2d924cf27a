"""Programs that tests need are there before the tests, or the summary names the tests that are left out."""

import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import debian
from tests.support.waiting import completed, eventually, output

ROOT = Path(__file__).resolve().parents[3]
LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock", "/var/cache/apt/archives/lock")
INSTALL = "from tests.support import debian; debian.PACKAGES['hello'] = 'hello'; print(debian.program('hello'))"
MISSING = "left out: tests that need svn, svnadmin: 1 (there is no apt-get to install them)"


def on_a_bare_machine(*arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run the tests about repositories, with nothing on PATH."""
    command = [sys.executable, "-m", "pytest", "-q", "tests/unit/workspace/test_vcs.py", *arguments]
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
    return completed(command, cwd=ROOT, env={**kept, "PATH": "/nonexistent", **env})


@pytest.mark.parametrize("workers", ["0", "2"])
def test_what_a_machine_can_not_run_is_left_out_and_named_once(workers: str) -> None:
    """The other tests of the file run, in this process or in those of pytest-xdist."""
    done = on_a_bare_machine("-n", workers, "-k", "svn")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(MISSING) == 1
    assert "4 passed" in done.stdout


def test_a_test_that_is_not_chosen_needs_nothing() -> None:
    """Nothing is installed for it, and nothing is said."""
    done = on_a_bare_machine("-k", "svn_says")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left out" not in done.stdout


def test_ci_demands_everything() -> None:
    """There an incomplete machine is an error, with the same sentence."""
    done = on_a_bare_machine("-k", "svn", CI="true")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert MISSING in done.stderr


@pytest.mark.parametrize(
    ("module", "need"),
    [("opencode2", "OpenCode 2"), ("pooler", "pgbouncer"), ("debian import program", "promtool|svn")],
    ids=["OpenCode 2", "PgBouncer", "programs"],
)
def test_who_uses_a_program_says_so(module: str, need: str) -> None:
    """Or its tests would fail on a machine that has it not."""
    users = [path for path in (ROOT / "tests").rglob("test_*.py") if f"from tests.support.{module}" in path.read_text()]
    assert users
    silent = [path.name for path in users if not re.search(rf'mark\.needs\("({need})', path.read_text())]
    assert silent == []


@pytest.fixture(name="locks")
def _locks() -> Iterator[ExitStack]:
    """All of apt's locks, as an upgrade in the background holds them; closing it frees them."""
    with ExitStack() as held:
        for path in LOCKS:
            file = held.enter_context(Path(path).open("a"))
            eventually(lambda file=file: _locked(file.fileno()), 120, f"{path} is free")  # type: ignore[misc]
        yield held
    debian.run("apt-get", "--quiet=2", "--yes", "-o", "DPkg::Lock::Timeout=600", "purge", "hello")


def _locked(fd: int) -> bool:
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@pytest.mark.needs("apt-get")
def test_two_test_runs_install_while_somebody_else_holds_apts_locks(locks: ExitStack) -> None:
    """Each waits, and both have the program in the end."""
    assert debian.find("hello") is None
    command = [sys.executable, "-c", INSTALL]
    with ExitStack() as stack:
        runs = [
            stack.enter_context(
                subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            )
            for _ in range(2)
        ]
        with pytest.raises(subprocess.TimeoutExpired):
            runs[0].wait(3)
        locks.close()
        for one in runs:
            stdout, stderr = output(one, 300)
            assert one.returncode == 0, stderr
            assert Path(stdout.strip()).name == "hello"
