"""A repository for hand tools: files as they are or were, and its identity. Runs git, so not for recording.

Content is read through git's own plumbing, without its filters, text conversion or the user's external programs.
"""

import ast
import hashlib
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from agent_trace_sidecar.limits import processes
from agent_trace_sidecar.limits.files import NotRegularError, TooLargeError, read_small, read_whole
from agent_trace_sidecar.workspace.git import SAFE
from agent_trace_sidecar.workspace.revision import common_dir

MAX_FILE_BYTES: Final = 64 * 1024 * 1024
_TIMEOUT_S: Final = 30
_MAX_OUTPUT_BYTES: Final = 256 * 1024 * 1024
"""Of the names of all files, or of one file's content."""
_NOTHING_TO_RUN: Final = tuple(
    word
    for setting in ("core.fsmonitor=false", "core.hooksPath=/dev/null", "core.sshCommand=false", "credential.helper=")
    for word in ("-c", setting)
)


_MAX_NAMES: Final = 8
"""Former names of a file."""
NOTES_REF: Final = "refs/notes/agent-trace"
_BLAMED: Final = re.compile(rb"([0-9a-f]{40,64}) (\d+) \d+")


_ESCAPED: Final = {ord(char): f"\\{name}" for char, name in zip('\a\b\t\n\v\f\r"\\', 'abtnvfr"\\', strict=True)}


class CheckoutError(Exception):
    """A file or revision can't be had; the text is a sentence."""


class _GitError(CheckoutError):
    """Git does not know the requested object."""


class Origin(NamedTuple):
    """Where a line was added: the commit, and the file and line in it."""

    commit: str
    path: str
    line: int


