"""The living set of rules inside `kingfisher-bin`: exported once per version, kept as JSON in the state folder.

The export takes 0.3 to 0.5 s and runs off the start-up path; from the cache the rules are there within a millisecond.
"""

# ruff: noqa: SIM905 - long lists of words are read and sorted as text

import contextlib
import json
import os
from pathlib import Path
from typing import Any, Final

import re2

from agent_trace_sidecar.limits import processes
from agent_trace_sidecar.limits.files import read_own, state_folder, write_whole
from agent_trace_sidecar.redaction.literals import required_literals
from agent_trace_sidecar.redaction.rules import Rule

OWN_VERSION: Final = "4"
"""To be raised when our own rules or layers change."""

EXPORT_SECONDS: Final = 20.0
"""How long the export may take before we go on with our own rules."""

_MAX_EXPORT_BYTES: Final = 64 * 1024 * 1024
_MAX_CACHE_BYTES: Final = 16 * 1024 * 1024

_LEFT_OUT: Final = frozenset(
    "generic-credential-uri "  # masks the host too; ours masks the password only
    "private-key "  # masks whatever stands between two marks, and the marks; ours masks the body of a key
    "kubernetes-secret-yaml "  # masks the whole manifest; its values are decoded and looked at one by one
    "azure-storage-account-name polymarket-address "  # names, not secrets
    # What our own table or the layer of assignments finds as well, but with literals that are in every program
    "alibaba-sts-access-key-secret alibaba-secret-key aws-access-token aws-secret-access-key azure-storage-account-key "
    "hashicorp-tf-password salesforce-access-token.1 scaleway-secret-key snowflake-programmatic-access-token.1 "
    "twilio-api-key vault-service-token airtable-personnal-access-token azure-ad-client-secret "
    "polymarket-api-key polymarket-api-secret polymarket-private-key wiz-client-secret.1 "
    # What is found near the provider's name anyway, by patterns that would slow down all others
    "box-api-access-token fal-api-key.1 ibm-cloud-user-api-key linear-client-secret lob-api-key miro-client-id "
    "typeform-api-token wiz-client-id.1 woocommerce-consumer-secret.1".split()
)
_LITERALS: Final = {
    "azure-client-id": ("client_id", "clientid", "client-id", "client id", "client.id"),
    "cloudflare-account-id.1": ("account_id", "accountid", "account-id", "account id", "account.id"),
}
"""Where the words that can be read off a pattern are in every program, and its author's own are not."""


def kingfisher_version() -> str:
    """The version of the installed rule set, or "none"."""
    try:
        from kingfisher._version import __version__  # type: ignore[import-untyped] # noqa: PLC0415 - a package that may be missing on some platforms
    except ImportError:
        return "none"
    return str(__version__)


def load(cache_dir: Path | None) -> list[Rule] | None:
    """The exported rules from the cache, or None when there is none for this version."""
    if cache_dir is None:
        return None
    try:
        rows = json.loads(read_own(_cache_file(cache_dir), _MAX_CACHE_BYTES))
        return [Rule(i, p, tuple(words)) for i, p, words in rows] or None
    except (OSError, ValueError, TypeError):
        return None


def export(cache_dir: Path | None) -> list[Rule]:
    """Ask the kingfisher binary for its rules and keep them for the next start.

    Raises OSError, ValueError or ImportError.
    """
    from kingfisher import get_binary_path  # type: ignore[import-untyped] # noqa: PLC0415 - only where the cache is missing

    command = [os.path.abspath(get_binary_path()), "--no-update-check", "rules", "list", "--format", "json"]  # noqa: PTH100
    try:
        done = processes.run(
            command,
            cwd=Path("/"),
            env=processes.environment(),
            timeout_s=EXPORT_SECONDS,
            max_bytes=_MAX_EXPORT_BYTES,
        )
    except processes.ProcessError as error:
        raise OSError(f"kingfisher {error}") from error
    if done.code:
        raise OSError("kingfisher did not list its rules")
    rules = [rule for row in json.loads(done.output) if (rule := _from_export(row))]
    if cache_dir is not None:
        _keep(cache_dir, rules)
    return rules


def _from_export(row: dict[str, Any]) -> Rule | None:
    """One exported rule, when its pattern compiles here."""
    pattern = str(row["pattern"])
    rule_id = str(row["id"]).partition(".")[2].lower() or str(row["id"]).lower()
    if rule_id in _LEFT_OUT:
        return None
    literals = _LITERALS.get(rule_id) or tuple(sorted(required_literals(pattern) or ()))
    rule = Rule(rule_id.replace("/", "-"), pattern, literals)
    try:
        rule.regex()
    except re2.error:
        return None  # the one with (?x); our own table has its token
    rule.regex_ = None
    return rule


def _cache_file(cache_dir: Path) -> Path:
    return cache_dir / f"redaction-rules-{kingfisher_version()}-{OWN_VERSION}.json"


def _keep(cache_dir: Path, rules: list[Rule]) -> None:
    """Write the cache whole or not at all; a folder that can't be written only costs the next start half a second."""
    with contextlib.suppress(OSError):
        state_folder(cache_dir)
        write_whole(_cache_file(cache_dir), json.dumps([(r.id, r.pattern, r.literals) for r in rules]).encode())
