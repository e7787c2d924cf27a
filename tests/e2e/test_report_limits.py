"""Pages of `report` about what is hostile, incomplete or large, in a real Chromium."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from msgspec.structs import replace

from agent_trace_sidecar.blame.authors import Origin
from agent_trace_sidecar.blame.lines import Line
from agent_trace_sidecar.report import page as page_frame
from agent_trace_sidecar.report.cost import SessionFacts
from agent_trace_sidecar.report.repository import MAX_FILES, MAX_LINES, FileLines, Repository
from agent_trace_sidecar.report.repository_page import repository_page
from agent_trace_sidecar.report.session import Body, Item, Session
from agent_trace_sidecar.report.session_page import session_page
from agent_trace_sidecar.report.since import SECRETS, Since, Surviving, Table
from agent_trace_sidecar.report.since_page import since_page
from tests.support.attributed import Project
from tests.support.chromium import Browser, Page
from tests.support.envelopes import INSTANCE, MESSAGE, SESSION, Shim, recorded_lines
from tests.support.pages import facts, is_quiet
from tests.support.postgres import PostgresServers, execute, fetch
from tests.support.waiting import eventually, slowness

# -- everything is hostile -------------------------------------------------------------------------------------

RUN = "window.ran=1"
HOSTILE = (
    f"<script>{RUN}</script>",
    f"</script><script>{RUN}</script>",
    f'"><img src=x onerror={RUN}>',
    f"'><svg onload={RUN}>",
    f"</title></style></textarea><script>{RUN}</script>",
    f"<!--<script>{RUN}</script>",
    f"javascript:{RUN}",
    "]]>&lt;script&gt;&#x3c;script>{{1}}${1}",
    "https://example.invalid/x.png url(//example.invalid/y)",
    "abc\u202ecba\u2066\x1b[31m\x07\u2028\u2029\ufeff\udbff",
)
ALL = " ".join(HOSTILE[:-1]) + " abc\u202ecba\x1b[31m\u2028"


@pytest.fixture(scope="module", name="hostile")
def _hostile(
    postgres_servers: PostgresServers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Project, dict[str, str]]]:
    """A repository and a session in which every name and text is an attempt to run or load something."""
    folder = tmp_path_factory.mktemp("hostile")
    with postgres_servers.database(migrated=True) as url:
        project = Project(folder / "<img src=x onerror=window.ran=1>", url)
        shim = Shim(str(project.root), at=4_100_000_000_000)
        info = {"id": SESSION, "title": ALL, "directory": ALL}
        message = {"id": "msg_0", "role": "user", "sessionID": SESSION}
        parts = [{"type": "text", "text": ALL + "\n" + ALL}]
        bad = {"status": "error", "input": {ALL: ALL}, "error": ALL, "title": ALL, "time": {"start": 1, "end": "<b>"}}
        spent = {"type": "step-finish", "reason": ALL, "tokens": {"input": ALL, "output": 5}, "cost": "<script>"}
        project.feed(
            [
                shim.event("session.created", {"sessionID": SESSION, "info": info}),
                shim.line("chat.message", {"sessionID": SESSION}, {"message": message, "parts": parts}),
                shim.assistant(parentID="msg_0", modelID=ALL, providerID=ALL, agent=ALL),
                shim.part(ALL[:200], bad, (SESSION, MESSAGE, "call_bad")),
                shim.event(
                    "message.part.updated", {"part": {"sessionID": SESSION, "messageID": MESSAGE, "id": "p", **spent}}
                ),
                shim.event(
                    "message.part.updated",
                    {"part": {"type": "text", "text": ALL, "sessionID": SESSION, "messageID": MESSAGE, "id": "p2"}},
                ),
            ]
        )
        for number, text in enumerate(HOSTILE):
            name = text.replace("/", "\u2215").encode("utf-8", "replace").decode()[:60]
            project.ai_write(f"{number}{name}.html", *HOSTILE[:-1], "\x00"[:0] + "abc\u202e\x1b[31m", model=ALL[:250])
        execute(
            url,
            "INSERT INTO agent_trace_sources VALUES "
            f"('{INSTANCE}', 'instance', {quoted(ALL)}, 0, 0, '{{}}', now(), now(), NULL, {quoted(ALL)}, NULL)",
            f"INSERT INTO agent_trace_dead_letters VALUES ('{INSTANCE}', 1, {quoted(ALL)}, {quoted(ALL)}, "
            f"convert_to({quoted(ALL + SESSION)}, 'UTF8'), to_timestamp(4100000000))",
        )
        yield project, {"AGENT_TRACE_DATABASE_URL": url, "AGENT_TRACE_STATE_DIR": str(folder / "state")}


def quoted(text: str) -> str:
    """A text as SQL."""
    return "'" + text.replace("'", "''") + "'"


def hostile_page(hostile: tuple[Project, dict[str, str]], *options: str) -> Path:
    """Make a page of it."""
    project, env = hostile
    target = project.root.parent / "page.html"
    words = [sys.executable, "-m", "agent_trace_sidecar", "report", *options, "--output", str(target)]
    done = subprocess.run(words, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def ran_nothing(page: Page) -> None:
    """Neither a script nor a request nor an element came out of a text."""
    assert page.evaluate("window.ran") is None
    assert page.evaluate("document.querySelectorAll('img, svg:not([class]), b, [onerror], [onload]').length") == 0
    assert page.evaluate("document.scripts.length") == 2
    assert is_quiet(page)


def test_nothing_of_a_hostile_repository_runs(browser: Browser, hostile: tuple[Project, dict[str, str]]) -> None:
    """Names of files and folders, code, models, prompts, titles, users: they are all shown as they are."""
    with browser.open(hostile_page(hostile, "--repo", str(hostile[0].root))) as page:
        for number in range(len(HOSTILE)):
            page.evaluate(f"open({number}, 1)")
        assert page.evaluate("rows[0].querySelector('.text').textContent") == HOSTILE[0]
        assert page.evaluate("rows.at(-1).querySelector('.text').textContent") == "abc⟨U+202E⟩␛[31m"
        told = facts(page)
        assert HOSTILE[0] in told["Session"]
        assert HOSTILE[0] in told["Model"]
        assert HOSTILE[0] in told["Prompt"]
        assert page.violations() == []
        ran_nothing(page)


@pytest.mark.parametrize("what", ["session", "since"])
def test_nothing_of_a_hostile_session_runs(
    browser: Browser, hostile: tuple[Project, dict[str, str]], what: str
) -> None:
    """Texts, arguments, outputs, errors, names of tools and models, dead letters: shown, also when they are opened."""
    options = ("--session", SESSION) if what == "session" else ("--since", "2026-01-01")
    with browser.open(hostile_page(hostile, *options)) as page:
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        eventually(lambda: page.evaluate("document.querySelector('details[data-body]:not([data-filled])') === null"))
        shown = page.text("main")
        assert shown.count(HOSTILE[0]) >= 2
        if what == "session":
            assert "⟨U+202E⟩" in shown
            assert HOSTILE[1] in page.text(".dead")
            assert HOSTILE[3] in page.text(".failed")
        assert page.violations() == []
        ran_nothing(page)


def test_nothing_of_a_hostile_site_runs(browser: Browser, hostile: tuple[Project, dict[str, str]]) -> None:
    """Titles, users, repositories and folders, on the index and on every page that it leads to."""
    project, env = hostile
    site = project.root.parent / "site"
    words = [sys.executable, "-m", "agent_trace_sidecar", "report", "--site", str(site)]
    done = subprocess.run(words, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = sorted(site.rglob("*.html"))
    assert {one.parent.name for one in pages} >= {"site", "sessions", "repositories"}
    for file in pages:
        with browser.open(file) as page:
            if file.parent == site:
                assert HOSTILE[0] in page.text("#sessions")
            ran_nothing(page)


# -- what is missing ------------------------------------------------------------------------------------------


def test_gaps_dead_letters_and_what_was_undone_stand_where_they_were(
    browser: Browser, migrated_url: str, tmp_path: Path
) -> None:
    """A recording that has lost lines, has one that could not be stored, and ends with a revert."""
    lines = recorded_lines("basic-edit-write-bash")
    name = next(one["input"]["sessionID"] for line in lines if (one := json.loads(line))["hook"] == "chat.message")
    answers = [json.loads(line) for line in lines if b'"role":"assistant"' in line]
    first = answers[0]["input"]["event"]["properties"]["info"]["id"]
    lines[60:63] = [lines[60][:200] + name.encode()]  # two never came, one is broken
    end = json.loads(lines[-2])
    revert = {"sessionID": name, "info": {"id": name, "revert": {"messageID": first, "snapshot": "a"}}}
    end["input"] = {"event": {"type": "session.updated", "properties": revert}}
    end |= {"hook": "event", "id": str(UUID(int=1)), "seq": 151, "at": end["at"] + 5}
    log = tmp_path / "lost.jsonl"
    log.write_bytes(b"\n".join([*lines, json.dumps(end).encode()]) + b"\n")
    env = {**os.environ, "AGENT_TRACE_DATABASE_URL": migrated_url, "AGENT_TRACE_STATE_DIR": str(tmp_path / "state")}
    target = tmp_path / "page.html"
    for words in (["replay", str(log)], ["report", "--session", name, "--output", str(target)]):
        subprocess.run([sys.executable, "-m", "agent_trace_sidecar", *words], env=env, check=True, capture_output=True)
    with browser.open(target) as page:
        kinds = page.evaluate("[...document.querySelectorAll('.item')].map(e => e.classList[1])")
        assert (kinds.count("gap"), kinds.count("dead"), kinds.count("undo")) == (1, 1, 1)
        assert 0 < kinds.index("gap") < len(kinds) - 2
        assert "2 events missing" in page.text(".gap")
        assert "invalid_json" in page.text(".dead")
        assert kinds[-1] == "undo"
        calls = page.evaluate("[...document.querySelectorAll('.item.call')].map(e => e.classList.contains('undone'))")
        assert calls
        assert all(calls)
        assert page.evaluate("document.querySelector('.prompt').classList.contains('undone')") is False
        assert page.violations() == []


def test_a_secret_that_every_event_of_a_session_repeats_is_one(migrated_url: str) -> None:
    """Two sessions, each with a password in nine events; one event of the second holds another one beside it."""
    rows = ", ".join(
        f"('{INSTANCE}', '{UUID(int=9 * at + n)}', 'assignment', now(), 'ses_{at}', 'call_{n}', {1 + (at * n == 8)})"
        for at in range(2)
        for n in range(9)
    )
    execute(migrated_url, f"INSERT INTO agent_trace_masked VALUES {rows}")
    (row,) = fetch(migrated_url, SECRETS.format(day="2026-01-01"))
    assert (row["rule"], row["secrets"], row["events"]) == ("assignment", 3, 18)


# -- large ones ------------------------------------------------------------------------------------------------

LINES = 5_000
CALLS = 2_500
"""10,000 events: each call is four of them at least."""
AT = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
JUMPS = 20
OPENING_S = 1.0 * slowness()
JUMP_S = 0.1 * slowness()
SCROLL = f"""new Promise(done => {{
  const place = PLACE;
  let n = 0;
  const step = () => {{
    if (n++ === {JUMPS}) return done();
    place.scrollTop = (place.scrollHeight * ((n * 7) % 20)) / 20;
    requestAnimationFrame(step);
  }};
  step();
}})"""


def assert_quick(browser: Browser, made: page_frame.Page, folder: Path, place: str) -> None:
    """The page's thread works for less than a second until it is open, and a tenth for a jump to another place.

    It is opened again where it has taken longer: what comes from something else does not come twice.
    """
    file, empty = folder / "large.html", folder / "empty.html"
    file.write_text(page_frame.render(made, AT))
    empty.write_text("")
    took: list[tuple[float, float]] = []
    for _ in range(2):
        with browser.open(empty) as page:
            before = page.worked_s()
            page.load(file.resolve().as_uri())
            opening = page.worked_s() - before
            page.evaluate(SCROLL.replace("PLACE", place))
            took.append((opening, (page.worked_s() - before - opening) / JUMPS))
            assert is_quiet(page)
        if took[-1][0] < OPENING_S and took[-1][1] < JUMP_S:
            return
    raise AssertionError(f"seconds to open and of a jump: {took}")


def test_a_file_of_5000_lines_opens_within_a_second_and_scrolls(browser: Browser, tmp_path: Path) -> None:
    """With syntax colours, and an author for each few lines."""
    calls = [Origin(UUID(int=n), AT, "ai", "diff", "a/model", "ses_1", "msg_1", "call", "edit") for n in range(50)]
    text = [f"    value_{n} = compute('text', {n}) if n % 2 else None  # {n}".encode() for n in range(LINES)]
    first = Line(1, "ai", "a/model", "ses_1", "msg_1", "call", "edit", AT, "diff", 0.99, None, "a.py", 1)
    lines = [replace(first, line=n + 1, record_id=UUID(int=n // 7 % 50)) for n in range(LINES)]
    file = FileLines("a.py", text, lines, [(calls[0],)] * LINES)
    by_id = {one.record_id: one for one in calls}
    found = Repository(tmp_path, None, [file], {}, {}, by_id, {}, {"ses_1": SessionFacts("ses_1")}, [])
    made = repository_page(found, lambda text, _: text, lambda *_: None, contents=True)
    assert_quick(browser, made, tmp_path, "list")


def test_2000_files_open_within_a_second_and_scroll(browser: Browser, tmp_path: Path) -> None:
    """As many lines as a page holds, in folders of twenty; every tenth file is of Python, in colours."""
    calls = [Origin(UUID(int=n), AT, "ai", "diff", "a/model", "ses_1", "msg_1", "call", "edit") for n in range(50)]
    first = Line(1, "ai", "a/model", "ses_1", "msg_1", "call", "edit", AT, "diff", 0.99, None, "a.py", 1)
    count = MAX_LINES // MAX_FILES
    text = [f"    value_{n} = compute('text', {n})".encode() for n in range(count)]
    lines = [replace(first, line=n + 1, record_id=UUID(int=n // 7 % 50)) for n in range(count)]
    files = [
        FileLines(f"src/{n // 20}/file_{n}.{'txt' if n % 10 else 'py'}", text, lines, [()] * count)
        for n in range(MAX_FILES)
    ]
    by_id = {one.record_id: one for one in calls}
    found = Repository(tmp_path, None, files, {}, {}, by_id, {}, {"ses_1": SessionFacts("ses_1")}, [])
    made = repository_page(found, lambda text, _: text, lambda *_: None, contents=True)
    assert_quick(browser, made, tmp_path, "document.querySelector('.tree')")


def test_a_session_of_10000_events_opens_within_a_second_and_scrolls(browser: Browser, tmp_path: Path) -> None:
    """Each with something to open."""
    body = [Body("Output", "a line")]
    items = []
    for n in range(CALLS):
        at, message = AT + timedelta(seconds=n), f"msg_{n}"
        items += [
            Item(at, "text", "ses_1", text=f"Now for {n}.", message=message),
            Item(at, "call", "ses_1", "bash", f"run {n}", message, seconds=n % 9, bodies=body),
            Item(at, "step", "ses_1", "a/model", message=message, reason="stop", tokens=n, cost=0.01),
        ]
    facts = SessionFacts("ses_1", title="Long", started_at=AT, last_event_at=AT)
    made = session_page(Session({"ses_1": facts}, {"ses_1": items}, {}, []), contents=True)
    assert_quick(browser, made, tmp_path, "document.scrollingElement")


def test_a_model_has_one_colour_in_all_plots_of_a_page(browser: Browser, tmp_path: Path) -> None:
    """Eight models with other ranks in cost than in lines; what is not in the first ones is put together."""
    day, models = AT.date(), [f"a/model-{n}" for n in range(8)]
    spent = [
        {"day": day, "model": one, "tokens": 1, "cost": 10.0 - n, "unpriced_steps": 0} for n, one in enumerate(models)
    ]
    written = [{"day": day, "model": one, "lines": n + 1} for n, one in enumerate(models)]
    found = Since(
        since=AT,
        written=Table("", written),
        written_there=Table("", written),
        repositories=Table("", [{"project": "p", "repository": None, "lines": 36}]),
        spent=Table("", spent),
        people=Table("", [{"sessions": 1, "people": 0}]),
        costs=Table("", []),
        failed=Table("", []),
        slow=Table("", []),
        secrets=Table("", []),
        surviving=Surviving({}, {}, Counter()),
        notes=[],
    )
    (tmp_path / "page.html").write_text(page_frame.render(since_page(found, AT), AT))
    with browser.open(tmp_path / "page.html") as page:
        keys = "[...document.querySelectorAll('#{} .legend li')].map(e => [e.textContent, e.className])"
        assert page.evaluate(keys.format("spent")) == page.evaluate(keys.format("written"))
        assert page.texts("#written .legend li") == [*models[:5], "3 others"]
        assert page.text("#spent .readout") == "Since 2026-01-02: $52.00, at most $52.00 a day."
        assert page.evaluate("[data.plots.spent, data.plots.written].map(one => one.series.length)") == [6, 6]
        head = dict(zip(page.texts(".top dt"), page.texts(".top dd"), strict=True))
        assert (head["People"], head["Surviving"]) == ("unknown", "unknown")
        assert is_quiet(page)
    both = Table("", [*found.repositories.rows, {"project": "q", "repository": None, "lines": 5}])
    partly = Surviving({"p": "/w"}, {"p": "/w", "q": "/x"}, Counter({("2026-01-02", "a/model-7", "p"): 9}))
    made = since_page(found._replace(repositories=both, surviving=partly), AT)
    assert "9 of 36 · 25 % in 1 of 2 repositories" in "".join(made.summary)
    assert made.notes == [
        "Surviving lines of q are unknown: this machine has no checkout at the recorded path. Name one with --repo."
    ]
