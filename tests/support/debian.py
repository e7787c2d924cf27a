"""Debian's programs that some tests need: installed before the tests, all in one go, by one process at a time.

Whoever else is at apt or dpkg (another test run, unattended upgrades) is waited for. On a machine where nothing can be
installed, `install` says why; what is there already is used on any machine.
"""

import fcntl
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.support.waiting import completed, eventually

PACKAGES: Final = {
    "buildah": "buildah",
    "chromium": "chromium",
    "mmdebstrap": "mmdebstrap",
    "pgbouncer": "pgbouncer",
    "promtool": "prometheus",
    "rsyslogd": "rsyslog",
    "runc": "runc",
    "ssh-keygen": "openssh-client",
    "svn": "subversion",
    "svnadmin": "subversion",
}
"""The package that holds a program."""
_TAKEN_OUT: Final = {
    "promtool": ("prometheus",),
    "rsyslogd": ("rsyslog", "rsyslog-relp", "librelp0", "libestr0", "libfastjson4"),
}
"""Of packages that would start a service when installed: unpacked, with what these programs need of them."""

_FOLDER: Final = Path(__file__).resolve().parents[2] / ".tools" / "debian"
_PATH: Final = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
_INSTALL_S: Final = 600
_RETRIES: Final = "Acquire::Retries=5"
"""An option of apt's, for a mirror that fails now and then."""
_BUSY: Final = "Could not get lock"
"""What apt-get says of those locks for which it has no option to wait."""


class CannotInstallError(Exception):
    """Programs are missing, and this machine does not let us install them."""


def find(name: str) -> Path | None:
    """The path of a program, if it is there."""
    if name in _TAKEN_OUT:
        unpacked = shutil.which(
            name, path=os.pathsep.join(str(_unpacked(name) / "usr" / part) for part in ("bin", "sbin"))
        )
        if unpacked or len(_TAKEN_OUT[name]) > 1:  # installed, it may lack the other packages
            return Path(unpacked) if unpacked else None
    found = shutil.which(name, path=_PATH)
    return Path(found) if found else None


def program(name: str) -> str:
    """The path of a program; it is installed first where it is missing."""
    install([name])
    return str(find(name))


def install(names: Iterable[str]) -> None:
    """Install what is missing of these programs.

    Raises:
        CannotInstallError: there is no apt-get, we are not root, or apt-get has failed.
    """
    names = list(names)
    if all(map(find, names)):
        return
    _FOLDER.mkdir(parents=True, exist_ok=True)
    with (_FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = [name for name in names if not find(name)]
        if not missing:
            return
        if not shutil.which("apt-get", path=_PATH):
            raise CannotInstallError("there is no apt-get to install them")
        packages = {PACKAGES[name] for name in missing if name not in _TAKEN_OUT}
        if os.geteuid() == 0:
            _apt_get("update")
        elif packages:
            raise CannotInstallError("installing them takes root")
        if packages:
            _apt_get("install", "--yes", "--no-install-recommends", *sorted(packages))
        for name in _TAKEN_OUT.keys() & missing:
            _take_out(name)
    absent = [name for name in missing if not find(name)]
    if absent:
        raise CannotInstallError(f"{', '.join(PACKAGES[name] for name in absent)} did not bring them")


def _unpacked(name: str) -> Path:
    return _FOLDER / PACKAGES[name]


def _take_out(name: str) -> None:
    """Unpack a program's packages without installing them."""
    folder = _unpacked(name)
    folder.mkdir(exist_ok=True)
    for archive in folder.glob("*.deb"):  # of a run that was killed
        archive.unlink()
    _apt_get("download", *_TAKEN_OUT[name], cwd=folder)
    for archive in folder.glob("*.deb"):
        run("dpkg-deb", "--extract", str(archive), str(folder))
        archive.unlink()


def _apt_get(*arguments: str, cwd: Path | None = None) -> None:
    """Run apt-get when nobody else does."""
    command = ["apt-get", "--quiet=2", "-o", f"DPkg::Lock::Timeout={_INSTALL_S}", "-o", _RETRIES, *arguments]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    said = ""

    def is_through() -> bool:
        nonlocal said
        done = completed(command, _INSTALL_S, env=environment, cwd=cwd)
        said = done.stdout + done.stderr
        if done.returncode != 0 and _BUSY not in said:
            raise CannotInstallError(f"`{' '.join(command)}` has failed: {' '.join(said.split())[-300:]}")
        return done.returncode == 0

    eventually(is_through, _INSTALL_S, f"apt-get's lock is free: {said}")


def run(*command: str, cwd: Path | None = None) -> str:
    """Run a program and return what it prints; its errors are part of a failure's text."""
    done = completed(command, _INSTALL_S, cwd=cwd)
    assert done.returncode == 0, f"{command}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout.strip()
