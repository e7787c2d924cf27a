"""Answers to the shim: for whole groups of lines, and at once where somebody waits for them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_trace_sidecar.pipeline import intake
from agent_trace_sidecar.pipeline.intake import Intake
from agent_trace_sidecar.redaction import Redactor
from agent_trace_sidecar.spool.spool import Spool
from agent_trace_sidecar.telemetry.logging import logger
from tests.support.envelopes import Shim
from tests.support.waiting import eventually


class Fed:
    """An intake in this process, between two pipes."""

    def __init__(self, folder: Path) -> None:
        reader, self.writer = os.pipe()
        self.answers, to_shim = os.pipe()
        self.spools: list[Spool] = []
        self.ended: list[bool] = []
        self.intake = Intake(
            folder,
            Redactor(enabled=False),
            self,
            logger(),
            on_spool=self.spools.append,
            on_durable=lambda: None,
            on_end=lambda: self.ended.append(True),
        )
        self.intake.start(reader, to_shim)

    def observe(self, line: bytes) -> None:
        """Nothing is seen."""

    def send(self, line: bytes) -> None:
        """Write a line, and wait until it is in the spool's file."""
        before = self.spools[0].end if self.spools else 0
        os.write(self.writer, line + b"\n")
        eventually(lambda: self.spools and self.spools[0].end > before, 10, "the line is taken")

    def answered(self) -> bytes:
        """What the shim gets next."""
        return os.read(self.answers, 65536)


@pytest.fixture(name="fed")
def _fed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fed]:
    """An intake whose pause between two groups is longer than any test."""
    monkeypatch.setattr(intake, "_GROUP_S", 600.0)
    fed = Fed(tmp_path)
    yield fed
    os.close(fed.writer)
    eventually(lambda: fed.ended, 10, "the end of stdin ends the pause, too")
    fed.spools[0].close()


def test_lines_that_come_one_by_one_are_answered_together_and_a_bye_at_once(fed: Fed) -> None:
    """The first line waits for nothing: so the shim learns that the sidecar works."""
    shim = Shim()
    fed.send(shim.line("hello"))
    assert fed.answered() == b'{"ack":1}\n'
    for _ in range(3):
        fed.send(shim.line("tool.execute.before"))
    fed.send(shim.line("bye"))
    assert fed.answered() == b'{"ack":5}\n'


def test_what_looks_like_a_bye_within_a_line_is_none(fed: Fed) -> None:
    """Only where the shim writes the hook's name; so a session's text makes no difference."""
    shim = Shim()
    fed.send(shim.line("hello"))
    assert fed.answered() == b'{"ack":1}\n'
    fed.send(shim.line("event", {"text": "x" * 1000, "inner": {"hook": "bye"}}))
    fed.send(shim.line("bye"))
    assert fed.answered() == b'{"ack":3}\n'
