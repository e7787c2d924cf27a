"""Builds the image and runs it as a container engine would: buildah and runc of a Debian machine, as root, no engine.

The base is made here, too, of Debian's packages, since a registry of images may be out of reach. What takes long is
kept in .tools/image.
"""

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.debian import program, run
from tests.support.opencode import killed_after

ROOT: Final = Path(__file__).resolve().parents[2]
_KEPT: Final = ROOT / ".tools" / "image"
_STORAGE: Final = _KEPT / "storage"
_BASE: Final = "localhost/agent-trace-base"
_CERTIFICATES: Final = Path("/etc/ssl/certs")
_BASE_PACKAGES: Final = "python3,python3-venv,python3-pip,ca-certificates"


def _buildah(*arguments: str | Path) -> str:
    return run(program("buildah"), "--root", str(_STORAGE), "--runroot", str(_KEPT / "run"), *map(str, arguments))


def _make_base() -> None:
    """A Debian like this machine's, with Python."""
    if _BASE in _buildah("images", "--format", "{{.Name}}").split():
        return
    archive = _KEPT / "base.tar"
    arguments = ["--quiet", "--variant=minbase", f"--include={_BASE_PACKAGES}", '--aptopt=Acquire::Retries "5"']
    run(program("mmdebstrap"), *arguments, _codename(), str(archive))
    container = _buildah("from", "scratch")
    _buildah("add", "--quiet", container, archive, "/")
    _buildah("commit", "--quiet", "--rm", container, _BASE)
    archive.unlink()


def _codename() -> str:
    settings = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    return settings["VERSION_CODENAME"].strip('"')


def _pip_settings(folder: Path) -> Path:
    """Let pip in the build trust what this machine trusts, and ask where this machine asks."""
    lines = ["[global]", f"cert = {_CERTIFICATES / 'ca-certificates.crt'}"]
    pip = [shutil.which("python3") or "python3", "-m", "pip", "config", "get", "global.index-url"]
    found = subprocess.run(pip, capture_output=True, text=True, check=False)
    if found.returncode == 0:
        lines.append(f"index-url = {found.stdout.strip()}")
    target = folder / "pip.conf"
    target.write_text("\n".join(lines) + "\n")
    return target


@dataclass(frozen=True)
class Image:
    """The image, and its files as they are mounted on this machine."""

    config: dict[str, Any]
    files: Path


@contextmanager
def built_image(folder: Path) -> Iterator[Image]:
    """Build the image from the Dockerfile; one test run at a time."""
    _KEPT.mkdir(parents=True, exist_ok=True)
    with (_KEPT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _buildah("rm", "--all")
        _make_base()
        volumes = [f"{_pip_settings(folder)}:/etc/pip.conf:ro", f"{_CERTIFICATES}:{_CERTIFICATES}:ro"]
        arguments = ["--isolation", "chroot", "--format", "docker", "--pull-never", "--build-arg", f"BASE={_BASE}"]
        identity = _buildah("bud", "--quiet", *arguments, *(f"--volume={volume}" for volume in volumes), ROOT)
        identity = identity.splitlines()[-1]
        container = _buildah("from", identity)
        try:
            config = json.loads(_buildah("inspect", "--type", "image", identity))["Docker"]["config"]
            yield Image(config, Path(_buildah("mount", container)).resolve())
        finally:
            _buildah("rm", container)
            _buildah("rmi", identity)
            if (_STORAGE / "overlay").is_mount():  # buildah leaves it, and the folder could not be removed
                run("umount", str(_STORAGE / "overlay"))


class Container:
    """A running container."""

    def __init__(self, name: str, runtime: Sequence[str], process: "subprocess.Popen[bytes]", image: Image) -> None:
        self.process = process
        self._name, self._runtime, self._image = name, runtime, image

    def kill(self, signal: str) -> None:
        """Send a signal to its first process."""
        run(*self._runtime, "kill", self._name, signal)

    def health(self) -> int:
        """Run the image's health check in it; its exit code, 0 for healthy and 1 for not."""
        kind, *command = self._image.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return self.run(*command).returncode

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a program in it, as its user."""
        full = [*self._runtime, "exec", self._name, *command]
        return subprocess.run(full, capture_output=True, text=True, check=False)


@contextmanager
def container(
    image: Image, folder: Path, arguments: Sequence[str], env: Mapping[str, str], logs: Path
) -> Iterator[Container]:
    """Run the image as its configuration says, with a read-only root, no capabilities and this machine's network.

    One of the arguments must name something in `folder`, a guarded one: so it ends with the test run at the latest.
    """
    assert any(argument.startswith(f"{folder}/") for argument in arguments)
    name = f"agent-trace-{os.getpid()}"
    runtime = [program("runc"), "--root", str(folder / "runtime")]
    bundle = folder / "bundle"
    bundle.mkdir(exist_ok=True)
    (bundle / "config.json").write_text(json.dumps(_specification(image, arguments, env, logs)))
    with (
        (folder / "said").open("wb") as said,
        subprocess.Popen(
            [*runtime, "run", "--bundle", str(bundle), name],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        ) as process,
        killed_after(process.pid),
    ):
        try:
            yield Container(name, runtime, process, image)
        finally:
            subprocess.run([*runtime, "delete", "--force", name], capture_output=True, check=False)


def _specification(image: Image, arguments: Sequence[str], env: Mapping[str, str], logs: Path) -> dict[str, Any]:
    """The runtime's configuration, made from the image's."""
    uid, gid = map(int, image.config["User"].split(":"))
    quiet = ["nosuid", "noexec", "nodev"]
    empty: dict[str, Any] = {"type": "tmpfs", "source": "tmpfs"}
    return {
        "ociVersion": "1.0.2",
        "root": {"path": str(image.files), "readonly": True},
        "hostname": "agent-trace-pod",
        "process": {
            "cwd": image.config["WorkingDir"] or "/",
            "user": {"uid": uid, "gid": gid},
            "args": [*image.config["Entrypoint"], *arguments],
            "env": [*image.config["Env"], *(f"{key}={value}" for key, value in env.items())],
            "capabilities": {},
            "noNewPrivileges": True,
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", **empty, "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/tmp", **empty, "options": [*quiet, "mode=1777"]},  # noqa: S108 - the container's
            {"destination": "/var/lib/agent-trace", **empty, "options": [*quiet, "mode=1777"]},
            {"destination": "/var/log/agent-trace", "type": "bind", "source": str(logs), "options": ["rbind", "rw"]},
        ],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]},
    }
