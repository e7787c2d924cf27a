"""Records that version 0.3.0 exported: imported, they mean what they meant there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.attributed import run_git
from tests.support.postgres import fetch

DATA = Path(__file__).parents[1] / "data" / "export-0.3.0"
RANGES = """
SELECT g.path, start_line, end_line, content_hash, g.contributor, g.model_id, g.session_id, call_id, tool
FROM agent_trace_ranges g ORDER BY recorded_at, path, start_line
"""


@pytest.fixture(name="shop")
def _shop(tmp_path: Path) -> Path:
    """The repository that was recorded, with the same commits."""
    root = tmp_path / "shop"
    root.mkdir()
    run_git(root, "init", "-q")
    stream = (DATA / "repository.fast-import").read_bytes()
    subprocess.run(["git", "fast-import", "--quiet"], cwd=root, input=stream, check=True)
    run_git(root, "checkout", "-q", "main")
    return root


def command(root: Path, url: str, *arguments: str) -> str:
    """What a command prints there."""
    env = os.environ | {"AGENT_TRACE_DATABASE_URL": url}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "agent_trace_sidecar", *arguments],
        cwd=root,
        env=env,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_records_that_0_3_0_exported_mean_the_same(shop: Path, migrated_url: str) -> None:
    """Every record comes back as it was; `blame` names the same model, session and call for the same lines."""
    file = DATA / "records.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(records) == 4
    assert "4 records stored" in command(shop, migrated_url, "import", str(file))
    exported = [json.loads(line) for line in command(shop, migrated_url, "export").splitlines()]
    assert exported == records
    stated = [
        (one["path"], span["start_line"], span["end_line"], span["content_hash"], talk["contributor"]["model_id"])
        for record in records
        for one in record["files"]
        for talk in one["conversations"]
        for span in talk["ranges"]
    ]
    stored = [(*tuple(row)[:4], row["model_id"]) for row in fetch(migrated_url, RANGES)]
    assert sorted(stored) == sorted(stated)
    for path, lines in json.loads((DATA / "blame.json").read_text()).items():
        found = json.loads(command(shop, migrated_url, "blame", path, "--json"))
        for line, now in zip(lines, found, strict=True):
            if line["contributor"] in {"ai", "mixed"}:
                assert {key: now[key] for key in line} == line, path
            else:  # imported records alone tell of nothing but their own lines
                assert now["contributor"] in {"human", "unknown"}, path


def test_they_are_the_same_records_as_those_that_were_recorded(shop: Path, migrated_url: str) -> None:
    """Imported again, nothing is stored twice; `validate` finds nothing wrong with them."""
    file = str(DATA / "records.jsonl")
    command(shop, migrated_url, "import", file)
    assert "0 records stored, 4 already stored" in command(shop, migrated_url, "import", file)
    command(shop, migrated_url, "validate", file)
