"""Secrets in files of fixed columns or of a syntax of their own: routers, mail, chat, accounts, cookies."""

# ruff: noqa: E501 - a pattern is read as one line

from typing import Final

from agent_trace_sidecar.redaction.rules import Rule, near

_V: Final = r"(?:\\*\"([^\"\r\n\\]{1,300})\\*\"|'([^'\r\n]{1,300})'|([^\s\"'\x60;|&<>\x1e\x1f]{1,300}))"

_TABLE: Final = (
    Rule("redis-config", r"(?:requirepass|masterauth)\s{1,4}" + _V, ("requirepass", "masterauth"), judged="password"),
    Rule(
        "netrc",
        r"(?i)\blogin\s{1,20}\S{1,120}\s{1,20}password[ \t]{1,20}([^\s\"']{1,200})",
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
        r"(?m)^[+\- ]?(?:[A-Za-z0-9_.-]+|\*):(?:\d{4,5}|\*):(?:[\w.-]+|\*):[\w.@-]+:([^\s:\"']{3,})$",
        (":",),
        judged="password",
    ),
    Rule("shadow-hash", r"(?m)^[+\- ]?[A-Za-z_][\w.-]*:([A-Za-z0-9./]{13}):\d*:", (":",), judged="password"),
    Rule(
        "router-line",
        r"(?i)\b(?:password|secret|key|md5)\s{1,3}[0-9]\s{1,3}([^\s\"'(){}\[\],;=<>]{6,100})(?:\s|$)",
        tuple(f"{word} {n} " for word in ("password", "secret", "key") for n in "05789"),
        judged="mixed",
    ),
    Rule(
        "router-line",
        r"(?im)^[+\- ]?\s{0,8}(?:enable[ \t]{1,3}(?:secret|password)|username[ \t]{1,3}\S{1,40}[ \t]{1,3}(?:privilege[ \t]{1,3}\d{1,2}[ \t]{1,3})?(?:secret|password)|wpa-psk(?:[ \t]{1,3}ascii)?|ppp[ \t]{1,3}chap[ \t]{1,3}password|neighbor[ \t]{1,3}\S{1,40}[ \t]{1,3}password|snmp-server[ \t]{1,3}community|crypto[ \t]{1,3}isakmp[ \t]{1,3}key|(?:tacacs|radius)-server[ \t]{1,3}key|(?:[\w-]{1,40}[ \t]{1,3}){0,6}(?:pre-shared-key|plain-text-password(?:-value)?)|rootpw(?:[ \t]{1,3}--\w{1,12})?|bindpw|(?:d-i[ \t]{1,3})?[\w/-]{1,40}/(?:user|root)-password(?:-again)?[ \t]{1,3}password|line[ \t]{1,3}(?:vty|con|aux)[^\r\n]{0,20}\n(?:[ \t]{1,3}[^\r\n]{1,60}\n){0,4}?[ \t]{1,3}password)[ \t]{1,3}(?:\d[ \t]{1,3})?\"?([^\s\"']{4,80})\"?(?:[ \t]{1,3}\S{1,20}){0,3}[ \t\r]{0,3}$",
        (
            "enable ",
            "pre-shared-key",
            "plain-text-password",
            "rootpw",
            "bindpw",
            "user-password",
            "root-password",
            "line vty",
            "line con",
            "username ",
            "wpa-psk",
            "ppp chap",
            "neighbor ",
            "snmp-server",
            "crypto isakmp",
            "tacacs-server",
            "radius-server",
        ),
        judged="password",
    ),
    Rule(
        "login-block",
        r"<auth-user-pass>\s{0,4}\n[^\r\n<]{1,100}\r?\n([^\r\n<]{3,200})",
        ("<auth-user-pass>",),
        judged="form",
    ),
    Rule(
        "vault-text",
        r"\$ANSIBLE_VAULT;[^\r\n]{1,60}((?:\r?\n\s{0,20}[0-9a-f]{20,90})+)",
        ("$ansible_vault",),
        reach=65536,
        judged="form",
    ),
    Rule(
        "cookie-line",
        r"(?:TRUE|FALSE)\t/[^\t\r\n]{0,100}\t(?:TRUE|FALSE)\t\d{1,12}\t[^\t\r\n]{1,100}\t([^\s]{8,})",
        ("true\t", "false\t"),
        judged="random",
    ),
    Rule(
        "relay-line",
        r"(?m)^[+\- ]?\[?(?:[\w.-]{1,100}\]?:\d{2,5}|(?:relay|smtp|mail)[\w.-]{1,100}\]?)[ \t]{1,12}[\w.+@-]{1,100}:([^\s:]{4,100})[ \t\r]*$",
        ("relay.", "smtp.", "mail.", ":25 ", ":465 ", ":587 ", ":25\t", ":465\t", ":587\t"),
        judged="password",
    ),
    Rule(
        "account-line",
        r"(?m)^[+\- ]?[A-Za-z_][\w.-]*:([^:\s*!]{8,}):\d+:\d+:[^:\r\n]*:/[^:\r\n]*(?::|$)",
        (":/",),
        judged="password",
    ),
    Rule("crypt-line", r"(?m)^[+\- ]?[A-Za-z_][\w.-]*:([A-Za-z0-9./]{13})[ \t\r]*$", (":",), judged="random"),
    Rule(
        "firefox-login",
        r"\\*\"encrypted(?:Username|Password)\\*\"\s{0,3}:\s{0,3}\\*\"([A-Za-z0-9+/=]{20,})",
        ("encryptedpassword", "encryptedusername"),
        judged="form",
    ),
    Rule("irc-line", r"(?i)\bidentify\s{1,3}(?:\S{1,30}\s{1,3})?(\S{5,60})", ("nickserv",), judged="form"),
    Rule(
        "combo-line",
        r"(?m)^[+\- ]?(?:root|admin|administrator|postgres|oracle|ubuntu|guest|pi):([^\s:/\"'<>]{5,40})[ \t\r]*$",
        ("root:", "admin:", "administrator:", "postgres:", "oracle:", "ubuntu:", "guest:"),
        judged="chosen",
    ),
    Rule(
        "combo-line",
        r"(?m)(?:^|[\s|,;])[\w.+-]{1,40}@[\w-]{2,40}(?:\.[a-z]{2,12}){1,3}\s{0,2}[:|;]\s{0,2}([^\s:|;,/\"'<>]{6,40})[ \t\r]*$",
        ("@",),
        judged="chosen",
    ),
    Rule(
        "ipsec-line",
        r"(?m):[ \t]{0,3}(?:PSK|EAP|XAUTH|NTLM|(?:RSA|ECDSA|P12|PKCS8)[ \t]{1,3}[^\s\"]{1,80})[ \t]{1,3}\"([^\"\r\n]{3,100})\"",
        (": psk", ": eap", ": rsa", ": xauth", ": p12", ": ecdsa", ": ntlm"),
        judged="password",
    ),
    Rule(
        "chap-line",
        r"(?m)^[\w.*@\"-]{1,60}[ \t]{1,12}[\w.*\"-]{1,60}[ \t]{1,12}\"?([^\s\"#]{4,60})\"?[ \t]{1,12}(?:\*|(?:\d{1,3}\.){3}\d{1,3})[ \t\r]*$",
        ("pptp", "l2tp", "chap", "pap-secrets"),
        judged="password",
    ),
    Rule(
        "irc-line",
        r"(?i)\b[\w-]{1,40}(?:\.[\w-]{1,40}){1,4}:(?:666\d|6697|7000):([^\s:}\"']{4,60})",
        (":666", ":6697:", ":7000:"),
        judged="password",
    ),
    Rule(
        "encrypted-value",
        r"(?i)\bsecure:\s{0,3}\\*[\"']?([A-Za-z0-9+/]{30,}={0,2})",
        ("secure: ", 'secure:"'),
        judged="random",
    ),
    Rule(
        "digest-line",
        r"(?m)^[+\- ]?[A-Za-z_][\w.@-]{0,40}:[A-Za-z][\w .@-]{1,40}:([0-9a-f]{32})[ \t\r]*$",
        (":",),
        judged="form",
    ),
)

LINE_RULES: Final = tuple(near(rule) for rule in _TABLE)
