"""Files that are nothing but secrets: whatever is read from or written to them, names stay and values go."""

# ruff: noqa: E501 - a pattern is read as one line

import re
from collections.abc import Iterator
from typing import Final

from agent_trace_sidecar.redaction.deadline import check_deadline
from agent_trace_sidecar.redaction.rules import Late
from agent_trace_sidecar.redaction.spans import Span

_NAMES: Final = r"""
      \.env(?:\.[\w.-]+)?(?<!\.example)(?<!\.sample)(?<!\.template)(?<!\.dist) | \.envrc | (?!example|sample)[\w-]+\.env
    | [._]netrc | \.pgpass | pgpass\.conf | \.npmrc | \.yarnrc(?:\.yml)? | \.pypirc | \.git-credentials | \.dockercfg
    | \.docker[/\\]config\.json | \.?aws[/\\](?:credentials|config) | \.?credentials(?:\.(?:json|ya?ml|toml|ini|properties|xml|db))?
    | \.htpasswd | htpasswd | g?shadow-? | master\.key | (?:id|identity)_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?[\w.-]*(?<!\.pub)
    | [\w.-]+\.(?:pem|key|p12|pfx|p8|ppk|jks|keystore|kdbx|tfstate|tfstate\.backup|tfvars|ovpn)
    | kubeconfig[\w.-]* | \.kube[/\\]config | secrets?\.(?:ya?ml|json|toml|env|ini|properties|xml) | \.s3cfg | \.esmtprc | \.msmtprc
    | \.boto | \.ftpconfig | sftp-config\.json | \.my\.cnf | \.mylogin\.cnf | \.vault-token | \.cargo[/\\]credentials(?:\.toml)?
    | \.terraformrc | terraform\.rc | hosts\.yml | \.databrickscfg | \.snowsql[/\\]config | service[-_]account[\w.-]*\.json
    | application_default_credentials\.json | rclone\.conf | \.fetchmailrc | \.muttrc | proftpdpasswd | passwd\.txt | logins\.json
    | (?:chap|pap)-secrets | ipsec\.secrets | sasl_passwd | passwords?\.(?:txt|csv|lst) | \.?vault[_-]?pass(?:word)?(?:\.txt)? | passwd\.digest
"""
"""Names of files that hold secrets only, as a verbose pattern; also a folder's name before them."""
_SECRET_PATH: Final = re.compile(rf"(?ix)(?:^|[/\\])(?:{_NAMES})$")
_BORDER: Final = r"[\s\"'`|;&<>()=]"
_PLAIN_NAMES: Final = re.sub(r"\(\?<?![^()]*\)|\s+", "", _NAMES).replace(r"\w", r"\w\x{80}-\x{10ffff}")
_PERHAPS: Final = Late(rf"(?i)(?:^|[/\\]|{_BORDER})(?:{_PLAIN_NAMES})(?:$|{_BORDER})".encode())
"""Finds every such path in a text, also inside a command, and a few more: RE2 can't say what must not stand there."""
_WORDS: Final = re.compile(r"[^\s\"'`|;&<>()=]+")
_READERS: Final = re.compile(
    r"\b(?:cat|bat|less|more|head|tail|tac|nl|type|Get-Content|grep|egrep|rg|sed|awk|strings|xxd|base64|tee|printenv)\b"
)

_LINE: Final = re.compile(rb"[^\r\n\x1e]+")
_PREFIX: Final = re.compile(rb"^(?:\s{0,8}\d{1,7}(?:[|:\t]|\xe2\x86\x92)\s?)?[+\- ]?\s*")
_KEPT_LINE: Final = re.compile(
    rb"^(?:</?[A-Za-z_][\w-]*(?:\s[^<>]*)?>|\(.*\)|@@.*|(?:---|\+\+\+|diff|index|Index:|===).*|\[[\w. :/\"-]+\]|[{}\[\](),]+|-----(?:BEGIN|END) .*|#[^=:]*|//[^=:]*)$"
)
_PAIR: Final = re.compile(
    rb"^(?P<name>(?:export\s+|set\s+|setx\s+|[#;\-]\s*)*[\"']?[A-Za-z_/][\w./@:-]*?[\"']?)\s*(?:=|:=|=>|:(?!//)(?=[\s\"']|$))\s*(?P<value>.*)$"
)
_ELEMENT: Final = re.compile(rb"^<[^<>]+>(?P<value>[^<>]+)</[^<>]+>$")
_NETRC: Final = re.compile(rb"\b(?:password|account)\s+(\S+)")
_MACHINE: Final = re.compile(rb"\b(?:machine|login|default)\b")
_SEPARATED: Final = re.compile(rb"^[^:\s]+(?::[^:\s]*){1,8}$")


def is_secret_path(path: str) -> bool:
    """Whether a file of this name holds secrets only."""
    return len(path) < 4096 and _SECRET_PATH.search(path) is not None  # noqa: PLR2004 - the longest path there is


def secret_paths(text: bytes) -> Iterator[int]:
    """Where a path or a command may name a file of secrets: a fast pass over much text, to be followed by a look."""
    return (match.start() for match in _PERHAPS.finditer(text))


def reads_secret_file(command: str) -> bool:
    """Whether a shell command prints a file that holds secrets only."""
    if not _READERS.search(command[:2000]):
        return False
    return any(is_secret_path(word) for word in _WORDS.findall(command[:2000]))


def values_of_file(text: bytes) -> Iterator[Span]:
    """Every value in the text of such a file; names, comments, sections and the marks of diffs stay."""
    for match in _LINE.finditer(text):
        check_deadline()
        line = match.group()
        lead = _PREFIX.match(line)
        offset = match.start() + (lead.end() if lead else 0)
        body = text[offset : match.end()].rstrip()
        if not body or _KEPT_LINE.match(body):
            continue
        yield from (Span(offset + start, offset + end, "secret-file") for start, end in _values_of_line(body))


def _values_of_line(body: bytes) -> Iterator[tuple[int, int]]:
    if _MACHINE.match(body) or body.startswith(b"password "):
        yield from (m.span(1) for m in _NETRC.finditer(body))
        return
    found = _PAIR.match(body) or _ELEMENT.match(body)
    if found:
        start, end = found.span("value")
        value = body[start:end]
        inner = value.rstrip(b",;").strip(b"\"'")
        if inner and inner not in {b"{", b"[", b"|", b">", b"[]", b"{}"}:
            at = start + value.find(inner)
            yield at, at + len(inner)
        return
    if _SEPARATED.match(body):
        at = body.find(b":") + 1 if body.count(b":") < 3 or b"$" in body else body.rfind(b":") + 1  # noqa: PLR2004
        end = body.find(b":", at) if b"$" in body and body.find(b":", at) > 0 else len(body)
        if end > at:
            yield at, end
        return
    yield 0, len(body)
