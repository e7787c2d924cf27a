"""Two real rsyslogs on loopback, with the configurations of deploy/rsyslog: from one log folder to another."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tests.support import debian
from tests.support.opencode import killed_after
from tests.support.postgres import free_port
from tests.support.proxy import Proxy
from tests.support.waiting import eventually, exit_code

_DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy" / "rsyslog"
_NAMES: Final = {"sender": "one.developers.example.com", "receiver": "collector.example.com"}


class Rsyslog:
    """One rsyslogd, of a configuration with this machine's paths in it."""

    def __init__(self, name: str, folder: Path, places: Mapping[str, str]) -> None:
        """`places` maps what the published configuration says to what the test uses."""
        self.work = folder / f"{name}-spool"
        self.work.mkdir()
        self._pid_file = self.work / "rsyslogd.pid"
        self._config = folder / f"{name}.conf"
        text = (_DEPLOY / self._config.name).read_text()
        for published, ours in {"/var/spool/agent-trace": str(self.work), **places}.items():
            assert published in text
            text = text.replace(published, ours)
        self._config.write_text(text)
        self._log = folder / f"{name}.log"
        self._stack = ExitStack()

    @property
    def said(self) -> str:
        """What it has printed."""
        return self._log.read_text()

    def start(self) -> None:
        """Start it as the configuration's first lines say."""
        program = Path(debian.program("rsyslogd"))
        (modules,) = program.parents[1].glob("lib/*/rsyslog")
        for position in self.work.glob("imfile-state:*"):
            position.unlink()
        log = self._stack.enter_context(self._log.open("ab"))
        self._process = self._stack.enter_context(
            subprocess.Popen(
                [program, "-M", modules, "-n", "-f", self._config, "-i", self._pid_file],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"LD_LIBRARY_PATH": str(modules.parent)},
                start_new_session=True,
            )
        )
        self._stack.enter_context(killed_after(self._process.pid))
        eventually(self._pid_file.exists, 10, f"rsyslogd starts: {self.said}")

    def kill(self) -> None:
        """`kill -9`."""
        self._process.kill()
        exit_code(self._process, 10)
        self._stack.close()

    def stop(self) -> None:
        """SIGTERM; without a network some versions crash at it, which costs nothing."""
        self._process.send_signal(signal.SIGTERM)
        exit_code(self._process, 20)
        self._stack.close()

    def close(self) -> None:
        """Leave nothing running."""
        self._stack.close()


class Carrier:
    """A sender, a receiver, and the network between them."""

    def __init__(self, folder: Path, port: int, network: Proxy) -> None:
        """Everything is below `folder`; the receiver listens on `port`."""
        self.sent, self.received = folder / "sent", folder / "received"
        self.network = network
        keys = folder / "keys"
        for path in (self.sent, self.received, keys):
            path.mkdir()
        _certificates(keys)
        common = {"/etc/agent-trace/rsyslog": str(keys)}
        to = {'target="collector.example.com" port="2514"': f'target="127.0.0.1" port="{network.port}"'}
        at = {'port="2514" address="0.0.0.0"': f'port="{port}" address="127.0.0.1"'}
        self.sender = Rsyslog("sender", folder, {"/var/log/agent-trace": str(self.sent), **common, **to})
        self.receiver = Rsyslog("receiver", folder, {"/var/log/agent-trace": str(self.received), **common, **at})

    def cut(self) -> None:
        """Reset the connection, and refuse new ones."""
        self.network.refuse(on=True)
        self.network.cut()

    def mend(self) -> None:
        """Let connections pass again."""
        self.network.refuse(on=False)

    def lines(self, folder: Path) -> list[bytes]:
        """The sorted lines of all files in a folder, without empty ones."""
        return sorted(line for path in folder.iterdir() for line in path.read_bytes().split(b"\n") if line)


@contextmanager
def carrier(folder: Path) -> Iterator[Carrier]:
    """Both ends, running; they are gone after the block."""
    folder.mkdir()
    port = free_port()
    with Proxy(f"relp://127.0.0.1:{port}", raw=True) as network:
        made = Carrier(folder, port, network)
        try:
            made.receiver.start()
            made.sender.start()
            yield made
        finally:
            made.sender.close()
            made.receiver.close()
            shutil.rmtree(folder / "keys")


def _certificates(folder: Path) -> None:
    """An authority and a certificate for each end."""

    def openssl(*arguments: str) -> None:
        debian.run("openssl", *arguments, cwd=folder)

    fresh = ("-newkey", "rsa:2048", "-nodes")
    openssl("req", "-x509", *fresh, "-days", "2", "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.crt")
    signed = ("-days", "2", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
    for name, host in _NAMES.items():
        (folder / "names").write_text(f"subjectAltName=DNS:{host}\n")
        openssl("req", *fresh, "-subj", f"/CN={host}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.crt")
