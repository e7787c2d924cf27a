"""The oracle of the faults: issues lines, knows what must come of each, and compares that with the database.

An id becomes an obligation when the shim took its line over. Faults happen, faults stop; then every obligation must
be in the events or in the dead letters exactly once, with equal payload, no id may be there that was never issued,
and the counters must agree.
"""

import hashlib
import json
import random
import re
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from itertools import chain
from typing import Any, Final
from uuid import UUID

import asyncpg

from tests.support.postgres import connected, run_apart

_ID: Final = re.compile(rb'"id":"([0-9a-f-]{36})"')
_SEQ: Final = re.compile(rb'"seq":(\d+)')
_WORDS: Final = ("def", "return", "import", "class", "self", "value", "line", "file", "path", "read", "write", "edit")
_FOREIGN: Final = ["größe", "日本語", "🙂", "Ω", "файл", "\u2028", "naïve", "\u200d"]


class Fate(Enum):
    """Where a line must end."""

    STORED = "stored"
    DEAD = "dead"


@dataclass(slots=True)
class Issued:
    """What must come of one id."""

    seq: int
    kind: str
    fate: Fate
    digest: bytes
    """Of the payload; empty where the dead letter's line is compared with nothing."""
    copies: int = 0
    contested: bool = False
    """Another line has the same id and other content: one of them is an event, the other ones are dead letters."""
    owed: bool = False
    """Also where its number is among those that were given up."""


@dataclass
class Ledger:
    """What was issued and what became of it; `problems` is empty when the promise was kept."""

    issued: int = 0
    given_up: int = 0
    stored: int = 0
    duplicate: int = 0
    dead: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def find(self, problem: str, count: int) -> None:
        """Note a problem if there is one."""
        if count:
            self.problems.append(f"{problem}: {count}")


def _canonical(value: object) -> object:
    """JSON values as jsonb compares them: 1.0 is 1, and the order of keys means nothing."""
    if isinstance(value, Decimal):
        return f"n{value.normalize()}"
    if isinstance(value, str):
        return f"s{value}"
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return value


def digest(text: str) -> bytes:
    """A hash of `input` and `output` in a JSON object."""
    whole = json.loads(text, parse_float=Decimal, parse_int=Decimal)
    part = _canonical({name: whole[name] for name in ("input", "output") if name in whole})
    return hashlib.blake2b(json.dumps(part, sort_keys=True).encode(), digest_size=12).digest()


