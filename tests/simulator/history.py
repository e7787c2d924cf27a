"""What a person does to history with git; the working tree is the same before and after, but for what comes in."""

from collections.abc import Callable
from typing import Final

from tests.simulator.lines import HUMAN, Doc
from tests.simulator.person import typed
from tests.simulator.world import World


def commit(world: World) -> str:
    """Commit everything."""
    _commit(world)
    return "commit"


def amend(world: World) -> str:
    """Put everything into the last commit."""
    world.git("add", "-A")
    world.git("commit", "-q", "--amend", "--allow-empty", "-m", "Amended")
    world.committed()
    return "amend"


def squash(world: World) -> str:
    """Make one commit of the last two or three."""
    _commit(world)
    count = min(world.rng.randint(2, 3), _commits(world) - 1)
    world.git("reset", "-q", "--soft", f"HEAD~{count}")
    world.git("commit", "-q", "--allow-empty", "-m", "Squashed")
    return f"squash {count}"


def stash(world: World) -> str:
    """Stash everything and take it back."""
    if not world.git("status", "--porcelain").strip():
        return "stash nothing"
    world.git("add", "-A")
    world.git("stash", "push", "-q", "--include-untracked")
    world.git("stash", "pop", "-q")
    return "stash"


def rebase(world: World) -> str:
    """Put the last commit on top of what another person has done since the one before."""
    return _join(world, "rebase", lambda: world.git("rebase", "-q", "side", check=False))


def merge(world: World) -> str:
    """Merge another person's branch."""
    return _join(world, "merge", lambda: world.git("merge", "-q", "--no-edit", "side", check=False))


def cherry_pick(world: World) -> str:
    """Pick the commit of another branch."""
    return _join(world, "cherry-pick", lambda: world.git("cherry-pick", "side", check=False))


def branch_and_back(world: World) -> str:
    """Commit, look at an old state, and come back."""
    _commit(world)
    world.git("checkout", "-q", "HEAD~1")
    world.git("checkout", "-q", "main")
    return "branch and back"


def discard(world: World) -> str:
    """Throw away what was done to a file since the last commit."""
    changed = world.changed()
    if not changed:
        return "discard nothing"
    path = world.rng.choice(changed)
    world.restored(path)
    world.git("checkout", "--", path)
    return f"discard {path}"


def _join(world: World, name: str, join: Callable[[], str]) -> str:
    """Let another person type lines into one file at the commit before the last, then join the two histories."""
    _commit(world)
    world.git("checkout", "-q", "-B", "side", "HEAD~1")
    before = world.on_disk()
    candidates = [path for path, doc in world.docs.items() if before.get(path) == doc.encoded() and len(doc.lines) > 8]
    path = world.rng.choice(sorted(candidates)) if candidates else None
    if path:
        doc = world.docs[path]
        lines = list(doc.lines)
        at = world.rng.randrange(len(lines))
        lines[at:at] = typed(world, 1, 6)
        world.put(path, lines, HUMAN)
        world.write(path)
    else:
        (world.root / "lib").mkdir(exist_ok=True)
        path = world.name()
        world.docs[path] = Doc(tuple(typed(world, 3, 9)))
        world.write(path)
    _commit(world)
    world.git("checkout", "-q", "main")
    join()
    world.committed()
    world.git("branch", "-q", "-D", "side")
    return f"{name} of {path}"


def _commit(world: World) -> None:
    world.git("add", "-A")
    world.git("commit", "-q", "--allow-empty", "-m", "Work")
    world.committed()


def _commits(world: World) -> int:
    return int(world.git("rev-list", "--first-parent", "--count", "HEAD"))


OPERATIONS: Final[dict[Callable[[World], str], int]] = {
    commit: 6,
    amend: 2,
    squash: 2,
    stash: 1,
    discard: 1,
    rebase: 2,
    merge: 1,
    cherry_pick: 1,
    branch_and_back: 1,
}
"""With how often each is done among them."""
