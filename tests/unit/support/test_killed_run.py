"""A pytest that is killed by force leaves nothing running: no worker, no server, no sidecar, no OpenCode."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.postgres import is_running
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[3]
VICTIM = """
import os, subprocess, time
from pathlib import Path
from tests.support.fake_model import fake_model
from tests.support.opencode import opencode
from tests.support.postgres import OwnServer
from tests.support.sidecar import sidecar_command, sidecar_env

def test_waits(own_server: OwnServer, tmp_path: Path) -> None:
    env = sidecar_env(tmp_path / "state", own_server.url)
    sidecar = subprocess.Popen(sidecar_command("tail", str(tmp_path)), env=env, start_new_session=True)
    with fake_model() as model, opencode(model) as oc, oc.serve() as server:
        pids = [os.getpid(), sidecar.pid, own_server.pid, server.process.pid]
        Path(os.environ["PIDS"] + ".new").write_text(" ".join(map(str, pids)))
        Path(os.environ["PIDS"] + ".new").rename(os.environ["PIDS"])
        time.sleep(600)
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_killed_pytest_leaves_nothing_running(tmp_path: Path, workers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With workers it is their controller that is killed."""
    (tmp_path / "test_victim.py").write_text(VICTIM)
    monkeypatch.setenv("PIDS", str(tmp_path / "pids"))
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", "pyproject.toml", "--rootdir", str(ROOT)]
    with subprocess.Popen(
        [*command, "-n", workers, str(tmp_path)], cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True
    ) as run:
        try:
            eventually((tmp_path / "pids").exists, 60, "the test is in its middle")
        finally:
            run.send_signal(signal.SIGKILL)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    eventually(lambda: not [pid for pid in pids if is_running(pid)], 20, f"all of {pids} are gone")