@dataclass
class Oracle:
    """Issues lines of one shim's run; the same seed gives the same lines."""

    seed: int
    issued: dict[UUID, Issued] = field(default_factory=dict)
    rivals: dict[UUID, list[Issued]] = field(default_factory=dict)
    """Later lines with the id of an earlier one."""
    by_kind: Counter[str] = field(default_factory=Counter)
    worktrees: Sequence[str] = ("/w",)
    """Where the commands of hostile lines are said to run."""
    hostile: bool = True
    """Also lines that need repair or can only become dead letters."""

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 - must be repeatable
        self.instance = UUID(int=self._random.getrandbits(128), version=4)
        self.seq = 0
        self._plain: deque[UUID] = deque(maxlen=200)

    def line(self, kind: str | None = None) -> tuple[int, bytes]:
        """The next line, without its newline, and its number; it is an obligation unless `take_back` follows."""
        rnd = self._random
        kind = (
            kind
            or rnd.choices(
                list(KINDS), [w if self.hostile or kind_ in _TAME else 0 for kind_, (w, _) in KINDS.items()]
            )[0]
        )
        self.by_kind[kind] += 1
        earlier = rnd.choice(self._plain) if kind == "conflict" and self._plain else None
        event_id = earlier or UUID(int=rnd.getrandbits(128), version=4)
        made = KINDS[kind][1](rnd)
        seq = self._next(far=made.far)
        place = rnd.choice(self.worktrees) if made.in_worktree else "/w"
        sent = made.sent or json.dumps(made.value, ensure_ascii=rnd.random() < 0.5, separators=(",", ":"))
        expected = made.expected if made.expected is not None else sent
        head = f'{{"v":{made.version},"id":"{event_id}","seq":{seq},"at":{1_795_000_000_000 + self.seq}'
        head += f',"instance":"{self.instance}","hook":"{made.hook}","directory":"{place}","worktree":"{place}"'
        line = f'{head},"input":{sent},"output":{{"n":{seq}}}{made.more}}}{made.tail}'
        issued = Issued(
            seq,
            kind,
            made.fate,
            digest(f'{{"input":{expected},"output":{{"n":{seq}}}}}') if made.fate is Fate.STORED else b"",
        )
        if earlier is not None:
            self.issued[earlier].contested = issued.contested = True
            self.rivals.setdefault(earlier, []).append(issued)
        else:
            self.issued[event_id] = issued
            if kind == "small":
                self._plain.append(event_id)
        return seq, line.encode("utf-8", "surrogatepass")

    def _next(self, *, far: bool) -> int:
        if far:
            return 2**63 - self.by_kind["far"]
        self.seq += 1
        return self.seq

    def add(self, other: "Oracle") -> None:
        """Check what another one has issued, too; its lines came another way, so none of them was given up."""
        for item in (*other.issued.values(), *chain(*other.rivals.values())):
            item.owed = True
        self.issued |= other.issued
        self.rivals |= other.rivals
        self.by_kind += other.by_kind

    def check(self, url: str, given_up: list[int]) -> Ledger:
        """Compare the database at `url` with what was issued."""
        return run_apart(lambda: self._check(url, set(given_up)))

    async def _check(self, url: str, given_up: set[int]) -> Ledger:
        everything = [*self.issued.values(), *chain(*self.rivals.values())]
        ledger = Ledger(len(everything), len(given_up), by_kind=self.by_kind)
        for item in everything:
            item.copies = 0
        async with connected(url) as connection:
            strangers, differ, misplaced, events = await self._compare(connection)
            ledger.find("ids that were never issued", strangers)
            ledger.find("payloads that differ", differ)
            for (kind, place), count in sorted(misplaced.items()):
                ledger.find(f"lines of kind {kind} that are {place}", count)
            owed = [item for item in everything if item.owed or item.seq not in given_up]
            ledger.find("lost", sum(not item.copies for item in owed))
            ledger.find("twice", sum(item.copies > 1 for item in everything) + sum(n > 1 for n in events.values()))
            ledger.find("only conflicts", sum(id_ not in events and self.issued[id_].copies for id_ in self.rivals))
            await self._counters(connection, ledger)
        return ledger

    def _of(self, event_id: UUID, seq: int | None) -> Issued | None:
        """The line that a row is of; the first one of the id where none has the number."""
        first = self.issued.get(event_id)
        return next((one for one in self.rivals.get(event_id, ()) if one.seq == seq), first)

    async def _compare(
        self, connection: asyncpg.Connection
    ) -> tuple[int, int, Counter[tuple[str, str]], Counter[UUID]]:
        strangers = differ = 0
        misplaced: Counter[tuple[str, str]] = Counter()
        events: Counter[UUID] = Counter()
        async with connection.transaction():
            query = "SELECT event_id, seq, payload::text AS payload FROM agent_trace_events"
            async for row in connection.cursor(query, prefetch=500):
                item = self._of(row["event_id"], row["seq"])
                if item is None:
                    strangers += 1
                    continue
                item.copies += 1
                events[row["event_id"]] += 1
                misplaced[item.kind, "events"] += item.fate is not Fate.STORED
                differ += item.seq != row["seq"] or (item.fate is Fate.STORED and digest(row["payload"]) != item.digest)
            async for row in connection.cursor("SELECT line, reason FROM agent_trace_dead_letters", prefetch=50):
                match, seq = _ID.search(row["line"]), _SEQ.search(row["line"])
                item = self._of(UUID(match[1].decode()), int(seq[1]) if seq else None) if match else None
                if item is None:
                    strangers += 1
                    continue
                item.copies += 1
                wrong = not item.contested if row["reason"] == "conflict" else item.fate is not Fate.DEAD
                misplaced[item.kind, f"dead letters, {row['reason']}"] += wrong
        return strangers, differ, misplaced, events

    async def _counters(self, connection: asyncpg.Connection, ledger: Ledger) -> None:
        row = await connection.fetchrow(_COUNTERS)
        assert row is not None
        ledger.stored, ledger.duplicate, ledger.dead = row["stored"], row["duplicate"], row["dead"]
        ledger.find(
            "lines read that are not accounted for", row["read"] - row["stored"] - row["duplicate"] - row["dead"]
        )
        ledger.find("counted as stored, but no event", row["stored"] - row["events"])
        ledger.find("counted as dead, but no dead letter", row["dead"] - row["letters"])
        ledger.find("ids in the gate without a row", row["gate"] - row["events"] - row["letters"])


_COUNTERS: Final = """
SELECT coalesce(sum((state->>'read')::bigint), 0)::bigint AS read,
       coalesce(sum((state->>'stored')::bigint), 0)::bigint AS stored,
       coalesce(sum((state->>'duplicate')::bigint), 0)::bigint AS duplicate,
       coalesce(sum((state->>'dead')::bigint), 0)::bigint AS dead,
       (SELECT count(*) FROM agent_trace_events) AS events, (SELECT count(*) FROM agent_trace_dead_letters) AS letters,
       (SELECT count(*) FROM agent_trace_dedupe) AS gate
FROM agent_trace_sources WHERE kind IN ('stdin', 'file', 'retry')
"""


# -- kinds of lines --------------------------------------------------------------------------------------------


@dataclass
class Made:
    """One line's content: `value` is written as JSON unless `sent` is given; `expected` is what must be stored."""

    value: object = None
    sent: str | None = None
    expected: str | None = None
    fate: Fate = Fate.STORED
    hook: str = "tool.execute.before"
    version: int = 1
    more: str = ""
    """Further fields of the line."""
    tail: str = ""
    far: bool = False
    """A sequence number from nowhere, at the end of what is allowed."""
    in_worktree: bool = False
    """It is said to run in one of the oracle's worktrees."""


