"""Which changes of a module no test notices: python -m tests.benchmarks.mutants MODULE [--tests PATH...] [--number N].

Each mutant is one small change (a comparison, a constant, a call left out ...) in a copy of the tree, where the tests
run until one fails. A mutant that lives is a missing test, or a change without consequences: judge each. Processes that
the tests start see the mutant, but for those that OpenCode starts.
"""

import argparse
import ast
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.postgres import guarded_folder
from tests.support.waiting import completed

ROOT: Final = Path(__file__).resolve().parents[2]
_PACKAGE: Final = "agent_trace_sidecar"
_LINKED: Final = (".tools", ".venv")
_LEFT_OUT: Final = shutil.ignore_patterns(".git", *_LINKED, ".*_cache", "__pycache__", ".hypothesis")
_SLOWER: Final = 4
"""So many times longer than without a mutant may the tests take; one that never ends is noticed, too."""

_COMPARED: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_COMPUTED: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}


class Mutant(NamedTuple):
    """The bytes `start` to `end` of a module become `text`."""

    line: int
    start: int
    end: int
    before: str
    text: str


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a module."""
    starts = [0]
    for line in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for node in _mutable(ast.parse(source)):
        for changed, text in _changes(node):
            assert changed.end_lineno is not None
            assert changed.end_col_offset is not None
            start = starts[changed.lineno - 1] + changed.col_offset
            end = starts[changed.end_lineno - 1] + changed.end_col_offset
            yield Mutant(changed.lineno, start, end, ast.unparse(changed).splitlines()[0], text)


def _mutable(node: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    """What runs, but for assertions and what is in an f-string, whose parts have no place of their own."""
    if isinstance(node, ast.expr | ast.stmt):
        yield node
    if isinstance(node, ast.JoinedStr | ast.Assert):
        return
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns", "decorator_list"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _mutable(child)


def _changes(node: ast.expr | ast.stmt) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    """What is replaced at this node, and by what."""
    match node:
        case ast.If(ast.Name() | ast.Attribute() | ast.Call() as test) | ast.While(ast.Name() | ast.Call() as test):
            yield test, f"(not {ast.unparse(test)})"
        case ast.Return(ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield node, "return None"
        case ast.Expr(ast.Call() | ast.Await()) | ast.Raise() | ast.Delete():
            yield node, "pass"
        case ast.Continue():
            yield node, "break"
        case ast.Break():
            yield node, "continue"
        case ast.AugAssign(target, operator, value) if type(operator) in _COMPUTED:
            yield node, ast.unparse(ast.AugAssign(target, _COMPUTED[type(operator)](), value))
        case ast.Constant(bool(value)):
            yield node, str(not value)
        case ast.Constant(int(value)):
            yield node, str(value + 1)
        case ast.expr() if (other := _other(node)) is not None:
            yield node, f"({ast.unparse(other)})"


def _other(node: ast.expr) -> ast.expr | None:
    """An expression in place of another."""
    match node:
        case ast.Compare(left, [operator], [right]):
            return ast.Compare(left, [_COMPARED[type(operator)]()], [right])
        case ast.BoolOp(operator, values):
            return ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values)
        case ast.UnaryOp(ast.Not(), operand):
            return operand
        case ast.BinOp(left, operator, right) if type(operator) in _COMPUTED and not {left, right} & set(_texts(node)):
            return ast.BinOp(left, _COMPUTED[type(operator)](), right)
        case ast.IfExp(test, body, other):
            return ast.IfExp(test, other, body)
    return None


def _texts(node: ast.BinOp) -> Iterator[ast.expr]:
    """The sides that are texts: of them any other operator would make an error at once."""
    for side in (node.left, node.right):
        if isinstance(side, ast.JoinedStr) or (isinstance(side, ast.Constant) and isinstance(side.value, str | bytes)):
            yield side


class Trial:
    """A copy of the tree in which tests run."""

    def __init__(self, folder: Path, module: Path, tests: Sequence[str]) -> None:
        self.root = folder / "tree"
        shutil.copytree(ROOT, self.root, ignore=_LEFT_OUT, symlinks=True)
        for name in _LINKED:
            (self.root / name).symlink_to(ROOT / name)
        self._module, self._tests = self.root / module, tests
        self._source = self._module.read_bytes()
        self._deadline_s = 600.0
        began = time.monotonic()
        noticed = self._fails()
        if noticed:
            sys.exit(f"The tests fail without a mutant:\n{noticed}")
        self._deadline_s = _SLOWER * (time.monotonic() - began) + 10

    def is_noticed(self, mutant: Mutant) -> bool:
        """Whether a test fails, or does not end."""
        changed = self._source[: mutant.start] + mutant.text.encode() + self._source[mutant.end :]
        self._module.write_bytes(changed)
        try:
            return bool(self._fails())
        finally:
            self._module.write_bytes(self._source)

    def _fails(self) -> str:
        """What pytest says when a test fails, or nothing."""
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *self._tests]
        environment = os.environ | {"PYTHONPATH": str(self.root), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = completed(command, self._deadline_s, cwd=self.root, env=environment, start_new_session=True)
        except AssertionError as late:  # a loop without end; pytest's watchdog has ended what it has started
            return str(late)
        return done.stdout[-3000:] + done.stderr[-1000:] if done.returncode else ""


def main() -> int:
    """Try a sample of a module's mutants, and print those that live."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", type=Path, help=f"a file of {_PACKAGE}")
    parser.add_argument("--tests", nargs="+", metavar="PATH", help="default: those of the module's folder")
    parser.add_argument("--number", type=int, default=30, metavar="N", help="try so many, drawn at random (30)")
    parser.add_argument("--seed", type=int, default=1, help="draw others")
    given = parser.parse_args()
    module = given.module.resolve().relative_to(ROOT)
    tests = given.tests or [str(Path("tests", "unit", *module.parts[1:-1]))]
    every = list(mutants((ROOT / module).read_text(encoding="utf-8")))
    chosen = sorted(random.Random(given.seed).sample(every, min(given.number, len(every))))  # noqa: S311 - a sample
    alive = 0
    with guarded_folder() as folder:
        trial = Trial(folder, module, tests)
        for mutant in chosen:
            if not trial.is_noticed(mutant):
                alive += 1
                print(f"{module}:{mutant.line}: {mutant.before}\n  became {mutant.text}", flush=True)
    print(f"{len(chosen)} of {len(every)} mutants tried with {' '.join(tests)}: {alive} live")
    return 0


if __name__ == "__main__":
    sys.exit(main())
