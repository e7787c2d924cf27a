"""What we write goes to where it was meant: through no link that somebody laid, under no name that can be foreseen."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_trace_sidecar.commands.common import CommandError
from agent_trace_sidecar.commands.init import PLUGIN, init, remove
from agent_trace_sidecar.limits.files import (
    ForeignError,
    NotRegularError,
    private_folder,
    read_own,
    state_folder,
    write_whole,
)
from agent_trace_sidecar.redaction import kingfisher, rules
from agent_trace_sidecar.redaction.rules import Rule
from agent_trace_sidecar.spool.spool import Spool
from tests.support.envelopes import Shim
from tests.support.sidecar import ShimDouble, sidecar_env

NOBODY = 65534
as_root = pytest.mark.skipif("os.geteuid() != 0", reason="only root can give files to others")


def mode(path: Path) -> int:
    """Permission bits."""
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("link", [PLUGIN, PLUGIN.parent, PLUGIN.parent.parent])
@pytest.mark.parametrize("exists", [True, False])
def test_init_follows_no_link_of_the_project(tmp_path: Path, link: Path, exists: bool) -> None:
    """A clone may bring the plugin, its folder or `.opencode` as a link to anywhere."""
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    (project / link).parent.mkdir(parents=True)
    if exists:
        if link == PLUGIN:
            elsewhere.write_text("precious")
        else:
            elsewhere.mkdir()
    (project / link).symlink_to(elsewhere)
    with pytest.raises(CommandError, match=r"agent-trace-sidecar\.js can't be written: .*link"):
        init(project)
    if link == PLUGIN:
        assert elsewhere.read_text() == "precious" if exists else not elsewhere.exists()
    else:
        assert not exists or list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("link", [PLUGIN.parent, PLUGIN.parent.parent])
def test_removing_the_shim_follows_no_link_of_the_project(tmp_path: Path, link: Path) -> None:
    """A file of its name elsewhere is not the project's."""
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    target = elsewhere / PLUGIN.relative_to(link)
    target.parent.mkdir(parents=True)
    target.write_text("precious")
    (project / link).parent.mkdir(parents=True)
    (project / link).symlink_to(elsewhere)
    with pytest.raises(CommandError, match="link"):
        remove(project / PLUGIN, below=project)
    assert target.read_text() == "precious"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_init_replaces_nothing_but_a_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Nor does it wait for a pipe."""
    (tmp_path / PLUGIN).parent.mkdir(parents=True)
    make(tmp_path / PLUGIN)
    with pytest.raises(CommandError, match="not a regular file"):
        init(tmp_path)


def test_init_writes_and_updates_a_file_that_others_may_read(tmp_path: Path) -> None:
    """The project's own link to itself is the user's business: the folder that was named may be one."""
    (tmp_path / "project").mkdir()
    (tmp_path / "named").symlink_to(tmp_path / "project")
    old = os.umask(0o077)
    try:
        assert "written" in init(tmp_path / "named")[0]
    finally:
        os.umask(old)
    plugin = tmp_path / "project" / PLUGIN
    assert mode(plugin) == 0o644
    assert "up to date" in init(tmp_path / "project")[0]
    plugin.write_text("old")
    assert "updated" in init(tmp_path / "project")[0]
    assert [path.name for path in plugin.parent.iterdir()] == [plugin.name]


def test_a_draft_has_no_name_that_could_be_taken_and_a_link_is_replaced(tmp_path: Path) -> None:
    """A page goes beside a clone's links; where its own name is one, the link goes, and not what it leads to."""
    precious = tmp_path / "precious"
    precious.write_text("precious")
    target = tmp_path / "page.html"
    target.symlink_to(precious)
    for pid in range(os.getpid() - 5, os.getpid() + 5):
        (tmp_path / f".page.html.{pid}").symlink_to(precious)
    before = set(tmp_path.iterdir())
    old = os.umask(0)
    try:
        write_whole(target, b"page")
    finally:
        os.umask(old)
    assert precious.read_text() == "precious"
    assert (target.read_bytes(), mode(target), target.is_symlink()) == (b"page", 0o600, False)
    assert set(tmp_path.iterdir()) == before


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    """All of it or nothing, and no draft."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(NotRegularError):
        write_whole(tmp_path / "folder", b"x")
    with pytest.raises(OSError, match="No such file"):
        write_whole(tmp_path / "none" / "file", b"x")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotRegularError):
        write_whole(tmp_path / "pipe", b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "pipe"]


def test_a_report_is_readable_by_its_owner_alone(migrated_url: str, tmp_path: Path) -> None:
    """It holds code; whoever shall read it is for the user to say."""
    env = sidecar_env(tmp_path / "state", migrated_url)
    with ShimDouble(env) as shim:
        shim.send(1, Shim().event("session.idle", {"sessionID": "ses_1"}))
        assert shim.close() == 0
    command = [sys.executable, "-m", "agent_trace_sidecar", "report", "--since", "2026-01-01", "--output", "page.html"]
    old = os.umask(0)
    try:
        subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True)
    finally:
        os.umask(old)
    assert mode(tmp_path / "page.html") == 0o600


# -- our own folders -------------------------------------------------------------------------------------------


def test_whatever_the_umask_nobody_else_may_write_our_state(migrated_url: str, tmp_path: Path) -> None:
    """The state folder, the spool and all in them."""
    env = sidecar_env(tmp_path / "deep" / "state", migrated_url, redaction="on")
    command = ["/bin/sh", "-c", f"umask 000; exec {sys.executable} -m agent_trace_sidecar run"]
    with ShimDouble(env, command=command, log=tmp_path / "said") as shim:
        shim.send(1, Shim().event("session.idle", {"sessionID": "ses_1"}))
        assert shim.close() == 0
    found = [path for path in (tmp_path / "deep").rglob("*") if not path.is_symlink()]
    assert any(path.name.endswith(".jsonl") for path in found)
    assert [path for path in found if mode(path) & 0o022] == []
    assert mode(tmp_path / "deep" / "state" / "spool") == 0o700


def test_a_state_folder_that_others_may_write_is_closed_to_them(tmp_path: Path) -> None:
    """One that an earlier version left open is mended; a private folder is closed altogether."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    state_folder(tmp_path / "state")
    assert mode(tmp_path / "state") == 0o755
    private_folder(tmp_path / "state")
    assert mode(tmp_path / "state") == 0o700
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "state")
    for name in ("file", "link"):
        with pytest.raises(OSError, match="not a folder"):
            private_folder(tmp_path / name)


