"""The format of `git blame --porcelain`, for editors and programs that read it.

A line of the AI's has a made-up commit for its record: the record's id, the model as the author, the session's title as
the summary. Any other line has git's own answer; where git has none, it is not committed yet.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from agent_trace_sidecar.blame.blame import Blame, Line
from agent_trace_sidecar.limits.text import printable
from agent_trace_sidecar.workspace.checkout import Checkout, CheckoutError

_HEX: Final = 40
_NOT_COMMITTED: Final = "0" * _HEX


def porcelain(found: Blame, revision: str | None, contents: bytes | None) -> Iterator[str]:
    """Yield the lines of the format: a header for each line, what is known of a commit once, and the text."""
    own = _gits(found, revision, contents)
    told: set[str] = set()
    for at, (line, text) in enumerate(zip(found.lines, found.text, strict=True), 1):
        commit, origin, facts = _of_record(found, line) if line.record_id else own.get(at, _nothing(found, at))
        yield f"{commit} {origin} {at} 1"
        if commit not in told:
            told.add(commit)
            yield from (f"{name} {value}" if value else name for name, value in facts.items())
        yield "\t" + printable(text.removesuffix(b"\r").decode(errors="replace"))


_Origin = tuple[str, int, Mapping[str, str]]


def _of_record(found: Blame, line: Line) -> _Origin:
    """The made-up commit of the record that a line is from."""
    model = line.model_id or "unknown model"
    author = f"{model} and a person" if line.contributor == "mixed" else model
    session = line.session_id or "unknown"
    title = found.titles.get(session, session)
    commit = (line.record_id.hex if line.record_id else "") + ("b" if line.contributor == "mixed" else "a") * 8
    return (
        commit,
        line.origin_line or line.line,
        _facts(printable(author), session, int(line.at.timestamp()) if line.at else 0, printable(title))
        | {"filename": printable(line.origin_path or found.path)},
    )


def _nothing(found: Blame, at: int) -> _Origin:
    facts = _facts("Not Committed Yet", "not.committed.yet", 0, f"Version of {found.path}")
    return _NOT_COMMITTED, at, facts | {"filename": printable(found.path)}


def _facts(author: str, mail: str, at_s: int, summary: str) -> dict[str, str]:
    who = {"": author, "-mail": f"<{printable(mail)}>", "-time": str(at_s), "-tz": "+0000"}
    named = {role + name: value for role in ("author", "committer") for name, value in who.items()}
    return named | {"summary": summary}


def _gits(found: Blame, revision: str | None, contents: bytes | None) -> dict[int, _Origin]:
    """What `git blame` reports of each line."""
    root = found.root
    if root is None or not (root / ".git").exists():
        return {}
    try:
        output = Checkout(root, is_git=True).blamed(found.path, revision, contents)
    except CheckoutError:
        return {}
    answers: dict[int, _Origin] = {}
    known: dict[str, dict[str, str]] = {}
    commit, origin, at = "", 0, 0
    for line in output.decode(errors="replace").split("\n"):
        words = line.split(" ")
        if line.startswith("\t"):
            answers[at] = (commit, origin, known[commit])
        elif len(words[0]) == _HEX and len(words) > 2 and words[1].isdigit():  # noqa: PLR2004 - commit, old, new
            commit, origin, at = words[0], int(words[1]), int(words[2])
            known.setdefault(commit, {})
        elif commit:
            name, _, value = line.partition(" ")
            known[commit][name] = printable(value)
    return answers
