"""Secrets that are arguments: of calls that log in, encrypt, sign, fill in a form or talk to a terminal.

No name announces them; the function does.
"""

# ruff: noqa: E501 - a pattern is read as one line

from typing import Final

from agent_trace_sidecar.redaction.rules import Rule, near

_Q: Final = r"\\*[\"']([^\"'\r\n\\\x1e]{1,300})\\*[\"']"
_Q_BYTES: Final = r"[bu@]?" + _Q
_S: Final = r"\\*[\"'][^\"'\r\n\x1e]{0,120}\\*[\"']"
_A: Final = r"(?:" + _S + r"|[\w.$>-]{1,40})(?:\.\w{1,12}\(\))?"
"""An argument: a literal or a name."""
_C: Final = r"\s{0,2}(?:,|=>)\s{0,3}"

_TABLE: Final = (
    Rule(
        "login-call",
        r"(?i)\bCredentials::(?:new|from)\(\s{0,3}" + _A + _C + _Q,
        ("credentials::",),
        judged="password",
    ),
    Rule(
        "login-call",
        r"(?i)(?:->(?:credentials|connect)|\bmysql_real_connect|\bPQsetdbLogin|\w{2,20}With(?:Email)?(?:And)?Password|\bmqtt\.Client|\w{0,40}Credentials?)\s{0,2}\(\s{0,3}(?:"
        + _A
        + _C
        + r"){1,3}"
        + _Q
        + r"\s{0,3}[,)]",
        (
            "->credentials(",
            "->connect(",
            "real_connect(",
            "pqsetdblogin",
            "password(",
            "mqtt.client(",
            "credential(",
            "credentials(",
        ),
        judged="chosen",
    ),
    Rule(
        "login-call",
        r"(?i)(?:\bWiFi\.begin|\baddAP|\bSequelize|\bFTP(?:_TLS)?|\bcreate_?(?:super)?user|\b(?:creds?|credentials|login)\s{0,2}=|\blog_?in|\bsign_?in)\s{0,2}\(\s{0,3}(?:"
        + _A
        + _C
        + r"){1,2}"
        + _Q,
        (
            "wifi.begin",
            "addap(",
            "sequelize(",
            "ftp(",
            "ftp_tls(",
            "create_user(",
            "createuser(",
            "create_superuser(",
            "creds = (",
            "creds=(",
            "credentials = (",
            "login = (",
            "login(",
            "log_in(",
            "signin(",
            "sign_in(",
        ),
        judged="password",
    ),
    Rule(
        "login-call",
        r"(?i)\b(?:oci_p?connect\(|sp_password\s|sp_addlogin\s)\s{0,3}N?" + _A + _C + r"N?" + _Q,
        ("oci_connect", "oci_pconnect", "sp_password", "sp_addlogin"),
        judged="password",
    ),
    Rule(
        "hash-call",
        r"(?i)\b(?:make_password|hashpw|password_hash|generate_password_hash|hash_password|encode_?password|PasswordHash)\(\s{0,3}"
        + _Q_BYTES,
        (
            "make_password(",
            "hashpw(",
            "password_hash(",
            "hash_password(",
            "encodepassword(",
            "encode_password(",
            "passwordhash(",
        ),
        judged="password",
    ),
    Rule(
        "session-secret",
        r"(?i)(?:session|jwt|cookie\w{0,10}|csrf|hmac)\w{0,10}\(\s{0,3}\{[^{}]{0,120}?\bsecret\s?:\s?" + _Q,
        ("secret:", "secret :"),
        judged="password",
    ),
    Rule(
        "string-object",
        r"(?i)\b(?:\w{0,3}string|char\s?\*)\s{1,4}\w{0,30}(?:password|passwd|pwd|pass|secret)\w{0,3}\s?[({]\s?L?"
        + _Q
        + r"\s?[)}]",
        tuple(
            f"{word}{sign}" for word in ("password", "passwd", "pwd", "pass", "secret") for sign in ('("', '{"', '(l"')
        ),
        judged="password",
    ),
    Rule(
        "login-call",
        r"(?i)\buser_?manager\.(?:Create|Add|Check|Change|Reset)\w{0,20}\([^\r\n]{0,160}?,\s{0,3}" + _Q + r"\s{0,3}\)",
        ("usermanager.", "user_manager."),
        judged="chosen",
    ),
    Rule(
        "login-call",
        r"[,(]\s{0,3}\\*\"([^\"\r\n\\]{4,100})\\*\"\.toCharArray\(\)",
        (".tochararray(",),
        judged="chosen",
    ),
    Rule(
        "login-call",
        r"\.(?:load|getKey|init|unlock|getEntry)\([^()\r\n\"']{1,60},\s{0,3}\\*\"([^\"\r\n\\]{4,100})\\*\"\.toCharArray\(\)",
        (".tochararray(",),
        judged="password",
    ),
    Rule(
        "login-pair",
        r"(?i)(?:userpwd|user_?pass|creds?|credentials?|basic_?auth|httpauth)\\*[\"'\]]{0,2}\s{0,3}(?:=>|[,:=(])\s{0,3}\\*[\"'][\w.@+-]{1,40}:([^\"'\s:/\\]{4,60})\\*[\"']",
        ("userpwd", "user_pass", "userpass", "cred", "basic_auth", "basicauth", "httpauth"),
        judged="password",
    ),
    Rule(
        "login-pair",
        r"(?i)\bbasic\b[^\r\n]{0,80}?(?:btoa|base64|b64encode|getbytes|encode)\w{0,20}\(+[^\r\n\"']{0,60}\\*[\"'](?:[\w.@-]{1,40}:|[\w.@-]{1,40}[\"']\s?[+.]\s?[\"']:[\"']\s?[+.]\s?[\"'])([^\"'\s\\]{3,60})\\*[\"']",
        ("btoa(", "base64", "b64encode(", "getbytes("),
        judged="password",
    ),
    Rule(
        "data-source",
        r"(?:^|[\s\"'\x60=])[\w.-]{1,40}:([^\s\"'\x60@/]{3,60})@(?:tcp|udp|unix|cloudsql)\(",
        ("@tcp(", "@udp(", "@unix(", "@cloudsql("),
        judged="password",
    ),
    Rule(
        "signing-call",
        r"(?i)(?:\bhmac\.new\(|\bhash_hmac\(\s{0,3}"
        + _S
        + _C
        + _A
        + _C
        + r"|create(?:Hmac|C(?:iph|ryptoC)er(?:iv)?|Decipher(?:iv)?)\(\s{0,3}"
        + _S
        + _C
        + r"|HMAC\.(?:hex)?digest\(\s{0,3}[^,()\r\n]{1,60}(?:\([^()\r\n]{0,40}\))?"
        + _C
        + r"|\bcookie_?parser\(|\bFernet\(|\bSecretBox\(|\b(?:AES|DES3?|ARC4|Blowfish|ChaCha20)\.new\(|\balgorithms\.\w{2,10}\(|(?:Password|Rfc2898)DeriveBytes\(|\w+Serializer\(|CryptoJS\.\w{2,12}(?:\.(?:en|de)crypt)?\(\s{0,3}"
        + _A
        + _C
        + r"|\bopenssl_(?:en|de)crypt\(\s{0,3}"
        + _A
        + _C
        + _S
        + _C
        + r"|\bpragma\s{1,3}(?:re)?key\s{0,3}=\s{0,3}|\bpbkdf2\w{0,12}\(\s{0,3}(?:"
        + _S
        + _C
        + r")?|\bSymmetricSecurityKey\([\w.]{0,40}\(?)\s{0,3}"
        + _Q_BYTES,
        (
            "hmac",
            "createcipher",
            "createdecipher",
            "aes.new(",
            "des.new(",
            "des3.new(",
            "arc4.new(",
            "blowfish.new(",
            "algorithms.",
            "fernet(",
            "secretbox(",
            "cookieparser(",
            "cookie_parser(",
            "derivebytes(",
            "serializer(",
            "cryptojs.",
            "openssl_encrypt",
            "openssl_decrypt",
            "pragma key",
            "pragma rekey",
            "pbkdf2",
            "symmetricsecuritykey",
        ),
        judged="chosen",
    ),
    Rule(
        "signing-call",
        r"(?i)\b\w{0,20}(?:key|salt|iv|secret|passw\w{0,5})\w{0,10}\s{0,3}=\s{0,3}(?:(?:[\w.]{1,30}\.)?(?:getbytes|encode|from_?str\w*|Buffer\.from|from_?hex|unhexlify|hex2bin|b64_?decode|base64_decode|decode_?string|decode)\("
        + _Q_BYTES
        + r"|"
        + _Q_BYTES
        + r"\.(?:getbytes|encode)\()",
        (
            "getbytes(",
            ".encode(",
            "buffer.from(",
            "fromhex(",
            "from_hex(",
            "unhexlify(",
            "hex2bin(",
            "decodestring(",
            "hex.decode(",
        ),
        judged="chosen",
    ),
    Rule(
        "key-bytes",
        r"(?i)\b\w{0,30}(?:key|secret|salt|iv|password)\w{0,20}\s{0,2}(?:\[[\w ]{0,20}\])?\s{0,3}=\s{0,3}(?:new\s{1,2}byte\s?\[\]\s?)?[{\[]\s{0,3}((?:0x[0-9a-f]{2},\s{0,3}){7,}0x[0-9a-f]{2})\s{0,3},?\s{0,3}[}\]]",
        ("{0x", "{ 0x", "[0x", "[ 0x"),
        judged="form",
    ),
    Rule(
        "form-fill",
        r"(?i)(?:\b(?:fill\w*|type|send_?keys|set_?value|enter_?text|input)\b[^\r\n]{0,60}?pass(?:word|wd)?[\w\]'\"\\]{0,12}\s{0,2}\)?\s{0,2}(?:,|\bwith\b)\s{0,3}(?:with:\s{0,2})?|pass(?:word|wd)?[\w\]'\"\\]{0,12}\s{0,2}\){0,3}\s{0,2}\.(?:perform\(typeText|send_?keys|type|fill|set_?value|val|input|enter_?text)\s?\(\s{0,2}|\b(?:as|user|in)\b[^\r\n]{1,60}?\bwith password\s{1,2})"
        r"\\*[\"']([^\"'\r\n\\\s{}]{4,60})(?:\{\w+\})?\\*[\"']",
        (
            "send_keys(",
            "sendkeys(",
            ".type(",
            ".fill(",
            "fill_in",
            "fill in",
            "setvalue(",
            "set_value(",
            ".val(",
            "typetext(",
            "with password",
        ),
        judged="password",
    ),
    Rule(
        "form-fill",
        r"(?im)(?:^\$\{\w{0,20}PASS\w{0,10}\}\s{2,12}|^\s+Input Password\s{2,8}\S{1,60}\s{2,8})([^\s$]{3,60})\s*$",
        ("${pass", "pass}", "password}", "input password"),
        judged="password",
    ),
    Rule(
        "expect-line",
        r"(?i)(?:expect|read_until|wait_?for|waitfor)[^\r\n]{0,60}ass(?:word|phrase)[^\r\n]{0,30}\r?\n?[\s;{]{0,12}(?:\w{1,20}\.)?(?:exp_)?(?:send(?:line)?|write(?:ln)?|print(?:ln)?)\s{0,3}(?:--\s{1,2})?\(?b?\\*[\"']([^\"'\r\n\\$]{3,60})(?:\\+r|\\+n)*\\*[\"']",
        ("expect", "read_until", "waitfor", "wait_for"),
        judged="password",
    ),
    Rule(
        "cobol-value",
        r"(?i)PASS(?:WORD|WD)?[\w-]{0,20}\s{1,12}PIC\s{1,3}\S{1,20}\s{1,12}VALUE\s{1,3}'([^'\r\n]{3,60})'",
        (" pic x",),
        judged="password",
    ),
)

CALL_RULES: Final = tuple(near(rule) for rule in _TABLE)
