"""Settings from the environment, parsed once into a typed `Config`.

Every variable of the table in docs/reference.md is a field here, and only these are read. A wrong value is a
`ConfigError` whose sentence names the variable and never repeats a password.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from agent_trace_sidecar.postgres.address import AddressError, check

PREFIX: Final = "AGENT_TRACE_"

_TRUE: Final = {"1", "true", "on", "yes"}
_FALSE: Final = {"0", "false", "off", "no"}


_FOREIGN: Final = {"DATABASE_PASSWORD", "UID", "GID", "IMAGE"}
"""Variables of the same prefix that the compose files of deploy/ use."""


class ConfigError(Exception):
    """A setting that can't be used. Its text is one sentence that names the variable."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The sidecar's settings; a field `x` is the variable `AGENT_TRACE_X`."""

    enabled: bool = True
    database_url: str | None = None
    """None means the embedded Postgres."""
    batch_size: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 50
    flush_ms: Annotated[int, msgspec.Meta(ge=1, le=600_000)] = 500
    retry_max: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 5
    redaction: bool = True
    redaction_rules: str | None = None
    spec_version: Literal["0.1.0"] = "0.1.0"
    tool_name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] = "opencode"
    tool_version: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] = "local"
    capture: Literal["full", "metadata"] = "full"
    state_dir: str = ""
    http: str | None = None
    otlp_endpoint: str | None = None
    """The base URL of a collector; None sends nothing."""
    sidecar: str | None = None
    """Read by the shim only; named here so that it is no unknown setting."""
    log_dir: str | None = None
    """As `sidecar`."""
    repositories: str | None = None
    """Patterns of the repositories that are recorded, see workspace/repository_rules.py."""
    pg_bin: str | None = None
    """Where the embedded Postgres' programs are; read by `postgres/embedded/`."""
    pg_linger_s: Annotated[int, msgspec.Meta(ge=0, le=86_400)] = 300
    """How long the embedded Postgres stays up after its last user, in seconds."""

    @property
    def state_path(self) -> Path:
        """The folder of everything that outlives the process: spools, the embedded Postgres, the rules' cache."""
        return Path(self.state_dir)

    def __repr__(self) -> str:
        """Name no value: a URL holds a password."""
        return "Config(...)"


def default_state_dir(environ: Mapping[str, str]) -> str:
    """The XDG state folder of this program.

    Raises:
        ConfigError: no home folder is known.
    """
    base = environ.get("XDG_STATE_HOME") or os.path.join(environ.get("HOME") or "~", ".local", "state")  # noqa: PTH118 - a str
    try:
        return str(Path(base).expanduser() / "agent-trace-sidecar")
    except RuntimeError:
        raise ConfigError(
            "HOME is not set and this user has no home folder: set AGENT_TRACE_STATE_DIR to a writable folder."
        ) from None


def load(environ: Mapping[str, str]) -> Config:
    """Parse the environment.

    Raises:
        ConfigError: a value is wrong; the text names the variable and what it may be.
    """
    values: dict[str, object] = {}
    for name in Config.__struct_fields__:
        raw = environ.get(PREFIX + name.upper(), "").strip()
        if raw:
            values[name] = _boolean(name, raw) if name in ("enabled", "redaction") else raw
    if "database_url" not in values and environ.get("DATABASE_URL", "").strip():
        values["database_url"] = environ["DATABASE_URL"].strip()
    if "state_dir" not in values:
        values["state_dir"] = default_state_dir(environ)
    try:
        config = msgspec.convert(values, Config, strict=False)
    except msgspec.ValidationError as exc:
        raise ConfigError(_sentence(str(exc), values)) from None
    _check_url(config.database_url, PREFIX + "DATABASE_URL" if environ.get(PREFIX + "DATABASE_URL") else "DATABASE_URL")
    if config.http is not None:
        http_address(config.http)
    if config.otlp_endpoint is not None:
        _check_endpoint(config.otlp_endpoint)
    if config.repositories is not None:
        _check_patterns(config.repositories)
    return config


def unknown_settings(environ: Mapping[str, str]) -> list[str]:
    """A sentence for each variable of our prefix that is not a setting: a misspelt one would go unnoticed."""
    known = {name.upper() for name in Config.__struct_fields__}
    given = {name.removeprefix(PREFIX) for name in environ if name.startswith(PREFIX)}
    unknown = sorted(given - known - _FOREIGN)
    return [f"{PREFIX}{name} is not a setting and has no effect.{_nearest(name, known, PREFIX)}" for name in unknown]


def _nearest(word: str, known: Iterable[str], prefix: str = "") -> str:
    """The known word that was probably meant, as a question; empty where none is near."""
    from difflib import get_close_matches  # noqa: PLC0415 - only a mistake needs it

    found = get_close_matches(word, list(known), 1)
    return f" Did you mean {prefix}{found[0]}?" if found else ""


def http_address(value: str) -> tuple[str, int]:
    """Split `host:port` of AGENT_TRACE_HTTP; an empty host means loopback."""
    host, _, port = value.rpartition(":")
    if not port.isdecimal() or not 0 <= int(port) <= 65535:  # noqa: PLR2004 - the highest port
        raise ConfigError(f"{PREFIX}HTTP is {value!r}: give host:port, e.g. 127.0.0.1:9464.")
    return host.strip("[]") or "127.0.0.1", int(port)


def _boolean(name: str, raw: str) -> bool:
    lowered = raw.lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise ConfigError(f"{PREFIX}{name.upper()} is {raw!r}: it must be on or off.")


def _check_url(url: str | None, variable: str) -> None:
    """Check what needs no files and other variables."""
    if url is None:
        return
    try:
        check(url)
    except AddressError as exc:
        raise ConfigError(f"{variable}: {exc}") from None


def _check_endpoint(endpoint: str) -> None:
    from agent_trace_sidecar.telemetry.otlp import metrics_url  # noqa: PLC0415 - seldom set

    try:
        metrics_url(endpoint)
    except ValueError:
        raise ConfigError(f"{PREFIX}OTLP_ENDPOINT: give the collector's URL, e.g. http://127.0.0.1:4318.") from None


def _check_patterns(patterns: str) -> None:
    from agent_trace_sidecar.workspace.repository_rules import PatternError, RepositoryRules  # noqa: PLC0415 - seldom set

    try:
        RepositoryRules(patterns)
    except PatternError as exc:
        raise ConfigError(f"{PREFIX}REPOSITORIES: {exc}") from None


def _sentence(message: str, values: Mapping[str, object]) -> str:
    """Turn msgspec's message into one that names the variable, the choices, and the value unless it may be a secret."""
    match = re.search(r"\$\.(\w+)", message)
    field = match.group(1) if match else ""
    value = "" if field == "database_url" else f" is {values.get(field)!r}"
    return f"{PREFIX}{field.upper()}{value}: {_allowed(field, str(values.get(field)))}"


def _allowed(field: str, value: str) -> str:
    """What a field may hold, as a sentence."""
    from msgspec import inspect  # noqa: PLC0415 - only a mistake needs it

    kind = inspect.type_info(Config)
    assert isinstance(kind, inspect.StructType)  # noqa: S101 - what it was made of
    found = next((each.type for each in kind.fields if each.name == field), None)
    match found:
        case inspect.LiteralType(values=choices):
            return f"choose {' or '.join(map(str, choices))}.{_nearest(value, map(str, choices))}"
        case inspect.IntType(ge=least, le=most):
            return f"give a whole number from {least} to {most}."
        case inspect.StrType(min_length=least, max_length=most):
            return f"give {least} to {most} characters."
    return "give another value."
