"""The GitHub action and the GitLab job: their own steps, run on a real repository; only the forge is a stand-in."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.attributed import Project, run_git
from tests.support.postgres import PostgresServers

ROOT = Path(__file__).parents[2]
ACTION = ROOT / "deploy" / "github-action"
MARK = "<!-- agent-trace-sidecar -->"
LINES = ("def total(prices):", "    result = 0", "    for price in prices:", "        result += price")


class Forge:
    """The comments of one pull request, as both forges serve them."""

    def __init__(self) -> None:
        self.comments: list[dict[str, Any]] = [{"id": number, "body": "Nice."} for number in range(150)]
        self.refusal = 0
        self.calls: list[str] = []
        forge = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def _serve(self) -> None:
                path, _, query = self.path.partition("?")
                forge.calls.append(f"{self.command} {path}")
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else {}
                allowed = "secret" in (self.headers.get("Authorization") or self.headers.get("PRIVATE-TOKEN") or "")
                answer = forge.answer(self.command, path, query, body)
                code = 401 if not allowed else forge.refusal or 200
                self.send_response(code)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            do_GET = do_POST = do_PATCH = do_PUT = _serve  # noqa: N815 - the names of http.server

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, method: str, path: str, query: str, body: dict[str, Any]) -> object:
        """What the forge answers."""
        if self.refusal:
            return {}
        if method == "GET":
            size, page = (int(one.partition("=")[2]) for one in query.split("&"))
            return self.comments[(page - 1) * size : page * size]
        if method == "POST":
            self.comments.append({"id": len(self.comments), **body})
            return self.comments[-1]
        comment = self.comments[int(path.rpartition("/")[2])]
        comment.update(body)
        return comment

    def posted(self) -> list[str]:
        """Our comments."""
        return [one["body"] for one in self.comments if one["body"].startswith(MARK)]

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(name="forge")
def _forge() -> Iterator[Forge]:
    forge = Forge()
    yield forge
    forge.close()


@pytest.fixture(name="origin", scope="module")
def _origin(postgres_servers: PostgresServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A remote repository with a topic and its notes: four lines of the AI's, and one of a person's."""
    folder = tmp_path_factory.mktemp("origin")
    with postgres_servers.database(migrated=True) as url:
        project = Project(folder / "repo", url)
        project.git("config", "user.email", "t@example.org")
        project.git("config", "user.name", "t")
        project.git("checkout", "-qb", "topic")
        project.ai_write("a.py", *LINES)
        project.write("b.py", "import sys")
        project.commit()
        command = [sys.executable, "-P", "-m", "agent_trace_sidecar", "notes", "push", "main...topic", "--local"]
        env = os.environ | {"AGENT_TRACE_DATABASE_URL": url}
        subprocess.run(command, cwd=project.root, env=env, check=True, capture_output=True)
        yield project.root


@pytest.fixture(name="clone")
def _clone(origin: Path, tmp_path: Path) -> Path:
    run_git(tmp_path, "clone", "-q", "-b", "topic", f"file://{origin}", "clone")
    return tmp_path / "clone"


class Runner:
    """Runs the steps of the action as GitHub's runner does, but for `pip install`: this checkout is linked instead."""

    def __init__(self, clone: Path, forge: Forge, token: str = "secret") -> None:  # noqa: S107 - a stand-in's
        self.clone, self._token = clone, token
        self.temp = clone.parent / "temp"
        program = self.temp / "agent-trace" / "bin" / "agent-trace-sidecar"
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -P -m agent_trace_sidecar "$@"\n')
        program.chmod(0o755)
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.temp),
            "RUNNER_TEMP": str(self.temp),
            "GITHUB_ACTION_PATH": str(ACTION),
            "GITHUB_STEP_SUMMARY": str(self.temp / "summary.md"),
            "GITHUB_OUTPUT": str(self.temp / "output"),
            "GITHUB_API_URL": forge.url,
            "GITHUB_REPOSITORY": "example/project",
        }

    def run(self, **inputs: str) -> tuple[int, str]:
        """The action's exit code and what its steps printed; a step that fails ends it."""
        action = yaml.safe_load((ACTION / "action.yml").read_text())
        values = {name: str(one["default"]) for name, one in action["inputs"].items()} | inputs
        values |= {"token": self._token, "range": "origin/main...HEAD"}
        printed = ""
        (self.temp / "output").write_text("")
        for step in action["runs"]["steps"]:
            if step["name"] == "Install" or not self._is_wanted(step.get("if"), values):
                continue
            own = {name: self._expanded(value, values) for name, value in step.get("env", {}).items()}
            command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
            env = self.env | own
            done = subprocess.run(command, cwd=self.clone, env=env, capture_output=True, text=True, check=False)
            printed += done.stdout + done.stderr
            if done.returncode:
                return done.returncode, printed
        return 0, printed

    def _is_wanted(self, condition: str | None, values: dict[str, str]) -> bool:
        if condition is None:
            return True
        name, _, wanted = condition.partition(" == ")
        return values[name.removeprefix("inputs.")] == wanted.strip("'")

    def _expanded(self, value: str, values: dict[str, str]) -> str:
        name = value.removeprefix("${{ ").removesuffix(" }}")
        if name == "steps.count.outputs.code":
            return (self.temp / "output").read_text().strip().removeprefix("code=")
        return "7" if name == "github.event.pull_request.number" else values[name.removeprefix("inputs.")]


