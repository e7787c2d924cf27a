"""`replay --jobs`: logs of different runs at once, each run's in a process of its own.

The logs of one run are replayed one after the other, in the order given: the rows of an event depend on those before.
A process reads its `Request` from stdin and writes JSON messages, one per line, to stdout; when the parent is gone, the
next message fails and the process ends. Only the parent handles Ctrl-C.
"""

import asyncio
import os
import selectors
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import Popen
from typing import Final, NamedTuple

import msgspec

from agent_trace_sidecar.commands.common import CommandError, UsageError
from agent_trace_sidecar.commands.database import command_error
from agent_trace_sidecar.commands.progress import Reached
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits import MAX_LINE_BYTES, processes
from agent_trace_sidecar.opencode import wire
from agent_trace_sidecar.pipeline.replay import replay
from agent_trace_sidecar.pipeline.shipper import Shipper
from agent_trace_sidecar.postgres.errors import StoreError
from agent_trace_sidecar.postgres.sink import FencedError
from agent_trace_sidecar.sources.file_log import FileLog
from agent_trace_sidecar.sources.plain import NotALogError, open_plain
from agent_trace_sidecar.telemetry import logging as log

PROGRAM: Final = f"from {__name__} import work; work()"
"""What one of the processes runs."""
_CHUNK: Final = 64 * 1024


class Request(msgspec.Struct, frozen=True):
    """What a process replays: `files` are the logs of one run. The settings hold a password, so no argument does."""

    config: Config
    files: list[str]


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
    process: Popen[bytes]
    files: list[Path]
    """Those without a result yet."""
    unread: bytearray
    """The begin of a message."""

    def messages(self) -> list[Result | Progressed] | None:
        """Those that have arrived since; None when the process has ended."""
        assert self.process.stdout is not None  # noqa: S101 - opened by `processes.piped`
        chunk = os.read(self.process.stdout.fileno(), _CHUNK)
        self.unread.extend(chunk)
        *lines, rest = self.unread.split(b"\n")
        self.unread[:] = rest
        return [_message.decode(line) for line in lines] if chunk else None


def replay_at_once(
    config: Config, files: Sequence[Path], jobs: int, progress: Callable[[str, Reached], None]
) -> list[Result]:
    """Replay logs in at most `jobs` processes; the results are in the order of the files.

    A log that fails ends its own run's process alone. Ctrl-C ends all of them.
    """
    waiting = deque(_runs(list(dict.fromkeys(files))))
    results: dict[str, Result] = {}
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or selector.get_map():
                while waiting and len(selector.get_map()) < jobs:
                    job = _start(config, waiting.popleft())
                    selector.register(job.process.stdout, selectors.EVENT_READ, job)  # type: ignore[arg-type]
                for key, _ in selector.select():
                    messages = key.data.messages()
                    if messages is None:
                        selector.unregister(key.fileobj)
                        results |= {one.label: one for one in _unfinished(key.data)}
                    for message in messages or ():
                        if isinstance(message, Progressed):
                            progress(message.label, message.reached)
                        else:
                            results[message.label] = message
                            key.data.files.remove(Path(message.label))
        finally:
            for key in selector.get_map().values():
                key.data.process.terminate()
            for key in selector.get_map().values():
                _end(key.data.process)
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


def _start(config: Config, files: list[Path]) -> _Job:
    command = [sys.executable, "-P", "-c", PROGRAM]
    with _interrupts_blocked():
        process = processes.piped(command, cwd=Path.cwd(), env=os.environ, stderr=None)
    assert process.stdin is not None  # noqa: S101 - opened by `processes.piped`
    with suppress(BrokenPipeError), process.stdin as stdin:  # it has ended: `_unfinished` reports how
        stdin.write(msgspec.json.encode(Request(config, list(map(str, files)))))
    return _Job(process, list(files), bytearray())


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
    _end(job.process)
    code = job.process.returncode
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return [
        Result(str(file), f"{file}: its process ended with {how}. The same command resumes where it stopped.", 1)
        for file in job.files
    ]


def _end(process: Popen[bytes]) -> None:
    """Wait for its end and close its pipes."""
    with process:
        pass


def replay_error(exc: Exception) -> CommandError:
    """Why a log was not replayed; raises what a user can't do anything about."""
    match exc:
        case NotALogError():
            return UsageError(str(exc))
        case OSError():
            return CommandError(f"{exc.filename or 'a file'} can't be read: {exc.strerror}.")
        case StoreError():
            return command_error(exc.verdict)
        case FencedError():
            return CommandError("another replay of the same file has taken over.")
        case _:
            raise exc


# -- in the other process ------------------------------------------------------------------------------------------


def work() -> None:
    """Replay the files of the request on stdin one after the other, up to the first that fails."""
    try:
        request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    except msgspec.DecodeError:
        return  # the parent was killed before it had written it
    with suppress(BrokenPipeError):  # the parent is gone
        failed = ""
        for file in map(Path, request.files):
            if failed:
                _send(Result(str(file), f"{file}: not read, as {failed} of the same run failed.", 1))
                continue
            try:
                (done,) = asyncio.run(replay(request.config, log.logger(), [file], _progress))
            except BrokenPipeError:
                raise
            except Exception as exc:  # noqa: BLE001 - `replay_error` raises what it has no sentence for
                error = replay_error(exc)
                _send(Result(str(file), f"{file}: {error}", error.code))
                failed = str(file)
            else:
                _send(Result(str(file), done.sentence()))


def _progress(at: FileLog, shipper: Shipper) -> None:
    _send(Progressed(at.name.label, Reached.of(shipper)))


def _send(message: Result | Progressed) -> None:
    os.write(1, msgspec.json.encode(message) + b"\n")  # unbuffered: nothing is left to fail at the exit
