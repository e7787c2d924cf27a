"""Secrets on command lines, in SQL, in function calls and in files of fixed columns: forms without a telling name."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from agent_trace_sidecar.redaction.names import Kind
from agent_trace_sidecar.redaction.spans import Span
from agent_trace_sidecar.redaction.structures import compiled
from agent_trace_sidecar.redaction.values import Form, is_secret


class _Command(NamedTuple):
    rule: str
    literals: tuple[bytes, ...]
    pattern: bytes
    judged: bool = True
    """Whether the value is asked for looking like a secret; not where the form alone leaves no doubt."""


_V: Final = rb"(?:\\*\"([^\"\r\n\\]{1,300})\\*\"|'([^'\r\n]{1,300})'|([^\s\"'\x60;|&<>\x1e\x1f]{1,300}))"
_Q: Final = rb"\\*[\"']([^\"'\r\n\\\x1e]{1,300})\\*[\"']"

_COMMANDS: Final = (
    _Command("curl-user", (b"curl", b"wget", b"http"), rb"(?i)\b(?:curl|wget|https?)\b[^\r\n|;]{0,300}?\s(?:-u|--user|-a|--proxy-user)[ =]?\\*[\"']?[^\s:\"'\\$]{1,80}:([^\s\"'\\]{1,200})"),
    _Command("sshpass", (b"sshpass",), rb"\bsshpass\s{1,4}-p\s{0,4}" + _V, judged=False),
    _Command("mysql-password", (b"mysql", b"mariadb"), rb"\b(?:mysql|mysqldump|mysqladmin|mariadb)\b[^\r\n|;]{0,200}?\s-p([^\s\"'$\\]{3,100})"),
    _Command("login-password", (b" -p",), rb"(?i)(?:\s(?:-u|--?user(?:name)?|/user:?)[ =]{0,2}\S{1,100}\s{1,4}(?:-\S+\s+)?|\blogin\b[^\r\n|;]{0,200}?\s)(?:-p|--?pass(?:word)?)[ =]{1,2}" + _V),
    _Command("ldap-password", (b"ldap",), rb"\bldap(?:search|modify|add|delete|passwd|whoami)\b[^\r\n|;]{0,300}?\s-w\s{0,3}" + _V),
    _Command("redis-password", (b"redis-cli",), rb"\bredis-cli\b[^\r\n|;]{0,200}?\s-a\s{1,3}" + _V),
    _Command("requirepass", (b"requirepass", b"masterauth"), rb"(?:requirepass|masterauth)\s{1,4}" + _V),
    _Command("passin", (b"pass:",), rb"(?:^|[\s\"'=])pass:([^\s\"'$\\]{3,100})"),
    _Command("htpasswd", (b"htpasswd",), rb"\bhtpasswd\s{1,4}-\w*b\w*\s{1,4}\S+\s{1,4}\S+\s{1,4}" + _V),
    _Command("net-user", (b"net user",), rb"(?i)\bnet\s{1,3}user\s{1,3}\S{1,60}\s{1,3}([^\s/\"']{4,60})\s{1,3}/add"),
    _Command("stdin-password", (b"echo", b"printf"), rb"\b(?:echo|printf)\s{1,3}(?:-n\s{1,3})?" + _V + rb"\s{0,3}\|\s{0,3}(?:sudo\s{1,3}-\w*S|docker\s{1,3}login|helm\s{1,3}registry|passwd|chpasswd|gh\s{1,3}auth)"),
    _Command("user-percent-password", (b"smb", b"rpcclient", b"-u "), rb"\b(?:smbclient|smbmap|rpcclient|winexe|mount\.cifs|net)\b[^\r\n|;]{0,200}?\s(?:-U|--user)[ =]?\\*[\"']?[^\s%\"']{1,80}%([^\s\"'\\]{1,100})", judged=False),
    _Command("secure-string", (b"convertto-securestring",), rb"(?i)ConvertTo-SecureString\s{1,3}(?:-String\s{1,3})?" + _Q),
    _Command("sql-password", (b"identified", b"password"), rb"(?i)\bidentified\s{1,3}(?:with\s{1,3}\S{1,40}\s{1,3})?(?:by|as)\s{1,3}(?:password\s{1,3})?\\*['\"]([^'\"\r\n\\]{1,200})"),
    _Command("sql-password", (b"password",), rb"(?i)\b(?:role|user|login|set)\b[^\r\n;]{0,200}?\bpassword\s{0,3}(?:=\s{0,3}|\(\s{0,2})?N?\\*'([^'\r\n\\]{1,200})'"),
    _Command("network-credential", (b"networkcredential",), rb"(?i)NetworkCredential\s{0,2}\(\s{0,3}[^,()]{1,100},\s{0,3}" + _Q, judged=False),
    _Command("usernamepassword", (b"usernamepassword", b"basicauth", b"basic_auth", b"setbasicauth", b"httpbasic", b".login(", b".connect(", b"mysqli", b"getconnection("), rb"(?i)(?:UsernamePassword(?:Authentication)?Token|UsernamePassword\w*Credentials?|HTTPBasicAuth|basic_?auth\w*|\.login|mysqli(?:_connect)?|getConnection|\.connect)\s{0,2}\(\s{0,3}(?:\\*[\"'][^\"'\r\n]{0,120}\\*[\"']\s{0,2},\s{0,3}){1,2}" + _Q),
    _Command("netrc", (b"login",), rb"(?i)\blogin\s{1,20}\S{1,120}\s{1,20}password\s{1,20}([^\s\"']{1,200})", judged=False),
    _Command("netrc", (b"machine",), rb"(?i)\bmachine\s{1,20}\S{1,120}\s{1,20}(?:login\s{1,20}\S{1,120}\s{1,20})?password\s{1,20}([^\s\"']{1,200})", judged=False),
    _Command("pgpass", (b":",), rb"(?m)^[+\- ]?(?:[A-Za-z0-9_.-]{1,80}|\*):(?:\d{4,5}|\*):(?:[\w.-]{1,63}|\*):[\w.@-]{1,63}:([^\s:\"']{3,200})$"),
    _Command("shadow-hash", (b":",), rb"(?m)^[+\- ]?[A-Za-z_][\w.-]{0,31}:([A-Za-z0-9./]{13}):\d{0,6}:"),
    _Command("id-pw", (b"pw", b"pass"), rb"(?i)\b(?:id|user|login|username|account)\s{0,2}[:=/]\s{0,2}[^\s,;:]{1,60}[\s,;/]{1,3}(?:pw|pass(?:word|wd)?|pwd)\s{0,2}[:=]\s{0,2}([^\s,;\"'<>]{4,60})"),
    _Command("password-is", (b"password", b"passphrase", b"passwd"), rb"(?i)\bpass(?:word|phrase|wd)(?:\s{1,2}for\s{1,2}[^\r\n.]{1,60}?)?\s{1,2}(?:is|was|will be|to)\s{0,2}:?\s{1,2}\\*[\"'\x60]([^\s\"'\x60\\]{4,60})\\*[\"'\x60]"),
    _Command("url-token", (b"://",), rb"(?i)\bhttps?://([A-Za-z0-9_-]*[A-Za-z][A-Za-z0-9_-]*\d[A-Za-z0-9_-]{8,200})(?::(?:x-oauth-basic)?)?@[A-Za-z0-9]"),
)

_COMPILED: dict[int, Any] = {}


def commands(text: bytes, lowered: bytes) -> Iterator[Span]:
    """Secrets that the command, the call or the columns around them give away."""
    for index, command in enumerate(_COMMANDS):
        if not any(literal in lowered for literal in command.literals):
            continue
        regex = _COMPILED.get(index)
        if regex is None:
            regex = _COMPILED[index] = compiled(command.pattern)
        for match in regex.finditer(text):
            group = next((n for n in range(1, regex.groups + 1) if match.start(n) >= 0), 0)
            start, end = match.span(group)
            if not command.judged or is_secret(b"", Kind.PASSWORD, text[start:end], Form.CONFIG):
                yield Span(start, end, command.rule)