@as_root
def test_a_folder_of_another_user_is_not_used(tmp_path: Path) -> None:
    """Whoever owns it can exchange what is in it."""
    for make in (state_folder, private_folder):
        folder = tmp_path / make.__name__
        folder.mkdir()
        os.chown(folder, NOBODY, NOBODY)
        with pytest.raises(ForeignError, match="belongs to another user"):
            make(folder)


@as_root
def test_a_page_in_the_place_of_another_users_file_is_ours(tmp_path: Path) -> None:
    """Whoever made a file of its name beforehand may not read it."""
    (tmp_path / "page.html").write_text("theirs")
    os.chown(tmp_path / "page.html", NOBODY, NOBODY)
    write_whole(tmp_path / "page.html", b"page")
    status = (tmp_path / "page.html").stat()
    assert (status.st_uid, status.st_mode & 0o777) == (0, 0o600)


@as_root
def test_another_user_can_neither_read_nor_take_the_place_of_a_spool(tmp_path: Path) -> None:
    """Tried as that user, in a state folder that all may write, as a container's volume is."""
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o1777)
    spool = Spool(state / "spool" / "11111111-2222-4333-8444-555555555555.00000000")
    spool.close()
    tries = f"cat {spool.folder}/lock; touch {state}/spool/x; mv {state}/spool {state}/gone; ls {state}/spool"
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "/bin/sh", "-c", tries]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert done.stderr.count("ermission denied") + done.stderr.count("not permitted") == 4


# -- the cache of rules ----------------------------------------------------------------------------------------


@pytest.fixture(name="cached")
def _cached(tmp_path: Path) -> Path:
    """A cache of one exported rule."""
    kingfisher._keep(tmp_path, kingfisher._Cached(rules.known(), [Rule("a", "b", ("c",))]))
    assert kingfisher.load(tmp_path) == [Rule("a", "b", ("c",))]
    return kingfisher._cache_file(tmp_path)


@pytest.mark.parametrize("content", [b"[]", b"{}", b'{"known":{},"exported":[]}', b""])
def test_an_empty_set_of_rules_is_none(cached: Path, content: bytes) -> None:
    """What masks nothing is no cache: the rules are exported again."""
    write_whole(cached, content)
    assert kingfisher.load(cached.parent) is None


def test_a_cache_that_others_can_write_is_not_believed(cached: Path) -> None:
    """Nor one behind a link."""
    cached.chmod(0o666)
    assert kingfisher.load(cached.parent) is None
    with pytest.raises(ForeignError):
        read_own(cached, 1 << 30)
    cached.chmod(0o600)
    assert kingfisher.load(cached.parent) is not None
    cached.rename(cached.with_name("elsewhere"))
    cached.symlink_to(cached.with_name("elsewhere"))
    assert kingfisher.load(cached.parent) is None


@as_root
def test_a_cache_of_another_user_is_not_believed(cached: Path) -> None:
    """Whatever its mode."""
    os.chown(cached, NOBODY, NOBODY)
    assert kingfisher.load(cached.parent) is None
