"""Which proof of the password a server may request: the driver itself answers every request.

Without TLS anyone on the network, or in the server's place, can request the password in clear text, or its MD5 hash,
which is as good. Beyond this machine both are refused, unless the address has `sslmode=disable`. `require_auth` is
libpq's: the methods that are accepted, or with `!` those that are not.
"""

import asyncio
import ipaddress
from contextvars import ContextVar
from typing import Any, Final

import asyncpg
import asyncpg.protocol
from asyncpg.connect_utils import SSLMode

from agent_trace_sidecar.postgres.require_auth import REQUESTS

_OK, _SASL_FINAL = 0, 12
_READABLE: Final = frozenset({"password", "md5"})
_FRAME_BYTES: Final = 5
"""The type and the length of a message."""
_REQUEST_BYTES: Final = 9
"""The same of an authentication request, with its code."""

required: ContextVar[frozenset[str] | None] = ContextVar("required", default=None)
"""The methods that the address being connected to accepts; None where it names none."""


class AuthenticationError(Exception):
    """The server requests a proof that is refused; the text is one sentence with the remedy."""


class Handshake:
    """The server's messages until it is ready for the first query, which may come in any pieces."""

    def __init__(self, accepted: frozenset[str] | None, *, readable: bool) -> None:
        """`accepted`: see `required`. `readable`: others can read what is sent."""
        self._accepted = accepted
        self._readable = readable
        self._head = b""
        self._skip = 0
        self._requested = "none"
        self._proved = False
        """The server has shown that it knows the password, as SCRAM lets it do."""
        self.is_over = False

    def feed(self, data: bytes) -> None:
        """Read more bytes, before the driver does.

        Raises:
            AuthenticationError: the request in them must not be answered.
        """
        while data and not self.is_over:
            skipped, data = min(self._skip, len(data)), data[self._skip :]
            self._skip -= skipped
            wanted = _REQUEST_BYTES if (self._head or data)[:1] == b"R" else _FRAME_BYTES
            missing = wanted - len(self._head)
            self._head, data = self._head + data[:missing], data[missing:]
            if len(self._head) == wanted:
                self._message(self._head)
                self._skip = 1 + int.from_bytes(self._head[1:_FRAME_BYTES]) - wanted
                self._head = b""

    def _message(self, head: bytes) -> None:
        if int.from_bytes(head[1:_FRAME_BYTES]) < len(head) - 1:
            raise AuthenticationError("what answers there does not speak the protocol of Postgres: see host and port.")
        self.is_over = head[:1] == b"Z"
        if head[:1] != b"R":
            return
        code = int.from_bytes(head[_FRAME_BYTES:])
        self._requested = REQUESTS.get(code, self._requested)
        self._proved = self._proved or code == _SASL_FINAL
        method = self._requested
        if self._accepted is not None:
            if (code in REQUESTS or code == _OK) and method not in self._accepted:
                raise AuthenticationError(
                    f"the server uses the authentication method {method}, which require_auth excludes: "
                    "change one of them."
                )
            if code == _OK and method == "scram-sha-256" and not self._proved:
                raise AuthenticationError(
                    "the server did not prove that it knows the password: this is not your server."
                )
        elif code in REQUESTS and self._readable and method in _READABLE:
            what = "the password in clear text" if method == "password" else "an MD5 hash of the password"
            raise AuthenticationError(
                f"the server asks for {what} without TLS, so nothing was sent: add sslmode=verify-full or "
                "sslmode=require to the URL, or sslmode=disable if the whole network is trusted."
            )


class _Protocol(asyncpg.protocol.Protocol):
    """The driver's protocol, which sees no request that is refused."""

    def __init__(self, addr: Any, connected: "asyncio.Future[Any]", params: Any, *rest: Any) -> None:  # noqa: ANN401
        super().__init__(addr, connected, params, *rest)
        self._connected = connected
        self._trusted = params.sslmode is SSLMode.disable
        self._handshake: Handshake | None = None

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401
        """Take the transport, encrypted or not."""
        readable = not self._trusted and _is_readable(transport)
        self._handshake = Handshake(required.get(), readable=readable)
        self._own_transport = transport
        super().connection_made(transport)

    def data_received(self, data: Any) -> None:  # noqa: ANN401
        """Hand on what may be answered."""
        if self._handshake is not None:
            try:
                self._handshake.feed(data)
            except AuthenticationError as exc:
                if not self._connected.done():
                    self._connected.set_exception(exc)
                self._own_transport.abort()
                return
            if self._handshake.is_over:
                self._handshake = None
        super().data_received(data)


def is_readable_by_others(connection: asyncpg.Connection) -> bool:
    """Whether what is sent leaves this machine without TLS; the server itself knows only of a pooler's TLS."""
    return _is_readable(connection._transport)  # type: ignore[attr-defined]  # noqa: SLF001 - the driver has no other way


def _is_readable(transport: asyncio.BaseTransport) -> bool:
    return not (transport.get_extra_info("ssl_object") or _is_local(transport))


def _is_local(transport: asyncio.BaseTransport) -> bool:
    """Whether the server is on this machine: a Unix socket, or a loopback address."""
    peer = transport.get_extra_info("peername")
    if not isinstance(peer, tuple):
        return True
    try:
        return ipaddress.ip_address(str(peer[0]).partition("%")[0]).is_loopback
    except ValueError:
        return False


def install() -> None:
    """Put this in the driver's place for protocols; it has no setting for that."""
    vars(asyncpg.protocol)["Protocol"] = _Protocol
