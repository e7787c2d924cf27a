"""What stands around a random value and makes it a key, though neither its name nor a known service says so.

Two kinds of surroundings: how the value is used (in a header, as a client's argument, in the address of a hook), and,
in a text that is no longer than a note, that a name is all that stands before it. A hash, a revision or an id has
surroundings too: words that say so, anywhere near, end the matter.
"""

# ruff: noqa: E501, SIM905 - a pattern is read as one line, a list of words as text

import re
from typing import Final

from agent_trace_sidecar.redaction.encoded import says_something
from agent_trace_sidecar.redaction.rules import Late
from agent_trace_sidecar.redaction.spans import BREAK, reach_back

_SHORT: Final = 700
"""How long a note may be: a snippet, a message, a few lines of settings or of a log."""
_NEAR: Final = 100
"""How far before a value a word can say that it is something else."""
_LEAD: Final = 200
_FINGERPRINT: Final = re.compile(rb"[0-9A-F]{40}$")
"""How the key of a person is written out."""
_RESOURCE: Final = re.compile(rb"[a-z]{1,8}-[0-9a-f]{8,17}$")
"""A machine or a network of a cloud: subnet-0a8b4f863885c3372."""
_REVISION: Final = re.compile(rb"(?:[0-9a-f]{24})?[0-9a-f]{40}$")
_REVISION_LENGTH: Final = 40
_CLOSE: Final = 20
_SETTING: Final = re.compile(rb"(?<![\w./-])[A-Za-z_]+(?:[\"']?\s?[:=]\s?[\"'\x60]|\s?=\s?)$")
_CHECKSUM: Final = re.compile(rb"[0-9a-f]{64}")
"""Where there are several, they are checksums."""
_EXPORTED: Final = re.compile(rb"\bexport[ ][A-Z_]+=[\"']?$")
"""Who keeps a revision in the environment calls it so."""
_OPENS: Final = re.compile(rb"(?i)key|token|secret|auth|pass|cred|api|licen[cs]e|client|app_?id|sid$")
_FILE: Final = re.compile(rb"\.[a-z0-9]{1,5}$")
UUID: Final = re.compile(rb"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$")