class Checkout(NamedTuple):
    """A worktree, or where there is no repository the folder of the file."""

    root: Path
    is_git: bool

    @property
    def checkout(self) -> "Checkout":
        """Itself, as `ManyFiles` has it."""
        return self

    def relative(self, file: Path) -> str:
        """The file's path from the root, with forward slashes."""
        return file.relative_to(self.root).as_posix()

    def projects(self) -> list[str]:
        """What recorded files of this repository may be filed under, see `rows.FileStateRow.project`.

        First commits that were amended or rebased are among it, as long as git's reflog has them.

        Raises:
            CheckoutError: the repository can't be read.
        """
        places = [str(self.root), _id_without_git(self.root)]
        if not self.is_git:
            return places
        kept = self._shared("opencode")
        if kept and kept != "global":
            return [kept, *places]
        roots = self._git("rev-list", "--max-parents=0", "--all", "--reflog").decode(errors="replace").split()
        return [*sorted(roots), *places]

    @property
    def is_shallow(self) -> bool:
        """Whether the history is cut off, so that the first commit is not known; raises CheckoutError as `projects`."""
        return self.is_git and bool(self._shared("shallow"))

    def _shared(self, name: str) -> str:
        """The beginning of a file that all worktrees of the repository share; empty where there is none."""
        try:
            folder = common_dir(self.root)
            return read_small(folder / name) if folder else ""
        except OSError as exc:
            raise CheckoutError(f"{exc.filename or self.root} can't be read: {exc.strerror or exc}.") from None

    def content(self, path: str, revision: str | None) -> bytes | None:
        """A file's bytes at a revision, in the worktree without one; None where there is no such file inside of it.

        Raises:
            CheckoutError: it can't be read.
        """
        if revision is not None:
            return self._blob(f"{revision}:{path}", path)
        file = (self.root / path).resolve()
        if not file.is_relative_to(self.root):
            return None
        try:
            return read_whole(file, MAX_FILE_BYTES, follow_links=False).data
        except (FileNotFoundError, NotADirectoryError, NotRegularError):
            return None
        except TooLargeError:
            raise _too_large(path) from None
        except OSError as exc:
            raise CheckoutError(f"{path} can't be read: {exc.strerror or exc}.") from None

    def _blob(self, name: str, path: str) -> bytes | None:
        try:
            size = int(self._git("cat-file", "-s", name))
            if size > MAX_FILE_BYTES:
                raise _too_large(path)
            return self._git("cat-file", "blob", name)
        except _GitError:
            return None

    def commit(self, revision: str) -> str:
        """The full hash of what the user calls a revision.

        Raises:
            CheckoutError: there is none of this name.
        """
        if self.is_git:
            try:
                return (
                    self._git("rev-parse", "--verify", "--quiet", "--end-of-options", revision + "^{commit}")
                    .decode()
                    .strip()
                )
            except CheckoutError:
                pass
        raise CheckoutError(f"unknown revision {revision!r}.")

    def commits(self, wanted: str) -> list[str]:
        """All commits of a range such as `A..B`, and of its first end: changes are recorded at the commit before.

        Raises:
            CheckoutError: git knows no such range.
        """
        try:
            return self._git("rev-list", "--boundary", "--end-of-options", wanted).decode().replace("-", "").split()
        except CheckoutError:
            raise CheckoutError(
                f"{wanted!r} is not a range of revisions of this repository, e.g. main..topic."
            ) from None

    def ends(self, wanted: str) -> tuple[str, str]:
        """The two commits that `git diff` compares: of `A..B` A and B, of `A...B` their merge base and B.

        Raises:
            CheckoutError: it is not a range of this repository.
        """
        if not self.is_git:
            raise CheckoutError(f"{self.root} is not in a git repository.")
        first, dots, last = wanted.partition("...") if "..." in wanted else wanted.partition("..")
        if not dots or not (first or last):
            raise CheckoutError(f"{wanted!r} is not a range of revisions: give A..B or A...B, e.g. main...topic.")
        deeper = " This clone is shallow: fetch more of its history." if self.is_shallow else ""
        try:
            start, end = self.commit(first or "HEAD"), self.commit(last or "HEAD")
        except CheckoutError as exc:
            raise CheckoutError(f"{exc}{deeper}") from None
        if dots == "...":
            try:
                start = self._git("merge-base", start, end).decode().split()[0]
            except (CheckoutError, IndexError):
                raise CheckoutError(f"{first or 'HEAD'} and {last or 'HEAD'} have no merge base.{deeper}") from None
        return start, end

    def diff(self, base: str, head: str) -> tuple[bytes, bytes]:
        """The changes between two commits: as `git diff --raw -z` has them, and as a patch without context.

        Raises:
            CheckoutError: git can't compare them.
        """
        options = ("--no-ext-diff", "--no-textconv", "--no-color", "--no-relative", "--find-renames", "--full-index")
        patch = ("--patch", "--unified=0", "--inter-hunk-context=0", "--submodule=short")
        command = ("diff", *options)
        return self._git(*command, "--raw", "-z", base, head, "--"), self._git(*command, *patch, base, head, "--")

    def commits_between(self, base: str, head: str) -> list[str]:
        """The commits after one up to another, the newest first, without merges.

        Raises:
            CheckoutError: git does not know them.
        """
        return self._git("rev-list", "--no-merges", "--end-of-options", f"{base}..{head}").decode().split()

    def parent(self, commit: str) -> str:
        """The first parent of a commit; of the first commit the empty tree."""
        try:
            return self.commit(f"{commit}^")
        except CheckoutError:
            return self._git("hash-object", "-t", "tree", "--stdin").decode().strip()

    def origins(self, path: str, base: str, head: str) -> list[Origin]:
        """The commit after `base` that each line of a file at `head` is from, by `git blame`.

        Raises:
            CheckoutError: git fails.
        """
        options = ("--porcelain", "--no-textconv", "--ignore-revs-file=")
        return _origins(self._git("blame", *options, f"{base}..{head}", "--", path))

    def notes(self) -> dict[str, str]:
        """The commits that have a note of ours, each with the id of the note."""
        try:
            listing = self._git("notes", f"--ref={NOTES_REF}", "list").decode().split("\n")
        except CheckoutError:
            return {}
        return {commit: note for note, _, commit in (line.partition(" ") for line in listing) if commit}

    def note(self, note: str) -> bytes:
        """A note's text by its id; empty where it is too large.

        Raises:
            CheckoutError: there is none.
        """
        return self._blob(note, "a note") or b""

    def write_note(self, commit: str, text: bytes) -> None:
        """Put a note of ours in the place of the one that a commit has.

        Raises:
            CheckoutError: git can't write it.
        """
        try:
            self._git("notes", f"--ref={NOTES_REF}", "add", "--force", "--file=-", commit, given=text)
        except _GitError:
            raise CheckoutError("git can't write a note: set user.name and user.email with `git config`.") from None

    def keep_notes(self) -> None:
        """Make git copy our notes when it rewrites commits (rebase, amend), by `notes.rewriteRef`.

        Raises:
            CheckoutError: the repository's configuration can't be written.
        """
        kept = self._git("config", "--get-all", "notes.rewriteRef", fine=(0, 1)).decode().split()
        if NOTES_REF not in kept:
            self._git("config", "--add", "notes.rewriteRef", NOTES_REF)

    def merge_notes(self, ref: str) -> None:
        """Take in notes of another ref; ours win where both have one of a commit.

        Raises:
            CheckoutError: git can't merge them.
        """
        self._git("notes", f"--ref={NOTES_REF}", "merge", "--strategy=ours", ref)

    def commits_after(self, revision: str, path: str) -> list[str]:
        """The commits after a revision that changed a file, the first of them first.

        Raises:
            CheckoutError: git does not know the revision.
        """
        listing = ("rev-list", "--reverse", "--topo-order", f"{self.commit(revision)}..HEAD", "--", path)
        return self._git(*listing).decode().split()

    def changed_since(self, at_s: float) -> list[str]:
        """The paths of all files that were committed since a time, and of those that differ from the last commit.

        Raises:
            CheckoutError: git fails.
        """
        if not self.has("HEAD"):
            return []
        names = self._git("log", _since(at_s), "--format=", "--name-only", "-z", "--no-renames")
        names += self._git("diff", "--name-only", "-z", "--no-relative", "--no-renames", "HEAD")
        return sorted({name for name in names.decode(errors="surrogateescape").split("\0") if name})

    def added_since(self, at_s: float, paths: Sequence[str]) -> dict[str, list[bytes]]:
        """The lines that commits since a time, or none yet, have added to some files; quoted where git quotes a path.

        Raises:
            CheckoutError: git fails.
        """
        form = ("--patch", "--unified=0", "--no-color", "--src-prefix=a/", "--dst-prefix=b/", "--no-relative")
        plainly = ("--no-ext-diff", "--no-textconv", "--no-renames")
        patch = self._git("log", _since(at_s), "--format=", *form, *plainly, "--", *paths)
        return _added(patch + self._git("diff", *form, *plainly, "HEAD", "--", *paths))

    def commit_time(self, revision: str) -> int | None:
        """When a revision was committed, in seconds since the epoch; None where there is no such revision."""
        try:
            return int(self._git("show", "-s", "--format=%ct", self.commit(revision), "--").split()[-1])
        except (CheckoutError, ValueError, IndexError):
            return None

    def commit_before(self, at_s: float) -> str | None:
        """The last commit that HEAD had at a time, None where it had none."""
        try:
            found = self._git("rev-list", "-1", f"--before={int(at_s)}", "HEAD").decode().strip()
        except CheckoutError:
            return None
        return found or None

    def blamed(self, path: str, revision: str | None, contents: bytes | None) -> bytes:
        """The output of `git blame --porcelain` for a file.

        Raises:
            CheckoutError: git has no blame of it.
        """
        where = (self.commit(revision),) if revision else ()
        given = ("--contents", "-") if contents is not None else ()
        return self._git("blame", "--porcelain", *given, *where, "--", path, given=contents or b"")

    def former_names(self, path: str, revision: str | None) -> list[str]:
        """What a file was called before it was renamed, the last name first; nothing where git can't tell."""
        if not self.is_git:
            return []
        changes = ("--name-status", "-z", "--diff-filter=R", "--find-renames")
        names = [path]
        try:
            fresh = b"" if revision else self._git("diff", *changes, "HEAD")
            fields = fresh.decode(errors="surrogateescape").split("\0")
            names += [old for _, old, new in zip(*[iter(fields)] * 3, strict=False) if new == path]
            followed = self._git("log", "--follow", "--format=", *changes, revision or "HEAD", "--", names[-1])
        except CheckoutError:
            return names[1:]
        fields = followed.decode(errors="surrogateescape").split("\0")
        return [*names[1:], *(old for _, old, _ in zip(*[iter(fields)] * 3, strict=False))][:_MAX_NAMES]

    def has(self, revision: str) -> bool:
        """Whether git has this commit."""
        try:
            return bool(self.commit(revision))
        except CheckoutError:
            return False

    def search(self, texts: Sequence[bytes], revision: str | None, but: str) -> dict[str, list[bytes]] | None:
        """The lines of all files that hold one of some texts, by path; None where git fails.

        Args:
            texts: lines; blanks at their ends don't matter.
            revision: where to search; the files as they stand without one.
            but: a file that is left out.
        """
        wanted = b"".join({text.strip() + b"\n" for text in texts if text.strip()})
        if not wanted:
            return {}
        where = (revision,) if revision else ()
        options = ("-I", "-F", "-z", "--full-name", "--no-line-number", "--no-column", "--no-color", "-f", "-")
        untracked = () if revision else ("--untracked",)
        try:
            output = self._git("grep", *untracked, *options, *where, given=wanted, fine=(0, 1))
        except CheckoutError:
            return None
        found: dict[str, list[bytes]] = {}
        for line in output.split(b"\n"):
            name, separator, text = line.partition(b"\0")
            if separator:
                path = name.decode(errors="replace").removeprefix(f"{revision}:" if revision else "")
                found.setdefault(path, []).append(text)
        found.pop(but, None)  # not by a pathspec: all of them are taken literally
        return found

    def files(self, revision: str | None) -> list[str]:
        """The paths of all files at a revision; of the worktree without one, but for those that git ignores."""
        here = ("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate")
        listing = ("ls-tree", "-r", "-z", "--name-only", "--full-tree", revision) if revision else here
        return [name for name in self._git(*listing).decode(errors="replace").split("\0") if name]

    def _git(self, *arguments: str, given: bytes = b"", fine: Sequence[int] = (0,)) -> bytes:
        try:
            done = run_git(self.root, *arguments, given=given)
        except processes.ProcessError as exc:
            raise CheckoutError(f"git {arguments[0]} {exc}.") from None
        if done.code not in fine:
            raise _GitError(f"git {arguments[0]} failed in {self.root}: `git status` shows there what is wrong.")
        return done.output


