"""A real Mercurial for tests, installed once by pip into the project's own tools."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

VERSION = "7.2.4"

_SLOW = ("--config", "storage.dirstate-v2.slow-path=allow")  # the newer dirstate without the compiled part of hg
_TOOLS = Path(__file__).resolve().parents[2] / ".tools" / "mercurial"


def hg(folder: Path, *args: str) -> str:
    """Run hg in a folder, without anyone's settings, and return what it prints."""
    _TOOLS.mkdir(parents=True, exist_ok=True)
    packages = _TOOLS / VERSION
    with (_TOOLS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (packages / "mercurial").is_dir():
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(packages)]
            subprocess.run([*command, f"mercurial=={VERSION}"], check=True, capture_output=True)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "HGPLAIN": "1",
        "HGRCPATH": os.devnull,
        "PYTHONPATH": str(packages),
    }
    done = subprocess.run(
        [sys.executable, "-c", "from mercurial import dispatch; dispatch.run()", *args, *_SLOW],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()
