"""A password reaches Postgres, and nobody else: not whoever answers in its place, nor whoever runs `ps`."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from agent_trace_sidecar.commands import doctor
from agent_trace_sidecar.postgres import authentication
from agent_trace_sidecar.postgres.address import AddressError, without_password
from agent_trace_sidecar.postgres.authentication import AuthenticationError, Handshake
from agent_trace_sidecar.postgres.connection import connect
from agent_trace_sidecar.postgres.embedded import EmbeddedPostgres
from agent_trace_sidecar.postgres.errors import Fate, verdict
from agent_trace_sidecar.postgres.require_auth import methods
from tests.support.postgres import execute, fetch, free_port, guarded_folder
from tests.support.sidecar import sidecar_env
from tests.support.waiting import patient

PASSWORD: Final = "correct-horse-battery"
CLEARTEXT, MD5 = b"R\0\0\0\x08\0\0\0\x03", b"R\0\0\0\x0c\0\0\0\x05salt"
SASL: Final = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0"
OK, READY = b"R\0\0\0\x08\0\0\0\0", b"Z\0\0\0\x05I"
BUSY: Final = b"N\0\0\0\x0cSNOTE\0\0\0"


@asynccontextmanager
async def impostor(*answers: bytes) -> AsyncIterator[tuple[int, bytearray]]:
    """A listener without TLS that sends these requests for authentication; its port, and all that it has received."""
    received = bytearray()
    ended = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        started = False
        while chunk := await reader.read(4096):
            received.extend(chunk)
            if chunk[4:8] == b"\x04\xd2\x16\x2f":  # may there be TLS?
                writer.write(b"N")
            elif not started:
                started = True
                for answer in answers:
                    writer.write(answer)
                    await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except OSError:
            pass
        finally:
            writer.transport.abort()
            ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], received
        await asyncio.wait_for(ended.wait(), patient(5))


@pytest.fixture
def beyond(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address of this machine that counts as another one's."""
    monkeypatch.setattr(authentication, "_is_local", lambda _: False)
    return "127.0.0.1"


@pytest.mark.parametrize("parameters", ["", "sslmode=prefer", "sslmode=allow", "require_auth=scram-sha-256"])
@pytest.mark.parametrize(
    "answers",
    [
        (CLEARTEXT,),
        (MD5,),
        tuple(CLEARTEXT[at : at + 1] for at in range(len(CLEARTEXT))),
        (BUSY + CLEARTEXT,),
        (OK + CLEARTEXT,),
        (SASL + MD5,),
    ],
    ids=["cleartext", "md5", "in pieces", "behind a notice", "behind ok", "behind scram"],
)
async def test_whoever_answers_without_tls_gets_no_password(
    answers: tuple[bytes, ...], parameters: str, beyond: str
) -> None:
    """Neither the password nor its hash; the operator is told why."""
    async with impostor(*answers) as (port, received):
        with pytest.raises(AddressError) as caught:
            await connect(f"postgresql://anna:{PASSWORD}@{beyond}:{port}/d?{parameters}", patient(5))
    assert PASSWORD.encode() not in received
    assert b"md5" not in received
    assert verdict(caught.value).fate is Fate.OPERATOR
    assert "require_auth" in str(caught.value) or "sslmode=verify-full" in str(caught.value)


async def test_the_address_may_say_that_the_network_is_trusted(beyond: str) -> None:
    """By sslmode=disable, as before."""
    async with impostor(CLEARTEXT) as (port, received):
        with pytest.raises((OSError, TimeoutError, asyncpg.PostgresError)):
            await connect(f"postgresql://anna:{PASSWORD}@{beyond}:{port}/d?sslmode=disable", 1.0)
    assert PASSWORD.encode() in received


