"""Lines of many followed files in one transaction: each is stored once, whatever breaks or is refused."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from uuid import UUID

import pytest

from tests.support.postgres import execute, fetch
from tests.support.proxy import PHASES, Break, Proxy
from tests.support.sidecar import sidecar_env
from tests.support.tailing import Writer, all_stored, stored_ids, tailing
from tests.support.waiting import eventually

FILES, LINES = 40, 5
BREAKS = [
    *((phase, Break.RESET) for phase in PHASES if phase != "connect"),
    *((phase, Break.ANSWER_LOST) for phase in PHASES if phase not in ("connect", "startup")),
]
COUNTS = """
SELECT state ->> 'label' AS label, state ->> 'read' AS read, state ->> 'stored' AS stored, state ->> 'dead' AS dead,
       state ->> 'duplicate' AS duplicate, position, source_id
FROM agent_trace_sources WHERE kind = 'file'
"""


@pytest.fixture(name="proxy")
def _proxy(migrated_url: str) -> Iterator[Proxy]:
    """The test's database, behind a proxy."""
    with Proxy(migrated_url) as made:
        yield made


def write(logs: Path, writers: list[Writer]) -> None:
    """Append some lines of each writer to its file."""
    logs.mkdir(exist_ok=True)
    for number, writer in enumerate(writers):
        with (logs / f"{number}.jsonl").open("ab") as file:
            file.write(writer.lines(LINES))


def by_file(url: str) -> dict[str, dict[str, object]]:
    """What the database knows of each file, by its name."""
    return {Path(row["label"]).name: dict(row) for row in fetch(url, COUNTS)}


@pytest.mark.parametrize(("phase", "how"), BREAKS, ids=[f"{phase}-{how.value}" for phase, how in BREAKS])
def test_a_connection_breaks(migrated_url: str, tmp_path: Path, proxy: Proxy, phase: str, how: Break) -> None:
    """At each phase of the first batch: all files end with their own counts, and no line is sent for nothing."""
    writers = [Writer() for _ in range(FILES)]
    write(tmp_path / "logs", writers)
    proxy.arm(phase, how)
    env = sidecar_env(tmp_path / "state", proxy.url, flush_ms="50")
    with tailing(env, tmp_path / "log", tmp_path / "logs") as tail:
        all_stored(migrated_url, writers)
        write(tmp_path / "logs", writers)
        all_stored(migrated_url, writers)
        assert tail.stop() == 0
    assert proxy.hits == {f"{phase}:{how.value}": 1}
    found = by_file(migrated_url)
    assert {(one["read"], one["stored"], one["duplicate"]) for one in found.values()} == {("10", "10", "0")}
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "logs").iterdir()}
    assert {name: one["position"] for name, one in found.items()} == sizes


def test_a_follower_that_is_killed_again_and_again(migrated_url: str, tmp_path: Path) -> None:
    """While files are read for the first time, and while they grow: nothing is lost or read twice."""
    writers = [Writer() for _ in range(400)]
    write(tmp_path / "logs", writers)
    env = sidecar_env(tmp_path / "state", migrated_url, flush_ms="50")
    for _ in range(6):
        before = len(stored_ids(migrated_url))
        with tailing(env, tmp_path / "log", tmp_path / "logs") as tail:
            write(tmp_path / "logs", writers[::20])
            eventually(lambda before=before: len(stored_ids(migrated_url)) > before, 20, "it is at work")  # type: ignore[misc]
            tail.kill()
    with tailing(env, tmp_path / "log", tmp_path / "logs") as tail:
        write(tmp_path / "logs", writers[::20])
        all_stored(migrated_url, writers)
        assert tail.stop() == 0
    assert {one["duplicate"] for one in by_file(migrated_url).values()} == {"0"}
    batches = fetch(migrated_url, "SELECT count(DISTINCT seen_at) FROM agent_trace_dedupe")[0][0]
    assert batches < len(writers) / 2, "many files share a batch"


def test_a_refused_row_is_a_dead_letter_of_its_own_file(migrated_url: str, tmp_path: Path) -> None:
    """The other files' rows, and the file's own, are stored."""
    execute(
        migrated_url,
        "ALTER TABLE agent_trace_events ADD CONSTRAINT rule CHECK (payload::text NOT LIKE '%poison%')",
    )
    writers = [Writer() for _ in range(FILES)]
    logs = tmp_path / "logs"
    write(logs, writers)
    places: dict[str, int] = {}
    for number in range(0, FILES, 8):
        path = logs / f"{number}.jsonl"
        places[path.name] = path.stat().st_size
        refused = writers[number].line().replace(b"xxxxxx", b"poison")
        writers[number].ids.pop()
        path.write_bytes(path.read_bytes() + refused + writers[number].line() + b"no JSON\n")
    with tailing(sidecar_env(tmp_path / "state", migrated_url), tmp_path / "log", logs) as tail:
        all_stored(migrated_url, writers)
        assert tail.stop() == 0
    found = by_file(migrated_url)
    names: dict[UUID, str] = {one["source_id"]: name for name, one in found.items()}  # type: ignore[misc]
    letters = fetch(migrated_url, "SELECT source_id, position, reason FROM agent_trace_dead_letters")
    assert {(names[row["source_id"]], row["position"]) for row in letters if row["reason"] == "refused"} == set(
        places.items()
    )
    assert {names[row["source_id"]] for row in letters if row["reason"] == "invalid_json"} == set(places)
    for name, one in found.items():
        assert (one["stored"], one["dead"]) == (("6", "2") if name in places else ("5", "0"))


def test_files_of_every_size_are_stored(migrated_url: str, tmp_path: Path) -> None:
    """Of several batches, of one, of a line larger than a batch, and many of few lines: each line once."""
    sizes, number = [(3000, 1000), (1500, 500), (1, 2 << 20), (2, 10), *[(3, 100)] * 50], count()
    writers = [Writer() for _ in sizes]
    (tmp_path / "logs").mkdir()
    for writer, (lines, size) in zip(writers, sizes, strict=True):
        (tmp_path / "logs" / f"{next(number)}.jsonl").write_bytes(writer.lines(lines, size))
    with tailing(sidecar_env(tmp_path / "state", migrated_url), tmp_path / "log", tmp_path / "logs") as tail:
        all_stored(migrated_url, writers)
        assert tail.stop() == 0
    assert {one["duplicate"] for one in by_file(migrated_url).values()} == {"0"}
