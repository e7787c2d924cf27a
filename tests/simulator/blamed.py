"""The answers of `blame FILE --json`, held against what is true of every line."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.simulator.lines import AI, HUMAN, Doc, Line, Tally
from tests.simulator.play import Play
from tests.simulator.situation_score import Score
from tests.support.blaming import blamed_lines

UNKNOWN: Final = "unknown"


@dataclass
class BlameScore:
    """What was right. A line counts once; an answer is right if nobody who sees the contents alone could refute it."""

    by_source: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    """Lines of a model by what wrote them; a wrong one, which no model wrote, by the tool that blame names."""
    by_author: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    lines: Counter[str] = field(default_factory=Counter)
    """All lines, by their true author."""
    undecided: int = 0
    """Lines for which more than one answer is right."""
    wrong_model: int = 0
    whole: Score = field(default_factory=Score)
    """All lines, as the situations are counted; where several answers are right, the one that was given."""
    findings: list[str] = field(default_factory=list)

    @property
    def ai(self) -> Tally:
        """The lines of models."""
        return self.by_author[AI]

    def file(self, where: str, doc: Doc, answers: Sequence[Mapping[str, Any]]) -> None:
        """Take all lines of a file into account."""
        assert [one["line"] for one in answers] == list(range(1, len(doc.lines) + 1)), f"{where}: lines are missing"
        for number, (line, answer) in enumerate(zip(doc.lines, answers, strict=True), 1):
            self.line(f"{where}:{number}", line, answer)

    def line(self, where: str, line: Line, answer: Mapping[str, Any]) -> None:
        """Take one line's answer into account."""
        said = answer["contributor"]
        self.lines[line.author] += 1
        self.undecided += len(line.accepted) > 1
        self.whole.line((said if said in line.accepted else line.author)[0], said[0])
        if said in line.accepted:
            self._right(where, line, answer)
            return
        if said != UNKNOWN:
            self.by_author[said].wrong += 1
            if said == AI:
                self.by_source[_source(answer)].wrong += 1
        self.by_author[line.author].add(Tally(missed=1, unknown=said == UNKNOWN))
        if line.author == AI:
            self.by_source[line.source].add(Tally(missed=1, unknown=said == UNKNOWN))
        if said != UNKNOWN or line.author != HUMAN:
            how = {key: answer.get(key) for key in ("tool", "method", "confidence", "model_id")}
            self.findings.append(f"{where}: said {said}, is {line.author} of {line.source}: {line.text!r} {how}")

    def _right(self, where: str, line: Line, answer: Mapping[str, Any]) -> None:
        said = answer["contributor"]
        self.by_author[said].right += 1
        if said != AI:
            return
        self.by_source[line.source if line.author == AI else _source(answer)].right += 1
        if line.author == AI and answer.get("model_id") not in {line.model, *line.also}:
            self.wrong_model += 1
            self.findings.append(f"{where}: model {answer.get('model_id')}, is {line.model}: {line.text!r}")


def _source(answer: Mapping[str, Any]) -> str:
    """The row of a line that no model truly wrote."""
    return {"write": "overwrite", "shell": "bash", "patch": "apply_patch"}.get(tool := str(answer.get("tool")), tool)


def score_blame(url: str, plays: Iterable[Play]) -> BlameScore:
    """Ask for every file as it stands, and for those that changed since as they were committed; score all lines."""
    score = BlameScore()
    for play in plays:
        for path, doc in sorted(play.world.docs.items()):
            answers = blamed_lines(url, play.world.root / path)
            score.file(f"{play.name} {path}", doc, answers)
        for path in play.world.changed():
            score.file(
                f"{play.name} HEAD:{path}", play.world.head[path], blamed_lines(url, play.world.root / path, "HEAD")
            )
    return score
