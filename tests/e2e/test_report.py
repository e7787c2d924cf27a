"""The pages of `report` in a real Chromium: of a real recorded session, and of one in which everything is hostile."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.attributed import Project
from tests.support.chromium import Browser, Page, chromium
from tests.support.envelopes import MESSAGE, SESSION, Shim
from tests.support.postgres import PostgresServers, execute, fetch
from tests.support.showcase import TESTS, Showcase, showcase


@pytest.fixture(scope="module", name="browser")
def _browser() -> Iterator[Browser]:
    """One browser for all tests."""
    with chromium() as started:
        yield started


@pytest.fixture(scope="module", name="shown")
def _shown(postgres_servers: PostgresServers) -> Iterator[Showcase]:
    """A repository with a real recorded session."""
    with postgres_servers.database(migrated=True) as url, showcase(url) as made:
        made.work()
        yield made


def reported(shown: Showcase, *options: str) -> Path:
    """Run the command in the repository and give the file that it names."""
    done = shown.command("report", *options)
    assert done.returncode == 0, done.stderr
    return shown.project / done.stdout.split("  ")[0]


@pytest.fixture(scope="module", name="repository")
def _repository(shown: Showcase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the repository."""
    return reported(shown, "--repo", ".", "--output", str(tmp_path_factory.mktemp("pages") / "repository.html"))


def is_quiet(page: Page) -> bool:
    """Whether nothing stands in the console and nothing was asked for."""
    assert (page.said, page.requested) == ([], [])
    return True


def facts(page: Page) -> dict[str, str]:
    """What the page says of the line that is chosen."""
    names, values = page.texts("#detail dt"), page.texts("#detail dd")
    return dict(zip(names, values, strict=True))


def test_the_page_alone_says_who_wrote_a_line_in_which_session_and_what_it_cost(
    browser: Browser, shown: Showcase, repository: Path
) -> None:
    """As somebody does who has never seen it: choose the file, type the line's number, read."""
    with browser.open(repository) as page:
        names = page.texts("button.file .name")
        page.click(f"li:nth-child({1 + names.index('prices.py')}) > button.file, button.file[aria-current]")
        assert page.text("#file") == "shop/prices.py"
        page.choose("#goto", "22")
        assert page.text("#detail-title") == "Line 22"
        assert page.text("#detail p") == "AI"
        told = facts(page)
        assert is_quiet(page)
    (session,) = fetch(shown.url, "SELECT session_id, cost FROM agent_trace_sessions WHERE parent_session_id IS NULL")
    assert told["Model"] == "anthropic/claude-sonnet-4-5"
    assert told["Session"] == "Discounts for the price list"
    assert told["Session id"] == session["session_id"]
    assert float(re.findall(r"\$([0-9.]+)", told["It cost"])[0]) == pytest.approx(float(session["cost"]))
    assert told["Asked"] == '"Add discounts to the price list, with tests."'
    assert told["Tool"] == "edit"


def test_lines_by_a_person_and_rewritten_ones_are_told_apart(browser: Browser, repository: Path) -> None:
    """By hovering; the place of a line that was written twice names the earlier call."""
    with browser.open(repository) as page:
        rewritten = page.evaluate("+document.querySelector('.row.rewritten.ai').dataset.line")
        page.hover(f"[data-line='{rewritten}']")
        assert page.text("#detail-title") == f"Line {rewritten}"
        assert page.texts("#detail li")[0].startswith("anthropic/claude-sonnet-4-5 with edit, 20")
        page.hover("[data-line='1']")
        assert page.text("#detail p") == "Human"
        mixed = page.evaluate("document.querySelector('.row.mixed .text').textContent")
        assert mixed.strip() == '"""The total after a discount, rounded half up to whole cents."""'
        assert is_quiet(page)


def test_a_subagents_line_names_the_session_that_started_it(browser: Browser, repository: Path) -> None:
    """Its own cost, and that of its parent."""
    with browser.open(repository) as page:
        page.evaluate("location.hash = '#tests/test_prices.py:1'")
        told = facts(page)
        assert told["Subagent of"] == "Discounts for the price list"
        assert "$" in told["That cost"]
        assert told["Asked"] == "Write the tests"


