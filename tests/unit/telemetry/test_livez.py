"""The image's health check, against the real server."""

import asyncio
import sys

import pytest

from agent_trace_sidecar.config import http_address
from agent_trace_sidecar.telemetry.http_server import Page, serving
from agent_trace_sidecar.telemetry.logging import logger
from tests.support.postgres import free_port

COMMAND = (sys.executable, "-I", "-m", "agent_trace_sidecar.telemetry.livez")


async def checked(address: str | None, status: int = 200) -> tuple[int | None, str]:
    """The exit code of the check, and what it says, while a server answers at the first address."""
    env = {"AGENT_TRACE_HTTP": address} if address is not None else {}
    served = http_address(address) if address and address[-2:] != ":1" else None
    async with serving(served, {"/livez": lambda: Page(status, b"ok\n")}, logger()):
        process = await asyncio.create_subprocess_exec(*COMMAND, env=env, stderr=asyncio.subprocess.PIPE)
        _, said = await process.communicate()
    return process.returncode, said.decode()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost", ""])  # noqa: S104 - as containers have it
async def test_a_process_that_answers_is_healthy(host: str) -> None:
    """Wherever it listens."""
    assert await checked(f"{host}:{free_port()}") == (0, "")


@pytest.mark.parametrize(
    ("address", "status", "sentence"),
    [
        (None, 200, "AGENT_TRACE_HTTP is not set"),
        ("", 200, "AGENT_TRACE_HTTP is not set"),
        ("127.0.0.1:1", 200, "no answer"),
        ("127.0.0.1:0", 500, "no answer"),
    ],
)
async def test_one_that_does_not_is_not(address: str | None, status: int, sentence: str) -> None:
    """With a sentence that says why."""
    code, said = await checked(address, status)
    assert (code, sentence in said) == (1, True), said


async def test_another_answer_is_not_healthy() -> None:
    """Only 200 is."""
    code, said = await checked(f"127.0.0.1:{free_port()}", 503)
    assert (code, "not 200" in said) == (1, True), said
