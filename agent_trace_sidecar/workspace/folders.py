"""Files that a command names only by their folder or a pattern: `cp -r DIR .`, `cat *.py`, `for f in DIR/*`.

They may be where the new lines of a step come from, so they are read when it ends. A file that was changed since the
first command of the step began is not: a command may have written it.
"""

import os
import stat
from collections import deque
from collections.abc import Container, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from agent_trace_sidecar.limits import files
from agent_trace_sidecar.records.content import text_lines
from agent_trace_sidecar.workspace.steps import SLACK_MS, Call

MAX_ENTRIES: Final = 2000
"""Of each folder, the upper levels first."""
MAX_FILES: Final = 100
MAX_BYTES: Final = 2 * 1024 * 1024
"""Files and contents that are read for one step."""
_PROBE_BYTES: Final = 8000


def standing(calls: Sequence[Call], names: Container[str]) -> Iterator[tuple[str, list[bytes]]]:
    """Files in the folders that calls name, with their lines, as they stood before them; these names come first."""
    before_ms = min(call.began_ms for call in calls) - SLACK_MS
    named = dict.fromkeys(folder for call in calls for folder in call.folders)
    found = [(folder, file) for folder in named for file in _files(folder, before_ms)]
    found.sort(key=lambda one: os.path.basename(one[1]) not in names)  # noqa: PTH119 - a text
    room = MAX_BYTES
    for folder, file in found[:MAX_FILES]:
        try:
            content = files.read_inside(Path(folder), os.path.relpath(file, folder))
        except (OSError, ValueError):
            continue
        if content is None or content.changed_ns / 1e6 >= before_ms or b"\0" in content.data[:_PROBE_BYTES]:
            continue
        room -= len(content.data)
        if room < 0:
            return
        yield file, text_lines(content.data)


def _files(folder: str, before_ms: float) -> Iterator[str]:
    """The regular files below a folder that have not been changed since a time."""
    waiting, left = deque([folder]), MAX_ENTRIES
    while waiting and left > 0:
        for entry in _entries(waiting.popleft(), left):
            left -= 1
            try:
                status = entry.stat(follow_symlinks=False)
            except (OSError, ValueError):
                continue
            if stat.S_ISDIR(status.st_mode) and entry.name != ".git":
                waiting.append(entry.path)
            elif stat.S_ISREG(status.st_mode) and status.st_ctime_ns / 1e6 < before_ms:
                yield entry.path


def _entries(folder: str, most: int) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(islice(entries, most), key=lambda one: one.name)
    except (OSError, ValueError):
        return []
