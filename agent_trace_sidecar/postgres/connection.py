"""Connections to Postgres that can't hang: how they are made, and how work on them is cut off.

The statement cache stays off: with it COPY stored wrong values after a column's type had changed, and poolers lose
prepared statements.
"""

import asyncio
import os
import re
from collections.abc import Awaitable
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from agent_trace_sidecar.limits import CONNECT_DEADLINE_S
from agent_trace_sidecar.postgres import authentication
from agent_trace_sidecar.postgres.address import Address, AddressError, resolve
from agent_trace_sidecar.postgres.errors import Fate, TooSlowError, verdict
from agent_trace_sidecar.postgres.passfile import password

authentication.install()

T = TypeVar("T")

_LAST_WORD_S: Final = 0.05
"""So long after the end of a connection the driver may take to raise what the server had reported last."""
_PARAMETER_CODES: Final = ("42704", "55P02", "22023")
"""SQLSTATEs for a parameter of the URL that the server does not know, may not change, or whose value is wrong."""


async def connect(url: str, deadline_s: float = CONNECT_DEADLINE_S, *, writes: bool = False) -> asyncpg.Connection:
    """Connect as every part of the program does: no statement cache, a name in pg_stat_activity, a deadline.

    Of several hosts in the URL each gets its share of the time: the driver would wait for the first one, which may
    have lost its power, until nothing is left for the second. Who `writes` gets one of them that can be written to,
    unless the URL has `target_session_attrs`: after a fail-over the old primary may be back, as a standby, and named
    first.

    Raises:
        AddressError: the URL, or the service that it names, can't be used.
    """
    address = resolve(url, os.environ)
    urls = one_host_each(address.url)
    is_given = "target_session_attrs" in address.url or "PGTARGETSESSIONATTRS" in os.environ
    wanted = SessionAttribute.read_write if writes and len(urls) > 1 and not is_given else None
    while True:
        one, *urls = urls
        try:
            return await _connect(address._replace(url=one), deadline_s / (len(urls) + 1), wanted)
        except Exception as exc:
            if not urls or verdict(exc).fate not in (Fate.RETRY, Fate.SLOW):
                raise


async def _connect(address: Address, deadline_s: float, wanted: SessionAttribute | None) -> asyncpg.Connection:
    authentication.required.set(address.accepted)
    async with asyncio.timeout(deadline_s):
        try:
            return await asyncpg.connect(
                address.url,
                password=password(address.url, os.environ),
                ssl=address.tls,
                timeout=deadline_s,
                statement_cache_size=0,
                target_session_attrs=wanted,
                server_settings={"application_name": "agent-trace-sidecar"},
            )
        except authentication.AuthenticationError as exc:
            raise AddressError(str(exc)) from None
        except KeyError:  # of getpass, where the user's number has no name
            raise AddressError("this user has no name: name the database's user in the URL, or set PGUSER.") from None
        except asyncpg.PostgresError as exc:
            named = _parameter(address.url, str(exc)) if exc.sqlstate in _PARAMETER_CODES else None
            if named is None:
                raise
            raise AddressError(
                f"the server refuses the parameter {named} (SQLSTATE {exc.sqlstate}): remove it from the URL."
            ) from None


def _parameter(url: str, message: str) -> str | None:
    """Which parameter of the URL the server means, in whatever language it answers: a word of both."""
    given = dict(parse_qsl(urlsplit(url).query))
    words = [*given, *re.findall(r"[\w.]+(?=\s*=)", given.get("options", ""))]
    meant = {word.lower() for word in re.findall(r"[\w.]+", message)}
    return next((word for word in words if word.lower() in meant), None)


def one_host_each(url: str) -> list[str]:
    """Split a URL of several hosts, named before the path or as `host=`, into one for each, in order."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    if "," in hosts:
        return [urlunsplit(parts._replace(netloc=user + at + host)) for host in hosts.split(",")]
    given = dict(parse_qsl(parts.query))
    names = given.get("host", "").split(",")
    if len(names) < 2:  # noqa: PLR2004 - one host
        return [url]
    ports = given.get("port", "").split(",")
    ports = ports if len(ports) == len(names) else ports[:1] * len(names)
    found = []
    for name, port in zip(names, ports, strict=True):
        query = {**given, "host": name} | ({"port": port} if port else {})
        found.append(urlunsplit(parts._replace(query=urlencode(query))))
    return found


async def guarded(connection: asyncpg.Connection, work: Awaitable[T], deadline_s: float) -> T:
    """Await `work`, cut off when the connection dies or `deadline_s` passes; the driver itself may wait for ever.

    Raises:
        ConnectionError: the connection died.
        TooSlowError: the deadline passed.
    """
    task, loop = asyncio.ensure_future(work), asyncio.get_running_loop()
    expired = False

    def cut(*_: object) -> None:
        loop.call_later(_LAST_WORD_S, task.cancel)

    def expire() -> None:
        nonlocal expired
        expired = True
        connection.terminate()
        task.cancel()

    connection.add_termination_listener(cut)
    timer = loop.call_later(deadline_s, expire)
    try:
        await asyncio.wait({task})  # unlike `await task`, this ends at once when we are cancelled ourselves
    except asyncio.CancelledError:
        expire()
        task.add_done_callback(_consume)
        raise
    finally:
        timer.cancel()
        if not connection.is_closed():
            connection.remove_termination_listener(cut)
    if expired:
        task.add_done_callback(_consume)
        raise TooSlowError(deadline_s)
    if task.cancelled():
        raise ConnectionError("the connection was cut")
    return task.result()


def _consume(task: asyncio.Future[Any]) -> None:
    """Take the result of abandoned work, so that asyncio does not report it."""
    if not task.cancelled():
        task.exception()
