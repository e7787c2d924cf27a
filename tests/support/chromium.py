"""Debian's Chromium, driven over its DevTools pipe: what a person does with a page, and what the page does.

    with chromium() as browser, browser.open(path) as page:
        page.evaluate("document.title")
        page.click("#close"); page.press("ArrowDown"); page.hover(".row")
        page.resize(390, 800); page.media(dark=True); page.screenshot(target)
        page.said        # console messages, exceptions, violations of the page's policy
        page.requested   # every address that it has asked for, but its own
        page.violations()  # axe-core's, as sentences

Messages are JSON objects that end with a NUL byte. Nothing runs besides the browser: answers are read while waiting
for one, and what it tells by itself is kept.
"""

import base64
import fcntl
import json
import os
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.support import debian
from tests.support.opencode import ROOT, killed_after
from tests.support.postgres import guarded_folder
from tests.support.waiting import Deadline

AXE_VERSION: Final = "4.14.1"
_FLAGS: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
    "--remote-debugging-pipe",
)
_WAIT_S: Final = 30.0
_AXE: Final = ROOT / ".tools" / "axe"
_KEYS: Final = {"ArrowDown": 40, "ArrowUp": 38, "Home": 36, "End": 35, "PageDown": 34, "PageUp": 33, "Enter": 13}
_KEYS_MORE: Final = {"Tab": 9, "Escape": 27, " ": 32}


