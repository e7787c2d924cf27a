"""Opens a finished log that a person names: compressed and UTF-16 logs as plain ones, and nothing that is no log."""

import codecs
import gzip
import re
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Final, TypeAlias

import msgspec

from agent_trace_sidecar.limits.files import open_regular
from agent_trace_sidecar.sources.forms import REMEDY, Form, form_of

_LOOK_BYTES: Final = 1024 * 1024
"""An event must begin in the first part of a log of this size."""
_LAYERS: Final = 3
"""So often a file is unpacked: a compressed UTF-16 log twice."""
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
        for _ in range(_LAYERS):
            unpack = _unpacker(file.read(4))
            file.seek(0)
            if unpack is None:
                break
            file = _unpacked(path, file, unpack)
        _check(path, file.read(_LOOK_BYTES))
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def _check(path: Path, head: bytes) -> None:
    if not head.strip(b"\0 \t\r\n"):
        return
    if _EVENT.search(head):
        *lines, rest = head.split(b"\n")
        if b"}\r{" in rest and not lines:
            raise NotALogError(path, "its lines end with CR alone: end them with LF")
        if lines and not any(map(_is_object, lines)):
            raise NotALogError(path, "none of its first lines is a JSON object: write each event as one line")
        return
    form = form_of(head)
    if form is None or form is Form.WIRE:
        raise NotALogError(path, "its lines are not JSON objects with v, id, seq, at, instance and hook")
    raise NotALogError(path, f"it is {form.value}; {REMEDY[form]}")


def _is_object(line: bytes) -> bool:
    try:
        msgspec.json.decode(line.strip(b"\0 \t\r").removeprefix(codecs.BOM_UTF8), type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):
        return False
    return True


def _unpacker(head: bytes) -> Unpack | None:
    if head.startswith(b"\x1f\x8b"):
        return _gzip
    if head == b"\x28\xb5\x2f\xfd" or _SKIPPABLE.fullmatch(head):
        return _zstd
    if head in _UNMARKED:
        return _UNMARKED[head]
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
        raise NotALogError(path, "it is cut off or damaged, and can't be unpacked: copy it again") from None
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


def _utf16(file: IO[bytes], encoding: str = "utf-16") -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    while chunk := file.read(_LOOK_BYTES):
        yield decoder.decode(chunk).encode()
    yield decoder.decode(b"", final=True).encode()


_SKIPPABLE: Final = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")
"""The magic number of a frame that holds no data, as parallel compressors write it first."""
_UNMARKED: Final[Mapping[bytes, Unpack]] = {
    b'{\0"\0': partial(_utf16, encoding="utf-16-le"),
    b'\0{\0"': partial(_utf16, encoding="utf-16-be"),
}
"""How a log in UTF-16 without a byte order mark begins."""
