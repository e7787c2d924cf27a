"""Signatures of files in OpenSSH's form (SSHSIG), by the program `ssh-keygen`: nothing is signed or verified here.

The same with the program alone:

    ssh-keygen -Y sign -n agent-trace-audit -f KEY FILE
    ssh-keygen -Y verify -n agent-trace-audit -f ALLOWED_SIGNERS -I NAME -s FILE.sig < FILE
"""

import re
import tempfile
from pathlib import Path
from typing import Final

from agent_trace_sidecar.commands.common import CommandError
from agent_trace_sidecar.limits import processes
from agent_trace_sidecar.limits.files import read_whole, write_whole

NAMESPACE: Final = "agent-trace-audit"
"""A signature counts for one purpose only, and this is its name."""
_TIMEOUT_S: Final = 60.0
_MAX_BYTES: Final = 64 * 1024
_PUBLIC: Final = re.compile(r"((?:sk-)?(?:ssh|ecdsa)-[\w@.-]+ [A-Za-z0-9+/=]+)(?: .*)?\n?")
_SIGNER: Final = "signer"


def signed(data: bytes, key: Path) -> bytes:
    """The signature of these bytes by a private key, or by a public one whose private key an ssh-agent has.

    Raises:
        CommandError: there is no `ssh-keygen` or no such key, or it can't be used.
    """
    if not key.is_file():
        raise CommandError(f"there is no key {key}: make one with `ssh-keygen -t ed25519 -f {key}`.")
    done = _run("sign", "-f", str(key.resolve()), given=data)
    if done.code or not done.output:
        raise CommandError(
            f"ssh-keygen can't sign with {key}. A key with a passphrase has to be in an ssh-agent: give its .pub file."
        )
    return done.output


def is_signed(data: bytes, signature: bytes, key: Path) -> bool:
    """Whether this is the signature of these bytes by the owner of a public key.

    Raises:
        CommandError: there is no `ssh-keygen`, or the file is no public key.
    """
    try:
        text = read_whole(key, _MAX_BYTES).data.decode(errors="replace")
    except OSError as exc:
        raise CommandError(f"{key} can't be read: {exc.strerror}.") from None
    public = _PUBLIC.fullmatch(text)
    if public is None:
        raise CommandError(f"{key} is not a public key of OpenSSH: give the .pub file of the key that signed.")
    with tempfile.TemporaryDirectory(prefix="agent-trace-") as folder:
        signers, signature_file = Path(folder, "signers"), Path(folder, "signature")
        write_whole(signers, f"{_SIGNER} {public[1]}\n".encode())
        write_whole(signature_file, signature)
        done = _run("verify", "-f", str(signers), "-I", _SIGNER, "-s", str(signature_file), given=data)
    return done.code == 0


def _run(action: str, *args: str, given: bytes) -> processes.Finished:
    program = processes.find("ssh-keygen")
    if program is None:
        raise CommandError("ssh-keygen is not on PATH: install OpenSSH's client (Debian: openssh-client).")
    command = [program, "-Y", action, "-n", NAMESPACE, *args]
    try:
        return processes.run(
            command,
            cwd=Path("/"),
            env=processes.environment("SSH_AUTH_SOCK"),
            timeout_s=_TIMEOUT_S,
            max_bytes=_MAX_BYTES,
            given=given,
        )
    except processes.ProcessError as exc:
        raise CommandError(f"ssh-keygen {exc}.") from None
