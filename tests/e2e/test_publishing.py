"""What is published works alone: the wheel in an environment of its own, the npm package in a real OpenCode."""

import json
import os
import re
import site
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from agent_trace_sidecar import __version__
from agent_trace_sidecar.postgres.migrate import migration_files
from tests.support.fake_model import Call, Step, fake_model
from tests.support.opencode import opencode
from tests.support.postgres import fetch
from tests.support.waiting import completed, eventually

ROOT = Path(__file__).parents[2]
RECORDER = ROOT / "tests" / "support" / "recording_sidecar.py"


def run(*command: object, cwd: Path = ROOT, **env: str) -> str:
    """Run a command that must succeed, without the project on its path, and return what it prints."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=kept | env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-d", folder, "-t", "sdist", "-t", "wheel")
    [wheel] = folder.glob("*.whl")
    wheel.rename(folder / "from-tree.whl")
    [sdist] = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    [source] = (folder / "unpacked").iterdir()
    run(sys.executable, "-m", "hatchling", "build", "-d", folder, "-t", "wheel", cwd=source)
    return folder


def names(wheel: Path) -> set[str]:
    """The files of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs' folder of a fresh environment with nothing but the wheel, and its dependencies beside it."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    [wheel] = built.glob("agent_trace_sidecar-*.whl")
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    assert str(packages) in run(python, "-c", "import agent_trace_sidecar as a; print(a.__file__)", cwd=folder)
    return folder / "bin"


def test_the_sdist_makes_the_same_wheel_as_the_tree(built: Path) -> None:
    """Migrations, shim, the schema of records, the demo's data and what pages are made of are in it, tests are not."""
    [wheel] = built.glob("agent_trace_sidecar-*.whl")
    assert names(wheel) == names(built / "from-tree.whl")
    data = {name.partition("_data/")[2] for name in names(wheel) if "_data/" in name}
    demo = {"demo/sessions.jsonl", "demo/repository.fast-import"}
    schema = {"agent-trace-record-0.1.0.schema.json"}
    assert data == {"shim/index.js"} | schema | demo | {f"migrations/{version}.sql" for version, _ in migration_files()}
    assert not any(name.startswith("tests") for name in names(wheel))
    assets = ROOT / "agent_trace_sidecar" / "report" / "assets"
    assert {str(one.relative_to(ROOT)) for one in assets.rglob("*") if one.is_file()} <= names(wheel)


def test_there_is_one_version(built: Path) -> None:
    """Python package, npm package and shim are released together."""
    package = json.loads((ROOT / "opencode-shim" / "package.json").read_text())
    shim = re.search(r'SHIM_VERSION = "(.*)"', (ROOT / "opencode-shim" / "index.js").read_text())
    assert shim is not None
    assert package["version"] == shim[1] == __version__
    assert (built / f"agent_trace_sidecar-{__version__}.tar.gz").exists()
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_wheel_runs_alone(installed: Path, database_url: str, tmp_path: Path) -> None:
    """It says its version, makes its tables, records a log, and puts its shim into a project."""
    program = installed / "agent-trace-sidecar"
    env = {"DATABASE_URL": database_url, "AGENT_TRACE_STATE_DIR": str(tmp_path / "state")}
    assert run(program, "--version", cwd=tmp_path).strip() == f"agent-trace-sidecar {__version__}"
    assert f"applied {migration_files()[-1][0]}" in run(program, "migrate", cwd=tmp_path, **env)
    log = ROOT / "tests" / "data" / "recordings" / "apply-patch.jsonl"
    assert " 51 stored" in run(program, "replay", log, cwd=tmp_path, **env)
    assert fetch(database_url, "SELECT count(*) FROM agent_trace_events")[0][0] == 51
    run(program, "init", tmp_path, cwd=tmp_path, **env)
    shim = (tmp_path / ".opencode" / "plugins" / "agent-trace-sidecar.js").read_text()
    source = (ROOT / "opencode-shim" / "index.js").read_text()
    assert shim == source


def test_opencode_installs_the_npm_package(tmp_path: Path) -> None:
    """By its own command, from the packed folder; then a session is recorded."""
    packed = json.loads(run("npm", "pack", "--json", "--pack-destination", tmp_path, ROOT / "opencode-shim"))[0]
    assert {file["path"] for file in packed["files"]} == {"README.md", "index.d.ts", "index.js", "package.json"}
    with tarfile.open(tmp_path / packed["filename"]) as archive:
        archive.extractall(tmp_path, filter="data")
    with fake_model() as model, opencode(model) as oc:
        model.script("write it", Step([Call("write", {"filePath": "new.txt", "content": "x\n"})]))
        project = oc.project("p", {"a.txt": "one\n"})
        log = oc.folder / "recorded.jsonl"
        oc.env["AGENT_TRACE_SIDECAR"] = f"'{sys.executable}' -I '{RECORDER}' '{log}'"
        added = completed(
            oc.command("plugin", str(tmp_path / "package")), 120, cwd=project, env=oc.environment(project)
        )
        assert added.returncode == 0, added.stdout + added.stderr
        oc.add_package(project / ".opencode")
        done = oc.run(project, "write it")
        assert done.code == 0, done.stderr
        eventually(lambda: log.exists() and b'"hook":"bye"' in log.read_bytes(), 20, "the end arrives")
        hooks = [json.loads(line)["hook"] for line in log.read_text().splitlines()]
    assert hooks[0] == "hello"
    assert {"tool.execute.before", "tool.execute.after", "bye"} <= set(hooks)
