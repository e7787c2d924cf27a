"""The page of a repository: its tree with shares, and each file as coloured blame; pure, the mask is given."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import groupby
from typing import Final, NamedTuple
from uuid import UUID

from agent_trace_sidecar.blame.authors import Origin
from agent_trace_sidecar.blame.lines import Line
from agent_trace_sidecar.limits.text import counted
from agent_trace_sidecar.report.cost import SessionFacts, spent
from agent_trace_sidecar.report.html import Html, el, first_line, join, priced, visible
from agent_trace_sidecar.report.page import NO_LINKS, Links, Page, fact, facts, headline
from agent_trace_sidecar.report.plots import share_bar
from agent_trace_sidecar.report.repository import FileLines, Progress, Repository, shares
from agent_trace_sidecar.report.syntax import MAX_ALL_S, Painter

AUTHORS: Final = ("ai", "mixed", "human", "unknown")
Mask = Callable[[str, str], str]
"""A text and the path it comes from to the text without secrets."""


class _Folder(NamedTuple):
    folders: dict[str, "_Folder"]
    files: list[tuple[str, int, Counter[str]]]
    """Name, number in the data (-1: nothing to show), lines by author."""

    def counts(self) -> Counter[str]:
        """Of everything below."""
        total = Counter[str]()
        for _, _, own in self.files:
            total.update(own)
        for folder in self.folders.values():
            total.update(folder.counts())
        return total


def repository_page(
    found: Repository, mask: Mask, progress: Progress, *, contents: bool, links: Links = NO_LINKS
) -> Page:
    """Make the page; without `contents` no line, prompt or title is in it."""
    maker = _Maker(found, mask, contents=contents)
    tree = _tree(found)
    total = tree.counts()
    body = join(
        (
            el(
                "nav",
                el("h2", "Files ", el("span", "AI and mixed", class_="quiet share-head")),
                _filters(found, contents=contents),
                _listing(tree),
                class_="tree",
                aria_label="Files and filters",
            ),
            _code(),
            _detail(),
        )
    )
    data = {
        "calls": [_call(found, origin, contents=contents) for origin in found.calls.values()],
        "sessions": {
            name: _session(one, links.sessions.get(name), contents=contents) for name, one in found.sessions.items()
        },
        "files": list(maker.files(progress)),
        "contents": contents,
    }
    at = f"at {found.revision[:12]}" if found.revision else "in the working tree"
    summary = (
        headline(spent(found.sessions.values()), f"{total['ai']:,} of {total.total():,}", "AI lines"),
        facts(
            *(fact(_WHO[who], _lines(total[who], total.total()), key=who) for who in AUTHORS),
            fact("No AI recorded", counted(len(found.unrecorded), "file")),
        ),
        share_bar(total, "Lines of the recorded files"),
        el("p", f"{counted(total.total(), 'line')} of recorded files {at}. ", _EXPLAINED, class_="quiet"),
    )
    return Page(
        "repository", f"Who wrote {found.root.name or 'this'}", summary, body, data, found.notes + maker.notes()
    )


_WHO: Final = {"ai": "AI", "mixed": "Mixed", "human": "Human", "unknown": "Unknown"}
_EXPLAINED: Final = (
    "AI: unchanged since a recorded call wrote it. Mixed: partly changed by a person. Human: existed before the first "
    "call, or appeared between calls. Unknown: the records do not show it. Files of which nothing is recorded are not "
    "counted. Secrets in the lines are masked."
)


def _lines(part: int, whole: int) -> str:
    share = 100 * part / whole if whole else 0
    return counted(part, "line") + (f" · {share:.0f} %" if share >= 1 else " · <1 %" if part else "")


# -- the tree --------------------------------------------------------------------------------------------------


def _tree(found: Repository) -> _Folder:
    root = _Folder({}, [])
    for number, file in enumerate(found.files):
        _put(root, file.path, number, shares(file.lines))
    for path, count in found.unknown.items():
        _put(root, path, -1, Counter(unknown=max(0, count)))
    for path in found.unrecorded:
        _put(root, path, -1, Counter())
    return root


def _put(root: _Folder, path: str, number: int, counts: Counter[str]) -> None:
    *folders, name = path.split("/")
    here = root
    for folder in folders:
        here = here.folders.setdefault(folder, _Folder({}, []))
    here.files.append((name, number, counts))


def _listing(folder: _Folder) -> Html:
    parts = [el("li", _branch(name, inner)) for name, inner in sorted(folder.folders.items())]
    parts += [el("li", _leaf(*file)) for file in sorted(folder.files, key=lambda one: (one[1] < 0, one[0]))]
    return el("ul", *parts)


def _branch(name: str, folder: _Folder) -> Html:
    while len(folder.folders) == 1 and not folder.files:  # a chain of folders is one step
        ((inner, folder),) = folder.folders.items()
        name = f"{name}/{inner}"
    counts = folder.counts()
    known = counts.total() > counts["unknown"]
    bar = (share_bar(counts, f"{name}/"), _share(counts)) if counts else (el("span", "no AI recorded", class_="none"),)
    summary = el("summary", el("span", f"{name}/", class_="name"), *bar)
    return el("details", summary, _listing(folder), open=known)


def _leaf(name: str, number: int, counts: Counter[str]) -> Html:
    shown = el("span", name, class_="name")
    if number < 0 and not counts:
        return el("div", shown, el("span", "no AI recorded", class_="none"), class_="file nothing")
    inner = (shown, share_bar(counts, name), _share(counts))
    if number < 0:
        return el("div", *inner, class_="file nothing")
    return el("button", *inner, type="button", class_="file", data_file=number)


def _share(counts: Counter[str]) -> Html:
    written, total = counts["ai"] + counts["mixed"], counts.total()
    said = f"{100 * written / total:.0f} %" if total else ""
    return el("span", said, class_="share", title=f"{written:,} of {total:,} lines are AI or mixed")


# -- the rest of the frame -------------------------------------------------------------------------------------


def _filters(found: Repository, *, contents: bool) -> Html:
    sessions = ((one.session_id, (one.title if contents else None) or one.session_id) for one in _writers(found))
    models = sorted({one.model_id for one in found.calls.values() if one.model_id})
    authors = [
        el("label", el("input", type="checkbox", name="author", value=who, checked=True), f" {_WHO[who]}", class_=who)
        for who in AUTHORS
    ]
    form = el(
        "form",
        el("fieldset", el("legend", "Lines by"), *authors),
        _select("model", "Model", ((model, model) for model in models)),
        _select("session", "Session", sessions),
        el("label", "From ", el("input", type="date", name="from")),
        el("label", "To ", el("input", type="date", name="to")),
        el("button", "Clear", type="reset"),
        el("output", id="matches"),
        id="filters",
        aria_label="Filter lines",
    )
    return el("details", el("summary", "Filter lines"), form, open=True, class_="filters")


def _writers(found: Repository) -> list[SessionFacts]:
    names = {origin.session_id for origin in found.calls.values()}
    return [one for name, one in found.sessions.items() if name in names]


def _select(name: str, title: str, choices: Iterable[tuple[str, str]]) -> Html:
    options = [el("option", first_line(text, 60), value=visible(value)) for value, text in choices]
    return el("label", f"{title} ", el("select", el("option", "all", value=""), *options, name=name))


def _code() -> Html:
    return el(
        "section",
        el(
            "div",
            el("h2", "Choose a file", id="file"),
            el("span", "↑ ↓ line · n p block", class_="quiet keys"),
            el("label", "Line ", el("input", type="number", id="goto", min=1), hidden=True),
            class_="bar",
        ),
        el("p", "Lines are coloured by author; point at one, or use the arrow keys.", id="hint"),
        el("div", id="lines", role="listbox", aria_labelledby="file", hidden=True),
        el("noscript", el("p", "This page needs its script to show the files, but scripts are disabled.")),
        class_="code",
        aria_label="Lines",
    )


def _detail() -> Html:
    return el(
        "aside",
        el("h2", "This line", id="detail-title"),
        el("button", "Close", type="button", id="close", class_="only-narrow"),
        el("div", el("p", "No line selected.", class_="quiet"), id="detail"),
        class_="detail",
        tabindex=0,
        aria_labelledby="detail-title",
    )


# -- the data --------------------------------------------------------------------------------------------------


def _call(found: Repository, origin: Origin, *, contents: bool) -> dict[str, object]:
    prompt = found.prompts.get((origin.session_id or "", origin.message_id or ""), "")
    return {
        "model": origin.model_id,
        "session": origin.session_id,
        "tool": origin.tool,
        "at": _seconds(origin.at),
        "method": origin.method,
        "who": origin.contributor,
        "prompt": first_line(prompt) if contents else "",
    }


def _session(one: SessionFacts, href: str | None, *, contents: bool) -> dict[str, object]:
    return {
        "title": one.title if contents else None,
        "parent": one.parent_session_id,
        "cost": priced(one.cost, one.unpriced_steps),
        "tokens": one.tokens,
        "user": one.os_user,
        "href": href,
    }


class _Maker:
    """Makes the data of the files."""

    def __init__(self, found: Repository, mask: Mask, *, contents: bool) -> None:
        self._found, self._mask, self._contents = found, mask, contents
        self._numbers = {record: at for at, record in enumerate(found.calls)}
        self._painter = Painter()

    def files(self, progress: Progress) -> Iterator[dict[str, object]]:
        """One after the other."""
        for at, file in enumerate(self._found.files):
            progress("files written", at, len(self._found.files))
            yield self._file(file)

    def notes(self) -> list[str]:
        """What was left out."""
        number = self._painter.left_out
        late = f"{counted(number, 'file')} without syntax colours: all of them would take over {MAX_ALL_S:.0f} s"
        return [f"{late}: choose files or folders with --path to see them."] if number else []

    def _file(self, file: FileLines) -> dict[str, object]:
        counts = shares(file.lines)
        found: dict[str, object] = {
            "path": file.path,
            "counts": [counts[who] for who in AUTHORS],
            "runs": list(_runs(file.lines, self._numbers)),
            "moved": {
                str(line.line): f"{line.origin_path}:{line.origin_line}"
                for line in file.lines
                if line.origin_path not in {None, file.path}
            },
            "trails": dict(_trails(file, self._numbers)),
        }
        if self._contents:
            text = self._shown(file)
            found |= {"text": text, "colours": self._painter.colours(file.path, text)}
        return found

    def _shown(self, file: FileLines) -> list[str]:
        """The lines as they may be shown: masked, and nothing hidden in them."""
        whole = b"\n".join(line.removesuffix(b"\r") for line in file.text).decode(errors="replace")
        lines = [visible(line) for line in self._mask(whole, file.path).split("\n")]
        return lines if len(lines) == len(file.text) else ["[withheld]"] * len(file.text)


def _runs(lines: Iterable[Line], numbers: Mapping[UUID, int]) -> Iterator[tuple[int, int, int, float]]:
    """Lines alike: how many, whose, by which call (-1: none), how sure."""

    def key(line: Line) -> tuple[int, int, float]:
        call = numbers[line.record_id] if line.record_id is not None and line.record_id in numbers else -1
        return AUTHORS.index(line.contributor), call, line.confidence

    for (who, call, confidence), own in groupby(lines, key):
        yield sum(1 for _ in own), who, call, confidence


def _trails(file: FileLines, numbers: Mapping[UUID, int]) -> Iterator[tuple[str, list[int]]]:
    """The calls that wrote at a line's place, but for the one that it is by; only where there is another."""
    for line, trail in zip(file.lines, file.trails, strict=True):
        earlier = [numbers[origin.record_id] for origin in trail if origin.record_id != line.record_id]
        if earlier:
            yield str(line.line), earlier


def _seconds(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S")
