"""The format of `git blame --porcelain`, for editors and programs that read it.

A line of the AI's has a made-up commit for its record: the record's id, the model as the author, the session's title as
the summary. Any other line has git's own answer; where git has none, it is not committed yet.
"""

import re
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from agent_trace_sidecar.blame.blame import Blame
from agent_trace_sidecar.blame.lines import Line
from agent_trace_sidecar.limits.text import printable
from agent_trace_sidecar.workspace.checkout import Checkout, CheckoutError, quoted

_SHA1: Final = 40
_SHA256: Final = 64
_HEADER: Final = re.compile(r"([0-9a-f]{40}|[0-9a-f]{64}) (\d+) (\d+)")
_OF_A_FILE: Final = frozenset(["previous", "filename"])
"""What is no fact of a commit, but of a file in it."""

_Facts = Mapping[str, str]


class _Origin(NamedTuple):
    """Where a line is from."""

    commit: str
    line: int
    facts: _Facts
    """Of the commit."""
    file: _Facts


def porcelain(
    found: Blame, lines: Sequence[Line], revision: str | None, contents: bytes | None, *, every_line: bool
) -> Iterator[str]:
    """Yield the lines of the format: a header for each line, what is known of a commit once, and the text.

    Args:
        found: the answer.
        lines: those of it that are to be shown.
        revision: that it is of, as the user calls it.
        contents: that it is of, if not those of the file.
        every_line: repeat what is known of a commit, as `git blame --line-porcelain`.
    """
    own = _gits(found, revision, contents)
    width = max((len(one.commit) for one in own.values()), default=_SHA1)
    origins = [
        _of_record(found, line, width) if line.record_id else own.get(line.line) or _nothing(found, line.line, width)
        for line in lines
    ]
    files: dict[str, set[str]] = defaultdict(set)
    for one in origins:
        files[one.commit].add(one.file["filename"])
    shown: set[str] = set()
    for at, (line, one) in enumerate(zip(lines, origins, strict=True)):
        size = _group(lines, origins, at)
        yield f"{one.commit} {one.line} {line.line}" + (f" {size}" if size else "")
        if every_line or one.commit not in shown:
            yield from _pairs({**one.facts, **one.file})
        elif size and len(files[one.commit]) > 1:
            yield from _pairs(one.file)
        shown.add(one.commit)
        yield "\t" + printable(found.text[line.line - 1].removesuffix(b"\r").decode(errors="replace"))


def _pairs(facts: _Facts) -> Iterator[str]:
    return (f"{name} {value}" if value else name for name, value in facts.items())


def _group(lines: Sequence[Line], origins: Sequence[_Origin], at: int) -> int:
    """How many lines from here on stand together in their commit too; 0 within such a group."""
    if at and _follows(lines, origins, at):
        return 0
    end = at + 1
    while end < len(lines) and _follows(lines, origins, end):
        end += 1
    return end - at


def _follows(lines: Sequence[Line], origins: Sequence[_Origin], at: int) -> bool:
    before, one = origins[at - 1], origins[at]
    is_next = lines[at].line == lines[at - 1].line + 1 and one.line == before.line + 1
    return is_next and (one.commit, one.file) == (before.commit, before.file)


def _of_record(found: Blame, line: Line, width: int) -> _Origin:
    """The made-up commit of the record that a line is from."""
    model = line.model_id or "unknown model"
    author = f"{model} and a person" if line.contributor == "mixed" else model
    session = line.session_id or "unknown"
    title = found.titles.get(session, session)
    record = line.record_id.hex if line.record_id else ""
    return _Origin(
        record.ljust(width, "b" if line.contributor == "mixed" else "a"),
        line.origin_line or line.line,
        _facts(printable(author), session, int(line.at.timestamp()) if line.at else 0, printable(title)),
        {"filename": quoted(line.origin_path or found.path)},
    )


def _nothing(found: Blame, at: int, width: int) -> _Origin:
    name = quoted(found.path)
    facts = _facts("Not Committed Yet", "not.committed.yet", int(time.time()), f"Version of {name} from {name}")
    return _Origin("0" * width, at, facts, {"filename": name})


def _facts(author: str, mail: str, at_s: int, summary: str) -> dict[str, str]:
    who = {"": author, "-mail": f"<{printable(mail)}>", "-time": str(at_s), "-tz": "+0000"}
    named = {role + name: value for role in ("author", "committer") for name, value in who.items()}
    return named | {"summary": summary}


def _gits(found: Blame, revision: str | None, contents: bytes | None) -> dict[int, _Origin]:
    """What `git blame` reports of each line, by its number."""
    root = found.root
    if root is None or not (root / ".git").exists():
        return {}
    try:
        output = Checkout(root, is_git=True).blamed(found.path, revision, contents)
    except CheckoutError:
        return {}
    answers: dict[int, _Origin] = {}
    facts: dict[str, dict[str, str]] = defaultdict(dict)
    files: dict[str, dict[str, str]] = {}
    new_file: dict[str, str] = {}
    commit, origin, at = "", 0, 0
    for line in output.decode(errors="replace").removesuffix("\n").split("\n"):
        if line.startswith("\t"):
            if new_file:
                files[commit], new_file = new_file, {}
            answers[at] = _Origin(commit, origin, facts[commit], files[commit])
        elif header := _HEADER.match(line):
            commit, origin, at = header[1], int(header[2]), int(header[3])
        elif commit:
            name, _, value = line.partition(" ")
            (new_file if name in _OF_A_FILE else facts[commit])[name] = printable(value)
    return answers
