"""What the shim leaves in the state folder when it can't record, for `status` and `doctor`.

One file for each directory of OpenCode, replaced as a whole, in the folder `failures`. The shim removes old ones.
"""

from pathlib import Path
from typing import Final

import msgspec

from agent_trace_sidecar.limits.files import read_part

FOLDER: Final = "failures"
_MAX_BYTES: Final = 64 * 1024
_MAX_FILES: Final = 1000


class Failure(msgspec.Struct, frozen=True):
    """Why a directory was not recorded. Times are milliseconds since the epoch."""

    at: int
    directory: str
    message: str
    """One sentence, without secrets."""
    code: int | None = None
    """The sidecar's exit code, if it ended."""
    recovered_at: int | None = None
    """When the directory was recorded again; None while it is not."""


def failures(state_path: Path) -> list[Failure]:
    """All that are known, the latest first; what can't be read is left out."""
    try:
        files = sorted((state_path / FOLDER).glob("*.json"))[:_MAX_FILES]
    except OSError:
        return []
    found = []
    for file in files:
        try:
            found.append(msgspec.json.decode(read_part(file, _MAX_BYTES), type=Failure))
        except (OSError, ValueError):
            continue
    return sorted(found, key=lambda failure: -failure.at)
