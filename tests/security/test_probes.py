"""A neighbour in the cluster network can't keep the probes of Kubernetes from their answers."""

import asyncio

from agent_trace_sidecar.telemetry.http_server import MAX_CONNECTIONS, Page, serving
from agent_trace_sidecar.telemetry.logging import logger
from tests.support.postgres import free_port
from tests.support.waiting import patient

HALF = b"GET /livez HTTP/1.1\r\nHost: x\r\n"


async def probe(port: int) -> bytes:
    """One probe, with the timeout of the manifest."""
    async with asyncio.timeout(patient(5)):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HALF + b"\r\n")
        answer = await reader.read()
        writer.close()
    return answer


async def test_half_requests_keep_no_probe_out() -> None:
    """200 connections that send half a request each, opened again for each of 24 probes."""
    port = free_port()
    held: list[asyncio.StreamWriter] = []
    async with serving(("127.0.0.1", port), {"/livez": lambda: Page(200, b"ok\n")}, logger()):
        for turn in range(24):
            for _ in range(200 if turn == 0 else 2 * MAX_CONNECTIONS):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(HALF)
                held.append(writer)
            assert (await probe(port)).startswith(b"HTTP/1.1 200 ")
        for writer in held:
            writer.transport.abort()


async def test_half_a_request_is_closed_after_a_second() -> None:
    """Long before the deadline of an answer."""
    port = free_port()
    async with serving(("127.0.0.1", port), {}, logger()):
        began = asyncio.get_running_loop().time()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HALF)
        assert await asyncio.wait_for(reader.read(), patient(4)) == b""
        assert asyncio.get_running_loop().time() - began < patient(4)
        writer.close()
