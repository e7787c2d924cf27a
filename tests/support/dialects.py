"""A recorded session of OpenCode 1, as OpenCode 2 would have told of it."""

import json
from collections.abc import Iterator
from typing import Any

TOOLS = {"apply_patch": "patch", "bash": "shell", "task": "subagent"}
_RENAMED = {"filePath": "path"}


def as_opencode2(lines: list[bytes]) -> dict[str, Any]:
    """The script for `opencode2.mjs`: where it was, and what happened, in order."""
    given = [json.loads(line) for line in lines]
    hello = given[0]
    return {
        "location": {
            "directory": hello["directory"],
            "project": {"id": hello["input"]["project"]["id"], "directory": hello["worktree"]},
        },
        "app": {"name": "opencode", "version": hello["input"]["opencode"], "channel": "latest"},
        "steps": list(_Translation(hello["directory"]).steps(given)),
    }


class _Translation:
    def __init__(self, directory: str) -> None:
        self._location = {"directory": directory}
        self._infos: dict[str, dict[str, Any]] = {}
        self._messages: dict[tuple[str, str], str] = {}
        self._reverts: dict[str, dict[str, Any]] = {}

    def steps(self, lines: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for line in lines:
            if line["hook"] == "event":
                event = line["input"]["event"]
                yield from self._event(event["type"], event["properties"])
            elif line["hook"].startswith("tool.execute."):
                yield self._hook(line["hook"].removeprefix("tool."), line["input"], line["output"])

    def _event(self, kind: str, properties: dict[str, Any]) -> Iterator[dict[str, Any]]:
        info = properties.get("info", {})
        if kind == "session.created":
            renamed = {"parentID": info.get("parentID"), "projectID": info["projectID"], "title": info["title"]}
            data = {"sessionID": info["id"], **{key: value for key, value in renamed.items() if value is not None}}
            yield self._told("session.created", data)
        elif kind == "message.updated":
            self._infos[info["id"]] = info
        elif kind == "session.updated":
            yield from self._reverted(info["id"], info.get("revert"))
        elif kind == "message.removed" and (revert := self._reverts.pop(properties["sessionID"], None)):
            yield self._told(
                "session.revert.committed", {"sessionID": properties["sessionID"], "to": revert["messageID"]}
            )
        elif kind == "session.idle":
            yield self._told("session.execution.succeeded", {"sessionID": properties["sessionID"]})
        elif kind == "message.part.updated":
            yield from self._part(properties["part"])

    def _reverted(self, session: str, revert: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
        if revert and revert != self._reverts.get(session):
            self._reverts[session] = revert
            yield self._told("session.revert.staged", {"sessionID": session, "revert": revert})
        elif not revert and self._reverts.pop(session, {}):
            yield self._told("session.revert.cleared", {"sessionID": session})

    def _part(self, part: dict[str, Any]) -> Iterator[dict[str, Any]]:
        ids = {"sessionID": part["sessionID"], "assistantMessageID": part["messageID"]}
        if part["type"] == "step-start":
            info = self._infos[part["messageID"]]
            model = {"id": info["modelID"], "providerID": info["providerID"]}
            snapshot = {"snapshot": part["snapshot"]} if "snapshot" in part else {}
            yield self._told("session.step.started", {**ids, "agent": info["agent"], "model": model, **snapshot})
        elif part["type"] == "step-finish":
            kept: dict[str, Any] = {key: part[key] for key in ("snapshot", "cost", "tokens") if key in part}
            yield self._told("session.step.ended", {**ids, "finish": part["reason"], **kept})
        elif part["type"] == "tool" and part["state"]["status"] == "pending":
            self._messages[part["sessionID"], part["callID"]] = part["messageID"]
            name = TOOLS.get(part["tool"], part["tool"])
            yield self._told("session.tool.input.started", {**ids, "id": part["callID"], "name": name})
        elif part["type"] == "tool" and part["state"]["status"] == "error":
            called = self._called(part, part["state"]["input"])
            error = {"type": "tool.execution", "message": part["state"]["error"]}
            yield {"hook": "execute.after", "payload": {**called, "status": "error", "error": error}}

    def _hook(self, name: str, given: dict[str, Any], output: dict[str, Any]) -> dict[str, Any]:
        if name == "execute.before":
            return {"hook": name, "payload": self._called(given, output["args"])}
        result = _result(given["tool"], output)
        return {
            "hook": name,
            "payload": {**self._called(given, given["args"]), "status": "completed", "result": result},
        }

    def _called(self, given: dict[str, Any], args: dict[str, Any]) -> dict[str, Any]:
        message = self._messages[given["sessionID"], given["callID"]]
        return {
            "tool": TOOLS.get(given["tool"], given["tool"]),
            "sessionID": given["sessionID"],
            "agent": self._infos[message]["agent"],
            "messageID": message,
            "id": given["callID"],
            "input": {_RENAMED.get(key, key): value for key, value in args.items()},
        }

    def _told(self, kind: str, data: dict[str, Any]) -> dict[str, Any]:
        return {"event": {"type": kind, "data": data, "location": self._location}}


def _result(tool: str, output: dict[str, Any]) -> dict[str, Any]:
    metadata = output["metadata"]
    content = [{"type": "text", "text": output["output"] if "output" in output else output.get("title", "")}]
    if tool == "edit":
        files = [{"file": metadata["filediff"]["file"], "patch": metadata["diff"], "status": "modified"}]
        return {"output": {"files": files, "replacements": 1}, "content": content, "metadata": {"files": files}}
    if tool == "apply_patch":
        files = [
            {"file": file.get("movePath") or file["relativePath"], "patch": file["patch"]} for file in metadata["files"]
        ]
        return {"output": {"applied": [], "files": files}, "content": content, "metadata": {"files": files}}
    if tool == "write":
        return {"output": {"operation": "write", "existed": metadata["exists"]}, "content": content}
    return {"output": {}, "content": content}
