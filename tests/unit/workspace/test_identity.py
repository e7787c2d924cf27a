"""Who records, and what the repositories are called, without anything that is secret."""

import os
import pwd
import subprocess
from pathlib import Path

import asyncpg
import pytest

from agent_trace_sidecar.pipeline.shipper import Shipper
from agent_trace_sidecar.postgres.sink import PostgresSink
from agent_trace_sidecar.records.build import Builder, BuildSettings
from agent_trace_sidecar.redaction import Redactor
from agent_trace_sidecar.sources.file_log import FileLog
from agent_trace_sidecar.telemetry.logging import logger
from agent_trace_sidecar.workspace.identity import Identity, remote_url, without_credentials
from tests.support.envelopes import Shim
from tests.support.postgres import fetch

ID = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://example.com/org/repo.git", "https://example.com/org/repo.git"),
        ("https://user:p%40ss@example.com:8443/org/repo", "https://example.com:8443/org/repo"),
        ("https://token@example.com/org/repo?private_token=x#y", "https://example.com/org/repo"),
        ("ssh://git@example.com/org/repo", "ssh://example.com/org/repo"),
        ("https://a:b@c@example.com", "https://example.com"),
        ("git@example.com:org/repo.git", "git@example.com:org/repo.git"),
        ("/srv/git/repo", "/srv/git/repo"),
    ],
)
def test_a_url_is_kept_without_credentials(given: str, kept: str) -> None:
    """Neither user nor password nor query."""
    assert without_credentials(given) == kept


def git(folder: Path, *args: str) -> None:
    """Run git with nobody's configuration."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.invalid"]
    subprocess.run(["git", "-C", str(folder), *identity, *args], check=True, env=environment, capture_output=True)


def test_the_url_is_that_of_origin_also_in_a_second_worktree(tmp_path: Path) -> None:
    """As git itself wrote it; a folder below the root will do."""
    repository = tmp_path / "repository"
    (repository / "below").mkdir(parents=True)
    git(repository, "init", "-q")
    assert remote_url(repository) is None
    git(repository, "remote", "add", "fork", "https://example.com/fork")
    assert remote_url(repository) == "https://example.com/fork"
    git(repository, "remote", "add", "origin", "https://user:pw@example.com/repo")
    git(repository, "config", "remote.origin.pushurl", "https://example.com/push")
    git(repository, "commit", "-q", "--allow-empty", "-m", "Start")
    git(repository, "worktree", "add", "-q", str(tmp_path / "second"))
    for folder in (repository, repository / "below", tmp_path / "second"):
        assert remote_url(folder) == "https://example.com/repo"


def test_no_repository_and_hostile_ones_have_no_url(tmp_path: Path) -> None:
    """A configuration that can't be read is none."""
    assert remote_url(tmp_path) is None
    assert remote_url(Path("/nowhere/at/all")) is None
    (tmp_path / ".git" / "config").mkdir(parents=True)
    assert remote_url(tmp_path) is None
    (tmp_path / ".git" / "config").rmdir()
    (tmp_path / ".git" / "config").write_bytes(b'[remote\n[remote "x"]\nurl\n\xff = \nurl=\n[[[')
    assert remote_url(tmp_path) is None


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("cgroup", f"12:pids:/docker/{ID}\n"),
        ("cgroup", f"0::/system.slice/docker-{ID}.scope\n"),
        ("mountinfo", f"9 8 0:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/sda1 rw\n"),
    ],
)
def test_a_container_is_known_by_its_id(tmp_path: Path, name: str, line: str) -> None:
    """From what the kernel says, in both versions of control groups."""
    (tmp_path / name).write_text(line)
    assert Identity(recorder=True, environ={}, proc=tmp_path).container == ID


def test_a_pod_without_an_id_is_known_by_its_name(tmp_path: Path) -> None:
    """The host's name is the pod's."""
    who = Identity(recorder=True, environ={"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, proc=tmp_path)
    assert who.container == os.uname().nodename


def test_who_only_reads_logs_of_others_says_nothing_of_himself() -> None:
    """A replay on another machine does not make its user the author."""
    who = Identity(recorder=False, environ={})
    assert (who.container, who.os_user) == (None, None)
    assert who.repositories({str(Path(__file__).parents[3])}) == {str(Path(__file__).parents[3]): None}


async def test_a_source_says_who_and_where(migrated_url: str, tmp_path: Path) -> None:
    """A later replay by somebody else takes nothing away."""
    worktree = tmp_path / "w"
    (worktree / ".git").mkdir(parents=True)
    (worktree / ".git" / "config").write_text('[remote "origin"]\n\turl = https://me:pw@example.com/repo\n')
    shim = Shim(worktree=str(worktree))
    user = pwd.getpwuid(os.getuid()).pw_name
    expected = (user, f'{{"{worktree}": "https://example.com/repo"}}')
    for recorder in (True, False):
        identity = Identity(recorder=recorder, environ={})
        await ship(migrated_url, tmp_path, shim.event("session.idle", {}), identity)
        query = "SELECT os_user, repositories::text FROM agent_trace_sources WHERE kind = 'instance'"
        assert [tuple(row) for row in fetch(migrated_url, query)] == [expected]


async def ship(url: str, folder: Path, line: bytes, identity: Identity) -> None:
    """Store one line."""

    async def where() -> str:
        return url

    async def prepare(_: asyncpg.Connection) -> None: ...

    path = folder / "log.jsonl"
    path.write_bytes(line + b"\n")
    redactor = Redactor(enabled=False, capture="full", rules_file=None, cache_dir=folder, environ={})
    sink = PostgresSink(where, prepare, identity=identity)
    with FileLog(path, redactor) as log:
        shipper = Shipper(log, sink, lambda: Builder(BuildSettings()), logger(), batch_size=1, flush_ms=1, retry_max=1)
        try:
            await shipper.run()
        finally:
            await sink.close()
