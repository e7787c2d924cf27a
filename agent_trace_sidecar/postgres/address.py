"""Where the database is: every way in which libpq lets a server be named, put into what the driver understands.

The driver knows URLs, most PG* variables and the password file. Added here are service files, PGOPTIONS, the system's
certificates, and a plain sentence for what it can't do: otherwise it would send such a parameter to the server as a
setting, or leave it out in silence.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from agent_trace_sidecar.limits.files import read_whole
from agent_trace_sidecar.postgres.require_auth import methods

if TYPE_CHECKING:
    import ssl

_IGNORED: Final = frozenset(
    {
        "client_encoding",
        "connect_timeout",  # every connect has a deadline of our own
        "fallback_application_name",
        "gssdelegation",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "sslcompression",
        "sslsni",
        "tcp_user_timeout",
    }
)
"""They tune the transport, and nothing goes wrong without them."""
_ONLY: Final = {
    "channel_binding": ("disable", "prefer"),
    "gssencmode": ("disable", "prefer"),
    "load_balance_hosts": ("disable",),
    "sslcertmode": ("allow",),
}
"""Parameters of which only these values are what the driver does anyway."""
_REFUSED: Final = {
    "charset": "leave it out",
    "connection_limit": "leave it out",
    "pgbouncer": "leave it out, poolers need no parameter",
    "pool_timeout": "leave it out",
    "prepared_statements": "leave it out",
    "schema": "use options=-csearch_path%3DSCHEMA",
    "schemaName": "use options=-csearch_path%3DSCHEMA",
    "currentSchema": "use options=-csearch_path%3DSCHEMA",
    "serverVersion": "leave it out",
    "socket_timeout": "leave it out",
    "ssl": "use sslmode=require or sslmode=verify-full",
    "sslaccept": "use sslmode=require or sslmode=verify-full",
    "sslidentity": "use sslcert and sslkey",
    "statement_cache_size": "leave it out",
    "uselibpqcompat": "leave it out",
    "hostaddr": "give the address as host",
    "replication": "leave it out",
    "requirepeer": "leave it out",
    "requiressl": "use sslmode",
}
_FROM_ENVIRONMENT: Final = {
    "options": "PGOPTIONS",
    "channel_binding": "PGCHANNELBINDING",
    "gssencmode": "PGGSSENCMODE",
    "require_auth": "PGREQUIREAUTH",
    "sslrootcert": "PGSSLROOTCERT",
}
"""What the driver does not read there by itself, or can't use as it is."""
_FILES: Final = ("sslcert", "sslkey", "sslrootcert", "sslcrl")
_MAX_FILE_BYTES: Final = 1024 * 1024
_SCHEMES: Final = ("postgres", "postgresql")


class AddressError(Exception):
    """The server is named in a way that can't be used; the text is one sentence, without a password."""


class Address(NamedTuple):
    """What the driver is given. `tls` is set where it could not have made it itself."""

    url: str
    tls: "ssl.SSLContext | None" = None
    accepted: frozenset[str] | None = None
    """The authentication methods of `require_auth`; None where it is not given."""


def check(url: str) -> None:
    """Check everything that needs no files and variables.

    Raises:
        AddressError: it can't be used.
    """
    _accepted(_permitted(_parameters(url)))


def resolve(url: str, environ: Mapping[str, str]) -> Address:
    """Fill in the service and the variables that the driver does not know.

    Raises:
        AddressError: it can't be used, or the service is not there.
    """
    parameters = _parameters(url)
    parts = urlsplit(url)
    given = _given(url, parameters)
    service = parameters.pop("service", "")
    if not service and not {"host", "dbname"} <= given:
        service = environ.get("PGSERVICE", "")
    if service:
        for name, value in _service(service, environ).items():
            if name not in given:
                parameters[name] = value
    for name, variable in _FROM_ENVIRONMENT.items():
        if variable in environ:
            parameters.setdefault(name, environ[variable])
    _take_hosts(parameters, given, environ)
    kept = _permitted(parameters)
    accepted = _accepted(kept)
    tls = _system_tls(kept) if kept.get("sslrootcert") == "system" else None
    for name in _FILES:
        if kept.get(name) and not Path(kept[name]).is_file():
            raise AddressError(f"{name} names {kept[name]}, which is not a readable file.")
    path = parts.path if parts.path != "/" else ""  # which the driver takes for a database without a name
    return Address(urlunsplit((parts.scheme, parts.netloc, path, urlencode(kept, quote_via=quote), "")), tls, accepted)


def without_password(url: str) -> tuple[str, str | None]:
    """The URL for a command line, which others can read, and the password that stood in it.

    The passphrase of a certificate's key is left out: libpq prompts for it.
    """
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    user, colon, password = login.partition(":")
    parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
    given = parameters.pop("password", None)
    parameters.pop("sslpassword", None)
    query = "?" + urlencode(parameters, quote_via=quote) if parameters else ""
    shown = f"{parts.scheme}://{user}{at}{hosts}{parts.path}{query}"  # libpq needs the slashes also without a host
    return shown, unquote(password) if colon else given


