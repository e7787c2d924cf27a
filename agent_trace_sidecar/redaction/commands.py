"""Secrets on command lines, in SQL, in function calls and in files of fixed columns: forms without a telling name."""

# ruff: noqa: E501 - a pattern is read as one line

from typing import Final

from agent_trace_sidecar.redaction.rules import Rule

_V: Final = r"(?:\\*\"([^\"\r\n\\]{1,300})\\*\"|'([^'\r\n]{1,300})'|([^\s\"'\x60;|&<>\x1e\x1f]{1,300}))"
_Q: Final = r"\\*[\"']([^\"'\r\n\\\x1e]{1,300})\\*[\"']"

COMMAND_RULES: Final = (
    Rule(
        "curl-user",
        r"(?i)\b(?:curl|wget|https?)\b[^\r\n|;]{0,300}?\s(?:-u|--user|-a|--proxy-user)[ =]?\\*[\"']?[^\s:\"'\\$]{1,80}:([^\s\"'\\]{1,200})",
        ("curl ", "wget ", "https -a", "http -a"),
        judged="password",
    ),
    Rule("ssh-flag", r"\bsshpass\s{1,4}-p\s{0,4}" + _V, ("sshpass",), judged="form"),
    Rule(
        "mysql-flag",
        r"\b(?:mysql|mysqldump|mysqladmin|mariadb)\b[^\r\n|;]{0,200}?\s-p([^\s\"'$\\]{3,100})",
        ("mysql", "mariadb"),
        judged="password",
    ),
    Rule(
        "login-flag",
        r"(?i)(?:\s(?:-u|--?user(?:name)?|/user:?)[ =]{0,2}\S{1,100}\s{1,4}(?:-\S+\s+)?|\blogin\b[^\r\n|;]{0,200}?\s)-p[ =]{1,2}"
        + _V,
        (" -p ", " -p="),
        judged="password",
    ),
    Rule(
        "ldap-flag",
        r"\bldap(?:search|modify|add|delete|passwd|whoami)\b[^\r\n|;]{0,300}?\s-w\s{0,3}" + _V,
        ("ldapsearch", "ldapmodify", "ldapadd", "ldapdelete", "ldappasswd", "ldapwhoami"),
        judged="password",
    ),
    Rule("redis-flag", r"\bredis-cli\b[^\r\n|;]{0,200}?\s-a\s{1,3}" + _V, ("redis-cli",), judged="password"),
    Rule("redis-config", r"(?:requirepass|masterauth)\s{1,4}" + _V, ("requirepass", "masterauth"), judged="password"),
    Rule("openssl-flag", r"(?:^|[\s\"'=])pass:([^\s\"'$\\]{3,100})", ("pass:",), judged="password"),
    Rule(
        "htaccess-flag", r"\bhtpasswd\s{1,4}-\w*b\w*\s{1,4}\S+\s{1,4}\S+\s{1,4}" + _V, ("htpasswd",), judged="password"
    ),
    Rule(
        "net-user",
        r"(?i)\bnet\s{1,3}user\s{1,3}\S{1,60}\s{1,3}([^\s/\"']{4,60})\s{1,3}/add",
        ("net user",),
        judged="password",
    ),
    Rule(
        "piped-secret",
        r"\b(?:echo|printf)\s{1,3}(?:-n\s{1,3})?"
        + _V
        + r"\s{0,3}\|\s{0,3}(?:sudo\s{1,3}-\w*S|docker\s{1,3}login|helm\s{1,3}registry|passwd|chpasswd|gh\s{1,3}auth)",
        ("sudo -s", "docker login", "chpasswd", "passwd", "gh auth", "helm registry"),
        judged="password",
    ),
    Rule(
        "user-percent",
        r"\b(?:smbclient|smbmap|rpcclient|winexe|mount\.cifs|net)\b[^\r\n|;]{0,200}?\s(?:-U|--user)[ =]?\\*[\"']?[^\s%\"']{1,80}%([^\s\"'\\]{1,100})",
        ("smbclient", "smbmap", "rpcclient", "winexe", "mount.cifs"),
        judged="form",
    ),
    Rule(
        "secure-string",
        r"(?i)ConvertTo-SecureString\s{1,3}(?:-String\s{1,3})?" + _Q,
        ("convertto-securestring",),
        judged="password",
    ),
    Rule(
        "sql-literal",
        r"(?i)\bidentified\s{1,3}(?:with\s{1,3}\S{1,40}\s{1,3})?(?:by|as)\s{1,3}(?:password\s{1,3})?\\*['\"]([^'\"\r\n\\]{1,200})",
        ("identified by", "identified with", "identified as"),
        judged="password",
    ),
    Rule(
        "sql-literal",
        r"(?i)\b(?:role|user|login|set)\b[^\r\n;]{0,200}?\bpassword\s{0,3}(?:=\s{0,3}|\(\s{0,2})?N?\\*'([^'\r\n\\]{1,200})'",
        ("password '", "password='", "password ='", "password = '", "password('", "password n'"),
        judged="password",
    ),
    Rule(
        "network-credential",
        r"(?i)NetworkCredential\s{0,2}\(\s{0,3}[^,()]{1,100},\s{0,3}" + _Q,
        ("networkcredential",),
        judged="form",
    ),
    Rule(
        "login-call",
        r"(?i)(?:UsernamePassword(?:Authentication)?Token|UsernamePassword\w*Credentials?|HTTPBasicAuth|basic_?auth\w*|\.login|mysqli?(?:_p?connect)?|pg_connect|\bauth\s{0,2}=|getConnection|\.connect)\s{0,2}\(\s{0,3}(?:\\*[\"'][^\"'\r\n]{0,120}\\*[\"']\s{0,2},\s{0,3}){1,2}"
        + _Q,
        (
            "login-call",
            "basicauth",
            "basic_auth",
            "setbasicauth",
            "httpbasic",
            ".login(",
            ".connect(",
            "mysqli",
            "mysql_",
            "pg_connect",
            "auth=(",
            "auth = (",
            "getconnection(",
        ),
        judged="password",
    ),
    Rule(
        "netrc",
        r"(?i)\blogin\s{1,20}\S{1,120}\s{1,20}password\s{1,20}([^\s\"']{1,200})",
        ("login ",),
        judged="password",
    ),
    Rule(
        "netrc",
        r"(?i)\bmachine\s{1,20}\S{1,120}\s{1,20}(?:login\s{1,20}\S{1,120}\s{1,20})?password\s{1,20}([^\s\"']{1,200})",
        ("machine ",),
        judged="password",
    ),
    Rule(
        "postgres-line",
        r"(?m)^[+\- ]?(?:[A-Za-z0-9_.-]{1,80}|\*):(?:\d{4,5}|\*):(?:[\w.-]{1,63}|\*):[\w.@-]{1,63}:([^\s:\"']{3,200})$",
        (":",),
        judged="password",
    ),
    Rule("shadow-hash", r"(?m)^[+\- ]?[A-Za-z_][\w.-]{0,31}:([A-Za-z0-9./]{13}):\d{0,6}:", (":",), judged="password"),
    Rule(
        "id-and-secret",
        r"(?i)\b(?:id|user|login|username|account)\s{0,2}[:=/]\s{0,2}[^\s,;:]{1,60}[\s,;/]{1,3}(?:pw|pass(?:word|wd)?|pwd)\s{0,2}[:=]\s{0,2}([^\s,;\"'<>()\[\]{}]*[\d!@#$%^&*][^\s,;\"'<>()\[\]{}]*)",
        ("pw:", "pw=", "pw :", "pwd:", "pass:", "password:", "passwd:"),
        judged="password",
    ),
    Rule(
        "stated-secret",
        r"(?i)\bpass(?:word|phrase|wd)(?:\s{1,2}for\s{1,2}[^\r\n.]{1,60}?)?\s{1,2}(?:is|was|will be|to)\s{0,2}:?\s{1,2}\\*[\"'\x60]([^\s\"'\x60\\]{4,60})\\*[\"'\x60]",
        ("password is", "password for", "password was", "password to", "passphrase is", "passwd is"),
        judged="password",
    ),
    Rule(
        "url-token",
        r"(?i)\bhttps?://([A-Za-z0-9_-]{16,200})(?::(?:x-oauth-basic)?)?@[A-Za-z0-9]",
        ("://",),
        judged="mixed",
    ),
    Rule(
        "router-line",
        r"(?i)\b(?:password|secret|key|md5)\s{1,3}[0-9]\s{1,3}([A-Za-z0-9$./]{6,100})(?:\s|$)",
        tuple(f"{word} {n} " for word in ("password", "secret", "key") for n in "05789"),
        judged="mixed",
    ),
    Rule("irc-line", r"(?i)\bidentify\s{1,3}(?:\S{1,30}\s{1,3})?(\S{5,60})", ("nickserv",), judged="form"),
)