@pytest.fixture(name="port", scope="module")
def _port() -> Iterator[int]:
    """A real server without TLS that asks `anna` by SCRAM and `ben` for his password in clear text."""
    port = free_port()
    settings = {"listen_addresses": "127.0.0.1", "port": str(port)}
    with guarded_folder() as state, EmbeddedPostgres(state / "pg", settings=settings) as server:
        for name in ("anna", "ben"):
            execute(server.url, f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
        hba = "local all all trust\nhost all anna all scram-sha-256\nhost all ben all password\n"
        Path(fetch(server.url, "SHOW hba_file")[0][0]).write_text(hba)
        execute(server.url, "SELECT pg_reload_conf()")
        yield port


@pytest.mark.parametrize("parameters", ["", "?require_auth=scram-sha-256", "?require_auth=!password,!md5"])
async def test_a_server_that_asks_by_scram_is_used_without_tls(port: int, parameters: str, beyond: str) -> None:
    """It learns no password."""
    connection = await connect(f"postgresql://anna:{PASSWORD}@{beyond}:{port}/postgres{parameters}")
    assert await connection.fetchval("SELECT current_user") == "anna"
    await connection.close()


async def test_a_real_server_gets_no_cleartext_password(port: int, beyond: str) -> None:
    """Unless the address says so, in one of two ways."""
    url = f"postgresql://ben:{PASSWORD}@{beyond}:{port}/postgres"
    with pytest.raises(AddressError, match="in clear text without TLS"):
        await connect(url)
    for said in ("sslmode=disable", "require_auth=password"):
        connection = await connect(f"{url}?{said}")
        await connection.close()


async def test_this_machine_is_trusted() -> None:
    """A loopback address, without a word."""
    async with impostor(CLEARTEXT) as (port, received):
        with pytest.raises((OSError, TimeoutError, asyncpg.PostgresError)):
            await connect(f"postgresql://anna:{PASSWORD}@127.0.0.1:{port}/d", 1.0)
    assert PASSWORD.encode() in received


async def test_a_server_that_asks_for_nothing_is_refused_where_a_proof_is_required() -> None:
    """Else whoever answers gets what is recorded. So is one that skips the proof of SCRAM."""
    for answers in ((OK + READY,), (SASL + OK + READY,)):
        async with impostor(*answers) as (port, _):
            with pytest.raises(AddressError):
                await connect(f"postgresql://anna@127.0.0.1:{port}/d?require_auth=scram-sha-256", patient(5))


async def test_doctor_names_a_connection_that_others_can_read(
    migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a note: it works."""
    connection = await connect(migrated_url)
    try:
        assert not any("TLS" in check.text for check in await doctor.database(connection))
        monkeypatch.setattr(authentication, "_is_local", lambda _: False)
        assert [check.state for check in await doctor.database(connection) if "no TLS" in check.text] == ["note"]
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("", None),
        ("scram-sha-256", {"scram-sha-256"}),
        ("scram-sha-256, gss", {"scram-sha-256", "gss"}),
        ("!password,!md5", {"gss", "sspi", "scram-sha-256", "none"}),
    ],
)
def test_methods_are_libpqs(text: str, accepted: set[str] | None) -> None:
    """Accepted or excluded."""
    assert methods(text) == accepted


@pytest.mark.parametrize("text", ["scram", "md5,!password", "!"])
def test_other_methods_are_an_error(text: str) -> None:
    """Named as a whole address would be."""
    with pytest.raises(ValueError, match=r"none of|either all"):
        methods(text)


def test_messages_without_a_length_are_no_postgres() -> None:
    """The driver and we must not come to different ends of a message."""
    for head in (b"R\0\0\0\x04abcd", b"S\0\0\0\0"):
        with pytest.raises(AuthenticationError, match="does not speak"):
            Handshake(None, readable=True).feed(head)


@pytest.mark.parametrize(
    ("url", "shown", "password"),
    [
        ("postgresql://a:p%40w@h/d", "postgresql://a@h/d", "p@w"),
        ("postgresql://a:@h:1,i:2/d", "postgresql://a@h:1,i:2/d", ""),
        ("postgresql://a@h/d", "postgresql://a@h/d", None),
        ("postgresql:///d?host=/run&password=x%20y", "postgresql:///d?host=%2Frun", "x y"),
        ("postgresql://h/d?sslpassword=x&options=-c%20a%3Db", "postgresql://h/d?options=-c%20a%3Db", None),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str, password: str | None) -> None:
    """Wherever it stands; all else stays."""
    assert without_password(url) == (shown, password)


def test_psql_gets_the_password_by_its_environment(tmp_path: Path) -> None:
    """Its command line is everybody's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "psql"
    program.write_text('#!/bin/sh\ntr "\\0" " " < /proc/$$/cmdline\necho\necho "$PGPASSWORD"\n')
    program.chmod(0o755)
    url = f"postgresql://anna:{PASSWORD}@127.0.0.1:1/d?password={PASSWORD}&sslmode=disable"
    environment = {**sidecar_env(tmp_path / "state", url), "PATH": f"{folder}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "agent_trace_sidecar", "psql", "-c", "SELECT 1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=patient(30), check=True)
    shown, given = done.stdout.splitlines()
    assert PASSWORD not in shown
    assert "postgresql://anna@127.0.0.1:1/d?sslmode=disable" in shown
    assert given == PASSWORD
