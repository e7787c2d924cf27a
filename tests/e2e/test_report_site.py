"""The folder of pages of `report --site`: linked, updated where something changed, without what was erased."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.chromium import Browser
from tests.support.fake_model import Step
from tests.support.pages import is_quiet
from tests.support.postgres import PostgresServers, fetch
from tests.support.showcase import GPT, Showcase, showcase
from tests.support.waiting import eventually

LINK = re.compile(r'(?:href="|"href":")([^"#]+\.html)"')
ROOTS = "SELECT session_id FROM agent_trace_sessions WHERE parent_session_id IS NULL ORDER BY started_at"


@pytest.fixture(scope="module", name="shown")
def _shown(postgres_servers: PostgresServers) -> Iterator[Showcase]:
    """A repository with two recorded sessions, one of them with a subagent."""
    with postgres_servers.database(migrated=True) as url, showcase(url) as made:
        made.work()
        made.say("Count the stock.", "Counting", GPT, [Step([made.write("shop/stock.py", "count = 0\ntotal = 1\n")])])
        yield made


def updated(shown: Showcase, folder: Path, *options: str) -> tuple[int, int, int]:
    """Run the command; how many pages it made, left and removed, by its own account."""
    done = shown.command("report", "--site", str(folder), *options)
    assert done.returncode == 0, done.stderr
    made, unchanged, removed = re.findall(r"\b\d+(?= (?:pages? made|unchanged|removed))", done.stdout)
    return int(made), int(unchanged), int(removed)


def stamps(folder: Path) -> dict[str, int]:
    """When each file was written."""
    return {str(one.relative_to(folder)): one.stat().st_mtime_ns for one in folder.rglob("*") if one.is_file()}


def written(folder: Path, before: dict[str, int]) -> set[str]:
    """The folders, or the page at the top, with pages that are new or were written again."""
    return {Path(name).parts[0] for name, at in stamps(folder).items() if before.get(name) != at and name[0] != "."}


def linked(folder: Path) -> set[Path]:
    """The pages that the index leads to."""
    seen, waiting = set[Path](), [folder / "index.html"]
    while waiting:
        page = waiting.pop()
        if page not in seen:
            seen.add(page)
            waiting += [(page.parent / href).resolve() for href in LINK.findall(page.read_text())]
    return seen


def test_every_page_is_reached_from_the_index_and_a_second_run_writes_nothing(shown: Showcase, tmp_path: Path) -> None:
    """Pages are their owner's only."""
    site = tmp_path / "site"
    assert updated(shown, site) == (2 + 1 + 3 + 1, 0, 0)
    assert linked(site) == set(site.rglob("*.html"))
    assert {path.stat().st_mode & 0o777 for path in site.rglob("*") if path.is_file()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (site, *site.rglob("*")) if path.is_dir()} == {0o700}
    before = stamps(site)
    assert updated(shown, site) == (0, 7, 0)
    assert stamps(site) == before


def test_a_site_inside_its_repository_does_not_change_it(shown: Showcase) -> None:
    """Neither for git nor for the next run."""
    site = shown.project / "pages"
    try:
        assert updated(shown, site) == (7, 0, 0)
        assert updated(shown, site) == (0, 7, 0)
        assert "pages/" not in shown.oc.git(shown.project, "status", "--porcelain")
    finally:
        shutil.rmtree(site)


def test_a_reader_goes_from_the_index_to_a_line_and_to_its_session(
    browser: Browser, shown: Showcase, tmp_path: Path
) -> None:
    """By links, and back to the index; single pages have none."""
    site = tmp_path / "site"
    updated(shown, site)
    with browser.open(site / "index.html") as page:
        head = dict(zip(page.texts(".top dt"), page.texts(".top dd"), strict=True))
        total = fetch(shown.url, "SELECT count(*) AS n, sum(ai_lines) AS lines FROM agent_trace_sessions")[0]
        assert (head["Sessions"], head["AI lines written"]) == (str(total["n"]), str(total["lines"]))
        assert page.texts("#periods tbody th") == ["Last 7 days", "Last 30 days", "Last 90 days"]
        assert page.texts("#sessions tbody th") == ["Counting", "Discounts for the price list"]
        page.choose("#search", "discounts")
        assert page.texts("#sessions tbody th") == ["Discounts for the price list"]
        assert page.text("#live") == "1 session shown"
        address = page.evaluate("document.querySelector('#repositories a').href")
        assert page.texts("#repositories tbody th") == ["git.example.com/shop"]
        page.load(address)
        page.evaluate("location.hash = '#shop/prices.py:42'")
        eventually(lambda: page.texts("#detail a") == ["Discounts for the price list"])
        page.load(page.evaluate("document.querySelector('#detail a').href"))
        assert page.text("h1") == "Discounts for the price list"
        assert page.texts(".top .mono a") == ["https://git.example.com/shop.git"]
        page.load(page.evaluate("document.querySelector('.site a').href"))
        assert page.text("h1") == "AI-written code"
        page.load(page.evaluate("document.querySelector('#periods a').href"))
        assert page.evaluate("document.querySelector('#repositories .name a').href") == address


def test_the_pages_of_a_site_are_accessible(browser: Browser, shown: Showcase, tmp_path: Path) -> None:
    """The index, and one of each kind with its links; in both themes, and on a phone without scrolling aside."""
    site = tmp_path / "site"
    updated(shown, site)
    for folder in ("", "sessions", "repositories", "periods"):
        file = next((site / folder).glob("*.html"))
        for dark in (False, True):
            with browser.open(file, dark=dark) as page:
                assert page.violations() == []
                page.resize(360, 740, phone=True)
                page.load(file.as_uri())
                assert page.violations() == []
                assert page.evaluate("document.documentElement.scrollWidth") == 360
                assert is_quiet(page)


