"""PgBouncer in transaction mode: each transaction may run on another connection of the server's."""

import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.envelopes import DATA
from tests.support.oracle import Oracle
from tests.support.pooler import pgbouncer
from tests.support.postgres import fetch
from tests.support.sidecar import ShimDouble, sidecar_command, sidecar_env
from tests.support.tailing import Writer, stored_ids
from tests.support.waiting import completed

pytestmark = pytest.mark.needs("pgbouncer")

FLEET = 50
# Another name of the machine, as in a pod of its own; without root in a name space of one's own users.
ELSEWHERE = ["unshare", "--uts", *(["--user", "--map-root-user"] if os.geteuid() else []), "sh", "-c"]
ELSEWHERE += ['hostname "$0" && exec "$@"']


def test_two_sidecars_behind_a_pooler(migrated_url: str, tmp_path: Path) -> None:
    """They share five connections and half of their lines: each line is stored once, and nothing had to be retried."""
    common, own = Oracle(90), Oracle(91)
    with pgbouncer(migrated_url, ["agent_trace"]) as pooled:
        url = pooled.replace("postgresql://", "postgresql://agent_trace@")
        logs = [tmp_path / name for name in ("one.log", "two.log")]
        one, two = (
            ShimDouble(sidecar_env(tmp_path / name, url, batch_size="5", flush_ms="10"), log=log)
            for name, log in zip("ab", logs, strict=True)
        )
        with one, two:
            for _ in range(300):
                line = common.line()
                one.send(*line)
                two.send(*line)
                two.send(*own.line())
            assert one.close() == two.close() == 0
    for log in logs:
        assert "database_failed" not in log.read_text()
    common.add(own)
    ledger = common.check(migrated_url, [])
    assert ledger.problems == []
    assert (ledger.stored + ledger.dead, ledger.duplicate) == (600, 300)
    settings = (
        "SELECT current_setting('lock_timeout') AS lock, current_setting('idle_in_transaction_session_timeout') AS idle"
    )
    assert dict(fetch(migrated_url, settings)[0]) == {"lock": "0", "idle": "0"}


def test_a_fleet_behind_a_pooler(migrated_url: str, tmp_path: Path) -> None:
    """Fifty sidecars share five connections: each line is there once, none is retried, and each is known apart."""
    writers = []
    for number in range(FLEET):
        git = tmp_path / str(number) / "repository" / ".git"
        git.mkdir(parents=True)
        (git / "HEAD").write_text("ref: refs/heads/main\n")
        (git / "config").write_text(f'[remote "origin"]\n\turl = https://anna:secret@example.com/{number}\n')
        writers.append(Writer(str(git.parent)))
    with pgbouncer(migrated_url, ["agent_trace"]) as pooled, ExitStack() as stack:
        url = pooled.replace("postgresql://", "postgresql://agent_trace@")
        env = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
        shims: list[ShimDouble] = []
        for number, writer in enumerate(writers):
            shim = ShimDouble(
                sidecar_env(tmp_path / str(number) / "state", url, batch_size="10", flush_ms="20") | env,
                command=[*ELSEWHERE, f"box{number}", *sidecar_command()],
                log=tmp_path / "said",
            )
            shims.append(stack.enter_context(shim))
            shim.send(1, writer.line().removesuffix(b"\n"))
            if number % 5 == 4:  # no more at once than a small machine starts in time
                shim.drained(60)
        for round_ in range(3):
            for shim, writer in zip(shims, writers, strict=True):
                for number in range(10):
                    shim.send(round_ * 10 + number + 2, writer.line().removesuffix(b"\n"))
            for shim in shims:
                shim.drained(60)
        assert {shim.close() for shim in shims} == {0}
        assert {shim.starts for shim in shims} == {1}
    assert stored_ids(migrated_url) == {id_ for writer in writers for id_ in writer.ids}
    assert (tmp_path / "said").read_text() == ""
    rows = fetch(
        migrated_url,
        "SELECT source_id, host, container, repositories::text AS repositories, "
        "state->'sequence'->>'missing' AS missing FROM agent_trace_sources WHERE kind = 'instance'",
    )
    known = {row["source_id"]: (row["host"], row["container"], row["repositories"], row["missing"]) for row in rows}
    assert known == {
        writer.instance: (f"box{n}", f"box{n}", f'{{"{writer.worktree}": "https://example.com/{n}"}}', "0")
        for n, writer in enumerate(writers)
    }


def test_every_command_works_through_a_pooler(database_url: str, tmp_path: Path) -> None:
    """From empty tables on; nothing is kept from one transaction to the next."""
    log = (Path(__file__).parents[1] / "data" / "recordings" / "apply-patch.jsonl").read_text()
    recording = tmp_path / "here.jsonl"
    recording.write_text(log.replace("/home/dev/project", str(tmp_path)))
    with pgbouncer(database_url, ["agent_trace"]) as pooled:
        url = pooled.replace("postgresql://", "postgresql://agent_trace@")
        env = sidecar_env(tmp_path / "state", url, redaction="on")
        (tmp_path / "a.txt").write_text("one\n")
        for words in (
            ("migrate",),
            ("replay", str(recording)),
            ("status",),
            ("export",),
            ("redact", "--stored"),
            ("dead-letters", "retry"),
            ("prune", "--older-than", "90d", "--yes"),
            ("blame", str(tmp_path / "a.txt")),
            ("stats",),
        ):
            done = subprocess.run(
                sidecar_command(*words), cwd=tmp_path, env=env, capture_output=True, text=True, check=False
            )
            unseen = words[0] == "blame"  # the log is of a repository that was elsewhere
            assert done.returncode == int(unseen), (words, done.stdout + done.stderr)


def test_a_pooler_in_statement_mode_is_named(migrated_url: str, tmp_path: Path) -> None:
    """A replay ends with the setting's name instead of trying again for ever."""
    with pgbouncer(migrated_url, ["agent_trace"], pool_mode="statement") as url:
        env = sidecar_env(tmp_path / "state", url.replace("postgresql://", "postgresql://agent_trace@"))
        done = completed([*sidecar_command("replay"), DATA / "recordings" / "apply-patch.jsonl"], env=env)
    assert done.returncode == 1
    assert "set its pool_mode to transaction or session" in done.stderr