def _id_without_git(folder: Path) -> str:
    """What OpenCode 2 calls a folder without a repository, and what it recorded there before there was one."""
    return hashlib.sha1(b"directory:" + os.fsencode(folder), usedforsecurity=False).hexdigest()


class ManyFiles:
    """The contents of many files of a checkout at one revision, by one git; use it as a context."""

    def __init__(self, checkout: Checkout, revision: str | None) -> None:
        self.root = checkout.root
        self.checkout, self.revision = checkout, revision
        self._git: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def content(self, path: str, revision: str | None) -> bytes | None:
        """See `Checkout.content`.

        Raises:
            CheckoutError: it can't be read.
        """
        if revision is None or revision != self.revision or "\n" in path:
            return self.checkout.content(path, revision)
        git = self._git = self._git or self._started()
        assert git.stdin is not None  # noqa: S101 - opened below
        assert git.stdout is not None  # noqa: S101 - as above
        try:
            git.stdin.write(f"{revision}:{path}\n".encode(errors="surrogateescape"))
            git.stdin.flush()
            head = git.stdout.readline().split()
            if len(head) != 3 or not head[2].isdigit():  # noqa: PLR2004 - id, type, size; else `NAME missing`
                return None
            if int(head[2]) > MAX_FILE_BYTES:
                self._end()  # sooner than reading what it has begun to write
                raise _too_large(path)
            data = git.stdout.read(int(head[2]) + 1)[:-1]
        except OSError:
            raise CheckoutError("git cat-file has ended.") from None
        return data if head[1] == b"blob" else None

    def _end(self) -> None:
        if self._git is not None:
            self._git.kill()  # it holds nothing that it would have to write
            self._git.communicate()
            self._git = None

    def _started(self) -> "subprocess.Popen[bytes]":
        try:
            return processes.piped(_git_command("cat-file", "--batch"), cwd=self.root, env=_git_environment())
        except processes.ProcessError as exc:
            raise CheckoutError(f"git cat-file {exc}.") from None


