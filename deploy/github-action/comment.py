"""Post a file as a comment on a pull request, or update the comment of an earlier run. Needs Python 3.9 only.

    python3 comment.py github FILE    GITHUB_API_URL, GITHUB_REPOSITORY, NUMBER, TOKEN
    python3 comment.py gitlab FILE    CI_API_V4_URL, CI_PROJECT_ID, CI_MERGE_REQUEST_IID, TOKEN

A hidden mark in the comment's text finds it again. Where the token may not write, as on pull requests from forks, a
warning is printed and the exit code is 0.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MARK = "<!-- agent-trace-sidecar -->"
PER_PAGE = 100
MAX_PAGES = 50
TIMEOUT_S = 30
DENIED = {401, 403, 404}


class Forge:
    """The comments of one pull request."""

    def __init__(self, comments: str, one: str, header: dict[str, str], update: str) -> None:
        """Take the addresses of the list and of one comment, the header with the token, and the updating method."""
        self._comments, self._one, self._header, self._update = comments, one, header, update

    def post(self, text: str) -> None:
        """Put the text into the comment that has the mark, or into a new one."""
        body = json.dumps({"body": f"{MARK}\n{text}"}).encode()
        known = self._known()
        if known is None:
            self._call("POST", self._comments, body)
        else:
            self._call(self._update, f"{self._one}/{known}", body)

    def _known(self) -> int | None:
        for page in range(1, MAX_PAGES + 1):
            found = self._call("GET", f"{self._comments}?per_page={PER_PAGE}&page={page}")
            for comment in found:
                if (comment.get("body") or "").startswith(MARK):
                    return int(comment["id"])
            if len(found) < PER_PAGE:
                return None
        return None

    def _call(self, method: str, url: str, body: bytes | None = None) -> Any:  # noqa: ANN401 - JSON
        headers = {**self._header, "Content-Type": "application/json", "User-Agent": "agent-trace-sidecar"}
        request = urllib.request.Request(url, data=body, method=method, headers=headers)  # noqa: S310 - the forge's own
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - as above
            return json.load(answer)


def github(env: Mapping[str, str]) -> Forge:
    """The comments by GitHub's REST API; a pull request is an issue there."""
    base = f"{env['GITHUB_API_URL']}/repos/{env['GITHUB_REPOSITORY']}/issues"
    header = {"Authorization": f"Bearer {env['TOKEN']}", "Accept": "application/vnd.github+json"}
    return Forge(f"{base}/{env['NUMBER']}/comments", f"{base}/comments", header, "PATCH")


def gitlab(env: Mapping[str, str]) -> Forge:
    """The notes of a merge request by GitLab's REST API."""
    merge_request = (
        f"{env['CI_API_V4_URL']}/projects/{env['CI_PROJECT_ID']}/merge_requests/{env['CI_MERGE_REQUEST_IID']}"
    )
    return Forge(f"{merge_request}/notes", f"{merge_request}/notes", {"PRIVATE-TOKEN": env["TOKEN"]}, "PUT")


def main(forge: str, file: str) -> None:
    """Post the file."""
    text = Path(file).read_text(encoding="utf-8")
    try:
        {"github": github, "gitlab": gitlab}[forge](os.environ).post(text)
    except KeyError as exc:
        sys.exit(f"comment.py: {exc} is not set")
    except urllib.error.HTTPError as exc:
        if exc.code not in DENIED:
            sys.exit(f"comment.py: the comment was not posted: {exc}")
        sys.stderr.write(f"comment.py: warning: the token may not comment here, so there is no comment: {exc}\n")
    except OSError as exc:
        sys.exit(f"comment.py: the comment was not posted: {exc}")


if __name__ == "__main__":
    main(*sys.argv[1:])
