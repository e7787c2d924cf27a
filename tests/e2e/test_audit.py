"""`export --signed` and `validate --signed`, with a real ssh-keygen and a real database."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent_trace_sidecar.records.manifest import Chain
from tests.support.envelopes import DATA
from tests.support.postgres import execute, fetch
from tests.support.sidecar import sidecar_command, sidecar_env
from tests.support.waiting import completed

RECORDING = DATA / "recordings" / "basic-edit-write-bash.jsonl"
pytestmark = pytest.mark.needs("ssh-keygen")


@dataclass
class Audited:
    """A database with a recorded session and lines that could not be stored, and a key."""

    folder: Path
    url: str

    @property
    def manifest(self) -> Path:
        """Where it is written."""
        return self.folder / "manifest.jsonl"

    def run(self, *words: str, code: int = 0, **env: str) -> str:
        """Run a command; what it printed."""
        done = completed(
            sidecar_command(*words), 60, cwd=self.folder, env=sidecar_env(self.folder / "state", self.url) | env
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def export(self, *words: str, **options: Any) -> str:  # noqa: ANN401 - those of `run`
        """Make the manifest."""
        return self.run("export", "--signed", "key", "--output", "manifest.jsonl", *words, **options)

    def validate(self, *words: str, code: int = 0) -> str:
        """Check it."""
        return self.run("validate", "--signed", "key.pub", "manifest.jsonl", *words, code=code)

    def sign(self) -> None:
        """Sign the manifest anew, as whoever has the key can."""
        signature = Path(f"{self.manifest}.sig")
        signature.unlink()
        command = ["ssh-keygen", "-Y", "sign", "-n", "agent-trace-audit", "-f", "key", "manifest.jsonl"]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True)


@pytest.fixture(name="audited")
def _audited(migrated_url: str, tmp_path: Path) -> Audited:
    """One session whose lines 5 and 6 never came, and a line that is no event."""
    made = Audited(tmp_path, migrated_url)
    lines = RECORDING.read_bytes().splitlines(keepends=True)
    (tmp_path / "log.jsonl").write_bytes(b"".join([*lines[:4], b"no event\n", *lines[6:]]))
    made.run("replay", "log.jsonl")
    for name in ("key", "other"):
        keygen(tmp_path / name)
    return made


def keygen(file: Path, passphrase: str = "") -> None:
    """Make a key."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "a comment", "-f", str(file)]
    subprocess.run(command, check=True, capture_output=True)


def test_a_manifest_counts_what_is_there_and_what_is_not(audited: Audited) -> None:
    """Events, records, gaps and dead letters; and OpenSSH's own program takes its signature."""
    events = fetch(audited.url, "SELECT count(*) AS n FROM agent_trace_events")[0]["n"]
    told = audited.export()
    assert f"{events} events and 3 records; 2 missing sequence numbers, 0 dropped by the shim, 1 dead letters" in told
    lines = [json.loads(line) for line in audited.manifest.read_bytes().splitlines()]
    assert [line["kind"] for line in lines[1:-1]] == ["event"] * events + ["record"] * 3 + ["run"]
    assert lines[-2]["missing"] == [[5, 6]]
    end = {"events": events, "records": 3, "runs": 1, "missing": 2, "lost": 0, "dead_letters": {"invalid_json": 1}}
    assert lines[-1]["end"] == end
    assert audited.validate().endswith("dead letters: 0 errors, 0 warnings\n")
    assert json.loads(audited.validate("--json"))[0]["errors"] == []
    signers = audited.folder / "signers"
    signers.write_text(f"auditor {(audited.folder / 'key.pub').read_text()}")
    command = ["ssh-keygen", "-Y", "verify", "-n", "agent-trace-audit", "-f", str(signers), "-I", "auditor"]
    with audited.manifest.open("rb") as file:
        subprocess.run([*command, "-s", f"{audited.manifest}.sig"], stdin=file, check=True, capture_output=True)


def _swapped(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], lines[4], lines[3], *lines[5:]]


def _altered(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], lines[3].replace(b'"seq":', b'"seq":1'), *lines[4:]]


def _with_one_less(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], *lines[4:]]


ATTACKS: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "altered": (_altered, "line 4 does not follow from the line before"),
    "reordered": (_swapped, "line 4 does not follow from the line before"),
    "one removed": (_with_one_less, "line 4 does not follow from the line before"),
    "truncated": (lambda lines: lines[:-3], "the end is missing: the manifest was cut off after line"),
    "cut in a line": (lambda lines: [*lines[:-1], lines[-1][:-20]], "is cut off"),
    "continued": (lambda lines: [*lines, lines[1]], "stands after the end"),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("again", [False, True], ids=["as it is", "signed again"])
def test_a_manifest_that_was_changed_is_refused(audited: Audited, attack: str, again: bool) -> None:
    """By its signature; and by its chain and its end, should the key be in wrong hands."""
    audited.export()
    change, error = ATTACKS[attack]
    audited.manifest.write_bytes(b"".join(change(audited.manifest.read_bytes().splitlines(keepends=True))))
    if again:
        audited.sign()
    told = audited.validate("--no-database", code=1)
    assert error in told
    assert ("the signature is not one of this file" in told) is not again


