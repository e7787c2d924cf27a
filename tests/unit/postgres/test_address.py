"""Every way to name a server, and a sentence for what the driver can't do."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg
import pytest

from agent_trace_sidecar.config import ConfigError, load
from agent_trace_sidecar.postgres.address import AddressError, check, resolve
from agent_trace_sidecar.postgres.connection import connect
from agent_trace_sidecar.postgres.embedded import EmbeddedPostgres
from agent_trace_sidecar.postgres.embedded.binaries import Binaries, find_binaries
from agent_trace_sidecar.postgres.errors import Fate, verdict
from agent_trace_sidecar.postgres.passfile import password
from tests.support.postgres import OwnServer, PostgresServers, execute, fetch, free_port, guarded_folder
from tests.support.waiting import eventually_async, patient

SERVICES: Final = """
# ours
[writer]
host=db.example.com
port=6432
dbname=traces
user=anna
password=p%w=d
options=-c statement_timeout=5s

[other]
host=elsewhere
"""


@pytest.fixture
def service_file(tmp_path: Path) -> Path:
    """A service file."""
    path = tmp_path / "services"
    path.write_text(SERVICES)
    return path


def test_a_service_fills_in_what_the_url_does_not_say(service_file: Path) -> None:
    """By a parameter or by PGSERVICE, from the file that PGSERVICEFILE names or the one at home."""
    environ = {"PGSERVICEFILE": str(service_file)}
    filled = (
        "postgresql:?host=db.example.com&port=6432&dbname=traces&user=anna&password=p%25w%3Dd"
        "&options=-c%20statement_timeout%3D5s"
    )
    assert resolve("postgresql://?service=writer", environ).url == filled
    assert resolve("postgresql://", environ | {"PGSERVICE": "writer"}).url == filled
    own = resolve("postgresql://ben:x@h:1/d?service=writer&options=-c%20a%3Db", environ).url
    assert own == "postgresql://ben:x@h:1/d?options=-c%20a%3Db"
    (service_file.parent / ".pg_service.conf").write_text("[home]\nhost=h\n")
    assert resolve("postgresql://?service=home", {"HOME": str(service_file.parent)}).url == "postgresql:?host=h"
    (service_file.parent / "pg_service.conf").write_text("[site]\nhost=s\n")
    site = {"HOME": str(service_file.parent), "PGSYSCONFDIR": str(service_file.parent)}
    assert resolve("postgresql://?service=site", site).url == "postgresql:?host=s"


def test_a_complete_url_does_not_care_for_the_service_around_it(service_file: Path) -> None:
    """As that of the embedded server, which no variable of the user's may lead elsewhere."""
    url = "postgresql://agent_trace@/db?host=%2Frun&port=5432"
    assert resolve(url, {"PGSERVICE": "nowhere", "PGSERVICEFILE": str(service_file)}).url == url


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("postgresql://h/d?connect_timeout=3&keepalives=1&sslmode=require", "postgresql://h/d?sslmode=require"),
        ("postgresql://h/d?channel_binding=prefer&gssencmode=disable", "postgresql://h/d"),
        (
            "postgres://a,b:5433/d?target_session_attrs=read-write",
            "postgres://a,b:5433/d?target_session_attrs=read-write",
        ),
        ("postgresql://[::1]:5432/d", "postgresql://[::1]:5432/d"),
        (
            "postgresql://u:p%40%2F@h/d?options=-csearch_path%3Dx",
            "postgresql://u:p%40%2F@h/d?options=-csearch_path%3Dx",
        ),
        ("postgresql://h/d?search_path=x", "postgresql://h/d?search_path=x"),
    ],
)
def test_what_the_driver_knows_is_kept_and_what_it_need_not_know_is_left_out(url: str, kept: str) -> None:
    """Parameters that only tune the transport are no reason to fail."""
    check(url)
    assert resolve(url, {}).url == kept


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://h/d", "must begin with postgresql://"),
        ("host=h dbname=d", "must begin with postgresql://"),
        ("postgresql://h/d?sslmode", "malformed"),
        ("postgresql://h:x/d", "port is not a number from 1 to 65535"),
        ("postgresql://h/d?host=a,b&port=1,99999", "port is not a number from 1 to 65535"),
        ("postgresql://h/d?channel_binding=require", "channel_binding=require is not supported by the driver"),
        ("postgresql://h/d?hostaddr=1.2.3.4", "hostaddr is not supported: give the address as host"),
        ("postgresql://[::1/d", "malformed"),
        ("postgresql://h/d?user=\udcfcmit", "not UTF-8"),
        ("postgresql://h/d\tx", "control character"),
    ],
)
def test_what_can_not_be_is_said_at_start(url: str, said: str) -> None:
    """With the variable's name, and without the URL."""
    with pytest.raises(AddressError, match=said):
        check(url)
    with pytest.raises(ConfigError) as caught:
        load({"DATABASE_URL": url, "HOME": "/h"})
    assert str(caught.value).startswith("DATABASE_URL: ")
    assert url not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "environ", "said"),
    [
        ("postgresql://?service=nowhere", {}, "service 'nowhere' is not defined: looked in no service file"),
        ("postgresql://?service=x", {"PGSERVICEFILE": "/nowhere"}, "looked in /nowhere"),
        ("postgresql://h/d?sslrootcert=/nowhere", {}, "sslrootcert names /nowhere, which is not a readable file"),
        ("postgresql://h/d?sslrootcert=system&sslmode=require", {}, "needs sslmode=verify-full, not require"),
        ("postgresql://", {"PGHOSTADDR": "1.2.3.4"}, "set PGHOST to the address"),
        ("postgresql://h/d", {"PGCHANNELBINDING": "require"}, "channel_binding=require is not supported"),
    ],
)
async def test_what_turns_out_when_connecting_is_the_operators(
    url: str, environ: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again, loudly: the file may come."""
    monkeypatch.delenv("HOME", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(AddressError) as caught:
        await connect(url)
    found = verdict(caught.value)
    assert (found.fate, found.cause) == (Fate.OPERATOR, "address")
    assert said in found.hint


def test_the_systems_certificates_make_a_context_that_checks_the_name() -> None:
    """What managed servers ask for."""
    address = resolve("postgresql://h/d?sslmode=verify-full&sslrootcert=system", {})
    assert address.url == "postgresql://h/d"
    assert address.tls is not None
    assert address.tls.check_hostname


# -- against a real server -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tcp(postgres_servers: PostgresServers) -> Iterator[OwnServer]:
    """A server with TCP."""
    server = postgres_servers.own(tcp=True)
    yield server
    server.close()


async def who(url: str) -> str:
    """Connect, and ask which database that is."""
    connection = await connect(url)
    try:
        found: str = await connection.fetchval("SELECT current_database() || ' ' || current_setting('search_path')")
        return found
    finally:
        await connection.close()


async def test_variables_services_and_urls_lead_to_the_same_server(
    tcp: OwnServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And their options arrive."""
    port, everything = tcp.tcp_port, "options=-c search_path=x"
    path = tmp_path / "services"
    path.write_text(f"[s]\nhost=127.0.0.1\nport={port}\nuser=agent_trace\ndbname=migrated\n{everything}\n")
    monkeypatch.setenv("PGSERVICEFILE", str(path))
    assert await who("postgresql:///?service=s") == "migrated x"
    url = f"postgresql://agent_trace@127.0.0.1:{port}/migrated?options=-c%20search_path%3Dx&connect_timeout=3"
    assert await who(url) == "migrated x"
    monkeypatch.setenv("PGSERVICE", "s")
    assert await who("postgresql://") == "migrated x"
    monkeypatch.delenv("PGSERVICE")
    for name, value in {"HOST": "127.0.0.1", "PORT": str(port), "USER": "agent_trace", "DATABASE": "migrated"}.items():
        monkeypatch.setenv(f"PG{name}", value)
    monkeypatch.setenv("PGOPTIONS", "-c search_path=x")
    assert await who("postgresql://") == "migrated x"


async def test_the_password_file_is_used(
    postgres_servers: PostgresServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the parameter passfile, as PGPASSFILE."""
    server = postgres_servers.own(tcp=True)
    try:
        connection = await connect(str(server.tcp_url))
        await connection.execute(r"""CREATE ROLE anna LOGIN PASSWORD 'pw'; CREATE ROLE "b:n" LOGIN PASSWORD 'p:w\d:'""")
        await connection.close()
        hba = next(server.state_dir.glob("postgres*/**/pg_hba.conf"))
        hba.write_text("host all all 127.0.0.1/32 scram-sha-256\nlocal all all trust\n")
        server.restart()
        passfile = tmp_path / "pass"
        passfile.touch(mode=0o600)
        urls = [f"postgresql://{user}@127.0.0.1:{server.tcp_port}/migrated" for user in ("anna", "b%3An")]
        plain = f"127.0.0.1:{server.tcp_port}:*:anna:pw\n"
        escaped = "# a\\b\n\n*:1:*:b\\:n:x\nshort\n127.0.0.1:*:migrated:b\\:n:p\\:w\\\\d:\n"
        for text, good in ((plain, urls[:1]), (escaped + plain, urls)):
            passfile.write_text(text)
            for url in good:
                assert (await who(f"{url}?passfile={passfile}")).startswith("migrated")
        monkeypatch.setenv("PGPASSFILE", str(passfile))
        assert (await who(urls[1])).startswith("migrated")
        environ = {"PGPASSFILE": str(passfile)}
        assert password(urls[1], environ) == "p:w\\d:"
        assert password(urls[1], environ | {"PGPASSWORD": "x"}) is None
        passfile.chmod(0o640)
        assert password(urls[1], environ) is None
    finally:
        server.close()


async def test_the_writable_one_of_several_hosts_is_found(tcp: OwnServer, postgres_servers: PostgresServers) -> None:
    """The first is down, the second takes no writes."""
    standby = postgres_servers.own(tcp=True, settings={"default_transaction_read_only": "on"})
    try:
        hosts = f"127.0.0.1:1,127.0.0.1:{standby.tcp_port},127.0.0.1:{tcp.tcp_port}"
        connection = await connect(f"postgresql://agent_trace@{hosts}/migrated?target_session_attrs=read-write")
        assert await connection.fetchval("SELECT current_setting('port')") == str(tcp.tcp_port)
        await connection.close()
    finally:
        standby.close()


async def test_a_host_that_never_answers_leaves_time_for_the_next_one(
    tcp: OwnServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However several hosts are named: in the URL, by variables, or by a service."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        ports = (silent.getsockname()[1], tcp.tcp_port)
        names = f"host=127.0.0.1,127.0.0.1\nport={ports[0]},{ports[1]}\n"
        (tmp_path / "services").write_text(f"[two]\n{names}")
        monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
        for url, variables in (
            (f"postgresql://agent_trace@127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}/migrated", {}),
            ("postgresql://agent_trace@/migrated?service=two", {}),
            (
                "postgresql://agent_trace@/migrated",
                {"PGHOST": "127.0.0.1,127.0.0.1", "PGPORT": f"{ports[0]},{ports[1]}"},
            ),
        ):
            for name, value in variables.items():
                monkeypatch.setenv(name, value)

            async def connected(url: str = url) -> asyncpg.Connection | None:
                try:
                    return await connect(url, deadline_s=patient(0.7))
                except OSError:  # where even the second one is too slow for the deadline
                    return None

            connection = await eventually_async(connected)
            assert connection is not None
            assert await connection.fetchval("SELECT current_setting('port')") == str(tcp.tcp_port)
            await connection.close()


# -- TLS -------------------------------------------------------------------------------------------------------


class Tls(NamedTuple):
    """A server with TLS only, and where the certificates are."""

    port: int
    folder: Path


def binaries_with_tls() -> Binaries:
    """The first PostgreSQL on this machine that was built with TLS; the one from the wheel was not."""
    for found in find_binaries(os.environ):
        configured = subprocess.run(
            [found.folder / "pg_config", "--configure"], capture_output=True, text=True, check=True
        )
        if "ssl" in configured.stdout:
            return found
    raise AssertionError("no PostgreSQL with TLS is here: install your distribution's")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    """A server with a certificate for localhost that signs itself; so does its client's."""
    folder, port = tmp_path_factory.mktemp("tls"), free_port()
    certificate(folder, "server", "localhost", "subjectAltName=DNS:localhost")
    certificate(folder, "agent_trace", "agent_trace")
    settings = {
        "ssl": "on",
        "ssl_cert_file": str(folder / "server.crt"),
        "ssl_key_file": str(folder / "server.key"),
        "ssl_ca_file": str(folder / "agent_trace.crt"),
        "listen_addresses": "localhost",
        "port": str(port),
        "fsync": "off",
    }
    environ = {"AGENT_TRACE_PG_BIN": str(binaries_with_tls().folder)}
    with guarded_folder() as state, EmbeddedPostgres(state / "tls", settings=settings, environ=environ) as server:
        hba = Path(fetch(server.url, "SHOW hba_file")[0][0])
        hba.write_text("hostssl postgres all all cert\nhostssl all all all trust\nlocal all all trust\n")
        execute(server.url, "SELECT pg_reload_conf()")
        yield Tls(port, folder)


def certificate(folder: Path, name: str, subject: str, *extensions: str) -> None:
    """A self-signed one."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={subject}"]
    command += ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.crt")]
    command += [word for extension in extensions for word in ("-addext", extension)]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("host", "parameters", "cause"),
    [
        ("localhost", "sslmode=require", None),
        ("localhost", "", None),
        ("localhost", "sslmode=verify-full&sslrootcert={folder}/server.crt", None),
        ("127.0.0.1", "sslmode=verify-ca&sslrootcert={folder}/server.crt", None),
        ("localhost", "sslmode=disable", "28000"),
        ("127.0.0.1", "sslmode=verify-full&sslrootcert={folder}/server.crt", "tls"),
        ("localhost", "sslmode=verify-ca&sslrootcert={folder}/agent_trace.crt", "tls"),
        ("localhost", "sslmode=verify-full&sslrootcert=system", "tls"),
        ("localhost", "sslmode=nonsense", "address"),
    ],
)
async def test_tls_is_as_the_url_asks(tls: Tls, host: str, parameters: str, cause: str | None) -> None:
    """What is refused is the operator's, with the reason."""
    folder = tls.folder
    url = f"postgresql://agent_trace@{host}:{tls.port}/agent_trace?{parameters.format(folder=folder)}".rstrip("?")
    try:
        connection = await connect(url)
    except Exception as exc:  # noqa: BLE001 - which one it is is what is tested
        found = verdict(exc)
        assert (found.fate, found.cause) == (Fate.OPERATOR, cause), found
    else:
        encrypted = await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        await connection.close()
        assert (encrypted, cause) == (True, None)


async def test_a_clients_certificate_opens_the_door(tls: Tls) -> None:
    """And without one it stays shut."""
    folder = tls.folder
    url = f"postgresql://agent_trace@localhost:{tls.port}/postgres?sslmode=require"
    connection = await connect(f"{url}&sslcert={folder}/agent_trace.crt&sslkey={folder}/agent_trace.key")
    await connection.close()
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await connect(url)


async def test_a_server_without_tls_is_told_from_one_that_is_away(tcp: OwnServer) -> None:
    """Waiting would not help."""
    with pytest.raises(ConnectionError) as caught:
        await connect(f"{tcp.tcp_url}?sslmode=require")
    assert verdict(caught.value).cause == "tls"
