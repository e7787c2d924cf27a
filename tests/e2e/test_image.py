"""The image: built from the Dockerfile and run with a read-only root, against a real Postgres."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from tests.support.image import ROOT, Image, built_image, container
from tests.support.postgres import OwnServer, PostgresServers, execute, fetch, guarded_folder
from tests.support.tailing import stored_ids
from tests.support.waiting import eventually

DRIVER = ROOT / "tests" / "support" / "shim_driver.mjs"
LOGS_PATH = "/var/log/agent-trace"


@pytest.fixture(name="folder", scope="module")
def _folder() -> Iterator[Path]:
    """A folder that other users may enter."""
    with guarded_folder() as folder:
        folder.chmod(0o755)
        yield folder


@pytest.fixture(name="image", scope="module")
def _image(folder: Path) -> Iterator[Image]:
    """The image, built once."""
    with built_image(folder) as image:
        yield image


@pytest.fixture(name="server")
def _server(postgres_servers: PostgresServers) -> Iterator[OwnServer]:
    """A server that listens on TCP, with the roles."""
    server = postgres_servers.own(tcp=True)
    try:
        execute(server.url, (ROOT / "deploy" / "roles.sql").read_text())
        yield server
    finally:
        server.close()


def test_the_image_says_how_it_is_to_be_run(image: Image) -> None:
    """A user who is a number and not root, a signal to stop, a health check, `tail` by default."""
    config = image.config
    uid, _, gid = config["User"].partition(":")
    assert (int(uid), int(gid)) > (0, 0)
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", "agent-trace-sidecar", "status"]
    assert (config["Entrypoint"], config["Cmd"]) == (["agent-trace-sidecar"], ["tail", LOGS_PATH])
    assert not [name for name in config["Env"] if "PASSWORD" in name or "DATABASE_URL" in name]


def test_the_image_holds_the_sidecar_and_nothing_to_build_or_serve_with(image: Image) -> None:
    """No Postgres, no pip, no tests; and nothing that its user could change."""
    own = image.files / "opt" / "agent-trace-sidecar"
    packages = {path.name for path in own.glob("lib/python3*/site-packages/*")}
    assert {"agent_trace_sidecar", "asyncpg", "msgspec"} <= packages
    assert not [name for name in packages if name.startswith(("pip", "hatchling", "pytest", "pixeltable", "tests"))]
    assert not list(image.files.glob("usr/lib/postgresql/*"))
    assert not (image.files / "src").exists()
    assert not (image.files / "wheels").exists()
    statuses = [path.lstat() for path in own.rglob("*") if not path.is_symlink()]
    assert {status.st_uid for status in statuses} == {0}
    assert not [status for status in statuses if status.st_mode & 0o022]


def test_a_container_delivers_what_a_shim_writes_through_rotation_and_kill(
    image: Image, folder: Path, server: OwnServer
) -> None:
    """As a writer without rights, with a read-only root; the files are removed and every event is there once."""
    uid, gid = map(int, image.config["User"].split(":"))
    logs = folder / "logs"
    logs.mkdir(mode=0o700)
    os.chown(logs, uid, gid)
    shim = folder / "shim.mjs"
    shim.write_text((ROOT / "opencode-shim" / "index.js").read_text().replace("= 64 * 2 ** 20", "= 20_000"))
    assert server.tcp_url is not None
    url = server.tcp_url.replace("//agent_trace@", "//agent_trace_writer@")
    env = {"AGENT_TRACE_DATABASE_URL": url, "AGENT_TRACE_FLUSH_MS": "50", "AGENT_TRACE_BATCH_SIZE": "10"}
    arguments = ["tail", LOGS_PATH, str(folder / "guard.jsonl")]
    with subprocess.Popen(
        ["node", str(DRIVER), str(shim), "400"],
        stdin=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "AGENT_TRACE_LOG_DIR": str(logs)},
        user=uid,
        group=gid,
        extra_groups=[],
    ) as writer:
        assert writer.stdin is not None
        with container(image, folder, arguments, env, logs) as first:
            eventually(lambda: len(stored_ids(server.url)) > 20, 30, "the container is at work")
            first.kill("KILL")
            assert first.process.wait(10) == 137
        with container(image, folder, [*arguments, "--remove-shipped", "--keep-seconds", "2"], env, logs) as second:
            eventually(lambda: len(stored_ids(server.url)) == 401, 30, "all that was written is stored")
            assert second.is_healthy()
            ids = {json.loads(line)["id"] for file in logs.iterdir() for line in file.read_bytes().splitlines()}
            writer.stdin.close()
            assert writer.wait(20) == 0
            eventually(lambda: len(stored_ids(server.url)) == 403, 30, "the last lines are stored")
            eventually(lambda: not list(logs.iterdir()), 30, "the files are removed")
            second.kill(image.config["StopSignal"])
            assert second.process.wait(20) == 0
    assert {UUID(id_) for id_ in ids} <= stored_ids(server.url)
    gaps = fetch(
        server.url,
        "SELECT state->'sequence'->>'missing' AS n, host, position FROM agent_trace_sources WHERE kind = 'instance'",
    )
    assert [tuple(row) for row in gaps] == [("0", "agent-trace-pod", 403)]


def test_an_unreachable_database_makes_the_container_unhealthy_and_not_dead(image: Image, folder: Path) -> None:
    """The health check says so; the sidecar stays and stops when told."""
    logs = folder / "others"
    logs.mkdir()
    env = {"AGENT_TRACE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}
    with container(image, folder, ["tail", LOGS_PATH, str(folder / "guard.jsonl")], env, logs) as running:
        eventually(lambda: "tail_path_missing" in (folder / "said").read_text(), 20, "it has started")
        assert not running.is_healthy()
        assert running.process.poll() is None
        running.kill(image.config["StopSignal"])
        assert running.process.wait(20) == 0
