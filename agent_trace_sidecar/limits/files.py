"""The one way to read a foreign file, and to write one where a foreign file may already be.

Reading: a name may lead to a pipe without a writer, to a device, to a file without an end, or to a disk that has
gone away. So: regular files only, checked before they are opened and once more after; opened without waiting; so
many bytes and so many seconds at most. What blocks inside the kernel all the same is `watchdog`'s to end.

Writing: a name may be a planted link. So: a new file of an unforeseeable name beside the target,
which then takes its place; in foreign folders no link is followed on the way.
"""

import contextlib
import errno
import os
import stat
import time
from pathlib import Path
from typing import IO, Final, NamedTuple

StrPath = str | os.PathLike[str]

MAX_FILE_BYTES: Final = 2 * 1024 * 1024
"""Bigger files are attributed by what the tool reports."""
READ_S: Final = 5.0
"""How long one file may take; the calls of a step have budgets of their own besides."""
_CHUNK: Final = 1024 * 1024
_OTHERS_WRITE: Final = 0o022
_NOT_REGULAR: Final = "it is not a regular file"
_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class FileRefusedError(OSError):
    """A file is not read or written for what it is; `strerror` names it."""

    def __init__(self, why: str, path: StrPath) -> None:
        super().__init__(errno.EPERM, why, os.fspath(path))


class NotRegularError(FileRefusedError):
    """It is there, and no regular file: a folder, a pipe, a device, or a link that is not to be followed."""


class TooLargeError(FileRefusedError):
    """It holds more bytes than may be read."""


class ForeignError(FileRefusedError):
    """It belongs to another user, or others may write it."""


class Content(NamedTuple):
    """A file's bytes; no file at all is empty and of time 0."""

    data: bytes
    written_ns: int
    """When they were last written, since the epoch; a program can set it."""
    changed_ns: int = 0
    """When the file was last written, moved or otherwise touched; only the kernel sets it."""


def read_whole(path: StrPath, max_bytes: int, *, follow_links: bool = True) -> Content:
    """The content of a regular file of at most `max_bytes`.

    Raises:
        FileNotFoundError: there is none.
        NotRegularError: it is something else.
        TooLargeError: it is larger.
        OSError: it can't be read, or not in time.
    """
    fd, status = _opened(path, follow_links=follow_links)
    try:
        data = _read(fd, max_bytes + 1) if status.st_size <= max_bytes else None
    finally:
        os.close(fd)
    if data is None or len(data) > max_bytes:
        raise TooLargeError(f"it is larger than {max_bytes} bytes", path)
    return Content(data, status.st_mtime_ns, status.st_ctime_ns)


def read_own(path: StrPath, max_bytes: int) -> bytes:
    """The content of a file that only this user, or root, can have written.

    Raises:
        ForeignError: another user can.
        OSError: as of `read_whole`.
    """
    fd, status = _opened(path, follow_links=False)
    try:
        if status.st_uid not in {os.geteuid(), 0} or status.st_mode & _OTHERS_WRITE:
            raise ForeignError("other users can write it", path)
        data = _read(fd, max_bytes + 1)
    finally:
        os.close(fd)
    if len(data) > max_bytes:
        raise TooLargeError(f"it is larger than {max_bytes} bytes", path)
    return data


def read_part(path: StrPath, max_bytes: int, *, offset: int = 0) -> bytes:
    """Up to `max_bytes` of a regular file from `offset` on; empty where there is no such file.

    Raises:
        OSError: it can't be read, or not in time.
    """
    try:
        fd, _ = _opened(path, follow_links=True)
    except (FileNotFoundError, NotADirectoryError, NotRegularError):
        return b""
    try:
        if offset:
            os.lseek(fd, offset, os.SEEK_SET)
        return _read(fd, max_bytes)
    finally:
        os.close(fd)


def open_regular(path: StrPath) -> IO[bytes]:
    """A regular file that the user has named, to be read piece by piece.

    Raises:
        NotRegularError: it is something else.
        OSError: it can't be opened.
    """
    fd, _ = _opened(path, follow_links=True)
    return os.fdopen(fd, "rb")


def read_small(path: StrPath, max_bytes: int = 4096) -> str:
    """A small file's text without blanks around it; empty where there is none.

    Raises:
        OSError: it can't be read, or not in time.
    """
    return read_part(path, max_bytes).decode(errors="replace").strip()


def read_inside(root: Path, relative: str) -> Content | None:
    """The content of a regular file inside `root`; None for anything that is not to be read.

    Raises:
        OSError: the file is there and can't be read.
    """
    real_root = os.path.realpath(root)
    real = os.path.realpath(os.path.join(real_root, relative))  # noqa: PTH118 - Path has no realpath of its speed
    if os.path.commonpath((real_root, real)) != real_root:
        return None
    try:
        return read_whole(real, MAX_FILE_BYTES, follow_links=False)
    except (FileNotFoundError, NotADirectoryError):
        return Content(b"", 0)
    except (NotRegularError, TooLargeError):
        return None


