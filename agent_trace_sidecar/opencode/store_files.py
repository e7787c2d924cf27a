"""Where OpenCode has its databases on this machine: for those who need not read them, which takes more to import."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_NAME: Final = re.compile(r"opencode(?:-[\w.-]+)?\.db")


def store_files(environ: Mapping[str, str]) -> list[Path]:
    """OpenCode's databases on this machine: the one that OPENCODE_DB names, else those of every channel."""
    folder = data_home(environ) / "opencode"
    named = environ.get("OPENCODE_DB")
    if named and named != ":memory:":
        file = Path(named).expanduser()
        return [file if file.is_absolute() else folder / file]
    try:
        names = sorted(entry.name for entry in folder.iterdir() if _NAME.fullmatch(entry.name))
    except OSError:
        return []
    return [folder / name for name in names]


def data_home(environ: Mapping[str, str]) -> Path:
    """Where programs keep their data."""
    named = environ.get("XDG_DATA_HOME")
    return Path(named) if named else Path(environ.get("HOME") or os.path.expanduser("~")) / ".local" / "share"  # noqa: PTH111 - raises nothing
