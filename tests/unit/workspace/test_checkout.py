"""What blame reads of a repository, by a real git."""

from pathlib import Path

import pytest

from agent_trace_sidecar.workspace.checkout import checkout_of
from tests.support.snapshots import Work

FILES = {
    "a.py": "first = one(1)\nother = line(2)\n",
    "sub/b [1].py": "    größe = one(2)\n",
    "own.py": "first = one(1)\n",
}


@pytest.mark.parametrize("revision", ["HEAD", None])
def test_texts_are_found_in_all_files_but_one(tmp_path: Path, revision: str | None) -> None:
    """In a commit, and in the files as they stand: those that git does not track yet, too."""
    work = Work(tmp_path, FILES)
    work.files({"new.py": "größe = one(2)\n"})
    checkout = checkout_of(work.root / "a.py")
    texts = [b"first = one(1)", "größe = one(2)  ".encode(), b"nowhere = else(3)"]
    found = checkout.search(texts, revision, "own.py")
    expected = {"a.py": [b"first = one(1)"], "sub/b [1].py": ["    größe = one(2)".encode()]}
    assert found == (expected if revision else {**expected, "new.py": ["größe = one(2)".encode()]})
