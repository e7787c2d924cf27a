"""The rules bundled with kingfisher-bin, updated with its releases, and the cache in which all rules are kept ready.

To export them takes 0.3 to 0.5 s, once per version, off the start-up path; to parse our own 25 ms. From the cache both
are there within a few milliseconds. A cache that can't be written only costs the next start that time.
"""

import contextlib
import json
import os
from pathlib import Path
from typing import Any, Final

import msgspec
import re2

from agent_trace_sidecar.limits import processes
from agent_trace_sidecar.limits.files import read_own, state_folder, write_whole
from agent_trace_sidecar.redaction import rules
from agent_trace_sidecar.redaction.prefilter import required_literals
from agent_trace_sidecar.redaction.rules import Knowledge, Rule, Words, compiled

EXPORT_SECONDS: Final = 20.0
"""How long the export may take before the bundled rules stay alone."""
_MAX_BYTES: Final = 64 * 1024 * 1024
_REACH: Final = 4096
_W: Final = Words("kingfisher")


class _Cached(msgspec.Struct):
    known: Knowledge
    exported: list[Rule]


def kingfisher_version() -> str:
    """The version of the installed rule set, or "none"."""
    try:
        from kingfisher._version import __version__  # type: ignore[import-untyped] # noqa: PLC0415 - a package that may be missing on some platforms
    except ImportError:
        return "none"
    return str(__version__)


def load(cache_dir: Path | None) -> list[Rule] | None:
    """The exported rules from the cache, or None when it has none of this version; our own are then known as well.

    A file that others may write, or that holds no rules, is no cache.
    """
    if cache_dir is None:
        return None
    try:
        cached = msgspec.json.decode(read_own(_cache_file(cache_dir), _MAX_BYTES), type=_Cached)
    except (OSError, ValueError):
        return None
    if not cached.exported or not cached.known.rules:
        return None
    rules.known(cached.known)
    return cached.exported


def export(cache_dir: Path | None) -> list[Rule]:
    """Read the rules from the kingfisher binary and keep them for the next start.

    Raises OSError, ValueError or ImportError.
    """
    from kingfisher import get_binary_path  # type: ignore[import-untyped] # noqa: PLC0415 - only where the cache is missing

    command = [os.path.abspath(get_binary_path()), "--no-update-check", "rules", "list", "--format", "json"]  # noqa: PTH100
    try:
        done = processes.run(
            command, cwd=Path("/"), env=processes.environment(), timeout_s=EXPORT_SECONDS, max_bytes=_MAX_BYTES
        )
    except processes.ProcessError as error:
        raise OSError(f"kingfisher {error}") from error
    if done.code:
        raise OSError("kingfisher did not list its rules")
    exported = [rule for row in json.loads(done.output) if (rule := _rule(row))]
    if not exported:
        raise ValueError("kingfisher listed no rules")
    if cache_dir is not None:
        _keep(cache_dir, _Cached(rules.known(), exported))
    return exported


def _rule(row: dict[str, Any]) -> Rule | None:
    """One exported rule, when it is wanted and its pattern compiles here."""
    pattern = str(row["pattern"])
    name = str(row["id"]).partition(".")[2].lower() or str(row["id"]).lower()
    if name in _W.left_out:
        return None
    try:
        compiled(pattern)
    except re2.error:
        return None  # the one with (?x); our own table has its token
    keywords = rules.known().words["kingfisher.keywords"].get(name) or required_literals(pattern)
    return Rule(name.replace("/", "-"), pattern, tuple(keywords), check="token", reach=_REACH)


def _cache_file(cache_dir: Path) -> Path:
    return cache_dir / f"redaction-rules-{kingfisher_version()}-{rules.version()}.json"


def _keep(cache_dir: Path, cached: _Cached) -> None:
    """Write the cache whole or not at all, readable for its owner alone, and through no link."""
    with contextlib.suppress(OSError):
        state_folder(cache_dir)
        write_whole(_cache_file(cache_dir), msgspec.json.encode(cached))
