"""The pages of `report` about a real recorded session, in a real Chromium."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.chromium import Browser, Page
from tests.support.opencode import ROOT, npm_install
from tests.support.pages import facts, is_quiet
from tests.support.postgres import PostgresServers, execute, fetch
from tests.support.showcase import TESTS, Showcase, showcase
from tests.support.waiting import eventually


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


def test_the_page_alone_says_who_wrote_a_line_in_which_session_and_what_it_cost(
    browser: Browser, shown: Showcase, repository: Path
) -> None:
    """As somebody does who has never seen it: choose the file, type the line's number, read."""
    with browser.open(repository) as page:
        names = page.texts("button.file .name")
        page.click(f"li:nth-child({1 + names.index('prices.py')}) > button.file, button.file[aria-current]")
        assert page.text("#file") == "shop/prices.py"
        page.choose("#goto", "42")
        assert page.text("#detail-title") == "Line 42"
        assert page.text("#detail p") == "AI"
        told = facts(page)
        assert is_quiet(page)
    (session,) = fetch(shown.url, "SELECT session_id, cost FROM agent_trace_sessions WHERE parent_session_id IS NULL")
    assert told["Model"] == "anthropic/claude-sonnet-4-5"
    assert told["Session"] == "Discounts for the price list"
    assert told["Session id"] == session["session_id"]
    assert float(re.findall(r"\$([0-9.]+)", told["Session cost"])[0]) == pytest.approx(float(session["cost"]), abs=1e-4)
    assert told["Prompt"] == '"Add discounts to the price list, with tests."'
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
        assert "$" in told["Parent session cost"]
        assert told["Prompt"] == "Write the tests"


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
        eventually(lambda: page.texts("button.file .name") == every)
        for who in ("ai", "mixed", "unknown"):
            page.click(f"#filters [value={who}]")
        assert page.evaluate("document.querySelectorAll('.row:not(.off)').length") == page.evaluate(
            "document.querySelectorAll('.row.human').length"
        )
        page.click("#filters [type=reset]")
        page.choose("[name=from]", "2100-01-01")
        assert page.text("#matches") == "0 lines in 0 files"
        assert is_quiet(page)


def test_files_of_which_nothing_is_recorded_have_no_part_in_the_shares(browser: Browser, repository: Path) -> None:
    """They are older than any session; the shares at the top and in the tree are of the same lines."""
    with browser.open(repository) as page:
        bare = page.evaluate("[...document.querySelectorAll('.tree .file.nothing .name')].map(e => e.textContent)")
        assert {"README.md", "LICENSE", ".gitignore"} <= set(bare)
        assert set(page.texts(".tree .file.nothing .none")) == {"no AI recorded"}
        head = dict(zip(page.texts(".top dt"), page.texts(".top dd"), strict=True))
        assert (head["Unknown"], head["No AI recorded"]) == ("0 lines", f"{len(bare)} files")
        ai, _, total = head["AI lines"].partition(" of ")
        assert head["AI"].startswith(f"{ai} lines · ")
        assert int(total) == page.evaluate(
            "data.files.reduce((sum, one) => sum + one.counts.reduce((a, b) => a + b), 0)"
        )


def test_keys_work_before_any_line_is_chosen(browser: Browser, repository: Path) -> None:
    """Where nothing has the focus they are the lines'; in a field they are the field's."""
    with browser.open(repository) as page:
        assert page.evaluate("document.activeElement === document.body")
        page.press("ArrowDown")
        assert page.text("#detail-title") == "Line 2"
        page.press("n")
        assert page.text("#detail p") == "AI"
        page.evaluate("document.querySelector('#goto').focus()")
        page.press("p")
        assert page.text("#detail p") == "AI"


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


def test_the_sheet_covers_no_line_that_is_tapped(browser: Browser, repository: Path) -> None:
    """Neither in the middle of a file nor at its end."""
    with browser.open(repository, width=360) as page:
        page.resize(360, 740, phone=True)
        page.load(repository.resolve().as_uri())
        assert page.evaluate("scrollY") == 0
        last = page.evaluate("rows.length")
        for line in (20, last - 1, last):
            page.evaluate(f"rows[{line - 1}].scrollIntoView({{block: 'end'}})")
            page.tap(f"[data-line='{line}']")
            assert page.text("#detail-title") == f"Line {line}"
            below = page.evaluate("document.querySelector('.row.chosen').getBoundingClientRect().bottom")
            assert below <= page.evaluate("document.querySelector('.detail').getBoundingClientRect().top")
            page.tap("#close")


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


# -- the page of a session -------------------------------------------------------------------------------------


