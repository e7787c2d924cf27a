"""Opens a finished log that a person names: compressed and UTF-16 logs as plain ones, and nothing that is no log."""

import codecs
import gzip
import re
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final, TypeAlias

from agent_trace_sidecar.limits.files import open_regular
from agent_trace_sidecar.sources.forms import REMEDY, Form, form_of

_LOOK_BYTES: Final = 1024 * 1024
"""An event must begin in the first part of a log of this size."""
_EVENT: Final = re.compile(rb'(?:^|[\n\0])\s*(?:\xef\xbb\xbf)?\{[^\n]{0,4096}?"v"\s*:\s*\d')

Unpack: TypeAlias = Callable[[IO[bytes]], Iterator[bytes]]
"""Gives the plain bytes of a file."""


class NotALogError(Exception):
    """The file is no event log; the text is one sentence that names it."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is not an event log: {why}.")


def open_plain(path: Path) -> IO[bytes]:
    """Open a log; one that is compressed, or UTF-16, is unpacked into a file without a name first.

    Raises:
        NotALogError: it is no log, or damaged.
        OSError: it can't be read, or there is no room to unpack it.
    """
    file = open_regular(path)
    try:
        unpack = _unpacker(file.read(4))
        file.seek(0)
        plain = _unpacked(path, file, unpack) if unpack else file
        _check(path, plain.read(_LOOK_BYTES))
        plain.seek(0)
    except BaseException:
        file.close()
        raise
    return plain


def _check(path: Path, head: bytes) -> None:
    if not head.strip(b"\0 \t\r\n") or _EVENT.search(head):
        return
    form = form_of(head)
    if form is None or form is Form.WIRE:
        raise NotALogError(path, "its lines are not JSON objects with v, id, seq, at, instance and hook")
    raise NotALogError(path, f"it is {form.value}; {REMEDY[form]}")


def _unpacker(head: bytes) -> Unpack | None:
    if head.startswith(b"\x1f\x8b"):
        return _gzip
    if head == b"\x28\xb5\x2f\xfd":
        return _zstd
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _utf16
    return None


def _unpacked(path: Path, file: IO[bytes], unpack: Unpack) -> IO[bytes]:
    plain = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        with file:
            plain.writelines(unpack(file))
        plain.seek(0)
    except (EOFError, zlib.error, gzip.BadGzipFile, ValueError):
        plain.close()
        raise NotALogError(path, "it is cut off or damaged, and can't be unpacked") from None
    except BaseException:
        plain.close()
        raise
    return plain


def _gzip(file: IO[bytes]) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=file) as source:
        while chunk := source.read(_LOOK_BYTES):
            yield chunk


def _zstd(file: IO[bytes]) -> Iterator[bytes]:
    """Frame by frame, as parallel compressors and concatenation make them.

    Raises:
        EOFError: a frame is cut off or damaged.
    """
    import zstandard  # noqa: PLC0415 - few logs are compressed so

    frame = None
    while chunk := file.read(_LOOK_BYTES):
        while chunk:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            try:
                yield frame.decompress(chunk)
            except zstandard.ZstdError:
                raise EOFError from None
            chunk = frame.unused_data if frame.eof else b""
            if frame.eof:
                frame = None
    if frame is not None:
        raise EOFError


def _utf16(file: IO[bytes]) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-16")()
    while chunk := file.read(_LOOK_BYTES):
        yield decoder.decode(chunk).encode()
    yield decoder.decode(b"", final=True).encode()
