"""A real PgBouncer in transaction mode, between a test's clients and its server."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import parse_qs, quote, urlsplit

from agent_trace_sidecar.embedded.binaries import server_identity
from tests.support.debian import program
from tests.support.opencode import killed_after
from tests.support.postgres import guarded_folder
from tests.support.waiting import eventually


@contextmanager
def pgbouncer(url: str, users: Sequence[str]) -> Iterator[str]:
    """Pool connections of these users to the server of `url` (by its socket); gives a URL without a user."""
    parts = urlsplit(url.replace("@/", "@socket/"))
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    with guarded_folder() as folder:
        folder.chmod(0o777)  # pgbouncer refuses to be root
        (folder / "users.txt").write_text("".join(f'"{user}" ""\n' for user in users))
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={query['host']} port={query['port']}\n"
            f"[pgbouncer]\nunix_socket_dir = {folder}\nlisten_port = {query['port']}\nlisten_addr =\n"
            f"auth_type = trust\nauth_file = {folder}/users.txt\n"
            "pool_mode = transaction\nmax_client_conn = 300\ndefault_pool_size = 5\n"
        )
        command = [*server_identity().prefix, program("pgbouncer"), str(folder / "pgbouncer.ini")]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", start_new_session=True)
        with process, killed_after(process.pid):
            eventually((folder / f".s.PGSQL.{query['port']}").exists, 10, "pgbouncer listens")
            yield f"postgresql:///{parts.path.lstrip('/')}?host={quote(str(folder), safe='')}&port={query['port']}"