def test_only_what_changed_is_made_anew(shown: Showcase, tmp_path: Path) -> None:
    """A person's edit is the repository's and the periods'; a page that somebody deleted is made again."""
    site = tmp_path / "site"
    updated(shown, site)
    before, prices = stamps(site), shown.project / "shop" / "prices.py"
    text = prices.read_text()
    try:
        prices.write_text(text + "# a person\n")
        assert updated(shown, site) == (4, 3, 0)
        assert written(site, before) == {"repositories", "periods"}
    finally:
        prices.write_text(text)
    updated(shown, site)
    gone = next((site / "sessions").iterdir())
    gone.unlink()
    before = stamps(site)
    assert updated(shown, site) == (1, 6, 0)
    assert written(site, before) == {"sessions"}
    assert gone.is_file()
    assert updated(shown, site, "--metadata-only") == (7, 0, 0)
    assert "Discounts for" not in "".join(one.read_text() for one in site.rglob("*.html"))


def test_pages_are_made_again_after_stored_rows_were_masked_again(shown: Showcase, tmp_path: Path) -> None:
    """What a page shows may have been masked only now."""
    site = tmp_path / "site"
    updated(shown, site)
    done = shown.command("redact", "--stored")
    assert done.returncode == 0, done.stderr
    before = stamps(site)
    updated(shown, site)
    assert written(site, before) >= {"sessions", "repositories", "periods"}


def test_what_is_erased_is_in_no_page(shown: Showcase, tmp_path: Path) -> None:
    """Its own page goes, and the others are made without it."""
    site = tmp_path / "site"
    title, prompt = "Something personal", "Say something personal."
    shown.say(prompt, title, GPT, [Step(text="It is done.")])
    updated(shown, site)
    (name,) = [one for one in (site / "sessions").iterdir() if title in one.read_text()]
    session = fetch(shown.url, ROOTS)[-1]["session_id"]
    assert session in name.name
    done = shown.command("prune", "--session", session, "--yes")
    assert done.returncode == 0, done.stderr
    _, _, removed = updated(shown, site)
    assert removed == 1
    assert not name.exists()
    rest = "".join(one.read_text() for one in site.rglob("*") if one.is_file())
    for text in (title, prompt, session):
        assert text not in rest
    assert linked(site) == set(site.rglob("*.html"))


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--site", "{folder}"), 2, "holds other files: name a new folder, or one that --site made before."),
        (("--site", "{folder}/notes.txt"), 1, "can't be"),
        (("--site", "x", "--since", "30d"), 2, "choose what to show"),
        (("--site", "x", "--output", "y.html"), 2, "leave out --output"),
        (("--site", "x", "--rev", "HEAD"), 2, "require --repo without --since and --site"),
    ],
)
def test_no_other_folder_is_written(
    shown: Showcase, tmp_path: Path, options: tuple[str, ...], code: int, said: str
) -> None:
    """In one sentence, before anything is touched."""
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    done = shown.command("report", *(one.format(folder=tmp_path) for one in options))
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == {"notes.txt": "mine"}


@pytest.mark.parametrize("name", ["../mine.html", "/mine.html", "sessions/../../mine.html", "notes.txt"])
def test_a_manifest_removes_nothing_but_pages(shown: Showcase, tmp_path: Path, name: str) -> None:
    """Whoever wrote it."""
    site, mine = tmp_path / "site", tmp_path / "mine.html"
    updated(shown, site)
    mine.write_text("mine")
    manifest = site / ".agent-trace-site.json"
    manifest.write_text(json.dumps({"pages": {name: "x"}}))
    done = shown.command("report", "--site", str(site))
    assert done.returncode == 1
    assert "is damaged: delete the folder" in done.stderr
    assert mine.read_text() == "mine"


def test_no_link_is_followed_out_of_the_folder(shown: Showcase, tmp_path: Path) -> None:
    """A folder of pages that became a link stops the command, and what it leads to stays as it is."""
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    updated(shown, site)
    (site / "sessions").rename(elsewhere)
    (site / "sessions").symlink_to(elsewhere)
    next(elsewhere.iterdir()).unlink()
    before = stamps(elsewhere)
    done = shown.command("report", "--site", str(site))
    assert done.returncode == 1
    assert "can't be written: sessions in it is a link, or not a folder." in done.stderr
    assert stamps(elsewhere) == before
    (site / "sessions").unlink()
    elsewhere.rename(site / "sessions")
    assert updated(shown, site) == (1, 6, 0), "the next run completes what was interrupted"
    assert linked(site) == set(site.rglob("*.html"))


def test_a_repository_that_is_gone_has_no_page_and_no_link(shown: Showcase, tmp_path: Path) -> None:
    """Its figures stay in the index, and those of its sessions too."""
    site = tmp_path / "site"
    updated(shown, site)
    elsewhere = shown.project.rename(shown.project.with_name("moved"))
    try:
        words = [sys.executable, "-m", "agent_trace_sidecar", "report", "--site", str(site)]
        done = subprocess.run(words, cwd=tmp_path, env=shown.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.rstrip().endswith("1 removed")
        assert not list((site / "repositories").iterdir())
        assert linked(site) == set(site.rglob("*.html"))
        assert "git.example.com/shop" in (site / "index.html").read_text()
    finally:
        elsewhere.rename(shown.project)