def axe_source() -> str:
    """axe-core, installed by npm at first use."""
    script = _AXE / "node_modules" / "axe-core" / "axe.min.js"
    _AXE.mkdir(parents=True, exist_ok=True)
    with (_AXE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        manifest = script.parent / "package.json"
        if not manifest.exists() or json.loads(manifest.read_text())["version"] != AXE_VERSION:
            command = ["npm", "install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", "."]
            subprocess.run([*command, f"axe-core@{AXE_VERSION}"], cwd=_AXE, check=True, capture_output=True)
    return script.read_text(encoding="utf-8")


@contextmanager
def chromium() -> Iterator["Browser"]:
    """A browser with a profile and a temporary folder of its own; nothing of it is left after the block."""
    binary = debian.program("chromium")
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    # It reads from descriptor 3 and writes to 4; the shell puts ours there, whatever numbers they have.
    shell = f'exec "$@" 3<&{to_read} 4>&{from_write}'
    with guarded_folder() as folder:
        env = {**os.environ, "HOME": str(folder), "TMPDIR": str(folder)}
        words = ["bash", "-c", shell, "chromium", binary, *_FLAGS, f"--user-data-dir={folder / 'profile'}"]
        process = subprocess.Popen(
            words,
            env=env,
            pass_fds=(to_read, from_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_read)
        os.close(from_write)
        try:
            with process, killed_after(process.pid):
                yield Browser(to_write, from_read)
        finally:
            os.close(to_write)
            os.close(from_read)


class Browser:
    """The browser's end of the pipe."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._number = 0
        self._rest = b""
        self.pages: dict[str, Page] = {}

    @contextmanager
    def open(self, file: Path, *, width: int = 1280, height: int = 800, dark: bool = False) -> Iterator["Page"]:
        """Open a file in a tab of its own, and wait until it has loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self.pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.resize(width, height)
        page.media(dark=dark)
        page.load(file.resolve().as_uri())
        try:
            yield page
        finally:
            self.call("Target.closeTarget", targetId=target)
            del self.pages[session]

    def call(self, method: str, session: str | None = None, **params: object) -> dict[str, Any]:
        """Do one thing and return what it gives."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        deadline = Deadline(_WAIT_S)
        while True:
            answer = self.read(deadline)
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result

    def read(self, deadline: Deadline) -> dict[str, Any]:
        """The next message; what a page tells by itself is kept there."""
        while b"\0" not in self._rest:
            assert not deadline.passed(), "Chromium did not answer in time"
            if select.select([self._back], [], [], 0.5)[0]:
                chunk = os.read(self._back, 1 << 20)
                assert chunk, "Chromium has ended"
                self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if page := self.pages.get(message.get("sessionId", "")):
            page.heard(message.get("method", ""), message.get("params", {}))
        return message


class Page:
    """A tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session
        self._address = ""
        self._loaded = False
        self.said: list[str] = []
        """What stands in the console."""
        self.requested: list[str] = []
        """What was asked for, without the page itself."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def call(self, method: str, **params: object) -> dict[str, Any]:
        """Do one thing in this tab."""
        return self._browser.call(method, self._session, **params)

    def heard(self, method: str, params: dict[str, Any]) -> None:
        """Keep what the browser tells."""
        if method == "Runtime.consoleAPICalled":
            self.said.append(" ".join(str(one.get("value", one.get("description"))) for one in params["args"]))
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.said.append(f"{details['text']} {details.get('exception', {}).get('description', '')}")
        elif method == "Log.entryAdded":
            self.said.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            address = params["request"]["url"]
            if address.partition("#")[0] != self._address and not address.startswith("data:"):
                self.requested.append(address)
        elif method == "Page.loadEventFired":
            self._loaded = True

    def load(self, address: str) -> None:
        """Go there and wait until everything is loaded."""
        self._address, self._loaded = address.partition("#")[0], False
        self.call("Page.navigate", url=address)
        deadline = Deadline(_WAIT_S)
        while not self._loaded:
            self._browser.read(deadline)

    def evaluate(self, expression: str) -> Any:  # noqa: ANN401 - whatever the script gives
        """Run a script in the page; a promise is waited for."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def text(self, selector: str) -> str:
        """The text of an element."""
        found = self.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")
        assert isinstance(found, str)
        return found

    def texts(self, selector: str) -> list[str]:
        """The text of all such elements, but for those that are hidden; what is off the screen is not laid out yet."""
        script = "[...document.querySelectorAll({})].filter(e => e.checkVisibility()).map(e => e.textContent)"
        found: list[str] = self.evaluate(script.format(json.dumps(selector)))
        return found

    def place(self, selector: str) -> tuple[float, float]:
        """The middle of an element, scrolled to."""
        script = (
            f"(e => {{ e.scrollIntoView({{block: 'nearest'}}); const r = e.getBoundingClientRect();"
            f" return [r.x + Math.min(r.width, innerWidth) / 2, r.y + r.height / 2] }})"
            f"(document.querySelector({json.dumps(selector)}))"
        )
        x, y = self.evaluate(script)
        return x, y

    def hover(self, selector: str) -> None:
        """Point at an element."""
        x, y = self.place(selector)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, selector: str) -> None:
        """Click on an element, as a mouse does."""
        x, y = self.place(selector)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def tap(self, selector: str) -> None:
        """Touch an element with a finger."""
        x, y = self.place(selector)
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def press(self, key: str, times: int = 1) -> None:
        """Press a key by its name, or type a letter."""
        code = (_KEYS | _KEYS_MORE).get(key, ord(key[0].upper()))
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        for _ in range(times):
            self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, text=text)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def choose(self, selector: str, value: str) -> None:
        """Choose from a list, or write into a field, as its user's input."""
        name = json.dumps(selector)
        self.evaluate(
            f"(e => {{ e.value = {json.dumps(value)}; e.dispatchEvent(new Event('input', {{bubbles: true}}));"
            f" e.dispatchEvent(new Event('change', {{bubbles: true}})) }})(document.querySelector({name}))"
        )

    def worked_s(self) -> float:
        """Seconds that the page's main thread has computed, whatever else the machine has to do."""
        self.call("Performance.enable", timeDomain="threadTicks")
        metrics = self.call("Performance.getMetrics")["metrics"]
        return float(next(one["value"] for one in metrics if one["name"] == "ThreadTime"))

    def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        """Give the page a size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)

    def media(self, *, dark: bool = False, still: bool = False) -> None:
        """Set what the system prefers."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        motion = {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"}
        self.call("Emulation.setEmulatedMedia", features=[scheme, motion])

    def screenshot(self, target: Path) -> None:
        """Write what is on the screen as a PNG."""
        target.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def violations(self) -> list[str]:
        """What axe-core finds wrong with the page as it stands."""
        self.evaluate(axe_source() + "; 0")
        found = self.evaluate("axe.run({resultTypes: ['violations']}).then(r => r.violations)")
        return [
            f"{one['id']}: {one['help']}: {node['html'][:160]} {node['failureSummary']}"
            for one in found
            for node in one["nodes"]
        ]