def test_the_end_does_not_fit_where_lines_are_chained_anew(audited: Audited) -> None:
    """The counts say it, when somebody has computed the whole chain again."""
    audited.export()
    documents = [json.loads(line) for line in audited.manifest.read_bytes().splitlines()]
    del documents[2]
    chain = Chain()
    lines = [chain.line({name: value for name, value in one.items() if name != "chain"}) for one in documents]
    audited.manifest.write_bytes(b"\n".join(lines) + b"\n")
    audited.sign()
    told = audited.validate(code=1)
    assert "the manifest lists" in told
    assert "does not follow" not in told
    assert "warning: 1 event (" in told


def test_the_wrong_key_is_refused(audited: Audited) -> None:
    """Though the manifest is as it was."""
    audited.export()
    told = audited.run("validate", "--signed", "other.pub", "manifest.jsonl", code=1)
    assert "signed by another key" in told
    assert "1 error" in told


def test_what_has_changed_in_the_database_is_found(audited: Audited) -> None:
    """An event that is gone, one with another payload, a record that is gone, and an event that came later."""
    audited.export()
    ids = [str(row["event_id"]) for row in fetch(audited.url, "SELECT event_id FROM agent_trace_events ORDER BY seq")]
    execute(
        audited.url,
        f"DELETE FROM agent_trace_events WHERE event_id = '{ids[1]}'",
        f"UPDATE agent_trace_events SET payload = payload || '{{\"x\": 1}}' WHERE event_id = '{ids[2]}'",
        "DELETE FROM agent_trace_records WHERE record_id IN (SELECT record_id FROM agent_trace_records LIMIT 1)",
        "INSERT INTO agent_trace_events SELECT gen_random_uuid(), occurred_at, source_id, 999, session_id, message_id, "
        f"call_id, event_name, tool, payload FROM agent_trace_events WHERE event_id = '{ids[3]}'",
    )
    told = audited.validate(code=1)
    assert f"error: 1 event ({ids[1]}) is missing from the database" in told
    assert f"error: 1 event ({ids[2]}) is stored with other content" in told
    assert "error: 1 record (" in told
    assert "warning: 1 event (" in told
    assert "3 errors, 1 warning" in told
    assert "0 errors" in audited.validate("--no-database")


def test_a_period_and_a_session_bound_the_manifest(audited: Audited) -> None:
    """What lies outside is neither listed nor missed."""
    (row,) = fetch(audited.url, "SELECT min(occurred_at) AS first, max(occurred_at) AS last FROM agent_trace_events")
    audited.export("--until", row["last"].isoformat(), "--since", row["first"].isoformat(), "--session", "latest")
    whole = fetch(audited.url, "SELECT count(*) AS n FROM agent_trace_events")[0]["n"]
    listed = json.loads(audited.manifest.read_bytes().splitlines()[-1])["end"]["events"]
    assert 0 < listed < whole
    execute(audited.url, "DELETE FROM agent_trace_events WHERE session_id IS NULL")
    assert "0 errors, 0 warnings" in audited.validate()


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (("export", "--signed", "key"), 2, "--signed needs --output FILE"),
        (("export", "--signed", "nokey", "--output", "m"), 1, "there is no key nokey: make one with `ssh-keygen"),
        (("export", "--signed", "locked", "--output", "m"), 1, "has to be in an ssh-agent"),
        (("export", "--signed", "log.jsonl", "--output", "m"), 1, "ssh-keygen can't sign with log.jsonl"),
        (("export", "--signed", "key", "--output", "m", "--until", "2020-01-01"), 1, "nothing is recorded in this"),
        (("export", "--until", "1d"), 2, "--until needs --signed KEY"),
        (("validate", "--signed", "key", "manifest.jsonl"), 1, "key is not a public key of OpenSSH: give the .pub"),
        (("validate", "--signed", "key.pub", "none"), 1, "there is no none"),
        (("validate", "--signed", "key.pub", "signed"), 1, "it is not a manifest of version 1"),
        (("validate", "--no-database", "log.jsonl"), 2, "--no-database needs --signed KEY"),
    ],
)
def test_errors_name_what_to_do(audited: Audited, words: tuple[str, ...], code: int, error: str) -> None:
    """One sentence each."""
    keygen(audited.folder / "locked", "passphrase")
    audited.export()
    for name in ("signed", "signed.sig"):
        (audited.folder / name).write_text("{}\n")
    assert error in audited.run(*words, code=code)


def test_without_ssh_keygen_the_error_says_what_to_install(audited: Audited) -> None:
    """And nothing is written."""
    told = audited.export(code=1, PATH=str(audited.folder))
    assert "ssh-keygen is not on PATH: install OpenSSH's client" in told
    assert not audited.manifest.exists()