_Q: Final = rb"\\*[\"'\x60]"
_STRING: Final = rb"\\*[\"'][^\"'\n]{0,80}\\*[\"']"
_ARGUMENTS: Final = rb"(?:(?:<S>|[\w.$]{1,40})\s?,\s{0,3}){0,2}"
_NEW: Final = rb"(?:[.:]{1,2}(?:new|create|from_\w+|with_\w+))?"
_USED: Final = Late(
    b"(?i)(?:"
    + b"|".join(
        part.replace(b"<N>", _NEW).replace(b"<A>", _ARGUMENTS).replace(b"<S>", _STRING).replace(b"<Q>", _Q)
        for part in (
            rb"(?:^|[\s\"'\x60])x-[a-z0-9-]{2,40}(?:<Q>)?\]?\s?(?:=>|[:,=])\s{0,3}(?:<Q>)?",  # X-Acme-Key: value
            rb"header\w*[.]?\w{0,12}\s?\(\s{0,3}<Q>[\w-]{2,40}<Q>\s?,\s{0,3}<Q>",  # Header.Set("acme", "value")
            rb"(?:-H|--header)[ =]<Q>[\w-]{2,40}:\s?",
            rb"(?:headers?|params?|query|auth|data|json|payload)(?:<Q>)?\]?\s?[:=]\s?\{\s{0,20}(?:<S>:[^\n{}]{0,60},\s{0,20}){0,2}<Q>[\w-]{2,40}<Q>:\s?<Q>",
            rb"(?:client|api|sdk|credentials?|connect|configure|authenticate|login|init|initialize|setup|service|fernet|secretbox)\w{0,12}<N>\s?\(\s{0,3}<A>(?:\w{1,20}\s?[=:]\s?)?<Q>",  # Client("value")
            rb"\w[.:]{1,2}(?:new|create|build)\s?\(\s{0,3}<A><Q>",
            rb"(?:\brequire\(<S>\)|\bnew\s[\w.:\\]{2,60})\s?\(\s{0,3}<A><Q>",  # require("acme")("value")
            rb"\bauth\s?=\s?\(\s?<S>,\s?<Q>",
            rb"://(?:[\w-]+\.)*(?:hooks?|webhooks?)\.[^\s\"'?]{3,80}/",
            rb"://[^\s\"'?]{3,80}/(?:web-?hooks?|hooks?)/(?:[\w-]{1,40}/){0,3}",
            rb"://(?:[\w-]+\.)*api\.[^\s\"'?]{3,80}/",
            rb"://[^\s\"'?/]{3,60}/(?:api/)?v\d{1,2}/",
            rb"://(?:[\w-]+\.)*api\.[^\s\"']{3,80}[?&][\w-]{1,30}=",
            rb"://[^\s\"']{3,120}[?&](?:app_?id|auth|sid|k)=",
            rb"\busing\s(?:id|key|token|value)\s?[=:]\s?(?:<Q>)?",  # a log: using ID=value
            rb"\bname(?:<Q>)?\s?[:=]\s?(?:<Q>)?[A-Za-z][\w.-]{1,50}(?:<Q>)?\s?[,;]?\s{1,20}(?:<Q>)?value(?:<Q>)?\s?[:=]\s?(?:<Q>)?",
        )
    )
    + rb")(?:[\w.-]{1,30}:)?$"
)
"""What a key stands behind, in code, in commands and in addresses."""
_OTHER: Final = Late(
    b"(?i)"
    rb"sha\d*|hash|digest|checksum|commit|revision|\brev\b|integrity|fingerprint|md5|guid|public|\bpub\b|blob|tree|etag|crc|"
    rb"snapshot|cache|object|version|image|(?:^|[^a-z])layer|trace|span|request|x-amz-id|correlation|session_?id|node|thumbprint|serial|"
    rb"import|keyword|certificate|keyid|ssh-|merkle|address|block|\btx\b|model|h1:|resolved|\.tgz|registry|boundary|head\b|"
    rb"branch|master|origin|merge|\bmain\b|parent|\bref\b|refs/|\btag\b|container|docker|\bpod\b|build|lock|artifact|"
    rb"package|release|manifest|chunk|content|file|path|\bdir|upload|download|asset|font|icon|script|style|css|link|src=|"
    rb"href|data:|base64|\buuid\b|user_?id|message|event|process|thread|device|partition|disk|volume|instance|deployment|"
    rb"component|random|seed|test|vector|expected|actual|result|output|input|error|warn|exception|class\b|struct|function|"
    rb"method|type|\bmsg_|\bses_|\bprt_|\bcall_|toolu_|nonce|cert|begin|payload|encod|decod|encrypt|decrypt|cipher|"
    rb"plain|signature|next|page|cursor|continuation|project|"
    rb"modulus|exponent|wallet|bitcoin|\bgit\b|\bgpg\b|keyserver|cherry|bisect|tenant|network|subnet|router|flavor|cluster|bucket|queue|region|zone|\bray\b"
)
"""Words that say what else a random value is."""
_LABEL: Final = re.compile(
    rb"""(?x)^[\s#/*;>\-|<"'`({\[]*(?:export\s|let\s|const\s|var\s|set\s|val\s|final\s)?
    ([A-Za-z][\w.-]{1,40}(?:[ ][A-Za-z][\w.-]{0,30}){0,4})
    (?:\\*["'`\])]|>)?\s{0,3}(?:=>|:=|[:=,|-]|\s)?\s{0,3}\\*["'`]?$"""
)
_HEADING: Final = re.compile(
    rb"[\s#/*;<!\-\"'`\[]*([A-Za-z][\w.-]{1,40}(?:[ ][A-Za-z][\w.-]{0,30}){0,4})[ ]?[:=]?[\s>*\"'`\]-]*$"
)
_MEMBER: Final = re.compile(
    rb"(?:^|[\s{(\[,;])(?:\\*[\"'`])?([A-Za-z][\w.-]{1,40})\\*[\"'`]?\]?\s{0,3}(?:=>|:=|[:=])\s{0,3}\\*[\"'`]?$"
)
_CALLED: Final = re.compile(
    rb"([A-Za-z][\w.:]{2,40})\([ \t]*(?:(?:[\"'][^\"'\n]{0,60}[\"']|[\w.$]{1,40}),[ \t]*){0,2}\\*[\"'`]$"
)
_ROW: Final = re.compile(rb"([A-Za-z][\w.-]{1,40})(?:[,;|\t][\w.@-]{0,40}){0,3}[,;|\t]$")
_FLAGGED: Final = re.compile(rb"([A-Za-z][\w.-]{2,40})(?:[ ][\w.:/=-]{1,40}){0,4}[ ]--?[\w-]{1,30}[ =]\\*[\"']?$")
_LABELS: Final = (_LABEL, _MEMBER, _CALLED, _ROW, _FLAGGED)
_MOST_ABOVE: Final = 3
_ALONE: Final = re.compile(rb"[\s>*\-\"'`]*(?:(?:const|let|var|final|val)\s)?(?:\w{1,20}\s?(?:=|:=|:)\s?)?\\*[\"'`]?$")
_TAIL: Final = re.compile(rb"\\*[\"'`]?[;,)\]}>/\s]*(?:$|\n)|\\*[\"'`]|</|[\s,;|]")
_WORD: Final = re.compile(rb"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_DIRECTIVE: Final = re.compile(rb"\s*#\s*(?:define|ifn?def|if|undef|include|endif|elif)\b")
_CLIENT: Final = re.compile(
    rb"(?i)(?:client|app(?:lication)?|consumer|account|key|api|auth)[_. -]?s?id$|(?:key|token|secret|auth|credentials?|pwd|pass(?:word)?|\biv)$"
)
_THING: Final = re.compile(
    rb"(?i)(?:\b(?:event|ray|deploy|deployment|workflow|lineage|subscription|page|record|track|album|playlist|video|photo|order|"
    rb"invoice|transaction|pipeline|job|run|board|issue|ticket|channel|guild|chat|file|node|objects?|document|message|thread|"
    rb"request|trace|span|correlation|session|machine|droplet|zone|member|customer|price|product|campaign)[ _-]?(?:uu)?(?:ids?)?|"
    rb"(?:^|[^a-z])_id)[\"']?(?:\W{1,4}|\s?[:=]\s?)$"
)
"""What is numbered right behind it, and no key."""
_THING_REACH: Final = 40
CHANGES: Final = re.compile(rb"(?<=[A-Za-z])\d|(?<=\d)[A-Za-z]")
"""Where letters turn to digits, or back."""
_SPOKEN: Final = re.compile(rb"[A-Z]?[a-z]{3,}")
_VOWEL: Final = re.compile(rb"[aeiouyAEIOUY]")
_MOST_WORDS: Final = 0.5
_LOOKUP: Final = frozenset(
    "foreign primary partition sort idempotency idempotence dedup shard routing pub pubkey".split()
)
"""A key of this kind finds something, and opens nothing."""
_LONG_PART: Final = 10
_LONGER_PART: Final = 20
"""No name in a path is so long and so mixed."""
_ROWS: Final = (b"0123456789abcdef", b"abcdefghijkl", b"example", b"xxxx")
_FEW_CHANGES: Final = 2
_COMMON: Final = frozenset(
    "a an the is are was it in on of to and or for with at by from as this that id ids uid name number no code value values "
    "user users account item items order group team project org organization session job task run step stage host hosts "
    "ip url uri email mail date time page size count index row line page query status state level info debug trace log "
    "got get set using use new old first last next previous current default created updated deleted found done ok "
    "string text data key title label description note comment example sample see here your my our their his her".split()
)


def is_keyed(text: bytes, start: int, end: int, value: bytes) -> bool:
    """Whether the place of a value with the form of a token says that it is a key."""
    return is_used(text, start) or _is_labelled(text, start, end, value)


def is_used(text: bytes, start: int) -> bool:
    """Whether what stands before `start` has a key behind it, and nothing else."""
    before = text[reach_back(text, start, _LEAD) : start]
    before = before[before.rfind(BREAK) + 1 :]
    match = _USED.search(before)
    return match is not None and not _OTHER.search(before, match.start())


def _is_labelled(text: bytes, start: int, end: int, value: bytes) -> bool:
    """Whether a name is all that stands before the value, in a text of the length of a note."""
    if text[start - 2 : start] == BREAK + b"\n":
        return False
    low = text.rfind(BREAK, max(0, start - _SHORT), start) + 1 or (0 if start < _SHORT else -1)
    high = text.find(BREAK, end, start + _SHORT)
    high = high if high >= 0 else (len(text) if len(text) - start < _SHORT else -1)
    if low < 0 or high < 0 or high - low > _SHORT or not _TAIL.match(text, end, high):
        return False
    note = text[low:start]
    label = None if _THING.search(note, max(0, len(note) - _NEAR)) else _label(note)
    if label is not None and is_revision(value) and not _is_no_checksum(text[low:high], note, label, value):
        return False
    return label is not None and not _OTHER.search(note, max(0, len(note) - _NEAR)) and _names(label, value)


def _is_no_checksum(whole: bytes, note: bytes, label: bytes, value: bytes) -> bool:
    """Whether forty or 64 hex digits are a key: by their name, by the environment, or 64 as the one setting of a word."""
    if _OPENS.search(label) or _OPENS.search(note, max(0, len(note) - _CLOSE)) or _EXPORTED.search(note):
        return True
    return len(value) > _REVISION_LENGTH and bool(_SETTING.search(note)) and len(_CHECKSUM.findall(whole)) == 1


def numbers_thing(text: bytes, start: int) -> bool:
    """Whether what begins at `start` is the number of something that is named right before it."""
    return _THING.search(text, reach_back(text, start, _THING_REACH), start) is not None


def is_token(value: bytes) -> bool:
    """Whether a random value has the form of a key: its longest part is long and mixed, and it counts nothing up."""
    longest = max(re.split(rb"[^A-Za-z0-9]", value), key=len)
    if reads(longest) or _FINGERPRINT.match(value) or _RESOURCE.match(value):
        return False
    lowered = value.lower()
    return (
        (len(longest) >= _LONG_PART and len(CHANGES.findall(longest)) >= _FEW_CHANGES and b"." not in value)
        and not any(row in lowered for row in _ROWS)
        and (value.count(b"/") < 1 + len(value) // 30 or len(longest) >= _LONGER_PART)
        and not says_something(value)
    ) or UUID.match(value) is not None


def is_revision(value: bytes) -> bool:
    """Whether a value looks like a revision of git or a checksum: only a word for keys makes a key of it."""
    return _REVISION.match(value) is not None


def reads(part: bytes) -> bool:
    """Whether most of a part are the words of an identifier in mixed case."""
    if part.islower() or part.isupper():
        return False
    words = [run for run in _SPOKEN.findall(part) if _VOWEL.search(run)]
    return sum(map(len, words)) >= _MOST_WORDS * len(part)


def _label(note: bytes) -> bytes | None:
    """The name before the value: of the member or setting that it is, or of the heading above."""
    above, _, line = note.rpartition(b"\n")
    if _DIRECTIVE.match(line):
        return None
    match = next((found for form in _LABELS if (found := form.search(line))), None)
    if match and not _ALONE.match(line) and not _is_common(match[1]):
        return match[1]
    if not match and not _ALONE.match(line):
        return None
    for heading in reversed(above.rstrip().rsplit(b"\n", _MOST_ABOVE)[-_MOST_ABOVE:]):
        if found := None if heading.startswith(b"-----") else _HEADING.match(heading):
            return found[1]
    return match[1] if match else None


def _is_common(label: bytes) -> bool:
    return all(len(word) < 3 or word.lower().decode() in _COMMON for word in _WORD.findall(label))  # noqa: PLR2004 - as below


def _names(label: bytes, value: bytes) -> bool:
    """Whether a label may be the name of a service: not the words of everyday, and of an id only a client's."""
    words = [word.lower().decode() for word in _WORD.findall(label)]
    if any(word in _LOOKUP for word in words):
        return False
    if _CLIENT.search(label):
        return True
    if not words or words[-1] in {"id", "ids", "arn", "uid"} or UUID.match(value) or _FILE.search(label):
        return False
    return not _is_common(label)
