"""Sets the stage: projects, drivers and the recording sidecar for a number of plays with a seed."""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.simulator import formatter
from tests.simulator.fast import FastDriver, sidecar
from tests.simulator.play import Play
from tests.simulator.real import RealDriver, formatter_config
from tests.simulator.world import World
from tests.support.fake_model import fake_model
from tests.support.majors import server
from tests.support.opencode import opencode
from tests.support.opencode2 import opencode2
from tests.support.postgres import fetch
from tests.support.waiting import eventually


@dataclass(frozen=True)
class Stage:
    """The plays, and what waits until all that happened in them is stored; the projects stay for a while."""

    plays: list[Play]
    finish: Callable[[], None]


@contextmanager
def fast_stage(url: str, folder: Path, seed: int, sessions: int) -> Iterator[Stage]:
    """Plays without OpenCode."""
    with sidecar(url, folder) as recorder:
        worlds = [_world(folder, seed, number) for number in range(sessions)]
        drivers = [FastDriver(world, recorder, folder / "data") for world in worlds]
        yield Stage(list(map(_play, worlds, drivers, range(sessions))), recorder.finish)


@contextmanager
def real_stage(url: str, seed: int, sessions: int, major: int = 1) -> Iterator[Stage]:
    """Plays with OpenCode of a major version."""
    with fake_model() as model, (opencode if major == 1 else opencode2)(model) as oc:
        oc.env["AGENT_TRACE_DATABASE_URL"] = url
        oc.env["AGENT_TRACE_STATE_DIR"] = str(oc.folder / "state")
        oc.config |= formatter_config(Path(formatter.__file__), sys.executable)
        worlds = [_world(oc.folder, seed, number) for number in range(sessions)]
        for world in worlds:
            command = [sys.executable, "-m", "agent_trace_sidecar", "init", str(world.root)]
            subprocess.run(command, check=True, capture_output=True, env={**os.environ, **oc.env})
        with server(oc, worlds[0].root if worlds else oc.folder) as served:

            def finish() -> None:
                served.close()
                query = "SELECT count(*) AS n FROM agent_trace_events WHERE event_name = 'bye'"
                eventually(lambda: fetch(url, query)[0]["n"] >= sessions, 60, "all is stored")

            drivers = [RealDriver(world, oc, served) for world in worlds]
            yield Stage(list(map(_play, worlds, drivers, range(sessions))), finish)


def _world(folder: Path, seed: int, number: int) -> World:
    root = folder / f"project{number}"
    root.mkdir()
    return World.begin(root, _random(seed, number))


def _play(world: World, driver: FastDriver | RealDriver, number: int) -> Play:
    return Play(world, driver, f"s{number:03d}", world.rng)


def _random(seed: int, number: int) -> random.Random:
    return random.Random(f"{seed}/{number}")  # noqa: S311 - a simulation is to be repeated