def _opened(path: StrPath, *, follow_links: bool) -> tuple[int, os.stat_result]:
    """A descriptor of a regular file. The check before is for devices: opening one may already have an effect."""
    if not stat.S_ISREG(os.stat(path, follow_symlinks=follow_links).st_mode):  # noqa: PTH116 - takes both kinds
        raise NotRegularError(_NOT_REGULAR, path)
    fd = os.open(path, _FLAGS if follow_links else _FLAGS | os.O_NOFOLLOW)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise NotRegularError(_NOT_REGULAR, path)
    return fd, status


def _read(fd: int, max_bytes: int) -> bytes:
    """So many bytes, or all there are."""
    deadline = time.monotonic() + READ_S
    chunks: list[bytes] = []
    left = max_bytes
    while left and (chunk := os.read(fd, min(left, _CHUNK))):
        chunks.append(chunk)
        left -= len(chunk)
        if time.monotonic() > deadline:
            raise TimeoutError(errno.ETIMEDOUT, f"not read within {READ_S:g} s")
    return b"".join(chunks)


# -- writing ---------------------------------------------------------------------------------------------------


def write_whole(
    path: Path,
    data: bytes,
    *,
    mode: int = 0o600,
    owner: int | None = None,
    below: Path | None = None,
    durable: bool = True,
) -> None:
    """Put a file with these bytes in the place of whatever regular file or link has its name: all of it or nothing.

    Args:
        path: the file.
        data: its content.
        mode: its mode, whatever the umask.
        owner: the number of the user whose it is, where not ours; never that of what was there before.
        below: a foreign folder above it: from there on missing folders are made, and no link is followed
            or replaced.
        durable: whether it survives a crash of the machine.

    Raises:
        NotRegularError: a link or something that is no file is in the way.
        OSError: it can't be written.
    """
    folder = _folder(path.parent) if below is None else _folder_below(below, path.parent)
    try:
        _check_replaceable(folder, path, links=below is None)
        draft = f".{path.name[:100]}.{os.urandom(8).hex()}"
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(fd, mode)
                if owner is not None:
                    os.fchown(fd, owner, -1)
                if durable:
                    os.fsync(fd)
            os.rename(draft, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(draft, dir_fd=folder)
            raise
        if durable:
            os.fsync(folder)
    finally:
        os.close(folder)


def remove_file(path: Path, *, below: Path | None = None) -> None:
    """Remove a file or a link; with `below` as for `write_whole`, no link is followed on the way.

    Raises:
        FileNotFoundError: there is none.
        NotRegularError: a link is on the way to it.
        OSError: it can't be removed.
    """
    folder = _folder(path.parent) if below is None else _folder_below(below, path.parent, make=False)
    try:
        os.unlink(path.name, dir_fd=folder)
    finally:
        os.close(folder)


def private_folder(path: Path) -> None:
    """Make sure that a folder is there, is ours and is closed to others; a name in /tmp may have been taken.

    Raises:
        NotRegularError: a link or a file has its name.
        ForeignError: it belongs to another user.
        OSError: it can't be made.
    """
    make_folders(path)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotRegularError("it is not a folder", path)
    if status.st_uid != os.geteuid():
        raise ForeignError("it belongs to another user", path)
    if status.st_mode & 0o077:
        path.chmod(0o700)


def state_folder(path: Path) -> None:
    """As `private_folder`, for the folder that the user names, which in a container is root's with leave to write.

    Raises:
        ForeignError: it belongs to another user.
        OSError: it can't be made.
    """
    make_folders(path)
    status = path.stat()
    if status.st_uid == os.geteuid():
        if status.st_mode & _OTHERS_WRITE:
            path.chmod(stat.S_IMODE(status.st_mode) & ~_OTHERS_WRITE)
    elif status.st_uid != 0:
        raise ForeignError("it belongs to another user", path)


def make_folders(path: Path) -> None:
    """Make a folder and those above it, closed to others."""
    for folder in (*reversed(path.parents), path):
        with contextlib.suppress(FileExistsError):
            if not folder.is_dir():
                folder.mkdir(mode=0o700)


def _folder(path: StrPath, within: int | None = None) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    return os.open(path, flags if within is None else flags | os.O_NOFOLLOW, dir_fd=within)


def _folder_below(top: Path, path: Path, *, make: bool = True) -> int:
    """Open a folder step by step from `top` on, making what is missing."""
    at = _folder(top)
    try:
        for name in path.relative_to(top).parts:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=at)
            try:
                inner = _folder(name, within=at)
            except OSError as exc:
                if exc.errno in {errno.ELOOP, errno.ENOTDIR}:
                    raise NotRegularError(f"{name} in it is a link, or not a folder", path) from None
                raise
            os.close(at)
            at = inner
    except BaseException:
        os.close(at)
        raise
    return at


def _check_replaceable(folder: int, path: Path, *, links: bool) -> None:
    """See that nothing is there already that must not be replaced.

    Raises:
        NotRegularError: something is.
    """
    try:
        status = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISLNK(status.st_mode):
        if not links:
            raise NotRegularError("it is a link", path)
    elif not stat.S_ISREG(status.st_mode):
        raise NotRegularError(_NOT_REGULAR, path)
