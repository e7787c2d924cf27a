"""Programs of Debian that some tests need, installed when they are missing; that takes root."""

import os
import shutil
import subprocess
from typing import Final

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


def run(*command: str) -> str:
    """Run a program and return what it prints; its errors are part of a failure's text."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, f"{command}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout.strip()
