"""When an idle shipper checks the database: bounded both ways."""

import asyncio

import pytest

from agent_trace_sidecar.limits import FAILOVER_CHECK_S, FAILOVER_CHECK_SOON_S
from agent_trace_sidecar.postgres.failover import FailoverCheck


async def in_s(check: FailoverCheck) -> float:
    """Seconds until the next check."""
    return check._at - asyncio.get_running_loop().time()


async def test_the_first_check_is_at_the_first_idle_moment() -> None:
    """A session may be short."""
    check = FailoverCheck()
    assert check.due
    with pytest.raises(TimeoutError):
        async with check.until_due():
            await asyncio.Event().wait()


async def test_a_check_that_is_done_is_not_due_for_a_while() -> None:
    """So an idle sidecar sends at most one query in so many seconds, and hundreds of them don't send it at once."""
    times = set()
    for _ in range(50):
        check = FailoverCheck()
        check.postpone()
        assert not check.due
        times.add(await in_s(check))
    assert FAILOVER_CHECK_S * 0.45 < min(times) < max(times) <= FAILOVER_CHECK_S
    assert len(times) > 40


async def test_a_lost_connection_brings_the_check_forward_and_never_puts_it_off() -> None:
    """Also one that is waited for."""
    check = FailoverCheck()
    check.soon()
    assert check.due
    check.postpone()
    async with check.until_due():
        assert check._waiting is not None
        check.soon()
        assert FAILOVER_CHECK_SOON_S * 0.45 < await in_s(check) <= FAILOVER_CHECK_SOON_S
        assert check._waiting.when() == check._at
        before = check._at
        for _ in range(20):
            check.soon()
        assert check._at <= before
