"""A real PgBouncer, between a test's clients and its server."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import parse_qs, quote, urlsplit

from agent_trace_sidecar.postgres.embedded.binaries import server_identity
from tests.support.debian import program
from tests.support.opencode import killed_after
from tests.support.postgres import free_port, guarded_folder
from tests.support.waiting import eventually


@contextmanager
def pgbouncer(url: str, users: Sequence[str], *, tcp: bool = False, pool_mode: str = "transaction") -> Iterator[str]:
    """Pool connections of these users to the server of `url` (by its socket); gives a URL without a user.

    With `tcp` it listens on a free port of 127.0.0.1, else on a socket in a folder of its own.
    """
    parts = urlsplit(url.replace("@/", "@socket/"))
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    port = free_port() if tcp else query["port"]
    with guarded_folder() as folder:
        folder.chmod(0o777)  # pgbouncer refuses to be root
        (folder / "users.txt").write_text("".join(f'"{user}" ""\n' for user in users))
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={query['host']} port={query['port']}\n"
            f"[pgbouncer]\nunix_socket_dir = {folder}\nlisten_port = {port}\n"
            f"listen_addr = {'127.0.0.1' if tcp else ''}\n"
            f"auth_type = trust\nauth_file = {folder}/users.txt\n"
            f"pool_mode = {pool_mode}\nmax_client_conn = 300\ndefault_pool_size = 5\n"
        )
        command = [*server_identity().prefix, program("pgbouncer"), str(folder / "pgbouncer.ini")]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", start_new_session=True)
        with process, killed_after(process.pid):
            eventually((folder / f".s.PGSQL.{port}").exists, 10, "pgbouncer listens")
            database = parts.path.lstrip("/")
            socket = f"postgresql:///{database}?host={quote(str(folder), safe='')}&port={port}"
            yield f"postgresql://127.0.0.1:{port}/{database}" if tcp else socket
