"""Secrets on command lines, in SQL, in login calls and in prose: forms without a telling name."""

# ruff: noqa: E501 - a pattern is read as one line

from typing import Final

from agent_trace_sidecar.redaction.rules import Rule, near

_V: Final = r"(?:\\*\"([^\"\r\n\\]{1,300})\\*\"|'([^'\r\n]{1,300})'|([^\s\"'\x60;|&<>\x1e\x1f]{1,300}))"
_Q: Final = r"\\*[\"']([^\"'\r\n\\\x1e]{1,300})\\*[\"']"

_TABLE: Final = (
    Rule(
        "curl-user",
        r"(?i)\b(?:curl|wget|https?)\b[^\r\n|;]{0,300}?\s(?:-u|--user|-a|--proxy-user)[ =]?\\*[\"']?[^\s:\"'\\$]{1,80}:([^\s\"'\\]{1,200})",
        ("curl ", "wget ", "https -a", "http -a"),
        judged="password",
    ),
    Rule(
        "curl-user",
        r"(?i)\b(?:curl|wget|https?)\b[^\r\n|;]{0,300}?\s(?:-u|--user|-a)[ =]?\\*[\"']?([A-Za-z0-9_.-]{16,200}):\\*(?:[\"'\s]|$)",
        ("curl ", "wget ", "https -a", "http -a"),
        judged="random",
    ),
    Rule(
        "net-user",
        r"(?i)\b(?:schtasks|cmdkey|wmic)\b[^\r\n]{0,200}?\s/r?p(?:ass)?[ :]\s{0,2}([^\s\"'/]{4,60})",
        ("schtasks", "cmdkey", "wmic"),
        judged="password",
    ),
    Rule("ssh-flag", r"\bsshpass\s{1,4}-p\s{0,4}" + _V, ("sshpass",), judged="form"),
    Rule(
        "mysql-flag",
        r"\b(?:mysql|mysqldump|mysqladmin|mariadb)\b[^\r\n|;]{0,200}?\s-p\\*[\"']?([^\s\"'$\\]{3,100})",
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
        r"(?i)(?:\b|\\040)identified(?:\s|\\040){1,3}(?:with\s{1,3}\S{1,40}\s{1,3})?(?:by|as)(?:\s|\\040){1,3}(?:password\s{1,3})?(?:\\*['\"]([^'\"\s\\]{1,200})\\*['\"](?:\s{0,3}(?:[;,)'\"\\\x60\n|]|$|(?-i:[A-Z]{4}|with |require |account |password ))|\s*\n)|([^\s'\"();]{4,60})(?:;|\s{0,3}$|\s{1,3}(?:default|account|profile|quota|temporary|password)\s))",
        ("identified by", "identified with", "identified as", "identified\\040by"),
        judged="password",
    ),
    Rule(
        "sql-literal",
        r"(?i)\b(?:role|user|login|set)\s[^\r\n;]{0,200}?\bpassword\s{0,3}(?:=\s{0,3}|\(\s{0,2})?N?\\*'([^'\s\\]{1,200})'",
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
        r"(?i)(?:UsernamePassword(?:Authentication)?Token|PasswordAuthentication|\bCredentials?|DirectoryEntry|\.basic|\bauthenticate|(?:->|::|\.)(?:login|log_in|sign_?in|auth|attempt)|UsernamePassword\w*Credentials?|HTTPBasicAuth|basic_?auth\w*|\.login|mysqli?(?:_p?connect)?|pg_connect|\bauth\s{0,2}=|getConnection|\.connect|\bPDO|ftp_login|ldap_bind|ssh2_auth_password)\s{0,2}\(\s{0,3}(?:\$?[\w.>-]{1,30}\s{0,2},\s{0,3})?(?:\\*[\"'][^\"'\r\n]{0,120}\\*[\"']\s{0,2},\s{0,3}(?:\d{2,5},\s{0,3})?){1,2}"
        + _Q,
        (
            "->login(",
            "pdo(",
            "ftp_login(",
            "ldap_bind(",
            "ssh2_auth_password(",
            ".auth(",
            ".signin(",
            ".sign_in(",
            ".log_in(",
            "::login(",
            "basicauth",
            "basic_auth",
            "setbasicauth",
            "httpbasic",
            "passwordauthentication",
            "credential(",
            "credentials(",
            "directoryentry",
            ".basic(",
            "authenticate(",
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
        "id-and-secret",
        r"(?i)\b(?:id|user|login|username|account)\s{0,2}[:=/]\s{0,2}[^\s,;:]{1,60}[\s,;/]{1,3}(?:pw|pass(?:word|wd)?|pwd)\s{0,2}[:=]\s{0,2}([^\s,;\"'<>()\[\]{}]*[\d!@#$%^&*][^\s,;\"'<>()\[\]{}]*)",
        ("pw:", "pw=", "pw :", "pwd:", "pass:", "password:", "passwd:"),
        judged="password",
    ),
    Rule(
        "id-and-secret",
        r"(?im)^[^(\[{\"'=;\r\n]{0,60}?\b(?:id|user|login|username|account|e-?mail)\s{0,2}[:=]\s{0,2}[^\s,;:(\[{\"']{1,60}(?:[ \t/|]{1,4}(?:pw|pass(?:word|wd)?|pwd)\s{0,2}=|[\s,/|]{1,4}(?:pw|pass(?:word|wd)?|pwd)\s{0,2}:)\s{0,2}([^\s,;\"'<>()\[\]{}]{4,60})(?:[\s,]|$)",
        ("pw:", "pw=", "pw :", "pwd:", "pass:", "password:", "passwd:", "password=", "pwd="),
        judged="password",
    ),
    Rule(
        "id-and-secret",
        r"(?i)(?:^|[^\w/{}-])(?:id|user(?:name)?|login|account)\s?/\s?(?:pw|pass(?:word|wd)?|pwd)\)?\s{0,2}(?:[:=]|is|are)?\s{0,3}\\*[\"'\x60]?[\w.@-]{2,40}\s{0,2}/\s{0,2}([^\s\"'\x60<>,;)\\]{4,60})",
        ("/pw", "/pass", "/ pass", "/ pw"),
        judged="password",
    ),
    Rule(
        "host-and-secret",
        r"(?i)\b(?:\d{1,3}\.){3}\d{1,3}(?::\d{1,5})?[\s,;|(/]{1,4}(?:root|administrator|admin|oracle|postgres|ubuntu|ec2-user|guest)[ ,;|/:]{1,3}([^\s\"'<>,;()/:]{6,60})(?:[\s,;)]|$)",
        ("root", "administrator", "admin", "oracle", "postgres", "ubuntu", "ec2-user", "guest"),
        judged="mixed",
    ),
    Rule(
        "bare-userinfo",
        r"(?:^|[\s\"'=])[A-Za-z][\w.-]+:([^\s:@/\"'<>\\]+)@[A-Za-z][\w.-]*\.[A-Za-z]+(?:[\s\"':/]|$)",
        ("@",),
        judged="mixed",
    ),
    Rule(
        "stated-secret",
        r"(?i)\bpass(?:word|phrase|wd)(?:\s{1,2}for\s{1,2}[^\r\n.,]{1,60}?)?\s{1,2}(?:is|was|will be|to)\s{0,2}:?\s{1,2}\\*[\"'\x60]([^\s\"'\x60\\]{4,60})\\*[\"'\x60]",
        ("password is", "password for", "password was", "password to", "passphrase is", "passwd is"),
        judged="password",
    ),
    Rule(
        "url-token",
        r"(?i)\b[a-z][a-z0-9+.-]{1,20}://([A-Za-z0-9_-]{16,200})(?::(?:x-oauth-basic)?)?@[A-Za-z0-9]",
        ("://",),
        judged="mixed",
    ),
    Rule(
        "archive-flag",
        r"\b(?:zip|unzip|7z[ar]?|rar|unrar|useradd|usermod|pdftk|qpdf)\b[^\r\n|;]{0,100}?\s-(?:P\s{0,2}|p\s{0,2}|hp)\\*[\"']?([^\s\"'$\\-][^\s\"'$\\]{3,60})",
        ("zip ", "7z ", "7za ", "rar ", "useradd ", "usermod "),
        judged="password",
    ),
    Rule(
        "openssl-flag",
        r"\bopenssl\b[^\r\n|;]{0,200}?\s-(?:k|K|passw?(?:in|out)?|password)\s{1,2}(?:pass:)?\\*[\"']?([^\s\"'$\\:-][^\s\"'$\\:]{3,100})(?:[\s\"']|$)",
        ("openssl ",),
        judged="password",
    ),
    Rule(
        "net-user",
        r"(?i)\bnet\s{1,3}use\s{1,3}[^\r\n]{1,120}?\s([^\s/\"'\\*]{4,60})\s{1,3}/user:",
        ("net use",),
        judged="password",
    ),
    Rule(
        "net-user",
        r"(?i)\bnet\s{1,3}use\s{1,3}[^\r\n]{1,120}?\s/user:\S{1,60}\s{1,3}([^\s/\"']{4,60})",
        ("net use",),
        judged="password",
    ),
    Rule(
        "signing-call",
        r"(?i)\b(?:jwt|jws|jsonwebtoken)\.(?:sign|verify|encode|decode)\(\s{0,3}[^,()\r\n]{1,80},\s{0,3}[bu]?" + _Q,
        ("jwt.", "jws.", "jsonwebtoken."),
        judged="password",
    ),
    Rule(
        "option-default",
        r"(?i)\\*[\"'](?:--?)?[\w.-]{0,40}(?:pass(?:word|wd|phrase)?|pwd|pw|secret|token|api[_-]?key)\\*[\"']\s{0,2},[^\r\n()]{0,80}?\bdefault\s?=\s?"
        + _Q,
        ("default=", "default ="),
        judged="password",
    ),
    Rule(
        "id-and-secret",
        r"(?i)\b(?:log\s?in|login|logins|credentials?|sign\s?in)(?:\s{1,2}(?:with|as|using|is|are|for\s[\w ]{1,20}))?\s{0,2}:?\s{1,2}\\*[\"'\x60]?[\w.@-]{2,40}[\"'\x60]?\s?/\s?[\"'\x60]?([^\s\"'\x60<>,;)\\/]{6,60})(?:[\s,;).\"'\x60]|$)",
        ("login", "log in", "credential", "sign in", "signin"),
        judged="mixed",
    ),
    Rule(
        "oracle-user",
        r"(?im)(?:\bsqlplus\s{1,3}(?:-\w\s{1,3})?|^conn(?:ect)?\s{1,3}|\bjdbc:oracle:\w{2,6}:|\b(?:imp|exp|impdp|expdp|rman|sqlldr)\s{1,3}(?:userid=)?)\\*[\"']?[A-Za-z][\w$#]{1,30}/\\*[\"']?([^\s\"'/\\]{3,60})@",
        ("sqlplus", "jdbc:oracle", "conn ", "connect ", "imp ", "exp ", "impdp", "expdp", "sqlldr"),
        judged="password",
    ),
    Rule(
        "login-flag",
        r"(?i)\b(?:influx|mongo|mongosh|mongodump|lftp|ftp|xfreerdp|rdesktop|net\s{1,3}rpc)\b[^\r\n|;]{0,120}?\s(?:-u\s{0,2}[^\s,]{1,40}(?:,|\s{1,3}-p\s{1,2})|/p:)\\*[\"']?([^\s\"'$\\]{4,60})",
        ("influx", "mongo", "lftp", "xfreerdp", "rdesktop", "net rpc", "ftp "),
        judged="password",
    ),
    Rule(
        "db2-connect",
        r"(?i)\bdb2\s{1,3}connect\s[^\r\n]{1,80}?\susing\s{1,2}([^\s\"']{4,60})",
        ("db2 connect",),
        judged="password",
    ),
    Rule(
        "mysql-flag",
        r"\bmysqladmin\b[^\r\n|;]{0,200}?\spassword\s{1,3}\\*[\"']?([^\s\"'$\\]{3,100})",
        ("mysqladmin",),
        judged="password",
    ),
    Rule(
        "id-and-secret",
        r"(?i)\b(?:rdp|ssh|vnc|ftp|vpn|log(?:ged)?\s?in|account|machine|server|router|admin)\b[^\r\n\"'\x60]{0,60}[\"'\x60][\w.@-]{2,40}[\"'\x60]\s?[/:]\s?[\"'\x60]([^\s\"'\x60]{6,60})[\"'\x60]",
        ("` / `", "' / '", '" / "', "`/`", "` : `"),
        judged="chosen",
    ),
    Rule(
        "id-and-secret",
        r"(?m)^[\w.-]{2,30}[ \t]{1,12}[\w.@-]{2,30} / ([^\s/\"'\x60|]{6,60})[ \t\r]*$",
        (" / ",),
        judged="chosen",
    ),
    Rule(
        "stated-secret",
        r"(?i)\b(?:pre-?shared|shared|wifi|wi-fi|vpn|access|unlock|door|alarm)\s(?:key|code|pin)\s{1,2}(?:is\s{1,2}|:\s{0,2})?\*{0,2}\x60?([^\s\"'\x60*,;]{5,60})",
        (
            "shared key",
            "wifi key",
            "wi-fi key",
            "vpn key",
            "access code",
            "unlock code",
            "door code",
            "alarm code",
            "alarm pin",
        ),
        judged="chosen",
    ),
    Rule(
        "stated-secret",
        r"(?im)\bpass(?:word|phrase|wd)(?:\s{1,2}for\s{1,2}[^\r\n.,]{1,60}?)?\s{1,2}(?:is|was|will be)\s{0,2}:?\s{1,2}\*{0,2}([^\s\"'\x60\\,;*]{5,60}?)\*{0,2}[.]?[ \t\r]*(?:$|\()",
        ("password is", "password for", "password was", "passphrase is", "passwd is"),
        judged="chosen",
    ),
    Rule(
        "stated-secret",
        r"(?im)\bpass(?:word|wd)?\s{1,2}(?:is|was|has been)\s{1,2}(?:generated|set|created|assigned)[^\r\n:]{0,60}:\s{1,3}([^\s\"']{6,60})[ \t\r]*$",
        ("password is", "password was", "password has"),
        judged="password",
    ),
    Rule(
        "stated-secret",
        r"(?i)\bfollowing\s{1,2}(?:password|passphrase|token|secret|key)\b[^\r\n:]{0,60}:[ \t\r]*\n\s{0,20}([^\s\"']{8,80})[ \t\r]*(?:\n|$)",
        ("following ",),
        judged="mixed",
    ),
    Rule(
        "stated-secret",
        r"(?im)(?:\b(?:pw|pwd|passwd)|^(?:wifi|wi-fi|wlan))[ \t:]{1,8}(?:is[ \t])?([A-Za-z][^\s,;\"'<>()=:]{4,40})(?:[ \t]-|[,;.]?[ \t\r]*$)",
        ("pw ", "pwd ", "passwd ", "wifi", "wi-fi", "wlan"),
        judged="chosen",
    ),
)

COMMAND_RULES: Final = tuple(near(rule) for rule in _TABLE)
