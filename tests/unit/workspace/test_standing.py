"""Lines of a call that stood elsewhere before it, uncommitted."""

from pathlib import Path

import pytest

from agent_trace_sidecar.records.fingerprints import line_hash
from tests.support.snapshots import Work

BLOCK = ["alpha = first(1)", "beta = second(2)", "gamma = third(3)"]


@pytest.mark.parametrize(
    ("files", "stood"),
    [
        ({"notes.py": "\n".join([*BLOCK, "other = 4"])}, BLOCK),
        ({"a.txt": "\n".join(["one", *BLOCK])}, BLOCK),
        ({"notes.py": "\n".join(BLOCK[:2])}, []),
        ({"new.py": "\n".join(BLOCK)}, []),
        ({}, []),
    ],
    ids=["in a new file", "in a changed file", "too few", "in the same file", "nowhere"],
)
def test_lines_that_stood_in_another_file_uncommitted_are_marked(
    tmp_path: Path, files: dict[str, str], stood: list[str]
) -> None:
    """A copy of them in the other file is no evidence; one or two lines are never taken for a copy."""
    work = Work(tmp_path, {"a.txt": "one\n"})
    work.files(files)
    work.start()
    text = "".join(f"{line}\n" for line in ["made = by(call)", *BLOCK])
    args = {"filePath": str(work.root / "new.py"), "content": text}
    work.before("c1", "write", args, -1)
    work.files({"new.py": text})
    (change,) = work.after("c1", "write", args, {"exists": False}, 1).files
    assert change.stood == ("".join(line_hash(line.encode())[:4].hex() for line in stood) or None)


def test_committed_lines_are_not_marked(tmp_path: Path) -> None:
    """Git has them for good."""
    text = "".join(f"{line}\n" for line in BLOCK)
    work = Work(tmp_path, {"a.txt": text})
    work.start()
    args = {"filePath": str(work.root / "new.py"), "content": text}
    work.before("c1", "write", args, -1)
    work.files({"new.py": text})
    (change,) = work.after("c1", "write", args, {"exists": False}, 1).files
    assert change.ranges
    assert change.stood is None
