"""What the text of a command says of files."""

import pytest

from agent_trace_sidecar.workspace import commands, scripts

READS = ("ls -l", "cat a.py | head -3", "git status && git log -1", "grep -rn x . 2>/dev/null", "cd lib; cat x", "pwd")
CHECKS = (
    "pytest -q -x tests/unit",
    "cd lib && CI=1 uv run pytest 2>&1 | tail -5",
    ".venv/bin/python -m pytest -q || python3 -m unittest",
    ".venv/bin/mypy .",
    "npm test && npx tsc --noEmit && npx eslint src",
    "npm run lint -- src",
    "go vet ./... && go test ./...",
    "timeout 60 cargo test --all",
    "./node_modules/.bin/eslint src",
)
WRITES = (
    "echo x > a",
    "cat a >> b",
    "sed -i s/a/b/ c",
    "git checkout a",
    "python x.py",
    "make",
    "cat $(make)",
    "env make",
    "make test",
    "pytest --snapshot-update",
    "npx eslint --fix src",
    "ruff check --fix",
    "ruff format",
    "npm run build",
    "npx vitest -u",
    "go generate ./...",
    "cargo fmt",
    "tsc",
)


@pytest.mark.parametrize("command", READS + CHECKS)
def test_a_command_that_only_reads_writes_nothing(command: str) -> None:
    """It leaves no doubt about any line."""
    assert commands.only_reads(command)


@pytest.mark.parametrize("command", WRITES)
def test_any_other_command_may_write(command: str) -> None:
    """What is not known may do anything."""
    assert not commands.only_reads(command)


CONFINED = (
    "echo x > a",
    "printf 'a & b' | tee -a c.txt >/dev/null 2>&1",
    "sed -i 's/$(x)/[b]/' c",
    "until test -e go; do sleep 0.1; done; cat >> b.py <<'END'\nrm *; make $x\nEND\nmkdir d",
    "if test -f a; then echo x >> a; fi",
    "cp a b && rm -f c; chmod +x d",
)
FREE = (
    "sed -i s/a/b/ *.py",
    "echo x > $name",
    'echo "$(make)" > a',
    "cat > a <<END\n$(make)\nEND",
    "echo x > a; make",
    "cp -r a b",
    "rm -rf a",
    "mv a b",
    "echo x > a &",
    "sh run.sh",
)


@pytest.mark.parametrize("command", CONFINED)
def test_a_command_may_write_to_nothing_but_what_it_names(command: str) -> None:
    """Then a person's other files are not its work."""
    assert commands.writes_only_named(command)


@pytest.mark.parametrize("command", FREE)
def test_what_a_pattern_a_program_or_a_background_may_write_is_not_known(command: str) -> None:
    """Its text does not say."""
    assert not commands.writes_only_named(command)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("npm run dev > dev.log 2>&1", True),
        ("make |& tee -a 'out/dev.log'", True),
        ("cat >> \"dev.log\" <<'E'\nx\nE", True),
        ("tail -f dev.log", False),
        ("flask --app app.py run > old-dev.log", False),
        ("grep x dev.log > dev.log.txt", False),
    ],
)
def test_a_command_sends_its_output_to_a_file(command: str, expected: bool) -> None:
    """By a redirection, or by `tee`."""
    assert commands.sends_output_to(command, "dev.log") is expected


@pytest.mark.parametrize(
    ("command", "lingers"),
    [
        ("sleep 9 &", True),
        ("nohup make", True),
        ("a && b", False),
        ("make > log 2>&1", False),
        ("make &> log", False),
        ("bash -c 'sleep 9 & '", True),
        ("echo 'a & b' > c", False),
        ("cat > c <<'E'\nscreen &\nE", False),
    ],
)
def test_a_command_in_the_background_goes_on(command: str, lingers: bool) -> None:
    """Two ampersands are something else, and so is a redirection."""
    assert commands.lingers(command) == lingers


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("echo ai >> ../b/g.py", (None, "../b/g.py")),
        ("python3 -c \"open('py.txt','w').write('p')\"", (None, "py.txt")),
        ("cd lib && sed -i s/a/b/ x.py", ("lib", "x.py")),
        ("git show HEAD~1:src/f.py > f.py", (None, "src/f.py")),
        ("cat 'a file.txt'", (None, "a file.txt")),
    ],
)
def test_names_of_files_are_found_in_a_command(command: str, named: tuple[str | None, str]) -> None:
    """Wherever they stand."""
    assert named in list(commands.names(command))


@pytest.mark.parametrize(
    ("name", "text", "command", "expected"),
    [
        ("run.sh", "cat > a.py", "sh run.sh &", True),
        ("run", "#!/bin/sh\ncat > a.py", "less run &", True),
        ("run", "cat > a.py", "nohup ./run &", True),
        ("run", "cat > a.py", "cd x && bash -eu tools/run &", True),
        ("run", "cat > a.py", "less run &", False),
        ("notes.txt", "see a.py, i.e. the file", "tail -f notes.txt &", False),
        ("notes.txt", "echo hi", "cp x. notes.txt &", False),
        ("notes.txt", "echo hi", ". notes.txt &", True),
        ("notes.txt", "echo hi", "x; . notes.txt &", True),
        ("server.py", "open('a.py')", "pytest server.py &", True),
    ],
)
def test_a_script_begins_like_one_is_called_like_one_or_is_run(
    name: str, text: str, command: str, expected: bool
) -> None:
    """The words of any other file are evidence of nothing."""
    assert scripts.is_script(name, text, command) == expected


def test_a_program_names_files_in_quotes_and_no_comment_does() -> None:
    """A shell's words need no quotes."""
    python = "#!/usr/bin/env python3\n# see 'doc.md', i.e. this\nimport os.path\nopen('out.json', 'w')  # or 'b.md'\n"
    assert scripts.naming_text("run", python).split() == ["out.json", "w"]
    shell = "# see doc.md\nfor one in a.py b.py; do echo x >> $one; done\n"
    assert "a.py b.py;" in scripts.naming_text("run.sh", shell)
    assert "doc.md" not in scripts.naming_text("run.sh", shell)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("a.py", True), ("out/data.tar.gz", True), (".env.local", True), ("i.e.", False), ("_curses.KEY_C3:", False),
        ("3.14", False), ("text/html", False), ("key: a.py", False),
    ],
)  # fmt: skip
def test_a_word_of_a_script_may_be_a_file_to_come(word: str, expected: bool) -> None:
    """If it is written like one."""
    assert scripts.is_file_name(word) == expected


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("nohup python3 -u 'run.py' &", True),
        ("'./run.py' > log.txt &", True),
        ('sh -c "cd sub; ./run.py" &', True),
        ("echo x >> 'run.py' &", False),
        ('tee -a "run.py" &', False),
        ("python3 run.py >> run.py &", False),
        ("sh serve.sh run.py &", False),
    ],
)
def test_a_file_is_only_run_where_a_program_stands(command: str, expected: bool) -> None:
    """A name in quotes elsewhere is that of a file which the command may write."""
    assert scripts.is_only_run("run.py", command) is expected
