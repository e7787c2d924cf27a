"""PgBouncer in transaction mode: each transaction may run on another connection of the server's."""

from pathlib import Path

from tests.support.oracle import Oracle
from tests.support.pooler import pgbouncer
from tests.support.postgres import fetch
from tests.support.sidecar import ShimDouble, sidecar_env


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
    common.issued |= own.issued
    ledger = common.check(migrated_url, [])
    assert ledger.problems == []
    assert (ledger.stored + ledger.dead, ledger.duplicate) == (600, 300)
    settings = (
        "SELECT current_setting('lock_timeout') AS lock, current_setting('idle_in_transaction_session_timeout') AS idle"
    )
    assert dict(fetch(migrated_url, settings)[0]) == {"lock": "0", "idle": "0"}
