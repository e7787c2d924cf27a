"""`replay --jobs`: logs of different runs at once, each run's in a process of its own.

The logs of one run are replayed one after the other, in the order given: the rows of an event depend on those before.
A process sends its parent JSON messages over a pipe; when the parent is gone, the next message fails and the process
ends. Only the parent handles Ctrl-C.
"""

import asyncio
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from agent_trace_sidecar.commands.progress import Reached
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits import MAX_LINE_BYTES
from agent_trace_sidecar.opencode import wire
from agent_trace_sidecar.pipeline.replay import replay
from agent_trace_sidecar.pipeline.shipper import Shipper
from agent_trace_sidecar.sources.file_log import FileLog
from agent_trace_sidecar.sources.plain import NotALogError, open_plain
from agent_trace_sidecar.telemetry import logging as log

_SPAWN: Final = multiprocessing.get_context("spawn")


class Result(msgspec.Struct, frozen=True, tag=True):
    """A log that was replayed, or not: `code` is the exit code that it calls for."""

    label: str
    sentence: str
    code: int = 0


class Progressed(msgspec.Struct, frozen=True, tag=True):
    """How far a log is."""

    label: str
    reached: Reached


_message: Final = msgspec.json.Decoder(Result | Progressed)


class _Job(NamedTuple):
    process: SpawnProcess
    files: list[Path]
    """Those without a result yet."""


def replay_at_once(
    config: Config,
    files: Sequence[Path],
    jobs: int,
    progress: Callable[[str, Reached], None],
    as_result: Callable[[Path, Exception], Result],
) -> list[Result]:
    """Replay logs in at most `jobs` processes; the results are in the order of the files.

    A log that fails ends its own run's process alone. Ctrl-C ends all of them.
    """
    waiting = deque(_runs(list(dict.fromkeys(files))))
    running: dict[Connection, _Job] = {}
    results: dict[str, Result] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                receiver, job = _start(config, waiting.popleft(), as_result)
                running[receiver] = job
            ready = wait(list(running))
            for receiver in [one for one in running if one in ready]:
                try:
                    message = _message.decode(receiver.recv_bytes())
                except EOFError:
                    results |= {one.label: one for one in _unfinished(running.pop(receiver))}
                    receiver.close()
                    continue
                if isinstance(message, Progressed):
                    progress(message.label, message.reached)
                else:
                    results[message.label] = message
                    running[receiver].files.remove(Path(message.label))
    finally:
        for job in running.values():
            job.process.terminate()
        for job in running.values():
            job.process.join()
    return [results[str(file)] for file in dict.fromkeys(files)]


def _runs(files: Sequence[Path]) -> list[list[Path]]:
    """The files by the run that their first line is of; one that can't be read is alone, and its job reports why."""
    runs: dict[object, list[Path]] = {}
    for file in files:
        runs.setdefault(_run_of(file) or file, []).append(file)
    return list(runs.values())


def _run_of(file: Path) -> object:
    try:
        with open_plain(file) as plain:
            identity = wire.identity(plain.readline(MAX_LINE_BYTES))
    except (OSError, NotALogError):
        return None
    return identity.instance if identity else None


def _start(
    config: Config, files: list[Path], as_result: Callable[[Path, Exception], Result]
) -> tuple[Connection, _Job]:
    receiver, sender = _SPAWN.Pipe(duplex=False)
    process = _SPAWN.Process(target=_work, args=(config, files, sender, as_result))
    with _interrupts_blocked(), sender:
        process.start()
    return receiver, _Job(process, list(files))


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """What is started in this block never gets a SIGINT: the terminal sends it to all processes of a command."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _unfinished(job: _Job) -> list[Result]:
    """The results of files whose process has ended without one."""
    job.process.join()
    code = job.process.exitcode or 0
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return [
        Result(str(file), f"{file}: its process ended with {how}. The same command resumes where it stopped.", 1)
        for file in job.files
    ]


# -- in the other process ------------------------------------------------------------------------------------------


def _work(
    config: Config, files: Sequence[Path], sender: Connection, as_result: Callable[[Path, Exception], Result]
) -> None:
    """Replay files one after the other, up to the first that fails."""

    def send(message: Result | Progressed) -> None:
        sender.send_bytes(msgspec.json.encode(message))

    def progress(at: FileLog, shipper: Shipper) -> None:
        send(Progressed(at.name.label, Reached.of(shipper)))

    with sender, suppress(BrokenPipeError):  # the parent is gone
        failed = ""
        for file in files:
            if failed:
                send(Result(str(file), f"{file}: not read, as {failed} of the same run failed.", 1))
                continue
            try:
                (done,) = asyncio.run(replay(config, log.logger(), [file], progress))
            except BrokenPipeError:
                raise
            except Exception as exc:  # noqa: BLE001 - `as_result` raises what it has no sentence for
                send(as_result(file, exc))
                failed = str(file)
            else:
                send(Result(str(file), done.sentence()))
