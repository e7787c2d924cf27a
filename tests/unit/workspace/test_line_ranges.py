"""Patterns that are made to take for ever; what they find is compared with git in tests/e2e/test_blame.py."""

from pathlib import Path

import pytest

from agent_trace_sidecar.workspace import line_ranges
from agent_trace_sidecar.workspace.checkout import CheckoutError
from agent_trace_sidecar.workspace.line_ranges import lines_of


def test_a_pattern_without_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its back references make git try all divisions of the line."""
    monkeypatch.setattr(line_ranges, "_TIMEOUT_S", 1.0)
    with pytest.raises(CheckoutError, match="git took more than 1 s; choose another pattern"):
        lines_of(tmp_path, "a.txt", b"x" * 3000, [r"/\(x*\)*\1\(x*\)\2y/"])


def test_no_option_comes_from_a_range(tmp_path: Path) -> None:
    """Whatever it begins with, and whatever the file is called."""
    for wanted in ("--output=x", " --contents=/etc/passwd", "/a/ --help", ""):
        with pytest.raises(CheckoutError, match="is not a range of lines of"):
            lines_of(tmp_path, '-L1,1 \n"x', b"one\n", ["/nothing/", wanted])
    assert lines_of(tmp_path, '-L1,1 \n"x', b"one\ntwo", ["/two/"]) == {2}
    assert list(tmp_path.iterdir()) == []
