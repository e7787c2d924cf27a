"""Our own rules for tokens that carry their maker's mark, where the exported set has none or is too strict.

The exported rules ask for exact lengths and checksums, which is right for a scanner that must not cry wolf; a recorder
masks a token that was cut or mistyped as well, since its mark leaves no doubt what it was.
"""

from typing import Final

from agent_trace_sidecar.redaction.literals import required_literals
from agent_trace_sidecar.redaction.rulebook import Rule

_B: Final = r"(?:^|[^A-Za-z0-9])"

_TABLE: Final = (
    ("aws-access-key-id", _B + r"((?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[A-Z0-9]{16})(?:$|[^A-Za-z0-9])"),
    ("github-token", r"(gh[pousr]_[A-Za-z0-9_]{16,255}|github_pat_[A-Za-z0-9_]{20,255})"),
    ("gitlab-token", _B + r"(gl(?:pat|dt|rt|oas|soat|ft|imt|agent|cbt|ptt|ffct|rtr)-[A-Za-z0-9_.-]{15,300})"),
    ("slack-token", r"(xox[abeoprs](?:\.xox[bp])?-[A-Za-z0-9-]{10,250}|xapp-\d-[A-Za-z0-9-]{10,250})"),
    ("openai-key", _B + r"(sk-(?:proj|svcacct|admin|None)-[A-Za-z0-9_-]{16,200}|sk-[A-Za-z0-9]{32,64})"),
    ("anthropic-key", _B + r"(sk-ant-[a-z0-9]{3,10}-[A-Za-z0-9_-]{16,200})"),
    ("google-api-key", _B + r"(AIza[A-Za-z0-9_-]{30,45})"),
    ("stripe-key", _B + r"((?:sk|rk)_(?:test|live|prod)_[A-Za-z0-9]{10,200})"),
    ("jwt", _B + r"(eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]{0,})?)"),
    ("npm-token", _B + r"(npm_[A-Za-z0-9]{30,60})"),
    ("pypi-token", r"(pypi-AgE[A-Za-z0-9_-]{20,500})"),
)

OWN_RULES: Final = tuple(
    Rule(rule_id, pattern, tuple(sorted(required_literals(pattern) or ())), group=1) for rule_id, pattern in _TABLE
)
