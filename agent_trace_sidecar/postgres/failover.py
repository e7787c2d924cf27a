"""When an idle shipper checks that the database still has what was delivered: a fail-over or a restore may lose it."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent_trace_sidecar.limits import FAILOVER_CHECK_S, FAILOVER_CHECK_SOON_S


class FailoverCheck:
    """Decides when to check: now and then, and soon after the connection was lost, as it is in a fail-over.

    Each time is a random one, so that hundreds of idle sidecars don't query at once. While the database is away a check
    is no more frequent.
    """

    def __init__(self) -> None:
        self._at = 0.0  # the first check is at the first idle moment: a session may be short
        self._waiting: asyncio.Timeout | None = None

    @property
    def due(self) -> bool:
        """Whether it is time."""
        return asyncio.get_running_loop().time() >= self._at

    def postpone(self) -> None:
        """It is done, or there is nothing to check."""
        self._at = asyncio.get_running_loop().time() + FAILOVER_CHECK_S * _some()

    def soon(self) -> None:
        """The connection has been closed, or the database turned out to know less than it did."""
        self._at = min(self._at, asyncio.get_running_loop().time() + FAILOVER_CHECK_SOON_S * _some())
        if self._waiting is not None:
            self._waiting.reschedule(self._at)

    @asynccontextmanager
    async def until_due(self) -> AsyncIterator[None]:
        """Cut the block off when it is time.

        Raises:
            TimeoutError: it is.
        """
        try:
            async with asyncio.timeout_at(self._at) as self._waiting:
                yield
        finally:
            self._waiting = None


def _some() -> float:
    """From a half to one."""
    return random.uniform(0.5, 1)  # noqa: S311 - no secret
