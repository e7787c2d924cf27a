r"""Passwords with a backslash in the password file, which the driver hands on as they are written: `\:` means `:`."""

import getpass
import os
import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from agent_trace_sidecar.limits.files import read_whole

_LINE: Final = r"((?:\\.|[^\\:])*):" * 4 + r"(.+)"
"""Host, port, database, user, and the rest of the line."""
_MAX_BYTES: Final = 1024 * 1024


def password(url: str, environ: Mapping[str, str]) -> str | None:
    """The password for the URL's one host, from a file that has backslashes; None where the driver finds it itself."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if parts.password or query.get("password") or environ.get("PGPASSWORD"):
        return None
    text = _read(query.get("passfile") or environ.get("PGPASSFILE") or f"{environ.get('HOME', '')}/.pgpass")
    if "\\" not in text:
        return None
    user = unquote(parts.username or "") or query.get("user") or environ.get("PGUSER") or getpass.getuser()
    keys = (
        {unquote(parts.hostname or "") or query.get("host") or environ.get("PGHOST") or "localhost"},
        {str(parts.port or query.get("port") or environ.get("PGPORT") or 5432)},
        {unquote(parts.path.strip("/")) or query.get("dbname") or environ.get("PGDATABASE") or user},
        {user},
    )
    if next(iter(keys[0])).startswith("/"):
        keys[0].add("localhost")  # what a socket's server is called there
    for fields in _lines(text):
        if all(field == "*" or field in wanted for field, wanted in zip(fields, keys, strict=False)):
            return fields[4]
    return None


def _lines(text: str) -> Iterator[list[str]]:
    """Host, port, database, user and password of each line."""
    for line in text.splitlines():
        found = re.fullmatch(_LINE, line)
        if found and not line.startswith("#"):
            yield [re.sub(r"\\(.)", r"\1", field) for field in found.groups()]


def _read(path: str) -> str:
    """The file; nothing where there is none, or where others may read it, which makes it count for nothing."""
    try:
        return "" if os.stat(path).st_mode & 0o077 else read_whole(path, _MAX_BYTES).data.decode()  # noqa: PTH116
    except (OSError, ValueError):
        return ""
