"""The image: built from the Dockerfile and run with a read-only root, against a real Postgres."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from tests.support.fake_model import Call, Step, fake_model
from tests.support.image import ROOT, Image, built_image, container
from tests.support.opencode import opencode
from tests.support.pooler import pgbouncer
from tests.support.postgres import OwnServer, PostgresServers, execute, fetch, free_port, guarded_folder
from tests.support.tailing import small_files, stored_ids
from tests.support.waiting import eventually, exit_code, slowness

HEALTH_CHECK = ("/opt/agent-trace-sidecar/bin/python", "-I", "-m", "agent_trace_sidecar.telemetry.livez")
PROCESSOR_TIME = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime)
"""
LOGS_PATH = "/var/log/agent-trace"
EDITS = tuple(
    Step([Call("write", {"filePath": f"new{number}.txt", "content": "a line\n" * (number + 1)})]) for number in range(6)
)


def _user(image: Image) -> tuple[int, int]:
    """Who it runs as."""
    uid, _, gid = image.config["User"].partition(":")
    return int(uid), int(gid)


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
    """A server with the roles."""
    server = postgres_servers.own()
    try:
        execute(server.url, (ROOT / "deploy" / "roles.sql").read_text())
        yield server
    finally:
        server.close()


def test_the_image_says_how_it_is_to_be_run(image: Image) -> None:
    """A user who is a number and not root, a signal to stop, a health check, `tail` by default."""
    config = image.config
    assert min(_user(image)) > 0
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", *HEALTH_CHECK]
    assert (config["Entrypoint"], config["Cmd"]) == (["agent-trace-sidecar"], ["tail", LOGS_PATH])
    assert not [name for name in config["Env"] if "PASSWORD" in name or "DATABASE_URL" in name]


def test_the_image_holds_the_sidecar_and_nothing_to_build_or_serve_with(image: Image) -> None:
    """No Postgres, no pip, no tests; and nothing that its user could change."""
    own = image.files / "opt" / "agent-trace-sidecar"
    packages = {path.name for path in own.glob("lib/python3*/site-packages/*")}
    assert {"agent_trace_sidecar", "asyncpg", "msgspec", "opentelemetry"} <= packages
    assert not [name for name in packages if name.startswith(("pip", "hatchling", "pytest", "pixeltable", "tests"))]
    assert not list(image.files.glob("usr/lib/postgresql/*"))
    assert not (image.files / "src").exists()
    assert not (image.files / "wheels").exists()
    statuses = [path.lstat() for path in own.rglob("*") if not path.is_symlink()]
    assert {status.st_uid for status in statuses} == {0}
    assert not [status for status in statuses if status.st_mode & 0o022]


@pytest.mark.needs("pgbouncer")
def test_a_container_delivers_what_opencode_writes_through_rotation_and_kill(
    image: Image, folder: Path, server: OwnServer
) -> None:
    """A real OpenCode writes, and the image ships as a writer without rights, through PgBouncer: all is there once."""
    user = _user(image)
    logs = folder / "logs"
    logs.mkdir(mode=0o700)
    os.chown(logs, *user)
    tail = ["tail", LOGS_PATH, str(folder / "guard.jsonl")]
    with (
        pgbouncer(server.url, ["agent_trace_writer"], tcp=True) as pooled,
        fake_model() as model,
        opencode(model, user) as oc,
    ):
        url = pooled.replace("//", "//agent_trace_writer@", 1)
        env = {
            "AGENT_TRACE_DATABASE_URL": url,
            "AGENT_TRACE_FLUSH_MS": "50",
            "AGENT_TRACE_BATCH_SIZE": "5",
            "AGENT_TRACE_HTTP": f"127.0.0.1:{free_port()}",
        }
        model.script("filework", *EDITS)
        project = oc.project("shop", {"a.txt": "one\n"})
        oc.add_plugin(project, small_files(folder))
        oc.env["AGENT_TRACE_LOG_DIR"] = str(logs)
        with container(image, folder, tail, env, logs) as first, oc.start(project, "filework please") as process:
            eventually(lambda: len(stored_ids(server.url)) > 20, 60, "the container is at work")
            first.kill("KILL")
            assert exit_code(first.process, 10) == 137
            assert exit_code(process, 60) == 0, process.communicate()
        with container(image, folder, tail, env, logs) as second:
            done = oc.run(project, "filework please")
            assert done.code == 0, done.stderr
            lines = [json.loads(line) for file in sorted(logs.iterdir()) for line in file.read_bytes().splitlines()]
            wanted = {UUID(line["id"]) for line in lines}
            eventually(lambda: stored_ids(server.url) == wanted, 30, "every event is stored, once")
            assert second.health() == 0
            second.kill(image.config["StopSignal"])
            assert exit_code(second.process, 20) == 0
        assert len(list(logs.glob("*.done.jsonl"))) > 6
        with container(image, folder, [*tail, "--remove-shipped", "--keep-seconds", "0"], env, logs) as third:
            eventually(lambda: not list(logs.iterdir()), 30, "the files are removed")
            third.kill(image.config["StopSignal"])
            assert exit_code(third.process, 20) == 0
    assert stored_ids(server.url) == wanted
    assert fetch(server.url, "SELECT count(*) AS n FROM agent_trace_records")[0]["n"] == 2 * len(EDITS)
    runs = fetch(
        server.url,
        "SELECT state->'sequence'->>'missing' AS missing, host FROM agent_trace_sources WHERE kind = 'instance'",
    )
    assert [tuple(row) for row in runs] == [("0", "agent-trace-pod")] * 2


