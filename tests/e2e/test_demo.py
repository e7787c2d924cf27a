"""The promise of `make demo`: one screen, in colour, and commands that work as printed."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import completed, exit_code

SECRETS = ("mountain-Falcon-72", "9f2c71d05be84ab6a3f0")
COLOURED = re.compile(r"\x1b\[36m.*\x1b\[0m +(\d+)\) ")


def shown(env: dict[str, str]) -> str:
    """What the demo prints on a terminal."""
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "agent_trace_sidecar", "demo"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=its, stderr=subprocess.DEVNULL, env=env) as process:
        os.close(its)
        printed = b""
        try:
            while chunk := os.read(ours, 65536):
                printed += chunk
        except OSError:  # EIO: nobody has the terminal open any more
            pass
        finally:
            os.close(ours)
        assert exit_code(process, 60) == 0, printed
    return printed.decode().replace("\r\n", "\n")


@pytest.fixture(name="env")
def _env(tmp_path: Path) -> dict[str, str]:
    """A home whose name needs quotes, and settings for other recordings; the program is not on PATH."""
    return {
        "PATH": os.defpath,
        "HOME": str(tmp_path / "it's home"),
        "TERM": "xterm",
        "DATABASE_URL": "postgresql://x/y",
        "AGENT_TRACE_CAPTURE": "metadata",
        "AGENT_TRACE_REDACTION": "off",
    }


def test_the_demo_fits_a_screen_and_its_commands_work(env: dict[str, str]) -> None:
    """Blame in colour, a table, what was masked, three pages, commands; a second time it shows the same."""
    text = shown(env)
    assert len(text.splitlines()) <= 40
    assert max(len(line) for line in re.sub(r"\x1b\[\d*m", "", text.partition("Reports,")[0]).splitlines()) <= 132
    assert {int(number) for number in COLOURED.findall(text)} == set(range(5, 12))
    assert re.findall(r"36mai (\S+)", text) == ["gpt-5-codex", "claude-sonnet-4-5"]
    assert "14 lines in 1 file: 7 ai, 7 human" in text
    assert "Secrets in the output of `cat .env` were masked before storage: 8 values in 2 events." in text

    pages = [Path(line.strip()) for line in re.findall(r"(?m)^  (/.*\.html)$", text)]
    assert [page.name for page in pages] == ["repository.html", "session.html", "period.html"]
    assert not [secret for page in pages for secret in SECRETS if secret in page.read_text()]

    commands = text.partition("Next commands:\n")[2]
    assert commands.count("../agent-trace-sidecar ") >= 2
    done = completed(["sh", "-e", "-x", "-c", commands], env=env, cwd="/")
    assert done.returncode == 0, done.stderr
    assert '"conversations"' in done.stdout
    assert not [secret for secret in SECRETS if secret in done.stdout]

    assert shown(env) == text


def test_a_demo_of_another_version_starts_anew(env: dict[str, str]) -> None:
    """Its tables may lack what this version writes: they hold nothing but what is bundled."""
    text = shown(env)
    folder = Path(env["HOME"]) / ".local" / "state" / "agent-trace-sidecar" / "demo"
    statement = "ALTER TABLE agent_trace_dedupe DROP COLUMN content_hash; TRUNCATE agent_trace_dedupe"
    done = completed([str(folder / "agent-trace-sidecar"), "psql", "-qc", statement], env=env)
    assert done.returncode == 0, done.stderr
    (folder / "schema").unlink()

    assert shown(env) == text
