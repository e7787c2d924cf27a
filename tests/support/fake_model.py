"""A model that answers from a script: a loopback server of the OpenAI chat API, streaming, in a thread.

A script belongs to a marker, a word that occurs in a prompt. For each request the script is the one whose marker is in
the latest user message that has one, and the step is the number of assistant messages after that message. So nothing is
counted between requests, and the main agent, its subagents (whose prompt is a tool argument of a step) and several
sessions at once each follow their own script in any order. A request without tools is OpenCode asking for a title.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_LAST = "All done."


@dataclass(frozen=True)
class Call:
    """A tool call; `arguments` as the tool takes them."""

    tool: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """One answer of the model: a text, then tool calls. An answer without calls ends the turn."""

    calls: Sequence[Call] = ()
    text: str = ""
    meanwhile: Callable[[], None] | None = None
    """Done while the model thinks about this answer."""


@dataclass
class FakeModel:
    """The scripts by marker, where to reach the model, and what it was asked."""

    base_url: str
    scripts: dict[str, Sequence[Step]] = field(default_factory=dict)
    title: str = "A session"
    usage: tuple[int, int] = (10, 5)
    """Tokens of a request and of its answer."""
    requests: list[dict[str, Any]] = field(default_factory=list)

    def script(self, marker: str, *steps: Step) -> None:
        """Answer a prompt that contains `marker` with these steps, one after the other, then with a last sentence."""
        self.scripts[marker] = steps

    def answer(self, request: Mapping[str, Any]) -> tuple[str, Step]:
        """Return a name unique to the place in the script, for call ids, and the step to take."""
        if not request.get("tools"):
            return "title", Step(text=self.title)
        step = 0
        for message in reversed(request["messages"]):
            if message["role"] == "assistant":
                step += 1
            if message["role"] != "user":
                continue
            text = json.dumps(message["content"], ensure_ascii=False)
            for marker, steps in list(self.scripts.items()):  # a test may add to them meanwhile
                if marker in text:
                    return f"{marker}_{step}", steps[step] if step < len(steps) else Step(text=_LAST)
        return "none", Step(text=_LAST)


@contextmanager
def fake_model() -> Iterator[FakeModel]:
    """Serve a model on a free loopback port until the block ends."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.model = FakeModel(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.model
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    model: FakeModel

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that was killed in the middle of an answer: tests do that on purpose."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        """Answer a chat completion as server-sent events."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.model.requests.append(request)
        name, step = self.server.model.answer(request)
        if step.meanwhile:
            step.meanwhile()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for delta in _deltas(name, step):
            self._send(request, {"delta": delta, "finish_reason": None})
        self._send(request, {"delta": {}, "finish_reason": "tool_calls" if step.calls else "stop"})
        self.wfile.write(b"data: [DONE]\n\n")

    def _send(self, request: Mapping[str, Any], choice: Mapping[str, Any]) -> None:
        asked, answered = self.server.model.usage
        chunk = {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": request.get("model"),
            "choices": [{"index": 0, **choice}],
            "usage": {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered},
        }
        self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (as in the base class)
        """Keep the test's output clean."""


def _deltas(name: str, step: Step) -> Iterator[dict[str, Any]]:
    """Yield what a streaming model sends: its text word by word, each call's arguments in two halves."""
    yield {"role": "assistant", "content": ""}
    for word in step.text.split():
        yield {"content": f"{word} "}
    for index, call in enumerate(step.calls):
        arguments = json.dumps(call.arguments, ensure_ascii=False)
        half = len(arguments) // 2
        start = {"index": index, "id": f"call_{name}_{index}", "type": "function"}
        yield {"tool_calls": [start | {"function": {"name": call.tool, "arguments": arguments[:half]}}]}
        yield {"tool_calls": [{"index": index, "function": {"arguments": arguments[half:]}}]}