def test_a_container_can_change_nothing_but_its_state(image: Image, folder: Path) -> None:
    """Its root is read-only, its user is nobody special, and it has no server of its own to fall back on."""
    logs = folder / "none"
    logs.mkdir()
    os.chown(logs, *_user(image))
    env = {"AGENT_TRACE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}
    with container(image, folder, ["tail", LOGS_PATH, str(folder / "guard.jsonl")], env, logs) as running:
        eventually(lambda: "tail_path_missing" in (folder / "said").read_text(), 20, "it has started")
        assert running.run("id", "-u").stdout.strip() == str(_user(image)[0])
        for place in ("/", "/opt/agent-trace-sidecar", "/usr/bin", "/var"):
            assert "Read-only file system" in running.run("touch", f"{place}/x").stderr, place
        assert running.run("touch", "/var/lib/agent-trace/x").returncode == 0
        assert running.run("agent-trace-sidecar", "--version").returncode == 0
        assert running.run("ls", "-A", LOGS_PATH).stdout == ""
    with container(image, folder, ["tail", LOGS_PATH, str(folder / "guard.jsonl")], {}, logs) as alone:
        eventually(lambda: "tail_path_missing" in (folder / "said").read_text(), 20, "it has started")
        status = alone.run("agent-trace-sidecar", "status")
        assert (status.returncode, "DATABASE_URL" in status.stdout + status.stderr) == (1, True), status


def test_an_unreachable_database_does_not_end_the_container(image: Image, folder: Path) -> None:
    """The health check asks for the process, in a tenth of a second; the database's state is that of `status`."""
    logs = folder / "others"
    logs.mkdir()
    env = {
        "AGENT_TRACE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
        "AGENT_TRACE_HTTP": f"127.0.0.1:{free_port()}",
    }
    with container(image, folder, ["tail", LOGS_PATH, str(folder / "guard.jsonl")], env, logs) as running:
        eventually(lambda: "tail_path_missing" in (folder / "said").read_text(), 20, "it has started")
        eventually(lambda: running.health() == 0, 10, "the process answers")
        costs = [running.run(HEALTH_CHECK[0], "-c", PROCESSOR_TIME, *HEALTH_CHECK) for _ in range(3)]
        assert {cost.returncode for cost in costs} == {0}, costs
        assert min(float(cost.stdout) for cost in costs) < 0.1 * slowness()
        assert running.run("agent-trace-sidecar", "status").returncode == 1
        assert running.run("env", "AGENT_TRACE_HTTP=127.0.0.1:1", *HEALTH_CHECK).returncode == 1
        assert running.process.poll() is None
        running.kill(image.config["StopSignal"])
        assert exit_code(running.process, 20) == 0
