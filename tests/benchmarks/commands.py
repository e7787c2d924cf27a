"""Processor time of commands from start to end beside a Python that does nothing, with a few recorded sessions."""

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from tests.benchmarks.harness import ROOT, Bench, Row, run, sidecar
from tests.support.envelopes import DATA, RECORDINGS

GROUP: Final = "commands"
_COMMANDS: Final = {
    "--help": 2.5,
    "--version": 2.5,
    "completion bash": None,
    "status": 9.0,
    "blame src/app.py": 12.0,
    "stats": None,
    "stats --help": None,
    "sessions": None,
    "usage": None,
    "export": None,
    "validate {traces}": None,
    "init --help": None,
    "doctor": None,
    "replay {log}": None,
}
"""Each with what it may take, as a multiple of `python -c pass`. `replay` finds that everything is stored."""


def rows(bench: Bench) -> Iterator[Row]:
    """A row for each command."""
    project, log, traces = _project(bench.scratch), _log("basic-edit-write-bash"), bench.scratch / "traces.jsonl"
    with bench.database() as url:
        env = bench.environment(url)
        run(sidecar("replay", *map(str, map(_log, RECORDINGS))), env)
        traces.write_text(run(sidecar("export"), env).stdout)
        given = {"log": log, "traces": traces}
        commands = {name: [part.format(**given) for part in name.split()] for name in _COMMANDS}
        contenders = {name: partial(_seconds, sidecar(*parts), env, project) for name, parts in commands.items()}
        nothing = partial(_seconds, [sys.executable, "-c", "pass"], env, project)
        found = bench.alternate("s", {"python -c pass": nothing, **contenders})
    python = found["python -c pass"]
    for name, most in _COMMANDS.items():
        ratio = found[name].median / python.median
        what = f"`{name.replace(' {log}', ' FILE').replace(' {traces}', ' FILE')}`"
        target = f"<= {most:g}x" if most else ""
        yield Row(GROUP, what, found[name], "python -c pass", python, ratio, target, ratio <= most if most else None)


def _seconds(command: list[str], env: dict[str, str], folder: Path) -> float:
    """Of the processor, with all processes that it starts; a `status` or `doctor` that finds something exits with 1."""
    return run(command, {**env, "PYTHONPATH": str(ROOT)}, cwd=folder, codes=(0, 1)).cpu_s


def _log(name: str) -> Path:
    return DATA / "recordings" / f"{name}.jsonl"


def _project(scratch: Path) -> Path:
    """A repository with one small file."""
    folder = scratch / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "app.py").write_text("".join(f"value_{number} = {number}\n" for number in range(20)))
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"]):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)
    return folder
