"""A hostile name, title, error or line is shown as text: it commands no terminal and begins no line of its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_trace_sidecar.commands.output import complain, say, say_json
from agent_trace_sidecar.limits.text import printable, printable_json, printable_line
from agent_trace_sidecar.telemetry.logging import logger
from tests.support.envelopes import Shim
from tests.support.sidecar import ShimDouble, sidecar_env
from tests.support.waiting import patient

HOSTILE = "a\x1b]52;c;cm0gLXJm\x07b\x1b[2J\nhealthy: all is well\r\x9b1m\u202etxt.exe\u2066\u2028z"
SHOWN = r"a\x1b]52;c;cm0gLXJm\x07b\x1b[2J\nhealthy: all is well\r\x9b1m\u202etxt.exe\u2066\u2028z"
OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def test_a_hostile_text_is_written_out() -> None:
    """As Python would write it, so that a person sees what is there."""
    assert printable(HOSTILE) == SHOWN
    assert printable("plain Ünïcödé 漢字 \t 🙂") == "plain Ünïcödé 漢字 \t 🙂"


@given(st.text())
def test_no_text_is_obeyed(text: str) -> None:
    """Whatever it is; JSON stays the same JSON."""
    assert not OBEYED.search(printable(text))
    assert "\n" not in printable(text)
    assert not OBEYED.search(re.sub(r"\x1b\[[0-9;]*m", "", printable_line(text)))
    document = json.dumps({"a": text}, ensure_ascii=False)
    shown = printable_json(document)
    assert json.loads(shown) == json.loads(document)
    assert not OBEYED.search(shown)


def test_our_colours_stay() -> None:
    """And nothing else that begins with ESC."""
    assert printable_line("\x1b[36mai\x1b[0m  x\x1b[2J") == "\x1b[36mai\x1b[0m  x\\x1b[2J"


def test_a_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Each text that is given is one, whatever stands in it."""
    say("one", HOSTILE)
    complain(HOSTILE)
    say_json(json.dumps({"a": HOSTILE}, ensure_ascii=False))
    shown = capsys.readouterr()
    assert shown.out.splitlines()[:2] == ["one", SHOWN]
    assert len(shown.out.splitlines()) == 3
    assert shown.err == f"agent-trace-sidecar: {SHOWN}\n"


def test_a_log_entry_is_one_line(tmp_path: Path) -> None:
    """Its values come from paths and errors."""
    with (tmp_path / "log").open("wb") as file:
        read, write = os.pipe()
        logger(fd=write).warning("tail_file_gone", path=HOSTILE, hint="x")
        file.write(os.read(read, 10_000))
    text = (tmp_path / "log").read_text()
    assert text.count("\n") == 1
    assert not OBEYED.search(text)


def test_commands_show_hostile_events_as_text(migrated_url: str, tmp_path: Path) -> None:
    """A session in a folder of such a name, and an event that can't be stored: `status`, `dead-letters`, `blame`."""
    project = tmp_path / "pro\x1b[2Jject"
    project.mkdir()
    (project / "a\x1b]0;x\x07.txt").write_text("\x1b[2J\x1b]52;c;eA==\x07 line\u202e\n")
    env = sidecar_env(tmp_path / "state", migrated_url, flush_ms="30")
    shim = Shim(HOSTILE)
    with ShimDouble(env, log=tmp_path / "said") as double:
        double.send(1, shim.line("hello", {"opencode": HOSTILE}))
        double.send(2, json.dumps({"v": 1, HOSTILE: "\x1b]52;c;eA==\x07"}, ensure_ascii=False).encode())
        double.send(2, shim.assistant(modelID=HOSTILE, providerID=HOSTILE))
        written = {"filePath": f"{HOSTILE}/a\x1b[2J.txt", "content": "one\n"}
        double.send(3, shim.after("write", written, {"exists": False}))
        assert double.close() == 0
    commands = [["status"], ["status", "--json"], ["dead-letters"], ["dead-letters", "--json"], ["export"], ["doctor"]]
    commands += [["stats"], ["blame", "a\x1b]0;x\x07.txt"], ["blame", "none\x1b[2J"], ["report", "--since", "1d"]]
    for words in commands:
        command = [sys.executable, "-m", "agent_trace_sidecar", *words]
        done = subprocess.run(command, cwd=project, env=env, capture_output=True, check=False, timeout=patient(60))
        shown = (done.stdout + done.stderr).decode()
        assert shown, words
        assert not OBEYED.search(shown), (words, shown)
        assert "\nhealthy: all is well" not in shown, words
    assert not OBEYED.search((tmp_path / "said").read_text())
