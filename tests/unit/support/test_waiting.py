"""How tests wait: deadlines follow the machine, and nothing in the tests has one of its own."""

import re
import sys
import time
from pathlib import Path

import pytest

from tests.support import waiting
from tests.support.waiting import Deadline, completed, eventually, eventually_async

TESTS = Path(__file__).resolve().parents[2]
RAW = {
    "a timeout in seconds: use patient()": re.compile(r"\btimeout(_s)?=([5-9]|\d\d)"),
    "a wait for a process: use exit_code()": re.compile(r"\.wait\(([5-9]|\d\d)"),
    "a wait for a thread: use join()": re.compile(r"\.join\(([5-9]|\d\d)"),
    "a sleep: use eventually()": re.compile(r"\btime\.sleep\(|asyncio\.sleep\((0\.0*)?[1-9]"),
    "a limit on what was measured: use Deadline": re.compile(r"monotonic\(\) - \w+ <"),
}
SHORT_S = 0.05


@pytest.fixture(name="quick")
def _quick(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine that is quiet and as fast as the one that deadlines are for."""
    monkeypatch.setattr(waiting, "slowness", lambda: 1.0)
    monkeypatch.setattr(waiting, "crowding", lambda: 1.0)
    return monkeypatch


def missed_after_s() -> float:
    """How long a wait in vain takes."""
    began = time.monotonic()
    with pytest.raises(AssertionError, match=r"not within 0\.05 s of a quiet machine .*: the moon is blue"):
        eventually(lambda: False, SHORT_S, "the moon is blue")
    return time.monotonic() - began


@pytest.mark.parametrize("why", ["slowness", "crowding"])
def test_a_deadline_takes_longer_on_a_slow_machine_and_on_a_crowded_one(quick: pytest.MonkeyPatch, why: str) -> None:
    """By how much slower it is, and by how many processes want its processors."""
    quick.setattr(waiting, why, lambda: 15.0)
    assert missed_after_s() >= 15 * SHORT_S


def test_load_that_comes_while_waiting_counts(quick: pytest.MonkeyPatch) -> None:
    """From when it comes."""
    began, deadline = time.monotonic(), Deadline(SHORT_S)
    quick.setattr(waiting, "crowding", lambda: 20.0)
    eventually(deadline.passed, 1, "the deadline is over")
    assert time.monotonic() - began >= 20 * SHORT_S


async def test_what_comes_in_time_is_given_back(quick: pytest.MonkeyPatch) -> None:
    """Whatever is true; also of a coroutine, and of a process that prints more than a pipe holds."""
    quick.setattr(waiting, "crowding", lambda: 3.0)
    answers = iter([0, "", [], "yes"])

    async def answer() -> object:
        return next(answers)

    assert await eventually_async(answer) == "yes"
    done = completed([sys.executable, "-c", "import sys; print('x' * 10**6); sys.exit(3)"])
    assert (done.returncode, len(done.stdout)) == (3, 10**6 + 1)


def test_a_process_that_is_late_is_killed(quick: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And what it has printed is in the error."""
    printed = tmp_path / "printed"
    quick.setattr(waiting, "crowding", lambda: 1e-9 if printed.exists() else 1e9)
    with pytest.raises(AssertionError, match="so far"):
        completed(["sh", "-c", f"echo so far; touch {printed}; exec sleep 600"], 60)


def test_no_test_has_a_deadline_of_its_own() -> None:
    """What holds on a quiet machine does not hold on every machine; short ones are there to be missed."""
    found = [
        f"{path.relative_to(TESTS)}:{number}: {why}"
        for path in sorted(TESTS.rglob("*.py"))
        if path != Path(__file__)
        and "benchmarks" not in path.parts
        and path.name not in ("waiting.py", "test_killed_run.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for why, pattern in RAW.items()
        if pattern.search(line)
    ]
    assert found == []
