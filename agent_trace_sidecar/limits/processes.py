"""The one way to start a program.

It is found in an absolute folder of PATH: an empty or relative entry means the working directory, which may be
a foreign project. It runs in a folder that the caller names, with an environment of the few names that programs
need: no database URL and no password of ours reaches git, whose configuration may come from a stranger. Its time and
its output are bounded, except where a person talks to it.
"""

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Final, NamedTuple

_ENVIRONMENT: Final = (
    "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "TERM",
    "XDG_*", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH",
)  # fmt: skip
"""What every program may know, beside PATH."""
_CHUNK: Final = 256 * 1024
_END_S: Final = 0.1
"""What a program has to end after its last output, even when its time is up."""

Command = Sequence[str | Path]


class ProcessError(Exception):
    """A program did not start, printed too much or took too long; the text names which."""


class Finished(NamedTuple):
    """How a program ended."""

    code: int
    """Its exit code; a negative signal."""
    output: bytes
    """What it printed to stdout."""


def search_path(environ: Mapping[str, str] = os.environ) -> str:
    """PATH without its relative entries."""
    folders = environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(folder for folder in folders if folder.startswith("/"))


def find(program: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """The absolute path of a program on PATH; None where there is none."""
    path = search_path(environ)
    from shutil import which  # noqa: PLC0415 - its archives take as long to load as all of this package

    return which(program, path=path) if path and "/" not in program else None


def environment(*names: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a program may know: the usual, and further variables by name or pattern (`PG*`)."""
    patterns = (*_ENVIRONMENT, *names)
    kept = {name: value for name, value in environ.items() if any(fnmatchcase(name, one) for one in patterns)}
    return {**kept, "PATH": search_path(environ)}


def run(
    command: Command,
    *,
    cwd: Path,
    env: Mapping[str, str],
    timeout_s: float,
    max_bytes: int,
    given: bytes = b"",
) -> Finished:
    """Run a program to its end, in a session of its own; `given` is its stdin.

    Raises:
        ProcessError: it did not start, or was stopped at a bound.
    """
    deadline = time.monotonic() + timeout_s
    process = _popen(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.PIPE if given else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        new_session=True,
    )
    with process:
        try:
            output = _talk(process, given, deadline, max_bytes)
            process.wait(max(_END_S, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise ProcessError(f"took more than {timeout_s:g} s") from None
        finally:
            if process.returncode is None:
                _kill_session(process)
    return Finished(process.returncode, output)


def piped(
    command: Command, *, cwd: Path, env: Mapping[str, str], stderr: int | None = subprocess.DEVNULL
) -> "subprocess.Popen[bytes]":
    """Start a program that takes requests and answers through pipes. The caller kills it; a `stderr` of None is ours.

    Raises:
        ProcessError: it did not start.
    """
    return _popen(command, cwd=cwd, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)


def run_logged(
    command: Command, *, cwd: Path, env: Mapping[str, str], log: IO[bytes], given: bytes = b"", pass_fds: Iterable[int]
) -> int:
    """Run a program that bounds its own time, in a session of its own, its output in a log; return its exit code.

    Raises:
        OSError: it did not start.
    """
    return subprocess.run(
        _checked(command),
        cwd=cwd,
        env=dict(env),
        input=given,
        stdout=log,
        stderr=log,
        start_new_session=True,
        pass_fds=tuple(pass_fds),
        check=False,
    ).returncode


def detached(command: Command, *, cwd: Path, env: Mapping[str, str], pass_fds: Iterable[int]) -> None:
    """Start a program that outlives us, in a session of its own and without any of our streams; it ends by itself.

    Raises:
        ProcessError: it did not start.
    """
    try:
        process = subprocess.Popen(
            _checked(command),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=tuple(pass_fds),
        )
    except OSError as exc:
        raise ProcessError(f"did not start: {exc.strerror}") from None
    process.returncode = 0  # its result is not awaited: Popen would warn of that


def interact(command: Command, *, env: Mapping[str, str]) -> int:
    """Run a program that the user talks to, in the user's own folder; return its exit code.

    Raises:
        OSError: it did not start.
    """
    return subprocess.run(_checked(command), cwd=Path.cwd(), env=dict(env), check=False).returncode


def _popen(
    command: Command,
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdin: int,
    stdout: int,
    stderr: int | None = subprocess.DEVNULL,
    new_session: bool = False,
) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            _checked(command),
            cwd=cwd,
            env=dict(env),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            bufsize=0 if new_session else -1,
            start_new_session=new_session,
        )
    except OSError as exc:
        raise ProcessError(f"did not start: {exc.strerror}") from None


def _checked(command: Command) -> list[str]:
    if not os.path.isabs(command[0]):  # noqa: PTH117 - takes both kinds
        raise ValueError(f"{command[0]} is not an absolute path")  # a mistake of ours: `find` was left out
    return list(map(str, command))


def _kill_session(process: "subprocess.Popen[bytes]") -> None:
    """Kill a program with what it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except OSError:
        process.kill()


def _talk(process: "subprocess.Popen[bytes]", given: bytes, deadline: float, max_bytes: int) -> bytes:
    """Write and read at once, so that neither side waits for the other."""
    assert process.stdout is not None  # noqa: S101 - opened by the caller
    output, left = bytearray(), memoryview(given)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
            selector.register(process.stdin, selectors.EVENT_WRITE)
        while selector.get_map():
            for key, _ in selector.select(max(0.0, deadline - time.monotonic())):
                if key.fileobj is process.stdout:
                    chunk = os.read(key.fd, _CHUNK)
                    output += chunk
                    if not chunk:
                        selector.unregister(process.stdout)
                else:
                    left = left[_written(key.fd, left) :]
                    if not left and process.stdin is not None:
                        selector.unregister(process.stdin)
                        process.stdin.close()
            if len(output) > max_bytes:
                raise ProcessError(f"printed more than {max_bytes} bytes")
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(process.args, 0)
    return bytes(output)


def _written(fd: int, data: memoryview) -> int:
    """How many bytes were taken; all of them where the program has stopped listening."""
    try:
        return os.write(fd, data[:_CHUNK])
    except BlockingIOError:
        return 0
    except BrokenPipeError:
        return len(data)