@pytest.fixture(scope="module", name="session")
def _session(shown: Showcase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the recorded session."""
    query = "SELECT session_id FROM agent_trace_sessions WHERE parent_session_id IS NULL"
    name = fetch(shown.url, query)[0]["session_id"]
    return reported(shown, "--session", name, "--output", str(tmp_path_factory.mktemp("pages") / "session.html"))


def test_a_session_is_told_from_its_prompt_to_its_last_answer(browser: Browser, session: Path, shown: Showcase) -> None:
    """Calls with their failures and changes, the subagent inside of its call, tokens and cost as they add up."""
    with browser.open(session) as page:
        assert page.text("h1") == "Discounts for the price list"
        head = dict(zip(page.texts(".top dt"), page.texts(".top dd"), strict=True))
        assert head["Model"] == "anthropic/claude-sonnet-4-5"
        assert head["Missing"] == "none"
        told = page.texts(".timeline > .item")
        assert "Add discounts to the price list, with tests." in told[0]
        calls = page.evaluate("[...document.querySelectorAll('.item.call .head strong')].map(e => e.textContent)")
        assert calls == ["read", "edit", "edit", "edit", "task", "write", "bash", "bash"]
        assert page.texts(".item.failed .head strong") == ["edit"]
        assert page.texts(".badge") == ["error", "exit 1"]
        assert "tests/test_prices.py" in page.text(".subagent")
        assert page.evaluate("document.querySelector('.subagent').closest('.item').textContent.includes('task')")
        cost = fetch(shown.url, "SELECT sum(cost)::float8 AS cost FROM agent_trace_sessions")[0]["cost"]
        assert float(head["Cost"].removeprefix("$")) == pytest.approx(cost, rel=0.05)
        assert (head["Sessions"], head["People"]) == ("2", "1")
        assert page.texts(".item.step") == [], "what a request cost stands beside what it gave"
        each = [float(text.rpartition("$")[2]) for text in page.texts(".spent")]
        assert len(each) == fetch(shown.url, "SELECT count(*) AS n FROM agent_trace_steps")[0]["n"]
        assert sum(each) == pytest.approx(cost, rel=0.1)
        page.click("[name=spent]")
        assert page.texts(".spent") == []
        assert is_quiet(page)


def test_what_a_call_did_is_opened_on_demand(browser: Browser, session: Path) -> None:
    """A diff with its lines marked; a secret in a command is masked here as it is in the database."""
    with browser.open(session) as page:
        before = page.evaluate("document.querySelectorAll('*').length")
        page.click(".item.changed summary")
        eventually(lambda: page.evaluate("document.querySelectorAll('*').length") > before)
        added = page.texts(".diff .added")
        assert "+def discounted(prices, percent):\n" in [f"{line.strip()}\n" for line in added]
        assert page.texts(".item.changed details[open] h3") == ["Change", "Arguments", "Output"]
        assert page.texts(".item.changed details[open] pre")[1].startswith("filePath: /"), "the diff shows the texts"
        page.click("#open-all")
        eventually(lambda: "command: echo password=[REDACTED:" in page.text("main"))
        assert "password=[REDACTED:" in page.text("main")
        assert "hunter2" not in session.read_text()
        assert page.violations() == []
        page.click("[name=only-failed]")
        assert page.text("#live").startswith("1 item of ")
        assert is_quiet(page)


def test_a_session_without_contents_has_names_and_figures_only(shown: Showcase, session: Path, tmp_path: Path) -> None:
    """No prompt, answer, argument, output, error, diff or title."""
    name = fetch(shown.url, "SELECT session_id FROM agent_trace_sessions WHERE parent_session_id IS NULL")[0][0]
    bare = reported(shown, "--session", name, "--metadata-only", "--output", str(tmp_path / "bare.html")).read_text()
    for content in ("Add discounts", "I look at the prices", "Could not find oldString", "+def discounted", "printf"):
        assert content in session.read_text()
        assert content not in bare
    assert all(kept in bare for kept in ("shop/prices.py", "edit", "claude-sonnet-4-5"))


def test_the_page_of_a_session_is_accessible(browser: Browser, session: Path) -> None:
    """As far as axe-core knows."""
    looked_at(browser, session)


# -- the page of a span of time --------------------------------------------------------------------------------


@pytest.fixture(scope="module", name="since")
def _since(shown: Showcase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the last month."""
    return reported(shown, "--since", "30d", "--output", str(tmp_path_factory.mktemp("pages") / "since.html"))


def table(page: Page, figure: str) -> list[list[str]]:
    """The numbers of a plot."""
    rows: list[list[str]] = page.evaluate(
        f"[...document.querySelectorAll('#{figure} tbody tr')].map(r => [...r.children].map(c => c.textContent))"
    )
    return rows


def test_every_plot_has_its_numbers_and_the_sql_behind_them(browser: Browser, since: Path, shown: Showcase) -> None:
    """The statements run as they stand, for a reader, and give what the tables say; copying falls back to selecting."""
    with browser.open(since) as page:
        figures = page.evaluate("[...document.querySelectorAll('figure')].map(f => f.id)")
        assert figures == [
            "spent",
            "written",
            "surviving",
            "models",
            "repositories",
            "cost",
            "failed",
            "slow",
            "secrets",
        ]
        for name in figures:
            rows = fetch(shown.url, page.evaluate(f"document.getElementById('sql-{name}').textContent").split(";")[0])
            assert len(rows) == len(table(page, name)) > 0, name
            assert page.evaluate(f"document.querySelector('#{name} :is(svg, canvas)') !== null")
        (day, model, written, surviving), *_ = table(page, "surviving")
        assert model == "anthropic/claude-sonnet-4-5"
        living = json.loads(shown.command("stats", "--json").stdout)["total"]
        assert (int(written), int(surviving)) == (living["written"], living["living"])
        assert [row for row in table(page, "failed") if row[2] != "0"] == [["edit", "3", "1", "33.3 %"]]
        assert day == page.text("footer time")[:10]
        page.click("#cost details:last-of-type summary")
        page.evaluate("navigator.clipboard.writeText = () => Promise.reject(new Error('forbidden'))")
        page.click("#cost [data-copy]")
        eventually(lambda: page.text("#live") == "Selected: copy with the keyboard.")
        assert page.evaluate("String(getSelection())").startswith("SELECT coalesce(model_id")
        assert is_quiet(page)


def top(page: Page) -> dict[str, str]:
    """The figures at the top."""
    return dict(zip(page.texts(".top dt"), page.texts(".top dd"), strict=True))


def test_a_span_begins_with_what_it_cost_and_gave(browser: Browser, since: Path, shown: Showcase) -> None:
    """As `usage` and `stats` say; a figure has one denominator, and no cost more than four digits."""
    with browser.open(since) as page:
        head = top(page)
    usage = json.loads(shown.command("usage", "--by", "model", "--json").stdout)
    living = json.loads(shown.command("stats", "--json").stdout)["total"]
    written, share = living["written"], 100 * living["living"] / living["written"]
    tokens = sum(value for row in usage for name, value in row.items() if name.endswith("_tokens"))
    assert float(head["Cost"].removeprefix("$")) == pytest.approx(sum(row["cost"] for row in usage), abs=1e-4)
    assert head["Tokens"] == f"{tokens:,}"
    assert (head["Sessions"], head["People"], head["AI lines written"]) == ("2", "1", str(written))
    assert head["Surviving"] == f"{living['living']} of {written} · {share:.0f} %"
    per_thousand = 1000 * living["cost_per_living_line"]
    assert float(head["Cost per 1,000 surviving lines"].removeprefix("$")) == pytest.approx(per_thousand, rel=0.05)


def test_a_span_keeps_its_cost_where_the_repository_is_not_readable(
    browser: Browser, since: Path, shown: Showcase, tmp_path: Path
) -> None:
    """What survives is unknown then, and said so once."""
    elsewhere = shown.project.rename(shown.project.with_name("moved"))
    try:
        words = [sys.executable, "-m", "agent_trace_sidecar", "report", "--since", "30d", "--output", "there.html"]
        subprocess.run(words, cwd=tmp_path, env=shown.env, check=True, capture_output=True)
    finally:
        elsewhere.rename(shown.project)
    with browser.open(since) as page:
        before = top(page)
    with browser.open(tmp_path / "there.html") as page:
        head = top(page)
        assert [head[name] for name in ("Cost", "Tokens", "AI lines written")] == [
            before[name] for name in ("Cost", "Tokens", "AI lines written")
        ]
        assert (head["Surviving"], head["Cost per 1,000 surviving lines"]) == ("unknown", "unknown")
        assert "this machine has no checkout" in page.text(".note")
        assert "spent" in page.evaluate("[...document.querySelectorAll('figure')].map(f => f.id)")
        assert page.text("main > p.quiet").startswith("Nothing to show: AI lines surviving, by the day")
        assert is_quiet(page)


@pytest.mark.parametrize("width", [1280, 360])
def test_a_plot_names_the_values_that_are_pointed_at(browser: Browser, since: Path, width: int) -> None:
    """Drawn within the screen, in the colours of the theme; in the end the sentence is there again."""
    with browser.open(since, width=width) as page:
        first = page.text("#written .readout")
        assert "lines, at most" in first
        size = page.evaluate(
            "(r => [r.left, r.right])(document.querySelector('#written canvas').getBoundingClientRect())"
        )
        assert 0 <= size[0] < size[1] <= width
        assert size[1] - size[0] > 300
        over = "document.querySelector('#written .u-over').getBoundingClientRect()"
        page.evaluate("document.querySelector('#written').scrollIntoView({block: 'center'})")
        x, y = page.evaluate(f"(r => [r.right - 4, r.y + r.height / 2])({over})")
        page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        (day, model, lines), *_ = table(page, "written")
        eventually(lambda: page.text("#written .readout") == f"{day}: {model} {lines} lines")
        page.call("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
        eventually(lambda: page.text("#written .readout") == first)
        drawn = "document.querySelector('#written canvas').toDataURL()"
        light = page.evaluate(drawn)
        page.choose("#theme", "dark")
        eventually(lambda: page.evaluate(drawn) != light)
        page.choose("#theme", "")
        assert is_quiet(page)


def test_the_plotting_library_is_the_published_one() -> None:
    """Byte for byte what npm has, with its licence."""
    package = npm_install(ROOT / ".tools" / "uplot", "uplot", "1.6.32") / "uplot"
    own = ROOT / "agent_trace_sidecar" / "report" / "assets" / "uplot"
    theirs = {
        "uPlot.iife.min.js": "dist/uPlot.iife.min.js",
        "uPlot.min.css": "dist/uPlot.min.css",
        "LICENSE": "LICENSE",
    }
    assert {one.name for one in own.iterdir()} == theirs.keys()
    for name, path in theirs.items():
        assert (own / name).read_bytes() == (package / path).read_bytes(), name


def test_the_page_of_a_span_is_accessible(browser: Browser, since: Path) -> None:
    """As far as axe-core knows."""
    looked_at(browser, since)


# -- the command -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ((), 2, "choose what to show"),
        (("--session", "x", "--since", "30d"), 2, "choose what to show"),
        (("--since", "soon"), 2, "neither an age nor a time"),
        (("--session", "x", "--rev", "HEAD"), 2, "require --repo without --since"),
        (("--repo", ".", "--output", "."), 2, "is a folder"),
        (("--session", "ses_none"), 1, "no recorded session has 'ses_none' in its id"),
        (("--repo", "nowhere"), 1, "nowhere is not a folder."),
        (("--repo", ".", "--rev", "no-such"), 1, "unknown revision 'no-such'."),
        (("--repo", ".", "--path", "no/such"), 1, "no files in"),
        (("--repo", ".", "--output", "no/such/folder.html"), 1, "can't be written: No such file or directory."),
    ],
)
def test_what_can_not_be_shown_is_said(shown: Showcase, options: tuple[str, ...], code: int, said: str) -> None:
    """In one sentence."""
    done = shown.command("report", *options)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_revision_is_shown_as_it_was(shown: Showcase, browser: Browser, tmp_path: Path) -> None:
    """Before the AI had done anything nothing is the AI's; files are read by one git."""
    shown.oc.git(shown.project, "add", "-A")
    shown.oc.git(shown.project, "commit", "-qm", "Discounts")
    with browser.open(reported(shown, "--repo", ".", "--rev", "HEAD", "--output", str(tmp_path / "now.html"))) as page:
        assert page.evaluate("data.files.map(f => f.path)") == ["made.py", "shop/prices.py", "tests/test_prices.py"]
        assert page.evaluate("rows.length") == len((shown.project / "shop" / "prices.py").read_text().splitlines())
    with browser.open(
        reported(shown, "--repo", ".", "--rev", "HEAD~1", "--output", str(tmp_path / "then.html"))
    ) as page:
        assert page.evaluate("data.files.filter(f => f.counts[0]).length") == 0


def test_a_reader_of_the_database_makes_pages(shown: Showcase, tmp_path: Path) -> None:
    """The role agent_trace_reader, with the rights of deploy/roles.sql, needs nothing more."""
    execute(shown.url, (ROOT / "deploy" / "roles.sql").read_text())
    url = shown.url.replace("agent_trace@", "agent_trace_reader@", 1)
    name = fetch(shown.url, "SELECT session_id FROM agent_trace_sessions LIMIT 1")[0]["session_id"]
    output = ("--output", str(tmp_path / "x.html"))
    for options in (
        ("--repo", ".", *output),
        ("--since", "1w", *output),
        ("--session", name, *output),
        ("--site", str(tmp_path / "site")),
    ):
        words = [sys.executable, "-m", "agent_trace_sidecar", "report", *options]
        env = {**shown.env, "AGENT_TRACE_DATABASE_URL": url}
        done = subprocess.run(words, cwd=shown.project, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
