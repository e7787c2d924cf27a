"""Plays situations, holds what `blame` says of each line against the truth, and prints a row for each."""

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

from tests.simulator.acts import Acts, NotBegunError

Truth = Mapping[Path, str]
"""The true author of every line in some files, a letter each: a(i), h(uman), m(ixed), u(nknown)."""
Situation = Callable[[Acts, str, random.Random], Truth]


@dataclass
class Score:
    """What `blame` said of the lines of one kind."""

    lines: int = 0
    right: int = 0
    humans: int = 0
    human_as_ai: int = 0
    human_unknown: int = 0
    ai: int = 0
    ai_found: int = 0
    claimed: int = 0

    def line(self, true: str, said: str) -> None:
        """Take one line into account; of what nobody can know, only `unknown` is right."""
        self.lines += 1
        self.right += true == said
        self.humans += true == "h"
        self.human_as_ai += true == "h" and said in {"a", "m"}
        self.human_unknown += true == "h" and said == "u"
        self.ai += true == "a"
        self.ai_found += true == said == "a"
        self.claimed += said == "a"

    def row(self, name: str) -> str:
        """A row of the table."""
        precision = f"{100 * self.ai_found / self.claimed:.2f}" if self.claimed else "-"
        recall = f"{100 * self.ai_found / self.ai:.2f}" if self.ai else "-"
        return (
            f"{name:<22}{self.lines:>8}{self.right:>8}{precision:>11}{recall:>9}"
            f"{self.human_as_ai:>13}{self.human_unknown:>15}"
        )


HEAD: Final = (
    f"{'situation':<22}{'lines':>8}{'right':>8}{'precision':>11}{'recall':>9}{'human as ai':>13}{'human unknown':>15}"
)


def played(acts: Acts, seed: int, rounds: int, chosen: Iterable[Situation]) -> tuple[dict[str, Score], list[str]]:
    """Play each situation some times: the scores by name, and each file that was not right."""
    scores: dict[str, Score] = {}
    findings: list[str] = []
    for situation in chosen:
        name = situation.__name__
        score = scores[name] = Score()
        for number in range(rounds):
            rng = random.Random(f"{seed}/{name}/{number}")  # noqa: S311 - a simulation is to be repeated
            for file, truth in situation(acts, f"{name}{number}x", rng).items():
                said = acts.letters(file)
                assert len(said) == len(truth), (file, said, truth)
                for true, answer in zip(truth, said, strict=True):
                    score.line(true, answer)
                if said != truth:
                    findings.append(f"{name} {file.name}: said {short(said)}, is {short(truth)}")
    return scores, findings


def situation_table(scores: Mapping[str, Score]) -> str:
    """A row for each kind, and one for all."""
    rows = [one.row(name) for name, one in scores.items()]
    return "\n".join([HEAD, *rows, together(scores.values()).row("all")])


def together(scores: Iterable[Score]) -> Score:
    """Add scores up."""
    whole = Score()
    for one in scores:
        for field in vars(whole):
            setattr(whole, field, getattr(whole, field) + getattr(one, field))
    return whole


def short(letters: str) -> str:
    """Letters with equal neighbours counted: `3h 1a`."""
    return " ".join(f"{len(list(group))}{letter}" for letter, group in groupby(letters))


def assert_right(acts: Acts, situation: Situation, seed: str) -> None:
    """Play a situation: every line has its true author.

    It is played again only where OpenCode has not begun a call, so that there was nothing to record.
    """
    name = situation.__name__
    try:
        truth = situation(acts, f"{name}x", _random(seed, name))
    except NotBegunError:  # OpenCode 2 was seen twice to leave a call unbegun for over a minute
        truth = situation(acts, f"{name}y", _random(seed, name))
    found = {file: acts.letters(file) for file in truth}
    wrong = {file.name: (short(found[file]), short(truth[file])) for file in truth if found[file] != truth[file]}
    assert not wrong, f"blame says, and is: {wrong}"


def _random(seed: str, name: str) -> random.Random:
    return random.Random(f"{seed}/{name}")  # noqa: S311 - a simulation is to be repeated
