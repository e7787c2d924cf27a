"""AGENT_TRACE_REPOSITORIES: the same cases as the shim's tests, and what only a disk can say."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent_trace_sidecar.workspace.repository_rules import PatternError, RepositoryRules
from tests.support.envelopes import DATA

CASES: list[dict[str, Any]] = json.loads((DATA / "repository_rules.json").read_text())["cases"]


def configure(root: Path, remotes: dict[str, str]) -> None:
    """Write what git keeps of remotes."""
    (root / ".git").mkdir(parents=True)
    text = "".join(f'[remote "{name}"]\n\turl = {url}\n\tfetch = +refs/heads/*\n' for name, url in remotes.items())
    (root / ".git" / "config").write_text(f'[core]\n\tbare = false\n{text}[branch "main"]\n\tremote = origin\n')


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['patterns']} {case.get('path')} {case.get('remotes')}")
def test_the_cases_that_the_shim_has_too(case: dict[str, Any], tmp_path: Path) -> None:
    """Paths, URLs, wildcards, denials, and errors."""
    if "error" in case:
        with pytest.raises(PatternError) as caught:
            RepositoryRules(case["patterns"], home="/home/anna")
        assert case["error"] in str(caught.value)
        return
    rules = RepositoryRules(case["patterns"], home="/home/anna")
    place = case["path"]
    if "remotes" in case:  # a real folder, to which the case's path leads
        configure(tmp_path / "w", case["remotes"])
        rules = RepositoryRules(case["patterns"].replace("!/w", f"!{tmp_path}/w"), home="/home/anna")
        place = str(tmp_path / "w")
    assert rules.denies(place, place) is not case["recorded"]


def test_a_link_is_followed_in_patterns_and_in_places(tmp_path: Path) -> None:
    """Whichever of both names the link."""
    real, link = tmp_path / "real", tmp_path / "link"
    (real / "shop").mkdir(parents=True)
    link.symlink_to(real)
    for pattern in (real, link):
        for place in (real, link):
            rules = RepositoryRules(f"!{pattern}/s*")
            assert rules.denies(f"{place}/shop", "/"), (pattern, place)
            assert not rules.denies(str(place), "/")


def test_a_linked_worktree_and_a_submodule_have_the_remotes_of_their_repository(tmp_path: Path) -> None:
    """`.git` is a file there; a folder below the root will do."""
    configure(tmp_path / "main", {"origin": "https://example.com/secret"})
    own = tmp_path / "main" / ".git" / "worktrees" / "second"
    own.mkdir(parents=True)
    (own / "commondir").write_text("../..\n")
    (tmp_path / "second" / "below").mkdir(parents=True)
    (tmp_path / "second" / ".git").write_text(f"gitdir: {own}\n")
    assert RepositoryRules("!example.com/secret").denies(str(tmp_path / "second" / "below"), "/")


def test_what_cannot_be_read_is_denied_where_a_url_matters(tmp_path: Path) -> None:
    """It may name what is denied; a path says enough by itself."""
    (tmp_path / ".git" / "config").mkdir(parents=True)
    assert RepositoryRules("!example.com/secret").denies(str(tmp_path), str(tmp_path))
    assert not RepositoryRules("!/elsewhere").denies(str(tmp_path), str(tmp_path))


def test_remotes_of_worktrees_that_may_not_be_read_are_not_known(tmp_path: Path) -> None:
    """A log names any folder it likes."""
    configure(tmp_path / "w", {"origin": "https://example.com/secret"})
    rules = RepositoryRules("!example.com/secret", allows=lambda _: False)
    assert not rules.denies(str(tmp_path / "w"), None)


@pytest.mark.parametrize(
    ("line", "denied"),
    [
        (b'{"v":1,"directory":"/secret/x","worktree":"/","input":{}}', True),
        (b'{"v":1,"directory":"/open","worktree":"/secret","input":{}}', True),
        (b'{"v":1,"directory":"/open","worktree":"/open","input":{"directory":"/secret"}}', False),
        (b'{"v":1,"\\u0064irectory":"/secret","input":{}}', True),
        (b'{"v":1,"directory":"/secr\\u0065t","worktree":"/","input":{"cut o', True),
        (b'{"v":1,"directory":7,"worktree":"/secret"', True),
        (b'{"v":1,"directory":null}', False),
        (b"no event", False),
        (b"\xff", False),
    ],
)
def test_a_line_is_judged_by_its_folders_also_where_it_is_cut(line: bytes, denied: bool) -> None:
    """Its contents say nothing about it."""
    assert RepositoryRules("!/secret").denies_line(line) is denied


def test_with_an_allowing_pattern_a_line_of_nowhere_is_denied() -> None:
    """What is not known is not among what is wanted."""
    assert RepositoryRules("/web").denies_line(b"no event")


def test_a_directory_is_read_once(tmp_path: Path) -> None:
    """Also when its remotes change: what a session is does not change while it runs."""
    configure(tmp_path / "w", {"origin": "https://example.com/open"})
    rules = RepositoryRules("!example.com/secret")
    assert not rules.denies(str(tmp_path / "w"), None)
    (tmp_path / "w" / ".git" / "config").unlink()
    assert not rules.denies(str(tmp_path / "w"), None)