def _take_hosts(parameters: dict[str, str], given: set[str], environ: Mapping[str, str]) -> None:
    """Several hosts are to be in the URL, where `postgres/connection.py` gives each its share of the time."""
    if "host" in given | set(parameters):
        return
    if environ.get("PGHOSTADDR"):
        raise AddressError("PGHOSTADDR is not supported: set PGHOST to the address.")
    if "," in environ.get("PGHOST", ""):
        parameters["host"] = environ["PGHOST"]
        if environ.get("PGPORT"):
            parameters.setdefault("port", environ["PGPORT"])


def _parameters(url: str) -> dict[str, str]:
    """The URL's query."""
    if not url.isprintable():  # which half a character of another encoding is not
        raise AddressError("the database URL holds a control character, or one that is not UTF-8: write it as %XX.")
    try:
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else []
    except ValueError:
        raise AddressError("the database URL is malformed: a parameter is written name=value.") from None
    if parts.scheme not in _SCHEMES:
        raise AddressError("the database URL must begin with postgresql://.")
    parameters = dict(pairs)
    hosts = parts.netloc.rpartition("@")[2].split(",")
    ports = [host.rpartition("]")[2].partition(":")[2] for host in hosts] + parameters.get("port", "").split(",")
    for port in filter(None, ports):
        if not port.isdecimal() or not 0 < int(port) < 65536:  # noqa: PLR2004 - the highest port
            raise AddressError(  # not its text: where a password holds a slash, that is what stands there
                "the database URL's port is not a number from 1 to 65535. "
                "Within a password, write / as %2F, ? as %3F and # as %23."
            )
    return parameters


def _given(url: str, parameters: Mapping[str, str]) -> set[str]:
    """The parameters that the URL itself gives, which a service does not change."""
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    given = {"host": hosts, "port": hosts, "user": user, "password": password, "dbname": parts.path.strip("/")}
    return {name for name, value in given.items() if value} | set(parameters)


def _permitted(parameters: Mapping[str, str]) -> dict[str, str]:
    """The parameters without those that may be left out."""
    kept = {}
    for name, value in parameters.items():
        if name in _REFUSED:
            raise AddressError(f"the connection parameter {name} is not supported: {_REFUSED[name]}.")
        if name in _ONLY and value not in ("", *_ONLY[name]):
            can = " or ".join(_ONLY[name])
            raise AddressError(f"{name}={value} is not supported by the driver: use {name}={can}, or leave it out.")
        if name not in _IGNORED and name not in _ONLY and not (name == "options" and not value):
            kept[name] = value
    return kept


def _accepted(parameters: dict[str, str]) -> frozenset[str] | None:
    """What `require_auth` accepts, which is not for the driver."""
    try:
        return methods(parameters.pop("require_auth", ""))
    except ValueError as exc:
        raise AddressError(f"require_auth can't be used: {exc}.") from None


def _system_tls(parameters: dict[str, str]) -> "ssl.SSLContext":
    """sslrootcert=system: the certificates that this machine trusts, and the host's name checked."""
    import ssl  # noqa: PLC0415 - it takes a tenth of a command's time, and few addresses need it

    mode = parameters.pop("sslmode", "verify-full")
    if mode != "verify-full":
        raise AddressError(f"sslrootcert=system needs sslmode=verify-full, not {mode}.")
    del parameters["sslrootcert"]
    context = ssl.create_default_context()
    certificate, key = parameters.pop("sslcert", None), parameters.pop("sslkey", None)
    if certificate:
        try:
            context.load_cert_chain(certificate, key, password=parameters.pop("sslpassword", ""))
        except OSError as exc:
            raise AddressError(f"sslcert {certificate} can't be used: {exc.strerror or 'see sslkey'}.") from None
    return context


def _service(name: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The entry of a service in the service file."""
    places = list(_service_files(environ))
    for place in places:
        try:
            text = read_whole(place, _MAX_FILE_BYTES).data.decode()
        except (OSError, UnicodeError):
            continue
        found = _section(text, name)
        if found is not None:
            return found
    where = " and ".join(map(str, places)) or "no service file"
    raise AddressError(f"the connection service {name!r} is not defined: looked in {where}.")


def _service_files(environ: Mapping[str, str]) -> Iterator[Path]:
    own = environ.get("PGSERVICEFILE")
    if own:
        yield Path(own)
    elif environ.get("HOME"):
        yield Path(environ["HOME"]) / ".pg_service.conf"
    if environ.get("PGSYSCONFDIR"):
        yield Path(environ["PGSYSCONFDIR"]) / "pg_service.conf"


def _section(text: str, name: str) -> dict[str, str] | None:
    """One section of a service file; None where it is not in there."""
    found: dict[str, str] | None = None
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("["):
            if found is not None:
                break
            found = {} if line == f"[{name}]" else None
        elif found is not None and line and not line.startswith("#"):
            key, separator, value = line.partition("=")
            if not separator:
                raise AddressError(f"the connection service {name!r} has a line that is not name=value.")
            found.setdefault(key.strip(), value.strip())
    return found