def _text(rnd: random.Random, size: int) -> str:
    words = rnd.choices(_WORDS, k=max(1, size // 5))
    return " ".join([f"{rnd.getrandbits(32):x}", *words])


def _call(rnd: random.Random, size: int) -> dict[str, Any]:
    return {
        "tool": rnd.choice(("bash", "read", "grep")),
        "sessionID": "ses_1",
        "callID": f"c{rnd.getrandbits(40)}",
        "text": _text(rnd, size),
    }


def _hostile(rnd: random.Random) -> Made:
    return rnd.choice(
        (
            Made(sent='{"a":"x\\u0000y"}', expected='{"a":"x\ufffdy"}'),
            Made(sent='{"k\\u0000":1}', expected='{"k\ufffd":1}'),
            Made(sent='{"a":"\\ud83d"}', expected='{"a":"\ufffd"}'),
            Made(sent='{"a":"\\ud83d\\ude42"}', expected='{"a":"🙂"}'),
            Made(sent='{"a":"\\\\u0000"}', expected='{"a":"\\\\u0000"}'),
            Made(sent='{"a":9223372036854775808,"b":-1e400,"c":1e-400}'),
            Made(sent='{"a":1,"a":2}', expected='{"a":2}'),
            Made(sent='{"callID":"' + "i" * 10_240 + '"}'),
            Made(sent="[" * 400 + "]" * 400),
            Made(sent='{"id":"not-ours","seq":7,"v":9,"crc":"00000000","withheld":1}'),
            Made(sent='"' + "\\" * 2 + '"'),
            Made(sent="null", hook="tool.that.nobody.knows"),
        )
    )


def _dead(rnd: random.Random) -> Made:
    return rnd.choice(
        (
            Made(sent='{"a":1e200000}', fate=Fate.DEAD),
            Made(sent="[" * 20_000 + "]" * 20_000, fate=Fate.DEAD),
            Made({"a": 1}, version=2, fate=Fate.DEAD),
            Made(sent='{"a":', fate=Fate.DEAD),
        )
    )


_REPEATED: Final = (
    "COPY t (password) FROM stdin;\n",
    "INSERT INTO t (password) VALUES\n",
    "CREATE TABLE t (password text);\n",
    "-----BEGIN RSA PRIVATE KEY-----\n",
    "Authorization: Basic ",
    "password=\n",
    "<password>",
    "data:;base64,",
    "eyJ.",
    "\x1b]52;c;\x07",
    "'",
    "\\",
)
"""What the rules of redaction begin with, and nothing that they mask."""
_FOREIGN_FIELDS: Final = (
    ',"observed":{"late":true},"redacted":{"rule":1},"obs\\u0065rved":{"files":[{"path":"a","kind":"add"}]}'
)


def _attack(rnd: random.Random) -> Made:
    """Lines that have stopped or destroyed recording before."""
    git = "git " * 16_000
    call = {"tool": "bash", "sessionID": "ses_1", "callID": f"c{rnd.getrandbits(40)}"}
    piece = rnd.choice(_REPEATED)
    return rnd.choice(
        (
            Made({**call, "text": "COPY t (password) FROM stdin;"}),
            Made({**call, "text": piece * (50_000 // len(piece))}),
            Made({**call, "args": {"command": git}}, hook="tool.execute.after"),
            Made({**call, "args": {"command": "git checkout main"}}, in_worktree=True),
            Made({**call, "args": {"command": "git stash"}}, hook="tool.execute.after", in_worktree=True),
            Made({**call, "text": "x"}, more=_FOREIGN_FIELDS),
            Made({**call, "text": "x"}, more=',"withheld":{"bytes":1,"reason":"too_long"}', fate=Fate.DEAD),
        )
    )


KINDS: Final[dict[str, tuple[int, Callable[[random.Random], Made]]]] = {
    "small": (55, lambda rnd: Made(_call(rnd, 80))),
    "middle": (20, lambda rnd: Made(_call(rnd, rnd.randrange(1_000, 9_000)))),
    "large": (2, lambda rnd: Made(_call(rnd, 100_000))),
    "very large": (0, lambda rnd: Made(_call(rnd, 7_000_000))),
    "foreign": (8, lambda rnd: Made({**_call(rnd, 20), "more": rnd.choices(_FOREIGN, k=20)})),
    "crlf": (4, lambda rnd: Made({"text": "one\r\ntwo\r\n", **_call(rnd, 10)}, tail="\r")),
    "hostile": (8, _hostile),
    "dead": (3, _dead),
    "conflict": (2, lambda rnd: Made(_call(rnd, 80))),
    "attack": (1, _attack),
    "huge": (0, lambda rnd: Made({**_call(rnd, 10), "text": "x" * (17 << 20)}, fate=Fate.DEAD)),
    "far": (0, lambda rnd: Made(_call(rnd, 80), far=True)),
}
_TAME: Final = frozenset(KINDS) - {"hostile", "dead", "conflict", "attack"}
