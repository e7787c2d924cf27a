"""Programs of Debian that some tests need, installed when they are missing; that takes root."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

_KEPT: Final = Path(__file__).resolve().parents[2] / ".tools" / "debian"
_PATH: Final = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"


def program(name: str, package: str = "") -> str:
    """The path of a program; its package is installed first where there is none."""
    found = shutil.which(name, path=_PATH)
    if found is None:
        run("apt-get", "update", "--quiet=2")
        run("apt-get", "install", "--quiet=2", "--yes", "--no-install-recommends", package or name)
        found = shutil.which(name, path=_PATH)
    assert found is not None, f"{package or name} holds no {name}"
    return found


def taken_out(name: str, package: str) -> str:
    """The path of a program that needs nothing else of its package, which would start a service when installed."""
    found = shutil.which(name, path=_PATH)
    if found is not None:
        return found
    folder = _KEPT / package
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "usr" / "bin" / name
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            run("apt-get", "update", "--quiet=2")
            run("apt-get", "download", "--quiet=2", package, cwd=folder)
            (archive,) = folder.glob("*.deb")
            run("dpkg-deb", "--extract", str(archive), str(folder))
            archive.unlink()
    return str(target)


def run(*command: str, cwd: Path | None = None) -> str:
    """Run a program and return what it prints; its errors are part of a failure's text."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=cwd)
    assert done.returncode == 0, f"{command}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout.strip()
