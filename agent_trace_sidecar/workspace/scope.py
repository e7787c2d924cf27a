"""Which worktrees may be read: an event can name any folder, and `tail` reads the events of others."""

import os
from collections.abc import Sequence
from pathlib import Path


def everywhere(_: Path) -> bool:
    """Every worktree: the events come from the OpenCode that started us."""
    return True


def own(root: Path) -> bool:
    """Those that belong to the user of this process."""
    try:
        return root.stat().st_uid == os.geteuid()
    except (OSError, ValueError):
        return False


class Below:
    """Those in some folders, or such a folder itself; links are followed first."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = [Path(os.path.realpath(folder)) for folder in folders]

    def __call__(self, root: Path) -> bool:
        """Whether a worktree is one of them."""
        try:
            real = Path(os.path.realpath(root))
        except (OSError, ValueError):
            return False
        return any(real.is_relative_to(folder) for folder in self._folders)
