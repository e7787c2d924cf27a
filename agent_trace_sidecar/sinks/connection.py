"""How every part of the program connects to Postgres, and how it keeps the driver from waiting for ever."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import asyncpg

from agent_trace_sidecar.limits import CONNECT_DEADLINE_S

T = TypeVar("T")


async def connect(url: str) -> asyncpg.Connection:
    """Connect as every part of the program does: no statement cache, a name in pg_stat_activity, a deadline."""
    async with asyncio.timeout(CONNECT_DEADLINE_S):
        return await asyncpg.connect(
            url,
            timeout=CONNECT_DEADLINE_S,
            statement_cache_size=0,
            server_settings={"application_name": "agent-trace-sidecar"},
        )


async def guarded(connection: asyncpg.Connection, work: Awaitable[T], deadline_s: float) -> T:
    """Await `work`, cut off when the connection dies or `deadline_s` passes; the driver itself may wait for ever.

    Raises:
        ConnectionError: it was cut off.
    """
    task = asyncio.ensure_future(work)

    def cut(*_: object) -> None:
        task.cancel()

    def expire() -> None:
        connection.terminate()
        task.cancel()

    connection.add_termination_listener(cut)
    timer = asyncio.get_running_loop().call_later(deadline_s, expire)
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
    if task.cancelled():
        raise ConnectionError("the connection was cut")
    return task.result()


def _consume(task: asyncio.Future[Any]) -> None:
    """Take the result of work that nobody waits for any more, so that asyncio does not report it."""
    if not task.cancelled():
        task.exception()