def test_filters_leave_what_was_asked_for_and_say_how_much(browser: Browser, repository: Path) -> None:
    """By author, session and time; files without such a line go, others' lines fade."""
    with browser.open(repository) as page:
        every = page.texts("button.file .name")
        sub = page.evaluate(
            "[...document.querySelectorAll('[name=session] option')].find(o => /subagent/.test(o.text)).value"
        )
        page.choose("[name=session]", sub)
        assert page.texts("button.file .name") == ["test_prices.py"]
        said = f"{len(TESTS.splitlines())} lines in 1 file"
        assert (page.text("#matches"), page.text("#live")) == (said, f"{said} match")
        page.click("#filters [type=reset]")
        page.evaluate("new Promise(setTimeout)")
        assert page.texts("button.file .name") == every
        for who in ("ai", "mixed", "unknown"):
            page.click(f"#filters [value={who}]")
        assert page.evaluate("document.querySelectorAll('.row:not(.off)').length") == page.evaluate(
            "document.querySelectorAll('.row.human').length"
        )
        page.click("#filters [type=reset]")
        page.choose("[name=from]", "2100-01-01")
        assert page.text("#matches") == "0 lines in 0 files"
        assert is_quiet(page)


def test_everything_is_reached_by_keyboard(browser: Browser, repository: Path) -> None:
    """One stop for all lines; arrows, Home, End and the next block inside."""
    with browser.open(repository) as page:
        page.evaluate("document.querySelector('.row[tabindex=\"0\"]').focus()")
        page.press("Home")
        assert page.text("#detail-title") == "Line 1"
        page.press("ArrowDown", 2)
        assert page.text("#detail-title") == "Line 3"
        page.press("n")
        assert page.evaluate("document.activeElement.classList.contains('human')") is False
        page.press("End")
        assert page.evaluate("document.activeElement.dataset.line === String(rows.length)")
        assert page.evaluate("document.querySelectorAll('.row[tabindex=\"0\"]').length") == 1
        reached = set()
        page.evaluate("document.activeElement.blur(), document.body.focus()")
        for _ in range(40):
            page.press("Tab")
            reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
        assert {"skip", "theme", "file", "goto"} <= reached
        assert any(name.startswith("row") for name in reached)


def test_themes_follow_the_system_and_the_switch(browser: Browser, repository: Path) -> None:
    """And the choice outlives the page."""
    background = "getComputedStyle(document.body).backgroundColor"
    with browser.open(repository) as page:
        light = page.evaluate(background)
        page.media(dark=True)
        dark = page.evaluate(background)
        assert light != dark
        page.choose("#theme", "light")
        assert page.evaluate(background) == light
        page.load(repository.resolve().as_uri())
        assert page.evaluate(background) == light
        page.choose("#theme", "")
        assert page.evaluate(background) == dark


def looked_at(browser: Browser, file: Path) -> None:
    """No violation in both themes and on a phone, where nothing is wider than the screen."""
    with browser.open(file) as page:
        assert page.violations() == []
        page.media(dark=True)
        assert page.violations() == []
        page.resize(360, 740, phone=True)
        page.load(file.resolve().as_uri())
        assert page.violations() == []
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert is_quiet(page)


def test_the_page_of_a_repository_is_accessible(browser: Browser, repository: Path) -> None:
    """As far as axe-core knows."""
    looked_at(browser, repository)


def test_a_tap_on_a_phone_shows_what_is_known(browser: Browser, repository: Path) -> None:
    """In a sheet that can be closed."""
    with browser.open(repository, width=390) as page:
        page.resize(390, 844, phone=True)
        assert page.texts(".detail") == []
        page.tap("[data-line='6']")
        assert page.texts("#detail-title") == ["Line 6"]
        page.tap("#close")
        assert page.texts(".detail") == []


def test_only_masked_content_is_in_a_page(shown: Showcase, repository: Path) -> None:
    """A secret that a person has typed into a file is masked too; with --metadata-only no content is there at all."""
    prices = shown.project / "shop" / "prices.py"
    before = prices.read_text()
    try:
        prices.write_text(before + "PASSWORD = 'kR8vq2LmX9wTz4Bn'\n")
        whole = reported(shown, "--repo", ".", "--output", "whole.html").read_text()
        bare = reported(shown, "--repo", ".", "--output", "bare.html", "--metadata-only").read_text()
    finally:
        prices.write_text(before)
    assert "rounded half up" in whole
    assert "[REDACTED:" in whole
    assert "kR8vq2LmX9wTz4Bn" not in whole + bare
    for content in ("rounded half up", "Add discounts", "Discounts for"):
        assert content in repository.read_text()
        assert content not in bare
    assert "claude-sonnet-4-5" in bare


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
            f"UPDATE agent_trace_sources SET os_user = {quoted(ALL)}, host = {quoted(ALL)}",
            "INSERT INTO agent_trace_dead_letters SELECT source_id, 1, "
            f"{quoted(ALL)}, {quoted(ALL)}, convert_to({quoted(ALL + SESSION)}, 'UTF8'), now() "
            "FROM agent_trace_sources",
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
    assert page.evaluate("document.querySelectorAll('img, main svg:not([role]), b, [onerror], [onload]').length") == 0
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
        assert HOSTILE[0] in told["Asked"]
        assert page.violations() == []
        ran_nothing(page)
