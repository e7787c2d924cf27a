"""The changes that `make mutants` makes to a module."""

from tests.benchmarks.mutants import mutants

MODULE = '''
def first(items: list[int] = [], *, strict: bool = True) -> int | None:
    """The first that is large: 3 or more."""
    assert items
    for item in items:
        if item > 3 and not strict or items:
            return item
        if strict:
            print(f"{item + 1} ü", "a" + "b", item + 1)
            continue
    raise LookupError
'''
CHANGES = """
2 True -> False
6 item > 3 and (not strict) or items -> ((item > 3 and (not strict)) and items)
6 item > 3 and (not strict) -> (item > 3 or not strict)
6 item > 3 -> (item >= 3)
6 3 -> 4
6 not strict -> (strict)
7 return item -> return None
8 strict -> (not strict)
9 print(f'{item + 1} ü', 'a' + 'b', item + 1) -> pass
9 item + 1 -> (item - 1)
9 1 -> 2
10 continue -> break
11 raise LookupError -> pass
"""


def test_a_module_is_changed_where_it_does_something() -> None:
    """Not in its texts, annotations and assertions; every change compiles."""
    every = list(mutants(MODULE))
    assert sorted(f"{one.line} {one.before} -> {one.text}" for one in every) == sorted(CHANGES.strip().splitlines())
    for one in every:
        changed = MODULE.encode()[: one.start] + one.text.encode() + MODULE.encode()[one.end :]
        compile(changed, "mutant", "exec")
        assert changed.decode().splitlines()[: one.line - 1] == MODULE.splitlines()[: one.line - 1]