def test_the_action_posts_one_comment_and_updates_it(clone: Path, forge: Forge) -> None:
    """The second run finds its comment behind 150 others; the job summary has the same text."""
    runner = Runner(clone, forge)
    assert runner.run() == (0, "")
    (body,) = forge.posted()
    assert body.startswith(f"{MARK}\n### 80.0 % of 5 added lines")
    assert (runner.temp / "summary.md").read_text() in body
    run_git(clone, "commit", "-q", "--allow-empty", "-m", "more")
    (clone / "c.py").write_text("import os\n")
    run_git(clone, "add", "c.py")
    run_git(clone, "commit", "-qm", "more")
    assert runner.run() == (0, "")
    (body,) = forge.posted()
    assert body.startswith(f"{MARK}\n### 66.7 % of 6 added lines")
    comments = "/repos/example/project/issues"
    assert [one for one in forge.calls if not one.startswith("GET")] == [
        f"POST {comments}/7/comments",
        f"PATCH {comments}/comments/150",
    ]


def test_the_action_fails_above_the_bound_after_it_has_commented(clone: Path, forge: Forge) -> None:
    """With the exit code of `stats`."""
    code, printed = Runner(clone, forge).run(**{"fail-above": "50"})
    assert (code, len(forge.posted())) == (3, 1)
    assert "more than 50 %" in printed


def test_a_token_that_may_not_write_is_a_warning(clone: Path, forge: Forge) -> None:
    """As on pull requests from forks; without comments nothing is called."""
    code, printed = Runner(clone, forge, token="none").run()
    assert (code, forge.posted()) == (0, [])
    assert "may not comment here" in printed
    forge.calls.clear()
    assert Runner(clone, forge).run(comment="false") == (0, "")
    assert forge.calls == []


@pytest.mark.parametrize("refusal", [422, 500])
def test_a_forge_that_fails_is_an_error(clone: Path, forge: Forge, refusal: int) -> None:
    """It is not passed over."""
    forge.refusal = refusal
    code, printed = Runner(clone, forge).run()
    assert code == 1
    assert f"was not posted: HTTP Error {refusal}" in printed


def test_the_action_names_what_it_cannot_count(clone: Path, forge: Forge) -> None:
    """A file that is not there ends it, without a comment."""
    code, printed = Runner(clone, forge).run(**{"from": "nothing.jsonl"})
    assert (code, forge.posted()) == (1, [])
    assert "can't be read" in printed


def test_the_gitlab_job_does_the_same(clone: Path, forge: Forge) -> None:
    """Its own script, but for `pip install`."""
    runner = Runner(clone, forge)
    job = yaml.safe_load((ROOT / "deploy" / "gitlab-ci.yml").read_text())["agent-trace"]
    script = [line for line in job["script"] if "pip install" not in line]
    assert len(script) == len(job["script"]) - 1
    env = runner.env | {
        "AGENT_TRACE_COMMENT": str(ROOT / job["variables"]["AGENT_TRACE_COMMENT"]),
        "AGENT_TRACE_GITLAB_TOKEN": "secret",
        "CI_API_V4_URL": forge.url,
        "CI_PROJECT_ID": "5",
        "CI_MERGE_REQUEST_IID": "7",
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": run_git(clone, "merge-base", "origin/main", "HEAD"),
        "CI_COMMIT_SHA": run_git(clone, "rev-parse", "HEAD"),
    }
    text = "\n".join(script).replace("/tmp/agent-trace", str(runner.temp / "agent-trace"))  # noqa: S108 - the job's
    for _ in range(2):
        subprocess.run(["sh", "-e", "-c", text], cwd=clone, env=env, check=True)
    (body,) = forge.posted()
    assert body.startswith(f"{MARK}\n### 80.0 % of 5 added lines")
    notes = "/projects/5/merge_requests/7/notes"
    assert [one for one in forge.calls if not one.startswith("GET")] == [f"POST {notes}", f"PUT {notes}/150"]