def _origins(porcelain: bytes) -> list[Origin]:
    """The lines of `git blame --porcelain`: a header for each, a commit's facts once, and the text after a tab."""
    found: list[Origin] = []
    paths: dict[str, str] = {}
    commit, line = "", 0
    for text in porcelain.split(b"\n"):
        if text.startswith(b"\t"):
            found.append(Origin(commit, paths.get(commit, ""), line))
        elif header := _BLAMED.match(text):
            commit, line = header[1].decode(), int(header[2])
        elif text.startswith(b"filename "):
            paths[commit] = _unquoted(text.removeprefix(b"filename "))
    return found


def _unquoted(name: bytes) -> str:
    """A path as git prints it: with a special character in it, it is quoted like a text in C."""
    if name.startswith(b'"'):
        name = ast.literal_eval("b" + name.decode("ascii", errors="replace"))
    return name.decode(errors="surrogateescape")


def quoted(path: str) -> str:
    """A path as git prints it, see `_unquoted`."""
    raw = path.encode(errors="surrogateescape")
    text = "".join(_ESCAPED.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}") for byte in raw)  # noqa: PLR2004 - ASCII
    return path if text == path else f'"{text}"'


def _too_large(path: str) -> CheckoutError:
    return CheckoutError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB.")


def _added(patch: bytes) -> dict[str, list[bytes]]:
    """The lines that a patch without context adds, by path."""
    added: dict[str, list[bytes]] = {}
    path, is_head = "", False
    for line in patch.split(b"\n"):
        if line.startswith((b"diff ", b"@@ ")):
            is_head = line.startswith(b"diff ")
        elif is_head and line.startswith(b"+++ "):
            path = os.fsdecode(line.removeprefix(b"+++ ").removeprefix(b"b/").removesuffix(b"\t"))
        elif not is_head and line.startswith(b"+"):
            added.setdefault(path, []).append(line[1:])
    return added


def _since(at_s: float) -> str:
    return f"--since=@{max(0, int(at_s))} +0000"


def run_git(root: Path, *arguments: str, given: bytes = b"", timeout_s: float = _TIMEOUT_S) -> processes.Finished:
    """Run git in a folder, see `processes.run`. Raises ProcessError."""
    return processes.run(
        _git_command(*arguments),
        cwd=root,
        env=_git_environment(),
        given=given,
        timeout_s=timeout_s,
        max_bytes=_MAX_OUTPUT_BYTES,
    )


def _git_command(*arguments: str) -> list[str]:
    """Git with the user's own settings, and without what a repository's could make it run."""
    git = processes.find("git")
    if git is None:
        raise CheckoutError("git is not on PATH.")
    return [git, "--no-pager", "--literal-pathspecs", *_NOTHING_TO_RUN, *arguments]


def _git_environment() -> dict[str, str]:
    """What git may know, see `SAFE`."""
    return {**processes.environment(), **SAFE}


def checkout_of(file: Path) -> Checkout:
    """The worktree that a file belongs to; the file itself need not exist."""
    for folder in file.parents:
        if (folder / ".git").exists():
            return Checkout(folder, is_git=True)
    return Checkout(file.parent, is_git=False)
