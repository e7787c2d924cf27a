"""The one way in which tests wait."""

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_POLL_S = 0.02


def eventually(predicate: Callable[[], T], deadline_s: float = 10.0, what: str = "") -> T:
    """Call `predicate` until it returns something true, and return that; fail with `what` after `deadline_s`."""
    end = time.monotonic() + deadline_s
    pause = threading.Event()
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s} s: {what or inspect.getsource(predicate).strip()}")
        pause.wait(_POLL_S)


async def eventually_async(predicate: Callable[[], Awaitable[T]], deadline_s: float = 10.0, what: str = "") -> T:
    """As `eventually`, for a coroutine function."""
    async with asyncio.timeout(deadline_s + 5):
        end = time.monotonic() + deadline_s
        while True:
            value = await predicate()
            if value:
                return value
            if time.monotonic() > end:
                raise AssertionError(f"not within {deadline_s} s: {what or inspect.getsource(predicate).strip()}")
            await asyncio.sleep(_POLL_S)
