"""The corpus of `make fuzz`, and some inputs made of it: every entry that takes foreign bytes stands them."""

from pathlib import Path

import pytest

from tests.benchmarks.fuzz import ENTRIES, FailedError, attempt, corpus, fuzz, hold


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_stands_its_corpus(name: str, tmp_path: Path) -> None:
    """Each input of it, and a few that nobody has chosen."""
    inputs = corpus(name)
    assert inputs
    for data in inputs:
        attempt(ENTRIES[name], data, tmp_path)
    assert fuzz(name, 50, 1, tmp_path) is None


def test_what_fails_is_found_and_shrunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the test above can fail."""

    def no_backslash(data: bytes, _: Path) -> None:
        hold(b"\\" not in data, "a backslash")

    monkeypatch.setitem(ENTRIES, "url", no_backslash)
    found = fuzz("url", 500, 1, tmp_path)
    assert found is not None
    assert b"\\" in found
    with pytest.raises(FailedError):
        attempt(no_backslash, found, tmp_path)
