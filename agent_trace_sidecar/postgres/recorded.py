"""What is stored of some sessions, read back in the order in which it happened."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Final, NamedTuple, Self

import asyncpg
import msgspec

from agent_trace_sidecar.opencode.history import api_of

_ROWS: Final = """
SELECT event_id, occurred_at, source_id, event_name, tool, payload::text FROM agent_trace_events
WHERE session_id = ANY ($1::text[]) ORDER BY occurred_at, source_id, seq
"""
_RECORDS: Final = """
SELECT event_id, recorded_at, source_id, record #>> '{metadata,io.opencode.message_id}' AS message_id,
       record #>> '{metadata,io.opencode.call_id}' AS call_id
FROM agent_trace_records WHERE session_id = ANY ($1::text[])
"""
_HOOKS: Final = ("tool.execute.", "chat.", "command.execute.")
_MEMORY_BYTES: Final = 16 * 1024 * 1024
"""Beyond it the events wait in a temporary file; they are redacted already."""


class Stored(NamedTuple):
    """A stored event: the beginning and the end of its wire line, between which `seq`, `instance` and `api` belong."""

    at_ms: float
    head: bytes
    body: bytes
    api: int | None
    """The plugin API; None where it is that of the session."""


class _Payload(msgspec.Struct):
    input: msgspec.Raw = msgspec.Raw()


class Recorded:
    """The stored events of some sessions; use it as a context."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES)  # noqa: SIM115 - see __exit__
        self.events = 0
        self.records: dict[tuple[str, str], tuple[str, float, str]] = {}
        """By message and call: id, time (ms) and run of the event that its record was made of."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    async def load(
        self, connection: asyncpg.Connection, sessions: Sequence[str], note: Callable[[str, bytes], None]
    ) -> None:
        """Read them; `note` is called with the hook and the input of each."""
        async with connection.transaction(readonly=True):
            async for row in connection.cursor(_ROWS, sessions, prefetch=200):
                name, payload = row["event_name"], row["payload"].encode()
                hook = name if name.startswith(_HOOKS) else "event"
                given = msgspec.json.decode(payload, type=_Payload).input
                note(hook, bytes(given))
                head = b'{"v":1,"id":"%s","at":%d,"hook":"%s",' % (
                    str(row["event_id"]).encode(),
                    round(row["occurred_at"].timestamp() * 1000),
                    hook.encode(),
                )
                api = b"%d" % (api_of(hook, bytes(given)) or 0)
                self._file.write(api + head + b"\n" + payload.strip()[1:-1] + b"\n")
                self.events += 1
        for row in await connection.fetch(_RECORDS, sessions):
            made_of = (str(row["event_id"]), round(row["recorded_at"].timestamp() * 1000), str(row["source_id"]))
            self.records[row["message_id"] or "", row["call_id"] or ""] = made_of

    def __iter__(self) -> Iterator[Stored]:
        """Each event, from the first on."""
        at = 0
        while True:
            self._file.seek(at)
            head, body = self._file.readline(), self._file.readline()
            at = self._file.tell()
            if not head:
                return
            at_ms = float(head.partition(b'"at":')[2].partition(b",")[0])
            yield Stored(at_ms, head[1:-1], body[:-1], int(head[:1]) or None)
